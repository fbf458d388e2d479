/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * names.c: images named by a description (json:, --image-opts) and what the command line says
 * beside: a part of a file, formats one over the other, run-time options, single quotes, secrets.
 * qemu-img and the raw bytes are the judges.
 */
#include "tests/lib/imgtest.h"
#include "tests/tap.h"
#include "vmm/base/util.h"

#define SIZE (5 * MiB)

/* Both programs end alike; ours says the words, if there are any. */
static void both(int line, int status, const char *words, const char *command)
{
	struct img_result *r;
	int theirs = img_run("img=qemu-img; %s", command)->status;

	r = img_run("img=%%M; %s", command);
	if (r->status != status || theirs != status)
		tap_fail(__FILE__, line, "'%s': ours ended with %d, qemu-img with %d, not %d:\n%s",
			 command, r->status, theirs, status, r->out);
	if (words && !strstr(r->out, words))
		tap_fail(__FILE__, line, "'%s' does not say '%s':\n%s", command, words, r->out);
}
#define BOTH(status, words, command) both(__LINE__, status, words, command)

TEST(part_of_a_file)
{
	static const char *const names[] = {
		"'json:{\"driver\":\"raw\",\"offset\":32768,\"size\":1048576,\"file\":{\"driver\":"
		"\"file\",\"filename\":\"d\"}}'",
		"'json:{\"driver\":\"raw\",\"offset\":\"32k\",\"size\":\"1M\",\"file.filename\":"
		"\"d\"}'",
		"\"json:{'driver':'raw','offset':32768,'size':1048576,'file':{'filename':'d'}}\"",
		"--image-opts driver=raw,offset=32768,size=1048576,file.filename=d",
		"--image-opts driver=raw,offset=32k,size=1M,file.driver=file,file.filename=d",
		"--image-opts "
		"driver=raw,file.driver=raw,offset=16k,size=1M,file.offset=16k,file.file.filename="
		"d",
		"--image-opts driver=raw,offset=32k,size=1M,file.filename=d,cache.direct=on",
	};

	img_enter();
	img_pattern("d", SIZE, 1);
	RUN_OK("dd if=d of=want bs=512 skip=64 count=2048 status=none; dd if=d of=rest bs=512 "
	       "skip=64 status=none; cp d before");
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		RUN_OK("%%M convert -O raw %s o && cmp o want && %%M convert -O qcow2 %s o && "
		       "qemu-img compare -f raw -F qcow2 want o",
		       names[i], names[i]);
	RUN_OK("%%M convert -O raw --image-opts driver=raw,offset=32k,file.filename=d o && cmp o "
	       "rest");
	/* Written: what lies around stays. */
	img_pattern("new", MiB, 2);
	RUN_OK("%%M convert -n --target-image-opts -f raw new "
	       "driver=raw,offset=32k,size=1M,file.filename=d");
	RUN_OK("{ head -c 32k before; cat new; tail -c +1081345 before; } | cmp - d");
	RUN_OK("diff <(%%M map --output=json %s) <(qemu-img map --output=json %s)", names[0],
	       names[0]);
	BOTH(1, "Cannot resize fixed-size raw disks",
	     "$img resize --image-opts driver=raw,offset=32k,size=1M,file.filename=d 2M");
	BOTH(0, "resized",
	     "cp d e; $img resize --image-opts driver=raw,offset=32k,file.filename=e 6M; r=$?; [ "
	     "$(stat -c %s e) = 6324224 ] || r=9; rm e; exit $r");
	BOTH(1, "cannot be greater than",
	     "$img info --image-opts driver=raw,offset=6M,file.filename=d");
	BOTH(1, "has to be smaller",
	     "$img info --image-opts driver=raw,offset=4M,size=2M,file.filename=d");
	BOTH(1, "not multiple of 512",
	     "$img info --image-opts driver=raw,size=1000,file.filename=d");
	BOTH(1, "has to be smaller",
	     "$img info --image-opts "
	     "driver=raw,offset=512,size=18446744073709551104,file.filename=d");
}

