/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * peer MIB: the other end of the bench's TCP streams. Takes one connection on port 5201, reads
 * until its end and closes; then one on 5202, to which it sends MIB. Nothing is copied: received
 * bytes are dropped in the kernel, sent ones come from a file's pages.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE (1 << 20)

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int port_open(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	if (s < 0 || setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(s, (struct sockaddr *)&a, sizeof(a)) || listen(s, 1))
		die("listen");
	return s;
}

int main(int argc, char **argv)
{
	uint64_t left = argc > 1 ? strtoull(argv[1], NULL, 10) << 20 : 0;
	int sink = port_open(5201), source = port_open(5202), file, s;
	static char buf[PIECE];
	ssize_t n;

	file = memfd_create("zeros", 0);
	if (file < 0 || ftruncate(file, PIECE) || posix_fallocate(file, 0, PIECE))
		die("memfd");
	s = accept(sink, NULL, NULL);
	if (s < 0)
		die("accept");
	while ((n = recv(s, buf, sizeof(buf), MSG_TRUNC)) > 0)
		;
	if (n < 0)
		die("recv");
	close(s);
	s = accept(source, NULL, NULL);
	if (s < 0)
		die("accept");
	while (left) {
		off_t at = 0;

		n = sendfile(s, file, &at, left < PIECE ? left : PIECE);
		if (n <= 0)
			die("sendfile");
		left -= (uint64_t)n;
	}
	close(s);
	return 0;
}
