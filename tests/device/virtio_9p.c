/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_9p.c: the shared folder's device, driven over every transport's rings: requests come back
 * once, in any number, a reset comes while one waits for a host program, nothing is saved while
 * files are held. What 9P says is tests/device/p9.c's.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "devices/p9/p9_impl.h"
#include "tests/lib/vdriver.h"

#define DEVFN PCI_DEVFN(4, 0)

static char dir[] = "/tmp/minivmm-v9p-XXXXXX";

struct bench { struct guest *g; struct device *dev; struct vdrv d; uint64_t req, rep; };

static void cleanup(void)
{
	char cmd[100];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (system(cmd) != 0)
		printf("# %s stays\n", dir);
}

static struct bench *start(enum vtransport t, bool pipes)
{
	struct virtio_9p_opts o = { .path = dir, .tag = "shared", .pipes = pipes };
	struct bench *b = xcalloc(1, sizeof(*b));
	struct err err = { 0 };
	struct virtio_dev *v;
	char cmd[200];

	CHECK(mkdtemp(dir));
	atexit(cleanup);
	snprintf(cmd, sizeof(cmd), "cd %s && echo hello >file && mkfifo fifo", dir);
	CHECK(system(cmd) == 0);
	b->g = guest_new();
	v = virtio_9p_new("9p0", b->g->loop, b->g->mem, &o, &err);
	CHECK(v);
	b->dev = virtio_pci_new(b->g->pci, DEVFN, v, &err);
	CHECK(b->dev);
	guest_assign_bars(b->g);
	vdrv_find(&b->d, b->g, t, DEVFN, 0);
	CHECK(vdrv_negotiate(&b->d, vdrv_offer(&b->d)));
	vdrv_queue(&b->d, 0, 0);
	vdrv_start(&b->d);
	b->req = guest_alloc(b->g, 4096, 64);
	b->rep = guest_alloc(b->g, 65536, 64);
	return b;
}

static void end(struct bench *b)
{
	vdrv_free(&b->d);
	loop_lock(b->g->loop);
	device_destroy(b->dev);
	loop_unlock(b->g->loop);
	guest_free(b->g);
	free(b);
}

/* Puts a request in; its answer arrives in b->rep. */
static void post(struct bench *b, const void *msg, size_t len, void *token)
{
	memcpy(guest_ptr(b->g, b->req, len), msg, len);
	vring_add(&b->d.rings[0], (struct vbuf[]){ { b->req, len }, { b->rep, 65536 } }, 1, 1,
		  token);
	vring_kick(&b->d.rings[0]);
}

static int call(struct bench *b, const void *msg, size_t len)
{
	uint32_t got;
	uint8_t *r;

	post(b, msg, len, b);
	CHECK(vring_wait(&b->d.rings[0], &got) == b);
	r = guest_ptr(b->g, b->rep, 64);
	CHECK_EQ(ld_le32(r), got);
	return r[4] == P9_RLERROR ? -(int)ld_le32(r + 7) : 0;
}

#define VERSION "\x15\0\0\0\x64\xff\xff\0\x20\0\0\x08\0" "9P2000.L", 21
#define ATTACH "\x17\0\0\0\x68\1\0\0\0\0\0\xff\xff\xff\xff\0\0\0\0\0\0\0\0", 23
#define WALK_FILE "\x17\0\0\0\x6e\2\0\0\0\0\0\1\0\0\0\1\0\4\0" "file", 23
#define WALK_FIFO "\x17\0\0\0\x6e\2\0\0\0\0\0\1\0\0\0\1\0\4\0" "fifo", 23
#define OPEN "\x0f\0\0\0\x0c\3\0\1\0\0\0\0\0\0\0", 15
#define READ "\x17\0\0\0\x74\4\0\1\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0", 23
#define CLUNK(fid) "\x0b\0\0\0\x78\5\0" fid "\0\0\0", 11

