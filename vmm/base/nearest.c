/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nearest.c: edit distance with neighbouring letters swapped (optimal string alignment). */
#include "vmm/base/nearest.h"

#define NAME_MAX_LEN 40

static unsigned distance(const char *a, const char *b)
{
	unsigned d[NAME_MAX_LEN + 1][NAME_MAX_LEN + 1];
	unsigned la = strlen(a), lb = strlen(b);

	if (la > NAME_MAX_LEN || lb > NAME_MAX_LEN)
		return NAME_MAX_LEN;
	for (unsigned i = 0; i <= la; i++) {
		for (unsigned j = 0; j <= lb; j++) {
			unsigned best;

			if (!i || !j) {
				d[i][j] = i + j;
				continue;
			}
			best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
			best = MIN(best, MIN(d[i - 1][j], d[i][j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				best = MIN(best, d[i - 2][j - 2] + 1);
			d[i][j] = best;
		}
	}
	return d[la][lb];
}

const char *nearest_name(const char *typed, const char *const *names)
{
	const char *near = NULL;
	unsigned least = strlen(typed) / 3 + 2;

	for (; *names; names++) {
		unsigned d = distance(typed, *names);

		if (d < least) {
			least = d;
			near = *names;
		}
	}
	return near;
}
