/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rtc.c: the clock, its events and the CMOS memory. The VM clock stands still and is moved by hand.
 */
#include <time.h>

#include "devices/chips.h"
#include "tests/lib/threeway.h"

#define START 1709251140ll	/* Thu 29 Feb 2024 23:59:00: the last minute of a leap day */

static struct device *make(struct guest *g, void *ctx)
{
	struct mc146818_opts o = { .irq = irq_source(g->irqs, 8), .base = RTC_DATE, .date = START };
	struct err err = { "" };
	struct device *d = mc146818_new(g->pio, g->clock, g->loop, &o, &err);

	mc146818_set_memory(d, 3 * GiB, 5 * GiB);
	return d;
}

static uint8_t get(struct guest *g, unsigned reg)
{
	out(g->pio, 0x70, 1, reg);
	return (uint8_t)in(g->pio, 0x71, 1);
}

static void set(struct guest *g, unsigned reg, uint8_t val)
{
	out(g->pio, 0x70, 1, reg);
	out(g->pio, 0x71, 1, val);
}

/* Moves the VM clock to ns and lets its timers run. */
static void at(struct guest *g, int64_t ns)
{
	vm_clock_set(g->clock, ns);
	vm_clock_start(g->clock);
	guest_run(g, 0);
	guest_run(g, 0);
	vm_clock_stop(g->clock);
	vm_clock_set(g->clock, ns);
}

static void say_time(struct tw *t)
{
	tw_say(t, "%02x%02x-%02x-%02x (%x) %02x:%02x:%02x a %02x b %02x", get(t->g, 0x32),
	       get(t->g, 9), get(t->g, 8), get(t->g, 7), get(t->g, 6), get(t->g, 4), get(t->g, 2),
	       get(t->g, 0), get(t->g, 10), get(t->g, 11));
}

static void step_start(struct tw *t)
{
	/* Reset keeps the time, as the battery does; so each run sets it. */
	vm_clock_set(t->g->clock, 0);
	set(t->g, 10, 0x26);
	set(t->g, 11, 0x82);
	set(t->g, 0x32, 0x20);
	set(t->g, 9, 0x24);
	set(t->g, 8, 2);
	set(t->g, 7, 0x29);
	set(t->g, 6, 5);
	set(t->g, 4, 0x23);
	set(t->g, 2, 0x59);
	set(t->g, 0, 0);
	for (unsigned i = 1; i < 6; i += 2)
		set(t->g, i, 0xff);
	set(t->g, 11, 0x02);
	get(t->g, 12);
	say_time(t);
}

static void step_midnight(struct tw *t)
{
	at(t->g, 60 * NS_PER_SEC);
	say_time(t);
	tw_say(t, "c %02x", get(t->g, 12));
}

static void step_binary_12(struct tw *t)
{
	set(t->g, 11, 0x04);
	at(t->g, 61 * NS_PER_SEC);
	say_time(t);
	set(t->g, 4, 0x80 | 12);		/* noon */
	say_time(t);
	set(t->g, 11, 0x06);
	say_time(t);
	set(t->g, 11, 0x02);
}

static void step_alarm(struct tw *t)
{
	set(t->g, 1, 0x05);
	set(t->g, 3, 0xff);
	set(t->g, 5, 0xff);
	get(t->g, 12);
	set(t->g, 11, 0x22);
	tw_say(t, "alarm set: irq %d", t->g->line_level[8]);
}

static void step_alarm_comes(struct tw *t)
{
	at(t->g, 64 * NS_PER_SEC);
	tw_say(t, "irq %d", t->g->line_level[8]);
	at(t->g, 65 * NS_PER_SEC);
	tw_say(t, "irq %d", t->g->line_level[8]);
}

static void step_alarm_read(struct tw *t)
{
	uint8_t first = get(t->g, 12);

	tw_say(t, "c %02x then %02x, irq %d", first, get(t->g, 12), t->g->line_level[8]);
}

static void step_periodic(struct tw *t)
{
	set(t->g, 10, 0x2f);			/* 2 Hz */
	set(t->g, 11, 0x42);
	get(t->g, 12);
	at(t->g, 65 * NS_PER_SEC + 400 * NS_PER_MS);
	tw_say(t, "irq %d", t->g->line_level[8]);
	at(t->g, 65 * NS_PER_SEC + 510 * NS_PER_MS);
	tw_say(t, "irq %d", t->g->line_level[8]);
}

