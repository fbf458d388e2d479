/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tool.c: minivmm-img beside qemu-img: the same commands give the same output (the program's name
 * apart), the same exit code and the same content; and what is ours: signals, refusals that name
 * what would help, older forms.
 */
#include <signal.h>

#include "tests/lib/imgtest.h"
#include "tests/tap.h"
#include "vmm/base/util.h"

/*
 * Runs a script of commands in two fresh folders, once with each program as `img`; compares stdout,
 * stderr and exit codes of each line. What differs by nature (dates, disk sizes, our own name) is
 * made alike.
 */
static void side_by_side(const char *file, int line, const char *script)
{
	struct img_result *r;

	r = img_run("cat >script <<'EOS'\n%s\nEOS\n"
		    "one() { rm -rf $1; mkdir $1; (cd $1; P=$2; img() { $P \"$@\"; }; while read "
		    "-r cmd; do echo \"$ $cmd\"; eval \"$cmd\"; echo \"= $?\"; "
		    "done <../script) >$1.out 2>&1; "
		    "sed -i -E \"s/(qemu-img|minivmm-img): /IMG: /; s/disk size: .*/disk size: X/; "
		    "s/\\\"actual-size\\\": [0-9]+/\\\"actual-size\\\": X/; "
		    "s/[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}/DATE/; s/date-(n?)sec\\\": "
		    "[0-9]+/date-\\1sec\\\": X/; s/(qemu-img|minivmm-img) --help/IMG --help/\" "
		    "$1.out; }; "
		    /*
		     * On a busy machine qemu-img's measurement for LUKS fails now and then: that is
		     * no difference.
		     */
		    "one ours %s; for i in 1 2 3 4 5; do one theirs qemu-img; grep -q 'Unable to "
		    "get accurate CPU usage' theirs.out || break; done; "
		    "diff -U3 theirs.out ours.out",
		    script, img_tool());
	if (r->status)
		tap_fail(file, line, "differs from qemu-img:\n%.6000s", r->out);
}
#define SAME(script) side_by_side(__FILE__, __LINE__, script)

TEST(create_and_info)
{
	img_enter();
	SAME("img create -f qcow2 a.qcow2 1M\n"
	     "img info a.qcow2\n"
	     "img info --output=json a.qcow2\n"
	     "img create -f qcow2 -b a.qcow2 -F qcow2 b.qcow2\n"
	     "img info b.qcow2\n"
	     "img info --output=json --backing-chain b.qcow2\n"
	     "img info --backing-chain b.qcow2\n"
	     "mkdir sub; img create -f qcow2 -b ../a.qcow2 -F qcow2 sub/c.qcow2; img info "
	     "sub/c.qcow2\n"
	     "img create -f qcow2 -o cluster_size=4k,lazy_refcounts=on,refcount_bits=8 d.qcow2 "
	     "100M\n"
	     "img info d.qcow2\n"
	     "img create -f qcow2 -o compat=0.10 e.qcow2 5G; img info e.qcow2\n"
	     "img create -f qcow2 -o extended_l2=on,compression_type=zstd f.qcow2 5G; img info "
	     "f.qcow2\n"
	     "img create r.raw 1G\n"
	     "img info r.raw\n"
	     "img create -q -f raw r2.raw 1.5k; img info r2.raw\n"
	     "img create -f vdi v.vdi 1G; img info v.vdi; img info --output=json v.vdi\n"
	     "img create -f vpc v.vpc 1G; img info v.vpc\n"
	     "img create -f vpc -o subformat=fixed vf.vpc 10M; img info -f vpc vf.vpc\n"
	     "img create -f vhdx v.vhdx 1G; img info v.vhdx\n"
	     "img create -f vmdk v.vmdk 1G; img info v.vmdk | grep -v cid:\n"
	     "img create -f vmdk -o subformat=twoGbMaxExtentSparse w.vmdk 5G; img info w.vmdk | "
	     "grep -v cid:; ls\n"
	     "img create -f vmdk -b v.vmdk -F vmdk x.vmdk; img info x.vmdk | grep -v cid:");
}

