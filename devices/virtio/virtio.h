/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio.h: a virtio device without its transport (virtio 1.2 chapter 2, 5). virtio_pci.c and
 * virtio_mmio.c carry it: they own status, feature words, queue registers and the doorbell; the
 * device owns meaning.
 */
#ifndef DEVICES_VIRTIO_VIRTIO_H
#define DEVICES_VIRTIO_VIRTIO_H

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>

#include "devices/device.h"
#include "devices/virtio/virtq.h"

struct virtio_dev;

struct virtio_ops {
	const char *name;			/* "virtio-blk" */
	uint16_t id;				/* VIRTIO_ID_BLOCK ... */
	/* PCI class << 8 | prog-if << ... as in pci_id.class_rev without revision */
	uint32_t class_code;
	uint32_t version;			/* of the saved registers */
	/*
	 * Device configuration; size 1, 2, 4, 8; off + size checked against cfg_len before the
	 * call.
	 */
	uint64_t (*config_read)(struct virtio_dev *v, uint32_t off, unsigned size);
	void (*config_write)(struct virtio_dev *v, uint32_t off, unsigned size, uint64_t val);
	/*
	 * FEATURES_OK was written: v->features is what the driver took (a subset of the offer).
	 * false refuses. Optional.
	 */
	bool (*features_ok)(struct virtio_dev *v);
	void (*start)(struct virtio_dev *v);			/* DRIVER_OK */
	void (*kick)(struct virtio_dev *v, unsigned q);		/* doorbell, on the queue's loop */
	/*
	 * No kick comes any more: give back buffers fetched ahead, call virtio_stopped(v) once
	 * (maybe at once, on any loop of the device) when nothing is in flight but held chains.
	 * Optional: nothing is ever in flight.
	 */
	void (*stop)(struct virtio_dev *v);
	/* after stop or load, without a reset; kicks follow */
	void (*resume)(struct virtio_dev *v);
	/* device part; stopped; held chains are forgotten */
	void (*reset)(struct virtio_dev *v);
	int (*save)(struct virtio_dev *v, struct state_out *o);
	int (*load)(struct virtio_dev *v, struct state_in *in, uint32_t version);
	void (*destroy)(struct virtio_dev *v);
};

/* How the device reaches its transport. Any thread that holds the queue's loop lock. */
struct virtio_transport_ops {
	void (*notify_queue)(void *ctx, unsigned q);		/* used-buffer notification */
	void (*notify_config)(void *ctx);			/* configuration changed */
	/* an eventfd that notifies (vhost), or -errno */
	int (*queue_fd)(void *ctx, unsigned q);
};

struct virtio_dev {
	const struct virtio_ops *ops;
	char *id;				/* owned */
	struct loop *loop;
	struct mem *mem;
	const struct virtio_transport_ops *transport;
	void *transport_ctx;
	uint64_t offer;				/* feature bits we have */
	uint64_t features;			/* bits the driver took, of the offer */
	uint64_t unknown;			/* bits it took that are not in the offer */
	uint8_t status;				/* atomic: a queue's loop may set NEEDS_RESET */
	uint32_t generation;			/* of the configuration */
	uint32_t cfg_len;
	unsigned nqueues;
	struct virtq *queues;
	/* who touches each queue; default: loop; change before the transport */
	struct loop **queue_loops;
	/* virtio.c's */
	/* DRIVER_OK (or a legacy driver's early kick) since the last reset */
	bool started;
	/* started and not stopped: kicks reach the device; atomic */
	bool running;
	bool stopping, resetting;		/* waiting for requests in flight */
	void (*quiesced)(void *ctx);
	void *quiesced_ctx;
	struct virtio_bell *bells;		/* one a queue */
};

/* A queue's doorbell: KVM or a register write signals fd, the queue's loop takes it from there. */
struct virtio_bell {
	struct virtio_dev *v;
	unsigned q;
	int fd;
	struct loop_fd *watch;
	/* how often it came to the loop; the loop's, others read it */
	uint64_t rings;
};

