/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command_step.c: step and exits: the stopped machine runs to a vCPU's next exit to this program,
 * stops again, and the exit is told. A control thread waits; the vCPU's thread tells
 * (vcpu.on_exit).
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "vmm/control/command.h"
#include "vmm/kvm/coalesce.h"
#include "vmm/kvm/exit_trace.h"
#include "vmm/machine/drives.h"

#define STEP_SECONDS 3
#define STEP_MAX 10000
#define SLICE_NS (50 * NS_PER_MS)

static struct {
	pthread_mutex_t lock;		/* one step at a time: `turn`; this one guards the rest */
	pthread_mutex_t turn;
	pthread_cond_t came;
	bool waiting;
	char text[256];
	struct machine *m;
} step = { .lock = PTHREAD_MUTEX_INITIALIZER,
	   .turn = PTHREAD_MUTEX_INITIALIZER,
	   .came = PTHREAD_COND_INITIALIZER };

/* On the vCPU's thread. Only the first exit counts: others that were under way stop too. */
static void on_exit_step(void *ctx, struct vcpu *v)
{
	pthread_mutex_lock(&step.lock);
	if (step.waiting) {
		exit_describe(v, step.text, sizeof(step.text));
		step.waiting = false;
		vm_pause_async(step.m->vm, PAUSE_USER);
		pthread_cond_signal(&step.came);
	}
	pthread_mutex_unlock(&step.lock);
}

/* No vCPU runs when it is set or taken away. */
static void hook(struct machine *m, void (*fn)(void *ctx, struct vcpu *v))
{
	for (unsigned i = 0; i < m->nvcpus; i++)
		m->vcpus[i]->on_exit = fn;
}

/* One exit; its line goes to out. 0, or -ETIMEDOUT: the guest did not leave, and runs no more. */
static int step_once(struct machine *m, FILE *out)
{
	int64_t deadline = now_ns() + STEP_SECONDS * NS_PER_SEC;
	struct timespec until;
	int ret = 0;

	pthread_mutex_lock(&step.lock);
	step.waiting = true;
	pthread_mutex_unlock(&step.lock);
	vm_resume(m->vm, PAUSE_USER);
	pthread_mutex_lock(&step.lock);
	/* In slices: a machine that ends does not say so here. */
	while (step.waiting && ret == 0 && !__atomic_load_n(&m->ended, __ATOMIC_RELAXED)) {
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += SLICE_NS;
		until.tv_sec += until.tv_nsec / NS_PER_SEC;
		until.tv_nsec %= NS_PER_SEC;
		if (pthread_cond_timedwait(&step.came, &step.lock, &until) && now_ns() > deadline)
			ret = -ETIMEDOUT;
	}
	if (!step.waiting)
		fprintf(out, "%s\n", step.text);
	step.waiting = false;
	pthread_mutex_unlock(&step.lock);
	vm_pause(m->vm, PAUSE_USER);
	return ret;
}

static int run_steps(struct machine *m, unsigned n, FILE *out, struct command_result *r)
{
	struct err ignored = { "" };
	int ret = machine_take_disks(m, &r->err);

	if (ret < 0)
		return ret;
	pthread_mutex_lock(&step.turn);
	step.m = m;
	vm_pause(m->vm, PAUSE_USER);
	loop_lock(m->loop);
	coalesce_stop(m->wires.coalesce);	/* each access is to be an exit */
	loop_unlock(m->loop);
	coalesce_drain(m->wires.coalesce);
	exit_trace_init(m->config->kernel, &ignored);	/* without names it works too */
	hook(m, on_exit_step);
	while (n-- && ret == 0 && !m->ended)
		ret = step_once(m, out);
	hook(m, NULL);
	pthread_mutex_unlock(&step.turn);
	if (m->ended)
		fprintf(out, "the machine has ended\n");
	else if (ret < 0)
		fprintf(out,
			"no exit within %d seconds: the guest computes, or waits in hlt inside "
			"KVM; it is stopped again\n",
			STEP_SECONDS);
	return 0;
}

static int run_exits(struct machine *m, json_t *args, struct command_result *r)
{
	json_t *count = json_object_get(args, "count");
	json_int_t n = count ? json_integer_value(count) : 10;
	char *text = NULL;
	size_t len;
	FILE *out;
	int ret;

	if (n < 1 || n > STEP_MAX)
		return err_set(&r->err, EINVAL, "1 to %d exits", STEP_MAX);
	out = open_memstream(&text, &len);
	ret = run_steps(m, (unsigned)n, out, r);
	fclose(out);
	if (len && text[len - 1] == '\n')
		text[len - 1] = 0;
	r->value = ret ? NULL : json_string(text);
	free(text);
	return ret;
}

static int run_step(struct machine *m, json_t *args, struct command_result *r)
{
	json_object_set_new(args, "count", json_integer(1));
	return run_exits(m, args, r);
}

const struct command commands_step[] = {
	{ NULL,
	  "step",
	  "run to the next exit of a processor, and stop",
	  run_step,
	  NULL,
	  COMMAND_SLOW,
	  { { 0 } } },
	{ NULL,
	  "exits",
	  "run so many exits (10), a line for each, and stop",
	  run_exits,
	  NULL,
	  COMMAND_SLOW,
	  { { "count", ARG_INT, true } } },
	{ 0 },
};
