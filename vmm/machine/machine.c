/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * machine.c: one virtual machine from its configuration: memory, processors, buses, then the chips
 * of its type, then the devices asked for. Everything here runs on the main thread, before or
 * between runs of the guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bios/fw_cfg.h"
#include "devices/chips.h"
#include "devices/pci/pci.h"
#include "devices/virtio/virtio.h"
#include "vmm/backends/display.h"
#include "vmm/base/event.h"
#include "vmm/base/log.h"
#include "vmm/kvm/coalesce.h"
#include "vmm/kvm/kvm_pit.h"
#include "vmm/kvm/msr_trace.h"
#include "vmm/machine/drives.h"
#include "vmm/machine/ending.h"
#include "vmm/machine/hotplug.h"
#include "vmm/machine/jobs.h"
#include "vmm/machine/machine.h"

/* --- parts --- */

static int init_kvm(struct machine *m, struct err *err)
{
	struct config *c = m->config;
	int ret;

	m->kvm = kvm_open(err);
	if (!m->kvm)
		return -EIO;
	if (c->max_cpus > m->kvm->max_vcpus)
		return err_set(err, EINVAL,
			       "-smp %u: this host's KVM runs at most %u processors in a guest",
			       c->max_cpus, m->kvm->max_vcpus);
	ret = kvm_create_vm(m->kvm, err);
	if (ret < 0)
		return ret;
	m->clock = vm_clock_new();
	m->vm = vm_new(m->loop, m->clock);
	m->mem = mem_new(&kvm_mem_backend, m->kvm);
	m->pio = bus_new("pio", 0xffff);
	m->mmio = bus_new("mmio", UINT64_MAX);
	m->kvm->pio = m->pio;
	bus_set_backend(m->pio, &kvm_bus_backend, m->kvm);
	bus_set_backend(m->mmio, &kvm_bus_backend, m->kvm);
	m->irqs = irq_hub_new(&kvm_irq_backend, m->kvm);
	msr_trace_start(m->kvm);
	m->cpuid = cpuid_build(m->kvm, c->cpu, err);
	if (!m->cpuid)
		return -EINVAL;
	m->wires = (struct vcpu_wires){ m->kvm, m->vm, m->mem, m->pio, m->mmio, NULL };
	return 0;
}

static int init_vcpus(struct machine *m, struct err *err)
{
	struct config *c = m->config;

	int ret = kvm_create_irqchip(m->kvm, err);

	if (ret < 0)
		return ret;
	m->vcpus = xcalloc(c->cpus, sizeof(m->vcpus[0]));
	for (unsigned i = 0; i < c->cpus; i++) {
		uint32_t apic_id = cpu_apic_id(&c->topology, i);
		struct kvm_cpuid2 *leaves = cpuid_for_vcpu(m->cpuid, &c->topology, apic_id);

		m->vcpus[i] = vcpu_new(&m->wires, i, apic_id, leaves, err);
		free(leaves);
		if (!m->vcpus[i])
			return -EIO;
		m->nvcpus++;
	}
	m->wires.coalesce = coalesce_new(m->kvm, m->pio, m->loop, m->vcpus[0]->run);
	return 0;
}

bool machine_moves_here(const struct config *c)
{
	return c->incoming && strncmp(c->incoming, "file:", 5);
}

static int open_nets(struct machine *m, struct err *err)
{
	struct config *c = m->config;

	for (unsigned i = 0; i < c->nnets; i++) {
		m->nets[i] = net_open(c->nets[i].id, c->nets[i].spec, m->loop, &m->host, err);
		if (!m->nets[i])
			return -EIO;
		m->nnets++;
	}
	return 0;
}

static unsigned serial_mask(const struct config *c)
{
	unsigned mask = 0;

	for (unsigned i = 0; i < c->nserial; i++)
		mask |= strcmp(c->serial[i], "none") ? 1u << i : 0;
	return mask;
}

