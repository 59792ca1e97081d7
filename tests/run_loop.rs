//! baa-run as a run loop: the lock, the drain, sockets that outlive a restart, and giving up.

use crate::support::{Done, Room, alive, collect, needs, port, signal, skip, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};

pub(crate) fn spawn(room: &Room, arguments: &[&str]) -> Child {
    room.command("baa-run").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

pub(crate) fn ctl(room: &Room, arguments: &[&str]) -> Done {
    room.run("baa-run", ["ctl", "-q"].into_iter().chain(arguments.iter().copied()))
}

pub(crate) fn read(room: &Room, file: &str) -> String {
    std::fs::read_to_string(room.path(file)).unwrap_or_default()
}

/// A shell script that says that it runs, and ends well when it is told to.
pub(crate) fn script(more: &str) -> String {
    format!("echo $$ >> lives; {more} trap 'exit 0' TERM; while :; do sleep 0.01; done")
}

pub(crate) fn lives(room: &Room) -> Vec<u64> {
    read(room, "lives").lines().filter_map(|line| line.parse().ok()).collect()
}

#[apply(test)]
fn a_lock_has_one_holder_and_a_stale_file_needs_nobody() {
    let room = Room::new();
    room.write("lock", "{\"keeper\":1,\"pid\":1,\"start\":1,\"boot\":\"gone\"}\nrubbish");
    let first = spawn(&room, &["--lock", "lock", "--", "/bin/sh", "-c", &script("")]);
    until("it runs", || lives(&room).len() == 1);
    let done = room.run("baa-run", ["--lock", "lock", "--lock-wait", "0", "--", "touch", "ran"]);
    done.failed_with(75, &format!("cannot start: process {} holds 'lock'", first.id()));
    let waits = spawn(
        &room,
        &[
            "--lock",
            "lock",
            "--lock-wait",
            "60s",
            "--restart",
            "never",
            "--",
            "/bin/sh",
            "-c",
            "echo next >> lives; exit 4",
        ],
    );
    signal(first.id(), Signal::SIGTERM);
    assert_eq!(collect(first).status, 0);
    assert_eq!(collect(waits).status, 4);
    assert!(!room.path("ran").exists());
    room.run("baa-run", ["--lock", "none/lock", "--", "true"]).failed_with(66, "cannot lock 'none/lock'");
}

/// Killed, a holder of a lock takes its command along; what that has left is ended before the next one
/// starts.
#[apply(test)]
fn a_killed_holder_leaves_the_lock_free_and_nothing_beside_the_next() {
    let room = Room::new();
    let left = "/bin/sh -c 'trap \"\" TERM; echo $$ > left.tmp; mv left.tmp left; while :; do sleep 0.01; \
         done' & until [ -e left ]; do sleep 0.01; done;";
    let mut first =
        spawn(&room, &["--lock", "lock", "--stop-timeout", "300ms", "--", "/bin/sh", "-c", &script(left)]);
    until("it runs", || lives(&room).len() == 1 && room.path("left").exists());
    first.kill().unwrap();
    first.wait().unwrap();
    until("the command is dead", || !alive(lives(&room)[0]));
    let left: u64 = read(&room, "left").trim().parse().unwrap();
    assert!(alive(left));
    let check = format!("grep -q ') [RSD]' /proc/{left}/stat 2> /dev/null && echo alive; exit 0");
    let done = room.run(
        "baa-run",
        ["--lock", "lock", "--stop-timeout", "300ms", "--restart", "never", "--", "/bin/sh", "-c", &check],
    );
    assert!(done.status == 0 && done.stdout.is_empty() && done.stderr.contains("left process"), "{done:?}");
}

/// A thousand double starts: one of two at a time.
#[apply(test)]
fn of_two_starts_at_once_one_wins_a_thousand_times() {
    let room = Room::new();
    let run = || {
        room.run(
            "baa-run",
            [
                "-q",
                "--lock",
                "lock",
                "--lock-wait",
                "0",
                "--restart",
                "never",
                "--",
                "/bin/sh",
                "-c",
                "mkdir busy || echo overlap >> trouble; rmdir busy",
            ],
        )
        .status
    };
    let (mut won, mut both) = (0, 0);
    for _ in 0..500 {
        let statuses = std::thread::scope(|scope| {
            let other = scope.spawn(run);
            [run(), other.join().unwrap()]
        });
        // The other may come when the first is done already; refused it is 75, and never is neither started.
        assert!(
            statuses.iter().all(|status| [0, 75].contains(status)) && statuses.contains(&0),
            "{statuses:?}"
        );
        won += statuses.iter().filter(|status| **status == 0).count();
        both += usize::from(statuses == [0, 0]);
    }
    assert!(!room.path("trouble").exists());
    assert_eq!(won, 500 + both);
}

#[apply(test)]
fn failures_give_up_also_across_keepers_until_somebody_asks() {
    let room = Room::new();
    let keep = || {
        room.run(
            "baa-run",
            [
                "-q",
                "--label",
                "x",
                "--throttle",
                "0",
                "--give-up",
                "3/10m",
                "--",
                "/bin/sh",
                "-c",
                "echo $$ >> lives; exit 1",
            ],
        )
    };
    let done = keep();
    assert!(
        done.status == 78 && done.stderr.contains("x: giving up: it has failed 3 times within 10m"),
        "{done:?}"
    );
    assert_eq!(lives(&room).len(), 3);
    keep().failed_with(78, "cannot keep it: it has failed 3 times within 10m");
    assert_eq!(lives(&room).len(), 3);
    std::fs::remove_file(room.path("state/baa/run/x.ends")).unwrap();
    let gone = room.write("gone", "#!/bin/sh\nrm gone\n");
    std::fs::set_permissions(gone, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // What cannot be started any more counts, and neither an end that was asked for nor one with 0 does.
    let done = room.run("baa-run", ["-q", "--throttle", "0", "--give-up", "2/1m", "--", "./gone"]);
    assert!(done.status == 78 && done.stderr.contains("giving up"), "{done:?}");
    let good = [
        "-q",
        "--label",
        "y",
        "--restart",
        "on-failure",
        "--throttle",
        "0",
        "--give-up",
        "1/1m",
        "--",
        "/bin/sh",
        "-c",
        "exit 0",
    ];
    room.run("baa-run", good).expect(0, "", "");
    room.run("baa-run", ["--give-up", "0/1m", "--", "true"]).failed_with(125, "is not a number from 1 to");
}

/// The work in flight is finished before a restart, in each way that a command can be asked; and the reason
/// reaches its next life.
#[apply(test)]
fn a_restart_drains_first() {
    let room = Room::new();
    let keeper = spawn(
        &room,
        &[
            "--label",
            "c",
            "--cooldown",
            "0",
            "--drain-cmd",
            "echo drain $BAA_PID $BAA_RESTART_REASON $BAA_RESTART_EXPECTED_MS $BAA_DRAIN_MS >> log; \
                 until [ -e drained ]; do sleep 0.01; done",
            "--",
            "/bin/sh",
            "-c",
            &script("echo life $BAA_RESTART_REASON >> log;"),
        ],
    );
    until("it runs", || lives(&room).len() == 1);
    ctl(&room, &["restart", "c", "--no-wait", "--reason", "new config"]).expect(0, "", "");
    until("it drains", || read(&room, "log").contains("drain"));
    assert!(ctl(&room, &["status", "c"]).stdout.contains("draining"));
    let first = lives(&room)[0];
    assert!(alive(first));
    room.write("drained", "");
    until("it is started again", || lives(&room).len() == 2);
    assert!(!alive(first));
    // It is counted as a life before it says so.
    until("it has told", || read(&room, "log").matches("life").count() == 2);
    assert_eq!(read(&room, "log"), format!("life\ndrain {first} new config 1500 300000\nlife new config\n"));
    // A stop waits for no drain.
    std::fs::remove_file(room.path("drained")).unwrap();
    ctl(&room, &["restart", "c", "--no-wait"]).expect(0, "", "");
    signal(keeper.id(), Signal::SIGTERM);
    assert_eq!(collect(keeper).status, 0);

    // By a signal it ends by itself; one that does not is told to stop when the time is over.
    let keeper = spawn(
        &room,
        &[
            "--label",
            "s",
            "--cooldown",
            "0",
            "--drain-signal",
            "USR1",
            "--drain-timeout",
            "200ms",
            "--",
            "/bin/sh",
            "-c",
            &script("trap '[ -e deaf ] || { echo usr1 >> log; exit 0; }' USR1;"),
        ],
    );
    until("it runs", || lives(&room).len() == 3);
    ctl(&room, &["restart", "s"]).expect(0, "", "");
    until("it is started again", || lives(&room).len() == 4);
    assert!(read(&room, "log").ends_with("usr1\n"));
    room.write("deaf", "");
    ctl(&room, &["restart", "s"]).expect(0, "", "");
    until("it is started again", || lives(&room).len() == 5);
    signal(keeper.id(), Signal::SIGTERM);
    collect(keeper);
    room.run("baa-run", ["--drain-signal", "NONSENSE", "--", "true"])
        .failed_with(125, "'NONSENSE' is no signal");
    room.run("baa-run", ["--drain-url", "nonsense", "--", "true"])
        .failed_with(125, "cannot drain by 'nonsense'");
}

#[apply(test)]
fn a_drain_by_http_asks_until_nothing_is_left() {
    let room = Room::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/drain", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for body in ["", "2", "{\"pending\":1}", "0"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = [0u8; 1024];
            let count = stream.read(&mut bytes).unwrap();
            asked.push(String::from_utf8_lossy(&bytes[..count]).split(' ').next().unwrap().to_owned());
            stream
                .write_all(
                    format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                        body.len()
                    )
                    .as_bytes(),
                )
                .unwrap();
        }
        asked
    });
    let keeper = spawn(
        &room,
        &["--label", "h", "--cooldown", "0", "--drain-url", &url, "--", "/bin/sh", "-c", &script("")],
    );
    until("it runs", || lives(&room).len() == 1);
    ctl(&room, &["restart", "h"]).expect(0, "", "");
    until("it is started again", || lives(&room).len() == 2);
    assert_eq!(server.join().unwrap(), ["POST", "GET", "GET", "GET"]);
    // A server that is gone is no reason not to restart.
    ctl(&room, &["restart", "h"]).expect(0, "", "");
    until("it is started once more", || lives(&room).len() == 3);
    signal(keeper.id(), Signal::SIGTERM);
    let done = collect(keeper);
    assert!(done.stderr.contains("h: not drained: "), "{done:?}");
}

