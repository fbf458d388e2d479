/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * host_names.c: which files of the host the name of a disk may lead to, in the process that opens
 * them. A name that a person typed leads to any file or block device; one that stands in an image
 * was perhaps written by a stranger, and leads to where images are kept. See host.h and
 * SECURITY.md, "Names inside images".
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/host_impl.h"
#include "vmm/base/limits.h"

#define DIRS_FILE "/etc/minivmm/image-dirs"

/* What names in images may lead to, beside their own folders. */
static struct {
	pthread_mutex_t lock;
	bool read;			/* DIRS_FILE was looked at */
	/* folders with all below; folders of files that were named, alone; addresses */
	struct { enum host_allow kind; char *name; } *places;
	size_t n;
} allowed = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool is_address(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz+");

	return len && name[len] == ':' && strncmp(name, "file:", 5) && strncmp(name, "json:", 5);
}

/* The lock is held. */
static int add_place(enum host_allow kind, const char *name)
{
	for (size_t i = 0; i < allowed.n; i++)
		if (allowed.places[i].kind == kind && !strcmp(allowed.places[i].name, name))
			return 0;
	if (allowed.n >= IMAGE_PLACES_MAX)
		return -E2BIG;
	allowed.places = xrealloc(allowed.places, (allowed.n + 1) * sizeof(*allowed.places));
	allowed.places[allowed.n].kind = kind;
	allowed.places[allowed.n++].name = xstrdup(name);
	return 0;
}

static int add_dir(const char *dir)
{
	char *real = realpath(dir, NULL);
	struct stat st;
	int ret = real && stat(real, &st) == 0 ? S_ISDIR(st.st_mode) ? 0 : -ENOTDIR : -errno;

	if (ret == 0)
		ret = add_place(HOST_ALLOW_DIR, real);
	free(real);
	return ret;
}

/* Once: a folder a line; without the file, those where images are kept by custom. */
static void read_dirs_file(void)
{
	FILE *f;
	char line[4096];

	if (allowed.read)
		return;
	allowed.read = true;
	f = fopen(DIRS_FILE, "re");
	while (f && fgets(line, sizeof(line), f)) {
		char *p = line + strspn(line, " \t"), *end;

		p[strcspn(p, "#\n")] = 0;
		for (end = p + strlen(p); end > p && strchr(" \t\r", end[-1]);)
			*--end = 0;
		if (*p == '/')
			add_dir(p);		/* those that are not there allow nothing */
	}
	if (f)
		fclose(f);
	if (f || errno != ENOENT)
		return;
	add_dir("/var/lib/minivmm/images");
	add_dir("/var/lib/libvirt/images");
}

/* The folder of the file itself, and the one that the path goes through. */
static void allow_file(const char *path)
{
	char *dir = host_folder_of(path), *real = realpath(path, NULL), *up = realpath(dir, NULL);

	free(dir);
	dir = real ? host_folder_of(real) : NULL;
	pthread_mutex_lock(&allowed.lock);
	if (dir)
		add_place(HOST_ALLOW_FILE, dir);
	if (real && up)
		add_place(HOST_ALLOW_FILE, up);
	pthread_mutex_unlock(&allowed.lock);
	free(dir);
	free(real);
	free(up);
}

static bool below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return !strcmp(dir, "/") || (!strncmp(path, dir, len) && (path[len] == '/' || !path[len]));
}

/* An address is the one that was allowed, or lies below it. */
static bool address_fits(const char *name, const char *may)
{
	size_t len = strlen(may);
	bool url = strstr(may, "//");

	if (strncmp(name, may, len))
		return false;
	if (!name[len])
		return true;
	if (url && (strstr(name, "/..") || strchr(name, '%') || strchr(name, '\\')))
		return false;
	if (len && may[len - 1] == '/')
		return strlen(strstr(may, "//") ? strstr(may, "//") : "") > 2;
	return name[len] == (url ? '/' : ':');
}

static int ask_address(const struct host_call *c, struct err *err)
{
	bool may = false;

	pthread_mutex_lock(&allowed.lock);
	for (size_t i = 0; i < allowed.n && !may; i++)
		may = allowed.places[i].kind == HOST_ALLOW_ADDRESS &&
		      address_fits(c->name, allowed.places[i].name);
	pthread_mutex_unlock(&allowed.lock);
	return may ? 0 : err_set(err, EACCES,
				 "'%s' names '%s', an address that nobody allowed; to allow it, "
				 "add: -image-dir '%s'",
				 c->from ? c->from : "an image", c->name, c->name);
}

int host_names_call(struct host_call *c, struct err *err)
{
	int ret;

	if (c->op != HOST_ALLOW)
		return -ENOSYS;
	if (c->flags == HOST_ALLOW_ASK)
		return ask_address(c, err);
	if (c->origin == HOST_IMAGE || c->origin == HOST_SHARE)
		return err_set(err, EACCES, "'%s' is not for an image to allow", c->name);
	if (c->flags == HOST_ALLOW_FILE) {
		allow_file(c->name);
		return 0;
	}
	pthread_mutex_lock(&allowed.lock);
	ret = is_address(c->name) ? add_place(HOST_ALLOW_ADDRESS, c->name) : add_dir(c->name);
	pthread_mutex_unlock(&allowed.lock);
	return ret ? err_set(err, -ret, "-image-dir %s: %s", c->name, strerror(-ret)) : 0;
}

