# SPDX-License-Identifier: GPL-2.0-or-later
# make fuzz           runs every target of tests/fuzz for FUZZ_SECONDS under the sanitizers

FUZZ_SECONDS ?= 20
FUZZ ?= $(filter-out driver,$(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c)))
FUZZ_CFLAGS := -O1 -g -fsanitize-coverage=trace-pc -Wno-error

.PHONY: fuzz fuzz-build
fuzz:
	@$(MAKE) --no-print-directory BUILD=build/fuzz SAN=asan CFLAGS="$(FUZZ_CFLAGS)" fuzz-build
	@for t in $(FUZZ); do \
		printf '%-20s ' $$t; ASAN_OPTIONS=detect_leaks=0 build/fuzz/tests/fuzz/$$t -s $(FUZZ_SECONDS) -c build/fuzz/crash-$$t \
			$$(ls -d tests/fuzz/corpus/$$t 2>/dev/null) 2>build/fuzz/$$t.log || { echo FAILED; tail -40 build/fuzz/$$t.log; exit 1; }; \
	done

fuzz-build: $(FUZZ:%=$(BUILD)/tests/fuzz/%)
$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/tests/fuzz/driver.o $(LIBTEST) $(LIBBIOS) $(LIBDEV) $(LIBDISK) $(LIBNET) $(LIBWIRES) $(LIBBASE)
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(call WHOLE,$(LIBBASE)) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS_main)
