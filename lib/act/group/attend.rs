//! The loop around a group: processes, probes, what entries say, the control socket, time.

mod asked;

use crate::act::group::entry::{EntryHealth, EntryKind, Life};
use crate::act::group::journal::Journal;
use crate::act::group::machine::{GroupAction, GroupEvent, GroupMachine};
use crate::act::group::output::Output;
use crate::act::group::plan::GroupPlan;
use crate::act::group::probing::{Probes, Question};
use crate::act::group::slot::EntrySlot;
use crate::act::group::table;
use crate::life;
use crate::service::group::GroupPaths;
use crate::service::systemd::Systemd;
use crate::sys::cgroup::{Cgroup as Nest, CgroupParent as Ground};
use crate::sys::child::{self, Signal, Stdio};
use crate::sys::file::Lock;
use crate::sys::lines::Lines;
use crate::sys::memory;
use crate::sys::outlet::Outlet;
use crate::sys::poll::{self, For};
use crate::sys::process::{self, Identity, Pid};
use crate::sys::say::{self, Live, Voice};
use crate::sys::signal::Signals;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use crate::words::span;
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What a killed group has left gets so long after TERM.
const LEFTOVERS: Duration = Duration::from_secs(5);
/// The same of what nobody knows to be an entry's, at the end of a group.
const STRAYS: Duration = Duration::from_secs(1);
/// Between two looks at what the dead have left.
const SWEEPS: Duration = Duration::from_millis(5);
/// Between two looks of a person at how it fares.
const SHOWN: Duration = Duration::from_millis(200);
/// How much of what entries say may wait for the disk.
const LOGS: usize = 1024 * 1024;
/// Between two looks whether there is room for what entries say.
const HELD: Duration = Duration::from_millis(10);
/// How long the end of a group waits for the disk.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Says to which group a process belongs.
const MARK: &str = "BAA_DAEMONS_GROUP";
/// Says which entry of it.
const ENTRY: &str = "BAA_DAEMONS_ENTRY";

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
    paths: GroupPaths,
    machine: GroupMachine,
    slots: Vec<EntrySlot>,
    serial: u64,
    probes: Probes,
    /// What is said on its way to the disk.
    logs: Outlet,
    journal: Journal,
    live: Live,
    finished: bool,
    killed: bool,
    late: Option<Error>,
    next_sweep: Instant,
    next_show: Instant,
    /// Where each life gets a control group, if anywhere.
    ground: Option<Ground>,
}

/// Runs the group until a signal or a request stops it, or, where that is asked, until all of it is ready.
///
/// # Errors
/// 75 when this group runs already; 65 to 78 for its file; 124 with each laggard named, when it was not ready
/// in time.
pub fn attend(request: &GroupRequest, voice: &Voice) -> Result<Status> {
    let plan = GroupPlan::read(&request.file)?;
    let cannot = |cause: std::io::Error| Error::io("cannot run a group", &cause);
    let signals = Signals::catch(&[Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])
        .map_err(cannot)?;
    let paths = GroupPaths::of(&request.file)?;
    paths.make()?;
    let busy = || Error::new(Status::Busy, format!("cannot run {}: it runs already", request.file.display()));
    let _lock = Lock::take_soon(&paths.lock()).map_err(cannot)?.ok_or_else(busy)?;
    poll::raise_descriptor_limit();
    child::adopt_orphans();
    clear(&paths, voice);
    let mut lines = Lines::listen(&paths.control())?;
    let mut group = Group::new(request, voice, paths, plan)?;
    group.journal.note("begin", None, json!({ "pid": std::process::id(), "entries": group.slots.len() }));
    group.run(&signals, &mut lines)?;
    group.journal.note("done", None, json!({ "killed": group.killed }));
    group.logs.flush(Instant::now() + LAST_LINES);
    match group.late {
        Some(error) => Err(error),
        None => Ok(if group.killed { Status::No } else { Status::Done }),
    }
}

/// What the names of the control groups of this group begin with.
fn nest_prefix(paths: &GroupPaths) -> String {
    format!("baa-{}-", paths.directory().file_name().unwrap_or_default().to_string_lossy())
}

