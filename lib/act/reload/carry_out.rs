//! Carrying a request out: the services in order, each in its turn, and what came of it.

use super::ReloadOutcome;
use super::check::examine;
use super::diagnosis::SCHEMA;
use super::files::ReloadFiles;
use super::handover;
use super::health;
use super::hooks::RunningReload;
use super::journal::ReloadJournal;
use super::one::{prepare, reload_one, resume_one};
use super::request::ReloadRequest;
use super::secrets;
use super::services::{NamedService, services};
use crate::service::job::Job;
use crate::sys::redact::Redactor;
use crate::sys::say::{self, Voice};
use crate::sys::signal::{Signal, Signals};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use serde_json::{Value, json};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

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
    let signals = Signals::catch(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])
        .map_err(|cause| Error::io("cannot catch signals", &cause))?;
    let caught = Cell::new(None);
    let interrupted = || {
        if caught.get().is_none() {
            caught.set(signals.take().first().copied());
        }
        caught.get()
    };
    let ones = services(request, None)?;
    health::check(request, &ones)?;
    // Before anything is checked: a job that is stranded does not wait for a file that is good.
    for one in &ones {
        // What stands in the way stands in the way of its reload too, and is told there.
        let _ = resume_one(&ReloadFiles::at(&one.label, &*one.service), Duration::ZERO, voice);
    }
    if !request.settings.keep_going {
        // One bad file of several stops the order before anything is touched.
        let unfit: Vec<(&NamedService, Error)> = ones
            .iter()
            .filter_map(|one| {
                Some((one, examine(request, one).and_then(|ready| prepare(one, ready.job.as_ref())).err()?))
            })
            .collect();
        if !unfit.is_empty() {
            let status = unfit.iter().fold(Status::Done, |status, (_, error)| status.worse(error.status));
            let told: Vec<Value> =
                unfit.iter().map(|(one, error)| refuse(request, one, error, voice, &interrupted)).collect();
            return Ok(done(status, told, &[]));
        }
    }
    let helper = handover::is_helper();
    let mut status = Status::Done;
    let mut told = Vec::new();
    for one in &ones {
        let (ended, value) = match reload_one(request, one, voice, helper, &interrupted) {
            Ok(end) => end,
            Err(error) => (error.status, refuse(request, one, &error, voice, &interrupted)),
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

/// Tells why a service was not touched, its hook too.
fn refuse(
    request: &ReloadRequest,
    one: &NamedService,
    error: &Error,
    voice: &Voice,
    interrupted: &dyn Fn() -> Option<Signal>,
) -> Value {
    // The report is given to the hook in a file of that directory.
    let files = ReloadFiles::of(&one.label, &*one.service);
    let files = files.unwrap_or_else(|_| ReloadFiles::at(&one.label, &*one.service));
    let job = one.service.definition(&one.source).ok().flatten();
    let health = health::health_of(request, one, job.as_ref()).ok().flatten();
    // Where the file cannot be read, the secrets of the one before are likely to be those of the new one.
    let kept = Job::read(&files.plist()).ok();
    let redactor = Arc::new(secrets::redactor(one, job.as_ref(), health.as_ref(), kept.as_ref()));
    let told = tell_refusal(one, error, &redactor);
    let voice = &voice.discreet(redactor);
    RunningReload { hooks: &request.hooks, one, files: &files, interrupted }.after(false, &told, voice);
    told
}

fn tell_refusal(one: &NamedService, error: &Error, redactor: &Redactor) -> Value {
    let reason = error.to_string();
    let reason = redactor.text(&reason);
    say::error(&format!("{}: {reason}; nothing was touched", one.name));
    json!({
        "service": one.name, "manager": one.service.manager(), "target": one.service.target(),
        "outcome": ReloadOutcome::Refused.name(), "exit": error.status.code(), "reason": reason
    })
}

/// Finishes the reloads that were cut off: of `label`, or of all where there is none; with `dry_run` it only
/// tells of them.
///
/// # Errors
/// None of them is one of the request; what goes wrong with a job is told and in the status.
pub fn resume(label: Option<&str>, wait_lock: Duration, dry_run: bool, voice: &Voice) -> Result<Done> {
    let mut status = Status::Done;
    let mut told = Vec::new();
    for files in ReloadFiles::with_journal(label) {
        let label = files.label();
        let outcome = match dry_run {
            false => resume_one(&files, wait_lock, voice),
            true => would_resume(&files, voice).map(|open| open.then_some(Status::Done)),
        };
        let (ended, reason) = match outcome {
            Ok(None) => continue,
            Ok(Some(ended)) => (ended, None),
            Err(error) => (error.status, Some(error.to_string())),
        };
        let how = match (&reason, ended) {
            _ if dry_run => "would be finished",
            (Some(_), _) => "could not be looked at",
            (None, Status::Done) => "finished",
            (None, _) => "could not be finished",
        };
        match &reason {
            Some(reason) => say::error(&format!("{label}: {reason}")),
            None => voice.note(format!("{label}: {how}; see 'baa-reload history --label {label}'")),
        }
        status = status.worse(ended);
        told.push(json!({ "service": label, "outcome": how, "exit": ended.code(), "reason": reason }));
    }
    if told.is_empty() {
        voice.note("no reload was cut off");
    }
    Ok(done(status, told, &[]))
}

/// Tells of a reload that was cut off; says whether there is one.
fn would_resume(files: &ReloadFiles, voice: &Voice) -> Result<bool> {
    let open = ReloadJournal::of(files).open_record()?.filter(|_| !files.locked());
    if let Some(open) = &open {
        voice.note(format!(
            "{}: the reload of {} by process {} was cut off, and would be finished first",
            files.label(),
            open.at,
            open.by.pid
        ));
    }
    Ok(open.is_some())
}

/// Tells of those of a request's reloads that were cut off, which would be finished first.
///
/// # Errors
/// As `services`.
pub fn tell_what_was_cut_off(request: &ReloadRequest, voice: &Voice) -> Result<()> {
    for one in services(request, None)? {
        would_resume(&ReloadFiles::at(&one.label, &*one.service), voice)?;
    }
    Ok(())
}
