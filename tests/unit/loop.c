/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unit tests of vmm/base/loop.c and vmm/base/timer.c. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/acceptor.h"
#include "vmm/base/loop.h"

static void bump(void *ctx)
{
	__atomic_add_fetch((int *)ctx, 1, __ATOMIC_SEQ_CST);
}

static int get(int *p)
{
	return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static void spin_until(int *p, int n)
{
	for (int64_t end = now_ns() + 10 * NS_PER_SEC; get(p) < n && now_ns() < end;)
		usleep(100);
	cr_assert_geq(get(p), n);
}

/* --- posts --- */

static int order[4], norder;
static void record(void *ctx)
{
	order[norder++] = (int)(intptr_t)ctx;
}

Test(loop, posts_run_in_order)
{
	struct loop *l = loop_new("t");

	for (intptr_t i = 0; i < 4; i++)
		loop_post(l, record, (void *)i);
	cr_assert_eq(norder, 0);
	loop_once(l, 0);
	cr_assert_eq(norder, 4);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(order[i], i);
	loop_free(l);
}

struct repost { struct loop *l; int n; };
static void post_again(void *ctx)
{
	struct repost *r = ctx;

	r->n++;
	loop_post(r->l, post_again, r);
}

Test(loop, a_call_that_posts_itself_keeps_nobody_out)
{
	struct repost r = { loop_new("t"), 0 };
	int other = 0;
	struct loop_timer t;

	loop_post(r.l, post_again, &r);
	loop_timer_init(&t, r.l, NULL, bump, &other);
	loop_timer_set(&t, 0);
	loop_once(r.l, -1);
	cr_assert_eq(r.n, 1);
	cr_assert_eq(other, 1);
	loop_free(r.l);
}

static struct loop *shared;
static int posted;
static void *post_many(void *arg)
{
	for (int k = 0; k < 5000; k++)
		loop_post(shared, bump, &posted);
	return NULL;
}

Test(loop, posts_from_many_threads_all_arrive)
{
	pthread_t th[4];

	shared = loop_new("t");
	cr_assert_eq(loop_thread_start(shared), 0);
	for (int i = 0; i < 4; i++)
		pthread_create(&th[i], NULL, post_many, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(th[i], NULL);
	spin_until(&posted, 20000);
	loop_thread_join(shared);
	cr_assert_eq(posted, 20000);
	loop_free(shared);
}

/* --- descriptors --- */

struct two { struct loop_fd *f[2]; int calls, fds[2]; };
static void delete_both(void *ctx, uint32_t events)
{
	struct two *t = ctx;

	t->calls++;
	loop_fd_del(t->f[0]);
	loop_fd_del(t->f[1]);
	t->f[0] = t->f[1] = NULL;
}

Test(loop, deleting_in_dispatch_stops_the_other_event_of_the_batch)
{
	struct loop *l = loop_new("t");
	struct two t = { .calls = 0 };

	for (int i = 0; i < 2; i++) {
		t.fds[i] = eventfd(1, 0);
		t.f[i] = loop_fd_add(l, t.fds[i], EPOLLIN, delete_both, &t);
	}
	loop_once(l, 0);
	loop_once(l, 0);
	cr_assert_eq(t.calls, 1);
	loop_free(l);
	close(t.fds[0]);
	close(t.fds[1]);
}

static void count_events(void *ctx, uint32_t events)
{
	bump(ctx);
}

Test(loop, an_empty_mask_reports_no_hangup)
{
	struct loop *l = loop_new("t");
	int p[2], n = 0;
	struct loop_fd *f;
	int64_t start;

	cr_assert_eq(pipe(p), 0);
	f = loop_fd_add(l, p[0], 0, count_events, &n);
	close(p[1]);
	start = now_ns();
	loop_once(l, 20);
	cr_assert_eq(n, 0);
	cr_assert_geq(now_ns() - start, 20 * NS_PER_MS);	/* nor does the loop spin on it */
	loop_fd_mod(f, EPOLLIN);
	loop_once(l, 0);
	cr_assert_eq(n, 1);
	loop_fd_mod(f, 0);
	loop_once(l, 0);
	cr_assert_eq(n, 1);
	loop_fd_del(f);
	loop_free(l);
	close(p[0]);
}

Test(loop, a_regular_file_is_always_ready)
{
	struct loop *l = loop_new("t");
	int fd = open("/proc/self/exe", O_RDONLY), n = 0;
	struct loop_fd *f = loop_fd_add(l, fd, EPOLLIN, count_events, &n);

	cr_assert_not_null(f);
	loop_once(l, -1);
	loop_once(l, -1);
	cr_assert_eq(n, 2);
	loop_fd_mod(f, 0);
	loop_once(l, 0);
	cr_assert_eq(n, 2);
	loop_fd_del(f);
	loop_free(l);
	close(fd);
}

/* The host runs out of watches, as with a low fs.epoll.max_user_watches. */
static bool no_watches;
int epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
	if (no_watches && op == EPOLL_CTL_ADD) {
		errno = ENOSPC;
		return -1;
	}
	return syscall(SYS_epoll_ctl, epfd, op, fd, ev);
}

Test(loop, a_descriptor_that_epoll_refuses_is_served)
{
	struct loop *l = loop_new("t");
	int p[2], q[2], n = 0, m = 0;
	struct loop_fd *f, *g;

	cr_assert_eq(pipe(p) | pipe(q), 0);
	no_watches = true;
	f = loop_fd_add(l, p[0], EPOLLIN, count_events, &n);
	g = loop_fd_add(l, q[0], 0, count_events, &m);
	cr_assert_not_null(f);
	loop_once(l, 0);
	cr_assert_eq(n, 0);
	cr_assert_eq(write(p[1], "x", 1), 1);
	loop_once(l, -1);
	cr_assert_eq(n, 1);
	/* Also one that wants to hear of something only now, after a sleep that has begun. */
	loop_fd_mod(f, 0);
	loop_fd_mod(g, EPOLLIN);
	cr_assert_eq(write(q[1], "x", 1), 1);
	while (!m)
		loop_once(l, -1);
	cr_assert_eq(n, 1);
	loop_fd_del(f);
	loop_fd_del(g);
	loop_once(l, 0);
	cr_assert_eq(m, 1);
	no_watches = false;
	loop_free(l);
}

/* --- timers and the VM clock --- */

Test(loop, timers_fire_in_order_of_deadline)
{
	struct loop *l = loop_new("t");
	struct loop_timer t[4];
	static const int delay[4] = { 3, 1, 0, 2 };
	int64_t now = now_ns();

	for (int i = 0; i < 4; i++) {
		loop_timer_init(&t[i], l, NULL, record, (void *)(intptr_t)delay[i]);
		loop_timer_set(&t[i], now + delay[i] * NS_PER_MS);
	}
	while (norder < 4)
		loop_once(l, -1);
	for (int i = 0; i < 4; i++) {
		cr_assert_eq(order[i], i);
		cr_assert_not(loop_timer_armed(&t[i]));
	}
	cr_assert_geq(now_ns() - now, 3 * NS_PER_MS);
	loop_free(l);
}

static int64_t last_fired;
static int fired;
static void fire_sorted(void *ctx)
{
	struct loop_timer *me = ctx;

	cr_assert_geq(me->deadline, last_fired);
	last_fired = me->deadline;
	fired++;
}

Test(loop, ten_thousand_random_timers_stay_sorted)
{
	struct loop *l = loop_new("t");
	struct loop_timer *t = xcalloc(10000, sizeof(*t));
	unsigned seed = 1;
	int armed = 0;

	for (int i = 0; i < 10000; i++) {
		loop_timer_init(&t[i], l, NULL, fire_sorted, &t[i]);
		loop_timer_set(&t[i], rand_r(&seed) % 1000);
	}
	for (int i = 0; i < 10000; i += 3)
		loop_timer_cancel(&t[i]);
	for (int i = 0; i < 10000; i += 2)
		loop_timer_set(&t[i], rand_r(&seed) % 1000);
	for (int i = 0; i < 10000; i++)
		armed += loop_timer_armed(&t[i]);
	loop_once(l, 0);
	for (int i = 0; i < 10000; i++)
		cr_assert_not(loop_timer_armed(&t[i]));
	cr_assert_eq(fired, armed);
	free(t);
	loop_free(l);
}

Test(loop, cancelling_with_the_lock_held_is_final)
{
	struct loop *l = loop_new("t");
	static int n;
	struct loop_timer t;

	loop_timer_init(&t, l, NULL, bump, &n);
	cr_assert_eq(loop_thread_start(l), 0);
	for (int i = 0; i < 2000; i++) {
		int before;

		loop_timer_set(&t, now_ns());
		loop_lock(l);
		loop_timer_cancel(&t);
		before = get(&n);
		loop_unlock(l);
		if (i % 100 == 0)
			usleep(200);
		cr_assert_eq(get(&n), before);
	}
	/* The same with the loop already waiting for the lock to run it. */
	loop_lock(l);
	fired = get(&n);
	loop_timer_set(&t, now_ns());
	usleep(20000);
	loop_timer_cancel(&t);
	loop_unlock(l);
	usleep(5000);
	cr_assert_eq(get(&n), fired);
	loop_thread_join(l);
	loop_free(l);
}

Test(loop, arming_from_another_thread_wakes_the_sleeper)
{
	struct loop *l = loop_new("t");
	static int n;
	struct loop_timer t, far;

	loop_timer_init(&t, l, NULL, bump, &n);
	loop_timer_init(&far, l, NULL, bump, &n);
	loop_timer_set(&far, now_ns() + 3600 * NS_PER_SEC);
	loop_thread_start(l);
	usleep(20000);
	loop_timer_set(&t, now_ns() + 5 * NS_PER_MS);
	spin_until(&n, 1);
	loop_timer_cancel(&far);
	loop_thread_join(l);
	loop_free(l);
}

Test(loop, the_vm_clock_stands_while_stopped_and_its_timers_wait)
{
	struct loop *l = loop_new("t");
	struct vm_clock *c = vm_clock_new();
	struct loop_timer t;
	int n = 0;
	int64_t at;

	cr_assert_eq(vm_clock_now(c), 0);
	vm_clock_set(c, 5 * NS_PER_SEC);
	loop_timer_init(&t, l, c, bump, &n);
	loop_timer_set(&t, 5 * NS_PER_SEC + 2 * NS_PER_MS);
	usleep(5000);
	loop_once(l, 0);
	cr_assert_eq(vm_clock_now(c), 5 * NS_PER_SEC);
	cr_assert_eq(n, 0);
	vm_clock_start(c);
	while (!n)
		loop_once(l, -1);
	vm_clock_stop(c);
	at = vm_clock_now(c);
	cr_assert_geq(at, 5 * NS_PER_SEC + 2 * NS_PER_MS);
	/* Overdue, but the guest stands: it must not see its device move. */
	loop_timer_set(&t, at - 1);
	usleep(2000);
	loop_once(l, 0);
	cr_assert_eq(n, 1);
	cr_assert_eq(vm_clock_now(c), at);
	vm_clock_start(c);
	loop_once(l, -1);
	cr_assert_eq(n, 2);
	loop_free(l);
	vm_clock_free(c);
}

Test(loop, starting_the_clock_wakes_a_sleeping_loop)
{
	struct loop *l = loop_new("t");
	struct vm_clock *c = vm_clock_new();
	static int n;
	struct loop_timer t;

	loop_timer_init(&t, l, c, bump, &n);
	loop_timer_set(&t, 1000);
	loop_thread_start(l);
	usleep(10000);
	cr_assert_eq(get(&n), 0);
	vm_clock_start(c);
	spin_until(&n, 1);
	loop_thread_join(l);
	vm_clock_free(c);
	loop_free(l);
}

/* --- waiting --- */

static bool is_set(void *ctx)
{
	return *(int *)ctx != 0;
}

static void set_plain(void *ctx)
{
	*(int *)ctx = 1;
}

struct waiter { struct loop *l; int flag; int outer_done; };
static void wait_inside(void *ctx)
{
	struct waiter *w = ctx;
	struct loop_timer t;

	loop_timer_init(&t, w->l, NULL, set_plain, &w->flag);
	loop_timer_set(&t, now_ns() + NS_PER_MS);
	loop_wait(w->l, is_set, &w->flag);
	w->outer_done = 1;
}

Test(loop, waiting_on_the_own_thread_runs_other_events)
{
	struct waiter w = { loop_new("t"), 0, 0 };

	loop_post(w.l, wait_inside, &w);
	loop_once(w.l, -1);
	cr_assert_eq(w.outer_done, 1);
	loop_free(w.l);
}

Test(loop, waiting_on_another_thread_drops_the_lock)
{
	static struct waiter w;
	struct loop_timer t;

	w.l = loop_new("t");
	loop_thread_start(w.l);
	loop_timer_init(&t, w.l, NULL, set_plain, &w.flag);
	loop_lock(w.l);
	loop_lock(w.l);
	loop_timer_set(&t, now_ns() + NS_PER_MS);
	loop_wait(w.l, is_set, &w.flag);
	cr_assert(loop_is_locked(w.l));
	loop_unlock(w.l);
	cr_assert(loop_is_locked(w.l));
	loop_unlock(w.l);
	cr_assert_not(loop_is_locked(w.l));
	loop_thread_join(w.l);
	loop_free(w.l);
}

Test(loop, whoever_waits_for_a_loop_nobody_runs_runs_it)
{
	struct loop *l = loop_new("t");
	int flag = 0;

	loop_lock(l);
	loop_post(l, set_plain, &flag);
	loop_wait(l, is_set, &flag);
	loop_unlock(l);
	loop_free(l);
}

Test(loop, a_stop_before_the_run_is_not_lost)
{
	struct loop *l = loop_new("t");

	loop_stop(l);
	loop_run(l);
	loop_free(l);
}

/* --- a listener without descriptors --- */

static int peers_seen;

static void peer_came(void *ctx, int fd)
{
	peers_seen++;
	close(fd);
}

Test(loop, a_listener_rests_while_there_are_no_descriptors)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct loop *l = loop_new("t");
	struct acceptor a = { .what = "test", .peer = peer_came };
	struct rlimit old, none;
	int64_t deadline;
	int fd;

	/* an abstract name, of this process alone */
	snprintf(sa.sun_path + 1, sizeof(sa.sun_path) - 1, "minivmm-acceptor-%d", getpid());
	a.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	cr_assert_eq(bind(a.fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	cr_assert_eq(listen(a.fd, 4), 0);
	cr_assert_eq(acceptor_start(&a, l), 0);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = old;
	none.rlim_cur = 3;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	while (!loop_timer_armed(&a.rest))
		loop_once(l, 100);
	/* One look, however often the loop turns; the peer waits. */
	deadline = a.rest.deadline;
	for (int i = 0; i < 1000; i++)
		loop_once(l, 0);
	cr_assert(a.rest.deadline == deadline || now_ns() >= deadline);
	cr_assert_eq(peers_seen, 0);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	while (!peers_seen)
		loop_once(l, 1000);
	cr_assert_eq(peers_seen, 1);
	acceptor_stop(&a);
	close(fd);
	close(a.fd);
	loop_free(l);
}
