/* SPDX-License-Identifier: GPL-2.0-or-later */
/* smbios.h: what dmidecode shows: structures and their entry point. */
#ifndef BIOS_SMBIOS_H
#define BIOS_SMBIOS_H

#include "bios/boot.h"

#define SMBIOS_ANCHOR_LEN 31

struct smbios {
	/* "_SM_" entry point; smbios_place makes address and checksums final */
	uint8_t anchor[SMBIOS_ANCHOR_LEN];
	uint8_t *data;
	size_t len, cap;
	unsigned count;
	uint16_t longest;
};

void smbios_build(const struct bios_config *c, struct smbios *s);
void smbios_free(struct smbios *s);
/* The structures will lie at base. */
void smbios_place(struct smbios *s, uint32_t base);

#endif
