/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unit tests of vmm/base/state.c. fdtdump and dtc, by other people, judge what it writes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <libfdt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/state.h"

struct chip { uint8_t a; uint16_t b; uint32_t c; uint64_t d; bool e; uint8_t fifo[5]; };
static const struct state_field fields[] = {
	STATE_FIELD(struct chip, STATE_U8, a), STATE_FIELD(struct chip, STATE_U16, b),
	STATE_FIELD(struct chip, STATE_U32, c), STATE_FIELD(struct chip, STATE_U64, d),
	STATE_FIELD(struct chip, STATE_BOOL, e), STATE_FIELD(struct chip, STATE_BYTES, fifo),
};
static const struct chip sample = { 0x11, 0x2233,	    0x44556677, 0x8899aabbccddeeffull,
				    true, { 1, 2, 3, 4, 5 } };

static void *blob;
static size_t len;

static void write_sample(void)
{
	struct state_out *o = state_out_new();

	state_str(o, "type", "pc-1");
	state_begin(o, "pci@3.0");
	state_save_fields(o, &sample, fields, ARRAY_SIZE(fields));
	state_begin(o, "queue@0");
	state_u16(o, "last_avail", 77);
	state_end(o);
	state_end(o);
	cr_assert_eq(state_out_finish(o, &blob, &len), 0);
}

/* Reads everything; 0 or -EINVAL with the reason. */
static int read_sample(struct err *err)
{
	struct state_in *in = state_in_new(blob, len, err);
	struct chip c = { 0 };
	const char *type;
	uint16_t last;

	if (!in)
		return -EINVAL;
	if (!state_get_str(in, "type", &type) && strcmp(type, "pc-1"))
		state_bad(in, "machine type %s", type);
	if (!state_enter(in, "pci@3.0")) {
		if (!state_load_fields(in, &c, fields, ARRAY_SIZE(fields)))
			cr_assert_eq(memcmp(&c, &sample, offsetof(struct chip, e)), 0);
		if (!state_enter(in, "queue@0")) {
			if (!state_get_u16(in, "last_avail", &last))
				cr_assert_eq(last, 77);
			state_leave(in);
		}
		state_leave(in);
	}
	return state_in_finish(in, err);
}

Test(state, what_is_written_is_read, .init = write_sample)
{
	struct err err = { "" };

	cr_assert_eq(read_sample(&err), 0, "%s", err.msg);
	free(blob);
}

Test(state, dtc_reads_it, .init = write_sample)
{
	char path[] = "/tmp/minivmm-test-XXXXXX", cmd[128], out[4096];
	int fd = mkstemp(path);
	FILE *f;
	size_t n;

	cr_assert_eq(write(fd, blob, len), (ssize_t)len);
	close(fd);
	snprintf(cmd, sizeof(cmd), "dtc -q -I dtb -O dts %s 2>&1", path);
	f = popen(cmd, "r");
	n = fread(out, 1, sizeof(out) - 1, f);
	out[n] = 0;
	unlink(path);
	if (pclose(f) != 0)
		cr_skip_test("dtc (package device-tree-compiler) is not installed");
	cr_assert_not_null(strstr(out, "pci@3.0 {"));
	cr_assert_not_null(strstr(out, "c = <0x44556677>"));
	cr_assert_not_null(strstr(out, "type = \"pc-1\""));
}

Test(state, a_large_tree_grows)
{
	struct state_out *o = state_out_new();
	char name[16];
	uint8_t *big = xcalloc(1, 1 << 20);
	struct state_in *in;
	struct err err = { "" };
	uint32_t v;

	state_bytes(o, "big", big, 1 << 20);
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		state_begin(o, name);
		state_u32(o, "value", i);
		state_end(o);
	}
	cr_assert_eq(state_out_finish(o, &blob, &len), 0);
	in = state_in_new(blob, len, &err);
	cr_assert_eq(state_get_bytes(in, "big", big, 1 << 20), 0);
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		cr_assert_eq(state_enter(in, name), 0);
		state_get_u32(in, "value", &v);
		cr_assert_eq(v, i);
		state_leave(in);
	}
	cr_assert_eq(state_in_finish(in, &err), 0);
	free(blob);
	free(big);
}

