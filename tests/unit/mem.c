/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unit tests of vmm/wires/flat.c, vmm/wires/mem.c and vmm/wires/dirty.c. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/wires/flat.h"
#include "vmm/wires/mem.h"

#define PAGE 4096ull

/* --- a backend that remembers the slots and can fail --- */
struct slot { uint64_t gpa, size; void *host; bool rom, log; unsigned long dirty[64]; };
struct fake {
	struct slot slots[32];
	int calls, fail_after;		/* the n-th making of a slot fails; 0: never */
};

static int fake_slot(void *ctx, unsigned n, uint64_t gpa, uint64_t size, void *host, bool rom,
		     bool log)
{
	struct fake *f = ctx;
	struct slot *s = &f->slots[n];

	cr_assert_lt(n, 32);
	f->calls++;
	if (!size) {
		cr_assert(s->size, "slot %u removed twice", n);
		memset(s, 0, sizeof(*s));
		return 0;
	}
	if (f->fail_after && --f->fail_after == 0)
		return -ENOMEM;
	for (unsigned i = 0; i < 32; i++)	/* KVM refuses overlap */
		if (i != n && f->slots[i].size)
			cr_assert(gpa + size <= f->slots[i].gpa ||
				  f->slots[i].gpa + f->slots[i].size <= gpa);
	if (s->size)	/* KVM changes only the flags of a slot that exists */
		cr_assert(s->gpa == gpa && s->size == size && s->host == host && s->rom == rom);
	*s = (struct slot){ gpa, size, host, rom, log, { 0 } };
	return 0;
}

static int fake_log(void *ctx, unsigned n, uint64_t size, unsigned long *bitmap)
{
	struct slot *s = &((struct fake *)ctx)->slots[n];

	cr_assert(s->log && s->size == size);
	memcpy(bitmap, s->dirty, (size / PAGE + 63) / 64 * 8);
	memset(s->dirty, 0, sizeof(s->dirty));
	return 0;
}
static const struct mem_backend fake_backend = { fake_slot, fake_log };

static struct slot *slot_at(struct fake *f, uint64_t gpa)
{
	for (int i = 0; i < 32; i++)
		if (f->slots[i].size && gpa >= f->slots[i].gpa &&
		    gpa - f->slots[i].gpa < f->slots[i].size)
			return &f->slots[i];
	return NULL;
}

/* --- flatten --- */

Test(flat, agrees_with_painting_every_address)
{
	unsigned seed = 7;

	for (int round = 0; round < 3000; round++) {
		struct span in[8], out[16];
		int n = 1 + rand_r(&seed) % 8;
		size_t k;

		for (int i = 0; i < n; i++) {
			uint64_t start = rand_r(&seed) % 40;
			int at = i;

			for (; at > 0 && in[at - 1].start > start; at--)
				in[at] = in[at - 1];
			in[at] = (struct span){ start, start + rand_r(&seed) % 12, i,
						(void *)(intptr_t)(i + 1) };
		}
		k = flatten(in, n, out);
		cr_assert_leq(k, 2 * (size_t)n);
		for (size_t i = 1; i < k; i++)
			cr_assert_lt(out[i - 1].last, out[i].start);
		for (uint64_t a = 0; a < 60; a++) {
			void *want = NULL, *got = NULL;
			uint64_t rank = UINT64_MAX;

			for (int i = 0; i < n; i++)
				if (a >= in[i].start && a <= in[i].last && in[i].rank < rank) {
					rank = in[i].rank;
					want = in[i].owner;
				}
			for (size_t i = 0; i < k; i++)
				if (a >= out[i].start && a <= out[i].last)
					got = out[i].owner;
			cr_assert_eq(want, got);
		}
	}
}

Test(flat, reaches_the_last_address)
{
	struct span in[2] = { { 0, UINT64_MAX, 2, "low" }, { 16, UINT64_MAX, 1, "high" } }, out[4];

	cr_assert_eq(flatten(in, 2, out), 2);
	cr_assert_eq(out[0].last, 15);
	cr_assert_eq(out[1].start, 16);
	cr_assert_eq(out[1].last, UINT64_MAX);
}

/* --- accessors --- */

static struct fake fake;
static struct mem *m;
static struct block *ram, *rom;

