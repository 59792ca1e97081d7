//! Real children: what they find, what is told of those that could not be started, and how they end.

use super::*;
use crate::sys::process::Pid;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// A shell with this script; nothing of the environment of the tests but PATH.
fn shell(script: &str) -> Spec {
    let mut spec = Spec::new("/bin/sh", ["-c", script]);
    spec.clear_env = true;
    spec.env.push(("PATH".into(), std::env::var_os("PATH").unwrap()));
    spec
}

/// Its standard output, and how it ended.
fn finish(mut spec: Spec) -> (String, Exit) {
    spec.stdio[1] = Some(Stdio::piped());
    let mut started = spec.start_claimed().unwrap();
    let mut said = String::new();
    started.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    (said, await_exit(started.identity, soon()).unwrap())
}

#[test]
fn every_death_is_seen_with_its_signal() {
    for (script, exit) in [
        ("exit 0", Exit::Code(0)),
        ("exit 255", Exit::Code(255)),
        ("kill -9 $$", Exit::Signal(9)),
        ("kill -34 $$", Exit::Signal(34)),
        ("kill -64 $$", Exit::Signal(64)),
    ] {
        if cfg!(target_os = "linux") || !script.contains("-34") && !script.contains("-64") {
            assert_eq!(finish(shell(script)).1, exit, "{script}");
        }
    }
}

#[test]
fn a_child_knows_its_own_pid_and_keeps_its_names() {
    let mut spec =
        shell("echo $LISTEN_PID $$; tr '\\0' '\\n' < /proc/$$/environ; tr '\\0' ' ' < /proc/$$/cmdline");
    spec.arg0 = Some("-login".into());
    spec.env.push(("LISTEN_PID".into(), OsString::new()));
    spec.env.push(("spring.profile".into(), "a=b".into()));
    let (said, _) = finish(spec);
    let first = said.lines().next().unwrap();
    let (told, own) = first.split_once(' ').unwrap();
    assert_eq!(told, own, "{said}");
    if cfg!(target_os = "linux") {
        assert!(said.contains("spring.profile=a=b\n") && said.contains("-login -c "), "{said}");
    }
}

#[test]
fn descriptors_are_passed_under_their_numbers_and_no_others() {
    let (reader, writer) = std::io::pipe().unwrap();
    // One that every child inherits unless it is kept from it: dup(2) makes it so.
    let open = nix::unistd::dup(&reader).unwrap();
    let inherited = std::os::fd::AsRawFd::as_raw_fd(&open);
    // A number that is in use by us, and one that is not.
    for (number, only) in [(3, true), (99, true), (3, false), (99, false)] {
        let ask = format!("[ -e /proc/$$/fd/{inherited} ] && exit 1; exit 0");
        let mut spec = shell(&format!("echo here >/dev/fd/{number}; {ask}"));
        spec.pass.push((number, Arc::new(writer.try_clone().unwrap().into())));
        spec.only_passed = only;
        let (_, exit) = finish(spec);
        let mut bytes = [0u8; 5];
        (&reader).read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"here\n");
        if cfg!(target_os = "linux") && inherited != number {
            assert_eq!(exit, Exit::Code(i32::from(!only)), "{number} {only}");
        }
    }
}

#[test]
fn what_cannot_be_started_is_told_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::set_permissions(dir.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    file("plain", "exit 7\n", 0o644);
    file("script", "#!/no/such/shell -x\n", 0o755);
    file("bare", "exit 7\n", 0o755);
    let place = dir.path().display().to_string();
    let refused = |program: &str, to: Option<&str>| {
        let mut spec = Spec::new(program, [] as [&str; 0]);
        spec.dir = Some(to.map_or(dir.path().to_owned(), PathBuf::from));
        spec.env.push(("PATH".into(), place.clone().into()));
        let error = spec.start().unwrap_err();
        (error.to_string(), error.status())
    };
    let absent = format!("cannot start './web': no such file or directory (in {place})");
    assert_eq!(refused("./web", None), (absent, Status::NotFound));
    let absent = format!("cannot start 'web': no such file or directory (in {place})");
    assert_eq!(refused("web", None), (absent, Status::NotFound));
    let plain = format!("cannot start './plain': permission denied (in {place})");
    assert_eq!(refused("./plain", None), (plain, Status::NotExecutable));
    for name in ["./script", "script"] {
        let script =
            format!("cannot start '{name}': its interpreter '/no/such/shell': no such file or directory");
        assert_eq!(refused(name, None), (script, Status::NotFound));
    }
    let nowhere = "cannot start '/bin/sh': cannot enter '/no/such': no such file or directory";
    assert_eq!(refused("/bin/sh", Some("/no/such")), (nowhere.to_owned(), Status::NotExecutable));
    file("dos", "#!/bin/sh\r\nexit 0\r\n", 0o755);
    let dos = "cannot start './dos': its first line ends with a carriage return, which is no part of a name";
    assert_eq!(refused("./dos", None), (dos.to_owned(), Status::NotFound));
    let nothing = format!("cannot start '': no such file or directory (in {place})");
    assert_eq!(refused("", None), (nothing, Status::NotFound));
    // A script without a first line is the shell's, as execvp(3) has it.
    let mut spec = Spec::new("bare", [] as [&str; 0]);
    spec.env.push(("PATH".into(), place.clone().into()));
    assert_eq!(finish(spec).1, Exit::Code(7));
    let mut spec = shell("exit 0");
    spec.stdio[1] = Some(Stdio::Path { path: dir.path().join("no/log"), append: true });
    let why = spec.start().unwrap_err().to_string();
    assert_eq!(
        why,
        format!("cannot start '/bin/sh': cannot open '{place}/no/log': no such file or directory")
    );
}