/* --- refusals --- */

static struct state_in *open_tree(void (*fill)(struct state_out *o), struct err *err)
{
	struct state_out *o = state_out_new();

	fill(o);
	cr_assert_eq(state_out_finish(o, &blob, &len), 0);
	return state_in_new(blob, len, err);
}

static void fill_extra(struct state_out *o)
{
	state_u32(o, "known", 1);
	state_begin(o, "serial0");
	state_u8(o, "ier", 1);
	state_u8(o, "surprise", 1);
	state_end(o);
	state_begin(o, "floppy");
	state_end(o);
}

Test(state, what_nobody_reads_is_refused_by_name)
{
	struct err err = { "" };
	struct state_in *in = open_tree(fill_extra, &err);
	uint32_t v;
	uint8_t b;

	state_get_u32(in, "known", &v);
	state_enter(in, "serial0");
	state_get_u8(in, "ier", &b);
	state_leave(in);
	state_enter(in, "floppy");
	state_leave(in);
	cr_assert_eq(state_in_finish(in, &err), -EINVAL);
	cr_assert_not_null(strstr(err.msg, "serial0/surprise: unknown"), "%s", err.msg);

	err.msg[0] = 0;
	in = state_in_new(blob, len, &err);
	state_get_u32(in, "known", &v);
	state_enter(in, "serial0");
	state_get_u8(in, "ier", &b);
	state_get_u8(in, "surprise", &b);
	state_leave(in);
	cr_assert_eq(state_in_finish(in, &err), -EINVAL);
	cr_assert_not_null(strstr(err.msg, "floppy: unknown"), "%s", err.msg);
}

Test(state, missing_and_misshapen_things_are_named)
{
	struct err err = { "" };
	struct state_in *in = open_tree(fill_extra, &err);
	uint64_t v64 = 5;
	uint32_t v;
	const char *s;

	cr_assert_eq(state_get_u32_opt(in, "later", &v, 42), 0);
	cr_assert_eq(v, 42);
	cr_assert_eq(state_try_enter(in, "nothing"), -ENOENT);
	cr_assert_eq(state_in_error(in), 0);
	cr_assert(state_has(in, "known"));
	state_enter(in, "serial0");
	cr_assert_eq(state_get_u64(in, "ier", &v64), -EINVAL);
	cr_assert_eq(v64, 0);
	cr_assert_str_eq(state_in_reason(in), "serial0/ier: 1 bytes, not the 8 expected");
	cr_assert_eq(state_get_u64(in, "absent", &v64), -EINVAL);
	cr_assert_eq(state_get_str(in, "ier", &s), -EINVAL);
	cr_assert_str_eq(s, "");
	state_leave(in);
	cr_assert_eq(state_enter(in, "nothing"), -ENOENT);
	cr_assert_eq(state_in_finish(in, &err), -EINVAL);
	cr_assert_str_eq(err.msg, "serial0/ier: 1 bytes, not the 8 expected");	/* the first */
}

static void fill_escape(struct state_out *o)
{
	state_str(o, "type", "\033[2Jpc\377");
	state_begin(o, "n\007");
	state_end(o);
}

Test(state, nothing_of_a_tree_reaches_the_terminal_raw)
{
	struct err err = { "" };
	struct state_in *in = open_tree(fill_escape, &err);
	const char *s;

	state_get_str(in, "type", &s);
	state_bad(in, "type %s", s);
	cr_assert_str_eq(state_in_reason(in), "type ?[2Jpc?");
	state_in_free(in);
	in = state_in_new(blob, len, &err);
	state_get_str(in, "type", &s);
	cr_assert_eq(state_in_finish(in, &err), -EINVAL);
	cr_assert_not_null(strstr(err.msg, "n?: unknown"), "%s", err.msg);
}

static void fill_bool(struct state_out *o)
{
	state_u8(o, "e", 2);
}

