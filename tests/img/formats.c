/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * formats.c: every format against raw as the oracle and against programs that are not ours: what we
 * write is read by qemu-img and, where they know the format, by 7-Zip, libqcow, libvmdk and
 * libvhdi; what qemu-img writes is read by us.
 */
#include <fcntl.h>
#include <pthread.h>
#include <zlib.h>

#include "disk/node.h"
#include "tests/lib/imgtest.h"
#include "tests/tap.h"

#define SIZE (37 * MiB + 1536)

static const struct { const char *format, *opts; bool write_late, archive;
} written[] = {
	{ "raw", "", true, false },
	{ "vmdk", "", true, true },
	{ "vmdk", "subformat=monolithicFlat", true, false },
	{ "vmdk", "subformat=twoGbMaxExtentSparse", true, false },
	{ "vmdk", "subformat=twoGbMaxExtentFlat", true, false },
	{ "vmdk", "subformat=streamOptimized", false, true },
	{ "vmdk", "zeroed_grain=on", true, false },
	{ "vmdk", "adapter_type=lsilogic,hwversion=10", true, true },
	{ "vdi", "", true, true },
	{ "vdi", "static=on", true, true },
	{ "vdi", "preallocation=full", true, false },
	{ "vpc", "force_size=on", true, true },
	{ "vpc", "subformat=fixed,force_size=on", true, false },
	{ "vhdx", "", true, false },
	{ "vhdx", "block_size=1M", true, false },
	{ "vhdx", "subformat=fixed", true, false },
	{ "vhdx", "log_size=2M,block_state_zero=on", true, false },
	{ "qcow", "", true, false },
	{ "parallels", "", true, false },
	{ "parallels", "cluster_size=64k", true, false },
	{ "parallels", "cluster_size=1536", true, false },
	{ "qed", "", true, false },
	{ "qed", "cluster_size=4k,table_size=2", true, false },
	{ "qcow2", "", true, true },
	{ "qcow2", "cluster_size=4k", true, true },
	{ "qcow2", "compat=0.10", true, true },
	{ "qcow2", "extended_l2=on,cluster_size=128k", true, false },
	{ "qcow2", "refcount_bits=1", true, false },
	{ "qcow2", "lazy_refcounts=on", true, false },
	{ "qcow2", "preallocation=metadata", true, false },
};

static const char *dash_o(const char *opts)
{
	static char buf[256];

	snprintf(buf, sizeof(buf), "%s%s", *opts ? "-o " : "", opts);
	return buf;
}

static bool known(const char *format)
{
	return node_format_find(format) && node_format_find(format)->create;
}

/* 7-Zip unpacks images; the disk inside must be ours. */
static void check_7z(const char *format)
{
	const char *type = !strcmp(format, "vpc") ? "-tVHD" : "";

	if (!img_have("7z"))
		return;
	RUN_OK("7z t %s out.%s >/dev/null", type, format);
	RUN_OK("7z x -so %s out.%s 2>/dev/null | cmp -n %llu - in.raw", type, format,
	       (unsigned long long)SIZE);
}

static void check_libyal(const char *format)
{
	const char *tool = !strcmp(format, "vmdk")			       ? "vmdkinfo"
			   : !strcmp(format, "qcow2")			       ? "qcowinfo"
			   : !strcmp(format, "vpc") || !strcmp(format, "vhdx") ? "vhdiinfo"
									       : NULL;

	if (!tool || !img_have(tool))
		return;
	RUN_OK("%s out.%s | grep '(%llu bytes)' >/dev/null", tool, format,
	       (unsigned long long)SIZE);
}

