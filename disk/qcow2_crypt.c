/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_crypt.c: encrypted data clusters (spec: "Full disk encryption header pointer", crypt_method). LUKS numbers sectors by their
 * place in the file, the old AES method by the guest's. Metadata is never encrypted. Worker threads.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

#include "disk/luks.h"
#include "disk/qcow2.h"
#include "disk/qcow2_crypt.h"
#include "vmm/iov.h"
#include "vmm/log.h"

enum { SECTOR = 512, PASSPHRASE_MAX = 65536, ITER_MS = 2000, AES_KEY = 16 };

struct qcow2_crypt {
	const struct crypto_ops *ops;
	struct crypto_cipher *cipher;
	bool by_host;			/* sector numbers are places in the file */
	pthread_mutex_t rmw;		/* writes of parts of a sector, one at a time */
};

static int secret_read(const struct host *host, const char *path, char **out, size_t *len, struct err *err)
{
	char *buf;
	ssize_t n;
	size_t used = 0;
	int fd = host_open(host ? host : &host_direct, path, O_RDONLY | O_CLOEXEC, 0, err);

	if (fd < 0)
		return err_set(err, -fd, "Could not open the passphrase file '%s': %s", path, strerror(-fd));
	buf = xcalloc(1, PASSPHRASE_MAX + 1);
	while (used < PASSPHRASE_MAX && (n = read(fd, buf + used, PASSPHRASE_MAX - used)) > 0)
		used += n;
	close(fd);
	if (!used) {
		free(buf);
		return err_set(err, EINVAL, "The passphrase file '%s' is empty", path);
	}
	*out = buf;
	*len = used;
	return 0;
}

static void secret_free(char *p)
{
	if (p)
		explicit_bzero(p, PASSPHRASE_MAX);
	free(p);
}

static size_t without_newline(const char *p, size_t len)
{
	return len > 1 && p[len - 1] == '\n' ? len - 1 : len;
}

static int open_aes(struct qcow2_crypt *c, const char *pass, size_t len, struct err *err)
{
	uint8_t key[AES_KEY] = { 0 };

	memcpy(key, pass, MIN(len, sizeof(key)));
	c->cipher = c->ops->cipher_new("aes", "cbc-plain64", key, sizeof(key), err);
	c->ops->wipe(key, sizeof(key));
	return c->cipher ? 0 : -ENOTSUP;
}

static int open_luks(struct qcow2 *q, struct qcow2_crypt *c, const char *pass, size_t len, struct err *err)
{
	struct qcow2_ext *e = qcow2_ext_find(q, QCOW2_EXT_CRYPTO);
	uint64_t off, hlen;
	struct luks l;
	int ret;

	if (!e || e->len != 16)
		return err_set(err, EINVAL, "The image says it is encrypted with LUKS and has no LUKS header");
	off = ld_be64(e->data);
	hlen = ld_be64(e->data + 8);
	if (!host_ok(q, off, MIN(hlen, 4096ull)) || hlen > 64 * MiB)
		return err_set(err, EINVAL, "The place of the LUKS header is invalid");
	ret = luks_load(q->n->file, off, hlen, &l, err);
	if (ret)
		return ret;
	ret = luks_unlock(c->ops, q->n->file, off, &l, pass, without_newline(pass, len), &c->cipher, err);
	/* Made from a file whose last newline counted, as QEMU counts it. */
	if (ret == -EACCES && without_newline(pass, len) != len)
		ret = luks_unlock(c->ops, q->n->file, off, &l, pass, len, &c->cipher, err);
	return ret == -EACCES ? err_set(err, EACCES, "Invalid password, cannot unlock any keyslot") : ret;
}

int qcow2_crypt_open(struct qcow2 *q, const struct blk_options *o, struct err *err)
{
	struct qcow2_crypt *c;
	char *pass = NULL;
	size_t len;
	int ret;

	if (!q->h.crypt_method || q->crypt)
		return 0;
	if (!o->secret_file)
		return err_set(err, EACCES, "'%s' is encrypted: give a file that holds its passphrase", q->n->filename);
	c = xcalloc(1, sizeof(*c));
	pthread_mutex_init(&c->rmw, NULL);
	c->by_host = q->h.crypt_method == QCOW2_CRYPT_LUKS;
	c->ops = module_symbol("crypto", "crypto_ops", err);
	ret = c->ops ? secret_read(q->n->host, o->secret_file, &pass, &len, err) : -ENOSYS;
	if (!ret)
		ret = c->by_host ? open_luks(q, c, pass, len, err) : open_aes(c, pass, without_newline(pass, len), err);
	secret_free(pass);
	q->crypt = c;
	if (ret)
		qcow2_crypt_close(q);
	return ret;
}

