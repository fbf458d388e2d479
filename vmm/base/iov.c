/* SPDX-License-Identifier: GPL-2.0-or-later */
/* iov.c: pieces of scatter lists. Any thread. */
#include "vmm/base/iov.h"

uint64_t iov_bytes(const struct iovec *iov, int niov)
{
	uint64_t sum = 0;

	for (int i = 0; i < niov; i++)
		sum += iov[i].iov_len;
	return sum;
}

int iov_slice(struct iovec *dst, const struct iovec *src, int niov, uint64_t off, uint64_t len)
{
	int n = 0;

	for (int i = 0; i < niov && len; i++) {
		uint64_t take;

		if (off >= src[i].iov_len) {
			off -= src[i].iov_len;
			continue;
		}
		take = MIN(src[i].iov_len - off, len);
		dst[n].iov_base = (char *)src[i].iov_base + off;
		dst[n++].iov_len = take;
		len -= take;
		off = 0;
	}
	return n;
}

enum iov_move { TO_BUF, FROM_BUF, ZERO };
static size_t iov_move(const struct iovec *iov, int niov, uint64_t off, char *buf, uint64_t len,
		       enum iov_move how)
{
	size_t done = 0;

	for (int i = 0; i < niov && len; i++) {
		uint64_t n;
		char *p;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		n = MIN(iov[i].iov_len - off, len);
		p = (char *)iov[i].iov_base + off;
		if (how == ZERO)
			memset(p, 0, n);
		else
			memcpy(how == TO_BUF ? buf : p, how == TO_BUF ? p : buf, n);
		if (how != ZERO)
			buf += n;
		len -= n;
		done += n;
		off = 0;
	}
	return done;
}

size_t iov_to_buf(const struct iovec *iov, int niov, uint64_t off, void *buf, uint64_t len)
{
	return iov_move(iov, niov, off, buf, len, TO_BUF);
}

size_t iov_from_buf(const struct iovec *iov, int niov, uint64_t off, const void *buf, uint64_t len)
{
	return iov_move(iov, niov, off, (char *)buf, len, FROM_BUF);
}

void iov_zero(const struct iovec *iov, int niov, uint64_t off, uint64_t len)
{
	iov_move(iov, niov, off, NULL, len, ZERO);
}

bool buf_is_zero(const void *buf, size_t len)
{
	const unsigned char *p = buf;
	size_t head = MIN(len, 16);

	/*
	 * The first bytes by hand; then each byte equals the one 16 before it exactly when all are
	 * zero.
	 */
	for (size_t i = 0; i < head; i++)
		if (p[i])
			return false;
	return len <= 16 || memcmp(p, p + 16, len - 16) == 0;
}

bool iov_is_zero(const struct iovec *iov, int niov)
{
	for (int i = 0; i < niov; i++)
		if (!buf_is_zero(iov[i].iov_base, iov[i].iov_len))
			return false;
	return true;
}

bool iov_aligned(const struct iovec *iov, int niov, size_t align)
{
	for (int i = 0; i < niov; i++)
		if (((uintptr_t)iov[i].iov_base | iov[i].iov_len) & (align - 1))
			return false;
	return true;
}
