/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * places.c: where names inside images may lead to: each kind of name, in each place, for each
 * format that has names, read by minivmm-img and (where there is KVM) by minivmm.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/imgtest.h"
#include "tests/tap.h"
#include "vmm/base/util.h"

/*
 * The images are in "own" and name files in "own", "other" and "listed". The right answer: 'r' read
 * in silence, 's' read and said, '-' refused with the option to add.
 */
static const struct place {
	const char *what, *dir, *option;
	bool listed;			/* where images may be */
} places[] = {
	{ "the image's folder", ".", "", true },
	{ "the same by an absolute name", "$PWD", "", true },
	{ "the same by a way round", "../other/../own", "", true },
	{ "another folder", "../other", "", false },
	{ "another folder, absolute", "${PWD%/own}/other", "", false },
	{ "a folder below", "below", "", false },
	{ "a folder behind a link", "link", "", false },
	{ "a file behind a link", "files", "", false },
	{ "an allowed folder", "../other", "-image-dir ../other", true },
	{ "an allowed folder through a link", "../other", "-image-dir link", true },
	{ "below an allowed folder", "../other", "-image-dir ..", true },
	{ "beside an allowed folder", "../other", "-image-dir ../oth", false },
	{ "out of an allowed folder", "../listed/../other", "-image-dir ../listed", false },
};

static const struct kind {
	const char *what;
	const char *make;		/* makes "top" in own, which names a file in $d */
	/* in a place that is not allowed: read and said, refused, or wrong anywhere */
	enum { SAID, REFUSED, WRONG } elsewhere;
} kinds[] = {
	{ "qcow2 on qcow2", "qemu-img create -q -f qcow2 -u -b $d/b.qcow2 -F qcow2 top 1M", SAID },
	{ "qcow2 on raw", "qemu-img create -q -f qcow2 -u -b $d/b.raw -F raw top 1M", REFUSED },
	{ "qcow2 on raw said to be qcow2",
	  "qemu-img create -q -f qcow2 -u -b $d/b.raw -F qcow2 top 1M", WRONG },
	{ "qcow2 on a host device, which is raw",
	  "qemu-img create -q -f qcow2 -u -b $d/b.raw -F raw top 1M; "
	  "$M rebase -u -b $d/b.raw -F host_device top", REFUSED },
	{ "qcow2 on qcow2, which it does not say",
	  "qemu-img create -q -f qcow2 -u -b $d/b.qcow2 -F qcow2 top 1M; "
	  "printf '\\0\\0\\0\\0' | dd of=top bs=1 seek=112 conv=notrunc status=none", REFUSED },
	{ "qcow2 on vmdk", "qemu-img create -q -f qcow2 -u -b $d/b.vmdk -F vmdk top 1M", SAID },
	{ "qcow2 on vhdx", "qemu-img create -q -f qcow2 -u -b $d/b.vhdx -F vhdx top 1M", SAID },
	{ "qcow2 on a json: name of qcow2",
	  "qemu-img create -q -f qcow2 -u -F qcow2 -b "
	  "\"json:{'driver':'qcow2','file':{'driver':'file','filename':'$d/b.qcow2'}}\" top 1M",
	  SAID },
	{ "qcow2 on a json: name of raw",
	  "qemu-img create -q -f qcow2 -u -F raw -b "
	  "\"json:{'driver':'raw','file':{'driver':'file','filename':'$d/b.raw'}}\" top 1M",
	  REFUSED },
	{ "qcow2 on a window of a file that is qcow2",
	  "qemu-img create -q -f qcow2 -u -F qcow2 -b \"json:{'driver':'qcow2','file':"
	  "{'driver':'raw','file':{'driver':'file','filename':'$d/b.qcow2'}}}\" top 1M",
	  REFUSED },
	{ "vmdk on vmdk", "qemu-img create -q -f vmdk -b $d/b.vmdk -F vmdk top 1M", SAID },
	{ "qcow on raw", "qemu-img create -q -f qcow -u -b $d/b.raw -F raw top 1M", REFUSED },
	{ "qcow2 with a data file",
	  "qemu-img create -q -f qcow2 -o data_file=$d/b.data,data_file_raw=on top 1M; "
	  "cat $d/b.raw >$d/b.data", REFUSED },
};

