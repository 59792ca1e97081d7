//! The lives of entries: how one is started inside of its wall, told to stop, killed, and how all that it has
//! left is ended before the next one begins.

use super::Group;
use crate::act::group::changes::EntryChange;
use crate::act::group::entry::EntryKind;
use crate::act::group::machine::GroupEvent;
use crate::act::group::output::Output;
use crate::act::group::probing::{About, Question};
use crate::act::group::rooms::LifeRooms;
use crate::act::group::state::EntryState;
use crate::life::{self, Leftover, Wall};
use crate::service::group::GroupPaths;
use crate::service::manager;
use crate::sys::cgroup::CgroupParent;
use crate::sys::child::{self, Signal, Stdio};
use crate::sys::poll;
use crate::sys::process::Identity;
use crate::sys::say::Voice;
use crate::words::error::{Error, Result};
use crate::words::span;
use serde_json::json;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// What a killed group has left gets so long after TERM.
const LEFTOVERS: Duration = Duration::from_secs(5);
/// The same of what nobody knows to be an entry's, at the end of a group.
const STRAYS: Duration = Duration::from_secs(1);
/// Between two looks at what the dead have left: the first, and the longest.
const SOON: Duration = Duration::from_millis(1);
const SWEEPS: Duration = Duration::from_millis(8);
/// How long a kill may hold up the group where there is no cgroup. What is left is met by the next one.
const KILLS: Duration = Duration::from_millis(50);
/// Says to which group a process belongs.
const GROUP_VARIABLE: &str = "BAA_DAEMONS_GROUP";
/// Says which entry of it.
const ENTRY_VARIABLE: &str = "BAA_DAEMONS_ENTRY";

/// Where lives are kept: their cgroups, their record, and those whose last process is being awaited.
pub(super) struct LifeGround {
    key: String,
    /// Where each life gets a cgroup, if anywhere.
    parent: Option<CgroupParent>,
    /// Whether orphans fall to us.
    adopts: bool,
    pub(super) rooms: LifeRooms,
    /// The keys of the slots whose process is dead, and may have left something.
    sweeping: Vec<u64>,
    sweep: Instant,
    pause: Duration,
}

impl LifeGround {
    /// The ground of a group that begins: what one that was killed has left is ended, for two of them must
    /// not run side by side.
    pub(super) fn clear(paths: &GroupPaths, entries: usize, voice: &Voice) -> LifeGround {
        let adopts = child::adopt_orphans();
        let parent = CgroupParent::ours(manager::gave_us_our_cgroup);
        let key = paths.key();
        let (rooms, error) = LifeRooms::open(&paths.lives(), &key, entries);
        if let Some(cause) = error {
            let reason = crate::words::error::reason(&cause);
            voice.warn(format!(
                "cannot keep a record of what is started: {reason}; should this run be killed, the next one \
                 finds it by its marks"
            ));
        }
        // Where a disk was full, or a directory was removed, no record tells of them; and the file may have
        // had another name then.
        let mut left = rooms.leftovers();
        for key in paths.former().iter().map(GroupPaths::key).chain([key.clone()]) {
            left.extend(Leftover::of_key(&key));
            left.extend(parent.iter().flat_map(|parent| Leftover::of_cgroups(parent, &key)));
        }
        let alive = Leftover::all_members(&left).len();
        if alive > 0 {
            voice.warn(format!("the last run was killed and left {alive} processes; stopping them"));
        }
        Leftover::end_all(&left, Signal::SIGTERM, LEFTOVERS);
        rooms.wipe();
        life::helpers_belong_to(&key, parent.as_ref());
        let (sweep, pause) = (Instant::now(), SOON);
        LifeGround { key, parent, adopts, rooms, sweeping: Vec::new(), sweep, pause }
    }

    /// Makes the record anew: the old one was removed.
    pub(super) fn again<'a>(
        &mut self,
        paths: &GroupPaths,
        lives: impl Iterator<Item = (usize, &'a Wall)>,
    ) -> Result<()> {
        let made = self.rooms.again(&paths.lives(), &self.key, lives);
        made.map_err(|cause| Error::io("cannot keep a record of what is started", &cause))
    }

    /// What a process left behind may be no child of ours, so nothing tells us when it is gone.
    pub(super) fn next_sweep(&self) -> Option<Instant> {
        (!self.sweeping.is_empty()).then_some(self.sweep)
    }
}

