//! Carrying a request out: the services in order, each in its turn, and what came of it.

use super::check::{Ready, examine};
use super::diagnosis::{Case, SCHEMA};
use super::files::ReloadFiles;
use super::request::ReloadRequest;
use super::services::{NamedService, services};
use super::{ReloadOutcome, ReloadReport, ServiceReload, handover, reload};
use crate::probe::Probe;
use crate::probe::demand::Demand;
use crate::probe::http::{Http, Statuses};
use crate::service::job::KeepAlive;
use crate::sys::clock::{self, Real};
use crate::sys::file::Lock;
use crate::sys::http::{self, Trust, Url};
use crate::sys::say::{self, Voice};
use crate::sys::signal::{Signal, Signals};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use crate::words::span;
use serde_json::{Value, json};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// What came of it.
#[derive(Debug)]
pub struct Done {
    /// The worst status.
    pub status: Status,
    /// The JSON object.
    pub json: Value,
}

/// Reloads the services in order.
///
/// # Errors
/// What is wrong with the order itself. What goes wrong with a service is told on stderr and in the status.
pub fn carry_out(request: &ReloadRequest, voice: &Voice) -> Result<Done> {
    let ones = services(request)?;
    if !request.settings.keep_going {
        // One bad file of several stops the order before anything is touched.
        let unfit: Vec<(&NamedService, Error)> = ones
            .iter()
            .filter_map(|one| Some((one, examine(request, one).and_then(|_| one.service.prepare()).err()?)))
            .collect();
        if !unfit.is_empty() {
            let status = unfit.iter().fold(Status::Done, |status, (_, error)| status.worse(error.status));
            let told: Vec<Value> = unfit.iter().map(|(one, error)| tell_refusal(one, error)).collect();
            return Ok(done(status, told, &[]));
        }
    }
    let signals = Signals::catch(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])
        .map_err(|cause| Error::io("cannot catch signals", &cause))?;
    let caught = Cell::new(None);
    let interrupted = || {
        if caught.get().is_none() {
            caught.set(signals.take().first().copied());
        }
        caught.get()
    };
    let helper = handover::is_helper();
    let mut status = Status::Done;
    let mut told = Vec::new();
    for one in &ones {
        let (ended, value) = match reload_one(request, one, voice, helper, &interrupted) {
            Ok(end) => end,
            Err(error) => (error.status, tell_refusal(one, &error)),
        };
        told.push(value);
        status = status.worse(ended);
        if interrupted().is_some() || (ended != Status::Done && !request.settings.keep_going) {
            break;
        }
    }
    let skipped: Vec<&str> = ones.iter().skip(told.len()).map(|one| one.name.as_str()).collect();
    if !skipped.is_empty() {
        voice.warn(format!("not reloaded: {}", skipped.join(", ")));
    }
    Ok(done(status, told, &skipped))
}

fn done(status: Status, told: Vec<Value>, skipped: &[&str]) -> Done {
    Done {
        status,
        json: json!({
            "schema": SCHEMA, "ok": status == Status::Done, "exit": status.code(), "services": told,
            "skipped": skipped
        }),
    }
}

/// Tells why a service was not touched.
fn tell_refusal(one: &NamedService, error: &Error) -> Value {
    say::error(&format!("{}: {error}; nothing was touched", one.name));
    json!({
        "service": one.name, "manager": one.service.manager(), "target": one.service.target(),
        "outcome": ReloadOutcome::Refused.name(), "exit": error.status.code(), "reason": error.to_string()
    })
}

fn probe(url: &Url, demand: Demand) -> Box<dyn Probe> {
    Box::new(Http {
        request: http::Request {
            url: url.clone(),
            method: "GET".to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            redirects: false,
            known_peer: None,
            want_body: false,
            trust: Trust::default(),
        },
        statuses: vec![Statuses::OK],
        contains: Vec::new(),
        json: Vec::new(),
        demand,
    })
}

