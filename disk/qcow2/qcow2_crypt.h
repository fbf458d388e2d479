/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qcow2_crypt.h: encrypted data clusters of qcow2. */
#ifndef DISK_QCOW2_QCOW2_CRYPT_H
#define DISK_QCOW2_QCOW2_CRYPT_H

#include "disk/qcow2/qcow2.h"

/*
 * Unlocks the image with the passphrase of o->secret_file. Nothing to do when it is not encrypted.
 */
int qcow2_crypt_open(struct qcow2 *q, const struct blk_options *o, struct err *err);
void qcow2_crypt_close(struct qcow2 *q);
/* Guest bytes at `off`, found at host; whole sectors or not. `pos` is where in iov they go. */
int qcow2_crypt_read(struct qcow2 *q, uint64_t host, uint64_t off, uint64_t pos,
		     const struct iovec *iov, int niov, uint64_t len);
int qcow2_crypt_write(struct qcow2 *q, uint64_t host, uint64_t off, const struct iovec *iov,
		      int niov, uint64_t len);
/* Makes the keys of a new, empty image (header and refcount table are there). */
int qcow2_crypt_create(struct node *f, struct qcow2_header *h, const char *const *opts,
		       const char *secret_file, const char *backing, const char *backing_format,
		       const char *data_file, struct err *err);
/* Passphrases come and go. Drained. */
int qcow2_crypt_amend(struct qcow2 *q, const char *const *opts, bool force, struct err *err);
int qcow2_crypt_info(struct qcow2 *q, struct json_t *specific);

#endif
