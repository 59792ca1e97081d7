//! What a group does: a pure machine that is fed with the time and with what happened, and says what to do.
//!
//! An entry runs while all that it needs is a success, and is stopped when that is over: its dependents
//! first. What comes of an older life of an entry bears that life's number, and is not listened to.

mod probed;

use crate::act::group::entry::{
    EntryHealth, EntryKind, EntryRules, GroupEntry, Life, RestartPauses, RestartWhen,
};
use crate::probe::liveness::LiveAnswers;
use crate::sys::child::Exit;
use probed::watch;
use std::time::{Duration, Instant};

/// After a process ended, its leftovers get no longer than this to follow it.
const SWEEP: Duration = Duration::from_secs(5);
/// So many of those that one waits for are named in a line.
const SHOWN: usize = 5;
/// Between two kills of what does not die.
const AGAIN: Duration = Duration::from_millis(100);

/// What a probe said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Ready.
    Ready,
    /// More time is needed.
    Loading(String),
    /// Not ready, and why.
    Not(String),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// Begin, or time went by.
    Time,
    /// The entry's process of this life runs.
    Started(usize, u64),
    /// It could not be started.
    NotStarted {
        /// The entry.
        number: usize,
        /// Its life.
        session: u64,
        /// Why.
        why: String,
    },
    /// It ended.
    Exited {
        /// The entry.
        number: usize,
        /// Its life.
        session: u64,
        /// How.
        exit: Exit,
    },
    /// Nothing of it is left.
    Swept(usize),
    /// A probe of this life has answered.
    Probed {
        /// The entry.
        number: usize,
        /// Its life.
        session: u64,
        /// The answer.
        said: Said,
        /// How soon the next probe may be, where no interval is set.
        soon: Duration,
    },
    /// This life was asked whether it goes on to serve.
    Lived {
        /// The entry.
        number: usize,
        /// Its life.
        session: u64,
        /// Why not, if it does not.
        why: Option<String>,
        /// How long the answer has taken.
        took: Duration,
    },
    /// All shall stop; said again, without mercy.
    Stop,
    /// The entry shall be down until it is told otherwise.
    Hold(usize),
    /// It may run again; one that failed, or rests, does so now.
    Release(usize),
    /// It may run now, and is not started again when it ends.
    Once(usize),
    /// It shall be stopped and started, and what needs it.
    Bounce(usize),
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupAction {
    /// Start the entry, under this life's number.
    Start(usize, u64),
    /// Tell it to stop.
    Tell(usize),
    /// Tell what it left behind to stop.
    Sweep(usize),
    /// Send all of it its kill signal.
    Abort(usize),
    /// Kill all of it.
    Kill(usize),
    /// Ask how it fares.
    Probe(usize, u64),
    /// Ask whether it goes on to serve.
    AskLive(usize, u64),
    /// All is down: end.
    Finish,
}

/// The group.
#[derive(Clone, Debug)]
pub struct GroupMachine {
    pub(super) entries: Vec<GroupEntry>,
    ending: bool,
    finished: bool,
    /// Whether entries have changed otherwise than by an event, so that consequences are to be drawn.
    pub(super) stale: bool,
}

impl GroupMachine {
    /// A group in which nothing runs. `needs` name entries by their places.
    pub fn new(rules: Vec<EntryRules>) -> GroupMachine {
        let mut machine = GroupMachine {
            entries: rules.into_iter().map(GroupEntry::new).collect(),
            ending: false,
            finished: false,
            stale: true,
        };
        machine.link();
        machine
    }

    pub(super) fn link(&mut self) {
        for number in 0..self.entries.len() {
            for need in self.entries[number].rules.needs.clone() {
                if !self.entries[need].dependents.contains(&number) {
                    self.entries[need].dependents.push(number);
                }
            }
        }
    }

    /// The entries.
    pub fn entries(&self) -> &[GroupEntry] {
        &self.entries
    }

    /// Whether all were told to stop.
    pub fn is_ending(&self) -> bool {
        self.ending
    }

    /// Whether every entry is ready, or done.
    pub fn all_ready(&self) -> bool {
        self.entries.iter().all(|entry| entry.health == EntryHealth::Success)
    }

