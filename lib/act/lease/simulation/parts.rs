//! What a simulated world consists of, and the checker of its history.

use crate::act::lease::deadline::Deadline;
use crate::act::lease::holder::{GuardianState, Holder, Warden};
use crate::store::ClaimAnswer;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Acquire,
    Renew(u64),
    Release(u64),
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)]
pub(super) enum Event {
    /// A request comes to the store: of a node's life, sent then by its clock.
    Request { node: usize, life: u64, ask: Ask, sent: Duration },
    /// An answer comes to a node.
    Answer { node: usize, life: u64, ask: Ask, sent: Duration, answer: std::result::Result<ClaimAnswer, ()> },
    /// A holder's turn.
    Turn(usize, u64),
    /// A guardian's look at a run.
    Look(usize, u64),
    /// A holder's own look at the end of its lease, in a life of it.
    Watch { node: usize, life: u64, run: u64 },
    /// The death of a run's command, or of what it has left.
    Death { node: usize, run: u64, command: bool },
    /// Something befalls a node.
    Fate(usize),
}

/// What a guardian can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Able {
    Yes,
    /// Stopped until then: the kernel continues it when it is needed.
    Stopped(u64),
    /// Hangs until then, whatever it is sent.
    Hangs(u64),
    Dead,
}

/// A command under a guardian, with something that it has started and that does not end with it.
pub(super) struct Run {
    pub(super) number: u64,
    pub(super) guard: GuardianState,
    pub(super) able: Able,
    /// What the holder has said since the guardian last listened.
    pub(super) said: Option<Deadline>,
    /// That the holder is gone, and was not heard of.
    pub(super) orphan: bool,
    pub(super) warden: Warden,
    pub(super) command: bool,
    pub(super) leftover: bool,
    pub(super) seen: bool,
    /// The last end that the lease ever had.
    pub(super) hard: Duration,
}

/// One node: a holder process in one of its lives, and a run, which outlives the holder.
pub(super) struct Node {
    pub(super) offset: u64,
    /// Millionths by which its clock is fast, plus a million.
    pub(super) rate: u64,
    pub(super) life: u64,
    pub(super) stopped_until: u64,
    pub(super) holder: Option<Holder>,
    pub(super) run: Option<Run>,
    pub(super) deaf: bool,
}

impl Node {
    pub(super) fn clock(&self, at: u64) -> Duration {
        Duration::from_micros(self.offset + at / 1000 * self.rate / 1000 + at % 1000)
    }

    pub(super) fn run(&mut self, number: u64) -> Option<&mut Run> {
        self.run.as_mut().filter(|run| run.number == number)
    }
}

/// A command's life: from its start to its death, under a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) node: usize,
    pub(super) term: u64,
    pub(super) from: u64,
    pub(super) to: Option<u64>,
}

/// Two lives that overlap, or a term that has two; `None` for a good history.
pub(super) fn fault(history: &[Span]) -> Option<String> {
    let mut spans = history.to_vec();
    spans.sort_by_key(|span| span.from);
    for pair in spans.windows(2) {
        if pair[0].to.is_none_or(|to| to > pair[1].from) {
            return Some(format!("{:?} overlaps {:?}", pair[0], pair[1]));
        }
        if pair[1].term <= pair[0].term {
            return Some(format!("{:?} does not come after {:?}", pair[1], pair[0]));
        }
    }
    None
}
