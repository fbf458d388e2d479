trace=virtio,pio
args=(-kernel "$guest" -device virtio-rng-pci)
expect=("07: the virtqueue works")
status=45
