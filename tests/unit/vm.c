/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests of vmm/wires/vm.c: threads that behave as vCPUs, with a guest that is a flag they look
 * at.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/wires/vm.h"

struct cpu {
	struct vm_runner runner;
	pthread_t thread;
	int kicked, in_guest, entries;
	void (*access)(struct cpu *c);		/* what its guest does each time round */
};

static struct loop *main_loop;
static struct vm_clock *clk;
static struct vm *vm;
static struct cpu cpus[4];

#define LOAD(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define STORE(x, v) __atomic_store_n(&(x), v, __ATOMIC_SEQ_CST)
#define ADD(x, v) __atomic_add_fetch(&(x), v, __ATOMIC_SEQ_CST)

static void kick(struct vm_runner *r)
{
	STORE(container_of(r, struct cpu, runner)->kicked, 1);
}

static void *cpu_thread(void *arg)
{
	struct cpu *c = arg;

	for (;;) {
		STORE(c->kicked, 0);
		if (vm_runner_needed(vm) && !vm_runner_enter(vm, &c->runner))
			break;
		STORE(c->in_guest, 1);
		for (int i = 0; i < 200 && !LOAD(c->kicked); i++)	/* or it exits by itself */
			sched_yield();
		STORE(c->in_guest, 0);
		ADD(c->entries, 1);
		if (c->access)
			c->access(c);
	}
	return NULL;
}

static void setup(void)
{
	main_loop = loop_new("main");
	clk = vm_clock_new();
	vm = vm_new(main_loop, clk);
}

static void start(int n, void (*access)(struct cpu *c))
{
	for (int i = 0; i < n; i++) {
		cpus[i].runner.kick = kick;
		cpus[i].access = access;
		vm_runner_add(vm, &cpus[i].runner);
		pthread_create(&cpus[i].thread, NULL, cpu_thread, &cpus[i]);
	}
}

static void finish(int n)
{
	vm_finish(vm);
	for (int i = 0; i < n; i++) {
		pthread_join(cpus[i].thread, NULL);
		vm_runner_del(vm, &cpus[i].runner);
	}
	vm_free(vm);
	vm_clock_free(clk);
	loop_free(main_loop);
}

static bool anyone_inside(void)
{
	bool inside = false;

	for (int i = 0; i < 4; i++)
		inside |= LOAD(cpus[i].in_guest);
	return inside;
}

static void run_until(int *p, int n)
{
	int64_t end = now_ns() + 20 * NS_PER_SEC;

	while (LOAD(*p) < n && now_ns() < end)
		loop_once(main_loop, 1);
	cr_assert_geq(LOAD(*p), n);
}

/* --- exclusive --- */

static int sections, overlaps;
static void section(void *ctx)
{
	overlaps += anyone_inside();
	overlaps += !loop_is_locked(main_loop);
	ADD(sections, 1);
}

static int asked;
static void ask_sometimes(struct cpu *c)
{
	int before = LOAD(sections);

	if (LOAD(asked) >= 500 || c->entries % 3)
		return;
	ADD(asked, 1);
	vm_exclusive(vm, section, NULL);
	/* alone: not before the access ends */
	if (c == &cpus[0] && LOAD(cpus[1].entries) == 0)
		cr_assert_eq(LOAD(sections), before);
}

Test(vm, exclusive_work_of_one_vcpu_runs_before_it_enters_again, .init = setup)
{
	start(1, ask_sometimes);
	vm_resume(vm, PAUSE_BOOT);
	/* The main loop is not needed for it. */
	for (int64_t end = now_ns() + 20 * NS_PER_SEC; LOAD(sections) < 500 && now_ns() < end;)
		usleep(1000);
	cr_assert_eq(sections, 500);
	cr_assert_eq(overlaps, 0);
	finish(1);
}

Test(vm, exclusive_work_keeps_every_vcpu_out, .init = setup)
{
	start(4, ask_sometimes);
	vm_resume(vm, PAUSE_BOOT);
	run_until(&sections, 500);
	for (int i = 0; i < 50; i++) {
		/* from the main loop's thread: posted */
		vm_exclusive(vm, section, NULL);
		vm_exclusive_sync(vm, section, NULL);
	}
	run_until(&sections, LOAD(asked) + 100);
	cr_assert_eq(overlaps, 0);
	finish(4);
}