static inline bool virtio_has(const struct virtio_dev *v, unsigned bit)
{
	return v->features >> bit & 1;
}

/* Common part of every virtio constructor. */
void virtio_init(struct virtio_dev *v, const struct virtio_ops *ops, const char *id,
		 struct loop *loop, struct mem *mem, unsigned nqueues, uint16_t queue_size,
		 uint64_t offer, uint32_t cfg_len);
void virtio_exit(struct virtio_dev *v);
/* How many doorbells have rung so far. Any thread. */
uint64_t virtio_doorbells(const struct virtio_dev *v);
/* What stop promised: nothing is in flight. Any loop of the device. */
void virtio_stopped(struct virtio_dev *v);
/* virtq_flush, and the notification when the driver wants it. */
void virtio_flush(struct virtio_dev *v, unsigned q);
/*
 * Control code that changes what the queues' own loops look at keeps them out: the locks of those
 * that are not the device's loop.
 */
void virtio_queues_lock(struct virtio_dev *v);
void virtio_queues_unlock(struct virtio_dev *v);
/* The configuration changed: generation rises, the driver is told. */
void virtio_config_changed(struct virtio_dev *v);

/* A register of a configuration kept as little-endian bytes. */
uint64_t virtio_bytes_read(const void *cfg, uint32_t off, unsigned size);

/* --- what transports call; device loop's lock --- */
/* Doorbells; the transport has set transport and transport_ctx. 0 or -errno. */
int virtio_attach(struct virtio_dev *v);
/* Bounds are checked here: reads beyond the configuration give 0, writes there are dropped. */
uint64_t virtio_config_load(struct virtio_dev *v, uint32_t off, unsigned size);
void virtio_config_store(struct virtio_dev *v, uint32_t off, unsigned size, uint64_t val);
/*
 * The driver's choice; ignored once it is fixed. legacy: what we do not have is masked, not
 * refused with FEATURES_OK.
 */
void virtio_set_features(struct virtio_dev *v, uint64_t features, bool legacy);
/* After virtio_load: what stands in the transport's register of the driver's features. */
void virtio_features_loaded(struct virtio_dev *v, uint64_t features);
/*
 * A write to the status register. 0 resets and returns when nothing is in flight. Otherwise bits
 * are only added. Returns true when the device was reset, so that the transport resets its part.
 */
bool virtio_set_status(struct virtio_dev *v, uint8_t status, bool legacy);
static inline uint8_t virtio_status(struct virtio_dev *v)
{
	return __atomic_load_n(&v->status, __ATOMIC_ACQUIRE);
}
/*
 * Addresses and size are set: use the queue / stop using it (waits for what is in flight) and
 * forget its registers.
 */
void virtio_queue_enable(struct virtio_dev *v, unsigned q);
void virtio_queue_disable(struct virtio_dev *v, unsigned q);
/*
 * The doorbell register was written without KVM's short cut; or the device wants its own attention
 * again.
 */
void virtio_ring_bell(struct virtio_dev *v, unsigned q);
void virtio_reset(struct virtio_dev *v);
void virtio_quiesce(struct virtio_dev *v, void (*done)(void *ctx), void *ctx);
void virtio_resume(struct virtio_dev *v);
/* 0, or why the device cannot be saved now */
int virtio_save(struct virtio_dev *v, struct state_out *o);
int virtio_load(struct virtio_dev *v, struct state_in *in);

/* --- transports --- */
struct pci_bus;
/* Transitional PCI function at devfn around v (owned from now on). NULL with the reason. */
struct device *virtio_pci_new(struct pci_bus *bus, unsigned devfn, struct virtio_dev *v,
			      struct err *err);
