//! What a person asks a keeper (baa-run ctl).

use crate::service::embedded::Place;
use crate::service::{Class, Trouble};
use crate::sys::process::{Pid, Watch};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn error(label: &str, trouble: Trouble) -> Error {
    let status = match trouble.class {
        Class::Final(status) => status,
        Class::Retry => Status::Busy,
        Class::Benign | Class::Unregistered => Status::Unavailable,
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
    Place::of(label).ask(&json!({ "verb": verb })).map_err(|trouble| error(label, trouble))
}

/// Has the job of `label` stopped and started, drained first where it can be; `reason` reaches its next life.
///
/// # Errors
/// 69 when no keeper runs.
pub fn restart(label: &str, reason: Option<&str>) -> Result<Value> {
    Place::of(label).ask(&json!({ "verb": "restart", "reason": reason })).map_err(|trouble| error(label, trouble))
}

/// Has the next life of `label` started beside the one that serves, and waits for what comes of it.
///
/// # Errors
/// 69 when no keeper runs, or when the next life did not come to serve: the old one goes on; 75 when none serves now; 78 without --ready.
pub fn update(label: &str, reason: Option<&str>) -> Result<Value> {
    if status(label)?["asks_ready"] != true {
        return Err(Error::new(Status::BadConfig, format!("cannot update {label}: without --ready nobody knows whether the next life serves")));
    }
    let begun = Place::of(label).ask(&json!({ "verb": "update", "reason": reason })).map_err(|trouble| error(label, trouble))?;
    let number = begun["update"]["number"].clone();
    loop {
        let now = status(label)?;
        let update = &now["update"];
        match (update["number"] == number, update["state"].as_str()) {
            (true, Some("open")) => std::thread::sleep(Duration::from_millis(20)),
            (true, Some("undone")) => {
                let why = update["why"].as_str().unwrap_or_default();
                return Err(Error::new(Status::Unavailable, format!("{label} is not updated, the old life goes on: {why}")));
            }
            _ => return Ok(now),
        }
    }
}

/// Stops the job and its keeper; returns when the keeper is gone.
///
/// # Errors
/// 69 when no keeper runs; 124 when it is not gone a minute after the job's own limit.
pub fn stop(label: &str) -> Result<Value> {
    let answer = tell(label, "stop")?;
    let number = |key: &str| answer.get(key).and_then(Value::as_u64);
    let keeper = number("keeper").and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::new);
    let patience = match number("exit_timeout_ms") {
        Some(0) | None => crate::words::span::LONGEST,
        Some(millis) => Duration::from_millis(millis) + Duration::from_secs(60),
    };
    let watch = keeper.and_then(|pid| Watch::new(pid).ok().flatten());
    match watch {
        Some(watch) if !watch.wait(crate::sys::clock::after(Instant::now(), patience)) => {
            Err(Error::new(Status::TooLate, format!("{label} did not stop in time")))
        }
        _ => Ok(answer),
    }
}

/// The status in one line for people.
pub fn words(answer: &Value) -> String {
    let text = |key: &str| answer.get(key).and_then(Value::as_str);
    let number = |key: &str| answer.get(key).and_then(Value::as_u64);
    let mut words = vec![format!("{}: {}", text("label").unwrap_or("?"), text("state").unwrap_or("?"))];
    words.extend(number("pid").map(|pid| format!("process {pid}")));
    words.extend(number("runs").map(|runs| format!("runs {runs}")));
    words.extend(text("last_exit").map(|exit| format!("last {exit}")));
    words.extend(number("next_start_ms").map(|millis| format!("next start in {}", crate::words::span::show(Duration::from_millis(millis)))));
    words.join(", ")
}
