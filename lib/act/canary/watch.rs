//! The loop around the watched: one poll(2) over all deaths, channels and signals; once a second a sample of
//! each.

use crate::act::canary::cause::{self, Evidence};
use crate::act::canary::forensics::{self, MachineFacts};
use crate::act::canary::notify;
use crate::act::canary::record::{self, Death, RecordDirectory};
use crate::act::canary::request::RequestedTarget;
use crate::act::canary::ring;
use crate::act::canary::target;
use crate::act::canary::watched::Watched;
use crate::sys::poll::{self, For};
use crate::sys::process::exits::Exits;
use crate::sys::process::trace::{Sent, Trace};
use crate::sys::say::Voice;
use crate::sys::signal::{Signal, Signals};
use crate::sys::{clock, kernel, memory};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Between two samples of everything, unless that would cost more than a thousandth of a core.
const TICK: Duration = Duration::from_secs(1);

/// Between two looks at what runs on at the end.
const GLANCE: Duration = Duration::from_millis(10);

/// A count of kills that is older says nothing about a death now.
const RECENT: Duration = Duration::from_secs(5);

/// How to watch.
#[derive(Clone, Debug)]
pub struct CanarySettings {
    /// Where records go.
    pub records: RecordDirectory,
    /// How soon after a signal on the channel a death counts as meant.
    pub grace: Duration,
    /// Whether to sample.
    pub ring: bool,
    /// Whether arguments of processes are kept, not only names.
    pub full_args: bool,
    /// Whether to wait on the channel of the older tools.
    pub channel: bool,
    /// A shell command to run after each record, and how long it may take.
    pub exec: Option<(String, Duration)>,
}

/// A canary that has armed its targets.
pub struct Canary {
    settings: CanarySettings,
    watched: Vec<Watched>,
    signals: Signals,
    began: Instant,
    trace: Option<Trace>,
    sent: Vec<Sent>,
    exits: Option<Exits>,
    log: Option<kernel::Log>,
    kernel: Vec<String>,
    /// The last two looks at the machine.
    before: [Look; 2],
    /// What runs on after a record, beside the watch.
    after: Vec<JoinHandle<Result<()>>>,
}

/// What the machine had counted at some moment.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    kills: u64,
    suspended: Duration,
}

