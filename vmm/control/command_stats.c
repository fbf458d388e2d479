/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command_stats.c: KVM's own counters of the machine and its processors
 * (Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD): the file describes itself, so that a newer
 * kernel's counters appear without a change here. Main loop.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/control/command.h"

#define MAX_NAME 128
#define MAX_COUNTERS 1024
#define MAX_VALUES 256		/* of one counter (histograms) */

struct stats {
	int fd;
	struct kvm_stats_header head;
	uint8_t *descs;
	size_t desc_len;
};

static void stats_close(struct stats *s)
{
	close(s->fd);
	free(s->descs);
}

/* The VM's (v NULL) or a vCPU's. 0 or -errno with the reason. */
static int stats_open(struct stats *s, struct machine *m, const struct vcpu *v, struct err *err)
{
	*s = (struct stats){ .fd = v ? dup(v->stats_fd)
				     : ioctl(m->kvm->vm_fd, KVM_GET_STATS_FD, NULL) };
	if (s->fd < 0)
		return err_set(err, errno,
			       "this host's KVM does not give its counters away (Linux 5.14 and "
			       "newer do)");
	if (pread_full(s->fd, &s->head, sizeof(s->head), 0) < 0 || s->head.name_size > MAX_NAME ||
	    s->head.num_desc > MAX_COUNTERS)
		goto bad;
	s->desc_len = sizeof(struct kvm_stats_desc) + s->head.name_size;
	s->descs = xcalloc(s->head.num_desc, s->desc_len);
	if (pread_full(s->fd, s->descs, s->head.num_desc * s->desc_len, s->head.desc_offset) == 0)
		return 0;
bad:
	stats_close(s);
	return err_set(err, EIO, "KVM's counters cannot be read");
}

static const struct kvm_stats_desc *stats_desc(const struct stats *s, unsigned i,
					       char name[MAX_NAME + 1])
{
	const struct kvm_stats_desc *d =
		(const struct kvm_stats_desc *)(s->descs + i * s->desc_len);

	memcpy(name, (const char *)d + sizeof(*d), s->head.name_size);
	name[s->head.name_size] = 0;
	return d;
}

static json_t *stats_value(const struct stats *s, const struct kvm_stats_desc *d)
{
	uint64_t v[MAX_VALUES];
	unsigned n = MIN(d->size, (unsigned)MAX_VALUES);
	json_t *list;

	if (pread_full(s->fd, v, n * sizeof(v[0]), s->head.data_offset + d->offset) < 0)
		return NULL;
	if ((d->flags & KVM_STATS_UNIT_MASK) == KVM_STATS_UNIT_BOOLEAN)
		return json_boolean(v[0]);
	if (n == 1)
		return json_integer(v[0]);
	list = json_array();
	for (unsigned i = 0; i < n; i++)
		json_array_append_new(list, json_integer(v[i]));
	return list;
}

/* Among the strings; without a list everything is. */
static bool wanted(json_t *names, const char *name)
{
	json_t *n;
	size_t i;

	if (!names)
		return true;
	json_array_foreach(names, i, n)
		if (json_is_string(n) && !strcmp(json_string_value(n), name))
			return true;
	return false;
}

/* All counters of one descriptor, as StatsResult has them. */
static int add_result(json_t *out, struct machine *m, const struct vcpu *v, json_t *names,
		      const char *qom_path, struct err *err)
{
	struct stats s;
	json_t *list, *value, *j;
	char name[MAX_NAME + 1];
	int ret = stats_open(&s, m, v, err);

	if (ret < 0)
		return ret;
	list = json_array();
	for (unsigned i = 0; i < s.head.num_desc; i++) {
		const struct kvm_stats_desc *d = stats_desc(&s, i, name);

		if (wanted(names, name) && (value = stats_value(&s, d)))
			json_array_append_new(list,
					      json_pack("{s:s,s:o}", "name", name, "value", value));
	}
	j = json_pack("{s:s,s:o}", "provider", "kvm", "stats", list);
	if (qom_path)
		json_object_set_new(j, "qom-path", json_string(qom_path));
	json_array_append_new(out, j);
	stats_close(&s);
	return 0;
}

/*
 * providers: [ { "provider": "kvm", "names": [...] } ]; names of KVM's, false when KVM is not among
 * them.
 */