/// Whoever connects while nothing runs is served by the next life: the socket is the keeper's.
#[apply(test)]
fn a_socket_outlives_its_command() {
    needs("perl");
    let room = Room::new();
    let address = format!("127.0.0.1:{}", port());
    room.write(
        "serve.pl",
        "use Socket; my $pid = $ENV{LISTEN_PID}; die 'pid' unless $pid == $$ && $ENV{LISTEN_FDS} == 2; \
         open(my $s, '+<&=', 3) or die; accept(my $c, $s) or die; <$c>; print $c \"$ENV{LISTEN_FDNAMES} \
         $$\\n\"; close $c;",
    );
    let unix = format!("unix:{}", room.text("sock"));
    let mut keeper = spawn(
        &room,
        &[
            "--throttle",
            "0",
            "--listen",
            &format!("web={address}"),
            "--listen",
            &unix,
            "--",
            "perl",
            "serve.pl",
        ],
    );
    let ask = || {
        let mut stream = TcpStream::connect(&address).ok()?;
        stream.write_all(b"x\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    };
    let mut first = None;
    until("it answers", || {
        first = ask();
        first.is_some()
    });
    // Each life answers one; none of twenty is refused, for there is always somebody who listens.
    let answers: Vec<String> = (0..20).map(|_| ask().expect("refused")).collect();
    assert!(answers.iter().all(|answer| answer.starts_with("web:listen ")), "{answers:?}");
    let pids: std::collections::BTreeSet<&String> = answers.iter().chain(&first).collect();
    assert_eq!(pids.len(), 21);
    signal(keeper.id(), Signal::SIGTERM);
    keeper.wait().unwrap();
    let done = room.run("baa-run", ["--listen", "192.0.2.1:1", "--", "true"]);
    done.failed_with(74, "cannot listen on 192.0.2.1:1");
    // A socket file that nobody listens on gives way; one that somebody does, not.
    let _held = std::os::unix::net::UnixListener::bind(room.path("held")).unwrap();
    room.run("baa-run", ["--listen", &format!("unix:{}", room.text("held")), "--", "true"])
        .failed_with(74, "cannot listen");
    room.run("baa-run", ["-q", "--restart", "never", "--listen", &unix, "--", "/bin/sh", "-c", "exit 3"])
        .expect(3, "", "");
}

/// A first start that does not come to serve is a failure of the keeper; a later one is parked, alive, until
/// somebody asks.
#[apply(test)]
fn a_start_that_does_not_serve_ends_or_is_parked() {
    let room = Room::new();
    let done = room.run("baa-run", ["--ready", "file:up", "--ready-timeout", "200ms", "--", "sleep", "1000"]);
    assert!(
        done.status == 69 && done.stderr.contains("does not serve within 200ms: cannot find up"),
        "{done:?}"
    );
    let bundles: Vec<_> = std::fs::read_dir(room.path("state/baa/logs/stability"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        bundles.len() == 1 && bundles[0].to_string_lossy().ends_with("-run.startup_failed.json"),
        "{bundles:?}"
    );
    let done = room.run("baa-run", ["--ready", "file:up", "--", "/bin/sh", "-c", "exit 3"]);
    assert!(done.status == 69 && done.stderr.contains("exited with 3"), "{done:?}");
    room.run("baa-run", ["--ready", "nonsense", "--", "true"])
        .failed_with(125, "cannot use target 'nonsense'");
    let keeper = spawn(
        &room,
        &[
            "--label",
            "p",
            "--ready",
            "file:up",
            "--ready-timeout",
            "300ms",
            "--",
            "/bin/sh",
            "-c",
            &script("[ -e broken ] || touch up;"),
        ],
    );
    until("it runs", || ctl(&room, &["status", "p"]).stdout.contains("running"));
    std::fs::remove_file(room.path("up")).unwrap();
    room.write("broken", "");
    ctl(&room, &["restart", "p"])
        .failed_with(69, "p is not restarted: it does not serve within 300ms: cannot find up");
    until("it is parked", || ctl(&room, &["status", "p"]).stdout.contains("p: idle"));
    std::fs::remove_file(room.path("broken")).unwrap();
    ctl(&room, &["start", "p"]).expect(0, "", "");
    until("it runs again", || ctl(&room, &["status", "p"]).stdout.contains("running"));
    assert_eq!(lives(&room).len(), 3);
    signal(keeper.id(), Signal::SIGTERM);
    assert_eq!(collect(keeper).status, 0);
}

/// An old process that answers on the port is not the new one.
#[apply(test)]
fn only_its_own_process_makes_it_ready() {
    let room = Room::new();
    let port = port();
    let address = format!("127.0.0.1:{port}");
    let old = room.service(&address, &[]);
    let service = crate::support::example("service").to_string_lossy().into_owned();
    let keeper = spawn(
        &room,
        &[
            "--label",
            "o",
            "--throttle",
            "0",
            "--ready",
            &format!("http://{address}/healthz"),
            "--",
            "/bin/sh",
            "-c",
            "echo $$ >> lives; sleep 1000",
        ],
    );
    until("it runs", || lives(&room).len() == 1);
    until("it was asked", || ctl(&room, &["status", "o"]).stdout.contains("starting"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(ctl(&room, &["status", "o"]).stdout.contains("starting"));
    signal(keeper.id(), Signal::SIGTERM);
    assert_eq!(collect(keeper).status, 0);
    drop(old);
    let keeper = spawn(
        &room,
        &[
            "--label",
            "o",
            "--ready",
            &format!("http://{address}/healthz"),
            "--",
            &service,
            "--listen",
            &address,
        ],
    );
    until("it serves", || ctl(&room, &["status", "o"]).stdout.contains("running"));
    signal(keeper.id(), Signal::SIGTERM);
    assert_eq!(collect(keeper).status, 0);
}

/// A server on an inherited socket, of the version that the file says; it says which one it is.
const SERVER: &str = "use Socket; use IO::Handle; my $done = 0; $SIG{TERM} = sub { $done = 1 }; \
    open(my $v, '<', 'version') or die; my $version = <$v>; chomp $version; exit 3 if $version eq 'bad'; \
    sleep 1000 if $version eq 'mute'; open(my $s, '+<&=', 3) or die; while (!$done) { accept(my $c, \
    $s) or next; my $line = <$c>; while (<$c>) { last if /^\\r?$/ } \
    print $c \"HTTP/1.1 200 OK\\r\\nContent-Length: \" . (length($version) + 1) . \
    \"\\r\\n\\r\\n$version\\n\"; $c->flush; 1 while <$c>; close $c; }";

/// A new version takes over when it serves, with no connection refused; one that does not come to serve was
/// never there.
#[apply(test)]
fn an_update_that_does_not_serve_is_undone() {
    needs("perl");
    let room = Room::new();
    let address = format!("127.0.0.1:{}", port());
    room.write("serve.pl", SERVER);
    room.write("version", "one\n");
    let url = format!("http://{address}/");
    let keeper = spawn(
        &room,
        &[
            "--label",
            "u",
            "--listen",
            &address,
            "--ready",
            &url,
            "--ready-timeout",
            "5s",
            "--",
            "perl",
            "serve.pl",
        ],
    );
    let version = || {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        // The server keeps the connection, by which it can be told who answers, until we hang up.
        let mut answer = Vec::new();
        while !answer.ends_with(b"one\n") && !answer.ends_with(b"two\n") {
            let mut bytes = [0u8; 256];
            let count = stream.read(&mut bytes).unwrap();
            assert!(count > 0, "cut off: {answer:?}");
            answer.extend_from_slice(&bytes[..count]);
        }
        String::from_utf8(answer).unwrap().lines().last().unwrap_or_default().to_owned()
    };
    let pid = || ctl(&room, &["status", "u", "--json"]).json()["pid"].as_u64();
    until("it serves", || ctl(&room, &["status", "u"]).stdout.contains("running"));
    let first = pid().unwrap();
    room.write("version", "bad\n");
    ctl(&room, &["update", "u"])
        .failed_with(69, "u is not updated, the old life goes on: it ended before it served");
    assert_eq!((version().as_str(), pid()), ("one", Some(first)));
    room.write("version", "mute\n");
    ctl(&room, &["update", "u"])
        .failed_with(69, "the old life goes on: it does not serve within 10s: answered by process");
    assert_eq!((version().as_str(), pid()), ("one", Some(first)));
    // Asked all the while, nobody is refused, and from some moment on it is the new one who answers.
    room.write("version", "two\n");
    let answers = std::thread::scope(|scope| {
        let asks = scope.spawn(|| {
            let mut answers = Vec::new();
            while answers.last().is_none_or(|last| last != "two") || answers.len() < 50 {
                answers.push(version());
            }
            answers
        });
        ctl(&room, &["update", "u", "--reason", "two is out"]).expect(0, "", "");
        asks.join().unwrap()
    });
    assert!(answers.iter().all(|answer| answer == "one" || answer == "two"), "{answers:?}");
    until("the old one is gone", || !alive(first));
    assert_eq!(version(), "two");
    let status = ctl(&room, &["status", "u", "--json"]).json();
    assert_eq!(
        (&status["change"]["state"], &status["change"]["number"]),
        (&Value::from("done"), &Value::from(3))
    );
    assert_ne!(pid(), Some(first));
    signal(keeper.id(), Signal::SIGTERM);
    assert_eq!(collect(keeper).status, 0);
    let plain = spawn(&room, &["--label", "v", "--", "sleep", "1000"]);
    until("it runs", || ctl(&room, &["status", "v"]).status == 0);
    ctl(&room, &["update", "v"]).failed_with(78, "cannot update v: without --ready nobody knows");
    signal(plain.id(), Signal::SIGTERM);
    collect(plain);
}

/// What a life says over its own socket makes it ready, and nothing else.
#[apply(test)]
fn a_command_may_say_that_it_is_ready() {
    needs("perl");
    let room = Room::new();
    let say = "open(my $f, '>>', 'sockets'); print $f qq($ENV{NOTIFY_SOCKET}\n); close $f; \
        use Socket; socket(my $s, PF_UNIX, SOCK_DGRAM, 0); send($s, 'STATUS=soon', 0, \
        sockaddr_un($ENV{NOTIFY_SOCKET})); until (-e 'go') { select undef, undef, undef, 0.01 } \
        send($s, qq(STATUS=up\\nREADY=1), 0, sockaddr_un($ENV{NOTIFY_SOCKET})); sleep 1000";
    let keeper = spawn(&room, &["--label", "n", "--ready", "notify", "--", "perl", "-e", say]);
    until("it starts", || ctl(&room, &["status", "n"]).stdout.contains("starting"));
    room.write("go", "");
    until("it is ready", || ctl(&room, &["status", "n"]).stdout.contains("running"));
    let first = ctl(&room, &["status", "n", "--json"]).json()["pid"].clone();
    ctl(&room, &["update", "n"]).expect(0, "", "");
    assert_ne!(ctl(&room, &["status", "n", "--json"]).json()["pid"], first);
    signal(keeper.id(), Signal::SIGTERM);
    assert_eq!(collect(keeper).status, 0);
    let sockets = read(&room, "sockets");
    assert!(
        sockets.lines().count() == 2 && !sockets.lines().any(|path| std::path::Path::new(path).exists()),
        "{sockets}"
    );
    let done = room.run("baa-run", ["--ready", "notify", "--ready-timeout", "100ms", "--", "sleep", "1000"]);
    assert!(
        done.status == 69 && done.stderr.contains("does not serve within 100ms: it has not said READY=1"),
        "{done:?}"
    );
}

/// As the first process of a container: exact statuses, nothing left unreaped, and a stop that the command
/// hears.
#[apply(test)]
fn it_is_a_first_process() {
    let room = Room::new();
    let contained = |arguments: &[&str]| {
        let bare = room.command("baa-run");
        needs("unshare");
        let mut command = std::process::Command::new("unshare");
        command
            .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
            .arg(bare.get_program())
            .args(arguments)
            .current_dir(room.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let probe = collect(contained(&["-q", "--restart", "never", "--", "true"]));
    if probe.status != 0 {
        skip("no process namespaces can be made here");
    }
    assert_eq!(collect(contained(&["-q", "--restart", "never", "--", "/bin/sh", "-c", "exit 7"])).status, 7);
    assert_eq!(
        collect(contained(&["-q", "--restart", "never", "--", "/bin/sh", "-c", "kill -9 $$"])).status,
        137
    );
    // Twenty orphans die while the command runs: none of them stays a zombie.
    let orphans = "for i in 1 2 3 4 5 6 7 8 9 10; do (sleep 0.05 & sleep 0.05 &) ; done; sleep 0.3; \
         cut -d' ' -f3 /proc/[0-9]*/stat | grep -c Z; exit 0";
    assert_eq!(
        collect(contained(&["-q", "--restart", "never", "--", "/bin/sh", "-c", orphans])).stdout,
        "0\n"
    );
    let child = contained(&[
        "--restart",
        "never",
        "--",
        "/bin/sh",
        "-c",
        "trap 'echo heard > heard; exit 5' TERM; touch up; while :; do sleep 0.01; done",
    ]);
    until("it runs", || room.path("up").exists());
    // unshare itself takes no notice of TERM; its child is the first process there.
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let first =
        std::fs::read_to_string(children).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    signal(first, Signal::SIGTERM);
    assert_eq!(collect(child).status, 5);
    assert!(room.path("heard").exists());
}

/// Sets it when it goes.
struct Set<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Set<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

/// Ten thousand requests through twenty changes of the process, and streams of five seconds across them: none
/// fails, none is cut.
#[apply(test)]
fn ten_thousand_requests_outlive_twenty_lives() {
    let room = Room::new();
    let address = format!("127.0.0.1:{}", port());
    let service = crate::support::example("service").to_string_lossy().into_owned();
    let url = format!("http://{address}/healthz");
    let keeper = spawn(
        &room,
        &[
            "--label",
            "t",
            "--cooldown",
            "0",
            "--throttle",
            "0",
            "--listen",
            &address,
            "--ready",
            &url,
            "--",
            &service,
            "--listen",
            "inherited",
        ],
    );
    until("it serves", || ctl(&room, &["status", "t"]).stdout.contains("running"));
    let get = |path: &str, length: usize| -> bool {
        let Ok(mut stream) = TcpStream::connect(&address) else { return false };
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).is_ok() && {
            let (mut answer, mut bytes) = (Vec::new(), [0u8; 1024]);
            let whole = |answer: &[u8]| {
                answer
                    .windows(4)
                    .position(|window| window == b"\r\n\r\n")
                    .is_some_and(|head| answer.len() >= head + 4 + length)
            };
            while !whole(&answer) {
                match stream.read(&mut bytes) {
                    Ok(count) if count > 0 => answer.extend_from_slice(&bytes[..count]),
                    _ => return false,
                }
            }
            answer.starts_with(b"HTTP/1.1 200")
        }
    };
    let (over, asked, failed) = (
        std::sync::atomic::AtomicBool::new(false),
        std::sync::atomic::AtomicUsize::new(0),
        std::sync::atomic::AtomicUsize::new(0),
    );
    let count =
        |counter: &std::sync::atomic::AtomicUsize| counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let read = |counter: &std::sync::atomic::AtomicUsize| counter.load(std::sync::atomic::Ordering::SeqCst);
    let mut pids = std::collections::BTreeSet::new();
    std::thread::scope(|scope| {
        // Whatever fails, nobody goes on asking.
        let _end = Set(&over);
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::SeqCst) {
                    count(&asked);
                    if !get("/healthz", 3) {
                        count(&failed);
                    }
                }
            });
        }
        for turn in 0..20 {
            let stream = (turn % 10 == 0).then(|| scope.spawn(|| get("/stream", 50)));
            if stream.is_some() {
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
            let verb = if turn % 2 == 0 { "update" } else { "restart" };
            // While an old life finishes what it has begun, there is no other update.
            until("it is changed", || ctl(&room, &[verb, "t"]).status == 0);
            until("it serves", || {
                let status = ctl(&room, &["status", "t", "--json"]).json();
                status["state"] == "running" && pids.insert(status["pid"].as_u64())
            });
            if let Some(stream) = stream {
                assert!(stream.join().unwrap(), "a stream was cut in turn {turn}");
            }
        }
        until("enough were asked", || read(&asked) >= 10_000);
    });
    assert_eq!((read(&failed), pids.len()), (0, 20), "of {}", read(&asked));
    signal(keeper.id(), Signal::SIGTERM);
    assert_eq!(collect(keeper).status, 0);
}
