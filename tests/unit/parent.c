/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vmm/parent: messages that are whole and such as are not; what the server does for whom. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/parent/server.h"
#include "vmm/parent/wire.h"

static struct wire_call a, b;

Test(parent, a_message_is_what_it_was)
{
	char *argv[] = { "/bin/echo", "", "two words", NULL };
	struct host_call c = { .op = HOST_SPAWN, .origin = HOST_IMAGE, .from = "disk",
			       .name = "n", .argv = argv, .flags = -7, .mode = 0644, .fd = 3,
			       .fd2 = -1 };

	cr_assert_eq(wire_pack(&a, &c), 0);
	memcpy(b.buf, a.buf, a.len);
	b.len = a.len;
	cr_assert_eq(wire_unpack(&b), 0);
	cr_assert(b.c.op == c.op && b.c.origin == c.origin && b.c.flags == -7 && b.c.mode == 0644);
	cr_assert(b.has_fd && !b.has_fd2);
	cr_assert(!strcmp(b.c.from, "disk") && !strcmp(b.c.name, "n"));
	cr_assert(!b.c.purpose && !b.c.other);
	for (int i = 0; i < 3; i++)
		cr_assert(!strcmp(b.c.argv[i], argv[i]));
	cr_assert(!b.c.argv[3]);
	/* Cut anywhere, or longer: none. */
	for (size_t len = 0; len < a.len; len++) {
		memcpy(b.buf, a.buf, len);
		b.len = len;
		cr_assert_eq(wire_unpack(&b), -EPROTO, "%zu of %zu bytes", len, a.len);
	}
	memcpy(b.buf, a.buf, a.len);
	b.buf[a.len] = 0;
	b.len = a.len + 1;
	cr_assert_eq(wire_unpack(&b), -EPROTO);
}

Test(parent, too_much_is_refused)
{
	char *many[WIRE_ARGS + 2], *large = malloc(WIRE_MAX + 1);
	struct host_call c = { .op = HOST_SPAWN, .argv = many };

	for (int i = 0; i <= WIRE_ARGS; i++)
		many[i] = "x";
	many[WIRE_ARGS + 1] = NULL;
	cr_assert_eq(wire_pack(&a, &c), -E2BIG);
	memset(large, 'x', WIRE_MAX);
	large[WIRE_MAX] = 0;
	c = (struct host_call){ .op = HOST_OPEN, .name = large };
	cr_assert_eq(wire_pack(&a, &c), -E2BIG);
	free(large);
}

/* Whatever comes: refused, or every text ends in the message. */
Test(parent, noise)
{
	unsigned seed = 1;

	for (int round = 0; round < 200000; round++) {
		struct wire_request r = { .op = round % (WIRE_OPS + 2), .argc = round % 70 };

		b.len = sizeof(r) + rand_r(&seed) % 40;
		memcpy(b.buf, &r, sizeof(r));
		for (size_t i = sizeof(r); i < b.len; i++)
			b.buf[i] = rand_r(&seed) % 3;
		if (wire_unpack(&b) < 0)
			continue;
		cr_assert_lt(b.c.op, WIRE_OPS);
		for (int i = 0; b.c.argv && b.c.argv[i]; i++)
			cr_assert_lt(b.c.argv[i] + strlen(b.c.argv[i]), b.buf + b.len);
		if (b.c.name)
			cr_assert_lt(b.c.name + strlen(b.c.name), b.buf + b.len);
	}
}

/* --- the server --- */

static int prepared;

static int prepare(void *ctx, struct err *err)
{
	return prepared++ ? err_set(err, EBUSY, "twice") : 0;
}

static void ready(void *ctx)
{
}

static void listens(void *ctx, const char *what, const char *path, bool now)
{
}

static void has_disk(void *ctx, const struct stat *st)
{
}

static const struct server_ops ops = { prepare, ready, listens, has_disk };
static int sock;

static void start(void)
{
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	sock = pair[0];
	server_init(pair[1], getpid(), &ops, NULL);
	cr_assert_eq(server_start(), 0);
}

/* The answer; its descriptors in fds. False: none came. */
static bool say(const void *buf, size_t len, const int *with, int nwith, struct wire_answer *ans,
		int *fds)
{
	int pair[2], out[WIRE_FDS + 2] = { 0 }, n = WIRE_FDS, got;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	out[0] = pair[1];
	for (int i = 0; i < nwith; i++)
		out[1 + i] = with[i];
	cr_assert_gt(wire_send(sock, buf, len, out, 1 + nwith, 0), 0);
	close(pair[1]);
	got = wire_recv(pair[0], ans, sizeof(*ans), fds, &n, 0);
	close(pair[0]);
	return got == sizeof(*ans);
}

