/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * machine_config.c: a machine as the command line that makes it again. The entries of its
 * configuration say it, but for what changed in the drives since.
 */
#include <stdlib.h>

#include "vmm/machine/machine.h"

/* The medium the drive has now, and its limits. d is a copy of its entry. */
static void look_at_drive(const struct machine_drive *md, struct drive_config *d)
{
	if (!*d->id)
		return;
	if (!md->blk) {
		d->file = NULL;
		return;
	}
	blk_get_throttle(md->blk, &d->throttle);
	/* The file of a snapshot=on drive has no name. */
	if (d->snapshot)
		return;
	/* Its name may say less than file=: json: names a part of a file, options, a chain. */
	if (md->opened && !strcmp(md->opened, blk_filename(md->blk)))
		return;
	d->file = (char *)blk_filename(md->blk);
	d->format = (char *)blk_format(md->blk);
}

void machine_words(struct machine *m, struct words *w)
{
	/* A copy, as control threads read the entries; its texts are not its own. */
	struct config *now = xcalloc(1, sizeof(*now));

	memcpy(now, m->config, sizeof(*now));
	for (unsigned i = 0; i < m->ndrives; i++)
		look_at_drive(&m->drives[i], &now->drives[i]);
	config_words(now, w);
	free(now);
}
