/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_input.c: a tablet (absolute pointer) or keyboard (virtio 1.2, 5.8). The device's loop.
 *
 * What the user does becomes a frame of events that ends with EV_SYN. Frames wait here while the
 * guest has no buffers; a frame that does not fit any more is dropped whole, and a driver that is
 * not there gets none.
 */
#include <linux/input-event-codes.h>
#include <linux/virtio_input.h>
#include <stdlib.h>

#include "devices/chips.h"
#include "devices/virtio/virtio.h"
#include "vmm/base/log.h"

#define QUEUE_SIZE 64
#define BACKLOG 256			/* events */
#define BUS_VIRTUAL 0x06
#define VENDOR 0x1af4
#define KEYS 248			/* what a PC keyboard's keymap may use */

enum { EVENTS, STATUS };

struct vinput {
	struct virtio_dev v;
	bool tablet;
	uint8_t select, subsel;
	struct virtio_input_event backlog[BACKLOG];
	unsigned count;
	unsigned buttons;		/* PS2_BUTTON_*, as last told */
	struct iovec iov[VIRTQ_MAX_IOV];
};

static const struct { unsigned ps2; uint16_t key;
} tablet_buttons[] = {
	{ PS2_BUTTON_LEFT, BTN_LEFT },
	{ PS2_BUTTON_RIGHT, BTN_RIGHT },
	{ PS2_BUTTON_MIDDLE, BTN_MIDDLE },
};

static struct vinput *to_input(struct virtio_dev *v)
{
	return container_of(v, struct vinput, v);
}

/* --- configuration: answers to select and subsel (5.8.4) --- */

static void set_bit(uint8_t *bits, unsigned n, uint8_t *size)
{
	bits[n / 8] |= 1u << (n % 8);
	*size = MAX(*size, n / 8 + 1);
}

static void event_bits(const struct vinput *d, uint8_t *bits, uint8_t *size)
{
	switch (d->subsel) {
	case EV_KEY:
		for (unsigned i = 0; d->tablet && i < ARRAY_SIZE(tablet_buttons); i++)
			set_bit(bits, tablet_buttons[i].key, size);
		for (unsigned key = 1; !d->tablet && key < KEYS; key++)
			set_bit(bits, key, size);
		break;
	case EV_ABS:
		if (d->tablet) {
			set_bit(bits, ABS_X, size);
			set_bit(bits, ABS_Y, size);
		}
		break;
	case EV_REL:
		if (d->tablet)
			set_bit(bits, REL_WHEEL, size);
		break;
	case EV_REP:
		if (!d->tablet)
			set_bit(bits, REP_DELAY, size);
		break;
	}
}

static void config_now(const struct vinput *d, struct virtio_input_config *c)
{
	memset(c, 0, sizeof(*c));
	c->select = d->select;
	c->subsel = d->subsel;
	switch (d->select) {
	case VIRTIO_INPUT_CFG_ID_NAME:
		strcpy(c->u.string, d->tablet ? "minivmm tablet" : "minivmm keyboard");
		c->size = strlen(c->u.string);
		break;
	case VIRTIO_INPUT_CFG_ID_DEVIDS:
		st_le16(&c->u.ids.bustype, BUS_VIRTUAL);
		st_le16(&c->u.ids.vendor, VENDOR);
		st_le16(&c->u.ids.product, d->tablet ? 3 : 1);
		st_le16(&c->u.ids.version, 1);
		c->size = sizeof(c->u.ids);
		break;
	case VIRTIO_INPUT_CFG_EV_BITS:
		event_bits(d, c->u.bitmap, &c->size);
		break;
	case VIRTIO_INPUT_CFG_ABS_INFO:
		if (!d->tablet || d->subsel > ABS_Y)
			break;
		st_le32(&c->u.abs.max, VIRTIO_INPUT_ABS_MAX);
		c->size = sizeof(c->u.abs);
		break;
	}
}

static uint64_t config_read(struct virtio_dev *v, uint32_t off, unsigned size)
{
	struct virtio_input_config c;

	config_now(to_input(v), &c);
	return virtio_bytes_read((const char *)&c + off, 0, size);
}

static void config_write(struct virtio_dev *v, uint32_t off, unsigned size, uint64_t val)
{
	for (; size; size--, off++, val >>= 8) {
		if (off == offsetof(struct virtio_input_config, select))
			to_input(v)->select = val;
		else if (off == offsetof(struct virtio_input_config, subsel))
			to_input(v)->subsel = val;
	}
}

/* --- events --- */

static void pump(struct vinput *d)
{
	struct virtq *vq = &d->v.queues[EVENTS];
	unsigned sent = 0;
	struct virtq_elem e;

	if (!__atomic_load_n(&d->v.running, __ATOMIC_ACQUIRE))
		return;
	do {
		virtq_kicks_off(vq);
		while (sent < d->count && virtq_pop(vq, &e, d->iov, VIRTQ_MAX_IOV) == 1) {
			size_t n = iov_from_buf(e.iov + e.out_n, e.in_n, 0, &d->backlog[sent],
						sizeof(d->backlog[0]));

			virtq_push(vq, &e, n);
			sent++;
		}
		/* Kicks matter only while something waits. */
	} while (sent < d->count && virtq_kicks_on(vq));
	d->count -= sent;
	memmove(d->backlog, d->backlog + sent, d->count * sizeof(d->backlog[0]));
	virtio_flush(&d->v, EVENTS);
}

