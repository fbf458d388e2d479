trace=blk,virtio,irq
prepare() {
	truncate -s 1M "$tmp/disk"
	printf 'here is the second sector' | dd of="$tmp/disk" bs=512 seek=1 conv=notrunc status=none
}
args=(-kernel "$guest" -drive "file=$tmp/disk,format=raw")
expect=("08: a disk of 2048 sectors" "08: sector 1 says: here is the second sector"
	"08: written, flushed, read back; errors are errors")
status=47
# What the guest wrote must be in the file: byte i of sector 2 is 7 * i.
verify() {
	local got
	got=$(od -An -tu1 -j $((2 * 512 + 100)) -N 2 "$tmp/disk" | xargs)
	[[ $got == "$((700 % 256)) $((707 % 256))" ]] || { echo "sector 2 of the file has $got"; return 1; }
	[[ $(stat -c %s "$tmp/disk") == 1048576 ]] || { echo "the file has changed its size"; return 1; }
}
