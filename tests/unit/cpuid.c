/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Processor models: stable ones against their golden dump, flags, topology. Needs /dev/kvm; says so
 * where there is none.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/cpuid_features.h"

static struct kvm *kvm;
static struct err e;

static bool open_kvm(void)
{
	e.msg[0] = 0;
	kvm = kvm_open(&e);
	if (!kvm)
		cr_skip_test("%s", e.msg);
	return kvm != NULL;
}

static struct kvm_cpuid_entry2 *leaf(struct kvm_cpuid2 *c, uint32_t function, uint32_t index)
{
	for (unsigned i = 0; i < c->nent; i++)
		if (c->entries[i].function == function && c->entries[i].index == index)
			return &c->entries[i];
	return NULL;
}

/* A host that has everything, so that the leaves of a model are the model's alone. */
static struct kvm_cpuid2 *host_with_everything(void)
{
	static const struct { uint32_t function, index;
	} leaves[] = {
		{ 0, 0 },	   { 1, 0 },	      { 6, 0 },		 { 7, 0 },
		{ 7, 1 },	   { 0xd, 0 },	      { 0xd, 1 },	 { 0x40000000, 0 },
		{ 0x40000001, 0 }, { 0x80000000, 0 }, { 0x80000001, 0 }, { 0x80000007, 0 },
		{ 0x80000008, 0 }, { 0x8000000a, 0 }, { 0x80000021, 0 },
	};
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + sizeof(c->entries[0]) * ARRAY_SIZE(leaves));

	c->nent = ARRAY_SIZE(leaves);
	for (size_t i = 0; i < ARRAY_SIZE(leaves); i++)
		c->entries[i] = (struct kvm_cpuid_entry2){
			.function = leaves[i].function,
			.index = leaves[i].index,
			.flags = leaves[i].function == 7 || leaves[i].function == 0xd
					 ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX
					 : 0,
			.eax = ~0u,
			.ebx = ~0u,
			.ecx = ~0u,
			.edx = ~0u
		};
	return c;
}

static void write_leaves(FILE *out, const char *title, const struct kvm_cpuid2 *c)
{
	char *text = cpuid_dump(c);

	fprintf(out, "%s\n%s", title, text);
	free(text);
}

/*
 * Everything a guest of this machine version sees of its processors: each stable model, KVM's and
 * Hyper-V's leaves, a second thread.
 */
Test(cpuid, stable_models_are_golden)
{
	static const char *const specs[] = { "qemu64",
					     "x86-64-v1",
					     "x86-64-v2",
					     "x86-64-v3",
					     "x86-64-v4",
					     "Opteron_G1",
					     "IvyBridge",
					     "x86-64-v1,hv_relaxed,hv_time,hv_vapic",
					     "x86-64-v1,hv_spinlocks=0x1fff,hv_vpindex,kvm=off" };
	static const struct cpu_topology t = { .sockets = 2, .cores = 2, .threads = 2 };
	struct cpuid_host host = { .leaves = host_with_everything(),
				   .hyperv = true,
				   .hyperv_time = true };
	static const char path[] = "tests/golden/pc-1.cpuid";
	char line[160], *text = NULL, *save = NULL;
	size_t len;
	FILE *f, *now = open_memstream(&text, &len);

	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		struct kvm_cpuid2 *c, *vcpu;

		e.msg[0] = 0;
		c = cpuid_derive(&host, specs[i], &e);
		cr_assert(c, "%s: %s", specs[i], e.msg);
		write_leaves(now, specs[i], c);
		vcpu = cpuid_for_vcpu(c, &t, cpu_apic_id(&t, 5));
		if (i == 0)
			write_leaves(now, "its vCPU 5 of 2 sockets, 2 cores, 2 threads", vcpu);
		free(vcpu);
		free(c);
	}
	fclose(now);
	free(host.leaves);
	f = fopen(path, getenv("GOLDEN_WRITE") ? "w" : "r");
	cr_assert(f, "%s is missing (GOLDEN_WRITE=1 makes it)", path);
	if (getenv("GOLDEN_WRITE"))
		fputs(text, f);
	for (char *l = strtok_r(text, "\n", &save); l && !getenv("GOLDEN_WRITE");
	     l = strtok_r(NULL, "\n", &save)) {
		cr_assert_not_null(fgets(line, sizeof(line), f), "%s ends before: %s", path, l);
		line[strcspn(line, "\n")] = 0;
		cr_assert_str_eq(l, line,
				 "what a guest sees of its processor changed; that needs a new "
				 "machine version (%s)",
				 path);
	}
	cr_assert(getenv("GOLDEN_WRITE") || !fgets(line, sizeof(line), f), "gone: %s", line);
	fclose(f);
	free(text);
}

