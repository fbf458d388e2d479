/* SPDX-License-Identifier: GPL-2.0-or-later */
/* command_memory.c: guest memory to a file. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/control/command.h"
#include "vmm/control/dump.h"

#define CHUNK (1 * MiB)

/* Copies memory by physical or virtual address into a new file. */
static int save_memory(struct machine *m, json_t *args, struct vcpu *v, struct err *err)
{
	uint64_t addr = json_integer_value(json_object_get(args, "val"));
	uint64_t size = json_integer_value(json_object_get(args, "size"));
	const char *path = json_string_value(json_object_get(args, "filename"));
	uint8_t *buf = xcalloc(1, CHUNK);
	int fd = host_open(&m->host, "memory dump", path, O_WRONLY | O_CREAT | O_TRUNC, 0600,
			   err),
	    ret = MIN(fd, 0);

	while (ret == 0 && size) {
		uint64_t n = MIN(size, CHUNK);

		ret = v ? vcpu_read_virtual(v, addr, buf, n) : mem_read(m->mem, addr, buf, n);
		if (ret < 0) {
			err_set(err, EFAULT,
				"Invalid addr 0x%016" PRIx64 "/size %" PRIu64 " specified", addr,
				n);
			break;
		}
		ret = write_full(fd, buf, n);
		if (ret < 0)
			err_set(err, -ret, "%s: %s", path, strerror(-ret));
		addr += n;
		size -= n;
	}
	if (fd >= 0 && close(fd) < 0 && ret == 0)
		ret = err_set(err, errno, "%s: %s", path, strerror(errno));
	free(buf);
	return ret;
}

static int run_pmemsave(struct machine *m, json_t *args, struct command_result *r)
{
	return save_memory(m, args, NULL, &r->err);
}

static int run_memsave(struct machine *m, json_t *args, struct command_result *r)
{
	json_int_t cpu = json_integer_value(json_object_get(args, "cpu-index"));
	int ret;

	if (cpu < 0 || cpu >= m->nvcpus)
		return err_set(&r->err, EINVAL, "Parameter 'cpu-index' expects a CPU number");
	vm_pause(m->vm, PAUSE_DEBUG);
	ret = save_memory(m, args, m->vcpus[cpu], &r->err);
	vm_resume(m->vm, PAUSE_DEBUG);
	return ret;
}

static int dump(struct machine *m, const char *path, bool paging, struct command_result *r)
{
	json_t *result;
	int ret;

	if (paging)
		return err_set(&r->err, ENOTSUP,
			       "with paging: the core has physical addresses; crash finds the page "
			       "tables itself");
	vm_pause(m->vm, PAUSE_SAVE);
	ret = dump_guest_memory(m, path, &r->err);
	vm_resume(m->vm, PAUSE_SAVE);
	result = json_pack("{s:{s:s,s:I,s:I}}", "result", "status",
			   ret < 0 ? "failed" : "completed", "total", (json_int_t)m->config->ram,
			   "completed", (json_int_t)(ret < 0 ? 0 : m->config->ram));
	if (ret < 0)
		json_object_set_new(result, "error", json_string(r->err.msg));
	event_emit("DUMP_COMPLETED", result);
	return ret;
}

static int run_dump(struct machine *m, json_t *args, struct command_result *r)
{
	const char *protocol = json_string_value(json_object_get(args, "protocol"));

	if (strncmp(protocol, "file:", 5))
		return err_set(&r->err, EINVAL, "parameter 'protocol' must be file:PATH");
	return dump(m, protocol + 5, json_is_true(json_object_get(args, "paging")), r);
}

static int run_dump_line(struct machine *m, json_t *args, struct command_result *r)
{
	return dump(m, json_string_value(json_object_get(args, "filename")),
		    json_is_true(json_object_get(args, "paging")), r);
}

const struct command commands_memory[] = {
	{ "pmemsave",
	  "pmemsave",
	  "physical memory to a file",
	  run_pmemsave,
	  NULL,
	  COMMAND_SLOW,
	  { { "val", ARG_INT, false },
	    { "size", ARG_INT, false },
	    { "filename", ARG_STR, false } } },
	{ "memsave",
	  "memsave",
	  "virtual memory of a processor to a file",
	  run_memsave,
	  NULL,
	  COMMAND_SLOW,
	  { { "val", ARG_INT, false },
	    { "size", ARG_INT, false },
	    { "filename", ARG_STR, false },
	    { "cpu-index", ARG_INT, true } } },
	{ "dump-guest-memory",
	  NULL,
	  "an ELF core for crash and gdb",
	  run_dump,
	  NULL,
	  COMMAND_SLOW,
	  { { "paging", ARG_BOOL, false }, { "protocol", ARG_STR, false } } },
	{ NULL,
	  "dump-guest-memory",
	  "an ELF core for crash and gdb",
	  run_dump_line,
	  NULL,
	  COMMAND_SLOW,
	  { { "filename", ARG_STR, false }, { "paging", ARG_BOOL, true } } },
	{ 0 },
};
