/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * load_linux.c: a bzImage goes straight into guest memory and starts at its 64-bit entry, or at the
 * 32-bit one when it has no other. No firmware runs, nothing is copied twice.
 *
 * The Linux/x86 boot protocol: Documentation/arch/x86/boot.rst ("64-bit BOOT PROTOCOL", "32-bit
 * BOOT PROTOCOL"), struct boot_params in <asm/bootparam.h>.
 */
#include <asm/bootparam.h>
#include <errno.h>

#include "bios/load.h"
#include "vmm/base/log.h"

#define HDR_OFFSET 0x1f1
#define HDR_MAGIC 0x53726448		/* "HdrS" */
#define LOADER_UNDEFINED 0xff
#ifndef SETUP_RNG_SEED
#define SETUP_RNG_SEED 9
#endif

struct bzimage {
	struct setup_header hdr;
	size_t hdr_len;			/* bytes of it the kernel has */
	uint64_t file_size, pm_off, pm_len;	/* the protected-mode part in the file */
	uint64_t base, end;		/* where it runs, memory it needs while it unpacks */
	bool entry64;
};

static int bzimage_check(const struct bios_config *c, struct bzimage *k, struct err *err)
{
	const struct bios_file *f = &c->kernel;
	uint8_t head[0x300] = { 0 };
	unsigned sects;
	int ret;

	ret = file_size(f, &k->file_size, err);
	if (ret < 0)
		return ret;
	ret = file_read(f, head, MIN(sizeof(head), k->file_size), 0, err);
	if (ret < 0)
		return ret;
	/* The jump at 0x200 tells where the header ends: 0x202 + the byte at 0x201. */
	k->hdr_len = MIN(0x202u + head[0x201] - HDR_OFFSET, sizeof(k->hdr));
	memcpy(&k->hdr, head + HDR_OFFSET, k->hdr_len);
	if (ld_le16(head + 0x1fe) != 0xaa55 || k->hdr.header != HDR_MAGIC)
		return err_set(err, ENOEXEC, "%s is not a Linux kernel", f->path);
	if (k->hdr.version < 0x0202)
		return err_set(err, ENOEXEC,
			       "%s: boot protocol %u.%02u is older than 2.02; boot it from a disk "
			       "with its "
			       "boot loader",
			       f->path, k->hdr.version >> 8, k->hdr.version & 0xff);
	if (!(k->hdr.loadflags & LOADED_HIGH))
		return err_set(err, ENOEXEC,
			       "%s is a zImage (loaded low); only a bzImage can start without a "
			       "boot loader",
			       f->path);
	sects = k->hdr.setup_sects ? k->hdr.setup_sects : 4;
	k->pm_off = (sects + 1) * 512ull;
	if (k->pm_off >= k->file_size)
		return err_set(err, ENODATA,
			       "%s is truncated: it ends in its setup code (%u sectors)", f->path,
			       sects);
	k->pm_len = k->file_size - k->pm_off;
	/*
	 * syssize counts 16-byte paragraphs; a signature may follow them, so only less is an error.
	 */
	if (k->hdr.version >= 0x0204 && k->pm_len + 15 < k->hdr.syssize * 16ull)
		return err_set(err, ENODATA,
			       "%s is truncated: its header promises %llu bytes, the file has %llu",
			       f->path, (unsigned long long)(k->pm_off + k->hdr.syssize * 16ull),
			       (unsigned long long)k->file_size);
	k->entry64 = k->hdr.version >= 0x020c && (k->hdr.xloadflags & XLF_KERNEL_64);
	if (k->entry64 && k->pm_len <= 0x200)
		return err_set(err, ENODATA, "%s is truncated: no code at its 64-bit entry",
			       f->path);
	return 0;
}

/* Where it runs: at the address it prefers, so that it need not move itself. */
static int bzimage_place(const struct bios_config *c, struct bzimage *k, struct err *err)
{
	uint64_t need = k->pm_len, align = 0x200000;

	k->base = MiB;
	if (k->hdr.version >= 0x020a) {
		need = MAX(need, k->hdr.init_size);
		k->base = k->hdr.pref_address;
		align = k->hdr.kernel_alignment;
		if (k->hdr.relocatable_kernel && IS_POWER_OF_2(align) &&
		    k->base + need > c->ram_low)
			k->base = ALIGN_UP((uint64_t)MiB, align);
	} else {
		/*
		 * No word about how much it needs to unpack: old kernels want about four times
		 * their size.
		 */
		need *= 4;
	}
	if (k->base < MiB || k->base >= 4 * GiB || !range_ok(k->base, need, c->ram_low))
		return err_set(err, ENOMEM,
			       "%s needs %llu MiB of memory at 0x%llx, the guest has %llu MiB "
			       "there; give it more "
			       "with -m",
			       c->kernel.path, (unsigned long long)((need + MiB - 1) / MiB),
			       (unsigned long long)k->base, (unsigned long long)(c->ram_low / MiB));
	k->end = k->base + need;
	return 0;
}

/* As high as the kernel allows: out of the way of what it unpacks. */
static int initrd_load(const struct bios_config *c, const struct bzimage *k, struct boot_params *bp,
		       struct err *err)
{
	const struct bios_file *f = &c->initrd;
	uint64_t size, top, at,
		limit = k->hdr.version >= 0x0203 ? k->hdr.initrd_addr_max : 0x37ffffff;
	int ret;

	ret = file_size(f, &size, err);
	if (ret < 0)
		return ret;
	top = MIN(limit + 1, c->ram_low);
	at = size <= top ? ALIGN_DOWN(top - size, 4096ull) : 0;
	if (at < k->end) {
		/* Not below 4 GiB, then above when the kernel can. */
		bool high = k->entry64 && (k->hdr.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G);

		if (!high || size > c->ram_high)
			return err_set(err, EFBIG,
				       "%s (%llu MiB) does not fit into memory beside the kernel, "
				       "which ends at %llu "
				       "MiB, below %llu MiB; give the guest more with -m",
				       f->path, (unsigned long long)((size + MiB - 1) / MiB),
				       (unsigned long long)(k->end / MiB),
				       (unsigned long long)(top / MiB));
		at = ALIGN_DOWN(4 * GiB + c->ram_high - size, 4096ull);
	}
	bp->hdr.ramdisk_image = at;
	bp->hdr.ramdisk_size = size;
	bp->ext_ramdisk_image = at >> 32;
	bp->ext_ramdisk_size = size >> 32;
	trace(TRACE_BOOT, 0, "bios", "initrd %llu bytes at 0x%llx", (unsigned long long)size,
	      (unsigned long long)at);
	return ram_load(c, f, 0, at, size, err);
}

static int cmdline_load(const struct bios_config *c, const struct bzimage *k,
			struct boot_params *bp, struct err *err)
{
	const char *s = c->cmdline ? c->cmdline : "";
	size_t len = strlen(s), max = k->hdr.version >= 0x0206 ? k->hdr.cmdline_size : 255;

	max = MIN(max, LOW_EBDA - LOW_CMDLINE - 1);
	if (len > max)
		return err_set(err, E2BIG,
			       "the kernel command line has %zu bytes, %s takes at most %zu; "
			       "shorten -append",
			       len, c->kernel.path, max);
	bp->hdr.cmd_line_ptr = LOW_CMDLINE;
	return ram_write(c, LOW_CMDLINE, s, len + 1);
}

static void rng_seed_load(const struct bios_config *c, const struct bzimage *k,
			  struct boot_params *bp)
{
	struct {
		struct setup_data head;
		uint8_t seed[32];
	} d = { .head = { .type = SETUP_RNG_SEED, .len = 32 } };

	if (!c->rng_seed || k->hdr.version < 0x0209)
		return;
	memcpy(d.seed, c->rng_seed, sizeof(d.seed));
	if (ram_write(c, LOW_SETUP_DATA, &d, sizeof(d)) == 0)
		bp->hdr.setup_data = LOW_SETUP_DATA;
	explicit_bzero(&d, sizeof(d));
}

static void boot_params_memory(const struct bios_config *c, struct boot_params *bp)
{
	struct e820_entry map[E820_MAX];
	unsigned i, n = e820_build(c, map, E820_MAX);
	uint64_t above = (c->ram_low - MiB) / KiB;

	for (i = 0; i < n; i++) {
		bp->e820_table[i].addr = map[i].base;
		bp->e820_table[i].size = map[i].len;
		bp->e820_table[i].type = map[i].type;
	}
	bp->e820_entries = n;
	bp->alt_mem_k = above;
	bp->screen_info.ext_mem_k = MIN(above, 0xfc00u);
}

/* Mode 3 of a colour VGA, cursor at the top. */
static void boot_params_screen(struct screen_info *s)
{
	s->orig_video_mode = 3;
	s->orig_video_cols = 80;
	s->orig_video_lines = 25;
	s->orig_video_ega_bx = 3;
	s->orig_video_isVGA = 1;
	s->orig_video_points = 16;
}

int load_linux(const struct bios_config *c, uint64_t rsdp, struct boot_cpu *cpu, struct err *err)
{
	struct bzimage k = { .hdr_len = 0 };
	struct boot_params bp = { .acpi_rsdp_addr = rsdp };
	int ret;

	ret = bzimage_check(c, &k, err);
	if (ret == 0)
		ret = bzimage_place(c, &k, err);
	if (ret < 0)
		return ret;
	memcpy(&bp.hdr, &k.hdr, k.hdr_len);
	bp.hdr.type_of_loader = LOADER_UNDEFINED;
	bp.hdr.code32_start = k.base;
	bp.hdr.ramdisk_image = bp.hdr.ramdisk_size = 0;
	bp.hdr.setup_data = 0;
	bp.hdr.loadflags &= ~(CAN_USE_HEAP | KASLR_FLAG);
	boot_params_memory(c, &bp);
	if (c->text_screen)
		boot_params_screen(&bp.screen_info);
	rng_seed_load(c, &k, &bp);
	ret = cmdline_load(c, &k, &bp, err);
	if (ret == 0)
		ret = ram_load(c, &c->kernel, k.pm_off, k.base, k.pm_len, err);
	if (ret == 0 && c->initrd.fd >= 0)
		ret = initrd_load(c, &k, &bp, err);
	if (ret < 0)
		return ret;

	ret = ram_write(c, LOW_ZERO_PAGE, &bp, sizeof(bp));
	if (ret == 0)
		ret = k.entry64 ? boot_long64(c, cpu) : boot_flat32(c, LOW_GDT, cpu);
	if (ret < 0)
		return err_set(err, -ret,
			       "the guest needs at least 1 MiB of memory; give it more with -m");
	cpu->rip = k.entry64 ? k.base + 0x200 : k.base;
	cpu->rsi = LOW_ZERO_PAGE;
	cpu->rsp = LOW_STACK_TOP;
	cpu->way = k.entry64 ? "linux" : "linux32";
	trace(TRACE_BOOT, 0, "bios",
	      "%s: protocol %u.%02u, %llu bytes at 0x%llx, entry 0x%llx (%s)", c->kernel.path,
	      k.hdr.version >> 8, k.hdr.version & 0xff, (unsigned long long)k.pm_len,
	      (unsigned long long)k.base, (unsigned long long)cpu->rip, cpu->way);
	return 0;
}
