/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stress of the foundations (bus, memory, interrupts, loops, exclusive section, pause), meant for
 * the thread sanitizer: four vCPUs do I/O on two devices with loops and workers of their own, while
 * their BARs move, a block of memory moves, the machine pauses, devices are reset with requests in
 * flight, vectors are masked, and a migration thread copies the pages that were logged dirty.
 *
 * What must hold: every request completes exactly once; its data is there when the guest is told;
 * nobody is in the guest or in a device during an exclusive section or a pause; the copy equals the
 * memory in the end.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>

#include "tests/tap.h"
#include "vmm/wires/bus.h"
#include "vmm/wires/irq.h"
#include "vmm/wires/mem.h"
#include "vmm/wires/vm.h"

#define CPUS 4
#define DEVS 2
#define PAGE 4096ull
#define RAM_PAGES 64
#define VRAM_PAGES 16
#define BAR_SIZE 0x1000
#define VRAM_A (1 * GiB)
#define VRAM_B (2 * GiB)
#define GSI 11

#define LOAD(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define STORE(x, v) __atomic_store_n(&(x), v, __ATOMIC_SEQ_CST)
#define ADD(x, v) __atomic_add_fetch(&(x), v, __ATOMIC_SEQ_CST)

/* Registers of the device, one set for each vCPU at cpu * 0x40. */
enum { REG_ADDR = 0, REG_SEQ = 8, REG_STATUS = 16, REG_ACK = 24, REG_RESET = 32, SET = 0x40,
       BELL = 0x800 };
enum { ST_IDLE, ST_BUSY, ST_DONE, ST_ERROR, ST_DROPPED };

struct request {
	struct dev *dev;
	int cpu, completions;
	uint64_t seq;
	struct iovec iov[2];
	int niov;
	struct request *next;
};

struct dev {
	struct loop *loop;
	struct irq irq;
	struct vec *vec;
	uint64_t bar;			/* where the guest finds it; atomic */
	int bell;			/* eventfd: the guest's doorbell for all sets */
	struct loop_fd *bell_fd;
	/* Under the loop's lock. */
	struct { uint64_t addr, seq, status; } set[CPUS];
	int inflight;
	bool resetting;
	/* The worker. */
	pthread_t worker;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	struct request *queue;
	bool quit;
};

struct cpu {
	struct vm_runner runner;
	pthread_t thread;
	int kicked, inside, index;
	unsigned seed;
	uint64_t seq;
};

static struct loop *main_loop;
static struct vm_clock *clk;
static struct vm *vm;
static struct bus *mmio, *pio;
static struct mem *mem;
static struct irq_hub *hub;
static struct block *ram, *vram;
static uint64_t vram_at;
static struct dev devs[DEVS];
static struct cpu cpus[CPUS];
static int stopping;
static int completed, dropped, errors, moves, resets_busy, pauses, torn, doubled, wrong, bells,
	irqs;

/* --- memory: a backend whose dirty log the guest's own writes fill --- */

static unsigned long guest_log[2];	/* ram, vram: one word is enough */

static int slot(void *ctx, unsigned n, uint64_t gpa, uint64_t size, void *host, bool rom, bool log)
{
	return 0;
}

static int dirty_log(void *ctx, unsigned n, uint64_t size, unsigned long *bitmap)
{
	bitmap[0] = __atomic_exchange_n(&guest_log[size == VRAM_PAGES * PAGE], 0, __ATOMIC_SEQ_CST);
	return 0;
}
static const struct mem_backend mem_backend = { slot, dirty_log };

/* A store of the guest itself: not seen by the sanitizer, as KVM's are not. */
__attribute__((no_sanitize_thread)) static void guest_store(unsigned page, uint64_t v)
{
	((volatile uint64_t *)block_host(ram))[page * PAGE / 8 + 1] = v;
	__atomic_or_fetch(&guest_log[0], 1ul << page, __ATOMIC_SEQ_CST);
}

__attribute__((no_sanitize_thread)) static void copy_page(void *to, const void *from)
{
	for (unsigned i = 0; i < PAGE / 8; i++)
		((volatile uint64_t *)to)[i] = ((const volatile uint64_t *)from)[i];
}

/* --- interrupts: a backend that remembers --- */

