/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * p9.h: a 9P2000.L server over one folder of the host, without a transport: a message in, a message
 * out. One thread at a time calls it, one that may block.
 *
 * The guest is not trusted. Every file it names is reached from a descriptor of a folder below the
 * root, one name at a time, by openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
 * RESOLVE_NO_MAGICLINKS): nothing outside is ever opened, whatever happens to the names meanwhile.
 * Kernel file systems (proc, sys ...) and hidden paths look like empty folders; only regular files
 * and folders are opened. It acts with this process's rights and no others.
 */
#ifndef DEVICES_P9_P9_H
#define DEVICES_P9_P9_H

#include <sys/uio.h>

#include "vmm/base/host.h"

#define P9_MSIZE_MAX (1u << 20)
#define P9_MSIZE_MIN 4096u

struct p9;

struct p9_opts {
	const char *path;		/* the folder */
	bool readonly;
	/* FIFOs look like regular files and carry a stream to or from a host program */
	bool pipes;
	const char *const *hide;	/* absolute paths to cover, NULL at the end; may be NULL */
	const char *id;			/* for messages */
	const struct host *host;	/* what opens the folder; NULL: host_door */
};

struct p9 *p9_new(const struct p9_opts *o, struct err *err);
void p9_free(struct p9 *s);
/*
 * One request in `in`, the reply into `out`. Returns the reply's length, 0 when not even an error
 * fits. Descriptors of files are kept until the guest clunks them, attaches anew (Tversion), or
 * p9_reset.
 */
size_t p9_handle(struct p9 *s, const struct iovec *in, int nin, const struct iovec *out, int nout);
void p9_reset(struct p9 *s);
/* While on, requests that wait for a FIFO, or would, end with EINTR. Any thread. */
void p9_cancel(struct p9 *s, bool on);
/*
 * The guest wants an end of the request with this tag (Tflush, whose turn comes after it): it waits
 * no longer. Any thread.
 */
void p9_flush(struct p9 *s, uint16_t tag);
/* Files the guest holds: with any, the server cannot be saved. Any thread. */
unsigned p9_fids(const struct p9 *s);

#endif
