//! What a reload decides, on a clock that jumps and a manager that says what it is told to.

use super::*;
use crate::service::{Kick, Phase, TroubleClass};
use crate::sys::clock::FakeClock;
use crate::sys::process::Start;
use crate::sys::say::Level;
use crate::words::error::Error;
use std::cell::RefCell;
use std::path::Path;

/// A manager whose answers are scripted: the last one is repeated.
#[derive(Debug)]
struct FakeService<'a> {
    clock: &'a FakeClock,
    answers: RefCell<Vec<JobState>>,
    calls: RefCell<Vec<&'static str>>,
    /// Whether it forgets the job when it is told to take it down, and takes no other.
    refuses: bool,
    /// Whether its runs end by themselves.
    runs_to_its_end: bool,
}

/// A running job: its process, which started then, and how often it was started.
fn running(pid: i32, runs: u64) -> JobState {
    JobState {
        phase: Phase::Running,
        word: "running".to_owned(),
        pid: Pid::new(pid),
        others: Vec::new(),
        runs: Some(runs),
        last_exit: None,
        exit_timeout: None,
        throttle: None,
        source: None,
        completed: false,
        life: None,
        details: Vec::new(),
        cause: None,
    }
}

impl Service for FakeService<'_> {
    fn manager(&self) -> &'static str {
        "fake"
    }

    fn target(&self) -> String {
        "fake/job".to_owned()
    }

    fn restarts_in_place(&self) -> bool {
        !self.refuses
    }

    fn prepare(&self, _is_read: bool) -> Result<(), Error> {
        Ok(())
    }

    fn inspect_until(&self, _: Instant) -> Result<Option<JobState>, Trouble> {
        if self.refuses && self.calls.borrow().contains(&"take_down") {
            return Ok(None);
        }
        let mut answers = self.answers.borrow_mut();
        Ok(Some(if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }))
    }

    fn take_down(&self) -> Result<(), Trouble> {
        self.calls.borrow_mut().push("take_down");
        Ok(())
    }

    fn bring_up(&self, _: &Path) -> Result<(), Trouble> {
        self.calls.borrow_mut().push("bring_up");
        if self.refuses {
            let class = TroubleClass::Final(Status::BadConfig);
            return Err(Trouble { class, code: None, text: "the file is no good".to_owned() });
        }
        Ok(())
    }

    fn kick(&self, _: Kick) -> Result<(), Trouble> {
        self.calls.borrow_mut().push("kick");
        Ok(())
    }

    fn await_exit(&self, _: Identity, until: Instant) -> bool {
        self.clock.sleep_until(until);
        false
    }

    fn runs_to_its_end(&self) -> bool {
        self.runs_to_its_end
    }

    fn identify(&self, pid: Pid) -> Option<Identity> {
        Some(Identity { pid, start: Start(u64::from(pid.number().unsigned_abs())) })
    }

    fn plan(&self, _: &Path) -> Vec<String> {
        Vec::new()
    }

    fn repair(&self, _: &Path, _: &Registration) -> String {
        String::new()
    }
}

/// Reloads a job of which the manager says this, one answer after the other.
fn reloaded(answers: Vec<JobState>, settle: Duration) -> (ReloadReport, Vec<&'static str>) {
    reloaded_by(answers, settle, |_| {}, None)
}