TEST(create_errors)
{
	img_enter();
	SAME("img create -f qcow2 a.qcow2\n"
	     "img create\n"
	     "img create -f foo a 1M\n"
	     "img create -f qcow2 a b c\n"
	     "img create -f qcow2 z.qcow2 abc\n"
	     "img create -f raw a.raw; img create -q -f qcow2 b.qcow2 1M\n"
	     "img frobnicate\n"
	     "img info\n"
	     "img info a b\n"
	     "img info --foo a\n"
	     "img map\n"
	     "img check --output=foo b.qcow2\n"
	     "img compare b.qcow2\n"
	     "img convert -t foo b.qcow2 x\n"
	     "img convert -S 3 b.qcow2 x\n"
	     "img convert -m 99 b.qcow2 x\n"
	     "img convert -c -O raw b.qcow2 y.raw\n"
	     "img convert -O foo b.qcow2 y\n"
	     "img commit b.qcow2\n"
	     "img rebase b.qcow2\n"
	     "img resize b.qcow2\n"
	     "img amend b.qcow2\n"
	     "img bitmap b.qcow2 x\n"
	     "img measure\n"
	     "img measure -O vmdk --size 1G\n"
	     "img dd\n"
	     "img dd if=b.qcow2 of=y.raw bs=0\n"
	     "img create -f qcow2 s.qcow2 1b; img info s.qcow2 | grep virtual; img create -f qcow2 "
	     "s.qcow2 1023; img info s.qcow2 | grep virtual\n"
	     "img create -f qcow2 s.qcow2 9E; img create -f qcow2 -o size=1M s.qcow2 2M\n"
	     "img create -f qcow2 -o foo=bar s.qcow2 1M; img create -f qcow2 -o "
	     "lazy_refcounts=maybe s.qcow2 1M\n"
	     "img create -f qcow2 -o preallocation=foo s.qcow2 1M; img create -f qcow2 -o "
	     "compat=foo s.qcow2 1M\n"
	     "img create -f qcow2 -u -b nosuch -F qcow2 s.qcow2; img create -f qcow2 -b '' s.qcow2 "
	     "1M\n"
	     "img create -f qcow2 -b b.qcow2 -F foo s.qcow2\n"
	     "img convert -O raw -B b.qcow2 b.qcow2 x; img convert -O qcow2 -B b.qcow2 b.qcow2 x; "
	     "img convert --bitmaps -O raw b.qcow2 x\n"
	     "img convert --skip-broken-bitmaps -O qcow2 b.qcow2 x; img convert -r foo -O raw "
	     "b.qcow2 x\n"
	     "img check -r foo b.qcow2; img check -U -r all b.qcow2; img snapshot -U -c x b.qcow2; "
	     "img snapshot -l b.qcow2\n"
	     "img measure --size 1G b.qcow2; img dd if=b.qcow2 of=x foo=1; img bench -i foo "
	     "b.qcow2\n"
	     "img amend -o cluster_size=4k b.qcow2; img amend -o encryption=on b.qcow2; img amend "
	     "-f vmdk -o help\n"
	     "img create -q -f qcow2 t.qcow2 1M; img amend -o backing_file=b.qcow2 t.qcow2 2>&1 | "
	     "head -1; img info t.qcow2 | grep backing");
}

#define DATA                                                                                       \
	"qemu-io -f qcow2 -c 'write -P 1 0 64k' -c 'write -P 2 128k 64k' -c 'write -z 512k 64k' "  \
	"a.qcow2 >/dev/null; "

TEST(map_check_measure)
{
	img_enter();
	SAME("img create -q -f qcow2 a.qcow2 1M; " DATA "\n"
	     "img create -q -f qcow2 -b a.qcow2 -F qcow2 b.qcow2 2M\n"
	     "qemu-io -f qcow2 -c 'write -P 3 64k 70k' b.qcow2 >/dev/null\n"
	     "img map b.qcow2 | sed 's/0x[0-9a-f]* *[ab].qcow2/X/'\n"
	     "img map --output=json b.qcow2 | sed 's/\"offset\": [0-9]*/X/'\n"
	     "img map --output=json --start-offset=64k --max-length=128k b.qcow2 | sed "
	     "'s/\"offset\": [0-9]*/X/'\n"
	     "img map --output=json a.qcow2 | sed 's/\"offset\": [0-9]*/X/'\n"
	     "img check a.qcow2 | grep -v offset:\n"
	     "img check b.qcow2 | grep -v offset:\n"
	     "img check --output=json b.qcow2 | grep -v offset\n"
	     "img measure -O qcow2 a.qcow2\n"
	     "img measure -O qcow2 --output=json b.qcow2\n"
	     "img measure -O qcow2 --size 1G\n"
	     "img measure -O qcow2 -o cluster_size=4k --size 1G\n"
	     "img measure -O raw --size 1G --output=json\n"
	     "img measure a.qcow2\n"
	     "img create -q r.raw 1M; img check r.raw\n"
	     "img compare a.qcow2 b.qcow2\n"
	     "img compare -s a.qcow2 a.qcow2\n"
	     "img compare -s a.qcow2 b.qcow2\n"
	     "img compare a.qcow2 nosuch 2>/dev/null\n"
	     "img compare -q a.qcow2 b.qcow2");
}

TEST(snapshots)
{
	img_enter();
	SAME("img create -q -f qcow2 a.qcow2 1M; " DATA "\n"
	     "img snapshot -c one a.qcow2\n"
	     "qemu-io -f qcow2 -c 'write -P 9 0 64k' a.qcow2 >/dev/null\n"
	     "img snapshot -c 'a much longer name than that' a.qcow2\n"
	     "img snapshot -l a.qcow2\n"
	     "img info a.qcow2\n"
	     "img info --output=json a.qcow2\n"
	     "img convert -f qcow2 -O raw -l one a.qcow2 s.raw; md5sum <s.raw\n"
	     "img convert -f qcow2 -O raw -l snapshot.name=one a.qcow2 s.raw; md5sum <s.raw\n"
	     "img convert -f qcow2 -O raw -l snapshot.id=1,snapshot.name=one a.qcow2 s.raw; md5sum "
	     "<s.raw\n"
	     "img convert -f qcow2 -O raw -l snapshot.id=2,snapshot.name=one a.qcow2 t.raw; ls "
	     "t.raw 2>/dev/null\n"
	     "img measure -O qcow2 -l snapshot.id=1 a.qcow2\n"
	     "img snapshot -a one a.qcow2\n"
	     "img convert -O raw a.qcow2 s.raw; md5sum <s.raw\n"
	     "img snapshot -d one a.qcow2\n"
	     "img snapshot -l a.qcow2\n"
	     "img check a.qcow2 | grep -v offset:\n"
	     "img snapshot -a nosuch a.qcow2 2>/dev/null\n"
	     "img snapshot -d nosuch a.qcow2\n"
	     "img snapshot -l -c x a.qcow2\n"
	     "img create -q r.raw 1M; img snapshot -l r.raw");
}

