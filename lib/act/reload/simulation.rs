//! A million questions and orders to a manager that answers with everything that launchctl has been seen to
//! say, in any order: what it takes it may deny, what it denies it may take, it hangs, it forgets. Reloads
//! are interrupted by signals and killed at every step, their guardians too; and a job that was registered
//! is registered afterwards, from the right file, and what is told of it is so.

use super::unfinished::UnfinishedReload;
use super::*;
use crate::probe::{Asked, Cost, ProbeAnswer};
use crate::service::{Kick, Phase, TroubleClass};
use crate::sys::clock::FakeClock;
use crate::sys::process::Start;
use crate::sys::say::Level;
use crate::words::dice::Dice;
use crate::words::failure::Class;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

const NEW: &str = "/installed.plist";
const COPY: &str = "/kept.plist";
/// We were started as this number; what has a greater one is younger.
const OURSELVES: u64 = 1000;

/// What a version does once it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conduct {
    Serves,
    Mute,
    Dies,
}

#[derive(Clone, Debug)]
struct Loaded {
    path: String,
    /// Whether it is the content of the last good file.
    good: bool,
    pid: Option<u64>,
    /// When it will be gone.
    going: Option<Instant>,
}

/// The manager, as it is, and as it answers.
struct World {
    clock: Rc<FakeClock>,
    dice: RefCell<Dice>,
    loaded: RefCell<Option<Loaded>>,
    /// Whether the installed file has the content of the last good one.
    put_back: Cell<bool>,
    next_pid: Cell<u64>,
    /// How often of a hundred an answer is not what it should be; none for the last look, so that what is
    /// told of the end can be held against what is.
    trouble: Cell<u64>,
    /// How many calls are left until we are killed.
    fuse: Cell<Option<u64>>,
    /// When an order to take it down is heard that was on its way when its sender was killed.
    on_its_way: Cell<Option<Instant>>,
    /// Whether the first question is answered with "not loaded" whatever is.
    first_lies: Cell<bool>,
    refuses_new: bool,
    conduct: Conduct,
    old_conduct: Conduct,
    starts_itself: bool,
    /// By when it is to answer, if it was told.
    answers_by: Cell<Option<Instant>>,
    asked: RefCell<Vec<Instant>>,
    calls: Cell<u64>,
    trace: RefCell<Vec<String>>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("World")
    }
}

/// What ends a run that is killed.
struct Killed;

impl World {
    fn new(seed: u64) -> World {
        let mut dice = Dice::of(seed);
        let clock = Rc::new(FakeClock::new());
        let pid = dice.chance(80).then_some(7);
        let loaded = dice.chance(85).then(|| Loaded { path: NEW.to_owned(), good: true, pid, going: None });
        let conduct = match dice.roll(10) {
            0..6 => Conduct::Serves,
            6..8 => Conduct::Mute,
            _ => Conduct::Dies,
        };
        World {
            clock,
            loaded: RefCell::new(loaded),
            put_back: Cell::new(false),
            next_pid: Cell::new(OURSELVES + 1),
            trouble: Cell::new([0, 10, 40][usize::try_from(dice.roll(3)).unwrap()]),
            fuse: Cell::new(None),
            on_its_way: Cell::new(None),
            first_lies: Cell::new(dice.chance(10)),
            refuses_new: dice.chance(10),
            conduct,
            old_conduct: if dice.chance(90) { Conduct::Serves } else { Conduct::Mute },
            starts_itself: dice.chance(85),
            answers_by: Cell::new(None),
            asked: RefCell::new(Vec::new()),
            calls: Cell::new(0),
            trace: RefCell::new(Vec::new()),
            dice: RefCell::new(dice),
        }
    }

    fn roll(&self, sides: u64) -> u64 {
        self.dice.borrow_mut().roll(sides)
    }