void qcow2_crypt_close(struct qcow2 *q)
{
	if (!q->crypt)
		return;
	if (q->crypt->cipher)
		q->crypt->ops->cipher_free(q->crypt->cipher);
	pthread_mutex_destroy(&q->crypt->rmw);
	free(q->crypt);
	q->crypt = NULL;
}

/* The sectors around [host, host + len), decrypted. */
static int sectors_read(struct qcow2 *q, uint64_t host, uint64_t off, uint64_t len, uint8_t *buf)
{
	int ret = node_pread(q_data(q), buf, len, host);

	return ret ? ret : q->crypt->ops->crypt(q->crypt->cipher, (q->crypt->by_host ? host : off) / SECTOR, buf, len, false);
}

int qcow2_crypt_read(struct qcow2 *q, uint64_t host, uint64_t off, uint64_t pos, const struct iovec *iov, int niov, uint64_t len)
{
	uint64_t skip = off % SECTOR, whole = ALIGN_UP(skip + len, (uint64_t)SECTOR);
	uint8_t *buf;
	int ret;

	if (posix_memalign((void **)&buf, 4096, whole))
		return -ENOMEM;
	ret = sectors_read(q, host - skip, off - skip, whole, buf);
	if (!ret)
		iov_from_buf(iov, niov, pos, buf + skip, len);
	free(buf);
	return ret;
}

int qcow2_crypt_write(struct qcow2 *q, uint64_t host, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	struct qcow2_crypt *c = q->crypt;
	uint64_t skip = off % SECTOR, whole = ALIGN_UP(skip + len, (uint64_t)SECTOR);
	bool partial = whole != len;
	uint8_t *buf;
	int ret = 0;

	if (posix_memalign((void **)&buf, 4096, whole))
		return -ENOMEM;
	host -= skip;
	off -= skip;
	if (partial) {
		pthread_mutex_lock(&c->rmw);
		ret = sectors_read(q, host, off, SECTOR, buf);
		if (!ret && whole > SECTOR)
			ret = sectors_read(q, host + whole - SECTOR, off + whole - SECTOR, SECTOR, buf + whole - SECTOR);
	}
	if (!ret) {
		iov_to_buf(iov, niov, 0, buf + skip, len);
		ret = c->ops->crypt(c->cipher, (c->by_host ? host : off) / SECTOR, buf, whole, true);
	}
	if (!ret)
		ret = node_pwrite(q_data(q), buf, whole, host);
	if (partial)
		pthread_mutex_unlock(&c->rmw);
	free(buf);
	return ret;
}

/* --- creating --- */

static int luks_params(const char *const *opts, struct luks *l, unsigned *iter_ms, struct err *err)
{
	const char *alg = node_create_opt(opts, "encrypt.cipher-alg"), *mode = node_create_opt(opts, "encrypt.cipher-mode");
	const char *iv = node_create_opt(opts, "encrypt.ivgen-alg"), *ivhash = node_create_opt(opts, "encrypt.ivgen-hash-alg");
	const char *hash = node_create_opt(opts, "encrypt.hash-alg"), *dash;
	uint64_t ms;
	char *m;
	int ret = node_create_opt_size(opts, "encrypt.iter-time", ITER_MS, &ms, err);

	if (ret)
		return ret;
	alg = alg ? alg : "aes-256";
	mode = mode ? mode : "xts";
	iv = iv ? iv : "plain64";
	dash = strrchr(alg, '-');
	if (!dash || strtoul(dash + 1, NULL, 10) % 64 || !strtoul(dash + 1, NULL, 10) || dash - alg > 31)
		return err_set(err, EINVAL, "Unknown cipher '%s': aes-128, aes-192, aes-256, serpent-256, twofish-256 ...", alg);
	memset(l, 0, sizeof(*l));
	memcpy(l->cipher, alg, dash - alg);
	l->key_bytes = strtoul(dash + 1, NULL, 10) / 8 * (strcmp(mode, "xts") ? 1 : 2);
	m = !strcmp(iv, "essiv") ? xasprintf("%s-essiv:%s", mode, ivhash ? ivhash : "sha256") : !strcmp(mode, "ecb") ? xstrdup("ecb") :
	    xasprintf("%s-%s", mode, iv);
	if (strlen(m) > 31 || (hash && strlen(hash) > 31) || l->key_bytes > 64) {
		free(m);
		return err_set(err, EINVAL, "These encryption parameters are not possible");
	}
	memcpy(l->mode, m, strlen(m));
	memcpy(l->hash, hash ? hash : "sha256", strlen(hash ? hash : "sha256"));
	free(m);
	*iter_ms = MIN(ms, 60000ull);
	return 0;
}

