# Asleep, and woken by the clock; QEMU's emulator, where it is installed, ends the same way.
args=(-kernel "$guest" -nodefaults)
expect=("good night")
reboot=
status=85
seconds=20
verify() {
	grep -q 'sleeps (S3)' "$tmp/stderr" || return
	command -v qemu-system-x86_64 >/dev/null || return 0
	timeout 100 qemu-system-x86_64 -accel tcg -machine pc -m 64 -display none -device isa-debug-exit,iobase=0xf4,iosize=4 \
		-kernel "$guest" -nodefaults -serial stdio </dev/null >"$tmp/qemu" 2>&1
	[[ $? == "$status" ]]
}
