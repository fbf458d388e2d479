/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * door.h: the machine's side of the split: struct host over a socket to the parent. Without a
 * parent (-sandbox split=off, tests) nothing here does anything.
 */
#ifndef VMM_PARENT_DOOR_H
#define VMM_PARENT_DOOR_H

#include "vmm/base/util.h"

/*
 * True in a machine that a parent has started: host_door is the one to it from now on. Until
 * door_watched a parent that dies takes the machine along. First thing in main().
 */
bool door_open(void);
/*
 * The descriptor on which the parent's words come, for a loop: -1 without a parent. Whoever calls
 * this sees to the end of the parent from now on.
 */
int door_watched(void);
/* One word: the number of a signal that came; 0: the parent is gone; -EAGAIN: none now. */
int door_read(void);
/*
 * The machine stands: its pid file, if it is to have one (that is waited for), is written. 0 or
 * -errno with the reason.
 */
int door_prepare(bool pidfile, struct err *err);
/* The machine runs. */
void door_ready(void);

#endif
