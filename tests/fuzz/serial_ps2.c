/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: serial port (in loopback and with a stream), keyboard controller with keyboard and
 * mouse, and the clock, through their ports, with time that passes, input that arrives, and states
 * saved, bent and loaded.
 */
#include <stdlib.h>

#include "devices/chips.h"
#include "tests/lib/threeway.h"
#include "vmm/backends/chardev.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct bytes { const uint8_t *p; size_t len; };

static uint32_t take(struct bytes *input)
{
	if (!input->len)
		return 0;
	input->len--;
	return *input->p++;
}

static void save_and_load(struct device *d, struct bytes *input)
{
	struct err err = { "" };
	size_t len, at = take(input) << 8 | take(input);
	uint8_t flip = (uint8_t)take(input);
	void *blob;

	guest_save(d, &blob, &len);
	((uint8_t *)blob)[at % len] ^= flip;
	if (guest_load(d, blob, len, &err) && !flip)
		abort();
	free(blob);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const uint16_t ports[] = { 0x60,	 0x64,	0x64,  0x60,  0x70,  0x71,  0x71,  0x3f8,
					  0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x3fe, 0x3ff, 0x60 };
	struct bytes input = { data, len };
	struct guest *g = chips_guest();
	struct err err = { "" };
	struct chardev *chr = chardev_open("c", "null", g->loop, &host_direct, &err);
	struct i8042_opts kbd = { .kbd = irq_source(g->irqs, 1), .aux = irq_source(g->irqs, 12) };
	struct mc146818_opts rtc = { .irq = irq_source(g->irqs, 8),
				     .base = RTC_DATE,
				     .date = 1700000000 };
	struct device *d[3] = {
		uart16550_new("serial0", g->pio, 0x3f8, irq_source(g->irqs, 4), chr, g->clock,
			      g->loop, &err),
		i8042_new(g->pio, g->vm, g->clock, g->loop, &kbd, &err),
		mc146818_new(g->pio, g->clock, g->loop, &rtc, &err),
	};
	int64_t now = 0;

	for (int i = 0; i < 1000 && input.len; i++) {
		uint32_t v = take(&input);

		switch (v >> 5) {
		case 0: case 1: case 2:
			out(g->pio, ports[v & 15], 1, take(&input));
			break;
		case 3: case 4:
			in(g->pio, ports[v & 15], v & 16 ? 2 : 1);
			break;
		case 5:
			loop_lock(g->loop);
			if (v & 16)
				i8042_key(d[1], take(&input), v & 1);
			else
				i8042_mouse(d[1], (int8_t)take(&input), (int8_t)take(&input) * 100,
					    (int8_t)take(&input), v);
			loop_unlock(g->loop);
			break;
		case 6:
			now += (int64_t)take(&input) << (v & 31);
			vm_clock_set(g->clock, now);
			if (v & 1)
				guest_run(g, 0);
			break;
		default:
			if (v & 16)
				save_and_load(d[v % 3], &input);
			else if (!(v & 3))
				d[v / 4 % 3]->ops->reset(d[v / 4 % 3]);
		}
	}
	loop_lock(g->loop);
	for (unsigned i = 0; i < 3; i++)
		device_destroy(d[i]);
	chardev_free(chr);
	loop_unlock(g->loop);
	guest_free(g);
	return 0;
}
