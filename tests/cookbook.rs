//! The examples of baa-cookbook(7), run as they are printed.

use crate::support::{CONDUCTOR as LABEL, Room, finish, port};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// The Makefile on the page.
fn makefile() -> String {
    let page = include_str!("../man/baa-cookbook.7");
    let (_, rest) = page.split_once("# BEGIN Makefile\n").unwrap();
    rest.split_once("# END Makefile").unwrap().0.replace("\\-", "-").replace("\\&", "")
}

/// Three hosts that are this machine; each call is written down.
fn deploy(room: &Room, port: u16) -> crate::support::Done {
    room.write("Makefile", &makefile());
    let ssh = room.write("ssh", "#!/bin/sh\necho \"$1\" >> hosts\nshift\nexec \"$@\"\n");
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
    let programs = crate::support::binary("baa-lease").parent().unwrap().display().to_string();
    let base = room.command("baa-lease");
    let mut make = Command::new("make");
    make.env_clear().envs(base.get_envs().filter_map(|(name, value)| Some((name, value?))));
    make.env("PATH", format!("{programs}:/usr/bin:/bin")).current_dir(room.path(""));
    let url = format!("URL=http://127.0.0.1:{port}/healthz");
    let more =
        format!("UNIT={LABEL} --manager baa --install-dir {} --attempts 2 --delay 20ms", room.text("agents"));
    finish(make.args(["deploy", "SSH=./ssh", &url, &more]))
}

#[apply(test)]
fn a_deploy_goes_from_host_to_host_and_stops_where_it_fails() {
    crate::support::harness::needs("make");
    let (room, port) = (Room::new(), port());
    room.conductor(port, &[], "");
    let done = deploy(&room, port);
    assert_eq!(done.status, 0, "{done:?}");
    let hosts = || std::fs::read_to_string(room.path("hosts")).unwrap();
    assert_eq!(hosts(), "web1\nweb2\nweb3\n");
    // What does not serve is rolled back on the first, and reaches no other.
    room.conductor(port, &["--status", "500"], "");
    let failed = deploy(&room, port);
    assert_eq!(failed.status, 2, "{failed:?}");
    assert!(failed.stderr.contains("rolled back") && failed.stderr.contains("Error 78"), "{failed:?}");
    assert_eq!(hosts(), "web1\nweb2\nweb3\nweb1\n");
}
