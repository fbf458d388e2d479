/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command_device.c: devices, drives and networks come and go while the guest runs (hotplug.h). A
 * control thread that holds nothing. QMP's members become the text that -device, -drive and -netdev
 * take, so that all three are parsed in one place.
 */
#include <errno.h>
#include <stdlib.h>

#include "disk/node.h"
#include "vmm/config/keyval.h"
#include "vmm/control/command.h"
#include "vmm/machine/drives.h"
#include "vmm/machine/hotplug.h"

/* --- from members to text --- */

/* ",key=value" with the commas of the value doubled. */
static void put_pair(FILE *out, const char *key, const char *value)
{
	fprintf(out, ",%s=", key);
	for (; *value; value++)
		fprintf(out, *value == ',' ? ",," : "%c", *value);
}

static int put_member(FILE *out, const char *key, json_t *v, bool nested, struct err *err)
{
	char text[32];
	json_t *item;
	size_t i;
	int ret = 0;

	/* "hostfwd": [ { "str": "tcp::2222-:22" } ] */
	if (nested && json_is_object(v))
		v = json_object_get(v, "str");
	switch (v ? json_typeof(v) : JSON_NULL) {
	case JSON_STRING:
		put_pair(out, key, json_string_value(v));
		return 0;
	case JSON_INTEGER:
		snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, json_integer_value(v));
		put_pair(out, key, text);
		return 0;
	case JSON_TRUE:
	case JSON_FALSE:
		put_pair(out, key, json_is_true(v) ? "on" : "off");
		return 0;
	case JSON_ARRAY:
		if (nested)
			break;
		json_array_foreach(v, i, item)
			if (ret == 0)
				ret = put_member(out, key, item, true, err);
		return ret;
	default:
		break;
	}
	return err_set(err, EINVAL, "Parameter '%s' is unexpected: a text, number or boolean is",
		       key);
}

/*
 * "first,key=value,...": what first= names comes first, as the parsers have it; skip: members put
 * elsewhere. NULL with the reason.
 */
static char *members_to_text(json_t *args, const char *first, const char *skip, struct err *err)
{
	char *text = NULL;
	const char *key;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	json_t *v;
	int ret = 0;

	fprintf(out, "%s", json_string_value(json_object_get(args, first)));
	json_object_foreach(args, key, v)
		if (ret == 0 && strcmp(key, first) && (!skip || strcmp(key, skip)))
			ret = put_member(out, key, v, false, err);
	fclose(out);
	if (ret < 0) {
		free(text);
		return NULL;
	}
	return text;
}

static const char *str(json_t *args, const char *name)
{
	return json_string_value(json_object_get(args, name));
}

/* --- devices --- */

static int run_device_add(struct machine *m, json_t *args, struct command_result *r)
{
	char *spec = members_to_text(args, "driver", NULL, &r->err);
	int ret = spec ? hotplug_add_device(m, spec, &r->err) : -EINVAL;

	free(spec);
	return ret;
}

static int run_device_add_line(struct machine *m, json_t *args, struct command_result *r)
{
	return hotplug_add_device(m, str(args, "spec"), &r->err);
}

static int run_device_del(struct machine *m, json_t *args, struct command_result *r)
{
	return hotplug_del_device(m, str(args, "id"), &r->err);
}

/* --- networks --- */

static int run_netdev_add(struct machine *m, json_t *args, struct command_result *r)
{
	char *spec = members_to_text(args, "type", "id", &r->err);
	int ret = spec ? hotplug_add_net(m, str(args, "id"), spec, &r->err) : -EINVAL;

	free(spec);
	return ret;
}

/* "user,id=n1,...": the id is the entry's, the rest is the backend's. */
static int run_netdev_add_line(struct machine *m, json_t *args, struct command_result *r)
{
	char *spec = xstrdup(str(args, "spec")), *id = keyval_take(spec, "id");
	int ret = id ? hotplug_add_net(m, id, spec, &r->err)
		     : err_set(&r->err, EINVAL, "Parameter 'id' is missing");

	free(id);
	free(spec);
	return ret;
}

static int run_netdev_del(struct machine *m, json_t *args, struct command_result *r)
{
	return hotplug_del_net(m, str(args, "id"), &r->err);
}

/* --- drives --- */

static bool is_protocol(const char *driver)
{
	return !strcmp(driver, "file") || !strcmp(driver, "host_device");
}

/*
 * The file below a format: an object of its own, or the name of a node that blockdev-add made
 * before: that one is taken over. A copy of its name, or NULL with the reason.
 */
static char *file_below(struct machine *m, json_t *args, struct err *err)
{
	json_t *file = json_object_get(args, "file");
	struct machine_drive *d;
	char *name = NULL;

	if (json_is_object(file)) {
		if (!str(file, "driver") || !is_protocol(str(file, "driver")) ||
		    !str(file, "filename"))
			err_set(err, ENOTSUP,
				"'file' needs \"driver\": \"file\" or \"host_device\" and a "
				"\"filename\"");
		else
			name = xstrdup(str(file, "filename"));
		return name;
	}
	if (!json_is_string(file)) {
		err_set(err, EINVAL, "Parameter 'file' is missing");
		return NULL;
	}
	loop_lock(m->loop);
	d = machine_find_drive(m, json_string_value(file));
	if (d && d->config->keep && d->config->file)
		name = xstrdup(d->config->file);
	loop_unlock(m->loop);
	if (!name)
		err_set(err, ENOENT, "Cannot find device='' nor node-name='%s'",
			json_string_value(file));
	else if (hotplug_del_drive(m, json_string_value(file), err) < 0) {
		free(name);
		return NULL;
	}
	return name;
}

