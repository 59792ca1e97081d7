//! baa-reload on the kinds of units that there are, under a real `systemd --user`.

use crate::support::systemd::{beside_journal, beside_systemd};
use crate::support::{Room, port};

/// Shell words that the scripts share: `unit NAME LINES…` installs a service of the user; `told WORDS…` runs
/// baa-reload and prints its status, its words go to `$ROOM/said`.
const PRELUDE: &str = r#"
D=~/.config/systemd/user; mkdir -p $D
unit() { file=$D/$1.service; shift; printf '[Service]\n' > $file; printf '%s\n' "$@" >> $file; }
show() { systemctl --user show -p $2 --value $1; }
told() {
  status=0; baa-reload --manager systemd --scope agent "$@" > $ROOM/out 2> $ROOM/said || status=$?
  echo "$status"
}
export XDG_STATE_HOME=$ROOM/state
"#;

fn check(script: &str, expected: &str) {
    let room = Room::new();
    let done = beside_systemd(&room, &format!("{PRELUDE}{script}"));
    let said = std::fs::read_to_string(room.path("said"));
    assert!(done.status == 0 && done.stdout == expected, "{done:?} {said:?}");
}

/// What systemd can still call failed has not recovered, though a process of it runs.
#[apply(test)]
fn a_start_that_is_not_finished_is_no_recovery() {
    check(
        r#"
unit mute Type=notify 'ExecStart=/bin/sleep 1000' TimeoutStopSec=1s
told --label mute --attempts 2 --delay 100ms; grep -o 'the job is activating (start)' $ROOM/said | head -n 1
unit post 'ExecStart=/bin/sleep 1000' 'ExecStartPost=/bin/sh -c "sleep 0.1; exit 1"' TimeoutStopSec=1s
told --label post --attempts 2 --delay 300ms; grep -o 'says of user/post.service: failed (failed)' $ROOM/said
unit ready Type=notify NotifyAccess=all \
  "ExecStart=/bin/sh -c 'sleep 0.3; systemd-notify --ready; exec sleep 1000'"
told --label ready; show ready ActiveState"#,
        "69\nthe job is activating (start)\n69\nsays of user/post.service: failed (failed)\n0\nactive\n",
    );
}

/// A unit that systemd has given up is started again once, and then told of: nothing comes of waiting.
#[apply(test)]
fn a_unit_that_systemd_has_given_up_is_not_waited_for() {
    check(
        r#"
unit post 'ExecStart=/bin/sleep 1000' ExecStartPost=/bin/false
told --label post --attempts 1000 --delay 50ms; grep -c 'attempt [0-9]* of' $ROOM/said || true
unit crash "ExecStart=/bin/sh -c 'echo run >> $ROOM/runs; exit 3'" Restart=always RestartSec=10ms
told --label crash --attempts 1000 --delay 100ms --settle 300ms
grep -o 'failed (failed), no process' $ROOM/said
wc -l < $ROOM/runs
unit crash 'ExecStart=/bin/sleep 1000'; told --label crash; show crash ActiveState"#,
        "69\n0\n69\nfailed (failed), no process\n10\n0\nactive\n",
    );
}

/// systemd refuses the sixth start within 10 seconds, and the unit is down then.
#[apply(test)]
fn reloads_one_after_the_other_do_not_hit_the_start_limit() {
    check(
        r#"
unit gw 'ExecStart=/bin/sleep 1000' StartLimitBurst=5
for i in 1 2 3 4 5 6 7 8; do told --label gw; done; show gw ActiveState"#,
        "0\n0\n0\n0\n0\n0\n0\n0\nactive\n",
    );
}

/// The run of a oneshot is its start: it is waited for, and never cut off by a kick.
#[apply(test)]
fn a_oneshot_is_waited_for_and_not_cut_off() {
    check(
        r#"
unit once Type=oneshot "ExecStart=/bin/sh -c 'sleep 1; echo x >> $ROOM/runs'"
told --label once; wc -l < $ROOM/runs
told --label once --attempts 2 --delay 10ms; grep -o 'its run must not be cut off' $ROOM/said
while test "$(show once ActiveState)" = activating; do sleep 0.02; done; wc -l < $ROOM/runs
unit stays Type=oneshot RemainAfterExit=yes "ExecStart=/bin/sh -c 'echo x >> $ROOM/stays'"
told --label stays; told --label stays; wc -l < $ROOM/stays; show stays SubState
unit bad Type=oneshot ExecStart=/bin/false
told --label bad --attempts 2 --delay 20ms"#,
        "0\n1\n69\nits run must not be cut off\n2\n0\n0\n2\nexited\n69\n",
    );
}

