#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# tests/device/screen.sh: SeaBIOS and its video BIOS on this machine's /dev/kvm, seen as a person sees them: the text on the
# screen, the terminal (curses), pictures (of screendump and of a VNC viewer, beside a stored one), a key that arrives. Prints TAP.
set -u
here=$(dirname "$(realpath "$0")")
build=${BUILD:-build} work=$(mktemp -d) n=0 failed=0
trap 'rm -rf "$work" ${mon_dir:+"$mon_dir"}' EXIT
. "$here/../lib/monitor.sh"
result() { # STATUS NAME
	n=$((n + 1))
	if (($1 == 0)); then echo "ok $n - $2"; else failed=1; echo "not ok $n - $2"; mon_why; fi
}
alike() { python3 "$here/../lib/picture.py" "$@" >"$work/alike" 2>&1; }
if [[ ! -r /dev/kvm || ! -w /dev/kvm ]]; then echo "ok 1 - screen # SKIP no /dev/kvm here"; echo 1..1; exit 0; fi
if [[ ! -e /usr/share/seabios/vgabios-stdvga.bin ]]; then echo "ok 1 - screen # SKIP no firmware (apt-get install seabios)"; echo 1..1; exit 0; fi

for ((display = 20 + $$ % 1000; display < 2000; display++)); do
	(exec 3<>"/dev/tcp/127.0.0.1/$((5900 + display))") 2>/dev/null || break
done
mon_start -m 64 -net none -display none -vnc ":$display"
mon_screen 'SeaBIOS \(version' 60; result $? "the firmware's banner is on the screen"
mon_ask "screendump $work/early.png"
mon_screen 'No bootable device' 60; result $? "it says that there is nothing to boot"
mon_ask "screendump $work/late.png"
alike "$work/late.png" "$here/screens/seabios.png"; result $? "its picture is the stored one ($(cat "$work/alike"))"
# What the comparison is worth: a black picture and one that stood still are not taken for it.
python3 "$here/../lib/picture.py" --black 720 400 "$work/black.ppm"
! alike "$work/black.ppm" "$here/screens/seabios.png"; result $? "a black one is not"
! alike "$work/early.png" "$here/screens/seabios.png"; result $? "neither is that of a moment before"
if command -v vncsnapshot >/dev/null && command -v djpeg >/dev/null; then
	timeout 30 vncsnapshot -quality 100 "127.0.0.1:$display" "$work/vnc.jpg" >"$work/vnc.log" 2>&1 && djpeg "$work/vnc.jpg" >"$work/vnc.ppm" &&
		alike "$work/vnc.ppm" "$here/screens/seabios.png"
	result $? "a VNC viewer sees the same ($(cat "$work/alike"))"
else
	n=$((n + 1)); echo "ok $n - a VNC viewer sees the same # SKIP no vncsnapshot, or no djpeg (libjpeg-turbo-progs)"
fi
mon_end; result $? "quit ends it with 0"

mon_start -m 64 -net none -display none -boot menu=on,splash-time=30000
mon_screen 'Press ESC for boot menu' 60; result $? "the boot menu is offered"
mon_keys $'\e'
mon_screen 'Select boot device' 60; result $? "sendkey reaches the firmware"
[[ ! -s $mon_dir/serial ]]; result $? "with a card the serial port is the guest's alone"
mon_end
mon_start -m 64 -net none -nodefaults
mon_serial 'SeaBIOS' 60; result $? "without one the firmware's screen is on it"
mon_end

drawn() { sed 's/\x1b\[[0-9;?]*[a-zA-Z]//g' "$work/tty" | grep -aq 'SeaBIOS'; }
# The terminal: a pty of its own, the banner among what is drawn, Ctrl-A X leaves.
if command -v script >/dev/null; then
	: >"$work/tty"
	(for _ in {1..60}; do drawn && break; sleep 1; done; printf '\001x') | TERM=xterm LC_ALL=C.UTF-8 timeout 90 script -qec \
		"stty rows 30 cols 100; $build/minivmm -m 64 -net none -display curses" /dev/null >"$work/tty" 2>&1
	drawn || sed 's/\x1b/^[/g; s/^/# tty: /' "$work/tty" | tail -5
	drawn; result $? "the text screen is on the terminal"
else
	n=$((n + 1)); echo "ok $n - the text screen is on the terminal # SKIP no script(1) (bsdutils)"
fi
echo "1..$n"
exit $failed
