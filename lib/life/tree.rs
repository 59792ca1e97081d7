//! What comes of a process as the system's table has it: its descendants, and whoever is in a session that it
//! led. The way of a wall where there is no cgroup.

use super::wall::MARK;
use crate::sys::child::{self, Signal};
use crate::sys::process::{self, Identity, Pid, Table};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a tree is killed anew, at least: one that forks meanwhile is met in the next round.
const ROUNDS: u32 = 20;
/// How long it is, at least.
const PATIENCE: Duration = Duration::from_secs(1);

/// The marks of orphans of ours, by their pids, and how many orphans had been reaped when they were read: a
/// pid is not given away before.
static MARKS: Mutex<(u64, BTreeMap<Pid, Option<String>>)> = Mutex::new((0, BTreeMap::new()));

/// The live processes that come of `roots`: they themselves, their descendants, and whoever is left in a
/// session that one of them led, even when the leader is dead; without the trees of `spared`, and without us.
pub(super) fn tree(roots: &[Identity], spared: &[Pid]) -> Vec<Identity> {
    within(&Table::read(), roots, spared)
}

pub(super) fn within(table: &Table, roots: &[Identity], spared: &[Pid]) -> Vec<Identity> {
    let holder = |pid: Pid| table.entries().iter().find(|entry| entry.identity.pid == pid && !entry.zombie);
    // A pid is not given away while a session bears it; if another process has it now, that session is a
    // stranger's.
    let ours: Vec<Pid> = roots
        .iter()
        .filter(|root| holder(root.pid).is_none_or(|entry| entry.identity == **root))
        .map(|root| root.pid)
        .collect();
    // Our own session holds whoever started us too.
    let led = |session: i32| ours.iter().any(|pid| pid.number() == session && *pid != Pid::own());
    let left = table.entries().iter().filter(|entry| led(entry.session)).map(|entry| entry.identity.pid);
    let seeds: Vec<Pid> = ours.iter().copied().chain(left).collect();
    let kept = table.trees(spared);
    let mut found = table.trees(&seeds);
    found.retain(|one| !kept.contains(one) && one.pid != Pid::own());
    found
}

/// Children of ours that we have not started: orphans that have fallen to us (`child::adopt_orphans`). The
/// dead among them too, until they are reaped.
pub(super) fn adopted() -> Vec<Pid> {
    if child::childless() {
        return Vec::new();
    }
    let known = child::known();
    if !process::is_shown() {
        return child::strangers();
    }
    let all = process::children().unwrap_or_else(|| {
        let own = Pid::own().number();
        let table = Table::read();
        let ours = table.entries().iter().filter(|entry| entry.parent == own && !entry.zombie);
        ours.map(|entry| entry.identity.pid).collect()
    });
    all.into_iter().filter(|pid| !known.contains(pid)).collect()
}

/// The same with the marks that they bear. An environment is read once for each: what replaces its own later
/// is still of the life that it was started in.
pub(super) fn marked_orphans() -> Vec<(Pid, Option<String>)> {
    let orphans = adopted();
    let mut marks = MARKS.lock().unwrap_or_else(PoisonError::into_inner);
    let reaped = child::orphans_reaped();
    if marks.0 != reaped || orphans.is_empty() {
        *marks = (reaped, BTreeMap::new());
    }
    let mark = |pid: Pid| {
        let known = marks.1.entry(pid).or_insert_with(|| process::variable(pid, MARK)).clone();
        (pid, known)
    };
    orphans.into_iter().map(mark).collect()
}

/// Ends `roots` and all that comes of them: TERM and CONT, and what is alive after `patience` is killed.
/// Returns when nothing of it is left; whether that is so.
fn end_tree(roots: &[Identity], patience: Duration) -> bool {
    super::wall::end(&|| tree(roots, &[]), Signal::SIGTERM, patience)
}

/// Ends all that comes of this process, as far as it is still known to be ours: TERM, and what is alive after
/// `patience` is killed. Returns when nothing of it is left.
pub fn end_descendants(patience: Duration) -> bool {
    child::collect();
    child::childless() || end_tree(&[Identity::own()], patience)
}

/// Kills what `find` finds until it finds nothing. What cannot be killed (in the kernel, a disk that does not
/// answer) is waited for a second, and left.
pub(super) fn kill_until_gone(find: impl Fn() -> Vec<Identity>) -> bool {
    kill_until(find, ROUNDS, PATIENCE)
}

/// The same with a patience of the caller's: so many rounds, and so long, at least.
pub(super) fn kill_until(find: impl Fn() -> Vec<Identity>, least: u32, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    let mut rounds = 0;
    loop {
        let alive = find();
        if alive.is_empty() {
            return true;
        }
        if rounds >= least && Instant::now() >= until {
            return false;
        }
        rounds += 1;
        alive.into_iter().for_each(|one| child::signal(one, Signal::SIGKILL));
        std::thread::sleep(Duration::from_millis(1));
    }
}
