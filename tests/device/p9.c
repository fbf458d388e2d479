/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * p9.c: the 9P2000.L server message by message: what Linux's client does, what a hostile one tries.
 * The host's own view of the folder is the judge.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "devices/p9/p9_impl.h"
#include "tests/tap.h"
#include "vmm/base/limits.h"

static char dir[] = "/tmp/minivmm-p9-XXXXXX";
static struct p9 *s;
static uint8_t req[1 << 20], rep[1 << 20];
static size_t req_len, rep_at;

static void shell(const char *fmt, ...)
{
	char cmd[2048];
	va_list ap;
	int n = snprintf(cmd, sizeof(cmd), "cd %s && ", dir);

	va_start(ap, fmt);
	vsnprintf(cmd + n, sizeof(cmd) - n, fmt, ap);
	va_end(ap);
	if (system(cmd) != 0)
		tap_fail(__FILE__, __LINE__, "%s", cmd);
}

static void cleanup(void)
{
	char cmd[100];

	snprintf(cmd, sizeof(cmd), "chmod -R u+rwX %s; rm -rf %s", dir, dir);
	if (system(cmd) != 0)
		printf("# %s stays\n", dir);
}

/* --- a message: its arguments by a letter each: 1 2 4 8 integers, s string --- */
static int call(unsigned type, const char *fmt, ...)
{
	struct iovec in, out = { rep, sizeof(rep) };
	uint8_t *p = req + 7;
	size_t len;
	va_list ap;

	va_start(ap, fmt);
	for (; *fmt; fmt++) {
		if (*fmt == 's') {
			const char *t = va_arg(ap, const char *);

			st_le16(p, strlen(t));
			memcpy(p + 2, t, strlen(t));
			p += 2 + strlen(t);
		} else {
			uint64_t v = va_arg(ap, uint64_t);

			st_le64(p, v);
			p += *fmt - '0';
		}
	}
	va_end(ap);
	req_len = p - req;
	st_le32(req, req_len);
	req[4] = type;
	st_le16(req + 5, 7);
	in = (struct iovec){ req, req_len };
	len = p9_handle(s, &in, 1, &out, 1);
	CHECK(len >= 7);
	CHECK_EQ(ld_le32(rep), len);
	CHECK_EQ(ld_le16(rep + 5), 7);
	rep_at = 7;
	if (rep[4] == P9_RLERROR)
		return -(int)ld_le32(rep + 7);
	CHECK_EQ(rep[4], type + 1);
	return 0;
}
#define L(x) ((uint64_t)(x))

static int walk(unsigned from, unsigned to, const char *path)
{
	char fmt[32] = "442", *copy = strdup(path), *names[17] = { 0 }, *save = NULL;
	unsigned n = 0;

	for (char *p = strtok_r(copy, "/", &save); p; p = strtok_r(NULL, "/", &save)) {
		names[n++] = p;
		strcat(fmt, "s");
	}
	int ret = call(P9_TWALK, fmt, L(from), L(to), L(n), names[0], names[1], names[2], names[3],
		       names[4], names[5]);

	free(copy);
	return ret < 0 ? ret : ld_le16(rep + 7) == n ? 0 : -EXDEV;
}

static void start(bool readonly, const char *const *hide)
{
	struct p9_opts o = { .path = dir, .readonly = readonly, .hide = hide, .id = "9p0" };
	struct err err = { 0 };

	if (!s) {
		CHECK(mkdtemp(dir));
		atexit(cleanup);
		umask(0);
	}
	shell("mkdir -p sub/deep && echo hello >file && echo inside >sub/in && ln -sf /etc/passwd "
	      "abs && ln -sf ../../etc up && ln -sf file rel");
	s = p9_new(&o, &err);
	if (!s)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	CHECK_EQ(call(P9_TVERSION, "4s", L(65536), "9P2000.L"), 0);
	CHECK_EQ(ld_le32(rep + 7), 65536);
	CHECK_EQ(call(P9_TATTACH, "44ss4", L(0), L(P9_NOFID), "root", "", L(0)), 0);
	CHECK_EQ(rep[7], 0x80);
}