/* A host with less: what it lacks is refused by name, Hyper-V's registers too. */
Test(cpuid, small_host)
{
	struct cpuid_host host = { .leaves = host_with_everything() };
	struct kvm_cpuid2 *c;

	e.msg[0] = 0;
	leaf(host.leaves, 1, 0)->ecx &= ~F_SSE4_2;
	cr_assert_null(cpuid_derive(&host, "x86-64-v2", &e));
	cr_assert(strstr(e.msg, "sse4_2"), "%s", e.msg);
	e.msg[0] = 0;
	c = cpuid_derive(&host, "x86-64-v2,enforce=off", &e);
	cr_assert(c, "%s", e.msg);
	cr_assert_eq(leaf(c, 1, 0)->ecx & F_SSE4_2, 0);
	free(c);
	/*
	 * Intel's processors have what AMD repeats in 80000001.EDX in 1.EDX alone: the guest sees
	 * it all the same.
	 */
	leaf(host.leaves, 0x80000001, 0)->edx = 1 << 11 | 1 << 20 | 1 << 29;
	e.msg[0] = 0;
	c = cpuid_derive(&host, "x86-64-v1", &e);
	cr_assert(c, "%s", e.msg);
	cr_assert_eq(leaf(c, 0x80000001, 0)->edx, 0x2193fbff);
	free(c);
	leaf(host.leaves, 1, 0)->edx &= ~(1u << 23);
	cr_assert_null(cpuid_derive(&host, "x86-64-v1", &e), "no MMX");
	e.msg[0] = 0;
	leaf(host.leaves, 1, 0)->edx |= 1u << 23;
	cr_assert_null(cpuid_derive(&host, "x86-64-v1,hv_relaxed", &e));
	cr_assert(strstr(e.msg, "Hyper-V"), "%s", e.msg);
	host.hyperv = true;
	e.msg[0] = 0;
	cr_assert_null(cpuid_derive(&host, "x86-64-v1,hv_relaxed,hv_time", &e));
	cr_assert(strstr(e.msg, "hv_time"), "%s", e.msg);
	e.msg[0] = 0;
	c = cpuid_derive(&host, "x86-64-v1,hv_relaxed,hv_vapic", &e);
	cr_assert(c, "%s", e.msg);
	cr_assert_eq(leaf(c, 0x40000004, 0)->eax, 1 << 5 | 1 << 3,
		     "relaxed timing, end of interrupt by register");
	free(c);
	free(host.leaves);
}

