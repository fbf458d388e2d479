/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * living.c: the checker that runs inside a guest while the host pauses, saves, reverts, backs up
 * and moves it (long-living). Static, so that it needs nothing of the guest. Each worker is a
 * process that tests one thing over and over; once a second the parent says how it went, and any
 * error is a line of its own with the word FAILED.
 *
 *   living ADDRESS PORT	the host's echo server
 */
#include <arpa/inet.h>
#include <emmintrin.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_CPUS 8
#define FILES 12
#define FILE_MAX (192 * 1024)
#define BLOCK 4096

/* What the workers found, in memory that all see. */
static struct shared {
	int64_t latest;			/* the latest time that anybody saw */
	/* the longest time between two looks at the clock, since the last line */
	int64_t gap;
	/* the most ticks of a 10 ms timer at once, since the last line */
	uint64_t ticks;
	uint64_t files, echoed, sums;
	unsigned connects;
	int64_t wall;			/* wall clock minus monotonic */
} *shared;

static int64_t clock_ns(clockid_t c)
{
	struct timespec ts;

	clock_gettime(c, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

__attribute__((format(printf, 1, 2))) static void say(const char *fmt, ...)
{
	char line[400];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	line[n++] = '\n';
	if (write(1, line, n) < 0)
		_exit(1);
}

static uint64_t mix(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static void fill(uint8_t *p, size_t len, uint64_t seed)
{
	uint64_t s = seed * 0x9e3779b97f4a7c15ull + 1;

	for (size_t i = 0; i + 8 <= len; i += 8) {
		uint64_t v = mix(&s);

		memcpy(p + i, &v, 8);
	}
}

/* --- clocks: never back, on any CPU, and never further ahead than somebody explains --- */

static void raise_to(int64_t *where, int64_t v)
{
	int64_t old = __atomic_load_n(where, __ATOMIC_SEQ_CST);

	while (v > old && !__atomic_compare_exchange_n(where, &old, v, false, __ATOMIC_SEQ_CST,
						       __ATOMIC_SEQ_CST))
		;
}

static void watch_clocks(int cpu)
{
	int64_t last = 0;
	cpu_set_t set;
	int timer = timerfd_create(CLOCK_MONOTONIC, 0);
	struct itimerspec every = { { 0, 10000000 }, { 0, 10000000 } };

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	timerfd_settime(timer, 0, &every, NULL);
	for (;;) {
		int64_t before = __atomic_load_n(&shared->latest, __ATOMIC_SEQ_CST),
			now = clock_ns(CLOCK_MONOTONIC), wall;
		uint64_t ticks;

		if (now < before)
			say("FAILED: the clock of CPU %d went back by %lld us", cpu,
			    (long long)(before - now) / 1000);
		raise_to(&shared->latest, now);
		if (last)
			raise_to(&shared->gap, now - last);
		last = now;
		wall = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC) - shared->wall;
		if (wall > 2000000000ll || wall < -2000000000ll) {
			say("FAILED: the wall clock moved by %lld ms beside the other",
			    (long long)wall / 1000000);
			shared->wall += wall;
		}
		if (read(timer, &ticks, sizeof(ticks)) == sizeof(ticks))
			raise_to((int64_t *)&shared->ticks, ticks);
	}
}

/* --- files: what was synced is there, read from the disk and not from memory --- */

static bool file_write(const char *name, uint8_t *buf, size_t len)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	bool ok = fd >= 0 && write(fd, buf, len) == (ssize_t)len && fsync(fd) == 0;

	if (!ok)
		say("FAILED: writing %s: %s", name, strerror(errno));
	if (fd >= 0) {
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		close(fd);
	}
	return ok;
}

static void file_check(const char *name, uint8_t *got, uint8_t *want, size_t len)
{
	int fd = open(name, O_RDONLY | O_DIRECT);
	ssize_t n = fd < 0 ? -1 : read(fd, got, len);

	if (n != (ssize_t)len)
		say("FAILED: reading %s gives %zd of %zu: %s", name, n, len, strerror(errno));
	else if (memcmp(got, want, len))
		for (size_t i = 0; i < len; i++)
			if (got[i] != want[i]) {
				say("FAILED: %s differs at %zu of %zu: %02x and not %02x", name, i,
				    len, got[i], want[i]);
				break;
			}
	if (fd >= 0)
		close(fd);
}

static void watch_files(void)
{
	uint8_t *got = aligned_alloc(BLOCK, FILE_MAX), *want = aligned_alloc(BLOCK, FILE_MAX);
	uint64_t seed = 77, seeds[FILES] = { 0 };
	size_t lens[FILES] = { 0 };
	char name[64];

	mkdir("/root/living", 0700);
	for (uint64_t i = 0;; i++) {
		int slot = i % FILES, old = mix(&seed) % FILES;

		seeds[slot] = i + 1;
		lens[slot] = (1 + mix(&seed) % (FILE_MAX / BLOCK)) * BLOCK;
		fill(want, lens[slot], seeds[slot]);
		snprintf(name, sizeof(name), "/root/living/%d", slot);
		if (i >= FILES && mix(&seed) % 2)
			unlink(name);
		if (!file_write(name, want, lens[slot]))
			sleep(1);
		if (lens[old]) {
			fill(want, lens[old], seeds[old]);
			snprintf(name, sizeof(name), "/root/living/%d", old);
			file_check(name, got, want, lens[old]);
		}
		__atomic_add_fetch(&shared->files, 1, __ATOMIC_RELAXED);
		usleep(20000);
	}
}

/* --- a TCP connection that says the same back --- */

static bool echo_once(int fd, uint64_t *at, uint8_t *out, uint8_t *in, size_t len)
{
	size_t got = 0;
	ssize_t n;

	fill(out, len, *at + 1);
	if (send(fd, out, len, MSG_NOSIGNAL) != (ssize_t)len)
		return false;
	for (; got < len; got += n) {
		n = recv(fd, in + got, len - got, 0);
		if (n <= 0)
			return false;
	}
	if (memcmp(in, out, len))
		say("FAILED: the TCP stream differs in block %llu", (unsigned long long)*at);
	++*at;
	__atomic_add_fetch(&shared->echoed, len, __ATOMIC_RELAXED);
	return true;
}

static void watch_stream(const char *address, int port)
{
	static uint8_t out[16384], in[16384];
	uint64_t at = 0;

	for (;; usleep(200000)) {
		struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
		/*
		 * After a revert the two ends do not agree any more, and neither would say so for
		 * minutes. Saved for ten seconds, the other end may wait for another thirteen until
		 * it repeats what it said.
		 */
		struct timeval patience = { 40, 0 };
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		inet_pton(AF_INET, address, &to.sin_addr);
		__atomic_add_fetch(&shared->connects, 1, __ATOMIC_RELAXED);
		if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
			while (echo_once(fd, &at, out, in,
					 8 + at * 808 % (sizeof(out) - 16) / 8 * 8))
				usleep(10000);
		close(fd);
	}
}

/* --- registers: integers, floating point and SSE compute the same each time --- */

static uint64_t compute(void)
{
	__m128i v = _mm_set_epi32(1, 2, 3, 4), w = _mm_set_epi32(0x1234567, 0x89abcde, 5, 7);
	double x = 1.0;
	uint64_t s = 12345, out[2];

	for (int i = 0; i < 3000; i++) {
		v = _mm_add_epi32(_mm_xor_si128(v, w), _mm_slli_epi32(v, 3));
		x = x * 1.000001 + 1.0 / (i + 1);
		mix(&s);
	}
	_mm_storeu_si128((__m128i *)out, v);
	return s ^ out[0] ^ out[1] ^ (uint64_t)(x * 1e9);
}

static void watch_registers(void)
{
	uint64_t want = compute();

	for (;; usleep(1000)) {
		for (int i = 0; i < 20; i++)
			if (compute() != want)
				say("FAILED: a computation gave another result");
		__atomic_add_fetch(&shared->sums, 20, __ATOMIC_RELAXED);
	}
}

static bool start(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return pid == 0;
}

int main(int argc, char **argv)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (argc != 3)
		return 2;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	shared->wall = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC);
	for (int i = 0; i < cpus && i < MAX_CPUS; i++)
		if (start())
			watch_clocks(i);
	if (start())
		watch_files();
	if (start())
		watch_stream(argv[1], atoi(argv[2]));
	if (start())
		watch_registers();
	for (unsigned n = 0;; n++) {
		say("living %u: clock %lld ms, gap %lld ms, ticks %llu, files %llu, echoed %llu, "
		    "sums %llu, connects %u",
		    n, (long long)clock_ns(CLOCK_MONOTONIC) / 1000000,
		    (long long)__atomic_exchange_n(&shared->gap, 0, __ATOMIC_SEQ_CST) / 1000000,
		    (unsigned long long)__atomic_exchange_n(&shared->ticks, 0, __ATOMIC_SEQ_CST),
		    (unsigned long long)shared->files, (unsigned long long)shared->echoed,
		    (unsigned long long)shared->sums, shared->connects);
		usleep(500000);
		if (waitpid(-1, NULL, WNOHANG) > 0)
			say("FAILED: a worker died");
	}
}