TEST(what_we_write_others_read)
{
	img_enter();
	img_pattern("in.raw", SIZE, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(written); i++) {
		const char *f = written[i].format, *o = dash_o(written[i].opts);

		if (!known(f))
			continue;
		RUN_OK("%%M convert -f raw -O %s %s in.raw out.%s", f, o, f);
		RUN_OK("qemu-img compare -f raw -F %s in.raw out.%s", f, f);
		RUN_OK("%%M compare -f raw -F %s in.raw out.%s", f, f);
		if (strcmp(f, "raw") && strcmp(f, "vpc") && strcmp(f, "qcow")) {
			RUN_OK("qemu-img check -f %s out.%s", f, f);
			RUN_OK("%%M check -f %s out.%s", f, f);
		}
		if (written[i].archive)
			check_7z(f);
		if (strcmp(written[i].opts, "extended_l2=on,cluster_size=128k"))
			check_libyal(f);
		/* qemu-io changes it; we see the change. */
		if (written[i].write_late) {
			RUN_OK("cp in.raw copy.raw; for i in 'raw copy.raw' '%s out.%s'; do set -- "
			       "$i; qemu-io -f $1 "
			       "-c 'write -P 7 1M 3M' -c 'write -P 9 77824 300k' -c 'write -P 3 "
			       "34M 1k' $2 || exit 1; done",
			       f, f);
			RUN_OK("%%M compare -f raw -F %s copy.raw out.%s", f, f);
		}
		RUN_OK("rm -f out* copy.raw");
	}
}

static void store(int fd, uint64_t off, const void *p, size_t len)
{
	CHECK(pwrite(fd, p, len, off) == (ssize_t)len);
}

/*
 * qemu-img 7.2 can no longer compress into qcow; it still reads what was compressed. Built here by
 * the layout.
 */
TEST(qcow1_compressed_is_read)
{
	enum { CLUSTERS = 512, CLUSTER = 4096, L2 = 4096, DATA = 8192 };
	uint8_t h[48] = { 0 }, in[CLUSTER], out[2 * CLUSTER];
	uint64_t l2[CLUSTERS], at = DATA, be;
	int raw, fd;

	img_enter();
	img_pattern("in.raw", CLUSTERS * CLUSTER, 2);
	raw = open("in.raw", O_RDONLY);
	fd = open("q.qcow", O_RDWR | O_CREAT, 0644);
	st_be32(h, 0x514649fb);
	st_be32(h + 4, 1);
	st_be64(h + 24, CLUSTERS * CLUSTER);
	h[32] = 12;
	h[33] = 9;
	st_be64(h + 40, 1024);
	store(fd, 0, h, sizeof(h));
	be = htobe64(L2);
	store(fd, 1024, &be, 8);
	for (int i = 0; i < CLUSTERS; i++) {
		z_stream z = { 0 };

		CHECK(pread(raw, in, CLUSTER, i * CLUSTER) == CLUSTER);
		CHECK(deflateInit2(&z, 6, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY) == Z_OK);
		z.next_in = in;
		z.avail_in = CLUSTER;
		z.next_out = out;
		z.avail_out = sizeof(out);
		CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
		deflateEnd(&z);
		if (z.total_out < CLUSTER) {
			l2[i] = htobe64(1ull << 63 | (uint64_t)z.total_out << (63 - 12) | at);
			store(fd, at, out, z.total_out);
			at += z.total_out;
		} else {
			at = ALIGN_UP(at, (uint64_t)CLUSTER);
			l2[i] = htobe64(at);
			store(fd, at, in, CLUSTER);
			at += CLUSTER;
		}
	}
	store(fd, L2, l2, sizeof(l2));
	close(fd);
	RUN_OK("qemu-img compare in.raw q.qcow && %%M compare in.raw q.qcow && %%M map "
	       "--output=json q.qcow");
}