    /// One call: it takes its time, and may be our last.
    fn call(&self, what: &str) {
        self.calls.set(self.calls.get() + 1);
        self.clock.sleep_until(self.clock.now() + Duration::from_millis(1 + self.roll(8)));
        self.advance();
        self.trace.borrow_mut().push(format!(
            "{:?} {what} {:?}",
            self.clock.passed.get(),
            self.loaded.borrow()
        ));
        if let Some(left) = self.fuse.get() {
            self.fuse.set(left.checked_sub(1));
            if left == 0 {
                if what == "bootout" && self.roll(2) == 0 {
                    let late = Duration::from_millis(self.roll(1000));
                    self.on_its_way.set(Some(self.clock.now() + late));
                }
                resume_unwind(Box::new(Killed));
            }
        }
    }

    fn advance(&self) {
        let mut loaded = self.loaded.borrow_mut();
        if self.on_its_way.get().is_some_and(|at| self.clock.now() >= at)
            && let Some(job) = loaded.as_mut()
        {
            job.going = job.going.or(self.on_its_way.take());
        }
        if loaded.as_ref().and_then(|job| job.going).is_some_and(|at| self.clock.now() >= at) {
            *loaded = None;
        }
    }

    fn spawn(&self) -> u64 {
        let pid = self.next_pid.get();
        self.next_pid.set(pid + 1);
        pid
    }

    /// Whether an answer is other than it should be; and whether the order is heard.
    fn denied(&self, verb: &str) -> (Option<Trouble>, bool) {
        if self.roll(100) >= self.trouble.get() {
            return (None, true);
        }
        let heard = self.roll(2) == 0;
        let (code, text) = match self.roll(4) {
            0 => (Some(5), "input/output error"),
            1 => (Some(37), "already in progress"),
            2 => (Some(36), "in progress"),
            _ => {
                // It hangs until its own limit, or the one that it was given.
                let now = self.clock.now();
                let by = self.answers_by.get().map_or(Duration::MAX, |by| by.saturating_duration_since(now));
                let limit = by.clamp(Duration::from_secs(1), Duration::from_secs(10));
                self.clock.sleep_until(now + limit);
                (None, "did not return in time")
            }
        };
        let trouble = Trouble { class: TroubleClass::Retry, code, text: format!("{verb} {text}") };
        (Some(trouble), heard)
    }

    fn conduct_of(&self, job: &Loaded) -> Conduct {
        if job.good { self.old_conduct } else { self.conduct }
    }

    fn healthy(&self) -> Option<u64> {
        self.advance();
        let loaded = self.loaded.borrow();
        let job = loaded.as_ref().filter(|job| job.going.is_none())?;
        job.pid.filter(|_| self.conduct_of(job) == Conduct::Serves)
    }
}

fn retry(code: i32, text: &str) -> Trouble {
    Trouble { class: TroubleClass::Retry, code: Some(code), text: text.to_owned() }
}