static void make_files(void)
{
	img_enter();
	setenv("M", img_tool(), 1);
	RUN_OK("mkdir own other oth listed own/below; cd own; ln -s ../other link; touch "
	       "../other/b.data; for d in . below ../other ../listed; do head -c 1M /dev/urandom "
	       ">$d/b.raw; for f in qcow2 vmdk vhdx; do "
	       "qemu-img convert -f raw -O $f $d/b.raw $d/b.$f; done; done; "
	       "mkdir files; for f in ../other/*; do ln -s ../$f files; done");
}

/* The right answer of one program, or what was wrong with it. */
static const char *judge(const struct kind *k, bool listed, const struct img_result *r)
{
	const char *said = strstr(r->out, "outside the folders of images");
	bool told = strstr(r->out, "add: -image-dir '");

	if (k->elsewhere == WRONG)
		return r->status == 0 ? "it was opened" :
		       !listed && !said ? "its place was not the reason" : NULL;
	if (!listed && k->elsewhere == REFUSED)
		return r->status == 0 ? "it was opened" :
		       !said ? "its place was not the reason" :
		       !told ? "nothing says what to type" : NULL;
	if (r->status != 0)
		return "it was not opened";
	if (listed)
		return said || told ? "it said something" : NULL;
	return !said || strchr(said, '\n') != strrchr(r->out, '\n') ||
		       strstr(said + 1, "outside the folders")
		       ? "it did not say so, in one line" : NULL;
}

static bool have_machine(void)
{
	return access("/dev/kvm", R_OK | W_OK) == 0 &&
	       img_run("test -x ${M%%-img}")->status == 0;
}

TEST(each_kind_in_each_place)
{
	bool machine;

	make_files();
	machine = have_machine();
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		for (unsigned j = 0; j < ARRAY_SIZE(places); j++) {
			const struct kind *k = &kinds[i];
			const struct place *p = &places[j];
			const char *wrong;
			struct img_result *r;

			img_run("cd own; rm -f top o; d=%s; %s", p->dir, k->make);
			r = img_run("cd own; $M convert %s -O raw top o && cmp o %s/b.raw",
				    p->option, p->dir);
			wrong = judge(k, p->listed, r);
			if (wrong)
				tap_fail(__FILE__, __LINE__, "%s in %s: %s\n%s", k->what, p->what,
					 wrong, r->out);
			if (!machine)
				continue;
			r = img_run("cd own; ${M%%-img} -m 16 -machine dumpdtb=dtb %s "
				    "-drive file=top%s", p->option,
				    strncmp(k->what, "qcow ", 5) ? "" : ",readonly=on");
			wrong = judge(k, p->listed, r);
			if (wrong)
				tap_fail(__FILE__, __LINE__, "a machine: %s in %s: %s\n%s",
					 k->what, p->what, wrong, r->out);
		}
}

