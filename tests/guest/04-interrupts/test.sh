trace=exits,pio,irq
args=(-kernel "$guest")
expect=("04: the timer ticked five times" "04: the local APIC interrupted its own CPU")
status=39