struct bus;
struct irq;
/* virtio-mmio registers (4.2) at base on mmio, one interrupt wire. */
struct vm;
struct device *virtio_mmio_new(struct bus *mmio, uint64_t base, struct irq irq, struct vm *vm,
			       struct virtio_dev *v, struct err *err);

/* --- devices: a constructor each; NULL with the reason --- */
struct blk;
struct vm;
struct virtio_blk_config_opts {
	struct blk *blk;		/* borrowed */
	unsigned nqueues;		/* 1.. */
	uint16_t queue_size;		/* 0: 256 */
	const char *serial;		/* at most 20 bytes; NULL: empty */
	struct loop **queue_loops;	/* nqueues loops, or NULL: the device's */
	bool packed;			/* offer packed rings */
};
struct virtio_dev *virtio_blk_new(const char *id, struct loop *loop, struct mem *mem,
				  const struct virtio_blk_config_opts *o, struct err *err);
struct net;
struct virtio_net_opts {
	struct net *net;		/* borrowed backend; NULL: no cable */
	uint8_t mac[6];
	unsigned pairs;			/* queue pairs, 1.. */
	uint16_t queue_size;		/* 0: 256 */
	struct loop **queue_loops;	/* one a pair, or NULL: the device's */
	bool packed;			/* offer packed rings */
};
struct virtio_dev *virtio_net_new(const char *id, struct loop *loop, struct mem *mem,
				  const struct virtio_net_opts *o, struct err *err);
void virtio_net_set_link(struct virtio_dev *v, bool up);
struct virtio_9p_opts {
	const char *path, *tag;		/* the folder; what the guest mounts it by */
	/* absolute paths to cover, with colons between; NULL: none */
	const char *hide;
	bool readonly;
	bool pipes;			/* FIFOs in it are streams to host programs (p9.h) */
	const struct host *host;	/* what opens the folder; NULL: host_door */
};
struct virtio_dev *virtio_9p_new(const char *id, struct loop *loop, struct mem *mem,
				 const struct virtio_9p_opts *o, struct err *err);
struct virtio_dev *virtio_rng_new(const char *id, struct loop *loop, struct mem *mem,
				  struct err *err);
struct chardev;
struct virtio_dev *virtio_console_new(const char *id, struct loop *loop, struct mem *mem,
				      struct chardev *chr, struct err *err);
struct virtio_dev *virtio_balloon_new(const char *id, struct loop *loop, struct mem *mem,
				      struct err *err);
/* A tablet (absolute pointer), or a keyboard. Its loop's lock for the calls below. */
#define VIRTIO_INPUT_ABS_MAX 32767
struct virtio_dev *virtio_input_new(const char *id, struct loop *loop, struct mem *mem, bool tablet,
				    struct err *err);
bool virtio_input_active(struct virtio_dev *v);		/* the guest has a driver for it */
/* 0..ABS_MAX, PS2_BUTTON_* */
void virtio_input_pointer(struct virtio_dev *v, unsigned x, unsigned y, int wheel,
			  unsigned buttons);
void virtio_input_key(struct virtio_dev *v, unsigned key, bool down);	/* KEY_* */
/* Target size of guest RAM in bytes / what the guest has now. */
void virtio_balloon_set(struct virtio_dev *v, uint64_t ram_bytes);
uint64_t virtio_balloon_actual(struct virtio_dev *v);
/* The guest followed (BALLOON_CHANGE). */
void virtio_balloon_on_change(struct virtio_dev *v, void (*fn)(void *ctx, uint64_t actual),
			      void *ctx);
/*
 * The guest's statistics every so many seconds (0: no more); the last ones by VIRTIO_BALLOON_S_ tag
 * and when (0: never).
 */
#define VIRTIO_BALLOON_STATS 10
void virtio_balloon_set_stats(struct virtio_dev *v, unsigned seconds);
int64_t virtio_balloon_stats(struct virtio_dev *v, uint64_t stats[VIRTIO_BALLOON_STATS]);

#endif
