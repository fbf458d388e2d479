# SeaBIOS boots a sector from an IDE disk or CD; it reads another one through the BIOS and asks VMware's port for its version.
variants=(medium=disk medium=cd)
boot_from=$medium
seconds=100
status=67
expect=("read and asked")
need="command -v xorriso"
why="xorriso is not installed"
prepare() {
	local lba=1
	[[ $boot_from == disk ]] || lba=16
	gcc -m32 -nostdlib -Wl,-Ttext=0x7c00,--oformat=binary,--build-id=none -DLBA=$lba -x assembler-with-cpp -o "$tmp/boot" - <<-'END' || return
	.code16
	.globl _start
	_start:	xor %ax, %ax
		mov %ax, %ds
		mov %ax, %es
		mov $packet, %si
		mov $0x42, %ah			/* extended read; dl is the drive we came from */
		int $0x13
		mov $1, %al
		jc out
		cmpl $0x30304443, 0x8001	/* "CD00" */
		jne out
		mov $0x564d5868, %eax
		xor %ebx, %ebx
		mov $10, %ecx
		mov $0x5658, %dx
		in (%dx), %eax
		cmp $6, %eax
		jne bad
		cmp $0x564d5868, %ebx
		jne bad
		mov $text, %si
		mov $0x3f8, %dx
	1:	lodsb
		test %al, %al
		jz 2f
		out %al, (%dx)
		jmp 1b
	2:	mov $0x21, %al
		jmp out
	bad:	mov $2, %al
	out:	mov $0xf4, %dx
		out %al, (%dx)
	3:	hlt
		jmp 3b
	text:	.asciz "read and asked\n"
	packet:	.byte 16, 0
		.word 1, 0x8000, 0
		.quad LBA
		.org 510
		.word 0xaa55
	END
	if [[ $boot_from == disk ]]; then
		{ cat "$tmp/boot"; printf '\1CD001'; } >"$tmp/disk.img"
		truncate -s 1M "$tmp/disk.img"
	else
		mkdir "$tmp/iso" && mv "$tmp/boot" "$tmp/iso/"
		xorriso -as mkisofs -quiet -b boot -no-emul-boot -boot-load-size 4 -o "$tmp/cd.iso" "$tmp/iso" 2>/dev/null
	fi
}
case $medium in
disk) args=(-drive "file=$tmp/disk.img,format=raw,if=ide") ;;
cd) args=(-cdrom "$tmp/cd.iso" -boot d) ;;
esac
