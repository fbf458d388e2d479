args=(-kernel "$guest" -append "${how:=exit0}")
word=$how
variants=(how=exit0 how=exit127 how=default-port how=reset how=triple how=poweroff how=int3 how=timeout how=idle how=busy)
case $how in
exit0) status=1 ;;
exit127) status=255 ;;
default-port) status=11 args+=(-device isa-debug-exit) ;;
reset | poweroff) status=0 ;;
triple)
	status=242
	# The CPU must not have run on after it.
	verify() { [[ $(grep -c 'triple fault' "$tmp/stderr") == 1 ]] && ! grep -v '^  ' "$tmp/stderr" | grep -v 'triple fault\|vCPU 0:'; } ;;
timeout)
	word=hang status=124 seconds=10 args+=(-append hang -timeout 1)
	verify() { grep -q 'time limit of 1 s' "$tmp/stderr" && grep -q 'cs:rip 0008:0000000000100' "$tmp/stderr"; } ;;
idle)
	word=hang status=246 seconds=10 args+=(-append hang -idle-timeout 1)
	verify() { grep -q 'asked no device for anything for 1 s' "$tmp/stderr" && grep -q 'cs:rip 0008:0000000000100' "$tmp/stderr"; } ;;
busy)
	# Writes to a port all the time: that is no hang, whatever it says.
	word=chatter status=124 seconds=10 args+=(-append chatter -idle-timeout 1 -timeout 3) ;;
int3)
	need='[[ -e /sys/module/kvm_pvm ]]' why="an instruction that KVM cannot emulate is known only for PVM hosts"
	status=244 seconds=5
	verify() { grep -q 'KVM_EXIT_INTERNAL_ERROR' "$tmp/stderr" && grep -q 'int3' "$tmp/stderr" && grep -q 'PVM' "$tmp/stderr"; } ;;
esac
expect=("command line: $guest $word")
