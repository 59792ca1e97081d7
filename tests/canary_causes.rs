//! baa-canary: deaths of every kind are inflicted; what it names is right, or `unknown`, and never another.

use crate::canary::{canary, one_record, value, watching};
use crate::support::systemd::beside_systemd;
use crate::support::tmux::Tmux;
use crate::support::{Room, collect, needs, needs_root, signal, skip, until};
use baa::sys::process::Pid;
use baa::sys::process::trace::Trace;
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Whether the kernel's trace of signals is for us: with it the senders are known, and so is what a server
/// was told.
fn traced() -> bool {
    Trace::begin(&[Pid::own()]).is_ok()
}

/// A process that does `script` when it is let go.
struct Victim {
    child: Child,
}

impl Victim {
    fn new(room: &Room, program: &str, arguments: &[&str]) -> Victim {
        let child = Command::new(program)
            .args(arguments)
            .current_dir(room.dir.path())
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Victim { child }
    }

    fn shell(room: &Room, script: &str) -> Victim {
        Victim::new(room, "/bin/sh", &["-c", &format!("read x; {script}")])
    }

    fn perl(room: &Room, script: &str) -> Victim {
        needs("perl");
        Victim::new(room, "perl", &["-e", &format!("<STDIN>; {script}")])
    }

    /// The only record of its death; `inflict` brings that about.
    fn dies(mut self, room: &Room, inflict: impl FnOnce(u32)) -> String {
        let _ = std::fs::remove_dir_all(room.path("log"));
        let watch = watching(room, &["-q", "--pid", &self.child.id().to_string()]);
        inflict(self.child.id());
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
        assert_eq!(collect(watch).status, 10);
        one_record(room)
    }
}

#[track_caller]
fn told(line: &str, cause: &str, sig: &str, exit: &str) {
    assert_eq!(
        (value(line, "cause").as_str(), value(line, "sig").as_str(), value(line, "exit").as_str()),
        (cause, sig, exit),
        "{line}"
    );
}

#[apply(test)]
fn signals_of_others_are_told_with_their_senders() {
    let room = Room::new();
    for kind in
        [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGUSR1]
    {
        let line = Victim::new(&room, "sleep", &["1000"]).dies(&room, |pid| signal(pid, kind));
        told(&line, "signal", kind.as_str(), "-");
        let sender = value(&line, "sender");
        assert!(
            if traced() { sender.ends_with(']') && sender != "self" } else { sender == "unknown" },
            "{line}"
        );
    }
}

#[apply(test)]
fn ends_of_its_own_are_no_ones_signal() {
    let room = Room::new();
    told(&Victim::shell(&room, "exit 0").dies(&room, |_| ()), "clean-exit", "-", "0");
    told(&Victim::shell(&room, "exit 3").dies(&room, |_| ()), "error-exit", "-", "3");
    let suicide = Victim::shell(&room, "kill -9 $$").dies(&room, |_| ());
    told(&suicide, "signal", "SIGKILL", "-");
    assert_eq!(value(&suicide, "sender"), if traced() { "self" } else { "unknown" });
    // A pointer to nowhere, and abort(3) by another name.
    told(&Victim::perl(&room, "unpack('p', pack('Q', 8))").dies(&room, |_| ()), "crash", "SIGSEGV", "-");
    told(&Victim::perl(&room, "kill 'ABRT', $$; sleep 9").dies(&room, |_| ()), "crash", "SIGABRT", "-");
}

#[apply(test)]
fn a_core_is_told() {
    needs("perl");
    let room = Room::new();
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    for (limit, core) in [("0", "no"), ("unlimited", "yes")] {
        if pattern.starts_with('|') && limit != "0" {
            skip("cores go to a program here");
        }
        let script = format!("ulimit -c {limit}; exec perl -e \"<STDIN>; unpack('p', pack('Q', 8))\"");
        let victim = Victim::new(&room, "/bin/sh", &["-c", &script]);
        let name = format!("/proc/{}/comm", victim.child.id());
        until("it is perl", || std::fs::read_to_string(&name).unwrap().trim() == "perl");
        let line = victim.dies(&room, |_| ());
        told(&line, "crash", "SIGSEGV", "-");
        assert_eq!(value(&line, "core"), core, "{line}");
    }
}

