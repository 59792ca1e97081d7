//! baa-run: a life that goes on to serve, or does not; the last resort; and a keeper that is killed at any
//! moment.

use crate::run_loop::{ctl, lives, read, script, spawn};
use crate::support::{Room, alive, collect, copy_program, needs, needs_root, signal, skip, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::Stdio;

/// Perl that speaks to NOTIFY_SOCKET.
const SAY: &str = "use Socket; socket(my $s, PF_UNIX, SOCK_DGRAM, 0); sub say_it { send($s, $_[0], 0, \
    sockaddr_un($ENV{NOTIFY_SOCKET})) } \
    open(my $l, '>>', 'lives'); print $l \"$$\\n\"; close $l;";

#[apply(test)]
fn signs_of_life_that_cease_are_a_failure() {
    needs("perl");
    let room = Room::new();
    let pings = format!(
        "{SAY} say_it(qq(READY=1\\nSTATUS=$ENV{{WATCHDOG_USEC}})); while (1) {{ say_it('WATCHDOG=1') \
             unless -e 'mute'; say_it('WATCHDOG=trigger') if unlink 'trigger'; select undef, undef, \
             undef, 0.01 }}"
    );
    let keeper = spawn(
        &room,
        &[
            "--label",
            "w",
            "--ready",
            "notify",
            "--watchdog",
            "2s",
            "--throttle",
            "0",
            "--",
            "perl",
            "-e",
            &pings,
        ],
    );
    until("it serves", || ctl(&room, &["status", "w"]).stdout.contains("running"));
    assert!(ctl(&room, &["status", "w"]).stdout.contains("says 2000000"));
    room.write("trigger", "");
    until("it is started again", || lives(&room).len() >= 2);
    until("it serves", || ctl(&room, &["status", "w"]).stdout.contains("running"));
    let before = lives(&room).len();
    room.write("mute", "");
    until("it is started again", || lives(&room).len() > before);
    signal(keeper.id(), Signal::SIGTERM);
    let done = collect(keeper);
    assert!(done.status == 0, "{done:?}");
    assert!(done.stderr.contains("w: does not serve any more: it says that it is stuck"), "{done:?}");
    assert!(
        done.stderr.contains("w: does not serve any more: it has not said WATCHDOG=1 for 2s"),
        "{done:?}"
    );
}

/// After an update that was undone it is the old life that is listened to, not the one that is gone.
#[apply(test)]
fn the_old_life_is_heard_after_an_update_that_was_undone() {
    needs("perl");
    let room = Room::new();
    let pings = format!(
        "{SAY} unless (-e 'broken') {{ open(my $u, '>', 'up'); close $u }} while (1) {{ \
             say_it('WATCHDOG=1'); select undef, undef, undef, 0.01 }}"
    );
    let words = [
        "--label",
        "w",
        "--ready",
        "file:up",
        "--update-timeout",
        "3s",
        "--watchdog",
        "2s",
        "--",
        "perl",
        "-e",
        &pings,
    ];
    let keeper = spawn(&room, &words);
    until("it serves", || ctl(&room, &["status", "w"]).stdout.contains("running"));
    room.write("broken", "");
    std::fs::remove_file(room.path("up")).unwrap();
    ctl(&room, &["update", "w"]).failed_with(69, "the old life goes on");
    std::thread::sleep(std::time::Duration::from_millis(3000));
    assert_eq!((lives(&room).len(), alive(lives(&room)[0])), (2, true));
    signal(keeper.id(), Signal::SIGTERM);
    let done = collect(keeper);
    assert!(done.status == 0 && !done.stderr.contains("does not serve any more"), "{done:?}");
}

#[apply(test)]
fn a_line_on_a_descriptor_is_readiness() {
    let room = Room::new();
    let life = "echo $$ >> lives; printf up >&7; until [ -e go ]; do sleep 0.01; done; echo >&7; exec 7>&-; \
         trap 'exit 0' TERM; while :; do sleep 0.01; done";
    let keeper = spawn(&room, &["--label", "f", "--ready", "fd:7", "--", "/bin/sh", "-c", life]);
    until("it runs", || lives(&room).len() == 1);
    assert!(ctl(&room, &["status", "f"]).stdout.contains("starting"));
    room.write("go", "");
    until("it serves", || ctl(&room, &["status", "f"]).stdout.contains("running"));
    ctl(&room, &["restart", "f"]).expect(0, "", "");
    ctl(&room, &["update", "f"]).expect(0, "", "");
    assert_eq!(lives(&room).len(), 3);
    signal(keeper.id(), Signal::SIGTERM);
    assert_eq!(collect(keeper).status, 0);
    let done = room.run(
        "baa-run",
        ["--ready", "fd:7", "--ready-timeout", "100ms", "--", "/bin/sh", "-c", "exec 7>&-; sleep 1000"],
    );
    assert!(done.status == 69 && done.stderr.contains("it has not written a line"), "{done:?}");
    room.run("baa-run", ["--ready", "fd:2", "--", "true"]).failed_with(125, "cannot use '2' for readiness");
    room.run("baa-run", ["--ready", "fd:x", "--", "true"]).failed_with(125, "cannot use 'x' for readiness");
}

/// Two bad answers are borne, three are not; and what helps to find that out is no part of what is kept.
#[apply(test)]
fn one_that_does_not_answer_any_more_is_started_again() {
    let room = Room::new();
    let asks = "exec:echo x >> asked; [ ! -e bad ] || { n=$(wc -l < bad); [ $n -ge 2 ] || echo >> bad; \
         [ $n -ge 2 ] && [ ! -e worse ]; }";
    let keeper = spawn(
        &room,
        &[
            "--label",
            "l",
            "--throttle",
            "0",
            "--live",
            asks,
            "--live-interval",
            "10ms",
            "--ready-successes",
            "2",
            "--ready",
            "exec:echo x >> ready",
            "--",
            "/bin/sh",
            "-c",
            &script(""),
        ],
    );
    until("it is asked", || read(&room, "asked").lines().count() > 3);
    assert_eq!(read(&room, "ready"), "x\nx\n");
    room.write("bad", "");
    until("it has failed twice and recovered", || read(&room, "bad").len() == 2);
    let asked = read(&room, "asked").lines().count();
    until("it is asked further", || read(&room, "asked").lines().count() > asked + 3);
    assert_eq!(lives(&room).len(), 1);
    room.write("worse", "");
    until("it is started again", || lives(&room).len() >= 2);
    std::fs::remove_file(room.path("worse")).unwrap();
    signal(keeper.id(), Signal::SIGTERM);
    let done = collect(keeper);
    assert!(done.status == 0 && done.stderr.contains("l: does not serve any more: "), "{done:?}");
    room.run("baa-run", ["--live", "nonsense", "--", "true"])
        .failed_with(125, "cannot use target 'nonsense'");
}

/// A process that cannot be killed does not keep the keeper: it writes down what went before, and ends with
/// 1.
#[apply(test)]
fn a_stop_that_does_not_end_is_ended() {
    let room = Room::new();
    needs_root();
    let perl = needs("perl");
    // A helper that the system lets become root: then its keeper, who is nobody, may not signal it. The
    // keeper is a copy, for the checkout may lie where others may not go.
    copy_program(&perl, &room.path("root-perl"));
    copy_program(&crate::support::binary("baa-run"), &room.path("baa-run"));
    for (path, mode) in [("root-perl", 0o4755), ("baa-run", 0o755), ("", 0o755)] {
        std::fs::set_permissions(room.path(path), std::os::unix::fs::PermissionsExt::from_mode(mode))
            .unwrap();
    }
    let work = "$< = 0; $( = 0; die 'no setuid here' if $< != 0; $SIG{TERM} = 'IGNORE'; \
         open(my $f, '>', 'up'); \
         print $f $$; close $f; sleep 1000";
    let mut command = room.command_at(&room.path("baa-run"));
    let words = [
        "--label",
        "u",
        "--stop-timeout",
        "100ms",
        "--shutdown-timeout",
        "100ms",
        "--",
        "./root-perl",
        "-e",
        work,
    ];
    std::os::unix::process::CommandExt::uid(&mut command, 65534);
    std::os::unix::process::CommandExt::gid(&mut command, 65534);
    let path = room.path("as-nobody");
    std::fs::create_dir(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    command.env("BAA_RUNTIME_DIR", path.join("run")).env("XDG_STATE_HOME", &path).args(words);
    // Into a file: whoever is left holds a pipe open.
    let said = std::fs::File::create(room.path("said")).unwrap();
    let mut child = command.stdout(Stdio::null()).stderr(said).spawn().unwrap();
    until("it runs", || !read(&room, "up").is_empty() || read(&room, "said").contains("no setuid here"));
    let Ok(pid) = read(&room, "up").parse::<i32>() else {
        signal(child.id(), Signal::SIGTERM);
        drop(child.wait());
        skip("programs cannot become root here");
    };
    signal(child.id(), Signal::SIGTERM);
    until("it has ended", || child.try_wait().unwrap().is_some());
    let left = alive(u64::try_from(pid).unwrap());
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
    let said = read(&room, "said");
    assert!(
        left && child.wait().unwrap().code() == Some(1) && said.contains("the stop is not over within 5"),
        "{said}"
    );
    assert_eq!(said.matches("killing it").count(), 1, "{said}");
    let bundle =
        said.lines().find_map(|line| line.strip_prefix("baa-run: wrote '")?.strip_suffix('\'')).unwrap();
    let bundle: Value = serde_json::from_slice(&std::fs::read(bundle).unwrap()).unwrap();
    assert_eq!(bundle["reason"], "run.stop_shutdown_timeout");
}

/// As the first process of a container every signal that can be meant for the command reaches it, real-time
/// ones too.
#[apply(test)]
fn a_first_process_passes_every_signal_on() {
    let room = Room::new();
    let bare = room.command("baa-run");
    needs("unshare");
    needs("perl");
    let mut command = std::process::Command::new("unshare");
    let life = "foreach my $name (qw(HUP QUIT USR1 USR2 ALRM CONT TSTP URG WINCH IO PWR VTALRM PROF XCPU \
        XFSZ NUM37 RTMAX)) { $SIG{$name} = sub { open(my $f, '>>', 'heard'); print $f \"$_[0]\\n\"; \
        close $f } } \
        open(my $f, '>', 'up'); close $f; $SIG{TERM} = sub { exit 5 }; select undef, undef, undef, \
        0.01 while 1";
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(bare.get_program()).args([
        "--restart",
        "never",
        "--",
        "perl",
        "-e",
        life,
    ]);
    let child = command
        .current_dir(room.dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Some(child);
    until("it runs", || room.path("up").exists() || child.as_mut().unwrap().try_wait().unwrap().is_some());
    if !room.path("up").exists() {
        skip("no process namespaces can be made here");
    }
    let child = child.take().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let first: i32 =
        std::fs::read_to_string(children).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    for (number, name) in [
        (1, "HUP"),
        (3, "QUIT"),
        (10, "USR1"),
        (12, "USR2"),
        (14, "ALRM"),
        (18, "CONT"),
        (20, "TSTP"),
        (23, "URG"),
        (28, "WINCH"),
        (29, "IO"),
        (30, "PWR"),
        (26, "VTALRM"),
        (27, "PROF"),
        (24, "XCPU"),
        (25, "XFSZ"),
        (37, "NUM37"),
        (64, "RTMAX"),
    ] {
        // The shell's own: there may be no other kill.
        let sent = std::process::Command::new("/bin/sh")
            .args(["-c", &format!("kill -{number} {first}")])
            .status()
            .unwrap();
        assert!(sent.success());
        until(name, || {
            read(&room, "heard").lines().any(|line| line == name || line.ends_with(&number.to_string()))
        });
    }
    signal(u32::try_from(first).unwrap(), Signal::SIGTERM);
    assert_eq!(collect(child).status, 5);
}

#[apply(test)]
fn giving_up_may_ask_for_another_start() {
    let room = Room::new();
    let done = room.run(
        "baa-run",
        [
            "-q",
            "--throttle",
            "0",
            "--give-up",
            "2/1m",
            "--give-up-status",
            "75",
            "--",
            "/bin/sh",
            "-c",
            "exit 1",
        ],
    );
    assert!(done.status == 75 && done.stderr.contains("giving up"), "{done:?}");
    room.run("baa-run", ["--give-up-status", "0", "--give-up", "2/1m", "--", "true"])
        .failed_with(125, "0 is not in 1..=127");
}

/// Killed at any moment, a keeper leaves a lock that is free, a status that is whole, and nothing that runs
/// beside the next life.
#[apply(test)]
fn a_keeper_that_is_killed_at_any_moment_leaves_what_the_next_one_can_use() {
    let room = Room::new();
    // Two lives at once would find each other's mark. The shell makes it itself: a child of its own would
    // outlive it.
    let life = script(
        "set -C; true 2> /dev/null > busy || echo overlap >> trouble; trap 'rm busy; exit 0' TERM; \
             true >| up;",
    )
    .replace("trap 'exit 0' TERM;", "");
    let mut seen = std::collections::BTreeSet::new();
    for turn in 0..240u64 {
        // A busy machine may take longer until it is anywhere else than at its beginning.
        if turn >= 60 && seen.len() >= 2 {
            break;
        }
        let words = [
            "-q",
            "--label",
            "x",
            "--lock",
            "lock",
            "--throttle",
            "0",
            "--cooldown",
            "0",
            "--stop-timeout",
            "2s",
            "--ready",
            "file:up",
            "--drain-cmd",
            "sleep 0.01",
            "--",
            "/bin/sh",
            "-c",
            &life,
        ];
        let mut keeper = spawn(&room, &words);
        let verb = ["restart", "stop", "drain", "update"][usize::try_from(turn / 2 % 4).unwrap()];
        let mut asked = None;
        // Each turn is killed a little later; half of them in the middle of what was asked.
        if turn % 2 == 0 {
            until("it is up", || ctl(&room, &["status", "x"]).stdout.contains("running"));
            asked = Some(spawn(&room, &["ctl", verb, "x"]));
        }
        std::thread::sleep(std::time::Duration::from_micros(turn * 700));
        keeper.kill().unwrap();
        keeper.wait().unwrap();
        drop(asked.map(collect));
        match std::fs::read(room.path("run/jobs/x/status.json")) {
            Ok(bytes) => {
                let status: Value = serde_json::from_slice(&bytes)
                    .unwrap_or_else(|cause| panic!("{cause}: {:?}", String::from_utf8_lossy(&bytes)));
                seen.insert(status["state"].as_str().unwrap().to_owned());
            }
            Err(cause) => assert_eq!(cause.kind(), std::io::ErrorKind::NotFound),
        }
        // What it kept dies with it, for it holds a lock; a mark of a life that was killed is not its fault.
        until("its life is gone", || lives(&room).iter().all(|life| !alive(*life)));
        // In an update two of them are meant to run.
        assert!(verb == "update" || !room.path("trouble").exists(), "{turn}");
        let _ = std::fs::remove_file(room.path("trouble"));
        let _ = std::fs::remove_file(room.path("busy"));
        let _ = std::fs::remove_file(room.path("up"));
    }
    let done = room.run(
        "baa-run",
        [
            "-q",
            "--label",
            "x",
            "--lock",
            "lock",
            "--lock-wait",
            "0",
            "--restart",
            "never",
            "--",
            "/bin/sh",
            "-c",
            "exit 7",
        ],
    );
    assert_eq!(done.status, 7, "{done:?}");
    assert!(seen.len() >= 2, "{seen:?}");
}