/* What ACPI says of the kinds of devices there are, in the table's order: the same each time. */
static void bios_parts(const struct config *c, struct bios_config *b)
{
	for (unsigned k = 0; c->kinds[k]; k++) {
		bool any = false;

		for (unsigned i = 0; i < c->ndevices; i++)
			any |= c->devices[i]->kind == c->kinds[k];
		if (any && c->kinds[k]->acpi && b->nparts < ARRAY_SIZE(b->parts))
			b->parts[b->nparts++] = c->kinds[k]->acpi;
	}
}

static void set_cmos(void *ctx, unsigned index, uint8_t value)
{
	mc146818_set_cmos(ctx, index, value);
}

static bool has_flash(const struct config *c)
{
	for (unsigned i = 0; i < c->ndrives; i++)
		if (c->drives[i].interface == IF_PFLASH)
			return true;
	return false;
}

static void cmos_disks(struct machine *m)
{
	const struct ide_geometry *disks[4] = { NULL };
	struct ide_geometry g[4];

	for (unsigned i = 0; m->ide && i < ARRAY_SIZE(disks); i++)
		disks[i] = piix3_ide_geometry(m->ide, i, &g[i]) ? &g[i] : NULL;
	bios_cmos_disks(disks, set_cmos, m->rtc);
}

/*
 * SeaBIOS shows its screen on COM1, too, where that is the machine's screen: with -nographic,
 * without a graphics card, or on the terminal of someone who asked for no display at all. Elsewhere
 * the port is the guest's alone: it may speak a protocol there.
 */
static bool firmware_on_serial(const struct machine *m)
{
	const struct config *c = m->config;
	bool terminal = !c->display && !c->vnc && serial_mask(c) & 1 &&
			strstr(c->serial[0], "stdio");

	return (serial_mask(c) & 1) && (c->nographic || !m->vga || terminal);
}

static int init_bios(struct machine *m, struct err *err)
{
	struct config *c = m->config;
	uint32_t *apic_ids = xcalloc(c->max_cpus, sizeof(*apic_ids));
	uint8_t seed[32];
	struct bios_config b = {
		.machine = c->machine == MACHINE_PC ? BIOS_PC : BIOS_MICRO,
		.version = c->version,
		.mem = m->mem,
		.ram = m->ram,
		.ram_low = machine_ram_low(m),
		.ram_high = c->ram - machine_ram_low(m),
		.ncpus = c->cpus,
		.max_cpus = c->max_cpus,
		.apic_ids = apic_ids,
		.sockets = c->topology.sockets,
		.cores = c->topology.cores,
		.threads = c->topology.threads,
		.phys_bits = cpuid_phys_bits(m->cpuid),
		.name = c->name,
		.serial_mask = serial_mask(c),
		.no_kbd = !m->i8042,
		.no_rtc = !m->rtc,
		.no_acpi = !c->acpi,
		.pci = m->pci,
		.graphics = m->vga != NULL,
		.serial_console = firmware_on_serial(m),
		.text_screen = machine_has_viewer(c) && m->vga,
		.mmio = m->mmio_windows,
		.nmmio = m->nmmio,
		.cmdline = c->append,
		.boot_order = c->boot_once ? c->boot_once : c->boot_order,
		.boot_menu = c->boot_menu,
		.boot_strict = c->boot_strict,
		.boot_splash_ms = c->boot_splash_ms,
		.boot_reboot_ms = -1,
	};
	bool flash = !c->bios && has_flash(c);
	char *boot_devices = NULL;
	const char *firmware = c->bios		    ? c->bios
			       : c->kernel || flash ? NULL
						    : "/usr/share/seabios/bios-256k.bin";
	int ret;

	b.pflash = flash;
	bios_parts(c, &b);
	for (unsigned i = 0; i < c->max_cpus; i++)
		apic_ids[i] = cpu_apic_id(&c->topology, i);
	memcpy(b.uuid, c->uuid, sizeof(b.uuid));
	if (getentropy(seed, sizeof(seed)) == 0)
		b.rng_seed = seed;
	if ((ret = machine_boot_file(m, c->kernel, &b.kernel, "-kernel", err)) < 0 ||
	    (ret = machine_boot_modules(m, &b, err)) < 0 ||
	    (ret = machine_boot_file(m, firmware, &b.firmware,
				     c->bios ? "-bios" : "the firmware (apt-get install seabios)",
				     err)) < 0)
		goto out;
	for (unsigned i = 0; i < c->nroms; i++, b.nroms++)
		if ((ret = machine_boot_file(m, c->roms[i], &b.roms[i], "-option-rom", err)) < 0)
			goto out;
	ret = machine_boot_roms(m, err);
	if (ret < 0)
		goto out;
	b.boot_devices = boot_devices = machine_boot_devices(m);
	m->bios = bios_new(&b, m->fw_cfg, err);
	ret = m->bios ? 0 : -EINVAL;
	if (ret == 0 && m->rtc) {
		bios_cmos(&b, set_cmos, m->rtc);
		cmos_disks(m);
	}
out:
	machine_boot_modules_free(&b);
	free(boot_devices);
	free(apic_ids);
	return ret;
}

