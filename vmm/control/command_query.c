/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command_query.c: what clients ask: status, version, processors, disks, networks, PCI. Replies
 * have QEMU's members.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "devices/chips.h"
#include "devices/pci/pci.h"
#include "devices/virtio/virtio.h"
#include "vmm/control/command.h"
#include "vmm/control/command_print.h"

/*
 * never_ran: a machine that -S holds at its start is "prelaunch", as one whose start waits for
 * something else.
 */
static const char *status_name(unsigned reasons, bool never_ran)
{
	static const struct { unsigned reason; const char *name;
	} names[] = {
		{ PAUSE_PANIC, "guest-panicked" }, { PAUSE_IO_ERROR, "io-error" },
		{ PAUSE_SAVE, "save-vm" },	   { PAUSE_MIGRATE, "finish-migrate" },
		{ PAUSE_DEBUG, "debug" },	   { PAUSE_SUSPEND, "suspended" },
		{ PAUSE_BOOT, "prelaunch" },	   { PAUSE_USER, "paused" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (reasons & names[i].reason)
			return names[i].reason == PAUSE_USER && never_ran ? "prelaunch"
									  : names[i].name;
	return "running";
}

static int query_status(struct machine *m, json_t *args, struct command_result *r)
{
	unsigned reasons = vm_pause_reasons(m->vm);

	r->value = json_pack("{s:s,s:b,s:b}", "status", status_name(reasons, !m->paused.clock_ns),
			     "singlestep", 0, "running", reasons == 0);
	return 0;
}

static int query_version(struct machine *m, json_t *args, struct command_result *r)
{
	r->value = json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "micro", 0, "minor", 2, "major", 7,
			     "package", "minivmm-" MINIVMM_VERSION);
	return 0;
}

static bool add_command(const struct command *c, const void *ctx)
{
	if (c->name)
		json_array_append_new((json_t *)ctx, json_pack("{s:s}", "name", c->name));
	return false;
}

static int query_commands(struct machine *m, json_t *args, struct command_result *r)
{
	r->value = json_array();
	command_find(add_command, r->value);
	return 0;
}

static int query_name(struct machine *m, json_t *args, struct command_result *r)
{
	r->value = m->config->name ? json_pack("{s:s}", "name", m->config->name) : json_object();
	return 0;
}

static int query_uuid(struct machine *m, json_t *args, struct command_result *r)
{
	char text[37];

	format_uuid(text, m->config->uuid);
	r->value = json_pack("{s:s}", "UUID", text);
	return 0;
}

static int query_generation_id(struct machine *m, json_t *args, struct command_result *r)
{
	uint8_t uuid[16];
	char text[37];

	if (!m->vmgenid)
		return err_set(&r->err, ENOENT,
			       "VM Generation ID device not found (-device vmgenid)");
	vmgenid_get(m->vmgenid, uuid);
	format_uuid(text, uuid);
	r->value = json_pack("{s:s}", "guid", text);
	return 0;
}

static int query_kvm(struct machine *m, json_t *args, struct command_result *r)
{
	r->value = json_pack("{s:b,s:b}", "enabled", 1, "present", 1);
	return 0;
}

static int query_cpus(struct machine *m, json_t *args, struct command_result *r)
{
	const struct cpu_topology *t = &m->config->topology;

	r->value = json_array();
	for (unsigned i = 0; i < m->nvcpus; i++)
		json_array_append_new(
			r->value,
			json_pack("{s:i,s:o,s:i,s:s,s:{s:i,s:i,s:i}}", "cpu-index", i, "qom-path",
				  json_sprintf("/machine/unattached/device[%u]", i), "thread-id",
				  m->vcpus[i]->tid, "target", "x86_64", "props", "thread-id",
				  i % t->threads, "core-id", i / t->threads % t->cores, "socket-id",
				  i / (t->threads * t->cores)));
	return 0;
}

static int query_machines(struct machine *m, json_t *args, struct command_result *r)
{
	static const struct {
		const char *name, *alias;
	} types[] = { { "pc-1", "pc" }, { "micro-1", "micro" } };

	r->value = json_array();
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		json_t *j = json_pack("{s:s,s:s,s:i,s:b,s:b,s:b}", "name", types[i].name, "alias",
				      types[i].alias, "cpu-max", m->kvm->max_vcpus,
				      "hotpluggable-cpus", 0, "numa-mem-supported", 0, "deprecated",
				      0);

		if (i == 0)
			json_object_set_new(j, "is-default", json_true());
		json_array_append_new(r->value, j);
	}
	return 0;
}