impl Service for World {
    fn manager(&self) -> &'static str {
        // Nothing is announced to a keeper: the pids are made up.
        "baa"
    }

    fn target(&self) -> String {
        "job".to_owned()
    }

    fn prepare(&self, _is_read: bool) -> Result<(), Error> {
        Ok(())
    }

    fn inspect_until(&self, _: Instant) -> Result<Option<JobState>, Trouble> {
        self.call("print");
        self.asked.borrow_mut().push(self.clock.now());
        if self.first_lies.replace(false) {
            return Ok(None);
        }
        if let (Some(trouble), _) = self.denied("print") {
            return Err(trouble);
        }
        let mut loaded = self.loaded.borrow_mut();
        let Some(job) = loaded.as_mut() else { return Ok(None) };
        if self.conduct_of(job) == Conduct::Dies && job.pid.is_some_and(|pid| pid > OURSELVES) {
            job.pid = (self.roll(2) == 0).then(|| self.spawn());
        }
        Ok(Some(JobState {
            phase: match (job.going, job.pid) {
                (Some(_), _) => Phase::Stopping,
                (None, Some(_)) => Phase::Running,
                (None, None) => Phase::Stopped,
            },
            word: String::new(),
            pid: job.pid.and_then(|pid| Pid::new(i32::try_from(pid).ok()?)),
            others: Vec::new(),
            runs: job.pid,
            last_exit: None,
            exit_timeout: Some(Duration::from_secs(5)),
            throttle: None,
            source: Some(PathBuf::from(&job.path)),
            completed: false,
            life: None,
            details: Vec::new(),
            cause: None,
        }))
    }

    fn answer_by(&self, until: Option<Instant>) {
        self.answers_by.set(until);
    }

    fn take_down(&self) -> Result<(), Trouble> {
        self.call("bootout");
        let (trouble, heard) = self.denied("bootout");
        let mut loaded = self.loaded.borrow_mut();
        let Some(job) = loaded.as_mut() else {
            let class = TroubleClass::Unregistered;
            return Err(Trouble { class, code: Some(3), text: "no such process".to_owned() });
        };
        if heard && job.going.is_none() {
            let after = Duration::from_millis(self.roll(3000));
            job.going = Some(self.clock.now() + after);
        }
        trouble.map_or(Ok(()), Err)
    }

    fn bring_up(&self, source: &Path) -> Result<(), Trouble> {
        self.call("bootstrap");
        let good = source == Path::new(COPY) || self.put_back.get();
        if self.refuses_new && !good {
            let class = TroubleClass::Final(Status::BadConfig);
            return Err(Trouble { class, code: Some(109), text: "invalid property list".to_owned() });
        }
        let (trouble, heard) = self.denied("bootstrap");
        if self.loaded.borrow().is_some() {
            return Err(retry(if self.roll(2) == 0 { 5 } else { 37 }, "loaded, or still draining"));
        }
        if heard {
            let pid = (self.starts_itself && self.roll(10) > 0).then(|| self.spawn());
            let path = source.display().to_string();
            *self.loaded.borrow_mut() = Some(Loaded { path, good, pid, going: None });
        }
        trouble.map_or(Ok(()), Err)
    }

    fn kick(&self, how: Kick) -> Result<(), Trouble> {
        self.call("kickstart");
        let (trouble, heard) = self.denied("kickstart");
        let mut loaded = self.loaded.borrow_mut();
        let Some(job) = loaded.as_mut() else {
            let class = TroubleClass::Unregistered;
            return Err(Trouble { class, code: Some(113), text: "not loaded".to_owned() });
        };
        if heard && job.going.is_none() && (job.pid.is_none() || how == Kick::Replace) {
            job.pid = Some(self.spawn());
        }
        trouble.map_or(Ok(()), Err)
    }

    fn await_exit(&self, who: Identity, until: Instant) -> bool {
        self.advance();
        let lives = |loaded: &Option<Loaded>| loaded.as_ref().is_some_and(|job| job.pid == Some(who.start.0));
        if !lives(&self.loaded.borrow()) {
            return true;
        }
        let gone = self.loaded.borrow().as_ref().and_then(|job| job.going);
        self.clock.sleep_until(gone.map_or(until, |gone| gone.min(until)));
        self.advance();
        !lives(&self.loaded.borrow())
    }

    fn identify(&self, pid: Pid) -> Option<Identity> {
        Some(Identity { pid, start: Start(u64::from(pid.number().unsigned_abs())) })
    }

    fn is_younger_than_us(&self, who: Identity) -> bool {
        who.start.0 > OURSELVES
    }

    fn plan(&self, _: &Path) -> Vec<String> {
        Vec::new()
    }

    fn repair(&self, _: &Path, _: &Registration) -> String {
        String::new()
    }
}

/// Asks the world for health: the answer, and whose it was.
struct Health(Option<u64>, Option<Vec<Pid>>);

impl Probe for Health {
    fn ask(&self, _: Instant) -> Asked<'_> {
        Box::pin(async { self.answer() })
    }

    fn cost(&self) -> Cost {
        Cost::Local
    }
}

impl Health {
    fn answer(&self) -> Result<ProbeAnswer, Failure> {
        let Some(pid) = self.0 else { return Err(Failure::new(Class::Refused, "refused")) };
        let pid = Pid::new(i32::try_from(pid).unwrap());
        match &self.1 {
            Some(among) if pid.is_some_and(|pid| !among.contains(&pid)) => {
                Err(Failure::new(Class::WrongProcess, "another process"))
            }
            _ => Ok(ProbeAnswer { pid, ..ProbeAnswer::default() }),
        }
    }
}

