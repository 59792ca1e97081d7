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

/// So many are remembered, for those who asked.
const KEPT: usize = 16;

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
    /// The changes that were asked for, in their order: those that are open, and the last ones that are over.
    pub fn changes(&self) -> &[KeeperChange] {
        &self.changes
    }

    fn opened(&mut self, kind: ChangeKind) -> impl Iterator<Item = &mut KeeperChange> {
        self.changes.iter_mut().filter(move |change| change.kind == kind && !change.over())
    }

    /// The restart that is asked for, or being done, and not decided.
    pub fn open_restart(&self) -> Option<KeeperChange> {
        let open = |change: &&KeeperChange| change.kind == ChangeKind::Restart && !change.over();
        self.changes.iter().rev().find(open).copied()
    }

    /// The update that is not decided.
    pub fn open_update(&self) -> Option<KeeperChange> {
        let open = |change: &&KeeperChange| change.kind == ChangeKind::Update && !change.over();
        self.changes.iter().rev().find(open).copied()
    }

    /// Whether a restart is being done whose next life is still to come, so that one more would change
    /// nothing.
    pub fn restarting(&self) -> bool {
        self.open_restart().is_some_and(|change| change.before == Some(self.runs))
    }

    /// Opens a restart that is to come; the one that waits already, if one does. Its number. One that waited
    /// before an update began is done with that, and one that is asked for now is not.
    pub fn plan_restart(&mut self) -> u32 {
        let update = self.open_update().map_or(0, |update| update.number);
        match self.open_restart() {
            Some(change) if change.number > update => change.number,
            _ => self.open(ChangeKind::Restart, None),
        }
    }

    /// A restart begins. Whatever comes of it, an update that is not decided comes to nothing.
    pub(super) fn begin_restart(&mut self) {
        self.decide_update(ChangeOutcome::Failed(OVERTAKEN));
        self.plan_restart();
        let runs = self.runs;
        self.opened(ChangeKind::Restart).for_each(|change| change.before = Some(runs));
    }

    pub(super) fn begin_update(&mut self) {
        self.open(ChangeKind::Update, Some(self.runs));
    }

    fn open(&mut self, kind: ChangeKind, before: Option<u64>) -> u32 {
        let number = self.changes.last().map_or(0, |change| change.number) + 1;
        // Those that are open are few: one of each kind, and a restart beside an update.
        while self.changes.len() >= KEPT
            && let Some(oldest) = self.changes.iter().position(KeeperChange::over)
        {
            self.changes.remove(oldest);
        }
        self.changes.push(KeeperChange { number, kind, outcome: ChangeOutcome::Open, before });
        number
    }

    /// A restart that waited before the update began is one with it where that has led to a new life; else
    /// it is still to come.
    pub(super) fn decide_update(&mut self, outcome: ChangeOutcome) {
        let Some(update) = self.open_update().map(|update| update.number) else { return };
        self.opened(ChangeKind::Update).for_each(|change| change.outcome = outcome);
        if outcome == ChangeOutcome::Done {
            self.opened(ChangeKind::Restart)
                .filter(|change| change.number < update && change.before.is_none())
                .for_each(|change| change.outcome = outcome);
        }
    }

    /// A change is decided by the state that it has led to; an update that goes on beside an old life is not.
    pub(super) fn settle(&mut self) {
        let not = ChangeOutcome::Failed("the next life did not come to serve");
        let (outcome, runs, over) = match self.state {
            KeeperState::Running(_) => (ChangeOutcome::Done, self.runs, false),
            KeeperState::Idle | KeeperState::Waiting(_) => (not, self.runs, false),
            KeeperState::Finished => (ChangeOutcome::Failed(STOPPED), self.runs, true),
            // The one after it is being started already.
            _ => (not, self.runs.saturating_sub(1), false),
        };
        let led = |change: &KeeperChange| over || change.before.is_some_and(|before| runs > before);
        if self.open_update().is_some_and(|update| led(&update)) {
            self.decide_update(outcome);
        }
        self.opened(ChangeKind::Restart)
            .filter(|change| led(change))
            .for_each(|change| change.outcome = outcome);
    }
}