static int line_level, msis;
static void line(void *ctx, unsigned gsi, int level)
{
	STORE(line_level, level);
	ADD(irqs, 1);
}
static void msi(void *ctx, uint64_t addr, uint32_t data)
{
	ADD(msis, 1);
}
static const struct irq_backend irq_backend = { line, msi, NULL, NULL };

/* --- the device --- */

static void *worker(void *arg);

static bool nothing_in_flight(void *ctx)
{
	return ((struct dev *)ctx)->inflight == 0;
}

/* Requests in flight are waited for and then dropped: the driver sees each of them end, once. */
static void dev_reset(struct dev *d)
{
	if (d->resetting)
		return;
	d->resetting = true;
	if (d->inflight)
		ADD(resets_busy, 1);
	loop_wait(d->loop, nothing_in_flight, d);
	d->resetting = false;
	irq_set(&d->irq, 0);
}

static void req_finish(struct request *r, uint64_t status)
{
	struct dev *d = r->dev;

	if (r->completions++)
		ADD(doubled, 1);
	mem_iov_done(mem, r->iov, r->niov, PAGE);	/* dropped or not, the worker wrote */
	d->set[r->cpu].status = status;
	d->inflight--;
	loop_wake(d->loop);
	irq_set(&d->irq, 1);
	vec_notify(d->vec);
	free(r);
}

static void req_done(void *ctx)
{
	struct request *r = ctx;

	req_finish(r, r->dev->resetting ? ST_DROPPED : ST_DONE);
}

static void *worker(void *arg)
{
	struct dev *d = arg;

	pthread_mutex_lock(&d->mutex);
	for (;;) {
		struct request *r = d->queue;

		if (!r && d->quit)
			break;
		if (!r) {
			pthread_cond_wait(&d->cond, &d->mutex);
			continue;
		}
		d->queue = r->next;
		pthread_mutex_unlock(&d->mutex);
		for (int i = 0; i < r->niov; i++)
			for (size_t k = 0; k < r->iov[i].iov_len; k += 8)
				memcpy((char *)r->iov[i].iov_base + k, &r->seq, 8);
		loop_post(d->loop, req_done, r);
		pthread_mutex_lock(&d->mutex);
	}
	pthread_mutex_unlock(&d->mutex);
	return NULL;
}

static void dev_submit(struct dev *d, int cpu)
{
	struct request *r;

	if (d->set[cpu].status == ST_BUSY)
		return;
	r = xcalloc(1, sizeof(*r));
	r->dev = d;
	r->cpu = cpu;
	r->seq = d->set[cpu].seq;
	r->niov = mem_iov(mem, d->set[cpu].addr, PAGE, true, r->iov, 2);
	if (r->niov < 0 || d->resetting) {
		if (r->niov > 0)
			mem_iov_done(mem, r->iov, r->niov, 0);
		d->set[cpu].status = r->niov < 0 ? ST_ERROR : ST_DROPPED;
		free(r);
		return;
	}
	d->set[cpu].status = ST_BUSY;
	d->inflight++;
	pthread_mutex_lock(&d->mutex);
	r->next = d->queue;
	d->queue = r;
	pthread_cond_signal(&d->cond);
	pthread_mutex_unlock(&d->mutex);
}

static uint64_t dev_read(void *dev, uint64_t off, unsigned size)
{
	struct dev *d = dev;

	if (off / SET >= CPUS)
		return 0;
	switch (off % SET) {
	case REG_STATUS:
		return d->set[off / SET].status;
	case REG_ACK:
		irq_set(&d->irq, 0);
		return 0;
	}
	return 0;
}

static void dev_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct dev *d = dev;

	if (off / SET >= CPUS)
		return;
	switch (off % SET) {
	case REG_ADDR:
		d->set[off / SET].addr = val;
		break;
	case REG_SEQ:
		d->set[off / SET].seq = val;
		d->set[off / SET].status = ST_IDLE;
		break;
	case REG_STATUS:
		dev_submit(d, off / SET);
		break;
	case REG_RESET:
		dev_reset(d);
		break;
	}
}
static const struct region_ops dev_ops = { .name = "dma", .read = dev_read, .write = dev_write };

/* The doorbell by eventfd submits whatever is idle and has an address. */
static void on_bell(void *ctx, uint32_t events)
{
	struct dev *d = ctx;
	uint64_t n;

	if (read(d->bell, &n, sizeof(n)) < 0)
		return;
	ADD(bells, 1);
	for (int i = 0; i < CPUS; i++)
		if (d->set[i].status == ST_IDLE && d->set[i].seq)
			dev_submit(d, i);
}