/* --- running --- */

/*
 * The guest's clocks stand while it does: kvmclock and the time stamp counters are read at the
 * pause and go on from there at the resume. kvmclock is a little ahead then, for KVM reads its own
 * clocks anew when the CPUs enter: rather ahead than back.
 */
static void on_running_change(void *ctx, bool running)
{
	enum { AHEAD_NS = 2000 };
	struct machine *m = ctx;
	struct kvm_moment now;

	event_emit(running ? "RESUME" : "STOP", NULL);
	if (!running) {
		if (kvm_clock_get(m->kvm, &m->paused) < 0)
			m->paused = (struct kvm_moment){ 0 };
		return;
	}
	if (!m->paused.clock_ns)
		return;		/* the first start: kvmclock begins by itself */
	m->paused.clock_ns += AHEAD_NS;
	kvm_clock_set(m->kvm, m->paused.clock_ns);
	if (kvm_clock_get(m->kvm, &now) < 0)
		now.host_tsc = 0;
	for (unsigned i = 0; i < m->nvcpus; i++) {
		vcpu_tsc_resume(m->vcpus[i], &m->paused, &now);
		vcpu_clock_stopped(m->vcpus[i]);
	}
}

static void machine_end(struct machine *m, int status)
{
	m->status = status;
	m->ended = true;
	/* after a triple fault a CPU would go on at the reset vector */
	vm_pause_async(m->vm, PAUSE_EXIT);
	loop_stop(m->loop);
}

/*
 * The host bridge keeps its power in S3, as it refreshes the RAM: firmware wakes in the shadow it
 * had made of itself. And when no firmware comes first, the shadow that is open from the start is
 * not closed for the loader to open it again.
 */
static bool keeps_state(const struct machine *m, const struct device *d)
{
	return d == m->i440fx && (m->waking || (m->config->kernel && !m->vcpus[0]->used));
}

int machine_reset(struct machine *m, struct err *err)
{
	struct boot_cpu boot;
	int ret;

	for (unsigned i = m->ndevices; i-- > 0;)
		if (m->devices[i].dev->ops->reset && !keeps_state(m, m->devices[i].dev))
			m->devices[i].dev->ops->reset(m->devices[i].dev);
	if (m->nvcpus && m->vcpus[0]->used) {
		ret = kvm_chips_reset(m->kvm);
		if (ret < 0)
			return err_set(err, -ret, "reset of the interrupt chips: %s",
				       strerror(-ret));
		irq_resync(m->irqs);
	}
	coalesce_start(m->wires.coalesce);
	ret = m->waking ? bios_resume(m->bios, m->pci, m->pio, &boot, err)
			: bios_reset(m->bios, m->pci, m->pio, &boot, err);
	if (m->vga && m->config->kernel && machine_has_viewer(m->config) && !vga_text_mode(m->vga))
		log_debug("the video BIOS holds no font: the screen stays dark until the guest's "
			  "driver runs");
	for (unsigned i = 0; ret == 0 && i < m->nvcpus; i++) {
		ret = vcpu_reset(m->vcpus[i], &boot);
		if (ret < 0)
			err_set(err, -ret, "reset of vCPU %u: %s", i, strerror(-ret));
	}
	return ret;
}

