/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: the saved state of a whole machine, bent by whole properties (bend.h): processors,
 * KVM's interrupt controllers and timers, the machine's own nodes, and every device as it is wired.
 * The target "state" takes any tree; this one begins with a true one. Refused with a reason, or
 * lived with: then it resumes, stops, and what it saves loads again.
 */
#include "tests/fuzz/bend.h"
#include "tests/fuzz/machine.h"

static struct machine *m;
static void *good;
static size_t good_len;

static void make(void)
{
	char *argv[] = { "fuzz",     "-m",
			 "8",	     "-nodefaults",
			 "-display", "none",
			 "-serial",  "null",
			 "-vga",     "std",
			 "-hda",     "disk",
			 "-drive",   "file=disk2,format=qcow2",
			 "-device",  "virtio-rng-pci",
			 "-device",  "virtio-balloon-pci",
			 "-net",     "none",
			 NULL };
	struct err err = { "" };

	fuzz_enter_folder();
	fuzz_disk("disk");
	fuzz_disk("disk2");
	m = fuzz_machine(argv);
	if (machine_save(m, NULL, NULL, true, &good, &good_len, &err))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { data, size };
	struct err err = { "" };
	void *bent, *again;
	size_t len;

	if (!m)
		make();
	bent = bend_tree(&in, good, good_len, &len);
	if (machine_load(m, bent, len, NULL, NULL, &err) == 0) {
		machine_unquiesce(m);
		fuzz_settle(m);
		free(bent);
		bent = NULL;
		if (machine_quiesce(m, &err) == 0 &&
		    machine_save(m, NULL, NULL, true, &again, &len, &err) == 0) {
			if (machine_load(m, again, len, NULL, NULL, &err)) {
				fprintf(stderr, "what was saved does not load: %s\n", err.msg);
				abort();
			}
			free(again);
		}
	} else if (!err.msg[0]) {
		abort();		/* refused without a word */
	}
	free(bent);
	machine_reset(m, &err);
	return 0;
}
