args=(-kernel "$guest" -device virtio-rng-pci)
expect=("repeated output" "widths are right")
status=65
