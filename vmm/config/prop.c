/* SPDX-License-Identifier: GPL-2.0-or-later */
/* prop.c: properties from text, and back. */
#include <errno.h>
#include <stdlib.h>

#include "net/net.h"
#include "vmm/config/prop.h"

/* The value itself, in its structure. */
union place {
	void *p;
	unsigned *number;
	int *index;
	uint64_t *size;
	bool *on;
	char **text;
	struct prop_mac *mac;
	struct prop_uuid *uuid;
	struct prop_pci *pci;
};

static union place place(const struct prop *p, const void *in)
{
	return (union place){ .p = (char *)in + p->offset };
}

static bool is_text(const struct prop *p)
{
	return p->type == PROP_STRING || p->type == PROP_DRIVE || p->type == PROP_NETDEV ||
	       p->type == PROP_CHARDEV;
}

void props_init(const struct prop *p, void *to)
{
	for (; p && p->name; p++) {
		union place v = place(p, to);

		switch (p->type) {
		case PROP_NUMBER:
			*v.number = p->def;
			break;
		case PROP_INDEX:
		case PROP_BOOTINDEX:
			*v.index = -1;
			break;
		case PROP_CHOICE:
			*v.index = p->def;
			break;
		case PROP_SIZE:
			*v.size = p->def;
			break;
		case PROP_BOOL:
			*v.on = p->def;
			break;
		case PROP_STRING:
		case PROP_DRIVE:
		case PROP_NETDEV:
		case PROP_CHARDEV:
			*v.text = NULL;
			break;
		case PROP_MAC:
			*v.mac = (struct prop_mac){ 0 };
			break;
		case PROP_UUID:
			*v.uuid = (struct prop_uuid){ 0 };
			break;
		case PROP_PCI:
			*v.pci = (struct prop_pci){ -1, 0 };
			break;
		case PROP_FIXED:
			break;
		}
	}
}

void props_free(const struct prop *p, void *to)
{
	for (; p && p->name; p++) {
		if (!is_text(p))
			continue;
		free(*place(p, to).text);
		*place(p, to).text = NULL;
	}
}

/* --- from text --- */

static int set_number(const struct prop *p, uint64_t *v, const char *s, struct err *err)
{
	if (parse_u64(s, p->max, v) == 0 &&
	    ((*v >= p->min && (!p->power_of_2 || IS_POWER_OF_2(*v))) || *v == (uint64_t)p->def))
		return 0;
	return err_set(err, EINVAL, "%s=%s: a %s from %lu to %lu expected", p->name, s,
		       p->power_of_2 ? "power of two" : "number", p->min, p->max);
}

static int set_word(const struct prop *p, int *v, const char *s, struct err *err)
{
	char list[256];
	size_t n = 0;

	for (int i = 0; p->words[i]; i++) {
		if (!strcmp(s, p->words[i])) {
			*v = i;
			return 0;
		}
		n += snprintf(list + n, n < sizeof(list) ? sizeof(list) - n : 0, "%s%s",
			      i ? ", " : "", p->words[i]);
	}
	return err_set(err, EINVAL, "%s=%s: one of %s expected", p->name, s, list);
}

static int set_mac(const struct prop *p, struct prop_mac *mac, const char *s, struct err *err)
{
	if (net_parse_mac(s, mac->addr, err) < 0) {
		err_prefix(err, "%s=%s", p->name, s);
		return -EINVAL;
	}
	mac->set = true;
	return 0;
}

/* "3", "3.0" or "03.0": slot and function. */
static int set_pci(const struct prop *p, struct prop_pci *at, const char *s, struct err *err)
{
	char *end;
	unsigned long slot = strtoul(s, &end, 16), func = 0;

	if (end != s && *end == '.')
		func = strtoul(end + 1, &end, 16);
	if (end == s || *end || slot > 31 || func > 7)
		return err_set(
			err, EINVAL,
			"%s=%s: a PCI slot expected, as 5 or 5.0 (hexadecimal, up to 1f.7)",
			p->name, s);
	*at = (struct prop_pci){ slot, func };
	return 0;
}

static int set_uuid(const struct prop *p, struct prop_uuid *uuid, const char *s, struct err *err)
{
	*uuid = (struct prop_uuid){ 0 };
	if (!strcmp(s, "auto"))
		return 0;
	if (parse_uuid(s, uuid->bytes) < 0)
		return err_set(err, EINVAL, "%s=%s: auto or 32 hexadecimal digits expected",
			       p->name, s);
	uuid->set = true;
	return 0;
}

int prop_set(const struct prop *p, void *to, const char *s, struct err *err)
{
	union place v = place(p, to);
	uint64_t n = 0;
	int ret = 0, any;

	switch (p->type) {
	case PROP_NUMBER:
		ret = set_number(p, &n, s, err);
		if (ret == 0)
			*v.number = n;
		return ret;
	case PROP_INDEX:
	case PROP_BOOTINDEX:
		ret = set_number(p, &n, s, err);
		if (ret == 0)
			*v.index = n;
		return ret;
	case PROP_SIZE:
		return parse_size(s, MAX(p->min, 1ull), v.size) < 0 ?
			err_set(err, EINVAL, "%s=%s: a size expected (as 512, 64K, 2G)", p->name,
				s) : 0;
	case PROP_BOOL:
		return parse_bool(s, v.on) < 0 ?
			err_set(err, EINVAL, "%s=%s: on or off expected", p->name, s) : 0;
	case PROP_CHOICE:
		return set_word(p, v.index, s, err);
	case PROP_FIXED:
		return set_word(p, &any, s, err);
	case PROP_STRING:
	case PROP_DRIVE:
	case PROP_NETDEV:
	case PROP_CHARDEV:
		free(*v.text);
		*v.text = xstrdup(s);
		return 0;
	case PROP_MAC:
		return set_mac(p, v.mac, s, err);
	case PROP_UUID:
		return set_uuid(p, v.uuid, s, err);
	case PROP_PCI:
		return set_pci(p, v.pci, s, err);
	}
	return 0;
}