static const struct { const char *format, *opts, *flags;
} foreign[] = {
	{ "vmdk", "", "" },
	{ "vmdk", "subformat=monolithicFlat", "" },
	{ "vmdk", "subformat=twoGbMaxExtentSparse", "" },
	{ "vmdk", "subformat=twoGbMaxExtentFlat", "" },
	{ "vmdk", "subformat=streamOptimized", "" },
	{ "vmdk", "zeroed_grain=on", "" },
	{ "vmdk", "compat6=on", "" },
	{ "vdi", "", "" },
	{ "vdi", "static=on", "" },
	{ "vpc", "", "" },
	{ "vpc", "subformat=fixed", "" },
	{ "vpc", "force_size=on", "" },
	{ "vhdx", "", "" },
	{ "vhdx", "block_size=2M", "" },
	{ "vhdx", "subformat=fixed", "" },
	{ "vhdx", "block_state_zero=off", "" },
	{ "qcow", "", "" },
	{ "parallels", "", "" },
	{ "qed", "", "" },
	{ "qed", "cluster_size=8k,table_size=16", "" },
	{ "parallels", "cluster_size=2M", "" },
	{ "raw", "preallocation=falloc", "" },
	{ "qcow2", "", "" },
	{ "qcow2", "", "-c" },
	{ "qcow2", "compression_type=zstd", "-c" },
	{ "qcow2", "cluster_size=512", "" },
	{ "qcow2", "cluster_size=2M", "-c" },
	{ "qcow2", "compat=0.10", "-c" },
	{ "qcow2", "refcount_bits=64", "" },
	{ "qcow2", "extended_l2=on", "" },
	{ "qcow2", "preallocation=full", "" },
	{ "qcow2", "data_file=ext.raw,data_file_raw=on", "" },
	{ "qcow2", "data_file=ext.raw", "" },
	{ "qcow2", "preallocation=metadata", "" },
	{ "qcow2", "preallocation=falloc", "" },
	{ "qcow2", "lazy_refcounts=on,refcount_bits=1", "" },
	{ "qcow2", "refcount_bits=8,cluster_size=4k", "-c" },
	{ "qcow2", "extended_l2=on,cluster_size=16k,compression_type=zstd", "-c" },
	{ "qcow2", "extended_l2=on,cluster_size=2M", "" },
	{ "vmdk", "hwversion=6,adapter_type=lsilogic", "" },
	{ "vmdk", "subformat=twoGbMaxExtentSparse,zeroed_grain=on", "" },
	{ "vpc", "subformat=fixed,force_size=on", "" },
	{ "vhdx", "log_size=4M,block_size=256M", "" },
	{ "vhdx", "subformat=fixed,block_state_zero=off", "" },
	{ "parallels", "cluster_size=64k", "" },
	{ "raw", "preallocation=full", "" },
};

TEST(what_qemu_img_writes_we_read)
{
	img_enter();
	img_pattern("in.raw", SIZE, 2);
	for (unsigned i = 0; i < ARRAY_SIZE(foreign); i++) {
		const char *f = foreign[i].format;

		if (!node_format_find(f))
			continue;
		RUN_OK("qemu-img convert %s -f raw -O %s %s in.raw q.%s", foreign[i].flags, f,
		       dash_o(foreign[i].opts), f);
		RUN_OK("%%M compare -f raw -F %s in.raw q.%s | grep -v '^Warning: Image size'", f,
		       f);
		RUN_OK("%%M convert -f %s -O raw q.%s back.raw; cmp -n %llu in.raw back.raw", f, f,
		       (unsigned long long)SIZE);
		RUN_OK("diff <(%%M info -f %s q.%s | grep -v '^disk size') <(qemu-img info -f %s "
		       "q.%s | grep -v '^disk size')",
		       f, f, f, f);
		RUN_OK("diff <(%%M info --output=json -f %s q.%s) <(qemu-img info --output=json -f "
		       "%s q.%s)",
		       f, f, f, f);
		/*
		 * Where qemu-img does not look closely, gives places for what is not there, or
		 * looks for holes in what is.
		 */
		if (strcmp(f, "vhdx") && !strstr(foreign[i].opts, "extended_l2") &&
		    !strstr(foreign[i].opts, "preallocation=metadata"))
			RUN_OK("diff <(%%M map --output=json -f %s q.%s) <(qemu-img map "
			       "--output=json -f %s q.%s)",
			       f, f, f, f);
		RUN_OK("rm -f q* back.raw ext.raw");
	}
}

/* --- random operations from several threads on raw and on a format at once --- */

struct work { struct node *a, *b; uint64_t from, to, seed; int ops, failed; };

