//! The start as the parent sees it: everything is prepared before the fork, and the child's verdict is
//! awaited after it. What the child does in between stands in `inside`.

use super::inside::{become_it, child};
use super::{Limit, Spec, StartError, Started, Stdio, Step, table};
use crate::sys::poll::{self, For};
use crate::sys::process::Pid;
use crate::sys::{secret, signal};
use crate::words::clean;
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a start may take until the program runs. Only a file system that does not answer takes long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where programs are looked up without a PATH (_PATH_DEFPATH of <paths.h>).
const DEFAULT_PATH: &str = "/usr/bin:/bin";
/// What LISTEN_PID is until the child writes its own pid there.
pub(super) const ROOM: &str = "LISTEN_PID=0000000000\0";

/// What the child needs, made before it exists.
pub(super) struct Plan {
    /// Where the program may be, in the order of PATH.
    pub(super) candidates: Vec<CString>,
    /// The words as pointers, with a null at the end; the strings live in `_words`.
    pub(super) argv: Vec<*const libc::c_char>,
    /// The same for /bin/sh, which runs a script without a `#!` line, as execvp(3) has it; its second word is
    /// put there by the child.
    pub(super) script: Vec<*const libc::c_char>,
    pub(super) envp: Vec<*const libc::c_char>,
    _words: Vec<CString>,
    _env: Vec<CString>,
    /// Where LISTEN_PID is written.
    pub(super) listen_pid: Option<Vec<u8>>,
    pub(super) dir: Option<CString>,
    pub(super) umask: Option<u32>,
    pub(super) user: Option<Ids>,
    pub(super) limits: Vec<Limit>,
    pub(super) nice: Option<i32>,
    pub(super) no_new_privileges: bool,
    pub(super) capabilities: Option<u64>,
    pub(super) own_keyring: bool,
    pub(super) ends_with_us: Option<i32>,
    pub(super) parent: i32,
    pub(super) cgroup: Option<i32>,
    /// Standard streams: what the child puts there.
    pub(super) streams: [Source; 3],
    /// Other descriptors: where they are, and where they shall be.
    pub(super) pass: Vec<(i32, i32)>,
    /// Above this no number is meant for a program.
    pub(super) highest: i32,
    pub(super) only_passed: bool,
    /// Whether a program gets SIGPIPE ignored, as we did.
    pub(super) ignore_pipe: bool,
}

pub(super) struct Ids {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<libc::gid_t>,
}

pub(super) enum Source {
    Inherit,
    Fd(i32),
    Path(CString, i32),
}

pub(super) fn start(spec: Spec, claimed: bool) -> Result<Started, StartError> {
    let mut words = Words::of(&spec);
    if spec.program.is_empty() {
        return Err(words.failed(Step::Exec, io::Error::from_raw_os_error(libc::ENOENT)));
    }
    let untold = spec.start_untold;
    let began = begin(spec);
    let (mut plan, ends, _held) = began.map_err(|cause| words.failed(Step::Descriptors, cause))?;
    let (reader, writer) = way_back(plan.highest).map_err(|cause| words.failed(Step::Fork, cause))?;
    let mut in_cgroup = false;
    let forked = table::enter(true, || {
        // No handler of ours may run in the child, and no signal to it may get lost before its program runs.
        let _blocked = signal::Blocked::all();
        let (pid, pidfd, inside) = fork(&mut plan, writer.as_raw_fd())?;
        in_cgroup = inside;
        Ok((pid, pidfd))
    });
    drop(writer);
    let pid = forked.map_err(|cause| words.failed(Step::Fork, cause))?;
    if let Some((step, cause)) = verdict(reader, pid) {
        let _ = super::wait(pid);
        return Err(words.failed(step, cause));
    }
    let [stdin, stdout, stderr] = ends;
    Ok(Started { identity: table::settle(pid, claimed, untold), stdin, stdout, stderr, in_cgroup })
}

pub(super) fn exec(spec: Spec) -> StartError {
    let mut words = Words::of(&spec);
    match begin(spec) {
        Err(cause) => words.failed(Step::Descriptors, cause),
        Ok((mut plan, _ends, _held)) => {
            let _blocked = signal::Blocked::all();
            let (step, errno) = become_it(&mut plan, None, true);
            words.failed(step, io::Error::from_raw_os_error(errno))
        }
    }
}

