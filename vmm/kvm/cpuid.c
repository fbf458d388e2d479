/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cpuid.c: which processor the guest sees. Specification: Intel SDM volume 2 CPUID, AMD APM volume
 * 3 appendix E, Linux Documentation/virt/kvm/x86/cpuid.rst. Called before the vCPUs run.
 *
 * "host" is what KVM offers on this host. The other models are stable: their leaves depend on the
 * model alone, so that a saved machine moves between hosts, also between Intel and AMD; a host that
 * lacks one of their features is refused rather than hidden from the guest.
 */
#include <asm/kvm_para.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/log.h"
#include "vmm/base/nearest.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/cpuid_features.h"

#define LEAF_KVM_SIGNATURE 0x40000000u
#define LEAF_KVM_FEATURES 0x40000001u
#define LEAF_HV_FIRST 0x40000000u
/* where KVM's leaves go when Hyper-V's come first */
#define LEAF_KVM_SECOND 0x40000100u
#define MAX_LEAVES 192

/* the index comes with any of them */
enum { HV_RELAXED = 1, HV_VAPIC = 2, HV_TIME = 4, HV_SPINLOCKS = 8, HV_VPINDEX = 16 };

/* family 15, model 107, stepping 1: 64-bit, and no quirk of a particular processor is expected */
#define SIGNATURE_ANY 0x00060fb1u

struct cpu_model {
	const char *name;
	const char *brand;
	uint32_t f[CPU_WORDS];
	const char *vendor;			/* NULL: "AuthenticAMD" */
	uint32_t signature;			/* 0: SIGNATURE_ANY */
};

/* 1.EDX of every 64-bit processor without debug store, ACPI, HT */
#define V1_EDX (0x078bfbffu)
/* what AMD's processors repeat from 1.EDX; Intel's do not */
#define EXT_EDX_REPEATED 0x0183f3ffu
#define EXT_EDX_OWN 0x20100800u		/* SYSCALL, NX, LM */
#define EXT_EDX (EXT_EDX_OWN | EXT_EDX_REPEATED)

static const struct cpu_model models[] = {
	{ .name = "qemu64",
	  .brand = "minivmm qemu64 virtual CPU",
	  .f = { [CPU_1_EDX] = V1_EDX,
		 [CPU_1_ECX] = F_SSE3 | F_CX16,
		 [CPU_EXT1_EDX] = EXT_EDX,
		 [CPU_EXT1_ECX] = F_LAHF } },
	{ .name = "x86-64-v1",
	  .brand = "minivmm x86-64-v1 virtual CPU",
	  .f = { [CPU_1_EDX] = V1_EDX, [CPU_EXT1_EDX] = EXT_EDX } },
	{ .name = "x86-64-v2",
	  .brand = "minivmm x86-64-v2 virtual CPU",
	  .f = { [CPU_1_EDX] = V1_EDX,
		 [CPU_1_ECX] = F_V2_ECX,
		 [CPU_EXT1_EDX] = EXT_EDX,
		 [CPU_EXT1_ECX] = F_LAHF } },
	{ .name = "x86-64-v3",
	  .brand = "minivmm x86-64-v3 virtual CPU",
	  .f = { [CPU_1_EDX] = V1_EDX,
		 [CPU_1_ECX] = F_V2_ECX | F_V3_ECX,
		 [CPU_7_EBX] = F_V3_7EBX,
		 [CPU_EXT1_EDX] = EXT_EDX,
		 [CPU_EXT1_ECX] = F_LAHF | F_LZCNT } },
	{ .name = "x86-64-v4",
	  .brand = "minivmm x86-64-v4 virtual CPU",
	  .f = { [CPU_1_EDX] = V1_EDX,
		 [CPU_1_ECX] = F_V2_ECX | F_V3_ECX,
		 [CPU_7_EBX] = F_V3_7EBX | F_V4_7EBX,
		 [CPU_EXT1_EDX] = EXT_EDX,
		 [CPU_EXT1_ECX] = F_LAHF | F_LZCNT } },
	/* Two makers' processors by name, as test kernels ask for them. */
	{ .name = "Opteron_G1",
	  .brand = "minivmm Opteron_G1 virtual CPU",
	  .f = { [CPU_1_EDX] = V1_EDX, [CPU_1_ECX] = F_SSE3, [CPU_EXT1_EDX] = EXT_EDX },
	  .signature = 0x00000f61 },
	{ .name = "IvyBridge",
	  .brand = "minivmm IvyBridge virtual CPU",
	  .f = { [CPU_1_EDX] = V1_EDX,
		 [CPU_1_ECX] = F_V2_ECX | F_PCLMUL | F_TSC_DEADLINE | F_AES | F_XSAVE | F_AVX |
			       F_F16C | F_RDRAND,
		 [CPU_7_EBX] = F_FSGSBASE | F_SMEP | F_ERMS,
		 [CPU_D_1_EAX] = F_XSAVEOPT,
		 [CPU_EXT1_EDX] = EXT_EDX_OWN | F_RDTSCP,
		 [CPU_EXT1_ECX] = F_LAHF },
	  .vendor = "GenuineIntel",
	  .signature = 0x000306a9 },
};

