/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvm.c: /dev/kvm and one virtual machine: memory slots, in-kernel interrupt chips, routing,
 * eventfds, kvmclock. Specification: Linux Documentation/virt/kvm/api.rst. Called from the main
 * loop and in exclusive sections, but interrupts and eventfds from any thread (the ioctls are
 * thread-safe).
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/host.h"
#include "vmm/base/log.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/kvm_pit.h"
#include "vmm/wires/layout.h"

/* 16 PIC + 24 IOAPIC pins are routed before the message vectors. */
#define PIC_PINS 16
#define IOAPIC_PINS 24
#define FIXED_ROUTES (PIC_PINS + IOAPIC_PINS - 1)

static int no_device(int errnum, struct err *err)
{
	struct stat st;
	struct group *g;

	if (errnum == ENOENT || errnum == ENODEV || errnum == ENXIO)
		return err_set(err, errnum,
			       "/dev/kvm: %s: the kvm module is not loaded, or virtualization is "
			       "off in the "
			       "firmware setup (try: modprobe kvm-intel, or modprobe kvm-amd; "
			       "minivmm-doctor says more)",
			       strerror(errnum));
	if (errnum == EACCES || errnum == EPERM) {
		bool known = host_stat(&host_door, "/dev/kvm", &st) == 0;

		if (known && (!st.st_gid || (st.st_mode & 060) != 060))
			return err_set(err, errnum,
				       "/dev/kvm: permission denied: only root may open it (mode "
				       "%04o); let a group do it "
				       "and join that: sudo chgrp kvm /dev/kvm; sudo chmod 660 "
				       "/dev/kvm; sudo adduser $USER kvm, then "
				       "log in again (minivmm-doctor says when all is well)",
				       st.st_mode & 07777);
		g = known ? getgrgid(st.st_gid) : NULL;
		return err_set(err, errnum,
			       "/dev/kvm: permission denied: it belongs to group %s (try: sudo "
			       "adduser $USER %s, "
			       "then log in again; minivmm-doctor says when all is well)",
			       g ? g->gr_name : "kvm", g ? g->gr_name : "kvm");
	}
	if (errnum == EBUSY)
		return err_set(err, errnum,
			       "/dev/kvm: busy: another hypervisor (VirtualBox, VMware) holds the "
			       "processor's "
			       "virtualization; stop its guests first (minivmm-doctor says which)");
	return err_set(err, errnum, "/dev/kvm: %s (minivmm-doctor says more)", strerror(errnum));
}

int kvm_has(struct kvm *k, int cap)
{
	int n = ioctl(k->vm_fd >= 0 ? k->vm_fd : k->dev_fd, KVM_CHECK_EXTENSION, cap);

	return n < 0 ? 0 : n;
}

static bool has_module(const char *name)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/sys/module/%s", name);
	return host_stat(&host_door, path, &st) == 0;
}

bool kvm_is_pvm(struct kvm *k)
{
	int known = __atomic_load_n(&k->pvm, __ATOMIC_RELAXED);

	if (!known) {
		known = has_module("kvm_pvm") && !has_module("kvm_intel") &&
			!has_module("kvm_amd") ? 1 : -1;
		__atomic_store_n(&k->pvm, known, __ATOMIC_RELAXED);
	}
	return known > 0;
}

