/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_9p.c: a shared folder (virtio device 9, "9P transport"; Linux's net/9p/trans_virtio.c is
 * the driver). Requests are popped on the device's loop and carried out by p9.c on a thread of this
 * device, where they may block.
 */
#include <errno.h>
#include <linux/virtio_9p.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "devices/p9/p9_impl.h"
#include "devices/virtio/virtio.h"
#include "vmm/base/log.h"

#define QUEUE_SIZE 128
#define TAG_MAX 64
#define HIDE_MAX 64

struct v9_req {
	struct v9_req *next;
	struct virtq_elem e;
	size_t written;
	struct iovec iov[VIRTQ_MAX_IOV];
};

struct v9 {
	struct virtio_dev v;		/* first */
	struct p9 *p9;
	uint8_t cfg[2 + TAG_MAX];
	struct v9_req *free;		/* the loop's */
	unsigned inflight;		/* the loop's */
	bool stopping;			/* the loop's */
	pthread_t thread;
	bool running;
	pthread_mutex_t mutex;		/* a leaf: guards what follows */
	pthread_cond_t wake;
	struct v9_req *todo, **todo_tail, *done, **done_tail;
	bool quit;
};

static struct v9 *to_v9(struct virtio_dev *v)
{
	return container_of(v, struct v9, v);
}

/* --- back on the loop: what the thread finished --- */

static void finish(void *ctx)
{
	struct v9 *d = ctx;
	struct v9_req *r, *next;

	pthread_mutex_lock(&d->mutex);
	r = d->done;
	d->done = NULL;
	d->done_tail = &d->done;
	pthread_mutex_unlock(&d->mutex);
	for (; r; r = next) {
		next = r->next;
		virtq_push(&d->v.queues[0], &r->e, r->written);
		r->next = d->free;
		d->free = r;
		d->inflight--;
	}
	virtio_flush(&d->v, 0);
	if (d->stopping && !d->inflight) {
		d->stopping = false;
		p9_cancel(d->p9, false);
		virtio_stopped(&d->v);
	}
}

/* --- the thread --- */

static void *worker(void *ctx)
{
	struct v9 *d = ctx;

	pthread_setname_np(pthread_self(), "9p");
	/* The modes of new files are the guest's: a umask of our own, of this thread only. */
	if (unshare(CLONE_FS) == 0)
		umask(0);
	else
		log_warn("%s: this process's umask applies to new files: unshare: %s", d->v.id,
			 strerror(errno));
	pthread_mutex_lock(&d->mutex);
	for (;;) {
		struct v9_req *r = d->todo;
		bool first;

		if (!r) {
			if (d->quit)
				break;
			pthread_cond_wait(&d->wake, &d->mutex);
			continue;
		}
		d->todo = r->next;
		if (!d->todo)
			d->todo_tail = &d->todo;
		pthread_mutex_unlock(&d->mutex);
		r->written = p9_handle(d->p9, r->e.iov, r->e.out_n, r->e.iov + r->e.out_n,
				       r->e.in_n);
		pthread_mutex_lock(&d->mutex);
		first = !d->done;
		r->next = NULL;
		*d->done_tail = r;
		d->done_tail = &r->next;
		if (first)
			loop_post(d->v.loop, finish, d);
	}
	pthread_mutex_unlock(&d->mutex);
	return NULL;
}

/* --- the device --- */

/*
 * A Tflush waits its turn behind the request it is about; that one must not wait for a host program
 * any more.
 */
static void look_for_flush(struct v9 *d, const struct v9_req *r)
{
	uint8_t head[9];

	if (iov_to_buf(r->e.iov, r->e.out_n, 0, head, sizeof(head)) == sizeof(head) &&
	    head[4] == P9_TFLUSH)
		p9_flush(d->p9, ld_le16(head + 7));
}

static void kick(struct virtio_dev *v, unsigned q)
{
	struct v9 *d = to_v9(v);
	struct virtq *vq = &v->queues[q];
	bool any = false;

	do {
		virtq_kicks_off(vq);
		for (;;) {
			struct v9_req *r = d->free;

			if (r)
				d->free = r->next;
			else
				r = xcalloc(1, sizeof(*r));
			r->next = NULL;
			if (virtq_pop(vq, &r->e, r->iov, VIRTQ_MAX_IOV) != 1) {
				r->next = d->free;
				d->free = r;
				break;
			}
			d->inflight++;
			any = true;
			look_for_flush(d, r);
			pthread_mutex_lock(&d->mutex);
			*d->todo_tail = r;
			d->todo_tail = &r->next;
			pthread_mutex_unlock(&d->mutex);
		}
	} while (virtq_kicks_on(vq));
	if (any)
		pthread_cond_signal(&d->wake);
}

