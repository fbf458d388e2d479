/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sleep.c: S3. The guest's RAM stays, everything else loses power: asleep, the machine is paused
 * for PAUSE_SUSPEND; waking up is a reset after which firmware (bios/ where -kernel took its place)
 * finds the shutdown code 0xfe in CMOS and jumps to the guest's waking vector. The power button,
 * the RTC's alarm and system_wakeup wake it. Main loop.
 */
#include "devices/chips.h"
#include "vmm/base/event.h"
#include "vmm/base/log.h"
#include "vmm/machine/machine.h"

#define CMOS_SHUTDOWN	0x0f
#define SHUTDOWN_S3	0xfe

static void wake(void *ctx)
{
	struct machine *m = ctx;
	struct err err = { "" };
	int ret;

	if (!(vm_pause_reasons(m->vm) & PAUSE_SUSPEND))
		return;
	/* the guest asked for it a moment ago: now it really stands */
	vm_pause(m->vm, PAUSE_SUSPEND);
	mc146818_set_cmos(m->rtc, CMOS_SHUTDOWN, SHUTDOWN_S3);
	m->waking = true;
	ret = machine_reset(m, &err);
	m->waking = false;
	if (ret < 0) {
		log_error("the machine cannot wake up: %s", err.msg);
		vm_request(m->vm, VM_END_QUIT, 1);
		return;
	}
	mc146818_advance(m->rtc, now_ns() - m->asleep_since);
	piix4_pm_woken(m->pm, (enum pm_wake)m->wake_reason);
	event_emit("WAKEUP", NULL);
	vm_resume(m->vm, PAUSE_SUSPEND);
}

bool machine_wakeup(struct machine *m, int reason)
{
	if (!(vm_pause_reasons(m->vm) & PAUSE_SUSPEND))
		return false;
	m->wake_reason = reason;
	loop_timer_set(&m->wake_timer, now_ns());
	return true;
}

void machine_suspend(void *ctx)
{
	struct machine *m = ctx;
	int64_t alarm = mc146818_alarm_in(m->rtc);

	m->asleep_since = now_ns();
	vm_pause_async(m->vm, PAUSE_SUSPEND);
	event_emit("SUSPEND", NULL);
	log_info("the guest sleeps (S3); the power button or system_wakeup wakes it");
	if (alarm >= 0) {
		m->wake_reason = PM_WAKE_RTC;
		loop_timer_set(&m->wake_timer, m->asleep_since + alarm);
	}
}

void machine_sleep_init(struct machine *m)
{
	loop_timer_init(&m->wake_timer, m->loop, NULL, wake, m);
}
