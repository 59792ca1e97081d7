//! A real `systemd --user`, in namespaces of its own.

use super::{Done, Room, binary, example, finish, needs, needs_root, skip};
use std::process::Command;

/// Runs a script beside a systemd; the test is skipped where none can be started.
pub fn beside_systemd(room: &Room, script: &str) -> Done {
    beside(room, script, "")
}

/// The same with a journald, which has a journal of its own.
pub fn beside_journal(room: &Room, script: &str) -> Done {
    if !std::path::Path::new("/lib/systemd/systemd-journald").exists() {
        skip("systemd-journald is missing");
    }
    beside(room, script, "yes")
}

fn beside(room: &Room, script: &str, journal: &str) -> Done {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/user-systemd");
    needs_root();
    needs("bash");
    if !std::path::Path::new("/lib/systemd/systemd").exists() {
        skip("systemd is missing");
    }
    let probe = finish(Command::new(&here).arg("true"));
    if probe.status != 0 {
        skip("no systemd --user can be started here (it wants namespaces and cgroup v2)");
    }
    let directory = binary("baa-reload").parent().unwrap().to_owned();
    let mut command = Command::new(&here);
    command.args(["/bin/bash", "-eu", "-c", script]).env_clear();
    command
        .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", directory.display()))
        .env("ROOM", room.dir.path())
        .env("JOURNAL", journal)
        .env("SERVICE", example("service"));
    finish(&mut command)
}
