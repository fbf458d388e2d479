/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unit tests of vmm/host.c: what it makes, what it leaves alone, what it takes away. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/host.h"

#define NOBODY 65534

static char dir[] = "/tmp/minivmm-unit-host-XXXXXX";
static struct err err;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void setup(void)
{
	umask(0);			/* modes are ours, whatever the umask lets through */
	cr_assert(mkdtemp(dir) && chdir(dir) == 0);
}

static void teardown(void)
{
	cr_assert(chdir("/") == 0);
	nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

TestSuite(host, .init = setup, .fini = teardown);

static int make(const char *path, const char *text, int mode)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, mode);

	cr_assert(fd >= 0 && write_full(fd, text, strlen(text)) == 0);
	return fd;
}

static bool holds(const char *path, const char *text)
{
	char buf[64] = "";
	int fd = open(path, O_RDONLY);
	bool same = fd >= 0 && read(fd, buf, sizeof(buf) - 1) == (ssize_t)strlen(text) &&
		    !strcmp(buf, text);

	close(fd);
	return same;
}

static ino_t inode(const char *path)
{
	struct stat st;

	return lstat(path, &st) ? 0 : st.st_ino;
}

static int bound(const char *path, int type)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type, 0);

	strcpy(sun.sun_path, path);
	cr_assert(bind(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0);
	return fd;
}

/* --- listening --- */

Test(host, a_listener_replaces_nothing_but_a_dead_socket)
{
	struct host_path own;
	int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };

	close(make("disk", "precious", 0600));
	cr_assert_eq(host_listen(&host_direct, "test", "unix:disk", &own, &err), -EEXIST);
	cr_assert(holds("disk", "precious") && strstr(err.msg, "no socket"));
	cr_assert(!own.path);
	cr_assert(symlink("disk", "link") == 0 && symlink("nothing", "dangling") == 0 &&
		  mkfifo("fifo", 0600) == 0 && mkdir("folder", 0700) == 0);
	cr_assert_eq(host_listen(&host_direct, "test", "unix:link", &own, &err), -EEXIST);
	cr_assert_eq(host_listen(&host_direct, "test", "unix:dangling", &own, &err), -EEXIST);
	cr_assert_eq(host_listen(&host_direct, "test", "unix:fifo", &own, &err), -EEXIST);
	cr_assert_eq(host_listen(&host_direct, "test", "unix:folder", &own, &err), -EEXIST);
	cr_assert(inode("link") && inode("dangling") && inode("fifo") && inode("folder") &&
		  !inode("nothing"));
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		int live = bound("sock", types[i]), fd;
		ino_t was = inode("sock");

		cr_assert_eq(host_listen(&host_direct, "test", "unix:sock", &own, &err),
			     -EADDRINUSE,
			     "type %d, bound", types[i]);
		cr_assert(inode("sock") == was);
		close(live);
		fd = host_listen(&host_direct, "test", "unix:sock", &own, &err);
		cr_assert_geq(fd, 0, "%s", err.msg);
		host_remove(&host_direct, &own);
		cr_assert(!inode("sock"));
		close(fd);
	}
}

Test(host, a_listener_that_waits_for_one_peer_does_not_see_the_probe)
{
	struct host_path own, other;
	int fd = host_listen(&host_direct, "test", "unix:sock", &own, &err);
	struct pollfd p = { fd, POLLIN, 0 };

	cr_assert_geq(fd, 0);
	cr_assert_eq(host_listen(&host_direct, "test", "unix:sock", &other, &err), -EADDRINUSE);
	cr_assert_eq(poll(&p, 1, 0), 0);
	cr_assert_eq(listen(fd, 0), 0);
	for (int i = 0; i < 4; i++) {
		/* with its queue full it is no less alive, and asking does not wait */
		struct sockaddr_un sun = { .sun_family = AF_UNIX, .sun_path = "sock" };
		int c = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

		(void)!connect(c, (struct sockaddr *)&sun, sizeof(sun));
	}
	cr_assert_eq(host_listen(&host_direct, "test", "unix:sock", &other, &err), -EADDRINUSE);
	host_remove(&host_direct, &own);
	close(fd);
}

Test(host, a_socket_is_ours_alone_from_the_start)
{
	struct host_path own;
	struct stat st;
	int fd = host_listen(&host_direct, "test", "unix:sock", &own, &err);

	cr_assert(fd >= 0 && stat("sock", &st) == 0);
	cr_assert_eq(st.st_mode & 07777, 0600);
	host_remove(&host_direct, &own);
	close(fd);
}

Test(host, at_the_end_only_our_own_path_goes)
{
	struct host_path own;
	int fd = host_listen(&host_direct, "test", "unix:sock", &own, &err), other;

	cr_assert_eq(unlink("sock"), 0);
	/* often the same inode number, had the old one been given back */
	other = bound("sock", SOCK_STREAM);
	host_remove(&host_direct, &own);
	cr_assert(inode("sock"));
	host_remove(&host_direct, &own);	/* holds nothing any more */
	close(other);
	close(fd);

	fd = make("pid", "1", 0600);
	host_own(&own, "pid", fd);
	cr_assert(rename("pid", "pid.old") == 0);
	close(make("pid", "2", 0600));
	host_remove(&host_direct, &own);
	cr_assert(holds("pid", "2") && holds("pid.old", "1"));
	host_own(&own, "pid.old", fd);
	host_remove(&host_direct, &own);
	cr_assert(!inode("pid.old"));
	close(fd);
	fd = open("/dev/null", O_WRONLY);
	cr_assert_eq(host_unlink(&host_direct, "/dev/null", fd), -ESTALE);
	cr_assert(inode("/dev/null"));
}

