//! What a person asks a keeper (baa-run ctl).

use crate::service::embedded::KeeperPaths;
use crate::service::{Trouble, TroubleClass, intent};
use crate::sys::process::{Pid, Watch};
use crate::sys::say::Voice;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Between two looks at what comes of a change.
const LOOK: Duration = Duration::from_millis(20);

fn error(label: &str, trouble: Trouble) -> Error {
    let status = match trouble.class {
        TroubleClass::Final(status) => status,
        TroubleClass::Retry => Status::Busy,
        TroubleClass::Benign | TroubleClass::Unregistered => Status::Unavailable,
    };
    Error::new(status, format!("cannot ask about {label}: {}", trouble.text))
}

/// What the keeper of `label` says of it, in JSON.
///
/// # Errors
/// 69 when no keeper runs.
pub fn status(label: &str) -> Result<Value> {
    tell(label, "status")
}

/// Gives the keeper of `label` a verb of the protocol; returns what it says of the job then.
///
/// # Errors
/// 69 when no keeper runs.
pub fn tell(label: &str, verb: &str) -> Result<Value> {
    ask(label, &json!({ "verb": verb }))
}

/// How a restart or an update is asked for.
#[derive(Clone, Copy, Debug)]
pub struct AskOptions<'a> {
    /// Why; it reaches the next life.
    pub reason: Option<&'a str>,
    /// Whether a restart is done at once, however short ago the last one was.
    pub now: bool,
    /// Whether to return once it is asked for, whatever comes of it.
    pub no_wait: bool,
    /// How long to wait for what comes of it; `None` is without end.
    pub timeout: Option<Duration>,
}

/// Has the job of `label` stopped and started, drained first where it can be, and waits for what comes of it.
/// One that is being restarted already is not restarted twice.
///
/// # Errors
/// 69 when no keeper runs, or when the next life does not come to serve, or the keeper ends; 124 when that is
/// not known in time.
pub fn restart(label: &str, how: AskOptions<'_>, voice: &Voice) -> Result<Value> {
    let begun = ask(label, &json!({ "verb": "restart", "reason": how.reason, "now": how.now }))?;
    if let Some(millis) = begun["restart_in_ms"].as_u64() {
        let pause = crate::words::span::show(Duration::from_millis(millis));
        voice.note(format!(
            "{label}: it was restarted a moment ago, and will be again in {pause}; with --now, at once"
        ));
    }
    outcome(label, begun, how, "is not restarted")
}

/// Has the next life of `label` started beside the one that serves, and waits for what comes of it.
///
/// # Errors
/// 69 when no keeper runs, or when the next life did not come to serve: the old one goes on; 75 when none
/// serves now; 78 without --ready.
pub fn update(label: &str, how: AskOptions<'_>) -> Result<Value> {
    if status(label)?["asks_ready"] != true {
        return Err(Error::new(
            Status::BadConfig,
            format!("cannot update {label}: without --ready nobody knows whether the next life serves"),
        ));
    }
    let begun = ask(label, &json!({ "verb": "update", "reason": how.reason }))?;
    outcome(label, begun, how, "is not updated, the old life goes on")
}

fn ask(label: &str, request: &Value) -> Result<Value> {
    KeeperPaths::of(label).ask(request).map_err(|trouble| error(label, trouble))
}

/// Waits for what comes of the change that `begun` tells of.
fn outcome(label: &str, begun: Value, how: AskOptions<'_>, not: &str) -> Result<Value> {
    if how.no_wait {
        return Ok(begun);
    }
    let (number, keeper) = (begun["change"]["number"].as_u64(), begun["keeper"].clone());
    let ended = || Error::new(Status::Unavailable, format!("{label} {not}: its keeper has ended"));
    let until = how.timeout.map(|timeout| crate::sys::clock::after(Instant::now(), timeout));
    let mut now = begun;
    loop {
        match of_number(&now, number) {
            Some(change) if change["state"] == "failed" => {
                let why = change["why"].as_str().unwrap_or_default();
                return Err(Error::new(Status::Unavailable, format!("{label} {not}: {why}")));
            }
            Some(change) if change["state"] == "done" => return Ok(now),
            Some(_) => {}
            // What came of a later one says nothing of it.
            None => {
                let why = "so much was asked for since that what came of it is not known";
                return Err(Error::new(Status::Unavailable, format!("{label}: {why}")));
            }
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Err(Error::new(
                Status::TooLate,
                format!("{label}: what comes of it is not known within the time"),
            ));
        }
        std::thread::sleep(LOOK);
        match status(label) {
            // Another keeper knows nothing of it.
            Ok(answer) if answer["keeper"] != keeper => return Err(ended()),
            Ok(answer) => now = answer,
            Err(error) if error.status == Status::Busy => {}
            Err(_) => return Err(ended()),
        }
    }
}

