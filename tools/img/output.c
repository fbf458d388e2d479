/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * output.c: numbers, JSON and text in the form qemu-img gives them. Members of an object come in
 * the order of QEMU's dictionary (512 buckets by a hash of the key), so that output can be compared
 * byte for byte.
 */
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "tools/img/img.h"

char *size_human(uint64_t bytes)
{
	static const char *const suffix[] = { "", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei" };
	int i;

	/* A unit is used from 1000 of the one below on: "1 MiB" rather than "1.02e+03 KiB". */
	frexp((double)bytes / (1000.0 / 1024.0), &i);
	i = (i - 1) / 10;
	if (i < 0 || bytes == 0)
		i = 0;
	return xasprintf("%0.3g %sB", (double)bytes / (double)(1ull << (i * 10)), suffix[i]);
}

static unsigned bucket(const char *key)
{
	uint32_t v = 0x238F13AFu * (uint32_t)strlen(key);

	for (unsigned i = 0; key[i]; i++)
		v += (uint32_t)(unsigned char)key[i] << (i * 5 % 24);
	return (1103515243u * v + 12345u) % 512;
}

struct member { const char *key; const json_t *value; unsigned bucket, seq; };

static int compare_members(const void *a, const void *b)
{
	const struct member *x = a, *y = b;

	if (x->bucket != y->bucket)
		return x->bucket < y->bucket ? -1 : 1;
	/* within a bucket the last one put in comes first */
	return x->seq > y->seq ? -1 : x->seq < y->seq;
}

static struct member *members(const json_t *object, size_t *n)
{
	struct member *list;
	const char *key;
	json_t *value;

	*n = 0;
	list = xcalloc(json_object_size(object), sizeof(*list));
	json_object_foreach((json_t *)object, key, value) {
		list[*n] = (struct member){ key, value, bucket(key), *n };
		++*n;
	}
	qsort(list, *n, sizeof(*list), compare_members);
	return list;
}

static void print_value(const json_t *v, int indent)
{
	if (json_is_object(v)) {
		size_t n;
		struct member *list = members(v, &n);

		printf("{");
		for (size_t i = 0; i < n; i++) {
			printf("%s\n%*s\"%s\": ", i ? "," : "", (indent + 1) * 4, "", list[i].key);
			print_value(list[i].value, indent + 1);
		}
		printf("\n%*s}", indent * 4, "");
		free(list);
	} else if (json_is_array(v)) {
		printf("[");
		for (size_t i = 0; i < json_array_size(v); i++) {
			printf("%s\n%*s", i ? "," : "", (indent + 1) * 4, "");
			print_value(json_array_get(v, i), indent + 1);
		}
		printf("\n%*s]", indent * 4, "");
	} else {
		char *s = json_dumps(v, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

		printf("%s", s ? s : "null");
		free(s);
	}
}

void json_print(const json_t *v)
{
	print_value(v, 0);
	printf("\n");
}

static void print_scalar(const json_t *v)
{
	if (json_is_string(v))
		printf("%s", json_string_value(v));
	else if (json_is_integer(v))
		printf("%lld", (long long)json_integer_value(v));
	else if (json_is_boolean(v))
		printf("%s", json_is_true(v) ? "true" : "false");
}

static void print_entry(const json_t *v, int indent)
{
	bool composite = json_is_object(v) || json_is_array(v);

	printf(":%s", composite ? "\n" : " ");
	if (composite) {
		json_print_text(v, indent + 1);
	} else {
		print_scalar(v);
		printf("\n");
	}
}

void json_print_text(const json_t *v, int indent)
{
	if (json_is_object(v)) {
		size_t n;
		struct member *list = members(v, &n);

		for (size_t i = 0; i < n; i++) {
			char *key = xstrdup(list[i].key);

			for (char *p = key; *p; p++)
				*p = *p == '-' ? ' ' : *p;
			printf("%*s%s", indent * 4, "", key);
			free(key);
			print_entry(list[i].value, indent);
		}
		free(list);
	} else if (json_is_array(v)) {
		for (size_t i = 0; i < json_array_size(v); i++) {
			printf("%*s[%zu]", indent * 4, "", i);
			print_entry(json_array_get(v, i), indent);
		}
	}
}

void snapshot_print_head(void)
{
	printf("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE",
	       "VM CLOCK", "ICOUNT");
}

void snapshot_print(const struct node_snapshot *s)
{
	time_t t = s->date_sec;
	uint64_t sec = s->vm_clock_nsec / NS_PER_SEC;
	char date[64], clock[64], icount[32] = "", *size = size_human(s->vm_state_size);
	struct tm tm;

	localtime_r(&t, &tm);
	strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(clock, sizeof(clock), "%02d:%02d:%02d.%03d", (int)(sec / 3600),
		 (int)(sec / 60 % 60), (int)(sec % 60), (int)(s->vm_clock_nsec / 1000000 % 1000));
	if (s->icount != UINT64_MAX)
		snprintf(icount, sizeof(icount), "%llu", (unsigned long long)s->icount);
	printf("%-9s %-16s %8s%20s%13s%11s\n", s->id, s->name, size, date, clock, icount);
	free(size);
}

json_t *snapshot_json(const struct node_snapshot *s)
{
	json_t *j = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "id", s->id, "name", s->name,
			      "vm-state-size", (json_int_t)s->vm_state_size, "date-sec",
			      (json_int_t)s->date_sec, "date-nsec", (json_int_t)s->date_nsec,
			      "vm-clock-sec", (json_int_t)(s->vm_clock_nsec / NS_PER_SEC),
			      "vm-clock-nsec", (json_int_t)(s->vm_clock_nsec % NS_PER_SEC));

	if (s->icount != UINT64_MAX)
		json_object_set_new(j, "icount", json_integer(s->icount));
	return j;
}
