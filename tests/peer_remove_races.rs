//! baa-peer-remove cut off at every step, and beside others who hold the registry's lock: itself, and
//! proper-lockfile from npm.

use crate::peer_remove::{REGISTRY, command, install, registry, remove, states};
use crate::support::{Room, binary, collect, finish, needs, signal, skip, until};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// Calls that change a file or a directory, by name for the message.
fn changes(number: u64) -> Option<&'static str> {
    let of = |known: i64| u64::try_from(known).unwrap();
    let all = [
        (libc::SYS_openat, "openat"),
        (libc::SYS_write, "write"),
        (libc::SYS_ftruncate, "ftruncate"),
        (libc::SYS_fsync, "fsync"),
        (libc::SYS_unlinkat, "unlinkat"),
        (libc::SYS_mkdirat, "mkdirat"),
        (libc::SYS_utimensat, "utimensat"),
        (libc::SYS_flock, "flock"),
        (libc::SYS_fchmod, "fchmod"),
        (libc::SYS_renameat, "renameat"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_rename, "rename"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_mkdir, "mkdir"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_rmdir, "rmdir"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_unlink, "unlink"),
    ];
    all.iter().find(|(known, _)| of(*known) == number).map(|(_, name)| *name)
}

/// What to do with a removal that stands before a change.
enum Then {
    GoOn,
    Kill,
    LetGo,
}

/// Runs a removal and asks `before` at each of its changes: the name of the call, and how many there were.
/// How it ended; `None` when killed.
#[allow(clippy::zombie_processes)] // waitpid(2) itself is asked here
fn stepping(room: &Room, mut before: impl FnMut(&'static str, usize) -> Then) -> Option<i32> {
    let mut command = command(room);
    command.args(["bob", "-q"]).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: between fork and exec only ptrace(2) is called, which is async-signal-safe.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| ptrace::traceme().map_err(std::io::Error::from));
    }
    let child = command.spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    waitpid(pid, None).unwrap();
    ptrace::setoptions(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL)
        .unwrap();
    let (mut entering, mut count, mut traced) = (false, 0, true);
    let mut pass = None;
    loop {
        if traced {
            ptrace::syscall(pid, pass.take()).unwrap();
        }
        match waitpid(pid, None).unwrap() {
            WaitStatus::PtraceSyscall(_) => {
                entering = !entering;
                let Some(name) = (if entering { call_of(pid).and_then(changes) } else { None }) else {
                    continue;
                };
                count += 1;
                match before(name, count) {
                    Then::GoOn => {}
                    Then::Kill => {
                        signal(child.id(), Signal::SIGKILL);
                        traced = false;
                    }
                    Then::LetGo => {
                        ptrace::detach(pid, None).unwrap();
                        traced = false;
                    }
                }
            }
            WaitStatus::Stopped(_, signal) => pass = Some(signal),
            WaitStatus::Exited(_, status) => return Some(status),
            WaitStatus::Signaled(..) => return None,
            _ => {}
        }
    }
}

/// Runs a removal and kills it just before its `at`-th change; the name of the call, or `None` when it came
/// to its end.
fn cut_off(room: &Room, at: usize) -> Option<&'static str> {
    let mut step = None;
    let status = stepping(room, |name, count| {
        if count < at {
            return Then::GoOn;
        }
        step = Some(name);
        Then::Kill
    });
    assert!(status == Some(0) || (status.is_none() && step.is_some()));
    step
}

/// Taken over while we slept: what the other wrote is not overwritten.
#[apply(test)]
fn a_lock_that_was_taken_over_stops_the_write() {
    let room = Room::new();
    install(&room);
    let before = registry(&room);
    let lock = room.path("root/peers-profiles.lock.lock");
    let status = stepping(&room, |name, _| {
        let staged = std::fs::read_dir(room.path("root"))
            .unwrap()
            .any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with(".peers-profiles.json."));
        if !(name == "fsync" && staged) {
            return Then::GoOn;
        }
        std::fs::remove_dir(&lock).unwrap();
        std::fs::create_dir(&lock).unwrap();
        Then::LetGo
    });
    assert_eq!((status, registry(&room), states(&room).len()), (Some(1), before, 9));
    assert!(lock.exists(), "the lock of another was removed");
    assert!(
        !std::fs::read_dir(room.path("root")).unwrap().any(|entry| entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with('.'))
    );
}

fn call_of(pid: Pid) -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    return Some(ptrace::getregs(pid).unwrap().orig_rax);
    #[cfg(not(target_arch = "x86_64"))]
    return ptrace::getregset::<ptrace::regset::NT_PRSTATUS>(pid).ok().map(|registers| registers.regs[8]);
}

