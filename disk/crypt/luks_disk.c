/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * luks_disk.c: the format "luks": a LUKS 1 header and behind it the disk, each sector encrypted
 * under its own number. cryptsetup opens the same files. Any thread; no state but the key.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "disk/crypt/crypt.h"
#include "disk/formats.h"

struct luks_disk {
	uint64_t payload;		/* where the disk begins */
	struct crypt *crypt;		/* NULL: opened for info alone */
};

enum { HEADER_MAX = 64 * 1024 * 1024 };

static int luks_probe(const uint8_t *head, size_t len, uint64_t file_size, const char *filename)
{
	return len >= LUKS_HEADER_BYTES && !memcmp(head, "LUKS\xba\xbe", 6) &&
			       ld_be16(head + 6) == 1
		       ? 100
		       : 0;
}

static void luks_close(struct node *n)
{
	struct luks_disk *d = n->priv;

	crypt_free(d->crypt);
	free(d);
	n->priv = NULL;
}

static int luks_open(struct node *n, const struct blk_options *o, struct err *err)
{
	struct luks_disk *d;
	struct luks l;
	int ret = luks_load(n->file, 0, MIN(n->file->size, (uint64_t)HEADER_MAX), &l, err);

	if (ret)
		return ret;
	if ((uint64_t)l.payload * 512 > n->file->size ||
	    (uint64_t)l.payload * 512 < LUKS_HEADER_BYTES)
		return err_set(err, EINVAL, "'%s': its data begins outside the file", n->filename);
	for (int i = 0; i < LUKS_SLOTS; i++)
		if (l.slots[i].active == LUKS_SLOT_ACTIVE && l.slots[i].material >= l.payload)
			return err_set(err, EINVAL, "'%s': key slot %d lies in the data",
				       n->filename, i);
	if (!(o->flags & BLK_NO_IO) && !o->secret_file)
		return err_set(err, EACCES,
			       "Parameter 'key-secret' is required for cipher: '%s' is encrypted; "
			       "name the file that holds its "
			       "passphrase",
			       n->filename);
	n->priv = d = xcalloc(1, sizeof(*d));
	d->payload = (uint64_t)l.payload * 512;
	n->size = ALIGN_DOWN(n->file->size - d->payload, 512ull);
	if (o->flags & BLK_NO_IO)
		return 0;
	d->crypt = crypt_new(err);
	ret = d->crypt ? crypt_open_luks(d->crypt, n->file, 0, d->payload, o->secret_file, err)
		       : -ENOSYS;
	if (ret)
		luks_close(n);
	return ret;
}

static int luks_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	struct luks_disk *d = n->priv;

	return d->crypt ? crypt_read(d->crypt, n->file, d->payload + off, off, 0, iov, niov, len)
			: -EIO;
}

static int luks_write(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len,
		      unsigned flags)
{
	struct luks_disk *d = n->priv;

	return d->crypt ? crypt_write(d->crypt, n->file, d->payload + off, off, iov, niov, len)
			: -EIO;
}

static int luks_flush(struct node *n)
{
	return node_flush(n->file);
}

static int luks_resize(struct node *n, uint64_t size, struct err *err)
{
	struct luks_disk *d = n->priv;
	int ret;

	if (size > INT64_MAX - d->payload)
		return err_set(err, EFBIG, "The requested file size is too large");
	ret = node_resize(n->file, d->payload + size, err);
	if (!ret)
		n->size = size;
	return ret;
}

static int luks_reopen(struct node *n, bool rdwr, struct err *err)
{
	return 0;
}

static int luks_info(struct node *n, struct node_info *i)
{
	struct luks_disk *d = n->priv;
	struct luks l;
	int ret = luks_load(n->file, 0, d->payload, &l, NULL);

	if (!ret) {
		i->specific = luks_info_json(&l);
		i->encrypted = true;
	}
	return ret;
}

static int luks_disk_amend(struct node *n, const char *const *opts, bool force, struct err *err)
{
	struct luks_disk *d = n->priv;

	return luks_amend(d->crypt, n->file, 0, d->payload, opts, "", force, err);
}

static const struct node_opt luks_opts[] = {
	{ "size", "size", "Virtual disk size", NULL, OPT_CREATE },
	LUKS_CREATE_OPTS("", "ID of the secret that provides the keyslot passphrase"),
	LUKS_AMEND_OPTS(""),
	{ NULL, NULL, NULL, NULL, OPT_CREATE },
};

static int luks_disk_create(const struct node_create *c, struct err *err)
{
	const char *secret = node_create_opt(c->opts, "key-secret");
	struct node *f;
	struct luks l;
	unsigned iter_ms;
	int ret = luks_params(c->opts, "", &l, &iter_ms, err);

	if (ret)
		return ret;
	if (!secret)
		return err_set(err, EINVAL, "Parameter 'key-secret' is required for cipher");
	if (c->size > INT64_MAX - luks_header_len(l.key_bytes))
		return err_set(err, EFBIG, "The requested file size is too large");
	f = node_create_file(c->filename, luks_header_len(l.key_bytes) + ALIGN_UP(c->size, 512ull),
			     c->host, err);
	if (!f)
		return -EIO;
	ret = luks_create_from(f, 0, &l, secret, iter_ms, err);
	node_unref(f);
	return ret;
}

static int luks_measure(const char *const *opts, uint64_t size, struct node *src,
			struct node_measure *m, struct err *err)
{
	struct luks l;
	unsigned iter_ms;
	int ret = luks_params(opts, "", &l, &iter_ms, err);

	if (ret)
		return ret;
	if (!node_create_opt(opts, "key-secret"))
		return err_set(err, EINVAL, "Parameter 'key-secret' is required for cipher");
	*m = (struct node_measure){ .required = luks_header_len(l.key_bytes) +
						ALIGN_UP(size, 512ull) };
	m->fully_allocated = m->required;
	return 0;
}

const struct node_ops luks_ops = {
	.format = "luks",
	.probe = luks_probe,
	.open = luks_open,
	.close = luks_close,
	.create = luks_disk_create,
	.create_opts = luks_opts,
	.read = luks_read,
	.write = luks_write,
	.flush = luks_flush,
	.resize = luks_resize,
	.reopen = luks_reopen,
	.info = luks_info,
	.amend = luks_disk_amend,
	.measure = luks_measure,
};