/* Clusters 3 and on of a new image take the key header; their counts are in the first block. */
int qcow2_crypt_create(struct node *f, struct qcow2_header *h, const char *const *opts, const char *secret_file, const char *backing,
		       const char *backing_format, const char *data_file, struct err *err)
{
	const struct crypto_ops *ops;
	struct qcow2_ext ext = { .type = QCOW2_EXT_CRYPTO, .len = 16 };
	struct qcow2 q = { .h = *h };
	uint64_t cluster = 1ull << h->cluster_bits, clusters, len;
	uint8_t place[16], *buf;
	unsigned iter_ms = ITER_MS;
	struct luks l;
	char *pass;
	size_t pass_len;
	int ret;

	if (h->crypt_method == QCOW2_CRYPT_AES)
		return 0;		/* the passphrase is the key */
	ops = module_symbol("crypto", "crypto_ops", err);
	ret = ops ? luks_params(opts, &l, &iter_ms, err) : -ENOSYS;
	if (ret)
		return ret;
	len = luks_header_len(l.key_bytes);
	clusters = (len + cluster - 1) / cluster;
	if (clusters + 3 > cluster * 8 >> h->refcount_order)
		return err_set(err, EINVAL, "An encrypted image needs larger clusters than %llu bytes", (unsigned long long)cluster);
	ret = secret_read(f->host, secret_file, &pass, &pass_len, err);
	if (ret)
		return ret;
	ret = luks_create(ops, f, 3 * cluster, &l, pass, without_newline(pass, pass_len), iter_ms, err);
	secret_free(pass);
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
	return ret ? err_set(err, -ret, "cannot write the encrypted image's header: %s", strerror(-ret)) : 0;
}

int qcow2_crypt_info(struct qcow2 *q, struct json_t *specific)
{
	struct qcow2_ext *e = qcow2_ext_find(q, QCOW2_EXT_CRYPTO);
	struct luks l;
	json_t *j, *slots;
	const char *dash;

	if (q->h.crypt_method == QCOW2_CRYPT_AES)
		return json_object_set_new(specific, "encrypt", json_pack("{s:s}", "format", "aes"));
	if (!e || e->len != 16 || !host_ok(q, ld_be64(e->data), LUKS_HEADER_BYTES) ||
	    luks_load(q->n->file, ld_be64(e->data), ld_be64(e->data + 8), &l, NULL))
		return -EINVAL;
	j = json_object();
	dash = strchr(l.mode, '-');
	if (dash && !strncmp(dash + 1, "essiv:", 6)) {
		json_object_set_new(j, "ivgen-alg", json_string("essiv"));
		json_object_set_new(j, "ivgen-hash-alg", json_string(dash + 7));
	} else {
		json_object_set_new(j, "ivgen-alg", json_string(dash ? dash + 1 : "plain64"));
	}
	json_object_set_new(j, "hash-alg", json_string(l.hash));
	{
		bool xts = !strncmp(l.mode, "xts", 3);
		char *alg = xasprintf("%s-%u", l.cipher, l.key_bytes * 8 / (xts ? 2 : 1));

		json_object_set_new(j, "cipher-alg", json_string(alg));
		free(alg);
	}
	json_object_set_new(j, "uuid", json_string(l.uuid));
	json_object_set_new(j, "format", json_string("luks"));
	json_object_set_new(j, "cipher-mode", json_stringn(l.mode, dash ? (size_t)(dash - l.mode) : strlen(l.mode)));
	slots = json_array();
	for (int i = 0; i < LUKS_SLOTS; i++) {
		bool active = l.slots[i].active == LUKS_SLOT_ACTIVE;
		json_t *s = json_pack("{s:b, s:I}", "active", active, "key-offset", (json_int_t)l.slots[i].material * 512);

		if (active) {
			json_object_set_new(s, "iters", json_integer(l.slots[i].iterations));
			json_object_set_new(s, "stripes", json_integer(l.slots[i].stripes));
		}
		json_array_append_new(slots, s);
	}
	json_object_set_new(j, "slots", slots);
	json_object_set_new(j, "payload-offset", json_integer((json_int_t)l.payload * 512));
	json_object_set_new(j, "master-key-iters", json_integer(l.digest_iterations));
	return json_object_set_new(specific, "encrypt", j);
}
