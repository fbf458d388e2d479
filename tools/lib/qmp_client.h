/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qmp_client.h: talking to a machine's control socket (QEMU's docs/interop/qmp-spec): connect,
 * call, hear events, each with a deadline. A machine that hangs costs its deadline and nothing
 * more. One thread for each connection; errors are -errno with a reason that can be shown to
 * people.
 */
#ifndef TOOLS_LIB_QMP_CLIENT_H
#define TOOLS_LIB_QMP_CLIENT_H

#include <jansson.h>

#include "vmm/base/util.h"

#define QMP_FOREVER (-1)		/* as a timeout in milliseconds: no deadline */

struct qmp;

/* Connects to a unix socket and negotiates. NULL with the reason (ETIMEDOUT: nobody answers). */
struct qmp *qmp_open(const char *path, int timeout_ms, struct err *err);
void qmp_close(struct qmp *q);		/* also NULL */

/*
 * Runs a command; args (NULL: none) is taken over; *value (may be NULL) is the caller's, NULL after
 * a failure. 0, or -errno with the machine's words: -ENOSYS when it does not know the command,
 * -ENODEV and -ENOTCONN by its error class, -EIO otherwise; -EPIPE when the machine has ended and
 * -ETIMEDOUT when it did not answer, after which only qmp_close is of use.
 */
int qmp_call(struct qmp *q, const char *command, json_t *args, int timeout_ms, json_t **value,
	     struct err *err);
/* A request as it is, for tools that pass on what a person typed. Its answer, or NULL as above. */
json_t *qmp_request(struct qmp *q, json_t *request, int timeout_ms, struct err *err);
/*
 * The next event: one that came during a call, or one that is waited for. NULL with the reason;
 * err->msg is empty when the connection ended properly. Of more than 1024 that nobody fetched the
 * oldest are lost.
 */
json_t *qmp_event(struct qmp *q, int timeout_ms, struct err *err);

#endif