/// What the child says: nothing once it runs its program (the pipe is closed by execve), else what failed.
fn verdict(reader: OwnedFd, pid: Pid) -> Option<(Step, io::Error)> {
    let until = Instant::now() + PATIENCE;
    let mut bytes = [0u8; 5];
    let late = || {
        // SAFETY: kill(2) with integers; the child is ours and not reaped.
        unsafe { libc::kill(pid.number(), libc::SIGKILL) };
        Some((Step::Exec, io::Error::from_raw_os_error(libc::ETIMEDOUT)))
    };
    match poll::wait(&[(reader.as_fd(), For::Reading)], Some(until)) {
        Ok(ready) if ready[0] => {}
        _ => return late(),
    }
    let count = File::from(reader).read(&mut bytes).unwrap_or(0);
    if count < bytes.len() {
        return None;
    }
    let [step, errno @ ..] = bytes;
    Some((Step::of(step), io::Error::from_raw_os_error(i32::from_ne_bytes(errno))))
}

impl Step {
    fn of(number: u8) -> Step {
        let all = [
            Step::Fork,
            Step::Session,
            Step::Limits,
            Step::User,
            Step::Directory,
            Step::Descriptors,
            Step::Attributes,
            Step::Exec,
        ];
        all.into_iter().find(|step| *step as u8 == number).unwrap_or(Step::Exec)
    }
}

/// What a message about a start that failed needs.
struct Words {
    program: OsString,
    /// Where it is looked for.
    path: OsString,
    dir: Option<PathBuf>,
    streams: Vec<PathBuf>,
}

impl Words {
    fn of(spec: &Spec) -> Words {
        let stream = |one: &Option<Stdio>| match one {
            Some(Stdio::Path { path, .. }) => Some(path.clone()),
            _ => None,
        };
        let own = spec.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, path)| path.clone());
        let path = own.or_else(|| std::env::var_os("PATH").filter(|_| !spec.clear_env));
        Words {
            program: spec.program.clone(),
            path: path.unwrap_or_else(|| DEFAULT_PATH.into()),
            dir: spec.dir.clone().or_else(|| here(&spec.program)),
            streams: spec.stdio.iter().filter_map(stream).collect(),
        }
    }

    fn failed(&mut self, step: Step, cause: io::Error) -> StartError {
        let why = crate::words::error::reason(&cause);
        let streams: Vec<String> = self.streams.iter().map(|path| format!("'{}'", path.display())).collect();
        let detail = match (step, cause.raw_os_error()) {
            (_, Some(libc::ETIMEDOUT)) => Some("a file system does not answer".to_owned()),
            (Step::Exec, Some(libc::ENOENT | libc::EACCES | libc::ENOTDIR)) => self.interpreter(&why),
            (Step::Descriptors, _) if !streams.is_empty() => {
                Some(format!("cannot open {}: {why}", streams.join(" or ")))
            }
            _ => None,
        };
        let (program, dir) = (std::mem::take(&mut self.program), self.dir.take());
        StartError { step, cause, program, dir, detail }
    }

    /// A script whose interpreter is missing fails as if it were missing itself (execve(2)).
    fn interpreter(&self, why: &str) -> Option<String> {
        let dir = self.dir.as_deref().unwrap_or(Path::new("."));
        let path = if self.program.as_bytes().contains(&b'/') {
            dir.join(&self.program)
        } else {
            super::find(&self.program, &self.path, dir)?
        };
        // It is the script itself that may not be run.
        if std::fs::metadata(&path).ok()?.mode() & 0o111 == 0 {
            return None;
        }
        let mut head = [0u8; 256];
        let count = File::open(path).ok()?.read(&mut head).ok()?;
        let line = head[..count].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
        if line.ends_with(b"\r") {
            return Some("its first line ends with a carriage return, which is no part of a name".to_owned());
        }
        let name = line.split(|byte| byte.is_ascii_whitespace()).find(|word| !word.is_empty())?;
        let name: String = clean::line(&String::from_utf8_lossy(name)).into_owned();
        Some(format!("its interpreter '{name}': {why}"))
    }
}

/// Where we are, which a relative path means; names on PATH do not.
fn here(program: &OsStr) -> Option<PathBuf> {
    let relative = program.as_bytes().contains(&b'/') && !program.as_bytes().starts_with(b"/");
    relative.then(std::env::current_dir)?.ok()
}

type Begun = (Plan, [Option<File>; 3], Vec<OwnedFd>);