    /// One that has failed and is not started again unless somebody asks.
    pub fn hopeless(&self) -> Option<&GroupEntry> {
        let failed = |entry: &&GroupEntry| matches!(entry.health, EntryHealth::Failure(_));
        self.entries.iter().filter(|entry| entry.life == Life::Over).find(failed)
    }

    /// What an entry waits for.
    pub fn waits_for(&self, number: usize) -> Vec<&str> {
        let needs = self.entries[number].rules.needs.iter();
        needs
            .filter(|need| {
                let need = &self.entries[**need];
                need.health != EntryHealth::Success || need.is_to_stop()
            })
            .map(|need| self.entries[*need].rules.id.as_str())
            .collect()
    }

    /// The same for people, if it waits.
    pub(super) fn waits_for_words(&self, number: usize) -> Option<String> {
        let all = self.waits_for(number);
        let more = all.len().saturating_sub(SHOWN);
        let words = all[..all.len() - more].join(", ");
        match (all.len(), more) {
            (0, _) => None,
            (_, 0) => Some(format!("for {words}")),
            _ => Some(format!("for {words} and {more} more")),
        }
    }

    /// When `GroupEvent::Time` is due.
    pub fn wake(&self) -> Option<Instant> {
        let life = |entry: &GroupEntry| match entry.life {
            Life::Resting(until) | Life::Stopping(Some(until)) | Life::Sweeping(until, _) => Some(until),
            _ => None,
        };
        self.entries
            .iter()
            .flat_map(|entry| {
                let up = entry.life == Life::Up;
                [life(entry), entry.probe.filter(|_| up), entry.live.filter(|_| up)]
            })
            .flatten()
            .min()
    }

    /// Takes an event; says what to do, in order.
    pub fn handle(&mut self, now: Instant, event: GroupEvent) -> Vec<GroupAction> {
        let mut todo = Vec::new();
        // Consequences are drawn to their end each time, so that only a moment that comes brings new ones.
        let idle = event == GroupEvent::Time && !self.stale && self.wake().is_none_or(|wake| now < wake);
        if self.finished || idle {
            return todo;
        }
        self.stale = false;
        match event {
            GroupEvent::Time => {}
            GroupEvent::Started(number, session) => self.started(now, number, session),
            GroupEvent::NotStarted { number, session, why } => {
                if self.is(number, session) && self.entries[number].life == Life::Starting {
                    self.crashed(now, number, why);
                }
            }
            GroupEvent::Exited { number, session, exit } => {
                if self.is(number, session) {
                    self.exited(now, number, exit, &mut todo);
                }
            }
            GroupEvent::Swept(number) => self.swept(now, number),
            GroupEvent::Probed { number, session, said, soon } => {
                if self.is(number, session) && self.entries[number].life == Life::Up {
                    self.probed(now, number, said, soon);
                }
            }
            GroupEvent::Lived { number, session, why, took } => {
                if self.is(number, session) && self.entries[number].life == Life::Up {
                    self.lived(now, number, why, took, &mut todo);
                }
            }
            GroupEvent::Stop if self.ending => {
                let alive = (0..self.entries.len()).filter(|number| self.entries[*number].alive());
                todo.extend(alive.map(GroupAction::Kill));
            }
            GroupEvent::Stop => self.ending = true,
            GroupEvent::Hold(number) => self.entries[number].held = true,
            GroupEvent::Release(number) => self.release(number),
            GroupEvent::Once(number) => self.once(number),
            GroupEvent::Bounce(number) => {
                (self.entries[number].held, self.entries[number].once) = (false, false);
                self.bounce(number);
            }
        }
        self.time(now, &mut todo);
        self.settle(now, &mut todo);
        todo
    }

    fn is(&self, number: usize, session: u64) -> bool {
        self.entries[number].session == session
    }

    fn started(&mut self, now: Instant, number: usize, session: u64) {
        let entry = &mut self.entries[number];
        if entry.session == session && entry.life == Life::Starting {
            entry.life = Life::Up;
            if entry.rules.ready.is_some() {
                entry.probe = Some(now);
            } else if entry.rules.kind == EntryKind::Daemon {
                entry.health = EntryHealth::Success;
                entry.healthy = Some(now);
                watch(now, entry);
            }
        }
    }