static int put_cache(FILE *out, json_t *cache)
{
	bool direct = json_is_true(json_object_get(cache, "direct")),
	     unsafe = json_is_true(json_object_get(cache, "no-flush"));

	if (direct && unsafe)
		return -EINVAL;
	if (direct || unsafe)
		put_pair(out, "cache", direct ? "none" : "unsafe");
	return 0;
}

static int put_blockdev(FILE *out, json_t *args, const char *file, struct err *err)
{
	const char *driver = str(args, "driver"), *key;
	json_t *v;
	int ret = 0;

	fprintf(out, "if=none");
	put_pair(out, "id", str(args, "node-name"));
	put_pair(out, "file", file);
	put_pair(out, "format", is_protocol(driver) ? "raw" : driver);
	json_object_foreach(args, key, v) {
		if (!strcmp(key, "driver") || !strcmp(key, "node-name") || !strcmp(key, "file") ||
		    !strcmp(key, "filename") || !strcmp(key, "auto-read-only"))
			continue;
		if (!strcmp(key, "cache") && json_is_object(v))
			ret = put_cache(out, v) < 0
				      ? err_set(err, ENOTSUP, "cache: direct and no-flush together")
				      : 0;
		else
			ret = put_member(out, key, v, false, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int run_blockdev_add(struct machine *m, json_t *args, struct command_result *r)
{
	const char *driver = str(args, "driver");
	char *file, *spec = NULL;
	size_t len;
	FILE *out;
	int ret;

	if (!str(args, "node-name"))
		return err_set(&r->err, EINVAL, "'node-name' must be specified for the root node");
	if (!is_protocol(driver) && !node_format_find(driver))
		return err_set(&r->err, EINVAL, "Parameter 'driver' does not accept value '%s'",
			       driver);
	if (is_protocol(driver) && !str(args, "filename"))
		return err_set(&r->err, EINVAL, "Parameter 'filename' is missing");
	file = is_protocol(driver) ? xstrdup(str(args, "filename")) : file_below(m, args, &r->err);
	if (!file)
		return -EINVAL;
	out = open_memstream(&spec, &len);
	ret = put_blockdev(out, args, file, &r->err);
	fclose(out);
	if (ret == 0)
		ret = hotplug_add_drive(m, spec, true, &r->err);
	free(spec);
	free(file);
	return ret;
}

static int run_blockdev_del(struct machine *m, json_t *args, struct command_result *r)
{
	return hotplug_del_drive(m, str(args, "node-name"), &r->err);
}

static int run_drive_add_line(struct machine *m, json_t *args, struct command_result *r)
{
	return hotplug_add_drive(m, str(args, "spec"), false, &r->err);
}

static int run_drive_del_line(struct machine *m, json_t *args, struct command_result *r)
{
	return hotplug_del_drive(m, str(args, "id"), &r->err);
}

#define ID { { "id", ARG_STR, false } }
#define SPEC { { "spec", ARG_STR, false } }
const struct command commands_device[] = {
	{ "device_add",
	  NULL,
	  "plug a device in",
	  run_device_add,
	  NULL,
	  COMMAND_PARTS,
	  { { "driver", ARG_STR, false }, { "id", ARG_STR, true }, { "*", ARG_ANY, true } } },
	{ NULL, "device_add", "plug a device in: as -device has it", run_device_add_line, NULL,
	  COMMAND_PARTS, SPEC },
	{ "device_del", "device_del", "ask the guest to let a device go", run_device_del, NULL,
	  COMMAND_PARTS, ID },
	{ "netdev_add",
	  NULL,
	  "a network backend",
	  run_netdev_add,
	  NULL,
	  COMMAND_PARTS,
	  { { "type", ARG_STR, false }, { "id", ARG_STR, false }, { "*", ARG_ANY, true } } },
	{ NULL, "netdev_add", "a network backend: as -netdev has it", run_netdev_add_line, NULL,
	  COMMAND_PARTS, SPEC },
	{ "netdev_del", "netdev_del", "remove a network backend that no device uses",
	  run_netdev_del, NULL, COMMAND_PARTS, ID },
	{ "blockdev-add",
	  NULL,
	  "open a disk image, for a device_add to come",
	  run_blockdev_add,
	  NULL,
	  COMMAND_PARTS,
	  { { "driver", ARG_STR, false },
	    { "node-name", ARG_STR, true },
	    { "*", ARG_ANY, true } } },
	{ "blockdev-del",
	  NULL,
	  "close a disk image that no device shows",
	  run_blockdev_del,
	  NULL,
	  COMMAND_PARTS,
	  { { "node-name", ARG_STR, false } } },
	{ NULL,
	  "drive_add",
	  "open a disk image: \"drive_add 0 if=none,id=d1,file=...\", as -drive has it",
	  run_drive_add_line,
	  NULL,
	  COMMAND_PARTS,
	  { { "bus", ARG_STR, false }, { "spec", ARG_STR, false } } },
	{ NULL, "drive_del", "close a disk image that no device shows", run_drive_del_line, NULL,
	  COMMAND_PARTS, ID },
	{ 0 },
};
