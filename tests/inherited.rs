//! What a program inherits is input too: signals that its caller ignored or blocked, in every tool, for
//! itself and for what it starts.

use crate::support::{Room, binary, collect, needs, signal, until};
use nix::sys::signal::Signal;
use std::process::{Child, Command, Stdio};

/// The program, started by a shell that has run `before`.
fn after(room: &Room, before: &str, program: &str, arguments: &[&str]) -> Command {
    let mut command = room.command_at("/bin/sh".as_ref());
    command.args(["-c", &format!("{before}; exec \"$@\""), "sh"]).arg(binary(program)).args(arguments);
    command
}

fn started(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A line of /proc/PID/status as a set of signals.
fn mask(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    u64::from_str_radix(line.trim_start_matches([':', '\t']), 16).unwrap()
}

fn bit(signal: Signal) -> u64 {
    1 << (signal as i32 - 1)
}

/// nohup(1) ignores HUP, a shell's `&` ignores INT: for us, and for what we start.
#[apply(test)]
fn what_the_caller_ignored_stays_ignored() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let room = Room::new();
    let lease = format!("sqlite:{}", room.text("leases.db"));
    let probe = format!("file:{}", room.text("go"));
    let say = "cat /proc/self/status > told.tmp; mv told.tmp told; exec sleep 1000";
    let cases: [(&str, Vec<&str>); 3] = [
        ("baa-healthwait", vec![&probe, "--", "/bin/sh", "-c", say]),
        ("baa-run", vec!["--", "/bin/sh", "-c", say]),
        ("baa-lease", vec!["hold", "--store", &lease, "--lease", "x", "--", "/bin/sh", "-c", say]),
    ];
    for (program, arguments) in cases {
        let _ = std::fs::remove_file(room.path("told"));
        let _ = std::fs::remove_file(room.path("go"));
        let child = started(&mut after(&room, "trap '' HUP INT", program, &arguments));
        let status = format!("/proc/{}/comm", child.id());
        until("it is the program", || {
            std::fs::read_to_string(&status).is_ok_and(|name| program.starts_with(name.trim()))
        });
        if program == "baa-healthwait" {
            signal(child.id(), Signal::SIGHUP);
            signal(child.id(), Signal::SIGINT);
            std::fs::write(room.path("go"), "").unwrap();
        }
        until("the command has told", || room.path("told").exists());
        signal(child.id(), Signal::SIGHUP);
        let told = std::fs::read_to_string(room.path("told")).unwrap();
        let wanted = bit(Signal::SIGHUP) | bit(Signal::SIGINT);
        assert_eq!(mask(&told, "SigIgn") & wanted, wanted, "{program}: {told}");
        assert_eq!(mask(&told, "SigIgn") & bit(Signal::SIGPIPE), 0, "{program}: {told}");
        assert!(std::path::Path::new(&status).exists(), "{program}");
        signal(child.id(), Signal::SIGTERM);
        assert_ne!(collect(child).status, 129, "{program}");
    }
}

/// A caller that ignores SIGCHLD has the kernel reap our children, and their ends are never known.
#[apply(test)]
fn an_ignored_sigchld_hides_no_end() {
    let room = Room::new();
    let lease = format!("sqlite:{}", room.text("leases.db"));
    let cases: [(&str, Vec<&str>, i32); 3] = [
        ("baa-healthwait", vec!["--attempts", "1", "exec:exit 3"], 124),
        ("baa-run", vec!["--restart", "never", "--", "/bin/sh", "-c", "exit 3"], 3),
        ("baa-lease", vec!["hold", "--store", &lease, "--lease", "x", "--", "/bin/sh", "-c", "exit 3"], 3),
    ];
    for (program, arguments, status) in cases {
        let done = collect(started(&mut after(&room, "trap '' CHLD", program, &arguments)));
        assert_eq!(done.status, status, "{program}: {done:?}");
        assert!(program != "baa-healthwait" || done.stderr.contains("the command exited with 3"), "{done:?}");
    }
}

/// Signals that the caller happened to block are blocked neither for us nor for what we start.
#[apply(test)]
fn a_blocked_signal_is_obeyed() {
    let perl = needs("perl");
    let room = Room::new();
    let block = "use POSIX; sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGTERM, SIGCHLD, SIGHUP)); exec @ARGV";
    let mut command = room.command_at(&perl);
    let say = "cat /proc/self/status > told.tmp; mv told.tmp told; exec sleep 1000";
    command.args(["-e", block]).arg(binary("baa-run")).args(["--", "/bin/sh", "-c", say]);
    let child = started(&mut command);
    until("the command has told", || room.path("told").exists());
    assert_eq!(mask(&std::fs::read_to_string(room.path("told")).unwrap(), "SigBlk"), 0);
    signal(child.id(), Signal::SIGTERM);
    assert_eq!(collect(child).status, 0);
}

/// A death by a real-time signal is one like others (a library that does not know them loses it).
#[apply(test)]
fn a_real_time_signal_is_a_death_like_others() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let room = Room::new();
    let lease = format!("sqlite:{}", room.text("leases.db"));
    let die = "kill -34 $$; sleep 1000";
    let done = room.run("baa-run", ["--restart", "never", "--", "/bin/sh", "-c", die]);
    assert_eq!(done.status, 128 + 34, "{done:?}");
    let done = room.run("baa-lease", ["hold", "--store", &lease, "--lease", "x", "--", "/bin/sh", "-c", die]);
    assert_eq!(done.status, 128 + 34, "{done:?}");
    let done = room.run("baa-healthwait", ["--attempts", "1", &format!("exec:{die}")]);
    assert!(done.stderr.contains("signal 34"), "{done:?}");
}
