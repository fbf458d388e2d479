/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mc146818.c: real-time clock and CMOS memory (MC146818A data sheet). Main loop.
 *
 * The time is the VM clock plus an offset, split into fields when it is looked at: an idle clock
 * needs no timer. Events (periodic, alarm, update ended) are likewise worked out from the time that
 * passed since the last look; a timer runs only while one of them can raise the interrupt.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "devices/chips.h"

enum {
	RTC_SECONDS = 0, RTC_SECONDS_ALARM = 1, RTC_MINUTES = 2, RTC_MINUTES_ALARM = 3,
	RTC_HOURS = 4,
	RTC_HOURS_ALARM = 5, RTC_WEEKDAY = 6, RTC_DAY = 7, RTC_MONTH = 8, RTC_YEAR = 9,
	REG_A = 0x0a, REG_B = 0x0b, REG_C = 0x0c, REG_D = 0x0d, RTC_CENTURY = 0x32,
	RTC_PS2_CENTURY = 0x37, CMOS_SIZE = 128,
};
#define A_UIP		0x80
#define A_DV		0x70		/* divider chain */
#define A_DV_RESET	0x60		/* 11x: held in reset */
#define A_RS		0x0f
#define B_SET		0x80
#define B_PIE		0x40
#define B_AIE		0x20
#define B_UIE		0x10
#define B_DM		0x04		/* binary, not BCD */
#define B_24		0x02
#define C_IRQF		0x80
#define C_PF		0x40
#define C_AF		0x20
#define C_UF		0x10
#define D_VRT		0x80
#define ALARM_ANY	0xc0		/* a value with both bits set matches everything */
#define HOUR_PM		0x80

#define RTC_PORT	0x70
#define RTC_HZ		32768
/* UIP is set this long before an update (8 periods of 32768 Hz) */
#define UIP_NS		244140
#define DAY		86400
#define NEVER		INT64_MAX
#define TIME_LIMIT	4500000000ll	/* seconds; twice as many still fit into nanoseconds */

struct mc146818 {
	struct device dev;
	struct bus *pio;
	struct vm_clock *clock;
	struct mc146818_opts o;
	struct loop_timer timer;
	uint8_t cmos[CMOS_SIZE];	/* time fields count only while SET is on */
	uint8_t index;
	int64_t born;			/* VM clock when the machine was made */
	/* ns: time of day = VM clock + offset, since 1970 in the clock's own zone */
	int64_t offset;
	int64_t looked;			/* time of day up to which events have been noticed */
	/* time of day in seconds, NEVER: none; worked out again when it may have changed */
	int64_t next_alarm;
	bool alarm_stale;
};

static int64_t rtc_now(const struct mc146818 *r)
{
	return vm_clock_now(r->clock) + r->offset;
}

static int64_t floor_div(int64_t a, int64_t b)
{
	int64_t q = a / b;

	return a % b < 0 ? q - 1 : q;
}

/* --- fields --- */

static uint8_t encode(const struct mc146818 *r, unsigned v)
{
	return (r->cmos[REG_B] & B_DM) ? v : (v / 10 << 4) | v % 10;
}

static unsigned decode(const struct mc146818 *r, uint8_t v)
{
	return (r->cmos[REG_B] & B_DM) ? v : (v >> 4) * 10u + (v & 15);
}

static uint8_t encode_hour(const struct mc146818 *r, unsigned h)
{
	if (r->cmos[REG_B] & B_24)
		return encode(r, h);
	return encode(r, h % 12 ? h % 12 : 12) | (h >= 12 ? HOUR_PM : 0);
}

static unsigned decode_hour(const struct mc146818 *r, uint8_t v)
{
	if (r->cmos[REG_B] & B_24)
		return decode(r, v);
	return decode(r, v & ~HOUR_PM) % 12 + (v & HOUR_PM ? 12 : 0);
}

static void fields_latch(struct mc146818 *r)
{
	time_t t = (time_t)floor_div(rtc_now(r), NS_PER_SEC);
	struct tm tm;

	if (!gmtime_r(&t, &tm))
		return;
	r->cmos[RTC_SECONDS] = encode(r, tm.tm_sec);
	r->cmos[RTC_MINUTES] = encode(r, tm.tm_min);
	r->cmos[RTC_HOURS] = encode_hour(r, tm.tm_hour);
	r->cmos[RTC_WEEKDAY] = encode(r, tm.tm_wday + 1);
	r->cmos[RTC_DAY] = encode(r, tm.tm_mday);
	r->cmos[RTC_MONTH] = encode(r, tm.tm_mon + 1);
	r->cmos[RTC_YEAR] = encode(r, (unsigned)(tm.tm_year + 1900) % 100);
	r->cmos[RTC_CENTURY] = encode(r, (unsigned)(tm.tm_year + 1900) / 100 % 100);
}

