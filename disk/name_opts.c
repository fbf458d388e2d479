/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * name_opts.c: the options of a layer in json: names and --image-opts, driver by driver: what each
 * is, and what it does here. Values are checked also where an option is a hint that changes
 * nothing. Opening thread.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "disk/blk.h"
#include "disk/name.h"
#include "disk/name_opts.h"

enum opt_type { BOOL, SIZE, NUMBER, TEXT, WORDS, DISCARD, REFUSED };

/* What an option does; NOTHING: a hint, or what the command decides (the manual says which). */
enum opt_use { NOTHING, READ_ONLY, SHARE, LOCKING, DIRECT, NO_FLUSH, DETECT, UNMAP, L2_CACHE,
               SECRET, OFFSET, LENGTH, ASYNC,
	       ENTRY_SIZE, CACHE_ALL, CACHE_REF };

struct runtime_opt {
	const char *drivers;		/* " qcow2 qcow "; NULL: every driver */
	const char *name;		/* "cache.direct" */
	enum opt_type type;
	const char *words;		/* WORDS: those allowed; REFUSED: what to do instead */
	enum opt_use use;
};

#define FILES " file host_device host_cdrom "
#define NO_TLS "encrypt the connection with ssh, or use an nbds:// address"
#define NO_HTTP "minivmm's http takes a url and nothing else"

static const struct runtime_opt opts[] = {
	{ NULL, "read-only", BOOL, NULL, READ_ONLY },
	{ NULL, "auto-read-only", BOOL, NULL, NOTHING },
	{ NULL, "force-share", BOOL, NULL, SHARE },
	{ NULL, "node-name", TEXT, NULL, NOTHING },
	{ NULL, "discard", DISCARD, " ignore off unmap on ", UNMAP },
	{ NULL, "detect-zeroes", WORDS, " off on unmap ", DETECT },
	{ NULL, "cache.direct", BOOL, NULL, DIRECT },
	{ NULL, "cache.no-flush", BOOL, NULL, NO_FLUSH },
	{ FILES, "locking", WORDS, " auto on off ", LOCKING },
	{ FILES, "aio", WORDS, " threads native io_uring ", ASYNC },
	{ FILES, "aio-max-batch", NUMBER, NULL, NOTHING },
	{ FILES, "drop-cache", BOOL, NULL, NOTHING },
	{ FILES, "x-check-cache-dropped", BOOL, NULL, NOTHING },
	{ FILES, "pr-manager", REFUSED, "persistent reservations are not passed through", NOTHING },
	{ " raw ", "offset", SIZE, NULL, OFFSET },
	{ " raw ", "size", SIZE, NULL, LENGTH },
	{ " null-co null-aio ", "size", SIZE, NULL, LENGTH },
	{ " null-co null-aio ", "read-zeroes", BOOL, NULL, NOTHING },
	{ " null-co null-aio ", "latency-ns", REFUSED, "it answers at once", NOTHING },
	{ " qcow2 ", "lazy-refcounts", BOOL, NULL, NOTHING },
	{ " qcow2 ", "pass-discard-request", BOOL, NULL, NOTHING },
	{ " qcow2 ", "pass-discard-snapshot", BOOL, NULL, NOTHING },
	{ " qcow2 ", "pass-discard-other", BOOL, NULL, NOTHING },
	{ " qcow2 ", "overlap-check", WORDS, " none constant cached all ", NOTHING },
	{ " qcow2 ", "overlap-check.template", WORDS, " none constant cached all ", NOTHING },
	{ " qcow2 ", "overlap-check.main-header", BOOL, NULL, NOTHING },
	{ " qcow2 ", "overlap-check.active-l1", BOOL, NULL, NOTHING },
	{ " qcow2 ", "overlap-check.active-l2", BOOL, NULL, NOTHING },
	{ " qcow2 ", "overlap-check.refcount-table", BOOL, NULL, NOTHING },
	{ " qcow2 ", "overlap-check.refcount-block", BOOL, NULL, NOTHING },
	{ " qcow2 ", "overlap-check.snapshot-table", BOOL, NULL, NOTHING },
	{ " qcow2 ", "overlap-check.inactive-l1", BOOL, NULL, NOTHING },
	{ " qcow2 ", "overlap-check.inactive-l2", BOOL, NULL, NOTHING },
	{ " qcow2 ", "overlap-check.bitmap-directory", BOOL, NULL, NOTHING },
	{ " qcow2 ", "cache-size", SIZE, NULL, CACHE_ALL },
	{ " qcow2 ", "l2-cache-size", SIZE, NULL, L2_CACHE },
	{ " qcow2 ", "l2-cache-entry-size", SIZE, NULL, ENTRY_SIZE },
	{ " qcow2 ", "refcount-cache-size", SIZE, NULL, CACHE_REF },
	{ " qcow2 ", "cache-clean-interval", NUMBER, NULL, NOTHING },
	{ " qcow2 ", "data-file", REFUSED, "the image names its data file", NOTHING },
	{ " qcow2 qcow ", "encrypt.format", WORDS, " aes luks ", NOTHING },
	{ " qcow2 qcow ", "encrypt.key-secret", TEXT, NULL, SECRET },
	{ " luks ", "key-secret", TEXT, NULL, SECRET },
	{ " parallels ", "prealloc-size", SIZE, NULL, NOTHING },
	{ " parallels ", "prealloc-mode", WORDS, " falloc truncate ", NOTHING },
	{ " vpc ", "force_size_calc", WORDS, " chs current_size ", NOTHING },
	{ " nbd ", "reconnect-delay", NUMBER, NULL, NOTHING },
	{ " nbd ", "open-timeout", NUMBER, NULL, NOTHING },
	{ " nbd ", "tls-creds", REFUSED, NO_TLS, NOTHING },
	{ " nbd ", "tls-hostname", REFUSED, NO_TLS, NOTHING },
	{ " nbd ", "x-dirty-bitmap", REFUSED, "dirty bitmaps of a server are not read", NOTHING },
	{ " http https ", "readahead", SIZE, NULL, NOTHING },
	{ " http https ", "sslverify", REFUSED, "certificates are always verified", NOTHING },
	{ " http https ", "timeout", REFUSED, NO_HTTP, NOTHING },
	{ " http https ", "cookie", REFUSED, NO_HTTP, NOTHING },
	{ " http https ", "cookie-secret", REFUSED, NO_HTTP, NOTHING },
	{ " http https ", "username", REFUSED, NO_HTTP, NOTHING },
	{ " http https ", "password-secret", REFUSED, NO_HTTP, NOTHING },
	{ " http https ", "proxy-username", REFUSED, NO_HTTP, NOTHING },
	{ " http https ", "proxy-password-secret", REFUSED, NO_HTTP, NOTHING },
};

