/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unit tests of vmm/base/util.c, log.c, host.c and module.c. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/fdset.h"
#include "vmm/base/host.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

Test(util, sizes)
{
	static const struct { const char *s; uint64_t unit, want; int ret;
	} t[] = {
		{ "512", MiB, 512 * MiB, 0 },
		{ "2G", MiB, 2 * GiB, 0 },
		{ "64k", 1, 64 * KiB, 0 },
		{ "1.5T", 1, 3ull << 39, 0 },
		{ "0x10", 1, 16, 0 },
		{ "16b", MiB, 16, 0 },
		{ "4MiB", 1, 4 * MiB, 0 },
		{ "4MB", 1, 4 * MiB, 0 },
		{ "", 1, 0, -EINVAL },
		{ "-1", 1, 0, -EINVAL },
		{ "1Q", 1, 0, -EINVAL },
		{ "1GG", 1, 0, -EINVAL },
		{ "99999999999999999999", 1, 0, -ERANGE },
		{ "16E", 1, 0, -ERANGE },
		{ "18446744073709551615", 1, UINT64_MAX, 0 },
		{ " 1", 1, 0, -EINVAL },
		{ "nan", 1, 0, -EINVAL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		uint64_t v = 0;

		cr_assert_eq(parse_size(t[i].s, t[i].unit, &v), t[i].ret, "%s", t[i].s);
		cr_assert_eq(v, t[i].want, "%s: %llu", t[i].s, (unsigned long long)v);
	}
}

Test(util, numbers_and_switches)
{
	uint64_t v;
	bool b;

	cr_assert_eq(parse_u64("0xff", 255, &v), 0);
	cr_assert_eq(v, 255);
	cr_assert_eq(parse_u64("256", 255, &v), -ERANGE);
	cr_assert_eq(parse_u64("1x", 255, &v), -EINVAL);
	cr_assert_eq(parse_u64("-1", UINT64_MAX, &v), -EINVAL);
	cr_assert_eq(parse_bool("on", &b), 0);
	cr_assert(b);
	cr_assert_eq(parse_bool("no", &b), 0);
	cr_assert_not(b);
	cr_assert_eq(parse_bool("perhaps", &b), -EINVAL);
}

Test(util, ranges_do_not_wrap)
{
	cr_assert(range_ok(0, 10, 10));
	cr_assert(range_ok(10, 0, 10));
	cr_assert_not(range_ok(1, 10, 10));
	cr_assert_not(range_ok(UINT64_MAX, 2, 10));
	cr_assert_not(range_ok(2, UINT64_MAX, 10));
}

Test(util, crc32c_of_the_published_examples)
{
	uint8_t buf[32];

	/* RFC 3720 B.4 */
	memset(buf, 0, 32);
	cr_assert_eq(crc32c(0, buf, 32), 0x8a9136aa);
	memset(buf, 0xff, 32);
	cr_assert_eq(crc32c(0, buf, 32), 0x62a8ab43);
	for (int i = 0; i < 32; i++)
		buf[i] = i;
	cr_assert_eq(crc32c(0, buf, 32), 0x46dd794e);
	cr_assert_eq(crc32c(crc32c(0, buf, 13), buf + 13, 19), 0x46dd794e);
}

/* Long runs are taken in lanes; a byte at a time is the judge. */
Test(util, crc32c_of_long_runs_is_that_of_their_bytes)
{
	static uint8_t buf[3 * 4096 + 64];
	uint32_t whole = 77;
	unsigned seed = 5;

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = rand_r(&seed);
	for (size_t n = 0; n < sizeof(buf); n++) {
		cr_assert_eq(crc32c(77, buf, n), whole, "%zu bytes", n);
		whole = crc32c(whole, buf + n, 1);
	}
}

Test(util, crc32c_is_the_same_at_every_alignment_and_length)
{
	uint8_t buf[512], *p = buf;
	unsigned seed = 3;

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = rand_r(&seed);
	for (int at = 0; at < 16; at++) {
		uint32_t whole = 0;

		for (int n = 0; n < 300; n++) {
			cr_assert_eq(crc32c(0, p + at, n), whole);
			whole = crc32c(whole, p + at + n, 1);
		}
	}
}

Test(util, the_first_reason_is_kept)
{
	struct err e = { "" };

	cr_assert_eq(err_set(&e, EIO, "disk %d", 1), -EIO);
	err_set(&e, EINVAL, "later");
	err_prefix(&e, "drive %s", "hda");
	cr_assert_str_eq(e.msg, "drive hda: disk 1");
	cr_assert_eq(err_set(NULL, EIO, "nobody asks"), -EIO);
	err_prefix(NULL, "x");
}

Test(util, whole_transfers_go_on_after_short_ones)
{
	char buf[200000] = { 1 }, got[200000];
	int p[2], status;

	cr_assert_eq(pipe(p), 0);
	if (fork() == 0)
		_exit(write_full(p[1], buf, sizeof(buf)) ? 1 : 0);
	close(p[1]);
	cr_assert_eq(read_full(p[0], got, sizeof(got)), 0);
	cr_assert_eq(memcmp(buf, got, sizeof(buf)), 0);
	cr_assert_eq(read_full(p[0], got, 1), -ENODATA);
	wait(&status);
	cr_assert_eq(status, 0);
	cr_assert_eq(pread_full(0, got, 1, UINT64_MAX), -EINVAL);
}

/* --- log --- */

static void slurp(const char *path, char *buf, size_t len)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, buf, len - 1);

	buf[n < 0 ? 0 : n] = 0;
	close(fd);
}