static bool kvm_names(json_t *args, json_t **names)
{
	json_t *p, *providers = json_object_get(args, "providers");
	size_t i;

	*names = NULL;
	if (!providers)
		return true;
	json_array_foreach(providers, i, p) {
		const char *name = json_string_value(json_object_get(p, "provider"));

		if (name && !strcmp(name, "kvm")) {
			*names = json_object_get(p, "names");
			return true;
		}
	}
	return false;
}

static int query_stats(struct machine *m, json_t *args, struct command_result *r)
{
	const char *target = json_string_value(json_object_get(args, "target"));
	json_t *names, *vcpus = json_object_get(args, "vcpus");
	int ret = 0;

	if (strcmp(target, "vm") && strcmp(target, "vcpu"))
		return err_set(&r->err, EINVAL, "Invalid parameter '%s' (vm, vcpu)", target);
	r->value = json_array();
	if (!kvm_names(args, &names))
		return 0;
	if (!strcmp(target, "vm"))
		return add_result(r->value, m, NULL, names, NULL, &r->err);
	for (unsigned i = 0; i < m->nvcpus && ret == 0; i++) {
		char path[64];

		snprintf(path, sizeof(path), "/machine/unattached/device[%u]", i);
		if (wanted(vcpus, path))
			ret = add_result(r->value, m, m->vcpus[i], names, path, &r->err);
	}
	return ret;
}

static json_t *schema_value(const struct kvm_stats_desc *d, const char *name)
{
	static const char *const types[] = { "cumulative", "instant", "peak", "linear-histogram",
					     "log2-histogram" };
	static const char *const units[] = { NULL, "bytes", "seconds", "cycles", "boolean" };
	unsigned type = d->flags & KVM_STATS_TYPE_MASK,
		 unit = (d->flags & KVM_STATS_UNIT_MASK) >> KVM_STATS_UNIT_SHIFT;
	json_t *j;

	if (type >= ARRAY_SIZE(types) || unit >= ARRAY_SIZE(units))
		return NULL;
	j = json_pack("{s:s,s:s,s:i}", "name", name, "type", types[type], "exponent", d->exponent);
	if (units[unit])
		json_object_set_new(j, "unit", json_string(units[unit]));
	if (d->exponent)
		json_object_set_new(
			j, "base",
			json_integer((d->flags & KVM_STATS_BASE_MASK) == KVM_STATS_BASE_POW2 ? 2
											     : 10));
	if (type == KVM_STATS_TYPE_LINEAR_HIST)
		json_object_set_new(j, "bucket-size", json_integer(d->bucket_size));
	return j;
}

static int add_schema(json_t *out, struct machine *m, const struct vcpu *v, const char *target,
		      struct err *err)
{
	struct stats s;
	json_t *list;
	char name[MAX_NAME + 1];
	int ret = stats_open(&s, m, v, err);

	if (ret < 0)
		return ret;
	list = json_array();
	for (unsigned i = 0; i < s.head.num_desc; i++) {
		const struct kvm_stats_desc *d = stats_desc(&s, i, name);
		json_t *j = schema_value(d, name);

		if (j)
			json_array_append_new(list, j);
	}
	json_array_append_new(out, json_pack("{s:s,s:s,s:o}", "provider", "kvm", "target", target,
					     "stats", list));
	stats_close(&s);
	return 0;
}

static int query_stats_schemas(struct machine *m, json_t *args, struct command_result *r)
{
	int ret;

	r->value = json_array();
	ret = add_schema(r->value, m, NULL, "vm", &r->err);
	return ret ? ret : add_schema(r->value, m, m->vcpus[0], "vcpu", &r->err);
}

const struct command commands_stats[] = {
	{ "query-stats",
	  "info stats",
	  "KVM's counters: of the vm, or of each vcpu",
	  query_stats,
	  NULL,
	  COMMAND_FAST,
	  { { "target", ARG_STR, false },
	    { "providers", ARG_ARRAY, true },
	    { "vcpus", ARG_ARRAY, true } } },
	{ "query-stats-schemas",
	  NULL,
	  "what counters there are",
	  query_stats_schemas,
	  NULL,
	  COMMAND_FAST,
	  { { "provider", ARG_STR, true } } },
	{ 0 },
};
