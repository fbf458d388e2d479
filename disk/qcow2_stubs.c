#include <errno.h>
#include "disk/qcow2.h"
#include "disk/qcow2_crypt.h"
int qcow2_crypt_open(struct qcow2 *q, const struct blk_options *o, struct err *err){return q->h.crypt_method?-ENOTSUP:0;}
void qcow2_crypt_close(struct qcow2 *q){}
int qcow2_crypt_read(struct qcow2 *q, uint64_t host, uint64_t off, uint64_t pos, const struct iovec *iov, int niov, uint64_t len){return -ENOTSUP;}
int qcow2_crypt_write(struct qcow2 *q, uint64_t host, uint64_t off, const struct iovec *iov, int niov, uint64_t len){return -ENOTSUP;}
int qcow2_crypt_create(struct node *f, struct qcow2_header *h, const char *const *opts, const char *secret_file, const char *backing,
		       const char *backing_format, const char *data_file, struct err *err){return -ENOTSUP;}


int qcow2_crypt_info(struct qcow2 *q, struct json_t *specific){return 0;}
