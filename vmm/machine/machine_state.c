/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * machine_state.c: a machine's registers to and from a tree. The tree:
 *
 *   format, program
 *   config/    what must be the same on both sides: type, memory, processors, devices
 *   clock/     the VM clock and kvmclock
 *   disks/     what identifies what the disks held (machine_disks.c): of what is kept, a
 *              file or a stream that goes one way
 *   memory/    a node for each block; its contents lie elsewhere
 *   devices/   a node for each device, in wiring order
 *   chips/     in-kernel PIC, IOAPIC, PIT
 *   cpus/      cpu@0 ...
 *
 * Loading goes in this order: the devices drive their interrupt lines into chips that are still in
 * reset, and then the chips and processors get the state they had, whatever that did to them.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "vmm/base/log.h"
#include "vmm/machine/drives.h"
#include "vmm/machine/machine_disks.h"
#include "vmm/machine/machine_state.h"

#define STATE_FORMAT 1
#define QUIESCE_SECONDS 30

/* --- quiesce --- */

struct quiesce {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	unsigned pending;
	bool abandoned;		/* the deadline passed: the last one frees this */
	struct loop *main;
};

static void quiesce_free(struct quiesce *q)
{
	pthread_cond_destroy(&q->cond);
	pthread_mutex_destroy(&q->mutex);
	free(q);
}

static void quiesce_done(void *ctx)
{
	struct quiesce *q = ctx;
	bool last;

	pthread_mutex_lock(&q->mutex);
	last = --q->pending == 0 && q->abandoned;
	pthread_cond_broadcast(&q->cond);
	loop_wake(q->main);
	pthread_mutex_unlock(&q->mutex);
	if (last)
		quiesce_free(q);
}

static bool quiesce_over(void *ctx)
{
	struct quiesce *q = ctx;
	bool over;

	pthread_mutex_lock(&q->mutex);
	over = q->pending == 1;		/* ours */
	pthread_mutex_unlock(&q->mutex);
	return over;
}

static bool quiesce_wait(struct quiesce *q)
{
	struct timespec end;
	int ret = 0;

	if (loop_is_current(q->main) || loop_is_locked(q->main)) {
		loop_lock(q->main);
		loop_wait(q->main, quiesce_over, q);
		loop_unlock(q->main);
		return true;
	}
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += QUIESCE_SECONDS;
	pthread_mutex_lock(&q->mutex);
	while (q->pending > 1 && ret == 0)
		ret = pthread_cond_timedwait(&q->cond, &q->mutex, &end);
	ret = q->pending > 1;
	pthread_mutex_unlock(&q->mutex);
	return !ret;
}

/*
 * No device (or only this one) has a request under way any more; those that an I/O error stopped
 * are held.
 */
static int quiesce_devices(struct machine *m, const struct device *only, struct err *err)
{
	struct quiesce *q = xcalloc(1, sizeof(*q));
	bool over;

	pthread_mutex_init(&q->mutex, NULL);
	pthread_cond_init(&q->cond, NULL);
	q->pending = 1;
	q->main = m->loop;
	for (unsigned i = 0; i < m->ndevices; i++) {
		struct device *d = m->devices[i].dev;

		if (!d->ops->quiesce || (only && d != only))
			continue;
		pthread_mutex_lock(&q->mutex);
		q->pending++;
		pthread_mutex_unlock(&q->mutex);
		loop_lock(d->loop);
		d->ops->quiesce(d, quiesce_done, q);
		loop_unlock(d->loop);
	}
	over = quiesce_wait(q);
	pthread_mutex_lock(&q->mutex);
	q->abandoned = !over;
	over = --q->pending == 0;
	pthread_mutex_unlock(&q->mutex);
	if (over)
		quiesce_free(q);
	return over ? 0
		    : err_set(err, ETIMEDOUT,
			      "requests to a disk have not ended for %d seconds; is its storage "
			      "there?",
			      QUIESCE_SECONDS);
}

int machine_quiesce_device(struct machine *m, struct device *d, struct err *err)
{
	int ret = quiesce_devices(m, d, err);

	if (ret < 0 && d->ops->resume) {
		loop_lock(d->loop);
		d->ops->resume(d);
		loop_unlock(d->loop);
	}
	return ret;
}

