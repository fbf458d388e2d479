/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: a saved machine's file (snapshot.h): the header's fields and the tree behind it,
 * with checksums made right. An input is { u8 what to keep, 40 bytes of header from offset 8 on,
 * the tree }.
 */
#include <libfdt.h>
#include <sys/mman.h>

#include "tests/fuzz/machine.h"
#include "tests/fuzz/ops.h"
#include "vmm/move/snapshot.h"

#define TREE_AT (16ull << 20)
#define HEADER 4096

static struct machine *m;

static void make(void)
{
	char *argv[] = {
		"fuzz", "-m", "8", "-nodefaults", "-display", "none", "-vga", "none", NULL
	};

	fuzz_enter_folder();
	m = fuzz_machine(argv);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t header[HEADER] = "MINIVMM\x1a", keep;
	struct err err = { "" };
	char path[40];
	int fd;

	if (!m)
		make();
	if (!size) {		/* how the seed is made */
		if (snapshot_save(m, "/tmp/minivmm-fuzz-snapshot", NULL, NULL, &err) < 0)
			abort();
		return 0;
	}
	if (size < 41)
		return 0;
	keep = fuzz_take(&data, &size, 1);
	memcpy(header + 8, data, 40);
	data += 40;
	size -= 40;
	if (!(keep & 1)) {
		st_le32(header + 8, 1);
		st_le64(header + 16, TREE_AT);
		st_le64(header + 24, size);
		st_le64(header + 40, TREE_AT + size);
	}
	if (!(keep & 2))
		st_le32(header + 32, crc32c(0, data, size));
	if (!(keep & 4))
		st_le32(header + HEADER - 4, crc32c(0, header, HEADER - 4));
	fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (fd < 0 || pwrite_full(fd, header, sizeof(header), 0) < 0 ||
	    pwrite_full(fd, data, size, TREE_AT) < 0)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (snapshot_verify(path, &err) < 0 && !err.msg[0])
		abort();
	if (snapshot_restore(m, path, &err) < 0 && !err.msg[0])
		abort();
	close(fd);
	machine_reset(m, &err);
	return 0;
}
