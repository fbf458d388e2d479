/* SPDX-License-Identifier: GPL-2.0-or-later */
/* iov.h: pieces of scatter lists. Any thread. */
#ifndef VMM_BASE_IOV_H
#define VMM_BASE_IOV_H

#include <sys/uio.h>

#include "vmm/base/util.h"

uint64_t iov_bytes(const struct iovec *iov, int niov);
/*
 * The bytes [off, off + len) of src as a list in dst, which has room for niov entries. Returns the
 * entries used.
 */
int iov_slice(struct iovec *dst, const struct iovec *src, int niov, uint64_t off, uint64_t len);
/* Copy between the list at an offset and a buffer; return how many bytes both had. */
size_t iov_to_buf(const struct iovec *iov, int niov, uint64_t off, void *buf, uint64_t len);
size_t iov_from_buf(const struct iovec *iov, int niov, uint64_t off, const void *buf, uint64_t len);
void iov_zero(const struct iovec *iov, int niov, uint64_t off, uint64_t len);
bool iov_is_zero(const struct iovec *iov, int niov);
bool iov_aligned(const struct iovec *iov, int niov, size_t align);
bool buf_is_zero(const void *buf, size_t len);

#endif