/// Whatever is wrong with the end of one reload.
fn faults(
    world: &World,
    report: &ReloadReport,
    was_loaded: bool,
    rollback: RollbackRule,
    helpless: bool,
    deadline: Option<Instant>,
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |is: bool, what: &str| {
        if is {
            faults.push(what.to_owned());
        }
    };
    let loaded = world.loaded.borrow().clone();
    let there = loaded.as_ref().filter(|job| job.going.is_none());
    let good = there.is_some_and(|job| job.good);
    fault(was_loaded && there.is_none() && report.outcome != ReloadOutcome::Lost, "it is stranded");
    fault(
        report.outcome == ReloadOutcome::Lost && world.trouble.get() == 0 && !helpless,
        "it is lost, though nothing stood in the way",
    );
    fault(
        matches!(report.known, Registration::Registered(_)) != loaded.is_some()
            && !matches!(report.known, Registration::Unknown(_)),
        "what is told of its registration is not so",
    );
    if report.recovered() {
        let pid = there.and_then(|job| job.pid);
        fault(pid.is_none_or(|pid| pid <= OURSELVES), "the old process was taken for the new one");
        fault(world.conduct != Conduct::Serves, "what does not serve has recovered");
        fault(good, "the old version was taken for the new one");
    }
    if matches!(report.outcome, ReloadOutcome::RolledBack | ReloadOutcome::Restored) {
        fault(!good, "the last good version does not run");
        fault(world.old_conduct != Conduct::Serves, "what does not serve was rolled back to");
    }
    fault(
        report.outcome == ReloadOutcome::RolledBack && rollback == RollbackRule::Never,
        "it was rolled back unasked",
    );
    let asked = world.asked.borrow();
    let most = asked.iter().enumerate().map(|(first, from)| {
        asked[first..].iter().take_while(|at| **at - *from < Duration::from_secs(1)).count()
    });
    // The looks before and after are no questions while it waits, and a deadline may bring them together.
    fault(most.max().unwrap_or(0) > 16, "the manager was asked too often");
    fault(report.elapsed > Duration::from_secs(1200), "it took too long");
    // Once the job is registered, the deadline ends the wait; a question or an order that is under way then,
    // and one for the report, are given a moment each.
    let up = report.up_after.map(|up| world.clock.began + up);
    let end = deadline.zip(up).map(|(deadline, up)| deadline.max(up) + Duration::from_secs(8));
    fault(
        report.status == Status::TooLate && end.is_some_and(|end| world.clock.now() > end),
        "the deadline did not end it",
    );
    faults
}

