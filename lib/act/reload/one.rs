//! One service of a request: its turn, what is kept for it, who stands by, its reload, its report.

use super::check::{Ready, examine};
use super::definition::{Definition, UnitFiles, put_back};
use super::diagnosis::Case;
use super::files::ReloadFiles;
use super::guardian::{self, Guardian};
use super::health::health_of;
use super::hooks::RunningReload;
use super::journal::{ReloadEnd, ReloadFinisher, ReloadJournal, ReloadRecord, ReloadRequester};
use super::log_tail::LogMarks;
use super::request::ReloadRequest;
use super::secrets;
use super::services::NamedService;
use super::unfinished::UnfinishedReload;
use super::{
    HealthQuestion, JobVersion, LastGood, ReloadContext, ReloadOutcome, ReloadPhase, ReloadReport,
    ServiceReload, ended_by, handover, look, reload,
};
use crate::probe::demand::Demand;
use crate::service::job::{Job, KeepAlive};
use crate::service::{JobState, Registration};
use crate::sys::clock::{self, Real};
use crate::sys::file::{self, Lock};
use crate::sys::process::Pid;
use crate::sys::redact::Redactor;
use crate::sys::say::{self, Voice};
use crate::sys::signal::Signal;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use crate::words::span::{self, millis};
use crate::words::stamp;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long a helper waits for its caller to let go of the lock.
const FAREWELL: Duration = Duration::from_secs(5);

/// Reloads one service of `request`, as the `helper` of one who ran inside it or not. Returns its status and
/// its object in the JSON report.
///
/// # Errors
/// Why nothing was touched.
pub(super) fn reload_one(
    request: &ReloadRequest,
    one: &NamedService,
    voice: &Voice,
    helper: bool,
    interrupted: &dyn Fn() -> Option<Signal>,
) -> Result<(Status, Value)> {
    let files = ReloadFiles::of(&one.label, &*one.service)?;
    let journal = ReloadJournal::of(&files);
    let lock = take_turn(&files, request.settings.wait_lock, helper, interrupted)?;
    if let Err(error) = finish_what_was_cut_off(&journal, &one.name, voice) {
        voice.warn(format!("{}: whether a reload was cut off cannot be told: {error}", one.name));
    }
    let ready = examine(request, one)?;
    let definition = define(one, ready.job.as_ref());
    let kept = Kept::of(&files, &definition);
    let old_job = kept.as_ref().and_then(Kept::job);
    let redactor = secrets::redactor(one, ready.job.as_ref(), ready.health.as_ref(), old_job);
    let redactor = Arc::new(redactor);
    let voice = &voice.discreet(redactor.clone());
    // Otherwise all were prepared before the first was touched.
    if request.settings.keep_going {
        prepare(one, ready.job.as_ref())?;
    }
    let hooks = RunningReload { hooks: &request.hooks, one, files: &files, interrupted };
    let before = match look(&*one.service, &Real) {
        Ok(before) => before,
        Err(trouble) => {
            let mut report = ReloadReport::cannot_tell(&trouble);
            report.redact(&redactor);
            let told = tell(request, one, &ready, None, &report, &redactor, voice);
            hooks.after(false, &told, voice);
            return Ok((report.status, told));
        }
    };
    if let Some(state) = before.as_ref().filter(|state| !helper && one.service.holds_us(state)) {
        drop(lock);
        return hand_over(one, &files, state, voice);
    }
    let under_way = UnderWay {
        request,
        one,
        files: &files,
        ready: &ready,
        definition: &definition,
        kept: kept.as_ref(),
        redactor: &redactor,
    };
    if let Err(error) = hooks.before(before.as_ref()) {
        tell_of_the_refusal(&under_way, before.as_ref(), &journal, &error, voice);
        return Err(error);
    }
    if let Some(state) = &before {
        files.remember_running(&definition, state);
    }
    let since = ready.job.as_ref().map(LogMarks::of);
    let loading = Loading { one, first: RefCell::new(None), last: RefCell::new(None) };
    let report = guarded(&under_way, before, &lock, &journal, &loading, voice, interrupted)?;
    // What came to its end at once is no proof that it serves; a run that ends by itself is.
    let ran = report.new.is_some() || one.service.runs_to_its_end();
    if report.recovered() && !ran && had_process(&files, &journal, &definition) {
        voice.warn(format!("{}: nothing of it runs now; the version kept before stays kept", one.name));
    } else if report.recovered() {
        keep(&files, &loading, &definition, voice);
    }
    let told = tell(request, one, &ready, since.as_ref(), &report, &redactor, voice);
    hooks.after(report.recovered(), &told, voice);
    Ok((report.status, told))
}

