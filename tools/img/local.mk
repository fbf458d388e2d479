# SPDX-License-Identifier: GPL-2.0-or-later
LIBS_tool_img := -lm

# The manual page comes from the program's own tables; the alias is what old scripts call.
$(BUILD)/minivmm-img.1: $(BUILD)/minivmm-img
	@echo "  MAN   $@"
	$(Q)$< --man >$@.new && mv $@.new $@
$(BUILD)/kvm-img: $(BUILD)/minivmm-img
	$(Q)ln -sf minivmm-img $@
all: $(BUILD)/minivmm-img.1 $(BUILD)/kvm-img