/* --- what changes the map --- */

static void look_for_intruders(void)
{
	for (int i = 0; i < CPUS; i++)
		if (LOAD(cpus[i].inside))
			ADD(torn, 1);
	if (!loop_is_locked(main_loop) || !loop_is_locked(devs[0].loop) ||
	    !loop_is_locked(devs[1].loop))
		ADD(torn, 1);
}

static void bar_move(void *ctx)
{
	struct dev *d = ctx;
	uint64_t base = 0x100000 * (d - devs + 1),
		 to = base + (d->bar - base + BAR_SIZE) % (8 * BAR_SIZE);

	look_for_intruders();
	bus_eventfd_del(mmio, d->bar + BELL, d->bell);
	bus_del(mmio, d->bar, &dev_ops, d);
	CHECK_EQ(bus_add(mmio, to, BAR_SIZE, &dev_ops, d, d->loop, "dev", BUS_GUEST), 0);
	CHECK_EQ(bus_eventfd_add(mmio, to + BELL, 4, true, 0, d->bell), 0);
	STORE(d->bar, to);
	ADD(moves, 1);
}

static void vram_move(void *ctx)
{
	look_for_intruders();
	block_unmap(vram);
	STORE(vram_at, vram_at == VRAM_A ? VRAM_B : VRAM_A);
	CHECK_EQ(block_map(vram, vram_at, 0, VRAM_PAGES * PAGE, -1), 0);
	ADD(moves, 1);
}

/*
 * The "configuration space", on the main loop: the guest asks for a move in the middle of an
 * access.
 */
static void config_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	if (off < DEVS)
		vm_exclusive(vm, bar_move, &devs[off]);
	else
		vm_exclusive(vm, vram_move, NULL);
}
static const struct region_ops config_ops = { .name = "config", .write = config_write };

/* --- the guest --- */

static void cpu_kick(struct vm_runner *r)
{
	STORE(container_of(r, struct cpu, runner)->kicked, 1);
}

static bool in_guest(struct cpu *c)
{
	STORE(c->inside, 0);
	STORE(c->kicked, 0);
	if (vm_runner_needed(vm) && !vm_runner_enter(vm, &c->runner))
		return false;
	STORE(c->inside, 1);
	return true;
}

/* An access to the device wherever its BAR is now. False when the machine ends. */
static bool dev_access(struct cpu *c, struct dev *d, unsigned reg, bool write, uint64_t *val)
{
	for (;;) {
		uint64_t at = LOAD(d->bar) + c->index * SET + reg;

		if (!in_guest(c))
			return false;
		if (write ? bus_write(mmio, at, 8, *val) : bus_read(mmio, at, 8, val))
			return true;
	}
}

/* Writes one page through the device and looks at what came. */
static bool one_request(struct cpu *c, struct dev *d)
{
	bool in_vram = rand_r(&c->seed) % 4 == 0, bell = rand_r(&c->seed) % 4 == 0;
	unsigned page = c->index * 4 + rand_r(&c->seed) % 4;
	uint64_t addr = in_vram ? LOAD(vram_at) + page * PAGE : (32 + page) * PAGE;
	uint64_t seq = ++c->seq << 8 | c->index, v;
	uint64_t *host = (uint64_t *)((char *)block_host(in_vram ? vram : ram) +
				      (in_vram ? page : 32 + page) * PAGE);

	v = addr;
	if (!dev_access(c, d, REG_ADDR, true, &v))
		return false;
	v = seq;
	if (!dev_access(c, d, REG_SEQ, true, &v))
		return false;
	if (bell) {
		if (!in_guest(c))
			return false;
		if (!bus_write(mmio, LOAD(d->bar) + BELL, 4, 1))
			bell = false;	/* it had just moved */
	}
	if (!bell && !dev_access(c, d, REG_STATUS, true, &v))
		return false;
	do {
		if (!dev_access(c, d, REG_STATUS, false, &v))
			return false;
		if (v == ST_BUSY || v == ST_IDLE)
			sched_yield();
	} while (v == ST_BUSY || v == ST_IDLE);
	if (v == ST_DONE) {
		if (host[0] != seq || host[PAGE / 8 - 1] != seq)
			ADD(wrong, 1);
		ADD(completed, 1);
	} else {
		ADD(*(v == ST_DROPPED ? &dropped : &errors), 1);
	}
	return dev_access(c, d, REG_ACK, false, &v);
}

