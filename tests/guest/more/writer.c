/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest for tests/bench/live: puts a word that is not zero into each page of its memory (more
 * would take minutes where KVM interprets ring 0), then writes a word into page after page of a
 * window of it and says a dot for every few. The first dot of a restored machine is its first
 * breath.
 */
#include "guest.h"

#define FIRST (4u << 20)		/* above the image */
#define WINDOW_PAGES 4096u
#define STEPS 16u			/* page writes for each dot */

extern struct info { uint32_t flags, mem_lower, mem_upper; } *multiboot_info;

int main(void)
{
	uint32_t end = (multiboot_info->mem_upper << 10) + (1 << 20) - (2 << 20), x = 1;
	uint32_t pages = (end - FIRST) >> 12;

	for (uint32_t at = FIRST; at < end; at += 4096) {
		x = x * 1664525 + 1013904223;
		MMIO32(at) = x | 1;
	}
	print("full\n");
	for (uint32_t n = 0;; n++) {
		for (uint32_t i = 0; i < STEPS; i++) {
			x = x * 1664525 + 1013904223;
			MMIO32(FIRST + ((x >> 12) % (WINDOW_PAGES < pages ? WINDOW_PAGES : pages)
					<< 12)) = x;
		}
		print(".");
	}
}
