/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * log.h: messages to the person who runs the program, and the trace. Any thread.
 */
#ifndef VMM_BASE_LOG_H
#define VMM_BASE_LOG_H

#include "vmm/base/util.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* The name messages begin with (argv[0]'s last component). */
void log_set_name(const char *name);
const char *log_name(void);
void log_set_level(enum log_level level);
/*
 * Append messages to this file from now on (NULL: stderr). 0 or -errno with the reason. Behind it
 * ",size=BYTES": at that size it becomes FILE.1 and begins anew (rotate.h). While its
 * disk is full lines are lost; how many bytes stands in the file as soon as there is room again.
 */
int log_set_file(const char *path, struct err *err);
/*
 * Opens the files of messages and trace anew, at SIGHUP: who rotates logs has given the old ones
 * another name.
 */
void log_reopen(void);

void log_error(const char *fmt, ...) PRINTF(1, 2);
void log_warn(const char *fmt, ...) PRINTF(1, 2);
void log_info(const char *fmt, ...) PRINTF(1, 2);
void log_debug(const char *fmt, ...) PRINTF(1, 2);

/*
 * What a guest did wrong. At most 10 lines a second for each call site, then the number of lines
 * left out: a hostile guest cannot fill the disk.
 */
struct log_limit {
	int64_t window;		/* start of the current second */
	unsigned count;
};
void log_limited_at(struct log_limit *limit, enum log_level level, const char *prefix,
		    const char *fmt, ...) PRINTF(4, 5);
#define log_limited(level, prefix, ...)							\
	do {										\
		static struct log_limit log_limit_;					\
		log_limited_at(&log_limit_, level, prefix, __VA_ARGS__);		\
	} while (0)
#define log_guest(...) log_limited(LOG_WARN, "guest: ", __VA_ARGS__)
/* What fails on the host as often as the guest asks for it: a broken disk. Same limit. */
#define log_host(...) log_limited(LOG_ERROR, "", __VA_ARGS__)

/*
 * Trace: one aligned line per event, for -trace. Off, it costs one test of a global word.
 * id ties the lines of one I/O request together (0: none).
 */
enum trace_cat {
	TRACE_EXITS = 1 << 0, TRACE_PIO = 1 << 1, TRACE_MMIO = 1 << 2, TRACE_IRQ = 1 << 3,
	TRACE_MSR = 1 << 4, TRACE_BLK = 1 << 5, TRACE_NET = 1 << 6, TRACE_VIRTIO = 1 << 7,
	TRACE_BOOT = 1 << 8, TRACE_SUMMARY = 1 << 9,
};
#ifdef MINIVMM_NO_TRACE
#define trace_mask 0u		/* tests/bench/run trace: what the tests of it cost */
#else
extern unsigned trace_mask;
#endif
void trace_emit(enum trace_cat cat, uint64_t id, const char *who, const char *fmt, ...)
	PRINTF(4, 5);
#define trace(cat, id, who, ...)							\
	do {										\
		if (__builtin_expect(trace_mask & (cat), 0))				\
			trace_emit(cat, id, who, __VA_ARGS__);				\
	} while (0)
/* A new number for a request; never 0. */
uint64_t trace_new_id(void);
/* "exits,pio,file=F": sets the mask and the output. 0 or -errno with the reason. */
int trace_setup(const char *spec, struct err *err);
/* The file symbols= named, or NULL. */
const char *trace_symbols(void);
/* A line for each category, for -trace help. */
void trace_help(void);

#endif
