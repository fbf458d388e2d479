/* SPDX-License-Identifier: GPL-2.0-or-later */
/* threeway.c: straight, saved and loaded, reset: the same. */
#include "tests/lib/threeway.h"

/*
 * The leak sanitizer watches the three-way runs, which take everything apart again. A test of a
 * single rule leaves its machine to the end of its process.
 */
extern void __lsan_disable(void) __attribute__((weak));
static bool taken_apart;

struct guest *chips_guest(void)
{
	struct guest *g;

	if (!taken_apart && __lsan_disable)
		__lsan_disable();
	g = guest_new();
	guest_pci_new(g, g->vm);
	return g;
}

void tw_say(struct tw *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(t->log, fmt, ap);
	va_end(ap);
	fputc('\n', t->log);
}

static void begin(struct tw *t, const struct tw_scenario *s)
{
	t->g = chips_guest();
	t->ctx = s->ctx;
	t->d = s->make(t->g, s->ctx);
	CHECK(t->d);
}

static void destroy_function(void *ctx, struct pci_dev *p)
{
	device_destroy(&p->dev);
}

static void end(struct tw *t, const struct tw_scenario *s)
{
	loop_lock(t->g->loop);
	device_destroy(t->d);
	pci_bus_for_each(t->g->pci, destroy_function, NULL);
	loop_unlock(t->g->loop);
	if (s->unmake)
		s->unmake(t->g, s->ctx);
	guest_free(t->g);
}

static void log_open(struct tw *t)
{
	t->log = open_memstream(&t->text, &t->len);
}

static char *log_close(struct tw *t)
{
	fclose(t->log);
	return t->text;
}

static void same(const char *want, const char *got, const char *how, size_t k)
{
	size_t line = 1;

	for (; *want && *want == *got; want++, got++)
		line += *want == '\n';
	if (*want != *got)
		tap_fail(__FILE__, __LINE__,
			 "%s after step %zu: line %zu of the log differs: want ...%.60s got "
			 "...%.60s",
			 how, k, line, want, got);
}

static void run(struct tw *t, const struct tw_scenario *s, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++) {
		fprintf(t->log, "step %zu\n", i);
		s->steps[i](t);
	}
}

/*
 * Memory travels beside the registers: RAM, and what devices have (VRAM). To copies, or back from
 * them.
 */
static void copy_memory(struct mem *mem, void *copies[16], bool back)
{
	struct block *b = NULL;
	unsigned n = 0;

	while ((b = block_next(mem, b))) {
		CHECK(n < 16);
		if (!back)
			copies[n] = malloc(block_size(b));
		memcpy(back ? block_host(b) : copies[n], back ? copies[n] : block_host(b),
		       block_size(b));
		if (back)
			free(copies[n]);
		n++;
	}
}

/* Into a fresh machine with the same memory. Returns what was in flight. */
static unsigned move(struct tw *t, const struct tw_scenario *s)
{
	uint64_t next = t->g->next;
	struct err err = { "" };
	void *blob, *copies[16];
	unsigned in_flight;
	size_t len;

	in_flight = s->in_flight ? s->in_flight(t) : 0;
	guest_quiesce(t->g, t->d);
	guest_save(t->d, &blob, &len);
	copy_memory(t->g->mem, copies, false);
	end(t, s);
	begin(t, s);
	t->g->next = next;
	copy_memory(t->g->mem, copies, true);
	if (guest_load(t->d, blob, len, &err))
		tap_fail(__FILE__, __LINE__, "load: %s", err.msg);
	loop_lock(t->g->loop);
	if (t->d->ops->resume)
		t->d->ops->resume(t->d);
	loop_unlock(t->g->loop);
	free(blob);
	return in_flight;
}

void threeway(const struct tw_scenario *s)
{
	struct tw t = { NULL };
	unsigned in_flight = 0;
	char *straight;

	taken_apart = true;
	if (s->restore)
		s->restore(s->ctx);
	begin(&t, s);
	log_open(&t);
	run(&t, s, 0, s->n);
	straight = log_close(&t);
	if (getenv("TW_LOG"))
		fputs(straight, stderr);
	end(&t, s);
	for (size_t k = 0; k <= s->n; k++) {
		if (s->restore)
			s->restore(s->ctx);
		begin(&t, s);
		log_open(&t);
		run(&t, s, 0, k);
		in_flight += move(&t, s);
		run(&t, s, k, s->n);
		same(straight, log_close(&t), "saved and loaded", k);
		free(t.text);
		end(&t, s);

		if (s->restore)
			s->restore(s->ctx);
		begin(&t, s);
		log_open(&t);
		run(&t, s, 0, k);
		log_close(&t);
		free(t.text);
		loop_lock(t.g->loop);
		t.d->ops->reset(t.d);
		loop_unlock(t.g->loop);
		if (s->restore)
			s->restore(s->ctx);
		memset(block_host(t.g->ram), 0, GUEST_RAM);
		guest_alloc_reset(t.g);
		log_open(&t);
		run(&t, s, 0, s->n);
		same(straight, log_close(&t), "reset", k);
		free(t.text);
		end(&t, s);
	}
	CHECK(!s->in_flight || in_flight > 0);
	free(straight);
	taken_apart = false;
}
