/* SPDX-License-Identifier: GPL-2.0-or-later */
/* crypto.h: what the module "crypto" (disk/crypt/mod_crypto.c, libgcrypt) offers the formats. */
#ifndef DISK_CRYPT_CRYPTO_H
#define DISK_CRYPT_CRYPTO_H

#include "vmm/base/util.h"

struct crypto_cipher;
struct crypto_ops {
	/*
	 * "aes" with a key of 16 to 64 bytes (XTS: two keys), mode "xts-plain64", "cbc-plain64",
	 * "cbc-essiv:sha256" ...
	 */
	struct crypto_cipher *(*cipher_new)(const char *name, const char *mode, const void *key,
					    size_t key_len, struct err *err);
	void (*cipher_free)(struct crypto_cipher *c);
	/* Whole 512-byte sectors in place; `sector` numbers the first. Any thread. */
	int (*crypt)(struct crypto_cipher *c, uint64_t sector, void *buf, size_t len, bool encrypt);
	/* 0 when the hash is not known. */
	size_t (*hash_len)(const char *hash);
	int (*hash)(const char *hash, const void *in, size_t len, void *out);
	int (*pbkdf2)(const char *hash, const void *pass, size_t pass_len, const void *salt,
		      size_t salt_len, uint32_t iterations, void *key, size_t key_len);
	void (*random)(void *p, size_t len);
	void (*wipe)(void *p, size_t len);
};
/* The symbol to ask module_symbol("crypto", ...) for: "crypto_ops". */

#endif
