/* SPDX-License-Identifier: GPL-2.0-or-later */
/* i8042.c: keyboard controller, keyboard and mouse. */
#include <linux/input-event-codes.h>

#include "devices/chips.h"
#include "tests/lib/threeway.h"

static unsigned leds;

static void on_leds(void *ctx, unsigned l)
{
	leds = l;
}

static struct device *make(struct guest *g, void *ctx)
{
	struct i8042_opts o = { .kbd = irq_source(g->irqs, 1),
				.aux = irq_source(g->irqs, 12),
				.leds = on_leds };
	struct err err = { "" };

	return i8042_new(g->pio, g->vm, g->clock, g->loop, &o, &err);
}

/* All that waits, as text: bytes of the mouse in brackets. */
static const char *drain(struct guest *g)
{
	static char text[1000];
	size_t n = 0;
	unsigned st;

	text[0] = 0;
	while ((st = (unsigned)in(g->pio, 0x64, 1)) & 1 && n < sizeof(text) - 8) {
		unsigned irq = st & 0x20 ? 12 : 1, byte;

		CHECK_EQ(g->line_level[13 - irq], 0);
		byte = (unsigned)in(g->pio, 0x60, 1);
		n += (size_t)sprintf(text + n, st & 0x20 ? "[%02x]" : "%02x ", byte);
	}
	return text;
}

static void command(struct guest *g, uint8_t c)
{
	out(g->pio, 0x64, 1, c);
}

static void data(struct guest *g, uint8_t d)
{
	out(g->pio, 0x60, 1, d);
}

static void mouse(struct guest *g, uint8_t d)
{
	command(g, 0xd4);
	data(g, d);
}

static void key(struct tw *t, unsigned k, bool down)
{
	loop_lock(t->g->loop);
	i8042_key(t->d, k, down);
	loop_unlock(t->g->loop);
}

static void move(struct tw *t, int dx, int dy, int dz, unsigned buttons)
{
	loop_lock(t->g->loop);
	i8042_mouse(t->d, dx, dy, dz, buttons);
	loop_unlock(t->g->loop);
}

static void step_self_test(struct tw *t)
{
	tw_say(t, "status %02x", (unsigned)in(t->g->pio, 0x64, 1));
	command(t->g, 0xaa);
	tw_say(t, "self test %s", drain(t->g));
	command(t->g, 0x20);
	tw_say(t, "configuration %s", drain(t->g));
	command(t->g, 0xa9);
	tw_say(t, "aux test %s", drain(t->g));
	command(t->g, 0xd0);
	tw_say(t, "output port %s", drain(t->g));
}

static void step_kbd_reset(struct tw *t)
{
	data(t->g, 0xff);
	tw_say(t, "reset %s", drain(t->g));
	data(t->g, 0xf2);
	tw_say(t, "identify %s", drain(t->g));
	data(t->g, 0xed);
	tw_say(t, "leds %s", drain(t->g));
}

/* The argument of a command whose first byte came before the step. */
static void step_kbd_leds(struct tw *t)
{
	data(t->g, 0x02);
	tw_say(t, "leds %s are %u", drain(t->g), leds);
	data(t->g, 0xf0);
	data(t->g, 0x00);
	tw_say(t, "set %s", drain(t->g));
}

static void step_keys(struct tw *t)
{
	key(t, KEY_A, true);
	key(t, KEY_A, true);
	key(t, KEY_A, false);
	key(t, KEY_RIGHTCTRL, true);
	key(t, KEY_RIGHTCTRL, false);
	tw_say(t, "irq %d status %02x", t->g->line_level[1], (unsigned)in(t->g->pio, 0x64, 1));
	tw_say(t, "first %02x", (unsigned)in(t->g->pio, 0x60, 1));
}

static void step_keys_read(struct tw *t)
{
	tw_say(t, "rest %s", drain(t->g));
}

static void step_special(struct tw *t)
{
	key(t, KEY_PAUSE, true);
	key(t, KEY_PAUSE, false);
	tw_say(t, "pause %s", drain(t->g));
	key(t, KEY_SYSRQ, true);
	key(t, KEY_SYSRQ, false);
	tw_say(t, "print %s", drain(t->g));
	key(t, KEY_F7, true);
	key(t, KEY_F7, false);
	key(t, KEY_102ND, true);
	key(t, KEY_102ND, false);
	key(t, KEY_DELETE, true);
	key(t, KEY_DELETE, false);
	tw_say(t, "f7, <, delete %s", drain(t->g));
}