    fn exited(&mut self, now: Instant, number: usize, exit: Exit, todo: &mut Vec<GroupAction>) {
        let entry = &mut self.entries[number];
        entry.probe = None;
        entry.last = Some(exit.to_string());
        let by_itself = match entry.life {
            Life::Stopping(_) => None,
            Life::Starting | Life::Up => Some(exit),
            _ => return,
        };
        let limit =
            if entry.rules.stop_timeout.is_zero() { SWEEP } else { entry.rules.stop_timeout.min(SWEEP) };
        entry.life = Life::Sweeping(now + limit, by_itself);
        if by_itself.is_some() && !(entry.rules.kind == EntryKind::Oneshot && exit.success()) {
            // Its dependents need not wait for what it has left.
            entry.health = EntryHealth::Failure(exit.to_string());
        }
        todo.push(GroupAction::Sweep(number));
    }

    fn swept(&mut self, now: Instant, number: usize) {
        let entry = &mut self.entries[number];
        match entry.life {
            Life::Sweeping(_, None) if entry.hung.is_some() && !entry.bounced => {
                let why = entry.hung.take().unwrap_or_default();
                self.crashed(now, number, why);
            }
            Life::Sweeping(_, None) => {
                entry.life = Life::Down;
                entry.restarts = 0;
                entry.health = EntryHealth::Waiting;
            }
            Life::Sweeping(_, Some(exit)) if entry.rules.kind == EntryKind::Oneshot && exit.success() => {
                entry.life = Life::Over;
                entry.health = EntryHealth::Success;
            }
            Life::Sweeping(_, Some(exit))
                if exit.success() && (entry.once || entry.rules.restart.when != RestartWhen::Always) =>
            {
                (entry.life, entry.ended_well) = (Life::Over, entry.once);
                entry.health = EntryHealth::Failure(exit.to_string());
            }
            Life::Sweeping(_, Some(exit)) => self.crashed(now, number, exit.to_string()),
            _ => {}
        }
    }

    /// It ended by itself, or did not start, and is not done.
    fn crashed(&mut self, now: Instant, number: usize, why: String) {
        let entry = &mut self.entries[number];
        entry.failed += 1;
        entry.last = Some(why.clone());
        entry.health = EntryHealth::Failure(why);
        let RestartPauses { when, initial, step, cap, reset_after, max } = entry.rules.restart;
        if entry.healthy.take().is_some_and(|since| now.saturating_duration_since(since) >= reset_after) {
            entry.restarts = 0;
        }
        let over = when == RestartWhen::Never || entry.once;
        if over || max.is_some_and(|max| entry.restarts >= max) {
            entry.life = Life::Over;
            return;
        }
        entry.life =
            Life::Resting(now + (initial + step.saturating_mul(entry.restarts)).min(cap.max(initial)));
        entry.restarts += 1;
    }