TEST(read_and_write)
{
	static uint8_t data[40000], back[40000];

	start(false, NULL);
	CHECK_EQ(walk(0, 1, "file"), 0);
	CHECK_EQ(call(P9_TLOPEN, "44", L(1), L(O_RDWR)), 0);
	CHECK_EQ(call(P9_TREAD, "484", L(1), L(0), L(100)), 0);
	CHECK(ld_le32(rep + 7) == 6 && !memcmp(rep + 11, "hello\n", 6));
	CHECK_EQ(call(P9_TREAD, "484", L(1), L(6), L(100)), 0);
	CHECK_EQ(ld_le32(rep + 7), 0);
	/* A large write and read back in odd pieces of guest memory. */
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = i * 31 >> 3;
	struct iovec in[3] = { { req, 20 }, { req + 20, 3 }, { data, sizeof(data) } },
		     out[3] = { { rep, 9 }, { rep + 9, 2 }, { back, sizeof(back) } };

	st_le32(req, 23 + sizeof(data));
	req[4] = P9_TWRITE;
	st_le32(req + 7, 1);
	st_le64(req + 11, 5);
	st_le32(req + 19, sizeof(data));
	CHECK_EQ(p9_handle(s, in, 3, out, 2), 11);
	CHECK_EQ(ld_le32(rep + 7), sizeof(data));
	st_le32(req, 23);
	req[4] = P9_TREAD;
	CHECK_EQ(p9_handle(s, in, 2, out, 3), 11 + sizeof(data));
	CHECK(!memcmp(data, back, sizeof(data)));
	CHECK_EQ(call(P9_TFSYNC, "44", L(1), L(0)), 0);
	CHECK_EQ(call(P9_TGETATTR, "48", L(1), ~L(0)), 0);
	CHECK_EQ(ld_le64(rep + 7 + 8 + 13 + 12 + 16), 5 + sizeof(data));
	CHECK_EQ(call(P9_TCLUNK, "4", L(1)), 0);
	CHECK_EQ(call(P9_TCLUNK, "4", L(1)), -EBADF);
	shell("test $(stat -c %%s file) = 40005");
}

