/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * smbios.c: System Management BIOS tables.
 *
 * DMTF DSP0134, 2.8: 5.2.1 (entry point), 6.1 (structures), 7.1 (type 0), 7.2 (1), 7.4 (3), 7.5
 * (4), 7.17 (16), 7.18 (17), 7.20 (19), 7.33 (32).
 */
#include <stdio.h>
#include <stdlib.h>

#include "bios/smbios.h"

/* Handles: type in the high byte, number in the low. */
#define HANDLE(type, n) ((type) << 8 | (n))
#define HANDLE_NONE 0xfffe

/* One structure while it is written: the formatted area, then its strings. */
struct structure {
	uint8_t area[128];
	size_t len;
	char strings[512];
	size_t strings_len;
	unsigned nstrings;
};

static void put(struct smbios *s, const void *p, size_t len)
{
	if (s->len + len > s->cap) {
		s->cap = MAX(2 * s->cap, s->len + len + 512);
		s->data = xrealloc(s->data, s->cap);
	}
	memcpy(s->data + s->len, p, len);
	s->len += len;
}

static void st_begin(struct structure *t, uint8_t type, uint16_t handle)
{
	memset(t, 0, sizeof(*t));
	t->area[0] = type;
	st_le16(t->area + 2, handle);
	t->len = 4;
}

static void st_u8(struct structure *t, uint8_t v)
{
	t->area[t->len++] = v;
}

static void st_u16(struct structure *t, uint16_t v)
{
	st_le16(t->area + t->len, v);
	t->len += 2;
}

static void st_u32(struct structure *t, uint32_t v)
{
	st_le32(t->area + t->len, v);
	t->len += 4;
}

static void st_u64(struct structure *t, uint64_t v)
{
	st_le64(t->area + t->len, v);
	t->len += 8;
}

/*
 * The number of a string, 0 for none. Control characters would end the structure early or garble
 * dmidecode.
 */
static void st_string(struct structure *t, const char *str)
{
	size_t room = sizeof(t->strings) - t->strings_len - 1, n = 0;

	if (!str || !*str) {
		st_u8(t, 0);
		return;
	}
	for (; *str && n < MIN(room, 64u); str++)
		t->strings[t->strings_len + n++] = (unsigned char)*str < ' ' || *str == 0x7f ? '?'
											     : *str;
	t->strings_len += n + 1;
	st_u8(t, ++t->nstrings);
}

static void st_end(struct smbios *s, struct structure *t)
{
	size_t before = s->len;

	t->area[1] = t->len;
	put(s, t->area, t->len);
	put(s, t->strings, t->strings_len);
	put(s, "\0", t->nstrings ? 1 : 2);
	s->count++;
	s->longest = MAX(s->longest, s->len - before);
}

static const char *machine_name(const struct bios_config *c, char *buf, size_t len)
{
	snprintf(buf, len, "%s-%u", c->machine == BIOS_PC ? "pc" : "micro", c->version);
	return buf;
}

static void type0_bios(const struct bios_config *c, struct smbios *s)
{
	struct structure t;
	char name[32];

	st_begin(&t, 0, HANDLE(0, 0));
	st_string(&t, "minivmm");
	st_string(&t, machine_name(c, name, sizeof(name)));
	st_u16(&t, 0xe800);			/* starting segment */
	st_string(&t, "01/01/2026");		/* belongs to the machine version, not to the day */
	st_u8(&t, 0);				/* ROM size: (n + 1) * 64 KiB */
	st_u64(&t, 0x08);			/* characteristics not supported */
	st_u8(&t, 0);
	st_u8(&t, 0x14);			/* virtual machine, targeted content distribution */
	st_u8(&t, 0);				/* release */
	st_u8(&t, c->version);
	st_u8(&t, 0xff);			/* no embedded controller */
	st_u8(&t, 0xff);
	st_end(s, &t);
}

