/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guest-init: process 1 of the bench's guests. bench= on the kernel's command line says what it
 * does; results are lines "RESULT name value", the last one is "END status"; then it resets the
 * machine.
 *   boot          nothing: the end is the measurement
 *   idle          prints IDLE and sleeps for ever
 *   blk:SECONDS:DISK[,DISK]   random and sequential I/O on each /dev/DISK with Linux AIO and
 *                             O_DIRECT; names begin with the DISK
 *   net           TCP to 10.77.0.1:5201 (the other end reads), then from :5202
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define BIG (1 << 20)

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void finish(int value)
{
	printf("END %d\n", value);
	fflush(stdout);
	reboot(RB_AUTOBOOT);		/* reboot=t: a triple fault, with -no-reboot the end */
	for (;;)
		pause();
}

static void die(const char *what)
{
	printf("FAILED %s: %s\n", what, strerror(errno));
	finish(1);
}

static void load_modules(void)
{
	FILE *f = fopen("/order", "r");
	char name[64], path[96];

	while (f && fscanf(f, "%63s", name) == 1) {
		int fd;

		snprintf(path, sizeof(path), "/mod/%s.ko", name);
		fd = open(path, O_RDONLY);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
			die(path);
		close(fd);
	}
	if (f)
		fclose(f);
}

/*
 * depth requests of size bytes in flight for `seconds`, or once over the disk (0); returns requests
 * a second.
 */
static double aio_run(int fd, uint64_t bytes, size_t size, unsigned depth, int write,
		      int sequential, double seconds)
{
	static uint8_t *buffers;
	struct iocb cb[32], *ptr[32];
	struct io_event ev[32];
	aio_context_t ctx = 0;
	uint64_t blocks = bytes / size, next = 0, seed = 88172645463325252ull, done = 0;
	double start, end;

	if (!buffers && posix_memalign((void **)&buffers, 4096, (size_t)32 * BIG))
		die("memory");
	if (syscall(SYS_io_setup, depth, &ctx))
		die("io_setup");
	for (unsigned i = 0; i < depth; i++) {
		memset(&cb[i], 0, sizeof(cb[i]));
		cb[i].aio_fildes = (uint32_t)fd;
		cb[i].aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
		cb[i].aio_buf = (uintptr_t)(buffers + i * size);
		cb[i].aio_nbytes = size;
		ev[i].obj = (uintptr_t)&cb[i];
	}
	start = now();
	for (long n = depth;;) {
		for (long i = 0; i < n; i++) {
			struct iocb *c = (struct iocb *)(uintptr_t)ev[i].obj;

			seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
			c->aio_offset =
				(int64_t)((sequential ? next++ % blocks : seed % blocks) * size);
			ptr[i] = c;
		}
		if (syscall(SYS_io_submit, ctx, n, ptr) != n)
			die("io_submit");
		n = syscall(SYS_io_getevents, ctx, 1, depth, ev, NULL);
		if (n < 1)
			die("io_getevents");
		for (long i = 0; i < n; i++)
			if (ev[i].res != (int64_t)size)
				die("short I/O");
		done += (uint64_t)n;
		end = now();
		if (seconds ? end - start >= seconds : done >= blocks)
			break;
	}
	syscall(SYS_io_destroy, ctx);
	return (double)done / (end - start);
}

static void blk(double seconds, char *disks)
{
	static const struct {
		const char *name;
		size_t size;
		unsigned depth;
		int write, sequential;
	} t[] = {
		{ "randread-qd1", BLOCK, 1, 0, 0 },  { "randread-qd32", BLOCK, 32, 0, 0 },
		{ "randwrite-qd1", BLOCK, 1, 1, 0 }, { "randwrite-qd32", BLOCK, 32, 1, 0 },
		{ "seqread-1M", BIG, 4, 0, 1 },	     { "seqwrite-1M", BIG, 4, 1, 1 },
	};
	char path[40];
	off_t size;
	int fd;

	for (char *disk = strtok(disks, ","); disk; disk = strtok(NULL, ",")) {
		snprintf(path, sizeof(path), "/dev/%s", disk);
		/* A driver that looks for its disks on a thread of its own may need a moment. */
		for (int i = 0;
		     (fd = open(path, O_RDWR | O_DIRECT)) < 0 && errno == ENOENT && i < 100; i++)
			usleep(100000);
		if (fd < 0 || (size = lseek(fd, 0, SEEK_END)) <= 0)
			die(path);
		/* qcow2: the clusters exist before the measurement */
		aio_run(fd, (uint64_t)size, BIG, 4, 1, 1, 0);
		for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++)
			printf("RESULT %s-%s %.1f\n", disk, t[i].name,
			       aio_run(fd, (uint64_t)size, t[i].size, t[i].depth, t[i].write,
				       t[i].sequential, seconds));
		close(fd);
	}
}

