/* SPDX-License-Identifier: GPL-2.0-or-later */
/* identity.c: see identity.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "disk/blk.h"
#include "disk/identity.h"

#define NS 1000000000ll
#define FILES_MAX 8192			/* of one disk; a chain has 4096 nodes at most */
#define SETTLE_NS (20 * NS / 1000)

void node_stamp(int fd, struct node_stamp *s)
{
	struct stat st;

	*s = (struct node_stamp){ .known = false };
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	*s = (struct node_stamp){
		.known = true, .unlinked = !st.st_nlink,
		.dev = st.st_dev, .ino = st.st_ino, .size = st.st_size,
		.mtime = st.st_mtim.tv_sec * NS + st.st_mtim.tv_nsec,
		.ctime = st.st_ctim.tv_sec * NS + st.st_ctim.tv_nsec,
	};
}

/* --- getting --- */

static void add_file(struct disk_identity *id, const struct node *leaf, const char *mark,
		     unsigned layer, bool opened)
{
	struct disk_file *f;

	if (id->n == FILES_MAX)
		return;
	id->files = xrealloc(id->files, (id->n + 1) * sizeof(*id->files));
	f = &id->files[id->n++];
	*f = (struct disk_file){ .layer = layer, .name = xstrdup(leaf->filename),
				 .mark = xstrdup(mark) };
	if (opened)
		f->at = leaf->opened;
	else
		node_stamp(leaf->fd, &f->at);
	f->kind = xstrdup(f->at.known ? "file" : leaf->fd >= 0 ? "block device"
							       : leaf->ops->format);
	if (!f->at.known)
		f->at.size = leaf->size;
}

/* All files of one layer. mark: of the format above. */
static void add_node(struct disk_identity *id, struct node *n, const char *mark, unsigned layer,
		     bool opened)
{
	char own[40] = "";
	struct node *part;

	if (n->ops->mark && n->priv)
		n->ops->mark(n, own, sizeof(own));
	if (!n->file && !n->data_file && !n->ops->part) {
		add_file(id, n, mark, layer, opened);
		return;
	}
	mark = own[0] ? own : mark;
	if (n->file)
		add_node(id, n->file, mark, layer, opened);
	if (n->data_file)
		add_node(id, n->data_file, mark, layer, opened);
	for (unsigned i = 0; n->priv && n->ops->part && (part = n->ops->part(n, i)); i++)
		add_node(id, part, mark, layer, opened);
}

/* Nothing of the disk lies in this layer itself. */
static bool layer_is_empty(struct node *n)
{
	uint64_t off = 0;

	if (!n->backing || !n->ops->extent)
		return false;
	while (off < n->size) {
		struct extent e = { .len = 0 };
		int ret = node_extent(n, off, n->size - off, &e);

		if (ret < 0 || !e.len || (e.flags & EXT_ALLOCATED))
			return false;
		off += e.len;
	}
	return true;
}

static bool is_temporary(const struct node *n)
{
	struct node_stamp s;

	while (n->file)
		n = n->file;
	node_stamp(n->fd, &s);
	return s.known && s.unlinked;
}

void disk_identity_get(struct blk *b, bool opened, struct disk_identity *id)
{
	bool top = true;

	*id = (struct disk_identity){ .n = 0 };
	for (struct node *n = blk_root(b); n; n = n->backing) {
		bool empty;

		if (n->ops->filter) {
			n = n->file ? n->file : n->backing;
			if (!n)
				break;
		}
		empty = (top || is_temporary(n)) && layer_is_empty(n);
		if (is_temporary(n)) {
			id->lost |= !empty;
			continue;
		}
		top = top && empty;
		id->empty += top;
		add_node(id, n, "", id->layers++, opened);
	}
}

void disk_identity_free(struct disk_identity *id)
{
	for (unsigned i = 0; i < id->n; i++) {
		free(id->files[i].name);
		free(id->files[i].kind);
		free(id->files[i].mark);
	}
	free(id->files);
	*id = (struct disk_identity){ .n = 0 };
}

