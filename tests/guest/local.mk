# SPDX-License-Identifier: GPL-2.0-or-later
# Guests: tests/guest/NN-name/guest.{S,c} and tests/guest/more/NAME.{S,c} become build/tests/guest/NAME.bin. An assembler
# source that starts at the reset vector becomes a flat ROM, all others ELF files with a multiboot header.

GUEST_SRC := $(wildcard tests/guest/*/guest.S tests/guest/*/guest.c)
GUEST_BIN := $(patsubst tests/guest/%/,$(BUILD)/tests/guest/%.bin,$(dir $(GUEST_SRC))) \
	     $(patsubst tests/guest/more/%,$(BUILD)/tests/guest/%.bin,$(basename $(wildcard tests/guest/more/*.S tests/guest/more/*.c)))
GUEST_LIB := $(wildcard tests/guest/lib/*)
GUEST_ROMS := $(patsubst %,$(BUILD)/tests/guest/%.bin,01-real-mode 02-protected-mode cmos)
GUEST_CFLAGS := -std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -fno-pic -no-pie -mno-red-zone \
		-mgeneral-regs-only -fno-asynchronous-unwind-tables -fcf-protection=none -nostdlib -static -Itests/guest/lib
GUEST_ROM_LD := -Wl,-Ttext=0,--oformat=binary,--build-id=none
GUEST_LD := -Wl,-T,tests/guest/lib/guest.ld -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,--no-warn-rwx-segments,-z,noexecstack

tests: $(GUEST_BIN)

define guest_recipe
	@mkdir -p $(@D)
	@echo "  GUEST $@"
	$(Q)$(if $(filter $@,$(GUEST_ROMS)),\
		$(CC) $(GUEST_CFLAGS) $(GUEST_ROM_LD) $< -o $@,\
		$(CC) $(GUEST_CFLAGS) $(GUEST_LD) $(if $(filter %.c,$<),-m32 tests/guest/lib/start.S tests/guest/lib/lib.c) $< -o $@.elf && \
		objcopy -O elf32-i386 $@.elf $@)
endef
$(BUILD)/tests/guest/%.bin: tests/guest/%/guest.S $(GUEST_LIB)
	$(guest_recipe)
$(BUILD)/tests/guest/%.bin: tests/guest/%/guest.c $(GUEST_LIB)
	$(guest_recipe)
$(BUILD)/tests/guest/%.bin: tests/guest/more/%.S $(GUEST_LIB)
	$(guest_recipe)
$(BUILD)/tests/guest/%.bin: tests/guest/more/%.c $(GUEST_LIB)
	$(guest_recipe)

# The lesson's page in short, then its guest with the trace that shows the point.
lesson: all $(GUEST_BIN)
	@BUILD=$(BUILD) tests/guest/run --lesson "$(N)"