#[test]
fn limits_mask_and_streams_are_the_childs_own() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in"), "word\n").unwrap();
    let mut spec = shell("read x; umask; ulimit -n; nice; pwd; echo $x; echo log >&2");
    // One that everybody may ask for.
    let nicer = (own_niceness() + 1).min(19);
    (spec.umask, spec.nice, spec.dir) = (Some(0o27), Some(nicer), Some("/".into()));
    spec.limits.push(Limit { resource: Resource::RLIMIT_NOFILE, soft: 77, hard: 99 });
    spec.stdio[0] = Some(Stdio::Path { path: dir.path().join("in"), append: false });
    spec.stdio[2] = Some(Stdio::Path { path: dir.path().join("log"), append: true });
    let (said, _) = finish(spec);
    assert_eq!(said, format!("0027\n77\n{}\n/\nword\n", nicer));
    assert_eq!(std::fs::read_to_string(dir.path().join("log")).unwrap(), "log\n");
}

fn own_niceness() -> i32 {
    finish(shell("nice")).0.trim().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_child_begins_with_no_signal_blocked_and_none_of_our_handlers() {
    let blocked = crate::sys::signal::Blocked::all();
    let (said, _) = finish(shell("exec cat /proc/self/status"));
    drop(blocked);
    let mask = |line: &str| u64::from_str_radix(line.split_once('\t').unwrap().1, 16).unwrap();
    let lines = said
        .lines()
        .filter(|line| ["SigBlk:", "SigIgn:", "SigCgt:"].iter().any(|name| line.starts_with(name)));
    let masks: Vec<u64> = lines.map(mask).collect();
    // What the caller of the tests ignored stays ignored; SIGPIPE is not what Rust has made of it.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
    let pipe = 1 << (libc::SIGPIPE - 1);
    let ours = u64::from_str_radix(own, 16).unwrap() & !pipe;
    assert_eq!((masks[0], masks[1] & !pipe, masks[2]), (0, ours, 0), "{said}");
    assert_eq!(masks[1] & pipe != 0, crate::sys::signal::pipe_was_ignored());
}

#[test]
fn a_child_is_signalled_and_awaited_as_such() {
    let started = shell("exec sleep 1000").start_claimed().unwrap();
    let who = started.identity;
    assert!(who.alive() && Identity::of(who.pid) == Some(who) && known().contains(&who.pid));
    assert!(helpers().contains(&who.pid));
    assert_eq!(await_exit(who, Instant::now()), None);
    signal(who, Signal::SIGTERM);
    // Dead and not yet reaped it is dead, and nobody else's `reap` takes it away.
    let end = soon();
    while who.alive() {
        assert!(Instant::now() < end);
    }
    collect();
    assert!(!who.alive() && Identity::of(who.pid).is_none());
    assert_eq!(wait(who.pid), Some(Exit::Signal(15)));
    assert!(!known().contains(&who.pid) && wait(who.pid).is_none());
    // Nothing is sent to whoever has the number now.
    signal(Identity { pid: Pid::own(), start: crate::sys::process::Start(1) }, Signal::SIGKILL);
}

#[cfg(target_os = "linux")]
#[test]
fn a_child_ends_with_the_thread_that_has_started_it() {
    let who = std::thread::spawn(|| {
        let mut spec = shell("exec sleep 1000");
        spec.ends_with_us = Some(Signal::SIGKILL);
        spec.start_claimed().unwrap().identity
    })
    .join()
    .unwrap();
    assert_eq!(await_exit(who, soon()), Some(Exit::Signal(9)));
}

#[test]
fn a_claim_that_is_given_up_is_reaped_by_all() {
    let started = shell("exit 3").start_claimed().unwrap();
    let who = started.identity;
    let end = soon();
    while who.alive() {
        assert!(Instant::now() < end);
    }
    collect();
    assert!(!reap().contains(&(who.pid, Exit::Code(3))));
    release(who.pid);
    assert!(reap().contains(&(who.pid, Exit::Code(3))));
    let started = shell("exit 4").start().unwrap();
    claim(started.identity.pid);
    assert_eq!(await_exit(started.identity, soon()), Some(Exit::Code(4)));
}
