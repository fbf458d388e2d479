/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * checks_kvm.c: the processor, /dev/kvm, and how fast guests leave and run, measured with a guest
 * of a few bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "tools/doctor/doctor.h"

#define MEASURE_NS (NS_PER_SEC / 4)

enum maker { MAKER_NONE, MAKER_INTEL, MAKER_AMD };
static enum maker maker;

static bool cpu_flag(const char *name)
{
	FILE *f = open_text("/proc/cpuinfo");
	char line[8192], *p;
	bool found = false;

	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "flags", 5))
			continue;
		line[strcspn(line, "\n")] = 0;
		for (p = strtok(line + 5, " \t:"); p; p = strtok(NULL, " \t:"))
			found |= !strcmp(p, name);
		break;
	}
	if (f)
		fclose(f);
	return found;
}

/*
 * Whether the firmware has switched virtualization off, as root sees it: Intel SDM volume 3, 24.7
 * (IA32_FEATURE_CONTROL: locked and VMX not enabled), AMD APM volume 2, 15.30.1 (VM_CR.SVMDIS). -1:
 * cannot be seen.
 */
static int firmware_forbids(enum maker m)
{
	enum { FEATURE_CONTROL = 0x3a, LOCKED = 1, VMX_ON = 4, VM_CR = 0xc0010114,
	       SVMDIS = 1 << 4 };
	int fd = open(at("/dev/cpu/0/msr"), O_RDONLY | O_CLOEXEC);
	uint8_t v[8];
	ssize_t n = fd < 0 ? -1 : pread(fd, v, sizeof(v), m == MAKER_AMD ? VM_CR : FEATURE_CONTROL);

	if (fd >= 0)
		close(fd);
	if (n != sizeof(v))
		return -1;
	return m == MAKER_AMD ? (ld_le64(v) & SVMDIS) != 0
			      : (ld_le64(v) & (LOCKED | VMX_ON)) == LOCKED;
}

/* Who made the processor, also when the firmware hides the flag (then Linux does not list it). */
static enum maker maker_of(void)
{
	FILE *f = open_text("/proc/cpuinfo");
	enum maker m = MAKER_NONE;
	char line[256];

	while (f && m == MAKER_NONE && fgets(line, sizeof(line), f))
		m = strstr(line, "GenuineIntel")   ? MAKER_INTEL
		    : strstr(line, "AuthenticAMD") ? MAKER_AMD
						   : MAKER_NONE;
	if (f)
		fclose(f);
	return m;
}

static const char enable_it[] =
	"switch virtualization (VT-x, SVM) on in the firmware setup, then power off and on";

void check_processor(void)
{
	bool guest = cpu_flag("hypervisor"), pvm = module_loaded("kvm_pvm");

	if (cpu_flag("vmx"))
		maker = MAKER_INTEL;
	else if (cpu_flag("svm"))
		maker = MAKER_AMD;
	if (maker != MAKER_NONE && firmware_forbids(maker) == 1)
		finding(BAD, "processor", enable_it,
			"%s is there, but the firmware has switched it off",
			maker == MAKER_INTEL ? "Intel VT-x (vmx)" : "AMD-V (svm)");
	else if (maker != MAKER_NONE)
		finding(GOOD, "processor", NULL, "%s%s",
			maker == MAKER_INTEL ? "Intel VT-x (vmx)" : "AMD-V (svm)",
			guest ? ", inside a virtual machine (nested: exits cost more)" : "");
	else if (pvm && access(at("/dev/kvm"), F_OK) == 0)
		finding(LIMIT, "processor", "use a host with VT-x or AMD-V for stock kernels",
			"neither VT-x nor AMD-V; KVM works as PVM: firmware and small guests run, "
			"an unmodified kernel's code is "
			"interpreted, slowly, and may stop at an instruction KVM lacks");
	else if (!guest && maker_of() != MAKER_NONE && firmware_forbids(maker_of()) == 1)
		finding(BAD, "processor", enable_it,
			"the firmware has switched virtualization off");
	else
		finding(BAD, "processor",
			guest ? "allow nested virtualization for this virtual machine on its host"
			      : enable_it,
			"neither vmx nor svm among the processor's flags%s%s",
			guest ? " of this virtual machine"
			      : ": the firmware hides it, or the processor lacks it",
			pvm ? "; KVM's PVM is there, but did not start" : "");
}

/* Whether the running kernel has the module at all. */
static bool module_exists(const char *name)
{
	char path[160], line[512], file[64];
	struct utsname u;
	bool found = false;
	FILE *f;

	if (uname(&u) < 0)
		return false;
	snprintf(file, sizeof(file), "/%s.ko", name);
	for (int i = 0; i < 2 && !found; i++) {
		snprintf(path, sizeof(path), "/lib/modules/%.64s/modules.%s", u.release,
			 i ? "builtin" : "dep");
		f = open_text(path);
		while (f && !found && fgets(line, sizeof(line), f))
			found = strstr(line, file) != NULL;
		if (f)
			fclose(f);
	}
	return found;
}

