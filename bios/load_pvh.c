/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * load_pvh.c: an uncompressed kernel (vmlinux, or a unikernel) with a Xen PHYS32_ENTRY note starts
 * in 32-bit protected mode with EBX pointing at struct hvm_start_info.
 *
 * Xen's docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h; the layouts are written out
 * below.
 */
#include <errno.h>

#include "bios/load.h"
#include "vmm/base/log.h"

#define HVM_START_MAGIC 0x336ec578
#define PVH_MEMMAP (LOW_START_INFO + 0x400)
#define PVH_MODLIST (LOW_START_INFO + 0x100)
#define PVH_MODCMD 0x18000		/* command lines of the modules, up to LOW_CMDLINE */

struct hvm_start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
	uint32_t memmap_entries, reserved;
};
struct hvm_modlist_entry {
	uint64_t paddr, size, cmdline_paddr, reserved;
};
struct hvm_memmap_entry {
	uint64_t addr, size;
	uint32_t type, reserved;
};

struct pvh_modules {
	struct hvm_modlist_entry list[BIOS_MAX_MODULES + 1];
	unsigned n;
	uint64_t top;			/* modules are put below, downwards */
	uint64_t floor;			/* end of the kernel */
	uint64_t cmd;			/* next free byte for a command line */
};

static int pvh_module(const struct bios_config *c, struct pvh_modules *m, const struct bios_file *f,
		      const char *cmdline, struct err *err)
{
	uint64_t size, at;
	int ret;

	ret = file_size(f, &size, err);
	if (ret < 0)
		return ret;
	at = size <= m->top ? ALIGN_DOWN(m->top - size, 4096ull) : 0;
	if (at < m->floor)
		return err_set(err, EFBIG,
			       "%s (%llu MiB) does not fit into memory beside the kernel, which "
			       "ends at %llu MiB; "
			       "give the guest more with -m",
			       f->path, (unsigned long long)((size + MiB - 1) / MiB),
			       (unsigned long long)(m->floor / MiB));
	m->list[m->n] = (struct hvm_modlist_entry){ .paddr = at, .size = size };
	if (cmdline) {
		size_t len = strlen(cmdline) + 1;

		if (len > LOW_CMDLINE - m->cmd)
			return err_set(err, E2BIG,
				       "the command lines of the modules are too long at '%s'",
				       f->path);
		m->list[m->n].cmdline_paddr = m->cmd;
		ram_write(c, m->cmd, cmdline, len);
		m->cmd += len;
	}
	m->n++;
	m->top = at;
	return ram_load(c, f, 0, at, size, err);
}

static int pvh_modules(const struct bios_config *c, struct pvh_modules *m, struct err *err)
{
	unsigned i;
	int ret = 0;

	if (c->initrd.fd >= 0)
		ret = pvh_module(c, m, &c->initrd, NULL, err);
	for (i = 0; ret == 0 && i < MIN(c->nmodules, BIOS_MAX_MODULES); i++)
		ret = pvh_module(c, m, &c->modules[i].file, c->modules[i].cmdline, err);
	return ret;
}

int load_pvh(const struct bios_config *c, uint64_t rsdp, struct boot_cpu *cpu, struct err *err)
{
	const char *cmdline = c->cmdline ? c->cmdline : "";
	struct hvm_memmap_entry map[E820_MAX] = { 0 };
	struct hvm_start_info info = { .magic = HVM_START_MAGIC, .version = 1, .rsdp_paddr = rsdp };
	struct pvh_modules mods = { .top = c->ram_low, .cmd = PVH_MODCMD };
	struct e820_entry e820[E820_MAX];
	struct elf_image img;
	unsigned i, n;
	int ret;

	ret = elf_load(c, &c->kernel, 0, LOW_END, &img, err);
	if (ret < 0)
		return ret;
	if (!img.has_pvh)
		return err_set(err, ENOEXEC,
			       "%s is an ELF file without a PVH entry point (Xen note 18); use the "
			       "bzImage",
			       c->kernel.path);
	if (img.pvh_entry < img.low || img.pvh_entry >= img.high)
		return err_set(err, ENOEXEC,
			       "%s: its PVH entry point 0x%x lies outside what it loads",
			       c->kernel.path, img.pvh_entry);
	if (strlen(cmdline) >= LOW_EBDA - LOW_CMDLINE)
		return err_set(
			err, E2BIG,
			"the kernel command line has %zu bytes, at most %u fit; shorten -append",
			strlen(cmdline), LOW_EBDA - LOW_CMDLINE - 1);
	mods.floor = img.high;
	ret = pvh_modules(c, &mods, err);
	if (ret < 0)
		return ret;

	n = e820_build(c, e820, E820_MAX);
	for (i = 0; i < n; i++)
		map[i] = (struct hvm_memmap_entry){ .addr = e820[i].base,
						    .size = e820[i].len,
						    .type = e820[i].type };
	info.memmap_paddr = PVH_MEMMAP;
	info.memmap_entries = n;
	info.cmdline_paddr = LOW_CMDLINE;
	info.nr_modules = mods.n;
	info.modlist_paddr = mods.n ? PVH_MODLIST : 0;
	ram_write(c, LOW_CMDLINE, cmdline, strlen(cmdline) + 1);
	ram_write(c, PVH_MEMMAP, map, n * sizeof(map[0]));
	ram_write(c, PVH_MODLIST, mods.list, mods.n * sizeof(mods.list[0]));
	ram_write(c, LOW_START_INFO, &info, sizeof(info));
	ret = boot_flat32(c, LOW_GDT, cpu);
	if (ret < 0)
		return ret;
	cpu->rip = img.pvh_entry;
	cpu->rbx = LOW_START_INFO;
	cpu->rsp = LOW_STACK_TOP;
	cpu->way = "pvh";
	trace(TRACE_BOOT, 0, "bios", "%s: PVH, 0x%llx-0x%llx, entry 0x%x", c->kernel.path,
	      (unsigned long long)img.low, (unsigned long long)img.high, img.pvh_entry);
	return 0;
}
_Static_assert(LOW_START_INFO + 0x400 + E820_MAX * sizeof(struct hvm_memmap_entry) <= LOW_ZERO_PAGE,
	       "PVH tables overlap");
_Static_assert(0x100 + (BIOS_MAX_MODULES + 1) * sizeof(struct hvm_modlist_entry) <= 0x400,
	       "PVH module list overlaps");