static void *cpu_thread(void *arg)
{
	struct cpu *c = arg;
	uint64_t v = 0;

	while (!LOAD(stopping)) {
		struct dev *d = &devs[rand_r(&c->seed) % DEVS];
		int what = rand_r(&c->seed) % 32;

		if (!in_guest(c))
			break;
		guest_store(c->index * 4 + what % 4, ++c->seq);
		if (what < 3)
			bus_write(pio, 0xcf8 + what, 1, 0);
		else if (what == 3 && !dev_access(c, d, REG_RESET, true, &v))
			break;
		else if (what == 4)
			vm_pause_async(vm, PAUSE_IO_ERROR);
		if (!one_request(c, d))
			break;
	}
	STORE(c->inside, 0);
	/* Park for good: what waits for this vCPU must not wait for a thread that has left. */
	vm_runner_del(vm, &c->runner);
	return NULL;
}

/* --- the others: control, migration, whoever masks vectors --- */

static void resume_later(void *ctx)
{
	if (vm_pause_reasons(vm) & PAUSE_IO_ERROR)
		vm_resume(vm, PAUSE_IO_ERROR);
	loop_timer_set(ctx, now_ns() + NS_PER_MS);
}

static void *control_thread(void *arg)
{
	enum pause_reason r = (intptr_t)arg;

	while (!LOAD(stopping)) {
		int64_t t;

		vm_pause(vm, r);
		t = vm_clock_now(clk);
		for (int i = 0; i < CPUS; i++)
			if (LOAD(cpus[i].inside))
				ADD(torn, 1);
		usleep(200);
		if (vm_clock_now(clk) != t)
			ADD(torn, 1);
		ADD(pauses, 1);
		vm_resume(vm, r);
		usleep(1000);
	}
	return NULL;
}

static void *mask_thread(void *arg)
{
	for (unsigned i = 0; !LOAD(stopping); i++) {
		vec_set(devs[i % DEVS].vec, 0xfee00000, i, i & 2);
		vec_pending(devs[i % DEVS].vec);
		usleep(50);
	}
	return NULL;
}

static char shadow_ram[RAM_PAGES * PAGE], shadow_vram[VRAM_PAGES * PAGE];
static uint64_t copied;

static void copy_dirty(struct dirty_client *c)
{
	unsigned long bits;

	CHECK_EQ(mem_dirty_sync(mem), 0);
	copied += dirty_client_take(c, ram, &bits);
	for (; bits; bits &= bits - 1) {
		size_t at = __builtin_ctzl(bits) * PAGE;

		copy_page(shadow_ram + at, (char *)block_host(ram) + at);
	}
	copied += dirty_client_take(c, vram, &bits);
	for (; bits; bits &= bits - 1) {
		size_t at = __builtin_ctzl(bits) * PAGE;

		copy_page(shadow_vram + at, (char *)block_host(vram) + at);
	}
}

static void *migrate_thread(void *arg)
{
	struct dirty_client *c = dirty_client_new(mem, NULL);

	while (!LOAD(stopping)) {
		copy_dirty(c);
		usleep(500);
	}
	return c;
}

/* --- the test --- */

static void machine_start(void)
{
	main_loop = loop_new("main");
	clk = vm_clock_new();
	vm = vm_new(main_loop, clk);
	mmio = bus_new("mmio", UINT64_MAX);
	pio = bus_new("pio", 0xffff);
	mem = mem_new(&mem_backend, NULL);
	hub = irq_hub_new(&irq_backend, NULL);
	ram = block_new(mem, "ram", RAM_PAGES * PAGE, BLOCK_RAM, NULL);
	vram = block_new(mem, "vram", VRAM_PAGES * PAGE, 0, NULL);
	CHECK_EQ(block_map(ram, 0, 0, RAM_PAGES * PAGE, 0), 0);
	vram_at = VRAM_A;
	CHECK_EQ(block_map(vram, vram_at, 0, VRAM_PAGES * PAGE, -1), 0);
	CHECK_EQ(bus_add(pio, 0xcf8, 4, &config_ops, NULL, main_loop, "config", 0), 0);
	for (int i = 0; i < DEVS; i++) {
		struct dev *d = &devs[i];

		d->loop = loop_new("dev");
		vm_add_loop(vm, d->loop);
		d->irq = irq_source(hub, GSI);
		d->vec = vec_new(hub);
		d->bar = 0x100000 * (i + 1);
		d->bell = eventfd(0, EFD_NONBLOCK);
		d->bell_fd = loop_fd_add(d->loop, d->bell, EPOLLIN, on_bell, d);
		pthread_mutex_init(&d->mutex, NULL);
		pthread_cond_init(&d->cond, NULL);
		CHECK_EQ(bus_add(mmio, d->bar, BAR_SIZE, &dev_ops, d, d->loop, "dev", BUS_GUEST),
			 0);
		CHECK_EQ(bus_eventfd_add(mmio, d->bar + BELL, 4, true, 0, d->bell), 0);
		pthread_create(&d->worker, NULL, worker, d);
		loop_thread_start(d->loop);
	}
	for (int i = 0; i < CPUS; i++) {
		cpus[i].index = i;
		cpus[i].seed = i + 1;
		cpus[i].runner.kick = cpu_kick;
		vm_runner_add(vm, &cpus[i].runner);
		pthread_create(&cpus[i].thread, NULL, cpu_thread, &cpus[i]);
	}
	loop_thread_start(main_loop);
	vm_resume(vm, PAUSE_BOOT);
}