static void step_periodic_read(struct tw *t)
{
	uint8_t c = get(t->g, 12);

	tw_say(t, "c %02x irq %d", c, t->g->line_level[8]);
	at(t->g, 66 * NS_PER_SEC + 10 * NS_PER_MS);
	c = get(t->g, 12);
	tw_say(t, "c %02x irq %d", c, t->g->line_level[8]);
	set(t->g, 11, 0x02);
}

static void (*const steps[])(struct tw *t) = {
	step_start,	  step_midnight,   step_binary_12, step_alarm,
	step_alarm_comes, step_alarm_read, step_periodic,  step_periodic_read,
};

/* The VM clock is the machine's to save: a loaded device finds it as it was. */
static struct device *make_with_clock(struct guest *g, void *ctx)
{
	return make(g, ctx);
}

TEST(events_in_order)
{
	struct tw t = { .g = chips_guest() };

	t.d = make_with_clock(t.g, NULL);
	t.log = open_memstream(&t.text, &t.len);
	for (unsigned i = 0; i < ARRAY_SIZE(steps); i++)
		steps[i](&t);
	fclose(t.log);
	CHECK(strstr(t.text, "2024-02-29 (5) 23:59:00"));
	CHECK(strstr(t.text, "2024-03-01 (6) 00:00:00 a 26 b 02\nc 70\n"));
	CHECK(strstr(t.text, "1418-03-01 (6) 0c:00:01 a 26 b 04\n"));
	CHECK(strstr(t.text, "1418-03-01 (6) 8c:00:01 a 26 b 04\n"));
	CHECK(strstr(t.text, "1418-03-01 (6) 0c:00:01 a 26 b 06\n"));
	CHECK(strstr(t.text, "alarm set: irq 0\nirq 0\nirq 1\nc f0 then 00, irq 0\n"));
	CHECK(strstr(t.text, "irq 0\nirq 1\nc c0 irq 0\nc d0 irq 0\n"));
}

TEST(saved_and_loaded_at_each_step)
{
	char *straight = NULL;

	for (unsigned k = 0; k <= ARRAY_SIZE(steps); k++) {
		struct tw t = { .g = chips_guest() };
		struct err err = { "" };
		int64_t now;
		size_t len;
		void *blob;

		t.d = make(t.g, NULL);
		t.log = open_memstream(&t.text, &t.len);
		for (unsigned i = 0; i < k; i++)
			steps[i](&t);
		if (k) {
			guest_save(t.d, &blob, &len);
			now = vm_clock_now(t.g->clock);
			t.g = chips_guest();
			vm_clock_set(t.g->clock, now);
			t.d = make(t.g, NULL);
			if (guest_load(t.d, blob, len, &err))
				tap_fail(__FILE__, __LINE__, "%s", err.msg);
		}
		for (unsigned i = k; i < ARRAY_SIZE(steps); i++)
			steps[i](&t);
		fclose(t.log);
		if (!straight)
			straight = t.text;
		else if (strcmp(straight, t.text))
			tap_fail(__FILE__, __LINE__, "after step %u:\n%s---\n%s", k, straight,
				 t.text);
	}
}

TEST(reset_clears_interrupts_and_keeps_time_and_memory)
{
	struct guest *g = chips_guest();
	struct device *d = make(g, NULL);

	set(g, 0x0f, 0xfe);
	set(g, 11, 0x52);
	at(g, 2 * NS_PER_SEC);
	CHECK_EQ(g->line_level[8], 1);
	loop_lock(g->loop);
	d->ops->reset(d);
	loop_unlock(g->loop);
	CHECK_EQ(g->line_level[8], 0);
	CHECK_EQ(get(g, 11), 0x02);
	CHECK_EQ(get(g, 12), 0);
	CHECK_EQ(get(g, 0x0f), 0xfe);
	CHECK_EQ(get(g, 0), 0x02);
	CHECK_EQ(get(g, 13), 0x80);
}