static void event(struct virtio_input_event *frame, unsigned *n, uint16_t type, uint16_t code,
		  int32_t value)
{
	struct virtio_input_event *e = &frame[(*n)++];

	st_le16(&e->type, type);
	st_le16(&e->code, code);
	st_le32(&e->value, value);
}

static void send(struct vinput *d, struct virtio_input_event *frame, unsigned n)
{
	event(frame, &n, EV_SYN, SYN_REPORT, 0);
	if (d->count + n > BACKLOG) {
		trace(TRACE_VIRTIO, 0, d->v.id, "input is dropped: the guest does not take any");
		return;
	}
	memcpy(d->backlog + d->count, frame, n * sizeof(*frame));
	d->count += n;
	pump(d);
}

bool virtio_input_active(struct virtio_dev *v)
{
	return virtio_status(v) & VIRTIO_CONFIG_S_DRIVER_OK;
}

void virtio_input_pointer(struct virtio_dev *v, unsigned x, unsigned y, int wheel, unsigned buttons)
{
	struct virtio_input_event frame[8];
	struct vinput *d = to_input(v);
	unsigned n = 0;

	if (!virtio_input_active(v))
		return;
	event(frame, &n, EV_ABS, ABS_X, MIN(x, (unsigned)VIRTIO_INPUT_ABS_MAX));
	event(frame, &n, EV_ABS, ABS_Y, MIN(y, (unsigned)VIRTIO_INPUT_ABS_MAX));
	if (wheel)
		event(frame, &n, EV_REL, REL_WHEEL, wheel);
	for (unsigned i = 0; i < ARRAY_SIZE(tablet_buttons); i++)
		if ((buttons ^ d->buttons) & tablet_buttons[i].ps2)
			event(frame, &n, EV_KEY, tablet_buttons[i].key,
			      !!(buttons & tablet_buttons[i].ps2));
	if (d->count + n < BACKLOG)
		d->buttons = buttons;
	send(d, frame, n);
}

void virtio_input_key(struct virtio_dev *v, unsigned key, bool down)
{
	struct virtio_input_event frame[2];
	unsigned n = 0;

	if (!virtio_input_active(v) || key >= KEYS)
		return;
	event(frame, &n, EV_KEY, key, down);
	send(to_input(v), frame, n);
}

static void kick(struct virtio_dev *v, unsigned q)
{
	struct vinput *d = to_input(v);
	struct virtq *vq = &v->queues[q];
	struct virtq_elem e;

	if (q == EVENTS) {
		pump(d);
		return;
	}
	/* Lights of a keyboard nobody sees. */
	do {
		virtq_kicks_off(vq);
		while (virtq_pop(vq, &e, d->iov, VIRTQ_MAX_IOV) == 1)
			virtq_push(vq, &e, 0);
	} while (virtq_kicks_on(vq));
	virtio_flush(v, q);
}

/* --- life --- */

static void reset(struct virtio_dev *v)
{
	struct vinput *d = to_input(v);

	d->select = d->subsel = 0;
	d->count = 0;
	d->buttons = 0;
}

static int save(struct virtio_dev *v, struct state_out *o)
{
	struct vinput *d = to_input(v);

	state_u8(o, "select", d->select);
	state_u8(o, "subsel", d->subsel);
	state_u32(o, "buttons", d->buttons);
	state_bytes(o, "events", d->backlog, d->count * sizeof(d->backlog[0]));
	return 0;
}

static int load(struct virtio_dev *v, struct state_in *in, uint32_t version)
{
	struct vinput *d = to_input(v);
	const void *events;
	size_t len;

	state_get_u8(in, "select", &d->select);
	state_get_u8(in, "subsel", &d->subsel);
	state_get_u32(in, "buttons", &d->buttons);
	state_get_blob(in, "events", &events, &len, sizeof(d->backlog));
	if (state_in_error(in))
		return -1;
	if (d->buttons >= 2 * PS2_BUTTON_EXTRA)
		return state_bad(in, "%s: buttons 0x%x", v->id, d->buttons);
	if (len % sizeof(d->backlog[0]))
		return state_bad(in, "%s: %zu bytes of events", v->id, len);
	d->count = len / sizeof(d->backlog[0]);
	memcpy(d->backlog, events, len);
	return 0;
}

static void destroy(struct virtio_dev *v)
{
	virtio_exit(v);
	free(to_input(v));
}

static const struct virtio_ops virtio_input_ops = {
	.name = "virtio-input", .id = VIRTIO_ID_INPUT, .class_code = 0x098000, .version = 1,
	.config_read = config_read, .config_write = config_write, .kick = kick, .reset = reset,
	.save = save, .load = load, .destroy = destroy,
};

struct virtio_dev *virtio_input_new(const char *id, struct loop *loop, struct mem *mem, bool tablet,
				    struct err *err)
{
	struct vinput *d = xcalloc(1, sizeof(*d));

	d->tablet = tablet;
	virtio_init(&d->v, &virtio_input_ops, id, loop, mem, 2, QUEUE_SIZE, 0,
		    sizeof(struct virtio_input_config));
	return &d->v;
}