int props_take(const struct prop *p, void *to, struct keyval *kv, struct err *err)
{
	int ret = 0;

	for (; p && p->name && ret == 0; p++) {
		const char *s = p->alias ? keyval_get(kv, p->alias) : NULL;

		if (s)
			ret = prop_set(p, to, s, err);
		s = keyval_get(kv, p->name);
		if (s && ret == 0)
			ret = prop_set(p, to, s, err);
	}
	return ret;
}

/* --- to text --- */

bool prop_is_default(const struct prop *p, const void *from)
{
	union place v = place(p, from);

	switch (p->type) {
	case PROP_NUMBER:
		return *v.number == (unsigned)p->def;
	case PROP_INDEX:
	case PROP_BOOTINDEX:
		return *v.index < 0;
	case PROP_CHOICE:
		return *v.index == p->def;
	case PROP_SIZE:
		return *v.size == (uint64_t)p->def;
	case PROP_BOOL:
		return *v.on == !!p->def;
	case PROP_STRING:
	case PROP_DRIVE:
	case PROP_NETDEV:
	case PROP_CHARDEV:
		return !*v.text;
	case PROP_MAC:
		return !v.mac->set;
	case PROP_UUID:
		return !v.uuid->set;
	case PROP_PCI:
		return v.pci->slot < 0;
	case PROP_FIXED:
		break;
	}
	return true;
}

char *prop_text(const struct prop *p, const void *from)
{
	union place v = place(p, from);
	char uuid[37];

	switch (p->type) {
	case PROP_NUMBER:
		return xasprintf(p->hex ? "0x%x" : "%u", *v.number);
	case PROP_INDEX:
	case PROP_BOOTINDEX:
		return *v.index < 0 ? NULL : xasprintf("%d", *v.index);
	case PROP_SIZE:
		return p->min > 1 ? xasprintf("%luK", *v.size / 1024) : xasprintf("%lu", *v.size);
	case PROP_BOOL:
		return xstrdup(*v.on ? "on" : "off");
	case PROP_CHOICE:
		return *v.index < 0 ? NULL : xstrdup(p->words[*v.index]);
	case PROP_STRING:
	case PROP_DRIVE:
	case PROP_NETDEV:
	case PROP_CHARDEV:
		return *v.text ? xstrdup(*v.text) : NULL;
	case PROP_MAC:
		return v.mac->set ? xasprintf("%02x:%02x:%02x:%02x:%02x:%02x", v.mac->addr[0],
					      v.mac->addr[1], v.mac->addr[2], v.mac->addr[3],
					      v.mac->addr[4], v.mac->addr[5])
				  : NULL;
	case PROP_UUID:
		if (!v.uuid->set)
			return NULL;
		format_uuid(uuid, v.uuid->bytes);
		return xstrdup(uuid);
	case PROP_PCI:
		return v.pci->slot < 0 ? NULL : xasprintf("%02x.%x", v.pci->slot, v.pci->func);
	case PROP_FIXED:
		break;
	}
	return NULL;
}

void props_put(const struct prop *p, const void *from, FILE *out)
{
	for (; p && p->name; p++) {
		char *text = prop_is_default(p, from) ? NULL : prop_text(p, from);

		if (text)
			keyval_put(out, p->name, text);
		free(text);
	}
}

/* --- the table itself --- */

const struct prop *props_of_type(const struct prop *p, enum prop_type t)
{
	for (; p && p->name; p++)
		if (p->type == t)
			return p;
	return NULL;
}

const struct prop *props_named(const struct prop *p, const char *name)
{
	for (; p && p->name; p++)
		if (!strcmp(p->name, name) || (p->alias && !strcmp(p->alias, name)))
			return p;
	return NULL;
}

char *prop_usage(const struct prop *p)
{
	static const char *const by_type[] = {
		[PROP_NUMBER] = "N", [PROP_INDEX] = "N", [PROP_BOOTINDEX] = "N",
		[PROP_SIZE] = "SIZE", [PROP_STRING] = "TEXT", [PROP_DRIVE] = "ID",
		[PROP_NETDEV] = "ID", [PROP_CHARDEV] = "ID|SPEC", [PROP_MAC] = "MAC",
		[PROP_UUID] = "auto|UUID", [PROP_PCI] = "SLOT",
	};
	char words[256] = "";
	size_t n = 0;

	if (p->type == PROP_BOOL)
		return xasprintf("%s=%s", p->name, p->def ? "off" : "on");
	for (int i = 0; p->words && p->words[i] && n < sizeof(words); i++)
		n += snprintf(words + n, sizeof(words) - n, "%s%s", i ? "|" : "", p->words[i]);
	return xasprintf("%s=%s", p->name, p->value ? p->value : *words ? words : by_type[p->type]);
}

const char *prop_type_name(const struct prop *p)
{
	switch (p->type) {
	case PROP_NUMBER:
		return "uint32";
	case PROP_INDEX:
	case PROP_BOOTINDEX:
		return "int32";
	case PROP_SIZE:
		return "size";
	case PROP_BOOL:
		return "bool";
	default:
		return "str";
	}
}
