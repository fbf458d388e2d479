/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_crypt.c: encrypted data clusters (spec: "Full disk encryption header pointer",
 * crypt_method). LUKS numbers sectors by their place in the file, the old AES method by the
 * guest's. Metadata is never encrypted. Worker threads.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "disk/crypt/crypt.h"
#include "disk/qcow2/qcow2.h"
#include "disk/qcow2/qcow2_crypt.h"

enum { AES_KEY = 16 };

static int open_aes(struct qcow2 *q, struct crypt *c, const char *secret_file, struct err *err)
{
	uint8_t key[AES_KEY] = { 0 };
	size_t len, full;
	char *pass;
	int ret = crypt_secret_read(q->n->host, secret_file, &pass, &len, &full, err);

	if (ret)
		return ret;
	memcpy(key, pass, MIN(len, sizeof(key)));
	crypt_secret_free(pass);
	c->cipher = c->ops->cipher_new("aes", "cbc-plain64", key, sizeof(key), err);
	c->ops->wipe(key, sizeof(key));
	return c->cipher ? 0 : -ENOTSUP;
}

static int luks_place(struct qcow2 *q, uint64_t *off, uint64_t *len, struct err *err)
{
	struct qcow2_ext *e = qcow2_ext_find(q, QCOW2_EXT_CRYPTO);

	if (!e || e->len != 16)
		return err_set(err, EINVAL,
			       "The image says it is encrypted with LUKS and has no LUKS header");
	*off = ld_be64(e->data);
	*len = ld_be64(e->data + 8);
	if (!host_ok(q, *off, MIN(*len, 4096ull)) || *len > 64 * MiB)
		return err_set(err, EINVAL, "The place of the LUKS header is invalid");
	return 0;
}

static int open_luks(struct qcow2 *q, struct crypt *c, const char *secret_file, struct err *err)
{
	uint64_t off, len;
	int ret = luks_place(q, &off, &len, err);

	return ret ? ret : crypt_open_luks(c, q->n->file, off, len, secret_file, err);
}

int qcow2_crypt_open(struct qcow2 *q, const struct blk_options *o, struct err *err)
{
	struct crypt *c;
	int ret;

	if (!q->h.crypt_method || q->crypt)
		return 0;
	if (!o->secret_file)
		return err_set(err, EACCES,
			       "Parameter 'encrypt.key-secret' is required for cipher: '%s' is "
			       "encrypted; name the file that "
			       "holds its passphrase",
			       q->n->filename);
	c = crypt_new(err);
	if (!c)
		return -ENOSYS;
	ret = q->h.crypt_method == QCOW2_CRYPT_LUKS ? open_luks(q, c, o->secret_file, err)
						    : open_aes(q, c, o->secret_file, err);
	if (ret)
		crypt_free(c);
	else
		q->crypt = c;
	return ret;
}

void qcow2_crypt_close(struct qcow2 *q)
{
	crypt_free(q->crypt);
	q->crypt = NULL;
}

static uint64_t sector_number(const struct qcow2 *q, uint64_t host, uint64_t off)
{
	return q->h.crypt_method == QCOW2_CRYPT_LUKS ? host : off;
}

int qcow2_crypt_read(struct qcow2 *q, uint64_t host, uint64_t off, uint64_t pos,
		     const struct iovec *iov, int niov, uint64_t len)
{
	return crypt_read(q->crypt, q_data(q), host, sector_number(q, host, off), pos, iov, niov,
			  len);
}

int qcow2_crypt_write(struct qcow2 *q, uint64_t host, uint64_t off, const struct iovec *iov,
		      int niov, uint64_t len)
{
	return crypt_write(q->crypt, q_data(q), host, sector_number(q, host, off), iov, niov, len);
}

int qcow2_crypt_amend(struct qcow2 *q, const char *const *opts, bool force, struct err *err)
{
	uint64_t off, len;
	int ret;

	if (!q->crypt)
		return err_set(err, EINVAL,
			       "Can't amend encryption options - encryption not present");
	if (q->h.crypt_method != QCOW2_CRYPT_LUKS)
		return err_set(
			err, ENOTSUP,
			"Only LUKS encryption options can be amended for qcow2 with this command");
	ret = luks_place(q, &off, &len, err);
	return ret ? ret : luks_amend(q->crypt, q->n->file, off, len, opts, "encrypt.", force, err);
}

/* --- creating --- */

/* Clusters 3 and on of a new image take the key header; their counts are in the first block. */
int qcow2_crypt_create(struct node *f, struct qcow2_header *h, const char *const *opts,
		       const char *secret_file, const char *backing, const char *backing_format,
		       const char *data_file, struct err *err)
{
	struct qcow2_ext ext = { .type = QCOW2_EXT_CRYPTO, .len = 16 };
	struct qcow2 q = { .h = *h };
	uint64_t cluster = 1ull << h->cluster_bits, clusters, len;
	uint8_t place[16], *buf;
	unsigned iter_ms;
	struct luks l;
	int ret;

	if (h->crypt_method == QCOW2_CRYPT_AES)
		return 0;		/* the passphrase is the key */
	ret = luks_params(opts, "encrypt.", &l, &iter_ms, err);
	if (ret)
		return ret;
	len = luks_header_len(l.key_bytes);
	clusters = (len + cluster - 1) / cluster;
	if (clusters + 3 > cluster * 8 >> h->refcount_order)
		return err_set(err, EINVAL,
			       "An encrypted image needs larger clusters than %llu bytes",
			       (unsigned long long)cluster);
	ret = luks_create_from(f, 3 * cluster, &l, secret_file, iter_ms, err);
	if (ret)
		return ret;
	st_be64(place, 3 * cluster);
	st_be64(place + 8, len);
	ext.data = place;
	buf = xcalloc(2, cluster);
	for (uint64_t i = 0; i < 3 + clusters; i++)
		refcount_write(&q, buf + cluster, i, 1);
	ret = qcow2_header_build(h, &ext, backing, backing_format, data_file, true, buf, cluster);
	if (!ret)
		ret = node_pwrite(f, buf, cluster, 0);
	if (!ret)
		ret = node_pwrite(f, buf + cluster, cluster, 2 * cluster);
	if (!ret && f->size < (3 + clusters) * cluster)
		ret = node_resize(f, (3 + clusters) * cluster, err);
	free(buf);
	return ret ? err_set(err, -ret, "cannot write the encrypted image's header: %s",
			     strerror(-ret))
		   : 0;
}

int qcow2_crypt_info(struct qcow2 *q, struct json_t *specific)
{
	uint64_t off, len;
	struct luks l;
	json_t *j;

	if (q->h.crypt_method == QCOW2_CRYPT_AES)
		return json_object_set_new(specific, "encrypt",
					   json_pack("{s:s}", "format", "aes"));
	if (luks_place(q, &off, &len, NULL) || luks_load(q->n->file, off, len, &l, NULL))
		return -EINVAL;
	j = luks_info_json(&l);
	json_object_set_new(j, "format", json_string("luks"));
	return json_object_set_new(specific, "encrypt", j);
}