static void machine_stop(void)
{
	for (int i = 0; i < DEVS; i++) {
		struct dev *d = &devs[i];

		loop_lock(d->loop);
		dev_reset(d);
		loop_unlock(d->loop);
		pthread_mutex_lock(&d->mutex);
		d->quit = true;
		pthread_cond_signal(&d->cond);
		pthread_mutex_unlock(&d->mutex);
		pthread_join(d->worker, NULL);
		loop_thread_join(d->loop);
		loop_fd_del(d->bell_fd);
	}
}

static void run(double seconds)
{
	struct loop_timer resume;
	pthread_t control[2], masker, migration;
	struct dirty_client *c;
	void *ret;

	machine_start();
	loop_timer_init(&resume, main_loop, NULL, resume_later, &resume);
	loop_timer_set(&resume, now_ns());
	for (int i = 0; i < 2; i++)
		pthread_create(&control[i], NULL, control_thread,
			       (void *)(intptr_t)(PAUSE_USER << i));
	pthread_create(&masker, NULL, mask_thread, NULL);
	pthread_create(&migration, NULL, migrate_thread, NULL);
	usleep(seconds * 1e6);

	STORE(stopping, 1);
	for (int i = 0; i < 2; i++)
		pthread_join(control[i], NULL);
	for (int i = 0; i < CPUS; i++)
		pthread_join(cpus[i].thread, NULL);
	pthread_join(masker, NULL);
	pthread_join(migration, &ret);
	c = ret;
	loop_lock(main_loop);
	loop_timer_cancel(&resume);
	loop_unlock(main_loop);
	loop_thread_join(main_loop);
	machine_stop();
	copy_dirty(c);

	printf("# %d completed, %d dropped, %d errors, %d resets with requests in flight, %d "
	       "moves, %d pauses, %llu pages copied, "
	       "%d doorbells, %d line changes, %d messages\n",
	       completed, dropped, errors, resets_busy, moves, pauses, (unsigned long long)copied,
	       bells, irqs, msis);
	CHECK_EQ(torn, 0);
	CHECK_EQ(doubled, 0);
	CHECK_EQ(wrong, 0);
	CHECK(memcmp(shadow_ram, block_host(ram), sizeof(shadow_ram)) == 0);
	CHECK(memcmp(shadow_vram, block_host(vram), sizeof(shadow_vram)) == 0);
	CHECK_EQ(line_level, 0);
	/* All of it really happened. */
	CHECK(completed > 100 && resets_busy > 0 && moves > 10 && pauses > 10 && bells > 0 &&
	      msis > 0);

	dirty_client_free(c);
	for (int i = 0; i < DEVS; i++)
		vec_free(devs[i].vec);
	mem_free(mem);			/* hangs if a pin was left */
	vm_free(vm);
	bus_free(mmio);
	bus_free(pio);
	irq_hub_free(hub);
	vm_clock_free(clk);
	for (int i = 0; i < DEVS; i++)
		loop_free(devs[i].loop);
	loop_free(main_loop);
}

TEST(four_vcpus_two_devices_and_everything_moves)
{
	const char *s = getenv("STRESS_SECONDS");

	run(s ? atof(s) : 2);
}

TAP_MAIN
