/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: the 9P2000.L server, a message after the other: type, length, body. The folder is
 * made anew for each input, and what is done to it stays in it.
 */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/p9/p9_impl.h"
#include "tests/fuzz/ops.h"

static char dir[] = "/tmp/minivmm-fuzz-p9-XXXXXX";

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return strcmp(path, dir) ? remove(path) : 0;
}

static void empty_folder(void)
{
	chmod(dir, 0700);
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void remove_folder(void)
{
	empty_folder();
	rmdir(dir);
}

static void make_folder(void)
{
	static bool made;
	char path[100];
	int fd;

	if (!made && !mkdtemp(dir))
		abort();
	if (!made)
		atexit(remove_folder);
	made = true;
	empty_folder();
	snprintf(path, sizeof(path), "%s/d", dir);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/f", dir);
	fd = open(path, O_CREAT | O_WRONLY, 0644);
	if (fd >= 0)
		close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t req[4096], rep[8192];
	struct p9_opts o = { .path = dir,
			     .readonly = size && data[0] & 1,
			     .pipes = size && data[0] & 2,
			     .id = "fuzz" };
	struct err err = { 0 };
	struct p9 *s;

	make_folder();
	s = p9_new(&o, &err);
	if (!s)
		abort();
	/* Session begun: the interesting part comes sooner. */
	memcpy(req, "\x15\0\0\0\x64\xff\xff\0\x20\0\0\x08\0" "9P2000.L", 21);
	p9_handle(s, &(struct iovec){ req, 21 }, 1, &(struct iovec){ rep, sizeof(rep) }, 1);
	memset(req, 0, 64);
	memcpy(req, "\x17\0\0\0\x68\0\0\0\0\0\0\xff\xff\xff\xff\0\0\0\0\0\0\0\0", 23);
	p9_handle(s, &(struct iovec){ req, 23 }, 1, &(struct iovec){ rep, sizeof(rep) }, 1);
	while (size >= 3) {
		uint8_t type = fuzz_take(&data, &size, 1), len = fuzz_take(&data, &size, 1),
			room = fuzz_take(&data, &size, 1);
		size_t body = MIN((size_t)len, size);
		struct iovec in[2] = { { req, 7 + body / 2 },
				       { req + 7 + body / 2, body - body / 2 } };
		struct iovec out[2] = { { rep, room }, { rep + room, 4096 } };

		st_le32(req, 7 + body + (type & 128 ? room : 0));
		req[4] = (type & 63) * 2;
		memcpy(req + 7, data, body);
		data += body;
		size -= body;
		if (p9_handle(s, in, 2, out, 1 + !(room & 1)) > room + 4096u)
			abort();
	}
	p9_free(s);
	return 0;
}
