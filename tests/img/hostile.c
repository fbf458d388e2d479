/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hostile.c: images made to harm. Every field of every format's header and first tables takes
 * extreme values in turn; the tool must end by itself with a message, in less than a second of CPU
 * and 64 MiB, whatever it is asked to do with the file. And the classes behind known advisories:
 * loops, names that point elsewhere, sizes that overflow, blocks that overlap metadata, bombs.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/lib/imgtest.h"
#include "tests/tap.h"
#include "vmm/base/util.h"

#define MEMORY_MAX (64 * 1024)		/* KiB */

/* Runs the tool; its output goes to the file `out`. */
static void run_tool(const char *what, const char *const *argv)
{
	char tool[4096], text[512] = "";
	struct rusage ru;
	const char *full[24];
	int n = 0, status, fd;
	double cpu;
	ssize_t got;
	pid_t pid;

	snprintf(tool, sizeof(tool), "%s", img_tool());
	full[n++] = tool;
	while (*argv && n < 23)
		full[n++] = *argv++;
	full[n] = NULL;
	fd = open("out.txt", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	pid = fork();
	if (pid == 0) {
		struct rlimit core = { 0, 0 }, file = { 1ul << 30, 1ul << 30 };

		setrlimit(RLIMIT_CORE, &core);
		setrlimit(RLIMIT_FSIZE, &file);
		signal(SIGXFSZ, SIG_IGN);
		dup2(fd, 1);
		dup2(fd, 2);
		alarm(img_sanitized() ? 100 : 20);
		execv(tool, (char *const *)full);
		_exit(127);
	}
	while (wait4(pid, &status, 0, &ru) < 0 && errno == EINTR)
		;
	got = pread(fd, text, sizeof(text) - 1, 0);
	text[got < 0 ? 0 : got] = 0;
	close(fd);
	cpu = ru.ru_utime.tv_sec + ru.ru_stime.tv_sec +
	      (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
	if (WIFSIGNALED(status))
		tap_fail(__FILE__, __LINE__, "%s: %s %s died of signal %d: %s", what, full[1],
			 full[2], WTERMSIG(status), text);
	status = WEXITSTATUS(status);
	if (status > 4 && status != 63)
		tap_fail(__FILE__, __LINE__, "%s: %s %s ended with %d: %s", what, full[1], full[2],
			 status, text);
	if (status && !text[0])
		tap_fail(__FILE__, __LINE__, "%s: %s %s ended with %d and said nothing", what,
			 full[1], full[2], status);
	if (strstr(text, "AddressSanitizer") || strstr(text, "runtime error"))
		tap_fail(__FILE__, __LINE__, "%s: %s %s: %s", what, full[1], full[2], text);
	if (!img_sanitized() && cpu > 1)
		tap_fail(__FILE__, __LINE__, "%s: %s %s took %.1f s", what, full[1], full[2], cpu);
	if (!img_sanitized() && ru.ru_maxrss > MEMORY_MAX)
		tap_fail(__FILE__, __LINE__, "%s: %s %s took %ld KiB", what, full[1], full[2],
			 ru.ru_maxrss);
}

static void try_image(const char *what, const char *format, const char *file)
{
	const char *info[] = { "info", "-f", format, file, NULL };
	const char *check[] = { "check", "-f", format, file, NULL };
	const char *map[] = {
		"map", "-f", format, "--output=json", "--max-length=64M", file, NULL
	};
	char in[256];
	const char *dd[] = { "dd",     "-f",	   format, "-O",	"raw",
			     "bs=64k", "count=16", in,	   "of=dd.raw", NULL };
	const char *write[] = {
		"convert", "-n", "-f", "raw", "-O", format, "some.raw", file, NULL
	};

	snprintf(in, sizeof(in), "if=%s", file);
	run_tool(what, info);
	run_tool(what, check);
	run_tool(what, map);
	run_tool(what, dd);
	run_tool(what, write);
}

static uint8_t *load(const char *file, size_t *len)
{
	struct stat st;
	uint8_t *p;
	int fd = open(file, O_RDONLY);

	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	p = malloc(st.st_size);
	CHECK(read_full(fd, p, st.st_size) == 0);
	*len = st.st_size;
	close(fd);
	return p;
}

static void save(const char *file, const uint8_t *p, size_t len)
{
	int fd = open(file, O_RDWR | O_CREAT | O_TRUNC, 0644);

	CHECK(fd >= 0);
	/* Holes stay holes. */
	for (size_t at = 0; at < len; at += 4096) {
		size_t n = MIN(4096, len - at);
		static const uint8_t zero[4096];

		if (memcmp(p + at, zero, n))
			CHECK(pwrite(fd, p + at, n, at) == (ssize_t)n);
	}
	CHECK(ftruncate(fd, len) == 0);
	close(fd);
}

/* --- sweeps --- */

static void fix_none(uint8_t *p, size_t len)
{
}

static uint32_t vhdx_sum(uint8_t *p, size_t len)
{
	memset(p + 4, 0, 4);
	return crc32c(0, p, len);
}

/* Without its checksums every changed vhdx would be refused at the door. */
static void fix_vhdx(uint8_t *p, size_t len)
{
	for (size_t at = 64 * KiB; at <= 128 * KiB; at += 64 * KiB)
		st_le32(p + at + 4, vhdx_sum(p + at, 4096));
	for (size_t at = 192 * KiB; at <= 256 * KiB; at += 64 * KiB)
		st_le32(p + at + 4, vhdx_sum(p + at, 64 * KiB));
}

struct range { size_t from, to; };

static void sweep(const char *format, const char *make, const struct range *ranges,
		  void (*fix)(uint8_t *p, size_t len), unsigned seed)
{
	static const uint64_t values[] = { 0,
					   1,
					   0x7fffffff,
					   0x80000000,
					   0xffffffff,
					   0x7fffffffffffffff,
					   0xffffffffffffffff,
					   0x10000,
					   0x8000000000000000 };
	int tries = img_sanitized() ? 1 : 2, step = img_sanitized() ? 12 : 4;
	uint64_t s = seed;
	uint8_t *seed_image, *p;
	size_t len;
	char what[128];

	img_enter();
	img_pattern("some.raw", 64 * KiB, 1);
	img_pattern("in.raw", 3 * MiB, 2);
	RUN_OK("%s", make);
	seed_image = load("seed", &len);
	p = malloc(len);
	for (const struct range *r = ranges; r->to; r++) {
		for (size_t at = r->from; at < r->to && at + 8 <= len; at += step) {
			/* A few of the values for each field; another seed tries others. */
			for (int k = 0; k < tries; k++) {
				uint64_t v = values[img_random(&s) % ARRAY_SIZE(values)];
				unsigned form = img_random(&s) % 4;

				memcpy(p, seed_image, len);
				if (form == 0)
					st_le32(p + at, v);
				else if (form == 1)
					st_be32(p + at, v);
				else if (form == 2)
					st_le64(p + at, v);
				else
					st_be64(p + at, v);
				fix(p, len);
				save("bad", p, len);
				snprintf(what, sizeof(what), "%s: at %zu form %u value %llx",
					 format, at, form, (unsigned long long)v);
				try_image(what, format, "bad");
			}
		}
	}
	/* Cut off anywhere. */
	for (size_t n = 0; n < len; n = n * 3 / 2 + 100) {
		save("bad", seed_image, n);
		snprintf(what, sizeof(what), "%s: cut at %zu", format, n);
		try_image(what, format, "bad");
	}
	free(seed_image);
	free(p);
}

#define MAKE(format, opts) "qemu-img convert -f raw -O " format " " opts " in.raw seed"

TEST(vmdk_sparse)
{
	sweep("vmdk", MAKE("vmdk", ""),
	      (struct range[]){ { 0, 80 },
				{ 21 * 512, 21 * 512 + 8 },
				{ 22 * 512, 22 * 512 + 16 },
				{ 26 * 512, 26 * 512 + 8 },
				{ 27 * 512, 27 * 512 + 16 },
				{ 0, 0 } },
	      fix_none, 1);
}
TEST(vmdk_stream)
{
	sweep("vmdk", "%M convert -f raw -O vmdk -o subformat=streamOptimized in.raw seed",
	      (struct range[]){ { 0, 80 }, { 64 * KiB, 64 * KiB + 24 }, { 0, 0 } }, fix_none, 2);
}
TEST(vdi)
{
	sweep("vdi", MAKE("vdi", ""),
	      (struct range[]){ { 64, 88 }, { 340, 460 }, { 512, 540 }, { 0, 0 } }, fix_none, 3);
}
TEST(vpc)
{
	sweep("vpc", MAKE("vpc", ""),
	      (struct range[]){ { 0, 88 },
				{ 512, 568 },
				{ 576, 600 },
				{ 1088, 1112 },
				{ 1536, 1552 },
				{ 0, 0 } },
	      fix_none, 4);
}
TEST(vpc_fixed)
{
	sweep("vpc", MAKE("vpc", "-o subformat=fixed"),
	      (struct range[]){ { 3145728, 3145728 + 600 }, { 0, 0 } }, fix_none, 5);
}
TEST(vhdx_headers)
{
	sweep("vhdx", MAKE("vhdx", "-o block_size=1M"),
	      (struct range[]){ { 0, 16 },
				{ 64 * KiB, 64 * KiB + 80 },
				{ 192 * KiB, 192 * KiB + 80 },
				{ 0, 0 } },
	      fix_vhdx, 6);
}
TEST(vhdx_tables)
{
	sweep("vhdx", MAKE("vhdx", "-o block_size=1M"),
	      (struct range[]){ { 2 * MiB, 2 * MiB + 64 },
				{ 3 * MiB, 3 * MiB + 200 },
				{ 3 * MiB + 64 * KiB, 3 * MiB + 64 * KiB + 40 },
				{ 0, 0 } },
	      fix_vhdx, 7);
}
/* A log of no bytes: found by the fuzzer as a division by zero in the first write. */
TEST(vhdx_without_log)
{
	const char *write[] = {
		"convert", "-n", "-f", "raw", "-O", "vhdx", "some.raw", "seed", NULL
	};
	const char *info[] = { "info", "-f", "vhdx", "seed", NULL };
	uint8_t *p;
	size_t len;

	img_enter();
	img_pattern("some.raw", 64 * KiB, 1);
	RUN_OK("qemu-img create -q -f vhdx -o block_size=1M seed 3M");
	p = load("seed", &len);
	st_le32(p + 64 * KiB + 68, 0);
	st_le32(p + 128 * KiB + 68, 0);
	fix_vhdx(p, len);
	save("seed", p, len);
	free(p);
	run_tool("vhdx without a log", write);
	run_tool("vhdx without a log", info);
	CHECK(strstr(RUN_FAILS(1, "%%M convert -n -f raw -O vhdx some.raw seed")->out,
		     "no room for a log"));
	RUN_OK("%%M info seed");
}

TEST(qcow)
{
	sweep("qcow", MAKE("qcow", ""), (struct range[]){ { 0, 64 }, { 4096, 4112 }, { 0, 0 } },
	      fix_none, 8);
}
TEST(qed)
{
	sweep("qed", MAKE("qed", "-o cluster_size=4k,table_size=2"),
	      (struct range[]){ { 0, 64 }, { 4096, 4112 }, { 12288, 12304 }, { 0, 0 } }, fix_none,
	      8);
}
TEST(parallels)
{
	sweep("parallels", MAKE("parallels", ""), (struct range[]){ { 0, 84 }, { 0, 0 } }, fix_none,
	      9);
}
TEST(qcow2)
{
	sweep("qcow2", MAKE("qcow2", ""),
	      (struct range[]){ { 0, 120 },
				{ 65536, 65552 },
				{ 131072, 131088 },
				{ 196608, 196624 },
				{ 262144, 262160 },
				{ 0, 0 } },
	      fix_none, 10);
}
TEST(qcow2_compressed)
{
	sweep("qcow2", MAKE("qcow2", "-c"),
	      (struct range[]){ { 0, 16 }, { 262144, 262190 }, { 327680, 327690 }, { 0, 0 } },
	      fix_none, 11);
}
TEST(cloop)
{
	sweep("cloop",
	      "{ printf '#!/bin/sh\\n#V2.0 Format\\nmodprobe cloop file=$0\\n'; head -c 74 "
	      "/dev/zero; "
	      "printf "
	      "'\\0\\0\\20\\0\\0\\0\\0\\2\\0\\0\\0\\0\\0\\0\\0\\240\\0\\0\\0\\0\\0\\0\\0\\260\\0\\0"
	      "\\0\\0\\0\\0\\0\\300'; head -c 9000 /dev/urandom; } >seed",
	      (struct range[]){ { 0, 8 }, { 128, 168 }, { 0, 0 } }, fix_none, 12);
}
TEST(luks)
{
	sweep("luks",
	      "printf secret >pw; %M create -q --object secret,id=s,file=pw -f luks -o "
	      "key-secret=s,iter-time=10 seed 64k",
	      (struct range[]){ { 0, 16 }, { 104, 112 }, { 160, 176 }, { 208, 280 }, { 0, 0 } },
	      fix_none, 14);
}
TEST(cow)
{
	sweep("cow",
	      "{ printf 'OOOM\\0\\0\\0\\2'; head -c 1032 /dev/zero; printf "
	      "'\\0\\0\\0\\0\\0\\1\\0\\0\\0\\0\\2\\0\\0\\0\\0\\0'; "
	      "head -c 99999 /dev/zero | tr '\\0' '\\125'; } >seed",
	      (struct range[]){ { 0, 16 }, { 1028, 1064 }, { 0, 0 } }, fix_none, 13);
}

/*
 * What the header points at: snapshots with their tables, bitmaps and their directory, the header's
 * extensions.
 */
#define FULL                                                                                       \
	"%M create -q -f qcow2 seed 3M && %M convert -n -f raw -O qcow2 in.raw seed && %M "        \
	"snapshot -c one seed && "                                                                 \
	"%M snapshot -c two seed && %M bitmap --add seed b0 && %M bitmap --add -g 4k seed b1 && "  \
	"%M rebase -u -b some.raw -F raw seed"

static uint64_t seed_be64(uint64_t at)
{
	size_t len;
	uint8_t *p = load("seed", &len);
	uint64_t v = ld_be64(p + at);

	free(p);
	return v;
}

/* Where the data of a header extension lies; 0: not there. */
static uint64_t seed_extension(uint32_t type)
{
	size_t len;
	uint8_t *p = load("seed", &len);
	uint64_t at = ld_be32(p + 100), found = 0;

	while (!found && at < 4096 && ld_be32(p + at)) {
		if (ld_be32(p + at) == type)
			found = at + 8;
		at += 8 + ALIGN_UP(ld_be32(p + at + 4), 8u);
	}
	free(p);
	return found;
}

TEST(qcow2_snapshot_table)
{
	uint64_t at;

	img_enter();
	img_pattern("some.raw", 64 * KiB, 1);
	img_pattern("in.raw", 3 * MiB, 2);
	RUN_OK("%s", FULL);
	at = seed_be64(64);
	CHECK(at);
	sweep("qcow2", FULL,
	      (struct range[]){ { 56, 72 },
				{ at, at + 72 },
				{ seed_be64(at), seed_be64(at) + 16 },
				{ 0, 0 } },
	      fix_none, 15);
}

TEST(qcow2_extensions_and_bitmaps)
{
	uint64_t ext, dir;

	img_enter();
	img_pattern("some.raw", 64 * KiB, 1);
	img_pattern("in.raw", 3 * MiB, 2);
	RUN_OK("%s", FULL);
	ext = seed_extension(0x23852875);
	CHECK(ext);
	dir = seed_be64(ext + 16);
	sweep("qcow2", FULL,
	      (struct range[]){ { 112, 130 },
				{ ext - 8, ext + 24 },
				{ dir, dir + 56 },
				{ seed_be64(dir), seed_be64(dir) + 16 },
				{ 0, 0 } },
	      fix_none, 16);
}

/* A data file is a file's name and nothing else, and info does not look for it. */
TEST(qcow2_data_file_names)
{
	img_enter();
	RUN_OK("%%M create -q -f qcow2 -o data_file=ext.raw d 1M && printf secret >target && "
	       "%%M amend -o 'data_file=json:{\"driver\":\"file\",,\"filename\":\"target\"}' d");
	RUN_OK("%%M info d | grep 'data file: json:'");
	RUN_FAILS(1, "%%M convert -f qcow2 -O raw d x");
	RUN_FAILS(1, "%%M convert -n -f raw -O qcow2 target d");
	RUN_OK("[ \"$(cat target)\" = secret ] && [ ! -e x ] && [ $(ls | grep -c json) = 0 ]");
}

/* --- text descriptors --- */

TEST(vmdk_descriptors)
{
	static const char *const lines[] = {
		"RW 9223372036854775807 FLAT \"f\" 0",
		"RW 18446744073709551615 FLAT \"f\" 0",
		"RW 0 FLAT \"f\" 0",
		"RW -1 FLAT \"f\" 0",
		"RW 2048 FLAT \"f\" 9223372036854775807",
		"RW 2048 FLAT \"f\" -5",
		"RW 2048 FLAT \"f\"",
		"RW 2048 FLAT",
		"RW 2048",
		"RW 2048 SPARSE \"x.vmdk\"",
		"RW 2048 SPARSE \"f\"",
		"RW 2048 VMFSSPARSE \"f\"",
		"RW 2048 SESPARSE \"f\"",
		"RW 2048 ZERO",
		"RW 9000000000000000 ZERO",
		"RW 2048 VMFSRDM \"f\" 0",
		"NOACCESS 2048 FLAT \"f\" 0",
		"RW 2048 FLAT \"/dev/zero\" 0",
		"RW 4611686018427387904 ZERO\\nRW 4611686018427387904 ZERO\\nRW "
		"4611686018427387904 ZERO",
		"parentFileNameHint=\"x.vmdk\"",
		"CID=zzzz\\nCID\\nCID=\\nparentCID=12345678901234567890",
	};

	img_enter();
	img_pattern("some.raw", 64 * KiB, 1);
	img_pattern("f", MiB, 2);
	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
		RUN_OK("printf '# Disk "
		       "DescriptorFile\\nversion=1\\nCID=1\\nparentCID=ffffffff\\ncreateType="
		       "\"x\"\\n%s\\n' >x.vmdk",
		       lines[i]);
		try_image(lines[i], "vmdk", "x.vmdk");
	}
	/*
	 * A thousand extents in one sparse file, each with a large directory; and a line longer
	 * than any buffer.
	 */
	RUN_OK("%%M create -q -f vmdk big.vmdk 16T; { printf '# Disk "
	       "DescriptorFile\\nversion=1\\nCID=1\\nparentCID=ffffffff\\n'; "
	       "for ((i = 0; i < 1000; i++)); do echo 'RW 34359738368 SPARSE \"big.vmdk\"'; done; "
	       "} >x.vmdk");
	try_image("a thousand directories", "vmdk", "x.vmdk");
	RUN_OK("{ printf '# Disk DescriptorFile\\nversion=1\\nRW 2048 FLAT \"'; head -c 30000 "
	       "/dev/zero | tr '\\0' a; printf '\" 0\\n'; } >x.vmdk");
	try_image("a long name", "vmdk", "x.vmdk");
	RUN_OK("{ printf '# Disk DescriptorFile\\nversion=1\\n'; for ((i = 0; i < 5000; i++)); do "
	       "echo 'RW 1 ZERO'; done; } >x.vmdk");
	try_image("many extents", "vmdk", "x.vmdk");
	RUN_OK("{ printf '# Disk DescriptorFile\\nversion=1\\n'; head -c 100M /dev/zero; } "
	       ">x.vmdk");
	try_image("a huge descriptor", "vmdk", "x.vmdk");
}

TEST(loops)
{
	img_enter();
	img_pattern("some.raw", 64 * KiB, 1);
	RUN_OK("qemu-img create -q -f qcow2 a 1M; qemu-img create -q -f qcow2 -b a -F qcow2 b; "
	       "qemu-img rebase -u -b b -F qcow2 a");
	try_image("backing loop", "qcow2", "a");
	RUN_FAILS(1, "timeout 5 %%M info --backing-chain a");
	RUN_OK("%%M create -q -f vmdk p.vmdk 1M; sed -i 's/parentCID=ffffffff/parentCID=11111111/; "
	       "s/^createType.*/parentFileNameHint=\"p.vmdk\"/' p.vmdk");
	RUN_FAILS(1, "timeout 5 %%M info --backing-chain p.vmdk");
	try_image("its own parent", "vmdk", "p.vmdk");
}

/* A name that is no file comes first: the list of files seen must not count it. */
TEST(chain_from_options)
{
	img_enter();
	RUN_OK("%%M create -q -f qcow2 a 1M; %%M create -q -f qcow2 -b a -F qcow2 b; %%M info "
	       "--image-opts --backing-chain driver=qcow2,file.filename=b");
	RUN_OK("%%M rebase -u -b 'json:{\"driver\":\"qcow2\",\"file.filename\":\"b\"}' -F qcow2 a");
	RUN_FAILS(1, "timeout 5 %%M info --backing-chain b");
	RUN_FAILS(1, "timeout 5 %%M map b");
	/* Depth without end, three times. */
	CHECK(strstr(RUN_FAILS(1, "n=$(printf '{\"driver\":\"raw\",\"file\":%%.0s' $(seq 400)); "
				  "m=$(printf '}%%.0s' $(seq 400)); "
				  "timeout 5 %%M info \"json:$n{\\\"filename\\\":\\\"a\\\"}$m\"")
			     ->out,
		     "one over the other"));
	RUN_FAILS(1,
		  "n=$(printf '{\"backing\":%%.0s' $(seq 3000)); timeout 5 %%M info \"json:$n\"");
	RUN_FAILS(1, "n=$(printf 'a.%%.0s' $(seq 20000)); timeout 5 %%M info "
		     "\"json:{\\\"${n}b\\\":1}\"");
	/* Not UTF-8: refused, where the library frees what it refuses. */
	CHECK(strstr(
		RUN_FAILS(1, "%%M info --image-opts \"driver=raw,$(printf 'il\\213.h')=1\"")->out,
		"no UTF-8"));
	CHECK(strstr(
		RUN_FAILS(1, "%%M info --image-opts \"driver=raw,$(printf 'il\\213')=1\"")->out,
		"no UTF-8"));
	CHECK(strstr(RUN_FAILS(1, "%%M info 'json:{\"driver\":\"vvfat\",\"dir\":\"/\"}'")->out,
		     "mkfs.vfat"));
	RUN_FAILS(1, "n=$(printf 'a.%%.0s' $(seq 60000)); timeout 5 %%M info --image-opts "
		     "\"driver=raw,${n}b=1\"");
}

/* What inflates without end: the block's size bounds it. */
TEST(bombs)
{
	img_enter();
	img_pattern("some.raw", 64 * KiB, 1);
	RUN_OK("truncate -s 64M zero; for t in zlib zstd; do qemu-img convert -S 0 -c -O qcow2 -o "
	       "cluster_size=2M,compression_type=$t zero $t; done");
	try_image("zlib", "qcow2", "zlib");
	try_image("zstd", "qcow2", "zstd");
}

TAP_MAIN
