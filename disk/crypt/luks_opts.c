/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * luks_opts.c: -o options of LUKS, in a format of its own and (named encrypt.*) in qcow2: what a
 * new header is made of, and amend, by which passphrases come and go; and what info shows. Drained.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "disk/crypt/crypt.h"

enum { ITER_MS = 2000 };

static const char *opt_get(const char *const *opts, const char *prefix, const char *name)
{
	char full[64];

	snprintf(full, sizeof(full), "%s%s", prefix, name);
	return node_create_opt(opts, full);
}

static int get_iter_time(const char *const *opts, const char *prefix, unsigned *ms, struct err *err)
{
	const char *s = opt_get(opts, prefix, "iter-time");
	uint64_t v = ITER_MS;

	if (s && (parse_u64(s, UINT32_MAX, &v) || !v))
		return err_set(err, EINVAL,
			       "Parameter '%siter-time' expects milliseconds, at least 1", prefix);
	*ms = MIN(v, 60000ull);
	return 0;
}

int luks_params(const char *const *opts, const char *prefix, struct luks *l, unsigned *iter_ms,
		struct err *err)
{
	const char *alg = opt_get(opts, prefix, "cipher-alg"),
		   *mode = opt_get(opts, prefix, "cipher-mode");
	const char *iv = opt_get(opts, prefix, "ivgen-alg"),
		   *ivhash = opt_get(opts, prefix, "ivgen-hash-alg");
	const char *hash = opt_get(opts, prefix, "hash-alg"), *dash;
	char *m;
	int ret = get_iter_time(opts, prefix, iter_ms, err);

	if (ret)
		return ret;
	alg = alg ? alg : "aes-256";
	mode = mode ? mode : "xts";
	iv = iv ? iv : "plain64";
	dash = strrchr(alg, '-');
	if (!dash || strtoul(dash + 1, NULL, 10) % 64 || !strtoul(dash + 1, NULL, 10) ||
	    dash - alg > 31)
		return err_set(err, EINVAL,
			       "Unknown cipher '%s': aes-128, aes-192, aes-256, serpent-256, "
			       "twofish-256 ...",
			       alg);
	memset(l, 0, sizeof(*l));
	memcpy(l->cipher, alg, dash - alg);
	l->key_bytes = strtoul(dash + 1, NULL, 10) / 8 * (strcmp(mode, "xts") ? 1 : 2);
	m = !strcmp(iv, "essiv")   ? xasprintf("%s-essiv:%s", mode, ivhash ? ivhash : "sha256")
	    : !strcmp(mode, "ecb") ? xstrdup("ecb")
				   : xasprintf("%s-%s", mode, iv);
	if (strlen(m) > 31 || (hash && strlen(hash) > 31) || l->key_bytes > 64) {
		free(m);
		return err_set(err, EINVAL, "These encryption parameters are not possible");
	}
	memcpy(l->mode, m, strlen(m));
	memcpy(l->hash, hash ? hash : "sha256", strlen(hash ? hash : "sha256"));
	free(m);
	return 0;
}

int luks_create_from(struct node *file, uint64_t off, struct luks *l, const char *secret_file,
		     unsigned iter_ms, struct err *err)
{
	const struct crypto_ops *ops = module_symbol("crypto", "crypto_ops", err);
	size_t len, full;
	char *pass;
	int ret = ops ? crypt_secret_read(file->host, secret_file, &pass, &len, &full, err)
		      : -ENOSYS;

	if (ret)
		return ret;
	ret = luks_create(ops, file, off, l, pass, len, iter_ms, err);
	crypt_secret_free(pass);
	return ret;
}

/* --- amend --- */

struct change {
	struct crypt *c;
	struct node *file;
	uint64_t off;
	struct luks l;
	const char *new_secret, *old_secret;	/* files */
	int slot;				/* -1: not given */
	unsigned iter_ms;
	bool force;
};

static int count_active(const struct luks *l)
{
	int n = 0;

	for (int i = 0; i < LUKS_SLOTS; i++)
		n += l->slots[i].active == LUKS_SLOT_ACTIVE;
	return n;
}

