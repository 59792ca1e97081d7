//! What people wish of single entries: that one stays down, that it runs, once or again.

use crate::act::group::entry::{EntryHealth, EntryKind, Life};
use crate::act::group::machine::GroupMachine;

impl GroupMachine {
    /// Holds an entry before anything has started.
    pub fn hold(&mut self, number: usize) {
        self.entries[number].held = true;
        self.stale = true;
    }

    pub(super) fn release(&mut self, number: usize) {
        let entry = &mut self.entries[number];
        (entry.held, entry.once) = (false, false);
        match entry.life {
            Life::Resting(_) => (entry.life, entry.restarts) = (Life::Down, 0),
            Life::Over if entry.health != EntryHealth::Success => {
                (entry.life, entry.restarts) = (Life::Down, 0);
            }
            // One that serves no more is being ended for a new start, which comes at once then.
            Life::Stopping(_) => entry.bounced |= entry.hung.is_some(),
            // Once what it has left is gone it does not rest, but begins.
            Life::Sweeping(_, Some(exit)) => {
                entry.bounced |= entry.rules.kind != EntryKind::Oneshot || !exit.success();
            }
            _ => {}
        }
    }

    pub(super) fn bounce(&mut self, number: usize) {
        let entry = &mut self.entries[number];
        entry.bounced = true;
        if let Life::Resting(_) | Life::Over = entry.life {
            entry.life = Life::Down;
            entry.restarts = 0;
        }
    }

    /// It runs now, and is not started again when it ends.
    pub(super) fn once(&mut self, number: usize) {
        if self.entries[number].rules.kind == EntryKind::Oneshot {
            self.bounce(number);
        }
        self.release(number);
        self.entries[number].once = true;
    }
}
