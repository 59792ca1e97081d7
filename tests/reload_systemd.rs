//! baa-reload and baa-healthwait on a real `systemd --user`, in namespaces of its own.

use crate::support::systemd::beside_systemd;
use crate::support::{Room, port};

/// Shell words that the scripts share: `unit NAME LINES…` installs a unit of the user.
const PRELUDE: &str = r#"
unit() {
  mkdir -p ~/.config/systemd/user; file=~/.config/systemd/user/$1.service; shift
  printf '[Service]\n' > $file; printf '%s\n' "$@" >> $file
}
pid() { systemctl --user show -p MainPID --value $1; }
reload() { baa-reload --manager systemd --scope agent "$@"; }
L=so.makefile.baa-conductor
export XDG_STATE_HOME=$ROOM/state
"#;

#[apply(test)]
fn a_unit_is_replaced_by_a_new_process_that_answers() {
    let (room, port) = (Room::new(), port());
    let script = format!(
        r#"{PRELUDE}
unit $L "ExecStart=$SERVICE --listen 127.0.0.1:{port} --drain 50" \
  'Environment="BAA_CONDUCTOR_LOCAL_API=http://127.0.0.1:{port}/" TOKEN=hunter2'
reload -q; first=$(pid $L)
reload --json > $ROOM/json; second=$(pid $L)
test $first != $second; ! kill -0 $first 2> /dev/null
grep -q '"outcome":"recovered"' $ROOM/json
grep -q "\"old_pid\":$first,\"new_pid\":$second,\"proof\":\"listener\"" $ROOM/json
baa-healthwait systemd:user/$L --attempts 1
baa-healthwait --served-by $second http://127.0.0.1:{port}/
! baa-healthwait systemd:user/none --attempts 1 2> $ROOM/none
grep -q 'user/none.service is not known to systemd' $ROOM/none
echo passed"#
    );
    let done = beside_systemd(&room, &script);
    assert!(
        done.status == 0 && done.stdout == "passed\n",
        "{done:?} {:?}",
        std::fs::read_to_string(room.path("json"))
    );
    assert!(!done.stderr.contains("hunter2"));
}

#[apply(test)]
fn a_bad_unit_is_refused_and_the_running_process_untouched() {
    let (room, port) = (Room::new(), port());
    let script = format!(
        r#"{PRELUDE}
run="ExecStart=$SERVICE --listen 127.0.0.1:{port}"
env='Environment=BAA_CONDUCTOR_LOCAL_API=http://127.0.0.1:{port}'
unit $L "$run" "$env"; reload -q; first=$(pid $L)
refuse() {{
  status=0; reload 2> $ROOM/said || status=$?
  echo "$status $(wc -l < $ROOM/said) $(grep -o "$1" $ROOM/said)"; test $(pid $L) = $first
}}
sleep 1.1; unit $L 'ExecStart=relative/path'; refuse 'systemd cannot use the unit file'
sleep 1.1; unit $L 'ExecStart=/nonexistent/program'; refuse "program '/nonexistent/program' does not exist"
sleep 1.1; unit $L "$run" "$env"; systemctl --user daemon-reload; reload -q; test $(pid $L) != $first
status=0; reload --label no-such-unit 2> $ROOM/said || status=$?
echo "$status $(grep -o 'there is no such unit' $ROOM/said)""#
    );
    let done = beside_systemd(&room, &script);
    done.expect(
        0,
        "78 1 systemd cannot use the unit file\n66 1 program '/nonexistent/program' does not exist\n\
         66 there is no such unit\n",
        "",
    );
}

#[apply(test)]
fn a_oneshot_unit_has_recovered_when_it_is_done() {
    let room = Room::new();
    let script = format!(
        r#"{PRELUDE}
unit once Type=oneshot "ExecStart=/bin/sh -c 'echo x >> $ROOM/runs'"
reload --label once -q; reload --label once --json -q > $ROOM/json; wc -l < $ROOM/runs
grep -o '"outcome":"recovered"' $ROOM/json"#
    );
    let done = beside_systemd(&room, &script);
    done.expect(0, "2\n\"outcome\":\"recovered\"\n", "");
}

