/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * machine_config.c: a machine as the command line that makes it again. The entries of its
 * configuration say it, but for what changed in the drives since.
 */
#include <stdlib.h>

#include "vmm/machine/machine.h"

static void replace(char **text, const char *with)
{
	char *old = *text;

	*text = with ? xstrdup(with) : NULL;
	free(old);
}

/* The medium the drive has now, and its limits. */
static void look_at_drive(struct machine_drive *md)
{
	struct drive_config *d = md->config;

	if (!*d->id)
		return;
	if (!md->blk) {
		replace(&d->file, NULL);
		return;
	}
	blk_get_throttle(md->blk, &d->throttle);
	/* The file of a snapshot=on drive has no name. */
	if (d->snapshot || (d->file && !strcmp(d->file, blk_filename(md->blk))))
		return;
	replace(&d->file, blk_filename(md->blk));
	replace(&d->format, blk_format(md->blk));
	d->open.format = d->format;
}

void machine_words(struct machine *m, struct words *w)
{
	for (unsigned i = 0; i < m->ndrives; i++)
		look_at_drive(&m->drives[i]);
	config_words(m->config, w);
}