static void *random_ops(void *arg)
{
	struct work *w = arg;
	uint8_t *x = malloc(MiB), *y = malloc(MiB);

	for (int i = 0; i < w->ops && !w->failed; i++) {
		uint64_t room = w->to - w->from, off = w->from + img_random(&w->seed) % room, len;

		len = 1 + img_random(&w->seed) % (img_random(&w->seed) % 8 ? 70000 : MiB);
		len = MIN(MIN(len, MiB), w->to - off);
		off = img_random(&w->seed) % 4 ? ALIGN_DOWN(off, 512ull) : off;
		len = MIN(len, w->to - off);
		switch (img_random(&w->seed) % 8) {
		case 0:
			w->failed |= node_zeroes(w->a, off, len, 0) ||
				     node_zeroes(w->b, off, len, 0);
			break;
		case 1:
			w->failed |= node_flush(w->b);
			break;
		case 2: case 3: case 4:
			w->failed |= node_pread(w->a, x, len, off) ||
				     node_pread(w->b, y, len, off) || memcmp(x, y, len);
			break;
		default:
			memset(x, img_random(&w->seed), len);
			x[0] = i;
			w->failed |= node_pwrite(w->a, x, len, off) ||
				     node_pwrite(w->b, x, len, off);
		}
	}
	free(x);
	free(y);
	return NULL;
}

static void random_format(const char *format, const char *opts, const char *backing)
{
	struct blk_options raw = { .format = "raw", .flags = BLK_RDWR },
			   o = { .format = format, .flags = BLK_RDWR };
	struct work w[3];
	pthread_t t[3];
	struct err err = { 0 };
	struct node *a, *b;

	if (backing)
		RUN_OK("%%M create -q -f %s -b %s -F %s x.img; %%M convert -O raw x.img x.raw",
		       format, backing, format);
	else
		RUN_OK("%%M create -q -f %s %s x.img %llu; truncate -s %llu x.raw", format,
		       dash_o(opts), (unsigned long long)SIZE, (unsigned long long)SIZE);
	a = node_open("x.raw", &raw, &err);
	b = node_open("x.img", &o, &err);
	if (!a || !b)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	for (int i = 0; i < 3; i++) {
		/* Neighbours share blocks, not bytes. */
		w[i] = (struct work){
			a, b, SIZE / 3 * i + i * 1000, SIZE / 3 * (i + 1) - 500, i + 1, 250, 0
		};
		pthread_create(&t[i], NULL, random_ops, &w[i]);
	}
	for (int i = 0; i < 3; i++) {
		pthread_join(t[i], NULL);
		if (w[i].failed)
			tap_fail(__FILE__, __LINE__, "%s %s: differs from raw", format, opts);
	}
	node_unref(a);
	node_unref(b);
	RUN_OK("qemu-img compare -f raw -F %s x.raw x.img | grep -v '^Warning'", format);
	RUN_OK("%%M compare -f raw -F %s x.raw x.img | grep -v '^Warning'", format);
	if (strcmp(format, "vpc") && strcmp(format, "qcow"))
		RUN_OK("qemu-img check -f %s x.img && %%M check -f %s x.img", format, format);
	RUN_OK("rm -f x*");
}

TEST(random_operations_match_raw)
{
	static const char *const cases[][2] = {
		{ "vmdk", "" },
		{ "vmdk", "zeroed_grain=on" },
		{ "vmdk", "subformat=twoGbMaxExtentSparse" },
		{ "vmdk", "subformat=monolithicFlat" },
		{ "vdi", "" },
		{ "vdi", "static=on" },
		{ "vpc", "" },
		{ "vpc", "subformat=fixed,force_size=on" },
		{ "vhdx", "block_size=1M" },
		{ "vhdx", "" },
		{ "qcow2", "" }, { "qcow", "" }, { "qed", "" }, { "qed", "cluster_size=16k" },
		{ "parallels", "" }, { "parallels", "cluster_size=1536" },
		{ "qcow2", "cluster_size=4k" },
		{ "qcow2", "extended_l2=on" },
	};

	img_enter();
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
		if (known(cases[i][0]))
			random_format(cases[i][0], cases[i][1], NULL);
	img_pattern("base.raw", SIZE, 5);
	RUN_OK("%%M convert -f raw -O vmdk base.raw base.vmdk");
	random_format("vmdk", "", "base.vmdk");
}

/* --- vmdk's own --- */

