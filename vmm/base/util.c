/* SPDX-License-Identifier: GPL-2.0-or-later */
/* util.c: allocation that does not fail, whole reads and writes, numbers from text. */
#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/util.h"

int err_set(struct err *e, int errnum, const char *fmt, ...)
{
	va_list ap;

	if (e && !e->msg[0]) {
		va_start(ap, fmt);
		vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
		va_end(ap);
	}
	return -errnum;
}

void err_prefix(struct err *e, const char *fmt, ...)
{
	char old[sizeof(e->msg)];
	va_list ap;
	int n;

	if (!e)
		return;
	memcpy(old, e->msg, sizeof(old));
	va_start(ap, fmt);
	n = vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(e->msg))
		snprintf(e->msg + n, sizeof(e->msg) - n, ": %s", old);
}

static void *or_die(void *p)
{
	if (!p) {
		static const char msg[] = "out of memory\n";

		if (write(2, msg, sizeof(msg) - 1) < 0)
			abort();
		exit(1);
	}
	return p;
}

void *xcalloc(size_t n, size_t size)
{
	return or_die(calloc(n ? n : 1, size ? size : 1));
}

void *xrealloc(void *p, size_t size)
{
	return or_die(realloc(p, size ? size : 1));
}

char *xstrdup(const char *s)
{
	return or_die(strdup(s));
}

char *xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return or_die(n < 0 ? NULL : s);
}

/* One body for the four whole transfers: off < 0 means the file's own position. */
static int transfer(int fd, char *p, size_t len, int64_t off, bool is_write)
{
	while (len) {
		ssize_t n;

		if (is_write)
			n = off < 0 ? write(fd, p, len) : pwrite(fd, p, len, off);
		else
			n = off < 0 ? read(fd, p, len) : pread(fd, p, len, off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return is_write ? -ENOSPC : -ENODATA;
		p += n;
		len -= n;
		if (off >= 0)
			off += n;
	}
	return 0;
}

int read_full(int fd, void *buf, size_t len)
{
	return transfer(fd, buf, len, -1, false);
}

int write_full(int fd, const void *buf, size_t len)
{
	return transfer(fd, (char *)buf, len, -1, true);
}

int pread_full(int fd, void *buf, size_t len, uint64_t off)
{
	return off > INT64_MAX ? -EINVAL : transfer(fd, buf, len, off, false);
}

int pwrite_full(int fd, const void *buf, size_t len, uint64_t off)
{
	return off > INT64_MAX ? -EINVAL : transfer(fd, (char *)buf, len, off, true);
}

int parse_size(const char *s, uint64_t unit, uint64_t *bytes)
{
	static const char suffixes[] = "bkmgtpe";
	const char *at;
	char *end;
	double v;
	uint64_t whole, mult = unit;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	errno = 0;
	whole = strtoull(s, &end, 0);
	if (errno)
		return -ERANGE;
	v = whole;
	if (*end == '.')
		v = strtod(s, &end);
	if (*end) {
		at = strchr(suffixes, tolower((unsigned char)*end));
		if (!at)
			return -EINVAL;
		mult = 1ull << (10 * (at - suffixes));
		end++;
		if (*end == 'i' && mult > 1)
			end++;
		if ((*end == 'B' || *end == 'b') && mult > 1)
			end++;
		if (*end)
			return -EINVAL;
	}
	if (v == (double)whole)
		return __builtin_mul_overflow(whole, mult, bytes) ? -ERANGE : 0;
	if (v * mult >= 18446744073709551616.0)
		return -ERANGE;
	*bytes = v * mult;
	return 0;
}

int parse_bytes(const char *s, uint64_t *bytes)
{
	static const char suffixes[] = "bkmgtpe";
	bool hex = s[0] == '0' && (s[1] == 'x' || s[1] == 'X'), fraction;
	size_t digits = hex ? strspn(s + 2, "0123456789abcdefABCDEF") + 2 : strspn(s, "0123456789");
	size_t len = digits, letters;

	fraction = !hex && digits && s[digits] == '.';
	if (fraction)
		len += 1 + strspn(s + digits + 1, "0123456789");
	letters = strlen(s + len);
	if (!digits || (hex && digits == 2) || letters > 1 ||
	    (letters && !strchr(suffixes, tolower((unsigned char)s[len]))))
		return -EINVAL;
	/* No number of bytes has a fraction, and an octal one is nobody's wish. */
	if (fraction && (!letters || tolower((unsigned char)s[len]) == 'b') &&
	    strspn(s + digits + 1, "0") != len - digits - 1)
		return -EINVAL;
	while (!hex && s[0] == '0' && isdigit((unsigned char)s[1]))
		s++;
	return parse_size(s, 1, bytes);
}

int parse_u64(const char *s, uint64_t max, uint64_t *value)
{
	unsigned long long v;
	char *end;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, 0);
	if (*end)
		return -EINVAL;
	if (errno || v > max)
		return -ERANGE;
	*value = v;
	return 0;
}

