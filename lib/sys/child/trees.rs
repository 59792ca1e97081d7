//! All that comes of a process, wherever it went: found, told to end, killed.

use super::signal;
use crate::sys::process::{Identity, Pid, Table};
use crate::sys::signal::Signal;
use std::time::{Duration, Instant};

/// The live members of a job: `roots` with their descendants, and whoever is left in a session that one of
/// them led, even when the leader is dead; without the trees of `spared`.
pub fn members(roots: &[Identity], spared: &[Pid]) -> Vec<Identity> {
    let table = Table::read();
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

/// Live children of ours that are not among `known`: orphans that we have adopted.
pub fn adopted(known: &[Pid]) -> Vec<Identity> {
    let own = Pid::own();
    let table = Table::read();
    let ours = table.entries().iter().filter(|entry| {
        entry.parent == own.number() && !entry.zombie && !known.contains(&entry.identity.pid)
    });
    ours.map(|entry| entry.identity).collect()
}

/// Kills `roots` and all their descendants but those of `spared`, again until none is left: one that forks
/// meanwhile is met in the next round.
pub fn kill_trees(roots: &[Identity], spared: &[Pid]) {
    for _ in 0..100 {
        let alive = members(roots, spared);
        if alive.is_empty() {
            return;
        }
        for one in alive {
            signal(one, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Ends `roots` and all that is left of them: TERM, and what is alive after `patience` is killed.
pub fn end_trees(roots: &[Identity], patience: Duration) {
    members(roots, &[]).into_iter().for_each(|one| signal(one, Signal::SIGTERM));
    let until = crate::sys::clock::after(Instant::now(), patience);
    while !members(roots, &[]).is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    kill_trees(roots, &[]);
}
