# The encryption tests load the module.
$(BUILD)/tests/img/qcow2_meta: | $(BUILD)/minivmm-crypto.so
