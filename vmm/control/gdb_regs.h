/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gdb_regs.h: a vCPU's registers in the order and layout the target description names them. */
#ifndef VMM_CONTROL_GDB_REGS_H
#define VMM_CONTROL_GDB_REGS_H

#include "vmm/kvm/vcpu.h"

#define GDB_REGS_BYTES 1024
/* The XML that describes the registers. */
extern const char gdb_target_xml[];
/* All registers as bytes in order; returns how many bytes. Parked. 0 on failure. */
size_t gdb_regs_read(struct vcpu *v, uint8_t *buf);
int gdb_regs_write(struct vcpu *v, const uint8_t *buf, size_t len);
/* Where register n lies in that buffer; false: no such register. */
bool gdb_reg_place(unsigned n, size_t *offset, size_t *size);

#endif
