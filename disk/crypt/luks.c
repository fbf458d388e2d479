/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * luks.c: LUKS version 1 ("LUKS On-Disk Format Specification 1.2.3"): a master key, stored up to
 * eight times, each time split over 4000 stripes and encrypted with a key made from a passphrase.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "disk/crypt/luks.h"

/* four times what two seconds of a fast processor are worth */
#define MAX_ITERATIONS 50000000u

enum { H_CIPHER = 8, H_MODE = 40, H_HASH = 72, H_PAYLOAD = 104, H_KEY_BYTES = 108, H_DIGEST = 112,
       H_SALT = 132, H_ITER = 164,
       H_UUID = 168, H_SLOTS = 208, SLOT_BYTES = 48, ALIGN_BYTES = 4096, MAX_KEY = LUKS_MAX_KEY };
static const uint8_t luks_magic[6] = { 'L', 'U', 'K', 'S', 0xba, 0xbe };

static uint64_t material_bytes(uint32_t key_bytes)
{
	return ALIGN_UP((uint64_t)key_bytes * LUKS_STRIPES, 512ull);
}

uint64_t luks_header_len(uint32_t key_bytes)
{
	return ALIGN_BYTES +
	       LUKS_SLOTS * ALIGN_UP(material_bytes(key_bytes), (uint64_t)ALIGN_BYTES);
}

/*
 * Each guess would keep the processor for minutes, or for hours: no header that anybody made for
 * use asks for that.
 */
static int too_long(uint32_t iterations, struct err *err)
{
	return err_set(err, EINVAL,
		       "LUKS header asks for %u iterations of PBKDF2, more than %u are refused",
		       iterations, MAX_ITERATIONS);
}

int luks_load(struct node *file, uint64_t off, uint64_t len, struct luks *l, struct err *err)
{
	uint8_t b[LUKS_HEADER_BYTES];
	int ret;

	if (len < sizeof(b))
		return err_set(err, EINVAL, "LUKS header too short");
	ret = node_pread(file, b, sizeof(b), off);
	if (ret)
		return err_set(err, -ret, "Unable to read LUKS header");
	memset(l, 0, sizeof(*l));
	if (memcmp(b, luks_magic, 6))
		return err_set(err, EINVAL, "Volume is not in LUKS format");
	if (ld_be16(b + 6) != 1)
		return err_set(err, ENOTSUP, "LUKS version %u is not supported", ld_be16(b + 6));
	memcpy(l->cipher, b + H_CIPHER, 32);
	memcpy(l->mode, b + H_MODE, 32);
	memcpy(l->hash, b + H_HASH, 32);
	memcpy(l->uuid, b + H_UUID, 40);
	l->payload = ld_be32(b + H_PAYLOAD);
	l->key_bytes = ld_be32(b + H_KEY_BYTES);
	memcpy(l->digest, b + H_DIGEST, 20);
	memcpy(l->digest_salt, b + H_SALT, 32);
	l->digest_iterations = ld_be32(b + H_ITER);
	if (!l->key_bytes || l->key_bytes > MAX_KEY || !l->digest_iterations)
		return err_set(err, EINVAL, "LUKS key of %u bytes", l->key_bytes);
	if (l->digest_iterations > MAX_ITERATIONS)
		return too_long(l->digest_iterations, err);
	for (int i = 0; i < LUKS_SLOTS; i++) {
		const uint8_t *s = b + H_SLOTS + i * SLOT_BYTES;
		struct luks_slot *slot = &l->slots[i];

		slot->active = ld_be32(s);
		slot->iterations = ld_be32(s + 4);
		memcpy(slot->salt, s + 8, 32);
		slot->material = ld_be32(s + 40);
		slot->stripes = ld_be32(s + 44);
		if (slot->active != LUKS_SLOT_ACTIVE)
			continue;
		if (slot->stripes != LUKS_STRIPES || !slot->iterations ||
		    (uint64_t)slot->material * 512 < LUKS_HEADER_BYTES ||
		    !range_ok((uint64_t)slot->material * 512, material_bytes(l->key_bytes), len))
			return err_set(err, EINVAL, "LUKS key slot %d is invalid", i);
		if (slot->iterations > MAX_ITERATIONS)
			return too_long(slot->iterations, err);
	}
	return 0;
}

/* Each digest-sized piece becomes the hash of its number and itself. */
static int diffuse(const struct crypto_ops *ops, const char *hash, uint8_t *block, size_t len)
{
	size_t digest = ops->hash_len(hash);
	uint8_t in[4 + 64], out[64];

	for (size_t i = 0; i * digest < len; i++) {
		size_t n = MIN(digest, len - i * digest);
		int ret;

		st_be32(in, i);
		memcpy(in + 4, block + i * digest, n);
		ret = ops->hash(hash, in, 4 + n, out);
		if (ret)
			return ret;
		memcpy(block + i * digest, out, n);
	}
	return 0;
}

