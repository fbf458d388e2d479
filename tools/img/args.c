/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * args.c: the command line by the tables of main.c, and -o lists. Options may follow operands; long
 * ones may be shortened.
 */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>

#include "disk/formats.h"
#include "disk/name.h"
#include "tools/img/img.h"

bool arg_has(const struct args *a, const char *name)
{
	for (int i = 0; i < a->nset; i++)
		if (!strcmp(a->set[i].name, name))
			return true;
	return false;
}

const char *arg_get(const struct args *a, const char *name)
{
	for (int i = a->nset - 1; i >= 0; i--)
		if (!strcmp(a->set[i].name, name))
			return a->set[i].value;
	return NULL;
}

bool args_quiet(const struct args *a)
{
	return arg_has(a, "-q");
}

int args_output(const struct args *a)
{
	const char *s = arg_get(a, "--output");

	if (!s || !strcmp(s, "human"))
		return 0;
	if (!strcmp(s, "json"))
		return 1;
	fail("--output must be used with human or json as argument.");
	return -1;
}

/* getopt's tables out of ours: letters as themselves, names without a letter from 256 on. */
static void make_tables(const struct img_opt **all, int n, char *letters, struct option *longs)
{
	*letters++ = ':';
	for (int i = 0; i < n; i++) {
		const char *name = all[i]->name, *bar = strchr(name, '|');
		const char *lname = bar ? bar + 3 : name[1] == '-' ? name + 2 : NULL;
		int id = name[1] != '-' ? name[1] : 256 + i;

		if (id < 256) {
			*letters++ = id;
			if (all[i]->arg)
				*letters++ = ':';
		}
		if (lname)
			*longs++ = (struct option){ lname,
						    all[i]->arg ? required_argument : no_argument,
						    NULL, id };
	}
	*letters = 0;
	*longs = (struct option){ NULL, 0, NULL, 0 };
}

/*
 * resize takes a size that may begin with '-': it is found from the end and set aside, so that
 * getopt does not take it for an option.
 */
static char *take_size(int *argc, char **argv)
{
	for (int i = *argc - 1; i > 0; i--) {
		char *s = argv[i];

		if ((*s != '-' && *s != '+') || !isdigit((unsigned char)s[1]))
			continue;
		memmove(argv + i, argv + i + 1, (*argc - i) * sizeof(*argv));
		--*argc;
		return s;
	}
	return NULL;
}

int args_parse(struct args *a, const struct img_cmd *cmd, int argc, char **argv)
{
	const struct img_opt *all[64];
	struct option longs[64];
	char letters[160], *size = NULL;
	int n = 0, c;

	a->cmd = cmd;
	for (const struct img_opt *o = cmd->opts; o->name; o++)
		all[n++] = o;
	for (const struct img_opt *o = img_common_opts; o->name; o++)
		all[n++] = o;
	make_tables(all, n, letters, longs);
	if (!strcmp(cmd->name, "resize"))
		size = take_size(&argc, argv);
	a->set = xcalloc(argc + 1, sizeof(*a->set));
	opterr = 0;
	/* As minivmm and the messages spell it. */
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "-image-dir"))
			argv[i] = "--image-dir";
	while ((c = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		if (c == ':')
			return usage_error("option '%s' requires an argument", argv[optind - 1]);
		if (c == '?' && optopt && optopt < 256)
			return usage_error("invalid option -- '%c'", optopt);
		if (c == '?')
			return usage_error("unrecognized option '%s'", argv[optind - 1]);
		for (int i = 0; i < n; i++) {
			if (c != (all[i]->name[1] != '-' ? all[i]->name[1] : 256 + i))
				continue;
			a->set[a->nset].name = all[i]->name;
			a->set[a->nset++].value = optarg;
			break;
		}
	}
	a->operand = xcalloc(argc - optind + 2, sizeof(*a->operand));
	while (optind < argc)
		a->operand[a->n++] = argv[optind++];
	if (size)
		a->operand[a->n++] = size;
	return 0;
}

void args_free(struct args *a)
{
	free(a->set);
	free(a->operand);
}

/* --- -o lists --- */

static void optlist_append(struct optlist *l, char *item)
{
	l->v = xrealloc(l->v, (l->n + 2) * sizeof(*l->v));
	l->v[l->n++] = item;
	l->v[l->n] = NULL;
}