static unsigned descriptors(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/*
 * An open file costs the host one descriptor, whatever is done with it then; a clone of its fid
 * does not keep its locks.
 */
TEST(descriptors)
{
	unsigned before;

	start(false, NULL);
	before = descriptors();
	for (unsigned i = 0; i < 50; i++) {
		CHECK_EQ(walk(0, 100 + i, i % 2 ? "sub" : "file"), 0);
		CHECK_EQ(call(P9_TLOPEN, "44", L(100 + i), L(O_RDONLY)), 0);
	}
	CHECK_EQ(descriptors(), before + 50);
	CHECK_EQ(walk(0, 200, "sub"), 0);
	CHECK_EQ(call(P9_TLCREATE, "4s444", L(200), "made", L(O_RDWR), L(0644), L(getegid())), 0);
	CHECK_EQ(descriptors(), before + 51);
	CHECK_EQ(call(P9_TLOCK, "4148" "84s", L(200), L(1), L(0), L(0), L(0), L(1), "guest"), 0);
	CHECK_EQ(rep[7], 0);
	CHECK_EQ(walk(200, 201, ""), 0);
	CHECK_EQ(walk(201, 202, ""), 0);
	CHECK_EQ(call(P9_TLOPEN, "44", L(202), L(O_RDWR)), 0);
	CHECK_EQ(call(P9_TLOCK, "4148" "84s", L(202), L(1), L(0), L(0), L(0), L(2), "guest"), 0);
	CHECK_EQ(rep[7], 1);	/* blocked: the first one has it */
	CHECK_EQ(call(P9_TCLUNK, "4", L(200)), 0);
	CHECK_EQ(call(P9_TLOCK, "4148" "84s", L(202), L(1), L(0), L(0), L(0), L(2), "guest"), 0);
	CHECK_EQ(rep[7], 0);
	/* What is open may be changed, and its name looked up. */
	CHECK_EQ(call(P9_TSETATTR,
		      "44444"
		      "88888",
		      L(202), L(1 | 8), L(0600), L(0), L(0), L(3), L(0), L(0), L(0), L(0)),
		 0);
	shell("test $(stat -c %%a:%%s sub/made) = 600:3");
	CHECK_EQ(call(P9_TREMOVE, "4", L(202)), 0);
	shell("test ! -e sub/made");
	for (unsigned i = 0; i < 50; i++)
		CHECK_EQ(call(P9_TCLUNK, "4", L(100 + i)), 0);
	CHECK_EQ(call(P9_TCLUNK, "4", L(201)), 0);
	CHECK_EQ(descriptors(), before);
}

/* Every way out that a name can be. */
TEST(escapes)
{
	static const char *const outs[] = { "../etc",	     "..",  "abs/x", "up/passwd",
					    "sub/../../etc", "abs", NULL };
	struct stat root, now;

	start(false, NULL);
	stat(dir, &root);
	/* ".." at the root stays there; below it goes up as far as the root. */
	CHECK_EQ(walk(0, 1, "sub/../../../.."), 0);
	CHECK_EQ(fstat(p9_fid_get(s, 1)->path, &now), 0);
	CHECK(now.st_ino == root.st_ino && now.st_dev == root.st_dev);
	for (const char *const *p = outs; *p; p++) {
		unsigned fid = 10 + (p - outs);

		if (walk(0, fid, *p) < 0)
			continue;
		/* A symlink as such may be had, never followed. */
		CHECK(fstat(p9_fid_get(s, fid)->path, &now) == 0);
		CHECK(S_ISLNK(now.st_mode) ||
		      (now.st_ino == root.st_ino && now.st_dev == root.st_dev));
		if (S_ISLNK(now.st_mode))
			CHECK_EQ(call(P9_TLOPEN, "44", L(fid), L(0)), -ELOOP);
	}
	CHECK_EQ(call(P9_TWALK, "442s", L(0), L(30), L(1), "sub/in"), -ENOENT);
	CHECK_EQ(call(P9_TWALK, "442s", L(0), L(30), L(1), "/etc"), -ENOENT);
	CHECK_EQ(call(P9_TWALK, "442s", L(0), L(30), L(1), ""), -ENOENT);
	CHECK_EQ(walk(0, 30, ""), 0);
	CHECK_EQ(call(P9_TLCREATE, "4s444", L(30), "../x", L(O_RDWR), L(0644), L(0)), -EINVAL);
	CHECK_EQ(call(P9_TLCREATE, "4s444", L(30), "abs", L(O_RDWR | O_TRUNC), L(0644), L(0)),
		 -ELOOP);
	CHECK_EQ(call(P9_TMKDIR, "4s44", L(0), "..", L(0755), L(0)), -EINVAL);
	CHECK_EQ(call(P9_TSYMLINK, "4ss4", L(0), "a/b", "x", L(0)), -EINVAL);
	CHECK_EQ(call(P9_TUNLINKAT, "4s4", L(0), "../x", L(0)), -EINVAL);
	CHECK_EQ(call(P9_TRENAMEAT, "4s4s", L(0), "file", L(0), "../file"), -EINVAL);
	CHECK_EQ(call(P9_TMKNOD, "4s4444", L(0), "null", L(S_IFCHR | 0666), L(1), L(3), L(0)),
		 -EPERM);
	/* FIFOs exist, but are not opened here: that would block, or reach a host program. */
	CHECK_EQ(call(P9_TMKNOD, "4s4444", L(0), "fifo", L(S_IFIFO | 0666), L(0), L(0), L(0)), 0);
	CHECK_EQ(walk(0, 31, "fifo"), 0);
	CHECK_EQ(call(P9_TLOPEN, "44", L(31), L(O_RDWR)), -EACCES);
}

/*
 * A folder is swapped for a symlink to the outside again and again while names below it are walked.
 */
static bool race_over;
static void *swapper(void *arg)
{
	char a[100], b[100], c[100];

	snprintf(a, sizeof(a), "%s/sub", dir);
	snprintf(b, sizeof(b), "%s/real", dir);
	snprintf(c, sizeof(c), "%s/link", dir);
	while (!__atomic_load_n(&race_over, __ATOMIC_RELAXED)) {
		rename(a, b);
		rename(c, a);
		rename(a, c);
		rename(b, a);
	}
	return NULL;
}

TEST(races)
{
	struct stat want, now;
	unsigned good = 0;
	pthread_t t;
	char path[100];

	start(false, NULL);
	shell("ln -s /etc link && cp /etc/passwd sub/passwd");
	snprintf(path, sizeof(path), "%s/sub/passwd", dir);
	stat(path, &want);
	pthread_create(&t, NULL, swapper, NULL);
	for (int i = 0; i < 20000; i++) {
		if (walk(0, 1, "sub/passwd") < 0)
			continue;
		CHECK(fstat(p9_fid_get(s, 1)->path, &now) == 0);
		CHECK(now.st_ino == want.st_ino && now.st_dev == want.st_dev);
		CHECK_EQ(call(P9_TCLUNK, "4", L(1)), 0);
		good++;
	}
	race_over = true;
	pthread_join(t, NULL);
	CHECK(good > 10);
}

TEST(folders_names_and_links)
{
	char names[4096] = "";
	uint64_t off = 0;

	start(false, NULL);
	shell("for i in $(seq 300); do : >sub/name$i; done");
	CHECK_EQ(walk(0, 1, "sub"), 0);
	CHECK_EQ(call(P9_TLOPEN, "44", L(1), L(O_DIRECTORY)), 0);
	for (;;) {
		uint8_t *p = rep + 11, *end;

		CHECK_EQ(call(P9_TREADDIR, "484", L(1), off, L(700)), 0);
		end = p + ld_le32(rep + 7);
		CHECK(end - p <= 700);
		if (p == end)
			break;
		for (; p < end; p += 24 + ld_le16(p + 22)) {
			off = ld_le64(p + 13);
			if (ld_le16(p + 22) == 7 && !memcmp(p + 24, "name", 4))
				snprintf(names + strlen(names), 9, "%.7s,", p + 24);
		}
	}
	for (int i = 100; i <= 300; i++) {
		char one[16];

		snprintf(one, sizeof(one), "name%d,", i);
		CHECK(strstr(names, one) && !strstr(strstr(names, one) + 1, one));
	}
	CHECK_EQ(call(P9_TMKDIR, "4s44", L(0), "new", L(01755), L(getgid())), 0);
	CHECK_EQ(walk(0, 2, "new"), 0);
	CHECK_EQ(call(P9_TLCREATE, "4s444", L(2), "f", L(O_RDWR | O_EXCL), L(04711), L(getgid())),
		 0);
	shell("test $(stat -c %%a new) = 1755 && test $(stat -c %%a new/f) = 4711");
	CHECK_EQ(call(P9_TSYMLINK, "4ss4", L(0), "ln", "new/f", L(getgid())), 0);
	CHECK_EQ(walk(0, 3, "ln"), 0);
	CHECK_EQ(call(P9_TREADLINK, "4", L(3)), 0);
	CHECK(ld_le16(rep + 7) == 5 && !memcmp(rep + 9, "new/f", 5));
	/*
	 * Hard links, also of a symlink itself; rename over what exists; a fid survives its file's
	 * new name.
	 */
	CHECK_EQ(call(P9_TLINK, "44s", L(0), L(2), "hard"), 0);
	shell("test $(stat -c %%h hard) = 2");
	CHECK_EQ(call(P9_TLINK, "44s", L(0), L(3), "ln2"), 0);
	shell("test -L ln2");
	CHECK_EQ(call(P9_TRENAMEAT, "4s4s", L(0), "hard", L(0), "file"), 0);
	CHECK_EQ(walk(0, 4, "file"), 0);
	CHECK_EQ(walk(0, 5, "sub"), 0);
	CHECK_EQ(call(P9_TRENAME, "44s", L(4), L(5), "moved"), 0);
	shell("test -e sub/moved && ! test -e file");
	CHECK_EQ(call(P9_TWRITE, "4844", L(2), L(0), L(4), L(0x64636261)), 0);
	shell("test $(cat sub/moved) = abcd");
	CHECK_EQ(call(P9_TUNLINKAT, "4s4", L(5), "moved", L(0)), 0);
	CHECK_EQ(call(P9_TUNLINKAT, "4s4", L(0), "sub", L(AT_REMOVEDIR)), -ENOTEMPTY);
	CHECK_EQ(call(P9_TUNLINKAT, "4s4", L(0), "sub", L(0)), -EISDIR);
	/* The unlinked, open file lives on. */
	shell("rm -r new");
	CHECK_EQ(call(P9_TREAD, "484", L(2), L(0), L(10)), 0);
	CHECK_EQ(ld_le32(rep + 7), 4);
	CHECK_EQ(call(P9_TGETATTR, "48", L(2), ~L(0)), 0);
	CHECK_EQ(call(P9_TREMOVE, "4", L(3)), 0);
	shell("! test -L ln");
	CHECK_EQ(call(P9_TCLUNK, "4", L(3)), -EBADF);
}

TEST(attributes_and_locks)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5 };
	char path[100];
	int fd;

	start(false, NULL);
	CHECK_EQ(walk(0, 1, "file"), 0);
	CHECK_EQ(call(P9_TSETATTR,
		      "444448"
		      "8888",
		      L(1), L(1 | 8 | 0x10 | 0x80 | 0x20 | 0x100), L(0640), L(0), L(0), L(3),
		      L(1000), L(5), L(2000), L(6)),
		 0);
	shell("test \"$(stat -c '%%a %%s %%X %%Y' file)\" = '640 3 1000 2000'");
	CHECK_EQ(call(P9_TSETATTR,
		      "444448"
		      "8888",
		      L(1), L(0x10 | 0x80), L(0), L(0), L(0), L(0), L(1), L(1000000000), L(0),
		      L(0)),
		 -EINVAL);
	/*
	 * Extended attributes: set, list, read, replace by nothing; others' name spaces are closed.
	 */
	CHECK_EQ(walk(1, 2, ""), 0);
	CHECK_EQ(call(P9_TXATTRCREATE, "4s84", L(2), "security.selinux", L(4), L(0)), -EOPNOTSUPP);
	CHECK_EQ(call(P9_TXATTRCREATE, "4s84", L(2), "user.colour", L(4), L(0)), 0);
	CHECK_EQ(call(P9_TWRITE, "4844", L(2), L(0), L(4), L(0x65756c62)), 0);
	int ret = call(P9_TCLUNK, "4", L(2));

	snprintf(path, sizeof(path), "%s/file", dir);
	if (ret != -EOPNOTSUPP) {
		char v[8] = "";

		CHECK_EQ(ret, 0);
		CHECK(getxattr(path, "user.colour", v, 8) == 4 && !memcmp(v, "blue", 4));
		CHECK_EQ(call(P9_TXATTRWALK, "44s", L(1), L(3), ""), 0);
		CHECK_EQ(ld_le64(rep + 7), 12);
		CHECK_EQ(call(P9_TREAD, "484", L(3), L(0), L(100)), 0);
		CHECK(ld_le32(rep + 7) == 12 && !memcmp(rep + 11, "user.colour", 12));
		CHECK_EQ(call(P9_TXATTRWALK, "44s", L(1), L(4), "user.none"), -ENODATA);
		/* Too little written before the clunk: nothing is set. */
		CHECK_EQ(walk(1, 5, ""), 0);
		CHECK_EQ(call(P9_TXATTRCREATE, "4s84", L(5), "user.half", L(10), L(0)), 0);
		CHECK_EQ(call(P9_TWRITE, "4844", L(5), L(0), L(4), L(1)), 0);
		CHECK_EQ(call(P9_TWRITE, "4844", L(5), L(9), L(4), L(1)), -EINVAL);
		CHECK_EQ(call(P9_TCLUNK, "4", L(5)), -EINVAL);
		CHECK(getxattr(path, "user.half", v, 8) < 0);
	}
	/* The host holds a lock: the guest is told so, not blocked. */
	fd = open(path, O_RDWR);
	CHECK(fcntl(fd, F_OFD_SETLK, &fl) == 0);
	CHECK_EQ(call(P9_TLOPEN, "44", L(1), L(O_RDWR)), 0);
	CHECK_EQ(call(P9_TLOCK, "41" "4884s", L(1), L(1), L(0), L(0), L(0), L(7), "guest"), 0);
	CHECK_EQ(rep[7], 1);
	CHECK_EQ(call(P9_TGETLOCK, "41" "884s", L(1), L(1), L(0), L(0), L(7), "guest"), 0);
	CHECK(rep[7] == 1 && ld_le64(rep + 8) == 10 && ld_le64(rep + 16) == 5);
	CHECK_EQ(call(P9_TLOCK, "41" "4884s", L(1), L(1), L(0), L(20), L(5), L(7), "guest"), 0);
	CHECK_EQ(rep[7], 0);
	fl.l_start = 20;
	CHECK(fcntl(fd, F_OFD_SETLK, &fl) < 0);
	CHECK_EQ(call(P9_TCLUNK, "4", L(1)), 0);
	CHECK(fcntl(fd, F_OFD_SETLK, &fl) == 0);
	CHECK_EQ(call(P9_TSTATFS, "4", L(0)), 0);
}