impl Group<'_> {
    pub(super) fn start(&mut self, number: usize, session: u64) -> GroupEvent {
        match self.started(number) {
            Ok(identity) => {
                self.journal.note(
                    "start",
                    Some(&self.slots[number].entry.rules.id),
                    json!({ "pid": identity.pid.number(), "life": session }),
                );
                GroupEvent::Started(number, session)
            }
            Err(error) => GroupEvent::NotStarted { number, session, why: error.to_string() },
        }
    }

    fn started(&mut self, number: usize) -> Result<Identity> {
        // Whoever has taken our place starts it, and nobody else.
        if !self.hold.is_whole() && self.hold.look() == super::HoldState::Lost {
            self.lost = true;
            let text = "another run of this group has taken the place of this one";
            return Err(Error::new(super::Status::Lost, text));
        }
        let directory = self.hold.paths.directory().into_os_string();
        let slot = &mut self.slots[number];
        let cannot = |cause: std::io::Error| Error::io("cannot read what it says", &cause);
        let mut spec = slot.entry.spec()?;
        let (reader, writer) = std::io::pipe().map_err(cannot)?;
        poll::unblock(reader.as_fd()).map_err(cannot)?;
        let both = writer.try_clone().map_err(cannot)?;
        // A job of a property list has files of its own.
        let [stdin, stdout, stderr] = &mut spec.stdio;
        stdin.get_or_insert_with(Stdio::null);
        stdout.get_or_insert_with(|| writer.into());
        stderr.get_or_insert_with(|| both.into());
        spec.env.push((GROUP_VARIABLE.into(), directory));
        spec.env.push((ENTRY_VARIABLE.into(), slot.entry.rules.id.clone().into()));
        spec.ends_with_us = Some(Signal::SIGKILL);
        spec.start_untold = true;
        let ground = &self.ground;
        let mut wall = Wall::new(&ground.key, ground.parent.as_ref(), false, ground.adopts);
        wall.stops_by(slot.entry.stop_signal);
        let unnoted = |cause: std::io::Error| Error::io("cannot note what is started", &cause);
        ground.rooms.note(slot.room, &wall).map_err(unnoted)?;
        let started = match wall.start(spec) {
            Ok(started) => started,
            Err(error) => {
                ground.rooms.over(slot.room);
                return Err(error.into());
            }
        };
        // It is found by its cgroup or its mark also where this is lost.
        let _ = ground.rooms.note(slot.room, &wall);
        let (output, key) = (Output::new(reader), slot.key);
        if self.poller.add(output.fd(), key).is_ok() {
            slot.outputs.push(output);
        }
        self.mains.insert(started.identity.pid, key);
        (slot.main, slot.wall, slot.since, slot.tries) =
            (Some(started.identity), Some(wall), Some(Instant::now()), 0);
        slot.question = slot.entry.question(Some(started.identity.pid))?;
        if slot.outputs.len() > 2 {
            self.say(number, None);
        }
        Ok(started.identity)
    }

    /// The signal goes to the process group of the entry's process, and to nobody else's; with CONT, so that
    /// one that is stopped can obey.
    pub(super) fn tell(&mut self, number: usize) {
        let slot = &mut self.slots[number];
        let signal = slot.entry.stop_signal;
        self.journal.note(
            "stop",
            Some(&slot.entry.rules.id),
            json!({ "pid": slot.main.map(|main| main.pid.number()), "signal": signal.to_string() }),
        );
        slot.cancel_questions();
        if slot.main.is_some() {
            slot.wall.iter().for_each(|wall| wall.tell_main(signal));
        }
    }

    /// The stop signal has not helped in time; all of it gets the kill signal.
    pub(super) fn abort(&mut self, number: usize) {
        let slot = &self.slots[number];
        let (Some(wall), Some(signal)) = (&slot.wall, slot.entry.kill_signal) else { return };
        self.live.clear();
        let limit = span::show(slot.entry.rules.stop_timeout);
        self.voice.warn(format!("{}: has not stopped within {limit}; sending {signal}", slot.entry.rules.id));
        let pid = wall.main().map(|main| main.pid.number());
        let id = Some(slot.entry.rules.id.as_str());
        self.journal.note("abort", id, json!({ "pid": pid, "signal": signal.to_string() }));
        Wall::tell(&wall.members(), signal);
    }

    pub(super) fn kill(&mut self, number: usize) {
        let slot = &mut self.slots[number];
        let Some(wall) = &slot.wall else { return };
        if !std::mem::replace(&mut slot.killed, true) {
            self.live.clear();
            self.voice.warn(format!("{}: killing it", slot.entry.rules.id));
            let pid = wall.main().map(|main| main.pid.number());
            self.journal.note("kill", Some(&slot.entry.rules.id), json!({ "pid": pid }));
            let (state, message) = (EntryState::Stopping, Some("it is killed".to_owned()));
            slot.told = (state, message.clone());
            let pid = pid.filter(|_| slot.main.is_some());
            self.changes.add(EntryChange { id: slot.entry.rules.id.clone(), state, message, pid });
        }
        self.killed = true;
        wall.kill_within(KILLS);
    }

    pub(super) fn probe(&mut self, number: usize, session: u64) {
        let slot = &mut self.slots[number];
        if slot.entry.rules.kind == EntryKind::Check && slot.since.is_none() {
            slot.since = Some(Instant::now());
        }
        if slot.question.is_none() {
            slot.question = slot.entry.question(slot.main.map(|main| main.pid)).ok().flatten();
        }
        let Some(probe) = slot.question.clone() else { return };
        slot.tries += 1;
        let age = slot.since.map_or(Duration::ZERO, |since| since.elapsed());
        self.probes.ask(Question {
            of: (slot.key, session),
            about: About::Readiness,
            probe,
            timeout: slot.entry.probe_timeout,
            age,
            tries: slot.tries,
        });
    }

    pub(super) fn ask_live(&mut self, number: usize, session: u64) {
        let slot = &mut self.slots[number];
        let (Some(main), Some(live)) = (slot.main, slot.entry.rules.live) else { return };
        if slot.live.is_none() {
            slot.live = slot.entry.live_question(main.pid).ok().flatten();
        }
        let Some(probe) = slot.live.clone() else { return };
        let (of, about) = ((slot.key, session), About::Life(main.pid));
        self.probes.ask(Question { of, about, probe, timeout: live.timeout, age: Duration::ZERO, tries: 0 });
    }

    pub(super) fn reap(&mut self) {
        for (pid, exit) in child::reap() {
            let Some(number) = self.mains.remove(&pid).and_then(|key| self.number(key)) else { continue };
            self.slots[number].main = None;
            self.slots[number].cancel_questions();
            self.slots[number].killed = false;
            let session = self.machine.entries()[number].session;
            let (code, signal) = match exit {
                child::Exit::Code(code) => (Some(code), None),
                child::Exit::Signal(signal) => (None, Some(crate::sys::signal::name(signal))),
            };
            self.journal.note(
                "exit",
                Some(&self.slots[number].entry.rules.id),
                json!({ "pid": pid.number(), "code": code, "signal": signal }),
            );
            self.happen(GroupEvent::Exited { number, session, exit });
        }
    }

    pub(super) fn begin_sweep(&mut self, number: usize) {
        let slot = &mut self.slots[number];
        (slot.main, slot.swept) = (None, false);
        self.ground.sweeping.push(slot.key);
        (self.ground.sweep, self.ground.pause) = (Instant::now(), SOON);
    }

    /// Looks what the dead have left, all at once where there is nothing.
    pub(super) fn sweep(&mut self) {
        if self.ground.next_sweep().is_none_or(|next| Instant::now() < next) {
            return;
        }
        let keys = std::mem::take(&mut self.ground.sweeping);
        let places: Vec<(u64, usize)> =
            keys.into_iter().filter_map(|key| Some((key, self.number(key)?))).collect();
        let walls: Vec<&Wall> =
            places.iter().filter_map(|(_, number)| self.slots[*number].wall.as_ref()).collect();
        let mut emptied = Wall::emptied(&walls).into_iter();
        let mut over = Vec::new();
        for (key, number) in places {
            let slot = &mut self.slots[number];
            let empty = slot.wall.is_none() || emptied.next().unwrap_or(false);
            if empty {
                slot.wall = None;
                self.ground.rooms.over(slot.room);
                over.push(key);
                continue;
            }
            self.ground.sweeping.push(key);
            if !std::mem::replace(&mut slot.swept, true) {
                slot.wall.iter().for_each(|wall| Wall::tell(&wall.members(), Signal::SIGTERM));
            }
        }
        self.ground.sweep = Instant::now() + self.ground.pause;
        self.ground.pause = (self.ground.pause * 2).min(SWEEPS);
        for key in over {
            if let Some(number) = self.number(key) {
                self.happen(GroupEvent::Swept(number));
            }
        }
    }

    /// What is nobody's, at the end: it left its session and its parent, and is a child of ours by now.
    pub(super) fn end_rest(&mut self) {
        life::end_descendants(STRAYS);
        // Whoever has taken our place bears the same name.
        if self.lost {
            return;
        }
        let ground = &self.ground;
        let mut left: Vec<Leftover> =
            ground.parent.iter().flat_map(|parent| Leftover::of_cgroups(parent, &ground.key)).collect();
        if !ground.adopts {
            left.extend(Leftover::of_key(&ground.key));
        }
        Leftover::end_all(&left, Signal::SIGTERM, STRAYS);
        ground.rooms.wipe();
    }
}