TEST(update_in_progress_warns_before_the_second)
{
	struct guest *g = chips_guest();

	make(g, NULL);
	vm_clock_set(g->clock, NS_PER_SEC - 300000);
	CHECK_EQ(get(g, 10) & 0x80, 0);
	vm_clock_set(g->clock, NS_PER_SEC - 200000);
	CHECK_EQ(get(g, 10) & 0x80, 0x80);
	CHECK_EQ(get(g, 0), 0);
	vm_clock_set(g->clock, NS_PER_SEC);
	CHECK_EQ(get(g, 10) & 0x80, 0);
	CHECK_EQ(get(g, 0), 1);
	/* With SET the fields stand, and nothing is in progress. */
	set(g, 11, 0x82);
	vm_clock_set(g->clock, 2 * NS_PER_SEC - 100000);
	CHECK_EQ(get(g, 10) & 0x80, 0);
	vm_clock_set(g->clock, 5 * NS_PER_SEC);
	CHECK_EQ(get(g, 0), 1);
}

TEST(the_divider_starts_half_a_second_early)
{
	struct guest *g = chips_guest();

	make(g, NULL);
	set(g, 10, 0x70);
	vm_clock_set(g->clock, 10 * NS_PER_SEC);
	CHECK_EQ(get(g, 0), 0);			/* held */
	set(g, 10, 0x26);
	vm_clock_set(g->clock, 10 * NS_PER_SEC + 490 * NS_PER_MS);
	CHECK_EQ(get(g, 0), 0);
	vm_clock_set(g->clock, 10 * NS_PER_SEC + 510 * NS_PER_MS);
	CHECK_EQ(get(g, 0), 1);
}

TEST(memory_size_fields)
{
	struct guest *g = chips_guest();

	make(g, NULL);
	CHECK_EQ(get(g, 0x15) | get(g, 0x16) << 8, 640);
	CHECK_EQ(get(g, 0x30) | get(g, 0x31) << 8, 0xffff);
	CHECK_EQ(get(g, 0x34) | get(g, 0x35) << 8, (3 * GiB - 16 * MiB) / 65536);
	CHECK_EQ(get(g, 0x5b) | get(g, 0x5c) << 8 | get(g, 0x5d) << 16, 5 * GiB / 65536);
}

TEST(local_time)
{
	struct mc146818_opts o = { .base = RTC_LOCALTIME };
	struct guest *g = chips_guest();
	struct err err = { "" };
	time_t now = time(NULL);
	struct tm tm;

	setenv("TZ", "XYZ-7:30", 1);
	tzset();
	CHECK(mc146818_new(g->pio, g->clock, g->loop, &o, &err));
	now += 7 * 3600 + 1800;
	gmtime_r(&now, &tm);
	set(g, 11, 0x06);
	CHECK(abs(get(g, 4) * 60 + get(g, 2) - tm.tm_hour * 60 - tm.tm_min) <= 1);
}

static void note_set(void *ctx, int64_t ahead)
{
	*(int64_t *)ctx = ahead;
}

TEST(setting_the_clock_is_told)
{
	int64_t ahead = -1;
	struct mc146818_opts o = {
		.base = RTC_DATE, .date = START, .set = note_set, .set_ctx = &ahead
	};
	struct guest *g = chips_guest();
	struct err err = { "" };

	CHECK(mc146818_new(g->pio, g->clock, g->loop, &o, &err));
	vm_clock_set(g->clock, 10 * NS_PER_SEC);	/* 23:59:10 */
	set(g, 11, 0x82);
	set(g, 4, 0x22);
	set(g, 2, 0x00);
	CHECK_EQ(ahead, -1);			/* not before SET is let go */
	set(g, 11, 0x02);
	CHECK_EQ(ahead, -2 * 3600 + 60);
	vm_clock_set(g->clock, 20 * NS_PER_SEC);
	set(g, 4, 0x23);			/* a field of the running clock */
	CHECK_EQ(ahead, -3600 + 60);
}

TEST(any_sequence_of_writes_is_survived)
{
	struct guest *g = chips_guest();
	struct device *d = make(g, NULL);
	uint32_t seed = 1;

	for (int i = 0; i < 200000; i++) {
		seed = seed * 1664525 + 1013904223;
		if (i % 1000 == 0)
			vm_clock_set(g->clock, (int64_t)i * 77777777);
		if (seed >> 30)
			set(g, seed >> 8 & 0x3f, (uint8_t)(seed >> 16));
		else
			get(g, seed >> 8 & 0x3f);
		if (i % 5000 == 0) {
			struct err err = { "" };
			size_t len;
			void *blob;

			guest_save(d, &blob, &len);
			if (guest_load(d, blob, len, &err))
				tap_fail(__FILE__, __LINE__, "what was saved is refused: %s",
					 err.msg);
			free(blob);
		}
	}
}

TAP_MAIN