static int check_capabilities(struct kvm *k, struct err *err)
{
	static const struct { int cap; const char *name; } needed[] = {
		{ KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP" },
		{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
		{ KVM_CAP_IRQFD, "KVM_CAP_IRQFD" },
		{ KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD" },
		{ KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING" },
		{ KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI" },
		{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
		{ KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID" },
	};
	int version = ioctl(k->dev_fd, KVM_GET_API_VERSION, 0);

	if (version != KVM_API_VERSION)
		return err_set(
			err, ENOTSUP,
			"/dev/kvm: API version %d, this program speaks %d: the kernel is too old",
			version, KVM_API_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (!kvm_has(k, needed[i].cap))
			return err_set(err, ENOTSUP,
				       "/dev/kvm lacks %s, which minivmm needs: a newer host "
				       "kernel has it "
				       "(4.13 or later)",
				       needed[i].name);
	k->max_vcpus = kvm_has(k, KVM_CAP_MAX_VCPUS);
	k->readonly_mem = kvm_has(k, KVM_CAP_READONLY_MEM);
	k->xsave2 = kvm_has(k, KVM_CAP_XSAVE2);
	return 0;
}

struct kvm *kvm_open(struct err *err)
{
	struct kvm *k = xcalloc(1, sizeof(*k));
	struct err ignored = { "" };
	int size;

	k->vm_fd = k->some_slot = -1;
	k->dev_fd = host_open(&host_door, "virtual machine", "/dev/kvm", O_RDWR, 0, &ignored);
	if (k->dev_fd < 0) {
		no_device(-k->dev_fd, err);
		goto fail;
	}
	if (check_capabilities(k, err) < 0)
		goto fail;
	size = ioctl(k->dev_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < 0) {
		err_set(err, errno, "KVM_GET_VCPU_MMAP_SIZE: %s", strerror(errno));
		goto fail;
	}
	k->mmap_size = size;
	return k;
fail:
	kvm_close(k);
	return NULL;
}

int kvm_create_vm(struct kvm *k, struct err *err)
{
	uint64_t identity = KVM_IDENTITY_GPA;

	do
		k->vm_fd = ioctl(k->dev_fd, KVM_CREATE_VM, 0);
	while (k->vm_fd < 0 && errno == EINTR);
	if (k->vm_fd < 0)
		return errno == EBUSY ? no_device(EBUSY, err)
				      : err_set(err, errno, "KVM_CREATE_VM: %s", strerror(errno));
	if (kvm_has(k, KVM_CAP_SET_IDENTITY_MAP_ADDR) &&
	    ioctl(k->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0)
		return err_set(err, errno, "KVM_SET_IDENTITY_MAP_ADDR: %s", strerror(errno));
	if (kvm_has(k, KVM_CAP_SET_TSS_ADDR) && ioctl(k->vm_fd, KVM_SET_TSS_ADDR, KVM_TSS_GPA) < 0)
		return err_set(err, errno, "KVM_SET_TSS_ADDR: %s", strerror(errno));
	return 0;
}

/* A request that changes nothing once the VM has ended. 0 or -errno. */
static int vm_ioctl(struct kvm *k, unsigned long request, void *arg)
{
	if (ioctl(k->vm_fd, request, arg) >= 0 || __atomic_load_n(&k->ended, __ATOMIC_ACQUIRE))
		return 0;
	return -errno;
}

void kvm_close(struct kvm *k)
{
	if (!k)
		return;
	if (k->vm_fd >= 0)
		close(k->vm_fd);
	if (k->dev_fd >= 0)
		close(k->dev_fd);
	free(k);
}

struct kvm_cpuid2 *kvm_supported_cpuid(struct kvm *k)
{
	for (unsigned n = 128; n <= 4096; n *= 2) {
		struct kvm_cpuid2 *c = xcalloc(1, sizeof(*c) + n * sizeof(c->entries[0]));

		c->nent = n;
		if (ioctl(k->dev_fd, KVM_GET_SUPPORTED_CPUID, c) == 0)
			return c;
		free(c);
		if (errno != E2BIG)
			break;
	}
	return NULL;
}

/* --- memory slots --- */

static int slot_set(void *ctx, unsigned slot, uint64_t gpa, uint64_t size, void *host, bool rom,
		    bool log_dirty)
{
	struct kvm *k = ctx;
	struct kvm_userspace_memory_region r = {
		.slot = slot,
		.flags = (rom && k->readonly_mem ? KVM_MEM_READONLY : 0) |
			 (log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0),
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)host,
	};

	if (size)
		k->some_slot = slot;
	else if (k->some_slot == (int)slot)
		k->some_slot = -1;
	return vm_ioctl(k, KVM_SET_USER_MEMORY_REGION, &r);
}

void kvm_end_vm(struct kvm *k)
{
	if (k->vm_fd < 0)
		return;
	/*
	 * In one step the number becomes /dev/kvm's, which knows none of a VM's requests: no thread
	 * meets a stranger's file.
	 */
	__atomic_store_n(&k->ended, true, __ATOMIC_RELEASE);
	/*
	 * What KVM's buses and chips gave up goes with a grace period, for which the end of a VM
	 * waits: 14 ms when the kernel lets it come, 4 when somebody changes a memory slot, for
	 * that hurries it.
	 */
	if (k->some_slot >= 0)
		slot_set(k, k->some_slot, 0, 0, NULL, false, false);
	dup3(k->dev_fd, k->vm_fd, O_CLOEXEC);
}

static int slot_dirty_log(void *ctx, unsigned slot, uint64_t size, unsigned long *bitmap)
{
	struct kvm *k = ctx;
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bitmap };

	return vm_ioctl(k, KVM_GET_DIRTY_LOG, &log);
}

const struct mem_backend kvm_mem_backend = { .slot = slot_set, .dirty_log = slot_dirty_log };

/* --- interrupts --- */

static void irq_line(void *ctx, unsigned gsi, int level)
{
	struct kvm *k = ctx;
	struct kvm_irq_level l = { .irq = gsi, .level = level };

	int ret = vm_ioctl(k, KVM_IRQ_LINE, &l);

	if (ret < 0)
		log_error("KVM_IRQ_LINE %u: %s", gsi, strerror(-ret));
}

static void irq_msi(void *ctx, uint64_t addr, uint32_t data)
{
	struct kvm *k = ctx;
	struct kvm_msi m = { .address_lo = addr, .address_hi = addr >> 32, .data = data };
	int ret = vm_ioctl(k, KVM_SIGNAL_MSI, &m);

	/*
	 * A message to an APIC that does not exist is the guest's mistake; the bus would drop it as
	 * well.
	 */
	if (ret < 0)
		log_guest("interrupt message 0x%08lx = 0x%x was not delivered: %s", addr, data,
			  strerror(-ret));
}

static void route_pins(struct kvm_irq_routing_entry *e)
{
	for (unsigned pin = 0; pin < PIC_PINS; pin++, e++) {
		e->gsi = pin;
		e->type = KVM_IRQ_ROUTING_IRQCHIP;
		e->u.irqchip.irqchip = pin < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
		e->u.irqchip.pin = pin % 8;
	}
	/*
	 * ISA interrupt 0 (the timer) is wired to IOAPIC pin 2, as the MADT's override says, and
	 * nothing else is: KVM would take the end of the timer's interrupt for the other's, and its
	 * 8254, which waits for that, would tick once.
	 */
	for (unsigned gsi = 0; gsi < IOAPIC_PINS; gsi++) {
		if (gsi == 2)
			continue;
		e->gsi = gsi;
		e->type = KVM_IRQ_ROUTING_IRQCHIP;
		e->u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		e->u.irqchip.pin = gsi == 0 ? 2 : gsi;
		e++;
	}
}

static int irq_routes(void *ctx, const struct irq_route *msi, size_t n)
{
	struct kvm *k = ctx;
	struct kvm_irq_routing *r =
		xcalloc(1, sizeof(*r) + (FIXED_ROUTES + n) * sizeof(r->entries[0]));
	int ret;

	route_pins(r->entries);
	r->nr = FIXED_ROUTES + n;
	for (size_t i = 0; i < n; i++) {
		struct kvm_irq_routing_entry *e = &r->entries[FIXED_ROUTES + i];

		e->gsi = msi[i].gsi;
		e->type = KVM_IRQ_ROUTING_MSI;
		e->u.msi.address_lo = msi[i].addr;
		e->u.msi.address_hi = msi[i].addr >> 32;
		e->u.msi.data = msi[i].data;
	}
	ret = vm_ioctl(k, KVM_SET_GSI_ROUTING, r);
	free(r);
	return ret;
}

int kvm_create_irqchip(struct kvm *k, struct err *err)
{
	int ret;

	if (ioctl(k->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return err_set(err, errno, "KVM_CREATE_IRQCHIP: %s", strerror(errno));
	k->irqchip = true;
	/*
	 * KVM's own routes have the timer at pin 0 of the IOAPIC; it must be at pin 2 before the
	 * first MSI makes us set them.
	 */
	ret = irq_routes(k, NULL, 0);
	return ret < 0 ? err_set(err, -ret, "KVM_SET_GSI_ROUTING: %s", strerror(-ret)) : 0;
}

static int irq_fd(void *ctx, int fd, unsigned gsi, bool add)
{
	struct kvm *k = ctx;
	struct kvm_irqfd f = { .fd = fd, .gsi = gsi, .flags = add ? 0 : KVM_IRQFD_FLAG_DEASSIGN };

	return vm_ioctl(k, KVM_IRQFD, &f);
}

const struct irq_backend kvm_irq_backend = {
	.line = irq_line, .msi = irq_msi, .routes = irq_routes, .irqfd = irq_fd,
};

/* --- doorbells --- */

static int bus_event(void *ctx, struct bus *b, uint64_t addr, unsigned size, bool any_value,
		     uint64_t match, int fd, bool add)
{
	struct kvm *k = ctx;
	struct kvm_ioeventfd e = {
		.datamatch = match,
		.addr = addr,
		.len = size,
		.fd = fd,
		.flags = (b == k->pio ? KVM_IOEVENTFD_FLAG_PIO : 0) |
			 (any_value ? 0 : KVM_IOEVENTFD_FLAG_DATAMATCH) |
			 (add ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	return vm_ioctl(k, KVM_IOEVENTFD, &e);
}

const struct bus_backend kvm_bus_backend = { .eventfd = bus_event };

/* --- in-kernel chips as saved state --- */

static const struct { uint32_t id; const char *name; } chips[] = {
	{ KVM_IRQCHIP_PIC_MASTER, "pic-master" },
	{ KVM_IRQCHIP_PIC_SLAVE, "pic-slave" },
	{ KVM_IRQCHIP_IOAPIC, "ioapic" },
};

static const struct state_field pic_fields[] = {
	STATE_FIELD(struct kvm_pic_state, STATE_U8, last_irr),
	STATE_FIELD(struct kvm_pic_state, STATE_U8, irr),
	STATE_FIELD(struct kvm_pic_state, STATE_U8, imr),
	STATE_FIELD(struct kvm_pic_state, STATE_U8, isr),
	STATE_FIELD(struct kvm_pic_state, STATE_U8, priority_add),
	STATE_FIELD(struct kvm_pic_state, STATE_U8, irq_base),
	STATE_FIELD(struct kvm_pic_state, STATE_U8, read_reg_select),
	STATE_FIELD(struct kvm_pic_state, STATE_U8, poll),
	STATE_FIELD(struct kvm_pic_state, STATE_U8, special_mask),
	STATE_FIELD(struct kvm_pic_state, STATE_U8, init_state),
	STATE_FIELD(struct kvm_pic_state, STATE_U8, auto_eoi),
	STATE_FIELD(struct kvm_pic_state, STATE_U8, rotate_on_auto_eoi),
	STATE_FIELD(struct kvm_pic_state, STATE_U8, special_fully_nested_mode),
	STATE_FIELD(struct kvm_pic_state, STATE_U8, init4),
	STATE_FIELD(struct kvm_pic_state, STATE_U8, elcr),
	STATE_FIELD(struct kvm_pic_state, STATE_U8, elcr_mask),
};

static const struct state_field ioapic_fields[] = {
	STATE_FIELD(struct kvm_ioapic_state, STATE_U64, base_address),
	STATE_FIELD(struct kvm_ioapic_state, STATE_U32, ioregsel),
	STATE_FIELD(struct kvm_ioapic_state, STATE_U32, id),
	STATE_FIELD(struct kvm_ioapic_state, STATE_U32, irr),
};

/* Names of the IOAPIC's redirection entries as properties. */
static char *numbered(char buf[24], const char *name, unsigned n)
{
	snprintf(buf, 24, "%s%u", name, n);
	return buf;
}

bool kvm_ioapic_pin_masked(struct kvm *k, unsigned pin)
{
	struct kvm_irqchip c = { .chip_id = KVM_IRQCHIP_IOAPIC };

	return pin >= KVM_IOAPIC_NUM_PINS || ioctl(k->vm_fd, KVM_GET_IRQCHIP, &c) < 0 ||
	       c.chip.ioapic.redirtbl[pin].fields.mask;
}

int kvm_chips_save(struct kvm *k, struct state_out *o)
{
	char name[24];

	for (size_t i = 0; i < ARRAY_SIZE(chips); i++) {
		struct kvm_irqchip c = { .chip_id = chips[i].id };

		if (ioctl(k->vm_fd, KVM_GET_IRQCHIP, &c) < 0)
			return -errno;
		state_begin(o, chips[i].name);
		if (c.chip_id == KVM_IRQCHIP_IOAPIC) {
			state_save_fields(o, &c.chip.ioapic, ioapic_fields,
					  ARRAY_SIZE(ioapic_fields));
			for (unsigned n = 0; n < KVM_IOAPIC_NUM_PINS; n++)
				state_u64(o, numbered(name, "redirection", n),
					  c.chip.ioapic.redirtbl[n].bits);
		} else {
			state_save_fields(o, &c.chip.pic, pic_fields, ARRAY_SIZE(pic_fields));
		}
		state_end(o);
	}
	return k->pit ? kvm_pit_save(k->pit, o) : 0;
}

int kvm_chips_load(struct kvm *k, struct state_in *in)
{
	char name[24];

	for (size_t i = 0; i < ARRAY_SIZE(chips); i++) {
		struct kvm_irqchip c = { .chip_id = chips[i].id };

		if (state_enter(in, chips[i].name) < 0)
			return -EINVAL;
		if (c.chip_id == KVM_IRQCHIP_IOAPIC) {
			state_load_fields(in, &c.chip.ioapic, ioapic_fields,
					  ARRAY_SIZE(ioapic_fields));
			for (unsigned n = 0; n < KVM_IOAPIC_NUM_PINS; n++) {
				uint64_t bits;

				state_get_u64(in, numbered(name, "redirection", n), &bits);
				c.chip.ioapic.redirtbl[n].bits = bits;
			}
		} else {
			state_load_fields(in, &c.chip.pic, pic_fields, ARRAY_SIZE(pic_fields));
		}
		state_leave(in);
		if (state_in_error(in))
			return -EINVAL;
		if (ioctl(k->vm_fd, KVM_SET_IRQCHIP, &c) < 0)
			return state_bad(in, "KVM_SET_IRQCHIP %s: %s", chips[i].name,
					 strerror(errno));
	}
	return k->pit ? kvm_pit_load(k->pit, in) : 0;
}

int kvm_chips_reset(struct kvm *k)
{
	for (size_t i = 0; i < ARRAY_SIZE(chips); i++) {
		struct kvm_irqchip c = { .chip_id = chips[i].id };

		if (c.chip_id == KVM_IRQCHIP_IOAPIC) {
			c.chip.ioapic.base_address = 0xfec00000;
			for (unsigned n = 0; n < KVM_IOAPIC_NUM_PINS; n++)
				c.chip.ioapic.redirtbl[n].fields.mask = 1;
		} else {
			/* IRQ 0, 1, 2 and 8, 13 are always edge triggered on a PC. */
			c.chip.pic.elcr_mask = c.chip_id == KVM_IRQCHIP_PIC_MASTER ? 0xf8 : 0xde;
		}
		if (ioctl(k->vm_fd, KVM_SET_IRQCHIP, &c) < 0)
			return -errno;
	}
	return k->pit ? kvm_pit_reset(k->pit) : 0;
}

int kvm_clock_get(struct kvm *k, struct kvm_moment *now)
{
	struct kvm_clock_data c = { 0 };

	if (ioctl(k->vm_fd, KVM_GET_CLOCK, &c) < 0)
		return -errno;
	*now = (struct kvm_moment){ c.clock, c.flags & KVM_CLOCK_HOST_TSC ? c.host_tsc : 0 };
	return 0;
}

int kvm_clock_set(struct kvm *k, uint64_t ns)
{
	struct kvm_clock_data c = { .clock = ns };

	return ioctl(k->vm_fd, KVM_SET_CLOCK, &c) < 0 ? -errno : 0;
}
