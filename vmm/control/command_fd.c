/* SPDX-License-Identifier: GPL-2.0-or-later */
/* command_fd.c: descriptors that clients pass over a control socket (SCM_RIGHTS). */
#include <ctype.h>
#include <errno.h>
#include <unistd.h>

#include "vmm/base/fdset.h"
#include "vmm/control/command.h"
#include "vmm/control/control.h"

#define MEMBERS_MAX 1024	/* of all sets; a client has no more of our descriptors */

static void count(void *ctx, const struct fdset_member *m)
{
	++*(unsigned *)ctx;
}

static int no_descriptor(struct command_result *r)
{
	return err_set(&r->err, EINVAL, "No file descriptor supplied via SCM_RIGHTS");
}

static int run_add_fd(struct machine *m, json_t *args, struct command_result *r)
{
	json_t *id = json_object_get(args, "fdset-id");
	json_int_t set = id ? json_integer_value(id) : fdset_free_number();
	int fd = control_take_fd(), ret;
	unsigned members = 0;

	if (fd < 0)
		return no_descriptor(r);
	fdset_each(count, &members);
	if (set < 0 || set > UINT32_MAX)
		ret = err_set(&r->err, EINVAL,
			      "Parameter 'fdset-id' expects a non-negative value");
	else if (members >= MEMBERS_MAX)
		ret = err_set(&r->err, EMFILE, "more than %d descriptors in sets", MEMBERS_MAX);
	else
		ret = fdset_add(set, fd, json_string_value(json_object_get(args, "opaque")));
	if (ret < 0)
		close(fd);
	else
		r->value = json_pack("{s:I, s:i}", "fdset-id", set, "fd", fd);
	return ret;
}

static int run_remove_fd(struct machine *m, json_t *args, struct command_result *r)
{
	json_int_t set = json_integer_value(json_object_get(args, "fdset-id"));
	json_t *fd = json_object_get(args, "fd");
	json_int_t n = json_integer_value(fd);

	if (set >= 0 && set <= UINT32_MAX && (!fd || (n >= 0 && n <= INT32_MAX)) &&
	    fdset_remove(set, fd ? (int)n : -1) == 0)
		return 0;
	return fd ? err_set(&r->err, ENOENT,
			    "File descriptor named 'fdset-id:%lld, fd:%lld' not found", set, n)
		  : err_set(&r->err, ENOENT, "File descriptor named 'fdset-id:%lld' not found",
			    set);
}

static void list_member(void *ctx, const struct fdset_member *m)
{
	json_t *sets = ctx, *last = json_array_get(sets, json_array_size(sets) - 1), *fd;

	if (!last || json_integer_value(json_object_get(last, "fdset-id")) != m->set) {
		last = json_pack("{s:I, s:[]}", "fdset-id", (json_int_t)m->set, "fds");
		json_array_append_new(sets, last);
	}
	fd = json_pack("{s:i}", "fd", m->fd);
	if (m->opaque)
		json_object_set_new(fd, "opaque", json_string(m->opaque));
	json_array_append_new(json_object_get(last, "fds"), fd);
}

static int run_query_fdsets(struct machine *m, json_t *args, struct command_result *r)
{
	r->value = json_array();
	fdset_each(list_member, r->value);
	return 0;
}

static int run_getfd(struct machine *m, json_t *args, struct command_result *r)
{
	const char *name = json_string_value(json_object_get(args, "fdname"));
	int fd = control_take_fd();

	if (fd < 0)
		return no_descriptor(r);
	if (isdigit((unsigned char)*name) || fd_name(name, fd) < 0) {
		close(fd);
		return isdigit((unsigned char)*name)
			       ? err_set(&r->err, EINVAL,
					 "Parameter 'fdname' expects a name not starting with a "
					 "digit")
			       : err_set(&r->err, EMFILE, "too many descriptors have names");
	}
	return 0;
}

static int run_closefd(struct machine *m, json_t *args, struct command_result *r)
{
	const char *name = json_string_value(json_object_get(args, "fdname"));
	int fd = fd_take(name);

	if (fd < 0)
		return err_set(&r->err, ENOENT, "File descriptor named '%s' not found", name);
	close(fd);
	return 0;
}

const struct command commands_fd[] = {
	{ "add-fd", NULL, "put the descriptor that comes along into a set: /dev/fdset/N opens it",
	  run_add_fd, NULL, COMMAND_FAST,
	  { { "fdset-id", ARG_INT, true }, { "opaque", ARG_STR, true } } },
	{ "remove-fd", NULL, "close a descriptor of a set, or all of them", run_remove_fd, NULL,
	  COMMAND_FAST, { { "fdset-id", ARG_INT, false }, { "fd", ARG_INT, true } } },
	{ "query-fdsets", NULL, "the sets of descriptors", run_query_fdsets, NULL, COMMAND_FAST,
	  { { 0 } } },
	{ "getfd", "getfd", "give the descriptor that comes along a name, for fd:NAME and fd=NAME",
	  run_getfd, NULL, COMMAND_FAST, { { "fdname", ARG_STR, false } } },
	{ "closefd", "closefd", "close the descriptor of that name", run_closefd, NULL,
	  COMMAND_FAST, { { "fdname", ARG_STR, false } } },
	{ 0 },
};