Test(log, goes_to_a_file_that_can_be_rotated)
{
	char path[] = "/tmp/minivmm-test-XXXXXX", old[64], buf[4096];

	close(mkstemp(path));
	snprintf(old, sizeof(old), "%s.1", path);
	cr_assert_eq(log_set_file("/nonexistent/x", NULL), -ENOENT);
	cr_assert_eq(log_set_file(path, NULL), 0);
	log_set_name("/usr/bin/vm");
	log_warn("one %d", 1);
	log_debug("not shown");
	cr_assert_eq(rename(path, old), 0);
	log_reopen();
	log_error("two");
	slurp(old, buf, sizeof(buf));
	cr_assert_not_null(strstr(buf, " vm: warning: one 1\n"), "%s", buf);
	cr_assert_null(strstr(buf, "not shown"));
	cr_assert_null(strstr(buf, "two"));
	slurp(path, buf, sizeof(buf));
	cr_assert_not_null(strstr(buf, "vm: two\n"));
	log_set_file(NULL, NULL);
	unlink(path);
	unlink(old);
}

Test(log, a_file_has_an_end)
{
	char path[] = "/tmp/minivmm-test-XXXXXX", old[64], spec[64], buf[4096];
	struct err err = { "" };
	struct stat st;

	close(mkstemp(path));
	snprintf(old, sizeof(old), "%s.1", path);
	snprintf(spec, sizeof(spec), "%s,size=64K", path);
	log_set_name("vm");
	cr_assert_eq(log_set_file(spec, NULL), 0);
	for (int i = 0; i < 5000; i++) {
		log_warn("line %d", i);
		cr_assert(stat(path, &st) == 0 && st.st_size <= 65536);
	}
	cr_assert(stat(old, &st) == 0 && st.st_size <= 65536 && st.st_size > 60000);
	cr_assert_eq(stat(path, &st), 0);
	int fd = open(path, O_RDONLY);
	cr_assert(pread(fd, buf, 11, st.st_size - 11) == 11 && !memcmp(buf, " line 4999\n", 11));
	close(fd);
	log_set_file(NULL, NULL);
	snprintf(spec, sizeof(spec), "%s,size=1", path);
	cr_assert_lt(log_set_file(spec, &err), 0);
	cr_assert_not_null(strstr(err.msg, "64K"));
	unlink(path);
	unlink(old);
}

Test(log, a_full_disk_is_told_when_there_is_room_again)
{
	char path[] = "/tmp/minivmm-test-XXXXXX", buf[4096];
	struct rlimit limit = { 100, RLIM_INFINITY };
	unsigned long long lost = 0;
	char *note;

	close(mkstemp(path));
	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	log_set_name("vm");
	log_set_file(path, NULL);
	for (int i = 0; i < 10; i++)
		log_warn("line %d", i);		/* 24 characters of time, "vm: warning: line 0\n" */
	slurp(path, buf, sizeof(buf));
	cr_assert_eq(strlen(buf), 100);
	limit.rlim_cur = RLIM_INFINITY;
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	log_warn("after");
	log_warn("last");
	slurp(path, buf, sizeof(buf));
	note = strstr(buf, "vm: ");
	note = note ? strstr(buf, "\nvm: ") : NULL;
	cr_assert(note && sscanf(note, "\nvm: %llu bytes of lines were lost", &lost) == 1, "%s",
		  buf);
	cr_assert_eq(lost, 10 * 44 - 100, "%llu", lost);
	cr_assert(strstr(note, "after\n") && strstr(note, "last\n") &&
			  !strstr(strstr(note, "last"), "lost"),
		  "%s", buf);
	cr_assert_eq(truncate(path, 0), 0);	/* copytruncate: no hole */
	log_warn("fresh");
	slurp(path, buf, sizeof(buf));
	cr_assert(strstr(buf, "fresh") && *buf == '2', "%s", buf);
	log_set_file(NULL, NULL);
	unlink(path);
}

