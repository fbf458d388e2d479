/* SPDX-License-Identifier: GPL-2.0-or-later */
/* doctor.h: findings about this host, each with the command that cures it. */
#ifndef TOOLS_DOCTOR_H
#define TOOLS_DOCTOR_H

#include <stdio.h>

#include "vmm/base/util.h"

/* How much a finding matters: fine, guests run with a limit, guests do not run. */
enum verdict { GOOD, LIMIT, BAD };

/* Records a finding. cure: what to do, or NULL. */
void finding(enum verdict v, const char *topic, const char *cure, const char *fmt, ...)
	PRINTF(4, 5);

/* The examinations, in order (checks_*.c). */
void check_processor(void);
void check_kvm(void);
void check_memory(void);
void check_network(void);
void check_disks(void);
void check_rivals(void);

/*
 * The host looked at: "" or --sysroot's folder. at() gives the path there; the string is good for
 * the next three calls.
 */
const char *at(const char *path);
FILE *open_text(const char *path);
/* First line of a small file, without the newline; "" when it cannot be read. */
const char *read_line(const char *path, char *buf, size_t len);
bool module_loaded(const char *name);

#endif