TEST(chains)
{
	img_enter();
	SAME("img create -q -f qcow2 a.qcow2 1M; " DATA "\n"
	     "img create -q -f qcow2 -b a.qcow2 -F qcow2 b.qcow2; img create -q -f qcow2 -b "
	     "b.qcow2 -F qcow2 c.qcow2\n"
	     "qemu-io -f qcow2 -c 'write -P 3 64k 70k' b.qcow2 >/dev/null; qemu-io -f qcow2 -c "
	     "'write -P 4 300k 8k' c.qcow2 >/dev/null\n"
	     "img convert -O raw c.qcow2 before; md5sum <before\n"
	     "img rebase -b a.qcow2 -F qcow2 c.qcow2; img convert -O raw c.qcow2 x; md5sum <x\n"
	     "img rebase -u -b b.qcow2 -F qcow2 c.qcow2; img info c.qcow2 | grep backing; img "
	     "convert -O raw c.qcow2 x; md5sum <x\n"
	     "img rebase -u -b new -F raw c.qcow2; img info c.qcow2 | grep backing; img rebase -u "
	     "-b b.qcow2 -F qcow2 c.qcow2\n"
	     "img rebase -u -b b.qcow2 c.qcow2\n"
	     "img commit c.qcow2; img convert -O raw b.qcow2 x; md5sum <x; img map --output=json "
	     "c.qcow2 | sed 's/\"offset\": [0-9]*/X/'\n"
	     "img commit -d b.qcow2; img convert -O raw a.qcow2 x; md5sum <x\n"
	     "img create -q -f qcow2 -b a.qcow2 -F qcow2 d.qcow2 2M; qemu-io -f qcow2 -c 'write -P "
	     "5 1536k 64k' d.qcow2 >/dev/null\n"
	     "img commit d.qcow2; img info a.qcow2 | grep virtual; img convert -O raw a.qcow2 x; "
	     "md5sum <x\n"
	     "img rebase -b '' d.qcow2; img info d.qcow2 | grep -c backing; img convert -O raw "
	     "d.qcow2 x; md5sum <x\n"
	     "img check a.qcow2 | grep -v offset:; img check b.qcow2 | grep -v offset:; img check "
	     "c.qcow2 | grep -v offset:");
}

TEST(resize_amend_dd_bitmap)
{
	img_enter();
	SAME("img create -q -f qcow2 a.qcow2 1M; " DATA "\n"
	     "img resize a.qcow2 +2G; img info a.qcow2 | grep virtual\n"
	     "img resize a.qcow2 -- -1G; img info a.qcow2 | grep virtual\n"
	     "img resize --shrink a.qcow2 1M; img info a.qcow2 | grep virtual; img convert -O raw "
	     "a.qcow2 x; md5sum <x\n"
	     "img resize a.qcow2 abc\n"
	     "img create -q r.raw 1M; img resize -f raw r.raw +1M; stat -c %s r.raw; img resize -f "
	     "raw r.raw --shrink 512; stat -c %s r.raw\n"
	     "img amend -o compat=0.10 a.qcow2; img info a.qcow2; img amend -o compat=1.1 a.qcow2; "
	     "img info a.qcow2\n"
	     "img amend -o lazy_refcounts=on a.qcow2; img info a.qcow2 | grep lazy\n"
	     "img amend -o foo=1 a.qcow2\n"
	     "img dd if=a.qcow2 of=y bs=64k count=3; md5sum <y\n"
	     "img dd -O qcow2 if=a.qcow2 of=y.qcow2 bs=1k skip=100; img convert -O raw y.qcow2 y; "
	     "md5sum <y\n"
	     "img bitmap --add -g 64k a.qcow2 b0; img bitmap --add a.qcow2 b1; img info a.qcow2; "
	     "img info --output=json a.qcow2\n"
	     "img bitmap --add a.qcow2 b0\n"
	     "img bitmap --disable a.qcow2 b1; img info a.qcow2; img bitmap --merge b0 a.qcow2 b1; "
	     "img bitmap --clear a.qcow2 b1\n"
	     "img convert --bitmaps -O qcow2 a.qcow2 z.qcow2; img info z.qcow2\n"
	     "img bitmap --remove a.qcow2 b0; img info a.qcow2; img check a.qcow2 | grep -v "
	     "offset:");
}

