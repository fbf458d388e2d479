/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unit tests of vmm/wires/irq.c: against a backend that behaves as KVM's irqfd and routing do. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "vmm/wires/irq.h"

static struct {
	int level[24], edges[24];
	int msis;
	uint64_t addr;
	uint32_t data;
	struct irq_route routes[64];
	size_t nroutes;
	int fd_of_gsi[256], nirqfds;
} hw;

static void line(void *ctx, unsigned gsi, int level)
{
	hw.edges[gsi] += hw.level[gsi] != level;
	hw.level[gsi] = level;
}

static void msi(void *ctx, uint64_t addr, uint32_t data)
{
	__atomic_add_fetch(&hw.msis, 1, __ATOMIC_SEQ_CST);
	hw.addr = addr;
	hw.data = data;
}

static int routes(void *ctx, const struct irq_route *r, size_t n)
{
	memcpy(hw.routes, r, n * sizeof(*r));
	hw.nroutes = n;
	return 0;
}

/* What KVM does when an eventfd is written, or had been before it was attached. */
static void irqfd_poll(void)
{
	uint64_t n;

	for (size_t i = 0; i < hw.nroutes; i++) {
		int fd = hw.fd_of_gsi[hw.routes[i].gsi];

		if (fd && read(fd, &n, sizeof(n)) == sizeof(n))
			msi(NULL, hw.routes[i].addr, hw.routes[i].data);
	}
}

static int irqfd(void *ctx, int fd, unsigned gsi, bool add)
{
	cr_assert_eq(!hw.fd_of_gsi[gsi], add);
	hw.fd_of_gsi[gsi] = add ? fd : 0;
	hw.nirqfds += add ? 1 : -1;
	if (add)
		irqfd_poll();
	return 0;
}

static const struct irq_backend backend = { line, msi, routes, irqfd };
static const struct irq_backend plain = { line, msi, routes, NULL };
static struct irq_hub *h;
static void setup(void)
{
	memset(&hw, 0, sizeof(hw));
	h = irq_hub_new(&backend, NULL);
}

static void teardown(void)
{
	irq_hub_free(h);
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	cr_assert_eq(write(fd, &one, sizeof(one)), 8);
	irqfd_poll();
}

Test(irq, a_shared_line_is_a_wired_or, .init = setup, .fini = teardown)
{
	struct irq a = irq_source(h, 11), b = irq_source(h, 11), other = irq_source(h, 10),
		   none = { NULL, NULL, 0 };

	irq_set(&none, 1);
	irq_set(&a, 1);
	irq_set(&a, 1);
	irq_set(&b, 1);
	cr_assert_eq(hw.edges[11], 1);
	irq_set(&a, 0);
	cr_assert_eq(hw.level[11], 1);
	cr_assert_eq(irq_level(h, 11), 1);
	irq_set(&b, 0);
	cr_assert_eq(hw.level[11], 0);
	cr_assert_eq(hw.edges[11], 2);
	cr_assert_eq(hw.edges[10], 0);
	irq_set(&other, 1);
	hw.level[10] = 0;	/* the chip was reset */
	irq_resync(h);
	cr_assert_eq(hw.level[10], 1);
	cr_assert_eq(irq_level(h, 99), 0);
}

Test(irq, sixty_four_sources_share_a_line, .init = setup, .fini = teardown)
{
	struct irq s[64];

	for (int i = 0; i < 64; i++) {
		s[i] = irq_source(h, 5);
		irq_set(&s[i], 1);
	}
	for (int i = 0; i < 63; i++)
		irq_set(&s[i], 0);
	cr_assert_eq(hw.level[5], 1);
	irq_set(&s[63], 0);
	cr_assert_eq(hw.level[5], 0);
}

static void *toggle(void *arg)
{
	for (int i = 0; i < 50000; i++)
		irq_set(arg, i & 1);
	irq_set(arg, 0);
	return NULL;
}

