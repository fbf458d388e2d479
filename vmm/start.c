/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * start.c: a wired machine gets its first state (power-on, saved, or from another host) and runs.
 * Main thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/machine/ending.h"
#include "vmm/move/migrate.h"
#include "vmm/move/savevm.h"
#include "vmm/move/snapshot.h"
#include "vmm/start.h"

/* Power-on state, or that of a saved machine. */
static int first_state(struct machine *m, struct err *err)
{
	struct config *c = m->config;
	char *uri;
	int ret;

	if (machine_moves_here(c))
		return 0;
	if (c->incoming)
		return migrate_incoming(m, c->incoming, err);
	if (!c->loadvm)
		return machine_reset(m, err);
	if (!snapshot_probe(c->loadvm) && !strchr(c->loadvm, '/')) {
		c->strict = false;	/* its disks lie in the snapshot with it */
		return savevm_load(m, c->loadvm, err);
	}
	uri = xasprintf("file:%s", c->loadvm);
	ret = migrate_incoming(m, uri, err);
	free(uri);
	return ret;
}

int machine_start(struct machine *m, struct config *c, struct err *err)
{
	int ret = machine_init(m, c, err);

	if (ret == 0)
		ret = first_state(m, err);
	if (ret == 0)
		machine_watch(m);
	return ret;
}

int machine_run(struct machine *m, struct err *err)
{
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < m->nvcpus; i++)
		ret = vcpu_start(m->vcpus[i]);
	if (ret < 0) {
		err_set(err, -ret, "starting vCPU threads: %s", strerror(-ret));
		return STATUS_ERROR;
	}
	if (machine_moves_here(m->config)) {
		vm_pause(m->vm, PAUSE_MIGRATE);
		if (strcmp(m->config->incoming, "defer") &&
		    migrate_incoming(m, m->config->incoming, err) < 0)
			return STATUS_ERROR;
	}
	if (m->config->paused)
		vm_pause_async(m->vm, PAUSE_USER);
	ending_start(m);
	m->host.origin = HOST_CONTROL;	/* from here on only control clients ask for more */
	vm_resume(m->vm, PAUSE_BOOT);
	loop_run(m->loop);
	ending_stop(m);
	return m->status;
}

void machine_stop(struct machine *m)
{
	migrate_exit(m);
	machine_exit(m);
}
