/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvm_pit.c: the 8254 (ports 0x40 to 0x43) and the gate and output of its counter 2 (port 0x61).
 *
 * KVM emulates the chip, but to take KVM's apart waits for two grace periods of the host's kernel:
 * 16 of the 24 ms in which the shortest guest starts and ends. Until a counter is loaded an 8254
 * does nothing that anybody notices, and many guests never load one. So the first accesses come
 * here and change a description of the chip; the write that completes a count makes KVM's chip as
 * described, and from then on KVM answers these ports by itself.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "vmm/base/log.h"
#include "vmm/kvm/kvm_pit.h"

#define PIT_HZ 1193182
#define PIT_PORT 0x40
#define PIT_CONTROL 3			/* the control word; 0 to 2: the counters */
#define PORT_B 0x61			/* system control port B */
#define PORT_B_GATE2 0x01
#define PORT_B_SPEAKER 0x02
#define PORT_B_REFRESH 0x10		/* changes with each refresh of the RAM */
#define PORT_B_OUT2 0x20

/*
 * How a counter's 16 bits are reached through its 8-bit port: RW1 RW0 of the control word, and the
 * state after the first of two.
 */
enum { RW_LATCH, RW_LSB, RW_MSB, RW_WORD0, RW_WORD1 };

struct kvm_pit {
	struct kvm *k;
	struct vm *vm;
	/* made: KVM has the chip, and its state counts, not ours */
	bool discard, made;
	struct kvm_pit_state2 state;
};

/* KVM's state after power-on: no mode, which it shows as 0xff. */
static void power_on(struct kvm_pit_state2 *s)
{
	memset(s, 0, sizeof(*s));
	for (int n = 0; n < 3; n++)
		s->channels[n] = (struct kvm_pit_channel_state){
			.mode = 0xff, .gate = n != 2, .count = 0x10000, .count_load_time = now_ns()
		};
}

/* --- the chip's registers (Intel 8254, "Programming the 8254") --- */

/* Nothing has loaded the counter: it counts down from what it came up with. */
static uint16_t counter(const struct kvm_pit_channel_state *c)
{
	uint64_t ns = now_ns() - c->count_load_time;

	return c->count - (uint64_t)((unsigned __int128)ns * PIT_HZ / NS_PER_SEC);
}

static void latch_count(struct kvm_pit_channel_state *c)
{
	if (c->count_latched)
		return;
	c->latched_count = counter(c);
	c->count_latched = c->rw_mode ? c->rw_mode : RW_LSB;
}

/*
 * OUT is low from the control word of mode 0 until its count has run down, and high in the others.
 */
static bool output(const struct kvm_pit_channel_state *c)
{
	return c->mode != 0;
}

static void latch_status(struct kvm_pit_channel_state *c)
{
	if (c->status_latched)
		return;
	/* bit 6: no count yet */
	c->status = output(c) << 7 | 1 << 6 | c->rw_mode << 4 | (c->mode & 7) << 1 | c->bcd;
	c->status_latched = 1;
}

static void control_word(struct kvm_pit_state2 *s, uint8_t val)
{
	struct kvm_pit_channel_state *c = &s->channels[val >> 6];
	unsigned mode = val >> 1 & 7;

	if (val >> 6 == 3) {			/* read-back: of any of the three */
		for (int n = 0; n < 3; n++) {
			if (!(val & 2 << n))
				continue;
			if (!(val & 0x20))
				latch_count(&s->channels[n]);
			if (!(val & 0x10))
				latch_status(&s->channels[n]);
		}
		return;
	}
	if ((val >> 4 & 3) == RW_LATCH) {
		latch_count(c);
		return;
	}
	c->rw_mode = c->read_state = c->write_state = val >> 4 & 3;
	c->mode = mode > 5 ? mode - 4 : mode;
	c->bcd = val & 1;
}

/* True when the count is complete. */
static bool write_count(struct kvm_pit_channel_state *c, uint8_t val)
{
	uint32_t count;

	switch (c->write_state) {
	case RW_WORD0:
		c->write_latch = val;
		c->write_state = RW_WORD1;
		return false;
	case RW_WORD1:
		count = c->write_latch | val << 8;
		c->write_state = RW_WORD0;
		break;
	case RW_MSB:
		count = val << 8;
		break;
	default:
		count = val;
	}
	c->count = count ? count : 0x10000;
	return true;
}

static uint8_t half(uint16_t word, uint8_t which)
{
	return which == RW_MSB || which == RW_WORD1 ? word >> 8 : word;
}