Test(irq, the_last_level_wins_whatever_the_threads_do, .init = setup, .fini = teardown)
{
	struct irq s[4];
	pthread_t t[4];

	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 4; i++) {
			s[i] = irq_source(h, 9);
			pthread_create(&t[i], NULL, toggle, &s[i]);
		}
		for (int i = 0; i < 4; i++)
			pthread_join(t[i], NULL);
		cr_assert_eq(hw.level[9], 0);
		cr_assert_eq(hw.edges[9] & 1, 0);
	}
}

Test(irq, a_masked_vector_remembers_one_message, .init = setup, .fini = teardown)
{
	struct vec *v = vec_new(h);

	vec_notify(v);		/* a new vector is masked */
	vec_notify(v);
	cr_assert(vec_pending(v));
	cr_assert_eq(hw.msis, 0);
	vec_set(v, 0xfee00000, 0x41, false);
	cr_assert_eq(hw.msis, 1);
	cr_assert_eq(hw.data, 0x41);
	cr_assert_not(vec_pending(v));
	vec_notify(v);
	cr_assert_eq(hw.msis, 2);
	vec_set(v, 0xfee00000, 0x41, true);
	vec_set_pending(v, true);
	vec_set_pending(v, false);
	vec_set(v, 0xfee00000, 0x41, false);
	cr_assert_eq(hw.msis, 2);
	vec_free(v);
}

Test(irq, an_eventfd_does_the_same_without_us, .init = setup, .fini = teardown)
{
	struct vec *v = vec_new(h);
	int fd = vec_fd(v);

	cr_assert_geq(fd, 0);
	cr_assert_eq(vec_fd(v), fd);
	signal_fd(fd);
	signal_fd(fd);
	cr_assert(vec_pending(v));	/* shows in the pending bits while masked */
	cr_assert_eq(hw.nirqfds, 0);
	vec_set(v, 0xfee01000, 0x51, false);
	cr_assert_eq(hw.msis, 1);
	cr_assert_eq(hw.addr, 0xfee01000);
	cr_assert_not(vec_pending(v));
	/* A change while unmasked reaches the route. */
	vec_set(v, 0xfee02000, 0x52, false);
	signal_fd(fd);
	cr_assert_eq(hw.msis, 2);
	cr_assert_eq(hw.data, 0x52);
	/* Masking stops it, setting the pending bit to 0 forgets it. */
	vec_set(v, 0xfee02000, 0x52, true);
	signal_fd(fd);
	cr_assert_eq(hw.msis, 2);
	cr_assert(vec_pending(v));
	vec_set_pending(v, false);
	cr_assert_not(vec_pending(v));
	vec_set(v, 0xfee02000, 0x52, false);
	cr_assert_eq(hw.msis, 2);
	vec_notify(v);
	cr_assert_eq(hw.msis, 3);
	vec_free(v);
	cr_assert_eq(hw.nirqfds, 0);
	cr_assert_eq(hw.nroutes, 0);
}

Test(irq, routes_are_given_and_taken_back, .init = setup, .fini = teardown)
{
	struct vec *v[4];
	unsigned gsi;

	for (int i = 0; i < 4; i++) {
		v[i] = vec_new(h);
		vec_fd(v[i]);
		vec_set(v[i], 0xfee00000, i, false);
	}
	cr_assert_eq(hw.nroutes, 4);
	for (int i = 0; i < 4; i++)
		for (int k = 0; k < i; k++)
			cr_assert_neq(hw.routes[i].gsi, hw.routes[k].gsi);
	gsi = hw.routes[1].gsi;
	vec_free(v[1]);
	cr_assert_eq(hw.nroutes, 3);
	v[1] = vec_new(h);
	vec_fd(v[1]);
	vec_set(v[1], 0xfee00000, 9, false);
	cr_assert_eq(hw.routes[3].gsi, gsi);
	cr_assert_eq(hw.routes[3].data, 9);
	for (int i = 0; i < 4; i++)
		vec_free(v[i]);
}

Test(irq, without_irqfd_it_says_so)
{
	struct irq_hub *hub = irq_hub_new(&plain, NULL);
	struct vec *v = vec_new(hub);

	cr_assert_eq(vec_fd(v), -ENOTSUP);
	vec_free(v);
	irq_hub_free(hub);
}