/* What the clock shows when no guest has set it, in seconds. */
static int64_t base_time(const struct mc146818 *r)
{
	time_t t = time(NULL);
	struct tm tm;

	if (r->o.base == RTC_DATE)
		return r->o.date + (vm_clock_now(r->clock) - r->born) / NS_PER_SEC;
	if (r->o.base == RTC_LOCALTIME && localtime_r(&t, &tm))
		return timegm(&tm);
	return t;
}

/*
 * The fields become the time; the fraction of the running second stays. Any byte may stand in them.
 */
static void fields_apply(struct mc146818 *r)
{
	int64_t now = rtc_now(r), fraction = now - floor_div(now, NS_PER_SEC) * NS_PER_SEC;
	struct tm tm = {
		.tm_sec = (int)decode(r, r->cmos[RTC_SECONDS]),
		.tm_min = (int)decode(r, r->cmos[RTC_MINUTES]),
		.tm_hour = (int)decode_hour(r, r->cmos[RTC_HOURS]),
		.tm_mday = (int)decode(r, r->cmos[RTC_DAY]),
		.tm_mon = (int)decode(r, r->cmos[RTC_MONTH]) - 1,
		.tm_year = (int)(decode(r, r->cmos[RTC_CENTURY]) % 100 * 100 +
				 decode(r, r->cmos[RTC_YEAR])) -
			   1900,
	};
	int64_t t = timegm(&tm);

	/*
	 * Times far from any the arithmetic in nanoseconds holds end at its limits (the years 1827
	 * and 2112).
	 */
	t = MAX(MIN(t, TIME_LIMIT), -TIME_LIMIT);
	r->offset = t * NS_PER_SEC + fraction - vm_clock_now(r->clock);
	r->looked = rtc_now(r);
	r->alarm_stale = true;
	if (r->o.set)
		r->o.set(r->o.set_ctx, t - base_time(r));
}

static bool is_time_field(unsigned index)
{
	return index == RTC_SECONDS || index == RTC_MINUTES ||
	       (index >= RTC_HOURS && index <= RTC_YEAR && index != RTC_HOURS_ALARM) ||
	       index == RTC_CENTURY;
}

static bool divider_runs(const struct mc146818 *r)
{
	return (r->cmos[REG_A] & A_DV_RESET) != A_DV_RESET;
}

static bool updates(const struct mc146818 *r)
{
	return !(r->cmos[REG_B] & B_SET) && divider_runs(r);
}

/* --- events --- */

/*
 * Length of the periodic interrupt's period in 32768 Hz ticks; 0: off. Rates 1 and 2 repeat 8 and
 * 9.
 */
static int64_t period_ticks(const struct mc146818 *r)
{
	unsigned rs = r->cmos[REG_A] & A_RS;

	if (!rs || !divider_runs(r))
		return 0;
	return 1ll << (rs <= 2 ? rs + 6 : rs - 1);
}

static int64_t ticks_of(int64_t ns)
{
	int64_t sec = floor_div(ns, NS_PER_SEC);

	return sec * RTC_HZ + (ns - sec * NS_PER_SEC) * RTC_HZ / NS_PER_SEC;
}

static int64_t tick_start(int64_t tick)
{
	int64_t sec = floor_div(tick, RTC_HZ);

	return sec * NS_PER_SEC + ((tick - sec * RTC_HZ) * NS_PER_SEC + RTC_HZ - 1) / RTC_HZ;
}

static int64_t next_period(const struct mc146818 *r, int64_t after)
{
	int64_t period = period_ticks(r);

	return period ? tick_start((floor_div(ticks_of(after), period) + 1) * period) : NEVER;
}

static bool alarm_matches(uint8_t reg, unsigned want, unsigned have)
{
	return (reg & ALARM_ANY) == ALARM_ANY || want == have;
}

/*
 * First second after `after` at which the alarm registers match, or NEVER. At most a day of hours,
 * minutes, seconds.
 */
