/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vm.h: running, pausing, exclusive sections and reset, for whoever needs them but must not know
 * the machine. KVM-free: vCPUs register as "runners" with a way to kick them.
 */
#ifndef VMM_WIRES_VM_H
#define VMM_WIRES_VM_H

#include "vmm/base/loop.h"
#include "vmm/base/util.h"

struct vm;

/* Running is a set of reasons not to: the guest runs when the set is empty. */
enum pause_reason {
	PAUSE_BOOT = 1 << 0,		/* not started yet */
	PAUSE_USER = 1 << 1,		/* stop / -S */
	PAUSE_SAVE = 1 << 2,
	PAUSE_MIGRATE = 1 << 3,
	PAUSE_DEBUG = 1 << 4,
	PAUSE_IO_ERROR = 1 << 5,
	PAUSE_EXIT = 1 << 6,		/* shutting down */
	PAUSE_PANIC = 1 << 7,		/* guest panicked */
	PAUSE_SUSPEND = 1 << 8,		/* S3 */
};

struct vm *vm_new(struct loop *main_loop, struct vm_clock *clock);
void vm_free(struct vm *v);
struct vm_clock *vm_get_clock(struct vm *v);
/*
 * A loop whose callbacks exclusive sections must keep out. Before it runs; main loop's lock, not in
 * an exclusive section.
 */
void vm_add_loop(struct vm *v, struct loop *l);
void vm_del_loop(struct vm *v, struct loop *l);

/* --- runners: the vCPU threads --- */
struct vm_runner {
	/* leave KVM_RUN soon: immediate_exit + signal; any thread, no lock held by callee */
	void (*kick)(struct vm_runner *r);
	/* private */
	struct vm *vm;
	struct vm_runner *next;
	bool parked, fresh;
};
/* before its thread runs guest code; counts as parked until it enters */
void vm_runner_add(struct vm *v, struct vm_runner *r);
void vm_runner_del(struct vm *v, struct vm_runner *r);
/*
 * The vCPU thread calls this before each entry into the guest, no lock held: runs exclusive work
 * this thread's last access asked for, sleeps while parked or paused. Returns false when the
 * machine ends (vm_finish).
 */
bool vm_runner_enter(struct vm *v, struct vm_runner *r);
/*
 * The machine ends: every runner leaves the guest and vm_runner_enter returns false from now on.
 * Any thread.
 */
void vm_finish(struct vm *v);
/* True when vm_runner_enter would do something: a cheap test between exits. */
bool vm_runner_needed(struct vm *v);

/* --- exclusive section --- */
/*
 * Have fn(ctx) run with every vCPU out of the guest and every loop's lock held. Any thread, any
 * lock may be held by the caller: it runs soon AFTER the caller's bus access or loop callback has
 * returned (on that thread) and before a calling vCPU enters the guest again; from another thread
 * it is posted to the main loop. Calls run in order. fn must not block and must not call loop_wait.
 */
void vm_exclusive(struct vm *v, void (*fn)(void *ctx), void *ctx);
/*
 * The same, at once: returns after fn ran. For the main loop and for threads that hold no lock
 * (control threads, tests, start-up), not for vCPUs. Inside an exclusive section it just calls fn.
 */
void vm_exclusive_sync(struct vm *v, void (*fn)(void *ctx), void *ctx);

/* --- pause and resume --- */
/*
 * Main loop (also in a callback: it then serves its other events while it waits) or a control
 * thread that holds no lock. Returns when every vCPU is parked and the VM clock stands; resume when
 * the guest may run again. Not on a vCPU's thread.
 */
void vm_pause(struct vm *v, enum pause_reason r);
/* From a vCPU access or any callback: asks for it; takes effect after the access returns. */
void vm_pause_async(struct vm *v, enum pause_reason r);
void vm_resume(struct vm *v, enum pause_reason r);
unsigned vm_pause_reasons(struct vm *v);
/*
 * Called at each change between running and paused, vCPUs parked, on the thread that changed it.
 * For kvmclock (KVM_GET_CLOCK / SET_CLOCK), devices (quiesce, resume) and QMP events. Order:
 * registration when resuming, reverse when pausing. Called with no lock but perhaps the main
 * loop's: takes those it needs.
 */
void vm_on_change(struct vm *v, void (*fn)(void *ctx, bool running), void *ctx);

/* --- reset and end --- */
enum vm_end { VM_END_NONE, VM_END_POWEROFF, VM_END_RESET, VM_END_TRIPLE_FAULT, VM_END_EXIT_CODE,
              VM_END_PANIC,
	      VM_END_KVM_ERROR, VM_END_SIGNAL, VM_END_QUIT, VM_END_TIMEOUT, VM_END_HANG };
/*
 * A device asks: the main loop carries it out with all parked (machine.c registers the handler,
 * which may loop_wait and vm_exclusive_sync). No vCPU enters the guest before it is answered. Any
 * thread, any lock; in order.
 */
void vm_request(struct vm *v, enum vm_end what, int code);
void vm_on_request(struct vm *v, void (*fn)(void *ctx, enum vm_end what, int code), void *ctx);

#endif
