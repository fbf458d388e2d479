/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * peers.c: other programs beside ours. Locks in every pairing with qemu-img and qemu-io (R7), and
 * our compressed clusters, whose window is 32 KiB, read by qemu-img, 7-Zip and libqcow.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>

#include "disk/node.h"
#include "tests/tap.h"

static char dir[64], image[100], over[100];

static int sh(const char *fmt, ...)
{
	char cmd[1000];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	return system(cmd);
}

static void setup(const char *format)
{
	struct node_create c = { .filename = image, .size = 4 << 20 };
	struct err err = { "" };

	if (access("/usr/bin/qemu-io", X_OK))
		SKIP("qemu-utils is not installed");
	strcpy(dir, "/tmp/minivmm-peers-XXXXXX");
	CHECK(mkdtemp(dir));
	snprintf(image, sizeof(image), "%s/disk", dir);
	snprintf(over, sizeof(over), "%s/over", dir);
	if (node_create(format, &c, &err))
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	c = (struct node_create){
		.filename = over, .size = 4 << 20, .backing = image, .backing_format = format
	};
	if (node_create("qcow2", &c, &err))
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
}

static void cleanup(void) { CHECK(sh("rm -rf %s", dir) == 0); }

/* qemu-io with the file open until its input ends. */
static pid_t peer_start(const char *options, int *in)
{
	int to[2], from[2];
	char cmd[300], c;
	pid_t pid;

	CHECK(pipe2(to, O_CLOEXEC) == 0 && pipe2(from, O_CLOEXEC) == 0);
	pid = fork();
	if (!pid) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		snprintf(cmd, sizeof(cmd), "exec qemu-io %s", options);
		execl("/bin/sh", "sh", "-c", cmd, NULL);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	/* Its prompt: the image is open. */
	CHECK(read(from[0], &c, 1) == 1);
	*in = to[1];
	return pid;
}

static void peer_stop(pid_t pid, int in)
{
	close(in);
	waitpid(pid, NULL, 0);
}

static struct node *try_open(const char *file, const char *format, unsigned flags, struct err *err)
{
	struct blk_options o = { .format = format, .flags = flags };

	err->msg[0] = 0;
	return node_open(file, &o, err);
}

