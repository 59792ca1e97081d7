//! baa-canary: deaths of real tmux servers and processes, told or dismissed, and what is kept when everything
//! goes wrong.

use crate::support::tmux::Tmux;
use crate::support::{Done, Room, alive, binary, collect, finish, needs, signal, skip, until};
use baa::sys::process::Pid;
use nix::sys::signal::Signal;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Command, Stdio};

/// The program with the room's log directory.
pub fn canary<'a>(room: &Room, arguments: impl IntoIterator<Item = &'a str>) -> Done {
    let mut all: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    all.extend(["--log-dir".to_owned(), room.text("log")]);
    room.run("baa-canary", all)
}

/// A canary in the foreground, once it is armed.
pub fn watching(room: &Room, arguments: &[&str]) -> Child {
    let child = room
        .command("baa-canary")
        .arg("watch")
        .args(arguments)
        .args(["--log-dir", &room.text("log")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("the canary is armed", || armed_by(room, child.id()));
    child
}

fn armed_by(room: &Room, canary: u32) -> bool {
    let all = canary_json(room);
    all["canaries"]
        .as_array()
        .unwrap()
        .iter()
        .any(|one| one["canary_pid"] == canary && one["state"] == "armed")
}

fn canary_json(room: &Room) -> serde_json::Value {
    canary(room, ["list", "--json"]).json()
}

pub fn records(room: &Room) -> Vec<String> {
    std::fs::read_to_string(room.path("log/exits.log"))
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// The value of a key of a record.
pub fn value(line: &str, key: &str) -> String {
    let rest = line.split_once(&format!(" {key}=")).unwrap_or_else(|| panic!("no {key} in {line}")).1;
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap().to_owned(),
        None => rest.split(' ').next().unwrap().to_owned(),
    }
}

/// Waits for the only record.
#[track_caller]
pub fn one_record(room: &Room) -> String {
    until("a record", || !records(room).is_empty());
    let all = records(room);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

fn sleeper() -> Child {
    Command::new("sleep").arg("1000").spawn().unwrap()
}

#[apply(test)]
fn a_killed_server_is_on_record_with_its_keys_in_iapeers_order() {
    let room = Room::new();
    let server = Tmux::start(&room, "claude-bob");
    canary(&room, ["arm", "--sock", &server.sock]).expect(0, "spawned\n", "");
    canary(&room, ["arm", "--sock", &server.sock]).expect(0, "already\n", "");
    assert_eq!(canary(&room, ["status", "--sock", &server.sock]).status, 0);
    signal(server.pid, Signal::SIGKILL);
    let line = one_record(&room);
    let keys: Vec<&str> =
        line.split(' ').filter_map(|word| word.split_once('=')).map(|(key, _)| key).collect();
    assert_eq!(keys[..7], ["ts", "ev", "identity", "server_pid", "wait_rc", "cause", "forensics"], "{line}");
    let start = line.split(' ').next().unwrap();
    assert!(start.len() == "ts=2026-11-21T06:15:46Z".len() && start.ends_with('Z'), "{start}");
    assert_eq!(
        (value(&line, "ev").as_str(), value(&line, "identity").as_str(), value(&line, "wait_rc").as_str()),
        ("server-exit", "claude-bob", "-")
    );
    assert_eq!(
        (value(&line, "server_pid"), value(&line, "sig").as_str(), value(&line, "cause").as_str()),
        (server.pid.to_string(), "SIGKILL", "signal")
    );
    until("the canary has gone", || canary(&room, ["status"]).status == 3);
    let snapshot = std::fs::read_to_string(value(&line, "forensics")).unwrap();
    assert!(snapshot.starts_with(&format!(
        "server-death identity=claude-bob ts={} server_pid={} wait_rc=- cause=signal\n",
        &start[3..],
        server.pid
    )));
    for section in ["cause", "ring", "meminfo", "ps-top-rss", "disk /", "uptime"] {
        assert!(snapshot.contains(&format!("\n--- {section}\n")), "{section}: {snapshot}");
    }
    for (path, mode) in [
        ("log", 0o700),
        ("log/exits.log", 0o600),
        ("log/server-deaths", 0o700),
        ("log/canary", 0o700),
        (value(&line, "forensics").as_str(), 0o600),
    ] {
        let path = if path.starts_with('/') { path.into() } else { room.path(path) };
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, mode, "{}", path.display());
    }
}

#[apply(test)]
fn a_dismissed_end_is_silent() {
    let room = Room::new();
    let server = Tmux::start(&room, "claude-bob");
    canary(&room, ["arm", "--sock", &server.sock]).expect(0, "spawned\n", "");
    let by = canary_json(&room)["canaries"][0]["canary_pid"].as_u64().unwrap();
    canary(&room, ["dismiss", "--identity", "claude-other", "--must-exist"]).expect(1, "", "");
    canary(&room, ["dismiss", "--identity", "claude-bob", "-q"]).expect(0, "", "");
    until("the canary has gone", || !alive(by));
    server.tmux(&["kill-server"]);
    until("the server has gone", || !alive(u64::from(server.pid)));
    canary(&room, ["dismiss", "--sock", &server.sock]).expect(0, "", "");
    canary(&room, ["dismiss", "--sock", &server.sock, "--must-exist"]).expect(1, "", "");
    assert_eq!(records(&room), Vec::<String>::new());
    assert_eq!(
        std::fs::read_dir(room.path("log/canary"))
            .unwrap()
            .filter(|one| one.as_ref().unwrap().path().extension().unwrap() != "log")
            .count(),
        0
    );
}

#[apply(test)]
fn a_watch_ends_with_0_when_dismissed_and_10_after_a_record() {
    let room = Room::new();
    let mut child = sleeper();
    let watch = watching(&room, &["--pid", &child.id().to_string(), "--identity", "one"]);
    let told = format!(
        "baa-canary: watching one (process {}), recording in {}\n",
        child.id(),
        room.text("log/exits.log")
    );
    canary(&room, ["dismiss", "--pid", &child.id().to_string()]).expect(0, "", "baa-canary: dismissed one\n");
    collect(watch).expect(0, "", &told);
    let watch = watching(&room, &["-q", "--json", "--pid", &child.id().to_string(), "--identity", "one"]);
    child.kill().unwrap();
    child.wait().unwrap();
    let done = collect(watch);
    assert_eq!((done.status, done.stderr.as_str()), (10, ""));
    let json = done.json();
    assert_eq!(
        (&json["schema"], &json["identity"], &json["signal"]),
        (&"baa.canary/1".into(), &"one".into(), &"SIGKILL".into())
    );
    assert_eq!((&json["exit"], &json["core"]), (&serde_json::Value::Null, &false.into()));
    room.run("baa-canary", ["watch", "--pid", "999999999"]).failed_with(69, "process 999999999 is not alive");
    room.run::<&str>("baa-canary", ["watch"]).failed_with(2, "nothing to watch");
}

/// The older tools say `tmux wait-for -S iap-canary-IDENTITY` and then end the server.
#[apply(test)]
fn the_old_channel_dismisses_and_what_only_looks_like_it_does_not() {
    let room = Room::new();
    let silent = Tmux::start(&room, "claude-silent");
    let told = watching(&room, &["-q", "--sock", &silent.sock]);
    silent.waiter();
    silent.tmux(&["wait-for", "-S", "iap-canary-claude-silent"]);
    silent.tmux(&["kill-server"]);
    collect(told).expect(0, "", "");
    // Twice, and with a session closed in between.
    let twice = Tmux::start(&room, "claude-twice");
    let told = watching(&room, &["-q", "--sock", &twice.sock]);
    twice.waiter();
    for _ in 0..2 {
        twice.tmux(&["wait-for", "-S", "iap-canary-claude-twice"]);
    }
    twice.tmux(&["kill-session"]);
    collect(told).expect(0, "", "");
    assert_eq!(records(&room), Vec::<String>::new());
    // A signal long before the death is no dismissal of that death.
    let late = Tmux::start(&room, "claude-late");
    let watch = watching(&room, &["--sock", &late.sock, "--grace", "50ms", "-q"]);
    late.waiter();
    late.tmux(&["wait-for", "-S", "iap-canary-claude-late"]);
    std::thread::sleep(std::time::Duration::from_millis(200));
    signal(late.pid, Signal::SIGKILL);
    assert_eq!(collect(watch).status, 10);
    // The waiter's own end is none either, nor another identity's channel.
    let other = Tmux::start(&room, "claude-other");
    let watch = watching(&room, &["--sock", &other.sock, "-q"]);
    signal(other.waiter(), Signal::SIGTERM);
    other.tmux(&["wait-for", "-S", "iap-canary-claude-othe"]);
    other.tmux(&["kill-server"]);
    assert_eq!(collect(watch).status, 10);
    assert_eq!(
        records(&room).iter().map(|line| value(line, "identity")).collect::<Vec<_>>(),
        ["claude-late", "claude-other"]
    );
}

#[apply(test)]
fn a_death_before_the_word_stays_on_record() {
    let room = Room::new();
    let server = Tmux::start(&room, "claude-bob");
    let watch = watching(&room, &["--sock", &server.sock, "-q"]);
    signal(server.pid, Signal::SIGKILL);
    assert_eq!(collect(watch).status, 10);
    canary(&room, ["dismiss", "--sock", &server.sock]).expect(0, "", "");
    assert_eq!(records(&room).len(), 1);
}

/// A dismissal that was cut off after its word was written counts as well as one that was answered.
#[apply(test)]
fn the_word_alone_dismisses() {
    let room = Room::new();
    let mut child = sleeper();
    let watch = watching(&room, &["-q", "--pid", &child.id().to_string()]);
    let file = std::fs::read_dir(room.path("log/canary")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(file.with_extension("dismissed"), "").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    collect(watch).expect(0, "", "");
    assert_eq!((records(&room).len(), std::fs::read_dir(room.path("log/canary")).unwrap().count()), (0, 0));
}

#[apply(test)]
fn of_twenty_canaries_one_watches() {
    let room = Room::new();
    let server = Tmux::start(&room, "claude-bob");
    let arm = || {
        let mut command = room.command("baa-canary");
        command
            .args(["arm", "--sock", &server.sock, "--log-dir", &room.text("log")])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let arms: Vec<Child> = (0..20).map(|_| arm()).collect();
    let mut words: Vec<String> = arms.into_iter().map(|arm| collect(arm).stdout).collect();
    words.sort();
    assert_eq!(
        (words[0].as_str(), words[18].as_str(), words[19].as_str()),
        ("already\n", "already\n", "spawned\n")
    );
    signal(server.pid, Signal::SIGKILL);
    one_record(&room);
    until("the canary has gone", || canary(&room, ["status"]).status == 3);
    one_record(&room);
}

#[apply(test)]
fn two_roots_with_the_same_identity_do_not_meet() {
    let room = Room::new();
    let (one, other) = (
        Tmux::start(&room, "claude-bob"),
        Tmux::start_at(&room, "other/tmux-iap-claude-bob.sock", "claude-bob"),
    );
    for (server, root) in [(&one, "r1"), (&other, "r2")] {
        room.run("baa-canary", ["arm", "--sock", &server.sock, "--root", &room.text(root)]).expect(
            0,
            "spawned\n",
            "",
        );
    }
    room.run("baa-canary", ["dismiss", "--identity", "claude-bob", "-q", "--root", &room.text("r1")])
        .expect(0, "", "");
    signal(other.pid, Signal::SIGKILL);
    until("a record", || room.path("r2/logs/iapeer/exits.log").exists());
    one.tmux(&["kill-server"]);
    until("the server has gone", || !alive(u64::from(one.pid)));
    assert!(!room.path("r1/logs/iapeer/exits.log").exists());
}

#[apply(test)]
fn a_dead_or_foreign_socket_is_not_armed() {
    let room = Room::new();
    let server = Tmux::start(&room, "claude-bob");
    signal(server.pid, Signal::SIGKILL);
    until("the server has gone", || !alive(u64::from(server.pid)));
    let listener = std::os::unix::net::UnixListener::bind(room.path("foreign.sock")).unwrap();
    room.write("file.sock", "");
    let cases = [
        (
            server.sock.as_str(),
            "connection refused",
            "server-dead: tmux server dead — stale socket (check exits.log ev=server-exit canary record)\n",
            1,
        ),
        (
            "none.sock",
            "no such file or directory",
            "server-dead: tmux server gone (socket file missing)\n",
            1,
        ),
        (
            "foreign.sock",
            "no tmux server",
            "server-dead: tmux server gone (another program listens on its socket)\n",
            1,
        ),
        (
            "file.sock",
            "connection refused",
            "server-dead: tmux server dead — stale socket (check exits.log ev=server-exit canary record)\n",
            1,
        ),
    ];
    for (socket, why, class, status) in cases {
        let done = canary(&room, ["arm", "--sock", socket]);
        assert_eq!((done.status, done.stdout.as_str()), (1, "failed\n"), "{done:?}");
        assert!(done.stderr.contains(why) && done.stderr.lines().count() == 1, "{done:?}");
        canary(&room, ["watch", "--sock", socket]).failed_with(69, why);
        room.run("baa-canary", ["classify", "--sock", socket]).expect(status, class, "");
    }
    drop(listener);
    assert_eq!(records(&room), Vec::<String>::new());
    let live = Tmux::start(&room, "claude-live");
    room.run("baa-canary", ["classify", "--sock", &live.sock, "--json"]).expect(
        0,
        "{\"schema\":\"baa.canary.classify/1\",\"death\":\"session-gone\",\"reason\":\"session gone, \
             tmux server alive (exit cause should be in exits.log)\"}\n",
        "",
    );
    room.run("baa-canary", ["arm", "--sock", &live.sock, "--log-dir", ""]).expect(0, "skipped\n", "");
    room.run("baa-canary", ["arm", "--sock", &live.sock, "--log-dir", "", "--json"]).expect(
        0,
        "{\"schema\":\"baa.canary.arm/1\",\"state\":\"skipped\",\"reason\":null}\n",
        "",
    );
}

#[apply(test)]
fn an_identity_alone_is_iapeers_socket_of_that_name() {
    let room = Room::new();
    let server = Tmux::start_at(&room, "root/socks/tmux-iap-claude-bob.sock", "claude-bob");
    let done = finish(
        room.command("baa-canary")
            .args(["arm", "--identity", "claude-bob"])
            .env("IAPEER_ROOT", room.path("root")),
    );
    done.expect(0, "spawned\n", "");
    signal(server.pid, Signal::SIGKILL);
    until("a record", || room.path("root/logs/iapeer/exits.log").exists());
    for bad in ["../x", "", "a b", "-x"] {
        canary(&room, ["arm", &format!("--identity={bad}")]).failed_with(2, "is not an identity");
    }
}

#[apply(test)]
fn a_replacement_on_the_same_path_does_not_hide_the_first_death() {
    let room = Room::new();
    let first = Tmux::start(&room, "claude-bob");
    let watch = watching(&room, &["--sock", &first.sock, "-q"]);
    std::fs::remove_file(&first.sock).unwrap();
    let second = Tmux::start(&room, "claude-bob");
    assert_ne!(first.pid, second.pid);
    signal(first.pid, Signal::SIGKILL);
    assert_eq!(collect(watch).status, 10);
    assert_eq!(value(&one_record(&room), "server_pid"), first.pid.to_string());
    assert!(alive(u64::from(second.pid)));
}

/// A process whose parent never reaps it is dead; its status is known all the same, and `kill -0` would call
/// it alive.
#[apply(test)]
fn a_zombie_is_dead_and_its_status_is_known() {
    let room = Room::new();
    for (script, sig, exit) in
        [("read x; exit 7", "-", "7"), ("read x; exit 0", "-", "0"), ("read x; kill -9 $$", "SIGKILL", "-")]
    {
        let _ = std::fs::remove_dir_all(room.path("log"));
        let mut zombie = Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
        let watch = watching(&room, &["-q", "--pid", &zombie.id().to_string()]);
        drop(zombie.stdin.take());
        assert_eq!(collect(watch).status, 10);
        let line = one_record(&room);
        assert_eq!((value(&line, "sig").as_str(), value(&line, "exit").as_str()), (sig, exit), "{line}");
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", zombie.id())).unwrap();
        assert!(stat.contains(") Z "), "{stat}");
        zombie.wait().unwrap();
    }
}

/// As in a container whose first process reaps nobody: the server is a zombie, and v2 of the old canary took
/// it for alive.
#[apply(test)]
fn a_server_that_nobody_reaps_is_dead() {
    needs("perl");
    needs("tmux");
    let room = Room::new();
    let socket = room.text("tmux-iap-claude-bob.sock");
    // A subreaper (prctl 36) that inherits the server and never waits for it.
    let script = format!(
        "syscall({}, 36, 1, 0, 0, 0); system('tmux', '-S', '{socket}', '-f', '/dev/null', 'new-session', \
             '-d', '-s', 'x', 'sleep 1000'); sleep 1000",
        nix::libc::SYS_prctl
    );
    let mut reaper = Command::new("perl")
        .args(["-e", &script])
        .env("HOME", room.text("home"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    until("the server is up", || room.run("baa-canary", ["classify", "--sock", &socket]).status == 0);
    let watch = watching(&room, &["-q", "--sock", &socket]);
    let server = canary_json(&room)["canaries"][0]["server_pid"].as_u64().unwrap();
    signal(u32::try_from(server).unwrap(), Signal::SIGABRT);
    assert_eq!(collect(watch).status, 10);
    assert_eq!(value(&one_record(&room), "sig"), "SIGABRT");
    assert!(std::fs::read_to_string(format!("/proc/{server}/stat")).unwrap().contains(") Z "));
    reaper.kill().unwrap();
    reaper.wait().unwrap();
}

#[apply(test)]
fn a_pid_file_names_the_process() {
    let room = Room::new();
    let mut child = sleeper();
    room.write("web.pid", &format!("{}\nmore\n", child.id()));
    let watch = watching(&room, &["-q", "--pidfile", "web.pid"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(collect(watch).status, 10);
    assert_eq!(value(&one_record(&room), "identity"), "web");
    canary(&room, ["watch", "--pidfile", "none.pid"]).failed_with(69, "no such file");
    for (text, status) in [("", 65), ("x", 65), ("-5", 65), ("99999999999999999999", 65)] {
        room.write("bad.pid", text);
        canary(&room, ["watch", "--pidfile", "bad.pid"]).failed_with(status, "is not a process id");
    }
}

#[apply(test)]
fn what_a_killed_canary_left_is_told_and_closed() {
    let room = Room::new();
    let (mut lives, mut dies, mut old) = (sleeper(), sleeper(), sleeper());
    let canaries: Vec<Child> = [("lives", lives.id()), ("dies", dies.id()), ("old", old.id())]
        .map(|(name, pid)| watching(&room, &["-q", "--pid", &pid.to_string(), "--identity", name]))
        .into_iter()
        .collect();
    for mut canary in canaries {
        canary.kill().unwrap();
        canary.wait().unwrap();
    }
    dies.kill().unwrap();
    dies.wait().unwrap();
    // As a file of an earlier boot: the same but for the boot.
    let path =
        std::fs::read_dir(room.path("log/canary")).unwrap().map(|one| one.unwrap().path()).find(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            text.contains("\"identity\":\"old\"")
        });
    let path = path.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    std::fs::write(&path, text.replace(boot.trim(), "00000000-0000-0000-0000-000000000000")).unwrap();
    let done = canary(&room, ["status"]);
    assert_eq!(done.status, 3);
    assert!(
        done.stdout.contains("lives: process")
            && done.stdout.contains("gap: the canary was killed, the process lives"),
        "{done:?}"
    );
    assert!(done.stdout.contains("gap: the canary was killed, and the process died unseen"), "{done:?}");
    assert!(done.stdout.contains("gap: the machine was booted anew"), "{done:?}");
    canary(&room, ["arm", "--pid", &lives.id().to_string()]).expect(0, "spawned\n", "");
    let mut all: Vec<(String, String, String)> = records(&room)
        .iter()
        .map(|line| {
            (
                value(line, "identity"),
                value(line, "ev"),
                if line.contains(" cause=") { value(line, "cause") } else { String::new() },
            )
        })
        .collect();
    all.sort();
    let expected =
        [("dies", "server-exit", "unknown"), ("lives", "canary-gap", ""), ("old", "server-exit", "reboot")];
    assert_eq!(all, expected.map(|(one, two, three)| (one.to_owned(), two.to_owned(), three.to_owned())));
    assert_eq!(canary_json(&room)["canaries"].as_array().unwrap().len(), 1);
    for child in [&mut lives, &mut old] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[apply(test)]
fn a_canary_that_is_told_to_go_says_so() {
    let room = Room::new();
    let mut child = sleeper();
    for (name, number, gap) in [(Signal::SIGINT, 130, false), (Signal::SIGTERM, 143, true)] {
        let watch = watching(&room, &["--pid", &child.id().to_string()]);
        signal(watch.id(), name);
        assert_eq!(collect(watch).status, number);
        assert_eq!(canary(&room, ["status"]).stdout.contains("gap"), gap, "{name}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[apply(test)]
fn a_command_runs_once_after_the_record() {
    let room = Room::new();
    let mut child =
        Command::new("/bin/sh").args(["-c", "read x; exit 3"]).stdin(Stdio::piped()).spawn().unwrap();
    let script =
        "grep -q cause=error-exit $BAA_CANARY_LOG && { env | grep ^BAA_CANARY_ | sort; cat; } >> told";
    let watch = watching(&room, &["--pid", &child.id().to_string(), "--identity", "x", "--exec", script]);
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(collect(watch).status, 10);
    let told = std::fs::read_to_string(room.path("told")).unwrap();
    let json: serde_json::Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!((&json["cause"], &json["exit"]), (&"error-exit".into(), &3.into()));
    for line in
        ["BAA_CANARY_CAUSE=error-exit", "BAA_CANARY_EXIT=3", "BAA_CANARY_IDENTITY=x", "BAA_CANARY_SIGNAL="]
    {
        assert_eq!(told.lines().filter(|told| *told == line).count(), 1, "{line}: {told}");
    }
    let mut child = sleeper();
    let watch = watching(
        &room,
        &["-q", "--pid", &child.id().to_string(), "--exec", "sleep 1000", "--exec-timeout", "50ms"],
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let done = collect(watch);
    assert_eq!(
        (done.status, done.stderr.as_str()),
        (10, "baa-canary: the command after the record failed: it did not end in time\n")
    );
}

/// The command has its time, unless somebody wants the canary to go.
#[apply(test)]
fn a_signal_does_not_wait_for_the_command_after_the_record() {
    let room = Room::new();
    let mut child = sleeper();
    let script = "echo $$ > hook.tmp; mv hook.tmp hook; exec sleep 1000";
    let words = ["-q", "--pid", &child.id().to_string(), "--exec", script, "--exec-timeout", "1h"];
    let watch = watching(&room, &words);
    child.kill().unwrap();
    child.wait().unwrap();
    until("the command runs", || room.path("hook").exists());
    let hook: u64 = std::fs::read_to_string(room.path("hook")).unwrap().trim().parse().unwrap();
    signal(watch.id(), Signal::SIGTERM);
    let done = collect(watch);
    assert_eq!((done.status, done.stderr.as_str()), (10, ""));
    until("it is gone", || !alive(hook));
}

#[apply(test)]
fn arguments_of_processes_are_kept_only_when_asked_for() {
    let room = Room::new();
    let mut secret = Command::new("/bin/sh")
        .args(["-c", "read x; : --token=hunter2"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(!canary(&room, ["snapshot"]).stdout.contains("hunter2"));
    // Only the largest are listed, and a shell is small: what is asked for is asked of a machine where it is
    // among them, or not at all.
    let full = canary(&room, ["snapshot", "--full-args", "--json"]).json();
    assert!(full["sections"]["ps-top-rss"].as_str().unwrap().contains("pid ppid rss-kib"));
    drop(secret.stdin.take());
    secret.wait().unwrap();
}

#[apply(test)]
fn a_record_finds_its_place_when_the_directory_is_gone() {
    let room = Room::new();
    let mut child = sleeper();
    let watch = watching(&room, &["-q", "--pid", &child.id().to_string()]);
    std::fs::remove_dir_all(room.path("log")).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(collect(watch).status, 10);
    one_record(&room);
    // A file in its place: the state directory takes the record.
    let mut child = sleeper();
    let watch = watching(&room, &["-q", "--pid", &child.id().to_string()]);
    std::fs::remove_dir_all(room.path("log")).unwrap();
    room.write("log", "");
    child.kill().unwrap();
    child.wait().unwrap();
    let done = collect(watch);
    assert_eq!(done.status, 10, "{done:?}");
    assert!(
        done.stderr.contains(&format!("recorded in {}", room.text("state/baa/canary/exits.log"))),
        "{done:?}"
    );
    assert_eq!(std::fs::read_to_string(room.path("state/baa/canary/exits.log")).unwrap().lines().count(), 1);
}

/// Runs a script where `log` is a small file system of its own, in a mount namespace of its own; the
/// test is skipped where we may not.
fn on_a_small_disk(room: &Room, script: &str) -> Done {
    needs("unshare");
    std::fs::create_dir_all(room.path("log")).unwrap();
    let mount = "mount -t tmpfs -o size=64k,mode=700 none log || exit 77\n";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "/bin/sh", "-c", &format!("{mount}{script}")])
        .env_clear()
        .current_dir(room.dir.path());
    command.envs([("HOME", room.text("home")), ("XDG_STATE_HOME", room.text("state"))]).stdin(Stdio::null());
    command.env(
        "PATH",
        format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", binary("baa-canary").parent().unwrap().display()),
    );
    let done = finish(&mut command);
    if done.status == 77 || done.stderr.contains("unshare") {
        skip("no mount namespaces can be made here");
    }
    done
}

#[apply(test)]
fn a_full_disk_takes_the_record_all_the_same() {
    let room = Room::new();
    let script = "sleep 1000 & pid=$!; baa-canary arm --pid $pid --identity full --log-dir log; \
                  head -c 1m /dev/zero > log/fill 2> /dev/null; \
                  kill -9 $pid; wait $pid 2> /dev/null; while baa-canary status --log-dir log > \
                  /dev/null; do sleep 0.02; done; cat log/exits.log; ls log/canary";
    let done = on_a_small_disk(&room, script);
    assert!(
        done.stdout.contains("ev=server-exit identity=full") && done.stdout.contains("sig=SIGKILL"),
        "{done:?}"
    );
}

#[apply(test)]
fn a_disk_that_is_read_only_gives_the_record_to_the_state_directory() {
    let room = Room::new();
    let script = "sleep 1000 & pid=$!; baa-canary watch -q --pid $pid --identity ro --log-dir log & c=$!; \
                  while ! baa-canary status --log-dir log > /dev/null; do sleep 0.02; done; \
                  mount -t tmpfs -o ro none log || exit 77; kill -9 $pid; wait $c; echo $?; \
                  cat state/baa/canary/exits.log";
    let done = on_a_small_disk(&room, script);
    assert!(
        done.stdout.starts_with("10\n") && done.stdout.contains("ev=server-exit identity=ro"),
        "{done:?}"
    );
}

#[apply(test)]
fn a_job_of_a_keeper_is_watched_by_its_label() {
    let room = Room::new();
    canary(&room, ["watch", "--label", "web"]).failed_with(69, "baa does not know it");
    room.run("baa-run", ["--detach", "--label", "web", "--restart", "never", "--", "/bin/sleep", "1000"])
        .expect(0, "", "");
    let watch = watching(&room, &["-q", "--label", "web"]);
    let pid = canary_json(&room)["canaries"][0]["server_pid"].as_u64().unwrap();
    signal(u32::try_from(pid).unwrap(), Signal::SIGKILL);
    assert_eq!(collect(watch).status, 10);
    let line = one_record(&room);
    assert_eq!((value(&line, "identity").as_str(), value(&line, "sig").as_str()), ("web", "SIGKILL"));
}

#[apply(test)]
fn one_process_watches_a_thousand() {
    let room = Room::new();
    let mut children: Vec<Child> = (0..1000).map(|_| sleeper()).collect();
    let lines: String = children
        .iter()
        .enumerate()
        .map(|(number, child)| format!("pid={} identity=p{number}\n", child.id()))
        .collect();
    room.write("targets", &format!("# all\n\n{lines}"));
    canary(&room, ["arm", "--targets-from", "targets"]).expect(0, "spawned\n", "");
    canary(&room, ["arm", "--targets-from", "targets"]).expect(0, "already\n", "");
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    until("the canary has gone", || canary(&room, ["status"]).status == 3);
    let all = records(&room);
    assert_eq!(all.len(), 1000);
    assert!(
        all.iter().all(|line| value(line, "cause") == "signal"
            && std::path::Path::new(&value(line, "forensics")).exists())
    );
    room.write("targets", "pid=1\nnonsense\n");
    canary(&room, ["watch", "--targets-from", "targets"])
        .failed_with(65, "targets:2: 'nonsense' is no target");
}

#[apply(test)]
fn hostile_files_among_the_armings_are_passed_over() {
    let room = Room::new();
    std::fs::create_dir_all(room.path("log/canary")).unwrap();
    std::fs::set_permissions(room.path("log"), std::fs::Permissions::from_mode(0o700)).unwrap();
    for (name, text) in [
        ("a.json", ""),
        ("b.json", "{}"),
        ("c.json", "[1]"),
        ("d.json", "{\"identity\":7}"),
        ("e.json", "\u{0}"),
    ] {
        room.write(&format!("log/canary/{name}"), text);
    }
    nix::unistd::mkfifo(&room.path("log/canary/f.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut huge = std::fs::File::create(room.path("log/canary/g.json")).unwrap();
    huge.write_all(&vec![b' '; 100_000]).unwrap();
    canary(&room, ["list"]).expect(0, "", "");
    canary(&room, ["status"]).expect(3, "none\n", "");
    canary(&room, ["dismiss", "--all"]).expect(0, "", "");
    canary(&room, ["dismiss"]).failed_with(2, "or else --all");
}

#[apply(test)]
fn a_dry_run_arms_nothing() {
    let room = Room::new();
    let own = Pid::own().to_string();
    let line =
        format!("baa-canary: would watch x (process {own}) and record in {}\n", room.text("log/exits.log"));
    canary(&room, ["watch", "-n", "--pid", &own, "--identity", "x"]).expect(0, "", &line);
    canary(&room, ["arm", "-n", "--pid", &own, "--identity", "x"]).expect(0, "", &line);
    assert!(!room.path("log").exists());
}
