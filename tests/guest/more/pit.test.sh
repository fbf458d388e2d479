# The timer, and the same from QEMU's emulator, where it is installed.
args=(-kernel "$guest" -nodefaults)
expect=("counter 2 ran down" "counter 0 ticks" "and interrupts")
status=85
seconds=20
verify() {
	command -v qemu-system-x86_64 >/dev/null || return 0
	timeout 100 qemu-system-x86_64 -accel tcg -machine pc -m 64 -display none -device isa-debug-exit,iobase=0xf4,iosize=4 \
		-kernel "$guest" -nodefaults -serial stdio </dev/null >"$tmp/qemu" 2>&1
	[[ $? == "$status" ]] || { cat "$tmp/qemu"; return 1; }
}