/* What a spec asks for besides the model. */
struct cpu_request {
	const struct cpu_model *model;		/* NULL: host */
	uint32_t on[CPU_WORDS], off[CPU_WORDS];
	unsigned hv;
	bool kvm_leaves, hypervisor, host_phys_bits, enforce;
	char vendor[13];			/* empty: the model's */
	uint64_t phys_bits;			/* 0: the model's */
};

static struct kvm_cpuid_entry2 *leaf_find(const struct kvm_cpuid2 *c, uint32_t function,
					  uint32_t index)
{
	for (unsigned i = 0; i < c->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &c->entries[i];

		if (e->function == function &&
		    (e->index == index || !(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX)))
			return (struct kvm_cpuid_entry2 *)e;
	}
	return NULL;
}

/* The register of a leaf that a feature word lives in; NULL when the leaf does not exist. */
static uint32_t *word_of(const struct kvm_cpuid2 *c, unsigned word)
{
	const struct cpu_word *w = &cpu_words[word];
	struct kvm_cpuid_entry2 *e = leaf_find(c, w->function, w->index);

	if (!e)
		return NULL;
	return w->reg == 0 ? &e->eax : w->reg == 1 ? &e->ebx : w->reg == 2 ? &e->ecx : &e->edx;
}

static uint32_t word_get(const struct kvm_cpuid2 *c, unsigned word)
{
	uint32_t *p = word_of(c, word);

	return p ? *p : 0;
}

static struct kvm_cpuid_entry2 *leaf_add(struct kvm_cpuid2 *c, uint32_t function, uint32_t index,
					 bool indexed, uint32_t eax, uint32_t ebx, uint32_t ecx,
					 uint32_t edx)
{
	struct kvm_cpuid_entry2 *e = leaf_find(c, function, index);

	if (!e && c->nent < MAX_LEAVES)
		e = &c->entries[c->nent++];
	if (!e)
		return NULL;
	*e = (struct kvm_cpuid_entry2){ .function = function,
					.index = index,
					.flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
					.eax = eax,
					.ebx = ebx,
					.ecx = ecx,
					.edx = edx };
	return e;
}

static void leaf_del(struct kvm_cpuid2 *c, uint32_t first, uint32_t last)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->nent; i++)
		if (c->entries[i].function < first || c->entries[i].function > last)
			c->entries[n++] = c->entries[i];
	c->nent = n;
}

/* --- the spec --- */

