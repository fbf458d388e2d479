/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command_print.c: the answers of `info` as lines for people; members that an answer does not have
 * are left out.
 */
#include "vmm/control/command_print.h"

#include "vmm/base/util.h"

#define INT "%" JSON_INTEGER_FORMAT

static const char *str(json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s ? s : "";
}

static json_int_t num(json_t *j, const char *key)
{
	return json_integer_value(json_object_get(j, key));
}

static bool is(json_t *j, const char *key)
{
	return json_is_true(json_object_get(j, key));
}

void print_status(json_t *v, FILE *out)
{
	const char *s = str(v, "status");
	bool plain = is(v, "running") || !strcmp(s, "paused");

	fprintf(out, "VM status: %s%s%s%s\n", is(v, "running") ? "running" : "paused",
		plain ? "" : " (", plain ? "" : s, plain ? "" : ")");
}

void print_version(json_t *v, FILE *out)
{
	fprintf(out, "minivmm %s\n", MINIVMM_VERSION);
}

void print_name(json_t *v, FILE *out)
{
	if (json_object_get(v, "name"))
		fprintf(out, "%s\n", str(v, "name"));
}

void print_uuid(json_t *v, FILE *out)
{
	fprintf(out, "%s\n", str(v, "UUID"));
}

void print_kvm(json_t *v, FILE *out)
{
	fprintf(out, "kvm support: enabled\n");
}

void print_cpus(json_t *v, FILE *out)
{
	json_t *c;
	size_t i;

	json_array_foreach(v, i, c) fprintf(out, "%s CPU #%zu: thread_id=" INT "\n", i ? " " : "*",
					    i, num(c, "thread-id"));
}

void print_memory_size(json_t *v, FILE *out)
{
	fprintf(out, "base memory: " INT "\nplugged memory: " INT "\n", num(v, "base-memory"),
		num(v, "plugged-memory"));
}

void print_mice(json_t *v, FILE *out)
{
	json_t *m;
	size_t i;

	json_array_foreach(v, i, m)
		fprintf(out, "%c Mouse #" INT ": %s%s\n", is(m, "current") ? '*' : ' ',
			num(m, "index"), str(m, "name"), is(m, "absolute") ? " (absolute)" : "");
	if (!i)
		fprintf(out, "No mouse devices connected\n");
}

void print_iothreads(json_t *v, FILE *out)
{
	json_t *t;
	size_t i;

	json_array_foreach(v, i, t)
		fprintf(out, "%s:\n  thread_id=" INT "\n", str(t, "id"), num(t, "thread-id"));
}

void print_chardev(json_t *v, FILE *out)
{
	json_t *c;
	size_t i;

	json_array_foreach(v, i, c)
		fprintf(out, "%s: filename=%s\n", str(c, "label"), str(c, "filename"));
}

void print_balloon(json_t *v, FILE *out)
{
	fprintf(out, "balloon: actual=" INT "\n", num(v, "actual") / (json_int_t)MiB);
}

/* --- disks --- */

static void print_inserted(json_t *in, FILE *out)
{
	static const char *const limits[] = { "bps",	  "bps_rd",	 "bps_wr",
					      "bps_max",  "bps_rd_max",	 "bps_wr_max",
					      "iops",	  "iops_rd",	 "iops_wr",
					      "iops_max", "iops_rd_max", "iops_wr_max",
					      "iops_size" };
	json_t *cache = json_object_get(in, "cache");
	json_int_t any = 0;

	fprintf(out, "    Cache mode:       %s%s%s\n",
		is(cache, "writeback") ? "writeback" : "writethrough",
		is(cache, "direct") ? ", direct" : "",
		is(cache, "no-flush") ? ", ignore flushes" : "");
	if (json_object_get(in, "backing_file"))
		fprintf(out, "    Backing file:     %s (chain depth: " INT ")\n",
			str(in, "backing_file"), num(in, "backing_file_depth"));
	if (strcmp(str(in, "detect_zeroes"), "off"))
		fprintf(out, "    Detect zeroes:    %s\n", str(in, "detect_zeroes"));
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		any |= num(in, limits[i]);
	if (!any)
		return;
	fprintf(out, "    I/O throttling:  ");
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		fprintf(out, " %s=" INT, limits[i], num(in, limits[i]));
	fprintf(out, "\n");
}

