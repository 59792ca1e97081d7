//! What a person asks a keeper for, and what comes of it: ctl returns when that is known, says each change on
//! the way, and its status tells how it ended. On real processes.

use crate::run_loop::{ctl, lives, read, script, spawn};
use crate::support::{Room, alive, ask_at_once, collect, is_stopped, signal, until};
use nix::sys::signal::Signal;

fn serves(room: &Room, label: &str) {
    until(&format!("{label} serves"), || ctl(room, &["status", label]).stdout.contains("running"));
}

fn pid(room: &Room, label: &str) -> Option<u64> {
    ctl(room, &["status", label, "--json"]).json()["pid"].as_u64()
}

/// A start of what rests before its next start begins at once; one that dies again is no success, also where
/// nobody asks whether it serves.
#[apply(test)]
fn a_start_returns_when_it_serves_or_does_not() {
    let room = Room::new();
    let words = "echo $$ >> lives; test -e ok && exec sleep 1000; exit 3";
    let keeper = spawn(&room, &["--label", "k", "--throttle", "1h", "--", "/bin/sh", "-c", words]);
    until("it rests", || ctl(&room, &["status", "k"]).stdout.contains("next start in"));
    ctl(&room, &["start", "k"]).failed_with(69, "k is not started: exited with 3");
    room.write("ok", "");
    let done = room.run("baa-run", ["ctl", "start", "k"]);
    assert_eq!((done.status, done.stdout.as_str()), (0, ""), "{done:?}");
    let life = pid(&room, "k").unwrap();
    assert!(
        alive(life) && done.stderr.contains(&format!("baa-run: k: running, process {life}\n")),
        "{done:?}"
    );
    // It runs: nothing is done.
    ctl(&room, &["start", "k"]).expect(0, "", "");
    assert_eq!((pid(&room, "k"), lives(&room).len()), (Some(life), 3));
    signal(keeper.id(), Signal::SIGTERM);
    collect(keeper);
}

/// Several at once, each with its own outcome; all of them, in a list; a signal to their processes.
#[apply(test)]
fn several_labels_are_asked_at_once() {
    let room = Room::new();
    ctl(&room, &["list"]).expect(1, "", "");
    let keepers = ["a", "b"].map(|label| {
        let words = format!("trap 'echo x >> {label}.hup' HUP; {}", script(""));
        spawn(&room, &["--label", label, "--", "/bin/sh", "-c", &words])
    });
    ["a", "b"].iter().for_each(|label| serves(&room, label));
    until("both run", || lives(&room).len() == 2);
    let both = ["a", "b"].map(|label| pid(&room, label).unwrap());
    let line = |label: &str, pid: u64| format!("{label}: running, process {pid}, runs 1\n");
    ctl(&room, &["list"]).expect(0, &(line("a", both[0]) + &line("b", both[1])), "");
    assert_eq!(ctl(&room, &["list", "--json"]).json()["jobs"][1]["label"], "b");
    ctl(&room, &["signal", "a", "b", "--signal", "HUP"]).expect(0, "", "");
    until("they have got it", || read(&room, "a.hup") == "x\n" && read(&room, "b.hup") == "x\n");
    ctl(&room, &["signal", "a"]).failed_with(2, "signal needs --signal");
    ctl(&room, &["signal", "a", "--signal", "NONE"]).failed_with(2, "'NONE' is no signal");
    let done = room.run("baa-run", ["ctl", "restart", "a", "b"]);
    assert_eq!(done.status, 0, "{done:?}");
    for (label, old) in ["a", "b"].into_iter().zip(both) {
        let new = pid(&room, label).unwrap();
        assert!(new != old && !alive(old), "{done:?}");
        assert!(done.stderr.contains(&format!("baa-run: {label}: running, process {new}\n")), "{done:?}");
    }
    ctl(&room, &["restart", "a", "x"]).failed_with(69, "cannot ask about x: no keeper runs");
    ctl(&room, &["status"]).failed_with(2, "a label is missing");
    ctl(&room, &["stop", "a", "b"]).expect(0, "", "");
    assert!(lives(&room).iter().all(|life| !alive(*life)));
    keepers.into_iter().for_each(|keeper| assert_eq!(collect(keeper).status, 0));
}

