//! The programs where there is nothing but themselves, and where the name service has modules: users, homes
//! and names are found or told to be missing, and nothing crashes.

use crate::support::root::{PROGRAMS, Root};
use crate::support::{Done, PATIENCE, Room, collect, copy_program, finish, signal, until};
use nix::sys::signal::Signal;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

const GROUP: &str = "[[daemon]]\nid = \"a\"\ncommand = [\"/bin/sh\", \"/life\"]\n";

fn plist(user: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<plist version=\"1.0\"><dict><key>Label</key>\
         <string>a.job</string><key>ProgramArguments</key><array><string>/bin/sh</string>\
         <string>/life</string></array>{user}</dict></plist>\n"
    )
}

fn named(user: &str) -> String {
    plist(&format!("<key>UserName</key><string>{user}</string><key>RunAtLoad</key><true/>"))
}

/// What each program does that wants a home, a user or a state directory, with no home known.
const HOMELESS: [(&str, &[&str]); 9] = [
    ("baa-reload", &["--service", "x"]),
    ("baa-healthwait", &["--timeout", "100ms", "http://localhost:1/"]),
    ("baa-run", &["--restart", "never", "--", "/baa-run", "--version"]),
    ("baa-canary", &["status"]),
    ("baa-canary", &["arm", "--sock", "/none/tmux-iap-claude-bob.sock"]),
    ("baa-lease", &["status"]),
    ("baa-control", &["--listen", "nonsense"]),
    ("baa-daemons", &["status", "/none.toml"]),
    ("baa-peer-remove", &["bob"]),
];

/// One of the statuses that the pages know, and at most one line about it.
#[track_caller]
fn is_told(program: &str, done: &Done) {
    let known = [0, 1, 2, 3, 65, 66, 69, 74, 77, 78, 124, 125, 126, 127];
    assert!(known.contains(&done.status), "{program}: {done:?}");
    assert!(done.stderr.lines().count() <= 1, "{program}: {done:?}");
    assert!(done.status == 0 || !done.stderr.is_empty() || !done.stdout.is_empty(), "{program}: {done:?}");
}

fn nothing_crashes(root: &Root<'_>) {
    for program in PROGRAMS {
        let done = root.run(program, &["--version"]);
        done.expect(0, &format!("{program} {}\n", env!("CARGO_PKG_VERSION")), "");
    }
    for (program, arguments) in HOMELESS {
        // A number without a name, and root.
        for who in [54321, 0] {
            is_told(program, &finish(&mut root.command(who, program, arguments)));
        }
    }
    root.write("g.toml", &format!("{GROUP}user = \"no-such-user\"\n"));
    root.run("baa-daemons", &["check", "/g.toml"]).failed_with(78, "no user 'no-such-user'");
    root.write("a.job.plist", &named("no-such-user"));
    root.run("baa-run", &["--job", "/a.job.plist"]).failed_with(78, "no user 'no-such-user'");
    let done = root.run("baa-healthwait", &["--timeout", "300ms", "http://no-such-host.invalid/"]);
    done.failed_with(124, "no-such-host.invalid");
}

#[apply(test)]
fn in_an_empty_root_nothing_crashes() {
    let room = Room::new();
    nothing_crashes(&Root::empty(&room));
}

#[apply(test)]
fn in_an_empty_root_a_command_is_kept() {
    let room = Room::new();
    let root = Root::empty(&room);
    let done = root.run("baa-run", &["--restart", "never", "--", "/baa-canary", "--version"]);
    done.expect(0, &format!("baa-canary {}\n", env!("CARGO_PKG_VERSION")), "");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("localhost:{}", listener.local_addr().unwrap().port());
    root.run("baa-healthwait", &[&target]).expect(0, "", "");
}

#[apply(test)]
fn with_modules_nothing_crashes() {
    let room = Room::new();
    nothing_crashes(&Root::with_modules(&room));
}

/// What a life says of its user: written by it, and seen from outside.
const LIFE: &str = "echo $HOME $SHELL $USER $LOGNAME > /tmp/env; echo $$ > /tmp/pid; read x < /tmp/fifo";