/* An archive with a disk inside (OVA), a partition inside an image, an overlay below raw. */
TEST(formats_over_others)
{
	img_enter();
	img_pattern("in", SIZE, 3);
	RUN_OK("%%M convert -f raw -O vmdk -o subformat=streamOptimized in x.vmdk; echo ovf "
	       ">a.ovf; tar cf x.ova a.ovf x.vmdk");
	RUN_OK("for p in %%M qemu-img; do $p convert -O raw "
	       "\"json:{'driver':'vmdk','file':{'driver':'raw','offset':1536,'size':$(stat -c %%s "
	       "x.vmdk),"
	       "'file':{'driver':'file','filename':'x.ova'}}}\" o && cmp o in || exit 1; done");
	RUN_OK("%%M compare --image-opts "
	       "driver=vmdk,file.driver=raw,file.offset=1536,file.size=$(stat -c %%s "
	       "x.vmdk),file.file.filename=x.ova "
	       "driver=raw,file.filename=in");
	/* Through the whole chain, also where the top has nothing. */
	RUN_OK("%%M convert -f raw -O qcow2 in base; %%M create -q -f qcow2 -b base -F qcow2 top; "
	       "qemu-io -f qcow2 -c 'write -P 5 1M 64k' top; "
	       "%%M convert -O raw top want");
	RUN_OK("%%M convert -O raw --image-opts "
	       "driver=raw,file.driver=qcow2,file.file.filename=top o && cmp o want");
	RUN_OK("%%M convert -O raw --image-opts "
	       "driver=raw,offset=1M,size=2M,file.driver=qcow2,file.file.filename=top o && "
	       "cmp o <(head -c 3M want | tail -c 2M)");
	RUN_OK("diff <(%%M map --output=json --image-opts "
	       "driver=raw,file.driver=qcow2,file.file.filename=top | grep -c data) <(echo 1) || "
	       "true");
	/* A whole file below raw below a format: it grows as it must. */
	RUN_OK("%%M create -q -f qcow2 g %llu && %%M convert -n --target-image-opts -f raw in "
	       "driver=qcow2,file.driver=raw,file.file.filename=g && "
	       "%%M check -q g && qemu-img compare -f raw -F qcow2 in g",
	       (unsigned long long)SIZE);
	/* Another data file than the image names. */
	RUN_OK("%%M create -q -f qcow2 -o data_file=ext e 5M; %%M convert -n -f raw -O qcow2 in e; "
	       "mv ext moved; "
	       "%%M convert -O raw --image-opts "
	       "driver=qcow2,file.filename=e,data-file.filename=moved o && cmp o in");
}

