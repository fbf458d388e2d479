/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dump.c: guest memory and registers as an ELF core that crash(8) and gdb read: one PT_LOAD for
 * each piece of RAM with its physical address, one NT_PRSTATUS for each vCPU. Control thread,
 * machine paused. Specification: ELF-64; the layout of struct elf_prstatus is Linux's for x86-64.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/procfs.h>
#include <sys/user.h>
#include <unistd.h>

#include "vmm/control/dump.h"

#define MAX_PIECES 64

struct dump {
	struct machine *m;
	struct { struct block *b; uint64_t gpa, offset, size; } piece[MAX_PIECES];
	unsigned n;
};

static int collect(void *ctx, struct block *b, uint64_t gpa, uint64_t offset, uint64_t size)
{
	struct dump *d = ctx;

	if (!(block_flags(b) & BLOCK_RAM))
		return 0;
	if (d->n == MAX_PIECES)
		return -E2BIG;
	d->piece[d->n].b = b;
	d->piece[d->n].gpa = gpa;
	d->piece[d->n].offset = offset;
	d->piece[d->n++].size = size;
	return 0;
}

/* struct user_regs_struct's order. */
static void fill_regs(struct vcpu *v, elf_gregset_t g)
{
	struct kvm_regs r = { 0 };
	struct kvm_sregs s = { 0 };
	struct user_regs_struct u;

	vcpu_get_regs(v, &r, &s);
	u = (struct user_regs_struct){
		.r15 = r.r15,
		.r14 = r.r14,
		.r13 = r.r13,
		.r12 = r.r12,
		.rbp = r.rbp,
		.rbx = r.rbx,
		.r11 = r.r11,
		.r10 = r.r10,
		.r9 = r.r9,
		.r8 = r.r8,
		.rax = r.rax,
		.rcx = r.rcx,
		.rdx = r.rdx,
		.rsi = r.rsi,
		.rdi = r.rdi,
		.orig_rax = r.rax,
		.rip = r.rip,
		.cs = s.cs.selector,
		.eflags = r.rflags,
		.rsp = r.rsp,
		.ss = s.ss.selector,
		.fs_base = s.fs.base,
		.gs_base = s.gs.base,
		.ds = s.ds.selector,
		.es = s.es.selector,
		.fs = s.fs.selector,
		.gs = s.gs.selector,
	};
	memcpy(g, &u, sizeof(u));
}

struct note {
	Elf64_Nhdr h;
	char name[8];			/* "CORE", padded */
	struct elf_prstatus status;
};

static size_t fill_notes(struct machine *m, struct note *notes)
{
	for (unsigned i = 0; i < m->nvcpus; i++) {
		notes[i].h = (Elf64_Nhdr){ .n_namesz = 5,
					   .n_descsz = sizeof(struct elf_prstatus),
					   .n_type = NT_PRSTATUS };
		memcpy(notes[i].name, "CORE\0\0\0", 8);
		notes[i].status.pr_pid = i + 1;
		fill_regs(m->vcpus[i], notes[i].status.pr_reg);
	}
	return m->nvcpus * sizeof(*notes);
}

static int write_core(struct dump *d, int fd)
{
	struct machine *m = d->m;
	struct note *notes = xcalloc(m->nvcpus, sizeof(*notes));
	size_t notes_len = fill_notes(m, notes);
	Elf64_Phdr *ph = xcalloc(d->n + 1, sizeof(*ph));
	Elf64_Ehdr eh = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
			     EV_CURRENT },
		.e_type = ET_CORE,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_phoff = sizeof(eh),
		.e_ehsize = sizeof(eh),
		.e_phentsize = sizeof(*ph),
		.e_phnum = d->n + 1,
	};
	uint64_t at = sizeof(eh) + (d->n + 1) * sizeof(*ph);
	int ret;

	ph[0] = (Elf64_Phdr){
		.p_type = PT_NOTE, .p_offset = at, .p_filesz = notes_len, .p_memsz = notes_len
	};
	at = ALIGN_UP(at + notes_len, 4096ull);
	for (unsigned i = 0; i < d->n; i++) {
		ph[i + 1] = (Elf64_Phdr){ .p_type = PT_LOAD,
					  .p_flags = PF_R | PF_W | PF_X,
					  .p_offset = at,
					  .p_paddr = d->piece[i].gpa,
					  .p_vaddr = d->piece[i].gpa,
					  .p_filesz = d->piece[i].size,
					  .p_memsz = d->piece[i].size };
		at += d->piece[i].size;
	}
	ret = write_full(fd, &eh, sizeof(eh));
	if (ret == 0)
		ret = write_full(fd, ph, (d->n + 1) * sizeof(*ph));
	if (ret == 0)
		ret = write_full(fd, notes, notes_len);
	for (unsigned i = 0; ret == 0 && i < d->n; i++)
		ret = pwrite_full(fd, (char *)block_host(d->piece[i].b) + d->piece[i].offset,
				  d->piece[i].size, ph[i + 1].p_offset);
	free(ph);
	free(notes);
	return ret;
}

int dump_guest_memory(struct machine *m, const char *path, struct err *err)
{
	struct dump d = { .m = m };
	int fd, ret = mem_for_each(m->mem, collect, &d);

	if (ret < 0)
		return err_set(err, -ret, "guest memory lies in more than %d pieces", MAX_PIECES);
	fd = host_open(&m->host, "memory dump", path, O_WRONLY | O_CREAT | O_TRUNC, 0600, err);
	if (fd < 0)
		return fd;
	ret = write_core(&d, fd);
	if (ret < 0)
		host_unlink(&m->host, path, fd);
	if (close(fd) < 0 && ret == 0)
		ret = -errno;
	return ret < 0 ? err_set(err, -ret, "%s: %s", path, strerror(-ret)) : 0;
}
