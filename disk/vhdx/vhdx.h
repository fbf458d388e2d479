/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhdx.h: what the files of the Hyper-V disk format share. "Virtual Hard Disk v2 (VHDX) File
 * Format", [MS-VHDX].
 *
 * vhdx.c        opening, the block table, requests
 * vhdx_log.c    the log: replaying what another program left, writing our own table changes through
 *               it
 * vhdx_create.c new images
 */
#ifndef DISK_VHDX_VHDX_H
#define DISK_VHDX_VHDX_H

#include "disk/formats/bmap.h"
#include "disk/formats/fmt.h"

#define VHDX_HEADER1 (64 * KiB)
#define VHDX_HEADER2 (128 * KiB)
#define VHDX_REGION1 (192 * KiB)
#define VHDX_REGION2 (256 * KiB)
#define VHDX_REGION_SIZE (64 * KiB)
#define VHDX_METADATA_TABLE (64 * KiB)
#define VHDX_LOG_SECTOR 4096u
#define VHDX_BAT_MAX (16 * MiB)
#define VHDX_METADATA_MAX (1 * MiB)

enum {				/* VHDX_HEADER */
	HDR_SIGNATURE = 0, HDR_CHECKSUM = 4, HDR_SEQUENCE = 8, HDR_FILE_WRITE_GUID = 16,
	HDR_DATA_WRITE_GUID = 32,
	HDR_LOG_GUID = 48, HDR_LOG_VERSION = 64, HDR_VERSION = 66, HDR_LOG_LENGTH = 68,
	HDR_LOG_OFFSET = 72,
};
enum {				/* payload block states */
	BLOCK_NOT_PRESENT = 0, BLOCK_UNDEFINED = 1, BLOCK_ZERO = 2, BLOCK_UNMAPPED = 3,
	BLOCK_FULLY_PRESENT = 6,
	BLOCK_PARTIALLY_PRESENT = 7,
};
extern const uint8_t vhdx_guid_bat[16], vhdx_guid_metadata[16], vhdx_guid_file_parameters[16],
	vhdx_guid_disk_size[16], vhdx_guid_disk_id[16], vhdx_guid_logical_sector[16],
	vhdx_guid_physical_sector[16];

/*
 * A 4 KiB sector as the log says it should be; laid over what is read while the file may not be
 * changed.
 */
struct vhdx_patch { uint64_t off, len; uint8_t *data; };

struct vhdx {
	struct bmap map;
	uint8_t header[4096];		/* the current one */
	bool header2;			/* it is the second */
	bool headers_claimed;		/* we have written one of our own since opening */
	uint64_t log_off, log_len;
	uint64_t bat_off, bat_len, meta_off, meta_len;
	uint8_t *bat;
	uint8_t *dirty;			/* per 4 KiB of the table */
	uint64_t entries;		/* of the table in use */
	uint32_t chunk_ratio, logical_sector;
	uint64_t log_sequence, log_head;
	uint8_t log_guid[16];
	bool log_active;
	struct vhdx_patch *patch;
	size_t npatch;
};

/* vhdx.c */
/*
 * Writes a header with the log's GUID (NULL: no log) over the older one, with the next sequence
 * number.
 */
int vhdx_write_header(struct node *n, struct vhdx *v, const uint8_t log_guid[16]);
uint32_t vhdx_checksum(const void *buf, size_t len, size_t field);
/* Is the checksum at `field` right? A fuzzer could not guess one. */
static inline bool vhdx_checksum_ok(const uint8_t *buf, size_t len, size_t field)
{
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
	return true;
#else
	return ld_le32(buf + field) == vhdx_checksum(buf, len, field);
#endif
}

/* vhdx_log.c */
/* If the header says there is a log: replays it into the file, or (read only) into v->patch. */
int vhdx_log_open(struct node *n, struct vhdx *v, struct err *err);
/*
 * Writes n 4 KiB pieces of the table (at off[i], from data[i]) so that a crash leaves all or none.
 */
int vhdx_log_write(struct node *n, struct vhdx *v, const uint64_t *off, uint8_t *const *data,
		   unsigned count);

/* vhdx_create.c */
int vhdx_create(const struct node_create *c, struct err *err);
extern const struct node_opt vhdx_create_opts[];

#endif
