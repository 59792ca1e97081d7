//! Commands of the user's beside a reload, and waiting for one's turn.

use crate::support::launchd::Launchd;
use crate::support::{CONDUCTOR as LABEL, Room, collect, finish, port, until};
use std::process::Stdio;

#[apply(test)]
fn hooks_have_the_report() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &[], "");
    launchd.bootstrap(LABEL);
    let old = launchd.pid(LABEL).unwrap();
    let write = |name: &str| format!("cat > {0}; env | grep ^BAA_RELOAD_ > {0}.env", room.text(name));
    let read = |name: &str| std::fs::read_to_string(room.path(name)).unwrap_or_default();
    let hooks = [write("before"), write("after"), write("failure")];
    let all = ["--before", &hooks[0], "--after", &hooks[1], "--on-failure", &hooks[2], "-q"];
    assert_eq!(finish(&mut launchd.reload(&all)).status, 0);
    let (before, after): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(&read("before")).unwrap(), serde_json::from_str(&read("after")).unwrap());
    assert_eq!((before["old_pid"].as_u64(), before["service"].as_str()), (Some(old), Some("conductor")));
    assert_eq!(
        (after["outcome"].as_str(), after["new_pid"].as_u64()),
        (Some("recovered"), launchd.pid(LABEL))
    );
    for line in [
        "BAA_RELOAD_OUTCOME=recovered".to_owned(),
        format!("BAA_RELOAD_LABEL={LABEL}"),
        format!("BAA_RELOAD_NEW_PID={}", launchd.pid(LABEL).unwrap()),
        "BAA_RELOAD_STATUS=0".to_owned(),
    ] {
        assert!(read("after.env").lines().any(|one| one == line), "{line}: {}", read("after.env"));
    }
    assert_eq!(read("failure"), "");
    // One that fails: the other hook, and what was found.
    room.conductor(port, &["--status", "500"], "");
    let mut command = launchd.reload(&all);
    let failed = finish(command.args(["--attempts", "1", "--delay", "10ms", "--no-rollback"]));
    assert_eq!(failed.status, 69, "{failed:?}");
    let told: serde_json::Value = serde_json::from_str(&read("failure")).unwrap();
    assert_eq!(
        (told["outcome"].as_str(), told["last_probe"]["status"].as_u64()),
        (Some("unhealthy"), Some(500))
    );
    assert!(!read("failure").contains("hunter2") && !read("failure.env").contains("hunter2"));
}

#[apply(test)]
fn a_hook_that_fails_before_leaves_all_as_it_was() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &[], "");
    launchd.bootstrap(LABEL);
    let old = launchd.pid(LABEL);
    let refused = finish(&mut launchd.reload(&["--before", "echo not today >&2; exit 3"]));
    refused.failed_with(69, "conductor: --before exited with 3: not today; nothing was touched");
    // One that never ends is ended, with what it has started.
    let late = finish(&mut launchd.reload(&["--before", "sleep 600 & sleep 600", "--hook-timeout", "100ms"]));
    late.failed_with(69, "--before was not done within 100ms");
    assert_eq!(launchd.pid(LABEL), old);
    assert!(!launchd.calls().iter().any(|call| call.starts_with("bootout")));
    // Afterwards nothing depends on it.
    let after = finish(&mut launchd.reload(&["--after", "exit 9"]));
    assert_eq!(after.status, 0, "{after:?}");
    assert!(after.stderr.contains("conductor: --after exited with 9"), "{after:?}");
}