TEST(run_time_options)
{
	static const char *const good[] = {
		"cache.direct=off",
		"cache.no-flush=on",
		"discard=unmap",
		"discard=on",
		"discard=ignore",
		"detect-zeroes=on",
		"detect-zeroes=unmap,discard=unmap",
		"l2-cache-size=1M",
		"cache-size=2M",
		"refcount-cache-size=256k",
		"overlap-check=all",
		"overlap-check.template=cached,overlap-check.active-l1=off",
		"lazy-refcounts=off",
		"file.locking=off",
		"file.aio=threads",
		"pass-discard-request=on",
		"cache-clean-interval=10",
		"l2-cache-entry-size=4k",
		"read-only=on",
		"force-share=on",
		"node-name=disk0",
		"auto-read-only=on",
		"file.cache.direct=off",
		"driver=qcow2",
		"file.read-only=on",
		"backing=",
	};
	static const struct { const char *opt, *words;
	} bad[] = {
		{ "foo=1", "Block format 'qcow2' does not support the option 'foo'" },
		{ "file.foo=1", "Block protocol 'file' doesn't support the option 'foo'" },
		{ "read-only=maybe", "Parameter 'read-only' expects 'on' or 'off'" },
		{ "cache.direct=x", "Parameter 'cache.direct' expects 'on' or 'off'" },
		{ "l2-cache-size=x",
		  "Parameter 'l2-cache-size' expects a non-negative number below 2^64" },
		{ "discard=foo", "Invalid discard option" },
		{ "detect-zeroes=foo", "invalid parameter value: foo" },
		{ "detect-zeroes=unmap", "not allowed without setting discard" },
		{ "overlap-check=foo", "none, constant, cached, all" },
		{ "file.aio=foo", "invalid parameter value: foo" },
		{ "file.aio=native", "requires cache.direct=on" },
		{ "file.locking=foo", "invalid parameter value: foo" },
		{ "l2-cache-entry-size=3", "power of two" },
		{ "cache-clean-interval=x", "expects a number" },
		{ "cache-size=1M,l2-cache-size=2M", "may not exceed" },
		{ "cache-size=1M,l2-cache-size=1k,refcount-cache-size=1k", "at the same time" },
		{ "driver=foo", "Unknown driver 'foo'" },
		{ "file.driver=foo", "Unknown driver 'foo'" },
		{ "l2-cache-size=10GB", "Optional suffix" },
		{ "cache.foo=on", "" },
	};
	char command[512];

	img_enter();
	RUN_OK("%%M create -q -f qcow2 a 1M");
	for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
		snprintf(command, sizeof(command),
			 "$img info --image-opts driver=qcow2,file.driver=file,file.filename=a,%s",
			 good[i]);
		BOTH(0, "virtual size: 1 MiB", command);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(command, sizeof(command),
			 "$img info --image-opts driver=qcow2,file.driver=file,file.filename=a,%s",
			 bad[i].opt);
		BOTH(1, bad[i].words, command);
	}
	/* What they do, where they do something. */
	BOTH(1, "read-only",
	     "$img resize --image-opts driver=qcow2,file.filename=a,read-only=on 2M");
	BOTH(1, "read-only",
	     "$img snapshot -c x --image-opts driver=qcow2,file.filename=a,read-only=on");
	BOTH(1, "expects 'on' or 'off'",
	     "$img info --image-opts driver=qcow2,file.filename=a,force-share=bad");
}

TEST(single_quotes)
{
	img_enter();
	RUN_OK("%%M create -q -f qcow2 a 1M; cp a \"it's\"; cp a 'say \"a\"'");
	BOTH(0, "qcow2",
	     "$img info \"json:{'driver':'qcow2','file':{'driver':'file','filename':'a'}}\"");
	BOTH(0, "qcow2", "$img info \"json:{'driver': 'qcow2', \\\"file.filename\\\": 'a'}\"");
	BOTH(0, "qcow2", "$img info \"json:{'file.filename':'it\\\\'s'}\"");
	BOTH(0, "qcow2", "$img info 'json:{\"file.filename\":\"it'\"'\"'s\"}'");
	BOTH(0, "qcow2", "$img info \"json:{'file.filename':'say \\\"a\\\"'}\"");
	BOTH(0, "qcow2", "$img info \"json:{'file.filename':'\\\\u0061'}\"");
	BOTH(1, NULL, "$img info \"json:{'file.filename':'a}\"");
	BOTH(1, NULL, "$img info \"json:{'file.filename':\\\"a'}\"");
	BOTH(1, NULL, "$img info \"json:{'file.filename':'a\\\\\"");
	BOTH(0, "qcow2",
	     "$img create -q -f qcow2 -b \"json:{'driver':'qcow2','file.filename':'a'}\" -F qcow2 "
	     "b; $img info b");
}

#define LUKS(obj, as)                                                                              \
	"$img convert " obj                                                                        \
	" --image-opts -O raw driver=qcow2,file.filename=e,encrypt.key-secret=" as " o"