/// The plan, our ends of its pipes, and what must stay open until the child has it.
fn begin(spec: Spec) -> io::Result<Begun> {
    let mut held = Vec::new();
    let mut ends = [None, None, None];
    let mut streams = [Source::Inherit, Source::Inherit, Source::Inherit];
    for (number, stream) in spec.stdio.into_iter().enumerate() {
        let writes = number > 0;
        let fd = match stream {
            None => continue,
            Some(Stdio::Null) => {
                streams[number] = Source::Path(
                    c"/dev/null".to_owned(),
                    if writes { libc::O_WRONLY } else { libc::O_RDONLY },
                );
                continue;
            }
            Some(Stdio::Path { path, append }) => {
                let flags =
                    if append { libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT } else { libc::O_RDONLY };
                streams[number] = Source::Path(CString::new(path.into_os_string().into_vec())?, flags);
                continue;
            }
            Some(Stdio::Piped) => {
                let (reader, writer) = pipe()?;
                let (ours, theirs) = if writes { (reader, writer) } else { (writer, reader) };
                ends[number] = Some(File::from(ours));
                theirs
            }
            Some(Stdio::Fd(fd)) => fd,
        };
        // Out of the way of the three themselves: one of ours may be closed.
        let fd = if fd.as_raw_fd() <= 2 { above(&fd, 3)? } else { fd };
        streams[number] = Source::Fd(fd.as_raw_fd());
        held.push(fd);
    }
    let highest = spec.pass.iter().map(|(number, _)| *number).max().unwrap_or(2).max(2);
    // A source must not have the number of another's target.
    let mut pass = Vec::new();
    for (number, fd) in &spec.pass {
        let fd = above(fd, highest + 1)?;
        pass.push((fd.as_raw_fd(), *number));
        held.push(fd);
    }
    for source in &mut streams {
        if let Source::Fd(number) = source
            && *number <= highest
            && let Some(fd) = held.iter().find(|fd| fd.as_raw_fd() == *number)
        {
            let fd = above(fd, highest + 1)?;
            *number = fd.as_raw_fd();
            held.push(fd);
        }
    }
    let env = environment(spec.clear_env, &spec.unset, spec.env);
    // Ours is another as long as we have a secret in memory.
    let mut limits = spec.limits;
    limits.splice(..0, secret::cores());
    let path = env.get(OsStr::new("PATH")).cloned().unwrap_or_else(|| DEFAULT_PATH.into());
    let candidates = candidates(&spec.program, &path)?;
    let wants_pid = env.get(OsStr::new("LISTEN_PID")).is_some_and(|value| value.is_empty());
    let env: Vec<CString> = env
        .into_iter()
        .filter(|(name, _)| !(wants_pid && name == "LISTEN_PID"))
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            CString::new(name.into_vec())
        })
        .collect::<Result<_, _>>()?;
    let first = spec.arg0.as_ref().unwrap_or(&spec.program);
    let words: Vec<CString> = std::iter::once(first)
        .chain(&spec.args)
        .map(|word| CString::new(word.as_bytes()))
        .collect::<Result<_, _>>()?;
    let argv: Vec<_> = words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
    let script = [c"sh".as_ptr(), std::ptr::null()].into_iter().chain(argv.iter().skip(1).copied()).collect();
    let listen_pid = wants_pid.then(|| ROOM.as_bytes().to_vec());
    let envp: Vec<_> = env
        .iter()
        .map(|pair| pair.as_ptr())
        .chain(listen_pid.as_ref().map(|room| room.as_ptr().cast()))
        .chain([std::ptr::null()])
        .collect();
    let cgroup = spec.cgroup.as_ref().map(|door| door.as_raw_fd());
    held.extend(spec.cgroup.as_ref().map(|door| door.as_fd().try_clone_to_owned()).transpose()?);
    let user = spec.user.map(|who| Ids { uid: who.uid, gid: who.gid, groups: who.groups });
    let plan = Plan {
        candidates,
        argv,
        script,
        envp,
        _words: words,
        _env: env,
        listen_pid,
        dir: spec.dir.map(|dir| CString::new(dir.into_os_string().into_vec())).transpose()?,
        umask: spec.umask,
        user,
        limits,
        nice: spec.nice,
        no_new_privileges: spec.no_new_privileges,
        capabilities: spec.capabilities,
        own_keyring: spec.own_keyring,
        ends_with_us: spec.ends_with_us.map(|signal| signal as i32),
        parent: Pid::own().number(),
        cgroup,
        streams,
        pass,
        highest,
        only_passed: spec.only_passed,
        ignore_pipe: signal::pipe_was_ignored(),
    };
    Ok((plan, ends, held))
}