static void reset_now(struct machine *m)
{
	struct err err = { "" };

	if (m->rtc && m->config->boot_once)
		bios_cmos_order(m->config->boot_order, set_cmos, m->rtc);
	if (machine_reset(m, &err) < 0) {
		log_error("the machine cannot be reset: %s", err.msg);
		machine_end(m, STATUS_ERROR);
	}
}

static void tell_request(enum vm_end what, int code, bool no_reboot)
{
	if (!event_wanted())
		return;
	if (what == VM_END_RESET || what == VM_END_TRIPLE_FAULT)
		event_emit("RESET", json_pack("{s:b,s:s}", "guest", code == 0, "reason",
					      code ? "host-qmp-system-reset" : "guest-reset"));
	else if (what == VM_END_PANIC)
		event_emit("GUEST_PANICKED",
			   json_pack("{s:s}", "action", no_reboot ? "poweroff" : "run"));
	else
		event_emit("SHUTDOWN",
			   json_pack("{s:b,s:s}", "guest", what == VM_END_POWEROFF, "reason",
				     what == VM_END_POWEROFF ? "guest-shutdown"
				     : what == VM_END_QUIT   ? "host-qmp-quit"
							     : "host-signal"));
}

/* Main loop, everything parked: what a device, a vCPU or a signal asked for. */
static void on_request(void *ctx, enum vm_end what, int code)
{
	struct machine *m = ctx;
	bool no_reboot = m->config->no_reboot;

	tell_request(what, code, no_reboot);
	switch (what) {
	case VM_END_POWEROFF:
		if (m->config->no_shutdown)
			vm_pause_async(m->vm, PAUSE_USER);
		else
			machine_end(m, STATUS_OK);
		break;
	case VM_END_RESET:
		if (no_reboot)
			machine_end(m, STATUS_OK);
		else
			reset_now(m);
		break;
	case VM_END_TRIPLE_FAULT:
		if (no_reboot) {
			log_error("the guest made a triple fault");
			ending_describe(m);
			machine_end(m, STATUS_TRIPLE_FAULT);
		} else {
			log_info("the guest made a triple fault: it is reset (-no-reboot ends "
				 "instead, and shows the registers)");
			reset_now(m);
		}
		break;
	case VM_END_PANIC:
		log_error("the guest says that it panicked");
		if (no_reboot) {
			ending_describe(m);
			machine_end(m, STATUS_PANIC);
		}
		break;
	case VM_END_TIMEOUT:
		log_error("the time limit of %u s is reached", m->config->timeout);
		ending_describe(m);
		machine_end(m, STATUS_TIMEOUT);
		break;
	case VM_END_HANG:
		log_error("the guest has asked no device for anything for %u s",
			  m->config->idle_timeout);
		ending_describe(m);
		machine_end(m, STATUS_HANG);
		break;
	case VM_END_EXIT_CODE:
		machine_end(m, code);
		break;
	case VM_END_KVM_ERROR:
		machine_end(m, STATUS_KVM_ERROR);
		break;
	case VM_END_SIGNAL:
	case VM_END_QUIT:
		machine_end(m, STATUS_OK);
		break;
	case VM_END_NONE:
		break;
	}
}

/* --- from a configuration to a machine --- */

struct machine_device *machine_add_device(struct machine *m, struct device *dev,
					  struct device_config *config)
{
	struct machine_device *d = &m->devices[m->ndevices++];

	*d = (struct machine_device){ .dev = dev, .config = config };
	return d;
}

struct machine_device *machine_find_device(struct machine *m, const char *id)
{
	for (unsigned i = 0; i < m->ndevices; i++)
		if (m->devices[i].config && !strcmp(m->devices[i].config->id, id))
			return &m->devices[i];
	return NULL;
}

