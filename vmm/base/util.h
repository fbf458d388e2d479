/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * util.h: what every file may use. No KVM, no guest, no state.
 */
#ifndef VMM_BASE_UTIL_H
#define VMM_BASE_UTIL_H

#include <endian.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define KiB (1024ull)
#define MiB (1024ull * KiB)
#define GiB (1024ull * MiB)

#define NS_PER_SEC 1000000000ll
#define NS_PER_MS 1000000ll

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define ALIGN_DOWN(x, a) ((x) & ~((__typeof__(x))(a) - 1))
#define ALIGN_UP(x, a) ALIGN_DOWN((x) + (__typeof__(x))(a) - 1, a)
#define IS_POWER_OF_2(x) ((x) && !((x) & ((x) - 1)))
#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))
#define PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define UNUSED __attribute__((unused))
/*
 * The build zeroes automatic variables. A large buffer of the data path that is filled before it is
 * read goes without.
 */
#define UNINITIALIZED __attribute__((uninitialized))

/* Loads and stores of fixed-endian integers at any alignment. */
#define UTIL_DEFINE_ACCESS(name, type, from, to)				\
	static inline type ld_##name(const void *p)				\
	{ type v; memcpy(&v, p, sizeof(v)); return from(v); }			\
	static inline void st_##name(void *p, type v)				\
	{ v = to(v); memcpy(p, &v, sizeof(v)); }
UTIL_DEFINE_ACCESS(le16, uint16_t, le16toh, htole16)
UTIL_DEFINE_ACCESS(le32, uint32_t, le32toh, htole32)
UTIL_DEFINE_ACCESS(le64, uint64_t, le64toh, htole64)
UTIL_DEFINE_ACCESS(be16, uint16_t, be16toh, htobe16)
UTIL_DEFINE_ACCESS(be32, uint32_t, be32toh, htobe32)
UTIL_DEFINE_ACCESS(be64, uint64_t, be64toh, htobe64)

/* True when [off, off + len) lies inside [0, size); safe against wrap-around. */
static inline bool range_ok(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

/*
 * Why something failed, in words for the user: what failed, on what, why, what to do next.
 * Lives on the caller's stack; only the first reason is kept.
 */
struct err {
	char msg[1024];
};

/* Records the reason (unless one is recorded already) and returns -errnum. e may be NULL. */
int err_set(struct err *e, int errnum, const char *fmt, ...) PRINTF(3, 4);
/* Puts "prefix: " before the recorded reason. */
void err_prefix(struct err *e, const char *fmt, ...) PRINTF(2, 3);

/*
 * Allocation of small objects whose size the program chooses: never return NULL (the program
 * ends with a message). A size that comes from a guest or a file goes through calloc and a check.
 */
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xasprintf(const char *fmt, ...) PRINTF(1, 2);

/*
 * Whole reads and writes that continue after EINTR and short transfers. Return 0 or -errno;
 * read_full gives -ENODATA at an early end of file.
 */
int read_full(int fd, void *buf, size_t len);
int write_full(int fd, const void *buf, size_t len);
int pread_full(int fd, void *buf, size_t len, uint64_t off);
int pwrite_full(int fd, const void *buf, size_t len, uint64_t off);

/*
 * "512", "64K", "2G", "1.5T": bytes, with a default unit for a bare number (for -m: MiB).
 * Returns 0, or -EINVAL / -ERANGE.
 */
int parse_size(const char *s, uint64_t unit, uint64_t *bytes);
/*
 * The same by QEMU's stricter rule, for images: bytes; "64k", "1.5G", "0x200"; one letter of b, k,
 * M, G, T, P, E or none (no "GB", no "MiB"), a leading 0 means nothing. Returns 0, -EINVAL, or
 * -ERANGE from 2^64 on.
 */
int parse_bytes(const char *s, uint64_t *bytes);
/* A whole unsigned number, decimal or 0x. Returns 0, -EINVAL or -ERANGE. */
int parse_u64(const char *s, uint64_t max, uint64_t *value);
/* "on/off/yes/no/true/false". Returns 0 or -EINVAL. */
int parse_bool(const char *s, bool *value);

/* A UUID in text order: 32 hexadecimal digits, with or without dashes. 0 or -EINVAL. */
int parse_uuid(const char *s, uint8_t uuid[16]);
void format_uuid(char text[37], const uint8_t uuid[16]);

/* CLOCK_MONOTONIC in nanoseconds. */
int64_t now_ns(void);

/* CRC-32C (Castagnoli), as vhdx and our own headers use it; start with 0. */
uint32_t crc32c(uint32_t crc, const void *buf, size_t len);

#endif