fn environment(
    clear: bool,
    unset: &[OsString],
    set: Vec<(OsString, OsString)>,
) -> BTreeMap<OsString, OsString> {
    let mut all: BTreeMap<OsString, OsString> =
        if clear { BTreeMap::new() } else { std::env::vars_os().collect() };
    unset.iter().chain(&secret::withheld()).for_each(|name| drop(all.remove(name)));
    all.extend(set);
    all
}

/// As execvp(3): a name without a slash is looked for in each directory of PATH, an empty one being the
/// current.
fn candidates(program: &OsStr, path: &OsStr) -> io::Result<Vec<CString>> {
    if program.is_empty() {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![CString::new(program.as_bytes())?]);
    }
    let join = |dir: &[u8]| {
        let mut whole = if dir.is_empty() { b".".to_vec() } else { dir.to_vec() };
        whole.push(b'/');
        whole.extend(program.as_bytes());
        CString::new(whole).map_err(io::Error::from)
    };
    path.as_bytes().split(|byte| *byte == b':').map(join).collect()
}

/// A second descriptor of the same file with a number from `least` on, which no child inherits.
fn above(fd: &impl AsFd, least: i32) -> io::Result<OwnedFd> {
    let number = nix::fcntl::fcntl(fd.as_fd(), nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(least))?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A pipe that no child inherits by itself.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((reader.into(), writer.into()))
}

/// The pipe that the child tells its failure by, which keeps out of the numbers that are meant for its
/// program.
fn way_back(highest: i32) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe()?;
    let writer = above(&writer, highest + 1)?;
    Ok((reader, writer))
}

/// Makes the child: its pid, a descriptor of it where the kernel has such, and whether it is in its cgroup
/// from its first instruction on. Returns in the parent only.
fn fork(plan: &mut Plan, report: i32) -> io::Result<(Pid, Option<OwnedFd>, bool)> {
    #[cfg(target_os = "linux")]
    for inside in [true, false] {
        if inside && plan.cgroup.is_none() {
            continue;
        }
        match clone3(plan.cgroup.filter(|_| inside)) {
            Ok(None) => child(plan, report, inside, true),
            Ok(Some((pid, pidfd))) => return Ok((pid, Some(pidfd), inside)),
            // A sandbox refuses it, or the kernel is older than the call (5.3), the flag (5.5) or cgroups as
            // a place of birth (5.7).
            Err(_) => {}
        }
    }
    // SAFETY: the child makes only system calls before it becomes another program or ends (signal-safety(7)).
    let number = unsafe { libc::fork() };
    match number {
        0 => child(plan, report, false, false),
        _ => {
            let pid = Pid::new(number).ok_or_else(io::Error::last_os_error)?;
            #[cfg(target_os = "linux")]
            let pidfd = crate::sys::process::descriptor(pid).ok();
            #[cfg(not(target_os = "linux"))]
            let pidfd = None;
            // It enters its cgroup by itself then; whether it could is not known.
            Ok((pid, pidfd, false))
        }
    }
}

/// `struct clone_args` of <linux/sched.h>, third version.
#[cfg(target_os = "linux")]
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// clone3(2) as a fork; `None` in the child.
#[cfg(target_os = "linux")]
fn clone3(cgroup: Option<i32>) -> io::Result<Option<(Pid, OwnedFd)>> {
    const CLEAR_SIGHAND: u64 = 0x1_0000_0000;
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: CLEAR_SIGHAND | u64::from(libc::CLONE_PIDFD.cast_unsigned()),
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        ..CloneArgs::default()
    };
    if let Some(door) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = u64::from(door.cast_unsigned());
    }
    // SAFETY: the arguments and the place for the descriptor outlive the call; without CLONE_VM the child has
    // its own copy of all memory, and makes only system calls.
    let number = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match i32::try_from(number).unwrap_or(-1) {
        0 => Ok(None),
        number => {
            let pid = Pid::new(number).ok_or_else(io::Error::last_os_error)?;
            // SAFETY: the kernel has just given us this descriptor, close-on-exec, and nobody else has it.
            Ok(Some((pid, unsafe { OwnedFd::from_raw_fd(pidfd) })))
        }
    }
}
