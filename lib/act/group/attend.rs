//! The loop around a group: processes, probes, what entries say, the control socket, time.

mod asked;
mod lives;

use crate::act::group::changes::{EntryChange, EntryChanges};
use crate::act::group::entry::Life;
use crate::act::group::hold::{GroupHold, HoldState};
use crate::act::group::journal::{self, Journal};
use crate::act::group::machine::{GroupAction, GroupEvent, GroupMachine, Said};
use crate::act::group::plan::GroupPlan;
use crate::act::group::probing::{About, ProbeReply, Probes};
use crate::act::group::slot::EntrySlot;
use crate::act::group::state::EntryState;
use crate::act::group::table;
use crate::service::group::MarkedIds;
use crate::sys::child::Signal;
use crate::sys::lines::Lines;
use crate::sys::memory;
use crate::sys::outlet::Outlet;
use crate::sys::poll::{self, For};
use crate::sys::poller::Poller;
use crate::sys::process::Pid;
use crate::sys::say::{self, Live, Voice};
use crate::sys::signal::{self, Signals};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use crate::words::span;
use lives::LifeGround;
use serde_json::json;
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Between two looks of a person at how it fares.
const SHOWN: Duration = Duration::from_millis(200);
/// How much of what entries say may wait for the disk.
const LOGS: usize = 1024 * 1024;
/// Between two looks whether there is room for what entries say.
const HELD: Duration = Duration::from_millis(10);
/// How long the end of a group waits for the disk.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Between two looks whether our locks and our socket are still there.
const LOOKS: Duration = Duration::from_secs(2);

/// What to run, and how.
pub struct GroupRequest {
    /// The file of the group.
    pub file: PathBuf,
    /// Stop when every entry is ready or done; `Some(limit)` is how long that may take, without end where
    /// there is none.
    pub until_success: Option<Option<Duration>>,
    /// Whether what entries say goes to the terminal too.
    pub echo: bool,
    /// Whether a table on the terminal shows how the group fares.
    pub live: bool,
}

struct Group<'a> {
    request: &'a GroupRequest,
    voice: &'a Voice,
    hold: GroupHold,
    machine: GroupMachine,
    slots: Vec<EntrySlot>,
    /// The places of the slots, by their keys.
    places: HashMap<u64, usize>,
    /// The keys of the slots, by the processes of theirs that we have not reaped.
    mains: HashMap<Pid, u64>,
    serial: u64,
    probes: Probes,
    /// What is said on its way to the disk.
    logs: Outlet,
    journal: Journal,
    changes: EntryChanges,
    /// Those that somebody has stopped until they are started.
    stopped: MarkedIds,
    live: Live,
    ground: LifeGround,
    /// What entries say, by the keys of their slots.
    poller: Poller,
    finished: bool,
    killed: bool,
    /// What it ends with, if not as it should.
    failure: Option<Error>,
    /// Whether another group has taken our place.
    lost: bool,
    next_show: Instant,
    next_look: Instant,
}

/// Runs the group until a signal or a request stops it, or, where that is asked, until all of it is ready.
///
/// # Errors
/// 75 when this group runs already; 65 to 78 for its file; 124 with each laggard named, when it was not ready
/// in time; 76 when another run of it has taken its place.
pub fn attend(request: &GroupRequest, voice: &Voice) -> Result<Status> {
    let plan = GroupPlan::read(&request.file)?;
    let cannot = |cause: std::io::Error| Error::io("cannot run a group", &cause);
    let signals = Signals::catch(&[Signal::SIGCHLD, Signal::SIGHUP]).map_err(cannot)?;
    signals.catch_ending().map_err(cannot)?;
    let hold = GroupHold::take(&request.file)?;
    poll::raise_descriptor_limit();
    let ground = LifeGround::clear(&hold.paths, plan.entries.len(), voice);
    let mut lines = Lines::listen(&hold.paths.control())?;
    let mut group = Group::new(request, voice, hold, ground, plan)?;
    let begun = json!({ "schema": journal::SCHEMA, "pid": std::process::id(), "entries": group.slots.len() });
    group.journal.note("begin", None, begun);
    group.run(&signals, &mut lines)?;
    group.journal.note("done", None, json!({ "killed": group.killed }));
    group.logs.flush(Instant::now() + LAST_LINES);
    match group.failure {
        Some(error) => Err(error),
        None => Ok(if group.killed { Status::No } else { Status::Done }),
    }
}