TEST(readonly_and_hidden)
{
	char secret[100], folder[100];
	const char *hide[] = { secret, folder, "/nonexistent", NULL };

	CHECK(mkdtemp(dir));
	atexit(cleanup);
	umask(0);
	shell("mkdir -p sub .ssh && echo key >.ssh/id && echo s >secret");
	snprintf(secret, sizeof(secret), "%s/secret", dir);
	snprintf(folder, sizeof(folder), "%s/.ssh", dir);
	s = (void *)1;
	start(true, hide);
	CHECK_EQ(walk(0, 1, "secret"), -ENOENT);
	CHECK_EQ(walk(0, 1, ".ssh/id"), -EXDEV);
	CHECK_EQ(walk(0, 1, ".ssh"), 0);
	CHECK_EQ(call(P9_TLOPEN, "44", L(1), L(0)), 0);
	CHECK_EQ(call(P9_TREADDIR, "484", L(1), L(0), L(1000)), 0);
	CHECK_EQ(ld_le32(rep + 7), 0);
	CHECK_EQ(walk(0, 2, ""), 0);
	CHECK_EQ(call(P9_TLOPEN, "44", L(2), L(0)), 0);
	CHECK_EQ(call(P9_TREADDIR, "484", L(2), L(0), L(4000)), 0);
	CHECK(!memmem(rep, ld_le32(rep), "secret", 6) && memmem(rep, ld_le32(rep), ".ssh", 4));
	CHECK_EQ(walk(0, 3, "file"), 0);
	CHECK_EQ(call(P9_TLOPEN, "44", L(3), L(O_WRONLY)), -EROFS);
	CHECK_EQ(call(P9_TLOPEN, "44", L(3), L(O_TRUNC)), -EROFS);
	CHECK_EQ(call(P9_TMKDIR, "4s44", L(0), "x", L(0755), L(0)), -EROFS);
	CHECK_EQ(call(P9_TUNLINKAT, "4s4", L(0), "file", L(0)), -EROFS);
	/* Writable, the hidden names are still not to be touched. */
	p9_free(s);
	start(false, hide);
	CHECK_EQ(call(P9_TUNLINKAT, "4s4", L(0), "secret", L(0)), -EACCES);
	CHECK_EQ(call(P9_TRENAMEAT, "4s4s", L(0), "file", L(0), "secret"), -EACCES);
	CHECK_EQ(call(P9_TRENAMEAT, "4s4s", L(0), ".ssh", L(0), "open"), -EACCES);
	CHECK_EQ(walk(0, 4, ""), 0);
	CHECK_EQ(call(P9_TLCREATE, "4s444", L(4), "secret", L(O_RDWR | O_TRUNC), L(0644), L(0)),
		 -EACCES);
	shell("test $(cat secret) = s");
}

