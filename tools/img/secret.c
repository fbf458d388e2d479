/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * secret.c: --object secret,id=ID,file=FILE or data=TEXT: passphrases by name. Below, a passphrase
 * is always a file; what the command line holds itself, or in base64, becomes an unnamed one in
 * memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "disk/name.h"
#include "tools/img/img.h"

struct blk_secret *img_secrets;		/* ends with id NULL */
static int nsecrets;

enum { SECRET_MAX = 64 * 1024 };

const char *secret_file(const char *id)
{
	for (int i = 0; i < nsecrets; i++)
		if (!strcmp(img_secrets[i].id, id))
			return img_secrets[i].file;
	return NULL;
}

static int base64_digit(char c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? at - digits : -1;
}

/* In place. The length, or -1: no base64. */
static ssize_t base64_decode(char *s, size_t len)
{
	size_t n = 0, digits = 0, pad = 0;
	uint32_t bits = 0;

	for (size_t i = 0; i < len; i++) {
		int v = base64_digit(s[i]);

		if (s[i] == '\n' || s[i] == '\r')
			continue;
		if (s[i] == '=' && ++pad <= 2)
			continue;
		if (v < 0 || pad)
			return -1;
		bits = bits << 6 | v;
		/* The second digit of four completes a byte, and so do the third and fourth. */
		if (digits++ % 4)
			s[n++] = bits >> (6 - (digits - 1) % 4 * 2);
	}
	return (digits + pad) % 4 ? -1 : (ssize_t)n;
}

/* An unnamed file with these bytes, as a path. NULL after a message. */
static char *memory_file(const char *data, size_t len)
{
	int fd = memfd_create("secret", 0);

	if (fd < 0 || write_full(fd, data, len)) {
		fail("a secret could not be kept in memory: %s", strerror(errno));
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	return xasprintf("/proc/self/fd/%d", fd);
}

/* The secret's bytes from data= or file=, *len of them. free() it. NULL after a message. */
static char *secret_bytes(const char *data, const char *file, size_t *len)
{
	struct err err = { 0 };
	char *buf;
	ssize_t n;
	int fd;

	if (data) {
		*len = strlen(data);
		return xstrdup(data);
	}
	fd = host_open(&host_direct, "secret", file, O_RDONLY, 0, &err);
	if (fd < 0) {
		fail("Unable to read %s: %s", file, strerror(-fd));
		return NULL;
	}
	buf = xcalloc(1, SECRET_MAX + 1);
	*len = 0;
	while (*len < SECRET_MAX && (n = read(fd, buf + *len, SECRET_MAX - *len)) > 0)
		*len += n;
	close(fd);
	return buf;
}

/* What keeps the passphrase: the file itself, or one in memory. NULL after a message. */
static char *secret_place(const char *data, const char *file, bool base64)
{
	size_t len;
	char *bytes, *place;
	ssize_t n;

	if (file && !base64)
		return xstrdup(file);
	bytes = secret_bytes(data, file, &len);
	if (!bytes)
		return NULL;
	n = base64 ? base64_decode(bytes, len) : (ssize_t)len;
	if (n < 0)
		fail("Base64 data contains invalid characters");
	place = n < 0 ? NULL : memory_file(bytes, n);
	explicit_bzero(bytes, len);
	free(bytes);
	return place;
}

static bool is_identifier(const char *s)
{
	return ((*s | 32) >= 'a' && (*s | 32) <= 'z') &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") ==
		       strlen(s);
}

/* Its type, whichever way it is given; "" without one. */
static const char *object_type(const struct optlist *l)
{
	const char *type = optlist_get(l, "qom-type");
	size_t len = l->n ? strlen(l->v[0]) : 0;

	if (type || len < 3 || strcmp(l->v[0] + len - 3, "=on"))
		return type ? type : "";
	l->v[0][len - 3] = 0;		/* "secret=on", from a word alone */
	return l->v[0];
}

static int check_object(const struct optlist *l, const char *text)
{
	static const char *const known[] = { "qom-type", "id",	  "file", "data",
					     "format",	 "keyid", "iv" };
	const char *type = object_type(l), *format = optlist_get(l, "format"),
		   *id = optlist_get(l, "id");

	if (strcmp(type, "secret"))
		return fail("Invalid object '%s': only secrets are objects here: "
			    "secret,id=ID,file=FILE",
			    *type ? type : text);
	for (int i = 0; i < l->n; i++) {
		size_t len = strcspn(l->v[i], "="), k = 0;

		while (k < ARRAY_SIZE(known) &&
		       (strlen(known[k]) != len || strncmp(known[k], l->v[i], len)))
			k++;
		if (k == ARRAY_SIZE(known) && (i || l->v[i][len]))
			return fail("Invalid object '%s': Parameter '%.*s' is unexpected", text,
				    (int)len, l->v[i]);
	}
	if (!id)
		return fail("Invalid object '%s': Parameter 'id' is missing", text);
	if (!is_identifier(id))
		return fail("Parameter 'id' expects an identifier\nIdentifiers consist of letters, "
			    "digits, '-', '.', '_', starting with a letter.");
	if (optlist_get(l, "keyid") || optlist_get(l, "iv"))
		return fail("Invalid object '%s': encrypted secrets ('keyid', 'iv') are not "
			    "supported; use file=FILE with a file that "
			    "only you can read",
			    id);
	if (!optlist_get(l, "file") && !optlist_get(l, "data"))
		return fail("Either 'file' or 'data' must be provided");
	if (optlist_get(l, "file") && optlist_get(l, "data"))
		return fail("'file' and 'data' are mutually exclusive");
	if (format && strcmp(format, "raw") && strcmp(format, "base64"))
		return fail("Parameter 'format' does not accept value '%s'", format);
	if (secret_file(id))
		return fail("attempt to add duplicate property '%s' to object (type 'container')",
			    id);
	return 0;
}

static int add_secret(const char *text)
{
	struct optlist l = { 0 };
	struct err err = { 0 };
	const char *format;
	char *place = NULL;
	int ret;

	if (*text == '{')
		ret = optlist_json(&l, text, &err) ? fail("%s", err.msg) : 0;
	else
		ret = optlist_add(&l, text);
	if (!ret)
		ret = check_object(&l, text);
	if (!ret) {
		format = optlist_get(&l, "format");
		place = secret_place(optlist_get(&l, "data"), optlist_get(&l, "file"),
				     format && !strcmp(format, "base64"));
		ret = !place;
	}
	if (!ret) {
		/* A script knows what it does; who types it may not. */
		if (optlist_get(&l, "data") && isatty(STDERR_FILENO))
			fail("warning: every user of this host can read a secret's data on the "
			     "command line; file=FILE hides it");
		img_secrets = xrealloc(img_secrets, (nsecrets + 2) * sizeof(*img_secrets));
		img_secrets[nsecrets].id = optlist_take(&l, "id");
		img_secrets[nsecrets++].file = place;
		img_secrets[nsecrets] = (struct blk_secret){ NULL, NULL };
	}
	optlist_free(&l);
	return ret;
}

int args_objects(const struct args *a)
{
	for (int i = 0; i < a->nset; i++)
		if (!strcmp(a->set[i].name, "--object") && add_secret(a->set[i].value))
			return 1;
	return 0;
}