static bool among(const char *words, const char *word)
{
	char *padded = xasprintf(" %s ", word);
	bool yes = !strchr(word, ' ') && strstr(words, padded);

	free(padded);
	return yes;
}

char *name_take(json_t *o, const char *key)
{
	const char *dot = strchr(key, '.');
	json_t *v = json_object_get(o, key);
	char *s, *first;

	if (!v && dot) {
		first = xasprintf("%.*s", (int)(dot - key), key);
		v = json_object_get(o, first);
		s = json_is_object(v) ? name_take(v, dot + 1) : NULL;
		if (s && !json_object_size(v))
			json_object_del(o, first);
		free(first);
		return s;
	}
	s = json_is_string(v) ? xstrdup(json_string_value(v)) :
	    json_is_integer(v) ? xasprintf("%lld", (long long)json_integer_value(v)) :
	    json_is_boolean(v) ? xstrdup(json_is_true(v) ? "on" : "off") : NULL;
	if (s)
		json_object_del(o, key);
	return s;
}

static int check_value(const struct runtime_opt *opt, const char *driver, const char *value,
		       uint64_t *n, struct err *err)
{
	bool on;

	switch (opt->type) {
	case BOOL:
		if (parse_bool(value, &on))
			return err_set(err, EINVAL, "Parameter '%s' expects 'on' or 'off'",
				       opt->name);
		*n = on;
		return 0;
	case SIZE:
		if (parse_bytes(value, n))
			return err_set(err, EINVAL,
				       "Parameter '%s' expects a non-negative number below "
				       "2^64\nOptional suffix k, M, G, T, "
				       "P or E means kilo-, mega-, giga-, tera-, peta-\nand "
				       "exabytes, respectively.",
				       opt->name);
		return 0;
	case NUMBER:
		return parse_u64(value, INT64_MAX, n)
			       ? err_set(err, EINVAL, "Parameter '%s' expects a number", opt->name)
			       : 0;
	case DISCARD:
		return among(opt->words, value) ? 0
						: err_set(err, EINVAL, "Invalid discard option");
	case WORDS:
		if (among(opt->words, value))
			return 0;
		if (!strncmp(opt->name, "overlap-check", 13))
			return err_set(err, EINVAL,
				       "Unsupported value '%s' for qcow2 option 'overlap-check'. "
				       "Allowed are any of the "
				       "following: none, constant, cached, all",
				       value);
		return err_set(err, EINVAL, "invalid parameter value: %s ('%s' takes%.*s)", value,
			       opt->name, (int)strlen(opt->words) - 1, opt->words);
	case TEXT:
		return 0;
	case REFUSED:
		break;
	}
	return err_set(err, ENOTSUP, "'%s' of the driver '%s' is not supported: %s", opt->name,
		       driver, opt->words);
}

