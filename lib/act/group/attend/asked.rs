//! What a group is asked over its socket and by HUP: how it fares, to stop and start entries, to read its
//! file again.

use super::Group;
use crate::act::group::SCHEMA;
use crate::act::group::ask::GroupVerb;
use crate::act::group::entry::Life;
use crate::act::group::machine::GroupEvent;
use crate::act::group::plan::GroupPlan;
use crate::act::group::slot::EntrySlot;
use crate::act::group::state::EntryState;
use crate::service::group::MarkedIds;
use crate::sys::child;
use crate::sys::signal::SignalNumber;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use crate::words::{span, stamp};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

/// Of an entry that has no life yet.
const NO_ROOM: usize = usize::MAX;

/// What a verb is to come to, for whoever waits for it.
#[derive(Default)]
pub(super) struct Outlook {
    /// Those that are to be ready, or done.
    ready: Vec<String>,
    /// Those that are to be down.
    down: Vec<String>,
    /// Others that it concerns.
    others: Vec<String>,
    warning: Option<String>,
}

impl Group<'_> {
    pub(super) fn reply(&mut self, line: &[u8]) -> String {
        if let Some(path) = named(line) {
            self.hold.rename(&path);
        }
        let after = self.changes.count();
        let answer = match GroupVerb::parse(line) {
            Ok(GroupVerb::Changes { ids, after }) => return self.changes(ids, after).to_string(),
            Ok(verb) => self.obey_verb(verb),
            Err(why) => Err(Error::new(Status::Usage, why)),
        };
        match answer {
            Ok(outlook) => {
                let mut status = self.status();
                if let Some(Outlook { ready, down, others, warning }) = outlook {
                    status["change"] = json!({
                        "after": after, "ready": ready, "down": down, "others": others, "warning": warning
                    });
                }
                status.to_string()
            }
            Err(error) => json!({ "error": error.to_string(), "status": error.status.code() }).to_string(),
        }
    }

    fn obey_verb(&mut self, verb: GroupVerb) -> Result<Option<Outlook>> {
        let (word, ids) = verb.words();
        if !word.is_empty() {
            self.journal.note("asked", None, json!({ "verb": word, "ids": ids }));
        }
        Ok(match verb {
            GroupVerb::Status | GroupVerb::Changes { .. } => None,
            GroupVerb::Check(id) => {
                self.plan_with(&id)?;
                None
            }
            GroupVerb::Reload => Some(self.reload()?),
            GroupVerb::Renew(id) => Some(self.renew(&id)?),
            GroupVerb::StopAll => {
                if !self.machine.is_ending() {
                    self.stop_early(Status::No, "stopped");
                }
                Some(Outlook::default())
            }
            GroupVerb::Start(ids) => Some(self.told(ids, false, GroupEvent::Release)?),
            GroupVerb::Once(ids) => Some(self.told(ids, false, GroupEvent::Once)?),
            GroupVerb::Restart(ids) => Some(self.told(ids, true, GroupEvent::Bounce)?),
            GroupVerb::Stop(ids) => Some(self.told_to_stop(ids)?),
            GroupVerb::Signal(ids, signal) => {
                self.signal(&ids, signal)?;
                None
            }
        })
    }

    /// The file as it is now, if it would do and has the entry.
    fn plan_with(&self, id: &str) -> Result<GroupPlan> {
        let plan = GroupPlan::read(&self.hold.file)?;
        if plan.entries.iter().any(|entry| entry.rules.id == id) { Ok(plan) } else { Err(absent(id)) }
    }

    /// Starts an entry anew, as the file has it now.
    fn renew(&mut self, id: &str) -> Result<Outlook> {
        let plan = self.plan_with(id)?;
        // One that is new or changed is started anew by that.
        if self.adopt(plan).iter().any(|changed| changed == id) {
            Ok(Outlook { ready: vec![id.to_owned()], ..Outlook::default() })
        } else {
            self.told(vec![id.to_owned()], true, GroupEvent::Bounce)
        }
    }

    /// The places of entries.
    fn places_of(&self, ids: &[String]) -> Result<Vec<usize>> {
        let entries = self.machine.entries();
        let place = |id: &String| {
            let found = entries.iter().position(|entry| entry.rules.id == *id && !entry.leaves());
            found.ok_or_else(|| absent(id))
        };
        ids.iter().map(place).collect()
    }

    fn ids_of(&self, numbers: &[usize]) -> Vec<String> {
        numbers.iter().map(|number| self.machine.entries()[*number].rules.id.clone()).collect()
    }

    /// Lets entries run; all of them, or, where one is not there, none.
    fn told(&mut self, ids: Vec<String>, along: bool, event: fn(usize) -> GroupEvent) -> Result<Outlook> {
        let numbers = self.places_of(&ids)?;
        if self.machine.is_ending() {
            return Err(Error::new(Status::Busy, "the group stops"));
        }
        let taken = if along { self.machine.taken_along(&numbers) } else { Vec::new() };
        let kept = self.stopped.iter().filter(|id| !ids.contains(id)).cloned().collect();
        let warning = self.change_stopped(kept);
        numbers.into_iter().for_each(|number| self.happen(event(number)));
        let ready = ids.into_iter().chain(self.ids_of(&taken)).collect();
        Ok(Outlook { ready, warning, ..Outlook::default() })
    }

    /// Stops entries. That they are to stay so is written down first.
    fn told_to_stop(&mut self, ids: Vec<String>) -> Result<Outlook> {
        let numbers = self.places_of(&ids)?;
        let taken = self.machine.taken_along(&numbers);
        let all = self.stopped.iter().chain(&ids).cloned().collect();
        let warning = self.change_stopped(all);
        numbers.into_iter().for_each(|number| self.happen(GroupEvent::Hold(number)));
        Ok(Outlook { down: ids, others: self.ids_of(&taken), warning, ..Outlook::default() })
    }

    fn signal(&mut self, ids: &[String], signal: SignalNumber) -> Result<()> {
        let numbers = self.places_of(ids)?;
        let down = |number: &&usize| self.slots[**number].main.is_none();
        if let Some(number) = numbers.iter().find(down) {
            let id = crate::words::error::brief(&self.machine.entries()[*number].rules.id);
            return Err(Error::new(Status::No, format!("entry '{id}' has no process")));
        }
        for number in numbers {
            let slot = &self.slots[number];
            slot.main.iter().for_each(|main| child::signal(*main, signal));
            let more =
                json!({ "pid": slot.main.map(|main| main.pid.number()), "signal": signal.to_string() });
            self.journal.note("signal", Some(&slot.entry.rules.id), more);
        }
        Ok(())
    }

    /// Takes note of which entries are stopped; why that will be forgotten, if so.
    fn change_stopped(&mut self, ids: MarkedIds) -> Option<String> {
        if ids == self.stopped {
            return None;
        }
        self.stopped = ids;
        self.keep_stopped().err().map(|error| error.to_string())
    }

    /// Writes down which entries were stopped, for another run of the group.
    pub(super) fn keep_stopped(&self) -> Result<()> {
        let kept = self.hold.paths.keep_stopped(&self.stopped);
        kept.map_err(|cause| Error::io("cannot write down that it is to stay so", &cause))
    }

    /// Holds those that were stopped by hand, or are not to run until they are enabled, of those that are not
    /// known yet.
    pub(super) fn hold_marked(&mut self, known: &HashSet<String>) {
        let (stopped, disabled) = (&self.stopped, self.hold.paths.disabled());
        let is_held = |id: &String| !known.contains(id) && (stopped.contains(id) || disabled.contains(id));
        let entries = self.machine.entries().iter().enumerate();
        let held = entries.filter(|(_, entry)| !entry.leaves() && is_held(&entry.rules.id));
        let held: Vec<usize> = held.map(|(number, _)| number).collect();
        held.iter().for_each(|number| self.machine.hold(*number));
        if !held.is_empty() {
            let ids = self.ids_of(&held).join(", ");
            self.voice.note(format!("stopped by hand before, and not started: {ids}"));
        }
    }

    /// What has become of entries since `after` changes, and how they fare; of all where none is named.
    fn changes(&self, ids: Vec<String>, after: u64) -> Value {
        let wanted: HashSet<String> = ids.into_iter().collect();
        let is_wanted = |id: &str| wanted.is_empty() || wanted.contains(id);
        let (changes, missed) = self.changes.since(after, is_wanted);
        let stuck = self.machine.stuck();
        let entries = self.machine.entries().iter().enumerate();
        // An older self that still leaves is that of its id only where there is no newer one.
        let is_there =
            |id: &str| self.machine.entries().iter().any(|entry| entry.rules.id == id && !entry.leaves());
        let named = entries.filter(|(_, entry)| {
            is_wanted(&entry.rules.id) && (!entry.leaves() || !is_there(&entry.rules.id))
        });
        let entries = named.map(|(number, _)| {
            let mut entry = self.entry_status(number);
            let by = stuck[number].map(|by| {
                let (state, other) = (self.machine.state(by), &self.machine.entries()[by]);
                let why = other.message(state).map(|message| format!(": {message}")).unwrap_or_default();
                format!("{} is {}{why}", other.rules.id, state.word())
            });
            entry["stuck"] = json!(by);
            entry
        });
        json!({
            "schema": SCHEMA, "pid": std::process::id(), "number": self.changes.count(),
            "missed": missed, "changes": changes, "entries": entries.collect::<Vec<_>>(),
            "stopping": self.machine.is_ending()
        })
    }

    /// Reads the file again; where it is wrong nothing changes.
    pub(super) fn reload(&mut self) -> Result<Outlook> {
        let plan = GroupPlan::read(&self.hold.file)
            .inspect_err(|error| self.voice.warn(format!("nothing is reloaded: {error}")))?;
        if self.machine.is_ending() {
            return Err(Error::new(Status::Busy, "the group stops"));
        }
        let before: HashSet<String> =
            self.machine.entries().iter().map(|entry| entry.rules.id.clone()).collect();
        let mut ready = self.adopt(plan);
        let entries = self.machine.entries();
        ready.retain(|id| {
            entries.iter().any(|entry| entry.rules.id == *id && !entry.leaves() && !entry.is_held())
        });
        let after: HashSet<&str> =
            entries.iter().filter(|entry| !entry.leaves()).map(|entry| entry.rules.id.as_str()).collect();
        let down = before.iter().filter(|id| !after.contains(id.as_str())).cloned().collect();
        Ok(Outlook { ready, down, ..Outlook::default() })
    }

    /// Goes on as `plan` has it. The ids of those that are new or changed.
    fn adopt(&mut self, plan: GroupPlan) -> Vec<String> {
        let known = self.machine.entries().iter().map(|entry| entry.rules.id.clone()).collect();
        let here = self.machine.entries().iter().zip(&self.slots);
        let kept: Vec<Option<usize>> = plan
            .entries
            .iter()
            .map(|new| {
                here.clone().position(|(entry, slot)| {
                    !entry.leaves() && slot.entry.rules.id == new.rules.id && slot.entry.same(new)
                })
            })
            .collect();
        let changed: Vec<String> = plan
            .entries
            .iter()
            .zip(&kept)
            .filter(|(_, kept)| kept.is_none())
            .map(|(entry, _)| entry.rules.id.clone())
            .collect();
        self.live.clear();
        self.journal.note("reload", None, json!({ "changed": changed }));
        self.voice.note(format!(
            "reloaded: {} of {} entries are new or changed",
            changed.len(),
            plan.entries.len()
        ));
        let paths =
            self.machine.reload(plan.entries.iter().map(|entry| entry.rules.clone()).collect(), &kept);
        let count = self.machine.entries().len();
        let mut slots: Vec<Option<EntrySlot>> = (0..count).map(|_| None).collect();
        for (at, entry) in plan.entries.into_iter().enumerate() {
            self.serial += 1;
            let paths = &self.hold.paths;
            slots[at] = Some(EntrySlot::new(self.serial, entry, NO_ROOM, paths, &self.logs));
        }
        for (number, mut slot) in std::mem::take(&mut self.slots).into_iter().enumerate() {
            let at = paths[number];
            if let Some(new) = slots[at].take() {
                slot.entry = new.entry;
            }
            slots[at] = Some(slot);
        }
        self.slots = slots.into_iter().flatten().collect();
        for slot in self.slots.iter_mut().filter(|slot| slot.room == NO_ROOM) {
            slot.room = self.ground.rooms.take();
        }
        self.find_places();
        self.hold_marked(&known);
        self.happen(GroupEvent::Time);
        changed
    }

    pub(super) fn forget(&mut self) {
        let stay = self.machine.forget();
        if stay.len() == self.slots.len() {
            return;
        }
        let mut stays = vec![false; self.slots.len()];
        stay.into_iter().for_each(|number| stays[number] = true);
        for number in (0..stays.len()).filter(|number| !stays[*number]) {
            // What they have said last is not lost with them.
            self.say(number, Some(Instant::now()));
            let slot = &mut self.slots[number];
            slot.outputs.drain(..).for_each(|output| self.poller.remove(output.fd()));
            self.ground.rooms.give_back(slot.room);
        }
        let mut stays = stays.into_iter();
        self.slots.retain(|_| stays.next().unwrap_or(true));
        self.find_places();
    }

    pub(super) fn status(&self) -> Value {
        let entries = self.machine.entries().iter().enumerate().filter(|(_, entry)| !entry.leaves());
        let entries: Vec<Value> = entries.map(|(number, _)| self.entry_status(number)).collect();
        json!({
            "schema": SCHEMA, "file": self.hold.file, "pid": std::process::id(),
            "stopping": self.machine.is_ending(), "entries": entries
        })
    }

    fn entry_status(&self, number: usize) -> Value {
        let (entry, slot) = (&self.machine.entries()[number], &self.slots[number]);
        let state = self.machine.state(number);
        let up = slot.main.and(slot.since).map(|since| span::millis(since.elapsed()));
        let waits = state == EntryState::Waiting;
        let waits_for = if waits { self.machine.waits_for(number) } else { Vec::new() };
        let pause = if let Life::Resting(until) = entry.life {
            Some(until.saturating_duration_since(Instant::now()))
        } else {
            None
        };
        json!({
            "id": entry.rules.id,
            "state": state.word(),
            "message": entry.message(state),
            "waits_for": waits_for,
            "asks_ready": entry.rules.ready.is_some(),
            "pid": slot.main.map(|main| main.pid.number()),
            "life": entry.session,
            "up_ms": up,
            "stop_timeout_ms": span::millis(entry.rules.stop_timeout),
            "failed_exits": entry.failed,
            "last": entry.last,
            "next_start_ms": pause.map(span::millis),
            "next_start": pause.map(|pause| stamp::millis(SystemTime::now() + pause)),
        })
    }
}

/// The name that whoever asks knows the file by.
fn named(line: &[u8]) -> Option<PathBuf> {
    let question: Value = serde_json::from_slice(line).ok()?;
    question["file"].as_str().map(PathBuf::from)
}

fn absent(id: &str) -> Error {
    Error::new(Status::Absent, format!("there is no entry '{}'", crate::words::error::brief(id)))
}
