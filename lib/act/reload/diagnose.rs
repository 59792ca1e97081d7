//! What a failed reload would tell of a service, now: its manager's word, its health and who gave it, its
//! logs, its last reloads, the command that repairs it. Nothing is touched: no lock, no file, no manager's
//! verb but the one that shows.

use super::carry_out::Done;
use super::check::{Ready, examine};
use super::diagnosis::Case;
use super::files::ReloadFiles;
use super::health::{self, HealthCheck};
use super::history;
use super::journal::ReloadJournal;
use super::request::ReloadRequest;
use super::secrets;
use super::services::{NamedService, services};
use super::stranger::stranger;
use super::wait::look_until;
use super::{MARGIN, Proof, ReloadReport};
use crate::probe::demand::Demand;
use crate::probe::lineage::Lineage;
use crate::service::{JobState, Phase, Registration};
use crate::sys::clock::{self, Real};
use crate::words::error::Result;
use crate::words::exit::Status;
use crate::words::failure::{Class, Failure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The name and version of the JSON object.
const SCHEMA: &str = "baa.reload-diagnosis/1";
/// How long the managers of all services have to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many of the last reloads are told of.
const RELOADS: usize = 5;

/// What was found: lines for people, and the object.
#[derive(Debug)]
pub struct Diagnosis {
    /// For people.
    pub lines: Vec<String>,
    /// The worst status: 0 healthy, 1 not, 69 it cannot be told.
    pub done: Done,
}

/// Examines the services of `request`.
///
/// # Errors
/// What is wrong with the request itself.
pub fn diagnose(request: &ReloadRequest) -> Result<Diagnosis> {
    let (mut lines, mut told, mut status) = (Vec::new(), Vec::new(), Status::Done);
    // All that is asked of a manager that hangs takes no longer than one question.
    let patience = request.settings.timeout.unwrap_or(PATIENCE).min(PATIENCE);
    let ones = services(request, Some(clock::after(Instant::now(), patience)))?;
    health::check(request, &ones)?;
    for one in ones {
        let (found, case) = diagnose_one(request, &one)?;
        status = status.worse(found.0);
        lines.extend(found.1);
        told.push(case);
    }
    let json = json!({
        "schema": SCHEMA, "ok": status == Status::Done, "exit": status.code(), "services": told
    });
    Ok(Diagnosis { lines, done: Done { status, json } })
}

fn diagnose_one(request: &ReloadRequest, one: &NamedService) -> Result<((Status, Vec<String>), Value)> {
    // A file that cannot be used keeps nothing from being told of what runs.
    let (ready, unfit) = match examine(request, one) {
        Ok(ready) => (ready, None),
        Err(error) => (Ready { job: None, health: None }, Some(error)),
    };
    let redactor = secrets::redactor(one, ready.job.as_ref(), ready.health.as_ref(), None);
    let clean = |text: String| redactor.text(&text).into_owned();
    let until = request.settings.timeout.map(|timeout| clock::after(Instant::now(), timeout));
    let limit = Limit { until, probe: request.settings.probe_timeout };
    let known = Registration::of(look_until(&*one.service, &Real, limit.of_looks()));
    let verdict = judge(limit, one, &ready, &known);
    let status = match verdict.healthy {
        Some(true) => Status::Done,
        Some(false) => Status::No,
        None => Status::Unavailable,
    };
    let mut report = ReloadReport::begun(known);
    (report.status, report.reason) = (status, Some(verdict.words.clone()));
    (report.proof, report.probes) = (verdict.proof, u32::from(ready.health.is_some()));
    report.last_failure = verdict.failure;
    if let Some(health) = ready.health.as_ref().filter(|_| status != Status::Done) {
        report.holder = stranger(&*one.service, &*health.ask(Demand::default()));
    }
    report.redact(&redactor);
    report.new = report.known.state().and_then(|state| state.pid);
    let life = report.known.state().and_then(|state| state.life.clone()).filter(|_| status != Status::Done);
    let case = Case {
        name: &one.name,
        manager: one.service.manager(),
        target: one.service.target(),
        health: ready.health.as_ref().map(|health| clean(health.to_string())),
        job: ready.job.as_ref(),
        since: None,
        redactor: &redactor,
        life_log: life.and_then(|life| secrets::life_log(&*one.service, Some(&life), &redactor)),
        cause: (status != Status::Done)
            .then(|| one.service.cause(&report.known, false))
            .flatten()
            .map(|cause| secrets::cause(cause, &redactor)),
        repair: (status != Status::Done).then(|| one.service.repair(&one.source, &report.known)),
        report: &report,
    };
    let mut lines = case.lines();
    let repair = if case.repair.is_some() { lines.pop() } else { None };
    lines.extend(unfit.iter().map(|error| clean(format!("its file cannot be used: {error}"))));
    let records =
        ReloadJournal::of(&ReloadFiles::at(&one.label, &*one.service)).records().unwrap_or_default();
    let first = records.len().saturating_sub(RELOADS);
    for record in &records[first..] {
        lines.push(format!("reload: {}", history::text(&one.label, record, false)));
    }
    lines.extend(repair);
    let mut told = case.json();
    if let Some(told) = told.as_object_mut() {
        // What only a reload has.
        for key in ["outcome", "old_pid", "gone_after_ms", "up_after_ms", "healthy_after_ms", "elapsed_ms"] {
            told.remove(key);
        }
        told.insert("healthy".to_owned(), json!(verdict.healthy));
        told.insert("file_error".to_owned(), json!(unfit.map(|error| clean(error.to_string()))));
        told.insert("reloads".to_owned(), json!(records[first..]));
        if status == Status::Done {
            told.remove("repair");
        }
    }
    Ok(((status, lines), told))
}

/// How long the questions may take.
#[derive(Clone, Copy)]
struct Limit {
    until: Option<Instant>,
    probe: Duration,
}

impl Limit {
    fn by(self, until: Instant) -> Instant {
        self.until.map_or(until, |limit| limit.min(until))
    }

    fn of_probes(self) -> Instant {
        self.by(clock::after(Instant::now(), self.probe))
    }

    /// A manager that is busy is asked again until then.
    fn of_looks(self) -> Instant {
        self.by(Instant::now() + MARGIN)
    }
}

/// What is to be said of its health.
struct Verdict {
    /// `None` where it cannot be told.
    healthy: Option<bool>,
    words: String,
    proof: Option<Proof>,
    failure: Option<Failure>,
}

fn judge(limit: Limit, one: &NamedService, ready: &Ready, known: &Registration) -> Verdict {
    let verdict =
        |healthy, words: &str| Verdict { healthy, words: words.to_owned(), proof: None, failure: None };
    let state = match known {
        Registration::Registered(state) => state,
        Registration::NotRegistered => return verdict(Some(false), "it is not registered"),
        Registration::Unknown(_) => return unknown(limit, ready),
    };
    let Some(health) = &ready.health else {
        return match state.phase {
            Phase::Running if state.pid.is_some() => verdict(Some(true), "it runs"),
            _ if state.completed => verdict(Some(true), "its last run came to a good end"),
            _ => verdict(Some(false), "it does not run"),
        };
    };
    ask(limit, one, health, state)
}

/// Where its manager cannot be asked, what is answered is told, whoever answers.
fn unknown(limit: Limit, ready: &Ready) -> Verdict {
    let asked = ready.health.as_ref().map(|health| health.ask(Demand::default()).ask_now(limit.of_probes()));
    let more = match &asked {
        None => "",
        Some(Ok(_)) => "; its health check is answered well, by whomever",
        Some(Err(_)) => "; its health check fails",
    };
    let words = format!("its manager cannot be asked{more}");
    Verdict { healthy: None, words, proof: None, failure: asked.and_then(|asked| asked.err()) }
}

/// Asks for its health, of its own processes first.
fn ask(limit: Limit, one: &NamedService, health: &HealthCheck, state: &JobState) -> Verdict {
    let roots = state.processes();
    let demanded = |demand: Demand| health.ask(demand).ask_now(limit.of_probes());
    if roots.is_empty() {
        let failure = demanded(Demand::default()).err();
        let words = match failure {
            Some(_) => "it does not run",
            None => "it does not run, and something else answers in its place",
        };
        return Verdict { healthy: Some(false), words: words.to_owned(), proof: None, failure };
    }
    let of_its_own = Demand { among: Some(Lineage::of(roots)), ..Demand::default() };
    let (answer, proof) = match demanded(of_its_own) {
        // Another machine's address, or sockets that we may not see.
        Err(failure) if failure.class == Class::UnknownProcess => {
            (demanded(Demand::default()), Proof::Process)
        }
        Ok(answer) if answer.pid.is_none() => (Ok(answer), Proof::Process),
        answer => (answer, Proof::Listener),
    };
    match answer {
        Ok(_) => Verdict {
            healthy: Some(state.phase == Phase::Running),
            words: match state.phase {
                Phase::Running => format!("healthy: {} answers", one.name),
                _ => format!("it answers, but {} says {}", one.service.manager(), state.word),
            },
            proof: Some(proof),
            failure: None,
        },
        Err(failure) => Verdict {
            healthy: Some(false),
            words: "it runs and is not healthy".to_owned(),
            proof: None,
            failure: Some(failure),
        },
    }
}
