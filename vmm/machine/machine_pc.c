/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * machine_pc.c: the chips every "pc" has, at the places firmware and drivers expect: i440FX host
 * bridge, PIIX3 ISA bridge and IDE, PIIX4 power management, RTC, keyboard controller, serial ports.
 * Interrupts: DESIGN 4.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "bios/fw_cfg.h"
#include "devices/chips.h"
#include "devices/pc/pflash.h"
#include "vmm/base/event.h"
#include "vmm/base/log.h"
#include "vmm/kvm/kvm_pit.h"
#include "vmm/machine/hotplug.h"
#include "vmm/machine/machine.h"

#define IRQ_KEYBOARD 1
#define IRQ_RTC 8
#define IRQ_MOUSE 12
#define IRQ_IDE 14

#define DEVFN_PIIX3 PCI_DEVFN(1, 0)
#define DEVFN_IDE PCI_DEVFN(1, 1)
#define DEVFN_PM PCI_DEVFN(1, 3)

/* ELCR, the register that makes interrupts level triggered, lives in KVM's two PICs. */
static uint16_t elcr_get(void *ctx)
{
	struct kvm *k = ctx;
	uint16_t v = 0;

	for (unsigned n = 0; n < 2; n++) {
		struct kvm_irqchip c = { .chip_id = n ? KVM_IRQCHIP_PIC_SLAVE
						      : KVM_IRQCHIP_PIC_MASTER };

		if (ioctl(k->vm_fd, KVM_GET_IRQCHIP, &c) == 0)
			v |= c.chip.pic.elcr << (8 * n);
	}
	return v;
}

static void elcr_set(void *ctx, uint16_t v)
{
	struct kvm *k = ctx;

	for (unsigned n = 0; n < 2; n++) {
		struct kvm_irqchip c = { .chip_id = n ? KVM_IRQCHIP_PIC_SLAVE
						      : KVM_IRQCHIP_PIC_MASTER };

		if (ioctl(k->vm_fd, KVM_GET_IRQCHIP, &c) < 0)
			continue;
		c.chip.pic.elcr = v >> (8 * n) & c.chip.pic.elcr_mask;
		ioctl(k->vm_fd, KVM_SET_IRQCHIP, &c);
	}
}

static int add(struct machine *m, struct device *d, struct device **where)
{
	if (!d)
		return -EINVAL;
	machine_add_device(m, d, NULL);
	if (where)
		*where = d;
	return 0;
}

/* --- VMware's port: a call with registers, on the vCPU's own thread --- */

static int vmport_get(void *ctx, uint32_t regs[4])
{
	struct vcpu *v = vcpu_current();
	struct kvm_regs r;

	if (!v || ioctl(v->fd, KVM_GET_REGS, &r) < 0)
		return -EINVAL;
	regs[VMPORT_EAX] = (uint32_t)r.rax;
	regs[VMPORT_EBX] = (uint32_t)r.rbx;
	regs[VMPORT_ECX] = (uint32_t)r.rcx;
	regs[VMPORT_EDX] = (uint32_t)r.rdx;
	return 0;
}

static void vmport_set(void *ctx, const uint32_t regs[4])
{
	struct vcpu *v = vcpu_current();
	struct kvm_regs r;

	if (!v || ioctl(v->fd, KVM_GET_REGS, &r) < 0)
		return;
	/*
	 * Some KVMs finish the access with what the registers hold, not with what the access gave.
	 */
	r.rax = regs[VMPORT_EAX];
	r.rbx = regs[VMPORT_EBX];
	r.rcx = regs[VMPORT_ECX];
	r.rdx = regs[VMPORT_EDX];
	ioctl(v->fd, KVM_SET_REGS, &r);
}

static int add_vmmouse(struct machine *m, struct err *err)
{
	struct vmmouse_opts o = { .get_regs = vmport_get, .set_regs = vmport_set };

	return add(m, vmmouse_new(m->pio, m->i8042, m->loop, &o, err), &m->vmmouse);
}

static void raise_gpe(void *ctx, unsigned n)
{
	piix4_pm_gpe(ctx, n);
}

/* The registers the DSDT's hot-plug methods read. */
static int add_hotplug(struct machine *m, struct err *err)
{
	struct acpi_hotplug_opts o = { .base = BIOS_PCIHP_BASE, .gpe = raise_gpe, .gpe_ctx = m->pm,
				      .eject = hotplug_eject, .eject_ctx = m };

	return add(m, acpi_hotplug_new(m->pio, m->loop, &o, err), &m->hotplug);
}

static void rtc_alarm(void *ctx)
{
	piix4_pm_rtc_alarm(ctx);
}

static void rtc_set(void *ctx, int64_t ahead)
{
	event_limit_emit(ctx, json_pack("{s:I,s:s}", "offset", (json_int_t)ahead, "qom-path",
					"/machine/rtc"));
}

static int add_rtc(struct machine *m, struct err *err)
{
	struct mc146818_opts o = {
		.irq = irq_source(m->irqs, IRQ_RTC),
		.base = m->config->rtc_base == CONFIG_RTC_DATE ? RTC_DATE :
			m->config->rtc_base == CONFIG_RTC_LOCALTIME ? RTC_LOCALTIME : RTC_UTC,
		.date = m->config->rtc_date,
		.alarm = rtc_alarm, .alarm_ctx = m->pm, .set = rtc_set, .set_ctx = &m->rtc_event,
	};
	uint64_t low = MIN(m->config->ram, (uint64_t)BIOS_PCI_HOLE);

	if (add(m, mc146818_new(m->pio, m->clock, m->loop, &o, err), &m->rtc) < 0)
		return -EINVAL;
	mc146818_set_memory(m->rtc, low, m->config->ram - low);
	return 0;
}