TEST(vmdk_delta_and_its_parent)
{
	img_enter();
	img_pattern("in.raw", SIZE, 3);
	RUN_OK("%%M convert -f raw -O vmdk in.raw base.vmdk; %%M create -q -f vmdk -b base.vmdk -F "
	       "vmdk d.vmdk");
	RUN_OK("qemu-img compare in.raw d.vmdk && %%M compare in.raw d.vmdk");
	RUN_OK("qemu-io -f vmdk -c 'write -P 5 3M 100k' d.vmdk && qemu-io -f raw -c 'write -P 5 3M "
	       "100k' in.raw && "
	       "%%M compare in.raw d.vmdk");
	RUN_OK("qemu-img create -q -f vmdk -b base.vmdk -F vmdk e.vmdk");
	RUN_OK("%%M info --backing-chain e.vmdk | grep >/dev/null 'backing file: base.vmdk'");
	/* A write to the parent makes its deltas unusable, and that is said. */
	RUN_OK("qemu-io -f vmdk -c 'write -P 6 0 4k' base.vmdk");
	CHECK(strstr(RUN_FAILS(4, "%%M compare in.raw d.vmdk")->out, "has changed since"));
}

TEST(vmdk_pieces_open_alone)
{
	img_enter();
	img_pattern("in.raw", SIZE, 4);
	RUN_OK("%%M convert -f raw -O vmdk -o subformat=twoGbMaxExtentSparse in.raw s.vmdk && %%M "
	       "compare in.raw s-s001.vmdk");
}

TEST(vmdk_names_outside_its_folder_are_refused)
{
	static const char *const names[] = { "/etc/passwd", "../secret", "sub/../../secret", "..",
					     "a/b" };

	img_enter();
	RUN_OK("mkdir dir; echo secret >secret; mkdir dir/a; cp secret dir/a/b");
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		RUN_OK("printf '# Disk "
		       "DescriptorFile\\nversion=1\\nCID=1\\nparentCID=ffffffff\\ncreateType="
		       "\"monolithicFlat\"\\n"
		       "RW 1 FLAT \"%s\" 0\\n' >dir/x.vmdk",
		       names[i]);
		CHECK(strstr(RUN_FAILS(1, "%%M info dir/x.vmdk")->out, "outside its own folder"));
	}
}

static void store32(int fd, uint64_t off, uint32_t v)
{
	v = htole32(v);
	store(fd, off, &v, 4);
}

static void store64(int fd, uint64_t off, uint64_t v)
{
	v = htole64(v);
	store(fd, off, &v, 8);
}