/// Checks all that can be checked without touching what runs; `job` is its property list.
///
/// # Errors
/// Why the reload must not begin.
pub(super) fn prepare(one: &NamedService, job: Option<&Job>) -> Result<()> {
    let is_read = match define(one, job) {
        Definition::Units(units) => ReloadFiles::at(&one.label, &*one.service).holds_read(&units),
        Definition::Plist(_) | Definition::Elsewhere => false,
    };
    one.service.prepare(is_read)
}

/// What defines the job now.
fn define(one: &NamedService, job: Option<&Job>) -> Definition {
    match job {
        Some(job) => Definition::Plist(Box::new(job.clone())),
        None => {
            UnitFiles::read(&one.service.definition_files()).map_or(Definition::Elsewhere, Definition::Units)
        }
    }
}

/// The definition as it was read when the manager began to read it, and when it had.
struct Loading<'a> {
    one: &'a NamedService,
    first: RefCell<Option<Definition>>,
    last: RefCell<Option<Definition>>,
}

impl Loading<'_> {
    fn reaches(&self, phase: ReloadPhase) {
        let now =
            self.one.service.definition(&self.one.source).ok().map(|job| define(self.one, job.as_ref()));
        match phase {
            ReloadPhase::TakingDownForCopy | ReloadPhase::BringingCopyBack => {}
            ReloadPhase::TakingDown | ReloadPhase::BringingBack => *self.first.borrow_mut() = now,
            ReloadPhase::Proving => *self.last.borrow_mut() = now,
        }
    }

    /// What the manager has read, where the files were the same all the while.
    fn loaded(&self) -> Option<Definition> {
        let (first, last) = (self.first.borrow(), self.last.borrow());
        let hash = |one: &Option<Definition>| one.as_ref().and_then(Definition::hash);
        last.clone().filter(|_| hash(&first).is_some() && hash(&first) == hash(&last))
    }
}

/// Keeps what has recovered. What cannot be kept, or is not known to be what was loaded, leaves nothing to go
/// back to: an older version would not be the last that worked.
fn keep(files: &ReloadFiles, loading: &Loading<'_>, definition: &Definition, voice: &Voice) {
    if matches!(definition, Definition::Elsewhere) {
        return;
    }
    let outcome = match loading.loaded() {
        Some(loaded) => files.remember(&loaded).map_err(|error| error.to_string()),
        None => Err("its file was changed while it was loaded".to_owned()),
    };
    if let Err(why) = outcome {
        files.forget();
        voice.warn(format!("{}: {why}; no version is kept to go back to", loading.one.name));
    }
}

/// Whether a version is kept of which a process ran when it had recovered. One that was not seen to recover
/// was kept since it ran.
fn had_process(files: &ReloadFiles, journal: &ReloadJournal, definition: &Definition) -> bool {
    let Some(kept) = files.kept_hash(definition).filter(|kept| Some(kept) != definition.hash().as_ref())
    else {
        return false;
    };
    let records = journal.records().unwrap_or_default();
    let recovered = |end: &&ReloadEnd| end.exit == Status::Done.code();
    let of_the_kept = records.iter().rev().filter(|record| record.hash_after.as_ref() == Some(&kept));
    let end = of_the_kept.filter_map(|record| record.end.as_ref()).find(recovered);
    end.is_none_or(|end| end.new_pid.is_some())
}

/// The last version that worked, as it is kept.
enum Kept {
    Job(PathBuf, Box<Job>),
    Units(UnitFiles),
}

