//! A change that somebody has asked for, a restart or an update: numbered, so that whoever asked can wait for
//! what came of it.

use super::{Keeper, KeeperState};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is stopped and started.
    Restart,
    /// Its next life is started beside it.
    Update,
}

impl ChangeKind {
    /// Its name in JSON, and for hooks.
    pub fn word(self) -> &'static str {
        match self {
            ChangeKind::Restart => "restart",
            ChangeKind::Update => "update",
        }
    }
}

/// Why a change was given up that could still have succeeded.
pub(super) const STOPPED: &str = "it was stopped";
pub(super) const OVERTAKEN: &str = "something else was asked for";

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// It is not decided.
    Open,
    /// The next life serves; or runs, where nobody knows when it serves.
    Done,
    /// It does not, and why. After an update the old one goes on.
    Failed(&'static str),
}

impl ChangeOutcome {
    /// Its name in JSON, and for hooks.
    pub fn word(self) -> &'static str {
        match self {
            ChangeOutcome::Open => "open",
            ChangeOutcome::Done => "done",
            ChangeOutcome::Failed(_) => "failed",
        }
    }
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeeperChange {
    /// From 1 on, for each keeper.
    pub number: u32,
    /// What was asked for.
    pub kind: ChangeKind,
    /// What came of it.
    pub outcome: ChangeOutcome,
    /// How often the command had been started before; `None` while the change only waits for its time.
    before: Option<u64>,
}

impl KeeperChange {
    /// Whether it is decided.
    pub fn over(&self) -> bool {
        self.outcome != ChangeOutcome::Open
    }
}

impl Keeper {
    /// The last change.
    pub fn change(&self) -> Option<KeeperChange> {
        self.change
    }

    /// Whether a restart is being done whose next life is still to come, so that one more would change
    /// nothing.
    pub fn restarting(&self) -> bool {
        self.change.is_some_and(|change| {
            change.kind == ChangeKind::Restart && !change.over() && change.before == Some(self.runs)
        })
    }

    /// Opens a restart that is to come; the one that waits already, if one does. Its number.
    pub fn plan_restart(&mut self) -> u32 {
        match self.change {
            Some(change) if change.kind == ChangeKind::Restart && !change.over() => change.number,
            _ => self.open(ChangeKind::Restart, None),
        }
    }

    pub(super) fn begin_restart(&mut self) {
        self.plan_restart();
        if let Some(change) = &mut self.change {
            change.before = Some(self.runs);
        }
    }

    pub(super) fn begin_update(&mut self) {
        self.open(ChangeKind::Update, Some(self.runs));
    }

    fn open(&mut self, kind: ChangeKind, before: Option<u64>) -> u32 {
        let number = self.change.map_or(0, |change| change.number) + 1;
        self.change = Some(KeeperChange { number, kind, outcome: ChangeOutcome::Open, before });
        number
    }

    pub(super) fn decided(&mut self, outcome: ChangeOutcome) {
        if let Some(change) = &mut self.change {
            change.outcome = outcome;
        }
    }

    /// A restart is decided by the state that it has led to.
    pub(super) fn settle(&mut self) {
        let Some(change) = self.change.filter(|change| !change.over()) else { return };
        let started =
            change.kind == ChangeKind::Restart && change.before.is_some_and(|before| self.runs > before);
        match self.state {
            KeeperState::Running(_) if started => self.decided(ChangeOutcome::Done),
            KeeperState::Idle | KeeperState::Waiting(_) if started => {
                self.decided(ChangeOutcome::Failed("the next life did not come to serve"))
            }
            KeeperState::Finished => self.decided(ChangeOutcome::Failed(STOPPED)),
            _ => {}
        }
    }
}
