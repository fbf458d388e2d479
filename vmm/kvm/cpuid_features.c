/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cpuid_features.c: names of the feature bits, as Linux's /proc/cpuinfo and QEMU's -cpu have them
 * ("-" and "_" are alike).
 */
#include "vmm/kvm/cpuid_features.h"

const struct cpu_word cpu_words[CPU_WORDS] = {
	[CPU_1_EDX] = { 1, 0, 3 },
	[CPU_1_ECX] = { 1, 0, 2 },
	[CPU_7_EBX] = { 7, 0, 1 },
	[CPU_7_ECX] = { 7, 0, 2 },
	[CPU_7_EDX] = { 7, 0, 3 },
	[CPU_7_1_EAX] = { 7, 1, 0 },
	[CPU_D_1_EAX] = { 0xd, 1, 0 },
	[CPU_EXT1_EDX] = { 0x80000001, 0, 3 },
	[CPU_EXT1_ECX] = { 0x80000001, 0, 2 },
	[CPU_EXT8_EBX] = { 0x80000008, 0, 1 },
};

static const struct { const char *name; uint8_t word, bit;
} features[] = {
	{ "fpu", CPU_1_EDX, 0 },
	{ "vme", CPU_1_EDX, 1 },
	{ "de", CPU_1_EDX, 2 },
	{ "pse", CPU_1_EDX, 3 },
	{ "tsc", CPU_1_EDX, 4 },
	{ "msr", CPU_1_EDX, 5 },
	{ "pae", CPU_1_EDX, 6 },
	{ "mce", CPU_1_EDX, 7 },
	{ "cx8", CPU_1_EDX, 8 },
	{ "apic", CPU_1_EDX, 9 },
	{ "sep", CPU_1_EDX, 11 },
	{ "mtrr", CPU_1_EDX, 12 },
	{ "pge", CPU_1_EDX, 13 },
	{ "mca", CPU_1_EDX, 14 },
	{ "cmov", CPU_1_EDX, 15 },
	{ "pat", CPU_1_EDX, 16 },
	{ "pse36", CPU_1_EDX, 17 },
	{ "clflush", CPU_1_EDX, 19 },
	{ "mmx", CPU_1_EDX, 23 },
	{ "fxsr", CPU_1_EDX, 24 },
	{ "sse", CPU_1_EDX, 25 },
	{ "sse2", CPU_1_EDX, 26 },
	{ "pni", CPU_1_ECX, 0 },
	{ "sse3", CPU_1_ECX, 0 },
	{ "pclmulqdq", CPU_1_ECX, 1 },
	{ "vmx", CPU_1_ECX, 5 },
	{ "ssse3", CPU_1_ECX, 9 },
	{ "fma", CPU_1_ECX, 12 },
	{ "cx16", CPU_1_ECX, 13 },
	{ "pdcm", CPU_1_ECX, 15 },
	{ "pcid", CPU_1_ECX, 17 },
	{ "sse4_1", CPU_1_ECX, 19 },
	{ "sse4.1", CPU_1_ECX, 19 },
	{ "sse4_2", CPU_1_ECX, 20 },
	{ "sse4.2", CPU_1_ECX, 20 },
	{ "x2apic", CPU_1_ECX, 21 },
	{ "movbe", CPU_1_ECX, 22 },
	{ "popcnt", CPU_1_ECX, 23 },
	{ "tsc_deadline", CPU_1_ECX, 24 },
	{ "tsc_deadline_timer", CPU_1_ECX, 24 },
	{ "aes", CPU_1_ECX, 25 },
	{ "xsave", CPU_1_ECX, 26 },
	{ "avx", CPU_1_ECX, 28 },
	{ "f16c", CPU_1_ECX, 29 },
	{ "rdrand", CPU_1_ECX, 30 },
	{ "fsgsbase", CPU_7_EBX, 0 },
	{ "tsc_adjust", CPU_7_EBX, 1 },
	{ "bmi1", CPU_7_EBX, 3 },
	{ "hle", CPU_7_EBX, 4 },
	{ "avx2", CPU_7_EBX, 5 },
	{ "smep", CPU_7_EBX, 7 },
	{ "bmi2", CPU_7_EBX, 8 },
	{ "erms", CPU_7_EBX, 9 },
	{ "invpcid", CPU_7_EBX, 10 },
	{ "rtm", CPU_7_EBX, 11 },
	{ "mpx", CPU_7_EBX, 14 },
	{ "avx512f", CPU_7_EBX, 16 },
	{ "avx512dq", CPU_7_EBX, 17 },
	{ "rdseed", CPU_7_EBX, 18 },
	{ "adx", CPU_7_EBX, 19 },
	{ "smap", CPU_7_EBX, 20 },
	{ "avx512ifma", CPU_7_EBX, 21 },
	{ "clflushopt", CPU_7_EBX, 23 },
	{ "clwb", CPU_7_EBX, 24 },
	{ "avx512cd", CPU_7_EBX, 28 },
	{ "sha_ni", CPU_7_EBX, 29 },
	{ "avx512bw", CPU_7_EBX, 30 },
	{ "avx512vl", CPU_7_EBX, 31 },
	{ "avx512vbmi", CPU_7_ECX, 1 },
	{ "umip", CPU_7_ECX, 2 },
	{ "pku", CPU_7_ECX, 3 },
	{ "avx512_vbmi2", CPU_7_ECX, 6 },
	{ "gfni", CPU_7_ECX, 8 },
	{ "vaes", CPU_7_ECX, 9 },
	{ "vpclmulqdq", CPU_7_ECX, 10 },
	{ "avx512_vnni", CPU_7_ECX, 11 },
	{ "avx512_bitalg", CPU_7_ECX, 12 },
	{ "avx512_vpopcntdq", CPU_7_ECX, 14 },
	{ "la57", CPU_7_ECX, 16 },
	{ "rdpid", CPU_7_ECX, 22 },
	{ "bus_lock_detect", CPU_7_ECX, 24 },
	{ "cldemote", CPU_7_ECX, 25 },
	{ "movdiri", CPU_7_ECX, 27 },
	{ "movdir64b", CPU_7_ECX, 28 },
	{ "fsrm", CPU_7_EDX, 4 },
	{ "avx512_vp2intersect", CPU_7_EDX, 8 },
	{ "md_clear", CPU_7_EDX, 10 },
	{ "serialize", CPU_7_EDX, 14 },
	{ "amx_bf16", CPU_7_EDX, 22 },
	{ "avx512_fp16", CPU_7_EDX, 23 },
	{ "amx_tile", CPU_7_EDX, 24 },
	{ "amx_int8", CPU_7_EDX, 25 },
	{ "spec_ctrl", CPU_7_EDX, 26 },
	{ "stibp", CPU_7_EDX, 27 },
	{ "arch_capabilities", CPU_7_EDX, 29 },
	{ "ssbd", CPU_7_EDX, 31 },
	{ "avx_vnni", CPU_7_1_EAX, 4 },
	{ "avx512_bf16", CPU_7_1_EAX, 5 },
	{ "xsaveopt", CPU_D_1_EAX, 0 },
	{ "xsavec", CPU_D_1_EAX, 1 },
	{ "xgetbv1", CPU_D_1_EAX, 2 },
	{ "xsaves", CPU_D_1_EAX, 3 },
	{ "syscall", CPU_EXT1_EDX, 11 },
	{ "nx", CPU_EXT1_EDX, 20 },
	{ "mmxext", CPU_EXT1_EDX, 22 },
	{ "fxsr_opt", CPU_EXT1_EDX, 25 },
	{ "pdpe1gb", CPU_EXT1_EDX, 26 },
	{ "rdtscp", CPU_EXT1_EDX, 27 },
	{ "lm", CPU_EXT1_EDX, 29 },
	{ "3dnowext", CPU_EXT1_EDX, 30 },
	{ "3dnow", CPU_EXT1_EDX, 31 },
	{ "lahf_lm", CPU_EXT1_ECX, 0 },
	{ "cmp_legacy", CPU_EXT1_ECX, 1 },
	{ "svm", CPU_EXT1_ECX, 2 },
	{ "cr8_legacy", CPU_EXT1_ECX, 4 },
	{ "abm", CPU_EXT1_ECX, 5 },
	{ "lzcnt", CPU_EXT1_ECX, 5 },
	{ "sse4a", CPU_EXT1_ECX, 6 },
	{ "misalignsse", CPU_EXT1_ECX, 7 },
	{ "3dnowprefetch", CPU_EXT1_ECX, 8 },
	{ "osvw", CPU_EXT1_ECX, 9 },
	{ "xop", CPU_EXT1_ECX, 11 },
	{ "fma4", CPU_EXT1_ECX, 16 },
	{ "tbm", CPU_EXT1_ECX, 21 },
	{ "topoext", CPU_EXT1_ECX, 22 },
	{ "perfctr_core", CPU_EXT1_ECX, 23 },
	{ "clzero", CPU_EXT8_EBX, 0 },
	{ "xsaveerptr", CPU_EXT8_EBX, 2 },
	{ "wbnoinvd", CPU_EXT8_EBX, 9 },
	{ "ibpb", CPU_EXT8_EBX, 12 },
	{ "amd_stibp", CPU_EXT8_EBX, 15 },
	{ "amd_ssbd", CPU_EXT8_EBX, 24 },
	{ "virt_ssbd", CPU_EXT8_EBX, 25 },
};

static bool names_equal(const char *a, const char *b)
{
	for (; *a && *b; a++, b++)
		if (*a != *b && !((*a == '-' || *a == '_') && (*b == '-' || *b == '_')))
			return false;
	return *a == *b;
}

bool cpu_feature_find(const char *name, unsigned *word, unsigned *bit)
{
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		if (names_equal(name, features[i].name)) {
			*word = features[i].word;
			*bit = features[i].bit;
			return true;
		}
	}
	return false;
}

const char *cpu_feature_name(unsigned word, unsigned bit)
{
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		if (features[i].word == word && features[i].bit == bit)
			return features[i].name;
	return NULL;
}

const char *const *cpu_feature_names(void)
{
	static const char *names[ARRAY_SIZE(features) + 1];

	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		names[i] = features[i].name;
	return names;
}