TEST(conversions)
{
	img_enter();
	SAME("img create -q -f qcow2 a.qcow2 1M; " DATA "\n"
	     "img convert -c -f qcow2 a.qcow2 -O qcow2 small.qcow2; img convert small.qcow2 -O raw "
	     "x; md5sum <x\n"
	     "img convert a.qcow2 plain; md5sum <plain\n"
	     "img convert -p -O raw a.qcow2 x >/dev/null; md5sum <x\n"
	     "img convert -S 0 -O raw a.qcow2 x; stat -c '%s %b' x\n"
	     "img convert -O vmdk a.qcow2 a.vmdk; img convert -f vmdk a.vmdk -O qcow2 b.qcow2; img "
	     "convert -O raw b.qcow2 x; md5sum <x\n"
	     "img convert -O raw plain a.qcow2 plain joined; md5sum <joined; stat -c %s joined\n"
	     "img create -q -f qcow2 -b a.qcow2 -F qcow2 t.qcow2; qemu-io -f qcow2 -c 'write -P 7 "
	     "800k 9k' t.qcow2 >/dev/null\n"
	     "img convert -O qcow2 -B a.qcow2 -F qcow2 t.qcow2 u.qcow2; img info u.qcow2 | grep "
	     "backing; img compare t.qcow2 u.qcow2; "
	     "img map --output=json u.qcow2 | sed 's/\"offset\": [0-9]*/X/'\n"
	     "img create -q -f qcow2 n.qcow2 2M; img convert -n -O qcow2 a.qcow2 n.qcow2; img "
	     "compare a.qcow2 n.qcow2\n"
	     "img create -q -f qcow2 n2.qcow2 512k; img convert -n -O qcow2 a.qcow2 n2.qcow2\n"
	     "img convert -O raw -o preallocation=full a.qcow2 x; md5sum <x; stat -c %s x\n"
	     "img convert -O raw --image-opts driver=qcow2,file.filename=a.qcow2 x; md5sum <x\n"
	     "img convert -O qcow2 -o cluster_size=2M -m 4 -W a.qcow2 w.qcow2; img compare a.qcow2 "
	     "w.qcow2; img check w.qcow2 | grep -v offset:\n"
	     "img convert --target-is-zero -O raw a.qcow2 x\n"
	     "img convert --salvage -O raw a.qcow2 x; md5sum <x\n"
	     "img convert -C -O raw plain x; md5sum <x");
}

/*
 * A writable disk that was only guessed to be raw: said once, in qemu-img's words, by every command
 * that opens one.
 */
TEST(raw_guess)
{
	img_enter();
	SAME("img create -f raw r.raw 1M\n"
	     "img resize r.raw +1M; img resize -f raw r.raw +1M; img info r.raw; img snapshot -l "
	     "r.raw\n"
	     "img check -r all r.raw; img commit r.raw; img amend -o x=y r.raw; img bench -w -c 1 "
	     "r.raw | grep -v completed\n"
	     "img snapshot -c a r.raw 2>&1 | grep -v Could; img rebase -u -b '' r.raw 2>&1 | grep "
	     "-c guessed");
}

/* --- names that are descriptions: json: and --image-opts --- */

/*
 * Data is copied by the kernel, unread: units of zeros, such that begin with zeros, such that are
 * zero but for their first or last byte, a tail that is no cluster, sources whose clusters lie
 * anywhere or are compressed, clusters larger than a unit, an output that has data already or lies
 * on another file system.
 */
TEST(copies_in_the_kernel)
{
	img_enter();
	SAME("img create -q r 9M; img create -q -f qcow2 -o cluster_size=4k base 9M; truncate -s "
	     "9450000 r\n"
	     "for i in 0 1 5 6 7 40 41 96 97 98 143; do qemu-io -f raw -c \"write -q -P $((i + 1)) "
	     "$((i * 64))k 64k\" r; done\n"
	     "qemu-io -f raw -c 'write -q -P 7 668k 4k' -c 'write -q -P 8 1048575 1' -c 'write -q "
	     "-P 9 1114112 1' -c 'write -q -P 9 9440000 512' r\n"
	     "img convert -f raw -O qcow2 r q; img compare -f raw r q; img check q | sed -n 's, "
	     "alloc.*,,p'; img check -q q\n"
	     "img convert -f raw -O qcow2 -o cluster_size=512k r big; img compare -f raw r big; "
	     "img check big | sed -n 's, alloc.*,,p'\n"
	     "img convert -f raw -O qcow2 -o cluster_size=4k r little; img compare -f raw r "
	     "little\n"
	     "img convert -f raw -O qcow2 -o extended_l2=on r ext; img compare -f raw r ext; img "
	     "check -q ext\n"
	     "img convert -f raw -O qcow2 -S 0 r full; img compare -f raw r full; img check full | "
	     "sed -n 's, alloc.*,,p'\n"
	     "img convert -c -O qcow2 q c; img convert -O qcow2 c d; img compare -f raw r d; img "
	     "check d | sed -n 's, alloc.*,,p'\n"
	     "img convert -O qcow2 little e; img compare q e; img check -q e; img convert -O raw "
	     "little x; cmp r x\n"
	     "img create -q -f qcow2 -b base -F qcow2 n; qemu-io -c 'write -q -P 66 0 3M' n; img "
	     "convert -f raw -n -O qcow2 r n; img compare -f raw r n\n"
	     "img convert -f raw -O qcow2 r r big q j; img compare -f qcow2 -F qcow2 j j; img "
	     "check -q j\n"
	     "f=$(mktemp -p /dev/shm); img convert -f raw -O qcow2 r $f; img compare -f raw r $f; "
	     "rm $f");
	if (system("command -v strace >/dev/null") == 0)
		CHECK_EQ(img_run("cd ours; strace -f -o trace %s convert -f raw -O qcow2 r q; grep "
				 "-q 'copy_file_range.*= [1-9]' trace",
				 img_tool())
				 ->status,
			 0);
}

