# The encryption tests load the module.
$(BUILD)/tests/img/qcow2_meta: | $(BUILD)/minivmm-crypto.so
$(BUILD)/tests/img/bounds $(BUILD)/tests/img/matrix: | $(BUILD)/minivmm-crypto.so $(BUILD)/minivmm-img