#[apply(test)]
fn one_reload_waits_for_another_where_it_is_asked_to() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &["linger=500"]);
    room.conductor(port, &[], "");
    launchd.bootstrap(LABEL);
    let first = launchd.reload(&["-q"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("bootout", || launchd.calls().iter().any(|call| call.starts_with("bootout")));
    let in_vain = finish(&mut launchd.reload(&["--wait-lock", "20ms"]));
    in_vain.failed_with(75, "another reload of it runs");
    let second = finish(&mut launchd.reload(&["--wait-lock", "60s", "--json", "-q"]));
    assert_eq!(second.status, 0, "{second:?}");
    let done = collect(first);
    assert_eq!(done.status, 0, "{done:?}");
    let taken = launchd.calls().iter().filter(|call| call.starts_with("bootout")).count();
    assert_eq!(taken, 2);
}

#[apply(test)]
fn a_refusal_is_a_failure_and_a_signal_ends_a_wait() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &["linger=2000"]);
    room.conductor(port, &[], "");
    launchd.bootstrap(LABEL);
    let failure = format!("cat > {}", room.text("failure"));
    let good = std::fs::read_to_string(room.path(&format!("agents/{LABEL}.plist"))).unwrap();
    room.write(&format!("agents/{LABEL}.plist"), "<plist");
    let refused = finish(&mut launchd.reload(&["--on-failure", &failure]));
    assert_eq!(refused.status, 65, "{refused:?}");
    let told = || {
        serde_json::from_str::<serde_json::Value>(&std::fs::read_to_string(room.path("failure")).ok()?).ok()
    };
    assert_eq!(told().unwrap()["outcome"], "refused");
    room.write(&format!("agents/{LABEL}.plist"), &good);
    // A hook that takes its time, and a turn that does not come.
    let began = room.text("began");
    let before = format!("touch {began}; sleep 600");
    let hooked = launchd.reload(&["--before", &before, "--hook-timeout", "10m"]);
    let wait = |mut command: std::process::Command, begun: &dyn Fn() -> bool| {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("it waits", begun);
        crate::support::signal(child.id(), nix::sys::signal::Signal::SIGTERM);
        let done = collect(child);
        assert!(done.status == 143 && done.stderr.contains("ended by SIGTERM"), "{done:?}");
    };
    wait(hooked, &|| room.path("began").exists());
    let first = launchd.reload(&["-q"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("bootout", || launchd.calls().iter().any(|call| call.starts_with("bootout")));
    let mut second = launchd.reload(&["--wait-lock", "10m", "-v"]);
    let said = std::fs::File::create(room.path("said")).unwrap();
    let child = second.stdout(Stdio::null()).stderr(said).spawn().unwrap();
    let catches = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t"));
        mask.is_some_and(|mask| u64::from_str_radix(mask, 16).unwrap() & (1 << 14) != 0)
    };
    until("it hears signals", catches);
    crate::support::signal(child.id(), nix::sys::signal::Signal::SIGTERM);
    let mut child = child;
    let status = child.wait().unwrap();
    let words = std::fs::read_to_string(room.path("said")).unwrap();
    assert!(
        status.code() == Some(143) && words.contains("ended by SIGTERM while another reload of it ran"),
        "{words}"
    );
    assert_eq!(collect(first).status, 0);
}

#[apply(test)]
fn what_a_hook_has_refused_stands_in_the_history() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &[], "");
    launchd.bootstrap(LABEL);
    assert_eq!(finish(&mut launchd.reload(&["--before", "echo not today >&2; exit 3"])).status, 69);
    let told = finish(room.command("baa-reload").args(["history", "--label", LABEL, "--json"]));
    let record: serde_json::Value = serde_json::from_str(told.stdout.trim()).unwrap();
    assert_eq!(
        (record["schema"].as_str(), record["label"].as_str()),
        (Some("baa.reload-history/1"), Some(LABEL))
    );
    assert_eq!(
        (record["end"]["outcome"].as_str(), record["end"]["exit"].as_u64()),
        (Some("refused"), Some(69))
    );
    assert!(record["end"]["reason"].as_str().unwrap().contains("not today"), "{record}");
}

/// The last words of a hook are shown without secrets, whatever was refused.
#[apply(test)]
fn a_hook_after_a_refusal_tells_no_secret() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &[], "");
    launchd.bootstrap(LABEL);
    assert_eq!(finish(&mut launchd.reload(&[])).status, 0);
    let leak = ["--on-failure", "echo it is hunter2 >&2; exit 1"];
    let refused = finish(launchd.reload(&leak).args(["--before", "exit 1"]));
    let cut_short = "<plist><dict><key>TOKEN</key><string>hunter2</string";
    room.write(&format!("agents/{LABEL}.plist"), cut_short);
    for done in [refused, finish(&mut launchd.reload(&leak))] {
        assert!(done.status != 0 && done.stderr.contains("it is ***"), "{done:?}");
        assert!(!done.stderr.contains("hunter2"), "{done:?}");
    }
}

/// A signal ends the wait for the answer of a health check.
#[apply(test)]
fn a_signal_is_heard_during_a_health_check() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &["--mute", "--count", &room.text("requests")], "");
    launchd.bootstrap(LABEL);
    let asked = room.text("asked");
    let exec = format!("exec:touch {asked}; sleep 3600");
    let of_the_job = format!("http://127.0.0.1:{port}/");
    for url in [exec, of_the_job] {
        let hour = ["--probe-timeout", "1h", "--health-url", &url, "-v"];
        let child = launchd.reload(&hour).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("a health check is made", || match url.starts_with("exec") {
            true => room.path("asked").exists(),
            false => std::fs::read_to_string(room.path("requests")).is_ok_and(|made| !made.is_empty()),
        });
        crate::support::signal(child.id(), nix::sys::signal::Signal::SIGINT);
        let done = collect(child);
        assert_eq!(done.status, 130, "{done:?}");
        assert!(done.stderr.contains("ended by SIGINT; the job is registered"), "{done:?}");
    }
}