#[apply(test)]
fn a_forking_unit_is_proven_by_the_process_that_stays() {
    let port = port();
    check(
        &format!(
            r#"
cat > $ROOM/fork <<EOF
#!/bin/bash
$SERVICE --listen 127.0.0.1:{port} < /dev/null > /dev/null 2>&1 &
[ -z "\$1" ] || echo \$! > \$1
EOF
chmod +x $ROOM/fork
unit named Type=forking PIDFile=$ROOM/pid "ExecStart=$ROOM/fork $ROOM/pid"
told --label named --health-url http://127.0.0.1:{port}/; first=$(show named MainPID)
told --label named --json --health-url http://127.0.0.1:{port}/; second=$(show named MainPID)
test $first != $second; test $second = $(cat $ROOM/pid); grep -o "\"new_pid\":$second" $ROOM/out | wc -l
systemctl --user stop named
unit guess Type=forking GuessMainPID=no "ExecStart=$ROOM/fork"
told --label guess --health-url http://127.0.0.1:{port}/; show guess MainPID
told --label guess --health-url http://127.0.0.1:{port}/; grep -c 'answers at .* in place of' $ROOM/said"#
        ),
        "0\n0\n1\n0\n0\n0\n1\n",
    );
}

/// Instances of templates, aliases and transient units are reloaded as any other.
#[apply(test)]
fn names_that_are_not_files_of_their_own_can_be_reloaded() {
    check(
        r#"
anew() { before=$(show $1 MainPID); told --label $1; test $before != $(show $1 MainPID) && echo anew; }
unit web@ 'ExecStart=/bin/sleep 100%i'; systemctl --user start web@1; anew web@1
unit real 'ExecStart=/bin/sleep 1000'; printf '[Install]\nAlias=other.service\n' >> $D/real.service
systemctl --user enable -q real; systemctl --user start real; anew other
test $(show real MainPID) = $(show other MainPID)
systemd-run --user --quiet --unit=passing /bin/sleep 1000; anew passing"#,
        "0\nanew\n0\nanew\n0\nanew\n",
    );
}

/// What cannot be reloaded is said before anything is touched; by --dry-run too where the name tells.
#[apply(test)]
fn what_is_no_service_or_forbids_it_is_refused_before_anything_is_touched() {
    check(
        r#"
for name in a.socket a.timer a.path a.target a.slice a@; do
  told --label $name --dry-run; told --label $name; wc -l < $ROOM/said
done
cat $ROOM/said; told --label a.socket; cat $ROOM/said
unit gw 'ExecStart=/bin/sleep 1000'; systemctl --user start gw; pid=$(show gw MainPID)
printf '[Unit]\nRefuseManualStop=yes\n' >> $D/gw.service; systemctl --user daemon-reload
told --label gw; grep -o 'the unit forbids it.*' $ROOM/said; test $pid = $(show gw MainPID)
mv $D/gw.service $ROOM/; ln -s /dev/null $D/gw.service; systemctl --user daemon-reload
told --label gw; grep -o 'the unit is masked.*' $ROOM/said; test $pid = $(show gw MainPID)"#,
        &format!(
            "{}baa-reload: a@: cannot reload user/a@.service: it is a template; name one instance, as \
             a@NAME.service; nothing was touched\n2\nbaa-reload: a.socket: cannot reload user/a.socket: a \
             socket is not a service: it has no process; reload the service that it starts; nothing was \
             touched\n78\n\
             the unit forbids it (RefuseManualStop=yes); nothing was touched\n78\nthe unit is masked; \
             nothing was touched\n",
            "2\n2\n1\n".repeat(6)
        ),
    );
}