int machine_quiesce(struct machine *m, struct err *err)
{
	int ret = quiesce_devices(m, NULL, err);

	for (struct machine_drive *d = NULL; ret == 0 && (d = machine_next_writable(m, d));) {
		ret = blk_flush(d->blk);
		if (ret < 0)
			err_set(err, -ret, "%s: flush: %s", blk_filename(d->blk), strerror(-ret));
	}
	if (ret < 0)
		machine_unquiesce(m);
	return ret;
}

void machine_unquiesce(struct machine *m)
{
	for (unsigned i = 0; i < m->ndevices; i++) {
		struct device *d = m->devices[i].dev;

		if (!d->ops->resume)
			continue;
		loop_lock(d->loop);
		d->ops->resume(d);
		loop_unlock(d->loop);
	}
}

int machine_retry_io(struct machine *m, struct err *err)
{
	int ret = quiesce_devices(m, NULL, err);

	machine_unquiesce(m);
	return ret;
}

/* --- what must be the same --- */

static const char *type_name(const struct machine *m, char *buf, size_t len)
{
	snprintf(buf, len, "%s-%u", m->config->machine == MACHINE_PC ? "pc" : "micro",
		 m->config->version);
	return buf;
}

void machine_describe(struct machine *m, struct state_out *o)
{
	char text[80];

	state_str(o, "type", type_name(m, text, sizeof(text)));
	state_u64(o, "ram", m->config->ram);
	state_u32(o, "cpus", m->nvcpus);
	state_str(o, "cpu-model", m->config->cpu ? m->config->cpu : "host");
	state_bytes(o, "uuid", m->config->uuid, sizeof(m->config->uuid));
	state_u32(o, "devices", m->ndevices);
	for (unsigned i = 0; i < m->ndevices; i++) {
		snprintf(text, sizeof(text), "device%u", i);
		state_str(o, text, m->devices[i].dev->id);
		snprintf(text, sizeof(text), "kind%u", i);
		state_str(o, text, m->devices[i].dev->ops->name);
	}
}

static int compare_str(struct state_in *in, const char *prop, const char *mine, const char *what)
{
	const char *s;

	if (state_get_str(in, prop, &s) < 0)
		return -EINVAL;
	return strcmp(s, mine)
		       ? state_bad(in, "the saved machine has %s %s, this one %s", what, s, mine)
		       : 0;
}

static void compare_device(struct machine *m, struct state_in *in, unsigned i)
{
	char text[80];
	const char *id;

	snprintf(text, sizeof(text), "device%u", i);
	if (state_get_str(in, text, &id) < 0)
		return;
	snprintf(text, sizeof(text), "kind%u", i);
	for (unsigned k = 0; k < m->ndevices; k++)
		if (!strcmp(m->devices[k].dev->id, id)) {
			compare_str(in, text, m->devices[k].dev->ops->name, "device");
			return;
		}
	state_bad(in, "the saved machine has device %s, this one has none of that name", id);
}

int machine_compare(struct machine *m, struct state_in *in)
{
	char text[80];
	uint8_t uuid[16];
	uint64_t ram;
	uint32_t n;

	compare_str(in, "type", type_name(m, text, sizeof(text)), "type");
	if (state_get_u64(in, "ram", &ram) == 0 && ram != m->config->ram)
		state_bad(in, "the saved machine has %llu MiB of memory, this one %llu (-m)",
			  ram / MiB, m->config->ram / MiB);
	if (state_get_u32(in, "cpus", &n) == 0 && n != m->nvcpus)
		state_bad(in, "the saved machine has %u processors, this one %u (-smp)", n,
			  m->nvcpus);
	compare_str(in, "cpu-model", m->config->cpu ? m->config->cpu : "host", "processor model");
	/* a copy of a machine may have another */
	state_get_bytes(in, "uuid", uuid, sizeof(uuid));
	if (state_get_u32(in, "devices", &n) < 0)
		return -EINVAL;
	/*
	 * In any order: what was plugged in later comes last there, and here where the command line
	 * has it.
	 */
	for (unsigned i = 0; i < n && !state_in_error(in); i++)
		compare_device(m, in, i);
	if (n != m->ndevices && !state_in_error(in))
		state_bad(in, "the saved machine has %u devices, this one %u", n, m->ndevices);
	return state_in_error(in);
}