#[apply(test)]
fn ends_of_a_tmux_server() {
    let room = Room::new();
    let with = |trace: &'static str, without: &'static str| if traced() { trace } else { without };
    let kill = |kind: Signal| move |server: &Tmux| signal(server.pid, kind);
    type End = Box<dyn Fn(&Tmux)>;
    let cases: [(&str, End, &str); 6] = [
        ("kill", Box::new(kill(Signal::SIGKILL)), "signal"),
        ("abrt", Box::new(kill(Signal::SIGABRT)), with("signal", "crash")),
        ("segv", Box::new(kill(Signal::SIGSEGV)), with("signal", "crash")),
        // tmux ends with 0 in all three; only the trace tells the first two apart.
        ("term", Box::new(kill(Signal::SIGTERM)), with("signal", "clean-exit")),
        ("told", Box::new(|server| drop(server.tmux(&["kill-server"]))), with("kill-server", "clean-exit")),
        ("last", Box::new(|server| drop(server.tmux(&["kill-session"]))), "clean-exit"),
    ];
    for (name, end, cause) in cases {
        let _ = std::fs::remove_dir_all(room.path("log"));
        let server = Tmux::start(&room, &format!("claude-{name}"));
        let watch = watching(&room, &["-q", "--sock", &server.sock]);
        server.waiter();
        end(&server);
        assert_eq!(collect(watch).status, 10);
        let line = one_record(&room);
        assert_eq!(value(&line, "cause"), cause, "{name}: {line}");
        let forensics = std::fs::read_to_string(value(&line, "forensics")).unwrap();
        assert_eq!(forensics.contains("tmux: the last session was closed"), name == "last", "{forensics}");
        assert_eq!(
            forensics.contains("tmux: the server was told to end"),
            name == "told" || name == "term",
            "{forensics}"
        );
    }
}

/// A control group, removed in the end.
struct Group(PathBuf);

impl Group {
    fn new(parent: &Path) -> Option<Group> {
        let path = parent.join(format!("baa-test-{}", std::process::id()));
        std::fs::create_dir_all(&path).ok()?;
        Some(Group(path))
    }

