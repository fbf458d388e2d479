/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_blk.c: the block device (virtio 1.2, 5.2). A request goes through parse (looks only at the
 * chain), submit (to disk/blk.h) and finish (status byte, used ring), once each, whatever the guest
 * or the disk does.
 *
 * Each queue belongs to one loop: chains are popped, submitted and finished there. A batch of kicks
 * is one submission to the host, a batch of completions one update of the used index and at most
 * one interrupt.
 */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>

#include "devices/virtio/virtio.h"
#include "disk/blk.h"
#include "vmm/base/log.h"

#define SECTOR 512
#define QUEUE_SIZE 256
#define MAX_SECTORS (INT32_MAX / SECTOR)	/* of one discard or write-zeroes request */
#define DISCARD_ALIGN 8				/* sectors: holes in host files are pages */
#define INLINE_IOV 18

struct vblk;

struct vblk_req {
	struct blk_req blk;
	struct virtq_elem elem;
	struct vblk_queue *queue;
	struct vblk_req *next;			/* free list */
	uint32_t type;				/* VIRTIO_BLK_T_ */
	/* the part of the chain that is data: inside elem.iov, or cut */
	struct iovec *data;
	int ndata;
	struct iovec *big;			/* allocated: a chain that does not fit into iov */
	/* allocated: data that shares a piece with header or status */
	struct iovec *cut;
	struct iovec iov[INLINE_IOV];
};

struct vblk_queue {
	struct vblk *d;
	unsigned index;
	struct blk_queue *blk;
	struct vblk_req *free;
	unsigned finished;			/* pushed since the last flush */
	bool retry;				/* take held chains again at the next kick */
	/* where chains are popped to before their size is known */
	struct iovec scratch[VIRTQ_MAX_IOV];
};

struct vblk {
	struct virtio_dev v;
	struct blk *blk;
	char serial[VIRTIO_BLK_ID_BYTES];
	struct virtio_blk_config cfg;
	struct vblk_queue *queues;
	unsigned inflight;			/* atomic: submitted, not yet given back */
	bool stopping;				/* atomic */
};

static struct vblk *to_blk(struct virtio_dev *v)
{
	return container_of(v, struct vblk, v);
}

/* --- parse: what does this chain ask for? Touches nothing but the request --- */

static int set_data(struct vblk_req *r, struct iovec *iov, int n, size_t skip, size_t len)
{
	size_t rest;
	int count = 0;

	while (n && skip >= iov->iov_len) {
		skip -= iov->iov_len;
		iov++;
		n--;
	}
	for (rest = len; count < n && rest; count++)
		rest -= MIN(rest, iov[count].iov_len - (count ? 0 : skip));
	r->ndata = count;
	/*
	 * As drivers build it, header and status have pieces of their own and the data lies
	 * between, whole.
	 */
	if (!skip && iov_bytes(iov, count) == len) {
		r->data = iov;
		return 0;
	}
	r->data = r->cut = calloc(count, sizeof(*iov));
	if (!r->cut)
		return -ENOMEM;
	memcpy(r->cut, iov, count * sizeof(*iov));
	r->data[0].iov_base = (char *)r->data[0].iov_base + skip;
	r->data[0].iov_len -= skip;
	r->data[count - 1].iov_len -= iov_bytes(r->data, count) - len;
	return 0;
}

/* A VIRTIO_BLK_S_ status when the request is over already, -1 when it is to be submitted. */
static int parse_io(struct vblk_req *r, uint64_t sector, bool write)
{
	struct virtq_elem *e = &r->elem;
	uint64_t len = write ? e->out_len - sizeof(struct virtio_blk_outhdr) : e->in_len - 1;
	struct vblk *d = r->queue->d;

	if (len % SECTOR || sector > UINT64_MAX / SECTOR ||
	    !range_ok(sector * SECTOR, len, ld_le64(&d->cfg.capacity) * SECTOR)) {
		log_guest("%s: a %s of %llu bytes at sector %llu, the disk has %llu sectors",
			  d->v.id, write ? "write" : "read", (unsigned long long)len,
			  (unsigned long long)sector,
			  (unsigned long long)ld_le64(&d->cfg.capacity));
		return VIRTIO_BLK_S_IOERR;
	}
	if (write && virtio_has(&d->v, VIRTIO_BLK_F_RO))
		return VIRTIO_BLK_S_IOERR;
	if (!len)
		return VIRTIO_BLK_S_OK;
	if (write ? set_data(r, e->iov, e->out_n, sizeof(struct virtio_blk_outhdr), len)
		  : set_data(r, e->iov + e->out_n, e->in_n, 0, len))
		return VIRTIO_BLK_S_IOERR;
	r->blk.op = write ? BLK_WRITE : BLK_READ;
	/* A driver that does not know FLUSH expects each write to last (5.2.6.2). */
	r->blk.flags = write && !virtio_has(&d->v, VIRTIO_BLK_F_FLUSH) ? BLK_FUA : 0;
	r->blk.off = sector * SECTOR;
	r->blk.len = len;
	r->blk.iov = r->data;
	r->blk.niov = r->ndata;
	return -1;
}

