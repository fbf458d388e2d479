/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loop.h: an epoll loop with timers and posted calls; one thread runs it.
 *
 * A loop has a lock. It is held while any callback of the loop runs, by the bus while a vCPU's
 * access is in a device of that loop, and by an exclusive section. So what belongs to one loop
 * needs no lock of its own. The order of locks: main loop, device loop, image, leaf locks.
 * Never held across KVM_RUN or blocking I/O.
 */
#ifndef VMM_BASE_LOOP_H
#define VMM_BASE_LOOP_H

#include <sys/epoll.h>

#include "vmm/base/util.h"

struct loop;

/* A loop that no thread runs yet. name is for messages and the thread's name; copied. */
struct loop *loop_new(const char *name);
/* Only when no thread runs it and every fd and timer has been removed. */
void loop_free(struct loop *l);
/* Runs callbacks on the calling thread until loop_stop. */
void loop_run(struct loop *l);
/* Makes loop_run return after the current callback. Any thread, also from a callback. */
void loop_stop(struct loop *l);
/* Starts a thread that runs the loop / stops and joins it. 0 or -errno. */
int loop_thread_start(struct loop *l);
/* gettid() of that thread; 0: it has not begun. Any thread. */
int loop_thread_id(struct loop *l);
/*
 * Before its thread starts: what the loop is woken for comes in bursts, as packets do. A thread
 * that wakes preempts the vCPU it shares a processor with at once, finds the one packet there is
 * and sleeps again, and the next packet costs the same two switches. This one waits for its turn
 * and finds what the guest has queued meanwhile. Not for what a guest waits for, as a disk's
 * request: there the preemption saves the guest its halt.
 */
void loop_set_patient(struct loop *l);
void loop_thread_join(struct loop *l);
/*
 * One pass: waits at most timeout_ms (-1: for ever, 0: not at all) and runs what is ready. For
 * tests and tools.
 */
void loop_once(struct loop *l, int timeout_ms);
bool loop_is_current(struct loop *l);
/*
 * The lock. Only the bus, the loop itself, exclusive sections and control threads take it.
 * Recursive.
 */
void loop_lock(struct loop *l);
void loop_unlock(struct loop *l);
bool loop_is_locked(struct loop *l);		/* by this thread; for assertions */

/*
 * --- file descriptors: events is EPOLLIN | EPOLLOUT ...; level triggered ---
 * Add, mod and del with the loop's lock held, or before the loop runs. After loop_fd_del returns
 * the callback does not run again. The caller keeps the fd and closes it after the del. A mask of 0
 * reports nothing, not even a hang-up. A regular file counts as always ready. add never fails: what
 * epoll does not take (ENOSPC, ENOMEM) is looked at with poll() every 10 ms.
 */
struct loop_fd;
struct loop_fd *loop_fd_add(struct loop *l, int fd, uint32_t events,
			    void (*cb)(void *ctx, uint32_t events), void *ctx);
void loop_fd_mod(struct loop_fd *f, uint32_t events);
void loop_fd_del(struct loop_fd *f);

/* --- the VM clock: nanoseconds that pass only while the guest runs --- */
struct vm_clock;
struct vm_clock *vm_clock_new(void);		/* stopped, at 0 */
void vm_clock_free(struct vm_clock *c);
int64_t vm_clock_now(const struct vm_clock *c);	/* any thread, lock-free */
void vm_clock_stop(struct vm_clock *c);
void vm_clock_start(struct vm_clock *c);	/* re-arms the timers of every loop that uses it */
void vm_clock_set(struct vm_clock *c, int64_t ns);	/* at load; while stopped */

/* --- timers: embedded in their owner, one shot; cb runs on the loop with its lock held --- */
struct loop_timer {
	struct loop *loop;
	struct vm_clock *clock;		/* NULL: CLOCK_MONOTONIC of the host */
	void (*cb)(void *ctx);
	void *ctx;
	int64_t deadline;		/* ns on its clock; valid while armed */
	size_t heap_pos;		/* private; 0: not armed */
};
void loop_timer_init(struct loop_timer *t, struct loop *l, struct vm_clock *c,
		     void (*cb)(void *ctx), void *ctx);
/* Arm for an absolute time (a time gone by fires at once); arming again moves it. Any thread. */
void loop_timer_set(struct loop_timer *t, int64_t deadline_ns);
/* After it returns (lock held, or on the loop) the callback does not run. Idempotent. */
void loop_timer_cancel(struct loop_timer *t);
static inline bool loop_timer_armed(const struct loop_timer *t) 
{
	return __atomic_load_n(&t->heap_pos, __ATOMIC_RELAXED) != 0;
}

/*
 * The number of the pass the loop is in: who bounds what it does in one turn compares it with the
 * one it began in. Any thread.
 */
uint64_t loop_turn(const struct loop *l);

/* Have fn(ctx) run on the loop's thread, in order of posting. Any thread; never blocks. */
void loop_post(struct loop *l, void (*fn)(void *ctx), void *ctx);

/*
 * Waits until done(ctx), which is evaluated with the lock held, is true. Called with the lock held
 * from a callback or a bus access. On another thread than the loop's it drops the lock and sleeps;
 * on the loop's own thread, or when no thread runs the loop, it runs the loop's other events
 * meanwhile. loop_wake makes waiters look again (any thread, any lock); so does every pass of the
 * loop.
 */
void loop_wait(struct loop *l, bool (*done)(void *ctx), void *ctx);
void loop_wake(struct loop *l);

#endif
