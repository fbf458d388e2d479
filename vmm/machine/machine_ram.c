/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * machine_ram.c: the guest's RAM: where its bytes come from (-m, -mem-path, -mem-prealloc) and
 * where the guest sees them. Main thread, before the guest runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "bios/boot.h"
#include "vmm/machine/machine.h"

#define PC_SHADOW 0xc0000ull		/* up to 1 MiB: where PAM shows RAM or not */

/*
 * RAM stands in two pieces around the hole for PCI and the chips; where the first ends follows the
 * machine type.
 */
uint64_t machine_ram_low(const struct machine *m)
{
	return MIN(m->config->ram, (uint64_t)BIOS_PCI_HOLE);
}

/* -mem-path: memory is a file in that folder, of hugetlbfs' pages when it is one. */
static struct block *ram_in_folder(struct machine *m, struct err *err)
{
	const char *dir = m->config->mem_path;
	uint64_t size = m->config->ram;
	struct block *b;
	struct statfs fs;
	bool huge;
	void *host;
	int fd, ret;

	fd = host_temporary(&m->host, "guest memory", dir, err);
	if (fd < 0) {
		err_prefix(err, "-mem-path");
		return NULL;
	}
	huge = fstatfs(fd, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC;
	if (huge && size % fs.f_bsize) {
		err_set(err, EINVAL,
			"-mem-path %s: its pages are %llu MiB large; give -m a multiple of that",
			dir, (unsigned long long)fs.f_bsize / MiB);
		goto fail;
	}
	ret = ftruncate(fd, size) < 0 ? -errno : 0;
	host = ret ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (host == MAP_FAILED) {
		ret = ret ? ret : -errno;
		err_set(err, -ret, "-mem-path %s: cannot get %llu MiB: %s%s", dir,
			(unsigned long long)(size / MiB), strerror(-ret),
			huge ? "; reserve more huge pages (sysctl vm.nr_hugepages)" : "");
		goto fail;
	}
	b = block_new_mapping(m->mem, "ram", host, size, fd, BLOCK_RAM | BLOCK_SHARED);
	madvise(host, size, MADV_DONTDUMP);
	return b;
fail:
	close(fd);
	return NULL;
}

/* -mem-prealloc: every page is there before the guest starts, or it does not start. */
static int ram_prealloc(struct block *b, struct err *err)
{
	uint64_t size = block_size(b);
	volatile char *p = block_host(b);

	/* A full file system answers here; touching a page would end in a signal. */
	if (block_fd(b) >= 0 && fallocate(block_fd(b), 0, 0, size) < 0 && errno != EOPNOTSUPP)
		goto fail;
	if (madvise(block_host(b), size, MADV_POPULATE_WRITE) == 0)
		return 0;
	if (errno != EINVAL)	/* Linux before 5.14 */
		goto fail;
	for (uint64_t off = 0; off < size; off += 4096)
		p[off] = 0;
	return 0;
fail:
	return err_set(err, errno, "-mem-prealloc: this host has no %llu MiB to give: %s",
		       (unsigned long long)(size / MiB), strerror(errno));
}

/*
 * No firmware comes first: the loader opens the host bridge's shadow, and most saved machines have
 * it open.
 */
bool machine_starts_open(const struct machine *m)
{
	const struct config *c = m->config;

	return c->machine == MACHINE_PC && (c->kernel || c->incoming || c->loadvm);
}

int machine_init_ram(struct machine *m, struct err *err)
{
	const struct config *c = m->config;
	uint64_t low = machine_ram_low(m), pages = sysconf(_SC_PHYS_PAGES),
		 have = pages * sysconf(_SC_PAGESIZE);
	int ret;

	if (c->ram > have)
		return err_set(err, ENOMEM,
			       "-m: %llu MiB of guest memory, and this host has %llu MiB: the "
			       "guest would be killed as it "
			       "uses them; give it less",
			       c->ram / MiB, have / MiB);
	/*
	 * Anonymous memory gets transparent huge pages, a memfd does not unless the administrator
	 * says so: with small pages a booting guest faults some 25,000 times.
	 */
	m->ram = c->mem_path ? ram_in_folder(m, err)
			     : block_new(m->mem, "ram", c->ram, BLOCK_RAM | BLOCK_HUGE, err);
	if (!m->ram)
		return -ENOMEM;
	if (c->mem_prealloc && (ret = ram_prealloc(m->ram, err)) < 0)
		return ret;
	/*
	 * The PC leaves 0xa0000-0xfffff to the graphics card and the host bridge's PAM registers;
	 * micro has neither.
	 */
	if (c->machine == MACHINE_MICRO) {
		ret = block_map(m->ram, 0, 0, low, 0);
	} else {
		ret = block_map(m->ram, 0, 0, MIN(low, 0xa0000ull), 0);
		if (ret == 0 && low > 1 * MiB)
			ret = block_map(m->ram, 1 * MiB, 1 * MiB, low - 1 * MiB, 0);
	}
	if (ret == 0 && low >= MiB && machine_starts_open(m))
		ret = block_map(m->ram, PC_SHADOW, PC_SHADOW, MiB - PC_SHADOW, MEM_PRIO_CHIPSET);
	if (ret == 0 && c->ram > low)
		ret = block_map(m->ram, 4 * GiB, low, c->ram - low, 0);
	return ret < 0 ? err_set(err, -ret, "guest memory: %s", strerror(-ret)) : 0;
}