static int order[3], norder;
static void first(void *ctx);
static void record(void *ctx)
{
	order[norder++] = (int)(intptr_t)ctx;
}
static void first(void *ctx)
{
	record((void *)1);
	vm_exclusive(vm, record, (void *)3);
}

Test(vm, exclusive_work_runs_in_order_also_what_it_asks_for, .init = setup)
{
	vm_exclusive(vm, first, NULL);
	vm_exclusive(vm, record, (void *)2);
	cr_assert_eq(norder, 0);
	loop_once(main_loop, 0);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(order[i], i + 1);
	finish(0);
}

static struct loop *device_loop;
static int torn;
static void half_done(void *ctx)
{
	int *state = ctx;

	++*state;
	usleep(100);
	++*state;
}
static void look(void *ctx)
{
	torn += *(int *)ctx & 1;
}

Test(vm, exclusive_work_keeps_device_loops_out, .init = setup)
{
	int state = 0;

	device_loop = loop_new("dev");
	vm_add_loop(vm, device_loop);
	loop_thread_start(device_loop);
	for (int i = 0; i < 200; i++) {
		loop_post(device_loop, half_done, &state);
		vm_exclusive_sync(vm, look, &state);
	}
	loop_thread_join(device_loop);
	cr_assert_eq(torn, 0);
	vm_del_loop(vm, device_loop);
	finish(0);
	loop_free(device_loop);
}

/* A vCPU on its way out waits for a device of the main loop, which is waiting for the vCPU. */
static bool served;
static bool is_served(void *ctx)
{
	return served;
}
static void serve(void *ctx)
{
	served = true;
}
static int resets;
static void reset_device(struct cpu *c)
{
	loop_lock(main_loop);
	served = false;
	loop_post(main_loop, serve, NULL);
	loop_wait(main_loop, is_served, NULL);
	loop_unlock(main_loop);
	ADD(resets, 1);
}

Test(vm, waiting_for_vcpus_serves_the_main_loop, .init = setup)
{
	start(2, reset_device);
	vm_resume(vm, PAUSE_BOOT);
	run_until(&resets, 10);
	for (int i = 0; i < 100; i++) {
		vm_pause(vm, PAUSE_USER);
		cr_assert_not(anyone_inside());
		vm_resume(vm, PAUSE_USER);
		vm_exclusive_sync(vm, section, NULL);
		loop_once(main_loop, 1);
	}
	cr_assert_eq(overlaps, 0);
	/* The last access may need the main loop, too. */
	vm_pause(vm, PAUSE_USER);
	finish(2);
}

static void pause_and_resume(void *ctx)
{
	enum pause_reason r = (intptr_t)ctx;

	vm_pause(vm, r);
	cr_assert_not(anyone_inside());
	cr_assert(vm_pause_reasons(vm) & r);
	vm_exclusive_sync(vm, section, NULL);
	vm_resume(vm, r);
	ADD(sections, 1);
}

/* The next callback may run inside the wait of the one before. */
Test(vm, so_does_waiting_inside_a_callback, .init = setup)
{
	start(2, reset_device);
	vm_resume(vm, PAUSE_BOOT);
	run_until(&resets, 10);
	for (int round = 1; round <= 30; round++) {
		for (int i = 0; i < 3; i++)
			loop_post(main_loop, pause_and_resume, (void *)(intptr_t)(PAUSE_USER << i));
		run_until(&sections, round * 6);
	}
	cr_assert_eq(overlaps, 0);
	run_until(&resets, resets + 2);
	vm_pause(vm, PAUSE_USER);
	finish(2);
}

/* --- pause --- */

static char changes[64];
static void note_a(void *ctx, bool running)
{
	strcat(changes, running ? "A" : "a");
}
static void note_b(void *ctx, bool running)
{
	strcat(changes, running ? "B" : "b");
}

