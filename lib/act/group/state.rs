//! In which state an entry is, for those who ask: one word that says all of it, whether its process lives,
//! what it said last, and what comes next.

use crate::act::group::entry::{EntryHealth, EntryKind, GroupEntry, Life, RestartWhen};
use crate::act::group::machine::GroupMachine;

/// How an entry fares, in the words that every program of the toolkit uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// For what it needs.
    Waiting,
    /// It was started, and is not ready yet.
    Starting,
    /// It is ready.
    Ready,
    /// It is to stop: its dependents first, then it, then what it has left.
    Stopping,
    /// It ended, and is started again after a pause.
    Backoff,
    /// It is not ready, or it ended and is not started again.
    Failed,
    /// It has done its work.
    Done,
    /// It was stopped by hand, or with its group.
    Disabled,
}

impl EntryState {
    /// All of them, the good ones first.
    pub(super) const ALL: [EntryState; 8] = [
        EntryState::Ready,
        EntryState::Done,
        EntryState::Starting,
        EntryState::Waiting,
        EntryState::Backoff,
        EntryState::Failed,
        EntryState::Stopping,
        EntryState::Disabled,
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            EntryState::Waiting => "waiting",
            EntryState::Starting => "starting",
            EntryState::Ready => "ready",
            EntryState::Stopping => "stopping",
            EntryState::Backoff => "backoff",
            EntryState::Failed => "failed",
            EntryState::Done => "done",
            EntryState::Disabled => "disabled",
        }
    }
}

impl GroupEntry {
    /// What there is to say about its state.
    pub fn message(&self, state: EntryState) -> Option<&str> {
        // One that stops has a message only where it is stopped for what that says.
        let mute = [EntryState::Waiting, EntryState::Ready, EntryState::Done, EntryState::Disabled];
        self.health.message().filter(|_| !mute.contains(&state))
    }

    /// Whether it has been told to stop, or soon will be.
    pub(super) fn is_to_stop(&self) -> bool {
        self.held || self.bounced || self.leaving
    }

    /// Whether it is started again after an end of this kind.
    fn comes_again(&self, well: bool) -> bool {
        let rules = self.rules.restart;
        let wanted = match rules.when {
            RestartWhen::Never => false,
            RestartWhen::OnFailure => !well,
            RestartWhen::Always => true,
        };
        wanted && !self.once && rules.max.is_none_or(|max| self.restarts < max)
    }
}

impl GroupMachine {
    /// In which state an entry is.
    pub fn state(&self, number: usize) -> EntryState {
        let entry = &self.entries[number];
        match entry.life {
            Life::Stopping(_) | Life::Sweeping(_, None) => EntryState::Stopping,
            Life::Starting | Life::Up | Life::Sweeping(..) if self.is_ending() || entry.is_to_stop() => {
                EntryState::Stopping
            }
            // Its work is done once what it has left is gone.
            Life::Sweeping(_, Some(exit)) if entry.rules.kind == EntryKind::Oneshot && exit.success() => {
                EntryState::Starting
            }
            Life::Sweeping(_, Some(exit)) if entry.comes_again(exit.success()) => EntryState::Backoff,
            Life::Sweeping(..) => EntryState::Failed,
            Life::Resting(_) => EntryState::Backoff,
            Life::Over if entry.health == EntryHealth::Success || entry.ended_well => EntryState::Done,
            Life::Over => EntryState::Failed,
            Life::Down if entry.held || self.is_ending() => EntryState::Disabled,
            Life::Down => EntryState::Waiting,
            Life::Starting => EntryState::Starting,
            Life::Up => match entry.health {
                EntryHealth::Success => EntryState::Ready,
                EntryHealth::Failure(_) => EntryState::Failed,
                _ => EntryState::Starting,
            },
        }
    }

    /// For each entry, which one keeps it from ever being a success unless somebody does something: itself,
    /// or one that it needs, be it through others.
    pub fn stuck(&self) -> Vec<Option<usize>> {
        let mut stuck: Vec<Option<usize>> = Vec::with_capacity(self.entries.len());
        for (number, entry) in self.entries.iter().enumerate() {
            let own = match entry.life {
                Life::Over => entry.health != EntryHealth::Success,
                Life::Down => entry.held,
                _ => false,
            };
            let waits = entry.life == Life::Down;
            // Needs come before those who have them.
            let need = || entry.rules.needs.iter().find_map(|need| stuck.get(*need).copied().flatten());
            stuck.push(if own { Some(number) } else { waits.then(need).flatten() });
        }
        stuck
    }

    /// Those that live on an entry of `numbers`, be it through others, and are stopped when it stops.
    pub(super) fn taken_along(&self, numbers: &[usize]) -> Vec<usize> {
        let mut taken = vec![false; self.entries.len()];
        numbers.iter().for_each(|number| taken[*number] = true);
        for (number, entry) in self.entries.iter().enumerate() {
            let lives = entry.alive() || matches!(entry.life, Life::Resting(_) | Life::Over);
            let needs = entry.rules.needs.iter().any(|need| taken.get(*need) == Some(&true));
            taken[number] |= lives && needs && !entry.rules.ignores;
        }
        let own = |number: &usize| taken[*number] && !numbers.contains(number);
        (0..self.entries.len()).filter(own).collect()
    }
}
