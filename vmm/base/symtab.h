/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * symtab.h: names for the addresses of a guest's kernel: from the symbol table of an ELF file, from
 * the one a stripped Linux carries for itself, or from a System.map.
 */
#ifndef VMM_BASE_SYMTAB_H
#define VMM_BASE_SYMTAB_H

#include "vmm/base/util.h"

struct symtab;
/*
 * *t is NULL when the file has no names (a bzImage). 0, or -errno with the reason when it cannot be
 * read.
 */
int symtab_load(const char *path, struct symtab **t, struct err *err);
void symtab_free(struct symtab *t);
/* "start_kernel+0x1c" into buf; false when nothing lies near. Any thread. */
bool symtab_name(const struct symtab *t, uint64_t addr, char *buf, size_t len);
bool symtab_has(const struct symtab *t, const char *function);

#endif
