/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * eeprom93.c: see eeprom93.h. The instructions are those of the 93C46 in its 16-bit organization.
 * Lock of the owner's loop.
 */
#include "devices/nic/eeprom93.h"

#define COMMAND_BITS 9			/* start bit, two of opcode, six of address */
#define WORD_BITS 16

static void command(struct eeprom93 *e)
{
	unsigned op = e->shift >> 6 & 3;

	e->addr = e->shift & 63;
	if (op == 2) {
		/* READ: a zero bit, the word, then the words after it */
		e->reading = true;
		e->out = e->words[e->addr];
		e->out_bits = WORD_BITS + 1;
	} else if (op == 0 && e->addr >> 4 == 3) {
		e->write_enabled = true;	/* EWEN */
	} else if (op == 0 && e->addr >> 4 == 0) {
		e->write_enabled = false;	/* EWDS */
	} else if (op == 3 && e->write_enabled) {
		e->words[e->addr] = 0xffff;	/* ERASE */
	}
}

static void rising_edge(struct eeprom93 *e, bool in)
{
	if (e->reading) {
		if (e->out_bits <= 1) {
			e->addr = (e->addr + 1) & 63;
			e->out = e->words[e->addr];
			e->out_bits = WORD_BITS + 1;
		}
		e->out_bits--;
		return;
	}
	if ((e->count == 0 && !in) || e->count >= COMMAND_BITS + WORD_BITS)
		return;				/* no start bit yet; or more than a WRITE has */
	e->shift = e->shift << 1 | in;
	e->count++;
	if (e->count == COMMAND_BITS)
		command(e);
	else if (e->count == COMMAND_BITS + WORD_BITS && (e->shift >> 22 & 3) == 1 &&
		 e->write_enabled)
		e->words[e->addr] = e->shift;	/* WRITE: done at once */
}

void eeprom93_wires(struct eeprom93 *e, bool select, bool clock, bool in)
{
	bool rising = clock && !e->clock;

	e->clock = clock;
	if (!select) {
		e->reading = false;
		e->shift = e->count = e->out_bits = 0;
	} else if (rising) {
		rising_edge(e, in);
	}
}

bool eeprom93_out(const struct eeprom93 *e)
{
	return !e->reading ||
	       (e->out_bits <= WORD_BITS && e->out_bits && e->out >> (e->out_bits - 1) & 1);
}

bool eeprom93_valid(struct eeprom93 *e)
{
	bool valid = e->addr < EEPROM93_WORDS && e->out_bits <= WORD_BITS + 1 &&
		     e->count <= COMMAND_BITS + WORD_BITS;

	if (!valid)
		e->addr = e->out_bits = e->count = 0;
	return valid;
}
