/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processor models: stable ones against their golden dump, flags, topology. Needs /dev/kvm; says so where there is none. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/cpuid.h"
#include "vmm/cpuid_features.h"

static const struct cpu_topology two = { .sockets = 1, .cores = 2, .threads = 1 };
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

/* The leaves of a model must not depend on the host: hypervisor leaves, which follow the host's kernel, are left out. */
static void check_golden(const char *model)
{
	struct kvm_cpuid2 *c = cpuid_build(kvm, model, &two, &e);
	char path[128], line[128], *text, *save = NULL;
	FILE *f;

	if (!c && strstr(e.msg, "lacks"))
		return;		/* a host too small for the model */
	cr_assert(c, "%s: %s", model, e.msg);
	snprintf(path, sizeof(path), "tests/golden/cpuid-%s.txt", model);
	f = fopen(path, getenv("GOLDEN_WRITE") ? "w" : "r");
	cr_assert(f, "%s is missing (GOLDEN_WRITE=1 makes it)", path);
	text = cpuid_dump(c);
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		/* 1.ECX without TSC deadline and x2APIC, which the host's KVM decides. */
		if (!strncmp(l, "400000", 6) || !strncmp(l, "00000001", 8))
			continue;
		if (getenv("GOLDEN_WRITE")) {
			fprintf(f, "%s\n", l);
			continue;
		}
		cr_assert_not_null(fgets(line, sizeof(line), f), "%s ends before: %s", path, l);
		line[strcspn(line, "\n")] = 0;
		cr_assert_str_eq(l, line, "%s changed; a change needs a new machine version", model);
	}
	fclose(f);
	free(text);
	free(c);
}

Test(cpuid, stable_models_are_golden)
{
	static const char *const models[] = { "qemu64", "x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4" };

	if (!open_kvm())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
		e.msg[0] = 0;
		check_golden(models[i]);
	}
	kvm_close(kvm);
}

Test(cpuid, flags)
{
	struct kvm_cpuid2 *c;

	if (!open_kvm())
		return;
	c = cpuid_build(kvm, "host,-sse4_2,-popcnt", &two, &e);
	cr_assert(c, "%s", e.msg);
	cr_assert_eq(leaf(c, 1, 0)->ecx & (F_SSE4_2 | F_POPCNT), 0);
	cr_assert(leaf(c, 1, 0)->ecx & F_HYPERVISOR);
	cr_assert(leaf(c, 1, 0)->ecx & F_X2APIC);
	free(c);
	c = cpuid_build(kvm, "host,kvm=off,hypervisor=off", &two, &e);
	cr_assert_null(leaf(c, 0x40000000, 0));
	cr_assert_eq(leaf(c, 1, 0)->ecx & F_HYPERVISOR, 0);
	free(c);
	/* Announced only where KVM carries it out. */
	if (kvm_has(kvm, KVM_CAP_HYPERV)) {
		c = cpuid_build(kvm, "host,hv_relaxed,hv_time", &two, &e);
		cr_assert_eq(leaf(c, 0x40000000, 0)->ebx, 0x7263694d, "Microsoft Hv first");
		cr_assert_eq(leaf(c, 0x40000100, 0)->ebx, 0x4b4d564b, "KVM second");
	} else {
		cr_assert_null(cpuid_build(kvm, "host,hv_relaxed,hv_time", &two, &e));
		cr_assert(strstr(e.msg, "hv_relaxed"), "%s", e.msg);
		e.msg[0] = 0;
		c = cpuid_build(kvm, "host,hv_relaxed,hv_time,enforce=off", &two, &e);
		cr_assert_eq(leaf(c, 0x40000000, 0)->ebx, 0x4b4d564b, "KVM alone");
	}
	free(c);
	c = cpuid_build(kvm, "max,vendor=GenuineIntel,phys-bits=36,host-phys-bits=off", &two, &e);
	cr_assert(c, "%s", e.msg);
	cr_assert_eq(leaf(c, 0, 0)->ebx, 0x756e6547, "Genu");
	cr_assert_eq(leaf(c, 0x80000000, 0)->ecx, 0x6c65746e, "ntel");
	cr_assert_eq(cpuid_phys_bits(c), 36);
	free(c);
	c = cpuid_build(kvm, "kvm64,enforce=off,hv_vpindex,hv_time", &two, &e);
	cr_assert(c, "%s", e.msg);
	if (kvm_has(kvm, KVM_CAP_HYPERV))
		cr_assert_eq(leaf(c, 0x40000003, 0)->eax & 1 << 6, 1 << 6, "virtual processor index");
	free(c);
	/* No processor has all of them; what the host lacks is refused, or left out on request. */
	cr_assert_null(cpuid_build(kvm, "x86-64-v1,+svm,+vmx,+3dnow", &two, &e));
	cr_assert(strstr(e.msg, "enforce=off"), "%s", e.msg);
	e.msg[0] = 0;
	c = cpuid_build(kvm, "x86-64-v1,+svm,+vmx,+3dnow,enforce=off", &two, &e);
	cr_assert(c, "%s", e.msg);
	cr_assert((leaf(c, 1, 0)->ecx & 1 << 5) == 0 || (leaf(c, 0x80000001, 0)->ecx & 1 << 2) == 0, "both VMX and SVM");
	free(c);
	cr_assert_null(cpuid_build(kvm, "host,vendor=Intel", &two, &e));
	cr_assert(strstr(e.msg, "twelve"), "%s", e.msg);
	c = cpuid_build(kvm, "IvyBridge,enforce=off", &two, &e);
	cr_assert(c, "%s", e.msg);
	cr_assert_eq(leaf(c, 0, 0)->ecx, 0x6c65746e, "ntel");
	cr_assert_eq(leaf(c, 1, 0)->eax, 0x306a9);
	free(c);
	cr_assert_null(cpuid_build(kvm, "host,phys-bits=52", &two, &e), "no host has them");
	cr_assert_null(cpuid_build(kvm, "host,phys-bits=7", &two, &e));
	cr_assert_null(cpuid_build(kvm, "host,+nosuch", &two, &e));
	e.msg[0] = 0;
	cr_assert_null(cpuid_build(kvm, "qemu65", &two, &e));
	cr_assert(strstr(e.msg, "qemu64"), "%s", e.msg);
	kvm_close(kvm);
}

Test(cpuid, topology_leaves)
{
	struct cpu_topology t = { .sockets = 2, .cores = 4, .threads = 2 };
	struct kvm_cpuid2 *base, *c;

	if (!open_kvm())
		return;
	base = cpuid_build(kvm, "x86-64-v1", &t, &e);
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