static void setup(void)
{
	m = mem_new(&fake_backend, &fake);
	ram = block_new(m, "ram", 64 * PAGE, BLOCK_RAM | BLOCK_SHARED, NULL);
	rom = block_new(m, "rom", 4 * PAGE, BLOCK_ROM, NULL);
	cr_assert_eq(block_map(ram, 0, 0, 32 * PAGE, 0), 0);
	cr_assert_eq(block_map(ram, 1 * GiB, 32 * PAGE, 32 * PAGE, 0), 0);
	cr_assert_eq(block_map(rom, 2 * GiB, 0, 4 * PAGE, 0), 0);
}

Test(mem, ranges_are_checked_as_a_whole, .init = setup)
{
	char buf[2 * PAGE] = "hello";

	cr_assert_eq(mem_write(m, PAGE - 2, "hello", 6), 0);
	cr_assert_eq(mem_read(m, PAGE - 2, buf, 6), 0);
	cr_assert_str_eq(buf, "hello");
	/* The first byte is fine, the last is not: nothing is written. */
	cr_assert_eq(mem_write(m, 32 * PAGE - 3, "abcd", 4), -EFAULT);
	cr_assert_eq(mem_read(m, 32 * PAGE - 3, buf, 3), 0);
	cr_assert_eq(buf[0] | buf[1] | buf[2], 0);
	cr_assert_eq(mem_read(m, 32 * PAGE - 3, buf, 4), -EFAULT);
	cr_assert_eq(mem_read(m, 3 * GiB, buf, 1), -EFAULT);
	cr_assert_eq(mem_read(m, UINT64_MAX, buf, 1), -EFAULT);
	cr_assert_eq(mem_read(m, 0, buf, 0), 0);
	cr_assert_eq(mem_set(m, PAGE, 0x5a, 2 * PAGE), 0);
	cr_assert_eq(mem_read(m, PAGE, buf, 2 * PAGE), 0);
	for (size_t i = 0; i < sizeof(buf); i++)
		cr_assert_eq(buf[i], 0x5a);
}

Test(mem, lengths_do_not_wrap_around, .init = setup)
{
	struct block *top = block_new(m, "top", PAGE, 0, NULL);
	struct iovec iov[4];
	char c;

	cr_assert_eq(block_map(top, -PAGE, 0, PAGE, 0), 0);
	cr_assert_eq(mem_read(m, UINT64_MAX, &c, 1), 0);
	cr_assert_null(mem_ptr(m, UINT64_MAX, 2, false));
	/* The address after the last one is 0, which is memory: still not one range. */
	cr_assert_eq(mem_iov(m, UINT64_MAX, 2, false, iov, 4), -EFAULT);
	cr_assert_eq(mem_iov(m, 0, UINT64_MAX, false, iov, 4), -EFAULT);
	cr_assert_eq(mem_iov(m, PAGE, UINT64_MAX, true, iov, 4), -EFAULT);
	cr_assert_eq(block_map(top, -PAGE, 0, 2 * PAGE, 0), -EINVAL);
}

Test(mem, rom_is_read_only_for_us_too, .init = setup)
{
	char c;

	cr_assert_eq(mem_read(m, 2 * GiB, &c, 1), 0);
	cr_assert_eq(mem_write(m, 2 * GiB, "x", 1), -EFAULT);
	cr_assert_not_null(mem_ptr(m, 2 * GiB, 4, false));
	cr_assert_null(mem_ptr(m, 2 * GiB, 4, true));
	cr_assert(slot_at(&fake, 2 * GiB)->rom);
}

Test(mem, a_scatter_list_pins_until_done, .init = setup)
{
	struct block *b = block_new(m, "vram", 2 * PAGE, 0, NULL);
	static struct block *freeing;
	static int freed;
	struct iovec iov[2];
	pthread_t t;

	void *body(void *arg)
	{
		block_free(freeing);
		__atomic_store_n(&freed, 1, __ATOMIC_SEQ_CST);
		return NULL;
	}
	freeing = b;
	cr_assert_eq(block_map(b, 4 * GiB, 0, 2 * PAGE, 0), 0);
	cr_assert_eq(mem_iov(m, 4 * GiB + 1, PAGE, true, iov, 2), 1);
	cr_assert_eq(iov[0].iov_len, PAGE);
	cr_assert_eq(mem_iov(m, 4 * GiB, 1, true, iov + 1, 1), 1);
	pthread_create(&t, NULL, body, NULL);
	usleep(20000);
	cr_assert_eq(__atomic_load_n(&freed, __ATOMIC_SEQ_CST), 0);
	/* a device's late write still lands somewhere */
	memset(iov[0].iov_base, 1, iov[0].iov_len);
	mem_iov_done(m, iov, 1, PAGE);
	usleep(10000);
	cr_assert_eq(__atomic_load_n(&freed, __ATOMIC_SEQ_CST), 0);
	mem_iov_done(m, iov + 1, 1, 0);
	pthread_join(t, NULL);
	cr_assert_eq(freed, 1);
	cr_assert_eq(mem_iov(m, 4 * GiB, 1, false, iov, 2), -EFAULT);
}