/* --- files --- */

/*
 * Is the file at path, as the kernel spells it, where the image that names it so may lead to? Not a
 * block device in a folder of files: the folder must be one of the listed.
 */
static bool is_place_of_images(const struct host_call *c, const char *path, const struct stat *st)
{
	char *dir = host_folder_of(path), *through = host_folder_of(c->name);
	char *real = realpath(through, NULL), *from = c->from ? realpath(c->from, NULL) : NULL;
	char *own = from ? host_folder_of(from) : NULL;
	bool device = S_ISBLK(st->st_mode), may = own && !device && !strcmp(dir, own);

	pthread_mutex_lock(&allowed.lock);
	read_dirs_file();
	for (size_t i = 0; i < allowed.n && !may; i++) {
		const char *place = allowed.places[i].name;

		if (allowed.places[i].kind == HOST_ALLOW_FILE)
			may = !device && !strcmp(dir, place);
		else if (allowed.places[i].kind == HOST_ALLOW_DIR)
			/* /dev/vg/disk is a link to /dev/dm-3, which has no folder of its own. */
			may = below(dir, place) || (device && real && below(real, place));
	}
	pthread_mutex_unlock(&allowed.lock);
	free(dir);
	free(through);
	free(real);
	free(from);
	free(own);
	return may;
}

/* Says what to type. The format says whether at least reading was possible. */
static int refuse_place(const struct host_call *c, const char *path, struct err *err)
{
	char *dir = host_folder_of(path);
	const char *why = !c->other ? "" :
			  (c->flags & O_ACCMODE) != O_RDONLY ? " and may only be read there" :
			  !strcmp(c->other, "raw")	     ? " and is taken as raw" : "";
	int ret = err_set(err, EACCES,
			  "'%s' names '%s', which lies outside the folders of images%s; to allow "
			  "it, add: -image-dir '%s'",
			  c->from ? c->from : "an image", path, why, dir);

	free(dir);
	return ret;
}

bool host_is_process_name(const char *name)
{
	return !strncmp(name, "/dev/fd", 7) || !strncmp(name, "/dev/std", 8) ||
	       !strncmp(name, "/proc/", 6);
}

/*
 * The rule for names inside images: may the file that fd (O_PATH) stands for be opened as c wants?
 * 0, with c->status set when it lies elsewhere; or -EACCES with the reason.
 */
static int host_name_from_image(struct host_call *c, int fd, const struct stat *st, struct err *err)
{
	char self[32], path[4096];
	ssize_t n;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	n = readlink(self, path, sizeof(path) - 1);
	if (n < 0)
		return err_set(err, EACCES, "'%s' names '%s': where that lies, /proc would say: %s",
			       c->from ? c->from : "an image", c->name, strerror(errno));
	path[n] = 0;
	if (host_is_process_name(c->name) || *path != '/' || !st->st_nlink)
		return refuse_place(c, c->name, err);
	if (is_place_of_images(c, path, st))
		return 0;
	if ((c->flags & O_ACCMODE) != O_RDONLY || !c->other || !strcmp(c->other, "raw"))
		return refuse_place(c, path, err);
	c->status = 1;			/* for reading, if it is what the image says */
	return 0;
}

int host_open_image(struct host_call *c, struct err *err)
{
	int path, fd = -ENOENT, ret;
	char self[32];
	struct stat st;

	c->status = 0;
	path = host_open_again(c->name, O_PATH, 0);
	ret = path < 0 ? path : fstat(path, &st) ? -errno : 0;
	if (ret) {
		err_set(err, -ret, "cannot open '%s': %s", c->name, strerror(-ret));
	} else if (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || S_ISCHR(st.st_mode)) {
		ret = err_set(err, ENOTSUP, "'%s' is neither a file nor a block device", c->name);
	} else if (c->origin == HOST_IMAGE) {
		ret = host_name_from_image(c, path, &st, err);
	}
	if (ret == 0) {
		snprintf(self, sizeof(self), "/proc/self/fd/%d", path);
		fd = host_open_again(self, c->flags, 0);
		/* Without /proc, a person's own name is good enough. */
		if (fd == -ENOENT && c->origin != HOST_IMAGE)
			fd = host_open_again(c->name, c->flags | O_NONBLOCK, 0);
		ret = fd;
		if (ret < 0)
			err_set(err, -ret, "cannot open '%s'%s: %s", c->name,
				(c->flags & O_ACCMODE) == O_RDONLY ? "" : " for writing",
				strerror(-ret));
	}
	if (ret >= 0 && c->origin != HOST_IMAGE && c->origin != HOST_SHARE)
		allow_file(c->name);
	if (path >= 0)
		close(path);
	return ret;
}
