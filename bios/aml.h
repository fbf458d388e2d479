/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * aml.h: writes ACPI Machine Language into a growing buffer, in the order of the ASL one would
 * write.
 *
 * ACPI 6.5 chapter 20 (AML grammar), 6.4 (resource data types). What opens a package (scope,
 * device, method, if ...) is closed by aml_end, which fills in the length. Operands are written
 * before or after the opcode exactly as the grammar has them: aml_op(a, AML_STORE); aml_int(a, 1);
 * aml_name(a, "FOO").
 */
#ifndef BIOS_AML_H
#define BIOS_AML_H

#include "vmm/base/util.h"

struct aml {
	uint8_t *data;
	size_t len, cap;
	size_t open[16];		/* where the open packages' lengths go */
	unsigned depth;
};

enum aml_opcode {
	AML_ZERO = 0x00, AML_ONE = 0x01, AML_ALIAS = 0x06, AML_NAME = 0x08, AML_SCOPE = 0x10,
	AML_BUFFER = 0x11, AML_PACKAGE = 0x12,
	AML_METHOD = 0x14, AML_LOCAL0 = 0x60, AML_LOCAL1 = 0x61, AML_ARG0 = 0x68, AML_ARG1 = 0x69,
	AML_STORE = 0x70,
	AML_ADD = 0x72, AML_SHIFT_LEFT = 0x79, AML_AND = 0x7b, AML_OR = 0x7d, AML_NOTIFY = 0x86,
	AML_CREATE_DWORD = 0x8a, AML_LNOT = 0x92, AML_LEQUAL = 0x93, AML_IF = 0xa0, AML_ELSE = 0xa1,
	AML_RETURN = 0xa4, AML_ONES = 0xff,
	/* with the 0x5b prefix */
	AML_MUTEX = 0x5b01, AML_ACQUIRE = 0x5b23, AML_RELEASE = 0x5b27, AML_REGION = 0x5b80,
	AML_FIELD = 0x5b81,
	AML_DEVICE = 0x5b82, AML_PROCESSOR = 0x5b83,
};
enum aml_space { AML_SYSTEM_MEMORY = 0, AML_SYSTEM_IO = 1, AML_PCI_CONFIG = 2 };
enum aml_access { AML_ANY_ACC = 0, AML_BYTE_ACC = 1, AML_WORD_ACC = 2, AML_DWORD_ACC = 3 };

void aml_free(struct aml *a);
void aml_bytes(struct aml *a, const void *p, size_t len);
void aml_byte(struct aml *a, uint8_t v);
void aml_word(struct aml *a, uint16_t v);
void aml_dword(struct aml *a, uint32_t v);
void aml_qword(struct aml *a, uint64_t v);
void aml_op(struct aml *a, enum aml_opcode op);

/* A name string: "FOO", "\\_SB.PCI0.ISA", "^PRQ0". Segments shorter than 4 are padded. */
void aml_name(struct aml *a, const char *name);
void aml_int(struct aml *a, uint64_t v);
/* Always the DWord form: 4 bytes that something patches. Returns where they are. */
void aml_string(struct aml *a, const char *s);

/* Name (name, value) */
void aml_name_int(struct aml *a, const char *name, uint64_t v);
void aml_name_string(struct aml *a, const char *name, const char *s);
void aml_name_eisaid(struct aml *a, const char *name, const char *id);

void aml_begin(struct aml *a, enum aml_opcode op);
void aml_end(struct aml *a);
void aml_scope(struct aml *a, const char *name);
void aml_device(struct aml *a, const char *name);
void aml_method(struct aml *a, const char *name, unsigned nargs, bool serialized);
void aml_package(struct aml *a, unsigned n);
void aml_region(struct aml *a, const char *name, enum aml_space space, uint64_t base, uint64_t len);
/*
 * Field (region, access, NoLock, Preserve or WriteAsZeros); then aml_field_unit for each, aml_end.
 */
void aml_field(struct aml *a, const char *region, enum aml_access access, bool write_zeros);
void aml_field_unit(struct aml *a, const char *name, unsigned bits);	/* NULL: reserved */

/* --- resource templates: Name (name, ResourceTemplate () { ... }) --- */
void aml_resources(struct aml *a, const char *name);
void aml_resources_end(struct aml *a);
void aml_io(struct aml *a, uint16_t base, uint8_t len);
/* ISA: edge, active high, exclusive */
void aml_irq_edge(struct aml *a, unsigned irq);
/* active high */
void aml_interrupts(struct aml *a, bool level, bool shared, const uint32_t *irqs, unsigned n);
void aml_memory32(struct aml *a, uint32_t base, uint32_t len);
void aml_bus_numbers(struct aml *a, uint16_t min, uint16_t max);
void aml_io_window(struct aml *a, uint16_t min, uint16_t max);
void aml_memory32_window(struct aml *a, uint32_t min, uint32_t max, bool cacheable);
void aml_memory64_window(struct aml *a, uint64_t min, uint64_t max);

#endif
