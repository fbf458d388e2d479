# Every PCI device's configuration space and BAR sizes as the bootstrap leaves them, against the machine version's golden dump.
# GOLDEN_UPDATE=1 writes it anew, for a new machine version.
golden=tests/golden/pc-1.pci
args=(-kernel "$guest" -vga std -drive "file=$tmp/disk,format=raw,if=virtio" -device virtio-net-pci -device virtio-rng-pci -device virtio-balloon-pci
	-device virtio-console,chardev=null -device virtio-tablet-pci -device "virtio-9p-pci,path=$tmp,mount_tag=tag" -device e1000 -device rtl8139
	-device pci-testdev -device vmgenid)
status=65
prepare() { truncate -s 1M "$tmp/disk"; }
verify() {
	cd "$here/../.." || return 1
	[[ ! ${GOLDEN_UPDATE-} ]] || printf '%s\n' "${output//$'\r'/}" >$golden
	diff <(printf '%s\n' "${output//$'\r'/}") $golden | head -20 | grep . && { echo "what a guest sees of PCI changed: that needs a new machine version"; return 1; }
	return 0
}
