/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz_image.h: one fuzzed image. An input is not the image itself but what differs from a file of
 * zeros, so that formats whose tables lie megabytes apart stay small: 4 bytes file size in sectors,
 * then records of {offset in units of 16 bytes: 4, length: 2, bytes}. All little-endian.
 * tests/fuzz/pack makes such inputs out of images.
 */
#ifndef TESTS_LIB_FUZZ_IMAGE_H
#define TESTS_LIB_FUZZ_IMAGE_H

#include <stddef.h>
#include <stdint.h>

/*
 * Opens the input as that format, read-only and then for writing, and does with it what the tool
 * and a guest would.
 */
int fuzz_image(const char *format, const uint8_t *data, size_t len);
/* The input as a plain file, for what needs no image format around it. */
struct node;
void fuzz_image_file(const uint8_t *data, size_t len,
		     void (*use)(struct node *file, const void *ctx), const void *ctx);

#endif
