/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mod_crypto.c: ciphers, hashes and key derivation by libgcrypt, with the sector numbering of LUKS
 * (IV generators plain, plain64, essiv; "LUKS On-Disk Format Specification 1.2"). A handle of
 * libgcrypt serves one thread: there are several for each cipher.
 */
#include <errno.h>
#include <gcrypt.h>
#include <pthread.h>
#include <stdlib.h>

#include "disk/crypt/crypto.h"

enum { HANDLES = 8, SECTOR = 512, IV = 16 };

struct crypto_cipher {
	struct { gcry_cipher_hd_t h; pthread_mutex_t lock; bool set; } handles[HANDLES];
	gcry_cipher_hd_t essiv;
	pthread_mutex_t essiv_lock;
	bool has_essiv, plain32, ecb;
	size_t block;
};

static int gcrypt_ready(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int ret = 0;

	pthread_mutex_lock(&lock);
	if (!gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P)) {
		if (!gcry_check_version(NULL))
			ret = -ENOSYS;
		gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
		gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
	}
	pthread_mutex_unlock(&lock);
	return ret;
}

static int cipher_algo(const char *name, size_t key_len)
{
	if (!strcmp(name, "aes"))
		return key_len == 16   ? GCRY_CIPHER_AES128
		       : key_len == 24 ? GCRY_CIPHER_AES192
		       : key_len == 32 ? GCRY_CIPHER_AES256
				       : 0;
	if (!strcmp(name, "serpent"))
		return key_len == 16   ? GCRY_CIPHER_SERPENT128
		       : key_len == 24 ? GCRY_CIPHER_SERPENT192
		       : key_len == 32 ? GCRY_CIPHER_SERPENT256
				       : 0;
	if (!strcmp(name, "twofish"))
		return key_len == 16   ? GCRY_CIPHER_TWOFISH128
		       : key_len == 32 ? GCRY_CIPHER_TWOFISH
				       : 0;
	return 0;
}

static int hash_algo(const char *name)
{
	static const struct { const char *name; int algo;
	} known[] = {
		{ "sha1", GCRY_MD_SHA1 },     { "sha224", GCRY_MD_SHA224 },
		{ "sha256", GCRY_MD_SHA256 }, { "sha384", GCRY_MD_SHA384 },
		{ "sha512", GCRY_MD_SHA512 }, { "ripemd160", GCRY_MD_RMD160 },
	};

	gcrypt_ready();
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (!strcmp(name, known[i].name))
			return known[i].algo;
	return 0;
}

static void cipher_free(struct crypto_cipher *c)
{
	if (!c)
		return;
	for (int i = 0; i < HANDLES; i++) {
		if (c->handles[i].h)
			gcry_cipher_close(c->handles[i].h);
		pthread_mutex_destroy(&c->handles[i].lock);
	}
	if (c->essiv)
		gcry_cipher_close(c->essiv);
	pthread_mutex_destroy(&c->essiv_lock);
	free(c);
}

static int essiv_open(struct crypto_cipher *c, const char *cipher, const char *hash,
		      const void *key, size_t key_len)
{
	int md = hash_algo(hash), algo;
	uint8_t salt[64];
	size_t len = md ? gcry_md_get_algo_dlen(md) : 0;

	algo = cipher_algo(cipher, len);
	if (!len || len > sizeof(salt) || !algo)
		return -ENOTSUP;
	gcry_md_hash_buffer(md, salt, key, key_len);
	if (gcry_cipher_open(&c->essiv, algo, GCRY_CIPHER_MODE_ECB, 0) ||
	    gcry_cipher_setkey(c->essiv, salt, len))
		return -ENOTSUP;
	c->has_essiv = true;
	return 0;
}