static int64_t alarm_find(const struct mc146818 *r, int64_t after)
{
	const uint8_t *c = r->cmos;
	unsigned ws = decode(r, c[RTC_SECONDS_ALARM]), wm = decode(r, c[RTC_MINUTES_ALARM]);
	unsigned wh = decode_hour(r, c[RTC_HOURS_ALARM]);
	int64_t t = after + 1;

	while (t <= after + DAY) {
		unsigned s = (unsigned)(t - floor_div(t, DAY) * DAY);

		if (!alarm_matches(c[RTC_HOURS_ALARM], wh, s / 3600))
			t += 3600 - s % 3600;
		else if (!alarm_matches(c[RTC_MINUTES_ALARM], wm, s / 60 % 60))
			t += 60 - s % 60;
		else if (!alarm_matches(c[RTC_SECONDS_ALARM], ws, s % 60))
			t++;
		else
			return t;
	}
	return NEVER;
}

static int64_t alarm_time(struct mc146818 *r)
{
	if (r->alarm_stale) {
		r->next_alarm = alarm_find(r, floor_div(r->looked, NS_PER_SEC));
		r->alarm_stale = false;
	}
	return r->next_alarm;
}

/* Notices what happened since the last look. */
static void events_collect(struct mc146818 *r)
{
	int64_t now = rtc_now(r), second = floor_div(now, NS_PER_SEC);

	if (now <= r->looked)
		return;
	if (next_period(r, r->looked) <= now)
		r->cmos[REG_C] |= C_PF;
	if (updates(r) && floor_div(r->looked, NS_PER_SEC) != second) {
		r->cmos[REG_C] |= C_UF;
		if (alarm_time(r) <= second) {
			r->cmos[REG_C] |= C_AF;
			r->alarm_stale = true;
			if ((r->cmos[REG_B] & B_AIE) && r->o.alarm)
				r->o.alarm(r->o.alarm_ctx);
		}
	}
	r->looked = now;
}

/* Drives the interrupt and waits for the next event that can raise it. */
static void irq_update(struct mc146818 *r)
{
	/* at the same bits as the flags */
	uint8_t enabled = r->cmos[REG_B] & (B_PIE | B_AIE | B_UIE);
	int64_t next = NEVER;

	events_collect(r);
	if (r->cmos[REG_C] & enabled)
		r->cmos[REG_C] |= C_IRQF;
	else
		r->cmos[REG_C] &= ~C_IRQF;
	irq_set(&r->o.irq, (r->cmos[REG_C] & C_IRQF) != 0);
	/*
	 * While the line is up a further event changes nothing until the guest has read register C.
	 */
	if (!(r->cmos[REG_C] & C_IRQF)) {
		if (enabled & B_PIE)
			next = next_period(r, r->looked);
		if ((enabled & B_UIE) && updates(r))
			next = MIN(next, (floor_div(r->looked, NS_PER_SEC) + 1) * NS_PER_SEC);
		if ((enabled & B_AIE) && updates(r) && alarm_time(r) != NEVER)
			next = MIN(next, alarm_time(r) * NS_PER_SEC);
	}
	if (next == NEVER)
		loop_timer_cancel(&r->timer);
	else
		loop_timer_set(&r->timer, next - r->offset);
}

static void timer_expired(void *ctx)
{
	irq_update(ctx);
}

/* --- registers --- */

static uint8_t reg_read(struct mc146818 *r, unsigned index)
{
	int64_t now;
	uint8_t val;

	if (is_time_field(index)) {
		if (updates(r))
			fields_latch(r);
		return r->cmos[index];
	}
	switch (index) {
	case REG_A:
		now = rtc_now(r);
		val = r->cmos[REG_A];
		if (updates(r) && (floor_div(now, NS_PER_SEC) + 1) * NS_PER_SEC - now <= UIP_NS)
			val |= A_UIP;
		return val;
	case REG_C:
		events_collect(r);
		irq_update(r);
		val = r->cmos[REG_C];
		r->cmos[REG_C] = 0;
		irq_update(r);
		return val;
	case REG_D:
		return D_VRT;
	default:
		return r->cmos[index];
	}
}

