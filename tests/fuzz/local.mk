# SPDX-License-Identifier: GPL-2.0-or-later
# make fuzz [FUZZ_COUNT=N] [FUZZ_SEED=N]: every target with random inputs, under ASan and UBSan. With clang, build a target with
# -fsanitize=fuzzer instead of tests/fuzz/driver.c.
FUZZ_COUNT ?= 3000
FUZZ_SEED ?= 1
FUZZ_TARGETS := $(filter-out driver,$(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c)))
$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/tests/fuzz/driver.o $(LIBTEST) $(LIBBIOS) $(LIBDEV) $(LIBDISK) $(LIBNET) $(LIBWIRES) $(LIBBASE)
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(call WHOLE,$(LIBBASE)) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS_main)
.PHONY: fuzz fuzz-targets
fuzz-targets: $(FUZZ_TARGETS:%=$(BUILD)/tests/fuzz/%)
fuzz:
	$(Q)$(MAKE) --no-print-directory SAN=asan fuzz-targets
	$(Q)for t in $(FUZZ_TARGETS); do echo "$$t:"; build/asan/tests/fuzz/$$t -n $(FUZZ_COUNT) -s $(FUZZ_SEED) || exit 1; done