static int parse_range(struct vblk_req *r, bool zeroes)
{
	struct virtio_blk_discard_write_zeroes range;
	struct virtq_elem *e = &r->elem;
	struct vblk *d = r->queue->d;
	uint64_t sector, sectors;
	uint32_t flags;

	if (!virtio_has(&d->v, zeroes ? VIRTIO_BLK_F_WRITE_ZEROES : VIRTIO_BLK_F_DISCARD))
		return VIRTIO_BLK_S_UNSUPP;
	if (virtio_has(&d->v, VIRTIO_BLK_F_RO))
		return VIRTIO_BLK_S_IOERR;
	/* One range, as max_discard_seg says. */
	if (e->out_len != sizeof(struct virtio_blk_outhdr) + sizeof(range))
		return VIRTIO_BLK_S_UNSUPP;
	iov_to_buf(e->iov, e->out_n, sizeof(struct virtio_blk_outhdr), &range, sizeof(range));
	sector = ld_le64(&range.sector);
	sectors = ld_le32(&range.num_sectors);
	flags = ld_le32(&range.flags);
	if (flags & ~(zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0u))
		return VIRTIO_BLK_S_UNSUPP;
	if (sectors > MAX_SECTORS || !range_ok(sector, sectors, ld_le64(&d->cfg.capacity)))
		return VIRTIO_BLK_S_IOERR;
	if (!sectors)
		return VIRTIO_BLK_S_OK;
	r->blk.op = zeroes ? BLK_ZEROES : BLK_DISCARD;
	r->blk.flags = flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP ? BLK_UNMAP : 0;
	if (zeroes && !virtio_has(&d->v, VIRTIO_BLK_F_FLUSH))
		r->blk.flags |= BLK_FUA;
	r->blk.off = sector * SECTOR;
	r->blk.len = sectors * SECTOR;
	r->blk.iov = NULL;
	r->blk.niov = 0;
	return -1;
}

static int parse_get_id(struct vblk_req *r)
{
	struct virtq_elem *e = &r->elem;
	struct vblk *d = r->queue->d;

	if (e->in_len < sizeof(d->serial) + 1)
		return VIRTIO_BLK_S_IOERR;
	iov_from_buf(e->iov + e->out_n, e->in_n, 0, d->serial, sizeof(d->serial));
	return VIRTIO_BLK_S_OK;
}

