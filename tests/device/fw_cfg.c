/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fw_cfg from the guest's side: ports, strings, DMA, and a guest that asks for what it must not
 * have.
 */
#include <errno.h>

#include "bios/fw_cfg.h"
#include "tests/lib/bios_fixture.h"
#include "tests/tap.h"

#define SEL 0x510
#define DATA 0x511
#define DMA_HIGH 0x514
#define DMA_LOW 0x518
#define DESC 0x1000		/* where the tests put the DMA descriptor */
#define BUF 0x2000

struct bench {
	struct bios_config c;
	struct bus *pio;
	struct fw_cfg *fw;
};

static struct bench bench_new(void)
{
	struct bench b = { .c = bios_fixture(BIOS_PC, 16 * MiB, 0), .pio = bus_new("pio", 0xffff) };
	struct err err = { "" };

	b.fw = fw_cfg_new(b.pio, b.c.mem, loop_new("test"), &err);
	CHECK(b.fw);
	return b;
}

static uint8_t byte_at(struct bench *b)
{
	uint64_t v;

	CHECK(bus_read(b->pio, DATA, 1, &v));
	return v;
}

static uint32_t dma(struct bench *b, uint32_t control, uint32_t len, uint64_t addr)
{
	uint8_t d[16], result[4];

	st_be32(d, control);
	st_be32(d + 4, len);
	st_be64(d + 8, addr);
	CHECK(mem_write(b->c.mem, DESC, d, sizeof(d)) == 0);
	bus_write(b->pio, DMA_HIGH, 4, 0);
	bus_write(b->pio, DMA_LOW, 4, htobe32(DESC));
	CHECK(mem_read(b->c.mem, DESC, result, 4) == 0);
	return ld_be32(result);
}

static int find_file(struct bench *b, const char *name, uint32_t *size)
{
	uint8_t dir[4 + 64 * FW_CFG_MAX_FILES];

	CHECK_EQ(dma(b, FW_CFG_FILE_DIR << 16 | 8 | 2, sizeof(dir), BUF), 0);
	CHECK(mem_read(b->c.mem, BUF, dir, sizeof(dir)) == 0);
	for (unsigned i = 0; i < ld_be32(dir); i++) {
		uint8_t *e = dir + 4 + 64 * i;

		if (!strcmp((char *)e + 8, name)) {
			*size = ld_be32(e);
			return ld_be16(e + 4);
		}
	}
	return -1;
}

TEST(ports)
{
	struct bench b = bench_new();
	uint8_t buf[6];
	uint64_t v;

	bus_write(b.pio, SEL, 2, FW_CFG_SIGNATURE);
	CHECK_EQ(byte_at(&b), 'Q');
	CHECK_EQ(byte_at(&b), 'E');
	CHECK(bus_read_rep(b.pio, DATA, 1, buf, 4));
	CHECK(!memcmp(buf, "MU\0\0", 4));
	/* A key nobody has, and reading on past the end: zeros. */
	bus_write(b.pio, SEL, 2, 0x1234);
	CHECK_EQ(byte_at(&b), 0);
	bus_write(b.pio, SEL, 2, FW_CFG_ID);
	CHECK_EQ(byte_at(&b), 3);
	/* A byte to the data port changes nothing. */
	bus_write(b.pio, DATA, 1, 0xff);
	bus_write(b.pio, SEL, 2, FW_CFG_ID);
	CHECK_EQ(byte_at(&b), 3);
	CHECK(bus_read(b.pio, DMA_HIGH, 4, &v));
	CHECK_EQ(be32toh(v), 0x51454d55);
	CHECK(bus_read(b.pio, DMA_LOW, 4, &v));
	CHECK_EQ(be32toh(v), 0x20434647);
}

TEST(files_and_dma)
{
	struct bench b = bench_new();
	char buf[16] = "";
	uint32_t size;
	int key;

	CHECK_EQ(fw_cfg_add_file(b.fw, "opt/one", "hello", 5), 0);
	CHECK_EQ(fw_cfg_add_file(b.fw, "opt/two", "0123456789", 10), 0);
	CHECK_EQ(find_file(&b, "opt/one", &size), 0x20);
	CHECK_EQ(size, 5);
	key = find_file(&b, "opt/two", &size);
	CHECK_EQ(key, 0x21);
	CHECK_EQ(size, 10);
	/* Select and skip, then read, then go on reading past the end. */
	CHECK_EQ(dma(&b, (uint32_t)key << 16 | 8 | 4, 4, 0), 0);
	CHECK_EQ(dma(&b, 2, 3, BUF), 0);
	CHECK(mem_read(b.c.mem, BUF, buf, 3) == 0);
	CHECK(!memcmp(buf, "456", 3));
	CHECK(mem_set(b.c.mem, BUF, 0xff, 16) == 0);
	CHECK_EQ(dma(&b, 2, 8, BUF), 0);
	CHECK(mem_read(b.c.mem, BUF, buf, 9) == 0);
	CHECK(!memcmp(buf, "789\0\0\0\0\0\xff", 9));
	/* Replacing keeps the number. */
	CHECK_EQ(fw_cfg_add_file(b.fw, "opt/one", "bye", 3), 0);
	CHECK_EQ(find_file(&b, "opt/one", &size), 0x20);
	CHECK_EQ(size, 3);
	/* Limits. */
	CHECK_EQ(fw_cfg_add_file(b.fw, "", "x", 1), -EINVAL);
	CHECK_EQ(fw_cfg_add_file(b.fw, "0123456789012345678901234567890123456789012345678901234",
				 "x", 1),
		 0);
	CHECK_EQ(fw_cfg_add_file(b.fw, "01234567890123456789012345678901234567890123456789012345",
				 "x", 1),
		 -EINVAL);
	for (unsigned i = 3; i < FW_CFG_MAX_FILES; i++) {
		snprintf(buf, sizeof(buf), "f%u", i);
		CHECK_EQ(fw_cfg_add_file(b.fw, buf, "x", 1), 0);
	}
	CHECK_EQ(fw_cfg_add_file(b.fw, "one more", "x", 1), -ENOSPC);
}