/// A service that a socket starts is reloaded beside it, and the socket stays.
#[apply(test)]
fn a_service_that_a_socket_starts_is_reloaded_beside_it() {
    check(
        r#"
printf '[Socket]\nListenStream=%s/in\nAccept=no\n' $ROOM > $D/by.socket
unit by "ExecStart=/bin/sleep 1000" StandardInput=socket
systemctl --user start by.socket by; first=$(show by MainPID)
told --label by; test $first != $(show by MainPID); show by.socket ActiveState"#,
        "0\nactive\n",
    );
}

/// The report has what the new life has said, and systemd of it; nothing of lives before.
#[apply(test)]
fn the_report_has_the_journal_of_the_new_life() {
    let room = Room::new();
    let script = format!(
        r#"{PRELUDE}
unit gw "ExecStart=/bin/sh -c 'echo of the old life; exec sleep 1000'"; told --label gw
unit gw "ExecStart=/bin/sh -c 'printf \"cannot read the \\033[31mkey\\n\"; sleep 0.2; exit 3'"
told --label gw --attempts 2 --delay 500ms --settle 1s --json; sed -n '/journal/,/manual/p' $ROOM/said
grep -c 'old life' $ROOM/said $ROOM/out | cut -d: -f2
grep -o '"stream":"journal"' $ROOM/out; grep -o '"cannot read the key"' $ROOM/out"#
    );
    let done = beside_journal(&room, &script);
    let expected = "0\n78\nbaa-reload: journal of this life (last 20 lines; all: journalctl \
                    --user-unit=gw.service):\nbaa-reload:   ";
    let rest = "0\n0\n\"stream\":\"journal\"\n\"cannot read the key\"\n";
    assert!(done.status == 0 && done.stdout.starts_with(expected) && done.stdout.ends_with(rest), "{done:?}");
    assert!(done.stdout.contains("\nbaa-reload:   cannot read the key\n"), "{done:?}");
    assert!(done.stdout.contains("gw.service: Main process exited, code=exited, status=3"), "{done:?}");
}

/// Where there is no journal, the report says so, and how to look for one.
#[apply(test)]
fn without_a_journal_the_report_says_so() {
    check(
        r#"
unit bad ExecStart=/bin/sleep\ 1000 ExecStartPost=/bin/false
told --label bad --attempts 1 --delay 10ms; grep -o 'journal: .*' $ROOM/said"#,
        "69\njournal: nothing of this life; see journalctl --user-unit=bad.service\n",
    );
}

/// A oneshot whose run is under way is neither kicked nor rolled back; the command that is printed tells
/// how it goes.
#[apply(test)]
fn a_oneshot_that_runs_is_not_rolled_back() {
    check(
        r#"
unit backup Type=oneshot 'ExecStart=/bin/true'; told --label backup
wait="until test -e $ROOM/go; do sleep 0.1; done"
unit backup Type=oneshot "ExecStart=/bin/sh -c 'echo run >> $ROOM/runs; $wait; echo done >> $ROOM/runs'"
for how in '' --rollback '--rollback --timeout 100ms'; do
  told --label backup --attempts 2 --delay 10ms $how
  grep -o 'must not be cut off' $ROOM/said | head -n 1; tail -n 1 $ROOM/said > $ROOM/repair
  cat $ROOM/runs | tr '\n' ' '; show backup ActiveState; ls $D
  test -e $ROOM/went || { sed 's/.*manual recovery: //' $ROOM/repair; }
  touch $ROOM/went; systemctl --user stop backup; rm $ROOM/runs
done
told --label backup --attempts 2 --delay 10ms
sh -c "$(sed 's/.*manual recovery: //' $ROOM/repair)" > $ROOM/status || true
grep -o 'activating (start)' $ROOM/status; touch $ROOM/go
while test "$(show backup ActiveState)" = activating; do sleep 0.02; done; tr '\n' ' ' < $ROOM/runs"#,
        &format!(
            "0\n69\nmust not be cut off\nrun activating\nbackup.service\nsystemctl --user status \
             backup.service\n69\n{0}124\n{0}69\nactivating (start)\nrun done ",
            "must not be cut off\nrun activating\nbackup.service\n"
        ),
    );
}