Test(vm, the_guest_runs_when_no_reason_is_left, .init = setup)
{
	int64_t t;

	vm_on_change(vm, note_a, NULL);
	vm_on_change(vm, note_b, NULL);
	start(2, NULL);
	usleep(5000);
	cr_assert_not(anyone_inside());
	cr_assert_eq(cpus[0].entries, 0);
	vm_pause(vm, PAUSE_USER);
	vm_resume(vm, PAUSE_BOOT);
	cr_assert_str_eq(changes, "");
	cr_assert_eq(vm_pause_reasons(vm), PAUSE_USER);
	vm_resume(vm, PAUSE_USER);
	cr_assert_str_eq(changes, "AB");
	run_until(&cpus[0].entries, 5);
	run_until(&cpus[1].entries, 5);
	vm_pause(vm, PAUSE_SAVE);
	cr_assert_str_eq(changes, "ABba");
	vm_pause(vm, PAUSE_MIGRATE);
	vm_resume(vm, PAUSE_SAVE);
	cr_assert_str_eq(changes, "ABba");
	cr_assert_not(anyone_inside());
	t = vm_clock_now(clk);
	usleep(3000);
	cr_assert_eq(vm_clock_now(clk), t);
	vm_resume(vm, PAUSE_MIGRATE);
	cr_assert_str_eq(changes, "ABbaAB");
	usleep(1000);
	cr_assert_gt(vm_clock_now(clk), t);
	finish(2);
}

static void pause_from_guest(struct cpu *c)
{
	if (c->entries == 3)
		vm_pause_async(vm, PAUSE_IO_ERROR);
}

Test(vm, a_device_can_ask_for_a_pause, .init = setup)
{
	int entries;

	vm_on_change(vm, note_a, NULL);
	start(1, pause_from_guest);
	vm_resume(vm, PAUSE_BOOT);
	for (int64_t end = now_ns() + 10 * NS_PER_SEC; strcmp(changes, "Aa") && now_ns() < end;)
		loop_once(main_loop, 1);
	cr_assert_str_eq(changes, "Aa");
	/* Not once more into the guest. */
	entries = cpus[0].entries;
	cr_assert_eq(entries, 3);
	vm_resume(vm, PAUSE_IO_ERROR);
	run_until(&cpus[0].entries, 6);
	finish(1);
}

static void pause_again(void *ctx, bool running)
{
	strcat(changes, running ? "A" : "a");
	if (running && strlen(changes) == 1)
		vm_pause(vm, PAUSE_DEBUG);
}

Test(vm, a_callback_may_pause, .init = setup)
{
	vm_on_change(vm, pause_again, NULL);
	start(1, NULL);
	vm_resume(vm, PAUSE_BOOT);
	cr_assert_str_eq(changes, "Aa");
	cr_assert_eq(cpus[0].entries, 0);
	vm_resume(vm, PAUSE_DEBUG);
	cr_assert_str_eq(changes, "AaA");
	finish(1);
}

static void *pauser(void *arg)
{
	enum pause_reason r = (intptr_t)arg;

	for (int i = 0; i < 300; i++) {
		vm_pause(vm, r);
		overlaps += anyone_inside();
		vm_resume(vm, r);
	}
	ADD(sections, 1);
	return NULL;
}

Test(vm, threads_pause_independently, .init = setup)
{
	pthread_t t[3];

	start(2, reset_device);
	vm_resume(vm, PAUSE_BOOT);
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, pauser, (void *)(intptr_t)(PAUSE_USER << i));
	run_until(&sections, 3);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	cr_assert_eq(overlaps, 0);
	cr_assert_eq(vm_pause_reasons(vm), 0);
	run_until(&cpus[0].entries, cpus[0].entries + 3);
	vm_pause(vm, PAUSE_USER);
	finish(2);
}

/* --- requests --- */

static int answers;
static void answer(void *ctx, enum vm_end what, int code)
{
	overlaps += anyone_inside();
	cr_assert(loop_is_locked(main_loop));
	cr_assert_eq(code, answers);
	answers++;
	vm_exclusive_sync(vm, section, NULL);
}

static void ask_reset(struct cpu *c)
{
	static int code;

	if (c->entries % 5 == 0 && code < 50)
		vm_request(vm, VM_END_RESET, code++);
}

Test(vm, a_request_is_answered_before_the_guest_goes_on, .init = setup)
{
	vm_on_request(vm, answer, NULL);
	start(1, ask_reset);
	vm_resume(vm, PAUSE_BOOT);
	run_until(&answers, 50);
	cr_assert_eq(overlaps, 0);
	cr_assert_eq(sections, 50);
	finish(1);
}

Test(vm, a_runner_that_never_started_counts_as_parked, .init = setup)
{
	static struct cpu late;

	late.runner.kick = kick;
	vm_runner_add(vm, &late.runner);
	vm_resume(vm, PAUSE_BOOT);
	cr_assert(vm_runner_needed(vm));	/* it must report before it enters */
	vm_exclusive_sync(vm, section, NULL);
	vm_pause(vm, PAUSE_USER);
	vm_runner_del(vm, &late.runner);
	finish(0);
}
