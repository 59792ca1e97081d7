//! The lives that a keeper has started and that are not over: one, and in an update two. Each has its wall,
//! and its room on disk before it is started, so that whoever comes after a killed keeper ends them.

use crate::act::keeper::notify::Part;
use crate::life::{Leftover, Lives, Wall};
use crate::service::manager;
use crate::sys::cgroup::CgroupParent;
use crate::sys::child::{self, Spec, StartError};
use crate::sys::process::{self, Identity, Pid};
use crate::sys::say::Voice;
use crate::sys::signal::{Signal, SignalNumber};
use crate::words::error::{Error, Result, reason};
use crate::words::exit::Status;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How many lives have room on disk. Two are meant; one that cannot be killed may stay beside them.
const ROOMS: usize = 4;
/// What leftovers get after the stop signal where a stop has no limit.
const LEFTOVERS: Duration = Duration::from_secs(60);

/// What is known of the lives by whoever shall end them without the loop: the watchdog.
pub(super) type LifeOutlines = Arc<Mutex<Vec<Leftover>>>;

/// The lives.
pub(super) struct KeptLives {
    key: String,
    /// What a life is told to stop by, where that is not TERM.
    stop: Option<SignalNumber>,
    parent: Option<CgroupParent>,
    /// Whether orphans fall to us.
    adopts: bool,
    /// Whether processes can be looked for at all: not in a root without /proc.
    shown: bool,
    records: Vec<Lives>,
    /// Whether a record could not be made, so that lives are found by their marks alone.
    unrecorded: bool,
    kept: Vec<KeptLife>,
    /// What is over. Its cgroups are removed when the next life has started, which comes first.
    over: Vec<Wall>,
    main: Option<Identity>,
    spared: Vec<Identity>,
    outlines: LifeOutlines,
}

struct KeptLife {
    room: usize,
    wall: Wall,
}

impl KeptLives {
    /// None yet, of the keeper called `key`.
    pub(super) fn new(key: String, adopts: bool, stop: Option<SignalNumber>) -> KeptLives {
        let parent = CgroupParent::ours(manager::gave_us_our_cgroup);
        KeptLives {
            key,
            stop,
            parent,
            adopts,
            shown: process::is_shown(),
            records: Vec::new(),
            unrecorded: false,
            kept: Vec::new(),
            over: Vec::new(),
            main: None,
            spared: Vec::new(),
            outlines: Arc::default(),
        }
    }

    /// Writes them down in these files from now on; where one cannot be made, that is told, and they are
    /// found by their marks.
    pub(super) fn record(&mut self, paths: &[PathBuf], voice: &Voice) {
        (self.records, self.unrecorded) = (Vec::new(), false);
        for path in paths {
            match Lives::open(path, &self.key, ROOMS) {
                Ok(record) => self.records.push(record),
                Err(cause) => {
                    self.unrecorded = true;
                    voice.warn(format!(
                        "cannot write '{}': {}; what a killed keeper leaves is found by its mark alone",
                        path.display(),
                        reason(&cause)
                    ));
                }
            }
        }
    }

    /// Whether somebody has removed what they are written down in.
    pub(super) fn are_recorded(&self) -> bool {
        self.records.iter().all(Lives::is_there)
    }

    /// Writes all of them down again.
    pub(super) fn note_all(&mut self, voice: &Voice) {
        for at in 0..self.kept.len() {
            self.note(at, voice);
        }
    }

    /// Ends what a keeper that was killed has left; two lives must not run side by side.
    ///
    /// # Errors
    /// 75 where something of it does not end.
    pub(super) fn clear_leftovers(&self, name: &str, patience: Duration, voice: &Voice) -> Result<()> {
        let mut found: Vec<Leftover> = self.records.iter().flat_map(Lives::leftovers).collect();
        if self.unrecorded {
            found.extend(Leftover::of_key(&self.key));
        }
        let patience = if patience.is_zero() { LEFTOVERS } else { patience };
        for leftover in found {
            let members = leftover.members();
            // Two files may tell of the same life.
            let Some(first) = leftover.main().filter(Identity::alive).or(members.first().copied()) else {
                continue;
            };
            let others = match members.len().saturating_sub(1) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            voice.warn(format!(
                "{name}: the last keeper died and left process {}{others} behind; stopping it",
                first.pid
            ));
            if !leftover.end(Signal::SIGTERM, patience) {
                let why = format!("cannot keep {name}: what the last keeper left does not end");
                return Err(Error::new(Status::Busy, why));
            }
        }
        for record in &self.records {
            (0..ROOMS).for_each(|room| drop(record.over(room)));
        }
        if !self.records.is_empty() {
            self.parent.iter().for_each(|parent| Leftover::remove_empty(parent, &self.key));
        }
        Ok(())
    }