/// Whatever the step: the registry is the old one or the new one, never another; and the same command, run
/// again, finishes at once.
#[apply(test)]
fn killed_at_any_step_the_next_run_finishes() {
    let (mut steps, mut waited): (Vec<&'static str>, u32) = (Vec::new(), 0);
    loop {
        let room = Room::new();
        install(&room);
        let before = registry(&room);
        let after = before_without_bob(&room);
        let Some(step) = cut_off(&room, steps.len() + 1) else { break };
        steps.push(step);
        let now = registry(&room);
        assert!(now == before || now == after, "after {step} {}: {now}", steps.len());
        let mut done = remove(&room, ["bob", "-q", "--wait", "0"]);
        if done.status == 1 && done.stderr.contains("already being held") {
            // Killed before it could note whose the lock is: then it is waited for as anybody's, for ten
            // seconds.
            waited += 1;
            std::fs::File::open(room.path("root/peers-profiles.lock.lock"))
                .unwrap()
                .set_modified(SystemTime::now() - Duration::from_secs(11))
                .unwrap();
            done = remove(&room, ["bob", "-q", "--wait", "0"]);
        }
        assert!(done.status == 0 && done.stderr.is_empty(), "after {step} {}: {done:?}", steps.len());
        assert_eq!((registry(&room), states(&room).len()), (after, 3), "after {step} {}", steps.len());
        assert!(!room.path("root/peers-profiles.lock.lock").exists());
        for (directory, count) in [("root", 3), ("root/state/removed", 1)] {
            let left: Vec<_> = std::fs::read_dir(room.path(directory))
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert_eq!(left.len(), count, "after {step} {}: {left:?}", steps.len());
        }
        remove(&room, ["bob", "--must-exist"]).failed_with_lines(1);
    }
    for step in ["mkdir", "rename", "unlinkat", "rmdir", "fsync"] {
        assert!(steps.iter().any(|name| name.starts_with(step)), "{step} is not among {steps:?}");
    }
    assert!(steps.len() > 40 && waited <= 6, "{waited} of {steps:?}");
}

impl crate::support::Done {
    fn failed_with_lines(&self, status: i32) {
        assert_eq!((self.status, self.stdout.as_str()), (status, ""), "{self:?}");
    }
}

fn before_without_bob(room: &Room) -> String {
    let text = REGISTRY.replace("CWD", &room.text("home/bob"));
    let start = text.find("    {\n      \"personality\": \"bob\"").unwrap();
    let end = text.find("    {\"personality\":\"bob2\"").unwrap();
    format!("{}{}", &text[..start], &text[end..])
}

#[apply(test)]
fn a_signal_while_it_waits_changes_nothing_and_leaves_no_lock() {
    let room = Room::new();
    install(&room);
    let before = registry(&room);
    std::fs::create_dir(room.path("root/peers-profiles.lock.lock")).unwrap();
    let waits = command(&room)
        .args(["bob", "--wait", "100s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("it waits", || room.path("root/peers-profiles.lock").exists());
    until("it catches signals", || caught(waits.id()));
    signal(waits.id(), Signal::SIGTERM);
    collect(waits).failed_with(1, "ended by SIGTERM before anything was changed");
    assert_eq!((registry(&room), states(&room).len()), (before, 9));
}

fn caught(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("SigCgt:\t")?, 16).ok())
        .unwrap_or(0);
    mask & (1 << 14) != 0
}

/// Where proper-lockfile is: fetched once into target/npm; the test is skipped where it cannot be had.
fn proper_lockfile() -> PathBuf {
    needs("node");
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/npm");
    if !home.join("node_modules/proper-lockfile").exists() {
        needs("npm");
        std::fs::create_dir_all(&home).unwrap();
        let done = Command::new("npm")
            .args(["install", "--silent", "--no-fund", "--no-audit", "proper-lockfile@4.1.2"])
            .current_dir(&home)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        if !done.status.success() {
            skip("npm cannot fetch proper-lockfile");
        }
    }
    home
}

/// A writer as iapeer is one: proper-lockfile with its settings, then read, change, write, rename.
const WRITER: &str = r#"
const lockfile = require('proper-lockfile'), fs = require('fs');
const [root, rounds] = [process.argv[2], Number(process.argv[3])];
const file = root + '/peers-profiles.json', target = root + '/peers-profiles.lock';
(async () => {
  fs.writeFileSync(target, '', { flag: 'a' });
  let compromised = 0;
  for (let round = 0; round < rounds; round++) {
    const release = await lockfile.lock(target, { stale: 10000, update: 1000,
      onCompromised: () => { compromised++ },
      retries: { retries: 1000, factor: 1.4, minTimeout: 5, maxTimeout: 50 } });
    const registry = JSON.parse(fs.readFileSync(file, 'utf8'));
    registry.peers.push({
      personality: 'n' + round, default_runtime: 'claude', runtimes: ['claude'], cwd: '/n',
      intelligence: 'artificial'
    });
    fs.writeFileSync(file + '.tmp', JSON.stringify(registry, null, 2) + '\n');
    fs.renameSync(file + '.tmp', file);
    await release();
  }
  console.log('compromised ' + compromised);
})();
"#;

/// Two removers and a writer from npm at once: every peer that was added is there, every peer that was
/// removed is not.
#[apply(test)]
fn no_update_is_lost_between_removers_and_proper_lockfile() {
    const ROUNDS: usize = 1000;
    let home = proper_lockfile();
    let room = Room::new();
    let names: Vec<String> = (0..ROUNDS).map(|number| format!("r{number}")).collect();
    let entries: Vec<String> = names
        .iter()
        .map(|name| format!("{{\"personality\":\"{name}\",\"runtime\":\"claude\",\"cwd\":\"/x\"}}"))
        .collect();
    room.write("root/peers-profiles.json", &format!("{{\"version\":2,\"peers\":[{}]}}", entries.join(",")));
    room.write("root/writer.js", WRITER);
    let mut writer = Command::new("node");
    writer
        .arg(room.path("root/writer.js"))
        .arg(room.path("root"))
        .arg(ROUNDS.to_string())
        .env("NODE_PATH", home.join("node_modules"));
    let writer = writer.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let removers: Vec<_> = (0..2)
        .map(|which| {
            let program = binary("baa-peer-remove");
            let (root, names): (PathBuf, Vec<String>) =
                (room.path("root"), names.iter().skip(which).step_by(2).cloned().collect());
            std::thread::spawn(move || {
                for name in names {
                    let mut command = Command::new(&program);
                    command
                        .arg("--root")
                        .arg(&root)
                        .args(["--wait", "100s", "-q", &name])
                        .env_clear()
                        .env("PATH", "/usr/bin:/bin")
                        .stdin(Stdio::null());
                    let done = finish(&mut command);
                    assert!(done.status == 0 && done.stdout.starts_with("removed "), "{name}: {done:?}");
                }
            })
        })
        .collect();
    for remover in removers {
        remover.join().unwrap();
    }
    let done = writer.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout), "compromised 0\n", "{done:?}");
    let now: serde_json::Value = serde_json::from_str(&registry(&room)).unwrap();
    let mut left: Vec<&str> =
        now["peers"].as_array().unwrap().iter().map(|peer| peer["personality"].as_str().unwrap()).collect();
    left.sort_unstable();
    let mut wanted: Vec<String> = (0..ROUNDS).map(|number| format!("n{number}")).collect();
    wanted.sort_unstable();
    assert_eq!(left, wanted);
}

