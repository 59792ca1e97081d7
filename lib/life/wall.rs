//! The wall around one life: it knows its members by a cgroup of its own where one may be made, and else by a
//! mark in their environment, together with session and parentage; orphans fall to us where the system can
//! have it so. It ends them all, by one code.

use super::tree::{kill_until, kill_until_gone, marked_orphans, within};
use crate::sys::cgroup::{Cgroup, CgroupParent};
use crate::sys::child::{self, Signal, Spec, StartError, Started};
use crate::sys::clock;
use crate::sys::process::{self, Identity, Pid, Table};
use crate::sys::signal::SignalNumber;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

/// The variable that every member inherits: KEY/ID, whose keeper or entry it is of, and which life. A life
/// within another bears both, the inner one last, with a comma between.
pub const MARK: &str = "BAA_LIFE";

/// Marks within marks are kept to this length; a keeper that keeps a keeper is one step.
const NESTED: usize = 2048;

/// The variable by which one who shares a wall is told of its cgroup.
const CGROUP: &str = "BAA_LIFE_CGROUP";

/// Between two looks at those who shall end.
const LOOK: Duration = Duration::from_millis(5);

/// A longer chain of parents is a torn one.
const CHAIN: usize = 4096;

/// One life's wall.
#[derive(Debug)]
pub struct Wall {
    mark: String,
    cgroup: Option<Cgroup>,
    main: Option<Identity>,
    /// What its main process is told to stop by, where that is not TERM.
    stop: Option<SignalNumber>,
    /// Whether orphans without a mark are its: where there is no other life that they could be of.
    sole: bool,
    /// Whether orphans fall to us, so that all members are descendants of ours.
    adopts: bool,
    /// Processes that are no members, with all that they start.
    spared: Vec<Pid>,
    /// Whether another process knows it too, and the main process is that one's child: then neither the
    /// cgroup nor parentage alone tells who belongs to it.
    shared: bool,
}

/// Whether `value`, of somebody's `MARK`, names the life of `mark`: the innermost, or one around it.
pub(super) fn bears(value: &str, mark: &str) -> bool {
    value.split(',').any(|one| one == mark)
}

/// The first part of a mark: a short name of `what` that is the same in every release and run (FNV-1a, 64
/// bits).
pub fn key(what: &[u8]) -> String {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:016x}", what.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

impl Wall {
    /// A wall around a life that is to be started, of the keeper or entry called `key`. It gets a cgroup of
    /// its own in `parent`; where that cannot be made it does without. `sole` says that there is no other
    /// life in this process whose orphans its could be; `adopts`, that orphans fall to us.
    pub fn new(key: &str, parent: Option<&CgroupParent>, sole: bool, adopts: bool) -> Wall {
        let id = crate::sys::random::hex();
        let cgroup = parent.and_then(|parent| parent.make(&format!("baa-{key}-{id}")).ok());
        Wall {
            mark: format!("{key}/{id}"),
            cgroup,
            main: None,
            stop: None,
            sole,
            adopts,
            spared: Vec::new(),
            shared: false,
        }
    }

    /// Shares this wall with the process that `spec` starts, which starts the main process inside of it and
    /// is outside itself: both can end all of it then.
    pub fn share(&mut self, spec: &mut Spec) {
        self.shared = true;
        spec.env.push((MARK.into(), self.value()));
        spec.env.extend(self.cgroup().map(|cgroup| (CGROUP.into(), cgroup.into())));
    }

    /// The wall that whoever has started us shares with us; `None` when nobody does. All that falls to us is
    /// of it.
    pub fn shared(adopts: bool) -> Option<Wall> {
        let marks = std::env::var(MARK).ok()?;
        let mark = marks.rsplit(',').next()?.to_owned();
        let cgroup = std::env::var_os(CGROUP).and_then(|path| Cgroup::joined(Path::new(&path)).ok());
        let (main, stop, spared) = (None, None, Vec::new());
        Some(Wall { mark, cgroup, main, stop, sole: true, adopts, spared, shared: true })
    }

    /// Who starts the main process of a wall that is shared: what comes of him belongs to it.
    pub fn entrust(&mut self, to: Identity) {
        self.main = Some(to);
    }