static void type1_system(const struct bios_config *c, struct smbios *s)
{
	const uint8_t *u = c->uuid;
	struct structure t;
	char name[32];

	st_begin(&t, 1, HANDLE(1, 0));
	st_string(&t, "minivmm");
	st_string(&t, c->machine == BIOS_PC ? "Standard PC (i440FX, PIIX)"
					    : "Micro machine (virtio-mmio)");
	st_string(&t, machine_name(c, name, sizeof(name)));
	st_string(&t, NULL);			/* serial number */
	/* The first three fields are little-endian, unlike the way a UUID is printed (7.2.1). */
	st_u32(&t, ld_be32(u));
	st_u16(&t, ld_be16(u + 4));
	st_u16(&t, ld_be16(u + 6));
	memcpy(t.area + t.len, u + 8, 8);
	t.len += 8;
	st_u8(&t, 6);				/* woken by the power switch */
	st_string(&t, NULL);			/* SKU */
	st_string(&t, c->name);			/* family: the virtual machine's name */
	st_end(s, &t);
}

static void type3_chassis(const struct bios_config *c, struct smbios *s)
{
	struct structure t;
	char name[32];

	st_begin(&t, 3, HANDLE(3, 0));
	st_string(&t, "minivmm");
	st_u8(&t, 1);				/* other */
	st_string(&t, machine_name(c, name, sizeof(name)));
	st_string(&t, NULL);
	st_string(&t, NULL);
	/* boot-up, power supply, thermal: safe; security: unknown */
	st_u8(&t, 3);
	st_u8(&t, 3);
	st_u8(&t, 3);
	st_u8(&t, 2);
	st_u32(&t, 0);
	st_u8(&t, 0);				/* height, power cords, contained elements */
	st_u8(&t, 0);
	st_u8(&t, 0);
	st_u8(&t, 0);
	st_string(&t, NULL);
	st_end(s, &t);
}

static void type4_processor(const struct bios_config *c, struct smbios *s, unsigned socket)
{
	unsigned sockets = MAX(c->sockets, 1u);
	unsigned cores = c->cores ? c->cores : (c->ncpus + sockets - 1) / sockets;
	unsigned threads = cores * MAX(c->threads, 1u);
	struct structure t;
	char name[16];

	snprintf(name, sizeof(name), "CPU %u", socket);
	st_begin(&t, 4, HANDLE(4, socket));
	st_string(&t, name);
	st_u8(&t, 3);				/* central processor */
	st_u8(&t, 1);				/* family: other */
	st_string(&t, "minivmm");
	st_u64(&t, 0);				/* id: CPUID tells */
	st_string(&t, machine_name(c, name, sizeof(name)));
	st_u8(&t, 0);
	st_u16(&t, 0);				/* clocks unknown */
	st_u16(&t, 0);
	st_u16(&t, 0);
	st_u8(&t, 0x41);			/* socket populated, enabled */
	st_u8(&t, 1);
	st_u16(&t, 0xffff);			/* no cache information */
	st_u16(&t, 0xffff);
	st_u16(&t, 0xffff);
	st_string(&t, NULL);
	st_string(&t, NULL);
	st_string(&t, NULL);
	st_u8(&t, MIN(cores, 255u));
	st_u8(&t, MIN(cores, 255u));
	st_u8(&t, MIN(threads, 255u));
	/* 64-bit, multi-core, threads */
	st_u16(&t, 0x0004 | (cores > 1 ? 0x08 : 0) | (threads > cores ? 0x10 : 0));
	st_u16(&t, 1);
	st_u16(&t, cores);
	st_u16(&t, cores);
	st_u16(&t, threads);
	st_end(s, &t);
}

