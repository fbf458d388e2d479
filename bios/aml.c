/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * aml.c: the AML writer. ACPI 6.5 chapters 20.2 (grammar) and 6.4 (resource descriptors).
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "bios/aml.h"

void aml_free(struct aml *a)
{
	free(a->data);
	memset(a, 0, sizeof(*a));
}

void aml_bytes(struct aml *a, const void *p, size_t len)
{
	if (a->len + len > a->cap) {
		a->cap = MAX(a->cap * 2, a->len + len + 1024);
		a->data = xrealloc(a->data, a->cap);
	}
	memcpy(a->data + a->len, p, len);
	a->len += len;
}

void aml_byte(struct aml *a, uint8_t v)
{
	aml_bytes(a, &v, 1);
}

void aml_word(struct aml *a, uint16_t v)
{
	v = htole16(v);
	aml_bytes(a, &v, 2);
}

void aml_dword(struct aml *a, uint32_t v)
{
	v = htole32(v);
	aml_bytes(a, &v, 4);
}

void aml_qword(struct aml *a, uint64_t v)
{
	v = htole64(v);
	aml_bytes(a, &v, 8);
}

void aml_op(struct aml *a, enum aml_opcode op)
{
	if (op > 0xff)
		aml_byte(a, op >> 8);
	aml_byte(a, op);
}

void aml_name(struct aml *a, const char *name)
{
	unsigned segments = 1;
	const char *p;

	for (; *name == '\\' || *name == '^'; name++)
		aml_byte(a, *name);
	for (p = name; *p; p++)
		segments += *p == '.';
	if (segments == 2) {
		aml_byte(a, 0x2e);
	} else if (segments > 2) {
		aml_byte(a, 0x2f);
		aml_byte(a, segments);
	}
	while (*name) {
		size_t n = strcspn(name, ".");

		assert(n >= 1 && n <= 4);
		aml_bytes(a, name, n);
		aml_bytes(a, "___", 4 - n);
		name += n + (name[n] == '.');
	}
}

void aml_int(struct aml *a, uint64_t v)
{
	if (v <= 1) {
		aml_byte(a, v);
	} else if (v <= 0xff) {
		aml_byte(a, 0x0a);
		aml_byte(a, v);
	} else if (v <= 0xffff) {
		aml_byte(a, 0x0b);
		aml_word(a, v);
	} else if (v <= 0xffffffff) {
		aml_byte(a, 0x0c);
		aml_dword(a, v);
	} else {
		aml_byte(a, 0x0e);
		aml_qword(a, v);
	}
}

void aml_string(struct aml *a, const char *s)
{
	aml_byte(a, 0x0d);
	aml_bytes(a, s, strlen(s) + 1);
}

/* Three letters of 5 bits and four hexadecimal digits, big-endian. */
static void aml_eisaid(struct aml *a, const char *id)
{
	uint32_t v = (uint32_t)(id[0] - 0x40) << 26 | (uint32_t)(id[1] - 0x40) << 21 |
		     (uint32_t)(id[2] - 0x40) << 16 | strtoul(id + 3, NULL, 16);

	aml_byte(a, 0x0c);
	aml_dword(a, htobe32(htole32(v)));
}

void aml_name_int(struct aml *a, const char *name, uint64_t v)
{
	aml_op(a, AML_NAME);
	aml_name(a, name);
	aml_int(a, v);
}

void aml_name_string(struct aml *a, const char *name, const char *s)
{
	aml_op(a, AML_NAME);
	aml_name(a, name);
	aml_string(a, s);
}

void aml_name_eisaid(struct aml *a, const char *name, const char *id)
{
	aml_op(a, AML_NAME);
	aml_name(a, name);
	aml_eisaid(a, id);
}

void aml_begin(struct aml *a, enum aml_opcode op)
{
	aml_op(a, op);
	assert(a->depth < ARRAY_SIZE(a->open));
	a->open[a->depth++] = a->len;
}

/* PkgLength (20.2.4) counts itself and takes 1 to 4 bytes: the contents move up to make room. */
void aml_end(struct aml *a)
{
	size_t at, body, total;
	uint8_t enc[4];
	unsigned n, i;

	assert(a->depth > 0);
	at = a->open[--a->depth];
	body = a->len - at;
	n = body + 1 < 1 << 6 ? 1 : body + 2 < 1 << 12 ? 2 : body + 3 < 1 << 20 ? 3 : 4;
	total = body + n;
	if (n == 1) {
		enc[0] = total;
	} else {
		enc[0] = (n - 1) << 6 | (total & 0xf);
		for (i = 1; i < n; i++)
			enc[i] = total >> (4 + 8 * (i - 1));
	}
	aml_bytes(a, enc, n);
	memmove(a->data + at + n, a->data + at, body);
	memcpy(a->data + at, enc, n);
}

void aml_scope(struct aml *a, const char *name)
{
	aml_begin(a, AML_SCOPE);
	aml_name(a, name);
}

void aml_device(struct aml *a, const char *name)
{
	aml_begin(a, AML_DEVICE);
	aml_name(a, name);
}