/* What the command line names, it allows: the new base, another disk, the data file it makes. */
TEST(named_on_the_command_line)
{
	make_files();
	RUN_OK("cd own; $M create -q -f qcow2 -b ../other/b.raw -F raw top");
	RUN_OK("cd own; $M compare -f qcow2 -F raw top ../other/b.raw");
	RUN_OK("cd own; $M create -q -f qcow2 -o data_file=../other/new,data_file_raw=on d 1M");
	RUN_FAILS(1, "cd own; $M convert -O raw d o");
	RUN_OK("cd own; $M convert -O raw --image-opts "
	       "driver=qcow2,file.filename=d,data-file.filename=../other/new o");
	RUN_OK("cd own; $M rebase -b ../listed/b.raw -F raw top -image-dir ../other && "
	       "$M convert -O raw -image-dir ../listed top o && cmp o ../other/b.raw");
	RUN_FAILS(1, "cd own; $M rebase -b '' top");
	RUN_OK("cd own; $M -image-dir ../listed convert -O raw top o && cmp o ../other/b.raw");
	/* -B is named, and a backing file that a description says instead. */
	RUN_OK("cd own; $M convert -O qcow2 -B ../listed/b.qcow2 -F qcow2 b.raw t2 && "
	       "$M compare -F raw --image-dir=../listed t2 b.raw");
	RUN_OK("cd own; $M compare -f qcow2 --image-opts driver=qcow2,file.filename=top,"
	       "backing.driver=raw,backing.file.filename=../listed/b.raw "
	       "driver=raw,file.filename=../other/b.raw 2>&1 || "
	       "$M convert -O raw --image-opts driver=qcow2,file.filename=top,backing.driver=raw,"
	       "backing.file.filename=../listed/b.raw o && cmp o ../other/b.raw");
}

/* Outside, nothing is written: commit has to be told. */
TEST(commit_elsewhere)
{
	make_files();
	RUN_OK("cd own; $M create -q -f qcow2 -b ../other/b.qcow2 -F qcow2 top; cp "
	       "../other/b.qcow2 "
	       "was; qemu-io -f qcow2 -c 'write -P 7 0 64k' top");
	RUN_FAILS(1, "cd own; $M commit top");
	if (!strstr(img_run("cd own; $M commit top")->out, "may only be read there; to allow it, "
							   "add: -image-dir '"))
		tap_fail(__FILE__, __LINE__, "commit does not say what to add");
	RUN_OK("cd own; cmp was ../other/b.qcow2");
	RUN_OK("cd own; $M commit -image-dir ../other top && ! cmp -s was ../other/b.qcow2");
	RUN_OK("cd own; qemu-io -f qcow2 -c 'write -P 8 0 64k' top; "
	       "$M commit -b ../other/b.qcow2 top && "
	       "qemu-io -r -f qcow2 -c 'read -P 8 0 64k' ../other/b.qcow2");
}

/* Deeper in a chain the rule is the same, from the folder of the image that names. */
TEST(deeper_names)
{
	make_files();
	RUN_OK("cd other; qemu-img create -q -f qcow2 -b b.raw -F raw mid; "
	       "qemu-img create -q -f qcow2 -b $PWD/../listed/b.raw -F raw far; cd ../own; "
	       "qemu-img create -q -f qcow2 -b ../other/mid -F qcow2 top; "
	       "qemu-img create -q -f qcow2 -b ../other/far -F qcow2 top2");
	RUN_OK("cd own; $M convert -O raw top o && cmp o ../other/b.raw");
	RUN_FAILS(1, "cd own; $M convert -O raw top2 o");
	RUN_FAILS(1, "cd own; $M info --backing-chain top2");
	RUN_FAILS(1, "cd own; $M commit -b ../listed/b.raw top2 -d -r x");
	RUN_OK("cd own; $M convert -image-dir ../listed -O raw top2 o && cmp o ../listed/b.raw");
	RUN_OK("cd own; $M info top2; $M info --backing-chain -image-dir ../listed top2");
}

/* Pieces of a disk lie beside it; a link does not change that. */
TEST(extents_behind_links)
{
	make_files();
	RUN_OK("cd own; qemu-img convert -O vmdk -o subformat=monolithicFlat b.raw f.vmdk && "
	       "$M convert -f vmdk -O raw f.vmdk o && cmp o b.raw");
	RUN_OK("cd own; mv f-flat.vmdk ../other; ln -s ../other/f-flat.vmdk .");
	RUN_FAILS(1, "cd own; $M convert -f vmdk -O raw f.vmdk o");
	RUN_FAILS(1, "cd own; $M bench -w -c 1 -f vmdk f.vmdk");
	RUN_OK("cd own; cmp b.raw ../other/f-flat.vmdk");
	RUN_OK("cd own; $M convert -image-dir ../other -f vmdk -O raw f.vmdk o && cmp o b.raw");
}