int parse_bool(const char *s, bool *value)
{
	static const char *const yes[] = { "on", "yes", "true", "1", "y" };
	static const char *const no[] = { "off", "no", "false", "0", "n" };

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		if (!strcmp(s, yes[i]) || !strcmp(s, no[i])) {
			*value = !strcmp(s, yes[i]);
			return 0;
		}
	}
	return -EINVAL;
}

int parse_uuid(const char *s, uint8_t uuid[16])
{
	unsigned n = 0;

	for (; *s; s++) {
		int v = *s >= '0' && *s <= '9'		       ? *s - '0'
			: (*s | 32) >= 'a' && (*s | 32) <= 'f' ? (*s | 32) - 'a' + 10
							       : -1;

		if (*s == '-')
			continue;
		if (v < 0 || n == 32)
			return -EINVAL;
		uuid[n / 2] = n % 2 ? uuid[n / 2] | v : v << 4;
		n++;
	}
	return n == 32 ? 0 : -EINVAL;
}

void format_uuid(char text[37], const uint8_t u[16])
{
	snprintf(text, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		 u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12],
		 u[13], u[14], u[15]);
}

int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NS_PER_SEC + ts.tv_nsec;
}

static uint32_t crc32c_table(uint32_t crc, const uint8_t *p, size_t len)
{
	static uint32_t table[256];

	if (!__atomic_load_n(&table[1], __ATOMIC_ACQUIRE)) {
		for (uint32_t i = 256; i-- > 0;) {
			/* downwards: the last store, table[0], is 0 anyway */
			uint32_t c = i;

			for (int k = 0; k < 8; k++)
				c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
			__atomic_store_n(&table[i], c, __ATOMIC_RELEASE);
		}
	}
	while (len--)
		crc = crc >> 8 ^ table[(crc ^ *p++) & 0xff];
	return crc;
}

#ifdef __x86_64__
/*
 * The instruction takes three cycles and one may start in each: three lanes side by side, joined by
 * a table that moves a checksum past a lane's bytes (it is linear: the table follows from what
 * becomes of each bit). A page is three lanes and a bit.
 */
#define LANE 1360u
static uint32_t past_lane[4][256];
static pthread_once_t past_lane_once = PTHREAD_ONCE_INIT;

__attribute__((target("sse4.2"))) static void past_lane_init(void)
{
	for (unsigned bit = 0; bit < 32; bit++) {
		uint64_t c = 1u << bit;

		for (unsigned i = 0; i < LANE / 8; i++)
			c = __builtin_ia32_crc32di(c, 0);
		for (unsigned b = 0; b < 256; b++)
			if (b >> bit % 8 & 1)
				past_lane[bit / 8][b] ^= c;
	}
}

static uint32_t pass_lane(uint32_t c)
{
	return past_lane[0][c & 0xff] ^ past_lane[1][c >> 8 & 0xff] ^ past_lane[2][c >> 16 & 0xff] ^
	       past_lane[3][c >> 24];
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *p,
							       size_t len)
{
	uint64_t c = crc;

	if (len >= 3 * LANE)
		pthread_once(&past_lane_once, past_lane_init);
	for (; len >= 3 * LANE; len -= 3 * LANE, p += 3 * LANE) {
		uint64_t second = 0, third = 0;

		for (unsigned i = 0; i < LANE; i += 8) {
			c = __builtin_ia32_crc32di(c, ld_le64(p + i));
			second = __builtin_ia32_crc32di(second, ld_le64(p + LANE + i));
			third = __builtin_ia32_crc32di(third, ld_le64(p + 2 * LANE + i));
		}
		c = pass_lane(pass_lane(c) ^ second) ^ third;
	}
	for (; len >= 8; len -= 8, p += 8)
		c = __builtin_ia32_crc32di(c, ld_le64(p));
	while (len--)
		c = __builtin_ia32_crc32qi(c, *p++);
	return c;
}
#endif

uint32_t crc32c(uint32_t crc, const void *buf, size_t len)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("sse4.2"))
		return ~crc32c_sse42(~crc, buf, len);
#endif
	return ~crc32c_table(~crc, buf, len);
}
