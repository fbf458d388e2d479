args=(-kernel "$guest" -append "${how:=exit0}")
variants=(how=exit0 how=exit127 how=default-port how=reset how=triple how=poweroff how=int3)
expect=("command line: $guest $how")
case $how in
exit0) status=1 ;;
exit127) status=255 ;;
default-port) status=11 args+=(-device isa-debug-exit) ;;
reset | poweroff) status=0 ;;
triple)
	status=5
	# The CPU must not have run on after it.
	verify() { [[ $(wc -l <"$tmp/stderr") == 1 ]] && grep -q 'triple fault' "$tmp/stderr"; } ;;
int3)
	need='[[ -e /sys/module/kvm_pvm ]]' why="an instruction that KVM cannot emulate is known only for PVM hosts"
	status=3 seconds=5
	verify() { grep -q 'KVM_EXIT_INTERNAL_ERROR' "$tmp/stderr" && grep -q 'int3' "$tmp/stderr" && grep -q 'PVM' "$tmp/stderr"; } ;;
esac