TEST(json_names)
{
	img_enter();
	SAME("j() { echo "
	     "\"json:{\\\"driver\\\":\\\"qcow2\\\",\\\"file\\\":{\\\"driver\\\":\\\"file\\\","
	     "\\\"filename\\\":\\\"$1\\\"}}\"; "
	     "}\n"
	     "img create -q -f qcow2 a.qcow2 1M; " DATA "\n"
	     "img info \"$(j a.qcow2)\"\n"
	     "img info --output=json \"$(j a.qcow2)\"\n"
	     "img info 'json:{\"file.filename\":\"a.qcow2\"}'\n"
	     "img info "
	     "'json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"a.qcow2\"}}'\n"
	     "img info "
	     "'json:{\"driver\":\"qcow2\",\"bogus\":1,\"file\":{\"driver\":\"file\","
	     "\"filename\":\"a.qcow2\"}}'\n"
	     "img create -f qcow2 \"$(j x.qcow2)\" 1M; ls x.qcow2 2>/dev/null\n"
	     "img info file:a.qcow2\n"
	     "img create -f qcow2 -b \"$(j a.qcow2)\" -F qcow2 b.qcow2\n"
	     "img info b.qcow2; img info --output=json --backing-chain b.qcow2\n"
	     "img compare a.qcow2 b.qcow2; img map b.qcow2; img map --output=json b.qcow2; img "
	     "check b.qcow2 | grep -v offset:\n"
	     "img convert -O raw b.qcow2 x; md5sum <x; img convert -f raw -O raw \"$(j "
	     "a.qcow2)\" x; cmp x a.qcow2\n"
	     "qemu-io -f qcow2 -c 'write -P 3 64k 70k' b.qcow2 >/dev/null; img commit b.qcow2; "
	     "img convert -O raw a.qcow2 x; md5sum <x\n"
	     "img create -q -f qcow2 -b a.qcow2 -F qcow2 c.qcow2; img rebase -u -b \"$(j "
	     "a.qcow2)\" -F qcow2 c.qcow2; img info c.qcow2 | grep backing\n"
	     "img convert -O raw "
	     "'json:{\"driver\":\"qcow2\",\"backing\":null,\"file.filename\":\"c.qcow2\"}' x; "
	     "md5sum <x\n"
	     "img convert -O raw "
	     "'json:{\"driver\":\"qcow2\",\"backing\":{\"driver\":\"raw\","
	     "\"file.filename\":\"x\"},\"file.filename\":\"c.qcow2\"}' "
	     "y; md5sum <y");
	CHECK(strstr(RUN_FAILS(1, "%%M info 'json:{foo'")->out,
		     "Could not parse the JSON options"));
	CHECK(strstr(RUN_FAILS(1, "%%M info 'json:{\"driver\":\"qcow2\",\"file\":\"node0\"}'")->out,
		     "names of nodes"));
	RUN_FAILS(1,
		  "%%M info 'json:[]'; r=$?; %%M info 'json:{\"a.b\":1,\"a\":2}' && r=0; exit $r");
}

TEST(image_opts_everywhere)
{
	img_enter();
	SAME("img create -q -f qcow2 a.qcow2 1M; " DATA
	     " img create -q -f qcow2 -b a.qcow2 -F qcow2 b.qcow2\n"
	     "img info --image-opts driver=qcow2,file.driver=file,file.filename=b.qcow2\n"
	     "img info --image-opts --backing-chain driver=qcow2,file.filename=b.qcow2\n"
	     "img info --image-opts -f qcow2 driver=qcow2,file.filename=a.qcow2\n"
	     "img compare --image-opts driver=qcow2,file.filename=a.qcow2 "
	     "driver=qcow2,file.filename=b.qcow2\n"
	     "img commit --image-opts driver=qcow2,file.filename=b.qcow2\n"
	     "img snapshot -c s1 --image-opts driver=qcow2,file.filename=a.qcow2; img snapshot -l "
	     "a.qcow2\n"
	     "img resize --image-opts driver=qcow2,file.filename=a.qcow2 +1M; img info a.qcow2 | "
	     "grep virtual\n"
	     "img amend --image-opts -o lazy_refcounts=on driver=qcow2,file.filename=a.qcow2\n"
	     "img bitmap --add --image-opts driver=qcow2,file.filename=a.qcow2 bm; img info "
	     "a.qcow2 | grep bm\n"
	     "img rebase --image-opts -b '' driver=qcow2,file.filename=b.qcow2; img info b.qcow2 | "
	     "grep -c backing\n"
	     "img dd --image-opts if=driver=qcow2,file.filename=a.qcow2 of=x bs=64k count=1; "
	     "md5sum <x\n"
	     "img convert -n --target-image-opts -O qcow2 a.qcow2 "
	     "driver=qcow2,file.filename=b.qcow2");
	RUN_OK("%%M create -q -f qcow2 t.qcow2 1M && %%M convert -n --image-opts "
	       "--target-image-opts driver=qcow2,file.filename=ours/b.qcow2 "
	       "driver=qcow2,file.filename=t.qcow2 && %%M compare t.qcow2 ours/b.qcow2 && "
	       "%%M bench -c 10 --image-opts driver=qcow2,file.filename=t.qcow2");
}

/* --- LUKS: both programs take passphrases away from and give them to each other's images --- */

#define S1 "--object secret,id=s,file=../pw1 "
#define S2 "--object secret,id=t,file=../pw2 "
#define AMEND(o, as)                                                                               \
	"img amend --image-opts " S1 S2 "-o " o                                                    \
	" driver=qcow2,file.filename=e.qcow2,encrypt.key-secret=" as "\n"

