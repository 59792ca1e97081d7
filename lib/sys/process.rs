//! Processes: identity is pid and start time, so a reused pid is never taken for the process that had it
//! before; and a watch for death.

use crate::sys::child::{self, Exit};
use crate::sys::poll;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

pub mod exits;
pub mod trace;

#[cfg(target_os = "linux")]
pub(crate) mod linux;
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
use macos as system;

/// A process id, always positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(i32);

impl Pid {
    /// The pid of that number, if it can be one.
    pub fn new(number: i32) -> Option<Pid> {
        (number > 0).then_some(Pid(number))
    }

    /// This process.
    pub fn own() -> Pid {
        Pid(nix::unistd::getpid().as_raw())
    }

    /// Whoever started this process, or has adopted it; `None` where that one is in no namespace of ours.
    pub fn parent() -> Option<Pid> {
        Pid::new(nix::unistd::getppid().as_raw())
    }

    /// The number.
    pub fn number(self) -> i32 {
        self.0
    }

    pub(crate) fn raw(self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.0)
    }
}

impl std::fmt::Display for Pid {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(out)
    }
}

impl std::str::FromStr for Pid {
    type Err = String;
    fn from_str(text: &str) -> Result<Pid, String> {
        text.parse()
            .ok()
            .and_then(Pid::new)
            .ok_or_else(|| format!("'{}' is not a process id", crate::words::error::brief(text)))
    }
}

/// When a process started, in the system's own unit since the system's own zero. Comparable on one boot only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Start(pub u64);

impl Start {
    /// The start time that a process would have that started at `time`; `None` without a clock.
    pub fn at(time: SystemTime) -> Option<Start> {
        system::start_at(time)
    }
}

/// What a process must be younger than.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// A process. Of two that were started in the same tick of the clock the order of their pids decides,
    /// which the system gives out one after the other.
    Process(Identity),
    /// A time. Whoever was started in the very tick that it is in counts as younger.
    Tick(Start),
}

impl Age {
    /// Whether `who` is younger.
    pub fn is_before(self, who: Identity) -> bool {
        match self {
            Age::Tick(start) => who.start >= start,
            Age::Process(old) => {
                who.start > old.start || (who.start == old.start && system::was_next(old.pid, who.pid))
            }
        }
    }
}

/// One process, told apart from every other that has had or will have its pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its pid.
    pub pid: Pid,
    /// When it started.
    pub start: Start,
}

/// What can be told of whoever has a pid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessSight {
    /// It lives, and this is who it is.
    Lives(Identity),
    /// It exists, and nobody can tell who it is or whether it lives; why.
    Unseen(String),
    /// No process has the pid, or a dead one that nobody has reaped yet.
    Gone,
}

/// One row of the process table.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Who it is.
    pub identity: Identity,
    /// The pid of its parent.
    pub parent: i32,
    /// The id of its session.
    pub session: i32,
    /// Whether it is dead and waits for its parent.
    pub zombie: bool,
}

impl Identity {
    /// This process. Where the system does not tell when it started (no /proc), the start is 0.
    pub fn own() -> Identity {
        Identity::look(Pid::own()).unwrap_or(Identity { pid: Pid::own(), start: Start(0) })
    }

    /// The live process that has `pid` now; a zombie is dead. A child of ours is known without a look at the
    /// system's table. `None` also of one that the system does not show us; see `alive`.
    pub fn of(pid: Pid) -> Option<Identity> {
        match child::identity(pid) {
            Some(own) => child::lives(own).unwrap_or(false).then_some(own),
            None if pid == Pid::own() => Some(Identity::own()),
            None => Identity::look(pid).or_else(|| {
                // Without a table an orphan of ours is known by its parent.
                (!is_shown() && child::is_ours(pid)).then_some(Identity { pid, start: Start(0) })
            }),
        }
    }

    /// The process that has `pid` now, told from one that only cannot be looked at: one that is hidden from
    /// us, or any where we lack a descriptor to look with.
    pub fn sight(pid: Pid) -> ProcessSight {
        if let Some(who) = Identity::of(pid) {
            return ProcessSight::Lives(who);
        }
        let in_use = nix::sys::signal::kill(pid.raw(), None) != Err(nix::errno::Errno::ESRCH);
        if !in_use || child::is_zombie(pid) {
            return ProcessSight::Gone;
        }
        match system::entry(pid) {
            // It has come, or can be looked at, since.
            Some(entry) if !entry.zombie => ProcessSight::Lives(entry.identity),
            Some(_) => ProcessSight::Gone,
            None => match Watch::blind(pid) {
                Ok(Some(_)) | Err(_) => ProcessSight::Unseen(system::unseen(pid)),
                Ok(None) => ProcessSight::Gone,
            },
        }
    }

    /// The live process that has `pid`, as the system's table has it.
    pub(super) fn look(pid: Pid) -> Option<Identity> {
        system::entry(pid).filter(|entry| !entry.zombie).map(|entry| entry.identity)
    }

