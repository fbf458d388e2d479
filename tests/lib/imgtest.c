/* SPDX-License-Identifier: GPL-2.0-or-later */
/* imgtest.c: see imgtest.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "tests/lib/imgtest.h"
#include "tests/tap.h"

static char folder[64], tool[PATH_MAX];
static pid_t owner;

const char *img_tool(void)
{
	if (!tool[0]) {
		ssize_t n = readlink("/proc/self/exe", tool, sizeof(tool) - 64);

		/* build/tests/img/suite -> build/minivmm-img */
		tool[n < 0 ? 0 : n] = 0;
		for (int i = 0; i < 3; i++)
			*strrchr(tool, '/') = 0;
		strcat(tool, "/minivmm-img");
	}
	return tool;
}

bool img_sanitized(void)
{
	return strstr(img_tool(), "/asan/") || strstr(img_tool(), "/tsan/");
}

static void leave(void)
{
	char cmd[128];

	if (!folder[0] || getpid() != owner)
		return;
	snprintf(cmd, sizeof(cmd), "rm -rf %s", folder);
	if (system(cmd))
		perror(folder);
	folder[0] = 0;
}

/*
 * The test's process ends by _exit when it fails: its parent would not know the folder, so a small
 * guard waits for it.
 */
static void guard(void)
{
	int p[2];
	char c;

	if (pipe2(p, O_CLOEXEC))
		return;
	if (fork() == 0) {
		close(p[1]);
		setsid();
		for (int i = 0; i < 3; i++)
			close(i);
		if (chdir("/"))
			_exit(1);
		while (read(p[0], &c, 1) > 0)
			;
		owner = getpid();
		leave();
		_exit(0);
	}
	close(p[0]);	/* p[1] stays open as long as we live */
}

void img_enter(void)
{
	const char *tmp = getenv("TMPDIR");

	img_tool();
	snprintf(folder, sizeof(folder), "%.40s/minivmm-img.XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(folder) || chdir(folder))
		tap_fail(__FILE__, __LINE__, "cannot make a folder: %s", strerror(errno));
	owner = getpid();
	guard();
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* %M -> the tool's path. */
static void expand(char *out, size_t room, const char *in)
{
	size_t n = 0;

	for (; *in && n + PATH_MAX < room; in++) {
		if (in[0] == '%' && in[1] == 'M') {
			n += snprintf(out + n, room - n, "%s", img_tool());
			in++;
		} else {
			out[n++] = *in;
		}
	}
	out[n] = 0;
}

static struct img_result *run(const char *text)
{
	static struct img_result r;
	static char cmd[65536];
	struct rusage ru;
	size_t n = 0;
	ssize_t got;
	int p[2], status;
	double start = now();
	pid_t pid;

	expand(cmd, sizeof(cmd), text);
	fflush(NULL);
	if (pipe2(p, O_CLOEXEC))
		tap_fail(__FILE__, __LINE__, "pipe: %s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		dup2(p[1], 1);
		dup2(p[1], 2);
		/* exec: so that times and memory are the program's own. */
		execl("/bin/bash", "bash", "-o", "pipefail", "-c", cmd, NULL);
		_exit(127);
	}
	close(p[1]);
	memset(&r, 0, sizeof(r));
	while ((got = read(p[0], r.out + n, sizeof(r.out) - 1 - n)) > 0) {
		n += got;
		if (n == sizeof(r.out) - 1) {
			char sink[4096];

			while (read(p[0], sink, sizeof(sink)) > 0)
				;
			break;
		}
	}
	close(p[0]);
	r.out[n] = 0;
	while (wait4(pid, &status, 0, &ru) < 0 && errno == EINTR)
		;
	r.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	r.seconds = now() - start;
	r.max_rss = ru.ru_maxrss;
	return &r;
}

struct img_result *img_run(const char *fmt, ...)
{
	static char text[65536];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return run(text);
}

struct img_result *img_expect(const char *file, int line, int status, const char *fmt, ...)
{
	static char text[65536];
	struct img_result *r;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	r = run(text);
	if (r->status != status)
		tap_fail(file, line, "'%s' ended with %d, not %d:\n# %.3000s", text, r->status,
			 status, r->out);
	return r;
}

bool img_have(const char *program)
{
	return img_run("command -v %s >/dev/null", program)->status == 0;
}

uint32_t img_random(uint64_t *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return *state >> 33;
}

void img_pattern(const char *filename, uint64_t size, unsigned seed)
{
	uint64_t s = seed * 2654435761ull + 1, off = 0;
	static uint8_t buf[256 * 1024];
	int fd = open(filename, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || ftruncate(fd, size))
		tap_fail(__FILE__, __LINE__, "%s: %s", filename, strerror(errno));
	while (off < size) {
		uint64_t len = (1 + img_random(&s) % 512) * 512;
		unsigned kind = img_random(&s) % 5;

		if (kind == 4)
			len *= 16;		/* a hole */
		if (len > size - off)
			len = size - off;
		for (uint64_t i = 0; kind != 4 && i < len; i++)
			buf[i] = kind == 0   ? 0
				 : kind == 1 ? (uint8_t) "minivmm image test "[i % 19]
					     : (uint8_t)(img_random(&s) >> 7);
		if (kind != 4 && pwrite(fd, buf, len, off) != (ssize_t)len)
			tap_fail(__FILE__, __LINE__, "%s: %s", filename, strerror(errno));
		off += len;
	}
	close(fd);
}
