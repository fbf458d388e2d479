/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * threeway.h: a scenario run three ways must look the same to the guest: straight; saved after step
 * k and continued in a fresh machine, for every k; and from the beginning after a reset that came
 * after step k, for every k. What a step sees it writes down with tw_say; the logs are compared.
 * TW_LOG=1 in the environment shows them.
 */
#ifndef TESTS_LIB_THREEWAY_H
#define TESTS_LIB_THREEWAY_H

#include "tests/lib/guest.h"

struct tw {
	struct guest *g;
	struct device *d;
	void *ctx;
	FILE *log;
	char *text;
	size_t len;
};

struct tw_scenario {
	struct device *(*make)(struct guest *g, void *ctx);
	void (*const *steps)(struct tw *t);
	size_t n;
	/* Puts what lies outside the device (disk contents) back to the beginning; optional. */
	void (*restore)(void *ctx);
	void *ctx;
	/*
	 * After the device is gone, its guest still there: frees what make() made beside it;
	 * optional.
	 */
	void (*unmake)(struct guest *g, void *ctx);
	/*
	 * Requests the device has and has not answered; asked at each save, the sum must not be 0.
	 * Optional.
	 */
	unsigned (*in_flight)(struct tw *t);
};

void tw_say(struct tw *t, const char *fmt, ...) PRINTF(2, 3);
void threeway(const struct tw_scenario *s);
/*
 * A guest whose PCI bus has the VM behind it, as the chips want; not started, so that map changes
 * take effect at once.
 */
struct guest *chips_guest(void);

#endif