static void address(void)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq r = { .ifr_name = "eth0" };
	struct sockaddr_in a = { .sin_family = AF_INET };

	memcpy(&r.ifr_addr, &a, sizeof(a));
	((struct sockaddr_in *)&r.ifr_addr)->sin_addr.s_addr = inet_addr("10.77.0.2");
	if (ioctl(s, SIOCSIFADDR, &r))
		die("SIOCSIFADDR");
	((struct sockaddr_in *)&r.ifr_netmask)->sin_addr.s_addr = inet_addr("255.255.255.0");
	if (ioctl(s, SIOCSIFNETMASK, &r))
		die("SIOCSIFNETMASK");
	r.ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(s, SIOCSIFFLAGS, &r))
		die("SIOCSIFFLAGS");
	close(s);
	usleep(500000);
}

static int dial(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons(port),
				 .sin_addr.s_addr = inet_addr("10.77.0.1") };
	int s = socket(AF_INET, SOCK_STREAM, 0);

	for (int i = 0; connect(s, (struct sockaddr *)&a, sizeof(a)); i++) {
		if (i == 20)
			die("connect");
		close(s);
		usleep(100000);
		s = socket(AF_INET, SOCK_STREAM, 0);
	}
	return s;
}

/*
 * Neither side copies what it sends or looks at what it gets, so that the figure is the path
 * between them and not a memcpy.
 */
static void net(uint64_t bytes)
{
	static char buf[BIG];
	uint64_t n = 0;
	double start;
	ssize_t r;
	int s, file;

	address();
	file = open("/data", O_RDWR | O_CREAT, 0600);
	if (file < 0 || write(file, buf, sizeof(buf)) != (ssize_t)sizeof(buf))
		die("/data");
	s = dial(5201);
	start = now();
	while (n < bytes) {
		off_t at = 0;

		r = sendfile(s, file, &at, sizeof(buf));
		if (r <= 0)
			die("sendfile");
		n += (uint64_t)r;
	}
	shutdown(s, SHUT_WR);
	if (recv(s, buf, 1, 0) != 0)		/* the other end closes when it has everything */
		die("recv");
	printf("RESULT tcp-to-bridge %.1f\n", (double)n / 1e6 / (now() - start));
	close(s);
	s = dial(5202);
	start = now();
	for (n = 0; (r = recv(s, buf, sizeof(buf), MSG_TRUNC)) > 0; n += (uint64_t)r)
		;
	if (n != bytes)
		die("short stream");
	printf("RESULT tcp-from-bridge %.1f\n", (double)n / 1e6 / (now() - start));
}

int main(void)
{
	char line[2048] = "", *what;
	FILE *f;

	mkdir("/proc", 0755);
	mount("p", "/proc", "proc", 0, NULL);
	f = fopen("/proc/cmdline", "r");
	if (!f || !fgets(line, sizeof(line), f) || !(what = strstr(line, "bench=")))
		die("no bench= on the command line");
	what += 6;
	if (!strncmp(what, "boot", 4)) {
		printf("RESULT uptime %f\n", now());
		finish(0);
	}
	mkdir("/dev", 0755);
	mount("d", "/dev", "devtmpfs", 0, NULL);
	load_modules();
	if (!strncmp(what, "ping", 4))
		address();
	if (!strncmp(what, "idle", 4) || !strncmp(what, "ping", 4)) {
		printf("IDLE\n");
		fflush(stdout);
		for (;;)
			pause();
	}
	if (!strncmp(what, "blk", 3)) {
		char disks[32] = "vda";

		sscanf(what, "blk:%*[0-9.]:%31[a-z,]", disks);
		blk(atof(what + 4), disks);
	} else if (!strncmp(what, "net", 3))
		net(strtoull(what + 4, NULL, 10) << 20);
	else
		die("unknown bench=");
	finish(0);
}