Test(cpuid, flags)
{
	struct kvm_cpuid2 *c;

	if (!open_kvm())
		return;
	c = cpuid_build(kvm, "host,-sse4_2,-popcnt", &e);
	cr_assert(c, "%s", e.msg);
	cr_assert_eq(leaf(c, 1, 0)->ecx & (F_SSE4_2 | F_POPCNT), 0);
	cr_assert(leaf(c, 1, 0)->ecx & F_HYPERVISOR);
	cr_assert(leaf(c, 1, 0)->ecx & F_X2APIC);
	free(c);
	c = cpuid_build(kvm, "host,kvm=off,hypervisor=off", &e);
	cr_assert_null(leaf(c, 0x40000000, 0));
	cr_assert_eq(leaf(c, 1, 0)->ecx & F_HYPERVISOR, 0);
	free(c);
	/* Announced only where KVM carries it out. */
	if (kvm_has(kvm, KVM_CAP_HYPERV)) {
		c = cpuid_build(kvm, "host,hv_relaxed,hv_time", &e);
		cr_assert_eq(leaf(c, 0x40000000, 0)->ebx, 0x7263694d, "Microsoft Hv first");
		cr_assert_eq(leaf(c, 0x40000100, 0)->ebx, 0x4b4d564b, "KVM second");
	} else {
		cr_assert_null(cpuid_build(kvm, "host,hv_relaxed,hv_time", &e));
		cr_assert(strstr(e.msg, "hv_relaxed"), "%s", e.msg);
		e.msg[0] = 0;
		c = cpuid_build(kvm, "host,hv_relaxed,hv_time,enforce=off", &e);
		cr_assert_eq(leaf(c, 0x40000000, 0)->ebx, 0x4b4d564b, "KVM alone");
	}
	free(c);
	c = cpuid_build(kvm, "max,vendor=GenuineIntel,phys-bits=36,host-phys-bits=off", &e);
	cr_assert(c, "%s", e.msg);
	cr_assert_eq(leaf(c, 0, 0)->ebx, 0x756e6547, "Genu");
	cr_assert_eq(leaf(c, 0x80000000, 0)->ecx, 0x6c65746e, "ntel");
	cr_assert_eq(cpuid_phys_bits(c), 36);
	free(c);
	c = cpuid_build(kvm, "kvm64,enforce=off,hv_vpindex,hv_time", &e);
	cr_assert(c, "%s", e.msg);
	if (kvm_has(kvm, KVM_CAP_HYPERV))
		cr_assert_eq(leaf(c, 0x40000003, 0)->eax & 1 << 6, 1 << 6,
			     "virtual processor index");
	free(c);
	/* No processor has all of them; what the host lacks is refused, or left out on request. */
	cr_assert_null(cpuid_build(kvm, "x86-64-v1,+svm,+vmx,+3dnow", &e));
	cr_assert(strstr(e.msg, "enforce=off"), "%s", e.msg);
	e.msg[0] = 0;
	c = cpuid_build(kvm, "x86-64-v1,+svm,+vmx,+3dnow,enforce=off", &e);
	cr_assert(c, "%s", e.msg);
	cr_assert((leaf(c, 1, 0)->ecx & 1 << 5) == 0 || (leaf(c, 0x80000001, 0)->ecx & 1 << 2) == 0,
		  "both VMX and SVM");
	free(c);
	cr_assert_null(cpuid_build(kvm, "host,vendor=Intel", &e));
	cr_assert(strstr(e.msg, "twelve"), "%s", e.msg);
	c = cpuid_build(kvm, "IvyBridge,enforce=off", &e);
	cr_assert(c, "%s", e.msg);
	cr_assert_eq(leaf(c, 0, 0)->ecx, 0x6c65746e, "ntel");
	cr_assert_eq(leaf(c, 1, 0)->eax, 0x306a9);
	free(c);
	cr_assert_null(cpuid_build(kvm, "host,phys-bits=52", &e), "no host has them");
	cr_assert_null(cpuid_build(kvm, "host,phys-bits=7", &e));
	cr_assert_null(cpuid_build(kvm, "host,+nosuch", &e));
	e.msg[0] = 0;
	cr_assert_null(cpuid_build(kvm, "qemu65", &e));
	cr_assert(strstr(e.msg, "qemu64"), "%s", e.msg);
	kvm_close(kvm);
}

Test(cpuid, topology_leaves)
{
	struct cpu_topology t = { .sockets = 2, .cores = 4, .threads = 2 };
	struct kvm_cpuid2 *base, *c;

	if (!open_kvm())
		return;
	/* an emulated host lacks some */
	base = cpuid_build(kvm, "x86-64-v1,enforce=off", &e);
	cr_assert(base, "%s", e.msg);
	c = cpuid_for_vcpu(base, &t, cpu_apic_id(&t, 11));
	cr_assert_eq(cpu_apic_id(&t, 11), 11);
	cr_assert_eq(leaf(c, 1, 0)->ebx >> 24, 11);
	cr_assert_eq(leaf(c, 1, 0)->ebx >> 16 & 0xff, 8, "logical processors in a socket");
	cr_assert_eq(leaf(c, 0xb, 0)->ebx, 2);
	cr_assert_eq(leaf(c, 0xb, 0)->eax, 1);
	cr_assert_eq(leaf(c, 0xb, 1)->ebx, 8);
	cr_assert_eq(leaf(c, 0xb, 1)->eax, 3);
	cr_assert_eq(leaf(c, 0xb, 1)->edx, 11);
	free(c);
	free(base);
	kvm_close(kvm);
}
