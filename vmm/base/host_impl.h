/* SPDX-License-Identifier: GPL-2.0-or-later */
/* host_impl.h: what the files of the in-process door share (host*.c). */
#ifndef VMM_BASE_HOST_IMPL_H
#define VMM_BASE_HOST_IMPL_H

#include "vmm/base/host.h"

/* Each answers the calls of its kind; -ENOSYS: it is another's. */
int host_file_call(struct host_call *c, struct err *err);
int host_socket_call(struct host_call *c, struct err *err);
int host_process_call(struct host_call *c, struct err *err);
int host_names_call(struct host_call *c, struct err *err);

/* open(2), repeated when a signal comes: fd or -errno. */
int host_open_again(const char *path, int flags, int mode);
/* The folder that path lies in; the caller's. */
char *host_folder_of(const char *path);
/* HOST_OPEN of a disk. */
int host_open_image(struct host_call *c, struct err *err);
/* Does it name descriptors of this program? They are not an image's to name. */
bool host_is_process_name(const char *name);
/* As host_unlink. */
int host_remove_exact(const char *path, int fd);

#endif