static void kvm_missing(int errnum)
{
	const char *module = maker == MAKER_AMD ? "kvm-amd" : "kvm-intel";
	struct stat st;
	struct group *g;
	char cure[128];

	if (errnum == EACCES || errnum == EPERM) {
		g = stat(at("/dev/kvm"), &st) == 0 ? getgrgid(st.st_gid) : NULL;
		/* Without udev's rule the device is root's alone. */
		if (!g || !st.st_gid)
			snprintf(cure, sizeof(cure),
				 "sudo chgrp kvm /dev/kvm; sudo chmod 660 /dev/kvm; sudo adduser "
				 "$USER kvm");
		else
			snprintf(cure, sizeof(cure), "sudo adduser $USER %s, then log in again",
				 g->gr_name);
		finding(BAD, "/dev/kvm", cure, "permission denied: it belongs to group %s",
			g ? g->gr_name : "?");
	} else if (errnum == EBUSY) {
		finding(BAD, "/dev/kvm", "stop the other hypervisor's guests",
			"busy: another hypervisor holds the processor");
	} else if (maker == MAKER_NONE) {
		finding(BAD, "/dev/kvm", NULL,
			"%s: without VT-x or AMD-V KVM's module does not load", strerror(errnum));
	} else if (module_exists(module)) {
		snprintf(cure, sizeof(cure), "sudo modprobe %s (it says in dmesg when it cannot)",
			 module);
		finding(BAD, "/dev/kvm", cure, "%s: the module is not loaded", strerror(errnum));
	} else {
		finding(BAD, "/dev/kvm",
			"install the whole kernel (Debian: linux-image-amd64, not a package "
			"without modules), and boot it",
			"%s: the running kernel has no module %s", strerror(errnum), module);
	}
}

static void check_paging(void)
{
	char buf[16];

	if (maker == MAKER_INTEL &&
	    strcmp(read_line("/sys/module/kvm_intel/parameters/ept", buf, sizeof(buf)), "Y"))
		finding(LIMIT, "paging",
			"sudo modprobe -r kvm-intel; sudo modprobe kvm-intel ept=1",
			"EPT is off: page tables are shadowed, slowly");
	else if (maker == MAKER_AMD &&
		 strncmp(read_line("/sys/module/kvm_amd/parameters/npt", buf, sizeof(buf)), "Y",
			 1) &&
		 strcmp(buf, "1"))
		finding(LIMIT, "paging", "sudo modprobe -r kvm-amd; sudo modprobe kvm-amd npt=1",
			"NPT is off: page tables are shadowed, slowly");
	else if (maker != MAKER_NONE)
		finding(GOOD, "paging", NULL, "%s", maker == MAKER_INTEL ? "EPT" : "NPT");
}

/*
 * Real mode, at 0x1000. The first writes a port for ever: exits. The second counts to 65536 in CX
 * before each write: what the guest's own instructions cost.
 */
/* out 0x80, al; jmp */
static const uint8_t exit_code[] = { 0xe6, 0x80, 0xeb, 0xfc };
/* xor cx,cx; dec cx; jnz; out; jmp */
static const uint8_t loop_code[] = { 0x31, 0xc9, 0x49, 0x75, 0xfd, 0xe6, 0x80, 0xeb, 0xf7 };

static double measure(int vm, int vcpu, struct kvm_run *run, uint8_t *ram, const uint8_t *code,
		      size_t len, double per_exit)
{
	struct kvm_sregs s;
	struct kvm_regs r = { .rip = 0x1000, .rflags = 2 };
	int64_t start, now;
	uint64_t n = 0;

	memcpy(ram + 0x1000, code, len);
	if (ioctl(vcpu, KVM_GET_SREGS, &s) < 0)
		return 0;
	s.cs.base = 0;
	s.cs.selector = 0;
	if (ioctl(vcpu, KVM_SET_SREGS, &s) < 0 || ioctl(vcpu, KVM_SET_REGS, &r) < 0)
		return 0;
	start = now_ns();
	do {
		if (ioctl(vcpu, KVM_RUN, 0) < 0 || run->exit_reason != KVM_EXIT_IO)
			return 0;
		n++;
		now = now_ns();
	} while (now - start < MEASURE_NS);
	return n * per_exit * 1e9 / (now - start);
}

static void check_speed(int kvm)
{
	struct kvm_userspace_memory_region mem = { .memory_size = 0x10000 };
	int vm = ioctl(kvm, KVM_CREATE_VM, 0), vcpu = -1,
	    size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	uint8_t *ram = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			    0);
	struct kvm_run *run = MAP_FAILED;
	double exits, instructions;

	mem.userspace_addr = (uintptr_t)ram;
	if (vm >= 0 && ram != MAP_FAILED && ioctl(vm, KVM_SET_USER_MEMORY_REGION, &mem) == 0)
		vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu >= 0)
		run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (vm < 0 && errno == EBUSY) {
		kvm_missing(EBUSY);
		return;
	}
	if (run == MAP_FAILED) {
		finding(BAD, "a guest", "sudo dmesg | grep -i kvm",
			"a virtual machine cannot be made: %s", strerror(errno));
		return;
	}
	exits = measure(vm, vcpu, run, ram, exit_code, sizeof(exit_code), 1);
	instructions =
		exits ? measure(vm, vcpu, run, ram, loop_code, sizeof(loop_code), 2 * 65536.0) : 0;
	if (!exits || !instructions)
		finding(BAD, "a guest", "sudo dmesg | grep -i kvm",
			"a guest of four bytes does not run (exit reason %u)", run->exit_reason);
	else
		finding(instructions < 50e6 ? LIMIT : GOOD, "a guest", NULL,
			"%.0f thousand exits a second, %.*f million instructions a second%s",
			exits / 1e3, instructions < 10e6 ? 2 : 0, instructions / 1e6,
			instructions < 50e6 ? " (interpreted)" : "");
	munmap(run, size);
	munmap(ram, 0x10000);
	close(vcpu);
	close(vm);
}

void check_kvm(void)
{
	int kvm = open(at("/dev/kvm"), O_RDWR | O_CLOEXEC), n;

	if (kvm < 0) {
		kvm_missing(errno);
		return;
	}
	n = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	finding(GOOD, "/dev/kvm", NULL, "may be used; up to %d processors in a guest", n);
	check_paging();
	check_speed(kvm);
	close(kvm);
}