static int parse(struct vblk_req *r)
{
	struct virtio_blk_outhdr hdr;
	struct virtq_elem *e = &r->elem;
	struct vblk *d = r->queue->d;

	if (iov_to_buf(e->iov, e->out_n, 0, &hdr, sizeof(hdr)) < sizeof(hdr) || !e->in_len) {
		log_guest("%s: a request with a header of %llu bytes and %llu bytes to answer",
			  d->v.id, (unsigned long long)e->out_len, (unsigned long long)e->in_len);
		return VIRTIO_BLK_S_IOERR;
	}
	r->type = ld_le32(&hdr.type) & ~VIRTIO_BLK_T_BARRIER;
	r->blk.id = e->id;
	trace(TRACE_BLK, e->id, d->v.id, "request type %u sector %llu", r->type,
	      (unsigned long long)ld_le64(&hdr.sector));
	switch (r->type) {
	case VIRTIO_BLK_T_IN:
		return parse_io(r, ld_le64(&hdr.sector), false);
	case VIRTIO_BLK_T_OUT:
		return parse_io(r, ld_le64(&hdr.sector), true);
	case VIRTIO_BLK_T_FLUSH:
		r->blk.op = BLK_FLUSH;
		r->blk.flags = 0;
		r->blk.off = r->blk.len = 0;
		r->blk.iov = NULL;
		r->blk.niov = 0;
		return -1;
	case VIRTIO_BLK_T_DISCARD:
		return parse_range(r, false);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return parse_range(r, true);
	case VIRTIO_BLK_T_GET_ID:
		return parse_get_id(r);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

/* --- requests --- */

static struct vblk_req *req_get(struct vblk_queue *q)
{
	struct vblk_req *r = q->free;

	if (r)
		q->free = r->next;
	else
		r = xcalloc(1, sizeof(*r));
	r->queue = q;
	return r;
}

static void req_put(struct vblk_req *r)
{
	free(r->big);
	free(r->cut);
	r->big = r->cut = NULL;
	r->next = r->queue->free;
	r->queue->free = r;
}

/* The chain lies in the queue's scratch array: give it a place of its own. */
static bool req_keep_iov(struct vblk_req *r)
{
	int n = r->elem.out_n + r->elem.in_n;
	struct iovec *to = r->iov;

	if (n > INLINE_IOV) {
		to = r->big = calloc(n, sizeof(*to));
		if (!to)
			return false;
	}
	memcpy(to, r->elem.iov, n * sizeof(*to));
	r->elem.iov = to;
	return true;
}

/* --- finish --- */

static void finish(struct vblk_req *r, uint8_t status)
{
	struct vblk_queue *q = r->queue;
	struct virtio_dev *v = &q->d->v;
	struct virtq_elem *e = &r->elem;

	if (e->in_len)
		iov_from_buf(e->iov + e->out_n, e->in_n, e->in_len - 1, &status, 1);
	trace(TRACE_BLK, e->id, v->id, "status %u", status);
	virtq_push(&v->queues[q->index], e, MIN(e->in_len, UINT32_MAX));
	req_put(r);
}

static void done(struct blk_req *blk)
{
	struct vblk_req *r = container_of(blk, struct vblk_req, blk);
	struct vblk_queue *q = r->queue;
	struct vblk *d = q->d;
	int ret = blk->ret;

	q->finished++;
	if (!ret) {
		finish(r, VIRTIO_BLK_S_OK);
		return;
	}
	switch (blk_error_action(d->blk, blk, d->v.id)) {
	case BLK_ERR_STOP:
		virtq_hold(&d->v.queues[q->index], &r->elem);
		req_put(r);
		break;
	case BLK_ERR_IGNORE:
		finish(r, VIRTIO_BLK_S_OK);
		break;
	default:
		finish(r, ret == -ENOTSUP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR);
	}
}

static void maybe_stopped(struct vblk *d)
{
	if (__atomic_load_n(&d->stopping, __ATOMIC_SEQ_CST) &&
	    !__atomic_load_n(&d->inflight, __ATOMIC_SEQ_CST) &&
	    __atomic_exchange_n(&d->stopping, false, __ATOMIC_SEQ_CST))
		virtio_stopped(&d->v);
}

/* All done()s of this round have run. */
static void batch_over(void *ctx)
{
	struct vblk_queue *q = ctx;
	struct vblk *d = q->d;

	if (!q->finished)
		return;
	virtio_flush(&d->v, q->index);
	__atomic_sub_fetch(&d->inflight, q->finished, __ATOMIC_SEQ_CST);
	q->finished = 0;
	maybe_stopped(d);
}

/* --- submit --- */

static void handle(struct vblk_queue *q, struct virtq_elem *e)
{
	struct vblk_req *r = req_get(q);
	int status;

	r->elem = *e;
	status = req_keep_iov(r) ? parse(r) : VIRTIO_BLK_S_IOERR;
	if (status >= 0) {
		finish(r, status);
		return;
	}
	r->blk.done = done;
	__atomic_add_fetch(&q->d->inflight, 1, __ATOMIC_SEQ_CST);
	blk_submit(q->blk, &r->blk);
}

static void kick(struct virtio_dev *v, unsigned index)
{
	struct vblk_queue *q = &to_blk(v)->queues[index];
	struct virtq *vq = &v->queues[index];
	struct virtq_elem e;

	blk_plug(q->blk);
	if (q->retry) {
		q->retry = false;
		while (virtq_pop_held(vq, &e, q->scratch, VIRTQ_MAX_IOV) == 1)
			handle(q, &e);
		q->retry = virtq_turn_over(vq);
	}
	do {
		virtq_kicks_off(vq);
		while (virtq_pop(vq, &e, q->scratch, VIRTQ_MAX_IOV) == 1)
			handle(q, &e);
	} while (virtq_kicks_on(vq));
	blk_unplug(q->blk);
	virtio_flush(v, index);
}

/* --- life --- */

static void stop(struct virtio_dev *v)
{
	__atomic_store_n(&to_blk(v)->stopping, true, __ATOMIC_SEQ_CST);
	maybe_stopped(to_blk(v));
}

static void resume(struct virtio_dev *v)
{
	struct vblk *d = to_blk(v);

	for (unsigned q = 0; q < v->nqueues; q++)
		d->queues[q].retry = true;
}

static void set_capacity(struct vblk *d)
{
	uint64_t sectors = blk_size(d->blk) / SECTOR;

	st_le64(&d->cfg.capacity, sectors);
	st_le16(&d->cfg.geometry.cylinders, MIN(sectors / (16 * 63), 16383u));
}

static void size_changed(void *ctx)
{
	struct vblk *d = ctx;

	if (blk_size(d->blk) / SECTOR == ld_le64(&d->cfg.capacity))
		return;
	set_capacity(d);
	virtio_config_changed(&d->v);
}

static uint64_t config_read(struct virtio_dev *v, uint32_t off, unsigned size)
{
	return virtio_bytes_read((const char *)&to_blk(v)->cfg + off, 0, size);
}

static int save(struct virtio_dev *v, struct state_out *o)
{
	state_u64(o, "capacity", ld_le64(&to_blk(v)->cfg.capacity));
	return 0;
}

static int load(struct virtio_dev *v, struct state_in *in, uint32_t version)
{
	struct vblk *d = to_blk(v);
	uint64_t capacity;
	int ret = state_get_u64(in, "capacity", &capacity);

	if (ret)
		return ret;
	if (capacity != ld_le64(&d->cfg.capacity))
		return state_bad(in, "%s: the guest's disk had %llu sectors, '%s' has %llu", v->id,
				 (unsigned long long)capacity, blk_filename(d->blk),
				 (unsigned long long)ld_le64(&d->cfg.capacity));
	return 0;
}

static void destroy(struct virtio_dev *v)
{
	struct vblk *d = to_blk(v);

	blk_off_change(d->blk, size_changed, d);
	for (unsigned i = 0; i < v->nqueues; i++) {
		struct vblk_queue *q = &d->queues[i];

		blk_queue_free(q->blk);
		while (q->free) {
			struct vblk_req *r = q->free;

			q->free = r->next;
			free(r);
		}
	}
	free(d->queues);
	virtio_exit(v);
	free(d);
}

static const struct virtio_ops virtio_blk_ops = {
	.name = "virtio-blk", .id = VIRTIO_ID_BLOCK, .class_code = 0x010000, .version = 1,
	.config_read = config_read, .start = resume, .kick = kick, .stop = stop, .resume = resume,
	.save = save, .load = load, .destroy = destroy,
};

struct virtio_dev *virtio_blk_new(const char *id, struct loop *loop, struct mem *mem,
				  const struct virtio_blk_config_opts *o, struct err *err)
{
	uint16_t queue_size = o->queue_size ? o->queue_size : QUEUE_SIZE;
	uint64_t offer = 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_GEOMETRY |
			 1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_TOPOLOGY |
			 1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_DISCARD |
			 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	struct vblk *d;

	if (!o->nqueues || o->nqueues > 128 || queue_size < 4 || queue_size > VIRTQ_MAX_SIZE ||
	    !IS_POWER_OF_2(queue_size)) {
		err_set(err, EINVAL,
			"%s: %u queues of %u entries: 1 to 128 queues of 4 to %u entries, a power "
			"of two",
			id, o->nqueues, queue_size, VIRTQ_MAX_SIZE);
		return NULL;
	}
	if (blk_readonly(o->blk))
		offer |= 1ull << VIRTIO_BLK_F_RO;
	if (o->nqueues > 1)
		offer |= 1ull << VIRTIO_BLK_F_MQ;
	if (o->packed)
		offer |= 1ull << VIRTIO_F_RING_PACKED;
	d = xcalloc(1, sizeof(*d));
	d->blk = o->blk;
	if (o->serial)
		memcpy(d->serial, o->serial, strnlen(o->serial, sizeof(d->serial)));
	virtio_init(&d->v, &virtio_blk_ops, id, loop, mem, o->nqueues, queue_size, offer,
		    sizeof(d->cfg));
	d->queues = xcalloc(o->nqueues, sizeof(*d->queues));
	for (unsigned i = 0; i < o->nqueues; i++) {
		struct vblk_queue *q = &d->queues[i];

		q->d = d;
		q->index = i;
		if (o->queue_loops)
			d->v.queue_loops[i] = o->queue_loops[i];
		q->blk = blk_queue_new(o->blk, d->v.queue_loops[i]);
		if (!q->blk) {
			err_set(err, EMFILE, "%s: no more event descriptors (see ulimit -n)", id);
			destroy(&d->v);
			return NULL;
		}
		blk_queue_on_batch(q->blk, batch_over, q);
	}
	set_capacity(d);
	st_le32(&d->cfg.seg_max, queue_size - 2);
	d->cfg.geometry.heads = 16;
	d->cfg.geometry.sectors = 63;
	st_le32(&d->cfg.blk_size, SECTOR);
	d->cfg.physical_block_exp = 3;
	st_le16(&d->cfg.num_queues, o->nqueues);
	st_le32(&d->cfg.max_discard_sectors, MAX_SECTORS);
	st_le32(&d->cfg.max_discard_seg, 1);
	st_le32(&d->cfg.discard_sector_alignment, DISCARD_ALIGN);
	st_le32(&d->cfg.max_write_zeroes_sectors, MAX_SECTORS);
	st_le32(&d->cfg.max_write_zeroes_seg, 1);
	d->cfg.write_zeroes_may_unmap = 1;
	blk_on_change(o->blk, loop, size_changed, d);
	return &d->v;
}