/*
 * A header that would keep the processor for hours is refused at once, in a slot or in the digest.
 */
TEST(luks_iterations)
{
	img_enter();
	RUN_OK("mkdir d; printf secret >pw1; cd d; %%M create -q " S1
	       "-f luks -o key-secret=s,iter-time=10 n.luks 64k");
	for (unsigned off = 164; off <= 212; off += 212 - 164) {
		RUN_OK("cd d; cp n.luks m.luks; printf '\\377\\377\\377\\377' | dd of=m.luks bs=1 "
		       "seek=%u conv=notrunc status=none",
		       off);
		RUN_OK("cd d; timeout 1 %%M convert --image-opts -O raw " S1
		       "driver=luks,file.filename=m.luks,key-secret=s x 2>why; test $? = 1 && grep "
		       "-q '4294967295 iterations' why");
	}
}

TEST(luks_key_slots)
{
	img_enter();
	RUN_OK("printf secret >pw1; printf another >pw2");
	SAME("img create -q " S1
	     "-f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 e.qcow2 "
	     "1M\n"
	     "qemu-io " S1
	     "-c 'write -P 7 0 64k' --image-opts "
	     "driver=qcow2,file.filename=e.qcow2,encrypt.key-secret=s >/dev/null\n" AMEND(
		     "encrypt.state=active,encrypt.new-secret=t,encrypt.iter-time=10",
		     "s") "qemu-io " S2
			  "-c 'read -P 7 0 64k' --image-opts "
			  "driver=qcow2,file.filename=e.qcow2,encrypt.key-secret=t | grep -c "
			  "bytes\n" AMEND("encrypt.state=inactive,encrypt.old-secret=s", "t") AMEND(
				  "encrypt.state=inactive,encrypt.old-secret=s",
				  "s") "img info e.qcow2 | grep active\n" AMEND("encrypt.state="
										"inactive,encrypt."
										"old-secret=t",
										"t")
				  AMEND("encrypt.state=inactive,encrypt.old-secret=s", "t") AMEND(
					  "encrypt.state=inactive,encrypt.keyslot=1",
					  "t") AMEND("encrypt.state=inactive,encrypt.keyslot=2",
						     "t") AMEND("encrypt.state=inactive,encrypt."
								"keyslot=8",
								"t") AMEND("encrypt.state=active,"
									   "encrypt.new-secret=s,"
									   "encrypt.keyslot=1",
									   "t")
					  AMEND("encrypt.state=active", "t") AMEND(
						  "encrypt.state=inactive",
						  "t") AMEND("encrypt.state=inactive,encrypt.new-"
							     "secret=s,encrypt.keyslot=1",
							     "t") AMEND("encrypt.state=maybe", "t")
						  AMEND("encrypt.cipher-alg=aes-128", "t") AMEND(
							  "encrypt.state=active,encrypt.new-secret="
							  "s,encrypt.keyslot=5,encrypt.iter-time="
							  "10",
							  "t") "img info e.qcow2 | grep active\n"
							       "img amend -o help -f qcow2; img "
							       "amend -o help -f luks; img create "
							       "-f luks -o help\n"
							       "img create -f luks m.luks 1M\n"
							       "img create " S1
							       "-f luks -o "
							       "key-secret=s,iter-time=10,cipher-"
							       "alg=aes-128,cipher-mode=cbc,ivgen-"
							       "alg=essiv,ivgen-hash-alg=sha256 "
							       "m.luks 1M\n"
							       "img info m.luks | grep -E "
							       "'alg|mode|active|offset|size'\n"
							       "img measure " S1
							       "-O luks -o key-secret=s --size 1G; "
							       "img measure -O luks --size 1G\n"
							       "img create -q -f qcow2 p.qcow2 1M; "
							       "img amend -f qcow2 -o "
							       "encrypt.state=active p.qcow2");
	/* Each opens what the other has changed. */
	RUN_OK("for d in ours theirs; do (cd $d; for p in qemu-img %%M; do for k in 's pw1' 't "
	       "pw2'; do set -- $k; "
	       "$p convert --object secret,id=$1,file=../$2 --image-opts -O raw "
	       "driver=qcow2,file.filename=e.qcow2,encrypt.key-secret=$1 x && "
	       "[ $(tr -d '\\007' <x | wc -c) -le 983040 ] || exit 1; done; done) || exit 1; done");
	RUN_OK("printf 'data %%01000d' 7 >in; truncate -s 1M in; for d in ours theirs; do (cd $d; "
	       "%%M convert -n " S1
	       "--target-image-opts -f raw ../in driver=luks,file.filename=m.luks,key-secret=s && "
	       "qemu-img convert " S1
	       "--image-opts -O raw driver=luks,file.filename=m.luks,key-secret=s x && cmp x "
	       "../in) || exit 1; done");
	RUN_OK("cd ours; %%M convert " S1
	       "-f raw -O luks -o key-secret=s,iter-time=10 ../in n.luks && "
	       "%%M amend " S1 S2 "--image-opts -o state=active,new-secret=t,iter-time=10 "
				  "driver=luks,file.filename=n.luks,key-secret=s && "
	       "qemu-img convert " S2
	       "--image-opts -O raw driver=luks,file.filename=n.luks,key-secret=t x && cmp x "
	       "../in");
	/* Blocks laid out before they are encrypted hold no zeros: holes must be written. */
	RUN_OK("cd ours; %%M convert " S1 "-f raw -O qcow2 -o "
					  "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-"
					  "time=10,preallocation=metadata "
	       "../in n.qcow2 && qemu-img convert " S1
	       "--image-opts -O raw driver=qcow2,file.filename=n.qcow2,encrypt.key-secret=s x && "
	       "cmp x ../in");
	if (img_have("cryptsetup"))
		RUN_OK("cd ours; cryptsetup luksDump n.luks | grep '^Key Slot [01]: ENABLED' && "
		       "cryptsetup open --test-passphrase -d ../pw2 n.luks");
	/* The last key goes only when forced. */
	RUN_OK("cd ours; %%M amend " S1 S2 "--force --image-opts -o state=inactive,keyslot=0 "
					   "driver=luks,file.filename=n.luks,key-secret=t && "
	       "%%M amend " S2 "--force --image-opts -o state=inactive,keyslot=1 "
			       "driver=luks,file.filename=n.luks,key-secret=t");
	RUN_FAILS(1, "cd ours; %%M convert " S2
		     "--image-opts -O raw driver=luks,file.filename=n.luks,key-secret=t x");
}

