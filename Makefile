# SPDX-License-Identifier: GPL-2.0-or-later
#
# make            the programs, into build/
# make demo       a Debian guest on a bridge, from nothing to a shell
# make check      all tests; the last line is "N passed, N failed, N skipped"
# make help       the rest
#
# Sources are found by folder: every .c below vmm/, devices/ ... belongs to minivmm, tools/NAME/*.c to
# minivmm-NAME; mod_NAME.c is the shared object build/minivmm-NAME.so, loaded when an option asks for it.

V ?=
Q := $(if $(V),,@)
SAN ?=
BUILD := build$(if $(SAN),/$(SAN))
CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
PREFIX ?= /usr/local
VERSION := 0.1.0

CFLAGS ?= -O2 -g
comma := ,
SAN_FLAGS := $(if $(SAN),-Wno-format-truncation) $(if $(filter asan,$(SAN)),-fsanitize=address$(comma)undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)$(if $(filter tsan,$(SAN)),-fsanitize=thread -Wno-tsan -fno-omit-frame-pointer)
# What makes a fault harder to use. Sanitizers find more without; tests/hardened reads the results.
HARDEN := $(if $(SAN),,-fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fcf-protection=full \
	  -ftrivial-auto-var-init=zero)
HARDEN_LD := $(if $(SAN),,-Wl$(comma)-z$(comma)relro -Wl$(comma)-z$(comma)now -Wl$(comma)-z$(comma)noexecstack)
ALL_CFLAGS := -std=gnu11 -Wall -Wextra -Wshadow -Werror -Wno-unused-parameter -fPIC -pthread -D_GNU_SOURCE -I. \
	      -DMINIVMM_VERSION='"$(VERSION)"' -DMINIVMM_LIBDIR='"$(PREFIX)/lib/minivmm"' $(HARDEN) $(SAN_FLAGS) $(CFLAGS)
ALL_LDFLAGS := -pthread -rdynamic -pie $(HARDEN_LD) $(SAN_FLAGS) $(LDFLAGS)

LIBS_base := -lfdt -ldl
LIBS_disk := -lz -ldeflate -lzstd -luring -ljansson
LIBS_net :=
LIBS_main := $(LIBS_base) $(LIBS_disk) $(LIBS_net)

# minivmm itself takes these libraries in: finding and mapping six shared ones is a third of the time from exec to the guest's
# first instruction that is not the kernel's. make SHARED=1 links it like the tools, as a distribution wants it.
SHARED ?=
shared_libs := $(filter-out -ldl,$(LIBS_main))
comma_list = $(subst $(eval) ,:,$(patsubst -l%,lib%.a,$(1)))
LIBS_minivmm := $(if $(SHARED),$(LIBS_main),-Wl$(comma)-Bstatic $(shared_libs) -Wl$(comma)-Bdynamic \
		-Wl$(comma)--exclude-libs$(comma)$(call comma_list,$(shared_libs)) -ldl)

# The layers: a folder is a library. tests/layers says which folder may include which.
MODULE_SRC := $(wildcard */mod_*.c */*/mod_*.c)
SRC = $(filter-out $(MODULE_SRC),$(wildcard $(1)/*.c $(1)/*/*.c))
BASE := $(call SRC,vmm/base)
WIRES := $(call SRC,vmm/wires)
BACKENDS := $(call SRC,vmm/backends)
# Everything above the devices: it needs KVM.
MAIN := $(filter-out $(BASE) $(WIRES) $(BACKENDS),$(call SRC,vmm))
obj = $(patsubst %.c,$(BUILD)/%.o,$(1))

LIBBASE := $(BUILD)/libbase.a
LIBWIRES := $(BUILD)/libwires.a
LIBBACKENDS := $(BUILD)/libbackends.a
LIBTOOLS := $(BUILD)/libtools.a
LIBDISK := $(BUILD)/libdisk.a
LIBNET := $(BUILD)/libnet.a
LIBDEV := $(BUILD)/libdevices.a
LIBBIOS := $(BUILD)/libbios.a
# The program without main.c, for tests.
LIBVMM := $(BUILD)/libvmm.a
WHOLE = -Wl,--whole-archive $(1) -Wl,--no-whole-archive

