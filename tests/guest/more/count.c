/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest for saving and moving: writes all over 8 MiB, checks that every page still has what it
 * wrote last, and counts aloud without an end. A gap or a repetition in its count, or a "fail",
 * shows a machine that was not carried over whole.
 */
#include "guest.h"

#define PAGES 2048
#define WORDS 1024
#define STEPS 4000		/* page writes for each count */

static uint32_t memory[PAGES][WORDS] __attribute__((aligned(4096)));
static uint32_t last[PAGES];

int main(void)
{
	uint32_t n = 0, x = 1;

	for (uint32_t count = 1;; count++) {
		for (unsigned i = 0; i < STEPS; i++) {
			uint32_t p;

			x = x * 1664525 + 1013904223;
			p = (x >> 12) % PAGES;
			if (memory[p][p % WORDS] != last[p])
				fail("count %u: page %u has %x, not %x", count, p,
				     memory[p][p % WORDS], last[p]);
			last[p] = memory[p][p % WORDS] = ++n;
		}
		print("count %u\n", count);
	}
}
