/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * driver.c: feeds a target mutated inputs; those that reach new code are kept and mutated further.
 * Coverage comes from -fsanitize-coverage=trace-pc. Usage: TARGET [-s SECONDS] [-c CRASHFILE]
 * SEED...; a SEED that is a folder is all its files; without -s every SEED file is run once.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_LEN 65536
#define MAX_KEPT 4096
#define MAP_SIZE (1 << 16)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
__attribute__((no_sanitize_coverage)) void __sanitizer_cov_trace_pc(void);
void __sanitizer_set_death_callback(void (*fn)(void));

static uint8_t seen[MAP_SIZE];
static bool fresh;
static struct { uint8_t *data; size_t len; } kept[MAX_KEPT];
static unsigned nkept;
static uint8_t input[MAX_LEN];
static size_t input_len;
static const char *crash_file;
static uint64_t seed = 88172645463325252ull;

void __sanitizer_cov_trace_pc(void)
{
	uintptr_t pc = (uintptr_t)__builtin_return_address(0);
	uint32_t h = (pc ^ pc >> 16) & (MAP_SIZE - 1);

	if (!seen[h]) {
		seen[h] = 1;
		fresh = true;
	}
}

static uint32_t rnd(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return below ? (seed >> 16) % below : 0;
}

static void save_crash(void)
{
	int fd = crash_file ? open(crash_file, O_WRONLY | O_CREAT | O_TRUNC, 0644) : -1;

	if (fd >= 0 && write(fd, input, input_len) == (ssize_t)input_len)
		fprintf(stderr, "the input is in %s\n", crash_file);
}

static void on_signal(int sig)
{
	save_crash();
	signal(sig, SIG_DFL);
	raise(sig);
}

static void keep(const uint8_t *p, size_t len)
{
	if (nkept == MAX_KEPT)
		return;
	kept[nkept].data = malloc(len + 1);
	memcpy(kept[nkept].data, p, len);
	kept[nkept++].len = len;
}

static void load(const char *path)
{
	struct stat st;
	struct dirent *e;
	char name[512];
	DIR *d;
	int fd;

	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		d = opendir(path);
		while (d && (e = readdir(d))) {
			if (*e->d_name == '.')
				continue;
			snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
			load(name);
		}
		closedir(d);
		return;
	}
	fd = open(path, O_RDONLY);
	if (fd >= 0 && (input_len = read(fd, input, MAX_LEN)) <= MAX_LEN)
		keep(input, input_len);
	if (fd >= 0)
		close(fd);
}

static void mutate_once(void)
{
	static const uint64_t odd[] = { 0,	    1,		0x7f,
					0x80,	    0xff,	0x7fff,
					0x8000,	    0xffff,	0x7fffffff,
					0x80000000, 0xffffffff, UINT64_MAX,
					0x1000,	    0xfffff000, 0x8000000000000000ull };
	uint32_t at = rnd(input_len ? input_len : 1), n = 1 + rnd(16);
	uint64_t v;

	switch (rnd(8)) {
	case 0:
		input[at] ^= 1 << rnd(8);
		break;
	case 1:
		input[at] = rnd(256);
		break;
	case 2:
		v = odd[rnd(sizeof(odd) / sizeof(odd[0]))];
		n = 1 << rnd(4);
		if (at + n <= input_len)
			memcpy(input + at, &v, n);
		break;
	case 3:
		input[at] += rnd(2) ? 1 : -1;
		break;
	case 4:
		if (input_len + n <= MAX_LEN) {
			memmove(input + at + n, input + at, input_len - at);
			for (uint32_t i = 0; i < n; i++)
				input[at + i] = rnd(256);
			input_len += n;
		}
		break;
	case 5:
		if (at + n <= input_len) {
			memmove(input + at, input + at + n, input_len - at - n);
			input_len -= n;
		}
		break;
	case 6:
		if (input_len > 1 && !rnd(4))
			input_len = 1 + rnd(input_len);
		break;
	default:
		if (nkept) {
			uint32_t other = rnd(nkept),
				 from = rnd(kept[other].len ? kept[other].len : 1);

			n = rnd(256);
			if (from + n <= kept[other].len && at + n <= MAX_LEN) {
				memcpy(input + at, kept[other].data + from, n);
				if (at + n > input_len)
					input_len = at + n;
			}
		}
	}
}

int main(int argc, char **argv)
{
	unsigned seconds = 0, runs = 0, n;
	time_t end;
	int opt;

	while ((opt = getopt(argc, argv, "s:c:")) != -1) {
		if (opt == 's')
			seconds = atoi(optarg);
		else if (opt == 'c')
			crash_file = optarg;
		else
			return 2;
	}
	for (; optind < argc; optind++)
		load(argv[optind]);
	if (!nkept)
		keep((const uint8_t *)"\0\0\0\0", 4);
	signal(SIGABRT, on_signal);
	signal(SIGALRM, on_signal);
	__sanitizer_set_death_callback(save_crash);
	for (n = nkept; n--; runs++) {
		memcpy(input, kept[n].data, input_len = kept[n].len);
		alarm(20);
		LLVMFuzzerTestOneInput(input, input_len);
	}
	for (end = time(NULL) + seconds; seconds && time(NULL) < end; runs++) {
		n = rnd(nkept);
		memcpy(input, kept[n].data, input_len = kept[n].len);
		for (n = 1 + rnd(8); n--;)
			mutate_once();
		fresh = false;
		alarm(20);
		LLVMFuzzerTestOneInput(input, input_len);
		if (fresh)
			keep(input, input_len);
	}
	for (n = opt = 0; n < MAP_SIZE; n++)
		opt += seen[n];
	printf("%u runs, %u inputs kept, %d places reached\n", runs, nkept, opt);
	return 0;
}