/* --- the rest --- */

static int query_chardev(struct machine *m, json_t *args, struct command_result *r)
{
	r->value = json_array();
	for (unsigned i = 0; i < CONFIG_MAX_SERIAL; i++)
		if (m->serial[i])
			json_array_append_new(r->value,
					      json_pack("{s:s,s:s,s:b}", "label",
							chardev_label(m->serial[i]), "filename",
							chardev_filename(m->serial[i]),
							"frontend-open", 1));
	return 0;
}

static const char *class_name(unsigned class)
{
	static const struct { unsigned class; const char *name;
	} names[] = {
		{ 0x0100, "SCSI storage" },  { 0x0101, "IDE" },	       { 0x0180, "storage" },
		{ 0x0200, "Ethernet" },	     { 0x0300, "VGA" },	       { 0x0500, "RAM" },
		{ 0x0600, "host bridge" },   { 0x0601, "ISA bridge" }, { 0x0680, "bridge" },
		{ 0x0780, "communication" }, { 0x0900, "input" },      { 0x00ff, "unclassified" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].class == class)
			return names[i].name;
	return "other";
}

/*
 * The capability list in words; a list that runs in circles ends after 48 entries (PCI 3.0, 6.7).
 */
static json_t *pci_capabilities(const struct pci_dev *p)
{
	static const char *const kinds[] = { [1] = "common configuration",
					     [2] = "doorbells",
					     [3] = "ISR",
					     [4] = "device configuration",
					     [5] = "window to the registers" };
	json_t *list = json_array();
	unsigned at = ld_le16(p->config + PCI_STATUS) & PCI_STATUS_CAP_LIST
			      ? p->config[PCI_CAPABILITY_LIST]
			      : 0;

	for (unsigned n = 0; at >= 0x40 && at < 0xf0 && n < 48; at = p->config[at + 1], n++) {
		const uint8_t *c = p->config + at;
		char *text;

		if (c[0] == PCI_CAP_ID_MSIX)
			text = xasprintf("MSI-X %s, %u vectors, table in BAR %u",
					 c[3] & 0x80 ? "on" : "off", (ld_le16(c + 2) & 0x7ffu) + 1,
					 ld_le32(c + 4) & 7);
		else if (c[0] == PCI_CAP_ID_VNDR && p->config[PCI_VENDOR_ID] == 0xf4 &&
			 c[3] < ARRAY_SIZE(kinds) && kinds[c[3]])
			text = xasprintf("virtio %s: BAR %u + 0x%x, 0x%x bytes", kinds[c[3]], c[4],
					 ld_le32(c + 8), ld_le32(c + 12));
		else
			text = xasprintf("id 0x%02x", c[0]);
		json_array_append_new(list, json_string(text));
		free(text);
	}
	return list;
}