/* What is no file is refused at once, whoever names it. */
TEST(no_files)
{
	static const char *const names[] = { "fifo", "sock", "/dev/null", "/dev/zero", "/dev/tty",
					     "/dev/fd/0", "/dev/stdin", "/proc/self/fd/0",
					     "/dev/fdset/1", "/proc/self/environ", "folder" };

	make_files();
	RUN_OK("cd own; mkfifo fifo; mkdir folder; python3 -c 'import socket; "
	       "socket.socket(socket.AF_UNIX).bind(\"sock\")'");
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		const char *const *f = (const char *const[]){ "raw", "qcow2", NULL };

		for (; *f; f++)
			RUN_FAILS(1,
				  "cd own; qemu-img create -q -f qcow2 -u -b %s -F %s t 1M; "
				  "timeout 20 $M convert -O raw t o <../other/b.qcow2",
				  names[i], *f);
		RUN_FAILS(1, "cd own; rm -f t; cp b.qcow2 t; qemu-img create -q -f qcow2 -o "
			  "data_file=dat t 1M; timeout 20 $M amend -o data_file=%s t; rm dat; "
			  "ln -s %s dat; timeout 20 $M convert -O raw t o <../other/b.qcow2; "
			  "r=$?; rm dat; exit $r", names[i], names[i]);
	}
	RUN_FAILS(1, "cd own; timeout 20 $M info fifo");
	RUN_FAILS(1, "cd own; timeout 20 $M convert -O raw sock o");
}

/* Addresses: only those that were allowed, and what lies below. */
TEST(addresses)
{
	static const struct { const char *name, *option; bool may; } cases[] = {
		{ "nbd:unix:$PWD/s:exportname=x", "", false },
		{ "nbd:unix:$PWD/s:exportname=x", "-image-dir nbd:unix:$PWD/s", true },
		{ "nbd:unix:$PWD/s2:exportname=x", "-image-dir nbd:unix:$PWD/s", false },
		{ "nbd+unix:///x?socket=$PWD/s", "", false },
		{ "nbd://127.0.0.1:1/x", "", false },
		{ "nbd://127.0.0.1:1/x", "-image-dir nbd://127.0.0.1:1", true },
		{ "nbd://127.0.0.1:1/x", "-image-dir nbd://127.0.0.1", false },
		{ "nbd://127.0.0.1:1/x", "-image-dir nbd://127.0.0.1:1/x", true },
		{ "nbd://127.0.0.1:1/xy", "-image-dir nbd://127.0.0.1:1/x", false },
		{ "nbd://127.0.0.1:1/x/../y", "-image-dir nbd://127.0.0.1:1/x", false },
		{ "http://127.0.0.1:1/x", "", false },
		{ "http://127.0.0.1:1/a/x", "-image-dir http://127.0.0.1:1/a/", true },
		{ "http://127.0.0.1:1@127.0.0.2/x", "-image-dir http://127.0.0.1:1", false },
		{ "json:{\\\"driver\\\":\\\"nbd\\\",\\\"host\\\":\\\"127.0.0.1\\\",\\\"port\\\":"
		  "\\\"1\\\"}", "", false },
		{ "json:{\\\"driver\\\":\\\"nbd\\\",\\\"host\\\":\\\"127.0.0.1\\\",\\\"port\\\":"
		  "\\\"1\\\"}", "-image-dir nbd:127.0.0.1:1", true },
	};

	make_files();
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct img_result *r = img_run("cd own; qemu-img create -q -f qcow2 -u -b \"%s\" "
					       "-F raw t 1M; $M convert %s -O raw t o",
					       cases[i].name, cases[i].option);
		bool asked = strstr(r->out, "an address that nobody allowed");

		/* Nobody is there in either case. */
		if (r->status != 1 || asked == cases[i].may)
			tap_fail(__FILE__, __LINE__, "%s with '%s':\n%s", cases[i].name,
				 cases[i].option, r->out);
	}
}

TAP_MAIN