static size_t written_len;
static char written_data[9];
static void on_write(void *ctx, const void *data, size_t len)
{
	written_len = len;
	memcpy(written_data, data, MIN(len, sizeof(written_data) - 1));
}

TEST(writing)
{
	struct bench b = bench_new();
	struct fw_cfg_hooks hooks = { .written = on_write };
	uint32_t size;
	int key;

	CHECK_EQ(fw_cfg_add_file_hooks(b.fw, "opt/rw", "........", 8, true, &hooks), 0);
	CHECK_EQ(fw_cfg_add_file(b.fw, "opt/ro", "........", 8), 0);
	CHECK(mem_write(b.c.mem, BUF, "ABCDEFGH", 8) == 0);
	key = find_file(&b, "opt/rw", &size);
	CHECK(mem_write(b.c.mem, BUF, "ABCDEFGH", 8) == 0);
	CHECK_EQ(dma(&b, (uint32_t)key << 16 | 8 | 16, 4, BUF), 0);
	CHECK_EQ(written_len, 8);
	CHECK(!strcmp(written_data, "ABCD...."));
	/* Past its end, wrapping, or what is not writable: refused, nothing changes. */
	CHECK_EQ(dma(&b, 16, 5, BUF), 1);
	CHECK_EQ(dma(&b, 16, UINT32_MAX, BUF), 1);
	CHECK(!strcmp(written_data, "ABCD...."));
	CHECK_EQ(dma(&b, (uint32_t)(key + 1) << 16 | 8 | 16, 4, BUF), 1);
	CHECK_EQ(dma(&b, 0x1234u << 16 | 8 | 16, 4, BUF), 1);
}

TEST(hostile_dma)
{
	struct bench b = bench_new();

	/*
	 * To nowhere, across the end of RAM, round the end of the address space, gigabytes of
	 * zeros.
	 */
	CHECK_EQ(dma(&b, 0 << 16 | 8 | 2, 4, 0x900000000), 1);
	CHECK_EQ(dma(&b, 0 << 16 | 8 | 2, 4, 16 * MiB - 2), 1);
	CHECK_EQ(dma(&b, 0 << 16 | 8 | 2, 64, UINT64_MAX - 8), 1);
	CHECK_EQ(dma(&b, 0 << 16 | 8 | 2, UINT32_MAX, BUF), 1);
	/* The descriptor itself outside memory: nothing happens, the device lives. */
	bus_write(b.pio, DMA_HIGH, 4, htobe32(0xffffffff));
	bus_write(b.pio, DMA_LOW, 4, htobe32(0xfffffff8));
	CHECK_EQ(dma(&b, 0 << 16 | 8 | 2, 4, BUF), 0);
	/* Descriptor and buffer the same place. */
	CHECK_EQ(dma(&b, 0 << 16 | 8 | 2, 16, DESC), 0);
}

TEST(save_and_load)
{
	struct bench b = bench_new(), n = bench_new();
	struct state_out *o = state_out_new();
	struct err err = { "" };
	struct state_in *in;
	size_t len;
	void *blob;

	fw_cfg_add_file_hooks(b.fw, "opt/rw", "........", 8, true, NULL);
	fw_cfg_add_file_hooks(n.fw, "opt/rw", "........", 8, true, NULL);
	CHECK(mem_write(b.c.mem, BUF, "ABCDEFGH", 8) == 0);
	CHECK_EQ(dma(&b, 0x20u << 16 | 8 | 16, 8, BUF), 0);
	bus_write(b.pio, SEL, 2, FW_CFG_SIGNATURE);
	byte_at(&b);
	bus_write(b.pio, DMA_HIGH, 4, htobe32(7));
	CHECK_EQ(device_save(fw_cfg_device(b.fw), o), 0);
	CHECK_EQ(state_out_finish(o, &blob, &len), 0);
	in = state_in_new(blob, len, &err);
	CHECK(in);
	if (device_load(fw_cfg_device(n.fw), in) < 0)
		tap_fail(__FILE__, __LINE__, "%s", state_in_reason(in));
	CHECK_EQ(state_in_finish(in, &err), 0);
	CHECK_EQ(byte_at(&n), 'E');
	CHECK(!memcmp(fw_cfg_file(n.fw, "opt/rw", &len), "ABCDEFGH", 8));
	/* A reset forgets what was written. */
	fw_cfg_device(n.fw)->ops->reset(fw_cfg_device(n.fw));
	CHECK(!memcmp(fw_cfg_file(n.fw, "opt/rw", &len), "\0\0\0\0\0\0\0\0", 8));
	device_destroy(fw_cfg_device(b.fw));
	device_destroy(fw_cfg_device(n.fw));
}

TAP_MAIN