Test(state, a_bool_is_zero_or_one)
{
	struct err err = { "" };
	struct state_in *in = open_tree(fill_bool, &err);
	struct chip c;

	cr_assert_eq(state_load_fields(in, &c, &fields[4], 1), -EINVAL);
	cr_assert_str_eq(state_in_reason(in), "e: 2 is neither 0 nor 1");
	cr_assert_eq(state_bad(in, "x"), -EINVAL);
	state_in_free(in);
}

/* libfdt itself lets these pass. */
Test(state, doubled_names_are_refused)
{
	char buf[4096];
	struct err err = { "" };
	uint32_t one = 1;

	fdt_create(buf, sizeof(buf));
	fdt_finish_reservemap(buf);
	fdt_begin_node(buf, "");
	fdt_begin_node(buf, "a");
	fdt_property(buf, "x", &one, 4);
	fdt_property(buf, "y", &one, 4);
	fdt_property(buf, "x", &one, 4);
	fdt_end_node(buf);
	fdt_end_node(buf);
	fdt_finish(buf);
	cr_assert_null(state_in_new(buf, sizeof(buf), &err));
	cr_assert_not_null(strstr(err.msg, "x is there twice"), "%s", err.msg);

	fdt_create(buf, sizeof(buf));
	fdt_finish_reservemap(buf);
	fdt_begin_node(buf, "");
	for (int i = 0; i < 2; i++) {
		fdt_begin_node(buf, "cpu@0");
		fdt_end_node(buf);
	}
	fdt_end_node(buf);
	fdt_finish(buf);
	err.msg[0] = 0;
	cr_assert_null(state_in_new(buf, sizeof(buf), &err));
	cr_assert_not_null(strstr(err.msg, "cpu@0 is there twice"), "%s", err.msg);
}

Test(state, a_property_after_a_node_is_refused)
{
	char buf[4096];
	struct err err = { "" };

	fdt_create(buf, sizeof(buf));
	fdt_finish_reservemap(buf);
	fdt_begin_node(buf, "");
	fdt_begin_node(buf, "a");
	fdt_end_node(buf);
	fdt_property(buf, "late", "", 1);
	fdt_end_node(buf);
	fdt_finish(buf);
	cr_assert_null(state_in_new(buf, sizeof(buf), &err));
	cr_assert_not_null(strstr(err.msg, "after a node"), "%s", err.msg);
}

Test(state, writing_one_is_our_bug, .signal = SIGABRT)
{
	struct state_out *o = state_out_new();

	state_begin(o, "a");
	state_end(o);
	state_u8(o, "late", 1);
}

Test(state, deep_trees_are_refused)
{
	struct state_out *o = state_out_new();
	struct err err = { "" };

	for (int i = 0; i < 1000; i++)
		state_begin(o, "n");
	for (int i = 0; i < 1000; i++)
		state_end(o);
	cr_assert_eq(state_out_finish(o, &blob, &len), 0);
	cr_assert_null(state_in_new(blob, len, &err));
}

Test(state, every_cut_is_refused, .init = write_sample)
{
	for (size_t n = 0; n < len; n++) {
		struct err err = { "" };
		void *copy = malloc(n ? n : 1);

		memcpy(copy, blob, n);
		cr_assert_null(state_in_new(copy, n, &err));
		cr_assert_neq(err.msg[0], 0);
		free(copy);
	}
}

/*
 * A flipped bit may give another valid tree; it must never crash or read beyond the blob (asan
 * watches).
 */
Test(state, every_flipped_bit_is_survived, .init = write_sample)
{
	uint8_t *bytes = blob;
	int accepted = 0;

	for (size_t i = 0; i < len * 8; i++) {
		struct err err = { "" };
		struct state_in *in;
		uint64_t v;

		bytes[i / 8] ^= 1 << i % 8;
		in = state_in_new(blob, len, &err);
		if (in) {
			accepted++;
			state_get_u64(in, "type", &v);
			state_enter(in, "pci@3.0");
			state_in_finish(in, &err);
		}
		cr_assert_neq(err.msg[0], 0);
		bytes[i / 8] ^= 1 << i % 8;
	}
	cr_assert_gt(accepted, 0);
	free(blob);
}
