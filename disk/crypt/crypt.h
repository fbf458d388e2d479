/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * crypt.h: encrypted sectors for the formats that have them. The ciphers live in the module
 * "crypto" (disk/crypt/mod_crypto.c, libgcrypt).
 */
#ifndef DISK_CRYPT_CRYPT_H
#define DISK_CRYPT_CRYPT_H

#include <pthread.h>

#include "disk/crypt/luks.h"

struct json_t;
struct crypt {
	const struct crypto_ops *ops;
	struct crypto_cipher *cipher;
	pthread_mutex_t rmw;		/* writes of parts of a sector, one at a time */
	uint8_t master[LUKS_MAX_KEY];	/* LUKS: for a further passphrase */
};

/* Loads the module; no key yet. NULL with the reason. */
struct crypt *crypt_new(struct err *err);
void crypt_free(struct crypt *c);
/*
 * The passphrase in a file, malloc()ed, one newline at its end left out; *full is its length with
 * it.
 */
int crypt_secret_read(const struct host *host, const char *path, char **pass, size_t *len,
		      size_t *full, struct err *err);
void crypt_secret_free(char *pass);
/* Takes the key out of the LUKS header at off in file. */
int crypt_open_luks(struct crypt *c, struct node *file, uint64_t off, uint64_t len,
		    const char *secret_file, struct err *err);
/*
 * Bytes at `at` of data, whole sectors or not; `number` / 512 numbers their sectors. `pos` is where
 * in iov they go.
 */
int crypt_read(struct crypt *c, struct node *data, uint64_t at, uint64_t number, uint64_t pos,
	       const struct iovec *iov, int niov, uint64_t len);
int crypt_write(struct crypt *c, struct node *data, uint64_t at, uint64_t number,
		const struct iovec *iov, int niov, uint64_t len);

/* --- -o options of LUKS (luks_opts.c); prefix is "encrypt." in qcow2 --- */
#define LUKS_CREATE_OPTS(prefix, secret)                                                           \
	{ prefix "key-secret", "str", secret, NULL, OPT_CREATE },                                  \
		{ prefix "cipher-alg", "str", "Name of encryption cipher algorithm", NULL,         \
		  OPT_CREATE },                                                                    \
		{ prefix "cipher-mode", "str", "Name of encryption cipher mode", NULL,             \
		  OPT_CREATE },                                                                    \
		{ prefix "ivgen-alg", "str", "Name of IV generator algorithm", NULL, OPT_CREATE }, \
		{ prefix "ivgen-hash-alg", "str", "Name of IV generator hash algorithm", NULL,     \
		  OPT_CREATE },                                                                    \
		{ prefix "hash-alg", "str", "Name of encryption hash algorithm", NULL,             \
		  OPT_CREATE },                                                                    \
	{                                                                                          \
		prefix "iter-time", "num", "Time to spend in PBKDF in milliseconds", NULL,         \
			OPT_BOTH                                                                   \
	}
#define LUKS_AMEND_OPTS(prefix)                                                                    \
	{ prefix "keyslot", "num", "Select a single keyslot to modify explicitly", NULL,           \
	  OPT_AMEND },                                                                             \
		{ prefix "new-secret", "str",                                                      \
		  "New secret to set in the matching keyslots. Empty string to erase", NULL,       \
		  OPT_AMEND },                                                                     \
		{ prefix "old-secret", "str", "Select all keyslots that match this password",      \
		  NULL, OPT_AMEND },                                                               \
	{                                                                                          \
		prefix "state", "str", "Select new state of affected keyslots (active/inactive)",  \
			NULL, OPT_AMEND                                                            \
	}
/* What a new header shall be: cipher, mode, hash and key length of l. */
int luks_params(const char *const *opts, const char *prefix, struct luks *l, unsigned *iter_ms,
		struct err *err);
/* A new header at off in file, with the passphrase of secret_file. */
int luks_create_from(struct node *file, uint64_t off, struct luks *l, const char *secret_file,
		     unsigned iter_ms, struct err *err);
/* Sets or erases key slots. Drained. */
int luks_amend(struct crypt *c, struct node *file, uint64_t off, uint64_t len,
	       const char *const *opts, const char *prefix, bool force, struct err *err);
/* The members that info shows. */
struct json_t *luks_info_json(const struct luks *l);

#endif