/// A dead unit has not recovered, whatever has kept it from running; and it is not what is gone back to.
#[apply(test)]
fn a_dead_unit_has_not_recovered() {
    check(
        r#"
need() { printf '[Unit]\n%s\n[Service]\nExecStart=/bin/sleep 1000\n' "$2" > $D/$1.service; }
quick() { told --label $1 --attempts 2 --delay 50ms --no-rollback; grep -o "$2" $ROOM/said | head -n 1; }
unit fails Type=oneshot ExecStart=/bin/false
need cond ConditionPathExists=$ROOM/none; quick cond 'a condition of the unit may not be met'
need assert AssertPathExists=$ROOM/none; quick assert 'Assertion failed on job for assert.service'
need dep "Requires=fails.service
After=fails.service"; quick dep 'A dependency job for dep.service failed'
unit skip ExecCondition=/bin/false 'ExecStart=/bin/sleep 1000'; quick skip 'a condition .* met'
unit done Type=oneshot ExecCondition=/bin/false ExecStart=/bin/true; quick done 'a condition .* met'
unit gone 'ExecStart=/bin/sleep 1000'; told --label gone
unit gone ExecStart=/bin/true; told --label gone --attempts 2 --delay 50ms --settle 500ms
grep -c 'sleep 1000' $D/gone.service; show gone ActiveState; grep -c 'manual recovery' $ROOM/said || true
unit stays RemainAfterExit=yes ExecStart=/bin/true; told --label stays; show stays ActiveState"#,
        "69\na condition of the unit may not be met\n69\nAssertion failed on job for assert.service\n69\n\
         A dependency job for dep.service failed\n69\na condition of the unit may not be met\n69\n\
         a condition of the unit may not be met\n0\n78\n1\nactive\n0\n0\nactive\n",
    );
}

/// Where systemd forgets a unit when it is over, its journal tells whether a condition has kept it from
/// running.
#[apply(test)]
fn a_oneshot_with_a_condition_that_is_met_has_recovered() {
    let room = Room::new();
    let script = format!(
        r#"{PRELUDE}
unit met Type=oneshot ExecCondition=/bin/true "ExecStart=/bin/sh -c 'echo run >> $ROOM/runs'"
told --label met --attempts 9 --delay 1s; wc -l < $ROOM/runs
unit unmet Type=oneshot ExecCondition=/bin/false ExecStart=/bin/true
told --label unmet --attempts 2 --delay 50ms
grep -o "Skipped due to 'exec-condition'" $ROOM/said | head -n 1"#
    );
    let done = beside_journal(&room, &script);
    done.expect(0, "0\n1\n69\nSkipped due to 'exec-condition'\n", "");
}

/// --timeout ends the wait for the old process too: systemd goes on with the restart.
#[apply(test)]
fn the_deadline_cuts_the_end_of_the_old_process() {
    check(
        r#"
unit slow TimeoutStopSec=1h \
  "ExecStart=/bin/sh -c 'trap \"\" TERM; echo > $ROOM/up; while :; do sleep 0.1; done'"
systemctl --user start slow; while ! test -e $ROOM/up; do sleep 0.02; done; first=$(show slow MainPID)
told --label slow --timeout 300ms; show slow ActiveState; grep -o 'before the deadline' $ROOM/said | head -n 1
kill -KILL $first; while test "$(show slow ActiveState)" != active; do sleep 0.02; done"#,
        "124\ndeactivating\nbefore the deadline\n",
    );
}

/// By whatever name a unit is called, it is one: one lock, one journal, one version that is kept.
#[apply(test)]
fn an_alias_and_an_escaped_name_are_units_as_others() {
    check(
        r#"
unit real 'ExecStart=/bin/sleep 1000'; ln -s real.service $D/other.service
told --label other; told --label real; told --label other.service
baa-reload history --label real | grep -c recovered; ls $XDG_STATE_HOME/baa/reload | grep -c other || true
unit web@ 'ExecStart=/bin/sleep 100'; told --label 'web@a-b\x2dc'; told --label web@a:b
baa-reload history --label 'web@a-b\x2dc' | grep -c recovered
told --label "web@$(printf '%0201d' 0)"; grep -o 'is longer than 200 letters' $ROOM/said"#,
        "0\n0\n0\n3\n0\n0\n0\n1\n2\nis longer than 200 letters\n",
    );
}