/* What ESX makes and qemu-img cannot: built here by the layout, judged by qemu-img. */
TEST(vmdk_esx_sparse)
{
	uint8_t grain[4096];
	int fd, raw;

	img_enter();
	raw = open("in.raw", O_RDWR | O_CREAT, 0644);
	fd = open("c-delta.vmdk", O_RDWR | O_CREAT, 0644);
	CHECK(ftruncate(raw, 20 * MiB) == 0);
	/* COWD: 40960 sectors, grain 1, directory at 4, table at 20 and 60. */
	store(fd, 0, "COWD", 4);
	store32(fd, 4, 1);
	store32(fd, 8, 3);
	store32(fd, 12, 40960);
	store32(fd, 16, 1);
	store32(fd, 20, 4);
	store32(fd, 24, 10);
	store32(fd, 28, 200);
	store32(fd, 4 * 512 + 0, 20);
	store32(fd, 4 * 512 + 9 * 4, 60);
	memset(grain, 0x5a, sizeof(grain));
	store32(fd, 20 * 512 + 7 * 4, 150);
	store(fd, 150 * 512, grain, 512);
	store(raw, 7 * 512, grain, 512);
	store32(fd, 60 * 512 + 4095 * 4, 151);
	store(fd, 151 * 512, grain, 512);
	store(raw, 40959 * 512, grain, 512);
	close(fd);
	RUN_OK("printf '# Disk "
	       "DescriptorFile\\nversion=1\\nCID=1234abcd\\nparentCID=ffffffff\\ncreateType="
	       "\"vmfsSparse\"\\n"
	       "RW 40960 VMFSSPARSE \"c-delta.vmdk\"\\n' >c.vmdk");
	RUN_OK("%%M compare in.raw c.vmdk && qemu-img compare in.raw c.vmdk && %%M compare in.raw "
	       "c-delta.vmdk");
	img_pattern("other.raw", 20 * MiB, 11);
	RUN_OK("%%M convert -n -f raw -O vmdk other.raw c.vmdk && %%M compare other.raw c.vmdk && "
	       "qemu-img compare other.raw c.vmdk");
	close(raw);
	/* seSparse: grains of 4 KiB, tables of 4096 entries. */
	RUN_OK("rm in.raw");
	raw = open("in.raw", O_RDWR | O_CREAT, 0644);
	CHECK(ftruncate(raw, 20 * MiB) == 0);
	fd = open("s-sesparse.vmdk", O_RDWR | O_CREAT, 0644);
	store64(fd, 0, 0xcafebabe);
	store64(fd, 8, 0x0000000200000001ull);
	store64(fd, 16, 40960);
	store64(fd, 24, 8);
	store64(fd, 32, 64);
	store64(fd, 80, 1);
	store64(fd, 88, 1);
	store64(fd, 96, 2);
	store64(fd, 104, 1);
	store64(fd, 112, 3);
	store64(fd, 120, 1);
	store64(fd, 128, 8);
	store64(fd, 136, 1);
	store64(fd, 144, 16);
	store64(fd, 152, 64 * 3);
	store64(fd, 160, 300);
	store64(fd, 168, 1);
	store64(fd, 176, 301);
	store64(fd, 184, 1);
	store64(fd, 192, 512);
	store64(fd, 200, 80);
	store64(fd, 512, 0xcafecafe);
	store64(fd, 8 * 512, 0x1000000000000001ull);
	/* grain 2: the low bits come first */
	store64(fd, 16 * 512 + 64 * 512 + 3 * 8, 0x3000000000000000ull | 2ull << 48);
	store64(fd, 16 * 512 + 64 * 512 + 4 * 8, 0x2000000000000000ull);
	memset(grain, 0xa5, sizeof(grain));
	store(fd, 512 * 512 + 2 * 4096, grain, sizeof(grain));
	store(raw, 3 * 4096, grain, sizeof(grain));
	CHECK(ftruncate(fd, 512 * 512 + 10 * 4096) == 0);
	close(fd);
	close(raw);
	RUN_OK("printf '# Disk "
	       "DescriptorFile\\nversion=1\\nCID=1234abcd\\nparentCID=ffffffff\\ncreateType="
	       "\"seSparse\"\\n"
	       "RW 40960 SESPARSE \"s-sesparse.vmdk\"\\n' >s.vmdk");
	RUN_OK("qemu-img compare in.raw s.vmdk && %%M compare in.raw s.vmdk");
	CHECK(strstr(RUN_FAILS(1, "%%M resize s.vmdk +1G")->out, "seSparse"));
}

TEST(stream_without_its_end_does_not_open)
{
	img_enter();
	img_pattern("in.raw", SIZE, 6);
	RUN_OK("%%M convert -f raw -O vmdk -o subformat=streamOptimized in.raw s.vmdk && %%M "
	       "compare in.raw s.vmdk");
	CHECK(strstr(RUN_FAILS(1, "truncate -s -512 s.vmdk; %%M info s.vmdk")->out, "cut off"));
}

/* --- the others' own --- */

TEST(vhdx_in_7zip)
{
	static const char *const opts[] = { "", "-o block_size=1M", "-o subformat=fixed" };

	img_enter();
	if (!img_have("7z"))
		SKIP("7z is not here (p7zip-full)");
	img_pattern("in.raw", 37 * MiB, 10);	/* 7-Zip takes whole 4 KiB only */
	for (unsigned i = 0; i < ARRAY_SIZE(opts); i++)
		RUN_OK("%%M convert -f raw -O vhdx %s in.raw out.vhdx && 7z x -so out.vhdx "
		       "2>/dev/null | cmp - in.raw && rm out.vhdx",
		       opts[i]);
}