static void session(enum vtransport t)
{
	struct bench *b = start(t, false);

	CHECK_EQ(vdrv_config(&b->d, 0, 2), 6);
	CHECK_EQ(vdrv_config(&b->d, 2, 1), 's');
	CHECK_EQ(call(b, VERSION), 0);
	CHECK_EQ(call(b, ATTACH), 0);
	CHECK_EQ(call(b, WALK_FILE), 0);
	CHECK_EQ(call(b, OPEN), 0);
	CHECK_EQ(call(b, READ), 0);
	CHECK(!memcmp(guest_ptr(b->g, b->rep + 7, 10), "\6\0\0\0hello\n", 10));
	CHECK_EQ(call(b, CLUNK("\1")), 0);
	end(b);
}

TEST(legacy) { session(V_LEGACY); }
TEST(modern) { session(V_MODERN); }

/* Many at once: each comes back once, in whatever order. */
TEST(many)
{
	struct bench *b = start(V_MODERN, false);
	unsigned seen = 0;
	uint32_t len;

	CHECK_EQ(call(b, VERSION), 0);
	CHECK_EQ(call(b, ATTACH), 0);
	for (int round = 0; round < 20; round++) {
		for (uintptr_t i = 1; i <= 40; i++)
			post(b, CLUNK("\x63"), (void *)i);
		for (uint64_t bits = 0; bits != 0x1fffffffffe;) {
			uintptr_t i = (uintptr_t)vring_wait(&b->d.rings[0], &len);

			CHECK(i >= 1 && i <= 40 && !(bits >> i & 1));
			CHECK_EQ(len, 11);
			bits |= 1ull << i;
			seen++;
		}
	}
	CHECK_EQ(seen, 800);
	/* Nothing to answer into, or to read: given back, unanswered. */
	vring_add(&b->d.rings[0], (struct vbuf[]){ { b->req, 23 } }, 1, 0, b);
	vring_kick(&b->d.rings[0]);
	CHECK(vring_wait(&b->d.rings[0], &len) == b);
	CHECK_EQ(len, 0);
	vring_add(&b->d.rings[0], (struct vbuf[]){ { b->rep, 4096 } }, 0, 1, b);
	vring_kick(&b->d.rings[0]);
	CHECK(vring_wait(&b->d.rings[0], &len) == b);
	CHECK_EQ(len, 0);
	end(b);
}

static void open_fifo(struct bench *b)
{
	CHECK_EQ(call(b, VERSION), 0);
	CHECK_EQ(call(b, ATTACH), 0);
	CHECK_EQ(call(b, WALK_FIFO), 0);
	CHECK_EQ(call(b, OPEN), 0);
}

/* A stream from the host: a read waits for bytes, then for the end. */
TEST(stream)
{
	struct bench *b = start(V_MODERN, true);
	char path[100];
	uint32_t len;
	int fd;

	snprintf(path, sizeof(path), "%s/fifo", dir);
	fd = open(path, O_RDWR);
	open_fifo(b);
	post(b, READ, b);
	for (int i = 0; i < 5; i++)
		guest_run(b->g, 5);
	CHECK(!vring_get(&b->d.rings[0], &len));
	CHECK(write(fd, "bytes", 5) == 5);
	CHECK(vring_wait(&b->d.rings[0], &len) == b);
	CHECK(!memcmp(guest_ptr(b->g, b->rep + 7, 9), "\5\0\0\0bytes", 9));
	post(b, READ, b);
	guest_run(b->g, 5);
	close(fd);
	CHECK(vring_wait(&b->d.rings[0], &len) == b);
	CHECK_EQ(ld_le32(guest_ptr(b->g, b->rep + 7, 4)), 0);
	end(b);
}

/*
 * The guest gives up a read that waits for a host that says nothing: both are answered, and the
 * stream works on.
 */
