#!/bin/sh
# What a shell can do: a client of tmux that waits, and a line when it comes back. For `make bench` only.
socket=$1 log=$2
server=$(tmux -S "$socket" display-message -p '#{pid}')
trap 'exit 0' HUP INT TERM
tmux -S "$socket" wait-for bench-canary
status=$?
printf 'ts=%s ev=server-exit server_pid=%s wait_rc=%s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$server" "$status" >> "$log"