/// What a group that was killed has left: two of them must not run side by side.
fn clear(paths: &GroupPaths, voice: &Voice) {
    let find = || process::marked(MARK, |found| *found == paths.directory().to_string_lossy());
    let left = find();
    if left.is_empty() {
        return;
    }
    voice.warn(format!("the last run was killed and left {} processes; stopping them", left.len()));
    left.iter().for_each(|one| child::signal(*one, Signal::SIGTERM));
    let until = Instant::now() + LEFTOVERS;
    loop {
        let left = find();
        if left.is_empty() {
            return;
        }
        if Instant::now() >= until {
            left.iter().for_each(|one| child::signal(*one, Signal::SIGKILL));
        }
        std::thread::sleep(Duration::from_millis(5));
        child::reap();
    }
}

impl<'a> Group<'a> {
    fn new(
        request: &'a GroupRequest,
        voice: &'a Voice,
        paths: GroupPaths,
        plan: GroupPlan,
    ) -> Result<Group<'a>> {
        let machine = GroupMachine::new(plan.entries.iter().map(|entry| entry.rules.clone()).collect());
        let logs = Outlet::new(LOGS);
        let (probes, journal, live) =
            (Probes::new()?, Journal::new(&paths.journal(), &logs), Live::new(request.live));
        let slot = |(entry, key)| EntrySlot::new(key, entry, &paths, &logs);
        let slots: Vec<EntrySlot> = plan.entries.into_iter().zip(0u64..).map(slot).collect();
        let serial = slots.len() as u64;
        let (next_sweep, next_show, ground) = (
            Instant::now(),
            Instant::now(),
            Ground::ours(|| Systemd::ours().is_some_and(|unit| unit.delegates())),
        );
        Ok(Group {
            request,
            voice,
            paths,
            machine,
            slots,
            serial,
            probes,
            logs,
            journal,
            live,
            finished: false,
            killed: false,
            late: None,
            next_sweep,
            next_show,
            ground,
        })
    }

    fn run(&mut self, signals: &Signals, lines: &mut Lines) -> Result<()> {
        let limit = self.request.until_success.flatten().map(|limit| Instant::now() + limit);
        self.happen(GroupEvent::Time);
        memory::shrink();
        while !self.finished {
            self.sleep(signals, lines, limit)?;
            for signal in signals.take() {
                match signal {
                    Signal::SIGTERM | Signal::SIGINT => self.stop(),
                    Signal::SIGHUP => drop(self.reload()),
                    _ => {}
                }
            }
            self.reap();
            for (of, said, soon) in self.probes.answers() {
                if let Some(number) = self.number(of.0) {
                    self.happen(GroupEvent::Probed { number, session: of.1, said, soon });
                }
            }
            self.outputs(None);
            lines.serve(&mut |line| self.reply(line));
            self.happen(GroupEvent::Time);
            self.sweep();
            self.forget();
            if self.request.until_success.is_some() && !self.machine.is_ending() {
                if self.machine.all_ready() {
                    self.stop();
                } else if limit.is_some_and(|limit| Instant::now() >= limit) {
                    let taken = span::show(self.request.until_success.flatten().unwrap_or_default());
                    self.late = Some(Error::new(
                        Status::TooLate,
                        format!("timed out after {taken} waiting for {}", table::laggards(&self.machine)),
                    ));
                    self.stop();
                }
            }
            self.show();
        }
        self.live.clear();
        // Whatever left its session and its parent is a child of ours by now.
        let own: Vec<Identity> = Identity::of(Pid::own()).into_iter().collect();
        life::end_tree(&own, STRAYS);
        self.outputs(Some(say::ending()));
        Ok(())
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
        self.slots.iter().position(|slot| slot.key == key)
    }

    fn sleep(&mut self, signals: &Signals, lines: &Lines, limit: Option<Instant>) -> Result<()> {
        let mut fds = vec![(signals.fd(), For::Reading), (self.probes.bell.fd(), For::Reading)];
        fds.extend(lines.fds());
        let others = fds.len();
        // What is said faster than it can be passed on is left with those who say it.
        let held = self.logs.is_congested() || (self.request.echo && say::is_congested());
        let outputs = self.slots.iter().flat_map(|slot| &slot.outputs).filter(|_| !held);
        fds.extend(outputs.map(|output| (output.fd(), For::Reading)));
        // What a process left behind may be no child of ours, so nothing tells us when it is gone.
        let sweeping = self
            .machine
            .entries()
            .iter()
            .any(|entry| matches!(entry.life, Life::Sweeping(..)))
            .then_some(self.next_sweep);
        let shown =
            self.live.visible().then(|| self.next_show.max(Instant::now() + Duration::from_millis(50)));
        let held = held.then(|| Instant::now() + HELD);
        let until =
            [self.machine.wake(), lines.wake(), limit.filter(|_| self.late.is_none()), sweeping, shown, held]
                .into_iter()
                .flatten()
                .min();
        let ready = poll::wait(&fds, until).map_err(|cause| Error::io("cannot wait", &cause))?;
        let outputs = self.slots.iter_mut().flat_map(|slot| &mut slot.outputs);
        outputs.zip(&ready[others..]).for_each(|(output, ready)| output.ready = *ready);
        Ok(())
    }

    fn happen(&mut self, event: GroupEvent) {
        let mut queue = std::collections::VecDeque::from([event]);
        while let Some(event) = queue.pop_front() {
            let todo = self.machine.handle(Instant::now(), event);
            // First what has changed, then what follows from it: so the journal has it.
            self.tell_changes();
            for todo in todo {
                match todo {
                    GroupAction::Start(number, session) => queue.push_back(self.start(number, session)),
                    GroupAction::Tell(number) => self.tell(number),
                    GroupAction::Sweep(number) => {
                        (self.slots[number].main, self.slots[number].swept) = (None, false)
                    }
                    GroupAction::Kill(number) => self.kill(number),
                    GroupAction::Probe(number, session) => self.probe(number, session),
                    GroupAction::Finish => self.finished = true,
                }
            }
        }
    }

    /// What has changed goes into the journal, and on to people.
    fn tell_changes(&mut self) {
        for (slot, entry) in self.slots.iter_mut().zip(self.machine.entries()) {
            let pid = slot.main.map(|main| main.pid.number());
            if self.journal.health(&mut slot.told, entry, pid) {
                let message =
                    entry.health.message().map(|message| format!(": {message}")).unwrap_or_default();
                let text = format!("{}: {}{message}", entry.rules.id, entry.health.word());
                self.live.clear();
                if let EntryHealth::Failure(_) = entry.health {
                    self.voice.note(text)
                } else {
                    self.voice.step(text)
                }
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

    fn start(&mut self, number: usize, session: u64) -> GroupEvent {
        match self.started(number, session) {
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

    fn started(&mut self, number: usize, session: u64) -> Result<Identity> {
        let variable = (MARK.into(), self.paths.directory().as_os_str().to_owned());
        let slot = &mut self.slots[number];
        let cannot = |cause: std::io::Error| Error::io("cannot read what it says", &cause);
        let mut spec = slot.entry.spec()?;
        let (reader, writer) = std::io::pipe().map_err(cannot)?;
        poll::unblock(std::os::fd::AsFd::as_fd(&reader)).map_err(cannot)?;
        let both = writer.try_clone().map_err(cannot)?;
        // A job of a property list has files of its own.
        let [stdin, stdout, stderr] = &mut spec.stdio;
        stdin.get_or_insert_with(Stdio::null);
        stdout.get_or_insert_with(|| writer.into());
        stderr.get_or_insert_with(|| both.into());
        spec.env.push(variable);
        spec.env.push((ENTRY.into(), slot.entry.rules.id.clone().into()));
        spec.ends_with_us = Some(Signal::SIGKILL);
        // Without one, sessions, parents and the environment tell what belongs to it.
        slot.nest = self.ground.as_ref().and_then(|ground| {
            ground.make(&format!("{}{}-{session}", nest_prefix(&self.paths), slot.key)).ok()
        });
        spec.cgroup = slot.nest.as_ref().and_then(Nest::door);
        let started = spec.start()?;
        slot.outputs.push(Output::new(reader));
        (slot.main, slot.last, slot.since, slot.tries) =
            (Some(started.identity), Some(started.identity), Some(Instant::now()), 0);
        slot.question = slot.entry.question(Some(started.identity.pid))?;
        Ok(started.identity)
    }

    /// The signal goes to the whole session's group, and to nobody else's.
    fn tell(&mut self, number: usize) {
        let slot = &mut self.slots[number];
        let signal = slot.entry.stop_signal;
        self.journal.note(
            "stop",
            Some(&slot.entry.rules.id),
            json!({ "pid": slot.main.map(|main| main.pid.number()), "signal": signal.as_str() }),
        );
        if let Some(question) = slot.question.take() {
            question.cancel();
        }
        slot.main.into_iter().for_each(|main| child::signal(main, signal));
    }

    fn kill(&mut self, number: usize) {
        let slot = &mut self.slots[number];
        let Some(last) = slot.last else { return };
        if !std::mem::replace(&mut slot.killed, true) {
            self.live.clear();
            self.voice.warn(format!("{}: killing it", slot.entry.rules.id));
            self.journal.note("kill", Some(&slot.entry.rules.id), json!({ "pid": last.pid.number() }));
        }
        self.killed = true;
        self.slots[number].nest.iter().for_each(|nest| {
            nest.kill();
        });
        let strays = self.strays();
        life::kill_tree(&self.roots(number, &strays), &[]);
    }

    /// Children of ours that we have not started: what left its session and its parent, and whose it is by
    /// its environment.
    fn strays(&self) -> Vec<(Identity, String)> {
        let adopted = if child::childless() {
            Vec::new()
        } else {
            life::adopted().into_iter().filter_map(Identity::of).collect::<Vec<_>>()
        };
        adopted.into_iter().filter_map(|stray| Some((stray, process::variable(stray.pid, ENTRY)?))).collect()
    }

    /// Where the tree of an entry grows from.
    fn roots(&self, number: usize, strays: &[(Identity, String)]) -> Vec<Identity> {
        let slot = &self.slots[number];
        let own = strays.iter().filter(|(_, id)| *id == slot.entry.rules.id).map(|(stray, _)| *stray);
        let nested = slot.nest.iter().flat_map(Nest::members);
        let mut roots: Vec<Identity> = slot.last.into_iter().collect();
        own.chain(nested).for_each(|root| {
            if !roots.contains(&root) {
                roots.push(root)
            }
        });
        roots
    }

    fn probe(&mut self, number: usize, session: u64) {
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
            probe,
            timeout: slot.entry.probe_timeout,
            age,
            tries: slot.tries,
        });
    }

    fn reap(&mut self) {
        for (pid, exit) in child::reap() {
            let Some(number) =
                self.slots.iter().position(|slot| slot.main.is_some_and(|main| main.pid == pid))
            else {
                continue;
            };
            self.slots[number].main = None;
            if let Some(question) = self.slots[number].question.take() {
                question.cancel();
            }
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

    /// Looks what the dead have left, all at once where there is nothing. A look at all processes of the
    /// machine is not for every turn.
    fn sweep(&mut self) {
        if Instant::now() < self.next_sweep {
            return;
        }
        let sweeping: Vec<usize> = (0..self.slots.len())
            .filter(|number| matches!(self.machine.entries()[*number].life, Life::Sweeping(..)))
            .collect();
        if sweeping.is_empty() {
            return;
        }
        let roots: Vec<Identity> = sweeping.iter().filter_map(|number| self.slots[*number].last).collect();
        let clean = life::tree(&roots, &[]).is_empty();
        let strays = self.strays();
        for number in sweeping {
            let roots = self.roots(number, &strays);
            let left = if clean && roots.len() < 2 { Vec::new() } else { life::tree(&roots, &[]) };
            if left.is_empty() {
                self.slots[number].nest = None;
                self.happen(GroupEvent::Swept(number));
            } else if !std::mem::replace(&mut self.slots[number].swept, true) {
                left.into_iter().for_each(|one| child::signal(one, Signal::SIGTERM));
            }
        }
        self.next_sweep = Instant::now() + SWEEPS;
    }

    /// Takes what entries have said, of those that poll(2) has named; or of all, for the last time, which may
    /// wait until `last` for those who read it.
    fn outputs(&mut self, last: Option<Instant>) {
        let (live, all) = (&mut self.live, last.is_some());
        for slot in &mut self.slots {
            if !(all || slot.outputs.len() > 2 || slot.outputs.iter().any(|output| output.ready)) {
                continue;
            }
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
            slot.outputs
                .retain_mut(|output| !(all || std::mem::take(&mut output.ready)) || output.read(&mut each));
            // One that a daemonised grandchild holds open is left to it once the next life has begun.
            while slot.outputs.len() > 2 {
                slot.outputs.remove(0).end(&mut each);
            }
        }
    }
}