TEST(secrets)
{
	img_enter();
	RUN_OK("printf abc >pw; printf YWJj >pw64");
	RUN_OK("%%M create -q --object secret,id=s,data=abc -f qcow2 -o "
	       "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 e 1M");
	BOTH(0, NULL, LUKS("--object secret,id=s,data=abc", "s"));
	BOTH(0, NULL, LUKS("--object secret,id=s,file=pw", "s"));
	BOTH(0, NULL, LUKS("--object secret,id=s,data=YWJj,format=base64", "s"));
	BOTH(0, NULL, LUKS("--object secret,id=s,file=pw64,format=base64", "s"));
	BOTH(0, NULL, LUKS("--object secret,id=s,data=abc,format=raw", "s"));
	BOTH(0, NULL,
	     LUKS("--object '{\"qom-type\":\"secret\",\"id\":\"s\",\"data\":\"abc\"}'", "s"));
	BOTH(0, NULL, LUKS("--object \"{'qom-type':'secret','id':'s','data':'abc'}\"", "s"));
	BOTH(0, NULL, LUKS("--object qom-type=secret,id=s,data=abc", "s"));
	BOTH(0, NULL, LUKS("--object secret,id=t,data=x --object secret,id=s,data=abc", "s"));
	BOTH(1, NULL, LUKS("--object secret,id=s,data=abd", "s"));
	BOTH(1, "No secret with id 't'", LUKS("--object secret,id=s,data=abc", "t"));
	BOTH(1, "Either 'file' or 'data'", LUKS("--object secret,id=s", "s"));
	BOTH(1, "mutually exclusive", LUKS("--object secret,id=s,data=abc,file=pw", "s"));
	BOTH(1, "invalid characters", LUKS("--object secret,id=s,data=@@@@,format=base64", "s"));
	BOTH(1, "'format'", LUKS("--object secret,id=s,data=abc,format=foo", "s"));
	BOTH(1, "Parameter 'foo' is unexpected",
	     LUKS("--object secret,id=s,data=abc,foo=bar", "s"));
	BOTH(1, "Parameter 'id' is missing", LUKS("--object secret,data=abc", "s"));
	BOTH(1, "expects an identifier", LUKS("--object secret,id=1,data=abc", "s"));
	BOTH(1, "duplicate",
	     LUKS("--object secret,id=s,data=abc --object secret,id=s,data=abc", "s"));
	BOTH(1, "only secrets", LUKS("--object iothread,id=s", "s"));
	/* It does not reach standard error of a script, and no copy of it is left in the folder. */
	CHECK_EQ(
		img_run("%%M info --object secret,id=s,data=abc e 2>&1 >/dev/null | wc -c")->out[0],
		'0');
}

/* Base64 of every length and value, against the C library of the host (coreutils). */
TEST(base64_secrets)
{
	img_enter();
	for (int i = 1; i <= 9; i++)
		RUN_OK("tr -dc '[:graph:]' </dev/urandom | head -c %d >pw; "
		       "%%M create -q --object secret,id=s,file=pw -f luks -o "
		       "key-secret=s,iter-time=10 l 64k && "
		       "%%M convert --object secret,id=s,format=base64,data=$(base64 -w0 pw) -O "
		       "raw --image-opts driver=luks,file.filename=l,key-secret=s o",
		       i);
}

TEST(protocols_that_are_not_here)
{
	static const char *const names[] = { "rbd:pool/x",	"ssh://h/x",	"iscsi://h/t/0",
					     "gluster://h/v/x", "nfs://h/x",	"ftp://h/x",
					     "foo:x",		"blkverify:a:b" };
	char command[128];

	img_enter();
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(command, sizeof(command), "$img info %s", names[i]);
		BOTH(1, i == 7 ? NULL : "Unknown protocol '", command);
		snprintf(command, sizeof(command),
			 "$img create -f qcow2 %s 1M; r=$?; ls -A; exit $r", names[i]);
		BOTH(1, "protocol", command);
	}
	CHECK_EQ(img_run("ls -A")->out[0], 0);
	BOTH(0, "1 MiB", "$img create -q ./foo:x 1M; $img info -f raw ./foo:x");
	BOTH(0, "1 MiB", "$img create -q file:foo:y 1M; $img info -f raw file:foo:y");
}