Test(log, a_hostile_guest_cannot_fill_the_disk)
{
	char path[] = "/tmp/minivmm-test-XXXXXX", buf[65536];
	int lines = 0;

	close(mkstemp(path));
	log_set_file(path, NULL);
	for (int i = 0; i < 1000; i++)
		log_guest("bad ring %d", i);
	log_guest("another place");
	slurp(path, buf, sizeof(buf));
	for (char *p = buf; (p = strchr(p, '\n')); p++)
		lines++;
	cr_assert_leq(lines, 22);	/* two windows if the second ended meanwhile */
	cr_assert_geq(lines, 11);
	cr_assert_not_null(strstr(buf, "another place"));
	log_set_file(NULL, NULL);
	unlink(path);
}

Test(log, trace_categories_and_lines)
{
	char path[] = "/tmp/minivmm-test-XXXXXX", spec[80], buf[4096];
	struct err err = { "" };

	close(mkstemp(path));
	cr_assert_eq(trace_setup("exits,typo", &err), -EINVAL);
	cr_assert_not_null(strstr(err.msg, "typo"));
	snprintf(spec, sizeof(spec), "blk,pio,file=%s", path);
	trace_mask = 0;
	cr_assert_eq(trace_setup(spec, &err), 0);
	cr_assert_eq(trace_mask, TRACE_BLK | TRACE_PIO);
	trace(TRACE_BLK, trace_new_id(), "virtio0", "read %d", 4096);
	trace(TRACE_NET, 0, "net0", "not asked for");
	slurp(path, buf, sizeof(buf));
	cr_assert_not_null(strstr(buf, " blk     #1      virtio0        read 4096\n"), "%s", buf);
	cr_assert_null(strstr(buf, "not asked"));
	unlink(path);
}

/* --- host --- */

Test(host, opens_and_says_why_not)
{
	struct err err = { "" };
	int fd;

	fd = host_open(&host_direct, "test", "/nonexistent/disk", O_RDONLY, 0, &err);
	cr_assert_eq(fd, -ENOENT);
	cr_assert_str_eq(err.msg, "cannot open '/nonexistent/disk': No such file or directory");
	fd = host_open(&host_direct, "test", "/dev/null", O_RDWR, 0, &err);
	cr_assert_geq(fd, 0);
	cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

Test(host, descriptor_sets_by_access_mode)
{
	struct err err = { "" };
	int ro = open("/dev/zero", O_RDONLY), fd;
	char c = 1;

	cr_assert_eq(fdset_add(7, ro, NULL), 0);
	cr_assert_eq(fdset_add(7, 9999, NULL), -EBADF);
	fd = host_open(&host_direct, "test", "/dev/fdset/7", O_RDONLY, 0, &err);
	cr_assert_geq(fd, 0);
	cr_assert_neq(fd, ro);
	cr_assert_eq(read(fd, &c, 1), 1);
	cr_assert_eq(c, 0);
	cr_assert_eq(host_open(&host_direct, "test", "/dev/fdset/7", O_RDWR, 0, &err), -EACCES);
	cr_assert_eq(host_open(&host_direct, "test", "/dev/fdset/8", O_RDONLY, 0, NULL), -ENOENT);
	cr_assert_eq(host_open(&host_direct, "test", "/dev/fdset/x", O_RDONLY, 0, NULL), -EINVAL);
}

Test(host, connects_to_a_unix_socket)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	char dir[] = "/tmp/minivmm-test-XXXXXX", address[128];
	struct err err = { "" };
	int s = socket(AF_UNIX, SOCK_STREAM, 0), fd;

	cr_assert_not_null(mkdtemp(dir));
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/s", dir);
	snprintf(address, sizeof(address), "unix:%s", sun.sun_path);
	cr_assert_lt(host_connect(&host_direct, "test", address, &err), 0);
	cr_assert_eq(bind(s, (struct sockaddr *)&sun, sizeof(sun)), 0);
	listen(s, 1);
	fd = host_connect(&host_direct, "test", address, &err);
	cr_assert_geq(fd, 0);
	cr_assert_eq(host_connect(&host_direct, "test", "http://x", &err), -EINVAL);
	cr_assert_eq(host_connect(&host_direct, "test", "tcp:host", &err), -EINVAL);
	unlink(sun.sun_path);
	rmdir(dir);
}