    fn holds(&self, pid: u32) -> bool {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).is_ok()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..200 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// A memory group with 30 MB, of either version.
fn small_memory() -> Option<Group> {
    let first = Group::new(Path::new("/sys/fs/cgroup/memory"));
    if let Some(group) =
        first.filter(|group| std::fs::write(group.0.join("memory.limit_in_bytes"), "30000000").is_ok())
    {
        return Some(group);
    }
    let group = Group::new(Path::new("/sys/fs/cgroup"))?;
    std::fs::write(group.0.join("memory.max"), "30000000").ok()?;
    Some(group)
}

#[apply(test)]
fn want_of_memory_is_told_and_only_of_its_victim() {
    let room = Room::new();
    let Some(group) = small_memory() else {
        skip("no memory group can be made here");
    };
    let eater = Victim::perl(&room, "my $x = 'a' x 500_000_000; sleep 9");
    assert!(group.holds(eater.child.id()));
    let line = eater.dies(&room, |_| ());
    told(&line, "oom-kill", "SIGKILL", "-");
    let forensics = std::fs::read_to_string(value(&line, "forensics")).unwrap();
    assert!(
        forensics.contains("--- cgroup\n") && forensics.contains("kills for want of memory since arming"),
        "{forensics}"
    );
    // The neighbour in the same group is killed by hand just after.
    let mut eater = Victim::perl(&room, "my $x = 'a' x 500_000_000; sleep 9");
    let neighbour = Victim::new(&room, "sleep", &["1000"]);
    assert!(group.holds(eater.child.id()) && group.holds(neighbour.child.id()));
    let line = neighbour.dies(&room, |pid| {
        drop(eater.child.stdin.take());
        eater.child.wait().unwrap();
        signal(pid, Signal::SIGKILL);
    });
    told(&line, "signal", "SIGKILL", "-");
}

#[apply(test)]
fn a_group_that_is_killed_is_told_where_the_trace_tells() {
    let room = Room::new();
    let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .map(Path::new)
        .into_iter()
        .find(|path| path.join("cgroup.controllers").exists());
    let Some(group) = root.and_then(Group::new).filter(|group| group.0.join("cgroup.kill").exists()) else {
        skip("no control groups (version 2) can be made here");
    };
    let victim = Victim::new(&room, "sleep", &["1000"]);
    assert!(group.holds(victim.child.id()));
    let line = victim.dies(&room, |_| std::fs::write(group.0.join("cgroup.kill"), "1").unwrap());
    told(&line, if traced() { "cgroup-kill" } else { "signal" }, "SIGKILL", "-");
}

#[apply(test)]
fn a_unit_that_is_stopped_is_told_from_one_that_is_killed() {
    let room = Room::new();
    let script = r#"
export XDG_STATE_HOME=$ROOM/state
mkdir -p ~/.config/systemd/user
printf '[Service]\nExecStart=/bin/sleep 1000\n' > ~/.config/systemd/user/web.service
# A unit that nobody wants is forgotten as soon as it is inactive, and with it how it ended.
mkdir ~/.config/systemd/user/basic.target.wants
ln -s ../web.service ~/.config/systemd/user/basic.target.wants/
systemctl --user daemon-reload
printf '[Service]\nExecStart=/bin/sh -c "trap \\"\\" TERM; sleep 1000 & wait; wait"\nTimeoutStopSec=100ms\n' \
  > ~/.config/systemd/user/stubborn.service
end() {
  systemctl --user start $1; baa-canary arm --unit user/$1 --log-dir $ROOM/log-$2
  pid=$(systemctl --user show -p MainPID --value $1); $3;
  while baa-canary status --log-dir $ROOM/log-$2 > /dev/null; do sleep 0.02; done
  grep -o 'identity=[a-z]* \|cause=[a-z-]*\| sig=[A-Z]*' $ROOM/log-$2/exits.log | tr -d '\n'; echo
}
stop() { systemctl --user stop $1; }
end web stop 'stop web'
end web kill 'kill -9 $pid' || true
end web term 'kill $pid' || true
systemctl --user reset-failed
end stubborn timeout 'stop stubborn'
systemctl --user stop web; baa-canary arm --unit user/web --log-dir $ROOM/log-none 2> /dev/null || true
baa-canary arm --unit user/none --log-dir $ROOM/log-none 2> /dev/null || true
"#;
    let script = script.replace("$3;", "eval \"$3\";");
    let done = beside_systemd(&room, &script);
    done.expect(
        0,
        "spawned\nidentity=web cause=unit-stopped sig=SIGTERM\nspawned\n\
             identity=web cause=signal sig=SIGKILL\nspawned\nidentity=web cause=signal sig=SIGTERM\n\
             spawned\nidentity=stubborn cause=unit-stopped sig=SIGKILL\nfailed\nfailed\n",
        "",
    );
}

/// Without any privilege: no trace, no kernel log, and yet the signal, the status and the core are known.
#[apply(test)]
fn the_status_is_known_without_privileges() {
    use std::os::unix::fs::PermissionsExt;
    needs_root();
    needs("setpriv");
    let room = Room::new();
    std::fs::set_permissions(room.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(room.path("mine")).unwrap();
    nix::unistd::chown(&room.path("mine"), Some(65534.into()), Some(65534.into())).unwrap();
    let program = room.path("baa-canary");
    crate::support::copy_program(&crate::support::binary("baa-canary"), &program);
    let script = "cd mine; for end in 'kill -9 $pid' 'kill $pid' 'echo 7 > in' 'echo 0 > in'; \
                  do rm -rf log in; mkfifo in; sh -c 'read x < in; exit $x' & pid=$!; \
                  case $end in kill*) kill -9 $pid; wait $pid 2> /dev/null; sleep 1000 & pid=$!;; esac; \
                  ../baa-canary watch -q --pid $pid --identity x --log-dir log & c=$!; \
                  until ../baa-canary status --log-dir log > /dev/null; do sleep 0.01; done; \
                  eval \"$end\"; wait $pid 2> /dev/null; wait $c; grep -o 'cause=[a-z-]*\\| \
                  sig=[A-Z-]*\\| exit=[0-9-]*\\| sender=[a-z]*' log/exits.log | tr -d '\\n'; echo; done";
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all",
        "/bin/sh",
        "-c",
        script,
    ]);
    command.current_dir(room.dir.path()).env("HOME", room.path("mine"));
    let done = crate::support::finish(&mut command);
    assert_eq!(
        done.stdout,
        "cause=signal sig=SIGKILL exit=- sender=unknown\ncause=signal sig=SIGTERM exit=- sender=unknown\n\
         cause=error-exit sig=- exit=7 sender=unknown\ncause=clean-exit sig=- exit=0 sender=unknown\n",
        "{done:?}"
    );
}

#[apply(test)]
fn a_process_that_ran_before_the_machine_was_booted_died_by_that() {
    let room = Room::new();
    let mut victim = Victim::new(&room, "sleep", &["1000"]);
    let mut watch = watching(&room, &["-q", "--pid", &victim.child.id().to_string(), "--identity", "old"]);
    watch.kill().unwrap();
    watch.wait().unwrap();
    let file = std::fs::read_dir(room.path("log/canary")).unwrap().next().unwrap().unwrap().path();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text =
        std::fs::read_to_string(&file).unwrap().replace(boot.trim(), "11111111-1111-1111-1111-111111111111");
    std::fs::write(&file, text).unwrap();
    canary(&room, ["arm", "--pid", &Pid::own().to_string()]).expect(0, "spawned\n", "");
    told(&one_record(&room), "reboot", "unknown", "unknown");
    victim.child.kill().unwrap();
    victim.child.wait().unwrap();
}