/// The change of this number, as far as a status tells of it.
fn of_number(status: &Value, number: Option<u64>) -> Option<&Value> {
    let all = status["changes"].as_array().into_iter().flatten().chain([&status["change"]]);
    all.into_iter().find(|change| number.is_some() && change["number"].as_u64() == number)
}

/// Writes down that the TERM which the keeper of `label` gets within a minute means a restart.
///
/// # Errors
/// 69 when no keeper runs; 74, 77 when it cannot be written.
pub fn intend(label: &str, reason: Option<&str>) -> Result<Value> {
    let answer = status(label)?;
    let gone = || Error::new(Status::Unavailable, format!("cannot ask about {label}: no keeper runs"));
    let keeper = answer["keeper"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::new)
        .ok_or_else(gone)?;
    intent::write(&KeeperPaths::of(label), keeper, reason)?;
    Ok(answer)
}

/// Stops the job and its keeper; returns when the keeper is gone.
///
/// # Errors
/// 69 when no keeper runs; 124 when it is not gone a minute after the job's own limit.
pub fn stop(label: &str) -> Result<Value> {
    let answer = tell(label, "stop")?;
    gone(label, &answer, Duration::ZERO)
}

/// Has the job finish what it has begun, then stops it and its keeper; returns when the keeper is gone.
///
/// # Errors
/// 69 when no keeper runs; 124 when it is not gone a minute after the job's own limits.
pub fn drain(label: &str, reason: Option<&str>) -> Result<Value> {
    let answer = ask(label, &json!({ "verb": "drain", "reason": reason }))?;
    let limit = answer["drain_ms"].as_u64().map(Duration::from_millis);
    match limit {
        Some(Duration::ZERO) => gone(label, &answer, crate::words::span::LONGEST),
        limit => gone(label, &answer, limit.unwrap_or_default()),
    }
}

fn gone(label: &str, answer: &Value, more: Duration) -> Result<Value> {
    let number = |key: &str| answer.get(key).and_then(Value::as_u64);
    let keeper = number("keeper").and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::new);
    let patience = match number("exit_timeout_ms") {
        Some(0) | None => crate::words::span::LONGEST,
        Some(millis) => Duration::from_millis(millis) + Duration::from_secs(60) + more,
    };
    let watch = keeper.and_then(|pid| Watch::new(pid).ok().flatten());
    match watch {
        Some(watch) if !watch.wait(crate::sys::clock::after(Instant::now(), patience)) => {
            Err(Error::new(Status::TooLate, format!("{label} did not stop in time")))
        }
        _ => Ok(answer.clone()),
    }
}

/// The status in one line for people.
pub fn words(answer: &Value) -> String {
    let text = |key: &str| answer.get(key).and_then(Value::as_str);
    let number = |key: &str| answer.get(key).and_then(Value::as_u64);
    let mut words = vec![format!("{}: {}", text("label").unwrap_or("?"), text("state").unwrap_or("?"))];
    words.extend((answer["parked"] == true).then(|| "parked".to_owned()));
    words.extend(number("pid").map(|pid| format!("process {pid}")));
    words.extend(number("runs").map(|runs| format!("runs {runs}")));
    words.extend(text("last_exit").map(|exit| format!("last {exit}")));
    words.extend(
        number("next_start_ms").map(|millis| {
            format!("next start in {}", crate::words::span::show(Duration::from_millis(millis)))
        }),
    );
    words.extend(
        number("restart_in_ms")
            .map(|millis| format!("restart in {}", crate::words::span::show(Duration::from_millis(millis)))),
    );
    words.extend(text("says").map(|says| format!("says {}", crate::words::error::brief(says))));
    words.join(", ")
}
