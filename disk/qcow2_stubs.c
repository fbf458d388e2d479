#include <errno.h>
#include "disk/qcow2.h"
#include "disk/qcow2_bitmap.h"
#include "disk/qcow2_crypt.h"
int qcow2_check(struct node *n, struct node_check *c, unsigned fix){return -ENOTSUP;}
int qcow2_snapshots_load(struct qcow2 *q, struct err *err){return 0;}
void qcow2_snapshots_free(struct qcow2 *q){}
int qcow2_snapshot_create(struct node *n, const struct node_snapshot *s, struct err *err){return -ENOTSUP;}
int qcow2_snapshot_goto(struct node *n, const char *id_or_name, struct err *err){return -ENOTSUP;}
int qcow2_snapshot_delete(struct node *n, const char *id_or_name, struct err *err){return -ENOTSUP;}
int qcow2_snapshot_list(struct node *n, struct node_snapshot **list, int *count){return -ENOTSUP;}
int qcow2_snapshot_load_tmp(struct node *n, const char *id_or_name, struct err *err){return -ENOTSUP;}
int qcow2_vmstate_read(struct node *n, void *buf, uint64_t len, uint64_t off){return -ENOTSUP;}
int qcow2_vmstate_write(struct node *n, const void *buf, uint64_t len, uint64_t off){return -ENOTSUP;}
int qcow2_bitmaps_load(struct qcow2 *q, struct err *err){return 0;}
void qcow2_bitmaps_free(struct qcow2 *q){}
int qcow2_bitmaps_store(struct qcow2 *q, struct err *err){return 0;}
int qcow2_bitmaps_resize(struct qcow2 *q, uint64_t size, struct err *err){return -ENOTSUP;}
int qcow2_bitmaps_dirty_slow(struct qcow2 *q, uint64_t off, uint64_t len){return 0;}
int qcow2_bitmap(struct node *n, enum bitmap_op op, const char *name, uint32_t granularity, struct node *src,
		 const char *src_name, struct err *err){return -ENOTSUP;}
int qcow2_bitmap_list(struct node *n, struct node_bitmap **list, int *count){return -ENOTSUP;}
int qcow2_crypt_open(struct qcow2 *q, const struct blk_options *o, struct err *err){return q->h.crypt_method?-ENOTSUP:0;}
void qcow2_crypt_close(struct qcow2 *q){}
int qcow2_crypt_read(struct qcow2 *q, uint64_t host, uint64_t off, uint64_t pos, const struct iovec *iov, int niov, uint64_t len){return -ENOTSUP;}
int qcow2_crypt_write(struct qcow2 *q, uint64_t host, uint64_t off, const struct iovec *iov, int niov, uint64_t len){return -ENOTSUP;}
int qcow2_crypt_create(struct node *f, struct qcow2_header *h, const char *const *opts, const char *secret_file, const char *backing,
		       const char *backing_format, const char *data_file, struct err *err){return -ENOTSUP;}
int qcow2_amend(struct node *n, const char *const *opts, bool force, struct err *err){return -ENOTSUP;}
int qcow2_info(struct node *n, struct node_info *i){return 0;}
