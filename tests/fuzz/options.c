/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: the command line, an argument a line: options, key=value lists, and what
 * config_finish makes of them.
 */
#include "tests/fuzz/machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct config c;
	static bool made;
	char *text, *argv[34] = { "fuzz" };
	struct err err = { "" };
	int argc = 1, ret;

	if (!made)
		fuzz_enter_folder();
	made = true;
	text = malloc(size + 1);
	memcpy(text, data, size);
	text[size] = 0;
	for (char *p = strtok(text, "\n"); p && argc < 33; p = strtok(NULL, "\n"))
		if (strcmp(p, "help") && strcmp(p, "-h") && strcmp(p, "-man"))
			argv[argc++] = p;
	memset(&c, 0, sizeof(c));
	config_init(&c, device_kinds);
	ret = options_parse(&c, argc, argv, &err);
	if (ret == 0)
		ret = config_finish(&c, &err);
	if (ret < 0 && !err.msg[0])
		abort();
	config_free(&c);
	free(text);
	return 0;
}
