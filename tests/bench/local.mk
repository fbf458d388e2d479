# SPDX-License-Identifier: GPL-2.0-or-later

# make bench-img      minivmm-img side by side with Debian's qemu-img (BENCH_RUNS, BENCH_ONLY, BENCH_DIR)
.PHONY: bench-img
bench-img: all
	@BUILD=$(BUILD) tests/bench/img
