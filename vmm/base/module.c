/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * module.c: heavy backends live in shared objects of their own and are loaded when an option asks
 * for them, so that the program starts fast and a missing library costs only its feature. Control
 * threads and start-up; never unloaded.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/host.h"

/* The Debian package whose library each module needs, for the message when it is missing. */
static const struct {
	const char *module, *package;
} packages[] = {
	{ "net-user", "libslirp0" }, { "vnc", "libvncserver1" }, { "nbd", "libnbd0" },
	{ "crypto", "libgcrypt20" }, { "http", "libcurl4" }, { "disasm", "libcapstone4" },
	{ "monitor", "libedit2" }, { "curses", "libncursesw6" },
};

static const char *package_of(const char *module)
{
	for (size_t i = 0; i < ARRAY_SIZE(packages); i++)
		if (!strcmp(packages[i].module, module))
			return packages[i].package;
	return NULL;
}

/* The folder of the running program; empty when /proc does not tell. */
static void exe_dir(char *buf, size_t len)
{
	ssize_t n = readlink("/proc/self/exe", buf, len - 1);
	char *slash;

	buf[n < 0 ? 0 : n] = 0;
	slash = strrchr(buf, '/');
	if (slash)
		*slash = 0;
}

void *module_symbol(const char *module, const char *symbol, struct err *err)
{
	char self[PATH_MAX], path[PATH_MAX + 64];
	const char *dirs[3], *package = package_of(module);
	void *handle, *sym;

	exe_dir(self, sizeof(self));
	/* for tests, whose programs lie elsewhere */
	dirs[0] = secure_getenv("MINIVMM_LIBDIR");
	dirs[1] = self;
	dirs[2] = MINIVMM_LIBDIR;
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		if (!dirs[i] || !dirs[i][0])
			continue;
		snprintf(path, sizeof(path), "%s/minivmm-%s.so", dirs[i], module);
		if (access(path, F_OK))
			continue;
		handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
		if (!handle) {
			const char *why = dlerror();
			/* Only a library that is not there is mended by its package. */
			bool advise = package && strstr(why, "cannot open shared object file");

			err_set(err, ENOENT, "cannot load %s: %s%s%s", path, why,
				advise ? "; install the package " : "", advise ? package : "");
			return NULL;
		}
		if ((uintptr_t)dlsym(handle, "minivmm_interface") != MODULE_INTERFACE) {
			err_set(err, ENOEXEC,
				"%s belongs to another build of this program: install both "
				"together, or run make",
				path);
			dlclose(handle);
			return NULL;
		}
		sym = dlsym(handle, symbol);
		if (!sym)
			err_set(err, ENOENT,
				"%s has no '%s': it belongs to another version of this program",
				path, symbol);
		return sym;
	}
	err_set(err, ENOENT, "this installation has no minivmm-%s.so (looked in %s and %s)", module,
		self, MINIVMM_LIBDIR);
	return NULL;
}