/*
 * A hidden name stays hidden when the host puts another file in its place, and comes into being for
 * nobody.
 */
TEST(hidden_names)
{
	char secret[100], folder[100];
	const char *hide[] = { secret, folder, NULL };

	CHECK(mkdtemp(dir));
	atexit(cleanup);
	umask(0);
	shell("mkdir -p sub && echo s >secret");
	snprintf(secret, sizeof(secret), "%s/secret", dir);
	snprintf(folder, sizeof(folder), "%s/sub/.ssh/", dir);
	s = (void *)1;
	start(false, hide);
	shell("echo changed >new && mv new secret");
	CHECK_EQ(walk(0, 1, "secret"), -ENOENT);
	CHECK_EQ(walk(0, 1, ""), 0);
	CHECK_EQ(call(P9_TLOPEN, "44", L(1), L(0)), 0);
	CHECK_EQ(call(P9_TREADDIR, "484", L(1), L(0), L(4000)), 0);
	CHECK(!memmem(rep, ld_le32(rep), "secret", 6));
	CHECK_EQ(walk(0, 2, "sub"), 0);
	CHECK_EQ(call(P9_TMKDIR, "4s44", L(2), ".ssh", L(0700), L(0)), -EACCES);
	CHECK_EQ(call(P9_TSYMLINK, "4ss4", L(2), ".ssh", "x", L(0)), -EACCES);
	CHECK_EQ(call(P9_TMKNOD, "4s4444", L(2), ".ssh", L(S_IFREG | 0666), L(0), L(0), L(0)),
		 -EACCES);
	CHECK_EQ(walk(0, 3, "file"), 0);
	CHECK_EQ(call(P9_TLINK, "44s", L(2), L(3), ".ssh"), -EACCES);
	CHECK_EQ(call(P9_TRENAMEAT, "4s4s", L(0), "file", L(2), ".ssh"), -EACCES);
	CHECK_EQ(call(P9_TRENAME, "44s", L(3), L(2), ".ssh"), -EACCES);
	/* Made by the host meanwhile, it is empty. */
	shell("mkdir sub/.ssh && echo key >sub/.ssh/id");
	CHECK_EQ(walk(0, 4, "sub/.ssh/id"), -EXDEV);
	/* Moving the folder it is in does not uncover it. */
	CHECK_EQ(call(P9_TRENAMEAT, "4s4s", L(0), "sub", L(0), "bus"), 0);
	CHECK_EQ(walk(0, 5, "bus/.ssh/id"), -EXDEV);
}

