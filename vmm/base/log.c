/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * log.c: messages and the trace. Any thread; each line is one write(2), so that lines of several
 * threads and processes never mix.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/log.h"

#define LOG_LINE_MAX 2048
#define LOG_GUEST_LINES 10	/* a second for each call site */

static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;
static char log_prefix[64] = "minivmm";
static enum log_level log_level = LOG_INFO;
static char *log_path;
static int log_fd = STDERR_FILENO;

#undef trace_mask
unsigned trace_mask;
static int trace_fd = STDERR_FILENO;
static int64_t trace_start;

static char *trace_symbols_path;

static const struct {
	const char *name;
	unsigned cat;
	const char *help;
} trace_names[] = {
	{ "exits", TRACE_EXITS, "every exit of a vCPU to this program, with its reason" },
	{ "pio", TRACE_PIO, "port accesses: chip and register, value, instruction, time" },
	{ "mmio", TRACE_MMIO, "accesses to memory-mapped registers, and BARs that move" },
	{ "irq", TRACE_IRQ, "interrupt lines that change, messages that are sent" },
	{ "msr", TRACE_MSR, "reads and writes of model-specific registers" },
	{ "blk", TRACE_BLK, "requests of disks, with a number that ties their lines together" },
	{ "net", TRACE_NET, "packets" },
	{ "virtio", TRACE_VIRTIO,
	  "virtqueues: kicks, chains, used entries, interrupts; device status" },
	{ "boot", TRACE_BOOT, "what is put where before the first instruction" },
	{ "summary", TRACE_SUMMARY,
	  "at the end: exits by reason and device, their number and time" },
};

void log_set_name(const char *name)
{
	const char *slash = strrchr(name, '/');

	snprintf(log_prefix, sizeof(log_prefix), "%s", slash ? slash + 1 : name);
}

const char *log_name(void)
{
	return log_prefix;
}

void log_set_level(enum log_level level)
{
	__atomic_store_n(&log_level, level, __ATOMIC_RELAXED);
}

/* Writes the line; whatever cannot be written is lost: there is nobody left to tell. */
static void write_line(int fd, char *line, int len)
{
	if (len > LOG_LINE_MAX - 2)
		len = LOG_LINE_MAX - 2;
	line[len++] = '\n';
	while (write(fd, line, len) < 0 && errno == EINTR)
		;
}

static int open_append(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	return fd < 0 ? -errno : fd;
}

int log_set_file(const char *path)
{
	char *copy = path ? xstrdup(path) : NULL;
	int fd = path ? open_append(path) : STDERR_FILENO;

	if (fd < 0) {
		free(copy);
		return fd;
	}
	pthread_mutex_lock(&log_mutex);
	if (log_fd != STDERR_FILENO)
		close(log_fd);
	free(log_path);
	log_fd = fd;
	log_path = copy;
	pthread_mutex_unlock(&log_mutex);
	return 0;
}

int log_reopen(void)
{
	int fd = 0;

	pthread_mutex_lock(&log_mutex);
	if (log_path) {
		fd = open_append(log_path);
		if (fd >= 0) {
			close(log_fd);
			log_fd = fd;
		}
	}
	pthread_mutex_unlock(&log_mutex);
	return fd < 0 ? fd : 0;
}

static void log_va(enum log_level level, const char *word, const char *fmt, va_list ap)
{
	char line[LOG_LINE_MAX];
	int n = 0;

	if (level > __atomic_load_n(&log_level, __ATOMIC_RELAXED))
		return;
	pthread_mutex_lock(&log_mutex);
	if (log_path) {		/* a file is read later: say when */
		struct timespec ts;
		struct tm tm;

		clock_gettime(CLOCK_REALTIME, &ts);
		localtime_r(&ts.tv_sec, &tm);
		n = strftime(line, sizeof(line), "%Y-%m-%d %H:%M:%S", &tm);
		n += snprintf(line + n, sizeof(line) - n, ".%03ld ", ts.tv_nsec / 1000000);
	}
	n += snprintf(line + n, sizeof(line) - n, "%s: %s", log_prefix, word);
	n += vsnprintf(line + n, sizeof(line) - n, fmt, ap);
	write_line(log_fd, line, n);
	pthread_mutex_unlock(&log_mutex);
}

#define DEFINE_LOG(name, level, word)				\
	void name(const char *fmt, ...)				\
	{							\
		va_list ap;					\
								\
		va_start(ap, fmt);				\
		log_va(level, word, fmt, ap);			\
		va_end(ap);					\
	}