static void add_pci(void *ctx, struct pci_dev *p)
{
	json_t *j = json_pack(
		"{s:i,s:i,s:i,s:s,s:{s:i,s:i},s:{s:i}}", "bus", 0, "slot", p->devfn >> 3,
		"function", p->devfn & 7, "qdev_id", p->dev.id ? p->dev.id : "", "id", "device",
		ld_le16(p->config + PCI_DEVICE_ID), "vendor", ld_le16(p->config + PCI_VENDOR_ID),
		"class_info", "class", ld_le16(p->config + PCI_CLASS_DEVICE));
	json_t *regions = json_array();
	unsigned pin = p->config[PCI_INTERRUPT_PIN];

	if (ld_le16(p->config + PCI_SUBSYSTEM_VENDOR_ID)) {
		json_t *id = json_object_get(j, "id");

		json_object_set_new(id, "subsystem-vendor",
				    json_integer(ld_le16(p->config + PCI_SUBSYSTEM_VENDOR_ID)));
		json_object_set_new(id, "subsystem",
				    json_integer(ld_le16(p->config + PCI_SUBSYSTEM_ID)));
	}
	json_object_set_new(j, "irq_pin", json_integer(pin));
	if (pin)
		json_object_set_new(j, "irq", json_integer(p->config[PCI_INTERRUPT_LINE]));
	for (int i = 0; i < PCI_BARS; i++)
		if (p->bars[i].size)
			json_array_append_new(
				regions,
				json_pack("{s:i,s:s,s:I,s:I}", "bar", i, "type",
					  p->bars[i].type & PCI_BASE_ADDRESS_SPACE_IO ? "io"
										      : "memory",
					  "address",
					  (json_int_t)(p->bars[i].mapped
							       ? (json_int_t)p->bars[i].addr
							       : -1),
					  "size", (json_int_t)p->bars[i].size));
	json_object_set_new(j, "regions", regions);
	json_object_set_new(json_object_get(j, "class_info"), "desc",
			    json_string(class_name(ld_le16(p->config + PCI_CLASS_DEVICE))));
	if (p->config[PCI_INTERRUPT_PIN])
		json_object_set_new(j, "irq", json_integer(p->config[PCI_INTERRUPT_LINE]));
	json_object_set_new(j, "x-command", json_integer(ld_le16(p->config + PCI_COMMAND)));
	json_object_set_new(j, "x-capabilities", pci_capabilities(p));
	json_array_append_new(ctx, j);
}

static int query_pci(struct machine *m, json_t *args, struct command_result *r)
{
	json_t *devices = json_array();

	if (m->pci)
		pci_bus_for_each(m->pci, add_pci, devices);
	r->value = json_pack("[{s:i,s:o}]", "bus", 0, "devices", devices);
	return 0;
}

static void print_pci(json_t *v, FILE *out)
{
	json_t *d, *reg, *id, *class, *text;
	json_int_t command;
	size_t i, k;

	json_array_foreach(json_object_get(json_array_get(v, 0), "devices"), i, d) {
		id = json_object_get(d, "id");
		class = json_object_get(d, "class_info");
		command = json_integer_value(json_object_get(d, "x-command"));
		fprintf(out, "00:%02llx.%lld  %04llx:%04llx  class %04llx %s  %s\n",
			json_integer_value(json_object_get(d, "slot")),
			json_integer_value(json_object_get(d, "function")),
			json_integer_value(json_object_get(id, "vendor")),
			json_integer_value(json_object_get(id, "device")),
			json_integer_value(json_object_get(class, "class")),
			json_string_value(json_object_get(class, "desc")),
			json_string_value(json_object_get(d, "qdev_id")));
		fprintf(out, "  command 0x%04llx%s%s%s%s", command,
			command & PCI_COMMAND_IO ? " ports" : "",
			command & PCI_COMMAND_MEMORY ? " memory" : "",
			command & PCI_COMMAND_MASTER ? " bus-master" : "",
			command & PCI_COMMAND_INTX_DISABLE ? " INTx-off" : "");
		if (json_object_get(d, "irq"))
			fprintf(out, ", interrupt line %lld",
				json_integer_value(json_object_get(d, "irq")));
		fprintf(out, "\n");
		json_array_foreach(json_object_get(d, "regions"), k, reg)
			fprintf(out, "  BAR%lld: %s at 0x%llx, 0x%llx bytes\n",
				json_integer_value(json_object_get(reg, "bar")),
				json_string_value(json_object_get(reg, "type")),
				json_integer_value(json_object_get(reg, "address")),
				json_integer_value(json_object_get(reg, "size")));
		json_array_foreach(json_object_get(d, "x-capabilities"), k, text)
			fprintf(out, "  capability: %s\n", json_string_value(text));
	}
}