static int unknown_name(const char *name, struct err *err)
{
	const char *near = nearest_name(name, cpu_feature_names());

	return err_set(err, EINVAL,
		       "-cpu: no feature is called \"%s\"%s%s%s (-cpu help lists them)", name,
		       near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static int request_special(struct cpu_request *r, const char *name, bool on)
{
	static const struct { const char *name; unsigned bits;
	} hv[] = {
		{ "hv_relaxed", HV_RELAXED }, { "hv_vapic", HV_VAPIC },
		{ "hv_time", HV_TIME },	      { "hv_spinlocks", HV_SPINLOCKS },
		{ "hv_vpindex", HV_VPINDEX },
	};

	if (!strcmp(name, "kvm"))
		return r->kvm_leaves = on, 0;
	if (!strcmp(name, "hypervisor"))
		return r->hypervisor = on, 0;
	if (!strcmp(name, "host-phys-bits"))
		return r->host_phys_bits = on, 0;
	for (size_t i = 0; i < ARRAY_SIZE(hv); i++)
		if (!strcmp(name, hv[i].name))
			return r->hv = on ? r->hv | hv[i].bits : r->hv & ~hv[i].bits, 0;
	if (!strcmp(name, "enforce"))
		return r->enforce = on, 0;
	/*
	 * Ways of saying what this program does anyway: missing features are told, the host's model
	 * has all of them.
	 */
	if (!strcmp(name, "check") || !strcmp(name, "migratable"))
		return 0;
	return -ENOENT;
}

/* What takes a value. 1: it was such, 0: it was not, -errno with the reason. */
static int request_value(struct cpu_request *r, const char *name, const char *value,
			 struct err *err)
{
	if (!strcmp(name, "vendor")) {
		if (strlen(value) != sizeof(r->vendor) - 1)
			return err_set(err, EINVAL,
				       "-cpu: vendor=%s: twelve characters expected, as "
				       "GenuineIntel or AuthenticAMD",
				       value);
		strcpy(r->vendor, value);
		return 1;
	}
	if (!strcmp(name, "phys-bits")) {
		if (parse_u64(value, 52, &r->phys_bits) < 0 || r->phys_bits < 32)
			return err_set(err, EINVAL, "-cpu: phys-bits=%s: 32 to 52 expected", value);
		return 1;
	}
	return 0;
}

static int request_feature(struct cpu_request *r, char *item, struct err *err)
{
	unsigned word, bit;
	bool on = true;
	char *eq;
	int ret;

	if (*item == '+' || *item == '-')
		on = *item++ == '+';
	eq = strchr(item, '=');
	if (eq) {
		*eq = 0;
		ret = request_value(r, item, eq + 1, err);
		if (ret)
			return MIN(ret, 0);
		/* hv_spinlocks takes a retry count. */
		if (!strcmp(item, "hv_spinlocks") || !strcmp(item, "hv-spinlocks"))
			on = true;
		else if (parse_bool(eq + 1, &on) < 0)
			return err_set(err, EINVAL, "-cpu: \"%s=%s\": on or off expected", item,
				       eq + 1);
	}
	for (char *p = item; *p; p++)
		if (*p == '-' && !strncmp(item, "hv", 2))
			*p = '_';
	if (request_special(r, item, on) == 0)
		return 0;
	if (!cpu_feature_find(item, &word, &bit))
		return unknown_name(item, err);
	r->on[word] = on ? r->on[word] | 1u << bit : r->on[word] & ~(1u << bit);
	r->off[word] = on ? r->off[word] & ~(1u << bit) : r->off[word] | 1u << bit;
	return 0;
}

static int request_model(struct cpu_request *r, const char *name, struct err *err)
{
	const char *names[ARRAY_SIZE(models) + 3] = { "host", "max" };
	const char *near;

	r->model = NULL;
	if (!strcmp(name, "host") || !strcmp(name, "max"))
		return 0;
	if (!strcmp(name, "kvm64"))
		name = "qemu64";
	for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
		names[i + 2] = models[i].name;
		if (!strcmp(name, models[i].name)) {
			r->model = &models[i];
			return 0;
		}
	}
	near = nearest_name(name, names);
	return err_set(err, EINVAL, "-cpu: no model is called \"%s\"%s%s%s (-cpu help lists them)",
		       name, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static int request_parse(struct cpu_request *r, const char *spec, struct err *err)
{
	char *copy = xstrdup(spec), *save = NULL, *item;
	int ret;

	*r = (struct cpu_request){ .kvm_leaves = true, .hypervisor = true, .enforce = true };
	item = strtok_r(copy, ",", &save);
	ret = request_model(r, item ? item : "", err);
	while (ret == 0 && (item = strtok_r(NULL, ",", &save)))
		ret = request_feature(r, item, err);
	free(copy);
	return ret;
}

/* --- leaves --- */

/*
 * What the host offers of a word. Intel's processors do not repeat 1.EDX, but a guest with AMD's
 * conventions gets the same features.
 */
static uint32_t word_offered(const struct kvm_cpuid2 *host, unsigned word)
{
	return word_get(host, word) |
	       (word == CPU_EXT1_EDX ? word_get(host, CPU_1_EDX) & EXT_EDX_REPEATED : 0);
}

static void words_or_missing(const struct kvm_cpuid2 *host, const uint32_t *want, char *names,
			     size_t len)
{
	size_t n = 0;

	names[0] = 0;
	for (unsigned w = 0; w < CPU_WORDS; w++) {
		uint32_t missing = want[w] & ~word_offered(host, w);

		for (unsigned bit = 0; bit < 32; bit++) {
			const char *name = cpu_feature_name(w, bit);

			if (missing >> bit & 1 && n < len)
				n += snprintf(names + n, len - n, "%s%s", n ? ", " : "",
					      name ? name : "?");
		}
	}
}

/* XCR0 components that the features of a stable model need; sizes and offsets are architectural. */
static void stable_xsave(struct kvm_cpuid2 *c, const uint32_t *f)
{
	static const struct { unsigned n, size, offset; } parts[] = {
		{ 2, 256, 576 }, { 5, 64, 1088 }, { 6, 512, 1152 }, { 7, 1024, 1664 },
	};
	uint32_t mask = 3, size = 576;

	if (!(word_get(c, CPU_1_ECX) & F_XSAVE))
		return;
	if (word_get(c, CPU_1_ECX) & F_AVX)
		mask |= 4;
	if (word_get(c, CPU_7_EBX) & F_AVX512F)
		mask |= 0xe0;
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		if (!(mask >> parts[i].n & 1))
			continue;
		leaf_add(c, 0xd, parts[i].n, true, parts[i].size, parts[i].offset, 0, 0);
		size = parts[i].offset + parts[i].size;
	}
	leaf_add(c, 0xd, 0, true, mask, size, size, 0);
	leaf_add(c, 0xd, 1, true, f[CPU_D_1_EAX], 0, 0, 0);
}

static void brand_leaves(struct kvm_cpuid2 *c, const char *brand)
{
	char text[48] = { 0 };
	uint32_t w[12];

	memcpy(text, brand, MIN(strlen(brand), sizeof(text) - 1));
	memcpy(w, text, sizeof(w));
	for (unsigned i = 0; i < 3; i++)
		leaf_add(c, 0x80000002 + i, 0, false, w[4 * i], w[4 * i + 1], w[4 * i + 2],
			 w[4 * i + 3]);
}

static void set_vendor(struct kvm_cpuid2 *c, const char vendor[12])
{
	const uint32_t leaves[] = { 0, 0x80000000 };

	for (size_t i = 0; i < ARRAY_SIZE(leaves); i++) {
		struct kvm_cpuid_entry2 *e = leaf_find(c, leaves[i], 0);

		if (e) {
			e->ebx = ld_le32(vendor);
			e->edx = ld_le32(vendor + 4);
			e->ecx = ld_le32(vendor + 8);
		}
	}
}

static int set_phys_bits(struct kvm_cpuid2 *c, const struct kvm_cpuid2 *host,
			 const struct cpu_request *r, struct err *err)
{
	struct kvm_cpuid_entry2 *e = leaf_find(c, 0x80000008, 0);
	unsigned have = cpuid_phys_bits(host);

	if (r->phys_bits > have)
		return err_set(err, ENOTSUP, "-cpu: phys-bits=%u: this host has %u",
			       (unsigned)r->phys_bits, have);
	if (e && (r->phys_bits || r->host_phys_bits))
		e->eax = (e->eax & ~0xffu) | (r->phys_bits ? (uint32_t)r->phys_bits : have);
	return 0;
}

static struct kvm_cpuid2 *stable_leaves(const struct cpu_model *m, const uint32_t *f)
{
	struct kvm_cpuid2 *c = xcalloc(1, sizeof(*c) + MAX_LEAVES * sizeof(c->entries[0]));
	const uint32_t signature = m->signature ? m->signature : SIGNATURE_ANY;

	leaf_add(c, 0, 0, false, 0xd, 0, 0, 0);
	leaf_add(c, 1, 0, false, signature, 0x800, f[CPU_1_ECX], f[CPU_1_EDX]);
	leaf_add(c, 7, 0, true, 0, f[CPU_7_EBX], f[CPU_7_ECX], f[CPU_7_EDX]);
	leaf_add(c, 0xb, 0, true, 0, 0, 0, 0);
	leaf_add(c, 0xb, 1, true, 0, 0, 0, 0);
	leaf_add(c, 0x80000000, 0, false, 0x80000008, 0, 0, 0);
	/*
	 * AMD's 64-bit conventions (SYSCALL everywhere) are those KVM provides on both makers'
	 * hosts.
	 */
	set_vendor(c, m->vendor ? m->vendor : "AuthenticAMD");
	leaf_add(c, 0x80000001, 0, false, signature, 0, f[CPU_EXT1_ECX], f[CPU_EXT1_EDX]);
	brand_leaves(c, m->brand);
	/* 64 KiB 2-way L1 caches with 64-byte lines, 512 KiB 16-way L2. */
	leaf_add(c, 0x80000005, 0, false, 0x01ff01ff, 0x01ff01ff, 0x40020140, 0x40020140);
	leaf_add(c, 0x80000006, 0, false, 0, 0x42004200, 0x02008140, 0);
	leaf_add(c, 0x80000007, 0, false, 0, 0, 0, 0);
	leaf_add(c, 0x80000008, 0, false, 0x3028, f[CPU_EXT8_EBX], 0, 0);
	stable_xsave(c, f);
	return c;
}

/* What KVM offers on its hypervisor leaves that a machine may carry to another host. */
#define KVM_STABLE_FEATURES (1u << KVM_FEATURE_CLOCKSOURCE | 1u << KVM_FEATURE_NOP_IO_DELAY | \
	1u << KVM_FEATURE_CLOCKSOURCE2 | 1u << KVM_FEATURE_STEAL_TIME | 1u << KVM_FEATURE_PV_EOI | \
	1u << KVM_FEATURE_PV_UNHALT | 1u << KVM_FEATURE_CLOCKSOURCE_STABLE_BIT)

static void hypervisor_leaves(struct kvm_cpuid2 *c, const struct kvm_cpuid2 *host,
			      const struct cpu_request *r)
{
	struct kvm_cpuid_entry2 *hf = leaf_find(host, LEAF_KVM_FEATURES, 0);
	uint32_t features = hf ? hf->eax : 0, hints = hf ? hf->edx : 0;
	uint32_t base = r->hv ? LEAF_KVM_SECOND : LEAF_KVM_SIGNATURE;

	leaf_del(c, 0x40000000, 0x4fffffff);
	if (r->model) {
		features &= KVM_STABLE_FEATURES;
		hints = 0;
	}
	if (r->kvm_leaves) {
		/* "KVMKVMKVM\0\0\0" */
		leaf_add(c, base, 0, false, base + 1, 0x4b4d564b, 0x564b4d56, 0x4d);
		leaf_add(c, base + 1, 0, false, features, 0, 0, hints);
	}
	if (r->hv) {
		uint32_t access = 1 << 5 | 1 << 6;	/* hypercall page, VP index */
		uint32_t advice = 0;

		if (r->hv & HV_TIME)
			access |= 1 << 1 | 1 << 9;	/* reference counter and its page */
		if (r->hv & HV_VAPIC)
			access |= 1 << 4, advice |= 1 << 3;
		if (r->hv & HV_RELAXED)
			advice |= 1 << 5;
		/* "Microsoft Hv" */
		leaf_add(c, LEAF_HV_FIRST, 0, false, 0x40000005, 0x7263694d, 0x666f736f,
			 0x76482074);
		/* "Hv#1" */
		leaf_add(c, LEAF_HV_FIRST + 1, 0, false, 0x31237648, 0, 0, 0);
		leaf_add(c, LEAF_HV_FIRST + 2, 0, false, 0x1db1, 0x000a0000, 0, 0);
		leaf_add(c, LEAF_HV_FIRST + 3, 0, false, access, 0, 0, 0);
		leaf_add(c, LEAF_HV_FIRST + 4, 0, false, advice,
			 r->hv & HV_SPINLOCKS ? 0x1fff : 0xffffffff, 0, 0);
		leaf_add(c, LEAF_HV_FIRST + 5, 0, false, 0x40, 0x40, 0, 0);
	}
}

/* Leaves of the host's own machine that a guest of another shape must not see. */
static void host_cleanup(struct kvm_cpuid2 *c)
{
	/* dies and modules: this machine has sockets, cores and threads (leaf 0xb) */
	leaf_del(c, 0x1f, 0x1f);
	leaf_del(c, 5, 5);		/* MONITOR/MWAIT */
}

/*
 * The leaves only announce Hyper-V's registers; it is KVM that has them. A guest told of what is
 * not there dies at its first rdmsr.
 */
static int hv_check(const struct cpuid_host *h, struct cpu_request *r, const char *spec,
		    struct err *err)
{
	bool any = h->hyperv;
	unsigned missing = !any ? r->hv : h->hyperv_time ? 0 : r->hv & HV_TIME;

	if (!missing)
		return 0;
	if (r->enforce)
		return err_set(
			err, ENOTSUP,
			"-cpu %s: this host's KVM does not offer %s (its kernel is built without "
			"CONFIG_KVM_HYPERV): "
			"leave that out, or have all that is missing left out: -cpu %s,enforce=off",
			spec,
			any ? "hv_time" : "Hyper-V's interface, that is hv_relaxed, hv_time ...",
			spec);
	log_warn("-cpu %s: without %s, which this host's KVM lacks", spec,
		 any ? "hv_time" : "the hv_ features");
	r->hv &= ~missing;
	return 0;
}

struct kvm_cpuid2 *cpuid_derive(const struct cpuid_host *h, const char *spec, struct err *err)
{
	const struct kvm_cpuid2 *host = h->leaves;
	struct kvm_cpuid2 *c;
	struct cpu_request r;
	char missing[256];
	uint32_t want[CPU_WORDS];

	if (request_parse(&r, spec, err) < 0 || hv_check(h, &r, spec, err) < 0)
		return NULL;
	for (unsigned w = 0; w < CPU_WORDS; w++)
		want[w] = ((r.model ? r.model->f[w] : 0) | r.on[w]) & ~r.off[w];
	words_or_missing(host, want, missing, sizeof(missing));
	if (missing[0] && r.enforce) {
		err_set(err, ENOTSUP,
			"-cpu %s: this host's KVM lacks %s (take a smaller model, leave it out: "
			"-cpu %s,-%.*s, or have all "
			"that is missing left out: -cpu %s,enforce=off)",
			spec, missing, spec, (int)strcspn(missing, ","), missing, spec);
		return NULL;
	}
	if (missing[0])
		log_warn("-cpu %s: without %s, which this host's KVM lacks", spec, missing);
	for (unsigned w = 0; w < CPU_WORDS; w++) {
		want[w] &= word_offered(host, w);
		r.on[w] &= word_offered(host, w);
	}
	if (r.model) {
		c = stable_leaves(r.model, want);
	} else {
		c = xcalloc(1, sizeof(*c) + MAX_LEAVES * sizeof(c->entries[0]));
		c->nent = MIN(host->nent, (unsigned)MAX_LEAVES - 16);
		memcpy(c->entries, host->entries, c->nent * sizeof(c->entries[0]));
		host_cleanup(c);
	}
	for (unsigned w = 0; w < CPU_WORDS; w++)
		if (word_of(c, w))
			*word_of(c, w) = (*word_of(c, w) | r.on[w]) & ~r.off[w];
	/* The in-kernel local APIC has both whatever the host's processor has. */
	*word_of(c, CPU_1_ECX) |= (F_X2APIC | (word_get(host, CPU_1_ECX) & F_TSC_DEADLINE)) &
				  ~r.off[CPU_1_ECX];
	if (r.hypervisor)
		*word_of(c, CPU_1_ECX) |= F_HYPERVISOR;
	else
		*word_of(c, CPU_1_ECX) &= ~F_HYPERVISOR;
	hypervisor_leaves(c, host, &r);
	if (r.vendor[0])
		set_vendor(c, r.vendor);
	if (set_phys_bits(c, host, &r, err) < 0) {
		free(c);
		c = NULL;
	}
	return c;
}

struct kvm_cpuid2 *cpuid_build(struct kvm *k, const char *spec, struct err *err)
{
	struct cpuid_host h = { .leaves = kvm_supported_cpuid(k),
				.hyperv = kvm_has(k, KVM_CAP_HYPERV),
				.hyperv_time = kvm_has(k, KVM_CAP_HYPERV_TIME) };
	struct kvm_cpuid2 *c;

	if (!h.leaves) {
		err_set(err, errno, "KVM_GET_SUPPORTED_CPUID: %s", strerror(errno));
		return NULL;
	}
	/* Without in-kernel support for a bit the emulated chips provide, KVM does not list it. */
	if (kvm_has(k, KVM_CAP_TSC_DEADLINE_TIMER) && word_of(h.leaves, CPU_1_ECX))
		*word_of(h.leaves, CPU_1_ECX) |= F_TSC_DEADLINE;
	c = cpuid_derive(&h, spec, err);
	free(h.leaves);
	return c;
}

/* --- topology --- */

static unsigned bits_for(unsigned n)
{
	unsigned bits = 0;

	while (1u << bits < n)
		bits++;
	return bits;
}

uint32_t cpu_apic_id(const struct cpu_topology *t, unsigned index)
{
	unsigned thread = index % t->threads, core = index / t->threads % t->cores;
	unsigned socket = index / (t->threads * t->cores);
	unsigned tb = bits_for(t->threads), cb = bits_for(t->cores);

	return socket << (tb + cb) | core << tb | thread;
}

/* Leaf 4 and its AMD twin: which caches how many logical processors share. */
static void set_cache_sharing(struct kvm_cpuid_entry2 *e, const struct cpu_topology *t, bool intel)
{
	unsigned level = e->eax >> 5 & 7;
	unsigned sharing = level >= 3 ? t->threads * t->cores : t->threads;

	if (!(e->eax & 0x1f))
		return;
	sharing = 1u << bits_for(sharing);
	e->eax = (e->eax & ~(0xfffu << 14)) | (MIN(sharing, 4096u) - 1) << 14;
	if (intel)
		e->eax = (e->eax & ~(0x3fu << 26)) | (MIN(1u << bits_for(t->cores), 64u) - 1) << 26;
}

static void set_extended_topology(struct kvm_cpuid_entry2 *e, const struct cpu_topology *t,
				  uint32_t apic_id)
{
	unsigned tb = bits_for(t->threads), cb = bits_for(t->cores);

	e->edx = apic_id;
	e->ecx = e->index;
	e->eax = e->ebx = 0;
	if (e->index == 0) {
		e->eax = tb;
		e->ebx = t->threads;
		e->ecx |= 1 << 8;	/* SMT level */
	} else if (e->index == 1) {
		e->eax = tb + cb;
		e->ebx = t->threads * t->cores;
		e->ecx |= 2 << 8;	/* core level */
	}
}

struct kvm_cpuid2 *cpuid_for_vcpu(const struct kvm_cpuid2 *base, const struct cpu_topology *t,
				  uint32_t apic_id)
{
	unsigned per_socket = t->threads * t->cores;
	struct kvm_cpuid2 *c = xcalloc(1, sizeof(*c) + MAX_LEAVES * sizeof(c->entries[0]));

	memcpy(c, base, sizeof(*c) + base->nent * sizeof(c->entries[0]));
	for (unsigned i = 0; i < c->nent; i++) {
		struct kvm_cpuid_entry2 *e = &c->entries[i];

		switch (e->function) {
		case 1:
			e->ebx = (e->ebx & 0xff00) | 8 << 8 | MIN(per_socket, 255u) << 16 |
				 (apic_id & 0xff) << 24;
			e->edx = per_socket > 1 ? e->edx | F_HTT : e->edx & ~F_HTT;
			break;
		case 4:
			set_cache_sharing(e, t, true);
			break;
		case 0xb:
			set_extended_topology(e, t, apic_id);
			break;
		case 0x80000001:
			e->ecx = per_socket > 1 ? e->ecx | F_CMP_LEGACY : e->ecx & ~F_CMP_LEGACY;
			break;
		case 0x80000008:
			e->ecx = per_socket > 1 ? bits_for(per_socket) << 12 | (per_socket - 1) : 0;
			break;
		case 0x8000001d:
			set_cache_sharing(e, t, false);
			break;
		case 0x8000001e:
			e->eax = apic_id;
			e->ebx = (t->threads - 1) << 8 | (apic_id >> bits_for(t->threads) & 0xff);
			e->ecx = apic_id >> (bits_for(t->threads) + bits_for(t->cores)) & 0xff;
			break;
		}
	}
	return c;
}

unsigned cpuid_phys_bits(const struct kvm_cpuid2 *c)
{
	struct kvm_cpuid_entry2 *e = leaf_find(c, 0x80000008, 0);

	return e && (e->eax & 0xff) >= 32 ? e->eax & 0xff : 36;
}

void cpuid_help(void)
{
	const char *const *names = cpu_feature_names();
	int column = 0;

	printf("Models:\n  %-12s what this host's KVM offers (default)\n", "host");
	for (size_t i = 0; i < ARRAY_SIZE(models); i++)
		printf("  %-12s stable: the same on every host that has its features\n",
		       models[i].name);
	printf("Features (+name, -name, name=on|off); also enforce=off, vendor=GenuineIntel, "
	       "phys-bits=N, host-phys-bits=on, kvm=off, "
	       "hypervisor=off, hv_relaxed, hv_vapic, hv_time, hv_vpindex, hv_spinlocks:\n ");
	for (; *names; names++) {
		column += printf(" %s", *names);
		if (column > 80)
			column = printf("\n ") - 2;
	}
	printf("\n");
}

char *cpuid_dump(const struct kvm_cpuid2 *c)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	for (unsigned i = 0; i < c->nent; i++)
		fprintf(f, "%08x %2x: %08x %08x %08x %08x\n", c->entries[i].function,
			c->entries[i].index, c->entries[i].eax, c->entries[i].ebx,
			c->entries[i].ecx, c->entries[i].edx);
	fclose(f);
	return text;
}
