# SPDX-License-Identifier: GPL-2.0-or-later
# make fuzz           runs every target of tests/fuzz for FUZZ_SECONDS under the sanitizers

FUZZ_SECONDS ?= 20
FUZZ ?= $(filter-out driver,$(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c)))
FUZZ_CFLAGS := -O1 -g -fsanitize-coverage=trace-pc -Wno-error -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION

.PHONY: fuzz fuzz-build
fuzz:
	@$(MAKE) --no-print-directory BUILD=build/fuzz SAN=asan CFLAGS="$(FUZZ_CFLAGS)" fuzz-build
	@for t in $(FUZZ); do \
		printf '%-20s ' $$t; ASAN_OPTIONS=detect_leaks=0 build/fuzz/tests/fuzz/$$t -s $(FUZZ_SECONDS) -c build/fuzz/crash-$$t \
			$$(ls -d tests/fuzz/corpus/$$t 2>/dev/null) 2>build/fuzz/$$t.log || { echo FAILED; tail -40 build/fuzz/$$t.log; exit 1; }; \
	done

fuzz-build: $(FUZZ:%=$(BUILD)/tests/fuzz/%)
$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/tests/fuzz/driver.o $(LIBTEST) $(LIBVMM) $(LIBBIOS) $(LIBDEV) $(LIBDISK) $(LIBNET) $(LIBBACKENDS) $(LIBWIRES) $(LIBBASE)
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(call WHOLE,$(LIBBASE)) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS_main)

# make fuzz-libfuzzer the same targets under clang's libFuzzer, which finds more in the same time
FUZZ_CC ?= clang
LIBFUZZER := build/libfuzzer
LIBFUZZER_FLAGS := -std=gnu11 -D_GNU_SOURCE -I. -pthread -g -O1 -DMINIVMM_VERSION='"fuzz"' -DMINIVMM_LIBDIR='"/nonexistent"' \
	-fsanitize=address,undefined -fno-sanitize-recover=undefined -fsanitize=fuzzer-no-link -w \
	-DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
LIBFUZZER_OBJ := $(patsubst %.c,$(LIBFUZZER)/%.o,$(BASE) $(WIRES) $(BACKENDS) $(filter-out vmm/main.c,$(MAIN)) $(call SRC,disk) $(call SRC,net) $(call SRC,devices) $(call SRC,bios) \
	$(wildcard tests/lib/*.c))
$(LIBFUZZER)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CLANG $<"
	$(Q)$(FUZZ_CC) $(LIBFUZZER_FLAGS) -MMD -MP -c $< -o $@
$(LIBFUZZER)/libfuzz.a: $(LIBFUZZER_OBJ)
	$(Q)rm -f $@ && ar qcs $@ $^
$(FUZZ:%=$(LIBFUZZER)/%): $(LIBFUZZER)/%: $(LIBFUZZER)/tests/fuzz/%.o $(LIBFUZZER)/libfuzz.a
	@echo "  LD    $@"
	$(Q)$(FUZZ_CC) $(LIBFUZZER_FLAGS) -fsanitize=fuzzer -rdynamic -o $@ $< $(LIBFUZZER)/libfuzz.a $(LIBS_main)
.PRECIOUS: $(LIBFUZZER)/%.o

.PHONY: fuzz-libfuzzer
fuzz-libfuzzer: $(FUZZ:%=$(LIBFUZZER)/%)
	@for t in $(FUZZ); do \
		mkdir -p $(LIBFUZZER)/corpus/$$t; printf '%-20s ' $$t; \
		$(LIBFUZZER)/$$t -max_total_time=$(FUZZ_SECONDS) -timeout=10 -verbosity=0 -print_final_stats=1 -artifact_prefix=$(LIBFUZZER)/$$t- \
			$(LIBFUZZER)/corpus/$$t $$(ls -d tests/fuzz/corpus/$$t 2>/dev/null) >$(LIBFUZZER)/$$t.log 2>&1 || \
			{ echo FAILED; tail -40 $(LIBFUZZER)/$$t.log; exit 1; }; \
		sed -n 's/stat::number_of_executed_units: */runs: /p' $(LIBFUZZER)/$$t.log; \
	done