/*
 * While a folder and a symbolic link to the outside change places, things are made, moved, changed
 * and removed below it.
 */
TEST(races_of_every_operation)
{
	static char outside[] = "/tmp/minivmm-p9-out-XXXXXX";
	char cmd[300], path[64];
	struct stat before, after;
	unsigned worked = 0;
	pthread_t t;

	CHECK(mkdtemp(outside));
	start(false, NULL);
	shell("ln -s %s link && echo secret >%s/in && mkdir %s/d && chmod 640 %s/in && touch -d "
	      "@1000 %s/in %s/d %s && cp %s/in sub/in",
	      outside, outside, outside, outside, outside, outside, outside, outside);
	snprintf(path, sizeof(path), "%s/in", outside);
	stat(outside, &before);
	race_over = false;
	pthread_create(&t, NULL, swapper, NULL);
	/* The two threads may take long turns on a busy machine. */
	for (int i = 0; i < 4000 || (worked <= 10 && i < 4000000); i++) {
		if (walk(0, 1, "sub") < 0)
			continue;
		if (walk(1, 2, "in") == 0) {
			call(P9_TSETATTR,
			     "444448"
			     "8888",
			     L(2), L(1 | 0x10 | 0x20), L(0666), L(0), L(0), L(0), L(0), L(0), L(0),
			     L(0));
			if (call(P9_TLOPEN, "44", L(2), L(O_RDWR)) == 0)
				call(P9_TWRITE, "4844", L(2), L(0), L(4), L(0x21212121));
			call(P9_TCLUNK, "4", L(2));
		}
		if (walk(0, 3, "sub") == 0) {
			if (call(P9_TLCREATE, "4s444", L(3), "new", L(O_RDWR | O_TRUNC), L(0666),
				 L(0)) == 0)
				worked++;
			call(P9_TCLUNK, "4", L(3));
		}
		call(P9_TMKDIR, "4s44", L(1), "d", L(07777), L(0));
		call(P9_TSYMLINK, "4ss4", L(1), "l", "/etc", L(0));
		call(P9_TRENAMEAT, "4s4s", L(1), "new", L(1), "newer");
		call(P9_TUNLINKAT, "4s4", L(1), "newer", L(0));
		call(P9_TUNLINKAT, "4s4", L(1), "l", L(0));
		call(P9_TUNLINKAT, "4s4", L(1), "d", L(AT_REMOVEDIR));
		call(P9_TCLUNK, "4", L(1));
	}
	race_over = true;
	pthread_join(t, NULL);
	CHECK(worked > 10);
	stat(outside, &after);
	CHECK_EQ(after.st_mtim.tv_sec, before.st_mtim.tv_sec);
	CHECK_EQ(after.st_ctim.tv_nsec, before.st_ctim.tv_nsec);
	snprintf(cmd, sizeof(cmd),
		 "cd %s && test \"$(ls -A | tr '\\n' ' ')\" = 'd in ' && test $(cat in) = secret "
		 "&& test $(stat -c %%a in) = 640 && "
		 "test $(stat -c %%Y in) = 1000; r=$?; rm -rf %s; exit $r",
		 outside, outside);
	CHECK_EQ(system(cmd), 0);
}