int optlist_add(struct optlist *l, const char *text)
{
	while (*text) {
		char *item = xcalloc(1, strlen(text) + 4), *p = item;

		for (; *text; text++) {
			if (*text == ',' && text[1] != ',')
				break;
			text += *text == ',';
			*p++ = *text;
		}
		if (*text == ',')
			text++;
		if (!strchr(item, '='))
			strcpy(p, "=on");
		if (item[0] == '=') {
			free(item);
			return fail("Invalid option list: %s", text);
		}
		optlist_append(l, item);
	}
	return 0;
}

int optlist_json(struct optlist *l, const char *text, struct err *err)
{
	json_t *o = name_json(text, err), *v;
	const char *key;
	int ret = o ? 0 : -EINVAL;

	json_object_foreach(o, key, v) {
		if (!json_is_string(v) && !json_is_integer(v) && !ret)
			ret = err_set(err, EINVAL, "Parameter '%s' is neither a text nor a number",
				      key);
		else if (!ret)
			optlist_append(l, json_is_string(v)
						  ? xasprintf("%s=%s", key, json_string_value(v))
						  : xasprintf("%s=%lld", key,
							      (long long)json_integer_value(v)));
	}
	json_decref(o);
	return ret;
}

void optlist_set(struct optlist *l, const char *name, const char *value)
{
	free(optlist_take(l, name));
	optlist_append(l, xasprintf("%s=%s", name, value));
}

const char *optlist_get(const struct optlist *l, const char *name)
{
	return l->v ? node_create_opt((const char *const *)l->v, name) : NULL;
}

char *optlist_take(struct optlist *l, const char *name)
{
	const char *v = optlist_get(l, name);
	char *value = v ? xstrdup(v) : NULL;
	size_t len = strlen(name);
	int n = 0;

	for (int i = 0; i < l->n; i++) {
		if (!strncmp(l->v[i], name, len) && l->v[i][len] == '=')
			free(l->v[i]);
		else
			l->v[n++] = l->v[i];
	}
	l->n = n;
	if (l->v)
		l->v[n] = NULL;
	return value;
}

void optlist_free(struct optlist *l)
{
	for (int i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
}

bool optlist_help(const char *text)
{
	while (text && *text) {
		size_t n = strcspn(text, ",");

		if ((n == 4 && !strncmp(text, "help", 4)) || (n == 1 && *text == '?'))
			return true;
		text += n;
		text += *text == ',';
	}
	return false;
}

int args_optlist(const struct args *a, struct optlist *l)
{
	for (int i = 0; i < a->nset; i++)
		if (!strcmp(a->set[i].name, "-o") && optlist_add(l, a->set[i].value))
			return 1;
	return 0;
}

static int compare_opts(const void *a, const void *b)
{
	return strcmp((*(const struct node_opt *const *)a)->name,
		      (*(const struct node_opt *const *)b)->name);
}

int print_format_help(const char *format, bool with_protocol, bool amend)
{
	const struct node_ops *f = node_format_find(format);
	const struct node_opt *list[128];
	int n = 0;

	if (!f)
		return fail("Unknown file format '%s'", format);
	if (amend && !f->amend)
		return fail("Format driver '%s' does not support option amendment", f->format);
	if (!amend && !f->create)
		return fail("Format driver '%s' does not support image creation", f->format);
	for (const struct node_opt *o = f->create_opts; o && o->name && n < 128; o++)
		if (amend ? o->amend != OPT_CREATE : o->amend != OPT_AMEND)
			list[n++] = o;
	for (const struct node_opt *o = file_hint_opts;
	     with_protocol && !amend && o->name && n < 128; o++)
		list[n++] = o;
	qsort(list, n, sizeof(*list), compare_opts);
	if (amend)
		printf("Amend options for '%s':\n", f->format);
	else if (with_protocol)
		printf("Supported options:\n");
	else
		printf("Supported %s options:\n", f->format);
	for (int i = 0; i < n; i++) {
		char *left = xasprintf("%s=<%s>", list[i]->name, list[i]->type);

		printf("  %-22s - %s\n", left, list[i]->help);
		free(left);
	}
	if (!amend && !with_protocol)
		printf("\nThe protocol level may support further options.\nSpecify the target "
		       "filename to include those options.\n");
	return 0;
}