#[apply(test)]
fn a_unit_that_does_not_answer_is_kicked_and_then_told_of() {
    let (room, port) = (Room::new(), port());
    let script = format!(
        r#"{PRELUDE}
unit $L "ExecStart=$SERVICE --listen 127.0.0.1:{port} --lame-first $ROOM/lame" \
  'Environment=BAA_CONDUCTOR_LOCAL_API=http://127.0.0.1:{port}'
reload --attempts 2 --delay 100ms --json > $ROOM/json 2> /dev/null
grep -o '"outcome":"recovered-by-kick"' $ROOM/json
unit $L "ExecStart=/bin/sh -c 'exit 3'" Restart=on-failure RestartSec=100ms \
  'Environment=BAA_CONDUCTOR_LOCAL_API=http://127.0.0.1:{port}'
systemctl --user daemon-reload
status=0; reload --no-rollback --attempts 2 --delay 200ms 2> $ROOM/said || status=$?; echo $status
tail -n 1 $ROOM/said; grep -c 'systemd says of user/' $ROOM/said"#
    );
    let done = beside_systemd(&room, &script);
    let unit = "so.makefile.baa-conductor.service";
    done.expect(
        0,
        &format!(
            "\"outcome\":\"recovered-by-kick\"\n69\n\
                 baa-reload: manual recovery: systemctl --user reset-failed {unit}; \
                 systemctl --user restart {unit}\n1\n"
        ),
        "",
    );
}

#[apply(test)]
fn a_reload_from_inside_the_unit_is_handed_over_to_another_scope() {
    let (room, port) = (Room::new(), port());
    let script = format!(
        r#"{PRELUDE}
cat > $ROOM/inside <<EOF
#!/bin/bash
if [ ! -e $ROOM/once ]; then
  : > $ROOM/once; sleep 0.3
  baa-reload --manager systemd --scope agent > $ROOM/said 2>&1
fi
exec $SERVICE --listen 127.0.0.1:{port}
EOF
chmod +x $ROOM/inside
unit $L "ExecStart=$ROOM/inside" \
  "Environment=BAA_CONDUCTOR_LOCAL_API=http://127.0.0.1:{port} PATH=$PATH HOME=$HOME" \
  "Environment=XDG_STATE_HOME=$ROOM/state XDG_RUNTIME_DIR=$XDG_RUNTIME_DIR"
systemctl --user start $L; first=$(pid $L)
log=$ROOM/state/baa/reload/$L.*.log
for i in $(seq 1000); do grep -q recovered $log 2> /dev/null && break; sleep 0.02; done
grep -o 'we run inside it' $ROOM/said; grep -ho 'recovered' $log; test $first != $(pid $L)"#
    );
    let done = beside_systemd(&room, &script);
    done.expect(0, "we run inside it\nrecovered\n", "");
}

/// A unit whose main process is a keeper finishes what it has begun: the keeper is told that a restart is
/// meant by the TERM.
#[apply(test)]
fn a_keeper_in_a_unit_drains_before_it_is_reloaded() {
    let (room, port) = (Room::new(), port());
    let script = format!(
        r#"{PRELUDE}
export BAA_RUNTIME_DIR=$ROOM/run
drain="--drain-cmd 'echo drained for \$\$BAA_RESTART_REASON >> $ROOM/log'"
unit $L KillMode=mixed "Environment=BAA_RUNTIME_DIR=$ROOM/run XDG_STATE_HOME=$ROOM/state" \
  Environment=BAA_CONDUCTOR_LOCAL_API=http://127.0.0.1:{port} \
  "ExecStart=$(command -v baa-run) --label gw $drain -- $SERVICE --listen 127.0.0.1:{port}"
reload -q; test ! -e $ROOM/log; reload -q; cat $ROOM/log
systemctl --user stop $L; wc -l < $ROOM/log"#
    );
    let done = beside_systemd(&room, &script);
    done.expect(0, "drained for baa-reload\n1\n", "");
}

/// rsync, tar and packages keep the time at which a file was written: systemd takes one that is no newer for
/// the one that it has.
#[apply(test)]
fn a_unit_file_that_looks_old_is_read_all_the_same() {
    let (room, port) = (Room::new(), port());
    let script = format!(
        r#"{PRELUDE}
serve() {{
  unit $L "ExecStart=$SERVICE --listen 127.0.0.1:{port} $1" \
    "Environment=BAA_CONDUCTOR_LOCAL_API=http://127.0.0.1:{port}/"
}}
serve '--body one'; touch -d @1 $file; reload -q
serve '--body two'; touch -d @1 $file; reload -q
baa-healthwait --timeout 5s --body-contains two http://127.0.0.1:{port}/
serve '--status 500'; touch -d @1 $file; reload -q --attempts 2 --delay 50ms || echo $?
baa-healthwait --timeout 5s --body-contains two http://127.0.0.1:{port}/
baa-reload history --label $L.service | wc -l"#
    );
    let done = beside_systemd(&room, &script);
    assert_eq!((done.status, done.stdout.as_str()), (0, "78\n3\n"), "{done:?}");
}
