/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * luks.c: LUKS headers: read and shown, and, where the ciphers' module is here, tried with a
 * passphrase. See fuzz_image.h.
 */
#include "disk/crypt/luks.h"
#include "tests/lib/fuzz_image.h"
#include "vmm/base/host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Time is what the header asks for and the fuzzer has not: one iteration stands for all. */
static void try_passphrase(struct node *file, const void *ops)
{
	uint8_t master[LUKS_MAX_KEY];
	struct err err = { 0 };
	struct luks l;

	if (luks_load(file, 0, file->size, &l, &err))
		return;
	l.digest_iterations = 1;
	for (int i = 0; i < LUKS_SLOTS; i++)
		l.slots[i].iterations = 1;
	luks_unlock(ops, file, 0, &l, "pass", 4, master, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct err err = { 0 };
	const struct crypto_ops *ops = module_symbol("crypto", "crypto_ops", &err);

	if (ops)
		fuzz_image_file(data, len, try_passphrase, ops);
	return fuzz_image("luks", data, len);
}
