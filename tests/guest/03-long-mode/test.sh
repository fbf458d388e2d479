trace=exits,pio,msr
args=(-kernel "$guest")
expect=("03: 64 bits; two addresses, one page; accessed and dirty bits are right")
status=37