impl Kept {
    /// What is kept of a job, where it differs from `definition`.
    fn of(files: &ReloadFiles, definition: &Definition) -> Option<Kept> {
        match definition {
            Definition::Plist(job) => files.other_job(job).map(|(path, job)| Kept::Job(path, Box::new(job))),
            Definition::Units(units) => files.other_units(units).map(Kept::Units),
            Definition::Elsewhere => None,
        }
    }

    fn job(&self) -> Option<&Job> {
        if let Kept::Job(_, job) = self { Some(job) } else { None }
    }
}

/// What a reload is about.
struct UnderWay<'a> {
    request: &'a ReloadRequest,
    one: &'a NamedService,
    files: &'a ReloadFiles,
    ready: &'a Ready,
    definition: &'a Definition,
    kept: Option<&'a Kept>,
    redactor: &'a Redactor,
}

impl UnderWay<'_> {
    /// What is left to be done if it is cut off.
    fn plan(&self, before: Option<&JobState>) -> UnfinishedReload {
        let UnderWay { request, one, files, ready, definition, .. } = *self;
        UnfinishedReload {
            name: one.name.clone(),
            label: one.label.clone(),
            manager: one.service.manager().to_owned(),
            daemon: request.location.daemon,
            domain: request.location.domain.clone(),
            group: request.location.group.clone(),
            source: one.source.clone(),
            last_good: definition.job().map(|_| files.plist()),
            starts_itself: ready.job.as_ref().is_none_or(starts_itself),
            was_registered: before.is_some(),
            old: before
                .and_then(|state| one.service.identify(state.pid?))
                .map(|old| (old.pid.number(), old.start.0)),
            drain_ms: millis(request.settings.drain),
            skip_kickstart: request.settings.skip_kickstart,
        }
    }

    /// What the journal tells of it when it begins.
    fn record(&self, id: &str, plan: &UnfinishedReload) -> ReloadRecord {
        let UnderWay { one, files, definition, .. } = *self;
        ReloadRecord {
            id: id.to_owned(),
            at: stamp::millis(SystemTime::now()),
            by: ReloadRequester::ourselves(),
            manager: one.service.manager().to_owned(),
            target: one.service.target(),
            hash_before: files.kept_hash(definition),
            hash_after: definition.hash(),
            old_pid: plan.old.map(|(pid, _)| pid),
            plan: plan.clone(),
            end: None,
        }
    }
}

/// Writes into the journal that nothing was touched, and why.
fn tell_of_the_refusal(
    under_way: &UnderWay<'_>,
    before: Option<&JobState>,
    journal: &ReloadJournal,
    error: &Error,
    voice: &Voice,
) {
    let mut report = ReloadReport::begun(Registration::of(Ok(before.cloned())));
    (report.status, report.reason) = (error.status, Some(error.to_string()));
    report.redact(under_way.redactor);
    let id = ReloadJournal::new_id();
    let written = journal
        .begin(under_way.record(&id, &under_way.plan(before)))
        .and_then(|()| journal.end(&id, ReloadEnd::of(&report, ReloadFinisher::Itself)));
    if let Err(error) = written {
        voice.warn(error);
    }
}

