//! A real `systemd --user`, in namespaces of its own.

use super::{Done, Room, binary, example, finish};
use std::process::Command;

/// Runs a script beside a systemd; `None`, loudly, where none can be started.
pub fn beside_systemd(room: &Room, script: &str) -> Option<Done> {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/user-systemd");
    let able = nix::unistd::geteuid().is_root() && std::path::Path::new("/lib/systemd/systemd").exists();
    let probe = able.then(|| finish(Command::new(&here).arg("true")));
    if probe.as_ref().is_none_or(|done| done.status != 0) {
        eprintln!(
            "SKIPPED: no systemd --user can be started here (needs root, systemd and cgroup v2): {probe:?}"
        );
        return None;
    }
    let directory = binary("baa-reload").parent().unwrap().to_owned();
    let mut command = Command::new(&here);
    command.args(["/bin/bash", "-eu", "-c", script]).env_clear();
    command
        .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", directory.display()))
        .env("ROOM", room.dir.path())
        .env("SERVICE", example("service"));
    Some(finish(&mut command))
}