TEST(null_disk)
{
	img_enter();
	BOTH(0, "1 GiB", "$img info null-co://");
	BOTH(0, "5 MiB", "$img info --image-opts driver=null-co,size=5M,read-zeroes=on");
	BOTH(0, "5 MiB", "$img info \"json:{'driver':'null-aio','size':5242880}\"");
	img_pattern("in", SIZE, 4);
	BOTH(0, NULL, "$img convert -n --target-image-opts -f raw in driver=null-co,size=5M");
	BOTH(1, "smaller", "$img convert -n --target-image-opts -f raw in driver=null-co,size=4M");
	BOTH(0, "ompleted",
	     "$img bench -w -c 100 --image-opts driver=null-co,size=1G,read-zeroes=on");
	RUN_OK("%%M convert -O raw --image-opts driver=null-co,size=5M o && cmp -n %llu o "
	       "/dev/zero",
	       (unsigned long long)SIZE);
}

/* Every format takes them; they change something on btrfs and xfs alone. */
TEST(file_system_hints)
{
	static const char *const formats[] = { "raw",  "qcow2", "vmdk",	     "vdi", "vpc",
					       "vhdx", "qcow",	"parallels", "qed" };

	img_enter();
	for (unsigned i = 0; i < ARRAY_SIZE(formats); i++) {
		if (img_run("%%M create -q -f %s x 1M", formats[i])->status)
			continue;
		RUN_OK("diff <(%%M create -f %s -o nocow=on,extent_size_hint=1M x 1M) <(qemu-img "
		       "create -f %s -o nocow=on,extent_size_hint=1M x 1M)",
		       formats[i], formats[i]);
		RUN_OK("diff <(%%M create -f %s -o help x | cut -d= -f1 | grep -v preallocation) "
		       "<(qemu-img create -f %s -o help x | cut -d= -f1 | grep -v preallocation)",
		       formats[i], formats[i]);
		RUN_OK("rm -f x; %%M create -q -f %s -o nocow=on x 1M && qemu-img info -f %s x",
		       formats[i], formats[i]);
		RUN_FAILS(1, "%%M create -q -f %s -o nocow=maybe x 1M", formats[i]);
		RUN_FAILS(1, "%%M create -q -f %s -o extent_size_hint=8G x 1M", formats[i]);
	}
	RUN_OK("rm -f x; strace -f %%M create -q -f raw -o nocow=on x 1M 2>&1 | grep "
	       "'SETFLAGS.*FS_NOCOW_FL' >/dev/null || ! command -v strace");
	RUN_OK("%%M convert -f raw -O qcow2 -o nocow=on x y && %%M check -q y");
}

/* Sizes are QEMU's: one letter, no "GB", no octal. */
TEST(sizes)
{
	static const struct { const char *size; int status;
	} sizes[] = {
		{ "10", 0 },
		{ "10b", 0 },
		{ "10B", 0 },
		{ "10k", 0 },
		{ "10K", 0 },
		{ "10M", 0 },
		{ "10G", 0 },
		{ "1.5k", 0 },
		{ "1.5G", 0 },
		{ "0x1000", 0 },
		{ "010k", 0 },
		{ "0010", 0 },
		{ "10GB", 1 },
		{ "10GiB", 1 },
		{ "10kB", 1 },
		{ "10Ki", 1 },
		{ "10x", 1 },
		{ "1.5", 1 },
		{ "1.0", 0 },
		{ "1.5b", 1 },
		{ "0x10k", 0 },
		{ "0x10b", 0 },
		{ "0x", 1 },
		{ "-1", 1 },
		{ "''", 1 },
		{ "1e3", 1 },
		{ "1E", 0 },
		{ "10E", 1 },
		{ "k", 1 },
		{ ".5k", 1 },
		{ "1.k", 0 },
		{ "1k ", 0 },
		{ "'1 k'", 1 },
		{ "1..5k", 1 },
		{ "18446744073709551616", 1 },
		{ "0x1.8k", 1 },
	};
	char command[128];

	img_enter();
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		snprintf(command, sizeof(command), "$img create -q -f qcow2 x %s 2>&1",
			 sizes[i].size);
		if (strcmp(sizes[i].size, "1E") && strcmp(sizes[i].size, "-1"))
			BOTH(sizes[i].status, NULL, command);
		if (!sizes[i].status)
			RUN_OK("diff <(%%M create -f raw x %s) <(qemu-img create -f raw x %s)",
			       sizes[i].size, sizes[i].size);
		snprintf(command, sizeof(command), "$img measure --size=%s 2>&1", sizes[i].size);
		BOTH(sizes[i].status, NULL, command);
	}
	BOTH(1, NULL, "$img create -q -f qcow2 -o cluster_size=64KB x 1M");
	BOTH(1, NULL, "$img convert -S 4KB -f raw -O qcow2 x y");
	BOTH(1, NULL, "$img create -q -f raw x 1M; $img resize -f raw x +1MB");
	BOTH(1, NULL, "$img dd -f raw -O raw if=x of=y bs=4KB");
}

