//! The outcome of a wait, in JSON and in words.

use super::{Progress, Wait, WaitVerdict};
use crate::act::wait::patient::WaitEnding;
use crate::sys::signal;
use crate::words::exit::Status;
use crate::words::span::{self, millis};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The name and version of the JSON object.
pub const SCHEMA: &str = "baa.healthwait/1";

/// The status that a wait ends with.
pub fn status(ending: &WaitEnding) -> Status {
    match ending {
        WaitEnding::By(WaitVerdict::Ready) => Status::Done,
        WaitEnding::By(WaitVerdict::TooLate) => Status::TooLate,
        WaitEnding::Died(_) => Status::Unavailable,
        WaitEnding::Signal(signal) => Status::Signal(u8::try_from(*signal).unwrap_or(0)),
    }
}

/// The JSON object of `--dry-run`.
pub fn plan(names: &[String]) -> Value {
    json!({ "schema": SCHEMA, "dry_run": true, "targets": names })
}

/// The JSON object of `--json`.
pub fn json(wait: &Wait, ending: &WaitEnding, names: &[String], now: Instant) -> Value {
    let (result, reason) = match ending {
        WaitEnding::By(WaitVerdict::Ready) => ("ready", None),
        WaitEnding::By(WaitVerdict::TooLate) => ("timeout", None),
        WaitEnding::Died(reason) => ("died", Some(reason.clone())),
        WaitEnding::Signal(number) => ("signal", Some(signal::name(*number))),
    };
    json!({
        "schema": SCHEMA,
        "ready": result == "ready",
        "result": result,
        "reason": reason,
        "exit": status(ending).code(),
        "elapsed_ms": millis(wait.elapsed(now)),
        "targets": wait
            .targets()
            .iter()
            .zip(names)
            .map(|(target, name)| one(target, name))
            .collect::<Vec<_>>(),
    })
}

fn one(target: &Progress, name: &str) -> Value {
    json!({
        "target": name,
        "ready": target.ready_after.is_some(),
        "ready_after_ms": target.ready_after.map(millis),
        "attempts": target.attempts,
        "pid": target.answer.as_ref().and_then(|answer| answer.pid).map(|pid| pid.number()),
        "doubt": target.answer.as_ref().and_then(|answer| answer.doubt.as_deref()),
        "http_status": target
            .answer
            .as_ref()
            .and_then(|answer| answer.http_status)
            .or(target.last.as_ref().and_then(|last| last.http_status)),
        "last_error": target.last.as_ref().map(|last| json!({
            "class": last.class.name(), "text": last.text
        })),
        "timeline": target.timeline.iter().map(|stretch| json!({
            "at_ms": millis(stretch.at), "saw": stretch.what, "count": stretch.count
        })).collect::<Vec<_>>(),
    })
}

/// Why the wait did not end well, in one line.
pub fn words(
    wait: &Wait,
    ending: &WaitEnding,
    names: &[String],
    invert: bool,
    now: Instant,
) -> Option<String> {
    match ending {
        WaitEnding::By(WaitVerdict::Ready) => None,
        WaitEnding::Died(reason) => Some(reason.clone()),
        WaitEnding::Signal(number) => Some(format!("ended by {}", signal::name(*number))),
        WaitEnding::By(WaitVerdict::TooLate) => {
            let wanted = if invert { "down" } else { "up" };
            let laggards: Vec<(&Progress, &String)> =
                wait.targets().iter().zip(names).filter(|(target, _)| target.ready_after.is_none()).collect();
            let told: Vec<String> = laggards
                .iter()
                .take(if laggards.len() > TOLD + 1 { TOLD } else { TOLD + 1 })
                .map(|(target, name)| laggard(target, name, invert))
                .collect();
            let more = match laggards.len() - told.len() {
                0 => String::new(),
                more => format!("; and {more} more of {}", wait.targets().len()),
            };
            let took = span::show(wait.elapsed(now));
            Some(format!("not {wanted} after {took}: {}{more}", told.join("; ")))
        }
    }
}

/// So many targets that are late are told of one by one; all of them are in the JSON object.
const TOLD: usize = 4;

fn laggard(target: &Progress, name: &str, invert: bool) -> String {
    let why = match &target.last {
        None if target.timeline.is_empty() => "no answer in time".to_owned(),
        Some(last) if target.timeline.last().is_none_or(|stretch| stretch.what != "up") => last.text.clone(),
        _ if invert => "still up".to_owned(),
        _ => "up, but not for long enough".to_owned(),
    };
    format!(
        "{name}: {why} ({} {})",
        target.attempts,
        if target.attempts == 1 { "attempt" } else { "attempts" }
    )
}

/// Where others may have answered than those who were asked for, and that was put up with: a line each.
pub fn doubts(wait: &Wait, names: &[String]) -> Vec<String> {
    let answered = wait.targets().iter().zip(names).filter(|(target, _)| target.ready_after.is_some());
    let doubt = |(target, name): (&Progress, &String)| {
        let answer = target.answer.as_ref()?;
        Some(format!("{name}: process {} may not have answered: {}", answer.pid?, answer.doubt.as_ref()?))
    };
    answered.filter_map(doubt).collect()
}

/// What has changed since the last call, a line for each target; `told` has how much was told of each.
pub fn steps(wait: &Wait, names: &[String], told: &mut [usize]) -> Vec<String> {
    let mut lines = Vec::new();
    for ((target, name), told) in wait.targets().iter().zip(names).zip(told) {
        let seen = target.timeline.len();
        if std::mem::replace(told, seen) == seen {
            continue;
        }
        let Some(stretch) = target.timeline.last() else { continue };
        let what = match &target.last {
            Some(last) if last.class.name() == stretch.what => last.text.as_str(),
            _ => stretch.what,
        };
        lines.push(format!("{name}: {what}, after {}", span::show(stretch.at)));
    }
    lines
}

/// The live line on a terminal: the laggards, the attempt, the last error, the time.
pub fn live(wait: &Wait, names: &[String], now: Instant) -> String {
    let waiting: Vec<(&Progress, &String)> =
        wait.targets().iter().zip(names).filter(|(target, _)| target.ready_after.is_none()).collect();
    let Some((target, name)) = waiting.first() else { return String::new() };
    let more = if waiting.len() > 1 { format!(" and {} more", waiting.len() - 1) } else { String::new() };
    let last = target.last.as_ref().map_or(String::new(), |last| format!(", {}", last.text));
    format!(
        "waiting {} for {name}{more}: attempt {}{last}",
        span::show(Duration::from_millis(millis(wait.elapsed(now)) / 100 * 100)),
        target.attempts.max(1)
    )
}