static struct virtio_dev *balloon(struct machine *m)
{
	for (unsigned i = 0; i < m->ndevices; i++)
		if (m->devices[i].virtio && m->devices[i].virtio->ops->id == VIRTIO_ID_BALLOON)
			return m->devices[i].virtio;
	return NULL;
}

static int query_balloon(struct machine *m, json_t *args, struct command_result *r)
{
	struct virtio_dev *v = balloon(m);

	if (!v)
		return err_set(&r->err, ENOTCONN, "No balloon device has been activated");
	r->value = json_pack("{s:I}", "actual", (json_int_t)virtio_balloon_actual(v));
	return 0;
}

static int run_balloon(struct machine *m, json_t *args, struct command_result *r)
{
	struct virtio_dev *v = balloon(m);
	json_int_t value = json_integer_value(json_object_get(args, "value"));

	if (!v)
		return err_set(&r->err, ENOTCONN, "No balloon device has been activated");
	if (value <= 0)
		return err_set(&r->err, EINVAL, "Parameter 'target' expects a size");
	virtio_balloon_set(v, value);
	return 0;
}

static void mtree_line(void *ctx, uint64_t base, uint64_t len, const char *who, const char *chip)
{
	fprintf(ctx, "  %016" PRIx64 "-%016" PRIx64 " %-20s %s\n", base, base + len - 1, who, chip);
}

static int query_mtree(struct machine *m, json_t *args, struct command_result *r)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	fprintf(out, "ports\n");
	bus_for_each(m->pio, mtree_line, out);
	fprintf(out, "memory\n");
	bus_for_each(m->mmio, mtree_line, out);
	r->value = command_text(out, &text, &len);
	return 0;
}

static int query_registers(struct machine *m, json_t *args, struct command_result *r)
{
	char text[4096];
	json_t *all = json_array();

	vm_pause(m->vm, PAUSE_DEBUG);
	for (unsigned i = 0; i < m->nvcpus; i++) {
		size_t n = snprintf(text, sizeof(text), "CPU#%u\n", i);

		vcpu_describe(m->vcpus[i], text + n, sizeof(text) - n);
		json_array_append_new(all, json_string(text));
	}
	vm_resume(m->vm, PAUSE_DEBUG);
	r->value = all;
	return 0;
}

static int query_exits(struct machine *m, json_t *args, struct command_result *r)
{
	r->value = json_array();
	for (unsigned i = 0; i < m->nvcpus; i++) {
		json_t *j = json_pack("{s:i,s:I}", "cpu-index", i, "kicks",
				      (json_int_t)m->vcpus[i]->stats.kicks);

		for (unsigned n = 0; n < VCPU_EXIT_REASONS; n++)
			if (m->vcpus[i]->stats.exits[n])
				json_object_set_new(j, vcpu_exit_name(n),
						    json_integer(m->vcpus[i]->stats.exits[n]));
		json_array_append_new(r->value, j);
	}
	return 0;
}

/* A thread that was asked for; a network card has some by itself. */
static bool has_iothread(const struct machine_device *d)
{
	const struct prop *p = d->config ? props_named(d->config->kind->props, "iothread") : NULL;

	return p && !prop_is_default(p, d->config) && d->threads.n;
}

/* The threads that carry queues of their own (iothread=on). */
static int query_iothreads(struct machine *m, json_t *args, struct command_result *r)
{
	r->value = json_array();
	for (unsigned i = 0; i < m->ndevices; i++)
		if (has_iothread(&m->devices[i]))
			/* They wait in the kernel only: nothing polls. */
			json_array_append_new(
				r->value, json_pack("{s:s,s:i,s:i,s:i,s:i,s:i}", "id",
						    m->devices[i].config->id, "thread-id",
						    loop_thread_id(m->devices[i].threads.loops[0]),
						    "poll-max-ns", 0, "poll-grow", 0, "poll-shrink",
						    0, "aio-max-batch", 0));
	return 0;
}

static int query_target(struct machine *m, json_t *args, struct command_result *r)
{
	r->value = json_pack("{s:s}", "arch", "x86_64");
	return 0;
}

