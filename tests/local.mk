# SPDX-License-Identifier: GPL-2.0-or-later
# The targets that need more than this machine's compiler: check and its relatives, demo, lessons, bench, install.

.PHONY: help setup check check-long check-asan check-tsan check-mutants demo bench lesson

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile tests/local.mk

# make check-long     make check, the VT-x lab and the tests that take minutes
# make check-asan     unit, device and image tests under the address and undefined-behaviour sanitizers
# make check-tsan     the same under the thread sanitizer
# make check-mutants  breaks each guarded rule by a small patch and shows that its test fails
# make lesson N=03    runs a lesson of tests/guest with the trace that shows its point
# make bench          side by side with Debian's qemu-system-x86_64
# make install        programs, modules and man pages below PREFIX (default /usr/local); DESTDIR as usual
# make setup          installs the Debian packages that the above need

setup:
	@tests/setup test

# The suites: programs that print TAP. Scripts first learn what this build made.
# What stresses threads runs a second time under the thread sanitizer: that is where it sees most.
STRESS_TSAN := $(if $(SAN),,build/tsan/tests/device/stress build/tsan/tests/device/net_threads)
SUITES = tests/layers tests/dead tests/hardened $(TEST_BIN) $(STRESS_TSAN) $(wildcard tests/img/*.sh tests/device/*.sh tests/guest/run tests/guest/suite-* tests/lab/suite-*)
check:
	@tests/setup test
	@$(MAKE) --no-print-directory -j$(shell nproc) all tests
	@$(MAKE) --no-print-directory -j$(shell nproc) SAN=tsan $(STRESS_TSAN)
	@BUILD=$(BUILD) tests/run $(SUITES)

check-long:
	@tests/setup test
	@$(MAKE) --no-print-directory -j$(shell nproc) all tests
	@$(MAKE) --no-print-directory -j$(shell nproc) SAN=tsan $(STRESS_TSAN)
	@BUILD=$(BUILD) LONG=1 SUITE_SECONDS=$(or $(SUITE_SECONDS),9000) tests/run $(SUITES) $(wildcard tests/lab/long-*)

check-asan check-tsan:
	@tests/setup test
	@$(MAKE) --no-print-directory -j$(shell nproc) SAN=$(@:check-%=%) all tests
	@BUILD=build/$(@:check-%=%) SAN=$(@:check-%=%) tests/run $$($(MAKE) --no-print-directory -s SAN=$(@:check-%=%) list-tests)
.PHONY: list-tests
# Criterion's sandbox does not start under the thread sanitizer.
list-tests:
	@echo $(if $(filter tsan,$(SAN)),$(filter-out %/unit/%,$(TEST_BIN)),$(TEST_BIN))

check-mutants:
	@tests/setup test
	@tests/mutants/run

demo:
	@tests/lab/demo

bench:
	@tests/setup test
	@$(MAKE) --no-print-directory -j$(shell nproc) all
	@BUILD=$(BUILD) tests/bench/run