static int af_merge(const struct crypto_ops *ops, const char *hash, const uint8_t *material,
		    size_t len, uint8_t *key)
{
	memset(key, 0, len);
	for (int s = 0; s < LUKS_STRIPES; s++) {
		for (size_t i = 0; i < len; i++)
			key[i] ^= material[s * len + i];
		if (s < LUKS_STRIPES - 1) {
			int ret = diffuse(ops, hash, key, len);

			if (ret)
				return ret;
		}
	}
	return 0;
}

static int af_split(const struct crypto_ops *ops, const char *hash, const uint8_t *key, size_t len,
		    uint8_t *material)
{
	uint8_t block[MAX_KEY] = { 0 };

	ops->random(material, len * (LUKS_STRIPES - 1));
	for (int s = 0; s < LUKS_STRIPES - 1; s++) {
		int ret;

		for (size_t i = 0; i < len; i++)
			block[i] ^= material[s * len + i];
		ret = diffuse(ops, hash, block, len);
		if (ret)
			return ret;
	}
	for (size_t i = 0; i < len; i++)
		material[(LUKS_STRIPES - 1) * len + i] = block[i] ^ key[i];
	return 0;
}

int luks_slot_unlock(const struct crypto_ops *ops, struct node *file, uint64_t off,
		     const struct luks *l, int slot, const void *pass, size_t pass_len,
		     uint8_t *master, struct err *err)
{
	const struct luks_slot *s = &l->slots[slot];
	uint64_t len = material_bytes(l->key_bytes);
	uint8_t key[MAX_KEY], digest[20], *m;
	struct crypto_cipher *c = NULL;
	int ret;

	if (s->active != LUKS_SLOT_ACTIVE)
		return -EACCES;
	m = malloc(len);
	ret = m ? node_pread(file, m, len, off + (uint64_t)s->material * 512) : -ENOMEM;
	if (!ret)
		ret = ops->pbkdf2(l->hash, pass, pass_len, s->salt, sizeof(s->salt), s->iterations,
				  key, l->key_bytes);
	if (!ret) {
		c = ops->cipher_new(l->cipher, l->mode, key, l->key_bytes, err);
		ret = c ? ops->crypt(c, 0, m, len, false) : -ENOTSUP;
		ops->cipher_free(c);
	}
	if (!ret)
		ret = af_merge(ops, l->hash, m, l->key_bytes, master);
	if (!ret)
		ret = ops->pbkdf2(l->hash, master, l->key_bytes, l->digest_salt,
				  sizeof(l->digest_salt), l->digest_iterations, digest, 20);
	if (!ret && memcmp(digest, l->digest, 20))
		ret = -EACCES;
	if (m)
		ops->wipe(m, len);
	ops->wipe(key, sizeof(key));
	free(m);
	return ret;
}

int luks_unlock(const struct crypto_ops *ops, struct node *file, uint64_t off, const struct luks *l,
		const void *pass, size_t pass_len, uint8_t *master, struct err *err)
{
	int ret = -EACCES;

	if (!ops->hash_len(l->hash))
		return err_set(err, ENOTSUP, "The hash %s of this LUKS header is not supported",
			       l->hash);
	for (int i = 0; i < LUKS_SLOTS && ret == -EACCES; i++)
		ret = luks_slot_unlock(ops, file, off, l, i, pass, pass_len, master, err);
	return ret;
}

/* How many iterations take about ms here. */
static uint32_t count_iterations(const struct crypto_ops *ops, const char *hash, size_t key_len,
				 unsigned ms)
{
	uint8_t key[MAX_KEY];
	uint32_t n = 1024;

	for (;; n *= 2) {
		int64_t start = now_ns(), took;

		ops->pbkdf2(hash, "measure", 7, "saltsaltsaltsalt", 16, n, key, key_len);
		took = now_ns() - start;
		if (took > 20 * NS_PER_MS || n >= 1u << 24) {
			uint64_t v = (double)n * ms * NS_PER_MS / MAX(took, 1ll);

			return MAX(MIN(v, (uint64_t)INT32_MAX), 1000ull);
		}
	}
}

static void make_uuid(const struct crypto_ops *ops, char *out)
{
	uint8_t u[16];

	ops->random(u, sizeof(u));
	u[6] = (u[6] & 0x0f) | 0x40;
	u[8] = (u[8] & 0x3f) | 0x80;
	snprintf(out, 41, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		 u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12],
		 u[13], u[14], u[15]);
}

