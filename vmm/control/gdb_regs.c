/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gdb_regs.c: registers for a debugger. The description uses GDB's standard features i386.core,
 * i386.sse and i386.segments and one of our own for control registers.
 */
#include <errno.h>
#include <sys/ioctl.h>

#include "vmm/control/gdb_regs.h"

const char gdb_target_xml[] =
	"<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>"
	"<architecture>i386:x86-64</architecture>"
	"<feature name=\"org.gnu.gdb.i386.core\">"
#define G(n) "<reg name=\"" n "\" bitsize=\"64\" type=\"int64\"/>"
	G("rax") G("rbx") G("rcx") G("rdx") G("rsi")
		G("rdi") "<reg name=\"rbp\" bitsize=\"64\" type=\"data_ptr\"/><reg name=\"rsp\" "
			 "bitsize=\"64\" type=\"data_ptr\"/>" G("r8") G("r9") G("r10") G("r11") G(
				 "r12") G("r13") G("r14")
				 G("r15") "<reg name=\"rip\" bitsize=\"64\" type=\"code_ptr\"/>"
#define W(n) "<reg name=\"" n "\" bitsize=\"32\" type=\"int32\"/>"
	W("eflags") W("cs") W("ss") W("ds") W("es") W("fs") W("gs")
#define F(n) "<reg name=\"" n "\" bitsize=\"80\" type=\"i387_ext\"/>"
		F("st0") F("st1") F("st2") F("st3") F("st4") F("st5") F("st6") F("st7") W(
			"fctrl") W("fstat") W("ftag") W("fiseg") W("fioff") W("foseg") W("fooff")
			W("fop") "</feature>"
				 "<feature name=\"org.gnu.gdb.i386.sse\">"
				 "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/><vector "
				 "id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
				 "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/><vector "
				 "id=\"v8i16\" type=\"int16\" count=\"8\"/>"
				 "<vector id=\"v4i32\" type=\"int32\" count=\"4\"/><vector "
				 "id=\"v2i64\" type=\"int64\" count=\"2\"/>"
				 "<union id=\"vec128\"><field name=\"v4_float\" "
				 "type=\"v4f\"/><field name=\"v2_double\" type=\"v2d\"/>"
				 "<field name=\"v16_int8\" type=\"v16i8\"/><field "
				 "name=\"v8_int16\" type=\"v8i16\"/>"
				 "<field name=\"v4_int32\" type=\"v4i32\"/><field "
				 "name=\"v2_int64\" type=\"v2i64\"/>"
				 "<field name=\"uint128\" type=\"uint128\"/></union>"
#define X(n) "<reg name=\"xmm" n "\" bitsize=\"128\" type=\"vec128\"/>"
	X("0") X("1") X("2") X("3") X("4") X("5") X("6") X("7") X("8") X("9") X("10") X("11")
		X("12") X("13") X("14") X("15")
			W("mxcsr") "</feature>"
				   "<feature name=\"org.gnu.gdb.i386.segments\">" G("fs_base")
					   G("gs_base") "</feature>"
							"<feature name=\"org.minivmm.control\">"
#define C(n) "<reg name=\"" n "\" bitsize=\"64\" type=\"int64\" group=\"system\"/>"
	C("cr0") C("cr2") C("cr3") C("cr4") C("cr8") C("efer") "</feature></target>";
#undef G
#undef W
#undef F
#undef X
#undef C

/* The registers of the description in order: how many of which size. */
static const struct { unsigned count, size; } groups[] = {
	{ 17, 8 }, { 7, 4 }, { 8, 10 }, { 8, 4 }, { 16, 16 }, { 1, 4 }, { 2, 8 }, { 6, 8 },
};

static unsigned gdb_reg_count(void)
{
	unsigned n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
		n += groups[i].count;
	return n;
}

bool gdb_reg_place(unsigned n, size_t *offset, size_t *size)
{
	*offset = 0;
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		if (n < groups[i].count) {
			*offset += n * groups[i].size;
			*size = groups[i].size;
			return true;
		}
		n -= groups[i].count;
		*offset += groups[i].count * groups[i].size;
	}
	return false;
}