static void type16_17_memory(const struct bios_config *c, struct smbios *s)
{
	uint64_t ram = c->ram_low + c->ram_high, mib = ram / MiB;
	bool big = ram / KiB >= 0x80000000;
	struct structure t;

	st_begin(&t, 16, HANDLE(16, 0));
	st_u8(&t, 1);				/* other location; system memory; multi-bit ECC */
	st_u8(&t, 3);
	st_u8(&t, 6);
	st_u32(&t, big ? 0x80000000 : ram / KiB);
	st_u16(&t, HANDLE_NONE);
	st_u16(&t, 1);
	st_u64(&t, big ? ram : 0);
	st_end(s, &t);

	st_begin(&t, 17, HANDLE(17, 0));
	st_u16(&t, HANDLE(16, 0));
	st_u16(&t, HANDLE_NONE);
	st_u16(&t, 0xffff);			/* widths unknown */
	st_u16(&t, 0xffff);
	st_u16(&t, mib >= 0x7fff ? 0x7fff : mib);
	st_u8(&t, 9);				/* DIMM */
	st_u8(&t, 0);
	st_string(&t, "DIMM 0");
	st_string(&t, NULL);
	st_u8(&t, 7);				/* RAM */
	st_u16(&t, 2);				/* other */
	st_u16(&t, 0);
	st_string(&t, "minivmm");
	st_string(&t, NULL);
	st_string(&t, NULL);
	st_string(&t, NULL);
	st_u8(&t, 0);
	st_u32(&t, mib >= 0x7fff ? mib : 0);
	st_u16(&t, 0);
	st_u16(&t, 0);
	st_u16(&t, 0);
	st_u16(&t, 0);
	st_end(s, &t);
}

static void type19_map(struct smbios *s, unsigned n, uint64_t base, uint64_t len)
{
	bool big = (base + len) / KiB > UINT32_MAX;
	struct structure t;

	if (!len)
		return;
	st_begin(&t, 19, HANDLE(19, n));
	st_u32(&t, big ? UINT32_MAX : base / KiB);
	st_u32(&t, big ? UINT32_MAX : (base + len) / KiB - 1);
	st_u16(&t, HANDLE(16, 0));
	st_u8(&t, 1);
	st_u64(&t, big ? base : 0);
	st_u64(&t, big ? base + len - 1 : 0);
	st_end(s, &t);
}

static void type32_127(struct smbios *s)
{
	struct structure t;

	st_begin(&t, 32, HANDLE(32, 0));
	t.len += 6;
	st_u8(&t, 0);				/* no errors detected */
	st_end(s, &t);
	st_begin(&t, 127, HANDLE(127, 0));
	st_end(s, &t);
}

void smbios_build(const struct bios_config *c, struct smbios *s)
{
	unsigned i;

	memset(s, 0, sizeof(*s));
	type0_bios(c, s);
	type1_system(c, s);
	type3_chassis(c, s);
	for (i = 0; i < MIN(MAX(c->sockets, 1u), 255u); i++)
		type4_processor(c, s, i);
	type16_17_memory(c, s);
	type19_map(s, 0, 0, c->ram_low);
	type19_map(s, 1, 4 * GiB, c->ram_high);
	type32_127(s);
	/* Whoever places it asks smbios_place to finish it; firmware does so itself. */
	smbios_place(s, 0);
}

void smbios_free(struct smbios *s)
{
	free(s->data);
	memset(s, 0, sizeof(*s));
}

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t v = 0;

	while (len--)
		v += *p++;
	return v;
}

void smbios_place(struct smbios *s, uint32_t base)
{
	uint8_t *a = s->anchor;

	memset(a, 0, SMBIOS_ANCHOR_LEN);
	memcpy(a, "_SM_", 4);
	a[5] = SMBIOS_ANCHOR_LEN;
	a[6] = 2;				/* version 2.8 */
	a[7] = 8;
	st_le16(a + 8, s->longest);
	memcpy(a + 16, "_DMI_", 5);
	st_le16(a + 22, s->len);
	st_le32(a + 24, base);
	st_le16(a + 28, s->count);
	a[30] = 0x28;
	a[21] = -sum(a + 16, 15);
	a[4] = -sum(a, SMBIOS_ANCHOR_LEN);
}
