/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kallsyms.c: the table of names that every kernel with CONFIG_KALLSYMS carries for its own
 * messages (kernel/kallsyms.c, scripts/kallsyms.c of Linux). Distributions strip vmlinux and ship
 * an empty System.map, so it is the only one, most of the time. It has no header: it is found by
 * what it must look like. The image is the guest's: every offset is checked.
 *
 * The table's parts, each aligned to 8: offsets u32[n], relative_base u64 and n u32 (up to Linux
 * 6.3; the first two behind token_index since), names (a length, then token numbers; the first
 * character is the type), markers u32 (where each 256th name begins), token_table (256 strings),
 * token_index u16[256].
 */
#include "vmm/base/kallsyms.h"

#define NAME_MAX_LEN 512
#define MARKER_STEP 256

struct table {
	const uint8_t *image;
	size_t size, tokens, index, markers, names;	/* where in the image */
	unsigned nmarkers;
	uint32_t count;
};

static uint32_t word(const struct table *t, size_t at)
{
	return range_ok(at, 4, t->size) ? ld_le32(t->image + at) : 0;
}

/*
 * Digits are tokens of their own in every kernel: "0" to "9" stand one after the other, as numbers
 * 48 to 57.
 */
static bool find_tokens(struct table *t)
{
	static const char digits[] = "0\0001\0002\0003\0004\0005\0006\0007\0008\0009";
	const uint8_t *at = t->image;

	while ((at = memmem(at, t->image + t->size - at, digits, sizeof(digits)))) {
		size_t zero = at - t->image, end = zero, before;

		for (unsigned i = '0'; i < 256 && end < t->size; i++)
			end += strnlen((const char *)t->image + end, t->size - end) + 1;
		t->index = ALIGN_UP(end, (size_t)8);
		if (range_ok(t->index, 512, t->size)) {
			before = ld_le16(t->image + t->index + 2 * '0');
			t->tokens = zero - before;
			if (before && before < zero && !ld_le16(t->image + t->index) &&
			    !(t->tokens & 7) &&
			    ld_le16(t->image + t->index + 2 * '1') == before + 2)
				return true;
		}
		at++;
	}
	return false;
}

static bool plausible(uint32_t from, uint32_t to)
{
	return to > from + MARKER_STEP && to - from < MARKER_STEP * 128u;
}

static bool find_markers(struct table *t)
{
	size_t lowest = t->tokens > (64u << 20) ? t->tokens - (64u << 20) : 0;

	for (size_t at = t->tokens; at >= lowest + 8; at -= 8) {
		unsigned n = 1;

		if (word(t, at - 8))
			continue;
		while (at - 8 + 4 * n < t->tokens &&
		       plausible(word(t, at - 8 + 4 * (n - 1)), word(t, at - 8 + 4 * n)))
			n++;
		if (n < 16)
			continue;
		t->markers = at - 8;
		t->nmarkers = n;
		return true;
	}
	return false;
}

/* The next name: its type and text; where the one after it begins, or 0 at the table's end. */
static size_t next_name(const struct table *t, size_t at, char name[NAME_MAX_LEN])
{
	size_t len, out = 0;

	if (at >= t->markers)
		return 0;
	len = t->image[at++];
	if (len & 0x80)				/* since Linux 6.1 */
		len = (len & 0x7f) | t->image[at++] << 7;
	if (!range_ok(at, len, t->markers))
		return 0;
	for (size_t i = 0; i < len; i++) {
		const char *token = (const char *)t->image + t->tokens +
				    ld_le16(t->image + t->index + 2 * t->image[at + i]);

		while (token < (const char *)t->image + t->index && *token &&
		       out < NAME_MAX_LEN - 1)
			name[out++] = *token++;
	}
	name[out] = 0;
	return at + len;
}

static bool find_names(struct table *t)
{
	uint32_t last = word(t, t->markers + 4 * (t->nmarkers - 1)),
		 second = word(t, t->markers + 4);
	size_t latest = t->markers - last, earliest = latest > 65536 ? latest - 65536 : 8;
	char name[NAME_MAX_LEN];

	for (size_t at = ALIGN_DOWN(latest, (size_t)8); last < t->markers && at > earliest;
	     at -= 8) {
		uint32_t n = word(t, at - 8);
		size_t p = at;

		if (!n || n > t->nmarkers * MARKER_STEP ||
		    n + MARKER_STEP <= t->nmarkers * MARKER_STEP)
			continue;
		for (unsigned i = 0; i < MARKER_STEP && p; i++)
			p = next_name(t, p, name);
		if (p != at + second)
			continue;
		t->names = at;
		t->count = n;
		return true;
	}
	return false;
}

static bool read_addresses(const struct table *t, kallsyms_add add, void *opaque)
{
	/* { where relative_base is, where the offsets begin } */
	size_t after = ALIGN_UP(t->index + 512, (size_t)8), n = t->count;
	const size_t places[][2] = {
		{ t->names - 16, ALIGN_DOWN(t->names - 16 - 4 * n, (size_t)8) },
		{ ALIGN_UP(after + 4 * n, (size_t)8), after },
	};
	char name[NAME_MAX_LEN];

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		uint64_t base = range_ok(places[i][0], 8, t->size)
					? ld_le64(t->image + places[i][0])
					: 0;
		size_t p = t->names, offsets = places[i][1];
		bool negative = false, any = false;

		if (base < 0xffffffff80000000ull || base & 0xfff ||
		    !range_ok(offsets, 4 * n, t->size))
			continue;
		/*
		 * With CONFIG_KALLSYMS_ABSOLUTE_PERCPU offsets below zero count from the base,
		 * others are addresses.
		 */
		for (size_t k = 0; k < n && !negative; k++)
			negative = word(t, offsets + 4 * k) >> 31;
		for (size_t k = 0; k < n && p; k++) {
			uint32_t v = word(t, offsets + 4 * k);

			p = next_name(t, p, name);
			if (p && *name) {
				add(opaque,
				    !negative ? base + v
				    : v >> 31 ? base - 1 - (int32_t)v
					      : v,
				    *name, name + 1);
				any = true;
			}
		}
		return any;
	}
	return false;
}

bool kallsyms_read(const void *image, size_t size, kallsyms_add add, void *opaque)
{
	struct table t = { .image = image, .size = size };

	return size > 65536 && find_tokens(&t) && find_markers(&t) && find_names(&t) &&
	       read_addresses(&t, add, opaque);
}
