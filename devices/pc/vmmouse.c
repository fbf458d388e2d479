/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmmouse.c: the absolute pointer of VMware's backdoor port 0x5658, for guests that have a driver
 * for it and none for a tablet. `in eax, dx` with the magic number in eax is a call with registers:
 * command in ecx, argument in ebx. An event is four words in a queue; a PS/2 packet without meaning
 * makes the driver look. Main loop.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/chips.h"

#define VMPORT		0x5658
#define VMPORT_MAGIC	0x564d5868u
enum { CMD_GETVERSION = 10, CMD_DATA = 39, CMD_STATUS = 40, CMD_COMMAND = 41 };
#define ENABLE		0x45414552u	/* arguments of CMD_COMMAND */
#define DISABLE		0x000000f5u
#define RELATIVE	0x4c455252u
#define ABSOLUTE	0x53424152u
#define MOUSE_VERSION	0x3442554au
#define STATUS_OFF	0xffff0000u
#define BUTTON_LEFT	0x20
#define BUTTON_RIGHT	0x10
#define BUTTON_MIDDLE	0x08
#define EVENT_WORDS	4
#define QUEUE_WORDS	(64 * EVENT_WORDS)

struct vmmouse {
	struct device dev;
	struct bus *pio;
	struct device *i8042;
	struct vmmouse_opts o;
	bool enabled, absolute;
	uint32_t queue[QUEUE_WORDS];
	uint32_t len;
};

static void drop_words(struct vmmouse *m, uint32_t n)
{
	m->len -= n;
	memmove(m->queue, m->queue + n, m->len * sizeof(m->queue[0]));
}

static void command(struct vmmouse *m, uint32_t what)
{
	switch (what) {
	case ENABLE:
		m->enabled = true;
		m->queue[0] = MOUSE_VERSION;	/* the first word read tells that it worked */
		m->len = 1;
		break;
	case DISABLE:
		m->enabled = m->absolute = false;
		m->len = 0;
		break;
	case ABSOLUTE:
		m->absolute = m->enabled;
		break;
	case RELATIVE:
		m->absolute = false;
		break;
	}
}

static void call(struct vmmouse *m, uint32_t regs[4])
{
	uint32_t n;

	switch (regs[VMPORT_ECX] & 0xffff) {
	case CMD_GETVERSION:
		regs[VMPORT_EAX] = 6;
		regs[VMPORT_EBX] = VMPORT_MAGIC;
		break;
	case CMD_STATUS:
		regs[VMPORT_EAX] = m->enabled ? m->len : STATUS_OFF;
		break;
	case CMD_DATA:
		n = regs[VMPORT_EBX];
		if (!n || n > EVENT_WORDS || n > m->len) {
			/* A driver that lost count: it sees the pointer off and begins again. */
			command(m, DISABLE);
			break;
		}
		for (uint32_t i = 0; i < n; i++)
			regs[i] = m->queue[i];
		drop_words(m, n);
		break;
	case CMD_COMMAND:
		command(m, regs[VMPORT_EBX]);
		break;
	default:
		regs[VMPORT_EAX] = UINT32_MAX;
	}
}

static uint64_t vmport_read(void *dev, uint64_t off, unsigned size)
{
	struct vmmouse *m = dev;
	uint32_t regs[4];

	if (off || size != 4 || m->o.get_regs(m->o.ctx, regs) < 0 ||
	    regs[VMPORT_EAX] != VMPORT_MAGIC)
		return ~0ull;
	call(m, regs);
	m->o.set_regs(m->o.ctx, regs);
	return regs[VMPORT_EAX];
}

static void vmport_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	/* `out` is the same call to VMware; drivers of the pointer do not use it. */
}

static const char *vmport_name(void *dev, uint64_t off, bool is_write)
{
	return "call";
}

static const struct region_ops vmport_ops = {
	.name = "vmport",
	.read = vmport_read,
	.write = vmport_write,
	.max_width = 4,
	.reg_name = vmport_name,
};

