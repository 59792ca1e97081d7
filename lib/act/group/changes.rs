//! What has become of entries lately, numbered: whoever has asked for something follows it here, and misses
//! no change between two of its questions.

use crate::act::group::state::EntryState;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// So many are kept.
const KEPT: usize = 512;

/// A change of one entry.
#[derive(Clone, Debug)]
pub(super) struct EntryChange {
    pub(super) id: String,
    pub(super) state: EntryState,
    pub(super) message: Option<String>,
    pub(super) pid: Option<i32>,
}

impl EntryChange {
    /// The change in a line for people.
    pub(super) fn words(&self) -> String {
        words(&self.id, self.state.word(), self.message.as_deref())
    }
}

/// An entry, its state and what there is to say about it, in a line for people.
pub(super) fn words(id: &str, state: &str, message: Option<&str>) -> String {
    match (state, message) {
        (_, None) => format!("{id}: {state}"),
        ("waiting", Some(message)) => format!("{id}: {state} {message}"),
        (_, Some(message)) => format!("{id}: {state}: {message}"),
    }
}

/// The latest changes.
#[derive(Debug, Default)]
pub(super) struct EntryChanges {
    /// How many there have been.
    count: u64,
    latest: VecDeque<EntryChange>,
}

impl EntryChanges {
    pub(super) fn add(&mut self, change: EntryChange) {
        self.count += 1;
        self.latest.push_back(change);
        if self.latest.len() > KEPT {
            self.latest.pop_front();
        }
    }

    /// How many there have been.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Those after the first `after`, of the entries that `wanted` names; whether some of them are not known
    /// any more.
    pub(super) fn since(&self, after: u64, wanted: impl Fn(&str) -> bool) -> (Vec<Value>, bool) {
        let first = self.count - self.latest.len() as u64;
        let known = self
            .latest
            .iter()
            .zip(first + 1..)
            .filter(|(change, number)| *number > after && wanted(&change.id));
        let changes = known.map(|(change, number)| {
            json!({
                "number": number, "id": change.id, "state": change.state.word(),
                "message": change.message, "pid": change.pid
            })
        });
        (changes.collect(), after < first)
    }
}
