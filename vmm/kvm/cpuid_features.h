/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cpuid_features.h: names of the feature bits and where CPUID has them. */
#ifndef VMM_KVM_CPUID_FEATURES_H
#define VMM_KVM_CPUID_FEATURES_H

#include "vmm/base/util.h"

enum { CPU_1_EDX, CPU_1_ECX, CPU_7_EBX, CPU_7_ECX, CPU_7_EDX, CPU_7_1_EAX, CPU_D_1_EAX,
       CPU_EXT1_EDX, CPU_EXT1_ECX,
       CPU_EXT8_EBX, CPU_WORDS };

struct cpu_word {
	uint32_t function, index;
	unsigned reg;			/* 0 EAX, 1 EBX, 2 ECX, 3 EDX */
};
extern const struct cpu_word cpu_words[CPU_WORDS];

#define F_SSE3 (1u << 0)		/* 1.ECX */
#define F_PCLMUL (1u << 1)
#define F_SSSE3 (1u << 9)
#define F_FMA (1u << 12)
#define F_CX16 (1u << 13)
#define F_SSE4_1 (1u << 19)
#define F_SSE4_2 (1u << 20)
#define F_X2APIC (1u << 21)
#define F_MOVBE (1u << 22)
#define F_POPCNT (1u << 23)
#define F_TSC_DEADLINE (1u << 24)
#define F_AES (1u << 25)
#define F_XSAVE (1u << 26)
#define F_AVX (1u << 28)
#define F_F16C (1u << 29)
#define F_RDRAND (1u << 30)
#define F_HYPERVISOR (1u << 31)
#define F_HTT (1u << 28)		/* 1.EDX */
#define F_FSGSBASE (1u << 0)		/* 7.EBX */
#define F_SMEP (1u << 7)
#define F_ERMS (1u << 9)
#define F_AVX512F (1u << 16)
#define F_XSAVEOPT (1u << 0)		/* 0xd.1.EAX */
#define F_RDTSCP (1u << 27)		/* 0x80000001.EDX */
#define F_LAHF (1u << 0)		/* 0x80000001.ECX */
#define F_CMP_LEGACY (1u << 1)
#define F_LZCNT (1u << 5)

/* The levels of the x86-64 psABI. */
#define F_V2_ECX (F_SSE3 | F_SSSE3 | F_CX16 | F_SSE4_1 | F_SSE4_2 | F_POPCNT)
#define F_V3_ECX (F_FMA | F_MOVBE | F_XSAVE | F_AVX | F_F16C)
#define F_V3_7EBX (1u << 3 | 1u << 5 | 1u << 8)				/* BMI1, AVX2, BMI2 */
/* AVX512 F DQ CD BW VL */
#define F_V4_7EBX (F_AVX512F | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31)

bool cpu_feature_find(const char *name, unsigned *word, unsigned *bit);
const char *cpu_feature_name(unsigned word, unsigned bit);	/* NULL: the bit has no name here */
const char *const *cpu_feature_names(void);			/* ends with NULL */

#endif