/// The other way round: what we hold, proper-lockfile waits for; and what it holds, we wait for.
#[apply(test)]
fn each_waits_for_the_others_lock() {
    let home = proper_lockfile();
    let room = Room::new();
    install(&room);
    room.write(
        "hold.js",
        "const lockfile = require('proper-lockfile'), fs = require('fs');\
         lockfile.lock(process.argv[2], { stale: 10000, update: 1000 }).then(release => { \
         console.log('held'); process.stdin.once('data', () => release().then(() => process.exit(0))); \
         }, why => { console.log(why.code + ' ' + why.message); process.exit(1) });",
    );
    room.write("root/peers-profiles.lock", "");
    let node = || {
        let mut command = Command::new("node");
        command
            .arg(room.path("hold.js"))
            .arg(room.path("root/peers-profiles.lock"))
            .env("NODE_PATH", home.join("node_modules"));
        command
    };
    let mut holder = node().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lock = room.path("root/peers-profiles.lock.lock");
    until("proper-lockfile holds it", || lock.exists());
    remove(&room, ["bob", "--wait", "200ms"]).failed_with(1, "Lock file is already being held");
    let waits = command(&room)
        .args(["bob", "-q", "--wait", "100s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut holder.stdin.take().unwrap(), b"go\n").unwrap();
    assert!(holder.wait().unwrap().success());
    assert_eq!(collect(waits).status, 0);
    // Ours is a directory like any other, and so is what it meets.
    std::fs::create_dir(&lock).unwrap();
    let done = finish(node().stdin(Stdio::null()));
    assert_eq!((done.status, done.stdout.as_str()), (1, "ELOCKED Lock file is already being held\n"));
}