void disk_identity_settle(const struct disk_identity *id)
{
	struct timespec now, tick = { .tv_nsec = 1000000 };
	int64_t newest = 0;

	for (unsigned i = 0; i < id->n; i++)
		newest = MAX(newest, id->files[i].at.mtime);
	for (int64_t waited = 0; waited < SETTLE_NS; waited += tick.tv_nsec) {
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
		if (now.tv_sec * NS + now.tv_nsec > newest)
			break;
		nanosleep(&tick, NULL);
	}
}

/* --- comparing --- */

/* rsync and old file systems keep whole seconds alone. */
static bool same_time(int64_t was, int64_t now)
{
	return was == now || (now % NS == 0 && now / NS == was / NS);
}

static enum disk_verdict compare_file(const struct disk_file *was, const struct disk_file *now,
				      char *why, size_t len)
{
	const struct node_stamp *a = &was->at, *b = &now->at;

	if (a->size != b->size) {
		snprintf(why, len, "'%s' was changed: it had %llu bytes and has %llu", now->name,
			 (unsigned long long)a->size, (unsigned long long)b->size);
		return DISK_CHANGED;
	}
	if (strcmp(was->mark, now->mark)) {
		snprintf(why, len, "'%s' was changed: its format's own mark was '%s' and is '%s'",
			 now->name, was->mark, now->mark);
		return DISK_CHANGED;
	}
	if (!a->known || !b->known) {
		snprintf(why, len, "whether '%s' was changed cannot be told of a %s", now->name,
			 b->known ? was->kind : now->kind);
		return DISK_UNKNOWN;
	}
	if (!same_time(a->mtime, b->mtime)) {
		snprintf(why, len, "'%s' was changed: it was written to at another time",
			 now->name);
		return DISK_CHANGED;
	}
	if (a->dev != b->dev || a->ino != b->ino) {
		snprintf(why, len, "'%s' is another file of the same size and time: taken as "
				   "a copy", now->name);
		return DISK_COPIED;
	}
	if (a->ctime != b->ctime) {
		snprintf(why, len, "'%s' has the same size and time, but its name, owner or times "
				   "were changed: taken as the same disk", now->name);
		return DISK_COPIED;
	}
	return DISK_SAME;
}

static unsigned files_of(const struct disk_identity *id, unsigned layer, unsigned *first)
{
	unsigned n = 0;

	for (unsigned i = 0; i < id->n; i++) {
		if (id->files[i].layer != layer)
			continue;
		if (!n++)
			*first = i;
	}
	return n;
}

static enum disk_verdict compare_layer(const struct disk_identity *was, unsigned was_layer,
				       const struct disk_identity *now, unsigned now_layer,
				       char *why, size_t len)
{
	unsigned a = 0, b = 0, n = files_of(was, was_layer, &a);
	enum disk_verdict worst = DISK_SAME;

	if (n != files_of(now, now_layer, &b)) {
		snprintf(why, len, "'%s' lies in %u files and was in %u", now->files[b].name,
			 files_of(now, now_layer, &b), n);
		return DISK_CHANGED;
	}
	for (unsigned i = 0; i < n; i++) {
		char text[1024] = "";
		enum disk_verdict v = compare_file(&was->files[a + i], &now->files[b + i], text,
						   sizeof(text));

		if (v <= worst)
			continue;
		worst = v;
		snprintf(why, len, "%s", text);
	}
	return worst;
}

enum disk_verdict disk_identity_compare(const struct disk_identity *was,
					const struct disk_identity *now, char *why, size_t len)
{
	unsigned more = now->layers - MIN(was->layers, now->layers);
	enum disk_verdict worst = DISK_SAME;

	why[0] = 0;
	if (was->lost) {
		snprintf(why, len, "what was written to it lay in a temporary file (snapshot=on), "
				   "which is gone");
		return DISK_CHANGED;
	}
	if (was->layers > now->layers) {
		snprintf(why, len, "it has %u files in its chain and had %u", now->layers,
			 was->layers);
		return DISK_CHANGED;
	}
	if (more > now->empty) {
		snprintf(why, len, "'%s' came on top of it and is not empty", now->files[0].name);
		return DISK_CHANGED;
	}
	for (unsigned i = 0; i < was->layers; i++) {
		char text[1024] = "";
		enum disk_verdict v = compare_layer(was, i, now, i + more, text, sizeof(text));

		if (v <= worst)
			continue;
		worst = v;
		snprintf(why, len, "%s", text);
	}
	return worst;
}