impl Look {
    fn now() -> Look {
        Look {
            at: Instant::now(),
            kills: kernel::out_of_memory_kills().unwrap_or(0),
            suspended: kernel::suspended().unwrap_or_default(),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CanaryOutcome {
    /// Deaths recorded.
    pub deaths: usize,
    /// Targets dismissed.
    pub dismissed: usize,
    /// The signal that ended the watch.
    pub signal: Option<Signal>,
}

/// What arming gave: the canary, and why it does not watch some of its targets: 75 for one that another
/// canary watches.
pub type Begun = (Canary, Vec<Error>);

impl Canary {
    /// Pins and arms what is `wanted`.
    ///
    /// # Errors
    /// When nothing can be kept at the place, or signals cannot be caught.
    pub fn begin(wanted: &[RequestedTarget], settings: CanarySettings) -> Result<Begun> {
        if wanted.is_empty() {
            return Err(Error::new(
                Status::Usage,
                "nothing to watch: give --sock, --pid, --pidfile, --unit, --label, --identity or \
                     --targets-from",
            ));
        }
        settings.records.make()?;
        poll::raise_descriptor_limit();
        let caught = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1];
        let signals = Signals::catch(&caught).map_err(|cause| Error::io("cannot catch signals", &cause))?;
        // Before the first identity is checked, so that nothing that comes after the check is missed.
        let log = kernel::Log::from_now().ok();
        let mut watched = Vec::new();
        let mut refused = Vec::new();
        for (aim, identity) in wanted {
            match target::pin(aim, identity.as_deref()).and_then(|target| Watched::begin(target, &settings)) {
                Ok(one) => watched.push(one),
                Err(error) => refused.push(error),
            }
        }
        let pids: Vec<_> = watched.iter().map(|one| one.target.who.pid).collect();
        let trace = if pids.is_empty() { None } else { Trace::begin(&pids).ok() };
        let exits = if Exits::are_needed() { Exits::of(&pids).ok() } else { None };
        for one in &watched {
            one.arming.publish(&one.target)?;
        }
        let (now, began) = (Look::now(), Instant::now());
        let (sent, kernel, after) = (Vec::new(), Vec::new(), Vec::new());
        Ok((
            Canary {
                settings,
                watched,
                signals,
                began,
                trace,
                sent,
                exits,
                log,
                kernel,
                before: [now; 2],
                after,
            },
            refused,
        ))
    }

    /// How many it watches.
    pub fn count(&self) -> usize {
        self.watched.len()
    }

    /// What it watches, for people.
    pub fn words(&self) -> String {
        let what = match self.watched.as_slice() {
            [] => "nothing".to_owned(),
            [one] => format!("{} (process {})", one.target.identity, one.target.who.pid),
            many => format!("{} processes", many.len()),
        };
        format!("watching {what}, recording in {}", self.settings.records.log().display())
    }

    /// Watches until every target is dead or dismissed, or a signal comes; tells each death to `report` once
    /// it is recorded.
    ///
    /// # Errors
    /// 74 when a death can be recorded nowhere; the record is in the message then.
    pub fn watch(
        mut self,
        voice: &Voice,
        mut report: impl FnMut(&Death) -> Result<()>,
    ) -> Result<CanaryOutcome> {
        let mut outcome = CanaryOutcome::default();
        let mut failed = Ok(());
        let mut tick = self.sample();
        memory::shrink();
        while !self.watched.is_empty() && outcome.signal.is_none() {
            // The dead first: a dismissal is seen there too, and whoever is told to go leaves no death
            // behind.
            if self.wait(tick)? {
                let (deaths, dismissed) = self.record_deaths(voice, &mut report, &mut failed);
                outcome.deaths += deaths;
                outcome.dismissed += dismissed;
            }
            let came = self.signals.take();
            if came.contains(&Signal::SIGUSR1) {
                let (dismissed, watched) = std::mem::take(&mut self.watched)
                    .into_iter()
                    .partition(|one: &Watched| one.arming.dismissed());
                self.watched = watched;
                outcome.dismissed += dismissed.len();
                dismissed.iter().for_each(|one| one.arming.end());
            }
            outcome.signal = came.into_iter().find(|signal| *signal != Signal::SIGUSR1);
            self.listen();
            if Instant::now() >= tick {
                tick = self.sample();
            }
            self.finish(voice);
        }
        // A canary that is told to go: at a terminal its end is meant; else what it watched is unwatched now,
        // and the next `status` says so.
        if matches!(outcome.signal, Some(Signal::SIGINT | Signal::SIGQUIT)) {
            self.watched.iter().for_each(|one| one.arming.end());
        }
        self.end(voice);
        failed.map(|()| outcome)
    }

    /// Does what may take seconds beside the watch; it must not keep us from the next death.
    fn aside(&mut self, voice: &Voice, work: impl FnOnce() -> Result<()> + Send + 'static) {
        match std::thread::Builder::new().spawn(work) {
            Ok(thread) => self.after.push(thread),
            Err(cause) => voice.warn(Error::io("cannot start a thread for what follows a record", &cause)),
        }
    }

    /// What runs beside the watch has its own limits; another signal does not wait for them.
    fn end(&mut self, voice: &Voice) {
        loop {
            self.finish(voice);
            if self.after.is_empty() {
                return;
            }
            let _ = poll::wait(&[(self.signals.fd(), For::Reading)], Some(Instant::now() + GLANCE));
            if self.signals.take().iter().any(|signal| *signal != Signal::SIGUSR1) {
                return;
            }
        }
    }

    /// Hears the end of what ran beside the watch.
    fn finish(&mut self, voice: &Voice) {
        let (ended, after) = std::mem::take(&mut self.after).into_iter().partition(JoinHandle::is_finished);
        self.after = after;
        for one in ended {
            if let Err(error) = one.join().unwrap_or_else(|_| Err(Error::bug("a thread panicked"))) {
                voice.warn(error);
            }
        }
    }

    /// Waits for anything to happen, at most until `tick`; says whether somebody may have died.
    fn wait(&mut self, tick: Instant) -> Result<bool> {
        let mut fds: Vec<(BorrowedFd<'_>, For)> = vec![(self.signals.fd(), For::Reading)];
        fds.extend(self.watched.iter().filter_map(Watched::death_fd).map(|fd| (fd, For::Reading)));
        let deaths = fds.len();
        fds.extend(self.watched.iter().filter_map(Watched::channel_fd).map(|fd| (fd, For::Reading)));
        let blind = deaths <= self.watched.len();
        let due = self.watched.iter().filter_map(Watched::due).min();
        // Without samples nothing wakes us but what we wait for.
        let mut until = self.settings.ring.then_some(tick).into_iter().chain(due).min();
        if blind {
            until = Some(until.unwrap_or(tick).min(Instant::now() + Duration::from_millis(100)));
        }
        let ready = poll::wait(&fds, until).map_err(|cause| Error::io("cannot wait", &cause))?;
        Ok(blind || ready[1..deaths].iter().any(|ready| *ready))
    }

    /// Samples everything; says when to do it again.
    fn sample(&mut self) -> Instant {
        let spent = clock::processor_time();
        if self.settings.ring {
            let (at, pressure) = (self.began.elapsed(), ring::pressure());
            self.watched.iter_mut().for_each(|one| one.ring.take(one.target.who.pid, at, pressure));
        }
        self.before = [self.before[1], Look::now()];
        let cost = clock::processor_time().saturating_sub(spent);
        Instant::now() + TICK.max(cost * 1000)
    }

    /// Hears what came on the channels, and opens those anew whose waiter has gone.
    fn listen(&mut self) {
        for one in &mut self.watched {
            one.listen(Instant::now(), self.settings.grace);
        }
    }

    /// Records all who are dead by now: evidence first, then one durable write for all, then what takes
    /// longer.
    fn record_deaths(
        &mut self,
        voice: &Voice,
        report: &mut impl FnMut(&Death) -> Result<()>,
        failed: &mut Result<()>,
    ) -> (usize, usize) {
        let at = SystemTime::now();
        let (dead, alive) = std::mem::take(&mut self.watched).into_iter().partition(Watched::dead);
        self.watched = alive;
        let mut dismissed = 0;
        let mut unwritten: Vec<UnwrittenDeath> = Vec::new();
        for mut one in dead {
            one.part(self.settings.grace);
            if one.meant(self.settings.grace) {
                voice.step(format!("{}: its end was meant", one.target.identity));
                one.arming.end();
                dismissed += 1;
                continue;
            }
            unwritten.push(self.judge(one, at));
        }
        if unwritten.is_empty() {
            return (0, dismissed);
        }
        let lines: Vec<String> = unwritten.iter().map(|one| one.death.line()).collect();
        let lines = lines.join("\n");
        match record::write(&self.settings.records, &lines, || {
            unwritten.iter().for_each(|one| one.watched.arming.end())
        }) {
            Ok(path) if path == self.settings.records.log() => {}
            Ok(path) => voice.warn(format!(
                "cannot write {}; recorded in {}",
                self.settings.records.log().display(),
                path.display()
            )),
            Err(cause) => {
                voice.warn(&lines);
                *failed = Err(Error::io(
                    format!("cannot record a death in {}", self.settings.records.log().display()),
                    &cause,
                ));
            }
        }
        let machine = MachineFacts::look(self.settings.records.directory(), self.settings.full_args);
        let count = unwritten.len();
        let mut files = Vec::new();
        for one in unwritten {
            let death = &one.death;
            match one.file {
                Ok(mut file) => match forensics::complete(
                    &mut file,
                    &machine,
                    one.watched.group.as_ref().map(|group| &group.0),
                ) {
                    Ok(()) => files.push((death.pid, file)),
                    Err(cause) => voice.warn(self.settings.records.cannot_keep(&cause)),
                },
                Err(cause) => voice.warn(self.settings.records.cannot_keep(&cause)),
            }
            one.watched.arming.end();
            let told =
                death.forensics.as_ref().map_or(String::new(), |path| format!("; see {}", path.display()));
            voice.note(format!(
                "{} (process {}) died: {}{told}",
                death.identity,
                death.pid,
                death.verdict.cause.word()
            ));
            if let Err(error) = report(death) {
                *failed = Err(error);
            }
            if let Some((command, limit)) = self.settings.exec.clone() {
                let (death, records) = (one.death, self.settings.records.clone());
                self.aside(voice, move || notify::run(&command, limit, &death, &records));
            }
        }
        // What may take seconds must not keep us from the next death.
        let records = self.settings.records.clone();
        self.aside(voice, move || {
            forensics::add_slow(files).map_err(|cause| Error::new(Status::Io, records.cannot_keep(&cause)))
        });
        (count, dismissed)
    }

    fn judge(&mut self, one: Watched, at: SystemTime) -> UnwrittenDeath {
        let who = one.target.who.pid;
        let ending = one.ending(self.exits.as_mut());
        self.kernel.extend(self.log.as_mut().map(|log| log.take(about_memory)).unwrap_or_default());
        if let Some(trace) = &mut self.trace {
            self.sent.extend(trace.take());
            let surplus = self.sent.len().saturating_sub(1000);
            self.sent.drain(..surplus);
        }
        let now = Look::now();
        let evidence = Evidence {
            ending,
            sent: self
                .trace
                .as_ref()
                .map(|_| self.sent.iter().filter(|sent| sent.receiver == who).cloned().collect()),
            at: Trace::now(),
            kernel: self.log.as_ref().map(|_| self.kernel.clone()),
            group: one.kills(),
            machine: Some(now.kills.saturating_sub(self.before[0].kills))
                .filter(|_| now.at.duration_since(self.before[0].at) <= RECENT),
            ended: one.asked(),
            tmux: one.parting,
            suspended: now.suspended.saturating_sub(self.before[0].suspended),
            rebooted: false,
        };
        let verdict = cause::judge(who, &evidence);
        let mut death = Death::new(&one.target, at, ending, verdict);
        let mut known = vec![(
            "cause".to_owned(),
            format!("{}\n{}", death.verdict.cause.word(), death.verdict.evidence.join("\n")),
        )];
        known.push(("kernel-oom".to_owned(), self.kernel.join("\n")));
        if let Some(kills) = evidence.group {
            known.push((
                "cgroup-since-arming".to_owned(),
                format!("oom_kill {}\noom_group_kill {}", kills.single, kills.whole),
            ));
        }
        if self.settings.ring {
            known.push(("ring".to_owned(), one.ring.text(self.began.elapsed())));
        }
        let file = forensics::begin(&self.settings.records, &death, &known);
        death.forensics = file.as_ref().ok().map(|(_, path)| path.clone());
        UnwrittenDeath { watched: one, death, file: file.map(|(file, _)| file) }
    }
}

/// A death on its way to the disk.
struct UnwrittenDeath {
    watched: Watched,
    death: Death,
    file: io::Result<File>,
}

/// Lines of the kernel about want of memory (mm/oom_kill.c, mm/memcontrol.c).
fn about_memory(line: &str) -> bool {
    ["Out of memory", "out of memory", "oom-kill", "invoked oom-killer", "oom_reaper", "Killed process"]
        .iter()
        .any(|words| line.contains(words))
}
