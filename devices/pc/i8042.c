/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * i8042.c: the keyboard controller (IBM PS/2 Hardware Interface Technical Reference, "Keyboard and
 * Auxiliary Device Controller"): ports 0x60 and 0x64, between the guest and ps2.c's keyboard and
 * ps2_mouse.c's mouse. Main loop.
 *
 * One byte waits in the output buffer; the next follows the moment it has been read. Address line
 * 20 is remembered, not masked, as at port 0x92.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/chips.h"
#include "devices/pc/ps2.h"

#define DATA_PORT	0x60
#define COMMAND_PORT	0x64

#define STATUS_OBF	0x01		/* output buffer full */
#define STATUS_SYS	0x04
#define STATUS_COMMAND	0x08		/* the last write was a command */
#define STATUS_UNLOCKED	0x10
#define STATUS_AUX	0x20		/* the byte is the mouse's */

#define CFG_KBD_INT	0x01
#define CFG_AUX_INT	0x02
#define CFG_SYS		0x04
#define CFG_KBD_OFF	0x10
#define CFG_AUX_OFF	0x20
#define CFG_XLATE	0x40
/* as firmware leaves it */
#define CFG_RESET	(CFG_KBD_INT | CFG_AUX_INT | CFG_SYS | CFG_XLATE)

#define OUT_RESET	0x01		/* output port: 0 resets the processor */
#define OUT_A20		0x02
#define OUT_OBF		0x10
#define OUT_AUX_OBF	0x20

enum {
	CMD_READ_CFG = 0x20, CMD_WRITE_CFG = 0x60, CMD_AUX_DISABLE = 0xa7, CMD_AUX_ENABLE = 0xa8,
	CMD_AUX_TEST = 0xa9,
	CMD_SELF_TEST = 0xaa, CMD_KBD_TEST = 0xab, CMD_KBD_DISABLE = 0xad, CMD_KBD_ENABLE = 0xae,
	CMD_READ_INPUT = 0xc0,
	CMD_READ_OUTPUT = 0xd0, CMD_WRITE_OUTPUT = 0xd1, CMD_WRITE_KBD_OBF = 0xd2,
	CMD_WRITE_AUX_OBF = 0xd3,
	CMD_WRITE_AUX = 0xd4, CMD_A20_OFF = 0xdd, CMD_A20_ON = 0xdf, CMD_READ_TEST = 0xe0,
	CMD_PULSE = 0xf0,
};

struct i8042 {
	struct device dev;
	struct bus *pio;
	struct vm *vm;
	struct i8042_opts o;
	struct ps2_keyboard kbd;
	struct ps2_mouse mouse;
	uint8_t cfg;
	uint8_t command;		/* waits for its byte at the data port; 0: none */
	bool command_last, a20;
	bool full, from_aux;		/* the output buffer, and whose byte it holds */
	uint8_t data;
	bool release;			/* F0 swallowed by the translation */
};

static void irqs_update(struct i8042 *c)
{
	irq_set(&c->o.kbd, c->full && !c->from_aux && (c->cfg & CFG_KBD_INT));
	irq_set(&c->o.aux, c->full && c->from_aux && (c->cfg & CFG_AUX_INT));
}

static void buffer_put(struct i8042 *c, uint8_t byte, bool from_aux)
{
	c->data = byte;
	c->full = true;
	c->from_aux = from_aux;
}

/* Moves the next byte of the devices into the free output buffer. */
static void buffer_fill(struct i8042 *c)
{
	while (!c->full && !ps2_queue_empty(&c->kbd.q) && !(c->cfg & CFG_KBD_OFF)) {
		uint8_t byte = c->kbd.last = ps2_queue_pop(&c->kbd.q);
		int code = (c->cfg & CFG_XLATE) ? ps2_translate(byte, &c->release) : byte;

		if (code >= 0)
			buffer_put(c, (uint8_t)code, false);
	}
	if (!c->full && !ps2_queue_empty(&c->mouse.q) && !(c->cfg & CFG_AUX_OFF)) {
		c->mouse.last = ps2_queue_pop(&c->mouse.q);
		buffer_put(c, c->mouse.last, true);
		ps2_mouse_pump(&c->mouse);
	}
	irqs_update(c);
}

static void device_changed(void *ctx)
{
	struct i8042 *c = ctx;

	if (!c->full)
		buffer_fill(c);
}

/* --- ports --- */

static uint64_t data_read(void *dev, uint64_t off, unsigned size)
{
	struct i8042 *c = dev;
	uint8_t val = c->data;

	if (c->full) {
		c->full = false;
		irqs_update(c);		/* low between two bytes: each needs an edge */
		buffer_fill(c);
	}
	return val;
}

static void output_port_write(struct i8042 *c, uint8_t val)
{
	c->a20 = val & OUT_A20;
	if (!(val & OUT_RESET))
		vm_request(c->vm, VM_END_RESET, 0);
}

static void data_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct i8042 *c = dev;
	uint8_t byte = (uint8_t)val, command = c->command;

	c->command = 0;
	c->command_last = false;
	switch (command) {
	case CMD_WRITE_CFG:
		c->cfg = byte & ~0x88;
		break;
	case CMD_WRITE_OUTPUT:
		output_port_write(c, byte);
		break;
	case CMD_WRITE_KBD_OBF:
		buffer_put(c, byte, false);
		break;
	case CMD_WRITE_AUX_OBF:
		buffer_put(c, byte, true);
		break;
	case CMD_WRITE_AUX:
		c->cfg &= ~CFG_AUX_OFF;
		ps2_mouse_command(&c->mouse, byte);
		break;
	default:
		/* Talking to the keyboard turns its clock on again. */
		c->cfg &= ~CFG_KBD_OFF;
		c->release = false;
		ps2_keyboard_command(&c->kbd, byte);
	}
	buffer_fill(c);
}