/* --- saving --- */

struct save {
	struct machine *m;
	struct state_out *o;
	void (*memory)(void *ctx, struct block *b, struct state_out *o);
	void *ctx;
	struct machine_disks *disks;	/* NULL: are not told */
	struct err *err;
	int ret;
};

static void save_config(struct save *s)
{
	struct machine *m = s->m;
	struct block *b = NULL;

	state_u32(s->o, "format", STATE_FORMAT);
	state_str(s->o, "program", "minivmm " MINIVMM_VERSION);
	state_begin(s->o, "config");
	machine_describe(m, s->o);
	state_end(s->o);
	state_begin(s->o, "clock");
	state_u64(s->o, "vm-clock", vm_clock_now(m->clock));
	state_u64(s->o, "kvmclock", m->paused.clock_ns);
	state_u64(s->o, "saved-at", time(NULL));
	state_end(s->o);
	if (s->disks)
		machine_disks_save(s->disks, s->o);
	state_begin(s->o, "memory");
	while ((b = block_next(m->mem, b))) {
		state_begin(s->o, block_id(b));
		state_u64(s->o, "size", block_size(b));
		if (s->memory)
			s->memory(s->ctx, b, s->o);
		state_end(s->o);
	}
	state_end(s->o);
}

/* Exclusive section: every lock is held, so the tree is one instant of the machine. */
static void save_all(void *ctx)
{
	struct save *s = ctx;
	struct machine *m = s->m;
	uint64_t tsc = m->nvcpus ? vcpu_tsc(m->vcpus[0], &m->paused) : 0;
	char name[16];

	save_config(s);
	state_begin(s->o, "devices");
	for (unsigned i = 0; i < m->ndevices && s->ret == 0; i++) {
		s->ret = device_save(m->devices[i].dev, s->o);
		if (s->ret < 0)
			err_set(s->err, -s->ret, "%s cannot be saved: %s", m->devices[i].dev->id,
				strerror(-s->ret));
	}
	state_end(s->o);
	if (s->ret < 0)
		return;
	state_begin(s->o, "chips");
	s->ret = kvm_chips_save(m->kvm, s->o);
	if (s->ret < 0)
		err_set(s->err, -s->ret, "KVM's interrupt chips cannot be saved: %s",
			strerror(-s->ret));
	state_end(s->o);
	state_begin(s->o, "cpus");
	for (unsigned i = 0; i < m->nvcpus && s->ret == 0; i++) {
		snprintf(name, sizeof(name), "cpu@%u", i);
		state_begin(s->o, name);
		s->ret = vcpu_save(m->vcpus[i], s->o, tsc);
		if (s->ret < 0)
			err_set(s->err, -s->ret, "vCPU %u cannot be saved: %s", i,
				strerror(-s->ret));
		state_end(s->o);
	}
	state_end(s->o);
}

int machine_save(struct machine *m, void (*memory)(void *ctx, struct block *b, struct state_out *o),
		 void *ctx, bool disks, void **blob, size_t *len, struct err *err)
{
	struct save s = { m, state_out_new(), memory, ctx, disks ? machine_disks_get(m) : NULL,
			  err, 0 };
	int ret;

	vm_exclusive_sync(m->vm, save_all, &s);
	machine_disks_free(s.disks);
	ret = state_out_finish(s.o, blob, len);
	if (s.ret < 0) {
		free(*blob);
		*blob = NULL;
		return s.ret;
	}
	return ret < 0 ? err_set(err, -ret, "the machine's state: %s", strerror(-ret)) : 0;
}

/* --- loading --- */

struct load {
	struct machine *m;
	struct state_in *in;
	int (*memory)(void *ctx, struct block *b, struct state_in *in);
	void *ctx;
};

