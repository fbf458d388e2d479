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

#include "vmm/base/host.h"
#include "vmm/base/log.h"
#include "vmm/base/rotate.h"

#define LOG_LINE_MAX 2048
#define LOG_GUEST_LINES 10	/* a second for each call site */

static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;
static char log_prefix[64] = "minivmm";
static enum log_level log_level = LOG_INFO;

struct sink {
	char *path;			/* NULL: standard error */
	int fd;
	uint64_t max, len;		/* size= (0: none); bytes in the file, atomic */
	uint64_t lost;			/* atomic: bytes since the last line that was written */
	bool cut;			/* atomic: that one is not whole */
};
static struct sink log_sink = { .fd = STDERR_FILENO }, trace_sink = { .fd = STDERR_FILENO };

#undef trace_mask
unsigned trace_mask;
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

static ssize_t write_once(int fd, const char *buf, int len)
{
	ssize_t n;

	do
		n = write(fd, buf, len);
	while (n < 0 && errno == EINTR);
	return n;
}

/*
 * The file has its size: it becomes the old one. One thread does it; the others write meanwhile,
 * into either file. Its failure cannot be told here: the file was emptied.
 */
static void sink_rotate(struct sink *s, int more)
{
	uint64_t len = __atomic_add_fetch(&s->len, more, __ATOMIC_RELAXED);
	struct err err = { "" };

	if (!s->max || !s->path || len <= s->max ||
	    !__atomic_compare_exchange_n(&s->len, &len, more, false, __ATOMIC_RELAXED,
					 __ATOMIC_RELAXED))
		return;
	file_rotate(&host_door, "log", s->path, s->fd, &err);
}

/*
 * What finds no room (a full disk) is counted, and told where the next line that fits stands. The
 * counters of the trace have no lock: two threads at that moment may tell it twice.
 */
static void write_line(struct sink *s, char *line, int len)
{
	uint64_t lost = __atomic_load_n(&s->lost, __ATOMIC_RELAXED);
	char note[100];
	ssize_t n;
	int want;

	len = MIN(len, LOG_LINE_MAX - 2);
	line[len++] = '\n';
	sink_rotate(s, len);
	if (lost) {
		want = snprintf(
			note, sizeof(note),
			"%s%s: %llu bytes of lines were lost here: there was no room for them\n",
			__atomic_load_n(&s->cut, __ATOMIC_RELAXED) ? "\n" : "", log_prefix,
			(unsigned long long)lost);
		n = write_once(s->fd, note, want);
		if (n != want) {
			if (n > 0)
				__atomic_store_n(&s->cut, true, __ATOMIC_RELAXED);
			__atomic_add_fetch(&s->lost, len, __ATOMIC_RELAXED);
			return;
		}
		__atomic_sub_fetch(&s->lost, lost, __ATOMIC_RELAXED);
		__atomic_store_n(&s->cut, false, __ATOMIC_RELAXED);
	}
	n = write_once(s->fd, line, len);
	if (n < len) {
		__atomic_store_n(&s->cut, n > 0, __ATOMIC_RELAXED);
		__atomic_add_fetch(&s->lost, len - MAX(n, 0), __ATOMIC_RELAXED);
	}
}

/*
 * O_APPEND whatever else: who cuts the file short from outside (log rotation) finds no hole in it
 * later.
 */
static int sink_open(struct sink *s, const char *path, int flags, struct err *err)
{
	struct stat st = { 0 };
	int fd = host_open(&host_door, "log", path, O_WRONLY | O_CREAT | O_APPEND | flags, 0644,
			   err);
	char *copy = fd < 0 ? NULL : xstrdup(path);

	if (fd < 0)
		return fd;
	pthread_mutex_lock(&log_mutex);
	/* The number stays: a thread may be writing to it. */
	if (s->path && dup3(fd, s->fd, O_CLOEXEC) >= 0) {
		close(fd);
	} else {
		s->fd = fd;
	}
	free(s->path);
	s->path = copy;
	if (fstat(s->fd, &st) == 0 && S_ISREG(st.st_mode))
		__atomic_store_n(&s->len, st.st_size, __ATOMIC_RELAXED);
	else
		s->max = 0;
	pthread_mutex_unlock(&log_mutex);
	return 0;
}

