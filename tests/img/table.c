/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * table.c: table.rows beside this file: every subcommand, option, driver and format option of
 * qemu-img is done, or refused with words; qemu-img itself says what there is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/lib/imgtest.h"
#include "tests/tap.h"
#include "vmm/base/util.h"

static char rows[512];

static void enter(void)
{
	char *path = realpath("tests/img/table.rows", NULL);

	if (!path)
		tap_fail(__FILE__, __LINE__,
			 "tests/img/table.rows is not here: run this at the top");
	snprintf(rows, sizeof(rows), "%s", path);
	free(path);
	img_enter();
	if (!img_have("qemu-img"))
		SKIP("qemu-utils is not installed");
}

/* The images that rows name. */
static void make_images(void)
{
	RUN_OK("mkdir t; cd t; for i in 'qcow2 a.qcow2' 'qcow2 a2.qcow2' 'qcow2 e.qcow2' "
	       "'raw r.raw' 'qcow q.qcow' 'qed d.qed' 'parallels p.parallels' 'vdi i.vdi' "
	       "'vpc c.vpc' 'vhdx h.vhdx' 'vmdk v.vmdk'; do qemu-img create -q -f $i 4M || exit 1; "
	       "done; qemu-io -f qcow2 -c 'write -P 1 0 1M' a.qcow2; "
	       "qemu-img snapshot -c s1 a.qcow2; qemu-img bitmap --add a.qcow2 bm; "
	       "qemu-img bitmap --add a2.qcow2 bm; "
	       "qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 top.qcow2; "
	       "qemu-io -f qcow2 -c 'write -P 2 64k 64k' top.qcow2");
}

static struct img_result *run_row(const char *program, const char *command)
{
	return img_run("rm -rf w; cp -r t w; cd w; p=%s; $p %s </dev/null", program, command);
}

/* 0 when the row holds; says what is wrong otherwise. */
static int check_row(int status, const char *who, const char *command, const char *words)
{
	struct img_result *r = run_row(img_tool(), command);
	int bad = 0;

	if (r->status != status || (words && !strstr(r->out, words))) {
		printf("# '%s' ended with %d, not %d%s%s:\n# %.300s\n", command, r->status, status,
		       words ? ", or does not say " : "", words ? words : "", r->out);
		bad = 1;
	}
	if (!strcmp(who, "both") && (r = run_row("qemu-img", command))->status != status) {
		printf("# '%s': qemu-img ended with %d, not %d\n", command, r->status, status);
		bad = 1;
	}
	return bad;
}

TEST(rows_hold)
{
	char line[1024], who[8], *words;
	int status, at, n = 0, bad = 0;
	FILE *f;

	enter();
	alarm(600);
	make_images();
	f = fopen(rows, "r");
	CHECK(f != NULL);
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		if (!line[0] || line[0] == '#')
			continue;
		CHECK_EQ(sscanf(line, "%d %7s%n", &status, who, &at), 2);
		words = strstr(line + at, " => ");
		if (words) {
			*words = 0;
			words += 4;
		}
		bad += check_row(status, who, line + at, words);
		n++;
	}
	fclose(f);
	CHECK(n > 300);
	CHECK_EQ(bad, 0);
}

/* What qemu-img says it has: each has a row. */
TEST(nothing_is_left_out)
{
	enter();
	RUN_OK("qemu-img --help | sed -n 's/^Supported formats: //p' | tr ' ' '\\n' | grep . | "
	       "while read d; "
	       "do grep -Eq -- \"driver=$d[ ,]|-f $d \" %s || echo \"driver $d\"; done >missing; "
	       "! grep . missing",
	       rows);
	RUN_OK("for f in raw qcow2 qcow qed parallels vdi vpc vhdx vmdk luks; do "
	       "qemu-img create -f $f -o help | sed -n 's/^  \\([^=]*\\)=.*/\\1/p' | while read o; "
	       "do "
	       "grep -q -- \"^[01] .*create.* -f $f -o .*$o=\" %s || echo \"$f $o\"; done; done "
	       ">missing; "
	       "! grep . missing",
	       rows);
	RUN_OK("qemu-img --help | sed -n '/^Command syntax/,/^$/p' | grep '^  ' | while read c "
	       "rest; do "
	       "for o in $(echo \"$rest\" | grep -oE '(^|[^a-z-])--?[a-zA-Z-]+' | grep -oE -- "
	       "'-.*'); do "
	       "grep -Eq -- \"^[0-9]+ [a-z]+ $c .*$o([ =]|$)\" %s || echo \"$c $o\"; done; done "
	       ">missing; "
	       "! grep . missing",
	       rows);
}

TAP_MAIN
