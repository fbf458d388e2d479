# SPDX-License-Identifier: GPL-2.0-or-later
# The stress of the foundations needs the wires alone, so that its build under the thread sanitizer is quick.
$(BUILD)/tests/device/stress: $(BUILD)/tests/device/stress.o $(BUILD)/tests/lib/tap.o $(LIBWIRES) $(LIBBASE)
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS_base)
# SPDX-License-Identifier: GPL-2.0-or-later
# Suites that load a module.
$(BUILD)/tests/device/vnc: $(BUILD)/minivmm-vnc.so
$(BUILD)/tests/device/net_user: $(BUILD)/minivmm-net-user.so