static int query_current_machine(struct machine *m, json_t *args, struct command_result *r)
{
	r->value = json_pack("{s:b}", "wakeup-suspend-support",
			     m->config->machine == MACHINE_PC && !m->config->kernel);
	return 0;
}

static int query_memory(struct machine *m, json_t *args, struct command_result *r)
{
	r->value = json_pack("{s:I,s:I}", "base-memory", (json_int_t)m->config->ram,
			     "plugged-memory", (json_int_t)0);
	return 0;
}

static int query_mice(struct machine *m, json_t *args, struct command_result *r)
{
	r->value = json_array();
	if (m->i8042)
		json_array_append_new(r->value,
				      json_pack("{s:s,s:i,s:b,s:b}", "name", "PS/2 mouse", "index",
						0, "current", !m->tablet, "absolute", 0));
	if (m->tablet)
		json_array_append_new(r->value,
				      json_pack("{s:s,s:i,s:b,s:b}", "name", "virtio tablet",
						"index", 1, "current", 1, "absolute", 1));
	return 0;
}

#define NO_ARGS { { 0 } }
const struct command commands_query[] = {
	{ "query-status", "info status", "is it running", query_status, print_status, COMMAND_FAST,
	  NO_ARGS },
	{ "query-version", "info version", "this program's version", query_version, print_version,
	  COMMAND_FAST, NO_ARGS },
	{ "query-commands", NULL, "the commands", query_commands, NULL, COMMAND_FAST, NO_ARGS },
	{ "query-name", "info name", "the machine's name", query_name, print_name, COMMAND_FAST,
	  NO_ARGS },
	{ "query-uuid", "info uuid", "the machine's UUID", query_uuid, print_uuid, COMMAND_FAST,
	  NO_ARGS },
	{ "query-vm-generation-id", "info vm-generation-id",
	  "the number that changes when the machine is copied", query_generation_id, NULL,
	  COMMAND_FAST, NO_ARGS },
	{ "query-kvm", "info kvm", "KVM is used", query_kvm, print_kvm, COMMAND_FAST, NO_ARGS },
	{ "query-cpus-fast", "info cpus", "the processors and their threads", query_cpus,
	  print_cpus, COMMAND_FAST, NO_ARGS },
	{ "query-target", NULL, "the processor architecture", query_target, NULL, COMMAND_FAST,
	  NO_ARGS },
	{ "query-current-machine", NULL, "what this machine can", query_current_machine, NULL,
	  COMMAND_FAST, NO_ARGS },
	{ "query-memory-size-summary", "info memory_size_summary", "how much memory", query_memory,
	  print_memory_size, COMMAND_FAST, NO_ARGS },
	{ "query-mice", "info mice", "pointers, and which one is used", query_mice, print_mice,
	  COMMAND_FAST, NO_ARGS },
	{ "query-machines", NULL, "machine types", query_machines, NULL, COMMAND_FAST, NO_ARGS },
	{ "query-iothreads", "info iothreads", "the threads of disks", query_iothreads,
	  print_iothreads, COMMAND_FAST, NO_ARGS },
	{ "query-chardev", "info chardev", "the serial ports", query_chardev, print_chardev,
	  COMMAND_FAST, NO_ARGS },
	{ "query-pci", "info pci", "the PCI functions", query_pci, print_pci, COMMAND_FAST,
	  NO_ARGS },
	{ "query-balloon", "info balloon", "memory the guest has", query_balloon, print_balloon,
	  COMMAND_FAST, NO_ARGS },
	{ "balloon",
	  "balloon",
	  "give the guest this much memory",
	  run_balloon,
	  NULL,
	  COMMAND_FAST,
	  { { "value", ARG_SIZE, false } } },
	{ NULL, "info mtree", "the address map", query_mtree, NULL, COMMAND_FAST, NO_ARGS },
	{ NULL, "info registers", "the processors' registers", query_registers, NULL, COMMAND_SLOW,
	  NO_ARGS },
	{ NULL, "info exits", "exits of each processor by reason", query_exits, NULL, COMMAND_FAST,
	  NO_ARGS },
	{ 0 },
};
