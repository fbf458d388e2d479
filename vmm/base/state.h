/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * state.h: a machine's registers as a flattened device tree (libfdt). One node a device, one
 * property a register, integers big-endian as the format has them. fdtdump shows it as text.
 * Reading treats the tree as hostile: unknown, missing or doubled properties are refused by name.
 */
#ifndef VMM_BASE_STATE_H
#define VMM_BASE_STATE_H

#include "vmm/base/util.h"

/* --- writing --- */
/* Sequential; errors (out of memory) are remembered and returned by state_out_finish. */
struct state_out;
struct state_out *state_out_new(void);
void state_begin(struct state_out *o, const char *node);	/* "name@unit" or "name" */
void state_end(struct state_out *o);
void state_u8(struct state_out *o, const char *prop, uint8_t v);
void state_u16(struct state_out *o, const char *prop, uint16_t v);
void state_u32(struct state_out *o, const char *prop, uint32_t v);
void state_u64(struct state_out *o, const char *prop, uint64_t v);
void state_str(struct state_out *o, const char *prop, const char *s);
void state_bytes(struct state_out *o, const char *prop, const void *p, size_t len);
/* Hands out the finished blob (free with free()) and frees o. 0 or -errno. */
int state_out_finish(struct state_out *o, void **blob, size_t *len);

/* --- reading --- */
struct state_in;
/*
 * Checks the whole blob first (fdt_check_full, duplicates). blob outlives it. NULL with the reason
 * on failure.
 */
struct state_in *state_in_new(const void *blob, size_t len, struct err *err);
/* Refuses properties and nodes nobody read, by name; then frees. 0 or -EINVAL with the reason. */
int state_in_finish(struct state_in *in, struct err *err);
void state_in_free(struct state_in *in);
/*
 * Enter a child node / leave it. -ENOENT when missing (for state_enter: recorded as an error;
 * state_try_enter: not).
 */
int state_enter(struct state_in *in, const char *node);
int state_try_enter(struct state_in *in, const char *node);
void state_leave(struct state_in *in);
/*
 * Getters: 0, or -EINVAL after recording "node/prop: missing / wrong size". *v is 0 then, so a
 * loader may read everything and look at state_in_error once. The _opt form takes a default for
 * properties added later.
 */
int state_get_u8(struct state_in *in, const char *prop, uint8_t *v);
int state_get_u16(struct state_in *in, const char *prop, uint16_t *v);
int state_get_u32(struct state_in *in, const char *prop, uint32_t *v);
int state_get_u64(struct state_in *in, const char *prop, uint64_t *v);
int state_get_u32_opt(struct state_in *in, const char *prop, uint32_t *v, uint32_t def);
int state_get_u64_opt(struct state_in *in, const char *prop, uint64_t *v, uint64_t def);
/* exactly len */
int state_get_bytes(struct state_in *in, const char *prop, void *p, size_t len);
/* Points into the blob; any length up to max. */
int state_get_blob(struct state_in *in, const char *prop, const void **p, size_t *len, size_t max);
/* Whether the current node has the property (for state that only some machines have). */
bool state_has(struct state_in *in, const char *prop);
int state_get_str(struct state_in *in, const char *prop, const char **s);
/* Record a value a device finds impossible ("index 999 of 128"). Returns -EINVAL. */
int state_bad(struct state_in *in, const char *fmt, ...) PRINTF(2, 3);
int state_in_error(struct state_in *in);
const char *state_in_reason(struct state_in *in);

/* --- a register table, so that save and load cannot disagree --- */
enum state_type { STATE_U8, STATE_U16, STATE_U32, STATE_U64, STATE_BOOL, STATE_BYTES };
struct state_field {
	const char *prop;
	enum state_type type;
	size_t offset, size;		/* of the member; size of the whole array for STATE_BYTES */
};
#define STATE_FIELD(type, t, member)                                                               \
	{                                                                                          \
#member, t, offsetof(type, member), sizeof(((type *)0)->member)                    \
	}
void state_save_fields(struct state_out *o, const void *base, const struct state_field *f,
		       size_t n);
int state_load_fields(struct state_in *in, void *base, const struct state_field *f, size_t n);

#endif
