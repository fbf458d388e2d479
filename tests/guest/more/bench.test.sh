# The same guest here and, where QEMU is installed, in QEMU's emulator: what it says must be the same.
args=(-kernel "$guest" -append "one two=2" -smp 2 -nodefaults -device pc-testdev -device pci-testdev
	-machine pit=off -global kvm-pit.lost_tick_policy=discard)
expect=("arguments: one two=2" "module of 10 bytes: NR_CPUS=2" "module's arguments: a b" "RAM 4000000, 2 processors, at most 2"
	"3 interrupts" "portio-datamatch-eventfd: fa to 85" "the bench is complete")
status=65
prepare() {
	printf 'NR_CPUS=2\n' >"$tmp/env"
	printf 'second\n' >"$tmp/second"
}
args+=(-initrd "$tmp/env a b,$tmp/second")
verify() {
	command -v qemu-system-x86_64 >/dev/null || return 0
	timeout 100 qemu-system-x86_64 -accel tcg -machine pc -m 64 -display none -no-reboot -device isa-debug-exit,iobase=0xf4,iosize=4 \
		-kernel "$guest" -append "one two=2" -smp 2 -nodefaults -serial stdio -device pc-testdev -device pci-testdev \
		-initrd "$tmp/env a b,$tmp/second" </dev/null >"$tmp/qemu" 2>&1
	diff <(tr -d '\r' <<<"$output") <(tr -d '\r' <"$tmp/qemu")
}
