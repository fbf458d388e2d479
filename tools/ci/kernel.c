/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kernel.c: finds a kernel image and the modules it needs: in /boot, a folder, an unpacked or
 * packed .deb.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/ci/ci.h"

extern char **environ;

static bool exists(const char *path)
{
	return access(path, R_OK) == 0;
}

static bool is_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/*
 * The entry of dir with this prefix that comes last by version ("vmlinuz-6.1.0-9" before
 * "-6.1.0-10"); free it.
 */
static char *newest(const char *dir, const char *prefix)
{
	struct dirent *e;
	char *best = NULL;
	DIR *d = opendir(dir);

	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.' || strncmp(e->d_name, prefix, strlen(prefix)))
			continue;
		if (!best || strverscmp(e->d_name, best) > 0) {
			free(best);
			best = xstrdup(e->d_name);
		}
	}
	if (d)
		closedir(d);
	return best;
}

/*
 * The version a bzImage says of itself (Documentation/x86/boot.rst: kernel_version at 0x20e); free
 * it.
 */
static char *image_version(const char *path)
{
	uint8_t head[0x10000];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, head, sizeof(head) - 1);
	unsigned at;
	char *v;

	if (fd >= 0)
		close(fd);
	if (n < 0x210 || ld_le32(head + 0x202) != 0x53726448)
		return NULL;
	head[n] = 0;
	at = ld_le16(head + 0x20e) + 0x200;
	if (at >= (unsigned)n)
		return NULL;
	v = xstrdup((char *)head + at);
	v[strcspn(v, " ")] = 0;
	return v;
}