Test(mem, a_scatter_list_has_one_entry_for_each_run, .init = setup)
{
	struct block *b = block_new(m, "b", 2 * PAGE, 0, NULL);
	struct iovec iov[4];

	/* Right behind RAM but elsewhere in our address space. */
	cr_assert_eq(block_map(b, 32 * PAGE, 0, 2 * PAGE, 0), 0);
	cr_assert_eq(mem_iov(m, 31 * PAGE, 2 * PAGE, true, iov, 4), 2);
	mem_iov_done(m, iov, 2, 0);
	cr_assert_eq(mem_iov(m, 31 * PAGE, 2 * PAGE, true, iov, 1), -E2BIG);
	cr_assert_eq(mem_iov(m, 31 * PAGE, 4 * PAGE, true, iov, 4), -EFAULT);
	cr_assert_null(mem_ptr(m, 31 * PAGE, 2 * PAGE, false));
	/* A split by protection is no split in the address space. */
	cr_assert_eq(block_protect(ram, 4 * PAGE, PAGE, true), 0);
	cr_assert_eq(mem_iov(m, 3 * PAGE, 3 * PAGE, false, iov, 4), 1);
	mem_iov_done(m, iov, 1, 0);
	cr_assert_not_null(mem_ptr(m, 3 * PAGE, 3 * PAGE, false));
	cr_assert_eq(mem_iov(m, 3 * PAGE, 3 * PAGE, true, iov, 4), -EFAULT);
	mem_free(m);	/* would hang if the failures above had left pins */
}

/* --- the map and its slots --- */

Test(mem, higher_priority_covers_and_uncovers, .init = setup)
{
	struct block *over = block_new(m, "over", 2 * PAGE, 0, NULL);
	uint64_t before = mem_generation(m);
	void *host = slot_at(&fake, 0)->host;
	char c;

	memset(block_host(over), 7, 2 * PAGE);
	cr_assert_eq(block_map(over, 4 * PAGE, 0, 2 * PAGE, 10), 0);
	cr_assert_neq(mem_generation(m), before);
	mem_read(m, 4 * PAGE, &c, 1);
	cr_assert_eq(c, 7);
	mem_read(m, 6 * PAGE, &c, 1);
	cr_assert_eq(c, 0);
	cr_assert_eq(slot_at(&fake, 3 * PAGE)->size, 4 * PAGE);
	cr_assert_eq(slot_at(&fake, 6 * PAGE)->host, host + 6 * PAGE);
	block_unmap(over);
	mem_read(m, 4 * PAGE, &c, 1);
	cr_assert_eq(c, 0);
	cr_assert_eq(slot_at(&fake, 0)->size, 32 * PAGE);
	/* A lower one is not seen at all. */
	cr_assert_eq(block_map(over, 4 * PAGE, 0, 2 * PAGE, -10), 0);
	mem_read(m, 4 * PAGE, &c, 1);
	cr_assert_eq(c, 0);
}

Test(mem, what_does_not_change_keeps_its_slot, .init = setup)
{
	struct block *b = block_new(m, "b", PAGE, 0, NULL);
	int before;

	cr_assert_eq(block_protect(ram, 8 * PAGE, 4 * PAGE, true), 0);
	cr_assert_eq(mem_write(m, 8 * PAGE, "x", 1), -EFAULT);
	cr_assert_eq(mem_write(m, 12 * PAGE, "x", 1), 0);
	before = fake.calls;
	cr_assert_eq(block_map(b, 3 * GiB, 0, PAGE, 0), 0);
	cr_assert_eq(fake.calls, before + 1);
	/* Toggling the piece again touches that slot alone: removed and made. */
	cr_assert_eq(block_protect(ram, 8 * PAGE, 4 * PAGE, false), 0);
	cr_assert_eq(fake.calls, before + 3);
	cr_assert_eq(block_protect(ram, 8 * PAGE, 4 * PAGE, false), 0);
	cr_assert_eq(fake.calls, before + 3);
	cr_assert_eq(block_protect(ram, 31 * PAGE, 2 * PAGE, true), -ENOENT);
}

