/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * crypt.c: sectors that are encrypted one by one: reading, writing (parts of a sector by reading it
 * first), and the key by a passphrase from a file. Worker threads; opening on the opener's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "disk/crypt/crypt.h"
#include "vmm/base/iov.h"
#include "vmm/base/limits.h"
#include "vmm/base/log.h"

enum { SECTOR = 512, PASSPHRASE_MAX = 65536 };

struct crypt *crypt_new(struct err *err)
{
	const struct crypto_ops *ops = module_symbol("crypto", "crypto_ops", err);
	struct crypt *c;

	if (!ops)
		return NULL;
	c = xcalloc(1, sizeof(*c));
	pthread_mutex_init(&c->rmw, NULL);
	c->ops = ops;
	return c;
}

void crypt_free(struct crypt *c)
{
	if (!c)
		return;
	if (c->cipher)
		c->ops->cipher_free(c->cipher);
	pthread_mutex_destroy(&c->rmw);
	explicit_bzero(c, sizeof(*c));
	free(c);
}

int crypt_secret_read(const struct host *host, const char *path, char **pass, size_t *len,
		      size_t *full, struct err *err)
{
	char *buf;
	ssize_t n;
	size_t used = 0;
	int fd = host_open(host ? host : &host_door, "passphrase", path, O_RDONLY, 0, err);

	if (fd < 0)
		return err_set(err, -fd, "Could not open the passphrase file '%s': %s", path,
			       strerror(-fd));
	buf = xcalloc(1, PASSPHRASE_MAX + 1);
	while (used < PASSPHRASE_MAX && (n = read(fd, buf + used, PASSPHRASE_MAX - used)) > 0)
		used += n;
	close(fd);
	if (!used) {
		free(buf);
		return err_set(err, EINVAL, "The passphrase file '%s' is empty", path);
	}
	*pass = buf;
	*full = used;
	*len = used > 1 && buf[used - 1] == '\n' ? used - 1 : used;
	return 0;
}

void crypt_secret_free(char *pass)
{
	if (pass)
		explicit_bzero(pass, PASSPHRASE_MAX);
	free(pass);
}

int crypt_open_luks(struct crypt *c, struct node *file, uint64_t off, uint64_t len,
		    const char *secret_file, struct err *err)
{
	size_t pass_len, full;
	char *pass = NULL;
	struct luks l;
	int ret = luks_load(file, off, len, &l, err);

	if (!ret)
		ret = crypt_secret_read(file->host, secret_file, &pass, &pass_len, &full, err);
	if (ret)
		return ret;
	ret = luks_unlock(c->ops, file, off, &l, pass, pass_len, c->master, err);
	/* Made from a file whose last newline counted, as QEMU counts it. */
	if (ret == -EACCES && full != pass_len)
		ret = luks_unlock(c->ops, file, off, &l, pass, full, c->master, err);
	crypt_secret_free(pass);
	if (ret)
		return ret == -EACCES
			       ? err_set(err, EACCES, "Invalid password, cannot unlock any keyslot")
			       : ret;
	c->cipher = c->ops->cipher_new(l.cipher, l.mode, c->master, l.key_bytes, err);
	return c->cipher ? 0 : -ENOTSUP;
}

static int sectors_read(struct crypt *c, struct node *data, uint64_t at, uint64_t number,
			uint64_t len, uint8_t *buf)
{
	int ret = node_pread(data, buf, len, at);

	return ret ? ret : c->ops->crypt(c->cipher, number / SECTOR, buf, len, false);
}

/*
 * A request is as long as the guest likes, the buffer is not: bytes of the next piece, which ends
 * with a sector unless it is the last.
 */
static uint64_t piece(uint64_t number, uint64_t len)
{
	return MIN(len, BOUNCE_BYTES - number % SECTOR);
}

static uint8_t *bounce(uint64_t number, uint64_t len)
{
	void *buf;

	return posix_memalign(&buf, 4096, MIN(ALIGN_UP(number % SECTOR + len, (uint64_t)SECTOR),
					      BOUNCE_BYTES)) ? NULL : buf;
}

int crypt_read(struct crypt *c, struct node *data, uint64_t at, uint64_t number, uint64_t pos,
	       const struct iovec *iov, int niov, uint64_t len)
{
	uint8_t *buf = bounce(number, len);
	int ret = buf ? 0 : -ENOMEM;

	for (uint64_t n; len && !ret; len -= n, at += n, number += n, pos += n) {
		uint64_t skip = number % SECTOR;

		n = piece(number, len);
		ret = sectors_read(c, data, at - skip, number - skip,
				   ALIGN_UP(skip + n, (uint64_t)SECTOR), buf);
		if (!ret)
			iov_from_buf(iov, niov, pos, buf + skip, n);
	}
	free(buf);
	return ret;
}

/* len bytes from byte pos of the list, in one piece. */
static int piece_write(struct crypt *c, struct node *data, uint64_t at, uint64_t number,
		       uint64_t pos, const struct iovec *iov, int niov, uint64_t len, uint8_t *buf)
{
	uint64_t skip = number % SECTOR, whole = ALIGN_UP(skip + len, (uint64_t)SECTOR);
	bool partial = whole != len;
	int ret = 0;

	at -= skip;
	number -= skip;
	if (partial) {
		pthread_mutex_lock(&c->rmw);
		ret = sectors_read(c, data, at, number, SECTOR, buf);
		if (!ret && whole > SECTOR)
			ret = sectors_read(c, data, at + whole - SECTOR, number + whole - SECTOR,
					   SECTOR, buf + whole - SECTOR);
	}
	if (!ret) {
		iov_to_buf(iov, niov, pos, buf + skip, len);
		ret = c->ops->crypt(c->cipher, number / SECTOR, buf, whole, true);
	}
	if (!ret)
		ret = node_pwrite(data, buf, whole, at);
	if (partial)
		pthread_mutex_unlock(&c->rmw);
	return ret;
}

int crypt_write(struct crypt *c, struct node *data, uint64_t at, uint64_t number,
		const struct iovec *iov, int niov, uint64_t len)
{
	uint8_t *buf = bounce(number, len);
	uint64_t pos = 0;
	int ret = buf ? 0 : -ENOMEM;

	for (uint64_t n; len && !ret; len -= n, at += n, number += n, pos += n) {
		n = piece(number, len);
		ret = piece_write(c, data, at, number, pos, iov, niov, n, buf);
	}
	free(buf);
	return ret;
}
