/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * eeprom93.h: a 93C46 serial EEPROM of 64 words on a Microwire bus (chip select, clock, in, out),
 * as network cards have.
 */
#ifndef DEVICES_NIC_EEPROM93_H
#define DEVICES_NIC_EEPROM93_H

#include "vmm/base/util.h"

#define EEPROM93_WORDS 64

struct eeprom93 {
	uint16_t words[EEPROM93_WORDS];
	/* the transfer under way; all but words are saved by their owner with EEPROM93_FIELDS */
	uint32_t shift;			/* bits clocked in since chip select */
	uint8_t count;			/* how many */
	uint8_t out_bits, addr;
	uint16_t out;
	bool reading, write_enabled, clock;
};

#define EEPROM93_FIELDS(type, member)                                                              \
	STATE_FIELD(type, STATE_BYTES, member.words), STATE_FIELD(type, STATE_U32, member.shift),  \
		STATE_FIELD(type, STATE_U8, member.count),                                         \
		STATE_FIELD(type, STATE_U8, member.out_bits),                                      \
		STATE_FIELD(type, STATE_U8, member.addr),                                          \
		STATE_FIELD(type, STATE_U16, member.out),                                          \
		STATE_FIELD(type, STATE_BOOL, member.reading),                                     \
		STATE_FIELD(type, STATE_BOOL, member.write_enabled),                               \
		STATE_FIELD(type, STATE_BOOL, member.clock)

/* The wires as the card drives them now. */
void eeprom93_wires(struct eeprom93 *e, bool select, bool clock, bool in);
bool eeprom93_out(const struct eeprom93 *e);
/* Whether a loaded transfer is possible; one that is not is forgotten. */
bool eeprom93_valid(struct eeprom93 *e);

#endif