void print_block(json_t *v, FILE *out)
{
	json_t *d, *in;
	size_t i;

	json_array_foreach(v, i, d) {
		in = json_object_get(d, "inserted");
		fprintf(out, "%s%s: ", i ? "\n" : "", str(d, "device"));
		if (in)
			fprintf(out, "%s (%s%s)\n", str(in, "file"), str(in, "drv"),
				is(in, "ro") ? ", read-only" : "");
		else
			fprintf(out, "[not inserted]\n");
		if (json_object_get(d, "qdev"))
			fprintf(out, "    Attached to:      %s\n", str(d, "qdev"));
		if (in && strcmp(str(d, "io-status"), "ok"))
			fprintf(out, "    I/O status:       %s\n", str(d, "io-status"));
		if (is(d, "removable"))
			fprintf(out, "    Removable device: %slocked, tray %s\n",
				is(d, "locked") ? "" : "not ",
				is(d, "tray_open") ? "open" : "closed");
		if (in)
			print_inserted(in, out);
	}
}

void print_blockstats(json_t *v, FILE *out)
{
	static const char *const shown[] = { "rd_bytes",
					     "wr_bytes",
					     "rd_operations",
					     "wr_operations",
					     "flush_operations",
					     "wr_total_time_ns",
					     "rd_total_time_ns",
					     "flush_total_time_ns",
					     "rd_merged",
					     "wr_merged",
					     "unmap_bytes",
					     "unmap_operations",
					     "unmap_total_time_ns",
					     "failed_rd_operations",
					     "failed_wr_operations",
					     "failed_flush_operations",
					     "failed_unmap_operations" };
	json_t *d;
	size_t i;

	json_array_foreach(v, i, d) {
		fprintf(out, "%s:", str(d, "device"));
		for (size_t k = 0; k < ARRAY_SIZE(shown); k++)
			fprintf(out, " %s=" INT, shown[k],
				num(json_object_get(d, "stats"), shown[k]));
		fprintf(out, "\n");
	}
}

void print_block_jobs(json_t *v, FILE *out)
{
	json_t *j;
	size_t i;

	json_array_foreach(v, i, j) fprintf(
		out,
		"Type %s, device %s: Completed " INT " of " INT " bytes, speed limit " INT
		" bytes/s%s%s%s\n",
		str(j, "type"), str(j, "device"), num(j, "offset"), num(j, "len"), num(j, "speed"),
		is(j, "paused") ? ", paused" : "", is(j, "ready") ? ", ready" : "",
		strcmp(str(j, "io-status"), "ok") ? ", stopped by an error" : "");
	if (!i)
		fprintf(out, "No active jobs\n");
}

void print_vnc(json_t *v, FILE *out)
{
	if (!is(v, "enabled")) {
		fprintf(out, "None\n");
		return;
	}
	fprintf(out, "default:\n  Server: %s%s%s (%s)\n    Auth: %s\n  Viewers: " INT "\n",
		str(v, "host"), *str(v, "service") ? ":" : "", str(v, "service"), str(v, "family"),
		str(v, "auth"), num(v, "x-viewers"));
}

/* --- migration --- */

void print_migrate(json_t *v, FILE *out)
{
	json_t *ram = json_object_get(v, "ram");

	if (!json_object_get(v, "status"))
		return;
	fprintf(out, "Migration status: %s%s%s%s\n", str(v, "status"),
		json_object_get(v, "error-desc") ? " (" : "", str(v, "error-desc"),
		json_object_get(v, "error-desc") ? ")" : "");
	fprintf(out, "total time: " INT " ms\n", num(v, "total-time"));
	if (json_object_get(v, "downtime"))
		fprintf(out, "downtime: " INT " ms\n", num(v, "downtime"));
	else
		fprintf(out, "expected downtime: " INT " ms\n", num(v, "expected-downtime"));
	fprintf(out,
		"transferred ram: " INT " kbytes\nthroughput: %.2f mbps\nremaining ram: " INT
		" kbytes\ntotal ram: " INT " kbytes\n",
		num(ram, "transferred") >> 10, json_real_value(json_object_get(ram, "mbps")),
		num(ram, "remaining") >> 10, num(ram, "total") >> 10);
	fprintf(out, "duplicate: " INT " pages\nnormal: " INT " pages\ndirty sync count: " INT "\n",
		num(ram, "duplicate"), num(ram, "normal"), num(ram, "dirty-sync-count"));
	if (json_object_get(ram, "dirty-pages-rate"))
		fprintf(out, "dirty pages rate: " INT " pages\n", num(ram, "dirty-pages-rate"));
	if (json_object_get(v, "cpu-throttle-percentage"))
		fprintf(out, "cpu throttle percentage: " INT "\n",
			num(v, "cpu-throttle-percentage"));
}

void print_migrate_parameters(json_t *v, FILE *out)
{
	fprintf(out, "max-bandwidth: " INT " bytes/second\ndowntime-limit: " INT " ms\n",
		num(v, "max-bandwidth"), num(v, "downtime-limit"));
}

void print_migrate_capabilities(json_t *v, FILE *out)
{
	json_t *c;
	size_t i;

	json_array_foreach(v, i, c)
		fprintf(out, "%s: %s\n", str(c, "capability"), is(c, "state") ? "on" : "off");
}
