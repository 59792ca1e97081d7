#!/bin/bash
# baa-reload beside `systemctl restart` and a loop of curl, on a real `systemd --user`; the medians in ms.
# usage, as root: tests/support/user-systemd tests/bench/systemd.sh SERVICE COUNT BAA-RELOAD…
set -eu
service=$1 count=$2
shift 2
unit=bench-reload url=http://127.0.0.1:18731/
export XDG_STATE_HOME=$HOME/state
mkdir -p ~/.config/systemd/user
# No start limit: a script would hit it.
printf '[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=%s --listen 127.0.0.1:18731\n' "$service" \
    > ~/.config/systemd/user/$unit.service
systemctl --user daemon-reload
systemctl --user start $unit
script() {
    systemctl --user restart $unit
    until curl -fsS -o /dev/null $url 2> /dev/null; do sleep 0.01; done
}
ours() { "$1" -q --manager systemd --scope agent --label $unit --health-url $url; }
timed() {
    local name=$1
    shift
    # A process that was started just now dies faster than one that has run.
    sleep 0.1
    local from=${EPOCHREALTIME/./}
    "$@"
    echo $((${EPOCHREALTIME/./} - from)) >> "$HOME/$name"
}
for _ in $(seq "$count"); do
    timed script script
    for program; do timed "ours-${program//\//_}" ours "$program"; done
done
median() { sort -n "$1" | sed -n "$((count / 2 + 1))p"; }
base=$(median "$HOME/script")
for file in "$HOME"/script "$HOME"/ours-*; do
    now=$(median "$file")
    printf '%-60s %6d.%d ms  x%d.%02d\n' "${file##*/}" $((now / 1000)) $((now / 100 % 10)) $((now / base)) $((now * 100 / base % 100))
done
