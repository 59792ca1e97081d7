//! The wall around one life: it knows its members by a cgroup of its own where one may be made, and else by a
//! mark in their environment, together with session and parentage; orphans fall to us where the system can
//! have it so. It ends them all, by one code.

use super::tree::{kill_until, kill_until_gone, marked_orphans, within};
use crate::sys::cgroup::{Cgroup, CgroupParent};
use crate::sys::child::{self, Signal, Spec, StartError, Started};
use crate::sys::clock;
use crate::sys::process::{self, Identity, Pid, Table};
use std::path::Path;
use std::time::{Duration, Instant};

/// The variable that every member inherits: KEY/ID, whose keeper or entry it is of, and which life. Where we
/// are ourselves in a life of somebody else, that one's comes before it, and a space.
pub const MARK: &str = "BAA_LIFE";

/// Marks within marks are kept to this length; a keeper that keeps a keeper is one step.
const NESTED: usize = 2048;

/// Between two looks at those who shall end.
const LOOK: Duration = Duration::from_millis(5);

/// One life's wall.
#[derive(Debug)]
pub struct Wall {
    mark: String,
    cgroup: Option<Cgroup>,
    main: Option<Identity>,
    /// Whether orphans without a mark are its: where there is no other life that they could be of.
    sole: bool,
    /// Whether orphans fall to us, so that all members are descendants of ours.
    adopts: bool,
}

/// The first part of a mark: a short name of `what` that is the same in every release and run (FNV-1a, 64
/// bits).
pub fn key(what: &[u8]) -> String {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:016x}", what.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// Whether a value of `MARK` says that its bearer is of the life `mark`, or of one within it.
pub(super) fn bears(value: &str, mark: &str) -> bool {
    value.split(' ').any(|one| one == mark)
}

/// What a child of ours gets for a mark.
fn nested(mark: &str) -> String {
    match std::env::var(MARK) {
        Ok(outer) if !outer.is_empty() && outer.len() < NESTED => format!("{outer} {mark}"),
        _ => mark.to_owned(),
    }
}

impl Wall {
    /// A wall around a life that is to be started, of the keeper or entry called `key`. It gets a cgroup of
    /// its own in `parent`; where that cannot be made it does without. `sole` says that there is no other
    /// life in this process whose orphans its could be; `adopts`, that orphans fall to us.
    pub fn new(key: &str, parent: Option<&CgroupParent>, sole: bool, adopts: bool) -> Wall {
        let id = crate::sys::random::hex();
        let cgroup = parent.and_then(|parent| parent.make(&format!("baa-{key}-{id}")).ok());
        Wall { mark: format!("{key}/{id}"), cgroup, main: None, sole, adopts }
    }

    /// The mark that its members bear.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// The directory of its cgroup, where it has one.
    pub fn cgroup(&self) -> Option<&Path> {
        self.cgroup.as_ref().map(Cgroup::directory)
    }

    /// Its main process, once there was one; dead or alive.
    pub fn main(&self) -> Option<Identity> {
        self.main
    }

    /// Whether its orphans without a mark are its, from now on.
    pub fn set_sole(&mut self, sole: bool) {
        self.sole = sole;
    }

    /// Starts the main process inside of it.
    ///
    /// # Errors
    /// As `Spec::start`.
    pub fn start(&mut self, spec: Spec) -> Result<Started, StartError> {
        self.start_by(spec, Spec::start)
    }

    /// The same for one that the caller awaits by itself (`Spec::start_claimed`).
    ///
    /// # Errors
    /// As `Spec::start`.
    pub fn start_claimed(&mut self, spec: Spec) -> Result<Started, StartError> {
        self.start_by(spec, Spec::start_claimed)
    }

    fn start_by(
        &mut self,
        mut spec: Spec,
        start: fn(Spec) -> Result<Started, StartError>,
    ) -> Result<Started, StartError> {
        spec.env.push((MARK.into(), nested(&self.mark).into()));
        spec.cgroup = self.cgroup.as_ref().and_then(Cgroup::door);
        // Without a cgroup of its own it is told from others by when it started.
        spec.start_untold &= spec.cgroup.is_some();
        let started = start(spec)?;
        // A keeper of a thousand has no thousand descriptors for it, which each of its children would get and
        // close.
        self.cgroup.iter_mut().for_each(Cgroup::shut);
        if !started.in_cgroup {
            // It may have entered it later, or not at all: then the cgroup does not tell who belongs to it.
            self.cgroup = self.cgroup.take().filter(|cgroup| cgroup.members().contains(&started.identity));
        }
        self.main = Some(started.identity);
        Ok(started)
    }