/* "FILE[,size=BYTES]" */
static int sink_set(struct sink *s, const char *spec, int flags, struct err *err)
{
	char *path = xstrdup(spec), *comma = strrchr(path, ',');
	uint64_t max = 0;
	int ret = 0;

	if (comma && !strncmp(comma, ",size=", 6)) {
		ret = rotate_parse("size=", comma + 6, &max, err);
		*comma = 0;
	}
	if (ret == 0) {
		s->max = max;
		ret = sink_open(s, path, flags, err);
	}
	if (ret == 0 && max && !s->max)
		ret = err_set(err, EINVAL, "size= goes with a regular file, and %s is none", path);
	free(path);
	return ret;
}

int log_set_file(const char *path, struct err *err)
{
	if (path)
		return sink_set(&log_sink, path, 0, err);
	pthread_mutex_lock(&log_mutex);
	if (log_sink.path)
		close(log_sink.fd);
	free(log_sink.path);
	log_sink = (struct sink){ .fd = STDERR_FILENO };
	pthread_mutex_unlock(&log_mutex);
	return 0;
}

void log_reopen(void)
{
	struct sink *sinks[] = { &log_sink, &trace_sink };

	for (size_t i = 0; i < ARRAY_SIZE(sinks); i++) {
		char *path = sinks[i]->path ? xstrdup(sinks[i]->path) : NULL;
		struct err err = { "" };

		if (path && sink_open(sinks[i], path, 0, &err) < 0)
			log_warn("%s; writing goes on into the old file", err.msg);
		free(path);
	}
}

static void log_va(enum log_level level, const char *word, const char *fmt, va_list ap)
{
	char line[LOG_LINE_MAX];
	int n = 0;

	if (level > __atomic_load_n(&log_level, __ATOMIC_RELAXED))
		return;
	pthread_mutex_lock(&log_mutex);
	if (log_sink.path) {		/* a file is read later: say when */
		struct timespec ts;
		struct tm tm;

		clock_gettime(CLOCK_REALTIME, &ts);
		localtime_r(&ts.tv_sec, &tm);
		n = strftime(line, sizeof(line), "%Y-%m-%d %H:%M:%S", &tm);
		n += snprintf(line + n, sizeof(line) - n, ".%03ld ", ts.tv_nsec / 1000000);
	}
	n += snprintf(line + n, sizeof(line) - n, "%s: %s", log_prefix, word);
	n += vsnprintf(line + n, sizeof(line) - n, fmt, ap);
	write_line(&log_sink, line, n);
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
	write_line(&trace_sink, line, n);
}

uint64_t trace_new_id(void)
{
	static uint64_t last;

	return __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
}

static int trace_word(const char *word, struct err *err)
{
	if (!strncmp(word, "file=", 5)) {
		int ret = sink_open(&trace_sink, word + 5, O_TRUNC, err);

		if (ret < 0)
			err_prefix(err, "-trace");
		return ret;
	}
	if (!strncmp(word, "size=", 5)) {
		int ret = rotate_parse("size=", word + 5, &trace_sink.max, err);

		if (ret < 0)
			err_prefix(err, "-trace");
		return ret;
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
		"summary all, and file=FILE, size=BYTES, symbols=FILE (-trace help explains them)",
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
	       "  %-14s at that size it becomes FILE.1 and begins anew\n"
	       "  %-14s names for addresses: a vmlinux or System.map; -kernel itself when it is an "
	       "ELF file\n",
	       "all", "file=FILE", "size=BYTES", "symbols=FILE");
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
