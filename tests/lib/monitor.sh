# SPDX-License-Identifier: GPL-2.0-or-later
# monitor.sh (sourced by bash scripts): a machine as a person at its screen has it.
#   mon_start ARG...            starts $MINIVMM (default $build/minivmm) with a monitor; its serial port goes into $mon_dir/serial
#   mon_say COMMAND             gives the monitor a command; mon_ask COMMAND also leaves the answer in $mon_answer
#   mon_screen PATTERN SECS     asks for the text screen until a line of it matches
#   mon_serial TEXT SECS        waits until the serial port has said it
#   mon_keys TEXT               types it, key by key (a-z 0-9 and what is in the table)
#   mon_end                     quits; returns the machine's exit status
# What was last on the screen is in $mon_screen_text; mon_why prints both as TAP comments. $mon_dir is the caller's to remove.

mon_start() {
	mon_dir=$(mktemp -d "${TMPDIR:-/tmp}/monitor.XXXXXX")
	mkfifo "$mon_dir/in" "$mon_dir/out"
	"${MINIVMM:-$build/minivmm}" -serial "file:$mon_dir/serial" -monitor stdio "$@" \
		<"$mon_dir/in" >"$mon_dir/out" 2>"$mon_dir/err" &
	mon_pid=$!
	exec {mon_in}>"$mon_dir/in" {mon_out}<"$mon_dir/out"
}

mon_say() { echo "$1" >&"$mon_in" 2>/dev/null; }

# The answer ends where the next prompt begins; nothing for half a second is the end, too.
mon_ask() {
	local line
	mon_answer=
	while IFS= read -r -t 0.01 -u "$mon_out" line; do :; done
	mon_say "$1"
	while IFS= read -r -t 0.5 -u "$mon_out" line; do
		mon_answer+=${line//$'\r'/}$'\n'
	done
}

mon_screen() {
	local end=$((SECONDS + $2)) line
	while ((SECONDS < end)); do
		kill -0 "$mon_pid" 2>/dev/null || return 1
		mon_ask "info screen"
		mon_screen_text=$mon_answer
		while IFS= read -r line; do
			[[ $line =~ $1 ]] && return 0
		done <<<"$mon_answer"
		sleep 0.5
	done
	return 1
}

mon_serial() {
	local end=$((SECONDS + $2))
	while ((SECONDS < end)); do
		grep -aqF -- "$1" "$mon_dir/serial" 2>/dev/null && return 0
		kill -0 "$mon_pid" 2>/dev/null || return 1
		sleep 0.5
	done
	return 1
}

mon_keys() {
	local i key
	for ((i = 0; i < ${#1}; i++)); do
		key=${1:i:1}
		case $key in
		' ') key=spc ;; $'\n') key=ret ;; $'\e') key=esc ;; '/') key=slash ;; '.') key=dot ;; '-') key=minus ;; '=') key=equal ;;
		',') key=comma ;; '+') key=shift-equal ;; '_') key=shift-minus ;; ':') key=shift-semicolon ;;
		'\') key=backslash ;; [A-Z]) key=shift-${key,} ;;
		esac
		mon_say "sendkey $key"
		sleep 0.05		# as a fast typist: a keyboard holds 16 bytes
	done
}

mon_end() {
	local end=$((SECONDS + 20)) status=0
	mon_say quit
	while kill -0 "$mon_pid" 2>/dev/null && ((SECONDS < end)); do sleep 0.1; done
	kill -9 "$mon_pid" 2>/dev/null
	wait "$mon_pid" 2>/dev/null || status=$?
	exec {mon_in}>&- {mon_out}<&-
	return $status
}

mon_why() {
	sed 's/^/# screen: /; /: *$/d' <<<"${mon_screen_text-}"
	tail -c 2000 "$mon_dir/serial" 2>/dev/null | tr -d '\000-\010\013-\037' | sed 's/^/# serial: /'
	sed 's/^/# minivmm: /' "$mon_dir/err" 2>/dev/null | tail -20
}
