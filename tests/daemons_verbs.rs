//! What a person asks a group for, and what comes of it: a verb returns when that is known, says each change
//! on the way, and its status tells how it ended. On real processes.

use crate::daemons::{Group, ask, daemon, sleeper};
use crate::support::{Done, Room, alive, ask_at_once, collect, is_stopped, signal, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::Stdio;

/// The lines about an entry, in order, without what probes say on the way.
fn told(done: &Done, id: &str) -> Vec<String> {
    let start = format!("baa-daemons: {id}: ");
    let lines = done.stderr.lines().filter_map(|line| line.strip_prefix(&start));
    lines.filter(|line| !line.starts_with("starting: ")).map(str::to_owned).collect()
}

/// A daemon that is slow to come up and slow to go, and leaves a process behind that is slower.
fn slow(id: &str) -> String {
    let script = format!(
        "trap 'sleep 0.3; rm -f {id}.up; exit 0' TERM; (trap '' HUP; exec sleep 1000) & echo $! > {id}.far; \
         sleep 0.3; touch {id}.up; while :; do sleep 0.02; done"
    );
    format!(
        "[[daemon]]\nid = \"{id}\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n\
         ready.probe = \"file:{id}.up\"\n"
    )
}

fn number(room: &Room, name: &str) -> u64 {
    std::fs::read_to_string(room.path(name)).unwrap().trim().parse().unwrap()
}

/// `stop db && rm -rf data` is safe: nothing of it lives, nor of what needs it, and its data are left alone.
#[apply(test)]
fn after_a_stop_nothing_lives_and_after_a_start_it_is_ready() {
    let room = Room::new();
    let group = Group::run(&room, &(slow("db") + &daemon("web", "requires = [\"db\"]")));
    group.ready();
    let [db, web] = ["db", "web"].map(|id| group.process(id));
    let far = number(&room, "db.far");
    let done = ask(&room, &["stop", "g.toml", "db"]);
    assert!(!alive(db) && !alive(web) && !alive(far), "{done:?}");
    assert!(done.status == 0 && done.stdout.is_empty() && !room.path("db.up").exists(), "{done:?}");
    assert_eq!(told(&done, "db"), ["stopping", "disabled"]);
    assert_eq!(told(&done, "web"), ["stopping", "waiting for db"]);
    let done = ask(&room, &["start", "g.toml", "web"]);
    done.failed_with(1, "cannot start web: it waits, but db is disabled");
    let done = ask(&room, &["start", "g.toml", "db"]);
    assert!(done.status == 0 && room.path("db.up").exists(), "{done:?}");
    assert_eq!(told(&done, "db"), ["starting", "ready"]);
    assert_eq!(ask(&room, &["start", "-q", "g.toml", "web"]).stderr, "");
    let [db, web] = ["db", "web"].map(|id| group.process(id));
    let done = ask(&room, &["restart", "g.toml", "db"]);
    assert_eq!((done.status, told(&done, "web").last().map(String::as_str)), (0, Some("ready")), "{done:?}");
    assert!(!alive(db) && !alive(web));
    assert!(alive(group.process("db")) && alive(group.process("web")));
    // Several at once; in JSON it is what they have come to.
    let done = ask(&room, &["stop", "--json", "g.toml", "web", "db"]);
    let states: Vec<Value> =
        done.json()["entries"].as_array().unwrap().iter().map(|entry| entry["state"].clone()).collect();
    assert_eq!((done.status, states), (0, vec!["disabled".into(), "disabled".into()]));
    assert_eq!(ask(&room, &["start", "g.toml", "web", "db"]).status, 0);
    assert!(ask(&room, &["status", "g.toml", "web"]).status == 0);
    ask(&room, &["stop", "g.toml", "db", "x"]).failed_with(3, "there is no entry 'x'");
    assert_eq!(group.entry("db")["state"], "ready");
    let done = ask(&room, &["stop", "g.toml"]);
    assert_eq!((done.status, told(&done, "db")[0].as_str()), (0, "stopping"), "{done:?}");
    ask(&room, &["start", "g.toml", "db"]).failed_with(69, "the group does not run");
}

/// What has failed, or waits for its next start, is started by a start; and one that fails again is no
/// success, whether it is asked how it fares or not.
#[apply(test)]
fn a_start_begins_at_once_and_tells_whether_it_came_to_anything() {
    let room = Room::new();
    let command = "command = [\"/bin/sh\", \"-c\", \"test -e ok && exec sleep 1000; exit 3\"]";
    let text = format!(
        "[[daemon]]\nid = \"rests\"\n{command}\nrestart = {{ initial = \"1h\", cap = \"1h\" }}\n\
         [[daemon]]\nid = \"over\"\n{command}\nrestart = \"never\"\n\
         [[daemon]]\nid = \"needs\"\nrequires = [\"over\"]\ncommand = [\"sleep\", \"1000\"]\n"
    );
    let group = Group::run(&room, &text);
    group.becomes("rests", "backoff");
    group.becomes("over", "failed");
    let rests = group.entry("rests");
    assert!(rests["next_start_ms"].as_u64().unwrap() > 3_000_000 && rests["next_start"].is_string());
    assert!(ask(&room, &["status", "g.toml"]).stdout.contains("exited with 3; again in "));
    ask(&room, &["start", "-q", "g.toml", "rests", "over"])
        .failed_with(1, "cannot start over: failed: exited with 3; rests: backoff: exited with 3");
    ask(&room, &["restart", "-q", "g.toml", "over"]).failed_with(1, "cannot restart over: failed: exited");
    ask(&room, &["start", "-q", "g.toml", "needs"])
        .failed_with(1, "cannot start needs: it waits, but over is failed: exited with 3");
    room.write("ok", "");
    assert_eq!(ask(&room, &["start", "g.toml", "rests"]).status, 0);
    assert!(alive(group.process("rests")));
    assert_eq!(ask(&room, &["start", "g.toml", "over", "needs"]).status, 0);
    assert!(alive(group.process("needs")));
    assert_eq!(group.stop().status, 0);
}

/// Whoever does not want to wait, or not for long, need not; an entry on its way out is stopping, not
/// waiting.
#[apply(test)]
fn a_verb_may_be_waited_for_as_long_as_one_likes() {
    let room = Room::new();
    let script = "trap '' TERM; touch deaf.up; while :; do sleep 0.02; done";
    let text = format!(
        "[[daemon]]\nid = \"deaf\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\nstop-timeout = \"2s\"\n\
         ready.probe = \"file:deaf.up\"\n"
    ) + &sleeper("need", "ready.probe = \"file:never\"");
    let group = Group::run(&room, &text);
    group.becomes("deaf", "ready");
    ask(&room, &["start", "-q", "--timeout", "200ms", "g.toml", "need"])
        .failed_with(124, "cannot start need within 200ms: need is starting");
    let deaf = group.process("deaf");
    let done = ask(&room, &["stop", "--no-wait", "g.toml", "deaf"]);
    assert_eq!((done.status, done.stderr.as_str()), (0, ""));
    assert_eq!(group.entry("deaf")["state"], "stopping");
    let done = ask(&room, &["stop", "g.toml", "deaf"]);
    assert_eq!(
        (done.status, told(&done, "deaf")),
        (0, vec!["stopping: it is killed".into(), "disabled".into()])
    );
    assert!(!alive(deaf));
    assert_eq!(group.stop().status, 1);
}

/// Until it is started again: a reload that changes it, HUP, and another run of the group leave it down.
#[apply(test)]
fn a_stop_is_kept_over_a_reload_and_another_run() {
    let room = Room::new();
    let text = sleeper("a", "") + &sleeper("b", "");
    let group = Group::run(&room, &text);
    group.ready();
    assert_eq!(ask(&room, &["stop", "g.toml", "a"]).status, 0);
    assert_eq!(ask(&room, &["disable", "g.toml", "b"]).status, 0);
    let changed =
        sleeper("a", "env = { A = \"1\" }") + &sleeper("b", "env = { A = \"1\" }") + &sleeper("c", "");
    room.write("g.toml", &changed);
    let done = ask(&room, &["reload", "g.toml"]);
    assert_eq!((done.status, told(&done, "c")), (0, vec!["starting".into(), "ready".into()]), "{done:?}");
    assert_eq!([group.entry("a")["state"].clone(), group.entry("b")["state"].clone()], ["disabled"; 2]);
    let ended = group.stop();
    assert!(!ended.stderr.contains("a: starting\nbaa-daemons: a: starting"), "{ended:?}");
    let group = Group::run(&room, &changed);
    group.becomes("c", "ready");
    assert_eq!([group.entry("a")["state"].clone(), group.entry("b")["state"].clone()], ["disabled"; 2]);
    assert_eq!(ask(&room, &["start", "g.toml", "a", "b"]).status, 0);
    let ended = group.stop();
    let words = "stopped by hand before, and not started: a, b";
    assert!(ended.status == 0 && ended.stderr.contains(words), "{ended:?}");
    // One that was started is forgotten; one that is disabled was started for that run.
    let group = Group::run(&room, &changed);
    group.becomes("a", "ready");
    assert_eq!(group.entry("b")["state"], "disabled");
    assert_eq!(ask(&room, &["enable", "g.toml", "b"]).status, 0);
    assert!(alive(group.process("b")));
    assert_eq!(group.stop().status, 0);
    // Also while no group runs.
    ask(&room, &["disable", "g.toml", "c", "x"]).failed_with(3, "there is no entry 'x'");
    ask(&room, &["disable", "g.toml", "c"]).expect(0, "", "");
    let group = Group::run(&room, &changed);
    group.becomes("b", "ready");
    assert_eq!(group.entry("c")["state"], "disabled");
    assert_eq!(group.stop().status, 0);
}

/// What a reload takes out is gone when it returns, and what it brings in is ready, or it says what is not.
#[apply(test)]
fn a_reload_returns_when_it_is_done() {
    let room = Room::new();
    let group = Group::run(&room, &(slow("old") + &sleeper("same", "")));
    group.ready();
    let (old, same) = (group.process("old"), group.process("same"));
    room.write("g.toml", &(slow("new") + &sleeper("same", "")));
    let done = ask(&room, &["reload", "g.toml"]);
    assert!(done.status == 0 && !alive(old) && room.path("new.up").exists(), "{done:?}");
    assert_eq!(group.process("same"), same);
    room.write(
        "g.toml",
        &(sleeper("same", "") + "[[oneshot]]\nid = \"bad\"\ncommand = [\"false\"]\nrestart = \"never\"\n"),
    );
    let done = ask(&room, &["reload", "-q", "g.toml"]);
    done.failed_with(1, "cannot reload bad: failed: exited with 1");
    assert_eq!(group.process("same"), same);
    assert_eq!(group.stop().status, 0);
}

/// Once: not again when it ends; a oneshot that is done does its work again.
#[apply(test)]
fn once_is_once() {
    let room = Room::new();
    let text = "[[daemon]]\nid = \"d\"\ncommand = [\"/bin/sh\", \"-c\", \"echo x >> d; exec sleep 1000\"]\n\
                [[oneshot]]\nid = \"o\"\ncommand = [\"/bin/sh\", \"-c\", \"echo x >> o\"]\n";
    let group = Group::run(&room, text);
    group.ready();
    let count = |name: &str| std::fs::read_to_string(room.path(name)).unwrap().lines().count();
    assert_eq!((ask(&room, &["once", "g.toml", "o"]).status, count("o")), (0, 2));
    assert_eq!(group.entry("o")["state"], "done");
    assert_eq!(ask(&room, &["stop", "g.toml", "d"]).status, 0);
    assert_eq!((ask(&room, &["once", "g.toml", "d"]).status, count("d")), (0, 2));
    assert_eq!(ask(&room, &["signal", "g.toml", "TERM", "d"]).status, 0);
    group.becomes("d", "failed");
    assert_eq!((group.entry("d")["message"].as_str(), count("d")), (Some("killed by SIGTERM"), 2));
    ask(&room, &["signal", "g.toml", "TERM", "d"]).failed_with(1, "entry 'd' has no process");
    ask(&room, &["signal", "g.toml", "NONE", "d"]).failed_with(2, "'NONE' is no signal");
    assert_eq!(group.stop().status, 0);
}

/// All groups of a user, also one that does not answer.
#[apply(test)]
fn the_groups_that_run_are_listed() {
    let room = Room::new();
    ask(&room, &["list"]).expect(1, "", "");
    let group = Group::run(&room, &(sleeper("a", "") + &sleeper("b", "")));
    group.ready();
    let (file, pid) = (room.path("g.toml").canonicalize().unwrap(), group.pid());
    let file = file.display();
    ask(&room, &["list"]).expect(0, &format!("{file}: process {pid}, 2 ready\n"), "");
    assert_eq!(ask(&room, &["list", "--json"]).json()["groups"][0]["entries"][1]["id"], "b");
    signal(pid, Signal::SIGSTOP);
    is_stopped(pid);
    let stopped = format!("the group runs, but its process {pid} is stopped (SIGCONT lets it go on)");
    ask(&room, &["list"]).expect(0, &format!("{file}: process {pid}, {stopped}\n"), "");
    ask(&room, &["stop", "g.toml", "a"]).failed_with(124, &stopped);
    signal(pid, Signal::SIGCONT);
    // Whoever gave up was not heard.
    assert_eq!(
        (ask(&room, &["status", "g.toml"]).status, group.entry("a")["state"].as_str()),
        (0, Some("ready"))
    );
    assert_eq!(group.stop().status, 0);
}

/// Thousands that ask before one of them listens: each gets its answer, and so do programs meanwhile.
#[apply(test)]
fn no_answer_is_lost_however_many_ask() {
    let room = Room::new();
    let group = Group::run(&room, &sleeper("a", ""));
    group.ready();
    baa::sys::poll::raise_descriptor_limit();
    let place = std::fs::read_dir(room.path("run/groups")).unwrap().next().unwrap().unwrap().path();
    let programs: Vec<_> = (0..100)
        .map(|_| {
            let mut client = room.command("baa-daemons");
            client
                .args(["start", "g.toml", "a"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for answer in ask_at_once(&place.join("control"), 600) {
        assert_eq!(answer["entries"][0]["state"], "ready");
    }
    for client in programs {
        let done = collect(client);
        assert_eq!(done.status, 0, "{done:?}");
    }
    assert_eq!(group.stop().status, 0);
}

/// Two who ask at once both learn what comes of it; and whoever stops what another starts is told of as such.
#[apply(test)]
fn those_who_ask_for_opposites_are_told() {
    let room = Room::new();
    let group = Group::run(&room, &sleeper("a", "ready.probe = \"file:a.up\""));
    group.becomes("a", "starting");
    let mut starts = room.command("baa-daemons");
    let starts = starts.args(["start", "-q", "g.toml", "a"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let starts = starts.spawn().unwrap();
    until("it has asked", || ask(&room, &["logs", "--events", "g.toml"]).stdout.contains("\"ev\":\"asked\""));
    assert_eq!(ask(&room, &["stop", "g.toml", "a"]).status, 0);
    collect(starts).failed_with(1, "cannot start a: it was stopped meanwhile");
    assert_eq!(group.stop().status, 0);
}
