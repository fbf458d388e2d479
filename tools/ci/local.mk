# The first program inside the machine: static, without libraries of the host or sanitizers.
CI_INIT := $(BUILD)/minivmm-ci-init
all: $(CI_INIT)
$(CI_INIT): tools/ci/init/init.c
	@mkdir -p $(@D)
	@echo "  CC    $@"
	$(Q)$(CC) -std=gnu11 -Wall -Wextra -Wshadow -Werror -D_GNU_SOURCE -O2 -static -pthread -s -o $@ $<
