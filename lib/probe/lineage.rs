//! Processes and all that descends from them, also what was seen while its parent lived and has lost it since:
//! a server that makes itself a daemon ends, and its child serves.

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
        let table = Table::read();
        let seen: HashMap<Pid, Identity> = table
            .entries()
            .iter()
            .filter(|entry| !entry.zombie)
            .map(|entry| (entry.identity.pid, entry.identity))
            .collect();
        // Whoever is not shown is asked for one by one: a child of ours is known without a table.
        known.retain(|pid, one| seen.get(pid).map_or_else(|| one.alive(), |found| found == one));
        let roots: Vec<Pid> = known.keys().copied().collect();
        let mut all: Vec<Identity> = table.trees(&roots);
        all.extend(known.values().filter(|one| !seen.contains_key(&one.pid)));
        known.extend(all.iter().map(|one| (one.pid, *one)));
        all.sort_by_key(|one| (one.start, one.pid));
        all
    }

    /// Learns which children those have that are known, for less than `members` costs where the kernel lists
    /// them; it may have to be asked often, for a parent that ends takes the knowledge with it.
    pub fn learn(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unasked: Vec<Identity> = known.values().copied().collect();
        while let Some(one) = unasked.pop() {
            // Before its children are asked for: it may end just after, and they count all the same.
            if Identity::of(one.pid) != Some(one) {
                continue;
            }
            let Some(children) = process::children_of(one.pid) else {
                drop(known);
                self.members();
                return;
            };
            for child in children.into_iter().filter_map(Identity::of) {
                if known.insert(child.pid, child) != Some(child) {
                    unasked.push(child);
                }
            }
        }
    }
}

impl FromIterator<Pid> for Lineage {
    fn from_iter<I: IntoIterator<Item = Pid>>(roots: I) -> Lineage {
        Lineage::of(roots)
    }
}
