#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# tests/device/screen.sh: SeaBIOS and its video BIOS on this machine's /dev/kvm, seen as a person sees them: the text on the
# screen, the terminal (curses), a picture, a key that arrives. Prints TAP.
set -u
build=${BUILD:-build} work=$(mktemp -d) n=0 failed=0
trap 'rm -rf "$work"' EXIT
say() { n=$((n + 1)); echo "$1 $n - $2"; [[ $1 == ok ]] || failed=1; }
if [[ ! -r /dev/kvm || ! -w /dev/kvm ]]; then echo "ok 1 - screen # SKIP no /dev/kvm here"; echo 1..1; exit 0; fi
if [[ ! -e /usr/share/seabios/vgabios-stdvga.bin ]]; then echo "ok 1 - screen # SKIP no firmware (apt-get install seabios)"; echo 1..1; exit 0; fi

# start ARG...: a machine with its monitor on descriptors in and out.
start() {
	mkfifo "$work/in.$n" "$work/out.$n"
	timeout 120 "$build/minivmm" -m 64 -net none -serial none -monitor stdio "$@" <"$work/in.$n" >"$work/out.$n" 2>"$work/err" &
	vm=$!
	exec 3>"$work/in.$n" 4<"$work/out.$n"
}
# until_screen PATTERN SECONDS: asks for the screen until it shows the pattern.
until_screen() {
	local end=$((SECONDS + $2)) line
	while ((SECONDS < end)); do
		echo "info screen" >&3
		while IFS= read -r -t 0.5 -u 4 line; do
			[[ $line =~ $1 ]] && return 0
		done
	done
	return 1
}
finish() {
	echo quit >&3
	exec 3>&- 4<&-
	wait "$vm"
}

start -display none
until_screen 'SeaBIOS \(version' 60 && say ok "the firmware's banner is on the screen" || say "not ok" "the firmware's banner is on the screen"
until_screen 'No bootable device' 60 && say ok "it says that there is nothing to boot" || say "not ok" "it says that there is nothing to boot"
echo "screendump $work/a.png" >&3
sleep 2
if [[ $(head -c 8 "$work/a.png" | od -An -tx1 | tr -d ' ') == 89504e470d0a1a0a && $(stat -c %s "$work/a.png") -gt 1000 ]]; then
	say ok "the picture is a PNG with something on it"
else
	say "not ok" "the picture is a PNG with something on it"
fi
finish && say ok "quit ends it with 0" || say "not ok" "quit ends it with 0"

start -display none -boot menu=on,splash-time=30000
until_screen 'Press ESC for boot menu' 60 && say ok "the boot menu is offered" || say "not ok" "the boot menu is offered"
echo "sendkey esc" >&3
until_screen 'Select boot device' 60 && say ok "sendkey reaches the firmware" || say "not ok" "sendkey reaches the firmware"
finish

# The terminal: a pty of its own, the banner among what is drawn, Ctrl-A X leaves.
if command -v script >/dev/null; then
	(sleep 25; printf '\001x') | TERM=xterm LC_ALL=C.UTF-8 timeout 60 script -qec \
		"stty rows 30 cols 100; $build/minivmm -m 64 -net none -display curses" /dev/null >"$work/tty" 2>&1
	sed 's/\x1b\[[0-9;?]*[a-zA-Z]//g' "$work/tty" | grep -aq 'SeaBIOS' &&
		say ok "the text screen is on the terminal" || say "not ok" "the text screen is on the terminal"
else
	say ok "the text screen is on the terminal # SKIP no script(1) (bsdutils)"
fi
echo "1..$n"
exit $failed