void aml_method(struct aml *a, const char *name, unsigned nargs, bool serialized)
{
	aml_begin(a, AML_METHOD);
	aml_name(a, name);
	aml_byte(a, nargs | serialized << 3);
}

void aml_package(struct aml *a, unsigned n)
{
	aml_begin(a, AML_PACKAGE);
	aml_byte(a, n);
}

void aml_region(struct aml *a, const char *name, enum aml_space space, uint64_t base, uint64_t len)
{
	aml_op(a, AML_REGION);
	aml_name(a, name);
	aml_byte(a, space);
	aml_int(a, base);
	aml_int(a, len);
}

void aml_field(struct aml *a, const char *region, enum aml_access access, bool write_zeros)
{
	aml_begin(a, AML_FIELD);
	aml_name(a, region);
	aml_byte(a, access | (write_zeros ? 2 : 0) << 5);
}

void aml_field_unit(struct aml *a, const char *name, unsigned bits)
{
	if (name)
		aml_name(a, name);
	else
		aml_byte(a, 0);
	assert(bits < 64);
	aml_byte(a, bits);		/* a PkgLength of one byte */
}

/* --- resources --- */
void aml_resources(struct aml *a, const char *name)
{
	aml_op(a, AML_NAME);
	aml_name(a, name);
	aml_begin(a, AML_BUFFER);
	/* The buffer's size, a word filled in at the end. */
	aml_byte(a, 0x0b);
	aml_word(a, 0);
}

void aml_resources_end(struct aml *a)
{
	size_t start = a->open[a->depth - 1];

	aml_byte(a, 0x79);		/* end tag; checksum 0: not used */
	aml_byte(a, 0);
	st_le16(a->data + start + 1, a->len - start - 3);
	aml_end(a);
}

void aml_io(struct aml *a, uint16_t base, uint8_t len)
{
	aml_byte(a, 0x47);
	aml_byte(a, 1);			/* decodes 16 bits */
	aml_word(a, base);
	aml_word(a, base);
	aml_byte(a, 1);			/* alignment */
	aml_byte(a, len);
}

void aml_irq_edge(struct aml *a, unsigned irq)
{
	aml_byte(a, 0x22);
	aml_word(a, 1u << irq);
}

void aml_interrupts(struct aml *a, bool level, bool shared, const uint32_t *irqs, unsigned n)
{
	aml_byte(a, 0x89);
	aml_word(a, 2 + 4 * n);
	aml_byte(a, 1 | (level ? 0 : 2) | (shared ? 8 : 0));	/* consumer, active high */
	aml_byte(a, n);
	while (n--)
		aml_dword(a, *irqs++);
}

void aml_memory32(struct aml *a, uint32_t base, uint32_t len)
{
	aml_byte(a, 0x86);
	aml_word(a, 9);
	aml_byte(a, 1);			/* read-write */
	aml_dword(a, base);
	aml_dword(a, len);
}

/* Address space descriptors (6.4.3.5): producer, positive decode, min and max fixed. */
enum { RES_MEMORY = 0, RES_IO = 1, RES_BUS = 2, RES_FIXED = 0x0c };

void aml_bus_numbers(struct aml *a, uint16_t min, uint16_t max)
{
	aml_byte(a, 0x88);
	aml_word(a, 13);
	aml_byte(a, RES_BUS);
	aml_byte(a, RES_FIXED);
	aml_byte(a, 0);
	aml_word(a, 0);
	aml_word(a, min);
	aml_word(a, max);
	aml_word(a, 0);
	aml_word(a, max - min + 1);
}

void aml_io_window(struct aml *a, uint16_t min, uint16_t max)
{
	aml_byte(a, 0x88);
	aml_word(a, 13);
	aml_byte(a, RES_IO);
	aml_byte(a, RES_FIXED);
	aml_byte(a, 3);			/* entire range */
	aml_word(a, 0);
	aml_word(a, min);
	aml_word(a, max);
	aml_word(a, 0);
	aml_word(a, max - min + 1);
}

void aml_memory32_window(struct aml *a, uint32_t min, uint32_t max, bool cacheable)
{
	aml_byte(a, 0x87);
	aml_word(a, 23);
	aml_byte(a, RES_MEMORY);
	aml_byte(a, RES_FIXED);
	aml_byte(a, cacheable ? 3 : 1);	/* read-write */
	aml_dword(a, 0);
	aml_dword(a, min);
	aml_dword(a, max);
	aml_dword(a, 0);
	aml_dword(a, max - min + 1);
}

void aml_memory64_window(struct aml *a, uint64_t min, uint64_t max)
{
	aml_byte(a, 0x8a);
	aml_word(a, 43);
	aml_byte(a, RES_MEMORY);
	aml_byte(a, RES_FIXED);
	aml_byte(a, 3);
	aml_qword(a, 0);
	aml_qword(a, min);
	aml_qword(a, max);
	aml_qword(a, 0);
	aml_qword(a, max - min + 1);
}
