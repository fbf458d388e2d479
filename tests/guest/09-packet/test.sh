trace=net,virtio
args=(-kernel "$guest" -net user)
expect=("09: 10.0.2.2 answered the ping with the same text")
status=49
