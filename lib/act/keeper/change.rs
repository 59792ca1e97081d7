//! A change that somebody has asked for, a restart or an update: numbered, so that whoever asked can wait for
//! what came of it.

use super::{Keeper, State};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is stopped and started.
    Restart,
    /// Its next life is started beside it.
    Update,
}

impl Kind {
    /// Its name in JSON, and for hooks.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Restart => "restart",
            Kind::Update => "update",
        }
    }
}

/// Why a change was given up that could still have succeeded.
pub(super) const STOPPED: &str = "it was stopped";
pub(super) const OVERTAKEN: &str = "something else was asked for";

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is not decided.
    Open,
    /// The next life serves; or runs, where nobody knows when it serves.
    Done,
    /// It does not, and why. After an update the old one goes on.
    Failed(&'static str),
}

impl Outcome {
    /// Its name in JSON, and for hooks.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Open => "open",
            Outcome::Done => "done",
            Outcome::Failed(_) => "failed",
        }
    }
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// From 1 on, for each keeper.
    pub number: u32,
    /// What was asked for.
    pub kind: Kind,
    /// What came of it.
    pub outcome: Outcome,
    /// How often the command had been started before; `None` while the change only waits for its time.
    before: Option<u64>,
}

impl Change {
    /// Whether it is decided.
    pub fn over(&self) -> bool {
        self.outcome != Outcome::Open
    }
}

impl Keeper {
    /// The last change.
    pub fn change(&self) -> Option<Change> {
        self.change
    }

    /// Whether a restart is being done whose next life is still to come, so that one more would change
    /// nothing.
    pub fn restarting(&self) -> bool {
        self.change.is_some_and(|change| {
            change.kind == Kind::Restart && !change.over() && change.before == Some(self.runs)
        })
    }

    /// Opens a restart that is to come; the one that waits already, if one does. Its number.
    pub fn plan_restart(&mut self) -> u32 {
        match self.change {
            Some(change) if change.kind == Kind::Restart && !change.over() => change.number,
            _ => self.open(Kind::Restart, None),
        }
    }

    pub(super) fn begin_restart(&mut self) {
        self.plan_restart();
        if let Some(change) = &mut self.change {
            change.before = Some(self.runs);
        }
    }

    pub(super) fn begin_update(&mut self) {
        self.open(Kind::Update, Some(self.runs));
    }

    fn open(&mut self, kind: Kind, before: Option<u64>) -> u32 {
        let number = self.change.map_or(0, |change| change.number) + 1;
        self.change = Some(Change { number, kind, outcome: Outcome::Open, before });
        number
    }

    pub(super) fn decided(&mut self, outcome: Outcome) {
        if let Some(change) = &mut self.change {
            change.outcome = outcome;
        }
    }

    /// A restart is decided by the state that it has led to.
    pub(super) fn settle(&mut self) {
        let Some(change) = self.change.filter(|change| !change.over()) else { return };
        let started = change.kind == Kind::Restart && change.before.is_some_and(|before| self.runs > before);
        match self.state {
            State::Running(_) if started => self.decided(Outcome::Done),
            State::Idle | State::Waiting(_) if started => {
                self.decided(Outcome::Failed("the next life did not come to serve"))
            }
            State::Finished => self.decided(Outcome::Failed(STOPPED)),
            _ => {}
        }
    }
}
