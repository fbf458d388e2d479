/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bare ROM [MIB]: the floor that any VMM stands on: the ioctls a PC needs (VM, in-kernel interrupt
 * controllers and timer, memory, one vCPU with CPUID), the ROM at the top of 4 GiB, KVM_RUN until
 * the guest writes a port; the exit status is (value << 1) | 1. Nothing else.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define ROM_SIZE 65536

static int do_ioctl(int fd, unsigned long request, const char *name, void *arg)
{
	int r = ioctl(fd, request, arg);

	if (r < 0)
		err(1, "%s", name);
	return r;
}
#define IOCTL(fd, request, arg) do_ioctl(fd, request, #request, (void *)(uintptr_t)(arg))

static void slot(int vm, unsigned n, uint64_t gpa, uint64_t size, void *host)
{
	struct kvm_userspace_memory_region r = { .slot = n,
						 .guest_phys_addr = gpa,
						 .memory_size = size,
						 .userspace_addr = (uintptr_t)host };

	IOCTL(vm, KVM_SET_USER_MEMORY_REGION, &r);
}

int main(int argc, char **argv)
{
	uint64_t mib = argc > 2 ? strtoull(argv[2], NULL, 10) : 64, identity = 0xfffbc000;
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[256];
	} cpuid = { .head.nent = 256 };
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, vcpu, memfd,
	    rom = argc > 1 ? open(argv[1], O_RDONLY) : -1;
	struct kvm_run *run;
	char *ram, *flash;

	if (kvm < 0 || rom < 0)
		err(1, "%s", kvm < 0 ? "/dev/kvm" : "usage: bare ROM [MIB]");
	if (IOCTL(kvm, KVM_GET_API_VERSION, 0) != 12)
		errx(1, "KVM API");
	vm = IOCTL(kvm, KVM_CREATE_VM, 0);
	IOCTL(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	IOCTL(vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	IOCTL(vm, KVM_CREATE_IRQCHIP, 0);
	IOCTL(vm, KVM_CREATE_PIT2, &pit);
	memfd = memfd_create("ram", MFD_CLOEXEC);
	if (memfd < 0 || ftruncate(memfd, (off_t)(mib << 20)))
		err(1, "memfd");
	ram = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	flash = mmap(NULL, ROM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ram == MAP_FAILED || flash == MAP_FAILED || read(rom, flash, ROM_SIZE) != ROM_SIZE)
		err(1, "memory");
	slot(vm, 0, 0, mib << 20, ram);
	slot(vm, 1, 0x100000000ull - ROM_SIZE, ROM_SIZE, flash);
	vcpu = IOCTL(vm, KVM_CREATE_VCPU, 0);
	IOCTL(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid);
	IOCTL(vcpu, KVM_SET_CPUID2, &cpuid);
	run = mmap(NULL, (size_t)IOCTL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE,
		   MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		err(1, "kvm_run");
	IOCTL(vcpu, KVM_RUN, 0);
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != 0xf4)
		errx(1, "exit reason %u", run->exit_reason);
	return *((uint8_t *)run + run->io.data_offset) << 1 | 1;
}