    /// Whether this very process still lives; a zombie does not. One that the system does not show us (no
    /// /proc, or one that hides the processes of others) counts as alive as long as its pid is in use: what
    /// cannot be told is not taken for dead.
    pub fn alive(&self) -> bool {
        if let Some(lives) = child::lives(*self) {
            return lives;
        }
        match system::entry(self.pid) {
            Some(entry) => !entry.zombie && entry.identity == *self,
            None => match nix::sys::signal::kill(self.pid.raw(), None) {
                Ok(()) => !is_shown() && !child::is_zombie(self.pid),
                Err(errno) => errno == nix::errno::Errno::EPERM,
            },
        }
    }

    /// When it started, by the wall clock of now.
    pub fn started_at(&self) -> Option<SystemTime> {
        system::wall_clock(self.start)
    }
}

/// The process table, read once.
pub struct Table(Vec<Entry>);

impl Table {
    /// Reads it. Processes that come or go meanwhile may be missing.
    pub fn read() -> Table {
        Table(system::all())
    }

    /// All rows.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// `roots` and all their descendants that live, parents first.
    pub fn trees(&self, roots: &[Pid]) -> Vec<Identity> {
        let mut found: Vec<Identity> = Vec::new();
        let mut seen: std::collections::HashSet<i32> = roots.iter().map(|pid| pid.number()).collect();
        found.extend(
            self.0
                .iter()
                .filter(|entry| !entry.zombie && seen.contains(&entry.identity.pid.number()))
                .map(|entry| entry.identity),
        );
        loop {
            let before = seen.len();
            for entry in &self.0 {
                if seen.contains(&entry.parent) && seen.insert(entry.identity.pid.number()) && !entry.zombie {
                    found.push(entry.identity);
                }
            }
            if seen.len() == before {
                return found;
            }
        }
    }

    /// Whether `ancestor` is `pid` or one of its ancestors.
    pub fn descends(&self, pid: Pid, ancestor: Pid) -> bool {
        let mut at = pid.number();
        // The chain is bounded by the table, so that a torn read cannot loop.
        for _ in 0..=self.0.len() {
            if at == ancestor.number() {
                return true;
            }
            match self.0.iter().find(|entry| entry.identity.pid.number() == at) {
                Some(entry) if entry.parent != at => at = entry.parent,
                _ => return false,
            }
        }
        false
    }
}

/// Whether a process has `pid` at all, be it dead and not yet reaped.
pub fn exists(pid: Pid) -> bool {
    system::entry(pid).is_some()
}

/// Whether a process is stopped (SIGSTOP, or a debugger), as far as we may look.
pub fn is_stopped(pid: Pid) -> bool {
    system::is_stopped(pid)
}

/// The parent of a process, be that dead and not yet reaped.
pub fn parent_of(pid: Pid) -> Option<Pid> {
    Pid::new(system::entry(pid)?.parent)
}

/// Whether the system's table shows us processes at all: not in a root without /proc.
pub fn is_shown() -> bool {
    system::entry(Pid::own()).is_some()
}

/// The user that a process runs as, where the system tells.
pub fn user(pid: Pid) -> Option<u32> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt;
        Some(std::fs::metadata(format!("/proc/{pid}")).ok()?.uid())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pid;
        None
    }
}