struct net *machine_find_net(struct machine *m, const char *id)
{
	for (unsigned i = 0; i < m->nnets; i++)
		if (m->nets[i] && !strcmp(m->nets[i]->id, id))
			return m->nets[i];
	return NULL;
}

int machine_init(struct machine *m, struct config *c, struct err *err)
{
	int ret;

	memset(m, 0, sizeof(*m));
	m->config = c;
	m->host = host_door;
	m->loop = loop_new("main");
	event_limit_init(&m->rtc_event, "RTC_CHANGE", m->loop);
	event_limit_init(&m->balloon_event, "BALLOON_CHANGE", m->loop);
	pthread_mutex_init(&m->control_lock, NULL);
	pthread_mutex_init(&m->disks_lock, NULL);
	pthread_rwlock_init(&m->shape, NULL);
	if ((ret = init_kvm(m, err)) < 0 || (ret = machine_init_ram(m, err)) < 0 ||
	    (ret = machine_open_drives(m, err)) < 0 || (ret = open_nets(m, err)) < 0)
		return ret;
	/* The chips every machine of the type has, at their fixed places ... */
	ret = c->machine == MACHINE_PC ? machine_init_pc(m, err) : machine_init_micro(m, err);
	if (ret < 0)
		return ret;
	/* ... then what was asked for, in order: PCI slots and interrupts follow from it. */
	for (unsigned i = 0; i < c->ndevices; i++)
		if ((ret = device_build(m, c->devices[i], err)) < 0)
			return ret;
	hotplug_init(m);
	/*
	 * RAM and ROM come before KVM's interrupt controllers: a memory slot waits until KVM is rid
	 * of the last map of its own bus, and the controllers change that; where KVM frees it at
	 * leisure (Linux 6.18), each start took 4 to 10 ms more.
	 */
	if ((ret = init_bios(m, err)) < 0 || (ret = init_vcpus(m, err)) < 0)
		return ret;
	return 0;
}

void machine_watch(struct machine *m)
{
	vm_on_change(m->vm, on_running_change, m);
	vm_on_request(m->vm, on_request, m);
}

static void stop_vcpus(struct machine *m)
{
	if (m->vm)
		vm_finish(m->vm);
	for (unsigned i = 0; i < m->nvcpus; i++)
		vcpu_join(m->vcpus[i]);
}

void machine_exit(struct machine *m)
{
	stop_vcpus(m);
	hotplug_exit(m);
	jobs_finish(m);
	coalesce_free(m->wires.coalesce);
	for (unsigned i = 0; i < m->nvcpus; i++)
		vcpu_free(m->vcpus[i]);
	free(m->vcpus);
	if (m->kvm)
		kvm_end_vm(m->kvm);
	bios_free(m->bios);
	for (unsigned i = m->ndevices; i-- > 0;) {
		struct machine_device *d = &m->devices[i];

		machine_threads_join(&d->threads);
		device_destroy(d->dev);
		machine_threads_free(m, &d->threads);
	}
	event_limit_free(&m->rtc_event);
	event_limit_free(&m->balloon_event);
	jobs_exit();
	machine_close_drives(m);
	for (unsigned i = 0; i < m->nnets; i++)
		if (m->nets[i])
			net_close(m->nets[i]);
	for (unsigned i = 0; i < CONFIG_MAX_SERIAL; i++)
		chardev_free(m->serial[i]);
	for (unsigned i = 0; i < m->nconsoles; i++)
		chardev_free(m->consoles[i]);
	if (m->pci)
		pci_bus_free(m->pci);
	free(m->cpuid);
	irq_hub_free(m->irqs);
	if (m->kvm)
		kvm_pit_free(m->kvm->pit);
	bus_free(m->pio);
	bus_free(m->mmio);
	mem_free(m->mem);
	kvm_close(m->kvm);
	vm_free(m->vm);
	vm_clock_free(m->clock);
	loop_free(m->loop);
}
