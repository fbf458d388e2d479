/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_image.c: see fuzz_image.h. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "disk/node.h"
#include "tests/lib/fuzz_image.h"
#include "vmm/base/log.h"

#define FILE_MAX (16 * MiB)

static int image_fd = -1;

/* Every name an image gives leads to itself: no file of this machine is touched. */
static int fuzz_open(const char *path, int flags, struct err *err)
{
	char self[64];
	int fd;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", image_fd);
	fd = open(self, (flags & (O_ACCMODE | O_DIRECT)) | O_CLOEXEC);
	return fd < 0 ? err_set(err, errno, "open") : fd;
}

static int fuzz_call(void *ctx, struct host_call *c, struct err *err)
{
	if (c->op == HOST_OPEN)
		return fuzz_open(c->name, c->flags, err);
	return c->op == HOST_LOCK_OWNER ? 0 : err_set(err, EPERM, "no such thing here");
}
static const struct host fuzz_host = { .call = fuzz_call };

static int make_file(const uint8_t *data, size_t len)
{
	uint64_t size;
	int fd;

	if (len < 4)
		return -1;
	size = MIN((uint64_t)ld_le32(data) * 512 + data[0] % 2, FILE_MAX);
	fd = memfd_create("image", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, size))
		abort();
	for (size_t at = 4; at + 6 <= len;) {
		uint64_t off = (uint64_t)ld_le32(data + at) * 16;
		size_t n = MIN((size_t)ld_le16(data + at + 4), len - at - 6);

		if (range_ok(off, n, size) && pwrite(fd, data + at + 6, n, off) != (ssize_t)n)
			abort();
		at += 6 + n;
	}
	return fd;
}

static void use(struct node *n, bool write)
{
	static uint8_t buf[128 * 1024];
	const uint64_t places[] = { 0, 4096, MiB + 512, n->size / 2,
				    n->size > 70000 ? n->size - 70000 : 0 };
	struct node_info info = { 0 };
	struct node_check check = { 0 };
	struct node_snapshot *snaps = NULL;
	struct node_bitmap *bitmaps = NULL;
	uint64_t off = 0;
	int count;

	if (n->ops->info)
		n->ops->info(n, &info);
	json_decref(info.specific);
	if (n->ops->snapshot_list)
		n->ops->snapshot_list(n, &snaps, &count);
	free(snaps);
	if (n->ops->bitmap_list)
		n->ops->bitmap_list(n, &bitmaps, &count);
	free(bitmaps);
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
		if (places[i] < n->size)
			node_pread(n, buf, MIN(sizeof(buf), n->size - places[i]), places[i]);
	for (int i = 0; i < 200 && off < n->size; i++) {
		struct extent e;
		struct node *owner;

		if (node_extent_chain(n, off, n->size - off, &e, &owner))
			break;
		off += e.len;
	}
	if (n->ops->check && n->size <= 8 * GiB)
		n->ops->check(n, &check, write ? CHECK_FIX_LEAKS | CHECK_FIX_ERRORS : 0);
	for (unsigned i = 0; write && i < ARRAY_SIZE(places); i++) {
		if (places[i] >= n->size)
			continue;
		node_pwrite(n, buf, MIN(70000, n->size - places[i]), places[i]);
		node_zeroes(n, places[i], MIN(300000, n->size - places[i]), BLK_UNMAP);
		node_flush(n);
	}
}

int fuzz_image(const char *format, const uint8_t *data, size_t len)
{
	static const unsigned flags[] = { BLK_NO_IO | BLK_NO_BACKING, BLK_CHECK,
					  BLK_RDWR | BLK_CHECK | BLK_NO_BACKING };

	log_set_level(LOG_ERROR);
	log_set_file("/dev/null", NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
		struct blk_options o = { .format = format,
					 .flags = flags[i] | BLK_SHARE,
					 .host = &fuzz_host };
		struct err err = { 0 };
		struct node *n;

		image_fd = make_file(data, len);
		if (image_fd < 0)
			return -1;
		n = node_open("image", &o, &err);
		if (n) {
			use(n, flags[i] & BLK_RDWR);
			node_unref(n);
		}
		close(image_fd);
	}
	return 0;
}

void fuzz_image_file(const uint8_t *data, size_t len,
		     void (*use_file)(struct node *file, const void *ctx), const void *ctx)
{
	struct err err = { 0 };
	struct node *file;

	image_fd = make_file(data, len);
	if (image_fd < 0)
		return;
	file = node_open_file("image", BLK_SHARE, &fuzz_host, &err);
	if (file) {
		use_file(file, ctx);
		node_unref(file);
	}
	close(image_fd);
}