    /// What a member finds in `MARK`.
    fn value(&self) -> OsString {
        match std::env::var(MARK) {
            Ok(around) if bears(&around, &self.mark) => around.into(),
            Ok(around) if !around.is_empty() && around.len() < NESTED => {
                format!("{around},{}", self.mark).into()
            }
            _ => self.mark.clone().into(),
        }
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

    /// Its main process stops by this signal, for whoever finds it without us.
    pub fn stops_by(&mut self, signal: SignalNumber) {
        self.stop = Some(signal);
    }

    /// What its main process is told to stop by, where that is not TERM.
    pub(super) fn stop_signal(&self) -> Option<SignalNumber> {
        self.stop
    }

    /// Whether its orphans without a mark are its, from now on.
    pub fn set_sole(&mut self, sole: bool) {
        self.sole = sole;
    }

    /// From now on `pid` and all that it starts are no members: they are left alone, and let out of its
    /// cgroup where that can be.
    pub fn spare(&mut self, pid: Pid) {
        if let Some(cgroup) = &self.cgroup {
            Table::read().trees(&[pid]).into_iter().for_each(|one| cgroup.let_out(one.pid));
        }
        self.spared.push(pid);
    }

    /// Who is spared.
    pub(super) fn spared(&self) -> &[Pid] {
        &self.spared
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
        spec.env.push((MARK.into(), self.value()));
        spec.unset.push(CGROUP.into());
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
        if let Some(cgroup) = self.cgroup.as_ref().filter(|_| !self.shared) {
            let mut found = cgroup.members();
            if !self.spared.is_empty() {
                let spared = Table::read().trees(&self.spared);
                found.retain(|one| !spared.contains(one));
            }
            return found;
        }
        let table = Table::read();
        let mut roots: Vec<Identity> = self.main.into_iter().collect();
        roots.extend(self.cgroup.iter().flat_map(Cgroup::members));
        roots.extend(self.orphans());
        // What other threads run by themselves is none of it.
        let mut spared = child::helpers();
        spared.extend(&self.spared);
        spared.retain(|pid| self.main.is_none_or(|main| main.pid != *pid));
        let mut found = within(&table, &roots, &spared);
        if !process::is_shown() {
            // Without a table the main process and our orphans are all that can be told. What has come of
            // them is an orphan of ours when they are gone.
            found.extend(roots.into_iter().filter(Identity::alive));
        }
        found
    }

    /// Whether a process is a member, and be it dead and not yet reaped. The chain of its parents is looked
    /// at first: that is quick, however many processes there are.
    pub fn has_member(&self, pid: Pid) -> bool {
        let mut at = pid;
        for _ in 0..CHAIN {
            if self.spared.contains(&at) {
                return false;
            }
            if self.main.is_some_and(|main| main.pid == at) {
                return true;
            }
            let Some(parent) = process::parent_of(at) else { break };
            if parent == Pid::own() {
                // What others of our threads run is none of it; an orphan that fell to us may be.
                if child::known().contains(&at) {
                    return false;
                }
                if self.adopts && self.has(at, &process::variable(at, MARK)) {
                    return true;
                }
                break;
            }
            at = parent;
        }
        self.cgroup.as_ref().is_some_and(|cgroup| cgroup.members().iter().any(|one| one.pid == pid))
            || (!self.adopts && self.members().iter().any(|one| one.pid == pid))
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
        // One that is spared may not have been let out.
        let cgroup = self.cgroup.as_ref().filter(|_| self.spared.is_empty() && !self.shared);
        if let Some(empty) = cgroup.and_then(Cgroup::is_empty) {
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
            let cgroup = wall.cgroup.as_ref().filter(|_| wall.spared.is_empty() && !wall.shared);
            if let Some(empty) = cgroup.and_then(Cgroup::is_empty) {
                return empty;
            }
            if !wall.adopts || !wall.spared.is_empty() || wall.main.is_some_and(|main| main.alive()) {
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
    pub fn tell_main(&self, signal: impl Into<SignalNumber>) {
        for signal in [signal.into(), Signal::SIGCONT.into()] {
            self.main.into_iter().for_each(|main| child::signal_group(main, signal));
        }
    }

    /// Sends `signal` to each of `whom`, and CONT with it, so that one that is stopped can obey.
    pub fn tell(whom: &[Identity], signal: impl Into<SignalNumber>) {
        let signal = signal.into();
        for one in whom {
            child::signal(*one, signal);
            child::signal(*one, Signal::SIGCONT);
        }
    }

    /// Kills everything of it. Returns when nothing is left, whatever it forks meanwhile; whether that is so.
    pub fn kill(&self) -> bool {
        self.kill_main();
        let at_once = self.spared.is_empty() && self.cgroup.as_ref().is_some_and(Cgroup::kill);
        let gone = kill_until_gone(|| self.members());
        at_once || gone
    }

    /// The one that is known without a look at the system, which on a busy machine may take as long as a
    /// lease. Not where what it has started is told by its parentage alone.
    fn kill_main(&self) {
        if self.cgroup.is_none() && !(self.sole && self.adopts) {
            return;
        }
        self.main.into_iter().for_each(|main| child::signal(main, Signal::SIGKILL));
    }

    /// Kills everything of it as far as that can be done within `patience`; where it has a cgroup the kernel
    /// does it at once, and nothing is waited for. Whether all of it is killed, though it may not be gone.
    pub fn kill_within(&self, patience: Duration) -> bool {
        self.kill_main();
        (self.spared.is_empty() && self.cgroup.as_ref().is_some_and(Cgroup::kill))
            || kill_until(|| self.members(), 1, patience)
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
