//! baa-run: what a restart is meant by, when it is done, and what comes of it; the defects of the seed's run
//! loop, each once (facts 1.9, 34 to 40).

use crate::run_loop::{ctl, lives, read, script, spawn};
use crate::support::systemd::beside_systemd;
use crate::support::{Room, alive, collect, signal, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::process::Child;

fn keeper(room: &Room, arguments: &[&str], more: &str) -> Child {
    let script = script(more);
    let common = [["--label", "k"], ["--cooldown", "0"]]
        .into_iter()
        .filter(|pair| !arguments.contains(&pair[0]))
        .flatten();
    let words: Vec<&str> =
        common.chain(arguments.iter().copied()).chain(["--", "/bin/sh", "-c", &script]).collect();
    let before = lives(room).len();
    let keeper = spawn(room, &words);
    until("it runs", || lives(room).len() > before);
    keeper
}

fn status(room: &Room) -> Value {
    ctl(room, &["status", "k", "--json"]).json()
}

/// TERM stops; after a restart was meant it restarts, once, and finishes first what it has begun. INT stops,
/// whatever was meant.
#[apply(test)]
fn a_term_is_what_was_meant_by_it() {
    let room = Room::new();
    let drain = ["--drain-cmd", "echo drained $BAA_RESTART_REASON >> log", "--supervisor", "none"];
    let child = keeper(&room, &drain, "echo life $BAA_RESTART_REASON >> log;");
    ctl(&room, &["intend", "k", "--reason", "a new config"]).expect(0, "", "");
    let intent = room.path("run/jobs/k/intent.json");
    assert_eq!(std::fs::metadata(&intent).unwrap().permissions().mode() & 0o777, 0o600);
    signal(child.id(), Signal::SIGTERM);
    until("it is started again", || lives(&room).len() == 2);
    assert_eq!(read(&room, "log"), "life\ndrained a new config\nlife a new config\n");
    assert!(!intent.exists() && alive(u64::from(child.id())));
    // One for another process, or too old, is none; and it is gone when it was looked at.
    for bad in ["{\"kind\":\"baa-restart\",\"pid\":1,\"created_ms\":0}", "rubbish"] {
        std::fs::write(&intent, bad).unwrap();
        let child = keeper(&room, &["--label", "other"], "");
        signal(child.id(), Signal::SIGTERM);
        assert_eq!(collect(child).status, 0);
        assert!(intent.exists(), "another keeper's intent was taken");
    }
    signal(child.id(), Signal::SIGTERM);
    assert_eq!(collect(child).status, 0);
    assert!(!intent.exists());
    let child = keeper(&room, &drain, "");
    ctl(&room, &["intend", "k"]).expect(0, "", "");
    signal(child.id(), Signal::SIGINT);
    assert_eq!(collect(child).status, 0);
    // What is left over means nothing to the next keeper.
    assert!(intent.exists());
    let child = keeper(&room, &drain, "");
    assert!(!intent.exists());
    signal(child.id(), Signal::SIGTERM);
    assert_eq!(collect(child).status, 0);
    ctl(&room, &["intend", "k"]).failed_with(69, "no keeper runs");
}

/// 36: a USR1 that nobody has authorised does not keep later ones from being heard.
#[apply(test)]
fn an_unmeant_usr1_is_told_of_and_a_later_one_works() {
    let room = Room::new();
    let child = keeper(&room, &[], "trap 'echo usr1 >> log' USR1;");
    signal(child.id(), Signal::SIGUSR1);
    ctl(&room, &["intend", "k"]).expect(0, "", "");
    until("it is restarted", || {
        // The first may be read together with the second: signals do not queue.
        signal(child.id(), Signal::SIGUSR1);
        lives(&room).len() == 2
    });
    signal(child.id(), Signal::SIGTERM);
    let done = collect(child);
    assert!(
        done.status == 0 && done.stderr.contains("USR1 is ignored: nobody has said what it means"),
        "{done:?}"
    );
    assert_eq!(read(&room, "log"), "");
    // Where it may always restart, many at once are one, and the next waits for the cooldown.
    let child = keeper(&room, &["--usr1", "restart", "--cooldown", "1h"], "");
    signal(child.id(), Signal::SIGUSR1);
    until("it is restarted", || lives(&room).len() == 4 && status(&room)["change"]["state"] == "done");
    signal(child.id(), Signal::SIGUSR1);
    until("the next one waits", || {
        status(&room)["restart_in_ms"].as_u64().is_some_and(|wait| wait > 3_000_000)
    });
    signal(child.id(), Signal::SIGTERM);
    assert_eq!(collect(child).status, 0);
    assert_eq!(lives(&room).len(), 4);
}

/// 35: what is asked while it starts is not lost, and a stop overrides it.
#[apply(test)]
fn a_request_during_a_start_is_kept() {
    let room = Room::new();
    let ready = ["--ready", "file:up", "--ready-timeout", "1h", "--supervisor", "none"];
    let child = keeper(&room, &ready, "");
    assert_eq!(status(&room)["state"], "starting");
    ctl(&room, &["restart", "k", "--no-wait"]).expect(0, "", "");
    until("it is started again", || lives(&room).len() == 2);
    ctl(&room, &["intend", "k"]).expect(0, "", "");
    signal(child.id(), Signal::SIGTERM);
    until("it is started again", || lives(&room).len() == 3);
    let waits = spawn(&room, &["ctl", "restart", "k"]);
    until("it is started again", || lives(&room).len() == 4);
    room.write("up", "");
    assert_eq!(collect(waits).status, 0);
    std::fs::remove_file(room.path("up")).unwrap();
    let waits = spawn(&room, &["ctl", "restart", "k"]);
    until("it is started again", || lives(&room).len() == 5);
    signal(child.id(), Signal::SIGTERM);
    assert_eq!(collect(child).status, 0);
    let done = collect(waits);
    assert!(done.status == 69 && done.stderr.contains("k is not restarted"), "{done:?}");
}

/// 34: one that is parked gives its lock back and takes it again before it serves; a bundle tells what went
/// before.
#[apply(test)]
fn a_parked_keeper_gives_its_lock_back_and_takes_it_again() {
    let room = Room::new();
    let arguments =
        ["--lock", "lock", "--throttle", "100ms", "--ready", "file:up", "--ready-timeout", "300ms"];
    let child = keeper(&room, &arguments, "[ -e broken ] || touch up;");
    until("it serves", || status(&room)["state"] == "running");
    let try_lock = || {
        room.run("baa-run", ["-q", "--lock", "lock", "--lock-wait", "0", "--restart", "never", "--", "true"])
            .status
    };
    assert_eq!(try_lock(), 75);
    room.write("broken", "");
    std::fs::remove_file(room.path("up")).unwrap();
    ctl(&room, &["restart", "k"])
        .failed_with(69, "k is not restarted: it does not serve within 300ms: cannot find up");
    until("it is parked", || status(&room)["parked"] == true);
    assert_eq!(try_lock(), 0);
    let bundles: Vec<_> = std::fs::read_dir(room.path("state/baa/logs/stability"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(bundles.len(), 1);
    let bundle: Value = serde_json::from_slice(&std::fs::read(&bundles[0]).unwrap()).unwrap();
    assert_eq!(
        (&bundle["version"], &bundle["reason"]),
        (&Value::from(1), &Value::from("run.restart_startup_failed"))
    );
    assert!(
        bundle["snapshot"]["counts"]["started"].as_u64() == Some(2)
            && bundle["error"]["message"].as_str().unwrap().contains("does not serve")
    );
    assert_eq!(std::fs::metadata(&bundles[0]).unwrap().permissions().mode() & 0o777, 0o600);
    // While another has the lock nothing is started; then it is, under the lock.
    let other = spawn(&room, &["--lock", "lock", "--", "/bin/sh", "-c", "touch held; exec sleep 1000"]);
    until("another has it", || room.path("held").exists());
    std::fs::remove_file(room.path("broken")).unwrap();
    ctl(&room, &["restart", "k"])
        .failed_with(69, &format!("cannot start: process {} holds 'lock'", other.id()));
    assert_eq!(lives(&room).len(), 2);
    signal(other.id(), Signal::SIGTERM);
    assert_eq!(collect(other).status, 0);
    until("it serves again", || status(&room)["state"] == "running");
    assert_eq!((lives(&room).len(), try_lock()), (3, 75));
    signal(child.id(), Signal::SIGTERM);
    let done = collect(child);
    assert!(done.status == 0 && done.stderr.contains("wrote stability bundle"), "{done:?}");
}

/// 37: the keeper's own program may be replaced or gone; it needs nothing of it any more.
#[apply(test)]
fn a_keeper_outlives_its_program_file() {
    let room = Room::new();
    crate::support::copy_program(&crate::support::binary("baa-run"), &room.path("own-run"));
    let words =
        ["--label", "k", "--cooldown", "0", "--drain-cmd", "true", "--", "/bin/sh", "-c", &script("")]
            .map(str::to_owned);
    let command = room.command("baa-run");
    let mut copy = std::process::Command::new(room.path("own-run"));
    copy.args(words)
        .current_dir(room.dir.path())
        .envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let child =
        copy.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    until("it runs", || lives(&room).len() == 1);
    std::fs::remove_file(room.path("own-run")).unwrap();
    room.write("own-run", "not a program any more");
    ctl(&room, &["restart", "k"]).expect(0, "", "");
    until("it is started again", || lives(&room).len() == 2);
    signal(child.id(), Signal::SIGTERM);
    assert_eq!(collect(child).status, 0);
}

/// 38: while it ends, no intent is used up by a signal that comes late; and a restart that comes then is not
/// promised.
#[apply(test)]
fn what_is_meant_is_not_lost_to_a_late_signal() {
    let room = Room::new();
    let child = keeper(
        &room,
        &["--stop-timeout", "1h"],
        "(trap 'touch stopping; until [ -e go ]; do sleep 0.01; done; exit 0' TERM; touch up; while :; \
             do sleep 0.01; done) &",
    );
    until("its child runs", || room.path("up").exists());
    signal(child.id(), Signal::SIGTERM);
    until("it stops", || room.path("stopping").exists());
    ctl(&room, &["intend", "k"]).expect(0, "", "");
    signal(child.id(), Signal::SIGUSR1);
    let waits = spawn(&room, &["ctl", "restart", "k"]);
    until("it was asked", || status(&room)["change"]["kind"] == "restart");
    assert!(room.path("run/jobs/k/intent.json").exists());
    room.write("go", "");
    assert_eq!(collect(child).status, 0);
    let done = collect(waits);
    assert!(done.status == 69 && done.stderr.contains("k is not restarted"), "{done:?}");
}

/// Restarts that come together are one; the next one waits, unless it is wanted now; a keeper that is asked
/// says so.
#[apply(test)]
fn restarts_that_come_together_are_one() {
    let room = Room::new();
    let child =
        keeper(&room, &["--cooldown", "1h", "--drain-cmd", "until [ -e drained ]; do sleep 0.01; done"], "");
    let waits: Vec<Child> = (0..5).map(|_| spawn(&room, &["ctl", "restart", "k", "--json"])).collect();
    until("it drains", || status(&room)["state"] == "draining");
    assert_eq!(ctl(&room, &["restart", "k", "--no-wait", "--json"]).json()["coalesced"], true);
    room.write("drained", "");
    for one in waits {
        assert_eq!(collect(one).status, 0);
    }
    assert_eq!(lives(&room).len(), 2);
    let done = room.run("baa-run", ["ctl", "restart", "k", "--timeout", "50ms"]);
    assert!(
        done.status == 124 && done.stderr.contains("what comes of it is not known within the time"),
        "{done:?}"
    );
    assert!(done.stderr.contains("k: it was restarted a moment ago, and will be again in 59m"), "{done:?}");
    assert!(
        status(&room)["restart_in_ms"].as_u64().unwrap() > 3_000_000
            && ctl(&room, &["status", "k"]).stdout.contains("restart in 59m")
    );
    let later = spawn(&room, &["ctl", "restart", "k"]);
    ctl(&room, &["restart", "k", "--now"]).expect(0, "", "");
    let later = collect(later);
    assert_eq!(later.status, 0, "{later:?}");
    assert_eq!((lives(&room).len(), status(&room)["restart_in_ms"].is_null()), (3, true));
    signal(child.id(), Signal::SIGTERM);
    assert_eq!(collect(child).status, 0);
}

/// A keeper ends after the commands that it has begun, unless somebody is impatient.
#[apply(test)]
fn a_hook_that_runs_is_waited_for_at_the_end() {
    for (impatient, told) in [(false, "begun\nended\n"), (true, "begun\n")] {
        let room = Room::new();
        let hook = "echo begun > told; until [ -e go ]; do sleep 0.05; done; echo ended >> told";
        let child = keeper(&room, &["--on-restart", hook, "--throttle", "0"], "");
        until("it runs", || lives(&room).len() == 1);
        ctl(&room, &["restart", "k"]).expect(0, "", "");
        until("it is told", || read(&room, "told") == "begun\n");
        signal(child.id(), Signal::SIGTERM);
        until("the command is gone", || lives(&room).iter().all(|pid| !alive(*pid)));
        if impatient {
            signal(child.id(), Signal::SIGTERM);
        } else {
            room.write("go", "");
        }
        assert_eq!(collect(child).status, 0);
        assert_eq!(read(&room, "told"), told);
    }
}

/// What came of a restart or an update is told, and left for the next life.
#[apply(test)]
fn the_outcome_is_told_and_left_behind() {
    let room = Room::new();
    let hook = "echo $BAA_LABEL $BAA_CHANGE $BAA_OUTCOME $BAA_WHY >> told";
    let arguments = [
        "--on-restart",
        hook,
        "--ready",
        "file:up",
        "--ready-timeout",
        "200ms",
        "--update-timeout",
        "200ms",
        "--throttle",
        "0",
    ];
    let child = keeper(&room, &arguments, "echo $BAA_RESTART_SENTINEL > where; [ -e broken ] || touch up;");
    until("it serves", || status(&room)["state"] == "running");
    let sentinel =
        || -> Value { serde_json::from_str(&read(&room, "state/baa/run/k.sentinel.json")).unwrap() };
    ctl(&room, &["restart", "k"]).expect(0, "", "");
    until("it is told", || read(&room, "told") == "k restart done\n");
    assert_eq!(
        (&sentinel()["payload"]["kind"], &sentinel()["payload"]["status"]),
        (&Value::from("restart"), &Value::from("ok"))
    );
    assert_eq!(read(&room, "where").trim(), room.text("state/baa/run/k.sentinel.json"));
    room.write("broken", "");
    std::fs::remove_file(room.path("up")).unwrap();
    ctl(&room, &["update", "k"])
        .failed_with(69, "k is not updated, the old life goes on: it does not serve within 200ms");
    until("it is told", || read(&room, "told").contains("k update failed it does not serve within 200ms"));
    let payload = sentinel()["payload"].clone();
    assert_eq!(
        (&payload["status"], &payload["stats"]["reason"]),
        (&Value::from("error"), &Value::from("restart-unhealthy"))
    );
    assert_eq!(
        std::fs::metadata(room.path("state/baa/run/k.sentinel.json")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    signal(child.id(), Signal::SIGTERM);
    assert_eq!(collect(child).status, 0);
}

/// A restart that is asked for while an update goes on waits until it is decided, and neither is told what
/// came of the other.
#[apply(test)]
fn an_update_and_a_restart_are_each_told_what_came_of_them() {
    let room = Room::new();
    let hook = "echo $BAA_CHANGE $BAA_OUTCOME >> told";
    let words = ["--on-restart", hook, "--ready", "file:up", "--update-timeout", "1h", "--throttle", "0"];
    let child = keeper(
        &room,
        &words,
        "until [ ! -e broken ] || [ -e die ]; do sleep 0.01; done; [ ! -e die ] || { rm die; exit 1; };",
    );
    room.write("up", "");
    until("it serves", || status(&room)["state"] == "running");
    let old = lives(&room)[0];
    // The next life of a broken program, which does not serve.
    room.write("broken", "");
    std::fs::remove_file(room.path("up")).unwrap();
    let update = spawn(&room, &["ctl", "update", "k"]);
    until("the next life is started", || status(&room)["state"] == "updating");
    let restart = spawn(&room, &["ctl", "restart", "k"]);
    until("it is asked for", || status(&room)["change"]["kind"] == "restart");
    assert!(alive(old) && status(&room)["state"] == "updating");
    room.write("die", "");
    let done = collect(update);
    assert!(done.status == 69 && done.stderr.contains("k is not updated, the old life goes on"), "{done:?}");
    // The restart is done then, and serves when it does.
    until("the old life has gone", || !alive(old));
    std::fs::remove_file(room.path("broken")).unwrap();
    room.write("up", "");
    let done = collect(restart);
    assert_eq!(done.status, 0, "{done:?}");
    until("it is told", || read(&room, "told") == "update failed\nrestart done\n");
    // At once means so: the update has come to nothing.
    std::fs::remove_file(room.path("up")).unwrap();
    let update = spawn(&room, &["ctl", "update", "k"]);
    until("the next life is started", || status(&room)["state"] == "updating");
    let restart = spawn(&room, &["ctl", "restart", "k", "--now"]);
    let done = collect(update);
    assert!(done.status == 69 && done.stderr.contains("something else was asked for"), "{done:?}");
    room.write("up", "");
    assert_eq!(collect(restart).status, 0);
    until("it is told", || {
        read(&room, "told") == "update failed\nrestart done\nupdate failed\nrestart done\n"
    });
    let sentinel: Value = serde_json::from_str(&read(&room, "state/baa/run/k.sentinel.json")).unwrap();
    assert_eq!(
        (&sentinel["payload"]["kind"], &sentinel["payload"]["status"]),
        (&"restart".into(), &"ok".into())
    );
    signal(child.id(), Signal::SIGTERM);
    assert_eq!(collect(child).status, 0);
}

/// 40: a restart trusts nobody to start it again: the keeper stays. Only when its supervisor has sent the
/// TERM it goes, and gives launchd time.
#[apply(test)]
fn under_a_supervisor_a_restart_stays_and_a_meant_term_leaves() {
    let room = Room::new();
    let child =
        keeper(&room, &["--supervisor", "launchd", "--drain-cmd", "echo drained $BAA_DRAIN_MS >> log"], "");
    let pid = u64::from(child.id());
    ctl(&room, &["restart", "k"]).expect(0, "", "");
    assert_eq!((status(&room)["keeper"].as_u64(), lives(&room).len()), (Some(pid), 2));
    std::fs::remove_file(room.path("log")).unwrap();
    ctl(&room, &["intend", "k"]).expect(0, "", "");
    let began = std::time::Instant::now();
    signal(child.id(), Signal::SIGTERM);
    let done = collect(child);
    // Of the 30 s that are taken for granted 15 are for the drain.
    assert_eq!((done.status, read(&room, "log").as_str(), lives(&room).len()), (0, "drained 15000\n", 2));
    assert!(began.elapsed() >= std::time::Duration::from_millis(1500));
}

/// 39: a drain that would take for ever fits into what systemd allows: nobody is killed, and the next life is
/// told why.
#[apply(test)]
fn a_drain_fits_into_what_systemd_allows() {
    let room = Room::new();
    let script = r#"
mkdir -p ~/.config/systemd/user; export BAA_RUNTIME_DIR=$ROOM/run XDG_STATE_HOME=$ROOM/state
drain='echo drain $$BAA_DRAIN_MS >> '$ROOM'/log; [ $$BAA_DRAIN_MS = 300000 ] || sleep 1000'
life='echo life >> '$ROOM'/log; exec sleep 1000'
printf '%s\n' '[Service]' KillMode=mixed TimeoutStopSec=8 \
  Environment=BAA_RUNTIME_DIR=$ROOM/run Environment=XDG_STATE_HOME=$ROOM/state \
  "ExecStart=$(command -v baa-run) --label gw --drain-cmd '$drain' -- /bin/sh -c '$life'" \
  > ~/.config/systemd/user/gw.service
systemctl --user daemon-reload; systemctl --user start gw
baa-healthwait -q --timeout 30s exec:'grep -q life $ROOM/log'
# The allowance is asked for aside.
baa-healthwait -q --timeout 30s exec:'! pgrep -x systemctl'
systemctl --user show -p MainPID --value gw > $ROOM/first
baa-run ctl intend gw
# A TERM that is not systemd's is a restart of our own.
kill -TERM $(cat $ROOM/first); baa-healthwait -q --timeout 30s exec:'[ $(grep -c life $ROOM/log) = 2 ]'
test "$(systemctl --user show -p MainPID --value gw)" = "$(cat $ROOM/first)"
baa-run ctl intend gw --reason deploy
systemctl --user restart gw
systemctl --user show -p Result --value gw
test "$(systemctl --user show -p MainPID --value gw)" != "$(cat $ROOM/first)"
baa-healthwait -q --timeout 30s exec:'[ $(grep -c life $ROOM/log) = 3 ]'
journalctl --user -u gw -o cat --no-pager 2> /dev/null | grep -c 'code=killed' || true
systemctl --user stop gw; systemctl --user show -p Result --value gw
cat $ROOM/log"#;
    let done = beside_systemd(&room, script);
    assert!(done.status == 0, "{done:?}");
    assert_eq!(done.stdout, "success\n0\nsuccess\nlife\ndrain 300000\nlife\ndrain 5000\nlife\n", "{done:?}");
}

/// One that does not hear TERM is killed by its keeper before systemd would kill both: the unit has not
/// failed.
#[apply(test)]
fn a_stop_fits_into_what_systemd_allows() {
    let room = Room::new();
    let script = r#"
mkdir -p ~/.config/systemd/user; export BAA_RUNTIME_DIR=$ROOM/run XDG_STATE_HOME=$ROOM/state
life='trap "" TERM; echo life >> '$ROOM'/log; while :; do sleep 0.1; done'
printf '%s\n' '[Service]' KillMode=mixed TimeoutStopSec=4 \
  Environment=BAA_RUNTIME_DIR=$ROOM/run Environment=XDG_STATE_HOME=$ROOM/state \
  "ExecStart=$(command -v baa-run) --label gw -- /bin/sh -c '$life'" \
  > ~/.config/systemd/user/gw.service
systemctl --user daemon-reload; systemctl --user start gw
baa-healthwait -q --timeout 30s exec:'grep -q life $ROOM/log'
baa-healthwait -q --timeout 30s exec:'! pgrep -x systemctl'
systemctl --user stop gw
systemctl --user show -p Result gw"#;
    let done = beside_systemd(&room, script);
    // Neither systemd nor the watchdog had to end it: that would be timeout, or exit-code.
    done.expect(0, "Result=success\n", "");
}

/// Drained for good; cut short, what is left is aborted; and while it drains it says how much is left.
#[apply(test)]
fn a_drain_can_be_the_end_and_can_be_cut_short() {
    let room = Room::new();
    let child = keeper(
        &room,
        &[
            "--drain-cmd",
            "echo drained:$BAA_RESTART_EXPECTED_MS >> log",
            "--drain-abort",
            "echo aborted >> log",
        ],
        "",
    );
    ctl(&room, &["drain", "k"]).expect(0, "", "");
    assert_eq!(
        (collect(child).status, read(&room, "log").as_str(), lives(&room).len()),
        (0, "drained:\n", 1)
    );
    let drain = [
        "--drain-cmd",
        "touch draining; sleep 1000",
        "--drain-abort",
        "echo aborted >> log",
        "--drain-notice",
        "20ms",
    ];
    let child = keeper(&room, &drain, "");
    ctl(&room, &["restart", "k", "--no-wait"]).expect(0, "", "");
    until("it drains", || room.path("draining").exists() && status(&room)["state"] == "draining");
    std::thread::sleep(std::time::Duration::from_millis(50));
    // A second signal cuts it short; this is the first that ends.
    signal(child.id(), Signal::SIGTERM);
    let done = collect(child);
    assert!(done.status == 0 && done.stderr.contains("k: still draining after "), "{done:?}");
    assert_eq!(read(&room, "log"), "drained:\naborted\n");
}
