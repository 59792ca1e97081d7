//! An entry of a group: its rules, how it fares, what its process does.

use crate::probe::liveness::{LiveAnswers, Liveness};
use crate::sys::child::Exit;
use std::time::{Duration, Instant};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A command that runs on.
    Daemon,
    /// A command that does its work and ends.
    Oneshot,
    /// A question, without a command.
    Check,
}

/// When a command that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartWhen {
    /// Never.
    Never,
    /// After any end but an exit with 0.
    OnFailure,
    /// Always.
    Always,
}

/// The pauses between starts: `initial`, then `step` more each time, `cap` at most; anew after `reset_after`
/// of health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPauses {
    /// When at all.
    pub when: RestartWhen,
    /// The first pause.
    pub initial: Duration,
    /// What is added each time.
    pub step: Duration,
    /// The longest.
    pub cap: Duration,
    /// What counts as health.
    pub reset_after: Duration,
    /// So many in a row without health, and it is started no more; `None` is without end.
    pub max: Option<u32>,
}

/// Between probes, by what the last one said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// Before the first success; `None` is as fast as it costs little.
    pub starting: Option<Duration>,
    /// While it says that it is loading.
    pub loading: Duration,
    /// After a success.
    pub success: Duration,
    /// After a failure.
    pub failure: Duration,
}

/// When an entry counts as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryReadiness {
    /// Between probes.
    pub intervals: Intervals,
    /// How long a failure is only a start, after each launch.
    pub grace: Duration,
    /// So many successes in a row make it ready.
    pub successes: u32,
    /// So many failures in a row make it not ready.
    pub failures: u32,
}

/// All that the machine knows of an entry beforehand.
#[derive(Clone, Debug)]
pub struct EntryRules {
    /// Its name.
    pub id: String,
    /// What it is.
    pub kind: EntryKind,
    /// The numbers of those it needs.
    pub needs: Vec<usize>,
    /// Whether it runs on when what it needs fails.
    pub ignores: bool,
    /// When it is ready; a daemon without is ready when it runs.
    pub ready: Option<EntryReadiness>,
    /// How it is asked whether it goes on to serve, once it was ready.
    pub live: Option<Liveness>,
    /// When it is started again.
    pub restart: RestartPauses,
    /// How long it may take to stop; zero is without end.
    pub stop_timeout: Duration,
    /// How long what is left then has after its kill signal, where it has one.
    pub kill_grace: Option<Duration>,
}

/// What is known of the health of an entry (facts A2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryHealth {
    /// For what it needs.
    Waiting,
    /// It has been started; what the last probe said, if it said anything.
    Starting(Option<String>),
    /// It says that it needs more time.
    Loading(String),
    /// It is ready, or done.
    Success,
    /// It is not, and why.
    Failure(String),
    /// It was stopped by hand.
    Disabled,
}

impl EntryHealth {
    /// What there is to say about it.
    pub fn message(&self) -> Option<&str> {
        match self {
            EntryHealth::Starting(message) => message.as_deref(),
            EntryHealth::Loading(message) | EntryHealth::Failure(message) => Some(message),
            _ => None,
        }
    }
}

/// What the process of an entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// There is none.
    Down,
    /// There is none until then.
    Resting(Instant),
    /// It is being started.
    Starting,
    /// It runs; of a check, it is asked.
    Up,
    /// It was told to stop; it is killed then.
    Stopping(Option<Instant>),
    /// It is dead, and what it left goes, killed then. How it ended, if by itself.
    Sweeping(Instant, Option<Exit>),
    /// A oneshot that is done, or a command that is not started again.
    Over,
}

/// An entry of the group.
#[derive(Clone, Debug)]
pub struct GroupEntry {
    /// What was known of it.
    pub rules: EntryRules,
    /// What its process does.
    pub life: Life,
    /// How it fares.
    pub health: EntryHealth,
    /// The number of its life.
    pub session: u64,
    /// How often it ended by itself, and not as it should.
    pub failed: u32,
    /// How it ended last.
    pub last: Option<String>,
    /// Those who must be down before it is told to stop.
    pub(super) dependents: Vec<usize>,
    /// Those who must be down before it starts: what it replaces.
    pub(super) replaces: Vec<usize>,
    pub(super) good: u32,
    pub(super) bad: u32,
    pub(super) launched: Option<Instant>,
    pub(super) healthy: Option<Instant>,
    pub(super) restarts: u32,
    pub(super) probe: Option<Instant>,
    pub(super) held: bool,
    /// Whether it is not started again when it ends.
    pub(super) once: bool,
    /// Whether it has ended so, and well.
    pub(super) ended_well: bool,
    pub(super) bounced: bool,
    pub(super) leaving: bool,
    /// When it is asked whether it lives.
    pub(super) live: Option<Instant>,
    /// Whether it has been, in this life.
    pub(super) lives: bool,
    pub(super) answers: LiveAnswers,
    /// Why it is stopped, and started again as after a failure: it serves no more.
    pub(super) hung: Option<String>,
    /// How long it has after its kill signal, while it stops and was not sent that.
    pub(super) grace: Option<Duration>,
}

impl GroupEntry {
    pub(super) fn new(rules: EntryRules) -> GroupEntry {
        GroupEntry {
            rules,
            life: Life::Down,
            health: EntryHealth::Waiting,
            session: 0,
            failed: 0,
            last: None,
            dependents: Vec::new(),
            replaces: Vec::new(),
            good: 0,
            bad: 0,
            launched: None,
            healthy: None,
            restarts: 0,
            probe: None,
            held: false,
            once: false,
            ended_well: false,
            bounced: false,
            leaving: false,
            live: None,
            lives: false,
            answers: LiveAnswers::default(),
            hung: None,
            grace: None,
        }
    }

    /// Whether there is a process of it, or something that one has left.
    pub fn alive(&self) -> bool {
        matches!(self.life, Life::Starting | Life::Up | Life::Stopping(_) | Life::Sweeping(..))
    }

    /// Whether it was stopped by hand.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Whether it is only there until it is down: a reload has taken it out.
    pub fn leaves(&self) -> bool {
        self.leaving
    }
}