static struct crypto_cipher *cipher_new(const char *name, const char *mode, const void *key,
					size_t key_len, struct err *err)
{
	struct crypto_cipher *c = calloc(1, sizeof(*c));
	bool xts = !strncmp(mode, "xts-", 4), cbc = !strncmp(mode, "cbc-", 4);
	int algo = cipher_algo(name, xts ? key_len / 2 : key_len),
	    gmode = xts ? GCRY_CIPHER_MODE_XTS : GCRY_CIPHER_MODE_CBC;
	const char *iv = mode + 4;

	if (!c)
		return NULL;
	for (int i = 0; i < HANDLES; i++)
		pthread_mutex_init(&c->handles[i].lock, NULL);
	pthread_mutex_init(&c->essiv_lock, NULL);
	if (!strcmp(mode, "ecb")) {
		gmode = GCRY_CIPHER_MODE_ECB;
		c->ecb = true;
	} else if ((!xts && !cbc) ||
		   (strcmp(iv, "plain") && strcmp(iv, "plain64") && strncmp(iv, "essiv:", 6))) {
		algo = 0;
	}
	c->plain32 = !c->ecb && !strcmp(iv, "plain");
	if (gcrypt_ready() || !algo ||
	    (!c->ecb && !strncmp(iv, "essiv:", 6) && essiv_open(c, name, iv + 6, key, key_len)))
		goto unknown;
	for (int i = 0; i < HANDLES; i++) {
		if (gcry_cipher_open(&c->handles[i].h, algo, gmode, 0) ||
		    gcry_cipher_setkey(c->handles[i].h, key, key_len))
			goto unknown;
	}
	return c;
unknown:
	err_set(err, ENOTSUP, "The cipher %s with mode %s and a key of %zu bits is not supported",
		name, mode, key_len * 8);
	cipher_free(c);
	return NULL;
}

static int crypt_sectors(struct crypto_cipher *c, gcry_cipher_hd_t h, uint64_t sector, uint8_t *p,
			 size_t len, bool encrypt)
{
	for (; len; p += SECTOR, len -= SECTOR, sector++) {
		uint8_t iv[IV] = { 0 };
		gcry_error_t e = 0;

		if (c->plain32)
			st_le32(iv, sector);
		else
			st_le64(iv, sector);
		if (c->has_essiv) {
			pthread_mutex_lock(&c->essiv_lock);
			e = gcry_cipher_encrypt(c->essiv, iv, IV, NULL, 0);
			pthread_mutex_unlock(&c->essiv_lock);
		}
		if (!e && !c->ecb)
			e = gcry_cipher_setiv(h, iv, IV);
		if (!e)
			e = encrypt ? gcry_cipher_encrypt(h, p, SECTOR, NULL, 0)
				    : gcry_cipher_decrypt(h, p, SECTOR, NULL, 0);
		if (e)
			return -EIO;
	}
	return 0;
}

static int cipher_crypt(struct crypto_cipher *c, uint64_t sector, void *buf, size_t len,
			bool encrypt)
{
	int i, ret;

	if (len % SECTOR)
		return -EINVAL;
	for (i = 0; i < HANDLES && pthread_mutex_trylock(&c->handles[i].lock); i++)
		;
	if (i == HANDLES) {
		i = 0;
		pthread_mutex_lock(&c->handles[i].lock);
	}
	ret = crypt_sectors(c, c->handles[i].h, sector, buf, len, encrypt);
	pthread_mutex_unlock(&c->handles[i].lock);
	return ret;
}

static size_t hash_len(const char *hash)
{
	int algo = hash_algo(hash);

	return algo ? gcry_md_get_algo_dlen(algo) : 0;
}

static int hash_buf(const char *hash, const void *in, size_t len, void *out)
{
	int algo = hash_algo(hash);

	if (!algo)
		return -ENOTSUP;
	gcry_md_hash_buffer(algo, out, in, len);
	return 0;
}

static int pbkdf2(const char *hash, const void *pass, size_t pass_len, const void *salt,
		  size_t salt_len, uint32_t iterations, void *key, size_t key_len)
{
	int algo = hash_algo(hash);

	if (!algo || !iterations)
		return -ENOTSUP;
	return gcry_kdf_derive(pass, pass_len, GCRY_KDF_PBKDF2, algo, salt, salt_len, iterations,
			       key_len, key)
		       ? -EIO
		       : 0;
}

static void random_bytes(void *p, size_t len)
{
	gcrypt_ready();
	gcry_randomize(p, len, GCRY_STRONG_RANDOM);
}

static void wipe(void *p, size_t len)
{
	explicit_bzero(p, len);
}

extern const struct crypto_ops crypto_ops;
const struct crypto_ops crypto_ops = {
	.cipher_new = cipher_new,
	.cipher_free = cipher_free,
	.crypt = cipher_crypt,
	.hash_len = hash_len,
	.hash = hash_buf,
	.pbkdf2 = pbkdf2,
	.random = random_bytes,
	.wipe = wipe,
};