    /// Starts a life, beside the one that there may be. It is not the main one yet.
    pub(super) fn start(
        &mut self,
        mut spec: Spec,
        voice: &Voice,
    ) -> std::result::Result<Identity, StartError> {
        if !self.shown {
            // Whoever comes after us could find nothing here.
            spec.ends_with_us = Some(Signal::SIGKILL);
        }
        self.spared.retain(Identity::alive);
        let room = (0..).find(|room| self.kept.iter().all(|life| life.room != *room)).unwrap_or(0);
        let mut wall = Wall::new(&self.key, self.parent.as_ref(), self.kept.is_empty(), self.adopts);
        self.stop.into_iter().for_each(|signal| wall.stops_by(signal));
        self.spared.iter().for_each(|one| wall.spare(one.pid));
        self.kept.push(KeptLife { room, wall });
        let at = self.kept.len() - 1;
        self.note(at, voice);
        match self.kept[at].wall.start(spec) {
            Ok(started) => {
                self.note(at, voice);
                self.settle();
                self.over.clear();
                Ok(started.identity)
            }
            Err(error) => {
                self.forget(at);
                Err(error)
            }
        }
    }

    fn note(&mut self, at: usize, voice: &Voice) {
        let Some(life) = self.kept.get(at) else { return };
        let mut at = 0;
        while let Some(record) = self.records.get(at) {
            let Err(cause) = record.note(life.room, &life.wall) else {
                at += 1;
                continue;
            };
            voice
                .warn(format!("cannot write a life down: {}; it is found by its mark alone", reason(&cause)));
            self.records.remove(at).abandon();
        }
    }

    fn forget(&mut self, at: usize) {
        let life = self.kept.remove(at);
        self.records.iter().for_each(|record| drop(record.over(life.room)));
        self.over.push(life.wall);
        self.settle();
    }

    /// Who has orphans without a mark, and what the watchdog knows.
    fn settle(&mut self) {
        let sole = self.kept.len() == 1;
        self.kept.iter_mut().for_each(|life| life.wall.set_sole(sole));
        let outlines = self.kept.iter().map(|life| Leftover::of_wall(&life.wall)).collect();
        *self.outlines.lock().unwrap_or_else(PoisonError::into_inner) = outlines;
    }

    /// What is known of them, kept up to date.
    pub(super) fn outlines(&self) -> LifeOutlines {
        Arc::clone(&self.outlines)
    }

    /// The main process, while it lives.
    pub(super) fn main(&self) -> Option<Identity> {
        self.main
    }

    /// Of what part of the life with this main process a process is.
    pub(super) fn part(&self, main: Pid, pid: Pid) -> Part {
        if pid == main {
            return Part::Main;
        }
        if child::helpers().contains(&pid) {
            return Part::Helper;
        }
        let life = self.kept.iter().find(|life| life.wall.main().is_some_and(|one| one.pid == main));
        if life.is_some_and(|life| life.wall.has_member(pid)) { Part::Member } else { Part::Stranger }
    }

    /// This one is the main process from now on.
    pub(super) fn promote(&mut self, who: Identity) {
        self.main = Some(who);
    }

    /// Takes note that a process is dead; whether it was the main one.
    pub(super) fn died(&mut self, pid: Pid) -> bool {
        self.main.take_if(|main| main.pid == pid).is_some()
    }

    /// Leaves a process of theirs alone, and all that it starts.
    pub(super) fn spare(&mut self, pid: Pid) {
        self.spared.extend(Identity::of(pid));
        self.kept.iter_mut().for_each(|life| life.wall.spare(pid));
        self.settle();
    }

    /// Whether nothing of them lives.
    pub(super) fn are_over(&self) -> bool {
        self.kept.iter().all(|life| life.wall.is_empty())
    }

    /// Nothing of them lives any more.
    pub(super) fn forget_all(&mut self) {
        while !self.kept.is_empty() {
            self.forget(self.kept.len() - 1);
        }
    }

    /// Sends `signal` to all members but the main processes.
    pub(super) fn tell_rest(&self, signal: Signal) {
        let left = self.kept.iter().filter(|life| !life.wall.is_empty());
        left.for_each(|life| Wall::tell(&life.wall.rest(), signal));
    }

    /// Sends `signal` to all members of the life of this main process, or of all lives.
    pub(super) fn tell_all(&self, who: Option<Identity>, signal: SignalNumber) {
        for life in self.kept.iter().filter(|life| who.is_none() || life.wall.main() == who) {
            Wall::tell(&life.wall.members(), signal);
        }
    }

    /// Kills the life of this main process, and all that came of it.
    pub(super) fn kill_one(&mut self, who: Identity) {
        let one = self.kept.iter().position(|life| life.wall.main() == Some(who));
        // What cannot be killed is not forgotten: the keeper does not end without it.
        if let Some(at) = one.filter(|at| self.kept[*at].wall.kill()) {
            self.forget(at);
        }
    }

    /// Kills everything of all of them.
    pub(super) fn kill(&self) {
        for life in &self.kept {
            life.wall.kill();
        }
    }
}
