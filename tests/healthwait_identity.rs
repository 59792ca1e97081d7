//! Whose answer it is that baa-healthwait takes: with listening sockets that several processes have,
//! redirects, daemons, other network namespaces, and processes that were started in the same moment.

use crate::support::{Done, Room, Service, collect, copy_program, needs, needs_root, port, signal, until};
use nix::sys::signal::Signal;
use std::ffi::OsStr;
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

fn wait<I: AsRef<OsStr>>(room: &Room, arguments: impl IntoIterator<Item = I>) -> Done {
    room.run("baa-healthwait", arguments)
}

/// One question, with time enough for it to be told whose answer it is.
fn ask(room: &Room, pid: &str, target: &str) -> Done {
    wait(room, ["--attempts", "1", "--probe-timeout", "2s", "--served-by", pid, target])
}

/// A server of tests/service/holder.py on `listener`, once it runs.
fn holder(room: &Room, listener: impl Into<OwnedFd>, name: &str, arguments: &[&str]) -> Service {
    needs("python3");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/service/holder.py");
    let (how, more) = arguments.split_first().unwrap();
    let child = Command::new("python3")
        .args([script, how, &room.text(name)])
        .args(more)
        .stdin(Stdio::from(listener.into()))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("it has begun", || log(room, name).contains("begun"));
    Service { child }
}

fn log(room: &Room, name: &str) -> String {
    std::fs::read_to_string(room.path(name)).unwrap_or_default()
}

/// An old and a new process that both have the listening socket, as a server has that replaces itself on
/// USR2; for TCP and for a unix socket, with the targets that ask them.
fn handover(room: &Room, old: &str, new: &str, mut each: impl FnMut(&Service, &Service, &[String])) {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = tcp.local_addr().unwrap();
    let targets = [format!("http://{at}/"), format!("tcp://{at}")];
    let (one, two) = (tcp.try_clone().unwrap(), tcp);
    each(&holder(room, one, "old", &[old]), &holder(room, two, "new", &[new]), &targets);
    let path = room.text("socket");
    let unix = UnixListener::bind(&path).unwrap();
    let targets = [format!("http+unix://{path}:/"), format!("unix:{path}")];
    let (one, two) = (unix.try_clone().unwrap(), unix);
    ["old", "new"].iter().for_each(|name| std::fs::remove_file(room.path(name)).unwrap());
    each(&holder(room, one, "old", &[old]), &holder(room, two, "new", &[new]), &targets);
}

#[apply(test)]
fn an_old_process_does_not_answer_in_the_name_of_the_new_one_that_has_its_socket_too() {
    let room = Room::new();
    handover(&room, "serve", "hold", |old, new, targets| {
        for target in targets {
            for _ in 0..7 {
                let who = format!("answered by process {} (python3), not process {}", old.pid(), new.pid());
                ask(&room, &new.pid(), target).failed_with(124, &who);
            }
            ask(&room, &old.pid(), target).expect(0, "", "");
        }
    });
}

#[apply(test)]
fn the_new_process_that_answers_and_hangs_up_at_once_is_known_though_the_old_one_has_its_socket_too() {
    let room = Room::new();
    handover(&room, "hold", "serve", |old, new, targets| {
        for target in targets {
            let told = wait(&room, ["--json", "--served-by", &new.pid(), target]).json();
            assert_eq!((told["targets"][0]["pid"].to_string(), &told["exit"]), (new.pid(), &0.into()));
            ask(&room, &old.pid(), target).failed_with(124, "answered by process");
        }
    });
}

#[apply(test)]
fn of_a_socket_that_nobody_accepts_from_it_cannot_be_told_and_is_said_who_has_it() {
    let room = Room::new();
    handover(&room, "hold", "hold", |old, new, targets| {
        let who = format!(
            "cannot tell which process answered (process {} (python3) has the socket that listens there, and \
             process {} (python3) has it too, and nobody has accepted)",
            new.pid(),
            old.pid()
        );
        for target in targets {
            let soon = ["--attempts", "1", "--probe-timeout", "200ms", "--served-by", &new.pid(), target];
            wait(&room, soon).failed_with(124, &who);
            let either = ["--served-by", &new.pid(), "--any-process", "--", target.as_str()];
            if target.starts_with("http") {
                continue;
            }
            let done = wait(&room, either.iter().filter(|word| **word != "--"));
            let doubt =
                format!("process {} may not have answered: process {} (python3) has", new.pid(), old.pid());
            assert!(done.status == 0 && done.stderr.contains(&doubt), "{done:?}");
        }
    });
}

