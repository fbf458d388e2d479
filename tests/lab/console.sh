# SPDX-License-Identifier: GPL-2.0-or-later
# console.sh (sourced by bash scripts): drives a guest through its serial console.
#   vm_start COMMAND...    starts a VMM whose stdin and stdout are the console
#   vm_boot SECS COMMAND...  the same, and waits for the shell's prompt; a guest the lab has lost is started again
#   vm_wait TEXT [SECS]    waits until TEXT has appeared; 1 when it did not, or the VMM ended
#   vm_sh 'COMMAND' [SECS] runs it in the guest's shell; output in $vm_output, its status returned (255: no answer)
#   vm_send TEXT           types TEXT
#   vm_end [SECS]          waits for the VMM to end; its exit status in $vm_status (124: killed after SECS)
# $vm_log is everything the console said; with VM_ECHO=1 it is also shown as it comes.

vm_start() {
	vm_log=$(mktemp) vm_seen="" vm_status=""
	coproc VM { exec "$@" 2>&1; }
	vm_pid=$VM_PID
	exec {vm_in}>&"${VM[1]}" {vm_out}<&"${VM[0]}"
	exec {VM[0]}<&- {VM[1]}>&-
}

# Takes what there is, at most until $1 (in microseconds of the clock) and one piece; 1 when the VMM has closed the console.
vm_take() {
	local piece left=$((($1 - ${EPOCHREALTIME/./}) / 1000)) rc=0
	((left > 0)) || return 2
	((left < 200)) || left=200
	IFS= LC_ALL=C read -r -d '' -n 4096 -t "$((left / 1000)).$(printf %03d $((left % 1000)))" -u "$vm_out" piece || rc=$?
	[[ $piece ]] || { ((rc > 128)) && return 0; ((rc == 0)) && return 0; return 1; }
	vm_seen+=$piece
	printf %s "$piece" >>"$vm_log"
	[[ ! ${VM_ECHO-} ]] || printf %s "$piece"
	return 0
}

vm_wait() {
	local until=$((${EPOCHREALTIME/./} + ${2:-120} * 1000000))
	until [[ $vm_seen == *"$1"* ]]; do
		vm_take "$until" || return 1
	done
	vm_before=${vm_seen%%"$1"*} vm_seen=${vm_seen#*"$1"}
}

# The processor that svm-lab's QEMU emulates now and then returns to a guest with its own host's state, or to a wrong address in the
# middle of a long string instruction (GRUB copies the kernel with one): the guest then stands at an address of the lab's kernel, in real
# or protected mode or where its own page tables have nothing, or walks for ever through memory that is all zeros. The monitor (Ctrl-A C)
# tells. Or it makes a triple fault and boots again while a command of ours is under way: vm_sh waits for it and asks once more, a
# second time it counts.
# Where the processor that is lost stands is in $vm_where. One at its reset vector waits to be started.
vm_lost() {
	vm_send $'\001c\ninfo registers\n'
	vm_wait "CPU#0" 10 && vm_wait "(minivmm)" 10 || return 1
	vm_send $'\001c'
	vm_where=$(tr -d '\r' <<<"$vm_before" | awk '
		/cs:rip/ { where = $0; rip = $0; sub(/.*cs:rip /, "", rip); sub(/ .*/, "", rip) }
		/cs:rip/ && !/64-bit/ && rip ~ /:ffffffff/ { print where; exit }
		rip !~ /fff0$/ && (/is not mapped/ || /code at rip: 00 00 00 00 00 00 00 00/) { print where " (" $0 ")"; exit }')
	[[ $vm_where ]]
}

# Waits until the VMM has ended, and leaves it alone when it has not.
vm_ended() { # SECS
	local until=$((${EPOCHREALTIME/./} + $1 * 1000000))
	while vm_take "$until"; do :; done
	! kill -0 "$vm_pid" 2>/dev/null || ((${EPOCHREALTIME/./} < until))
}

vm_boot() {
	local until=$((SECONDS + $1))
	shift
	vm_start "$@"
	while ((SECONDS < until)); do
		! vm_wait $'# \e[6n' 30 || return 0
		kill -0 "$vm_pid" 2>/dev/null || return 1
		if vm_lost; then
			echo "# the emulated processor lost the guest: it stood at $vm_where; once more"
			vm_end 0
			vm_start "$@"
		else
			vm_seen=$(<"$vm_log")		# the prompt may have come meanwhile
		fi
	done
	return 1
}

vm_send() { printf '%s' "$1" >&"$vm_in"; }

vm_sh() {
	local before=$(vm_resets) rc=0
	vm_try "$@" || rc=$?
	vm_seen=${vm_seen##*made a triple fault}		# an older prompt is none
	if ((rc == 255 && $(vm_resets) > before)) && vm_wait $'# \e[6n' 150; then
		echo "# the emulated processor lost the guest, which was reset; once more: $1"
		rc=0
		vm_try "$@" || rc=$?
	fi
	return $rc
}
vm_resets() { grep -c 'made a triple fault' "$vm_log"; }
vm_try() {
	vm_seen="" vm_output=""
	vm_send "echo '@''@'; $1; echo \"@\"\"=\$?=\""$'\n'
	vm_wait $'@@\r\n' "${2:-60}" && vm_wait "@=" "${2:-60}" || return 255
	vm_output=${vm_before//$'\r'/}
	vm_wait "=" 10 || return 255
	return "$vm_before"
}

vm_end() {
	local until=$((${EPOCHREALTIME/./} + ${1:-60} * 1000000)) rc=0
	while vm_take "$until"; do :; done || rc=$?
	if kill -0 "$vm_pid" 2>/dev/null && ((${EPOCHREALTIME/./} >= until)); then
		kill "$vm_pid"; sleep 1; kill -9 "$vm_pid" 2>/dev/null
		vm_status=124
		wait "$vm_pid" 2>/dev/null
	else
		wait "$vm_pid" 2>/dev/null
		vm_status=$?
	fi
	exec {vm_in}>&- {vm_out}<&-
}