static int header_write(struct node *file, uint64_t off, const struct luks *l)
{
	uint8_t b[LUKS_HEADER_BYTES] = { 0 };

	memcpy(b, luks_magic, 6);
	st_be16(b + 6, 1);
	memcpy(b + H_CIPHER, l->cipher, 32);
	memcpy(b + H_MODE, l->mode, 32);
	memcpy(b + H_HASH, l->hash, 32);
	st_be32(b + H_PAYLOAD, l->payload);
	st_be32(b + H_KEY_BYTES, l->key_bytes);
	memcpy(b + H_DIGEST, l->digest, 20);
	memcpy(b + H_SALT, l->digest_salt, 32);
	st_be32(b + H_ITER, l->digest_iterations);
	memcpy(b + H_UUID, l->uuid, 40);
	for (int i = 0; i < LUKS_SLOTS; i++) {
		const struct luks_slot *s = &l->slots[i];
		uint8_t *p = b + H_SLOTS + i * SLOT_BYTES;

		st_be32(p, s->active);
		st_be32(p + 4, s->iterations);
		memcpy(p + 8, s->salt, 32);
		st_be32(p + 40, s->material);
		st_be32(p + 44, s->stripes);
	}
	return node_pwrite(file, b, sizeof(b), off);
}

/* The key material is durable before the header says the slot is active. */
int luks_slot_set(const struct crypto_ops *ops, struct node *file, uint64_t off, struct luks *l,
		  int slot, const uint8_t *master, const void *pass, size_t pass_len,
		  unsigned iter_ms, struct err *err)
{
	uint64_t len = material_bytes(l->key_bytes);
	struct luks_slot *s = &l->slots[slot], was = *s;
	uint8_t key[MAX_KEY], *m = calloc(1, len);
	struct crypto_cipher *c = NULL;
	int ret = m ? 0 : -ENOMEM;

	ops->random(s->salt, sizeof(s->salt));
	s->iterations = count_iterations(ops, l->hash, l->key_bytes, iter_ms);
	s->stripes = LUKS_STRIPES;
	s->active = LUKS_SLOT_ACTIVE;
	if (!ret)
		ret = ops->pbkdf2(l->hash, pass, pass_len, s->salt, sizeof(s->salt), s->iterations,
				  key, l->key_bytes);
	if (!ret)
		ret = af_split(ops, l->hash, master, l->key_bytes, m);
	if (!ret) {
		c = ops->cipher_new(l->cipher, l->mode, key, l->key_bytes, err);
		ret = c ? ops->crypt(c, 0, m, len, true) : -ENOTSUP;
		ops->cipher_free(c);
	}
	if (!ret)
		ret = node_pwrite(file, m, len, off + (uint64_t)s->material * 512);
	if (!ret)
		ret = node_flush(file);
	if (!ret)
		ret = header_write(file, off, l);
	if (!ret)
		ret = node_flush(file);
	if (ret)
		*s = was;
	ops->wipe(key, sizeof(key));
	free(m);
	return ret;
}

/* Nobody finds the key in the header any more, and then it is overwritten. */
int luks_slot_erase(const struct crypto_ops *ops, struct node *file, uint64_t off, struct luks *l,
		    int slot)
{
	uint64_t len = material_bytes(l->key_bytes);
	struct luks_slot *s = &l->slots[slot];
	uint8_t *m = malloc(len);
	int ret;

	if (!m)
		return -ENOMEM;
	s->active = LUKS_SLOT_EMPTY;
	s->iterations = 0;
	memset(s->salt, 0, sizeof(s->salt));
	ret = header_write(file, off, l);
	if (!ret)
		ret = node_flush(file);
	for (int i = 0; i < 2 && !ret; i++) {
		ops->random(m, len);
		ret = node_pwrite(file, m, len, off + (uint64_t)s->material * 512);
		if (!ret)
			ret = node_flush(file);
	}
	free(m);
	return ret;
}

int luks_create(const struct crypto_ops *ops, struct node *file, uint64_t off, struct luks *l,
		const void *pass, size_t pass_len, unsigned iter_ms, struct err *err)
{
	uint64_t step = ALIGN_UP(material_bytes(l->key_bytes), (uint64_t)ALIGN_BYTES) / 512;
	uint8_t master[MAX_KEY];
	int ret;

	if (l->key_bytes > MAX_KEY || !ops->hash_len(l->hash))
		return err_set(err, ENOTSUP, "The hash %s is not supported", l->hash);
	ops->random(master, l->key_bytes);
	ops->random(l->digest_salt, sizeof(l->digest_salt));
	make_uuid(ops, l->uuid);
	for (uint32_t i = 0; i < LUKS_SLOTS; i++)
		l->slots[i] = (struct luks_slot){ .active = LUKS_SLOT_EMPTY,
						  .material = ALIGN_BYTES / 512 + i * step,
						  .stripes = LUKS_STRIPES };
	l->digest_iterations = MAX(count_iterations(ops, l->hash, l->key_bytes, iter_ms) / 8,
				   1000u);
	l->payload = luks_header_len(l->key_bytes) / 512;
	ret = ops->pbkdf2(l->hash, master, l->key_bytes, l->digest_salt, 32, l->digest_iterations,
			  l->digest, 20);
	if (!ret)
		ret = luks_slot_set(ops, file, off, l, 0, master, pass, pass_len, iter_ms, err);
	ops->wipe(master, sizeof(master));
	return ret ? err_set(err, -ret, "cannot make the LUKS header: %s", strerror(-ret)) : 0;
}