bool vmmouse_active(struct device *d)
{
	struct vmmouse *m = container_of(d, struct vmmouse, dev);

	return m->enabled && m->absolute;
}

void vmmouse_move(struct device *d, uint16_t x, uint16_t y, int dz, unsigned buttons)
{
	struct vmmouse *m = container_of(d, struct vmmouse, dev);
	uint32_t b = (buttons & PS2_BUTTON_LEFT ? BUTTON_LEFT : 0) |
		     (buttons & PS2_BUTTON_RIGHT ? BUTTON_RIGHT : 0) |
		     (buttons & PS2_BUTTON_MIDDLE ? BUTTON_MIDDLE : 0);
	uint32_t *last = m->len >= EVENT_WORDS ? m->queue + m->len - EVENT_WORDS : NULL;

	if (!vmmouse_active(d))
		return;
	if (last && last[0] == b && !last[3] && !dz) {
		/* the same buttons, not fetched yet: only the newest place counts */
		last[1] = x;
		last[2] = y;
	} else if (m->len + EVENT_WORDS <= QUEUE_WORDS) {
		uint32_t *e = m->queue + m->len;

		e[0] = b;
		e[1] = x;
		e[2] = y;
		e[3] = (uint32_t)dz;
		m->len += EVENT_WORDS;
	}
	i8042_mouse_poke(m->i8042);
}

static void vmmouse_reset(struct device *d)
{
	command(container_of(d, struct vmmouse, dev), DISABLE);
}

static int vmmouse_save(struct device *d, struct state_out *o)
{
	struct vmmouse *m = container_of(d, struct vmmouse, dev);

	state_u8(o, "enabled", m->enabled);
	state_u8(o, "absolute", m->absolute);
	state_u32(o, "words", m->len);
	for (uint32_t i = 0; i < QUEUE_WORDS; i++)
		if (i >= m->len)
			m->queue[i] = 0;
	state_bytes(o, "queue", m->queue, sizeof(m->queue));
	return 0;
}

static int vmmouse_load(struct device *d, struct state_in *in, uint32_t version)
{
	struct vmmouse *m = container_of(d, struct vmmouse, dev);
	uint8_t enabled, absolute;

	state_get_u8(in, "enabled", &enabled);
	state_get_u8(in, "absolute", &absolute);
	state_get_u32(in, "words", &m->len);
	state_get_bytes(in, "queue", m->queue, sizeof(m->queue));
	m->enabled = enabled;
	m->absolute = absolute;
	if (!state_in_error(in) &&
	    (enabled > 1 || absolute > enabled || m->len > (enabled ? QUEUE_WORDS : 0)))
		state_bad(in, "enabled %u, absolute %u, %u words", enabled, absolute, m->len);
	if (state_in_error(in))
		vmmouse_reset(d);
	return state_in_error(in);
}

static void vmmouse_destroy(struct device *d)
{
	struct vmmouse *m = container_of(d, struct vmmouse, dev);

	bus_del(m->pio, VMPORT, &vmport_ops, m);
	free(m);
}

static const struct device_ops vmmouse_device = {
	.name = "vmmouse",
	.version = 1,
	.reset = vmmouse_reset,
	.save = vmmouse_save,
	.load = vmmouse_load,
	.destroy = vmmouse_destroy,
};

struct device *vmmouse_new(struct bus *pio, struct device *i8042, struct loop *loop,
			   const struct vmmouse_opts *o, struct err *err)
{
	struct vmmouse *m = xcalloc(1, sizeof(*m));
	int ret;

	m->pio = pio;
	m->i8042 = i8042;
	m->o = *o;
	device_init(&m->dev, &vmmouse_device, "vmmouse", loop);
	ret = bus_add(pio, VMPORT, 4, &vmport_ops, m, loop, "vmmouse", 0);
	if (ret < 0) {
		err_set(err, -ret, "vmmouse cannot have port 0x%x: %s", VMPORT, strerror(-ret));
		free(m->dev.id);
		free(m);
		return NULL;
	}
	return &m->dev;
}