/* What the options of one layer say together. */
struct said {
	bool detect_unmap, native, direct;
	uint64_t all, l2, refs;
	bool has_all, has_l2, has_refs;
};

static void set_flag(struct image_name *n, unsigned flag, bool on)
{
	n->flags_on = on ? n->flags_on | flag : n->flags_on & ~flag;
	n->flags_off = on ? n->flags_off & ~flag : n->flags_off | flag;
}

static int use_value(const struct runtime_opt *opt, char *text, uint64_t v, struct image_name *n,
		     struct said *s, struct err *err)
{
	switch (opt->use) {
	case READ_ONLY:
		n->read_only = v;
		break;
	case SHARE:
		set_flag(n, BLK_SHARE, v);
		break;
	case LOCKING:
		n->no_lock = !strcmp(text, "off");
		break;
	case DIRECT:
		s->direct = v;
		set_flag(n, BLK_NOCACHE, v);
		break;
	case NO_FLUSH:
		set_flag(n, BLK_UNSAFE, v);
		break;
	case DETECT:
		set_flag(n, BLK_DETECT_ZEROES, strcmp(text, "off"));
		s->detect_unmap = !strcmp(text, "unmap");
		break;
	case UNMAP:
		set_flag(n, BLK_DISCARD_UNMAP, !strcmp(text, "unmap") || !strcmp(text, "on"));
		break;
	case L2_CACHE:
		n->l2_cache_size = s->l2 = v;
		s->has_l2 = true;
		break;
	case CACHE_ALL:
		s->all = v;
		s->has_all = true;
		break;
	case CACHE_REF:
		s->refs = v;
		s->has_refs = true;
		break;
	case ENTRY_SIZE:
		if (!IS_POWER_OF_2(v) || v < 512 || v > 2 * MiB)
			return err_set(err, EINVAL,
				       "L2 cache entry size must be a power of two between 512 and "
				       "the cluster size");
		break;
	case SECRET:
		free(n->secret);
		n->secret = xstrdup(text);
		break;
	case OFFSET:
		n->offset = v;
		break;
	case LENGTH:
		n->length = v;
		n->has_length = true;
		break;
	case ASYNC:
		s->native = !strcmp(text, "native");
		break;
	case NOTHING:
		break;
	}
	return 0;
}

static int check_together(const struct said *s, struct image_name *n, struct err *err)
{
	if (s->detect_unmap && !(n->flags_on & BLK_DISCARD_UNMAP))
		return err_set(err, EINVAL,
			       "setting detect-zeroes to unmap is not allowed without setting "
			       "discard operation to unmap");
	if (s->native && !(n->flags_on & BLK_NOCACHE))
		return err_set(err, EINVAL,
			       "aio=native was specified, but it requires cache.direct=on, which "
			       "was not specified.");
	if (s->has_all && s->has_l2 && s->has_refs)
		return err_set(err, EINVAL,
			       "cache-size, l2-cache-size and refcount-cache-size may not be set "
			       "at the same time");
	if (s->has_all && s->l2 > s->all)
		return err_set(err, EINVAL, "l2-cache-size may not exceed cache-size");
	if (s->has_all && s->refs > s->all)
		return err_set(err, EINVAL, "refcount-cache-size may not exceed cache-size");
	if (s->has_all && !s->has_l2)
		n->l2_cache_size = s->all - s->refs;
	return 0;
}

int name_take_options(json_t *o, const char *driver, struct image_name *n, struct err *err)
{
	struct said said = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(opts); i++) {
		uint64_t v = 0;
		char *text;
		int ret;

		if (opts[i].drivers && !among(opts[i].drivers, driver))
			continue;
		if (opts[i].type == REFUSED && json_is_object(json_object_get(o, opts[i].name)))
			return check_value(&opts[i], driver, "", &v, err);
		text = name_take(o, opts[i].name);
		if (!text)
			continue;
		ret = check_value(&opts[i], driver, text, &v, err);
		if (!ret)
			ret = use_value(&opts[i], text, v, n, &said, err);
		free(text);
		if (ret)
			return ret;
	}
	return check_together(&said, n, err);
}