/* Numbers that are taken, counts that lie, sessions that begin anew in the middle of one. */
TEST(hostile_numbers)
{
	static const uint32_t counts[] = { 0, 1, 4096, 65536, 0x7fffffff, 0x80000000, 0xffffffff };
	struct iovec in = { req, 23 }, out = { rep, 64 };

	start(false, NULL);
	CHECK_EQ(walk(0, 1, "file"), 0);
	/* A number in use is not given again; the file behind it stays. */
	CHECK_EQ(walk(0, 1, "sub"), -EINVAL);
	CHECK_EQ(call(P9_TATTACH, "44ss4", L(1), L(P9_NOFID), "root", "", L(0)), -EINVAL);
	CHECK_EQ(call(P9_TXATTRWALK, "44s", L(1), L(1), ""), -EBADF);
	CHECK_EQ(walk(0, P9_NOFID, "sub"), -EINVAL);
	CHECK_EQ(walk(7, 8, "sub"), -EBADF);
	CHECK_EQ(call(P9_TLOPEN, "44", L(1), L(O_RDWR)), 0);
	CHECK_EQ(call(P9_TLOPEN, "44", L(1), L(O_RDWR)), -EBADF);
	CHECK_EQ(walk(1, 1, "x"), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		/*
		 * As much as fits in 64 bytes of room, whatever is asked for; at the end of any
		 * offset nothing.
		 */
		st_le32(req, 23);
		req[4] = P9_TREAD;
		st_le32(req + 7, 1);
		st_le64(req + 11, 0);
		st_le32(req + 19, counts[i]);
		CHECK(p9_handle(s, &in, 1, &out, 1) <= 64);
		CHECK_EQ(rep[4], P9_TREAD + 1);
		CHECK(ld_le32(rep + 7) <= counts[i]);
		CHECK(call(P9_TREAD, "484", L(1), L(INT64_MAX), L(counts[i])) <= 0);
		CHECK_EQ(call(P9_TREAD, "484", L(1), ~L(0), L(counts[i])), -EINVAL);
		/* More than the message holds is not written. */
		if (counts[i])
			CHECK_EQ(call(P9_TWRITE, "484", L(1), L(0), L(counts[i])), -EINVAL);
		CHECK(call(P9_TSETATTR,
			   "444448"
			   "8888",
			   L(1), L(8), L(0), L(0), L(0), ~L(0) - counts[i], L(0), L(0), L(0),
			   L(0)) < 0);
	}
	shell("test $(cat file) = hello");
	CHECK_EQ(call(P9_TWALK, "442", L(0), L(9), L(17)), -EINVAL);
	CHECK_EQ(call(P9_TWALK, "442", L(0), L(9), L(65535)), -EINVAL);
	CHECK_EQ(call(P9_TWALK, "442", L(0), L(9), L(3)), -EPROTO);
	/* Sizes of messages: the least, the largest, too small to work with. */
	CHECK_EQ(call(P9_TVERSION, "4s", L(0), "9P2000.L"), 0);
	CHECK(!memcmp(rep + 13, "unknown", 7));
	CHECK_EQ(call(P9_TVERSION, "4s", L(4095), "9P2000.L"), 0);
	CHECK(!memcmp(rep + 13, "unknown", 7));
	CHECK_EQ(call(P9_TREAD, "484", L(1), L(0), L(1)), -EPROTO);
	CHECK_EQ(call(P9_TVERSION, "4s", L(0xffffffff), "9P2000.L"), 0);
	CHECK_EQ(ld_le32(rep + 7), P9_MSIZE_MAX);
	/* A new session in the middle of the old one: its numbers are free, its files closed. */
	CHECK_EQ(call(P9_TATTACH, "44ss4", L(0), L(P9_NOFID), "root", "", L(0)), 0);
	CHECK_EQ(walk(0, 1, "sub"), 0);
	CHECK_EQ(call(P9_TVERSION, "4s", L(65536), "9P2000.L"), 0);
	CHECK_EQ(p9_fids(s), 0);
	CHECK_EQ(call(P9_TGETATTR, "48", L(1), ~L(0)), -EBADF);
	CHECK_EQ(call(P9_TFLUSH, "2", L(99)), 0);
}