static int ask(struct host_call c, struct wire_answer *ans, int *fds)
{
	int with[2], n = 0;

	if (c.fd >= 0)
		with[n++] = c.fd;
	if (c.fd2 >= 0)
		with[n++] = c.fd2;
	cr_assert_eq(wire_pack(&a, &c), 0);
	cr_assert(say(a.buf, a.len, with, n, ans, fds));
	return ans->ret;
}

Test(parent, a_descriptor_comes_across)
{
	struct wire_answer ans;
	int fds[WIRE_FDS];
	struct host_call c = { .op = HOST_OPEN, .name = "/dev/null", .flags = O_RDWR, .fd = -1,
			       .fd2 = -1 };

	start();
	cr_assert_geq(ask(c, &ans, fds), 0);
	cr_assert(ans.has_fd && write(fds[0], "x", 1) == 1);
	close(fds[0]);
	c.name = "/nowhere/at all";
	cr_assert_eq(ask(c, &ans, fds), -ENOENT);
	cr_assert(!ans.has_fd && strstr(ans.why, "/nowhere/at all"));
	c.name = NULL;
	cr_assert_eq(ask(c, &ans, fds), -EPROTO);
}

Test(parent, noise_is_dropped_and_the_next_is_answered)
{
	struct wire_request r = { .op = HOST_OPEN, .has_fd = 1 };
	struct host_call c = { .op = HOST_STAT, .name = "/", .fd = -1, .fd2 = -1 };
	struct wire_answer ans;
	int fds[WIRE_FDS], null = open("/dev/null", O_RDONLY);
	const int two[] = { null, null };

	start();
	cr_assert(!say("x", 1, NULL, 0, &ans, fds));
	cr_assert(!say(&r, sizeof(r), NULL, 0, &ans, fds));	/* no texts */
	cr_assert_eq(wire_pack(&a, &c), 0);
	cr_assert(!say(a.buf, a.len, two, 2, &ans, fds));	/* descriptors nobody named */
	cr_assert_gt(wire_send(sock, a.buf, a.len, NULL, 0, 0), 0);	/* nowhere to answer to */
	cr_assert_eq(ask(c, &ans, fds), 0);
	cr_assert(S_ISDIR(ans.st.st_mode));
}

Test(parent, only_its_own_programs_are_killed_and_waited_for)
{
	char *argv[] = { "/bin/sleep", "100", NULL };
	struct host_call c = { .op = HOST_SPAWN, .name = argv[0], .argv = argv, .fd = -1,
			       .fd2 = -1 };
	struct host_call other = { .op = HOST_KILL, .mode = SIGKILL, .fd = -1, .fd2 = -1 };
	struct wire_answer ans;
	int fds[WIRE_FDS], pid, stranger;

	start();
	pid = ask(c, &ans, fds);
	cr_assert_gt(pid, 0);
	stranger = fork();
	if (!stranger) {
		pause();
		_exit(0);
	}
	for (int i = 0; i < 4; i++) {
		other.flags = (int[]){ stranger, -1, 0, getpid() }[i];
		cr_assert_eq(ask(other, &ans, fds), -ESRCH);
	}
	other.op = HOST_WAIT;
	other.flags = stranger;
	cr_assert_eq(ask(other, &ans, fds), -ECHILD);
	cr_assert_eq(kill(stranger, 0), 0);
	kill(stranger, SIGKILL);
	waitpid(stranger, NULL, 0);
	other.op = HOST_KILL;
	other.flags = pid;
	cr_assert_eq(ask(other, &ans, fds), 0);
	other.op = HOST_WAIT;
	cr_assert_eq(ask(other, &ans, fds), 0);
	cr_assert(WIFSIGNALED(ans.status) && WTERMSIG(ans.status) == SIGKILL);
	cr_assert_eq(ask(other, &ans, fds), -ECHILD);
}

Test(parent, socket_files_go_at_the_end)
{
	char dir[] = "/tmp/parent-XXXXXX", path[64], address[80];
	struct host_call c = { .op = HOST_LISTEN, .name = address, .fd = -1, .fd2 = -1 };
	struct wire_answer ans;
	int fds[WIRE_FDS];

	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sock", dir);
	snprintf(address, sizeof(address), "unix:%s", path);
	start();
	cr_assert_geq(ask(c, &ans, fds), 0);
	cr_assert(ans.has_fd && ans.has_pin && access(path, F_OK) == 0);
	server_clean();
	cr_assert(access(path, F_OK) < 0);
	rmdir(dir);
}
