/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mod_disasm.c: one x86 instruction as text, by libcapstone; loaded when a message or trace wants
 * it. Any thread.
 */
#include <capstone/capstone.h>
#include <stdio.h>

/*
 * Writes "mov eax, dword ptr [rbx]" and returns its mnemonic, or NULL when the bytes are no
 * instruction. bits: 16, 32, 64.
 */
const char *disasm_one(uint64_t rip, int bits, const uint8_t *code, size_t len, char *text,
		       size_t size);

const char *disasm_one(uint64_t rip, int bits, const uint8_t *code, size_t len, char *text,
		       size_t size)
{
	cs_mode mode = bits == 64 ? CS_MODE_64 : bits == 32 ? CS_MODE_32 : CS_MODE_16;
	cs_insn *insn;
	csh handle;
	size_t n;

	if (cs_open(CS_ARCH_X86, mode, &handle) != CS_ERR_OK)
		return NULL;
	n = cs_disasm(handle, code, len, rip, 1, &insn);
	if (n)
		snprintf(text, size, "%s %s", insn[0].mnemonic, insn[0].op_str);
	if (n)
		cs_free(insn, n);
	cs_close(&handle);
	return n ? text : NULL;
}