static void load_memory(struct load *l)
{
	struct block *b = NULL;
	uint64_t size;

	if (state_enter(l->in, "memory") < 0)
		return;
	while ((b = block_next(l->m->mem, b)) && !state_in_error(l->in)) {
		if (state_enter(l->in, block_id(b)) < 0)
			break;
		if (state_get_u64(l->in, "size", &size) == 0 && size != block_size(b))
			state_bad(l->in, "saved with %llu bytes, here are %llu",
				  (unsigned long long)size, (unsigned long long)block_size(b));
		if (l->memory && !state_in_error(l->in))
			l->memory(l->ctx, b, l->in);
		state_leave(l->in);
	}
	state_leave(l->in);
}

static void load_clock(struct load *l)
{
	uint64_t vm_ns, kvm_ns, when;

	if (state_enter(l->in, "clock") < 0)
		return;
	state_get_u64(l->in, "vm-clock", &vm_ns);
	state_get_u64(l->in, "kvmclock", &kvm_ns);
	state_get_u64(l->in, "saved-at", &when);
	state_leave(l->in);
	if (state_in_error(l->in))
		return;
	if (vm_ns > INT64_MAX / 4) {
		state_bad(l->in, "clock: impossible time");
		return;
	}
	vm_clock_set(l->m->clock, vm_ns);
	l->m->paused = (struct kvm_moment){ .clock_ns = kvm_ns };
}

static void load_devices(struct load *l)
{
	if (state_enter(l->in, "devices") < 0)
		return;
	for (unsigned i = 0; i < l->m->ndevices && !state_in_error(l->in); i++)
		if (device_load(l->m->devices[i].dev, l->in) < 0 && !state_in_error(l->in))
			state_bad(l->in, "%s refuses its state", l->m->devices[i].dev->id);
	state_leave(l->in);
}

static void load_cpus(struct load *l)
{
	char name[16];

	if (state_enter(l->in, "cpus") < 0)
		return;
	for (unsigned i = 0; i < l->m->nvcpus && !state_in_error(l->in); i++) {
		snprintf(name, sizeof(name), "cpu@%u", i);
		if (state_enter(l->in, name) < 0)
			break;
		if (vcpu_load(l->m->vcpus[i], l->in) < 0 && !state_in_error(l->in))
			state_bad(l->in, "KVM refuses it");
		state_leave(l->in);
	}
	if (l->m->nvcpus && !state_in_error(l->in))
		l->m->paused.host_tsc = vcpu_tsc_moment(l->m->vcpus[0], l->m->vcpus[0]->loaded_tsc);
	state_leave(l->in);
}

static void load_all(void *ctx)
{
	struct load *l = ctx;
	const char *program;
	uint32_t format;

	if (state_get_u32(l->in, "format", &format) == 0 && format != STATE_FORMAT) {
		state_bad(l->in, "format %u; this program knows %u", format, STATE_FORMAT);
		return;
	}
	state_get_str(l->in, "program", &program);
	if (state_enter(l->in, "config") < 0 || machine_compare(l->m, l->in) < 0)
		return;
	state_leave(l->in);
	machine_disks_check(l->m, l->in, l->m->config->strict);
	if (!state_in_error(l->in))
		load_memory(l);
	if (!state_in_error(l->in))
		load_clock(l);
	if (!state_in_error(l->in))
		load_devices(l);
	if (!state_in_error(l->in) && state_enter(l->in, "chips") == 0) {
		if (kvm_chips_load(l->m->kvm, l->in) < 0 && !state_in_error(l->in))
			state_bad(l->in, "chips: KVM refuses them");
		state_leave(l->in);
	}
	if (!state_in_error(l->in))
		load_cpus(l);
}

int machine_load(struct machine *m, const void *blob, size_t len,
		 int (*memory)(void *ctx, struct block *b, struct state_in *in), void *ctx,
		 struct err *err)
{
	struct load l = { m, state_in_new(blob, len, err), memory, ctx };

	if (!l.in)
		return -EINVAL;
	vm_exclusive_sync(m->vm, load_all, &l);
	return state_in_finish(l.in, err);
}
