# SPDX-License-Identifier: GPL-2.0-or-later
# in-lab.sh: for suites that run in the AMD-V lab: sourced, with $here and $build set.
#
# in_lab [SVM-LAB'S OPTION...] COMMAND...: what COMMAND prints (TAP) in one run of the lab, and its status. When the computer itself failed,
# once more, and only the second time counts. One emulated CPU: with two, the emulator's threads now and then lose a guest.
in_lab() {
	local dir try status
	dir=$(mktemp -d)
	for try in 1 2; do
		BUILD=$build "$here/svm-lab" -c 1 "$@" >"$dir/out" 2>"$dir/err"
		status=$?
		((status == 125)) || break
		echo "# the lab computer itself failed (try $try):"
		sed 's/^/#   /' "$dir/err" | tail -30
	done
	cat "$dir/out"
	((status < 2)) || { echo "not ok 99 - the lab ended with $status"; sed 's/^/# /' "$dir/err" | tail -30; }
	rm -rf "$dir"
	return $((status != 0))
}
