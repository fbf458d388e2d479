/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: a debugger's packets. Each line of the input is a packet, sent with its right
 * checksum; one that begins with a zero byte is sent as it is.
 */
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/fuzz/machine.h"
#include "vmm/control/gdb.h"

static struct machine *m;

static void make(void)
{
	char *argv[] = { "fuzz", "-m",	 "8",	 "-nodefaults", "-display", "none",
			 "-vga", "none", "-smp", "2",		NULL };
	struct err err = { "" };

	fuzz_enter_folder();
	m = fuzz_machine(argv);
	if (gdb_start(m, "unix:gdb", &err) < 0)
		abort();
}

static void send_line(int fd, const uint8_t *p, size_t len)
{
	char tail[4];
	uint8_t sum = 0;

	if (len && !p[0]) {
		(void)!send(fd, p + 1, len - 1, MSG_NOSIGNAL);
		return;
	}
	for (size_t i = 0; i < len; i++)
		sum += p[i];
	snprintf(tail, sizeof(tail), "#%02x", sum);
	(void)!send(fd, "$", 1, MSG_NOSIGNAL);
	(void)!send(fd, p, len, MSG_NOSIGNAL);
	(void)!send(fd, tail, 3, MSG_NOSIGNAL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "gdb" };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char answer[4096];

	if (!m)
		make();
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0)
		abort();
	fcntl(fd, F_SETFL, O_NONBLOCK);
	fuzz_settle(m);
	while (size) {
		const uint8_t *nl = memchr(data, '\n', size);
		size_t len = nl ? (size_t)(nl - data) : size;

		if (len && data[0] != 'k')	/* ends the machine */
			send_line(fd, data, len);
		data += len + (nl != NULL);
		size -= len + (nl != NULL);
		fuzz_settle(m);
		while (recv(fd, answer, sizeof(answer), MSG_DONTWAIT) > 0)
			;
	}
	close(fd);
	fuzz_settle(m);
	return 0;
}
