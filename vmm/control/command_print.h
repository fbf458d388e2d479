/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command_print.h: how a person sees what `info` answers, in the words of QEMU's monitor, for
 * scripts read those.
 */
#ifndef VMM_CONTROL_COMMAND_PRINT_H
#define VMM_CONTROL_COMMAND_PRINT_H

#include <jansson.h>
#include <stdio.h>

/* Each is the `print` of the command of its name (command.h): value is what that answered. */
void print_status(json_t *value, FILE *out);
void print_version(json_t *value, FILE *out);
void print_name(json_t *value, FILE *out);
void print_uuid(json_t *value, FILE *out);
void print_kvm(json_t *value, FILE *out);
void print_cpus(json_t *value, FILE *out);
void print_memory_size(json_t *value, FILE *out);
void print_mice(json_t *value, FILE *out);
void print_iothreads(json_t *value, FILE *out);
void print_chardev(json_t *value, FILE *out);
void print_balloon(json_t *value, FILE *out);
void print_block(json_t *value, FILE *out);
void print_blockstats(json_t *value, FILE *out);
void print_block_jobs(json_t *value, FILE *out);
void print_vnc(json_t *value, FILE *out);
void print_migrate(json_t *value, FILE *out);
void print_migrate_parameters(json_t *value, FILE *out);
void print_migrate_capabilities(json_t *value, FILE *out);

#endif
