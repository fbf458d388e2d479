args=(-kernel "$guest")
reboot=
expect=("start 0" "start 1" "start 2" "start 3" "start 4")
status=67