Test(mem, one_piece_can_be_hidden, .init = setup)
{
	/*
	 * As the host bridge shows shadow RAM: over what lies there, in parts that need not be
	 * those it showed.
	 */
	cr_assert_eq(block_map(ram, 2 * GiB, 0, 4 * PAGE, MEM_PRIO_CHIPSET), 0);
	cr_assert_eq(mem_write(m, 2 * GiB + PAGE, "x", 1), 0);
	cr_assert_eq(block_unmap_piece(ram, 2 * GiB + PAGE, PAGE), 0);
	cr_assert_eq(mem_write(m, 2 * GiB + PAGE, "x", 1), -EFAULT);	/* the ROM below */
	cr_assert_eq(mem_write(m, 2 * GiB, "x", 1), 0);
	cr_assert_eq(mem_write(m, 2 * GiB + 2 * PAGE, "x", 1), 0);
	cr_assert_eq(block_unmap_piece(ram, 2 * GiB + PAGE, PAGE), -ENOENT);
	cr_assert_eq(mem_write(m, 0, "x", 1), 0);
}

Test(mem, a_backend_that_refuses_leaves_everything_as_it_was, .init = setup)
{
	struct block *b = block_new(m, "b", 2 * PAGE, 0, NULL);

	/* It splits RAM in two and adds itself: let the third of these fail. */
	fake.fail_after = 3;
	cr_assert_eq(block_map(b, 4 * PAGE, 0, 2 * PAGE, 10), -ENOMEM);
	fake.fail_after = 0;
	cr_assert_eq(slot_at(&fake, 4 * PAGE)->size, 32 * PAGE);
	cr_assert_eq(mem_write(m, 0, "x", 1), 0);
	cr_assert_eq(mem_ptr(m, 4 * PAGE, 1, true), block_host(ram) + 4 * PAGE);
	cr_assert_eq(block_map(b, 4 * PAGE, 0, 2 * PAGE, 10), 0);
}

Test(mem, names_are_unique_and_found, .init = setup)
{
	struct err err = { "" };

	cr_assert_eq(block_find(m, "rom"), rom);
	cr_assert_null(block_find(m, "nvram"));
	cr_assert_null(block_new(m, "ram", PAGE, 0, &err));
	cr_assert_str_eq(err.msg, "memory 'ram' exists already");
	cr_assert_null(block_new(m, "huge", 1ull << 50, 0, &err));
}

Test(mem, discarded_memory_reads_as_zeros, .init = setup)
{
	char path[] = "/tmp/minivmm-test-XXXXXX", c;
	int fd = mkstemp(path);
	void *host;
	struct block *file;

	cr_assert_eq(ftruncate(fd, PAGE), 0);
	cr_assert_eq(pwrite(fd, "old", 3, 0), 3);
	host = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	file = block_new_mapping(m, "file", host, PAGE, fd, 0);
	cr_assert_eq(block_map(file, 4 * GiB, 0, PAGE, 0), 0);
	mem_read(m, 4 * GiB, &c, 1);
	cr_assert_eq(c, 'o');
	cr_assert_eq(mem_discard(m, 4 * GiB, PAGE), 0);
	mem_read(m, 4 * GiB, &c, 1);
	cr_assert_eq(c, 0);	/* and not what the file has */
	mem_write(m, PAGE, "x", 1);
	cr_assert_eq(mem_discard(m, PAGE, PAGE), 0);
	mem_read(m, PAGE, &c, 1);
	cr_assert_eq(c, 0);
	cr_assert_eq(mem_discard(m, 1, PAGE), -EINVAL);
	cr_assert_eq(mem_discard(m, 2 * GiB, PAGE), -EFAULT);
	unlink(path);
}

/* --- dirty pages --- */

static bool bit(const unsigned long *map, unsigned n)
{
	return map[n / 64] >> n % 64 & 1;
}

