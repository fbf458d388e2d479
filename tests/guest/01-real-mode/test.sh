trace=exits,pio
args=(-bios "$guest")
expect=("01: hello from real mode")
status=33