DEFINE_LOG(log_error, LOG_ERROR, "")
DEFINE_LOG(log_warn, LOG_WARN, "warning: ")
DEFINE_LOG(log_info, LOG_INFO, "")
DEFINE_LOG(log_debug, LOG_DEBUG, "debug: ")

void log_limited_at(struct log_limit *limit, enum log_level level, const char *prefix,
		    const char *fmt, ...)
{
	int64_t now = now_ns();
	unsigned dropped = 0;
	bool show;
	va_list ap;

	pthread_mutex_lock(&log_mutex);
	if (!limit->window || now - limit->window >= NS_PER_SEC) {
		if (limit->count > LOG_GUEST_LINES)
			dropped = limit->count - LOG_GUEST_LINES;
		limit->window = now;
		limit->count = 0;
	}
	show = limit->count++ < LOG_GUEST_LINES;
	pthread_mutex_unlock(&log_mutex);
	if (dropped)
		log_warn("%s%u more like the next line were left out", prefix, dropped);
	if (!show)
		return;
	va_start(ap, fmt);
	log_va(level, prefix, fmt, ap);
	va_end(ap);
}

static const char *trace_name(enum trace_cat cat)
{
	for (size_t i = 0; i < ARRAY_SIZE(trace_names); i++)
		if (trace_names[i].cat & cat & trace_mask)
			return trace_names[i].name;
	return "?";
}

/* "   12.345678 blk    #17     virtio0      read 4096 at 0x1000" */
void trace_emit(enum trace_cat cat, uint64_t id, const char *who, const char *fmt, ...)
{
	int64_t us = (now_ns() - trace_start) / 1000;
	char line[LOG_LINE_MAX], tag[24] = "";
	va_list ap;
	int n;

	if (id)
		snprintf(tag, sizeof(tag), "#%llu", (unsigned long long)id);
	n = snprintf(line, sizeof(line), "%5lld.%06lld %-7s %-7s %-14s ", (long long)(us / 1000000),
		     (long long)(us % 1000000), trace_name(cat), tag, who ? who : "");
	va_start(ap, fmt);
	n += vsnprintf(line + n, sizeof(line) - n, fmt, ap);
	va_end(ap);
	write_line(trace_fd, line, n);
}

uint64_t trace_new_id(void)
{
	static uint64_t last;

	return __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
}

static int trace_word(const char *word, struct err *err)
{
	if (!strncmp(word, "file=", 5)) {
		int fd = open(word + 5, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);

		if (fd < 0)
			return err_set(err, errno, "-trace: cannot write '%s': %s", word + 5,
				       strerror(errno));
		if (trace_fd != STDERR_FILENO)
			close(trace_fd);
		trace_fd = fd;
		return 0;
	}
	if (!strncmp(word, "symbols=", 8)) {
		free(trace_symbols_path);
		trace_symbols_path = xstrdup(word + 8);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(trace_names); i++) {
		if (!strcmp(word, trace_names[i].name)) {
			trace_mask |= trace_names[i].cat;
			return 0;
		}
	}
	if (!strcmp(word, "all")) {
		for (size_t i = 0; i < ARRAY_SIZE(trace_names); i++)
			trace_mask |= trace_names[i].cat;
		return 0;
	}
	return err_set(
		err, EINVAL,
		"-trace: no category '%s'; there are: exits pio mmio irq msr blk net virtio boot "
		"summary all, and file=FILE, symbols=FILE (-trace help explains them)",
		word);
}

const char *trace_symbols(void)
{
	return trace_symbols_path;
}

void trace_help(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(trace_names); i++)
		printf("  %-14s %s\n", trace_names[i].name, trace_names[i].help);
	printf("  %-14s all of these\n  %-14s write there instead of standard error\n"
	       "  %-14s names for addresses: a vmlinux or System.map; -kernel itself when it is an "
	       "ELF file\n",
	       "all", "file=FILE", "symbols=FILE");
}

int trace_setup(const char *spec, struct err *err)
{
	char *copy = xstrdup(spec), *save = NULL;
	int ret = 0;

	trace_start = now_ns();
	for (char *w = strtok_r(copy, ",", &save); w && !ret; w = strtok_r(NULL, ",", &save))
		ret = trace_word(w, err);
	if (!ret && !trace_mask)
		ret = err_set(err, EINVAL, "-trace: which? For example: -trace exits,pio");
	free(copy);
	return ret;
}
