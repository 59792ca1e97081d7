//! baa-healthwait: real servers and sockets, and what lies, stalls and drips.

use crate::support::{Done, Room, binary, collect, finish, needs, port, signal, skip, until};
use nix::sys::signal::Signal;
use std::ffi::OsStr;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn wait<I: AsRef<OsStr>>(room: &Room, arguments: impl IntoIterator<Item = I>) -> Done {
    room.run("baa-healthwait", arguments)
}

#[apply(test)]
fn every_kind_of_target_answers_in_one_call() {
    let (room, port) = (Room::new(), port());
    let socket = room.text("socket");
    let _tcp = room.service(&format!("127.0.0.1:{port}"), &[]);
    let _unix = room.service(&format!("unix:{socket}"), &[]);
    let own = std::process::id();
    let targets = [
        format!("http://127.0.0.1:{port}/healthz"),
        format!("http://localhost:{port}"),
        format!("http+unix://{socket}:/healthz"),
        format!("tcp://127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("unix://{socket}"),
        "exec:test 1 -lt 2".to_owned(),
        format!("file:{socket}"),
        format!("pid:{own}"),
        "dns:localhost".to_owned(),
    ];
    let done = wait(&room, ["--json"].into_iter().chain(targets.iter().map(String::as_str)));
    let json = done.json();
    assert_eq!(
        (done.status, json["schema"].as_str(), json["ready"].as_bool(), done.stderr.as_str()),
        (0, Some("baa.healthwait/1"), Some(true), ""),
        "{done:?}"
    );
    assert_eq!(json["targets"].as_array().unwrap().len(), targets.len());
    wait(&room, targets.iter().map(String::as_str)).expect(0, "", "");
}

#[apply(test)]
fn what_is_not_up_is_124_and_says_why() {
    let (room, port) = (Room::new(), port());
    let cases = [
        (
            format!("127.0.0.1:{port}"),
            format!("cannot connect to 127.0.0.1:{port}: connection refused"),
            "refused",
        ),
        (
            format!("http://127.0.0.1:{port}/"),
            format!("cannot connect to 127.0.0.1:{port}: connection refused"),
            "refused",
        ),
        (format!("unix:{}", room.text("none")), "no such file or directory".to_owned(), "missing"),
        (
            "file:/nonexistent".to_owned(),
            "cannot find /nonexistent: no such file or directory".to_owned(),
            "missing",
        ),
        ("exec:echo why >&2; exit 3".to_owned(), "the command exited with 3: why".to_owned(), "down"),
        ("exec:no-such-command".to_owned(), "the command cannot be run (127)".to_owned(), "other"),
        ("pid:4194304".to_owned(), "no process 4194304".to_owned(), "missing"),
    ];
    for (target, why, class) in &cases {
        wait(&room, ["--attempts", "2", "--delay", "10ms", target]).failed_with(124, why);
        let json = wait(&room, ["--attempts", "2", "--delay", "10ms", "--json", target]).json();
        assert_eq!(
            (
                json["exit"].as_u64(),
                json["targets"][0]["attempts"].as_u64(),
                json["targets"][0]["last_error"]["class"].as_str()
            ),
            (Some(124), Some(2), Some(*class)),
            "{json}"
        );
    }
}

#[apply(test)]
fn wrong_targets_and_usage_are_2() {
    let room = Room::new();
    for (arguments, why) in [
        (vec!["ftp://host/"], "unknown scheme 'ftp'"),
        (vec!["host"], "it has no port"),
        (vec!["host:0"], "'0' is not a port: 1 to 65535"),
        (vec!["host:70000"], "'70000' is not a port: 1 to 65535"),
        (vec!["http://host:70000/"], "'70000' is not a port"),
        (vec!["tcp://:80"], "it has no host; write localhost:80"),
        (vec!["::1:80"], "write an IPv6 address in brackets"),
        (vec!["pid:0"], "is not a process id"),
        (vec!["pid:x"], "is not a process id"),
        (vec!["file:"], "it names no path"),
        (vec!["exec:"], "it names no command"),
        (vec!["dns:a b"], "has no valid host"),
        (vec!["http://host/\nx"], "control character"),
        (vec!["http://me:hunter2@host:0/"], "http://***@host:0/"),
        (vec!["launchd:a/b/c d"], "is not"),
        (vec!["systemd:a/b"], "is not a label"),
        (vec!["--status", "7xx", "host:1"], "is not an HTTP status"),
        (vec!["--json-path", "x", "host:1"], "write 'POINTER=VALUE'"),
        (vec!["--header", "no colon", "host:1"], "a header is written"),
        (vec!["--method", "GE T", "http://h/"], "a method is a token"),
        (vec!["--timeout", "soon", "host:1"], "is not a span of time"),
        (vec!["--newer-than", "soon", "host:1"], "is neither a pid"),
        (vec!["--served-by", "1", "file:/x"], "cannot tell which process answers"),
        (vec!["--successes", "0", "host:1"], "--successes"),
        (vec!["--interval", "1", "--delay", "1", "host:1"], "cannot be used with"),
    ] {
        let done = wait(&room, &arguments);
        done.failed_with(2, why);
        assert!(!done.stderr.contains("hunter2"), "{done:?}");
    }
    wait::<&str>(&room, []).failed_with(2, "required arguments were not provided");
    wait(&room, [OsStr::from_bytes(b"http://\xff/")]).failed_with(2, "it is not UTF-8");
    wait(&room, [OsStr::from_bytes(b"--method=\xff"), OsStr::new("host:1")]).failed_with(2, "UTF-8");
    wait(&room, ["ftp://x", "--", "true"]).failed_with(125, "unknown scheme");
}

#[apply(test)]
fn a_dry_run_asks_nobody() {
    let room = Room::new();
    let done = wait(&room, ["-n", "--json", "-q", "exec:echo > ran", "http://a:b@host/"]);
    done.expect(
        0,
        "{\"schema\":\"baa.healthwait/1\",\"dry_run\":true,\"targets\":[\"exec:echo > ran\",\
         \"http://***@host/\"]}\n",
        "",
    );
    assert!(!room.path("ran").exists());
    wait(&room, ["-n", "file:/x"]).expect(0, "", "baa-healthwait: would wait for file:/x\n");
    wait(&room, ["-n", "host"]).failed_with(2, "it has no port");
}

#[apply(test)]
fn a_path_need_not_be_utf_8() {
    let room = Room::new();
    let path = room.dir.path().join(OsStr::from_bytes(b"f\xff"));
    std::fs::write(&path, "").unwrap();
    let mut target = b"file:".to_vec();
    target.extend(path.as_os_str().as_bytes());
    wait(&room, [OsStr::from_bytes(&target)]).expect(0, "", "");
}

#[apply(test)]
fn http_is_judged_as_asked() {
    let room = Room::new();
    let body = r#"{"ready":true,"n":{"x":["a","b=c"]}}"#;
    let plain = port();
    let _plain = room.service(&format!("127.0.0.1:{plain}"), &["--body", body]);
    let missing = port();
    let _missing = room.service(&format!("127.0.0.1:{missing}"), &["--status", "404"]);
    let moved = port();
    let _moved = room.service(
        &format!("127.0.0.1:{moved}"),
        &["--status", "302", "--redirect", &format!("http://127.0.0.1:{plain}/x")],
    );
    let circle = port();
    let _circle = room.service(&format!("127.0.0.1:{circle}"), &["--status", "302", "--redirect", "/again"]);
    let url = |port: u16| format!("http://127.0.0.1:{port}/");
    for (arguments, status, why) in [
        (vec!["--body-contains", "ready"], 0, ""),
        (vec!["--body-contains", "nope"], 124, "the body does not contain 'nope'"),
        (vec!["--json-path", "/ready=true", "--json-path", "/n/x/1=b=c"], 0, ""),
        (vec!["--json-path", "/ready=false"], 124, "/ready is not false"),
        (vec!["--json-path", "/none=1"], 124, "the body has no /none"),
        (vec!["--status", "404"], 124, "answered 200"),
        (vec!["--method", "HEAD"], 0, ""),
    ] {
        let url = url(plain);
        let mut all = vec!["--attempts", "1", url.as_str()];
        all.extend(&arguments);
        let done = wait(&room, &all);
        assert_eq!(done.status, status, "{arguments:?} {done:?}");
        assert!(done.stderr.contains(why), "{arguments:?} {done:?}");
    }
    wait(&room, ["--attempts", "1", &url(missing)]).failed_with(124, "answered 404");
    wait(&room, ["--attempts", "1", "--status", "2xx,404", &url(missing)]).expect(0, "", "");
    wait(&room, ["--attempts", "1", &url(moved)]).expect(0, "", "");
    wait(&room, ["--attempts", "1", "--status", "302", &url(moved)]).failed_with(124, "answered 200");
    wait(&room, ["--attempts", "1", "--status", "302", "--no-redirect", &url(moved)]).expect(0, "", "");
    wait(&room, ["--attempts", "1", &url(circle)]).failed_with(124, "redirected more than 10 times");
}

#[apply(test)]
fn secrets_reach_the_server_and_nobody_else() {
    let room = Room::new();
    let (one, other) = (port(), port());
    let _other = room.service(&format!("127.0.0.1:{other}"), &["--count", &room.text("other")]);
    let _one = room.service(
        &format!("127.0.0.1:{one}"),
        &[
            "--count",
            &room.text("one"),
            "--status",
            "302",
            "--redirect",
            &format!("http://127.0.0.1:{other}/"),
        ],
    );
    room.secret("token", "hunter2\n");
    let url = format!("http://127.0.0.1:{one}/");
    let done = wait(
        &room,
        [
            "--token-file",
            &room.text("token"),
            "-H",
            "X-Key: s3cret",
            "--status",
            "404",
            "--attempts",
            "1",
            "--json",
            "-v",
            &url,
        ],
    );
    assert_eq!(done.status, 124);
    assert!(
        !done.stdout.contains("hunter2")
            && !done.stderr.contains("hunter2")
            && !done.stdout.contains("s3cret"),
        "{done:?}"
    );
    let seen = std::fs::read_to_string(room.path("one")).unwrap();
    assert!(seen.contains("Authorization: Bearer hunter2|") && seen.contains("X-Key: s3cret|"), "{seen}");
    // Another origin, even of the same host, gets neither.
    let seen = std::fs::read_to_string(room.path("other")).unwrap();
    assert!(!seen.contains("hunter2") && !seen.contains("s3cret"), "{seen}");
    let done = finish(room.command("baa-healthwait").env("TOKEN", "hunter2").args([
        "--token-env",
        "TOKEN",
        "--no-redirect",
        &url,
    ]));
    done.expect(0, "", "");
    wait(&room, ["--token-env", "NONE", &url]).failed_with(66, "variable 'NONE' is not set");
    wait(&room, ["--token-file", "/nonexistent", &url]).failed_with(66, "no such file");
    wait(&room, [format!("http://me:hunter2@127.0.0.1:{other}/")]).expect(0, "", "");
    assert!(
        std::fs::read_to_string(room.path("other"))
            .unwrap()
            .contains("Authorization: Basic bWU6aHVudGVyMg==|")
    );
}

/// Whatever the other side does, the end comes at the deadline. That the process is over at all is what is
/// tested here; how exactly, the bench shows.
#[apply(test)]
fn the_deadline_holds_against_what_stalls() {
    let room = Room::new();
    let (mute, drip) = (port(), port());
    let _mute = room.service(&format!("127.0.0.1:{mute}"), &["--mute"]);
    let _drip = room.service(&format!("127.0.0.1:{drip}"), &["--drip", "5", "--body", &"x".repeat(100_000)]);
    // A listener whose backlog is full drops the SYN, like a black hole.
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    let hole = full.local_addr().unwrap();
    nix::sys::socket::listen(&full, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let fillers: Vec<_> =
        (0..4).map(|_| std::net::TcpStream::connect_timeout(&hole, Duration::from_millis(50))).collect();
    for arguments in [
        vec![format!("http://127.0.0.1:{mute}/")],
        vec![format!("http://127.0.0.1:{drip}/"), "--body-contains".to_owned(), "never".to_owned()],
        vec![format!("tcp://{hole}")],
        vec![format!("http://{hole}/")],
        vec!["exec:trap '' TERM; sleep 1000".to_owned()],
    ] {
        let began = Instant::now();
        let done = wait(
            &room,
            arguments.iter().map(String::as_str).chain(["--timeout", "300ms", "--probe-timeout", "0"]),
        );
        assert_eq!(done.status, 124, "{done:?}");
        assert!(began.elapsed() >= Duration::from_millis(300), "too early: {done:?}");
        assert!(done.stderr.contains("no answer in time"), "{done:?}");
    }
    drop(fillers);
}

#[apply(test)]
fn a_dead_resolver_does_not_hold_it_up() {
    let room = Room::new();
    needs("unshare");
    needs("ip");
    let able = finish(
        Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "ip", "link", "set", "lo", "up"]),
    );
    if able.status != 0 {
        skip("no network namespaces can be made here");
    }
    let script = "ip link set lo up; echo nameserver 127.0.0.1 > resolv; mount --bind resolv /etc/resolv.conf
        $SERVICE --ready hole --mute-udp 127.0.0.1:53 > /dev/null & while [ ! -e hole ]; do sleep 0.01; done
        for target in dns:example.org http://example.org/ example.org:80; do
            $HEALTHWAIT --timeout 500ms $target; echo $?; done";
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script])
        .current_dir(room.dir.path());
    let done = finish(
        unshare
            .env("SERVICE", crate::support::example("service"))
            .env("HEALTHWAIT", binary("baa-healthwait")),
    );
    assert_eq!((done.status, done.stdout.as_str()), (0, "124\n124\n124\n"), "{done:?}");
    // On a busy machine the deadline may come before the word of what was going on.
    assert_eq!(done.stderr.matches("no answer in time").count(), 3, "{done:?}");
    assert!(done.stderr.contains("no answer in time (resolving example.org)"), "{done:?}");
}