# tools/lib is what tools share.
TOOLS := $(filter-out lib,$(patsubst tools/%/,%,$(sort $(dir $(wildcard tools/*/*.c)))))
MODULES := $(patsubst %.c,%,$(notdir $(MODULE_SRC)))
PROGRAMS := $(if $(wildcard vmm/main.c),$(BUILD)/minivmm) $(TOOLS:%=$(BUILD)/minivmm-%) \
	    $(MODULES:mod_%=$(BUILD)/minivmm-%.so)

.PHONY: all
all: $(PROGRAMS)

# What a module and the program that loads it must agree on: the headers. module.c has the number, each module says it as the "address" of
# a symbol, and the file changes only when the number does.
INTERFACE := $(shell cat $(sort $(wildcard $(foreach d,vmm disk net devices,$d/*.h $d/*/*.h))) | cksum | cut -d' ' -f1)
$(shell mkdir -p $(BUILD) && { [ "$$(cat $(BUILD)/interface 2>/dev/null)" = "$(INTERFACE)" ] || echo "$(INTERFACE)" >$(BUILD)/interface; })
CFLAGS_vmm_base_module := -DMODULE_INTERFACE=$(INTERFACE)u
$(BUILD)/vmm/base/module.o: $(BUILD)/interface

# Other flags than last time compile everything again.
$(shell mkdir -p $(BUILD) && { [ "$$(cat $(BUILD)/flags 2>/dev/null)" = '$(subst ','"'"',$(ALL_CFLAGS))' ] || \
	echo '$(subst ','"'"',$(ALL_CFLAGS))' >$(BUILD)/flags; })

$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(ALL_CFLAGS) $(CFLAGS_$(subst /,_,$*)) -MMD -MP -c $< -o $@

define archive
$(1): $$(call obj,$(2))
	@echo "  AR    $$@"
	$$(Q)mkdir -p $$(@D) && rm -f $$@ && ar qcs $$@ $$^
endef
$(eval $(call archive,$(LIBBASE),$(BASE)))
$(eval $(call archive,$(LIBWIRES),$(WIRES)))
$(eval $(call archive,$(LIBBACKENDS),$(BACKENDS)))
$(eval $(call archive,$(LIBDISK),$(call SRC,disk)))
$(eval $(call archive,$(LIBNET),$(call SRC,net)))
$(eval $(call archive,$(LIBDEV),$(call SRC,devices)))
$(eval $(call archive,$(LIBTOOLS),$(wildcard tools/lib/*.c)))
$(eval $(call archive,$(LIBBIOS),$(call SRC,bios)))
$(eval $(call archive,$(LIBVMM),$(filter-out vmm/main.c,$(MAIN))))

$(BUILD)/minivmm: $(call obj,$(MAIN)) $(LIBBIOS) $(LIBDEV) $(LIBDISK) $(LIBNET) $(LIBBACKENDS) $(LIBWIRES) $(LIBBASE)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(call obj,$(MAIN)) $(call WHOLE,$(filter %.a,$^)) $(LIBS_minivmm)

# A tool links disk, net and base; LIBS_tool_NAME adds libraries, tools/NAME/local.mk sets it.
-include $(wildcard tools/*/local.mk)
define tool
$(BUILD)/minivmm-$(1): $$(call obj,$$(wildcard tools/$(1)/*.c)) $(LIBTOOLS) $(LIBDISK) $(LIBNET) $(LIBBASE)
	@echo "  LD    $$@"
	$$(Q)$$(CC) $$(ALL_LDFLAGS) -o $$@ $$(filter %.o,$$^) $(LIBTOOLS) $$(call WHOLE,$(LIBBASE) $(LIBDISK)) $(LIBNET) $$(LIBS_main) $$(LIBS_tool_$(1))
endef
$(foreach t,$(TOOLS),$(eval $(call tool,$(t))))

# Modules: LIBS_mod_NAME, CFLAGS_FOLDER_mod_NAME; OBJS_mod_NAME: what else it is made of.
LIBS_mod_net-user := -lslirp
LIBS_mod_vnc := -lvncserver
LIBS_mod_nbd := -lnbd
LIBS_mod_crypto := -lgcrypt
LIBS_mod_http := -lcurl
LIBS_mod_disasm := -lcapstone
LIBS_mod_monitor := -ledit
LIBS_mod_curses := -lncursesw
OBJS_mod_net-user := $(BUILD)/net/user_filter.o
CFLAGS_net_mod_net-user := $(shell pkg-config --cflags slirp 2>/dev/null)
define module
$(BUILD)/minivmm-$(patsubst mod_%,%,$(basename $(notdir $(1)))).so: $(BUILD)/$(basename $(1)).o $(OBJS_$(basename $(notdir $(1)))) $(BUILD)/interface
	@echo "  LD    $$@"
	$$(Q)$$(CC) -shared $(HARDEN_LD) $(SAN_FLAGS) -Wl,--defsym=minivmm_interface=$(INTERFACE) -o $$@ $$(filter %.o,$$^) $$(LIBS_$(basename $(notdir $(1))))
endef
$(foreach m,$(MODULE_SRC),$(eval $(call module,$(m))))

# --- tests: each suite is a program that prints TAP ---
# tests/unit/X.c (criterion) and tests/device/X.c, tests/img/X.c (tests/tap.h) become build/tests/unit/X ...
TEST_SRC := $(wildcard tests/unit/*.c tests/device/*.c tests/img/*.c)
LIBTEST := $(BUILD)/libtest.a
$(eval $(call archive,$(LIBTEST),$(wildcard tests/lib/*.c)))
TEST_BIN := $(patsubst tests/%.c,$(BUILD)/tests/%,$(TEST_SRC))
$(BUILD)/tests/unit/%: LIBS_test = -lcriterion
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(LIBTEST) $(LIBTOOLS) $(LIBVMM) $(LIBBIOS) $(LIBDEV) $(LIBDISK) $(LIBNET) $(LIBBACKENDS) $(LIBWIRES) $(LIBBASE)
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(call WHOLE,$(LIBBASE)) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS_main) $(LIBS_test)
# Images need no machine: their tests link what a tool links.
$(BUILD)/tests/img/%: $(BUILD)/tests/img/%.o $(LIBTEST) $(LIBDISK) $(LIBNET) $(LIBBASE)
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIBTEST) $(call WHOLE,$(LIBDISK) $(LIBBASE)) $(LIBNET) $(LIBS_main) $(LIBS_test)
$(BUILD)/tests/%.o: tests/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@
.PRECIOUS: $(BUILD)/%.o $(BUILD)/tests/%.o
.PHONY: tests
tests: $(TEST_BIN)

-include $(wildcard tests/*/local.mk) tests/local.mk
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

# The folder of the modules is compiled in: another PREFIX than last time compiles module.c again.
$(BUILD)/prefix: FORCE
	@mkdir -p $(@D)
	@echo '$(PREFIX)' | cmp -s - $@ || echo '$(PREFIX)' >$@
$(BUILD)/vmm/base/module.o: $(BUILD)/prefix
.PHONY: FORCE install uninstall
FORCE:

bindir = $(DESTDIR)$(PREFIX)/bin
libdir = $(DESTDIR)$(PREFIX)/lib/minivmm
mandir = $(DESTDIR)$(PREFIX)/share/man/man1
# Programs, with the names that people type for them; modules; man pages, as each program prints its own with -man.
install: all
	install -d $(bindir) $(libdir) $(mandir)
	install -m 755 $(filter-out %.so,$(PROGRAMS)) $(bindir)
	$(if $(filter %.so,$(PROGRAMS)),install -m 644 $(filter %.so,$(PROGRAMS)) $(libdir))
	install -m 755 $(CI_INIT) $(libdir)
	ln -sf minivmm-img $(bindir)/kvm-img
	for p in $(notdir $(filter-out %.so,$(PROGRAMS))); do \
		$(BUILD)/$$p -man >$(mandir)/$$p.1 2>/dev/null || rm -f $(mandir)/$$p.1; done
	$(if $(wildcard tools/*/*.1),install -m 644 $(wildcard tools/*/*.1) $(mandir))
	if [ -e $(mandir)/minivmm-img.1 ]; then ln -sf minivmm-img.1 $(mandir)/kvm-img.1; fi

uninstall:
	rm -f $(foreach p,$(notdir $(filter-out %.so,$(PROGRAMS))) kvm-img,$(bindir)/$(p) $(mandir)/$(p).1)
	rm -rf $(libdir)

.PHONY: clean
clean:
	$(Q)rm -rf build