/// A name of the pid namespace that we are in, where there are such.
pub fn namespace() -> Option<String> {
    let link = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// The paths of the files that a process has open, where the system tells and we may look (Linux).
pub fn open_files(pid: Pid) -> Vec<PathBuf> {
    let found = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    found.filter_map(|one| std::fs::read_link(one.path()).ok()).collect()
}

/// The session of a process, by its leader (getsid(2)).
pub fn session(pid: Pid) -> Option<Pid> {
    nix::unistd::getsid(Some(pid.raw())).ok().and_then(|leader| Pid::new(leader.as_raw()))
}

/// Sends a signal to this very process, which may be none of our children; nothing happens when it is dead.
pub(super) fn signal(who: Identity, number: i32) {
    #[cfg(target_os = "linux")]
    if let Ok(fd) = system::watch(who.pid) {
        // The descriptor is of whoever has the pid now; if that is not the one, it is nobody's.
        if who.alive() {
            system::signal(&fd, number);
        }
        return;
    }
    if who.alive() {
        // SAFETY: kill(2) with integers.
        unsafe { libc::kill(who.pid.number(), number) };
    }
}

/// A descriptor of a process (pidfd_open(2)).
#[cfg(target_os = "linux")]
pub(super) fn descriptor(pid: Pid) -> io::Result<OwnedFd> {
    system::watch(pid)
}

/// The command name of a process, for people.
pub fn name(pid: Pid) -> Option<String> {
    system::name(pid)
}

/// A watch over one process: tells its death without polling where the system can (pidfd_open(2), kqueue(2)).
pub struct Watch {
    identity: Identity,
    fd: Option<OwnedFd>,
}

impl Watch {
    /// Watches the process that has `pid` now; `None` when it is dead already. One that cannot be looked at
    /// is watched by a descriptor of it.
    ///
    /// # Errors
    /// Those of the system's watch. One that the kernel does not offer (before Linux 5.3, or a sandbox) falls
    /// back to asking, where the process can be looked at.
    pub fn new(pid: Pid) -> io::Result<Option<Watch>> {
        match Identity::sight(pid) {
            ProcessSight::Lives(identity) => Watch::over(identity),
            ProcessSight::Gone => Ok(None),
            ProcessSight::Unseen(why) => {
                Watch::blind(pid).map_err(|_| io::Error::other(format!("it exists, but {why}")))
            }
        }
    }

    /// Watches whoever has `pid` by a descriptor alone, and never asks who that is; `None` when it is dead.
    fn blind(pid: Pid) -> io::Result<Option<Watch>> {
        match system::watch(pid) {
            Ok(fd) => {
                let watch = Watch { identity: Identity { pid, start: Start(0) }, fd: Some(fd) };
                Ok((!watch.dead()).then_some(watch))
            }
            Err(cause) if cause.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    /// Watches this very process; `None` when it is dead already.
    ///
    /// # Errors
    /// As `new`.
    pub fn over(identity: Identity) -> io::Result<Option<Watch>> {
        let fd = match child::watch(identity).unwrap_or_else(|| system::watch(identity.pid)) {
            Ok(fd) => Some(fd),
            Err(cause) if cause.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            Err(cause) if matches!(cause.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => None,
            Err(cause) => return Err(cause),
        };
        // The pid may have been reused between the identity and the descriptor.
        if !identity.alive() {
            return Ok(None);
        }
        Ok(Some(Watch { identity, fd }))
    }

    /// Who is watched.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Readable once the process is dead; `None` where the system must be asked instead.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Whether it is dead by now.
    pub fn dead(&self) -> bool {
        self.wait(Instant::now())
    }

    /// Waits for its death, at most until `until`; says whether it came.
    pub fn wait(&self, until: Instant) -> bool {
        if let Some(fd) = self.fd() {
            return poll::wait(&[(fd, poll::For::Reading)], Some(until)).is_ok_and(|ready| ready[0]);
        }
        while self.identity.alive() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// How it ended, where the system tells one who is not its parent: Linux, while it is a zombie of ours,
    /// and since 6.15 once it was reaped. Never a guess.
    pub fn ending(&self) -> Option<Ending> {
        system::ending(self.identity, self.fd()?)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Its exit.
    pub exit: Exit,
    /// Whether it left a core.
    pub core: bool,
}

impl Ending {
    /// From the status word of wait(2).
    pub fn from_wait_status(word: i32) -> Ending {
        Ending { exit: Exit::from_wait_status(word), core: libc::WIFSIGNALED(word) && libc::WCOREDUMP(word) }
    }
}

/// What a process uses now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vitals {
    /// Memory that is in use, in KiB.
    pub resident: u64,
    /// Threads.
    pub threads: u32,
    /// Open descriptors; `None` where we may not look.
    pub descriptors: Option<u32>,
}

impl Vitals {
    /// Those of the process that has `pid` now; `None` when it is dead.
    pub fn of(pid: Pid) -> Option<Vitals> {
        system::vitals(pid)
    }
}

/// Processes in whose environment the value of `name` passes `test`: what a dead parent has left, wherever it
/// went. Only those whose environment we may see.
pub fn marked(name: &str, test: impl Fn(&str) -> bool) -> Vec<Identity> {
    let bears = |identity: &Identity| variable(identity.pid, name).is_some_and(|found| test(&found));
    let table = Table::read();
    let alive = table.entries().iter().filter(|entry| !entry.zombie && entry.identity.pid != Pid::own());
    alive.map(|entry| entry.identity).filter(bears).collect()
}

/// The value of a variable in the environment that a process was started with; `None` also where we may not
/// look.
pub fn variable(pid: Pid, name: &str) -> Option<String> {
    let environment = system::environment(pid)?;
    let value = environment.iter().find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// The pids of our children, adopted ones too, where the kernel has a list of them
/// (/proc/PID/task/TID/children, CONFIG_PROC_CHILDREN): one short read instead of one for each process of the
/// machine.
pub fn children() -> Option<Vec<Pid>> {
    system::children()
}

/// The pids of the children of a process, where the kernel has a list of them.
pub fn children_of(pid: Pid) -> Option<Vec<Pid>> {
    system::children_of(pid)
}

/// The arguments of a process; they may hold secrets. `None` where we may not look.
pub fn arguments(pid: Pid) -> Option<Vec<OsString>> {
    system::arguments(pid)
}

/// The program that a process runs, where we may look. On Linux it can be run even when its file was
/// replaced.
pub fn program(pid: Pid) -> Option<PathBuf> {
    system::program(pid)
}