static void step_raw_sets(struct tw *t)
{
	command(t->g, 0x60);
	data(t->g, 0x03);		/* no translation */
	for (unsigned set = 1; set <= 3; set++) {
		data(t->g, 0xf0);
		data(t->g, (uint8_t)set);
		drain(t->g);
		key(t, KEY_A, true);
		key(t, KEY_A, false);
		key(t, KEY_UP, true);
		key(t, KEY_UP, false);
		key(t, KEY_PAUSE, true);
		key(t, KEY_PAUSE, false);
		tw_say(t, "set %u: %s", set, drain(t->g));
	}
	data(t->g, 0xf6);
	tw_say(t, "defaults %s", drain(t->g));
	command(t->g, 0x60);
	data(t->g, 0x43);
}

static void step_mouse_on(struct tw *t)
{
	mouse(t->g, 0xff);
	tw_say(t, "mouse reset %s", drain(t->g));
	for (unsigned i = 0; i < 3; i++) {
		mouse(t->g, 0xf3);
		mouse(t->g, (uint8_t[]){ 200, 100, 80 }[i]);
	}
	drain(t->g);
	mouse(t->g, 0xf2);
	tw_say(t, "wheel %s", drain(t->g));
	mouse(t->g, 0xe9);
	tw_say(t, "status %s", drain(t->g));
	mouse(t->g, 0xf4);
	tw_say(t, "enabled %s", drain(t->g));
}

static void step_mouse_move(struct tw *t)
{
	move(t, 10, -20, 0, 0);		/* no button: a saved machine has let go of it */
	tw_say(t, "irq %d %d", t->g->line_level[1], t->g->line_level[12]);
}

static void step_mouse_read(struct tw *t)
{
	tw_say(t, "moved %s", drain(t->g));
	move(t, -300, 0, 1, PS2_BUTTON_LEFT);
	tw_say(t, "far %s", drain(t->g));
	move(t, 0, 0, 0, 0);
	tw_say(t, "let go %s", drain(t->g));
	mouse(t->g, 0xf0);
	mouse(t->g, 0xeb);
	tw_say(t, "remote %s", drain(t->g));
	mouse(t->g, 0xee);
	tw_say(t, "wrap %s", drain(t->g));
	mouse(t->g, 0x42);
	tw_say(t, "echo %s", drain(t->g));
	mouse(t->g, 0xec);
	tw_say(t, "unwrap %s", drain(t->g));
}

static void (*const steps[])(struct tw *t) = {
	step_self_test, step_kbd_reset, step_kbd_leds, step_keys,	step_keys_read,
	step_special,	step_raw_sets,	step_mouse_on, step_mouse_move, step_mouse_read,
};

TEST(keyboard_and_mouse_three_ways)
{
	threeway(&(struct tw_scenario){ .make = make, .steps = steps, .n = ARRAY_SIZE(steps) });
}

TEST(codes_are_the_known_ones)
{
	struct tw t = { .g = chips_guest() };

	t.d = make(t.g, NULL);
	t.log = open_memstream(&t.text, &t.len);
	for (unsigned i = 0; i < ARRAY_SIZE(steps); i++)
		steps[i](&t);
	fclose(t.log);
	CHECK(strstr(t.text, "self test 55 \nconfiguration 47 \naux test 00 \n"));
	CHECK(strstr(
		t.text,
		"reset fa aa \nidentify fa ab 41 \nleds fa \nleds fa  are 2\nset fa fa 41 \n"));
	CHECK(strstr(t.text, "first 1e\nrest 9e e0 1d e0 9d \n"));
	CHECK(strstr(t.text, "pause e1 1d 45 e1 9d c5 \nprint e0 2a e0 37 e0 b7 e0 aa \n"));
	CHECK(strstr(t.text, "f7, <, delete 41 c1 56 d6 e0 53 e0 d3 \n"));
	CHECK(strstr(t.text, "set 1: 1e 9e e0 48 e0 c8 e1 1d 45 e1 9d c5 \n"));
	CHECK(strstr(t.text, "set 2: 1c f0 1c e0 75 e0 f0 75 e1 14 77 e1 f0 14 f0 77 \n"));
	CHECK(strstr(t.text, "set 3: 1c f0 1c 63 f0 63 62 f0 62 \n"));
	CHECK(strstr(t.text, "mouse reset [fa][aa][00]\nwheel [fa][03]\nstatus "
			     "[fa][00][02][50]\nenabled [fa]\n"));
	CHECK(strstr(t.text, "irq 0 1\nmoved [08][0a][14][00]\nfar "
			     "[19][01][00][01][19][d3][00][00]\nlet go [08][00][00][00]\n"));
	CHECK(strstr(t.text, "wrap [fa]\necho [42]\nunwrap [fa]\n"));
}

