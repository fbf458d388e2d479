/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: a machine's saved state (machine_state.h). The input is the tree; what is loaded
 * must be refused or lived with: the devices resume, work, stop and are saved again.
 */
#include "tests/fuzz/machine.h"

static struct machine *m;

static void make(void)
{
	char *argv[] = { "fuzz",     "-m",
			 "8",	     "-nodefaults",
			 "-display", "none",
			 "-serial",  "null",
			 "-vga",     "std",
			 "-hda",     "disk",
			 "-drive",   "file=disk2,format=qcow2",
			 "-netdev",  "socket,id=n0,listen=127.0.0.1:0",
			 "-device",  "virtio-rng-pci",
			 "-device",  "virtio-balloon-pci",
			 NULL };

	argv[14] = NULL;		/* the network cards have targets of their own */
	fuzz_enter_folder();
	fuzz_disk("disk");
	fuzz_disk("disk2");
	m = fuzz_machine(argv);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = { "" };
	uint8_t *exact;
	void *blob;
	size_t len;

	if (!m)
		make();
	if (!size && machine_save(m, NULL, NULL, true, &blob, &len, &err) == 0) {
		/* how the seed is made: an empty input */
		int fd = open("/tmp/minivmm-fuzz-state", O_WRONLY | O_CREAT | O_TRUNC, 0600);

		if (fd >= 0 && write_full(fd, blob, len) == 0)
			close(fd);
		free(blob);
		return 0;
	}
	exact = malloc(size);
	memcpy(exact, data, size);
	if (machine_load(m, exact, size, NULL, NULL, &err) == 0) {
		machine_unquiesce(m);
		fuzz_settle(m);
		if (machine_quiesce(m, &err) == 0 &&
		    machine_save(m, NULL, NULL, true, &blob, &len, &err) == 0)
			free(blob);
	} else if (!err.msg[0]) {
		abort();		/* refused without a word */
	}
	free(exact);
	machine_reset(m, &err);
	return 0;
}