/// One reload, killed or interrupted somewhere or not, up to its end by whoever ends it. Returns how many
/// calls there were, and what was wrong.
fn play(seed: u64) -> (u64, Vec<String>, Vec<String>) {
    let world = World::new(seed);
    let was_loaded = world.loaded.borrow().is_some();
    let fate = world.roll(4);
    if fate == 0 {
        world.fuse.set(Some(world.roll(40)));
    }
    let signal_after = (fate == 1).then(|| world.roll(60));
    let rollback = [RollbackRule::Never, RollbackRule::IfNeverServed, RollbackRule::Always];
    let rollback = rollback[usize::try_from(world.roll(3)).unwrap()];
    let kept = world.roll(4) > 0;
    let deadline = Duration::from_millis(world.roll(20_000));
    let deadline = (world.roll(3) == 0).then(|| world.clock.now() + deadline);
    let voice = Voice::new(Level::Silent);
    let phase = Cell::new(None);
    let interrupted = || signal_after.filter(|after| world.calls.get() >= *after).map(|_| Signal::SIGTERM);
    let progress = |now: ReloadPhase| phase.set(Some(now));
    let ask = |demand: Demand| -> Arc<dyn Probe> {
        Arc::new(Health(world.healthy(), demand.among.map(|one| one.roots().to_vec())))
    };
    let put_back = || {
        world.put_back.set(true);
        Ok(vec![PathBuf::from("/rejected")])
    };
    let version = |source: &str| JobVersion {
        source: PathBuf::from(source),
        starts_itself: world.starts_itself,
        health: Some(&ask as HealthQuestion<'_>),
    };
    let request = ServiceReload {
        name: "job".to_owned(),
        version: version(NEW),
        last_good: kept.then(|| LastGood { version: version(COPY), since: None, put_back: &put_back }),
        rollback,
        attempts: 3,
        delay: Duration::from_secs(1),
        probe_timeout: Duration::from_secs(1),
        skip_kickstart: false,
        settle: Duration::ZERO,
        drain: Duration::ZERO,
        deadline,
    };
    let context = ReloadContext {
        service: &world,
        clock: &*world.clock,
        voice: &voice,
        interrupted: &interrupted,
        progress: &progress,
    };
    let old = Cell::new(None);
    let first = catch_unwind(AssertUnwindSafe(|| {
        let before = look(&world, &*world.clock)?;
        old.set(
            before
                .as_ref()
                .and_then(|state| state.pid)
                .map(|pid| (pid.number(), u64::from(pid.number().unsigned_abs()))),
        );
        Ok::<ReloadReport, Trouble>(reload(&request, before, context))
    }));
    let plan = UnfinishedReload {
        name: "job".to_owned(),
        label: "job".to_owned(),
        manager: "launchd".to_owned(),
        daemon: None,
        domain: None,
        group: None,
        source: PathBuf::from(NEW),
        last_good: kept.then(|| PathBuf::from(COPY)),
        starts_itself: world.starts_itself,
        was_registered: was_loaded,
        old: old.get(),
        drain_ms: 0,
        skip_kickstart: false,
    };
    let mut faults = match first {
        Ok(Ok(report)) => faults(&world, &report, was_loaded, rollback, world.refuses_new && !kept, deadline),
        Ok(Err(_)) => Vec::new(),
        Err(end) if end.is::<Killed>() => finish_after_a_kill(&world, &plan, phase.get(), was_loaded),
        Err(end) => resume_unwind(end),
    };
    faults.sort();
    (world.calls.get(), faults, world.trace.take())
}

/// The guardian finishes it; where it is killed too, the next reload does.
fn finish_after_a_kill(
    world: &World,
    plan: &UnfinishedReload,
    phase: Option<ReloadPhase>,
    was_loaded: bool,
) -> Vec<String> {
    let Some(phase) = phase else { return Vec::new() };
    // It was killed with us, or later on its way, or not at all.
    world.fuse.set((world.roll(3) == 0).then(|| world.roll(20)));
    let guarded = catch_unwind(AssertUnwindSafe(|| plan.finish(phase, true, world, &*world.clock)));
    world.fuse.set(None);
    let report =
        guarded.unwrap_or_else(|_| plan.finish(ReloadPhase::TakingDown, false, world, &*world.clock));
    world.trace.borrow_mut().push(format!("{report:?}"));
    // What was on its way has arrived by now, and what goes is gone.
    for _ in 0..2 {
        world.clock.sleep_until(world.clock.now() + Duration::from_secs(5));
        world.advance();
    }
    let is_there = world.loaded.borrow().as_ref().is_some_and(|job| job.going.is_none());
    let told = matches!(report.known, Registration::Registered(_));
    // What refuses the file that it is given cannot be helped: the copy is looked for on the disk.
    let helpless = world.refuses_new;
    let mut faults = Vec::new();
    if was_loaded && !is_there && !helpless && report.outcome != ReloadOutcome::Lost {
        faults.push("killed, it is stranded".to_owned());
    }
    if told && !is_there {
        faults.push("it is told to be registered, and is not".to_owned());
    }
    faults
}

#[test]
fn a_million_steps_strand_nothing_and_tell_nothing_that_is_not_so() {
    std::panic::set_hook(Box::new(|_| {}));
    let (mut calls, mut seed, mut failed) = (0, 0, Vec::new());
    while calls < 1_000_000 && failed.len() < 400 {
        seed += 1;
        let (made, faults, trace) = play(seed);
        calls += made;
        if !faults.is_empty() {
            failed.push((trace.len(), seed, faults, trace));
        }
    }
    let _ = std::panic::take_hook();
    // The shortest history that goes wrong is the easiest to read.
    failed.sort();
    if let Some((_, seed, faults, trace)) = failed.first() {
        let history = trace.join("\n");
        panic!("{} histories; the shortest, of seed {seed}: {faults:?}\n{history}", failed.len());
    }
}