/// What is in the queue of the only one who listens can be accepted by nobody else.
#[apply(test)]
fn the_only_one_who_listens_need_not_have_accepted() {
    let room = Room::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = tcp.local_addr().unwrap().to_string();
    let busy = holder(&room, tcp, "busy", &["hold"]);
    ask(&room, &busy.pid(), &target).expect(0, "", "");
    ask(&room, &std::process::id().to_string(), &target).expect(0, "", "");
    let path = room.text("socket");
    let busy = holder(&room, UnixListener::bind(&path).unwrap(), "unix", &["hold"]);
    ask(&room, &busy.pid(), &format!("unix:{path}")).expect(0, "", "");
}

#[apply(test)]
fn one_that_hangs_up_at_once_is_told_where_nobody_else_listens_and_else_not() {
    let room = Room::new();
    handover(&room, "hang-up", "hold", |_, new, targets| {
        for _ in 0..10 {
            let done = ask(&room, &new.pid(), &targets[1]);
            assert_eq!(done.status, 124, "{done:?}");
        }
    });
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = tcp.local_addr().unwrap().to_string();
    let alone = holder(&room, tcp, "alone", &["hang-up"]);
    for _ in 0..10 {
        ask(&room, &alone.pid(), &target).expect(0, "", "");
    }
}

/// Two sockets at one address, each of a process of its own: whoever gets a connection answers it.
#[apply(test)]
fn of_two_that_listen_side_by_side_only_the_one_who_answered_is_named() {
    let room = Room::new();
    let port = port();
    let bound = || {
        use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, setsockopt, sockopt};
        use std::os::fd::AsRawFd;
        let kind = (AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC);
        let fd = nix::sys::socket::socket(kind.0, kind.1, kind.2, None).unwrap();
        setsockopt(&fd, sockopt::ReusePort, &true).unwrap();
        nix::sys::socket::bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)).unwrap();
        nix::sys::socket::listen(&fd, Backlog::new(16).unwrap()).unwrap();
        fd
    };
    let servers = ["one", "two"].map(|name| holder(&room, bound(), name, &["serve"]));
    let url = format!("http://127.0.0.1:{port}/");
    let mut seen = [0, 0];
    for turn in 0..40 {
        let asked = &servers[turn % 2];
        let body = format!("pid {}\n", asked.pid());
        let more = ["--body-contains", &body, "--served-by", &asked.pid(), &url];
        let done = wait(&room, ["--attempts", "1", "--probe-timeout", "2s"].iter().chain(&more));
        match done.status {
            0 => seen[0] += 1,
            124 if done.stderr.contains("answered by process") => seen[1] += 1,
            _ => panic!("{done:?}"),
        }
    }
    assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
}

#[apply(test)]
fn a_child_that_was_forked_to_accept_answers_in_the_name_of_its_parent() {
    let room = Room::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", tcp.local_addr().unwrap());
    let master = holder(&room, tcp, "log", &["prefork"]);
    for _ in 0..5 {
        ask(&room, &master.pid(), &url).expect(0, "", "");
    }
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", master.pid())).unwrap();
    let mut outcomes = Vec::new();
    for worker in children.split_whitespace() {
        let body = format!("pid {worker}\n");
        let more = ["--body-contains", &body, "--served-by", worker, &url];
        let done = wait(&room, ["--attempts", "1", "--probe-timeout", "2s"].iter().chain(&more));
        assert!(!done.stderr.contains("does not contain"), "{done:?}");
        outcomes.push(done.status);
        signal(worker.parse().unwrap(), Signal::SIGKILL);
    }
    assert_eq!(outcomes.len(), 3);
}

/// The pid of the child that a server of `how` passes its connections on to, and a target that it listens at.
fn passing(room: &Room, how: &str) -> (Service, String, String) {
    let path = room.text(&format!("{how}.socket"));
    let parent = holder(room, UnixListener::bind(&path).unwrap(), how, &[how]);
    let child = || log(room, how).lines().find_map(|line| line.strip_prefix("passes to ").map(str::to_owned));
    until("it passes on", || child().is_some());
    (parent, child().unwrap(), format!("http+unix://{path}:/"))
}