/* --- ours alone --- */

TEST(older_forms)
{
	img_enter();
	RUN_OK("%%M create -q -f qcow2 a.qcow2 1M && %%M snapshot -c s1 a.qcow2 && qemu-io -f "
	       "qcow2 -c 'write -P 9 0 64k' a.qcow2 && "
	       "%%M snapshot -c s2 a.qcow2");
	RUN_OK("%%M convert -f qcow2 -O raw -s s2 a.qcow2 x && %%M convert -O raw -l s2 a.qcow2 y "
	       "&& cmp x y && cmp -n 10 -s x y");
	RUN_OK("%%M snapshot -a 1 a.qcow2 && %%M convert -O raw a.qcow2 x && cmp -n 1048576 x "
	       "/dev/zero");
	RUN_OK("%%M snapshot -d 1 a.qcow2 && %%M snapshot -l a.qcow2 | grep s2 && ! %%M snapshot "
	       "-l a.qcow2 | grep s1");
	RUN_OK("%%M resize a.qcow2 +1M && %%M resize a.qcow2 -512K --shrink && %%M info a.qcow2 | "
	       "grep '1.5 MiB'");
	RUN_OK("ln -s %%M kvm-img; ./kvm-img info a.qcow2; { ./kvm-img info nosuch || true; } 2>&1 "
	       "| grep '^kvm-img: '");
}

TEST(refusals_name_what_helps)
{
	img_enter();
	RUN_OK("%%M create -q -f vmdk a.vmdk 1M; md5sum a.vmdk >sum");
	CHECK(strstr(RUN_FAILS(1, "%%M snapshot -c x a.vmdk")->out, "convert -O qcow2 a.vmdk"));
	RUN_OK("md5sum -c sum");
	CHECK(strstr(RUN_FAILS(1, "%%M create --object secret,id=a -f raw x 1M")->out,
		     "'file' or 'data'"));
	CHECK(strstr(RUN_FAILS(1, "%%M info --image-opts driver=qcow2,frob=1,file.filename=x")->out,
		     "frob"));
	RUN_OK("printf 'Bochs Virtual HD Image%%090d' 0 "
	       ">x.bochs");
	CHECK(strstr(RUN_FAILS(1, "%%M convert x.bochs x.raw")->out, "is a bochs image"));
	RUN_OK("%%M info -f raw x.bochs");
}

TEST(two_writers)
{
	static const char *const formats[] = { "qcow2", "vmdk", "raw", "vdi", "vhdx" };

	img_enter();
	for (unsigned i = 0; i < ARRAY_SIZE(formats); i++) {
		const char *f = formats[i];

		RUN_OK("%%M create -q -f %s a.%s 1M; (sleep 3 | qemu-io -f %s a.%s >/dev/null) & "
		       "sleep 0.3; "
		       "%%M resize -f %s a.%s +1M >o 2>&1; s=$?; kill %%1; wait; cat o; grep 'pid "
		       "[0-9]' o && grep qemu-io o && [ $s = 1 ]",
		       f, f, f, f, f, f);
	}
	/* Reading one image twice is fine. */
	RUN_OK("(sleep 3 | qemu-io -r -f qcow2 a.qcow2 >/dev/null) & sleep 0.3; %%M compare "
	       "a.qcow2 a.qcow2; s=$?; kill %%1; exit $s");
	/* And ours is seen by qemu-img. */
	RUN_OK("truncate -s 64M big; (%%M convert -r 1M -S 0 -f raw -O raw big out) & sleep 0.3; "
	       "qemu-img resize -f raw out +1M 2>o; s=$?; "
	       "kill %%1; wait; [ $s = 1 ] && grep 'write.*lock' o");
}