/* Attributes to be written take memory before they are: there is an end to it. */
TEST(memory_has_an_end)
{
	unsigned n = 0;

	start(false, NULL);
	for (int ret = 0; ret == 0; n++) {
		CHECK(n < 1000);
		CHECK_EQ(walk(0, n + 1, "file"), 0);
		ret = call(P9_TXATTRCREATE, "4s84", L(n + 1), "user.big", L(65536), L(0));
		CHECK(ret == 0 || ret == -ENFILE);
	}
	CHECK_EQ(n, (16 << 20) / 65536 + 1);
	CHECK_EQ(call(P9_TCLUNK, "4", L(1)), -EINVAL);
	CHECK_EQ(walk(0, 1, "file"), 0);
	CHECK_EQ(call(P9_TXATTRCREATE, "4s84", L(1), "user.big", L(65536), L(0)), 0);
}

/* The kernel's own file systems look empty: no /proc/self/mem, no /sys. */
/* The guest gets no descriptor that the machine itself may need. */
TEST(descriptors_have_an_end)
{
	struct rlimit rl;
	unsigned n = 1;
	int ret, fd;

	start(false, NULL);
	CHECK(getrlimit(RLIMIT_NOFILE, &rl) == 0);
	CHECK(s->fd_end > 0 && (rlim_t)s->fd_end + MIN((rlim_t)FDS_KEPT, rl.rlim_cur / 2) <=
				       rl.rlim_cur);
	s->fd_end = 300;
	while ((ret = walk(0, n, "file")) == 0)
		n++;
	CHECK_EQ(ret, -ENFILE);
	CHECK(n > 200 && n < 300);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && fd <= 300);
	close(fd);
	/* What the guest gives back it can have again. */
	CHECK_EQ(call(P9_TCLUNK, "4", L(7)), 0);
	CHECK_EQ(walk(0, 7, "file"), 0);
	CHECK_EQ(walk(0, n, "file"), -ENFILE);
	CHECK_EQ(call(P9_TATTACH, "44ss4", L(n), L(P9_NOFID), "root", "", L(0)), -ENFILE);
	p9_free(s);
}

TEST(kernel_file_systems)
{
	struct p9_opts o = { .path = "/", .readonly = false, .id = "9p0" };
	struct err err = { 0 };

	s = p9_new(&o, &err);
	CHECK(s);
	CHECK_EQ(call(P9_TVERSION, "4s", L(65536), "9P2000.L"), 0);
	CHECK_EQ(call(P9_TATTACH, "44ss4", L(0), L(P9_NOFID), "root", "", L(0)), 0);
	CHECK_EQ(walk(0, 1, "proc"), 0);
	CHECK_EQ(walk(0, 2, "proc/self"), -EXDEV);
	CHECK_EQ(walk(0, 2, "proc/1/environ"), -EXDEV);
	CHECK_EQ(walk(0, 2, "sys/kernel"), -EXDEV);
	CHECK_EQ(call(P9_TLOPEN, "44", L(1), L(0)), 0);
	CHECK_EQ(call(P9_TREADDIR, "484", L(1), L(0), L(1000)), 0);
	CHECK_EQ(ld_le32(rep + 7), 0);
	CHECK_EQ(walk(0, 3, "dev/null"), 0);
	CHECK_EQ(call(P9_TLOPEN, "44", L(3), L(O_RDWR)), -EACCES);
	p9_free(s);
}

/* Every type with random bodies; sizes that lie; no version. The server answers each and lives. */
TEST(noise)
{
	unsigned seed = 4;

	start(true, NULL);
	for (int i = 0; i < 100000; i++) {
		size_t len = 7 + rand_r(&seed) % 80, room = 4 + rand_r(&seed) % 300;
		struct iovec in = { req, len }, out = { rep, room };

		for (size_t k = 0; k < len; k++)
			req[k] = rand_r(&seed) % 3 ? rand_r(&seed) % 4 : rand_r(&seed) >> 8;
		st_le32(req, rand_r(&seed) % 8 ? len : (size_t)rand_r(&seed));
		req[4] = rand_r(&seed) % 4 ? (rand_r(&seed) % 64) * 2 : rand_r(&seed);
		if (req[4] == P9_TVERSION && rand_r(&seed) % 16)
			req[4] = P9_TWALK;
		if (p9_handle(s, &in, 1, &out, 1) > room)
			tap_fail(__FILE__, __LINE__, "an answer longer than its room");
	}
	CHECK_EQ(call(P9_TVERSION, "4s", L(65536), "9P2000.L"), 0);
	CHECK_EQ(p9_fids(s), 0);
	CHECK_EQ(call(P9_TATTACH, "44ss4", L(0), L(P9_NOFID), "root", "", L(0)), 0);
	CHECK_EQ(call(P9_TVERSION, "4s", L(65536), "9P2000.u"), 0);
	CHECK(!memcmp(rep + 13, "unknown", 7));
	CHECK_EQ(call(P9_TATTACH, "44ss4", L(0), L(P9_NOFID), "root", "", L(0)), -EPROTO);
}

TAP_MAIN