/// What a unit has from its manager is not told either.
#[apply(test)]
fn what_a_unit_inherits_is_not_told() {
    check(
        r#"
systemctl --user set-environment 'DB_PASSWORD=of the manager'
unit web 'ExecStart=/bin/sleep 1000'
told --label web --attempts 1 --delay 50ms -v --json --health-url 'exec:echo no: of the manager >&2; exit 1'
grep -o 'no: [*]*$' $ROOM/said | head -n 1; cat $ROOM/said $ROOM/out | grep -c 'of the manager' || true"#,
        "69\nno: ***\n0\n",
    );
}

/// A unit file or a drop-in that was accepted and does not serve gives way to what worked, and stays away.
#[apply(test)]
fn a_unit_or_a_drop_in_that_does_not_serve_gives_way_to_the_last_one_that_did() {
    check(
        r#"
unit gw 'ExecStart=/bin/sleep 1000'; told --label gw
unit gw 'ExecStart=/bin/false'; told --label gw --attempts 2 --delay 50ms --settle 200ms
show gw ActiveState; grep -c 'sleep 1000' $D/gw.service; grep -c /bin/false $D/gw.service.rejected
mkdir -p $D/gw.service.d; printf '[Service]\nExecStartPost=/bin/false\n' > $D/gw.service.d/more.conf
told --label gw --attempts 2 --delay 50ms; show gw ActiveState; ls $D/gw.service.d; show gw DropInPaths"#,
        "0\n78\nactive\n1\n1\n78\nactive\nmore.conf.rejected\n\n",
    );
}

/// A directory of drop-ins that went comes back; a drop-in of all services stays; a unit that is a link is
/// not rolled back, and is not restarted for it; and a unit is one, with and without its suffix.
#[apply(test)]
fn the_way_back_takes_nothing_from_other_services() {
    check(
        r#"
unit gw 'ExecStart=/bin/sleep 1000'; mkdir -p $D/gw.service.d
printf '[Service]\nEnvironment=A=b\n' > $D/gw.service.d/a.conf; told --label gw.service
mkdir -p $D/service.d; printf '[Service]\nEnvironment=C=d\n' > $D/service.d/site.conf
rm -r $D/gw.service.d; unit gw 'ExecStart=/bin/false'
told --label gw --attempts 2 --delay 50ms --settle 200ms
show gw ActiveState; show gw Environment; ls $D/service.d $D/gw.service.d | grep '[.]conf$'
mkdir $ROOM/elsewhere; printf '[Service]\nExecStart=/bin/sleep 1000\n' > $ROOM/elsewhere/ln.service
systemctl --user link -q $ROOM/elsewhere/ln.service; told --label ln
printf '[Service]\nExecStart=/bin/sh -c "echo run >> %s/runs; exit 3"\n' $ROOM > $ROOM/elsewhere/ln.service
told --label ln --attempts 2 --delay 50ms --settle 200ms
grep -o 'not rolled back: .* is no regular file' $ROOM/said | cut -c 1-17 | head -n 1"#,
        "0\n78\nactive\nA=b C=d\na.conf\nsite.conf\n0\n69\nnot rolled back: \n",
    );
}

/// What Environment= and the files of EnvironmentFile= hold is not told.
#[apply(test)]
fn what_the_environment_of_a_unit_holds_is_not_told() {
    check(
        r#"
printf '# a file\nFILE_TOKEN="in a file"\n' > $ROOM/env1; echo MORE=in-another > $ROOM/env2
unit web 'Environment="API_TOKEN=in the unit"' EnvironmentFile=$ROOM/env1 EnvironmentFile=-$ROOM/env2 \
  'ExecStart=/bin/sleep 1000'
told --label web --attempts 1 --delay 50ms -v --json \
  --health-url 'exec:echo no: in the unit, in a file, in-another >&2; exit 1'
grep -o 'no: [*]*, [*]*, [*]*$' $ROOM/said | head -n 1
cat $ROOM/said $ROOM/out $XDG_STATE_HOME/baa/reload/web*.journal |
  grep -c 'in the unit\|in a file\|in-another' || true"#,
        "69\nno: ***, ***, ***\n0\n",
    );
}
