/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * machine_boot.c: the files to boot from; what firmware is told about where to boot from:
 * bootindex= as a list of OpenFirmware paths (fw_cfg's bootorder), and the network boot ROMs of the
 * cards. Main thread, before the guest runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/pci/pci.h"
#include "vmm/base/log.h"
#include "vmm/machine/machine.h"

#define ROM_FOLDER "/usr/lib/ipxe/qemu/"
#define ROM_MAX (1 * MiB)

struct find { const struct device *dev; struct pci_dev *found; };

static void find_function(void *ctx, struct pci_dev *p)
{
	struct find *f = ctx;

	if (&p->dev == f->dev)
		f->found = p;
}

static struct pci_dev *function_of(struct machine *m, const struct device_config *d)
{
	struct machine_device *md = machine_find_device(m, d->id);
	struct find f = { md ? md->dev : NULL, NULL };

	if (md && m->pci)
		pci_bus_for_each(m->pci, find_function, &f);
	return f.found;
}

bool machine_has_viewer(const struct config *c)
{
	return (c->vnc && strcmp(c->vnc, "none")) || (c->display && !strcmp(c->display, "curses"));
}

char *machine_boot_devices(struct machine *m)
{
	const struct config *c = m->config;
	char *list = NULL;

	/* In order of bootindex; equal ones in order of the command line. */
	for (int index = 0; index <= 1023; index++) {
		for (unsigned i = 0; i < c->ndevices; i++) {
			const struct device_config *d = c->devices[i];
			const int *at = device_prop(d, PROP_BOOTINDEX);
			char *path, *longer;

			if (!at || *at != index || !d->kind->boot_path ||
			    !(path = d->kind->boot_path(m, d)))
				continue;
			longer = xasprintf("%s%s%s", list ? list : "", list ? "\n" : "", path);
			free(path);
			free(list);
			list = longer;
		}
	}
	return list;
}

static bool may_boot_from(const struct config *c, const struct device_config *d)
{
	const int *at = device_prop(d, PROP_BOOTINDEX);

	return (at && *at >= 0) || c->boot_menu || (c->boot_order && strchr(c->boot_order, 'n')) ||
	       (c->boot_once && strchr(c->boot_once, 'n'));
}

/*
 * The BIOS runs a ROM only for the card whose numbers its PCI data structure names (PCI Firmware
 * 3.0, 5.1.2); iPXE's virtio ROM names the modern device, ours is transitional. Byte 6 takes up the
 * difference in the checksum.
 */
static void rom_set_ids(uint8_t *rom, size_t size, const struct pci_dev *p)
{
	size_t data = ld_le16(rom + 0x18);
	uint8_t sum = 0;

	if (ld_le16(rom) != 0xaa55 || rom[2] * 512u > size || !range_ok(data, 8, rom[2] * 512u) ||
	    memcmp(rom + data, "PCIR", 4))
		return;
	memcpy(rom + data + 4, p->config + PCI_VENDOR_ID, 4);
	for (size_t i = 0; i < rom[2] * 512u; i++)
		sum += rom[i];
	rom[6] -= sum;
}

static int rom_attach(struct machine *m, const struct device_config *d, const char *file,
		      struct err *err)
{
	struct pci_dev *p = function_of(m, d);
	char path[128], id[64];
	struct block *rom;
	struct stat st;
	uint64_t size;
	int fd, ret;

	if (!p || p->bars[PCI_ROM_SLOT].size)
		return 0;
	snprintf(path, sizeof(path), ROM_FOLDER "%s", file);
	fd = host_open(&m->host, "option ROM", path, O_RDONLY, 0, err);
	if (fd < 0) {
		err_prefix(err, "%s: network boot needs its ROM (apt-get install ipxe-qemu)",
			   d->id);
		return fd;
	}
	if (fstat(fd, &st) < 0 || st.st_size < 512 || st.st_size > (off_t)ROM_MAX) {
		close(fd);
		return err_set(err, EINVAL, "%s is no option ROM", path);
	}
	for (size = 4096; size < (uint64_t)st.st_size; size *= 2)
		;
	snprintf(id, sizeof(id), "%.50s-rom", d->id);
	rom = block_new(m->mem, id, size, BLOCK_ROM, err);
	ret = rom ? pread_full(fd, block_host(rom), st.st_size, 0) : -ENOMEM;
	close(fd);
	if (ret < 0)
		return err_set(err, -ret, "%s: %s", path, strerror(-ret));
	rom_set_ids(block_host(rom), size, p);
	pci_bar_block(p, PCI_ROM_SLOT, 0, rom);
	return 0;
}

/*
 * A ROM costs every boot its start-up time: a card gets one only when the machine may boot from the
 * network.
 */
int machine_boot_roms(struct machine *m, struct err *err)
{
	const struct config *c = m->config;
	int ret = 0;

	if (c->kernel || !m->pci)
		return 0;
	for (unsigned i = 0; ret == 0 && i < c->ndevices; i++) {
		const struct device_config *d = c->devices[i];

		if (d->kind->rom && may_boot_from(c, d))
			ret = rom_attach(m, d, d->kind->rom, err);
	}
	return ret;
}

int machine_boot_file(struct machine *m, const char *path, struct bios_file *f, const char *what,
		      struct err *err)
{
	*f = (struct bios_file){ .fd = -1, .path = path };
	if (!path)
		return 0;
	f->fd = host_open(&m->host, what, path, O_RDONLY, 0, err);
	if (f->fd < 0)
		err_prefix(err, "%s", what);
	return MIN(f->fd, 0);
}

/*
 * The next "FILE ARGUMENTS" of a list; a comma that belongs to it is doubled, as in -drive. NULL at
 * the end.
 */
static char *next_module(const char **list)
{
	char *text = xcalloc(1, strlen(*list) + 1), *to = text;
	const char *p = *list;

	for (; *p && (*p != ',' || p[1] == ','); p++) {
		p += *p == ',';
		*to++ = *p;
	}
	*list = *p ? p + 1 : p;
	if (to == text) {
		free(text);
		return NULL;
	}
	return text;
}

int machine_boot_modules(struct machine *m, struct bios_config *b, struct err *err)
{
	const char *list = m->config->initrd;
	struct err other = { "" };
	char *text;
	int ret = 0;

	b->initrd.fd = -1;
	if (!list || b->kernel.fd < 0 || kernel_identify(&b->kernel, &other) != KERNEL_MULTIBOOT)
		return machine_boot_file(m, list, &b->initrd, "-initrd", err);
	while (ret == 0 && (text = next_module(&list))) {
		struct bios_module *mod = &b->modules[b->nmodules];

		if (b->nmodules == ARRAY_SIZE(b->modules)) {
			free(text);
			return err_set(err, E2BIG, "-initrd: more than %zu modules",
				       ARRAY_SIZE(b->modules));
		}
		b->nmodules++;
		mod->cmdline = text;
		ret = machine_boot_file(m, strndup(text, strcspn(text, " ")), &mod->file, "-initrd",
					err);
	}
	return ret;
}

void machine_boot_modules_free(struct bios_config *b)
{
	while (b->nmodules) {
		struct bios_module *mod = &b->modules[--b->nmodules];

		free((char *)mod->cmdline);
		free((char *)mod->file.path);
	}
}