/* Marks the slots the old passphrase opens; the master key with them. */
static int matching_slots(struct change *ch, bool *match, uint8_t *master, struct err *err)
{
	size_t len, full;
	char *pass;
	int n = 0, ret = crypt_secret_read(ch->file->host, ch->old_secret, &pass, &len, &full, err);

	if (ret)
		return ret;
	for (int i = 0; i < LUKS_SLOTS; i++) {
		ret = luks_slot_unlock(ch->c->ops, ch->file, ch->off, &ch->l, i, pass, len, master,
				       err);
		if (ret == -EACCES && full != len)
			ret = luks_slot_unlock(ch->c->ops, ch->file, ch->off, &ch->l, i, pass, full,
					       master, err);
		match[i] = ret == 0;
		n += match[i];
		if (ret && ret != -EACCES)
			break;
		ret = 0;
	}
	crypt_secret_free(pass);
	return ret ? ret : n;
}

static int activate(struct change *ch, struct err *err)
{
	uint8_t master[LUKS_MAX_KEY];
	bool match[LUKS_SLOTS];
	size_t len, full;
	char *pass;
	int slot = ch->slot, ret;

	if (!ch->new_secret)
		return err_set(err, EINVAL, "'new-secret' is required to activate a keyslot");
	if (slot >= 0 && ch->l.slots[slot].active == LUKS_SLOT_ACTIVE && !ch->force)
		return err_set(err, EEXIST,
			       "Refusing to overwrite active keyslot %d - please erase it first",
			       slot);
	for (int i = 0; i < LUKS_SLOTS && slot < 0; i++)
		if (ch->l.slots[i].active != LUKS_SLOT_ACTIVE)
			slot = i;
	if (slot < 0)
		return err_set(err, ENOSPC, "Can't add a keyslot - all keyslots are in use");
	if (ch->l.slots[slot].material * 512ull < LUKS_HEADER_BYTES)
		return err_set(err, EINVAL, "Keyslot %d has no place in this header", slot);
	memcpy(master, ch->c->master, sizeof(master));
	ret = ch->old_secret ? matching_slots(ch, match, master, err) : 1;
	if (ret == 0)
		ret = err_set(err, EACCES, "Failed to retrieve the master key");
	if (ret > 0)
		ret = crypt_secret_read(ch->file->host, ch->new_secret, &pass, &len, &full, err);
	if (!ret) {
		ret = luks_slot_set(ch->c->ops, ch->file, ch->off, &ch->l, slot, master, pass, len,
				    ch->iter_ms, err);
		crypt_secret_free(pass);
		if (ret)
			err_set(err, -ret, "cannot write keyslot %d: %s", slot, strerror(-ret));
	}
	ch->c->ops->wipe(master, sizeof(master));
	return ret;
}

static int erase_one(struct change *ch, int slot, struct err *err)
{
	int ret = luks_slot_erase(ch->c->ops, ch->file, ch->off, &ch->l, slot);

	return ret ? err_set(err, -ret, "cannot erase keyslot %d: %s", slot, strerror(-ret)) : 0;
}

static int deactivate(struct change *ch, struct err *err)
{
	bool match[LUKS_SLOTS] = { false };
	uint8_t master[LUKS_MAX_KEY];
	int n = 0, ret = 0;

	if (ch->new_secret)
		return err_set(err, EINVAL, "'new-secret' must not be given when erasing keyslots");
	if (ch->slot < 0 && !ch->old_secret)
		return err_set(err, EINVAL,
			       "To erase keyslot(s), either explicit keyslot index or the password "
			       "currently contained in "
			       "them must be given");
	if (ch->old_secret) {
		n = matching_slots(ch, match, master, err);
		ch->c->ops->wipe(master, sizeof(master));
		if (n < 0)
			return n;
	}
	if (ch->slot >= 0) {
		if (ch->old_secret && !match[ch->slot])
			return err_set(err, EACCES,
				       "This keyslot %d doesn't match the given (old) password",
				       ch->slot);
		if (ch->l.slots[ch->slot].active != LUKS_SLOT_ACTIVE)
			return err_set(err, EINVAL,
				       "Given keyslot %d is already erased (inactive) ", ch->slot);
		if (count_active(&ch->l) == 1 && !ch->force)
			return err_set(err, EPERM,
				       "Attempt to erase the only active keyslot %d which will "
				       "erase all the data in the image "
				       "irreversibly - refusing operation",
				       ch->slot);
		return erase_one(ch, ch->slot, err);
	}
	if (!n)
		return err_set(err, EACCES,
			       "No keyslots match given (old) password for erase operation");
	if (n == count_active(&ch->l) && !ch->force)
		return err_set(err, EPERM,
			       "All the active keyslots match the (old) password that was given "
			       "and erasing them will erase all "
			       "the data in the image irreversibly - refusing operation");
	for (int i = 0; i < LUKS_SLOTS && !ret; i++)
		if (match[i])
			ret = erase_one(ch, i, err);
	return ret;
}