TEST(interrupted_output_is_removed)
{
	static const char *const formats[] = { "raw", "qcow2", "vmdk", "vdi" };

	img_enter();
	img_pattern("in.raw", 32 * MiB, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(formats); i++) {
		RUN_OK("%%M convert -r 4M -f raw -O %s in.raw out & sleep 0.4; [ -e out ] && kill "
		       "-INT $!; wait $!; s=$?; "
		       "[ $s = 130 ] && [ ! -e out ]",
		       formats[i]);
	}
	RUN_OK("%%M convert -r 4M -f raw -O vmdk -o subformat=twoGbMaxExtentFlat in.raw out.vmdk & "
	       "sleep 0.4; kill -TERM $!; wait $!; "
	       "[ $? = 143 ] && [ \"$(ls)\" = in.raw ]");
	/* A full disk leaves nothing either. */
	RUN_FAILS(1,
		  "(ulimit -f 4096; trap '' XFSZ; %%M convert -f raw -O qcow2 in.raw out.qcow2)");
	RUN_OK("[ ! -e out.qcow2 ]");
}

/*
 * What another program has open is neither overwritten nor, afterwards, removed as half an output.
 */
TEST(output_in_use_stays)
{
	static const char *const formats[] = { "raw", "qcow2", "vmdk", "vdi", "vpc", "vhdx" };

	img_enter();
	img_pattern("in.raw", 4 * MiB, 1);
	img_pattern("new.raw", 4 * MiB, 2);
	for (unsigned i = 0; i < ARRAY_SIZE(formats); i++) {
		RUN_OK("%%M convert -f raw -O %s in.raw used && cp used copy", formats[i]);
		RUN_FAILS(1,
			  "(sleep 3 | qemu-io -f %s used >/dev/null) & sleep 0.4; %%M convert -f "
			  "raw -O %s new.raw used; s=$?; kill %%1; exit $s",
			  formats[i], formats[i]);
		RUN_OK("cmp used copy");
		RUN_FAILS(1,
			  "(sleep 3 | qemu-io -f %s used >/dev/null) & sleep 0.4; %%M create -f %s "
			  "used 9M; s=$?; kill %%1; exit $s",
			  formats[i], formats[i]);
		RUN_OK("cmp used copy");
	}
	/* A mistake in the options costs nothing either. */
	RUN_OK("%%M convert -f raw -O qcow2 in.raw used && cp used copy");
	RUN_FAILS(1, "%%M convert -f raw -O qcow2 -o cluster_size=3 new.raw used");
	RUN_OK("cmp used copy");
}

TEST(progress_and_sigusr1)
{
	img_enter();
	img_pattern("in.raw", 32 * MiB, 1);
	RUN_OK("%%M convert -p -f raw -O raw in.raw out | tr '\\r' '\\n' | tail -2 | grep -F "
	       "'(100.00/100%%)'");
	RUN_OK("%%M convert -r 8M -f raw -O raw in.raw out 2>err & sleep 0.6; kill -USR1 $!; wait "
	       "$!; grep '/100%%)' err");
}

TEST(salvage_reads_on)
{
	img_enter();
	img_pattern("in.raw", 4 * MiB, 2);
	RUN_OK("%%M convert -f raw -O qcow2 in.raw a.qcow2");
	/* An L2 entry that points past the end of the file: that cluster alone cannot be read. */
	RUN_OK("l1=$(od -An -t u8 --endian=big -j 40 -N 8 a.qcow2); l2=$(od -An -t x8 --endian=big "
	       "-j $l1 -N 8 a.qcow2); "
	       "off=$((0x$(echo $l2 | tail -c 15))); printf "
	       "'\\x80\\x00\\x00\\x7f\\xff\\xff\\x00\\x00' | dd of=a.qcow2 bs=1 seek=$((off + 5 * "
	       "8)) conv=notrunc 2>/dev/null");
	RUN_FAILS(1, "%%M convert -O raw a.qcow2 out.raw");
	RUN_OK("[ ! -e out.raw ]; %%M convert --salvage -O raw a.qcow2 out.raw 2>err; cmp -n $((5 "
	       "* 65536)) in.raw out.raw && "
	       "cmp -i $((6 * 65536)) in.raw out.raw && cmp -n 65536 -i $((5 * 65536)):0 out.raw "
	       "/dev/zero; grep 'error while reading' err >/dev/null");
}

TEST(info_opens_nothing_else)
{
	img_enter();
	RUN_OK("%%M create -q -f qcow2 base.qcow2 1M; %%M create -q -f qcow2 -b base.qcow2 -F "
	       "qcow2 a.qcow2; "
	       "qemu-img create -q -f qcow2 -o data_file=ext.raw d.qcow2 1M; rm base.qcow2 "
	       "ext.raw; mkfifo base.qcow2 ext.raw");
	RUN_OK("timeout 2 %%M info a.qcow2 && timeout 2 %%M info d.qcow2 && timeout 2 %%M info "
	       "--output=json a.qcow2 >/dev/null");
}

TEST(manual_page_names_every_option)
{
	img_enter();
	RUN_OK("%%M --man >man.1; man -l man.1 2>/dev/null | col -b >man.txt || true; "
	       "for c in $(%%M --help | sed -n 's/^  \\([a-z]*\\) .*/\\1/p'); do grep \"^.SS $c \" "
	       "man.1 >/dev/null || { echo $c; exit 1; }; "
	       "for o in $(%%M $c --help | sed -n 's/^  \\(-[-a-zA-Z0-9]*\\).*/\\1/p'); do grep -F "
	       "-e \"$(echo $o | sed 's/-/\\\\-/g')\" man.1 >/dev/null || "
	       "{ echo $c $o; exit 1; }; done; done");
}

TAP_MAIN
