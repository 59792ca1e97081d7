//! baa-reload's interface: what it takes, and how it refuses.

use crate::support::Room;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

#[apply(test)]
fn help_and_version_go_to_stdout() {
    let room = Room::new();
    let help = room.run("baa-reload", ["--help"]);
    assert_eq!((help.status, help.stderr.as_str()), (0, ""));
    assert!(
        help.stdout.starts_with("Reload a service, prove that it recovered, or say why not; never strand it")
    );
    room.run("baa-reload", ["--version"]).expect(
        0,
        &format!("baa-reload {}\n", env!("CARGO_PKG_VERSION")),
        "",
    );
}

#[apply(test)]
fn wrong_usage_is_one_line_and_2() {
    let room = Room::new();
    for (arguments, why) in [
        (vec!["--nonsense"], "unexpected argument '--nonsense'"),
        (vec!["--service", "../x"], "is not a label"),
        (vec!["--label", "a/b"], "is not a label"),
        (vec!["--attempts", "0"], "--attempts"),
        (vec!["--delay", "soon"], "is not a span of time"),
        (vec!["--domain", "gui"], "is not a domain"),
        (vec!["--scope", "both"], "possible values: agent, daemon"),
        (vec!["--manager", "upstart"], "possible values"),
        (vec!["--all-services", "--service", "x"], "cannot be used with"),
        (vec!["--service", "x", "--service", "y", "--plist", "z"], "--plist names the file of one service"),
        (vec!["-q", "-v"], "cannot be used with"),
    ] {
        room.run("baa-reload", &arguments).failed_with(2, why);
    }
    room.run("baa-reload", [OsStr::from_bytes(b"--label=\xff")]).failed_with(2, "UTF-8");
}

#[apply(test)]
fn the_scripts_places_are_the_defaults() {
    let room = Room::new();
    for (arguments, place) in [
        (
            vec!["--manager", "launchd"],
            room.text("home/Library/LaunchAgents/so.makefile.baa-conductor.plist"),
        ),
        (
            vec!["--manager", "launchd", "--service", "status-api"],
            room.text("home/Library/LaunchAgents/so.makefile.baa-status-api.plist"),
        ),
        (
            vec!["--manager", "launchd", "--scope", "daemon"],
            "/Library/LaunchDaemons/so.makefile.baa-conductor.plist".to_owned(),
        ),
        (
            vec!["--manager", "launchd", "--home-dir", "/other"],
            "/other/Library/LaunchAgents/so.makefile.baa-conductor.plist".to_owned(),
        ),
        (
            vec![
                "--manager",
                "launchd",
                "--install-dir",
                "/dir",
                "--label-prefix",
                "org.x",
                "--service",
                "y",
            ],
            "/dir/org.x-y.plist".to_owned(),
        ),
    ] {
        room.run("baa-reload", &arguments)
            .failed_with(66, &format!("cannot use job '{place}': no such file or directory"));
    }
}

#[apply(test)]
fn without_launchctl_it_says_so() {
    let room = Room::new();
    room.plist("so.makefile.baa-conductor", &["/bin/sleep", "1"], "");
    let done = room.run("baa-reload", ["--manager", "launchd", "--install-dir", &room.text("agents")]);
    assert_eq!(done.status, 69, "{done:?}");
    assert!(done.stderr.contains("cannot run launchctl: no such file or directory"), "{done:?}");
    assert!(done.stderr.lines().last().unwrap().contains("manual recovery: launchctl enable"), "{done:?}");
}
