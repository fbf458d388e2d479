/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: what comes over the line of a migration (migrate_stream.h). An input is records of {
 * u8 type, u8 what is right about the head, u16 length, payload }; checksums are made right unless
 * the second byte says otherwise, or nothing would get past them.
 */
#include <errno.h>

#include "tests/fuzz/machine.h"
#include "tests/fuzz/ops.h"
#include "vmm/move/migrate_stream.h"

static struct machine *m;
static void *config, *state;		/* trees that fit the machine */
static size_t config_len, state_len;

static void make(void)
{
	char *argv[] = {
		"fuzz", "-m", "8", "-nodefaults", "-display", "none", "-vga", "none", NULL
	};
	struct err err = { "" };

	fuzz_enter_folder();
	m = fuzz_machine(argv);
	if (stream_config(m, &config, &config_len) < 0 ||
	    machine_save(m, NULL, NULL, true, &state, &state_len, &err) < 0)
		abort();
}

struct source { uint8_t *data; size_t len; };

static int take(void *ctx, void *buf, size_t len, uint64_t off)
{
	struct source *s = ctx;

	if (off > s->len || len > s->len - off)
		return -ENODATA;
	memcpy(buf, s->data + off, len);
	return 0;
}

static void put(struct source *s, const void *p, size_t len)
{
	s->data = realloc(s->data, s->len + len);
	memcpy(s->data + s->len, p, len);
	s->len += len;
}

static void put_record(struct source *s, uint32_t type, uint8_t wrong, const void *p, size_t len)
{
	uint8_t head[16];

	st_le32(head, type);
	st_le32(head + 4, crc32c(0, p, len) ^ (wrong == 1));
	st_le64(head + 8, wrong == 2 ? UINT64_MAX - len : wrong == 3 ? len + 1 : len);
	put(s, head, sizeof(head));
	put(s, p, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct source s = { NULL, 0 };
	struct err err = { "" };
	uint8_t head[STREAM_HEADER];
	struct line *l;

	if (!m)
		make();
	memcpy(head, stream_magic, 8);
	st_le32(head + 8, STREAM_VERSION);
	st_le32(head + 12, 0);
	put(&s, head, sizeof(head));
	while (size >= 4) {
		uint8_t type = fuzz_take(&data, &size, 1), wrong = fuzz_take(&data, &size, 1);
		size_t len = fuzz_take(&data, &size, 2);

		len = MIN(len, size);
		/* Trees that are right are too long to be found by chance. */
		if (type == 0x81)
			put_record(&s, STREAM_CONFIG, wrong, config, config_len);
		else if (type == 0x84)
			put_record(&s, STREAM_STATE, wrong, state, state_len);
		else
			put_record(&s, type & 15, wrong, data, len);
		data += len;
		size -= len;
	}
	l = line_callback(NULL, take, &s);
	if (migrate_load_line(m, l, &err) < 0 && !err.msg[0])
		abort();
	line_free(l);
	free(s.data);
	machine_reset(m, &err);
	return 0;
}