/// The reload itself, with a guardian who stands by and a journal that is kept.
fn guarded(
    under_way: &UnderWay<'_>,
    before: Option<JobState>,
    lock: &Lock,
    journal: &ReloadJournal,
    loading: &Loading<'_>,
    voice: &Voice,
    interrupted: &dyn Fn() -> Option<Signal>,
) -> Result<ReloadReport> {
    let UnderWay { request, one, files, ready, definition, kept, redactor } = *under_way;
    let settings = &request.settings;
    let plan = under_way.plan(before.as_ref());
    let id = ReloadJournal::new_id();
    let guardian = RefCell::new(Some(Guardian::post(&id, &plan, None, lock)?));
    journal.begin(under_way.record(&id, &plan))?;
    let progress = |phase: ReloadPhase| {
        loading.reaches(phase);
        let mut guardian = guardian.borrow_mut();
        if guardian.as_ref().is_some_and(|guardian| guardian.tell(phase)) {
            return;
        }
        // Somebody has ended it: the journal knows what is under way, and another one stands by.
        *guardian = Guardian::post(&id, &plan, Some(phase), lock).ok();
        if guardian.is_none() {
            voice.warn(format!("{}: nobody stands by for this reload any more", one.name));
        }
    };
    let ask = ready.health.as_ref().map(|health| |demand: Demand| health.ask(demand));
    let old_health = kept.and_then(|kept| match kept {
        Kept::Job(_, job) => health_of(request, one, Some(&**job)).ok().flatten(),
        Kept::Units(_) => ready.health.clone(),
    });
    let ask_old = old_health.as_ref().map(|health| |demand: Demand| health.ask(demand));
    let restore = || match (kept, definition) {
        (Some(Kept::Job(_, kept)), Definition::Plist(job)) => {
            // What was tried may have been written after the first look at it.
            let loaded = loading.loaded();
            let tested = loaded.as_ref().and_then(Definition::job).unwrap_or(job);
            put_back(&one.source, &tested.bytes, &kept.bytes, file::mode(&kept.path, 0o644))
        }
        (Some(Kept::Units(units)), Definition::Units(now)) => {
            units.put_back(now, &|| one.service.reread().map_err(|trouble| trouble.error()))
        }
        _ => Err(Error::bug("nothing is kept")),
    };
    let service_reload = ServiceReload {
        name: one.name.clone(),
        version: JobVersion {
            source: one.source.clone(),
            starts_itself: plan.starts_itself,
            health: ask.as_ref().map(|ask| ask as HealthQuestion<'_>),
        },
        last_good: kept.map(|kept| LastGood {
            version: JobVersion {
                source: match kept {
                    Kept::Job(path, _) => path.clone(),
                    Kept::Units(_) => one.source.clone(),
                },
                starts_itself: match kept {
                    Kept::Job(_, job) => starts_itself(job),
                    Kept::Units(_) => true,
                },
                health: ask_old.as_ref().map(|ask| ask as HealthQuestion<'_>),
            },
            since: files.kept_at(definition),
            put_back: &restore,
        }),
        rollback: settings.rollback,
        attempts: settings.attempts,
        delay: settings.delay,
        probe_timeout: settings.probe_timeout,
        skip_kickstart: settings.skip_kickstart,
        settle: settings.settle,
        drain: settings.drain,
        deadline: settings.timeout.map(|timeout| clock::after(Instant::now(), timeout)),
    };
    let context =
        ReloadContext { service: &*one.service, clock: &Real, voice, interrupted, progress: &progress };
    let mut report = reload(&service_reload, before, context);
    report.redact(redactor);
    if let Err(error) = journal.end(&id, ReloadEnd::of(&report, ReloadFinisher::Itself)) {
        voice.warn(error);
    }
    guardian.into_inner().into_iter().for_each(Guardian::dismiss);
    Ok(report)
}

fn starts_itself(job: &Job) -> bool {
    job.run_at_load || job.keep_alive == KeepAlive::Always(true)
}

/// Finishes the last reload of the label if it was begun and nobody has finished it: it and its guardian were
/// killed at once.
///
/// # Errors
/// 74, 77 for the journal.
fn finish_what_was_cut_off(journal: &ReloadJournal, name: &str, voice: &Voice) -> Result<Option<Status>> {
    let Some(open) = journal.open_record()? else { return Ok(None) };
    voice.warn(format!(
        "{name}: the reload of {} by process {} was cut off; finishing it first",
        open.at, open.by.pid
    ));
    guardian::finish(journal, &open.id, &open.plan, Some(ReloadPhase::TakingDown), ReloadFinisher::Resume)
        .map(Some)
}

/// Finishes the reload of the job of `files` that was cut off, if there is one. Returns its status.
///
/// # Errors
/// 75 while it runs, or its guardian; 74, 77.
pub(super) fn resume_one(files: &ReloadFiles, wait_lock: Duration, voice: &Voice) -> Result<Option<Status>> {
    let journal = ReloadJournal::of(files);
    if journal.open_record()?.is_none() {
        return Ok(None);
    }
    let _lock = take_turn(files, wait_lock, false, &|| None)?;
    finish_what_was_cut_off(&journal, files.label(), voice)
}

fn hand_over(
    one: &NamedService,
    files: &ReloadFiles,
    state: &JobState,
    voice: &Voice,
) -> Result<(Status, Value)> {
    let pid = handover::hand_over(&*one.service, files)?;
    voice.note(format!(
        "{}: we run inside it; process {pid} reloads it and reports to {}",
        one.name,
        files.log().display()
    ));
    let told = json!({
        "service": one.name, "manager": one.service.manager(), "target": one.service.target(),
        "outcome": "handed-over", "exit": 0, "helper_pid": pid.number(),
        "log": files.log().to_string_lossy(), "old_pid": state.pid.map(Pid::number)
    });
    Ok((Status::Done, told))
}

/// The turn of this reload.
fn take_turn(
    files: &ReloadFiles,
    wait_lock: Duration,
    helper: bool,
    interrupted: &dyn Fn() -> Option<Signal>,
) -> Result<Lock> {
    let patience = if helper { wait_lock.max(FAREWELL) } else { wait_lock };
    let until = clock::after(Instant::now(), patience);
    let mut pause = Duration::from_millis(10);
    loop {
        match files.lock() {
            Err(error) if error.status == Status::Busy && Instant::now() < until => {
                if let Some(signal) = interrupted() {
                    let why = format!("ended by {} while another reload of it ran", signal.as_str());
                    return Err(Error::new(ended_by(signal), why));
                }
                std::thread::sleep(pause.min(until.saturating_duration_since(Instant::now())));
                pause = (pause * 2).min(Duration::from_millis(200));
            }
            outcome => return outcome,
        }
    }
}

fn tell(
    request: &ReloadRequest,
    one: &NamedService,
    ready: &Ready,
    since: Option<&LogMarks>,
    report: &ReloadReport,
    redactor: &Redactor,
    voice: &Voice,
) -> Value {
    let cause = if report.recovered() || report.outcome == ReloadOutcome::Refused {
        None
    } else {
        one.service
            .cause(&report.known, report.up_after.is_some())
            .map(|cause| secrets::cause(cause, redactor))
    };
    let case = Case {
        name: &one.name,
        manager: one.service.manager(),
        target: one.service.target(),
        health: ready.health.as_ref().map(|health| redactor.text(&health.to_string()).into_owned()),
        job: ready.job.as_ref(),
        since,
        redactor,
        report,
        cause,
        life_log: (!report.recovered())
            .then(|| secrets::life_log(&*one.service, report.life.as_deref(), redactor))
            .flatten(),
        // What has come back runs well.
        repair: (!matches!(report.outcome, ReloadOutcome::RolledBack | ReloadOutcome::Restored))
            .then(|| one.service.repair(&one.source, &report.known)),
    };
    if report.recovered() {
        voice.note(format!("{}: {}", one.name, success(report, case.health.as_deref())));
    } else {
        let lines = case.lines();
        let last = case.repair.as_ref().map(|_| lines.len() - 1);
        for (index, line) in lines.iter().enumerate() {
            if index == 0 || Some(index) == last || !request.settings.quiet {
                say::error(line);
            }
        }
    }
    case.json()
}

fn success(report: &ReloadReport, health: Option<&str>) -> String {
    let how =
        if report.outcome == ReloadOutcome::RecoveredByKick { "recovered after a kick" } else { "recovered" };
    let who = report.new.map_or(String::new(), |pid| format!(": process {pid}"));
    let what = match health {
        Some(url) => format!(" answers at {url}"),
        None if report.new.is_some() => " runs".to_owned(),
        None => " and nothing of it runs now".to_owned(),
    };
    let instead = report.old.map_or(String::new(), |pid| format!(" in place of {pid}"));
    format!("{how} in {}{who}{what}{instead}", span::show(report.elapsed))
}