static void reg_a_write(struct mc146818 *r, uint8_t val)
{
	bool ran = divider_runs(r), ran_updates = updates(r);
	int64_t now;

	if (ran_updates)
		fields_latch(r);	/* a divider in reset holds the time */
	r->cmos[REG_A] = val & ~A_UIP;
	if (ran || !divider_runs(r))
		return;
	/*
	 * The first update comes half a second after the divider is released (data sheet, "divider
	 * control").
	 */
	if (!(r->cmos[REG_B] & B_SET))
		fields_apply(r);
	now = rtc_now(r);
	r->offset += floor_div(now, NS_PER_SEC) * NS_PER_SEC + NS_PER_SEC / 2 - now;
	r->looked = rtc_now(r);
	r->alarm_stale = true;
}

static void reg_b_write(struct mc146818 *r, uint8_t val)
{
	uint8_t old = r->cmos[REG_B];

	if (updates(r))
		fields_latch(r);
	if (val & B_SET)
		val &= ~B_UIE;		/* setting SET clears UIE */
	r->cmos[REG_B] = val;
	if ((old & B_SET) && updates(r))
		fields_apply(r);
	r->alarm_stale = true;
}

static void reg_write(struct mc146818 *r, unsigned index, uint8_t val)
{
	if (index == REG_C || index == REG_D)
		return;
	if (index > REG_D && !is_time_field(index)) {
		r->cmos[index] = val;
		return;
	}
	events_collect(r);
	switch (index) {
	case REG_A:
		reg_a_write(r, val);
		break;
	case REG_B:
		reg_b_write(r, val);
		break;
	case RTC_SECONDS_ALARM:
	case RTC_MINUTES_ALARM:
	case RTC_HOURS_ALARM:
		r->cmos[index] = val;
		r->alarm_stale = true;
		break;
	default:
		if (!updates(r)) {
			r->cmos[index] = val;
			return;
		}
		fields_latch(r);
		r->cmos[index] = val;
		fields_apply(r);
	}
	irq_update(r);
}

static uint64_t rtc_read(void *dev, uint64_t off, unsigned size)
{
	struct mc146818 *r = dev;

	return off == 0 ? 0xff : reg_read(r, r->index);
}

static void rtc_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct mc146818 *r = dev;
	uint8_t index = val & (CMOS_SIZE - 1);	/* bit 7 masks NMI, which nothing here raises */

	if (off == 0)
		/* The PS/2 kept the century elsewhere; the PC shows one at both places. */
		r->index = index == RTC_PS2_CENTURY ? RTC_CENTURY : index;
	else
		reg_write(r, r->index, (uint8_t)val);
}

static const char *rtc_name(void *dev, uint64_t off, bool is_write)
{
	static const char *const names[] = { "SECONDS", "SECONDS_ALARM",
					     "MINUTES", "MINUTES_ALARM",
					     "HOURS",	"HOURS_ALARM",
					     "WEEKDAY", "DAY",
					     "MONTH",	"YEAR",
					     "A",	"B",
					     "C",	"D" };
	const struct mc146818 *r = dev;

	return off == 0 ? "INDEX" : r->index < ARRAY_SIZE(names) ? names[r->index] : "CMOS";
}

static const struct region_ops rtc_ops = {
	.name = "mc146818",
	.read = rtc_read,
	.write = rtc_write,
	.max_width = 1,
	.reg_name = rtc_name,
};

/* --- the device --- */

void mc146818_set_cmos(struct device *d, unsigned index, uint8_t value)
{
	struct mc146818 *r = container_of(d, struct mc146818, dev);

	if (index > REG_D && index < CMOS_SIZE && index != RTC_CENTURY)
		r->cmos[index] = value;
}

int64_t mc146818_alarm_in(struct device *d)
{
	struct mc146818 *r = container_of(d, struct mc146818, dev);

	events_collect(r);
	if (!(r->cmos[REG_B] & B_AIE) || !updates(r))
		return -1;
	if (r->cmos[REG_C] & C_AF)
		return 0;
	return alarm_time(r) == NEVER ? -1 : MAX(alarm_time(r) * NS_PER_SEC - rtc_now(r), 0);
}

void mc146818_advance(struct device *d, int64_t ns)
{
	struct mc146818 *r = container_of(d, struct mc146818, dev);

	if (ns > 0 && ns < DAY * 366 * NS_PER_SEC && updates(r))
		r->offset += ns;
	irq_update(r);
}

static void set_cmos16(struct device *d, unsigned index, uint64_t value)
{
	value = MIN(value, 0xffff);
	mc146818_set_cmos(d, index, value & 0xff);
	mc146818_set_cmos(d, index + 1, value >> 8 & 0xff);
}