static uint64_t status_read(void *dev, uint64_t off, unsigned size)
{
	struct i8042 *c = dev;

	return STATUS_UNLOCKED | (c->cfg & CFG_SYS ? STATUS_SYS : 0) |
	       (c->command_last ? STATUS_COMMAND : 0) |
	       (c->full ? STATUS_OBF | (c->from_aux ? STATUS_AUX : 0) : 0);
}

static void command_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct i8042 *c = dev;
	uint8_t command = (uint8_t)val;

	c->command = 0;
	c->command_last = true;
	switch (command) {
	case CMD_READ_CFG:
		buffer_put(c, c->cfg, false);
		break;
	case CMD_WRITE_CFG:
	case CMD_WRITE_OUTPUT:
	case CMD_WRITE_KBD_OBF:
	case CMD_WRITE_AUX_OBF:
	case CMD_WRITE_AUX:
		c->command = command;
		break;
	case CMD_AUX_DISABLE:
		c->cfg |= CFG_AUX_OFF;
		break;
	case CMD_AUX_ENABLE:
		c->cfg &= ~CFG_AUX_OFF;
		break;
	case CMD_KBD_DISABLE:
		c->cfg |= CFG_KBD_OFF;
		break;
	case CMD_KBD_ENABLE:
		c->cfg &= ~CFG_KBD_OFF;
		break;
	case CMD_SELF_TEST:
		c->cfg |= CFG_SYS;
		buffer_put(c, 0x55, false);
		break;
	case CMD_AUX_TEST:
	case CMD_KBD_TEST:
	case CMD_READ_TEST:
		buffer_put(c, 0x00, false);
		break;
	case CMD_READ_INPUT:
		buffer_put(c, 0x80, false);	/* keyboard not locked */
		break;
	case CMD_READ_OUTPUT:
		buffer_put(c, OUT_RESET | (c->a20 ? OUT_A20 : 0) |
			   (c->full ? c->from_aux ? OUT_AUX_OBF : OUT_OBF : 0), false);
		break;
	case CMD_A20_OFF:
	case CMD_A20_ON:
		c->a20 = command == CMD_A20_ON;
		break;
	default:
		if (command >= CMD_PULSE && !(command & OUT_RESET))
			vm_request(c->vm, VM_END_RESET, 0);
	}
	buffer_fill(c);
}

static const char *data_name(void *dev, uint64_t off, bool is_write)
{
	return "DATA";
}

static const char *command_name(void *dev, uint64_t off, bool is_write)
{
	return is_write ? "COMMAND" : "STATUS";
}

static const struct region_ops data_ops = {
	.name = "8042",
	.read = data_read,
	.write = data_write,
	.max_width = 1,
	.reg_name = data_name,
};
static const struct region_ops command_ops = {
	.name = "8042",
	.read = status_read,
	.write = command_write,
	.max_width = 1,
	.reg_name = command_name,
};

/* --- input --- */

bool i8042_key(struct device *d, unsigned key, bool down)
{
	return ps2_keyboard_key(&container_of(d, struct i8042, dev)->kbd, key, down);
}

void i8042_mouse(struct device *d, int dx, int dy, int dz, unsigned buttons)
{
	ps2_mouse_move(&container_of(d, struct i8042, dev)->mouse, dx, dy, dz, buttons);
}