    fn time(&mut self, now: Instant, todo: &mut Vec<GroupAction>) {
        for (number, entry) in self.entries.iter_mut().enumerate() {
            match &mut entry.life {
                Life::Stopping(Some(until)) | Life::Sweeping(until, _) if now >= *until => {
                    if let Some(grace) = entry.grace.take() {
                        *until = now + grace;
                        todo.push(GroupAction::Abort(number));
                        continue;
                    }
                    // A kill that did not reach everything is repeated.
                    *until = now + AGAIN;
                    todo.push(GroupAction::Kill(number));
                }
                Life::Up => {
                    if entry.probe.take_if(|due| now >= *due).is_some() {
                        todo.push(GroupAction::Probe(number, entry.session));
                    }
                    if entry.live.take_if(|due| now >= *due).is_some() {
                        todo.push(GroupAction::AskLive(number, entry.session));
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether each entry is to run, given that needs come before those who have them: what needs something
    /// that is to stop is to stop too.
    fn wanted(&self) -> Vec<bool> {
        let mut wanted = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let met = entry
                .rules
                .needs
                .iter()
                .all(|need| wanted[*need] && self.entries[*need].health == EntryHealth::Success);
            let itself = !self.ending && !entry.held && !entry.bounced && !entry.leaving;
            wanted.push(itself && (met || (entry.rules.ignores && entry.alive())));
        }
        wanted
    }

    /// Whether something that needs an entry, be it through others that are down or done, is still to stop
    /// before it.
    fn awaited(&self, wanted: &[bool]) -> Vec<bool> {
        let mut awaited = vec![false; self.entries.len()];
        loop {
            let mut changed = false;
            for number in (0..self.entries.len()).rev() {
                let by = |one: &usize| awaited[*one] || (self.entries[*one].alive() && !wanted[*one]);
                if !awaited[number] && self.entries[number].dependents.iter().any(by) {
                    awaited[number] = true;
                    changed = true;
                }
            }
            if !changed {
                return awaited;
            }
        }
    }

    /// Draws all consequences: starts what may run, tells to stop what may not, dependents first.
    fn settle(&mut self, now: Instant, todo: &mut Vec<GroupAction>) {
        loop {
            let (mut changed, wanted) = (false, self.wanted());
            let awaited = self.awaited(&wanted);
            for (number, awaited) in awaited.into_iter().enumerate() {
                changed |= self.settle_one(now, number, &wanted, !awaited, todo);
            }
            if !changed {
                break;
            }
        }
        if self.ending && !self.entries.iter().any(GroupEntry::alive) {
            self.finished = true;
            todo.push(GroupAction::Finish);
        }
    }

    fn settle_one(
        &mut self,
        now: Instant,
        number: usize,
        all: &[bool],
        free: bool,
        todo: &mut Vec<GroupAction>,
    ) -> bool {
        let wanted = all[number];
        let met = self.entries[number]
            .rules
            .needs
            .iter()
            .all(|need| all[*need] && self.entries[*need].health == EntryHealth::Success);
        let replaced = self.entries[number].replaces.iter().all(|one| !self.entries[*one].alive());
        let entry = &mut self.entries[number];
        let before = (entry.life, entry.health.clone(), entry.bounced);
        // What it needs may be back before its turn has come to stop; it goes all the same, for it knew the
        // life that is over.
        entry.bounced |= matches!(entry.life, Life::Starting | Life::Up) && !wanted;
        match entry.life {
            Life::Down if wanted && replaced => start(now, number, entry, todo),
            Life::Resting(until) if wanted && now >= until => start(now, number, entry, todo),
            // What was done was done for a life of its needs that is over.
            Life::Resting(_) | Life::Over if !met || entry.held || entry.leaving || entry.bounced => {
                entry.life = Life::Down;
                entry.restarts = 0;
            }
            Life::Starting | Life::Up if !wanted && free => {
                entry.probe = None;
                entry.healthy = None;
                if entry.rules.kind == EntryKind::Check {
                    entry.life = Life::Down;
                } else if entry.life == Life::Up {
                    tell(now, number, entry, todo);
                }
                // One that is told to stop is ready no more.
                if entry.life != Life::Starting {
                    entry.health = EntryHealth::Waiting;
                }
            }
            _ => {}
        }
        if entry.life == Life::Down {
            entry.bounced = false;
            entry.health = if entry.held { EntryHealth::Disabled } else { EntryHealth::Waiting };
        }
        (entry.life, entry.health.clone(), entry.bounced) != before
    }
}

fn tell(now: Instant, number: usize, entry: &mut GroupEntry, todo: &mut Vec<GroupAction>) {
    let limit = entry.rules.stop_timeout;
    entry.life = Life::Stopping((!limit.is_zero()).then(|| now + limit));
    entry.grace = entry.rules.kill_grace;
    todo.push(GroupAction::Tell(number));
}

fn start(now: Instant, number: usize, entry: &mut GroupEntry, todo: &mut Vec<GroupAction>) {
    entry.session += 1;
    entry.ended_well = false;
    (entry.good, entry.bad, entry.launched, entry.grace) = (0, 0, Some(now), None);
    (entry.live, entry.lives, entry.answers, entry.hung) = (None, false, LiveAnswers::default(), None);
    entry.health = EntryHealth::Starting(None);
    if entry.rules.kind == EntryKind::Check {
        entry.life = Life::Up;
        entry.probe = None;
        todo.push(GroupAction::Probe(number, entry.session));
    } else {
        entry.life = Life::Starting;
        todo.push(GroupAction::Start(number, entry.session));
    }
}
