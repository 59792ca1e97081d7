//! The children that we have started and not yet reaped, so that each is signalled and awaited by its pid
//! alone: a pid is not given away before it is reaped.

use super::Exit;
use crate::sys::process::{Identity, Pid, Start, Watch};
use crate::sys::signal::SignalNumber;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What is known of a child.
struct Own {
    start: Start,
    /// Readable when it is dead, where the kernel has given us one.
    pidfd: Option<OwnedFd>,
    /// Whether a caller awaits it by itself; then `reap` leaves it here.
    claimed: bool,
    exit: Option<Exit>,
}

static ORPHANS: AtomicU64 = AtomicU64::new(0);

static TABLE: Mutex<BTreeMap<i32, Own>> = Mutex::new(BTreeMap::new());

fn table() -> MutexGuard<'static, BTreeMap<i32, Own>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a child by `fork`, which returns its pid and a descriptor of it, and enters it before anybody could
/// reap it.
pub(super) fn enter(
    claimed: bool,
    fork: impl FnOnce() -> io::Result<(Pid, Option<OwnedFd>)>,
) -> io::Result<Pid> {
    let mut table = table();
    let (pid, pidfd) = fork()?;
    table.insert(pid.number(), Own { start: Start(0), pidfd, claimed, exit: None });
    Ok(pid)
}

/// Notes when a child has started, unless that is `untold`, and whether its caller awaits it; the identity
/// that it has from then on.
pub(super) fn settle(pid: Pid, claimed: bool, untold: bool) -> Identity {
    // A child keeps its pid until it is reaped, so it is no other process whose start is read here; one that
    // is dead already, or a root without /proc, leaves it at 0.
    let found = if untold { None } else { Identity::look(pid) };
    let start = found.map_or(Start(0), |found| found.start);
    if let Some(own) = table().get_mut(&pid.number()) {
        (own.start, own.claimed) = (start, claimed);
    }
    Identity { pid, start }
}

/// The child of ours that has this pid, dead or alive, if it is not reaped.
pub(crate) fn identity(pid: Pid) -> Option<Identity> {
    table().get(&pid.number()).filter(|own| own.exit.is_none()).map(|own| Identity { pid, start: own.start })
}

/// Whether a child of ours lives; `None` when it is none of ours.
pub(crate) fn lives(who: Identity) -> Option<bool> {
    let table = table();
    let own = table.get(&who.pid.number()).filter(|own| own.start == who.start)?;
    Some(own.exit.is_none() && !dead(who.pid))
}

/// Whether an unreaped child is dead. It stays unreaped.
fn dead(pid: Pid) -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: a zeroed siginfo_t is a valid one, and it outlives the call.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let outcome = libc::waitid(libc::P_PID, pid.number().cast_unsigned(), &raw mut info, flags);
        // Where it is no child any more there is nobody to wait for.
        outcome < 0 || info.si_pid() != 0
    }
}

/// All children that we have started and not reaped: the rest of our children are orphans that we have
/// adopted.
pub fn known() -> Vec<Pid> {
    table().keys().filter_map(|number| Pid::new(*number)).collect()
}

/// The claimed children of all threads: helpers, none of what a keeper keeps.
pub fn helpers() -> Vec<Pid> {
    let claimed = |(number, own): (&i32, &Own)| own.claimed.then(|| Pid::new(*number)).flatten();
    table().iter().filter_map(claimed).collect()
}

/// A watch over a child of ours, by the descriptor that it was made with; `None` when it is none of ours, or
/// the kernel gave none.
pub(crate) fn watch(who: Identity) -> Option<io::Result<OwnedFd>> {
    let table = table();
    let own = table.get(&who.pid.number()).filter(|own| own.start == who.start && own.exit.is_none())?;
    own.pidfd.as_ref().map(|fd| fd.as_fd().try_clone_to_owned())
}

/// From now on the caller awaits this child itself; `reap` leaves it alone.
pub fn claim(pid: Pid) {
    if let Some(own) = table().get_mut(&pid.number()) {
        own.claimed = true;
    }
}

/// Nobody awaits this child any more; `reap` takes it.
pub fn release(pid: Pid) {
    if let Some(own) = table().get_mut(&pid.number()) {
        own.claimed = false;
    }
}

/// Waits for a child of ours that is dead or dying; `None` when somebody else has reaped it.
pub fn wait(pid: Pid) -> Option<Exit> {
    let waited = loop {
        let mut word = 0;
        // SAFETY: the word outlives the call.
        let outcome = unsafe { libc::waitpid(pid.number(), &raw mut word, 0) };
        match outcome {
            // Stops and continuations are not asked for; what comes is an end, by any signal of the system.
            found if found == pid.number() => break Some(Exit::from_wait_status(word)),
            _ if io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {}
            _ => break None,
        }
    };
    let noted = table().remove(&pid.number()).and_then(|own| own.exit);
    waited.or(noted)
}