static uint8_t read_count(struct kvm_pit_channel_state *c)
{
	uint8_t val;

	if (c->status_latched) {
		c->status_latched = 0;
		return c->status;
	}
	if (c->count_latched) {
		val = half(c->latched_count, c->count_latched);
		c->count_latched = c->count_latched == RW_WORD0 ? RW_MSB : 0;
		return val;
	}
	val = half(counter(c), c->read_state);
	if (c->read_state == RW_WORD0 || c->read_state == RW_WORD1)
		c->read_state = RW_WORD0 + RW_WORD1 - c->read_state;
	return val;
}

static uint8_t port_b_read(const struct kvm_pit_state2 *s)
{
	const struct kvm_pit_channel_state *c = &s->channels[2];

	return (c->gate ? PORT_B_GATE2 : 0) |
	       (s->flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON ? PORT_B_SPEAKER : 0) |
	       (output(c) ? PORT_B_OUT2 : 0) | (now_ns() >> 14 & 1 ? PORT_B_REFRESH : 0);
}

static void port_b_write(struct kvm_pit_state2 *s, uint8_t val)
{
	s->channels[2].gate = val & PORT_B_GATE2;
	s->flags &= ~KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	if (val & PORT_B_SPEAKER)
		s->flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
}

/* --- KVM's chip --- */

static int make(struct kvm_pit *p)
{
	struct kvm_pit_config config = { .flags = KVM_PIT_SPEAKER_DUMMY };
	struct kvm_reinject_control discard = { .pit_reinject = 0 };

	if (p->made)
		return 0;
	if (ioctl(p->k->vm_fd, KVM_CREATE_PIT2, &config) < 0)
		return -errno;
	p->made = true;
	/* KVM makes up for late ticks unless it is told not to. */
	return p->discard && ioctl(p->k->vm_fd, KVM_REINJECT_CONTROL, &discard) < 0 ? -errno : 0;
}

static int set(struct kvm_pit *p)
{
	return ioctl(p->k->vm_fd, KVM_SET_PIT2, &p->state) < 0 ? -errno : 0;
}

static int get(struct kvm_pit *p)
{
	return p->made && ioctl(p->k->vm_fd, KVM_GET_PIT2, &p->state) < 0 ? -errno : 0;
}

/* --- the ports --- */
/*
 * For as long as KVM has no chip, and for a vCPU that was on its way here while another one had it
 * made.
 */

static void finish(struct kvm_pit *p, int ret)
{
	if (ret == 0 && p->made)
		ret = set(p);
	if (ret == 0)
		return;
	log_error("the timer (8254) cannot be had from KVM: %s", strerror(-ret));
	vm_request(p->vm, VM_END_KVM_ERROR, 0);
}

static uint64_t pit_read(void *dev, uint64_t off, unsigned size)
{
	struct kvm_pit *p = dev;
	uint8_t val;
	int ret = get(p);

	if (off == PIT_CONTROL)			/* write only */
		return 0;
	val = read_count(&p->state.channels[off]);
	finish(p, ret);
	return val;
}

static void pit_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct kvm_pit *p = dev;
	int ret = get(p);

	if (off == PIT_CONTROL)
		control_word(&p->state, val);
	else if (write_count(&p->state.channels[off], val) && ret == 0)
		ret = make(p);
	finish(p, ret);
}

static const char *pit_name(void *dev, uint64_t off, bool is_write)
{
	static const char *const names[] = { "counter 0", "counter 1", "counter 2",
					     "control word" };

	return names[off & 3];
}

static const struct region_ops pit_ops = {
	.name = "8254", .read = pit_read, .write = pit_write, .max_width = 1, .reg_name = pit_name
};

static uint64_t port61_read(void *dev, uint64_t off, unsigned size)
{
	struct kvm_pit *p = dev;

	get(p);
	return port_b_read(&p->state);
}

static void port61_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct kvm_pit *p = dev;
	int ret = get(p);

	port_b_write(&p->state, val);
	finish(p, ret);
}

static const char *port61_name(void *dev, uint64_t off, bool is_write)
{
	return "system control port B";
}

static const struct region_ops port61_ops = { .name = "8254",
					      .read = port61_read,
					      .write = port61_write,
					      .max_width = 1,
					      .reg_name = port61_name };

struct kvm_pit *kvm_pit_new(struct kvm *k, struct vm *vm, struct loop *loop, bool discard,
			    struct err *err)
{
	struct kvm_pit *p;