static void locks(const char *format)
{
	struct err err;
	struct node *n, *m;
	char opt[200], pid_text[20];
	pid_t pid;
	int in;

	setup(format);
	/*
	 * They write: we may not write, nor read, nor use it as a backing file; and are told who.
	 */
	snprintf(opt, sizeof(opt), "-f qcow2 %s", over);
	pid = peer_start(opt, &in);
	snprintf(pid_text, sizeof(pid_text), "%d", pid);
	CHECK(!try_open(over, "qcow2", BLK_RDWR, &err) && strstr(err.msg, pid_text) &&
	      strstr(err.msg, "qemu-io"));
	CHECK(!try_open(over, "qcow2", 0, &err));
	n = try_open(over, "qcow2", BLK_SHARE, &err);
	CHECK(n);
	node_unref(n);
	/*
	 * Its backing file is held against writers (QEMU leaves a raw one open to them), and can be
	 * read.
	 */
	if (strcmp(format, "raw"))
		CHECK(!try_open(image, format, BLK_RDWR, &err) && strstr(err.msg, pid_text));
	n = try_open(image, format, 0, &err);
	CHECK(n);
	node_unref(n);
	peer_stop(pid, in);
	/* They read: we may read. */
	snprintf(opt, sizeof(opt), "-r -f qcow2 %s", over);
	pid = peer_start(opt, &in);
	CHECK(!try_open(over, "qcow2", BLK_RDWR, &err));
	n = try_open(over, "qcow2", 0, &err);
	CHECK(n);
	node_unref(n);
	peer_stop(pid, in);
	/* We write: they may not. */
	n = try_open(over, "qcow2", BLK_RDWR, &err);
	CHECK(n);
	CHECK(sh("qemu-img info %s >/dev/null 2>&1", over) != 0);
	CHECK(sh("qemu-io -c quit -f qcow2 %s >/dev/null 2>&1", over) != 0);
	CHECK(sh("qemu-io -c quit -f %s %s >/dev/null 2>&1", "qcow2", over) != 0);
	CHECK(sh("qemu-img info -U %s >/dev/null 2>&1", over) == 0);
	CHECK(sh("qemu-img info %s >/dev/null 2>&1", image) == 0);
	CHECK(sh("qemu-io -c 'write 0 512' -f %s %s >/dev/null 2>&1", format, image) != 0);
	CHECK(sh("qemu-img snapshot -c x %s >/dev/null 2>&1", over) != 0);
	node_unref(n);
	/* We read: they may read, not write. */
	n = try_open(over, "qcow2", 0, &err);
	CHECK(sh("qemu-img info %s >/dev/null 2>&1", over) == 0);
	CHECK(sh("qemu-img resize %s 8M >/dev/null 2>&1", over) != 0);
	node_unref(n);
	CHECK(sh("qemu-img resize -q %s 8M", over) == 0);
	/* Given up for a migration, and taken back. */
	n = try_open(over, "qcow2", BLK_RDWR, &err);
	CHECK_EQ(node_inactivate(n, &err), 0);
	CHECK(node_pwrite(n, "x", 1, 0) < 0);
	CHECK(sh("qemu-io -c 'write -P 7 0 64k' -f qcow2 %s >/dev/null", over) == 0);
	m = try_open(over, "qcow2", BLK_RDWR, &err);
	CHECK(m && node_activate(n, &err) < 0);
	node_unref(m);
	CHECK_EQ(node_activate(n, &err), 0);
	{
		uint8_t b[2];

		CHECK_EQ(node_pread(n, b, 2, 1000), 0);
		CHECK(b[0] == 7 && b[1] == 7);
	}
	CHECK_EQ(node_pwrite(n, "y", 1, 0), 0);
	node_unref(n);
	CHECK(sh("qemu-img check -q %s", over) == 0);
	cleanup();
}
TEST(locks_over_qcow2) { locks("qcow2"); }
TEST(locks_over_raw) { locks("raw"); }

/* Matches that lie up to 32 KiB back, which a reader with a window of 4 KiB would get wrong. */
TEST(window_of_32k)
{
	static uint8_t disk[4 << 20];
	struct err err;
	struct node *n;
	unsigned seed = 1;
	char raw[100];
	int fd;

	setup("qcow2");
	for (int c = 0; c < 64; c++)
		for (int i = 0; i < 65536; i++)
			disk[c * 65536 + i] = i < 20000 ? rand_r(&seed) >> 7
							: disk[c * 65536 + i - 20000];
	n = try_open(image, "qcow2", BLK_RDWR, &err);
	for (int c = 0; c < 64; c++)
		CHECK_EQ(node_write_compressed(n, c * 65536, disk + c * 65536, 65536), 0);
	node_unref(n);
	snprintf(raw, sizeof(raw), "%s/raw", dir);
	fd = open(raw, O_RDWR | O_CREAT, 0600);
	CHECK(write(fd, disk, sizeof(disk)) == sizeof(disk));
	CHECK(sh("test $(stat -c %%s %s) -lt 2000000", image) == 0);
	CHECK(sh("qemu-img check -q %s && qemu-img compare -q -f qcow2 -F raw %s %s", image, image,
		 raw) == 0);
	if (access("/usr/bin/7z", X_OK) == 0)
		CHECK(sh("7z e -tqcow -so %s 2>/dev/null | cmp - %s", image, raw) == 0);
	if (access("/usr/bin/qcowmount", X_OK) == 0 && access("/dev/fuse", R_OK | W_OK) == 0)
		CHECK(sh("mkdir %s/m && qcowmount %s %s/m >/dev/null && cmp %s/m/qcow1 %s; r=$?; "
			 "umount %s/m; exit $r",
			 dir, image, dir, dir, raw, dir) == 0);
	close(fd);
	cleanup();
}

TAP_MAIN