#[apply(test)]
fn whom_a_connection_is_passed_on_to_answers_it() {
    let room = Room::new();
    let (parent, child, target) = passing(&room, "pass");
    // It is its parent's until it was passed on.
    wait(&room, ["--timeout", "60s", "--served-by", &child, &target]).expect(0, "", "");
    ask(&room, &parent.pid(), &target).expect(0, "", "");
}

#[apply(test)]
fn of_a_connection_that_a_stranger_has_too_it_cannot_be_told() {
    let room = Room::new();
    let (parent, child, target) = passing(&room, "lend");
    let who = format!(
        "cannot tell which process answered (process {child} (python3) has the connection, and process {} \
         (python3) has the connection too)",
        parent.pid()
    );
    // It is its parent's until it was passed on, and never the child's alone.
    until("the stranger has it too", || {
        let done = ask(&room, &child, &target);
        assert_eq!(done.status, 124, "{done:?}");
        done.stderr.contains(&who)
    });
    let done = wait(&room, ["--timeout", "60s", "--served-by", &child, "--any-process", &target]);
    assert!(done.status == 0 && done.stderr.contains("may not have answered"), "{done:?}");
    // Whoever has started them both has both.
    ask(&room, &parent.pid(), &target).expect(0, "", "");
}

#[apply(test)]
fn whoever_leads_to_it_answers_too() {
    let room = Room::new();
    let (first, last) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let from = format!("http://{}/", first.local_addr().unwrap());
    let to = format!("http://{}/", last.local_addr().unwrap());
    let leads = holder(&room, first, "first", &["redirect", &to]);
    let serves = holder(&room, last, "last", &["serve"]);
    ask(&room, &serves.pid(), &to).expect(0, "", "");
    ask(&room, &serves.pid(), &from)
        .failed_with(124, &format!("answered by process {} (python3), not process", leads.pid()));
    ask(&room, &leads.pid(), &from)
        .failed_with(124, &format!("answered by process {} (python3), not process", serves.pid()));
    let any = ["--attempts", "1", "--any-process", "--served-by", &serves.pid(), &from];
    wait(&room, any).expect(0, "", "");
    ask(&room, &std::process::id().to_string(), &from).expect(0, "", "");
    wait(&room, ["--any-process", &from]).failed_with(2, "--served-by");
}

/// A server that ends once its child is there, and is asked for by its own pid.
struct Daemon {
    parent: Service,
    child: u32,
    waiting: std::process::Child,
}

fn daemon(room: &Room, exit: &str) -> Daemon {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let null = std::fs::File::open("/dev/null").unwrap();
    let mut parent = holder(room, null, "log", &["daemon", &at, exit]);
    until("it has a child", || log(room, "log").contains("child"));
    let child = log(room, "log").lines().find_map(|line| line.strip_prefix("child ")?.parse().ok()).unwrap();
    let waiting = room
        .command("baa-healthwait")
        .args(["--json", "--interval", "5ms", "--timeout", "50s", "--served-by", &parent.pid(), &at])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Once it asks, it has looked whom the process has started.
    let _asked = listener.accept().unwrap();
    drop(listener);
    room.write("log.end", "");
    parent.child.wait().unwrap();
    Daemon { parent, child, waiting }
}

#[apply(test)]
fn a_server_that_makes_itself_a_daemon_is_waited_for() {
    let room = Room::new();
    let Daemon { parent, child, waiting } = daemon(&room, "0");
    room.write("log.serve", "");
    let done = collect(waiting);
    let news = format!("process {} has ended; its child {child} (python3) goes on", parent.pid());
    assert!(done.status == 0 && done.stderr.contains(&news), "{done:?}");
    assert_eq!(done.json()["targets"][0]["pid"], child);
    signal(child, Signal::SIGKILL);
}

#[apply(test)]
fn a_daemon_that_ends_as_well_ends_the_wait() {
    let room = Room::new();
    let Daemon { child, waiting, .. } = daemon(&room, "0");
    signal(child, Signal::SIGKILL);
    let done = collect(waiting);
    let ended = done.stderr.contains("all that it has left have ended") || done.stderr.contains(" died");
    assert!(done.status == 69 && ended, "{done:?}");
}

