//! What a group is asked over its socket and by HUP: how it fares, to stop and start entries, to read its
//! file again.

use super::Group;
use crate::act::group::ask::GroupVerb;
use crate::act::group::entry::{EntryHealth, Life};
use crate::act::group::machine::GroupEvent;
use crate::act::group::plan::GroupPlan;
use crate::act::group::slot::EntrySlot;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use crate::words::span;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

/// Of an entry that has no life yet.
const NO_ROOM: usize = usize::MAX;

impl Group<'_> {
    pub(super) fn reply(&mut self, line: &[u8]) -> String {
        if let Some(path) = named(line) {
            self.hold.rename(&path);
        }
        let answer = match GroupVerb::parse(line) {
            Ok(GroupVerb::Status) => Ok(()),
            Ok(GroupVerb::Reload) => self.reload(),
            Ok(GroupVerb::Check(id)) => self.plan_with(&id).map(drop),
            Ok(GroupVerb::Renew(id)) => self.renew(&id),
            Ok(GroupVerb::StopAll) => {
                if !self.machine.is_ending() {
                    self.stop();
                }
                Ok(())
            }
            Ok(GroupVerb::Start(id)) => self.told(&id, GroupEvent::Release),
            Ok(GroupVerb::Stop(id)) => self.told(&id, GroupEvent::Hold),
            Ok(GroupVerb::Restart(id)) => self.told(&id, GroupEvent::Bounce),
            Err(why) => Err(Error::new(Status::Usage, why)),
        };
        match answer {
            Ok(()) => self.status().to_string(),
            Err(error) => json!({ "error": error.to_string(), "status": error.status.code() }).to_string(),
        }
    }

    /// The file as it is now, if it would do and has the entry.
    fn plan_with(&self, id: &str) -> Result<GroupPlan> {
        let plan = GroupPlan::read(&self.hold.file)?;
        if plan.entries.iter().any(|entry| entry.rules.id == id) { Ok(plan) } else { Err(absent(id)) }
    }

    /// Starts an entry anew, as the file has it now.
    fn renew(&mut self, id: &str) -> Result<()> {
        let plan = self.plan_with(id)?;
        // One that is new or changed is started anew by that.
        if self.adopt(plan).iter().any(|changed| changed == id) {
            Ok(())
        } else {
            self.told(id, GroupEvent::Bounce)
        }
    }

    fn told(&mut self, id: &str, event: fn(usize) -> GroupEvent) -> Result<()> {
        let number = self.machine.entries().iter().position(|entry| entry.rules.id == id && !entry.leaves());
        let number = number.ok_or_else(|| absent(id))?;
        self.happen(event(number));
        Ok(())
    }

    /// Reads the file again; where it is wrong nothing changes.
    pub(super) fn reload(&mut self) -> Result<()> {
        let plan = GroupPlan::read(&self.hold.file)
            .inspect_err(|error| self.voice.warn(format!("nothing is reloaded: {error}")))?;
        self.adopt(plan);
        Ok(())
    }

    /// Goes on as `plan` has it. The ids of those that are new or changed.
    fn adopt(&mut self, plan: GroupPlan) -> Vec<String> {
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
        let entries: Vec<Value> = self
            .machine
            .entries()
            .iter()
            .zip(&self.slots)
            .enumerate()
            .filter(|(_, (entry, _))| !entry.leaves())
            .map(|(number, (entry, slot))| {
                let up = slot.main.and(slot.since).map(|since| span::millis(since.elapsed()));
                let waits = entry.health == EntryHealth::Waiting;
                let waits_for = if waits { self.machine.waits_for(number) } else { Vec::new() };
                let next_start = if let Life::Resting(until) = entry.life {
                    Some(span::millis(until.saturating_duration_since(Instant::now())))
                } else {
                    None
                };
                json!({
                    "id": entry.rules.id,
                    "status": entry.health.word(),
                    "message": entry.health.message(),
                    "waits_for": waits_for,
                    "pid": slot.main.map(|main| main.pid.number()),
                    "life": entry.session,
                    "up_ms": up,
                    "stop_timeout_ms": span::millis(entry.rules.stop_timeout),
                    "failed_exits": entry.failed,
                    "last": entry.last,
                    "next_start_ms": next_start,
                })
            })
            .collect();
        json!({
            "schema": "baa.daemons/1", "file": self.hold.file, "pid": std::process::id(),
            "stopping": self.machine.is_ending(), "entries": entries
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