int luks_amend(struct crypt *c, struct node *file, uint64_t off, uint64_t len,
	       const char *const *opts, const char *prefix, bool force, struct err *err)
{
	const char *state = opt_get(opts, prefix, "state"),
		   *slot = opt_get(opts, prefix, "keyslot");
	struct change ch = { .c = c, .file = file, .off = off, .slot = -1, .force = force };
	uint64_t v;
	int ret;

	if (!state)
		return err_set(err, EINVAL, "Parameter 'state' is missing");
	if (strcmp(state, "active") && strcmp(state, "inactive"))
		return err_set(err, EINVAL, "Parameter 'state' does not accept value '%s'", state);
	if (slot && parse_u64(slot, INT32_MAX, &v))
		return err_set(err, EINVAL, "Parameter '%skeyslot' expects a number", prefix);
	if (slot && v >= LUKS_SLOTS)
		return err_set(err, EINVAL,
			       "Invalid keyslot %llu specified, must be between 0 and %d",
			       (unsigned long long)v, LUKS_SLOTS - 1);
	ch.slot = slot ? (int)v : -1;
	ch.new_secret = opt_get(opts, prefix, "new-secret");
	ch.old_secret = opt_get(opts, prefix, "old-secret");
	ret = get_iter_time(opts, prefix, &ch.iter_ms, err);
	if (!ret)
		ret = luks_load(file, off, len, &ch.l, err);
	if (ret)
		return ret;
	return !strcmp(state, "active") ? activate(&ch, err) : deactivate(&ch, err);
}

/* --- info --- */

json_t *luks_info_json(const struct luks *l)
{
	json_t *j = json_object(), *slots = json_array();
	const char *dash = strchr(l->mode, '-');
	bool xts = !strncmp(l->mode, "xts", 3);
	char *alg = xasprintf("%s-%u", l->cipher, l->key_bytes * 8 / (xts ? 2 : 1));

	if (dash && !strncmp(dash + 1, "essiv:", 6)) {
		json_object_set_new(j, "ivgen-alg", json_string("essiv"));
		json_object_set_new(j, "ivgen-hash-alg", json_string(dash + 7));
	} else {
		json_object_set_new(j, "ivgen-alg", json_string(dash ? dash + 1 : "plain64"));
	}
	json_object_set_new(j, "hash-alg", json_string(l->hash));
	json_object_set_new(j, "cipher-alg", json_string(alg));
	free(alg);
	json_object_set_new(j, "uuid", json_string(l->uuid));
	json_object_set_new(
		j, "cipher-mode",
		json_stringn(l->mode, dash ? (size_t)(dash - l->mode) : strlen(l->mode)));
	for (int i = 0; i < LUKS_SLOTS; i++) {
		bool active = l->slots[i].active == LUKS_SLOT_ACTIVE;
		json_t *s = json_pack("{s:b, s:I}", "active", active, "key-offset",
				      (json_int_t)l->slots[i].material * 512);

		if (active) {
			json_object_set_new(s, "iters", json_integer(l->slots[i].iterations));
			json_object_set_new(s, "stripes", json_integer(l->slots[i].stripes));
		}
		json_array_append_new(slots, s);
	}
	json_object_set_new(j, "slots", slots);
	json_object_set_new(j, "payload-offset", json_integer((json_int_t)l->payload * 512));
	json_object_set_new(j, "master-key-iters", json_integer(l->digest_iterations));
	return j;
}
