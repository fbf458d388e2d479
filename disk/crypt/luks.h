/* SPDX-License-Identifier: GPL-2.0-or-later */
/* luks.h: the key header of LUKS version 1. */
#ifndef DISK_CRYPT_LUKS_H
#define DISK_CRYPT_LUKS_H

#include "disk/crypt/crypto.h"
#include "disk/node.h"

enum { LUKS_HEADER_BYTES = 592, LUKS_SLOTS = 8, LUKS_SLOT_ACTIVE = 0x00ac71f3,
       LUKS_SLOT_EMPTY = 0x0000dead, LUKS_STRIPES = 4000,
       LUKS_MAX_KEY = 128 };

struct luks_slot { uint32_t active, iterations, material, stripes; uint8_t salt[32]; };
struct luks {
	char cipher[33], mode[33], hash[33], uuid[41];
	uint32_t payload, key_bytes, digest_iterations;
	uint8_t digest[20], digest_salt[32];
	struct luks_slot slots[LUKS_SLOTS];
};

/* Reads and checks the header at off in file; nothing may lie beyond len. */
int luks_load(struct node *file, uint64_t off, uint64_t len, struct luks *l, struct err *err);
/*
 * The master key (l->key_bytes of LUKS_MAX_KEY) by the passphrase; -EACCES when no slot, or not
 * this one, takes it.
 */
int luks_unlock(const struct crypto_ops *ops, struct node *file, uint64_t off, const struct luks *l,
		const void *pass, size_t pass_len, uint8_t *master, struct err *err);
int luks_slot_unlock(const struct crypto_ops *ops, struct node *file, uint64_t off,
		     const struct luks *l, int slot, const void *pass, size_t pass_len,
		     uint8_t *master, struct err *err);
/* A passphrase more, or one less. l and the header follow. */
int luks_slot_set(const struct crypto_ops *ops, struct node *file, uint64_t off, struct luks *l,
		  int slot, const uint8_t *master, const void *pass, size_t pass_len,
		  unsigned iter_ms, struct err *err);
int luks_slot_erase(const struct crypto_ops *ops, struct node *file, uint64_t off, struct luks *l,
		    int slot);
/* Bytes that header and all key slots take. */
uint64_t luks_header_len(uint32_t key_bytes);
/* A new header with one passphrase, at off in file. iter_ms: how long one try shall take. */
int luks_create(const struct crypto_ops *ops, struct node *file, uint64_t off, struct luks *l,
		const void *pass, size_t pass_len, unsigned iter_ms, struct err *err);

#endif
