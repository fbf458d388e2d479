trace=exits,pio
args=(-kernel "$guest" -smp "${cpus:-2}")
expect=("05: $(printf %02d "${cpus:-2}") CPUs count themselves")
status=41
variants=(cpus=2 cpus=1 cpus=4 cpus=64)