Test(host, ports)
{
	struct host_path own;
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	int fd;

	cr_assert_eq(host_listen(&host_direct, "test", "tcp::65536", &own, &err), -EINVAL);
	cr_assert_eq(host_listen(&host_direct, "test", "tcp::70000", &own, &err), -EINVAL);
	fd = host_listen(&host_direct, "test", "tcp::0", &own, &err);
	cr_assert(fd >= 0 && !own.path && getsockname(fd, (struct sockaddr *)&sa, &len) == 0);
	cr_assert(((struct sockaddr_in *)&sa)->sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	host_remove(&host_direct, &own);
	close(fd);
}

/* --- output --- */

static int output(const char *path)
{
	int fd;

	err.msg[0] = 0;
	fd = host_open(&host_direct, "test", path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &err);
	if (fd >= 0) {
		cr_assert_eq(write_full(fd, "new", 3), 0);
		close(fd);
	}
	return MIN(fd, 0);
}

Test(host, links_of_ours_are_followed)
{
	close(make("log", "old", 0600));
	cr_assert(symlink("log", "a") == 0 && symlink("a", "b") == 0 &&
		  symlink("fresh", "c") == 0 && symlink("loop", "loop") == 0);
	cr_assert_eq(output("b"), 0);
	cr_assert(holds("log", "new"));
	cr_assert_eq(output("c"), 0);
	cr_assert(holds("fresh", "new"));
	cr_assert_eq(output("loop"), -ELOOP);
	cr_assert_eq(output("/nowhere/x"), -ENOENT);
}

Test(host, links_of_another_user_are_not)
{
	if (geteuid())
		cr_skip_test("needs root to make another user's link");
	close(make("victim", "precious", 0600));
	cr_assert(symlink("victim", "trap") == 0 && lchown("trap", NOBODY, NOBODY) == 0 &&
		  symlink("trap", "ours") == 0);
	cr_assert(symlink("made", "trap2") == 0 && lchown("trap2", NOBODY, NOBODY) == 0);
	cr_assert_eq(output("trap"), -ELOOP);
	cr_assert_eq(output("ours"), -ELOOP);
	cr_assert(strstr(err.msg, "'./trap'") && strstr(err.msg, "another user"), "%s", err.msg);
	cr_assert_eq(output("trap2"), -ELOOP);
	cr_assert(holds("victim", "precious") && !inode("made"));
}

Test(host, another_users_file_in_a_public_folder_is_not_written)
{
	if (geteuid())
		cr_skip_test("needs root to make another user's file");
	close(make("bait", "bait", 0666));
	cr_assert(chown("bait", NOBODY, NOBODY) == 0);
	cr_assert_eq(output("bait"), 0);	/* in a folder of ours it was put by us */
	cr_assert(chmod(dir, 01777) == 0);
	cr_assert_eq(output("bait"), -EACCES);
	cr_assert(holds("bait", "new") && chown("bait", 0, 0) == 0);
	cr_assert_eq(output("bait"), 0);
}

Test(host, a_disk_in_use_is_not_emptied)
{
	struct flock l = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1 };
	int fd = make("disk", "precious", 0600);

	cr_assert(fcntl(fd, F_OFD_SETLK, &l) == 0);
	cr_assert_eq(output("disk"), -EBUSY);
	cr_assert(holds("disk", "precious"));
	close(fd);
	cr_assert_eq(output("disk"), 0);
	cr_assert(holds("disk", "new"));
}

Test(host, what_has_no_path_of_its_own_can_still_be_written_to)
{
	char path[40], buf[4] = "";
	int p[2];

	cr_assert(pipe(p) == 0);
	snprintf(path, sizeof(path), "/dev/fd/%d", p[1]);
	cr_assert_eq(output(path), 0);
	cr_assert(read(p[0], buf, 3) == 3 && !strcmp(buf, "new"));
	cr_assert_eq(output("/dev/null"), 0);
}

Test(host, a_temporary_file_has_no_name)
{
	int fd = host_temporary(&host_direct, "test", dir, &err);
	struct stat st;

	cr_assert(fd >= 0 && fstat(fd, &st) == 0, "%s", err.msg);
	cr_assert(st.st_nlink == 0 && (st.st_mode & 07777) == 0600);
	cr_assert(write(fd, "x", 1) == 1 && lseek(fd, 0, SEEK_SET) == 0 &&
		  read(fd, &(char){ 0 }, 1) == 1);
	cr_assert(rmdir(dir) == 0);		/* nothing is in it */
	cr_assert(mkdir(dir, 0700) == 0 && chdir(dir) == 0);
	close(fd);
	cr_assert_eq(host_temporary(&host_direct, "test", "/nowhere", &err), -ENOENT);
}
