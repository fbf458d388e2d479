/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * limits.h: the amounts that a guest, a file or a peer can choose, and where each of them ends.
 * SECURITY.md ("Bounds") says what stands behind each number; what a format's specification or one
 * device alone bounds stands there with the file it is in.
 *
 * TURN_: of one turn (pass) of an event loop. Whoever has more to do when a share is used up posts
 * himself again and comes back after everybody else. A turn exceeds a share by one request at most.
 */
#ifndef VMM_BASE_LIMITS_H
#define VMM_BASE_LIMITS_H

#include "vmm/base/util.h"

/* Chains of one virtqueue, frames or descriptors' worth of one network card and direction. */
#define TURN_REQUESTS		256
/* The same where one request is dear: control queues, balloons, statistics. */
#define TURN_COMMANDS		16
/* Descriptors of one virtqueue or ring, those of indirect tables included. */
#define TURN_DESCRIPTORS	8192
/* Bytes that one queue, channel or stream has copied on the loop. */
#define TURN_BYTES		(4 * MiB)
/* Pages of guest memory that a balloon gives back, and calls to the host it takes for that. */
#define TURN_PAGES		32768
#define TURN_CALLS		1024

/* One buffer that a disk's data passes through on its way (encryption, alignment). */
#define BOUNCE_BYTES		(1 * MiB)
/* Descriptors that stay free for the machine itself whatever a guest or its peers open. */
#define FDS_KEPT		256
/* How long a listener that found no descriptor rests before it looks again. */
#define ACCEPT_REST_NS		(NS_PER_SEC / 4)
/* Folders and addresses that names inside images may lead to. */
#define IMAGE_PLACES_MAX	1024

#endif