fn is_the_ghost(root: &Root<'_>) {
    until("it lives", || root.read("tmp/pid").ends_with('\n'));
    let status = std::fs::read_to_string(format!("/proc/{}/status", root.read("tmp/pid").trim())).unwrap();
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!((of("Uid:").as_str(), of("Gid:").as_str()), ("4711 4711 4711 4711", "4711 4711 4711 4711"));
    assert_eq!(of("Groups:"), "4711 4712 4713");
    assert_eq!(root.read("tmp/env"), "/home/ghost /bin/ghostsh ghost ghost\n");
    std::fs::remove_file(root.path.join("tmp/pid")).unwrap();
}

/// A user that exists in systemd's records only is found, with its groups and its home; and a supervisor that
/// is asked for one who does not exist goes on.
#[apply(test)]
fn a_user_of_the_name_service_is_who_runs() {
    let room = Room::new();
    let root = Root::with_modules(&room);
    root.write("life", LIFE);
    nix::unistd::mkfifo(&root.path.join("tmp/fifo"), nix::sys::stat::Mode::from_bits_truncate(0o666))
        .unwrap();
    root.write("a.job.plist", &named("ghost"));
    let mut keeper = root.command(0, "baa-run", &["-q", "--job", "/a.job.plist"]).spawn().unwrap();
    is_the_ghost(&root);
    signal(keeper.id(), Signal::SIGTERM);
    keeper.wait().unwrap();

    let group = |user: &str| root.write("g.toml", &format!("{GROUP}user = \"{user}\"\n"));
    group("ghost");
    let mut run = root.command(0, "baa-daemons", &["run", "/g.toml"]);
    let running = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    is_the_ghost(&root);
    group("gohst");
    root.run("baa-daemons", &["reload", "/g.toml"]).failed_with(78, "no user 'gohst'");
    let status = root.run("baa-daemons", &["status", "/g.toml", "--json"]).json();
    assert_eq!(status["entries"][0]["state"], "ready", "{status}");
    signal(running.id(), Signal::SIGTERM);
    collect(running);

    // Its home is found without HOME.
    root.write("home/ghost/.iapeer/peers-profiles.json", "nonsense");
    let done = finish(&mut root.command(4711, "baa-peer-remove", &["bob"]));
    assert!(done.stderr.contains("/home/ghost/.iapeer"), "{done:?}");
}

/// Whether there is such a user nobody can tell: that is another status than that there is none, and it comes
/// in time.
#[apply(test)]
fn a_name_service_that_does_not_answer_is_not_one_that_says_no() {
    let room = Room::new();
    let root = Root::with_modules(&room);
    root.write("g.toml", &format!("{GROUP}user = \"ghost\"\n"));
    root.write("a.job.plist", &named("ghost"));
    let cannot_tell = |why: &str| {
        let words = format!("cannot tell whether there is a user 'ghost': {why}");
        root.run("baa-daemons", &["check", "/g.toml"]).failed_with(69, &words);
        root.run("baa-run", &["--job", "/a.job.plist"]).failed_with(69, &words);
    };
    let getent = root.path.join("usr/bin/getent");
    std::fs::remove_file(&getent).unwrap();
    cannot_tell("getent is missing");
    for (script, why) in [
        ("#!/bin/sh\nexit 3\n", "getent exited with 3"),
        ("#!/bin/sh\nkill -SEGV $$\n", "getent killed by SIGSEGV"),
        ("#!/bin/sh\nkill -STOP $$\n", "getent does not answer"),
    ] {
        root.write("getent", script);
        std::fs::set_permissions(root.path.join("getent"), PermissionsExt::from_mode(0o755)).unwrap();
        copy_program(&root.path.join("getent"), &getent);
        let began = std::time::Instant::now();
        cannot_tell(why);
        assert!(began.elapsed() < PATIENCE, "{why}");
    }
    // Root is in the files: nobody need be asked who that is.
    root.write("g.toml", &format!("{GROUP}user = \"toor\"\n"));
    root.write("etc/passwd", "toor:x:0:0::/:\n");
    root.write("etc/nsswitch.conf", "passwd: files\ngroup: files\n");
    assert_eq!(root.run("baa-daemons", &["check", "/g.toml"]).status, 0);
}

/// A host that only a module knows is found by a static program too.
#[apply(test)]
fn a_host_of_the_name_service_is_reached() {
    let room = Room::new();
    let root = Root::with_modules(&room);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("some-name.localhost:{}", listener.local_addr().unwrap().port());
    root.run("baa-healthwait", &["--timeout", "30s", &target]).expect(0, "", "");
}