/// A veth, with a server at its other end.
#[apply(test)]
fn a_server_in_another_network_namespace_is_found_there_or_said_to_be_there() {
    needs_root();
    ["ip", "nsenter", "unshare", "setpriv", "python3"].iter().for_each(|program| drop(needs(program)));
    let room = Room::new();
    let mut inside = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap();
    let pid = inside.id().to_string();
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    until("it has a network of its own", || namespace(&pid) != namespace("self"));
    let device = format!("baa{}", std::process::id() % 100_000);
    let net = format!("10.231.{}", std::process::id() % 200);
    let sh =
        |line: &str| assert!(Command::new("sh").args(["-c", line]).status().unwrap().success(), "{line}");
    sh(&format!("ip link add {device} type veth peer name eth0 netns {pid}"));
    sh(&format!("ip addr add {net}.1/24 dev {device} && ip link set {device} up"));
    sh(&format!("nsenter -t {pid} -n sh -c 'ip addr add {net}.2/24 dev eth0 && ip link set eth0 up'"));
    let served =
        format!("import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8080, bind='{net}.2')");
    let mut server = Command::new("nsenter")
        .args(["-t", &pid, "-n", "python3", "-c", &served])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let url = format!("http://{net}.2:8080/");
    let (serves, other) = (server.id().to_string(), inside.id().to_string());
    let found = wait(&room, ["--served-by", &serves, &url]);
    let wrong = ask(&room, &other, &url);
    // One who may not look into others sees that it is there, and not who it is.
    let program = room.path("program");
    copy_program(&crate::support::binary("baa-healthwait"), &program);
    std::fs::set_permissions(room.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let blind = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program)
        .args(["--attempts", "1", "--newer-than", "@1", &url])
        .output()
        .unwrap();
    for child in [&mut server, &mut inside] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    found.expect(0, "", "");
    wrong.failed_with(124, &format!("answered by process {serves} (python3), not process {other}"));
    let blind = String::from_utf8_lossy(&blind.stderr).into_owned();
    let there = "cannot tell which process answered (it is in another network namespace, behind baa";
    assert!(blind.contains(there), "{blind}");
}

fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!("@{}.{:09}", now.as_secs(), now.subsec_nanos())
}

#[apply(test)]
fn whoever_was_started_in_the_moment_that_is_named_is_newer() {
    let room = Room::new();
    for _ in 0..50 {
        let before = now();
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let target = format!("pid:{}", child.id());
        let done = wait(&room, ["--attempts", "1", "--newer-than", &before, &target]);
        child.kill().unwrap();
        child.wait().unwrap();
        done.expect(0, "", "");
    }
}

