//! What belongs to an entry besides what the machine knows of it: its process, what that says, its log.

use crate::act::group::entry::Life;
use crate::act::group::output::{LogFile, Output, loss};
use crate::act::group::plan::PlanEntry;
use crate::act::group::state::EntryState;
use crate::life::Wall;
use crate::probe::Probe;
use crate::service::group::GroupPaths;
use crate::sys::outlet::Outlet;
use crate::sys::process::Identity;
use std::sync::Arc;
use std::time::Instant;

/// An entry that runs, and what belongs to it.
pub(super) struct EntrySlot {
    pub(super) key: u64,
    pub(super) entry: PlanEntry,
    /// The room of its lives in the record.
    pub(super) room: usize,
    /// The process, until it is reaped.
    pub(super) main: Option<Identity>,
    /// The wall of the last life, until nothing of that is left.
    pub(super) wall: Option<Wall>,
    pub(super) since: Option<Instant>,
    pub(super) outputs: Vec<Output>,
    pub(super) log: LogFile,
    pub(super) question: Option<Arc<dyn Probe>>,
    /// Whether it goes on to serve.
    pub(super) live: Option<Arc<dyn Probe>>,
    pub(super) tries: u32,
    /// What was told of it last.
    pub(super) told: (EntryState, Option<String>),
    pub(super) told_life: Life,
    pub(super) killed: bool,
    /// Whether what the last life left was told to stop.
    pub(super) swept: bool,
}

impl EntrySlot {
    pub(super) fn new(
        key: u64,
        entry: PlanEntry,
        room: usize,
        paths: &GroupPaths,
        logs: &Outlet,
    ) -> EntrySlot {
        let log = LogFile::new(&paths.log(&entry.rules.id), logs, loss);
        let (told, told_life) = ((EntryState::Waiting, None), Life::Down);
        EntrySlot {
            key,
            entry,
            room,
            main: None,
            wall: None,
            since: None,
            outputs: Vec::new(),
            log,
            question: None,
            live: None,
            tries: 0,
            told,
            told_life,
            killed: false,
            swept: false,
        }
    }

    /// It is asked nothing any more.
    pub(super) fn cancel_questions(&mut self) {
        for question in [self.question.take(), self.live.take()].into_iter().flatten() {
            question.cancel();
        }
    }
}