/*
 * Every key of a PC keyboard makes a code of its own, and its release is that code with the high
 * bit.
 */
TEST(set_1_codes_are_unique)
{
	struct tw t = { .g = chips_guest() };
	char seen[128][64];
	unsigned n = 0;

	t.d = make(t.g, NULL);
	for (unsigned k = 1; k < 128; k++) {
		loop_lock(t.g->loop);
		if (!i8042_key(t.d, k, true)) {
			loop_unlock(t.g->loop);
			continue;
		}
		loop_unlock(t.g->loop);
		snprintf(seen[n], sizeof(seen[n]), "%s", drain(t.g));
		CHECK(seen[n][0]);
		for (unsigned i = 0; i < n; i++)
			if (!strcmp(seen[i], seen[n]))
				tap_fail(__FILE__, __LINE__, "key %u makes %s as another does", k,
					 seen[n]);
		n++;
		key(&t, k, false);
		drain(t.g);
		if (k <= 83) {	/* Linux's numbers are the codes */
			char want[16];

			snprintf(want, sizeof(want), "%02x ", k);
			if (strcmp(seen[n - 1], want))
				tap_fail(__FILE__, __LINE__, "key %u makes %s", k, seen[n - 1]);
		}
	}
	CHECK(n >= 104);
}

TEST(typematic)
{
	struct tw t = { .g = chips_guest() };

	t.d = make(t.g, NULL);
	key(&t, KEY_B, true);
	CHECK(!strcmp(drain(t.g), "30 "));
	vm_clock_start(t.g->clock);
	for (int64_t end = now_ns() + 400 * NS_PER_MS; now_ns() < end;)
		guest_run(t.g, 5);
	CHECK(!strcmp(drain(t.g), ""));
	for (int64_t end = now_ns() + 400 * NS_PER_MS; now_ns() < end;)
		guest_run(t.g, 5);
	/* unread repeats do not pile up: one in the controller, one behind it */
	CHECK(!strcmp(drain(t.g), "30 30 "));
	key(&t, KEY_B, false);
	CHECK(!strcmp(drain(t.g), "b0 "));
	for (int64_t end = now_ns() + 300 * NS_PER_MS; now_ns() < end;)
		guest_run(t.g, 5);
	CHECK(!strcmp(drain(t.g), ""));
}

static void on_request(void *ctx, enum vm_end what, int code)
{
	*(enum vm_end *)ctx = what;
}

TEST(a_saved_machine_holds_no_key)
{
	struct tw t = { .g = chips_guest() };
	struct err err = { "" };
	size_t len;
	void *blob;

	t.d = make(t.g, NULL);
	key(&t, KEY_LEFTSHIFT, true);
	guest_save(t.d, &blob, &len);
	t.g = chips_guest();
	t.d = make(t.g, NULL);
	CHECK_EQ(guest_load(t.d, blob, len, &err), 0);
	CHECK(!strcmp(drain(t.g), "2a aa "));
}

/* --- the VMware port --- */

static uint32_t cpu[4];

static int get_regs(void *ctx, uint32_t regs[4])
{
	memcpy(regs, cpu, sizeof(cpu));
	return 0;
}

static void set_regs(void *ctx, const uint32_t regs[4])
{
	memcpy(cpu, regs, sizeof(cpu));
}

static uint32_t vmcall(struct guest *g, uint32_t command_nr, uint32_t ebx)
{
	cpu[VMPORT_EAX] = 0x564d5868;
	cpu[VMPORT_EBX] = ebx;
	cpu[VMPORT_ECX] = command_nr;
	cpu[VMPORT_EDX] = 0x5658;
	return cpu[VMPORT_EAX] = (uint32_t)in(g->pio, 0x5658, 4);
}