	if (!kvm_has(k, KVM_CAP_PIT2) || (discard && !kvm_has(k, KVM_CAP_REINJECT_CONTROL))) {
		err_set(err, ENOSYS,
			"this host's KVM has no 8254 timer%s (-machine pit=off does without it)",
			discard ? " that drops late ticks (-global "
				  "kvm-pit.lost_tick_policy=discard)"
				: "");
		return NULL;
	}
	p = xcalloc(1, sizeof(*p));
	*p = (struct kvm_pit){ .k = k, .vm = vm, .discard = discard };
	power_on(&p->state);
	if (bus_add(k->pio, PIT_PORT, 4, &pit_ops, p, loop, "pit", 0) < 0 ||
	    bus_add(k->pio, PORT_B, 1, &port61_ops, p, loop, "pit", 0) < 0) {
		err_set(err, EEXIST, "the ports of the timer are taken");
		kvm_pit_free(p);
		return NULL;
	}
	return p;
}

void kvm_pit_free(struct kvm_pit *p)
{
	if (!p)
		return;
	bus_del(p->k->pio, PIT_PORT, &pit_ops, p);
	bus_del(p->k->pio, PORT_B, &port61_ops, p);
	free(p);
}

int kvm_pit_reset(struct kvm_pit *p)
{
	power_on(&p->state);
	return p->made ? set(p) : 0;
}

/* --- saved machines --- */

static const struct state_field channel_fields[] = {
	STATE_FIELD(struct kvm_pit_channel_state, STATE_U32, count),
	STATE_FIELD(struct kvm_pit_channel_state, STATE_U16, latched_count),
	STATE_FIELD(struct kvm_pit_channel_state, STATE_U8, count_latched),
	STATE_FIELD(struct kvm_pit_channel_state, STATE_U8, status_latched),
	STATE_FIELD(struct kvm_pit_channel_state, STATE_U8, status),
	STATE_FIELD(struct kvm_pit_channel_state, STATE_U8, read_state),
	STATE_FIELD(struct kvm_pit_channel_state, STATE_U8, write_state),
	STATE_FIELD(struct kvm_pit_channel_state, STATE_U8, write_latch),
	STATE_FIELD(struct kvm_pit_channel_state, STATE_U8, rw_mode),
	STATE_FIELD(struct kvm_pit_channel_state, STATE_U8, mode),
	STATE_FIELD(struct kvm_pit_channel_state, STATE_U8, bcd),
	STATE_FIELD(struct kvm_pit_channel_state, STATE_U8, gate),
};

static const char *const channel_names[] = { "channel0", "channel1", "channel2" };

int kvm_pit_save(struct kvm_pit *p, struct state_out *o)
{
	int ret = get(p);

	if (ret < 0)
		return ret;
	state_begin(o, "pit");
	state_u32(o, "flags", p->state.flags);
	for (unsigned n = 0; n < ARRAY_SIZE(channel_names); n++) {
		state_begin(o, channel_names[n]);
		state_save_fields(o, &p->state.channels[n], channel_fields,
				  ARRAY_SIZE(channel_fields));
		state_end(o);
	}
	state_end(o);
	return 0;
}

/* Whether a counter may have been loaded: nothing loads one that has no mode. */
static bool used(const struct kvm_pit_state2 *s)
{
	for (unsigned n = 0; n < ARRAY_SIZE(channel_names); n++)
		if (s->channels[n].mode != 0xff || s->channels[n].count != 0x10000)
			return true;
	return false;
}

int kvm_pit_load(struct kvm_pit *p, struct state_in *in)
{
	int ret = 0;

	if (state_enter(in, "pit") < 0)
		return -EINVAL;
	state_get_u32(in, "flags", &p->state.flags);
	for (unsigned n = 0; n < ARRAY_SIZE(channel_names); n++) {
		if (state_enter(in, channel_names[n]) < 0)
			return -EINVAL;
		state_load_fields(in, &p->state.channels[n], channel_fields,
				  ARRAY_SIZE(channel_fields));
		/*
		 * The counter starts again from here: its load time is a host time of the saving
		 * machine.
		 */
		p->state.channels[n].count_load_time = now_ns();
		state_leave(in);
	}
	state_leave(in);
	if (state_in_error(in))
		return -EINVAL;
	if (used(&p->state))
		ret = make(p);
	if (ret == 0 && p->made)
		ret = set(p);
	return ret < 0 ? state_bad(in, "KVM's timer (8254): %s", strerror(-ret)) : 0;
}
