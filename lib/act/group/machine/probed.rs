//! What a machine makes of answers: whether an entry is ready, and whether it still serves.

use super::{GroupAction, GroupMachine, Said, tell};
use crate::act::group::entry::{EntryHealth, GroupEntry};
use crate::probe::liveness::LiveVerdict;
use std::time::{Duration, Instant};

impl GroupMachine {
    pub(super) fn probed(&mut self, now: Instant, number: usize, said: Said, soon: Duration) {
        let entry = &mut self.entries[number];
        let Some(ready) = entry.rules.ready else { return };
        let was = entry.health == EntryHealth::Success;
        match said {
            Said::Ready => {
                (entry.good, entry.bad) = (entry.good + 1, 0);
                if entry.good >= ready.successes {
                    entry.health = EntryHealth::Success;
                    entry.healthy.get_or_insert(now);
                    watch(now, entry);
                }
            }
            Said::Loading(message) => {
                (entry.good, entry.bad) = (0, 0);
                entry.health = EntryHealth::Loading(message);
                entry.healthy = None;
            }
            Said::Not(message) => {
                (entry.good, entry.bad) = (0, entry.bad + 1);
                if !was || entry.bad >= ready.failures {
                    entry.healthy = None;
                    let young = entry
                        .launched
                        .is_some_and(|launched| now.saturating_duration_since(launched) <= ready.grace);
                    entry.health = if young && !was {
                        EntryHealth::Starting(Some(message))
                    } else {
                        EntryHealth::Failure(message)
                    };
                }
            }
        }
        let pause = match &entry.health {
            // A failure that does not count yet is looked into soon.
            EntryHealth::Success if entry.bad > 0 => ready.intervals.failure,
            EntryHealth::Success => ready.intervals.success,
            EntryHealth::Loading(_) => ready.intervals.loading,
            EntryHealth::Failure(_) => ready.intervals.failure,
            _ => ready.intervals.starting.unwrap_or(soon),
        };
        entry.probe = Some(now + pause);
    }

    /// One that serves no more is stopped and started again, as if it had crashed: what needs it does not
    /// wait for that.
    pub(super) fn lived(
        &mut self,
        now: Instant,
        number: usize,
        why: Option<String>,
        took: Duration,
        todo: &mut Vec<GroupAction>,
    ) {
        let entry = &mut self.entries[number];
        let Some(rules) = entry.rules.live else { return };
        match rules.judge(&mut entry.answers, why.is_none(), took) {
            LiveVerdict::Again(pause) => entry.live = Some(now + pause),
            LiveVerdict::Lost => {
                let why = format!("does not serve any more: {}", why.unwrap_or_default());
                (entry.probe, entry.health) = (None, EntryHealth::Failure(why.clone()));
                entry.hung = Some(why);
                tell(now, number, entry, todo);
            }
        }
    }
}

/// It is ready: from now on it is asked whether that lasts.
pub(super) fn watch(now: Instant, entry: &mut GroupEntry) {
    if !std::mem::replace(&mut entry.lives, true) {
        entry.live = entry.rules.live.map(|live| now + live.interval);
    }
}