void i8042_mouse_poke(struct device *d)
{
	struct ps2_mouse *m = &container_of(d, struct i8042, dev)->mouse;

	if (m->enabled && ps2_queue_empty(&m->q))
		ps2_mouse_move(m, 1, 0, 0, m->buttons);
}

/* --- the device --- */

static void controller_reset(struct i8042 *c)
{
	c->cfg = CFG_RESET;
	c->command = c->data = 0;
	c->command_last = c->full = c->from_aux = c->release = false;
	c->a20 = true;
}

static void i8042_reset(struct device *d)
{
	struct i8042 *c = container_of(d, struct i8042, dev);

	controller_reset(c);
	ps2_keyboard_reset(&c->kbd);
	ps2_mouse_reset(&c->mouse);
	irqs_update(c);
}

static const struct state_field i8042_fields[] = {
	STATE_FIELD(struct i8042, STATE_U8, cfg),
	STATE_FIELD(struct i8042, STATE_U8, command),
	STATE_FIELD(struct i8042, STATE_BOOL, command_last),
	STATE_FIELD(struct i8042, STATE_BOOL, a20),
	STATE_FIELD(struct i8042, STATE_BOOL, full),
	STATE_FIELD(struct i8042, STATE_BOOL, from_aux),
	STATE_FIELD(struct i8042, STATE_U8, data),
	STATE_FIELD(struct i8042, STATE_BOOL, release),
};

static int i8042_save(struct device *d, struct state_out *o)
{
	struct i8042 *c = container_of(d, struct i8042, dev);

	ps2_keyboard_release_all(&c->kbd);
	state_save_fields(o, c, i8042_fields, ARRAY_SIZE(i8042_fields));
	state_begin(o, "keyboard");
	ps2_keyboard_save(&c->kbd, o);
	state_end(o);
	state_begin(o, "mouse");
	ps2_mouse_save(&c->mouse, o);
	state_end(o);
	return 0;
}

static int i8042_load(struct device *d, struct state_in *in, uint32_t version)
{
	struct i8042 *c = container_of(d, struct i8042, dev);
	int ret = state_load_fields(in, c, i8042_fields, ARRAY_SIZE(i8042_fields));

	if (!ret && (c->cfg & 0x88))
		ret = state_bad(in, "configuration byte 0x%x has reserved bits", c->cfg);
	if (!ret)
		ret = state_enter(in, "keyboard");
	if (!ret) {
		ret = ps2_keyboard_load(&c->kbd, in);
		state_leave(in);
	}
	if (!ret)
		ret = state_enter(in, "mouse");
	if (!ret) {
		ret = ps2_mouse_load(&c->mouse, in);
		state_leave(in);
	}
	if (ret < 0) {
		i8042_reset(d);
		return ret;
	}
	irqs_update(c);
	buffer_fill(c);
	return 0;
}

static void i8042_destroy(struct device *d)
{
	struct i8042 *c = container_of(d, struct i8042, dev);

	loop_timer_cancel(&c->kbd.repeat);
	bus_del(c->pio, DATA_PORT, &data_ops, c);
	bus_del(c->pio, COMMAND_PORT, &command_ops, c);
	free(c);
}

static const struct device_ops i8042_device = {
	.name = "i8042",
	.version = 1,
	.reset = i8042_reset,
	.save = i8042_save,
	.load = i8042_load,
	.destroy = i8042_destroy,
};

struct device *i8042_new(struct bus *pio, struct vm *vm, struct vm_clock *clock, struct loop *loop,
			 const struct i8042_opts *o, struct err *err)
{
	struct i8042 *c = xcalloc(1, sizeof(*c));
	int ret;

	c->pio = pio;
	c->vm = vm;
	c->o = *o;
	c->kbd.changed = c->mouse.changed = device_changed;
	c->kbd.ctx = c->mouse.ctx = c;
	c->kbd.leds_changed = o->leds;
	c->kbd.leds_ctx = o->leds_ctx;
	device_init(&c->dev, &i8042_device, "i8042", loop);
	controller_reset(c);
	ps2_keyboard_init(&c->kbd, loop, clock);
	ps2_mouse_reset(&c->mouse);
	ret = bus_add(pio, DATA_PORT, 1, &data_ops, c, loop, "i8042", 0);
	if (ret < 0)
		goto fail;
	ret = bus_add(pio, COMMAND_PORT, 1, &command_ops, c, loop, "i8042", 0);
	if (ret < 0)
		goto fail_data;
	return &c->dev;
fail_data:
	bus_del(pio, DATA_PORT, &data_ops, c);
fail:
	err_set(err, -ret, "the keyboard controller cannot have ports 0x60 and 0x64: %s",
		strerror(-ret));
	free(c->dev.id);
	free(c);
	return NULL;
}
