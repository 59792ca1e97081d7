//! What baa-reload tells is so: of a manager that hangs, lies, or is not there; and the command that it
//! prints to repair a job repairs it.

use crate::support::launchd::{DOMAIN, Launchd};
use crate::support::{CONDUCTOR as LABEL, Done, Room, finish, port, until};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Puts a script before launchctl: `case` arms that act on the verb `$1` and the count `$n` of its calls.
fn between(room: &Room, launchd: &Launchd<'_>, arms: &str) {
    let (real, path) = (room.path("launchd/bin/real"), room.path("launchd/bin/launchctl"));
    std::fs::rename(&path, &real).unwrap();
    let script = format!(
        "#!/bin/sh\nf={}/count.$1; n=$(cat $f 2>/dev/null || echo 0); n=$((n + 1)); echo $n > $f\n\
         case $1.$n in\n{arms}\nesac\nexec {} \"$@\"\n",
        room.text("launchd"),
        real.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(launchd.call(&["print", "x"]).status, 113);
}

/// Runs the command that the last line of a report names, as its reader would.
fn repair(room: &Room, done: &Done) {
    let line = done.stderr.lines().last().unwrap();
    let command = line.strip_prefix("baa-reload: manual recovery: ").unwrap_or_else(|| panic!("{done:?}"));
    let mut shell = Command::new("/bin/sh");
    let programs = crate::support::binary("baa-run").parent().unwrap().display().to_string();
    shell.args(["-c", command]).env("LAUNCHD_MODEL", room.path("launchd"));
    shell.envs([("XDG_STATE_HOME", room.text("state")), ("BAA_RUNTIME_DIR", room.text("run"))]);
    shell.env("PATH", format!("{}:{programs}:/usr/bin:/bin", room.text("launchd/bin")));
    let repaired = finish(&mut shell);
    assert_eq!(repaired.status, 0, "{command}: {repaired:?}");
}

fn one(done: &Done) -> serde_json::Value {
    done.json()["services"][0].clone()
}

#[apply(test)]
fn a_manager_that_cannot_be_asked_is_not_told_to_know_nothing() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &[], "");
    launchd.bootstrap(LABEL);
    // What it says cannot be read, from the first question on.
    between(&room, &launchd, &format!("print.*) case $2 in {DOMAIN}/*) echo garbage; exit 0;; esac;;"));
    let done = finish(&mut launchd.reload(&["--json"]));
    assert_eq!((done.status, one(&done)["outcome"].as_str()), (69, Some("refused")), "{done:?}");
    assert!(one(&done)["registered"].is_null() && one(&done)["state_error"].is_string(), "{done:?}");
    assert!(!done.stderr.contains("does not know"), "{done:?}");
    assert!(done.stderr.contains(&format!("launchd cannot be asked about {DOMAIN}/{LABEL}: ")), "{done:?}");
    assert!(!launchd.calls().iter().any(|call| call.starts_with("bootout")));
    // The repair works whether it is registered or not.
    repair(&room, &done);
    assert!(launchd.pid(LABEL).is_some());
    launchd.call(&["bootout", &format!("{DOMAIN}/{LABEL}")]);
    until("it is gone", || !launchd.registered(LABEL));
    repair(&room, &done);
    assert!(launchd.pid(LABEL).is_some());
}

#[apply(test)]
fn a_missing_launchctl_is_not_told_to_know_nothing() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &[], "");
    std::fs::remove_file(room.path("launchd/bin/launchctl")).unwrap();
    let done = finish(&mut launchd.reload(&[]));
    assert_eq!(done.status, 69, "{done:?}");
    assert!(!done.stderr.contains("does not know") && done.stderr.contains("cannot be asked"), "{done:?}");
}

/// The first print says 113 although the job is loaded (R5): the old process must not pass for the new one.
#[apply(test)]
fn a_job_that_was_loaded_all_along_is_taken_down_after_all() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &[], "");
    launchd.bootstrap(LABEL);
    let old = launchd.pid(LABEL).unwrap();
    between(
        &room,
        &launchd,
        "print.1|print.2) echo 'Could not find service \"x\" in domain for user gui: 501' >&2; exit 113;;",
    );
    let done = finish(&mut launchd.reload(&["--json", "-v"]));
    assert_eq!((done.status, one(&done)["outcome"].as_str()), (0, Some("recovered")), "{done:?}");
    assert!(done.stderr.contains("it has been registered all along; taking it down first"), "{done:?}");
    assert_eq!(
        (one(&done)["old_pid"].as_u64(), one(&done)["new_pid"].as_u64()),
        (Some(old), launchd.pid(LABEL))
    );
    assert_ne!(launchd.pid(LABEL), Some(old));
}