static int add_ide(struct machine *m, struct err *err)
{
	struct piix3_ide_opts o = {
		.devfn = DEVFN_IDE,
		.irq = { irq_source(m->irqs, IRQ_IDE), irq_source(m->irqs, IRQ_IDE + 1) },
	};

	return add(m, piix3_ide_new(m->pci, &o, err), &m->ide);
}

static int add_pit(struct machine *m, struct err *err)
{
	if (!m->config->pit)
		return 0;
	m->kvm->pit = kvm_pit_new(m->kvm, m->vm, m->loop, m->config->pit_discard, err);
	return m->kvm->pit ? 0 : -EINVAL;
}

/*
 * -drive if=pflash: the first chip ends at 4 GiB (below the -bios image if there is one), the next
 * below it.
 */
static int add_flash(struct machine *m, struct err *err)
{
	uint64_t end = BIOS_TOP, size = 0;
	bool first = !m->config->bios;

	for (unsigned i = 0; i < m->ndrives; i++) {
		struct machine_drive *d = &m->drives[i];
		struct device *dev;
		char id[24];

		if (d->config->interface != IF_PFLASH)
			continue;
		if (!d->blk)
			return err_set(err, EINVAL, "-drive if=pflash needs a file=");
		if (m->config->bios && !size) {
			struct stat st;

			int ret = host_stat(&m->host, m->config->bios, &st);

			if (ret < 0)
				return err_set(err, -ret, "-bios %s: %s", m->config->bios,
					       strerror(-ret));
			size = ALIGN_UP((uint64_t)st.st_size, 4096ull);
			end -= MIN(size, 16 * MiB);
		}
		snprintf(id, sizeof(id), "pflash%u", i);
		dev = pflash_new(m->pci, id, d->blk, end, first, err);
		if (add(m, dev, NULL) < 0)
			return -EINVAL;
		end = pflash_base(dev);
		first = false;
	}
	return 0;
}

int machine_init_pc(struct machine *m, struct err *err)
{
	struct pci_wires wires = { m->pio, m->mmio, m->mem, m->irqs, m->vm, m->loop };
	struct piix3_opts piix3 = {
		.devfn = DEVFN_PIIX3, .elcr_get = elcr_get, .elcr_set = elcr_set, .elcr_ctx = m->kvm
	};
	struct piix4_pm_opts pm = {
		.devfn = DEVFN_PM, .sci = irq_source(m->irqs, BIOS_SCI_IRQ),
		.suspend = machine_suspend, .suspend_ctx = m,
	};
	struct i8042_opts kbd = { .kbd = irq_source(m->irqs, IRQ_KEYBOARD),
				  .aux = irq_source(m->irqs, IRQ_MOUSE) };

	machine_sleep_init(m);
	m->pci = pci_bus_new(&wires);
	m->fw_cfg = fw_cfg_new(m->pio, m->mem, m->loop, err);
	if (!m->fw_cfg)
		return -EINVAL;
	machine_add_device(m, fw_cfg_device(m->fw_cfg), NULL);
	if (add(m, i440fx_new(m->pci, m->ram, machine_starts_open(m), err), &m->i440fx) < 0 ||
	    add(m, piix3_new(m->pci, &piix3, err), &m->piix3) < 0 || add_ide(m, err) < 0 ||
	    add(m, piix4_pm_new(m->pci, &pm, err), &m->pm) < 0 || add_pit(m, err) < 0 ||
	    add(m, port92_new(m->pio, m->vm, m->loop, err), NULL) < 0 ||
	    add(m, i8042_new(m->pio, m->vm, m->clock, m->loop, &kbd, err), &m->i8042) < 0 ||
	    add_vmmouse(m, err) < 0 || add_hotplug(m, err) < 0 || add_rtc(m, err) < 0 ||
	    add_flash(m, err) < 0)
		return -EINVAL;
	return machine_init_serial(m, err);
}

static const struct { uint16_t base; unsigned irq; } com_ports[CONFIG_MAX_SERIAL] = {
	{ 0x3f8, 4 }, { 0x2f8, 3 }, { 0x3e8, 4 }, { 0x2e8, 3 },
};

int machine_init_serial(struct machine *m, struct err *err)
{
	struct config *c = m->config;

	for (unsigned i = 0; i < c->nserial; i++) {
		char id[24];

		if (!strcmp(c->serial[i], "none"))
			continue;
		snprintf(id, sizeof(id), "serial%u", i);
		m->serial[i] = chardev_open(id, config_chardev_spec(c, c->serial[i]), m->loop,
					    &m->host, err);
		if (!m->serial[i] && err->msg[0])
			return -EIO;
		if (chardev_is_stdio(m->serial[i]))
			m->stdio = m->serial[i];
		if (add(m,
			uart16550_new(id, m->pio, com_ports[i].base,
				      irq_source(m->irqs, com_ports[i].irq), m->serial[i], m->clock,
				      m->loop, err),
			NULL) < 0)
			return -EINVAL;
	}
	return 0;
}