/// The same until a moment; `None` when it lives on, and stays claimed.
pub fn await_exit(who: Identity, until: Instant) -> Option<Exit> {
    let gone = match Watch::over(who) {
        Ok(Some(watch)) => watch.wait(until),
        _ => true,
    };
    gone.then(|| wait(who.pid)).flatten()
}

/// Every child that we have started and that is dead by now, but for the claimed: its pid and how it ended.
pub fn reap() -> Vec<(Pid, Exit)> {
    collect();
    let mut found = Vec::new();
    table().retain(|number, own| match (own.claimed, own.exit, Pid::new(*number)) {
        (false, Some(exit), Some(pid)) => {
            found.push((pid, exit));
            false
        }
        _ => true,
    });
    found
}

/// Takes all dead children from the kernel. How ours have ended is kept for `reap` and `wait`; orphans that
/// we have adopted are nobody's matter any more.
pub fn collect() {
    // Held throughout: a child is entered before it can be found here.
    let mut table = table();
    loop {
        let mut word = 0;
        // The raw word, for a library that knows no real-time signals loses those that died of one, after the
        // kernel has forgotten them.
        // SAFETY: the word outlives the call.
        let number = unsafe { libc::waitpid(-1, &raw mut word, libc::WNOHANG) };
        if number < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) {
            continue;
        }
        if number <= 0 {
            return;
        }
        match table.get_mut(&number) {
            Some(own) => own.exit = Some(Exit::from_wait_status(word)),
            None => drop(ORPHANS.fetch_add(1, Ordering::SeqCst)),
        }
    }
}

/// How many orphans that had fallen to us are reaped by now: until there is another one, the pids of the rest
/// are their own.
pub fn orphans_reaped() -> u64 {
    ORPHANS.load(Ordering::SeqCst)
}

/// Whether we surely have no child at all, dead or alive (Linux; never sure elsewhere). Of one that adopts
/// orphans nothing is left then, wherever it went; asked without a look at all processes of the machine.
pub fn childless() -> bool {
    #[cfg(target_os = "linux")]
    {
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: a zeroed siginfo_t is a valid one, and it outlives the call.
        let outcome = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_ALL, 0, &raw mut info, flags)
        };
        outcome < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD)
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// Whether a process is a dead child of ours that is not reaped yet, started by us or adopted.
pub(crate) fn is_zombie(pid: Pid) -> bool {
    is_ours(pid) && dead(pid)
}

/// Whether a process is a child of ours, dead or alive, also one that we have adopted.
pub(crate) fn is_ours(pid: Pid) -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: a zeroed siginfo_t is a valid one, and it outlives the call.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_PID, pid.number().cast_unsigned(), &raw mut info, flags) == 0
    }
}

/// The children of ours that we have not started, found by asking the kernel of each number that a process
/// may have: for a root without /proc, where nothing else tells of them. Takes up to a second.
pub(crate) fn strangers() -> Vec<Pid> {
    /// The kernel's default, and its limit (PID_MAX_DEFAULT, PID_MAX_LIMIT).
    const RANGES: [std::ops::Range<i32>; 2] = [1..32_768, 32_768..4_194_304];
    let known = known();
    for range in RANGES {
        let found: Vec<Pid> =
            range.filter_map(Pid::new).filter(|pid| is_ours(*pid) && !known.contains(pid)).collect();
        // The second range is for those who surely have some, and only them.
        if !found.is_empty() || !known.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// Sends `signal` to this very process; nothing happens when it is dead.
pub fn signal(who: Identity, signal: impl Into<SignalNumber>) {
    signal_number(who, signal.into().number());
}

/// Sends `signal` to the process group that a child of ours leads; nothing happens when it is reaped.
pub fn signal_group(who: Identity, signal: impl Into<SignalNumber>) {
    let number = signal.into().number();
    let table = table();
    if table.get(&who.pid.number()).is_some_and(|own| own.start == who.start && own.exit.is_none()) {
        // Not reaped while the table is held, so the group that its session began with is its own.
        // SAFETY: kill(2) with integers.
        unsafe { libc::kill(-who.pid.number(), number) };
    }
}

/// The same as `signal` for any number, real-time signals too.
pub fn signal_number(who: Identity, number: i32) {
    {
        let table = table();
        if table.get(&who.pid.number()).is_some_and(|own| own.start == who.start && own.exit.is_none()) {
            // Not reaped while the table is held, so the pid is its own.
            // SAFETY: kill(2) with integers.
            unsafe { libc::kill(who.pid.number(), number) };
            return;
        }
    }
    crate::sys::process::signal(who, number);
}