#[apply(test)]
fn a_command_that_is_a_probe_dies_with_its_children_at_the_deadline() {
    let room = Room::new();
    let script = format!("exec:sleep 1000 & echo $! > {0}.tmp; mv {0}.tmp {0}; wait", room.text("pid"));
    // On a busy machine it may take a while until there are children.
    for timeout in ["1s", "5s", "25s"] {
        assert_eq!(wait(&room, ["--timeout", timeout, &script]).status, 124);
        if room.path("pid").exists() {
            break;
        }
    }
    let pid: u64 = std::fs::read_to_string(room.path("pid")).unwrap().trim().parse().unwrap();
    assert!(!crate::support::alive(pid));
}

#[apply(test)]
fn a_target_that_comes_up_is_noticed() {
    let (room, port) = (Room::new(), port());
    let targets = [format!("http://localhost:{port}/"), format!("file:{}", room.text("file"))];
    let child = room
        .command("baa-healthwait")
        .args(&targets)
        .args(["--timeout", "50s", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(100));
    room.write("file", "");
    let _service = room.service(&format!("[::1]:{port}"), &[]);
    let done = collect(child);
    let saw: Vec<String> = done.json()["targets"][0]["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["saw"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((done.status, saw), (0, vec!["refused".to_owned(), "up".to_owned()]), "{done:?}");
}

#[apply(test)]
fn any_is_content_with_one() {
    let (room, port) = (Room::new(), port());
    let nobody = format!("127.0.0.1:{port}");
    wait(&room, ["--any", &nobody, "file:/"]).expect(0, "", "");
    wait(&room, ["--any", "--attempts", "1", &nobody, "file:/none"]).failed_with(124, "; file:/none: ");
    wait(&room, ["--all", "--attempts", "1", &nobody, "file:/"]).failed_with(124, "connection refused");
}

#[apply(test)]
fn down_is_an_explicit_refusal() {
    let (room, free, mute) = (Room::new(), port(), port());
    let _mute = room.service(&format!("127.0.0.1:{mute}"), &["--mute"]);
    wait(&room, ["--invert", &format!("127.0.0.1:{free}"), "file:/none", "pid:4194304", "exec:exit 1"])
        .expect(0, "", "");
    wait(
        &room,
        ["--invert", "--timeout", "300ms", "--probe-timeout", "100ms", &format!("http://127.0.0.1:{mute}/")],
    )
    .failed_with(124, "no answer in time");
    wait(&room, ["--invert", "--attempts", "1", "file:/"]).failed_with(124, "not down after");
    wait(&room, ["--invert", "--attempts", "1", "exec:no-such-command"]).failed_with(124, "cannot be run");
}

#[apply(test)]
fn the_death_of_a_watched_process_ends_it_at_once() {
    let room = Room::new();
    // Once somebody asks it, it is watched; and it answers nothing.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("http://{}/", mute.local_addr().unwrap());
    for (how, words) in [("exit 3", "it exited with 3"), ("kill -9 $$", "it was killed by SIGKILL")] {
        let mut watched = Command::new("/bin/sh")
            .args(["-c", &format!("read x; {how}")])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = watched.id().to_string();
        let child = room
            .command("baa-healthwait")
            .args(["--watch-pid", &pid, "--timeout", "50s", &target])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _asked = mute.accept().unwrap();
        watched.stdin.take().unwrap().write_all(b"\n").unwrap();
        watched.wait().unwrap();
        let done = collect(child);
        assert_eq!(done.status, 69, "{done:?}");
        // The kernel tells the status only since 6.15, and only once the parent has reaped it.
        assert!(
            done.stderr == format!("baa-healthwait: process {pid} died: {words}\n")
                || done.stderr == format!("baa-healthwait: process {pid} died\n"),
            "{done:?}"
        );
        wait(&room, ["--watch-pid", &pid, "file:/"]).failed_with(69, &format!("process {pid} is not alive"));
    }
}

#[apply(test)]
fn an_answer_counts_only_from_the_process_that_was_named() {
    let (room, port) = (Room::new(), port());
    let service = room.service(&format!("127.0.0.1:{port}"), &[]);
    let own = std::process::id().to_string();
    let other = Command::new("sleep").arg("1000").spawn().unwrap();
    let (pid, stranger) = (service.pid(), other.id().to_string());
    for target in [format!("http://127.0.0.1:{port}/"), format!("127.0.0.1:{port}")] {
        wait(&room, ["--served-by", &pid, &target]).expect(0, "", "");
        // We started it: it is a descendant of ours.
        wait(&room, ["--served-by", &own, &target]).expect(0, "", "");
        wait(&room, ["--attempts", "1", "--served-by", &stranger, &target]).failed_with(
            124,
            &format!("answered by process {pid} (service), not process {stranger} or a child of it"),
        );
        let json = wait(&room, ["--json", "--served-by", &pid, &target]).json();
        assert_eq!(json["targets"][0]["pid"].to_string(), pid);
    }
    let mut other = other;
    other.kill().unwrap();
    other.wait().unwrap();
    wait(&room, ["--served-by", &stranger, "host:1"]).failed_with(69, "is not alive");
}

#[apply(test)]
fn an_answer_counts_only_from_a_newer_process() {
    let room = Room::new();
    let socket = room.text("socket");
    let port = port();
    let old = room.service(&format!("127.0.0.1:{port}"), &[]);
    let now = || {
        format!(
            "@{:.3}",
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
        )
    };
    std::thread::sleep(Duration::from_millis(30));
    let between = now();
    std::thread::sleep(Duration::from_millis(30));
    let _new = room.service(&format!("unix:{socket}"), &[]);
    let new = format!("unix:{socket}");
    let target = format!("127.0.0.1:{port}");
    wait(&room, ["--newer-than", &old.pid(), &new]).expect(0, "", "");
    wait(&room, ["--newer-than", &between, &new]).expect(0, "", "");
    wait(&room, ["--attempts", "1", "--newer-than", &old.pid(), &target])
        .failed_with(124, "which was started too early");
    wait(&room, ["--attempts", "1", "--newer-than", &between, &target])
        .failed_with(124, "which was started too early");
    wait(&room, ["--attempts", "1", "--newer-than", &between, &format!("pid:{}", old.pid())])
        .failed_with(124, "which was started too early");
    wait(&room, ["--newer-than", "2001-01-01T00:00:00Z", &target]).expect(0, "", "");
    wait(&room, ["--newer-than", "4194304", &target]).failed_with(69, "it is not alive; give a time instead");
}

/// Old and new listen side by side: nobody can tell from the listeners who answered, but the connection
/// itself can.
#[apply(test)]
fn with_a_shared_port_the_connection_decides() {
    let room = Room::new();
    let port = port();
    let service = room.service(&format!("0.0.0.0:{port}"), &[]);
    wait(&room, ["--served-by", &service.pid(), &format!("http://127.0.0.1:{port}/")]).expect(0, "", "");
}

#[apply(test)]
fn the_old_server_on_one_address_of_localhost_does_not_hide_the_new_one_on_the_other() {
    let (room, port) = (Room::new(), port());
    let _old = room.service(&format!("127.0.0.1:{port}"), &["--status", "503"]);
    let new = room.service(&format!("[::1]:{port}"), &[]);
    wait(&room, ["--attempts", "1", &format!("http://localhost:{port}/")]).expect(0, "", "");
    wait(&room, ["--attempts", "1", "--served-by", &new.pid(), &format!("localhost:{port}")])
        .expect(0, "", "");
}

#[apply(test)]
fn the_command_is_execd() {
    let room = Room::new();
    let mut child = room
        .command("baa-healthwait")
        .args(["file:/", "--", "sh", "-c", "echo $$; cat; exit 42"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    child.stdin.take().unwrap().write_all(b"through\n").unwrap();
    collect(child).expect(42, &format!("{pid}\nthrough\n"), "");
    wait(&room, ["file:/", "--", "sh", "-c", "kill -TERM $$"]).expect(1015, "", "");
    // SIGPIPE has its default action again, as in every shell.
    wait(&room, ["file:/", "--", "sh", "-c", "kill -PIPE $$; echo survived"]).expect(1013, "", "");
    wait(&room, ["file:/", "--", "/nonexistent"])
        .failed_with(127, "cannot start '/nonexistent': no such file");
    wait(&room, ["file:/", "--", "/etc/passwd"])
        .failed_with(126, "cannot start '/etc/passwd': permission denied");
    wait(&room, ["--attempts", "1", "file:/none", "--", "echo", "never"]).failed_with(124, "not up after");
}

#[apply(test)]
fn signals_end_it_with_128_and_their_number() {
    let room = Room::new();
    for sent in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let script = format!("exec:echo $$ > {0}.tmp; mv {0}.tmp {0}; sleep 1000", room.text("probe"));
        let _ = std::fs::remove_file(room.path("probe"));
        let child = room
            .command("baa-healthwait")
            .args(["--json", &script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        until("the probe runs", || room.path("probe").exists());
        signal(child.id(), sent);
        let done = collect(child);
        assert_eq!(
            (done.status, done.json()["result"].as_str()),
            (128 + sent as i32, Some("signal")),
            "{done:?}"
        );
        let pid: u64 = std::fs::read_to_string(room.path("probe")).unwrap().trim().parse().unwrap();
        assert!(!crate::support::alive(pid));
    }
}

#[apply(test)]
fn a_closed_or_full_stdout_is_an_error_for_an_answer() {
    let room = Room::new();
    let run = |shell: &str| finish(Command::new("/bin/sh").args(["-c", shell]).arg(binary("baa-healthwait")));
    run("exec \"$0\" --json file:/ > /dev/full")
        .failed_with(74, "cannot write the answer: no space left on device");
    run("exec \"$0\" --json file:/ >&-").failed_with(74, "cannot write the answer: stdout is closed");
    run("exec \"$0\" file:/ >&-").expect(0, "", "");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let piped = room
        .command("baa-healthwait")
        .args(["--json", "file:/"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    collect(piped).failed_with(74, "cannot write the answer: broken pipe");
    let help =
        finish(Command::new("/bin/sh").args(["-c", "\"$0\" --help | true"]).arg(binary("baa-healthwait")));
    help.expect(0, "", "");
}

#[apply(test)]
fn stable_for_and_successes_want_more_than_one_lucky_probe() {
    let (room, port) = (Room::new(), port());
    let _service = room.service(&format!("127.0.0.1:{port}"), &["--count", &room.text("count")]);
    wait(&room, ["--successes", "5", &format!("http://127.0.0.1:{port}/")]).expect(0, "", "");
    assert!(std::fs::read_to_string(room.path("count")).unwrap().lines().count() >= 5);
    let began = Instant::now();
    wait(&room, ["--stable-for", "300ms", &format!("http://127.0.0.1:{port}/")]).expect(0, "", "");
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[apply(test)]
fn what_is_no_http_is_told_apart() {
    let room = Room::new();
    for (says, class, why) in [
        (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], "protocol", "the answer is not HTTP"),
        (b"", "reset", "closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-", "reset", "closed the connection in the head"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = std::io::Read::read(&mut stream, &mut [0u8; 1024]);
            let _ = stream.write_all(says);
        });
        let json = wait(&room, ["--attempts", "1", "--json", &url]).json();
        let error = &json["targets"][0]["last_error"];
        assert_eq!(error["class"], class, "{json}");
        assert!(error["text"].as_str().unwrap().starts_with(why), "{json}");
    }
}

#[apply(test)]
fn chunks_and_a_body_without_end_are_read_within_bounds() {
    let room = Room::new();
    for (answer, wanted, status) in [
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nrea\r\n2\r\ndy\r\n0\r\n\r\n"
                .to_owned(),
            "ready",
            0,
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready".to_owned(),
            "ready",
            0,
        ),
        ("HTTP/1.0 200 OK\r\n\r\nready".to_owned(), "ready", 0),
        (format!("HTTP/1.1 200 OK\r\n\r\n{}end", "x".repeat(2_000_000)), "end", 124),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(), "ready", 124),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nready".to_owned(), "all", 124),
        (format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(100_000)), "ready", 124),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = std::io::Read::read(&mut stream, &mut [0u8; 1024]);
            let _ = stream.write_all(answer.as_bytes());
        });
        assert_eq!(
            wait(&room, ["--attempts", "1", "--body-contains", wanted, &url]).status,
            status,
            "{wanted}"
        );
    }
}