/* .deb to a folder in the user's cache, once for each state of the file. */
static char *unpack_deb(const char *path, struct err *err)
{
	const char *base = strrchr(path, '/');
	char *argv[] = { "dpkg-deb", "-x", (char *)path, NULL, NULL }, *dir,
	     *cache = cache_folder();
	int status = 0, ret;
	struct stat st;
	pid_t pid;

	if (!cache || stat(path, &st) < 0) {
		err_set(err, errno, "%s: %s",
			cache ? path : "no folder to unpack to: set XDG_CACHE_HOME or HOME",
			strerror(errno));
		free(cache);
		return NULL;
	}
	argv[3] = xasprintf("%s/%s-%llx", cache, base ? base + 1 : path,
			    (unsigned long long)st.st_mtim.tv_sec);
	free(cache);
	dir = xasprintf("%s/boot", argv[3]);
	if (is_dir(dir)) {
		free(dir);
		return argv[3];
	}
	free(dir);
	ret = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
	while (!ret && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (ret || status) {
		err_set(err, EIO, "dpkg-deb could not unpack %s%s%s", path, ret ? ": " : "",
			ret ? strerror(ret) : "");
		free(argv[3]);
		return NULL;
	}
	return argv[3];
}

/* A folder like / : boot/vmlinuz* and lib/modules/VERSION (also usr/lib/modules). */
static int find_in_root(struct ci_kernel *k, const char *root, struct err *err)
{
	char *boot = xasprintf("%s/boot", root), *name = newest(boot, "vmlinuz");

	if (!name)
		name = newest(boot, "bzImage");
	if (name)
		k->image = xasprintf("%s/%s", boot, name);
	free(name);
	free(boot);
	return k->image ? 0
			: err_set(err, ENOENT,
				  "no vmlinuz in %s/boot: install linux-image-amd64, or give "
				  "--kernel FILE, "
				  "a folder with boot/ and lib/modules/, or a linux-image .deb",
				  root);
}

static void find_modules(struct ci_kernel *k, const char *root)
{
	static const char *const where[] = { "%s/lib/modules", "%s/usr/lib/modules" };

	for (size_t i = 0; i < ARRAY_SIZE(where) && !k->modules_dir; i++) {
		char *base = i ? xasprintf("%s/usr/lib/modules", root)
			       : xasprintf("%s/lib/modules", root);
		char *only = k->version ? NULL : newest(base, "");
		char *dir = xasprintf("%s/%s", base, k->version ? k->version : only ? only : "-");

		if (is_dir(dir)) {
			k->modules_dir = dir;
			dir = NULL;
			if (!k->version && only)
				k->version = xstrdup(only);
		}
		free(dir);
		free(only);
		free(base);
	}
}

/* The kernel proper, and the names of its functions. */
static void find_proper(struct ci_kernel *k)
{
	char *slash = strrchr(k->image, '/');

	if (k->version)
		k->symbols = xasprintf("%.*s/System.map-%s", (int)(slash ? slash - k->image : 1),
				       slash ? k->image : ".", k->version);
	k->unpacked = image_has_pvh(k->image) ? xstrdup(k->image)
					      : image_unpacked(k->image, k->version);
	k->boot = xstrdup(k->unpacked && image_has_pvh(k->unpacked) ? k->unpacked : k->image);
}

int kernel_find(const struct ci_options *o, struct ci_kernel *k, struct err *err)
{
	const char *given = o->kernel;
	char *root = NULL, *slash;
	size_t n = given ? strlen(given) : 0;
	int ret = 0;

	memset(k, 0, sizeof(*k));
	if (!given) {
		root = xstrdup("");
	} else if (n > 4 && !strcmp(given + n - 4, ".deb")) {
		root = unpack_deb(given, err);
		if (!root)
			return -EIO;
	} else if (is_dir(given)) {
		root = xstrdup(given);
	} else if (exists(given)) {
		k->image = xstrdup(given);
	} else {
		k->image = xasprintf("/boot/vmlinuz-%s", given);
		if (strchr(given, '/'))
			ret = err_set(err, errno, "--kernel %s: %s", given, strerror(errno));
		else if (!exists(k->image))
			ret = err_set(err, ENOENT, "--kernel %s: no such file or folder, and no %s",
				      given, k->image);
		root = xstrdup("");
	}
	if (ret == 0 && !k->image)
		ret = find_in_root(k, root, err);
	if (ret == 0) {
		k->version = image_version(k->image);
		if (o->modules)
			find_modules(k, o->modules);
		if (root && !k->modules_dir)
			find_modules(k, root);
		if (!k->modules_dir && !root && (slash = strrchr(k->image, '/')) &&
		    slash - k->image > 5 && !strncmp(slash - 5, "/boot", 5)) {
			char *up = xasprintf("%.*s", (int)(slash - 5 - k->image), k->image);

			find_modules(k, up);
			free(up);
		}
		if (!k->modules_dir)
			find_modules(k, "");
		/* An empty folder name means /. */
		find_proper(k);
	}
	free(root);
	if (ret < 0)
		kernel_free(k);
	return ret;
}

void kernel_free(struct ci_kernel *k)
{
	free(k->image);
	free(k->version);
	free(k->modules_dir);
	free(k->unpacked);
	free(k->boot);
	free(k->symbols);
	memset(k, 0, sizeof(*k));
}

/* --- modules.dep: "kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko ..." --- */

static char *read_text(const char *dir, const char *name)
{
	char *path = xasprintf("%s/%s", dir, name), *text = NULL;
	FILE *f = fopen(path, "re");
	long len;

	free(path);
	if (!f)
		return NULL;
	if (fseek(f, 0, SEEK_END) == 0 && (len = ftell(f)) >= 0) {
		rewind(f);
		text = xcalloc(1, len + 1);
		if (fread(text, 1, len, f) != (size_t)len) {
			free(text);
			text = NULL;
		}
	}
	fclose(f);
	return text;
}

/*
 * Does the path of `len` bytes name this module? '-' and '_' are one; ".ko" and a packer's suffix
 * follow.
 */
static bool is_module(const char *path, size_t len, const char *name)
{
	const char *base = path + len;
	size_t i;

	while (base > path && base[-1] != '/')
		base--;
	for (i = 0; name[i]; i++) {
		char a = base[i] == '-' ? '_' : base[i], b = name[i] == '-' ? '_' : name[i];

		if (base + i >= path + len || a != b)
			return false;
	}
	return (size_t)(path + len - base) >= i + 3 && !strncmp(base + i, ".ko", 3);
}

/* The line of modules.dep for this module. */
static const char *dep_line(const char *dep, const char *name)
{
	for (const char *line = dep; line && *line; line = strchr(line, '\n'), line += !!line) {
		size_t len = strcspn(line, ":\n");

		if (line[len] == ':' && is_module(line, len, name))
			return line;
	}
	return NULL;
}

static int add_file(const struct ci_kernel *k, const char *rel, size_t len, char *files[CI_MODULES],
		    int n)
{
	char *path = xasprintf("%s/%.*s", k->modules_dir, (int)len, rel);

	for (int i = 0; i < n; i++) {
		if (!strcmp(files[i], path)) {
			free(path);
			return n;
		}
	}
	if (n == CI_MODULES) {
		free(path);
		return -E2BIG;
	}
	files[n] = path;
	return n + 1;
}

static int add_module(const struct ci_kernel *k, const char *line, char *files[CI_MODULES], int n)
{
	size_t len = strcspn(line, ":"), end = strcspn(line, "\n");
	const char *p = line + end;

	/* Dependencies stand with the deepest last. */
	while (p > line + len + 1 && n >= 0) {
		const char *stop = p;

		while (p > line + len + 1 && p[-1] != ' ')
			p--;
		if (stop > p)
			n = add_file(k, p, stop - p, files, n);
		while (p > line + len + 1 && p[-1] == ' ')
			p--;
	}
	return n < 0 ? n : add_file(k, line, len, files, n);
}

struct symtab *kernel_symbols(const struct ci_kernel *k)
{
	struct symtab *t = NULL;

	if (k->symbols)
		symtab_load(k->symbols, &t, NULL);
	if (!t && k->unpacked)
		symtab_load(k->unpacked, &t, NULL);
	return t;
}

/* Is it built into a kernel that has no list of what is? By a function of it. */
static bool in_image(const struct ci_kernel *k, struct symtab **names, const char *module)
{
	static const struct { const char *module, *function;
	} marks[] = {
		{ "9p", "v9fs_session_init" },	      { "9pnet_virtio", "p9_virtio_probe" },
		{ "virtio_pci", "virtio_pci_probe" }, { "virtio_mmio", "virtio_mmio_probe" },
		{ "overlay", "ovl_fill_super" },      { "virtio_net", "virtnet_probe" },
		{ "virtio_blk", "virtblk_probe" },    { "e1000", "e1000_probe" },
		{ "8139cp", "cp_init_one" },
	};

	if (!*names)
		*names = kernel_symbols(k);
	for (size_t i = 0; *names && i < ARRAY_SIZE(marks); i++)
		if (!strcmp(marks[i].module, module))
			return symtab_has(*names, marks[i].function);
	return true;			/* it has no names: all we can do is hope */
}

int kernel_modules(const struct ci_kernel *k, const char *const *names, char *files[CI_MODULES],
		   struct err *err)
{
	char *dep = k->modules_dir ? read_text(k->modules_dir, "modules.dep") : NULL;
	char *builtin = k->modules_dir ? read_text(k->modules_dir, "modules.builtin") : NULL;
	const char *version = k->version ? k->version : k->image;
	struct symtab *functions = NULL;
	int n = 0;

	for (; *names && n >= 0; names++) {
		bool optional = **names == '?';
		const char *name = *names + optional, *line = dep_line(dep, name);
		bool have = optional;

		if (line) {
			n = add_module(k, line, files, n);
			continue;
		}
		for (const char *b = builtin; b && *b && !have; b = strchr(b, '\n'), b += !!b)
			have = is_module(b, strcspn(b, "\n"), name);
		if (have || (!builtin && in_image(k, &functions, name)))
			continue;
		if (k->modules_dir)
			n = err_set(
				err, ENOENT,
				"kernel %s has no %s, neither built in nor as a module in %s%s",
				version, name, k->modules_dir,
				strstr(version, "cloud")
					? ": Debian's cloud kernel lacks it, take linux-image-amd64"
					: "");
		else
			n = err_set(err, ENOENT,
				    "kernel %s has no %s built in, and there is no lib/modules/%s "
				    "beside it or in /: give "
				    "--modules DIR",
				    version, name, version);
	}
	symtab_free(functions);
	free(dep);
	free(builtin);
	return n;
}