void mc146818_set_memory(struct device *d, uint64_t low, uint64_t high)
{
	set_cmos16(d, 0x15, MIN(low / KiB, 640));
	set_cmos16(d, 0x17, low > MiB ? (low - MiB) / KiB : 0);
	set_cmos16(d, 0x30, low > MiB ? (low - MiB) / KiB : 0);
	set_cmos16(d, 0x34, low > 16 * MiB ? (low - 16 * MiB) / (64 * KiB) : 0);
	set_cmos16(d, 0x5b, high / (64 * KiB) & 0xffff);
	mc146818_set_cmos(d, 0x5d, high / (64 * KiB) >> 16 & 0xff);
}

static void mc146818_reset(struct device *d)
{
	struct mc146818 *r = container_of(d, struct mc146818, dev);

	/* RESET# clears the interrupt enables and flags; the battery keeps time and memory. */
	events_collect(r);
	r->index = 0;
	r->cmos[REG_B] &= ~(B_PIE | B_AIE | B_UIE | 0x08);
	r->cmos[REG_C] = 0;
	irq_update(r);
}

static int mc146818_save(struct device *d, struct state_out *o)
{
	struct mc146818 *r = container_of(d, struct mc146818, dev);

	irq_update(r);
	if (updates(r))
		fields_latch(r);
	state_bytes(o, "cmos", r->cmos, sizeof(r->cmos));
	state_u8(o, "index", r->index);
	state_u64(o, "offset", (uint64_t)r->offset);
	state_u64(o, "looked", (uint64_t)r->looked);
	return 0;
}

static int mc146818_load(struct device *d, struct state_in *in, uint32_t version)
{
	struct mc146818 *r = container_of(d, struct mc146818, dev);
	const int64_t limit = INT64_MAX / 2;
	uint64_t offset, looked;
	uint8_t cmos[CMOS_SIZE], index;

	state_get_bytes(in, "cmos", cmos, sizeof(cmos));
	state_get_u8(in, "index", &index);
	state_get_u64(in, "offset", &offset);
	state_get_u64(in, "looked", &looked);
	if (state_in_error(in))
		return state_in_error(in);
	if (index >= CMOS_SIZE || (cmos[REG_A] & A_UIP))
		return state_bad(in, "index %u or register A 0x%x", index, cmos[REG_A]);
	/* Half the range, so that sums with the VM clock cannot overflow. */
	if ((int64_t)offset > limit || (int64_t)offset < -limit || (int64_t)looked > limit ||
	    (int64_t)looked < -limit)
		return state_bad(in, "a time beyond the year 2112 or before 1827");
	memcpy(r->cmos, cmos, sizeof(cmos));
	r->index = index;
	r->offset = (int64_t)offset;
	r->looked = (int64_t)looked;
	r->alarm_stale = true;
	irq_update(r);
	return 0;
}

static void mc146818_destroy(struct device *d)
{
	struct mc146818 *r = container_of(d, struct mc146818, dev);

	loop_timer_cancel(&r->timer);
	bus_del(r->pio, RTC_PORT, &rtc_ops, r);
	free(r);
}

static const struct device_ops mc146818_device = {
	.name = "mc146818",
	.version = 1,
	.reset = mc146818_reset,
	.save = mc146818_save,
	.load = mc146818_load,
	.destroy = mc146818_destroy,
};

struct device *mc146818_new(struct bus *pio, struct vm_clock *clock, struct loop *loop,
			    const struct mc146818_opts *o, struct err *err)
{
	struct mc146818 *r = xcalloc(1, sizeof(*r));
	int ret;

	r->pio = pio;
	r->clock = clock;
	r->o = *o;
	r->cmos[REG_A] = 0x26;		/* 32768 Hz, 1024 Hz: what firmware sets */
	r->cmos[REG_B] = B_24;
	r->born = vm_clock_now(clock);
	r->offset = base_time(r) * NS_PER_SEC - vm_clock_now(clock);
	r->looked = rtc_now(r);
	r->alarm_stale = true;
	loop_timer_init(&r->timer, loop, clock, timer_expired, r);
	device_init(&r->dev, &mc146818_device, "rtc", loop);
	ret = bus_add(pio, RTC_PORT, 2, &rtc_ops, r, loop, "rtc", 0);
	if (ret < 0) {
		err_set(err, -ret, "the clock cannot have ports 0x70 and 0x71: %s", strerror(-ret));
		free(r->dev.id);
		free(r);
		return NULL;
	}
	return &r->dev;
}
