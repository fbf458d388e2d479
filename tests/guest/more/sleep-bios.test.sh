# The sleeper of sleep.c, started from a disk by SeaBIOS, which then also wakes it: by the shutdown code in CMOS and the FACS.
need="test -e /usr/share/seabios/bios-256k.bin"
why="no firmware (apt-get install seabios)"
args=(-drive "file=$tmp/disk.img,format=raw,if=ide" -net none)
expect=("good night")
reboot=
status=85
seconds=150
prepare() {
	local elf=$build/tests/guest/sleep.bin
	objcopy -O binary "$elf" "$tmp/flat" || return
	# A boot sector that loads 127 sectors behind it to 1 MiB and goes there in protected mode.
	gcc -m32 -nostdlib -Wl,-Ttext=0x7c00,-e0x7c00,--oformat=binary,--build-id=none -x assembler-with-cpp -o "$tmp/disk.img" \
		-DENTRY="$(readelf -h "$elf" | awk '/Entry point/ { print $4 }')" - <<-'END' || return
	.code16
		cli
		xor %ax, %ax
		mov %ax, %ds
		mov $packet, %si
		mov $0x42, %ah			/* extended read; dl is the drive we came from */
		int $0x13
		jc 9f
		in $0x92, %al			/* A20 */
		or $2, %al
		out %al, $0x92
		lgdtl pointer
		mov $1, %eax
		mov %eax, %cr0
		ljmpl $8, $1f
	.code32
	1:	mov $16, %ax
		mov %ax, %ds
		mov %ax, %es
		mov %ax, %ss
		cld
		mov $0x10000, %esi
		mov $0x100000, %edi
		mov $(127 * 512 / 4), %ecx
		rep movsl
		mov $ENTRY, %eax
		jmp *%eax
	9:	hlt
		jmp 9b
		.balign 8
	gdt:	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
	pointer: .word . - gdt - 1
		.long gdt
	packet:	.byte 16, 0
		.word 127, 0, 0x1000
		.quad 1
		.org 510
		.word 0xaa55
	END
	cat "$tmp/flat" >>"$tmp/disk.img" && truncate -s 1M "$tmp/disk.img"
}
verify() { grep -q 'sleeps (S3)' "$tmp/stderr"; }