    /// All live members, the main process among them.
    pub fn members(&self) -> Vec<Identity> {
        if let Some(cgroup) = &self.cgroup {
            return cgroup.members();
        }
        let table = Table::read();
        let mut roots: Vec<Identity> = self.main.into_iter().collect();
        roots.extend(self.orphans());
        // What other threads run by themselves is none of it.
        let mut spared = child::helpers();
        spared.retain(|pid| self.main.is_none_or(|main| main.pid != *pid));
        let mut found = within(&table, &roots, &spared);
        if !process::is_shown() {
            // Without a table the main process is all that can be told.
            found.extend(self.main.filter(Identity::alive));
        }
        found
    }

    /// The members but for the main process.
    pub fn rest(&self) -> Vec<Identity> {
        let mut rest = self.members();
        rest.retain(|one| Some(*one) != self.main);
        rest
    }

    /// Whether nothing of it lives. Where it has a cgroup, or we have no child at all, no process is looked
    /// at.
    pub fn is_empty(&self) -> bool {
        if let Some(empty) = self.cgroup.as_ref().and_then(Cgroup::is_empty) {
            return empty;
        }
        (self.adopts && child::childless()) || self.members().is_empty()
    }

    /// Which of several walls nothing lives in any more. Where all have a cgroup no process is looked at;
    /// else our orphans are listed once for all of them, and the system's whole table is read for none whose
    /// main process is dead.
    pub fn emptied(walls: &[&Wall]) -> Vec<bool> {
        let mut listed: Option<Vec<(Pid, Option<String>)>> = None;
        let mut empty = |wall: &Wall| {
            if let Some(empty) = wall.cgroup.as_ref().and_then(Cgroup::is_empty) {
                return empty;
            }
            if !wall.adopts || wall.main.is_some_and(|main| main.alive()) {
                return wall.is_empty();
            }
            // Its main process is dead, so whatever is left of it are orphans of ours, and their descendants.
            !listed.get_or_insert_with(marked_orphans).iter().any(|(pid, marks)| wall.has(*pid, marks))
        };
        walls.iter().map(|wall| empty(wall)).collect()
    }

    /// Whether an orphan of ours is its.
    fn has(&self, orphan: Pid, marks: &Option<String>) -> bool {
        match marks {
            Some(marks) => bears(marks, &self.mark),
            // One that has emptied its environment may still be in the session that it was started in.
            None => self.sole || self.main.is_some_and(|main| process::session(orphan) == Some(main.pid)),
        }
    }

    /// What it has left that is no descendant of its main process any more.
    fn orphans(&self) -> Vec<Identity> {
        if !self.adopts {
            return process::marked(MARK, |marks| bears(marks, &self.mark));
        }
        let ours = marked_orphans().into_iter().filter(|(pid, marks)| self.has(*pid, marks));
        ours.filter_map(|(pid, _)| Identity::of(pid)).collect()
    }

    /// Sends `signal` to the process group of its main process, and CONT with it.
    pub fn tell_main(&self, signal: Signal) {
        for signal in [signal, Signal::SIGCONT] {
            self.main.into_iter().for_each(|main| child::signal_group(main, signal));
        }
    }

    /// Sends `signal` to each of `whom`, and CONT with it, so that one that is stopped can obey.
    pub fn tell(whom: &[Identity], signal: Signal) {
        for one in whom {
            child::signal(*one, signal);
            child::signal(*one, Signal::SIGCONT);
        }
    }

    /// Kills everything of it. Returns when nothing is left, whatever it forks meanwhile; whether that is so.
    pub fn kill(&self) -> bool {
        let at_once = self.cgroup.as_ref().is_some_and(Cgroup::kill);
        let gone = kill_until_gone(|| self.members());
        at_once || gone
    }

    /// Kills everything of it as far as that can be done within `patience`; where it has a cgroup the kernel
    /// does it at once, and nothing is waited for. Whether all of it is killed, though it may not be gone.
    pub fn kill_within(&self, patience: Duration) -> bool {
        self.cgroup.as_ref().is_some_and(Cgroup::kill) || kill_until(|| self.members(), patience)
    }

    /// Ends everything of it: `signal`, and what is alive after `patience` is killed. Returns when nothing is
    /// left.
    pub fn end(&self, signal: Signal, patience: Duration) -> bool {
        end(&|| self.members(), signal, patience) && self.kill()
    }
}

/// Tells those that `find` finds to end, waits for them, and kills whoever is left after `patience`.
pub(super) fn end(find: &dyn Fn() -> Vec<Identity>, signal: Signal, patience: Duration) -> bool {
    let until = clock::after(Instant::now(), patience);
    Wall::tell(&find(), signal);
    while !find().is_empty() {
        if Instant::now() >= until {
            return kill_until_gone(find);
        }
        std::thread::sleep(LOOK);
        child::collect();
    }
    true
}
