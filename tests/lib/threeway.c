/* SPDX-License-Identifier: GPL-2.0-or-later */
/* threeway.c: straight, saved and loaded, reset: the same. */
#include "tests/lib/threeway.h"

/*
 * The leak sanitizer watches the three-way runs, which take everything apart again. A test of a single rule leaves
 * its machine to the end of its process.
 */
extern void __lsan_disable(void) __attribute__((weak));
static bool taken_apart;

struct guest *chips_guest(void)
{
	struct guest *g;

	if (!taken_apart && __lsan_disable)
		__lsan_disable();
	g = guest_new();

	pci_bus_free(g->pci);
	g->pci = pci_bus_new(&(struct pci_wires){ g->pio, g->mmio, g->mem, g->irqs, g->vm, g->loop });
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

static void end(struct tw *t)
{
	loop_lock(t->g->loop);
	device_destroy(t->d);
	pci_bus_for_each(t->g->pci, destroy_function, NULL);
	loop_unlock(t->g->loop);
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
		tap_fail(__FILE__, __LINE__, "%s after step %zu: line %zu of the log differs: want ...%.60s got ...%.60s", how, k,
			 line, want, got);
}

static void run(struct tw *t, const struct tw_scenario *s, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++) {
		fprintf(t->log, "step %zu\n", i);
		s->steps[i](t);
	}
}

/* Into a fresh machine with the same RAM. */
static void move(struct tw *t, const struct tw_scenario *s)
{
	struct err err = { "" };
	struct guest *old = t->g;
	void *blob, *ram = malloc(GUEST_RAM);
	uint64_t next = old->next;
	size_t len;

	guest_quiesce(t->g, t->d);
	guest_save(t->d, &blob, &len);
	memcpy(ram, block_host(old->ram), GUEST_RAM);
	end(t);
	begin(t, s);
	t->g->next = next;
	memcpy(block_host(t->g->ram), ram, GUEST_RAM);
	if (guest_load(t->d, blob, len, &err))
		tap_fail(__FILE__, __LINE__, "load: %s", err.msg);
	loop_lock(t->g->loop);
	if (t->d->ops->resume)
		t->d->ops->resume(t->d);
	loop_unlock(t->g->loop);
	free(blob);
	free(ram);
}

void threeway(const struct tw_scenario *s)
{
	struct tw t = { NULL };
	char *straight;

	taken_apart = true;
	if (s->restore)
		s->restore(s->ctx);
	begin(&t, s);
	log_open(&t);
	run(&t, s, 0, s->n);
	straight = log_close(&t);
	end(&t);
	for (size_t k = 0; k <= s->n; k++) {
		if (s->restore)
			s->restore(s->ctx);
		begin(&t, s);
		log_open(&t);
		run(&t, s, 0, k);
		move(&t, s);
		run(&t, s, k, s->n);
		same(straight, log_close(&t), "saved and loaded", k);
		free(t.text);
		end(&t);

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
		end(&t);
	}
	free(straight);
	taken_apart = false;
}