#[apply(test)]
fn of_two_that_were_started_together_the_later_is_newer_and_neither_is_newer_than_itself() {
    let room = Room::new();
    for _ in 0..20 {
        let mut two = ["1000", "1001"].map(|time| Command::new("sleep").arg(time).spawn().unwrap());
        let pids = [two[0].id().to_string(), two[1].id().to_string()];
        let newer = |than: &str, pid: &str| {
            wait(&room, ["--attempts", "1", "--newer-than", than, &format!("pid:{pid}")]).status
        };
        let outcomes = [
            newer(&pids[0], &pids[1]),
            newer(&pids[1], &pids[0]),
            newer(&pids[0], &pids[0]),
            newer(&pids[1], &pids[1]),
        ];
        for child in &mut two {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(outcomes, [0, 124, 124, 124]);
    }
}

/// A password is for the process that was named: another one hears nothing.
#[apply(test)]
fn who_is_the_wrong_process_is_told_no_secret() {
    let room = Room::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = std::thread::spawn(move || {
        let mut all = Vec::new();
        for stream in listener.incoming().take(2) {
            let mut stream = stream.unwrap();
            stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
            stream.read_to_end(&mut all).unwrap();
        }
        all
    });
    let mut other = Command::new("sleep").arg("600").spawn().unwrap();
    for target in
        [format!("redis://:hunter2@127.0.0.1:{port}"), format!("http://me:hunter2@127.0.0.1:{port}/")]
    {
        let words = ["--attempts", "1", "--served-by", &other.id().to_string(), &target].map(str::to_owned);
        let done = room.run("baa-healthwait", words);
        assert!(done.status == 124 && done.stderr.contains("answered by process"), "{done:?}");
    }
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(String::from_utf8_lossy(&heard.join().unwrap()), "");
}

/// A command of a user who may not look into ours.
fn stranger(words: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(words);
    command
}

/// Who answers is another user's: of those who may be looked into one has the socket too, and did not.
#[apply(test)]
fn whom_we_may_not_see_is_not_taken_for_one_whom_we_see() {
    needs_root();
    needs("setpriv");
    let room = Room::new();
    let program = room.path("baa-healthwait");
    copy_program(&crate::support::binary("baa-healthwait"), &program);
    std::fs::set_permissions(room.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    for how in ["serve", "hold", "hang-up"] {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = tcp.local_addr().unwrap();
        let shared = OwnedFd::from(tcp.try_clone().unwrap());
        let _old = holder(&room, tcp, how, &[how]);
        let mut new = stranger(&["sleep", "600"]).stdin(Stdio::from(shared)).spawn().unwrap();
        let name = || std::fs::read_to_string(format!("/proc/{}/comm", new.id())).unwrap();
        until("it is another user's", || name() == "sleep\n");
        for target in [format!("http://{at}/"), format!("tcp://{at}")] {
            let mut ask = stranger(&[program.to_str().unwrap()]);
            ask.args(["--attempts", "1", "--probe-timeout", "500ms", "--served-by"]);
            let done = crate::support::finish(ask.args([&new.id().to_string(), &target]));
            let told = done.stderr.contains("cannot tell which process answered");
            assert!(done.status == 124 && (told || how == "hang-up"), "{how} {target}: {done:?}");
        }
        new.kill().unwrap();
        new.wait().unwrap();
    }
}

/// It runs as the user who asks, and has made that nobody may look into it.
#[apply(test)]
fn one_of_ours_that_hides_is_not_overlooked() {
    needs_root();
    needs("setpriv");
    // Another one may be in a home that this user may not enter.
    const PYTHON: &str = "/usr/bin/python3";
    if !std::path::Path::new(PYTHON).exists() {
        crate::support::harness::omit("the Python of the system is missing");
    }
    let room = Room::new();
    let program = room.path("baa-healthwait");
    copy_program(&crate::support::binary("baa-healthwait"), &program);
    std::fs::set_permissions(room.dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    // As if that user had made it (sockfs_setattr in net/socket.c of Linux).
    std::os::unix::fs::fchown(&tcp, Some(65534), Some(65534)).unwrap();
    let url = format!("http://{}/", tcp.local_addr().unwrap());
    let (tcp, shared) = (OwnedFd::from(tcp.try_clone().unwrap()), OwnedFd::from(tcp));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/service/holder.py");
    let code = std::fs::read_to_string(script).unwrap();
    let mut old = stranger(&[PYTHON, "-c", &code, "shy", &room.text("old")]);
    let _old = Service { child: old.stdin(Stdio::from(shared)).spawn().unwrap() };
    until("it hides", || log(&room, "old").contains("hidden"));
    let new = Service { child: stranger(&["sleep", "600"]).stdin(Stdio::from(tcp)).spawn().unwrap() };
    for _ in 0..5 {
        let mut ask = stranger(&[program.to_str().unwrap(), "--attempts", "1", "--served-by", &new.pid()]);
        let done = crate::support::finish(ask.arg(&url));
        assert_eq!(done.status, 124, "{done:?}");
    }
}

#[apply(test)]
fn one_whose_first_thread_has_ended_lives_and_answers() {
    let room = Room::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", tcp.local_addr().unwrap());
    let shared = OwnedFd::from(tcp.try_clone().unwrap());
    let old = holder(&room, tcp, "old", &["leaderless"]);
    let mut new = Command::new("sleep").arg("600").stdin(Stdio::from(shared)).spawn().unwrap();
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", old.pid())).unwrap();
    until("its first thread has ended", || state().contains(") Z "));
    for _ in 0..5 {
        ask(&room, &new.id().to_string(), &url).failed_with(124, "answered by process");
        ask(&room, &old.pid(), &url).expect(0, "", "");
    }
    wait(&room, ["--attempts", "1", &format!("pid:{}", old.pid())]).expect(0, "", "");
    wait(&room, ["--attempts", "1", "--invert", &format!("pid:{}", old.pid())]).failed_with(124, "not down");
    new.kill().unwrap();
    new.wait().unwrap();
}

/// It is enough then that a process that counts has the socket, whoever is quicker.
#[apply(test)]
fn with_any_process_it_does_not_matter_who_was_quicker() {
    let room = Room::new();
    handover(&room, "serve", "hold", |_, new, targets| {
        for target in targets {
            for _ in 0..4 {
                let done =
                    wait(&room, ["--attempts", "1", "--served-by", &new.pid(), "--any-process", target]);
                assert!(done.status == 0 && done.stderr.contains("may not have answered"), "{done:?}");
            }
        }
    });
}