/// The next life that is to be waits until the old one of the update before is gone.
#[apply(test)]
fn an_update_during_an_update_waits_for_its_turn() {
    let room = Room::new();
    let words = "echo $$ >> lives; touch up.$$; trap 'sleep 0.5; exit 0' TERM; while :; do sleep 0.01; done";
    let keeper = spawn(
        &room,
        &["--label", "u", "--ready", "exec:test -e up.$BAA_PID || test -e up", "--", "/bin/sh", "-c", words],
    );
    room.write("up", "");
    serves(&room, "u");
    let first = pid(&room, "u").unwrap();
    ctl(&room, &["update", "u"]).expect(0, "", "");
    let second = pid(&room, "u").unwrap();
    assert!(second != first && alive(first), "it retires while this is asked");
    ctl(&room, &["update", "u"]).expect(0, "", "");
    let third = pid(&room, "u").unwrap();
    assert!(third != second && lives(&room).len() == 3);
    // Three at once: each is done, one after the other.
    let all: Vec<_> = (0..3).map(|_| spawn(&room, &["ctl", "-q", "update", "u"])).collect();
    all.into_iter().for_each(|one| collect(one).expect(0, "", ""));
    assert_eq!(lives(&room).len(), 6);
    signal(keeper.id(), Signal::SIGTERM);
    collect(keeper);
}

/// A keeper that is stopped is told from one that does not run, and its status from what it has written.
#[apply(test)]
fn of_a_stopped_keeper_the_last_that_is_known_is_told() {
    let room = Room::new();
    let keeper = spawn(&room, &["--label", "k", "--", "sleep", "1000"]);
    serves(&room, "k");
    let life = pid(&room, "k").unwrap();
    signal(keeper.id(), Signal::SIGSTOP);
    is_stopped(keeper.id());
    let why = format!("its keeper, process {}, is stopped (SIGCONT lets it go on)", keeper.id());
    let done = ctl(&room, &["status", "k"]);
    assert!(done.status == 0 && done.stdout.contains(&why), "{done:?}");
    assert!(done.stdout.starts_with(&format!("k: running, process {life}, runs 1, as of 20")), "{done:?}");
    assert!(ctl(&room, &["list"]).stdout.contains(&why));
    ctl(&room, &["list", "k"]).failed_with(2, "list takes no label; status tells of one");
    ctl(&room, &["restart", "k"]).failed_with(124, &why);
    // What it has written is believed of a process that is still the same, and of no other.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(life).unwrap()), Signal::SIGKILL)
        .unwrap();
    until("it is dead", || !alive(life));
    assert_eq!(ctl(&room, &["status", "k"]).status, 1);
    signal(keeper.id(), Signal::SIGCONT);
    // Whoever gave up was not heard: it is started again because it was killed, and once.
    until("it runs again", || pid(&room, "k").is_some_and(|pid| pid != life));
    assert_eq!(ctl(&room, &["status", "k", "--json"]).json()["runs"], 2);
    signal(keeper.id(), Signal::SIGTERM);
    assert_eq!(collect(keeper).status, 0);
    ctl(&room, &["status", "k"]).failed_with(69, "no keeper runs");
}

/// Hundreds that ask before one of them listens: each gets its answer, and so do programs meanwhile.
#[apply(test)]
fn no_answer_is_lost_however_many_ask() {
    let room = Room::new();
    let keeper = spawn(&room, &["--label", "k", "--", "sleep", "1000"]);
    serves(&room, "k");
    baa::sys::poll::raise_descriptor_limit();
    let programs: Vec<_> = (0..100).map(|_| spawn(&room, &["ctl", "-q", "start", "k"])).collect();
    for answer in ask_at_once(&room.path("run/jobs/k/control"), 600) {
        assert_eq!(answer["state"], "running");
    }
    programs.into_iter().for_each(|client| collect(client).expect(0, "", ""));
    signal(keeper.id(), Signal::SIGTERM);
    assert_eq!(collect(keeper).status, 0);
}
