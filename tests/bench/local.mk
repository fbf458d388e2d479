# SPDX-License-Identifier: GPL-2.0-or-later

# make bench-img      minivmm-img side by side with Debian's qemu-img (BENCH_RUNS, BENCH_ONLY, BENCH_DIR)
.PHONY: bench-img
bench-img: all
	@BUILD=$(BUILD) tests/bench/img

# make bench-live     saving, restoring, moving, pausing, backing up side by side with QEMU (BENCH_RUNS)
.PHONY: bench-live
bench-live: all $(BUILD)/tests/guest/writer.bin $(BUILD)/tests/bench/requests.bin
	@BUILD=$(BUILD) tests/bench/live

# Small programs of the bench: build/tests/bench/NAME; guest-init runs inside the guest and is static.
BENCH_BIN := $(BUILD)/tests/bench/bare $(BUILD)/tests/bench/times $(addprefix $(BUILD)/tests/bench/,peer ping guest-init)
.PHONY: bench-tools
bench-tools: $(BENCH_BIN) $(addprefix $(BUILD)/tests/bench/,first.bin sector.bin screen.bin requests.bin)
$(BUILD)/tests/bench/guest-init: CFLAGS_bench := -static
$(BENCH_BIN): $(BUILD)/tests/bench/%: tests/bench/%.c
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE -O2 -g -Wall -Wextra -Werror $(CFLAGS_bench) $< -o $@
$(BUILD)/tests/bench/first.bin: tests/bench/first.S
	@mkdir -p $(@D)
	$(Q)$(CC) $(GUEST_CFLAGS) $(GUEST_ROM_LD) $< -o $@
$(BUILD)/tests/bench/sector.bin: tests/bench/sector.S
	@mkdir -p $(@D)
	$(Q)$(CC) -m32 $(GUEST_CFLAGS) -Wl,-Ttext=0x7c00,--oformat=binary,--build-id=none $< -o $@ && truncate -s 1M $@
$(BUILD)/tests/bench/screen.bin: tests/bench/screen.c $(GUEST_LIB)
	$(guest_recipe)
$(BUILD)/tests/bench/requests.bin: tests/bench/requests.c $(GUEST_LIB)
	$(guest_recipe)
