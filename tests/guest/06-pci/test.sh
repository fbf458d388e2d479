trace=exits,pio
args=(-kernel "$guest" -device virtio-rng-pci)
expect=("06: 00:00.0 8086:1237 class 0600" "06: 00:01.0 8086:7000 class 0601")
status=43