/// A bootstrap that is taken and answered with an error, of a job that does not start by itself (R7).
#[apply(test)]
fn a_registration_that_was_denied_and_made_is_seen() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    let arguments = [
        &*crate::support::example("service").to_string_lossy().into_owned(),
        "--listen",
        &format!("127.0.0.1:{port}"),
    ]
    .map(str::to_owned);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    room.plist(LABEL, &arguments, "");
    launchd.bootstrap(LABEL);
    let real = room.text("launchd/bin/real");
    between(
        &room,
        &launchd,
        &format!(
            "bootstrap.1) {real} \"$@\"\n\
             echo 'Bootstrap failed: 37: Operation already in progress' >&2; exit 37;;"
        ),
    );
    let url = format!("http://127.0.0.1:{port}/healthz");
    let done = finish(&mut launchd.reload(&["--json", "--health-url", &url]));
    assert_eq!((done.status, one(&done)["outcome"].as_str()), (0, Some("recovered")), "{done:?}");
    assert!(one(&done)["elapsed_ms"].as_u64().unwrap() < 20_000, "{done:?}");
}

/// A print that fails at the end must not leave the last but one as what is told (R4).
#[apply(test)]
fn what_is_told_last_was_seen_last() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &["--status", "500"], "");
    let done = finish(&mut launchd.reload(&["--json", "--attempts", "1", "--delay", "10ms"]));
    assert_eq!((done.status, one(&done)["registered"].as_bool()), (69, Some(true)), "{done:?}");
    let old = launchd.pid(LABEL).unwrap();
    repair(&room, &done);
    until("the repair has started it anew", || launchd.pid(LABEL).is_some_and(|pid| pid != old));
    // Refused for good, with nothing kept: it is lost, and the repair is the one for that.
    launchd.faults(&["bad=agents/"]);
    let lost = finish(&mut launchd.reload(&["--json"]));
    assert_eq!((lost.status, one(&lost)["registered"].as_bool()), (76, Some(false)), "{lost:?}");
    launchd.faults(&["bad="]);
    repair(&room, &lost);
    assert!(launchd.pid(LABEL).is_some());
}

#[apply(test)]
fn repairs_on_the_embedded_manager_repair() {
    let (room, port) = (Room::new(), port());
    room.conductor(port, &["--status", "500"], "");
    let agents = room.text("agents");
    let reload = || {
        let more = ["--attempts", "1", "--delay", "10ms", "--json"];
        finish(room.command("baa-reload").args(["--manager", "baa", "--install-dir", &agents]).args(more))
    };
    let status = || room.run("baa-run", ["ctl", "status", LABEL, "--json"]);
    let registered = reload();
    assert_eq!(one(&registered)["registered"].as_bool(), Some(true), "{registered:?}");
    let old = status().json()["pid"].clone();
    repair(&room, &registered);
    until("it was started anew", || status().json()["pid"] != old);
}

/// `print` says that there is no such job until it is told to go: then it is told, once, and replaced.
#[apply(test)]
fn a_job_that_is_said_to_be_unknown_and_to_be_loaded_is_told_to_go() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &["loaded=5,37"]);
    room.conductor(port, &[], "");
    launchd.bootstrap(LABEL);
    let old = launchd.pid(LABEL).unwrap();
    let count = room.text("launchd/count.bootout");
    between(&room, &launchd, &format!("print.*) test -e {count} || exit 113;;"));
    let done = finish(&mut launchd.reload(&["--json", "-v"]));
    assert_eq!((done.status, one(&done)["outcome"].as_str()), (0, Some("recovered")), "{done:?}");
    assert!(launchd.pid(LABEL).is_some_and(|pid| pid != old), "{done:?}");
    assert_eq!(launchd.calls().iter().filter(|call| call.starts_with("bootout")).count(), 1);
}

/// Where there was no job before, nothing is stranded when nobody waits any longer.
#[apply(test)]
fn a_job_that_was_not_there_is_registered_before_the_deadline_or_not_at_all() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &["refusals=100000"]);
    room.conductor(port, &[], "");
    let done = finish(&mut launchd.reload(&["--json", "--timeout", "500ms"]));
    assert_eq!((done.status, one(&done)["outcome"].as_str()), (124, Some("unhealthy")), "{done:?}");
    assert!(
        one(&done)["reason"].as_str().unwrap().contains("before the deadline: launchctl bootstrap gave 5")
    );
    // Both streams go to one file, which is told once.
    let path = room.text("log");
    assert_eq!(done.stderr.matches(&format!("log {path}")).count(), 1, "{done:?}");
    assert!(done.stderr.contains(&format!("stdout and stderr log {path}")), "{done:?}");
}
