# What Windows asks a hypervisor for, where the host's KVM has it.
args=(-kernel "$guest" -cpu host,hv_relaxed,hv_time,hv_vapic)
status=81
need='! "$vmm" -display none -serial none -m 16 -cpu host,hv_time -kernel "$guest" -timeout 1 2>&1 | grep -q "does not offer"'
why="this KVM has no Hyper-V interface (CONFIG_KVM_HYPERV)"
verify() { [[ $output == *"Hyper-V's leaves, time and pages; TSC page sequence "* ]]; }
