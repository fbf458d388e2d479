/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qed.c: qed images; see fuzz_image.h. */
#include "tests/lib/fuzz_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	return fuzz_image("qed", data, len);
}
