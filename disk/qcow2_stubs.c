#include <errno.h>
#include "disk/qcow2.h"
#include "disk/qcow2_bitmap.h"
#include "disk/qcow2_crypt.h"
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

#include "disk/qcow2_check.h"
void qcow2_bitmaps_refer(struct qcow2 *q, struct check *k){}

int qcow2_crypt_info(struct qcow2 *q, struct json_t *specific){return 0;}