fn reloaded_by(
    answers: Vec<JobState>,
    settle: Duration,
    set: impl Fn(&mut FakeService<'_>),
    timeout: Option<Duration>,
) -> (ReloadReport, Vec<&'static str>) {
    let clock = FakeClock::new();
    let (answers, calls) = (RefCell::new(answers), RefCell::new(Vec::new()));
    let mut service = FakeService { clock: &clock, answers, calls, refuses: false, runs_to_its_end: false };
    set(&mut service);
    let service = service;
    let request = ServiceReload {
        name: "job".to_owned(),
        version: JobVersion { source: PathBuf::from("/job.plist"), starts_itself: true, health: None },
        last_good: None,
        rollback: RollbackRule::Never,
        attempts: 3,
        delay: Duration::from_secs(1),
        probe_timeout: Duration::from_secs(1),
        skip_kickstart: false,
        settle,
        drain: Duration::ZERO,
        deadline: timeout.map(|timeout| clock.now() + timeout),
    };
    let voice = Voice::new(Level::Silent);
    let context = ReloadContext {
        service: &service,
        clock: &clock,
        voice: &voice,
        interrupted: &|| None,
        progress: &|_| {},
    };
    let before = service.inspect().unwrap();
    let report = reload(&request, before, context);
    (report, service.calls.into_inner())
}

#[test]
fn the_old_process_is_never_taken_for_the_new_one() {
    // The manager goes on telling of process 7 for a while after it was told to take it down.
    let mut answers = vec![running(7, 1); 5];
    answers.push(running(8, 2));
    let (report, calls) = reloaded(answers, Duration::ZERO);
    assert_eq!(
        (report.outcome, report.old, report.new),
        (ReloadOutcome::Recovered, Pid::new(7), Pid::new(8))
    );
    assert_eq!(calls, ["take_down"]);
    // It never goes: then nothing has recovered, not even after a kick.
    let (report, calls) = reloaded(vec![running(7, 1)], Duration::ZERO);
    assert_eq!((report.outcome, report.status), (ReloadOutcome::Unhealthy, Status::Unavailable));
    assert_eq!((report.old, report.new, calls.contains(&"kick")), (Pid::new(7), None, true));
}

#[test]
fn a_process_that_is_started_again_while_it_settles_has_not_settled() {
    let second = Duration::from_secs(1);
    let (report, _) = reloaded(vec![running(7, 1), running(8, 2)], second);
    assert_eq!(report.outcome, ReloadOutcome::Recovered);
    // The same pid, and one run more: the number was given away again.
    let mut answers = vec![running(7, 1), running(8, 2), running(8, 3)];
    answers.extend((4..9999).map(|runs| running(8, runs)));
    let (report, _) = reloaded(answers, second);
    assert_eq!(report.outcome, ReloadOutcome::Unhealthy);
    // Another process.
    let answers = (7..9999).map(|pid| running(pid, 1)).collect();
    assert_eq!(reloaded(answers, second).0.outcome, ReloadOutcome::Unhealthy);
}

#[test]
fn what_did_not_go_is_named_where_nothing_came_in_its_place() {
    let refuses = |service: &mut FakeService<'_>| service.refuses = true;
    let (report, calls) = reloaded_by(vec![running(7, 1)], Duration::ZERO, refuses, None);
    assert_eq!((report.outcome, report.status), (ReloadOutcome::Lost, Status::Lost));
    assert!(calls.contains(&"bring_up"));
    let reason = report.reason.unwrap();
    assert!(reason.ends_with("; the old process 7 still runs"), "{reason}");
}

/// Whenever its run ends: in a round, or after its last look and before the kick.
#[test]
fn a_run_that_ends_well_is_not_begun_a_second_time() {
    let at_rest = |phase: Phase, completed: bool| JobState { phase, completed, pid: None, ..running(7, 1) };
    let oneshot = |service: &mut FakeService<'_>| service.runs_to_its_end = true;
    let mut under_way = 0;
    for looks in 1..200 {
        let mut answers = vec![at_rest(Phase::Stopped, true)];
        answers.extend(vec![at_rest(Phase::Starting, false); looks]);
        answers.push(at_rest(Phase::Stopped, true));
        let (report, calls) = reloaded_by(answers, Duration::ZERO, oneshot, None);
        assert!(!calls.contains(&"kick"), "{looks}: {calls:?}");
        match report.outcome {
            ReloadOutcome::Recovered => assert_eq!(under_way, 0, "{looks}"),
            outcome => {
                assert_eq!((outcome, report.status), (ReloadOutcome::Unhealthy, Status::Unavailable));
                under_way += 1;
            }
        }
    }
    assert!(under_way > 0);
}

#[test]
fn the_deadline_cuts_the_time_in_which_it_settles() {
    let (hour, second) = (Duration::from_secs(3600), Duration::from_secs(1));
    let (report, _) = reloaded_by(vec![running(7, 1), running(8, 2)], hour, |_| {}, Some(second));
    assert_eq!((report.outcome, report.status), (ReloadOutcome::Unhealthy, Status::TooLate));
    assert!(report.elapsed < second * 3, "{report:?}");
}
