//! A group whose file has changed: what is new comes, what is gone leaves, what stays goes on.

use crate::act::group::entry::{EntryKind, EntryRules, GroupEntry, RestartPauses, RestartWhen};
use crate::act::group::machine::GroupMachine;
use std::time::Duration;

impl GroupMachine {
    /// Takes new rules. `kept` says, for each of them, which of the old entries it goes on as; others leave,
    /// once what needed them is down, and what stays and needs what is new is stopped and started. Says where
    /// each old entry is now.
    pub fn reload(&mut self, rules: Vec<EntryRules>, kept: &[Option<usize>]) -> Vec<usize> {
        self.stale = true;
        let old = std::mem::take(&mut self.entries);
        let count = rules.len();
        let mut paths: Vec<Option<usize>> = vec![None; old.len()];
        for (new, from) in kept.iter().enumerate() {
            from.iter().for_each(|from| paths[*from] = Some(new));
        }
        let mut next = count;
        let paths: Vec<usize> = paths
            .into_iter()
            .map(|paths| {
                paths.unwrap_or_else(|| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        let mut entries: Vec<GroupEntry> = rules.into_iter().map(GroupEntry::new).collect();
        entries.extend((count..next).map(|_| GroupEntry::new(leaving())));
        for (number, mut entry) in old.into_iter().enumerate() {
            let at = paths[number];
            entry.dependents = entry.dependents.iter().map(|one| paths[*one]).collect();
            entry.replaces = entry.replaces.iter().map(|one| paths[*one]).collect();
            if at < count {
                // Its needs are those of the new rules, by their new places.
                entry.rules = entries[at].rules.clone();
            } else {
                entry.leaving = true;
                entry.rules.needs = Vec::new();
                if let Some(new) = entries.iter().take(count).position(|one| one.rules.id == entry.rules.id) {
                    entries[new].replaces.push(at);
                    // What somebody has stopped is not started by a change of its rules.
                    entries[new].held = entry.held;
                }
            }
            entries[at] = entry;
        }
        self.entries = entries;
        self.link();
        // What is new, and what needs it, begins from scratch.
        let mut fresh: Vec<bool> =
            (0..self.entries.len()).map(|number| number < count && kept[number].is_none()).collect();
        for number in 0..count {
            fresh[number] = fresh[number] || self.entries[number].rules.needs.iter().any(|need| fresh[*need]);
            if fresh[number] && kept[number].is_some() {
                self.bounce(number);
            }
        }
        paths
    }

    /// Forgets those who have left and are down. Says which places were kept, in order; the others are gone.
    pub fn forget(&mut self) -> Vec<usize> {
        let gone: Vec<bool> = self.entries.iter().map(|entry| entry.leaving && !entry.alive()).collect();
        let stay: Vec<usize> = (0..gone.len()).filter(|number| !gone[*number]).collect();
        if stay.len() < gone.len() {
            self.stale = true;
            let paths = |number: &usize| stay.iter().position(|one| one == number);
            for entry in &mut self.entries {
                for list in [&mut entry.dependents, &mut entry.replaces, &mut entry.rules.needs] {
                    *list = list.iter().filter_map(paths).collect();
                }
            }
            let mut number = 0;
            self.entries.retain(|_| {
                number += 1;
                !gone[number - 1]
            });
        }
        stay
    }
}

/// What stands in a place until the one who leaves is put there.
fn leaving() -> EntryRules {
    let zero = Duration::ZERO;
    let restart = RestartPauses {
        when: RestartWhen::Never,
        initial: zero,
        step: zero,
        cap: zero,
        reset_after: zero,
        max: None,
    };
    EntryRules {
        id: String::new(),
        kind: EntryKind::Check,
        needs: Vec::new(),
        ignores: false,
        ready: None,
        live: None,
        restart,
        stop_timeout: zero,
        kill_grace: None,
    }
}