Test(host, runs_programs)
{
	char *ok[] = { "sh", "-c", "cat; echo out", NULL }, *no[] = { "/nonexistent/prog", NULL },
	     buf[16] = "";
	struct err err = { "" };
	int in[2], out[2], status;
	pid_t pid;

	cr_assert_eq(pipe(in) | pipe(out), 0);
	fcntl(in[1], F_SETFD, FD_CLOEXEC);
	fcntl(out[0], F_SETFD, FD_CLOEXEC);
	pid = host_spawn(&host_direct, "test", ok, in[0], out[1], &err);
	cr_assert_gt(pid, 0);
	close(out[1]);
	cr_assert_eq(write(in[1], "in ", 3), 3);
	close(in[1]);
	waitpid(pid, &status, 0);
	cr_assert_eq(status, 0);
	cr_assert_eq(read_full(out[0], buf, 7), 0);
	cr_assert_str_eq(buf, "in out\n");
	cr_assert_eq(host_spawn(&host_direct, "test", no, -1, -1, &err), -ENOENT);
	cr_assert_not_null(strstr(err.msg, "/nonexistent/prog"));
}

Test(host, names_who_holds_a_lock)
{
	char path[] = "/tmp/minivmm-test-XXXXXX", who[64], want[32];
	struct flock lock = { .l_type = F_WRLCK, .l_start = 100, .l_len = 1 };
	int fd = mkstemp(path), ready[2];
	pid_t pid;
	char c;

	host_lock_owner(&host_direct, fd, who, sizeof(who));
	cr_assert_str_eq(who, "");
	cr_assert_eq(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		int mine = open(path, O_RDWR);

		close(fd);
		if (fcntl(mine, F_OFD_SETLK, &lock) || write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	cr_assert_eq(read(ready[0], &c, 1), 1);
	host_lock_owner(&host_direct, fd, who, sizeof(who));
	snprintf(want, sizeof(want), "(pid %d)", pid);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	unlink(path);
	cr_assert_not_null(strstr(who, want), "%s", who);
}

/* --- modules --- */

Test(module, a_missing_one_is_explained)
{
	struct err err = { "" };

	cr_assert_null(module_symbol("no-such", "f", &err));
	cr_assert_not_null(strstr(err.msg, "minivmm-no-such.so"), "%s", err.msg);
}

/* A library that is not there is mended by its package; a broken module is not. */
Test(module, a_missing_library_names_its_package)
{
	char dir[] = "/tmp/minivmm-test-XXXXXX", command[512];
	struct err err = { "" };

	cr_assert_not_null(mkdtemp(dir));
	setenv("MINIVMM_LIBDIR", dir, 1);
	snprintf(command, sizeof(command), "echo no object at all >%s/minivmm-vnc.so", dir);
	cr_assert_eq(system(command), 0);
	cr_assert_null(module_symbol("vnc", "f", &err));
	cr_assert_null(strstr(err.msg, "install"), "%s", err.msg);
	snprintf(
		command, sizeof(command),
		"cd %s && echo 'int f(void) { return 1; }' | cc -shared -xc - -o libnone.so && "
		"echo 'int f(void); int g(void) { return f(); }' | "
		"cc -shared -xc - -o minivmm-vnc.so -L. -Wl,--no-as-needed -lnone && rm libnone.so",
		dir);
	cr_assert_eq(system(command), 0);
	err.msg[0] = 0;
	cr_assert_null(module_symbol("vnc", "g", &err));
	cr_assert_not_null(strstr(err.msg, "install the package libvncserver1"), "%s", err.msg);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	cr_assert_eq(system(command), 0);
}

Test(module, one_of_another_build_is_refused)
{
	char dir[] = "/tmp/minivmm-test-XXXXXX", command[256];
	struct err err = { "" };

	cr_assert_not_null(mkdtemp(dir));
	snprintf(command, sizeof(command),
		 "echo 'int f;' | gcc -shared -fPIC -x c -o %s/minivmm-vnc.so -", dir);
	cr_assert_eq(system(command), 0);
	setenv("MINIVMM_LIBDIR", dir, 1);
	cr_assert_null(module_symbol("vnc", "f", &err));
	cr_assert_not_null(strstr(err.msg, "another build of this program"), "%s", err.msg);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	cr_assert_eq(system(command), 0);
}
