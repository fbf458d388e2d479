trace=exits,pio
args=(-bios "$guest")
expect=("02: 32 bits, and memory above 1 MiB")
status=35