TEST(flush_while_waiting)
{
	struct bench *b = start(V_MODERN, true);
	int tokens[3];
	char path[100];
	uint32_t len;
	int fd;

	snprintf(path, sizeof(path), "%s/fifo", dir);
	fd = open(path, O_RDWR);
	open_fifo(b);
	for (int i = 0; i < 200; i++) {
		post(b, READ, &tokens[0]);
		/* At once, or while it waits; that of another tag does nothing. */
		if (i & 1)
			guest_run(b->g, 1);
		vring_add(&b->d.rings[0],
			  (struct vbuf[]){ { b->req + 2048, 9 }, { b->rep, 65536 } }, 1, 1,
			  &tokens[1]);
		memcpy(guest_ptr(b->g, b->req + 2048, 9), "\x09\0\0\0\x6c\x09\0\4\0", 9);
		vring_kick(&b->d.rings[0]);
		CHECK(vring_wait(&b->d.rings[0], &len) == &tokens[0]);
		CHECK(vring_wait(&b->d.rings[0], &len) == &tokens[1]);
		CHECK_EQ(len, 7);
	}
	CHECK(write(fd, "bytes", 5) == 5);
	CHECK_EQ(call(b, READ), 0);
	CHECK(!memcmp(guest_ptr(b->g, b->rep + 7, 9), "\5\0\0\0bytes", 9));
	post(b, READ, &tokens[0]);
	guest_run(b->g, 5);
	vring_add(&b->d.rings[0], (struct vbuf[]){ { b->req + 2048, 9 }, { b->rep, 65536 } }, 1, 1,
		  &tokens[1]);
	memcpy(guest_ptr(b->g, b->req + 2048, 9), "\x09\0\0\0\x6c\x09\0\5\0", 9);
	vring_kick(&b->d.rings[0]);
	guest_run(b->g, 10);
	CHECK(!vring_get(&b->d.rings[0], &len));
	close(fd);
	CHECK(vring_wait(&b->d.rings[0], &len) == &tokens[0]);
	CHECK(vring_wait(&b->d.rings[0], &len) == &tokens[1]);
	end(b);
}

/* The guest resets, and the machine ends, while a read waits for a host that says nothing. */
TEST(reset_while_waiting)
{
	struct bench *b = start(V_MODERN, true);
	char path[100];

	snprintf(path, sizeof(path), "%s/fifo", dir);
	CHECK(open(path, O_RDWR) >= 0);
	for (int i = 0; i < 3; i++) {
		open_fifo(b);
		post(b, READ, b);
		post(b, READ, b);
		guest_run(b->g, 10);
		vdrv_set_status(&b->d, 0);
		CHECK_EQ(vdrv_status(&b->d), 0);
		vdrv_free(&b->d);
		CHECK(vdrv_negotiate(&b->d, vdrv_offer(&b->d)));
		vdrv_queue(&b->d, 0, 0);
		vdrv_start(&b->d);
	}
	open_fifo(b);
	post(b, READ, b);
	guest_run(b->g, 10);
	guest_quiesce(b->g, b->dev);
	end(b);
}

/*
 * A machine that ends at once, as by a panic: nobody quiesces the device, and a program never
 * closes its end of the stream.
 */
TEST(ends_while_waiting)
{
	struct bench *b = start(V_MODERN, true);
	char path[100];

	snprintf(path, sizeof(path), "%s/fifo", dir);
	CHECK(open(path, O_RDWR) >= 0);
	open_fifo(b);
	post(b, READ, b);
	post(b, READ, b);
	guest_run(b->g, 10);
	alarm(20);
	device_destroy(b->dev);		/* as machine_exit does, without the loop's lock */
}

TEST(not_saved_while_files_are_held)
{
	struct bench *b = start(V_MODERN, false);
	struct state_out *o = state_out_new();
	void *blob;
	size_t len;

	CHECK_EQ(call(b, VERSION), 0);
	CHECK_EQ(call(b, ATTACH), 0);
	guest_quiesce(b->g, b->dev);
	loop_lock(b->g->loop);
	CHECK(device_save(b->dev, o) < 0);
	loop_unlock(b->g->loop);
	state_out_finish(o, &blob, &len);
	free(blob);
	loop_lock(b->g->loop);
	b->dev->ops->resume(b->dev);
	loop_unlock(b->g->loop);
	CHECK_EQ(call(b, CLUNK("\0")), 0);
	guest_quiesce(b->g, b->dev);
	guest_save(b->dev, &blob, &len);
	free(blob);
	end(b);
}

TAP_MAIN