TEST(large_vdi)
{
	img_enter();
	/*
	 * The table of the largest one is 2 GiB: laid into the file here as a hole would not be
	 * free, so the header alone is judged.
	 */
	BOTH(1, "max supported is 0x1fffff8000000", "$img create -q -f vdi x 512T");
	BOTH(0, "9 TiB", "$img create -q -f vdi x 9T && $img info x; r=$?; rm x; exit $r");
	RUN_OK("%%M create -q -f vdi x 20T && qemu-io -f vdi -c 'write -P 1 0 64k' -c 'write -P 2 "
	       "9T 64k' -c 'write -P 3 21990232489984 64k' x && "
	       "%%M check x && qemu-img check x");
	RUN_OK("%%M create -q -f vdi y 20T && %%M bench -w -c 40 -d 4 -s 64k -S 500G --pattern 9 y "
	       "&& qemu-img check y && "
	       "qemu-io -f vdi -c 'read -P 9 0 64k' -c 'read -P 9 19000G 64k' -c 'read -P 0 1G "
	       "64k' y | grep -q 'failed' && exit 1; "
	       "%%M map x | wc -l | grep -qx 4");
}

/* Lines of -p: qemu-img's form, never falling, and 100 at the end. */
TEST(progress_lines)
{
	static const char *const commands[] = {
		"convert -p -f raw -O qcow2 in o",
		"convert -p -f raw -O raw in o",
		"convert -p -c -f raw -O qcow2 in o",
		"convert -p -n -f raw -O raw in p",
		"compare -p -f raw -F raw in in",
		"rebase -p -b '' -f qcow2 top",
		"commit -p -f qcow2 top2",
		"amend -p -o compat=0.10 -f qcow2 top3",
		"convert -p -m 1 -r 400M -f raw -O qcow2 in o",
	};

	img_enter();
	img_pattern("in", 24 * MiB, 5);
	RUN_OK("%%M convert -f raw -O qcow2 in base; for i in top top2 top3; do %%M create -q -f "
	       "qcow2 -b base -F qcow2 $i; "
	       "qemu-io -f qcow2 -c 'write -P 1 0 10M' $i; done; cp in p");
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
		RUN_OK("%%M %s >out", commands[i]);
		RUN_OK("tr '\\r' '\\n' <out | awk '/^    \\([0-9]+\\.[0-9][0-9]\\/100%%\\)$/ { v = "
		       "substr($1, 2) + 0; if (v < last) exit 1; last = v; n++ } "
		       "/%%/ && !/^    \\([0-9]+\\.[0-9][0-9]\\/100%%\\)$/ { exit 1 } END { if "
		       "(last != 100 || n < 2) exit 1 }'");
		RUN_OK("head -c 1000 out | tr '\\r' '\\n' | head -1 | grep -xF '    (0.00/100%%)'");
	}
}

TEST(convert_into_what_exists_takes_no_options)
{
	img_enter();
	RUN_OK("%%M create -q -f qcow2 a 1M; %%M create -q -f qcow2 b 1M; md5sum b >sum");
	BOTH(1, "-o has no effect when skipping image creation",
	     "$img convert -n -O qcow2 -o compat=0.10 a b");
	BOTH(1, "-o has no effect when skipping image creation",
	     "$img convert -n -O qcow2 -o size=1M a b");
	BOTH(1, "-o has no effect when skipping image creation",
	     "$img convert -n --target-image-opts -o nocow=on a driver=qcow2,file.filename=b");
	RUN_OK("md5sum -c sum");
}

TAP_MAIN
