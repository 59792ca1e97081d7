#!/bin/bash
# The steps of the script that baa-reload replaces, for the bench: bootout, bootstrap, kickstart -k, then curl once a second.
# usage: reload.sh DOMAIN LABEL URL DIRECTORY
set -eu
domain=$1 label=$2 url=$3 directory=$4
launchctl bootout "$domain/$label" 2> /dev/null || true
launchctl bootstrap "$domain" "$directory/$label.plist"
launchctl kickstart -k "$domain/$label"
healthy() {
    for _ in $(seq 30); do
        [ "$(curl -sS --max-time 5 -o /dev/null -w '%{http_code}' "$url" 2> /dev/null)" = 200 ] && return 0
        sleep 1
    done
    return 1
}
healthy && exit 0
launchctl kickstart -k "$domain/$label"
healthy
