//! Processes and all that descends from them, also what was seen while its parent lived and has lost it
//! since: a server that makes itself a daemon ends, and its child serves.

use crate::sys::process::{self, Identity, Pid, Table};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Some processes and their descendants, known by pid and start time. Clones know the same.
#[derive(Clone, Debug, Default)]
pub struct Lineage {
    roots: Vec<Pid>,
    known: Arc<Mutex<HashMap<Pid, Identity>>>,
}

impl Lineage {
    /// Of these processes, as far as they live now.
    pub fn of(roots: impl IntoIterator<Item = Pid>) -> Lineage {
        let roots: Vec<Pid> = roots.into_iter().collect();
        let known = roots.iter().filter_map(|pid| Some((*pid, Identity::of(*pid)?))).collect();
        Lineage { roots, known: Arc::new(Mutex::new(known)) }
    }

    /// Those that it began with.
    pub fn roots(&self) -> &[Pid] {
        &self.roots
    }

    /// All that live now.
    pub fn members(&self) -> Vec<Identity> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, one| one.alive());
        learn(&mut known);
        let mut all: Vec<Identity> = known.values().copied().collect();
        all.sort_by_key(|one| (one.start, one.pid));
        all
    }

    /// Learns which children those have that are known. It may have to be asked often, for a parent that ends
    /// takes the knowledge with it.
    pub fn learn(&self) {
        learn(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Some short reads for each, where the kernel lists the children of a process; else the whole table.
fn learn(known: &mut HashMap<Pid, Identity>) {
    let mut unasked: Vec<Identity> = known.values().copied().collect();
    while let Some(one) = unasked.pop() {
        // Before its children are asked for: it may end just after, and they count all the same.
        if !one.alive() {
            continue;
        }
        let Some(children) = process::children_of(one.pid) else {
            let roots: Vec<Pid> = known.values().filter(|one| one.alive()).map(|one| one.pid).collect();
            for one in Table::read().trees(&roots) {
                known.entry(one.pid).or_insert(one);
            }
            return;
        };
        for child in children.into_iter().filter_map(Identity::of) {
            if known.insert(child.pid, child) != Some(child) {
                unasked.push(child);
            }
        }
    }
}
