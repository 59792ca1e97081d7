//! baa-run: the first start. What cannot be run is told at once, and whoever starts a keeper in the
//! background hears what came of it.

use crate::run_loop::{ctl, lives, read, spawn};
use crate::support::{Room, collect, signal, until};
use nix::sys::signal::Signal;
use std::os::unix::fs::PermissionsExt;

/// Whatever the policy: nobody waits for a program that is not there.
#[apply(test)]
fn what_cannot_be_run_ends_at_once() {
    let room = Room::new();
    room.write("plain", "#!/bin/sh\n");
    for restart in ["always", "on-failure", "never"] {
        let run = |more: &[&str], program: &str| {
            let words = ["--restart", restart].into_iter().chain(more.iter().copied());
            room.run("baa-run", words.chain(["--", program]))
        };
        run(&[], "/no/such").failed_with(127, "cannot start '/no/such': no such file or directory");
        run(&[], "no-such-program").failed_with(127, "cannot start 'no-such-program'");
        run(&["--ready", "file:x"], "/no/such").failed_with(127, "cannot start '/no/such'");
        run(&["--give-up", "3/1m"], "./plain").failed_with(126, "cannot start './plain': permission denied");
        run(&["--detach", "--label", "d"], "/no/such").failed_with(127, "cannot start '/no/such'");
    }
    room.run("baa-run", ["-n", "--", "/no/such"]).failed_with(127, "cannot start '/no/such': no such file");
    room.run("baa-run", ["-n", "--", "./plain"])
        .failed_with(126, "cannot start './plain': permission denied");
    room.run("baa-run", ["-n", "--", "true"]).expect(0, "", "baa-run: would keep true\n");
    let words = "unexpected argument 'true' found; the command follows '--': baa-run -- true";
    room.run("baa-run", ["true"]).failed_with(2, words);
}

/// A program that goes away later, in a deploy perhaps, is waited for.
#[apply(test)]
fn what_could_be_run_once_is_tried_again() {
    let room = Room::new();
    let program = room.write("program", "#!/bin/sh\necho $$ >> lives\nexit 1\n");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let keeper = spawn(&room, &["--throttle", "0", "--label", "p", "--", "./program"]);
    until("it runs", || !lives(&room).is_empty());
    std::fs::rename(&program, room.path("aside")).unwrap();
    let before = lives(&room).len();
    until("it waits", || ctl(&room, &["status", "p", "--json"]).json()["last_exit"] == "exited with 127");
    std::fs::rename(room.path("aside"), &program).unwrap();
    until("it runs again", || lives(&room).len() > before);
    signal(keeper.id(), Signal::SIGTERM);
    assert_eq!(collect(keeper).status, 0);
}

/// One that is to have run for a while did not come to serve when it ends before; a later one that does is
/// started again, and a restart is known to have failed.
#[apply(test)]
fn a_shortest_run_tells_whether_it_serves() {
    let room = Room::new();
    let words = ["--min-run", "1h", "--restart", "always", "--", "/bin/sh", "-c", "exit 3"];
    let done = room.run("baa-run", words);
    assert!(done.status == 69 && done.stderr.contains("exited with 3"), "{done:?}");
    let script = "echo $$ >> lives; [ ! -e bad ] || exit 1; trap 'exit 0' TERM; while :; do sleep 0.01; done";
    let words =
        ["--label", "m", "--min-run", "200ms", "--cooldown", "0", "--throttle", "0", "--detach", "--"];
    room.run("baa-run", words.into_iter().chain(["/bin/sh", "-c", script])).expect(0, "", "");
    assert_eq!(ctl(&room, &["status", "m", "--json"]).json()["state"], "running");
    ctl(&room, &["restart", "m"]).expect(0, "", "");
    ctl(&room, &["update", "m"]).expect(0, "", "");
    room.write("bad", "");
    ctl(&room, &["update", "m"]).failed_with(69, "it ended before it served");
    ctl(&room, &["restart", "m"]).failed_with(69, "m is not restarted");
    ctl(&room, &["stop", "m"]).expect(0, "", "");
}

/// In the background: it returns when it serves or has failed, and what the command says is kept with what
/// its keeper says.
#[apply(test)]
fn one_in_the_background_is_waited_for() {
    let room = Room::new();
    let script = "echo said; echo told >&2; trap 'exit 0' TERM; touch up; while :; do sleep 0.01; done";
    let words = ["--detach", "--label", "d", "--ready", "file:up", "--", "/bin/sh", "-c", script];
    room.run("baa-run", words).expect(0, "", "");
    assert!(room.path("up").exists());
    assert_eq!(ctl(&room, &["status", "d", "--json"]).json()["state"], "running");
    ctl(&room, &["stop", "d"]).expect(0, "", "");
    let mut log = String::new();
    until("it is kept", || {
        log = read(&room, "run/jobs/d/keeper.log");
        log.contains("said\n") && log.contains("told\n")
    });
    let words =
        ["--detach", "--label", "e", "--ready", "file:never", "--", "/bin/sh", "-c", "echo no; exit 4"];
    room.run("baa-run", words).failed_with(69, "exited with 4");
    let words =
        ["--detach", "--label", "f", "--ready", "file:never", "--ready-timeout", "100ms", "--", "sleep"];
    room.run("baa-run", words.into_iter().chain(["1000"])).failed_with(69, "does not serve within 100ms");
    // Its keeper goes on to try.
    let words = ["--detach", "--label", "g", "--throttle", "1h", "--", "/bin/sh", "-c", "exit 5"];
    until("its end is seen", || {
        let done = room.run("baa-run", words);
        ctl(&room, &["stop", "g"]).expect(0, "", "");
        done.status == 69
            && done.stderr.contains("g does not serve: exited with 5; its keeper goes on to try")
    });
}
