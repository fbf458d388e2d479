/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * identity.c: what a saved machine remembers of a disk (disk/identity.h): the same, copied,
 * changed, for each format and way to change it. suite-restore does the same with whole machines.
 */
#include <stdio.h>

#include "disk/identity.h"
#include "tests/lib/imgtest.h"
#include "tests/tap.h"

static struct blk *open_blk(const char *name, const char *format, unsigned flags)
{
	struct blk_options o = { .format = format, .flags = flags };
	struct err err = { "" };
	struct blk *b = blk_open(name, &o, &err);

	if (!b)
		tap_fail(__FILE__, __LINE__, "%s: %s", name, err.msg);
	return b;
}

/* Writes, as a guest before it is saved, and tells what the disk is then. */
static struct disk_identity kept(const char *name, const char *format, unsigned flags)
{
	struct blk *b = open_blk(name, format, flags);
	struct disk_identity id;
	struct err err = { "" };
	/* A whole cluster: qcow2's end is rounded when it is closed. */
	static char data[65536] = "saved";

	CHECK_EQ(blk_pwrite(b, data, sizeof(data), 65536, 0), 0);
	CHECK_EQ(blk_flush(b), 0);
	/* As "stop" does: what comes after is no business of ours, and closing writes nothing. */
	CHECK_EQ(blk_inactivate(b, &err), 0);
	disk_identity_get(b, false, &id);
	disk_identity_settle(&id);
	CHECK_EQ(blk_close(b), 0);
	return id;
}

/* Opens it as a restored machine does. */
static enum disk_verdict now(const struct disk_identity *was, const char *name, const char *format,
			     unsigned flags)
{
	struct blk *b = open_blk(name, format, flags);
	struct disk_identity id;
	enum disk_verdict v;
	char why[1024];

	disk_identity_get(b, true, &id);
	v = disk_identity_compare(was, &id, why, sizeof(why));
	CHECK_EQ(v == DISK_SAME, !why[0]);
	if (v)
		printf("# %s %s\n", format, why);
	disk_identity_free(&id);
	blk_close(b);
	return v;
}

static void change(const char *name, const char *format)
{
	struct blk *b = open_blk(name, format, BLK_RDWR);
	char data[512] = "changed";

	CHECK_EQ(blk_pwrite(b, data, sizeof(data), 65536, 0), 0);
	CHECK_EQ(blk_close(b), 0);
}

TEST(every_format)
{
	static const char *const formats[] = { "raw", "qcow2", "vmdk", "vdi", "vpc", "vhdx" };

	img_enter();
	for (unsigned i = 0; i < ARRAY_SIZE(formats); i++) {
		const char *f = formats[i];
		struct disk_identity id;

		RUN_OK("rm -f disk copy; %%M create -q -f %s disk 4M", f);
		id = kept("disk", f, BLK_RDWR);
		CHECK_EQ(id.layers, 1);
		CHECK_EQ(now(&id, "disk", f, BLK_RDWR), DISK_SAME);
		CHECK_EQ(now(&id, "disk", f, BLK_RDWR), DISK_SAME);	/* looking is no change */
		RUN_OK("cp -a disk copy");
		CHECK_EQ(now(&id, "copy", f, BLK_RDWR), DISK_COPIED);
		RUN_OK("touch -d @1000 copy");
		CHECK_EQ(now(&id, "copy", f, BLK_RDWR), DISK_CHANGED);
		RUN_OK("chmod 0600 disk");
		CHECK_EQ(now(&id, "disk", f, BLK_RDWR), DISK_COPIED);
		change("disk", f);
		CHECK_EQ(now(&id, "disk", f, BLK_RDWR), DISK_CHANGED);
		disk_identity_free(&id);
	}
}

TEST(a_format_with_a_mark_is_not_deceived_by_its_times)
{
	static const struct { const char *format; enum disk_verdict v; } rows[] = {
		{ "raw", DISK_COPIED }, { "vmdk", DISK_CHANGED }, { "vhdx", DISK_CHANGED },
	};

	img_enter();
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct disk_identity id;

		RUN_OK("rm -f disk then; %%M create -q -f %s disk 4M", rows[i].format);
		id = kept("disk", rows[i].format, BLK_RDWR);
		RUN_OK("touch -r disk then");
		change("disk", rows[i].format);
		RUN_OK("touch -r then disk");
		CHECK_EQ(now(&id, "disk", rows[i].format, BLK_RDWR), rows[i].v);
		disk_identity_free(&id);
	}
}

TEST(chains_and_overlays)
{
	struct disk_identity id;

	img_enter();
	RUN_OK("%%M create -q -f raw base 4M && %%M create -q -f qcow2 -F raw -b base disk && "
	       "%%M create -q -f qcow2 -F qcow2 -b disk new");
	id = kept("disk", "qcow2", BLK_RDWR);
	CHECK_EQ(id.layers, 2);
	CHECK_EQ(now(&id, "disk", "qcow2", BLK_RDWR | BLK_SNAPSHOT), DISK_SAME);
	CHECK_EQ(now(&id, "new", "qcow2", BLK_RDWR), DISK_SAME);
	change("new", "qcow2");
	CHECK_EQ(now(&id, "new", "qcow2", BLK_RDWR), DISK_CHANGED);
	CHECK_EQ(now(&id, "base", "raw", 0), DISK_CHANGED);
	RUN_OK("cp -a base copy && mv copy base");
	CHECK_EQ(now(&id, "disk", "qcow2", BLK_RDWR), DISK_COPIED);
	change("base", "raw");
	CHECK_EQ(now(&id, "disk", "qcow2", BLK_RDWR), DISK_CHANGED);
	disk_identity_free(&id);
	/* What was written to a temporary file went with it. */
	id = kept("disk", "qcow2", BLK_RDWR | BLK_SNAPSHOT);
	CHECK(id.lost);
	CHECK_EQ(now(&id, "disk", "qcow2", BLK_RDWR), DISK_CHANGED);
	disk_identity_free(&id);
}

/* Given up, changed by another program, taken again: what is read is what that one wrote. */
TEST(what_another_program_wrote_meanwhile_is_read)
{
	static const char *const formats[] = { "raw", "qcow2", "vmdk", "vdi", "vpc", "vhdx",
					       "vmdk -o subformat=twoGbMaxExtentSparse" };

	img_enter();
	for (unsigned i = 0; i < ARRAY_SIZE(formats); i++) {
		char format[8];
		struct err err = { "" };
		struct blk *b;
		char data[512];

		sscanf(formats[i], "%7s", format);
		RUN_OK("rm -f disk*; qemu-img create -q -f %s disk 4M", formats[i]);
		b = open_blk("disk", format, BLK_RDWR);
		CHECK_EQ(blk_pread(b, data, sizeof(data), 2 << 20), 0);
		CHECK_EQ(blk_inactivate(b, &err), 0);
		change("disk", format);
		CHECK_EQ(blk_activate(b, &err), 0);
		CHECK_EQ(blk_pread(b, data, sizeof(data), 65536), 0);
		if (strcmp(data, "changed"))
			printf("# %s: stale\n", formats[i]);
		CHECK(!strcmp(data, "changed"));
		CHECK_EQ(blk_pwrite(b, data, sizeof(data), 3 << 20, 0), 0);
		CHECK_EQ(blk_close(b), 0);
		if (i && strcmp(format, "vpc"))	/* those have no check */
			RUN_OK("%%M check -f %s disk", format);
	}
}

TAP_MAIN