TEST(vhd_differencing_is_read)
{
	img_enter();
	img_pattern("in.raw", SIZE, 7);
	RUN_OK("%%M convert -f raw -O vpc -o force_size=on in.raw base.vhd && %%M create -q -f vpc "
	       "-o force_size=on d.vhd %llu",
	       (unsigned long long)SIZE);
	RUN_OK("qemu-io -f vpc -c 'write -P 4 2M 2M' d.vhd");
	{
		int fd = open("d.vhd", O_RDWR);
		uint8_t f[512], name[64] = { 0 };
		uint32_t sum = 0, be;
		uint8_t bitmap[512];

		CHECK(pread(fd, f, 512, 0) == 512);
		f[63] = 4;
		memset(f + 64, 0, 4);
		for (int i = 0; i < 512; i++)
			sum += f[i];
		be = htobe32(~sum);
		memcpy(f + 64, &be, 4);
		store(fd, 0, f, 512);
		for (int i = 0; i < 8; i++)
			name[i * 2 + 1] = "base.vhd"[i];
		store(fd, 512 + 64, name, sizeof(name));
		/* Of the block written above only the sectors 0, 1 and 9 belong to the child. */
		CHECK(pread(fd, &be, 4, 1536 + 4) == 4);
		memset(bitmap, 0, sizeof(bitmap));
		bitmap[0] = 0xc0;
		bitmap[1] = 0x40;
		store(fd, be32toh(be) * 512ull, bitmap, sizeof(bitmap));
		close(fd);
	}
	RUN_OK("qemu-io -f raw -c 'write -P 4 2M 1k' -c 'write -P 4 2101760 512' in.raw && %%M "
	       "compare -F vpc in.raw d.vhd");
	CHECK(strstr(RUN_FAILS(1, "%%M resize d.vhd +1M")->out, "read only"));
}

TEST(vhdx_log_is_replayed)
{
	img_enter();
	img_pattern("in.raw", SIZE, 8);
	RUN_OK("qemu-img convert -f raw -O vhdx -o block_size=1M in.raw x.vhdx");
	/* qemu-io dies with its log in the file. */
	img_run("qemu-io -f vhdx -c 'write -P 4 8M 5M' -c 'write -P 5 30M 3M' -c 'flush' -c abort "
		"x.vhdx");
	RUN_OK("qemu-io -f raw -c 'write -P 4 8M 5M' -c 'write -P 5 30M 3M' in.raw; cp x.vhdx "
	       "y.vhdx");
	/* Read only: in memory. */
	RUN_OK("%%M compare in.raw x.vhdx; cmp x.vhdx y.vhdx");
	/* For writing: in the file, after which qemu-img finds no log. */
	RUN_OK("%%M convert -n -f raw -O vhdx in.raw x.vhdx && qemu-img compare in.raw x.vhdx");
}

TEST(nbd_and_http)
{
	img_enter();
	img_pattern("in.raw", SIZE, 9);
	if (access(img_run("dirname %%M | tr -d '\\n'; echo -n /minivmm-nbd.so")->out, R_OK))
		SKIP("libnbd is not here");
	RUN_OK("cp in.raw served.raw; qemu-nbd -t -k $PWD/s -f raw -x disk -e 4 served.raw --fork "
	       "--pid-file=pid");
	RUN_OK("u=\"nbd+unix:///disk?socket=$PWD/s\"; %%M compare -f raw -F raw in.raw \"$u\" && "
	       "%%M info --output=json \"$u\" && %%M map -f raw \"$u\" >/dev/null && "
	       "%%M convert -f raw -O vmdk \"$u\" x.vmdk && %%M compare in.raw x.vmdk");
	RUN_OK("truncate -s %llu zero; %%M convert -n -f raw -O raw zero "
	       "\"nbd:unix:$PWD/s:exportname=disk\"; kill $(cat pid); "
	       "sleep 0.2; cmp zero served.raw",
	       (unsigned long long)SIZE);
	CHECK(strstr(RUN_FAILS(1, "%%M info nbd://127.0.0.1:1/x")->out, "127.0.0.1:1"));
}

TAP_MAIN