/*
 * One walk serves both directions: put copies a member into the buffer, or out of it when writing.
 */
struct walk {
	uint8_t *p;
	bool write;
};

static void item(struct walk *w, void *member, size_t size)
{
	if (w->write)
		memcpy(member, w->p, size);
	else
		memcpy(w->p, member, size);
	w->p += size;
}

static void small_item(struct walk *w, uint64_t *value)
{
	uint32_t v = *value;

	item(w, &v, 4);
	if (w->write)
		*value = v;
}

static void walk_core(struct walk *w, struct kvm_regs *r, struct kvm_sregs *s)
{
	__u64 *const general[] = { &r->rax, &r->rbx, &r->rcx, &r->rdx, &r->rsi, &r->rdi,
				   &r->rbp, &r->rsp, &r->r8,  &r->r9,  &r->r10, &r->r11,
				   &r->r12, &r->r13, &r->r14, &r->r15, &r->rip };
	struct kvm_segment *const segs[] = { &s->cs, &s->ss, &s->ds, &s->es, &s->fs, &s->gs };
	uint64_t v = r->rflags;

	for (size_t i = 0; i < ARRAY_SIZE(general); i++)
		item(w, general[i], 8);
	small_item(w, &v);
	r->rflags = v;
	/* Selectors are shown; loading one needs its descriptor, which a debugger does not give. */
	for (size_t i = 0; i < ARRAY_SIZE(segs); i++) {
		v = segs[i]->selector;
		small_item(w, &v);
	}
}

static void walk_fpu(struct walk *w, struct kvm_fpu *f)
{
	uint64_t words[8] = {
		f->fcw, f->fsw, f->ftwx, 0, f->last_ip, 0, f->last_dp, f->last_opcode
	};
	uint64_t mxcsr = f->mxcsr;

	for (int i = 0; i < 8; i++)
		item(w, f->fpr[i], 10);
	for (int i = 0; i < 8; i++)
		small_item(w, &words[i]);
	f->fcw = words[0];
	f->fsw = words[1];
	f->ftwx = words[2];
	for (int i = 0; i < 16; i++)
		item(w, f->xmm[i], 16);
	small_item(w, &mxcsr);
	f->mxcsr = mxcsr;
}

static void walk_system(struct walk *w, struct kvm_sregs *s)
{
	__u64 *const regs[] = { &s->fs.base, &s->gs.base, &s->cr0, &s->cr2,
				&s->cr3,     &s->cr4,	  &s->cr8, &s->efer };

	for (size_t i = 0; i < ARRAY_SIZE(regs); i++)
		item(w, regs[i], 8);
}

static int walk_all(struct vcpu *v, struct walk *w)
{
	struct kvm_regs r;
	struct kvm_sregs s;
	struct kvm_fpu f;
	int ret = vcpu_get_regs(v, &r, &s);

	if (ret < 0 || ioctl(v->fd, KVM_GET_FPU, &f) < 0)
		return -EIO;
	walk_core(w, &r, &s);
	walk_fpu(w, &f);
	walk_system(w, &s);
	if (!w->write)
		return 0;
	ret = vcpu_set_regs(v, &r, &s);
	return ret < 0 ? ret : ioctl(v->fd, KVM_SET_FPU, &f) < 0 ? -errno : 0;
}

size_t gdb_regs_read(struct vcpu *v, uint8_t *buf)
{
	struct walk w = { buf, false };

	return walk_all(v, &w) < 0 ? 0 : (size_t)(w.p - buf);
}

int gdb_regs_write(struct vcpu *v, const uint8_t *buf, size_t len)
{
	struct walk w = { (uint8_t *)buf, true };
	size_t offset, size;

	gdb_reg_place(gdb_reg_count() - 1, &offset, &size);
	return len < offset + size ? -EINVAL : walk_all(v, &w);
}