fn reload_one(
    request: &ReloadRequest,
    one: &NamedService,
    voice: &Voice,
    helper: bool,
    interrupted: &dyn Fn() -> Option<Signal>,
) -> Result<(Status, Value)> {
    let ready = examine(request, one)?;
    // Otherwise all were prepared before the first was touched.
    if request.settings.keep_going {
        one.service.prepare()?;
    }
    let files = ReloadFiles::of(&one.label)?;
    let lock = take_turn(&files, helper)?;
    let before = one.service.inspect().ok().flatten();
    if let Some(state) = before.as_ref().filter(|state| !helper && one.service.holds_us(state)) {
        drop(lock);
        let pid = handover::hand_over(&*one.service, &files)?;
        voice.note(format!(
            "{}: we run inside it; process {pid} reloads it and reports to {}",
            one.name,
            files.log().display()
        ));
        let told = json!({
            "service": one.name, "manager": one.service.manager(), "target": one.service.target(),
            "outcome": "handed-over", "exit": 0, "helper_pid": pid.number(),
            "log": files.log().to_string_lossy(), "old_pid": state.pid.map(|pid| pid.number())
        });
        return Ok((Status::Done, told));
    }
    if let (Some(job), Some(state)) = (&ready.job, &before) {
        files.remember_running(job, state);
    }
    let settings = &request.settings;
    let ask = ready.health.as_ref().map(|url| |demand: Demand| probe(url, demand));
    let service_reload = ServiceReload {
        name: one.name.clone(),
        source: one.source.clone(),
        last_good: ready.job.as_ref().and_then(|job| files.other_than(job)),
        starts_itself: ready
            .job
            .as_ref()
            .is_none_or(|job| job.run_at_load || job.keep_alive == KeepAlive::Always(true)),
        health: ask.as_ref().map(|ask| ask as &dyn Fn(Demand) -> Box<dyn Probe>),
        attempts: settings.attempts,
        delay: settings.delay,
        probe_timeout: settings.probe_timeout,
        skip_kickstart: settings.skip_kickstart,
        settle: settings.settle,
        drain: settings.drain,
        deadline: settings.timeout.map(|timeout| clock::after(Instant::now(), timeout)),
    };
    let report = reload(&service_reload, &*one.service, &Real, voice, interrupted);
    if let (Some(job), ReloadOutcome::Recovered | ReloadOutcome::RecoveredByKick) =
        (&ready.job, report.outcome)
        && let Err(error) = files.remember(job)
    {
        voice.warn(error);
    }
    Ok((report.status, tell(request, one, &ready, &report, voice)))
}

/// The turn of this reload. A helper waits for its caller to let go of the lock.
fn take_turn(files: &ReloadFiles, helper: bool) -> Result<Lock> {
    let until = Instant::now() + if helper { Duration::from_secs(5) } else { Duration::ZERO };
    loop {
        match files.lock() {
            Err(error) if error.status == Status::Busy && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10))
            }
            outcome => return outcome,
        }
    }
}

fn tell(
    request: &ReloadRequest,
    one: &NamedService,
    ready: &Ready,
    report: &ReloadReport,
    voice: &Voice,
) -> Value {
    let registered = report.state.is_some();
    let case = Case {
        name: &one.name,
        manager: one.service.manager(),
        target: one.service.target(),
        health: ready.health.as_ref().map(Url::to_string),
        job: ready.job.as_ref(),
        report,
        repair: one.service.repair(&one.source, registered),
    };
    match report.outcome {
        ReloadOutcome::Recovered | ReloadOutcome::RecoveredByKick => {
            voice.note(format!("{}: {}", one.name, success(report, case.health.as_deref())))
        }
        _ => {
            let lines = case.lines();
            let last = lines.len() - 1;
            for (index, line) in lines.iter().enumerate() {
                if index == 0 || index == last || !request.settings.quiet {
                    say::error(line);
                }
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