impl<'a> Group<'a> {
    fn new(
        request: &'a GroupRequest,
        voice: &'a Voice,
        hold: GroupHold,
        mut ground: LifeGround,
        plan: GroupPlan,
    ) -> Result<Group<'a>> {
        let machine = GroupMachine::new(plan.entries.iter().map(|entry| entry.rules.clone()).collect());
        let poller = Poller::new().map_err(|cause| Error::io("cannot run a group", &cause))?;
        let logs = Outlet::new(LOGS);
        let slots: Vec<EntrySlot> = plan
            .entries
            .into_iter()
            .zip(0u64..)
            .map(|(entry, key)| EntrySlot::new(key, entry, ground.rooms.take(), &hold.paths, &logs))
            .collect();
        let mut group = Group {
            request,
            voice,
            machine,
            serial: slots.len() as u64,
            slots,
            places: HashMap::new(),
            mains: HashMap::new(),
            probes: Probes::new()?,
            journal: Journal::new(&hold.paths.journal(), &logs),
            logs,
            changes: EntryChanges::default(),
            stopped: hold.paths.stopped(),
            live: Live::new(request.live),
            hold,
            ground,
            poller,
            finished: false,
            killed: false,
            failure: None,
            lost: false,
            next_show: Instant::now(),
            next_look: Instant::now() + LOOKS,
        };
        group.find_places();
        group.hold_marked(&HashSet::new());
        Ok(group)
    }

    fn run(&mut self, signals: &Signals, lines: &mut Lines) -> Result<()> {
        let limit = self.request.until_success.flatten().map(|limit| Instant::now() + limit);
        // Who was told to stop while the leftovers of another run were ended starts nothing.
        self.obey(signals);
        self.happen(GroupEvent::Time);
        memory::shrink();
        while !self.finished {
            self.sleep(signals, lines, limit)?;
            self.obey(signals);
            self.reap();
            for ProbeReply { of, about, said, took, soon } in self.probes.answers() {
                let (Some(number), session) = (self.number(of.0), of.1) else { continue };
                self.happen(match (about, said) {
                    (About::Readiness, said) => GroupEvent::Probed { number, session, said, soon },
                    (About::Life(_), Said::Not(why)) => {
                        GroupEvent::Lived { number, session, why: Some(why), took }
                    }
                    (About::Life(_), _) => GroupEvent::Lived { number, session, why: None, took },
                });
            }
            self.outputs();
            lines.serve(&mut |line| self.reply(line));
            self.happen(GroupEvent::Time);
            self.sweep();
            self.forget();
            self.look(lines);
            self.until_success(limit);
            self.show();
        }
        self.live.clear();
        self.end_rest();
        let until = say::ending();
        (0..self.slots.len()).for_each(|number| self.say(number, Some(until)));
        Ok(())
    }

    fn obey(&mut self, signals: &Signals) {
        for signal in signals.take_numbers() {
            match Signal::try_from(signal) {
                Ok(Signal::SIGCHLD) => {}
                Ok(Signal::SIGHUP) => drop(self.reload()),
                // Whatever would have ended us, also one without a name.
                _ => {
                    let status = Status::Signal(u8::try_from(signal).unwrap_or(0));
                    self.stop_early(status, &format!("ended by {}", signal::name(signal)));
                }
            }
        }
    }

    /// Stops it because somebody wants so; where only a success is waited for it has not come.
    fn stop_early(&mut self, status: Status, how: &str) {
        let waits = self.request.until_success.is_some() && self.failure.is_none();
        if waits && !self.machine.is_ending() && !self.machine.all_ready() {
            let text = format!("{how} while waiting for {}", table::laggards(&self.machine));
            self.failure = Some(Error::new(status, text));
        }
        self.stop();
    }

    /// Where only a success is waited for: whether there is one, or its time is over.
    fn until_success(&mut self, limit: Option<Instant>) {
        if self.request.until_success.is_none() || self.machine.is_ending() {
            return;
        }
        if self.machine.all_ready() {
            self.stop();
        } else if let Some(hopeless) = self.machine.hopeless() {
            let last = hopeless.last.as_deref().unwrap_or("not started");
            let text =
                format!("{} is not started again, so not all can be a success: {last}", hopeless.rules.id);
            self.failure = Some(Error::new(Status::Unavailable, text));
            self.stop();
        } else if limit.is_some_and(|limit| Instant::now() >= limit) {
            let taken = span::show(self.request.until_success.flatten().unwrap_or_default());
            self.failure = Some(Error::new(
                Status::TooLate,
                format!("timed out after {taken} waiting for {}", table::laggards(&self.machine)),
            ));
            self.stop();
        }
    }

    /// Whether we are still who others find and whom they exclude, now and then.
    fn look(&mut self, lines: &mut Lines) {
        let now = Instant::now();
        if now < self.next_look && !self.lost {
            return;
        }
        self.next_look = now + LOOKS;
        match self.hold.look() {
            HoldState::Kept => {}
            HoldState::Again => {
                self.live.clear();
                self.voice.warn("the runtime directory was removed; making it again");
                let lives = self.slots.iter().filter_map(|slot| Some((slot.room, slot.wall.as_ref()?)));
                let made = self.ground.again(&self.hold.paths, lives).and_then(|()| lines.listen_again());
                let made = made.and_then(|()| self.keep_stopped());
                if let Err(error) = made {
                    self.voice.warn(error.to_string());
                }
            }
            HoldState::Lost => self.lost = true,
        }
        if self.lost && self.failure.is_none() {
            let text = format!("another run of {} has taken the place of this one", self.hold.file.display());
            self.failure = Some(Error::new(Status::Lost, text));
            self.stop();
        }
    }

    /// On a terminal, below what is said: a table where it fits, else a line.
    fn show(&mut self) {
        let now = Instant::now();
        if !self.live.visible() || now < self.next_show {
            return;
        }
        self.next_show = now + SHOWN;
        let text = if self.live.fits(self.slots.len() + 1) {
            table::table(&self.status())
        } else {
            table::live(&self.machine)
        };
        self.live.show(&text);
    }

    fn stop(&mut self) {
        if !self.machine.is_ending() {
            self.journal.note("stop", None, json!({}));
        }
        self.happen(GroupEvent::Stop);
    }

    fn number(&self, key: u64) -> Option<usize> {
        self.places.get(&key).copied()
    }

    /// To be called whenever slots have come, gone or moved.
    fn find_places(&mut self) {
        self.places = self.slots.iter().enumerate().map(|(number, slot)| (slot.key, number)).collect();
    }

    fn sleep(&mut self, signals: &Signals, lines: &Lines, limit: Option<Instant>) -> Result<()> {
        // What is said faster than it can be passed on is left with those who say it.
        let held = self.is_congested();
        let own = [signals.fd(), self.probes.bell.fd()].into_iter().chain((!held).then(|| self.poller.fd()));
        let own = own.map(|fd| (fd, For::Reading));
        let fds: Vec<_> = own.chain(lines.fds()).collect();
        let shown =
            self.live.visible().then(|| self.next_show.max(Instant::now() + Duration::from_millis(50)));
        let until = [
            self.machine.wake(),
            lines.wake(),
            limit.filter(|_| self.failure.is_none()),
            self.ground.next_sweep(),
            Some(self.next_look),
            shown,
            held.then(|| Instant::now() + HELD),
        ];
        let until = until.into_iter().flatten().min();
        poll::wait(&fds, until).map_err(|cause| Error::io("cannot wait", &cause))?;
        Ok(())
    }

    fn happen(&mut self, event: GroupEvent) {
        let mut queue = VecDeque::from([event]);
        while let Some(event) = queue.pop_front() {
            let todo = self.machine.handle(Instant::now(), event);
            // First what has changed, then what follows from it: so the journal has it.
            self.tell_changes();
            for todo in todo {
                match todo {
                    GroupAction::Start(number, session) => queue.push_back(self.start(number, session)),
                    GroupAction::Tell(number) => self.tell(number),
                    GroupAction::Sweep(number) => self.begin_sweep(number),
                    GroupAction::Abort(number) => self.abort(number),
                    GroupAction::Kill(number) => self.kill(number),
                    GroupAction::Probe(number, session) => self.probe(number, session),
                    GroupAction::AskLive(number, session) => self.ask_live(number, session),
                    GroupAction::Finish => self.finished = true,
                }
            }
        }
    }

    /// What has changed goes into the journal, and on to people.
    fn tell_changes(&mut self) {
        let entries = self.slots.iter_mut().zip(self.machine.entries()).enumerate();
        for (number, (slot, entry)) in entries {
            let state = self.machine.state(number);
            let message = entry.message(state);
            // That one which stops is killed has been told then.
            let is_known = state == EntryState::Stopping || slot.told.1.as_deref() == message;
            if slot.told.0 != state || !is_known {
                slot.told = (state, message.map(str::to_owned));
                let message = match state {
                    EntryState::Waiting => self.machine.waits_for_words(number),
                    _ => message.map(str::to_owned),
                };
                let pid = slot.main.map(|main| main.pid.number());
                let change = EntryChange { id: entry.rules.id.clone(), state, message, pid };
                self.journal.state(entry, &change);
                let words = change.words();
                self.live.clear();
                if let EntryState::Failed | EntryState::Backoff = state {
                    self.voice.note(words)
                } else {
                    self.voice.step(words)
                }
                self.changes.add(change);
            }
            if let (Life::Resting(until), true) = (entry.life, slot.told_life != entry.life) {
                let delay = span::millis(until.saturating_duration_since(Instant::now()));
                self.journal.note(
                    "restart",
                    Some(&entry.rules.id),
                    json!({ "delay_ms": delay, "failed_exits": entry.failed, "last": entry.last }),
                );
            }
            slot.told_life = entry.life;
        }
    }

    /// Whether what is said is passed on more slowly than it comes.
    fn is_congested(&self) -> bool {
        self.logs.is_congested() || (self.request.echo && say::is_congested())
    }

    /// Takes what entries have said, of those that have.
    fn outputs(&mut self) {
        if self.is_congested() {
            return;
        }
        for key in self.poller.ready() {
            if let Some(number) = self.number(key) {
                self.say(number, None);
            }
        }
    }

    /// Takes what an entry has said; for the last time also a line that is not at its end, which may wait
    /// until `last` for those who read it.
    fn say(&mut self, number: usize, last: Option<Instant>) {
        let (slot, live, poller) = (&mut self.slots[number], &mut self.live, &self.poller);
        let (log, id, echo) = (&slot.log, &slot.entry.rules.id, self.request.echo);
        if let Some(until) = last {
            self.logs.wait_for_room(until);
            say::wait_for_room(if echo { until } else { Instant::now() });
        }
        let mut each = |line: &[u8]| {
            log.add(line);
            if echo {
                live.clear();
                say::echo(&[id.as_bytes(), b" | ", line, b"\n"].concat());
            }
        };
        slot.outputs.retain_mut(|output| {
            let more = output.read(&mut each);
            if !more {
                poller.remove(output.fd());
            } else if last.is_some() {
                output.end(&mut each);
            }
            more
        });
        // One that a daemonised grandchild holds open is left to it once the next life has begun.
        while slot.outputs.len() > 2 {
            let mut output = slot.outputs.remove(0);
            poller.remove(output.fd());
            output.end(&mut each);
        }
    }
}
