//! `baa-reload diagnose`: all that a failed reload tells, of what is now; and nothing is touched.

use crate::support::launchd::{DOMAIN, Launchd};
use crate::support::{CONDUCTOR as LABEL, Done, Room, finish, port, until};

fn diagnose(launchd: &Launchd<'_>, more: &[&str]) -> Done {
    let mut command = launchd.room.command("baa-reload");
    command.env("PATH", format!("{}:/usr/bin:/bin", launchd.room.text("launchd/bin")));
    let agents = launchd.room.text("agents");
    command.args(["diagnose", "--manager", "launchd", "--domain", DOMAIN, "--install-dir", &agents]);
    finish(command.args(more))
}

/// The files below a directory, each with what tells whether it was touched.
fn files(room: &Room) -> Vec<String> {
    let mut listed = std::process::Command::new("find");
    listed.args([&room.text("state"), &room.text("run"), &room.text("agents")]);
    finish(listed.args(["-printf", "%p %T@ %s\n"])).stdout.lines().map(str::to_owned).collect()
}

#[apply(test)]
fn it_tells_healthy_from_not_and_from_cannot_tell() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &[], "");
    let absent = diagnose(&launchd, &["--json"]);
    let one = absent.json()["services"][0].clone();
    assert_eq!((absent.status, one["healthy"].as_bool()), (1, Some(false)), "{absent:?}");
    assert_eq!(one["registered"].as_bool(), Some(false));
    assert!(!room.path("state").exists(), "it has made its directories");
    assert_eq!(finish(&mut launchd.reload(&["-q"])).status, 0);
    until("it serves", || diagnose(&launchd, &[]).status == 0);
    let healthy = diagnose(&launchd, &[]);
    assert_eq!(diagnose(&launchd, &["-q"]).stdout, "");
    assert!(healthy.stdout.starts_with("conductor: healthy: conductor answers\n"), "{healthy:?}");
    assert!(healthy.stdout.contains("\nreload: ") && healthy.stdout.contains("  recovered  "), "{healthy:?}");
    assert!(
        !healthy.stdout.contains("manual recovery") && !healthy.stdout.contains("hunter2"),
        "{healthy:?}"
    );
    // One that serves no more.
    room.conductor(port, &["--status", "503"], "");
    let again =
        launchd.reload(&["-q", "--no-rollback", "--attempts", "1", "--delay", "10ms"]).output().unwrap();
    assert_eq!(again.status.code(), Some(69));
    let sick = diagnose(&launchd, &["--json"]);
    let one = sick.json()["services"][0].clone();
    assert_eq!((sick.status, one["healthy"].as_bool()), (1, Some(false)), "{sick:?}");
    assert_eq!(one["last_probe"]["status"].as_u64(), Some(503));
    assert_eq!(one["reloads"].as_array().unwrap().len(), 2);
    assert!(one["repair"].as_str().unwrap().starts_with("launchctl kickstart -k "), "{sick:?}");
    // A manager that is not there says nothing, and that is not "not there".
    std::fs::remove_file(room.path("launchd/bin/launchctl")).unwrap();
    let unknown = diagnose(&launchd, &["--json"]);
    let one = unknown.json()["services"][0].clone();
    assert_eq!((unknown.status, one["healthy"].is_null()), (69, true), "{unknown:?}");
    assert_eq!((one["last_probe"]["status"].as_u64(), one["probes"].as_u64()), (Some(503), Some(1)));
    assert!(one["reason"].as_str().unwrap().ends_with("; its health check fails"), "{unknown:?}");
    // What every tool knows; of a label that was never reloaded there is nothing to be told.
    assert_eq!(diagnose(&launchd, &["-q", "-v"]).status, 2);
    assert_eq!(diagnose(&launchd, &["-v"]).status, 69);
    let typo = room.run("baa-reload", ["history", "-q", "--label", "typo"]);
    assert_eq!((typo.status, typo.stderr.as_str()), (66, "baa-reload: no reload of typo is known\n"));
}

#[apply(test)]
fn it_touches_nothing() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &[], "");
    assert_eq!(finish(&mut launchd.reload(&["-q"])).status, 0);
    until("it serves", || diagnose(&launchd, &[]).status == 0);
    let (before, calls) = (files(&room), launchd.calls().len());
    assert_eq!(diagnose(&launchd, &[]).status, 0);
    // A file that cannot be used is told of, beside what runs.
    room.write(&format!("agents/{LABEL}.plist"), "<plist");
    let unfit = diagnose(&launchd, &["--no-health"]);
    assert_eq!(unfit.status, 0, "{unfit:?}");
    assert!(unfit.stdout.contains("its file cannot be used: "), "{unfit:?}");
    let asked = launchd.calls()[calls..].to_vec();
    assert!(asked.iter().all(|call| call.starts_with("print")), "{asked:?}");
    let state = |all: &[String]| -> Vec<String> {
        all.iter().filter(|line| !line.contains("/agents")).cloned().collect()
    };
    assert_eq!(state(&files(&room)), state(&before));
}