static void stop(struct virtio_dev *v)
{
	struct v9 *d = to_v9(v);

	d->stopping = d->inflight;
	if (d->stopping)
		p9_cancel(d->p9, true);
	if (!d->stopping)
		virtio_stopped(v);
}

static void reset(struct virtio_dev *v)
{
	p9_reset(to_v9(v)->p9);
}

static uint64_t config_read(struct virtio_dev *v, uint32_t off, unsigned size)
{
	return virtio_bytes_read(to_v9(v)->cfg, off, size);
}

static int save(struct virtio_dev *v, struct state_out *o)
{
	unsigned n = p9_fids(to_v9(v)->p9);

	if (!n)
		return 0;
	log_error("%s: the guest has %u files of the shared folder; a saved machine cannot hold "
		  "them: unmount it first",
		  v->id, n);
	return -EBUSY;
}

static int load(struct virtio_dev *v, struct state_in *in, uint32_t version)
{
	return 0;			/* saved only without files */
}

static void free_list(struct v9_req *r)
{
	while (r) {
		struct v9_req *next = r->next;

		free(r);
		r = next;
	}
}

static void destroy(struct virtio_dev *v)
{
	struct v9 *d = to_v9(v);

	/* The machine may end in the middle: what waits for a host program waits no longer. */
	if (d->running) {
		p9_cancel(d->p9, true);
		pthread_mutex_lock(&d->mutex);
		d->quit = true;
		pthread_cond_signal(&d->wake);
		pthread_mutex_unlock(&d->mutex);
		pthread_join(d->thread, NULL);
	}
	free_list(d->free);
	free_list(d->done);
	p9_free(d->p9);
	pthread_mutex_destroy(&d->mutex);
	pthread_cond_destroy(&d->wake);
	virtio_exit(v);
	free(d);
}

static const struct virtio_ops virtio_9p_ops = {
	.name = "virtio-9p",
	.id = VIRTIO_ID_9P,
	.class_code = 0x00ff00,
	.version = 1,
	.config_read = config_read,
	.kick = kick,
	.stop = stop,
	.reset = reset,
	.save = save,
	.load = load,
	.destroy = destroy,
};

static struct p9 *open_folder(const char *id, const struct virtio_9p_opts *o, struct err *err)
{
	const char *hide[HIDE_MAX + 1] = { 0 };
	struct p9_opts opts = {
		.path = o->path, .readonly = o->readonly, .pipes = o->pipes, .hide = hide, .id = id,
		.host = o->host,
	};
	char *text = xstrdup(o->hide ? o->hide : ""), *save_ptr = NULL;
	struct p9 *p9 = NULL;
	unsigned n = 0;

	for (char *p = strtok_r(text, ":", &save_ptr); p && n <= HIDE_MAX;
	     p = strtok_r(NULL, ":", &save_ptr))
		if (n < HIDE_MAX)
			hide[n++] = p;
		else
			n = HIDE_MAX + 1;
	if (n > HIDE_MAX)
		err_set(err, E2BIG, "%s: hide= has more than %d paths", id, HIDE_MAX);
	else
		p9 = p9_new(&opts, err);
	free(text);
	return p9;
}

struct virtio_dev *virtio_9p_new(const char *id, struct loop *loop, struct mem *mem,
				 const struct virtio_9p_opts *o, struct err *err)
{
	size_t len = strlen(o->tag);
	sigset_t all, old;
	struct p9 *p9;
	struct v9 *d;
	int ret;

	if (!len || len > TAG_MAX) {
		err_set(err, EINVAL, "%s: mount_tag=%s: 1 to %d characters", id, o->tag, TAG_MAX);
		return NULL;
	}
	p9 = open_folder(id, o, err);
	if (!p9)
		return NULL;
	d = xcalloc(1, sizeof(*d));
	d->p9 = p9;
	st_le16(d->cfg, len);
	memcpy(d->cfg + 2, o->tag, len);
	d->todo_tail = &d->todo;
	d->done_tail = &d->done;
	pthread_mutex_init(&d->mutex, NULL);
	pthread_cond_init(&d->wake, NULL);
	virtio_init(&d->v, &virtio_9p_ops, id, loop, mem, 1, QUEUE_SIZE,
		    1ull << VIRTIO_9P_MOUNT_TAG, 2 + len);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&d->thread, NULL, worker, d);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret) {
		err_set(err, ret, "%s: cannot start a thread: %s", id, strerror(ret));
		destroy(&d->v);
		return NULL;
	}
	d->running = true;
	return &d->v;
}