TEST(absolute_pointer)
{
	struct vmmouse_opts o = { .get_regs = get_regs, .set_regs = set_regs };
	struct tw t = { .g = chips_guest() };
	struct err err = { "" };
	struct device *v, *v2;
	struct guest *g2 = chips_guest();
	size_t len;
	void *blob;

	t.d = make(t.g, NULL);
	v = vmmouse_new(t.g->pio, t.d, t.g->loop, &o, &err);
	v2 = vmmouse_new(g2->pio, make(g2, NULL), g2->loop, &o, &err);
	CHECK_EQ(vmcall(t.g, 10, 0), 6);
	CHECK_EQ(cpu[VMPORT_EBX], 0x564d5868);
	cpu[VMPORT_EAX] = 0;
	CHECK_EQ(in(t.g->pio, 0x5658, 4), 0xffffffff);		/* no magic, no call */
	CHECK_EQ(vmcall(t.g, 40, 0), 0xffff0000);
	CHECK(!vmmouse_active(v));
	mouse(t.g, 0xf4);
	drain(t.g);
	vmcall(t.g, 41, 0x45414552);
	CHECK_EQ(vmcall(t.g, 40, 0), 1);
	CHECK_EQ(vmcall(t.g, 39, 1), 0x3442554a);
	vmcall(t.g, 41, 0x53424152);
	CHECK(vmmouse_active(v));
	vmmouse_move(v, 100, 200, 0, 0);
	vmmouse_move(v, 101, 201, 0, 0);			/* only the newest place counts */
	vmmouse_move(v, 102, 202, 0, PS2_BUTTON_LEFT);
	/* the PS/2 mouse calls the driver */
	CHECK_EQ(t.g->line_level[12], 1);
	CHECK_EQ(vmcall(t.g, 40, 0), 8);
	guest_save(v, &blob, &len);
	CHECK_EQ(guest_load(v2, blob, len, &err), 0);
	CHECK_EQ(vmcall(g2, 39, 4), 0);
	CHECK(cpu[1] == 101 && cpu[2] == 201 && cpu[3] == 0);
	CHECK_EQ(vmcall(g2, 39, 4), 0x20);
	CHECK(cpu[1] == 102 && cpu[2] == 202);
	/* nothing left: the driver lost count, off */
	CHECK_EQ(vmcall(g2, 39, 4), 0x564d5868);
	CHECK_EQ(vmcall(g2, 40, 0), 0xffff0000);
	v->ops->reset(v);
	CHECK_EQ(vmcall(t.g, 40, 0), 0xffff0000);
	for (int i = 0; i < 10000; i++)
		vmcall(t.g, 39 + i % 3, i % 7 ? (uint32_t)i % 9 : 0x45414552);
}

TEST(the_guest_resets_the_machine)
{
	static const uint8_t ways[][2] = { { 0xfe, 0 }, { 0xd1, 0xfe } };
	enum vm_end end = VM_END_NONE;
	struct guest *g = chips_guest();

	make(g, NULL);
	vm_on_request(g->vm, on_request, &end);
	for (unsigned i = 0; i < 2; i++) {
		command(g, ways[i][0]);
		if (ways[i][1])
			data(g, ways[i][1]);
		for (int k = 0; k < 100 && end == VM_END_NONE; k++)
			guest_run(g, 1);
		CHECK_EQ(end, VM_END_RESET);
		end = VM_END_NONE;
	}
}

TEST(a_flood_of_keys_loses_whole_keys_only)
{
	struct tw t = { .g = chips_guest() };
	const char *p;

	t.d = make(t.g, NULL);
	key(&t, KEY_B, true);		/* so that the limit falls into the middle of a code */
	for (int i = 0; i < 200; i++) {
		key(&t, KEY_HOME, true);
		key(&t, KEY_HOME, false);
	}
	p = drain(t.g);
	CHECK(strlen(p) > 100);
	CHECK(!strncmp(p, "30 ", 3));
	p += 3;
	for (; *p; p += 6)
		CHECK(!strncmp(p, "e0 47 ", 6) || !strncmp(p, "e0 c7 ", 6));
}

TEST(any_sequence_is_survived)
{
	struct tw t = { .g = chips_guest() };
	uint32_t seed = 7;

	t.d = make(t.g, NULL);
	for (int i = 0; i < 300000; i++) {
		seed = seed * 1664525 + 1013904223;
		switch (seed >> 29) {
		case 0: command(t.g, seed >> 8 & 0xff); break;
		case 1: data(t.g, seed >> 8 & 0xff); break;
		case 2: mouse(t.g, seed >> 8 & 0xff); break;
		case 3: key(&t, seed >> 8 & 0xff, seed & 1); break;
		case 4:
			move(&t, (int)(seed >> 4 & 0xfff) - 2048, (int)(seed >> 16 & 0xfff) - 2048,
			     1, seed & 31);
			break;
		default: in(t.g->pio, seed & 0x100 ? 0x60 : 0x64, 1);
		}
		if (i % 5000 == 0) {
			struct err err = { "" };
			size_t len;
			void *blob;

			guest_save(t.d, &blob, &len);
			if (guest_load(t.d, blob, len, &err))
				tap_fail(__FILE__, __LINE__, "what was saved is refused: %s",
					 err.msg);
			free(blob);
		}
	}
	t.d->ops->reset(t.d);
	command(t.g, 0xaa);
	CHECK(!strcmp(drain(t.g), "55 "));
}

TAP_MAIN
