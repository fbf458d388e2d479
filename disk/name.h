/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * name.h: images named by a description instead of a path:
 * json:{"driver":"qcow2","file":{"filename":"x"}}.
 */
#ifndef DISK_NAME_H
#define DISK_NAME_H

#include "vmm/base/util.h"

struct json_t;
struct image_name {
	char *filename;		/* path or URL of the file below the format; NULL: below is one */
	/* a json: name: the image that stands in the file's place; or NULL */
	char *below;
	char *format;		/* NULL: not said */
	char *secret;		/* id of the secret that holds its passphrase, or NULL */
	/*
	 * opened instead of the backing file the image names: a json: name; "" for none at all; or
	 * NULL
	 */
	char *backing;
	char *data_file;	/* opened instead of the data file the image names, or NULL */
	unsigned flags_on, flags_off;	/* BLK_ flags it adds, and takes away */
	bool read_only, no_lock;
	uint64_t l2_cache_size;	/* 0: not said */
	/* raw: the part of the file that is the disk; length counts when has_length */
	uint64_t offset, length;
	bool has_length;
};
static inline bool name_is_json(const char *filename)
{
	return !strncmp(filename, "json:", 5);
}
/* Takes a json: name apart. 0, or -errno with the reason; name_free either way. */
int name_parse(const char *text, struct image_name *n, struct err *err);
/* An object in QEMU's JSON, single quotes included; json_decref it. NULL with the reason. */
struct json_t *name_json(const char *text, struct err *err);
void name_free(struct image_name *n);
/*
 * "driver=qcow2,file.filename=x", split at the commas, as a json: name. Free it. NULL with the
 * reason.
 */
char *name_from_options(const char *const *options, struct err *err);

struct host;
struct node;
/*
 * Do two names, as people type them, lead to one file? Compared by device and inode: "d/../a", a
 * link and an absolute name are the same. Where there is no file to look at (nbd:, http:), the text
 * decides.
 */
bool name_same_file(const struct host *host, const char *a, const char *b);
/*
 * A person named this disk: names inside images may lead to its folder, or to its address, from
 * now on, also where it is opened only later.
 */
void name_allow(const struct host *host, const char *name);
/* Is this what n was opened from? */
bool name_is_node(const struct node *n, const char *name);
/*
 * Is this the backing file of n? A relative name may be meant from the current folder or from that
 * of n.
 */
bool name_is_backing(const struct node *n, const char *name);
/* The layer of the chain from top down that is called so, or NULL. */
struct node *name_find_layer(struct node *top, const char *name);

#endif