Test(dirty, every_consumer_sees_every_writer_once, .init = setup)
{
	struct dirty_client *all = dirty_client_new(m, NULL), *only = dirty_client_new(m, ram);
	unsigned long out[1];
	struct iovec iov[2];

	/* All pages start dirty. */
	cr_assert_eq(dirty_client_take(all, ram, out), 64);
	cr_assert_eq(dirty_client_take(all, ram, out), 0);
	cr_assert_eq(dirty_client_take(only, ram, out), 64);
	cr_assert_eq(dirty_client_take(all, rom, out), 4);
	cr_assert_eq(dirty_client_take(only, rom, out), 0);

	mem_write(m, 3 * PAGE - 1, "ab", 2);			/* pages 2 and 3 */
	cr_assert_eq(mem_iov(m, GiB, 2 * PAGE, true, iov, 2), 1);
	mem_iov_done(m, iov, 1, PAGE + 1);			/* pages 32 and 33 */
	mem_mark_dirty(m, GiB + 31 * PAGE, 8);			/* page 63 */
	slot_at(&fake, GiB)->dirty[0] = 1 << 5;			/* the guest: page 37 */
	cr_assert_eq(mem_dirty_sync(m), 0);
	cr_assert_eq(dirty_client_take(all, ram, out), 6);
	cr_assert(bit(out, 2) && bit(out, 3) && bit(out, 32) && bit(out, 33) && bit(out, 37) &&
		  bit(out, 63));
	cr_assert_eq(mem_dirty_sync(m), 0);
	cr_assert_eq(dirty_client_take(all, ram, out), 0);
	cr_assert_eq(dirty_client_take(only, ram, out), 6);
	dirty_client_free(only);
	cr_assert(slot_at(&fake, 0)->log);
	dirty_client_free(all);
	cr_assert_not(slot_at(&fake, 0)->log);
	mem_free(m);
}

Test(dirty, an_unwritten_buffer_is_clean, .init = setup)
{
	struct dirty_client *c = dirty_client_new(m, ram);
	unsigned long out[1];
	struct iovec iov[2];

	dirty_client_take(c, ram, out);
	cr_assert_eq(mem_iov(m, 0, 3 * PAGE, true, iov, 2), 1);
	mem_iov_done(m, iov, 1, 0);
	mem_dirty_sync(m);
	cr_assert_eq(dirty_client_take(c, ram, out), 0);
	dirty_client_free(c);
}

Test(dirty, a_slot_that_goes_hands_over_its_log, .init = setup)
{
	struct dirty_client *c = dirty_client_new(m, NULL);
	struct block *late;
	unsigned long out[1];

	dirty_client_take(c, ram, out);
	slot_at(&fake, 0)->dirty[0] = 1 << 9;
	cr_assert_eq(block_protect(ram, 16 * PAGE, PAGE, true), 0);
	mem_dirty_sync(m);
	cr_assert_eq(dirty_client_take(c, ram, out), 1);
	cr_assert(bit(out, 9));
	/* A block that comes later is dirty as a whole. */
	late = block_new(m, "late", 2 * PAGE, 0, NULL);
	cr_assert_eq(dirty_client_take(c, late, out), 2);
	block_free(late);
	dirty_client_free(c);
}

static void *write_many(void *arg)
{
	for (unsigned i = 0; i < 200000; i++)
		mem_write(m, i % 32 * PAGE, &i, sizeof(i));
	return NULL;
}

Test(dirty, no_write_is_missed_while_others_write, .init = setup)
{
	uint32_t copy[32] = { 0 }, now;
	struct dirty_client *c;
	unsigned long out[1];
	pthread_t t[2];

	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, write_many, NULL);
	c = dirty_client_new(m, ram);
	for (int round = 0; round < 500; round++) {
		mem_dirty_sync(m);
		dirty_client_take(c, ram, out);
		for (int p = 0; p < 32; p++)
			if (bit(out, p))
				mem_read(m, p * PAGE, &copy[p], 4);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	mem_dirty_sync(m);
	dirty_client_take(c, ram, out);
	for (int p = 0; p < 32; p++) {
		mem_read(m, p * PAGE, &now, 4);
		if (!bit(out, p))
			cr_assert_eq(copy[p], now);
	}
	dirty_client_free(c);
}
