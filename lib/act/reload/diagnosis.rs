//! What is told of a reload: in JSON always, to people when it failed. Secrets are never among it; see
//! `sys::redact`.

use super::log_tail::{LOG_LINES, LogMarks, LogTail, fold};
use super::{Proof, ReloadReport};
use crate::service::job::Job;
use crate::service::{JobCause, JobState, LifeLog, Registration};
use crate::sys::redact::Redactor;
use crate::words::span::{self, millis};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The name and version of the JSON object.
pub const SCHEMA: &str = "baa.reload/1";

/// One reload, with all that its report needs.
pub struct Case<'a> {
    /// How messages name it.
    pub name: &'a str,
    /// The manager.
    pub manager: &'static str,
    /// What the manager calls it.
    pub target: String,
    /// What was asked for its health.
    pub health: Option<String>,
    /// The job, where there is a file.
    pub job: Option<&'a Job>,
    /// How long its logs were when the reload began; `None` where nothing was begun.
    pub since: Option<&'a LogMarks>,
    /// What must not be shown.
    pub redactor: &'a Redactor,
    /// What happened, redacted.
    pub report: &'a ReloadReport,
    /// Why it does not run, where the manager knows.
    pub cause: Option<JobCause>,
    /// What the new life has said, where the manager keeps that.
    pub life_log: Option<LifeLog>,
    /// The command that repairs it by hand, where there is something to repair.
    pub repair: Option<String>,
}

impl Case<'_> {
    /// Its object in the JSON report.
    pub fn json(&self) -> Value {
        let report = self.report;
        let failed = !report.recovered();
        let mut logs: Vec<Value> =
            if failed { self.logs().into_iter().map(|log| log.json()).collect() } else { Vec::new() };
        logs.extend(self.life_log.iter().map(|log| {
            json!({
                "stream": "journal",
                "path": null,
                "command": log.command,
                "lines": log.tail.as_ref().ok(),
                "error": log.tail.as_ref().err(),
            })
        }));
        json!({
            "service": self.name,
            "manager": self.manager,
            "target": self.target,
            "outcome": report.outcome.name(),
            "exit": report.status.code(),
            "reason": report.reason,
            "old_pid": report.old.map(|pid| pid.number()),
            "new_pid": report.new.map(|pid| pid.number()),
            "proof": report.proof.map(|proof| match proof {
                Proof::Listener => "listener",
                Proof::Process => "process",
            }),
            "health": self.health,
            "probes": report.probes,
            "last_probe": report.last_failure.as_ref().map(|failure| json!({
                "class": failure.class.name(), "status": failure.http_status, "error": failure.text
            })),
            "gone_after_ms": report.gone_after.map(millis),
            "up_after_ms": report.up_after.map(millis),
            "healthy_after_ms": report.healthy_after.map(millis),
            "elapsed_ms": millis(report.elapsed),
            "registered": match &report.known {
                Registration::Registered(_) => Some(true),
                Registration::NotRegistered => Some(false),
                Registration::Unknown(_) => None,
            },
            "state": report.known.state().map(state_json),
            "state_error": match &report.known {
                Registration::Unknown(why) => Some(why),
                _ => None,
            },
            "held_by": report.holder.as_ref().map(|holder| json!({
                "pid": holder.pid.number(), "program": holder.program
            })),
            "rejected": report.rejected.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
            "cause": self.cause.as_ref().map(|cause| json!({
                "name": cause.name, "words": cause.words, "remedy": cause.remedy
            })),
            "logs": logs,
            "repair": self.repair.as_ref().filter(|_| failed),
        })
    }

    /// The lines that tell of a failure; the last of them is the command that repairs it, if there is one.
    pub fn lines(&self) -> Vec<String> {
        let report = self.report;
        let mut lines =
            vec![format!("{}: {}", self.name, report.reason.as_deref().unwrap_or("it did not recover"))];
        if let Some(health) = &self.health {
            lines.push(format!("health probe: {health} ({} made)", report.probes));
        }
        if let Some(failure) = &report.last_failure {
            let status = failure.http_status.map_or(String::new(), |status| format!(", http {status}"));
            lines.push(format!("last probe: {}{status}: {failure}", failure.class.name()));
        }
        if let Some(holder) = &report.holder {
            let old = report.old == Some(holder.pid);
            let who = if old { "the old process" } else { "no process of the job" };
            lines.push(format!("the place of the job is held by {holder}, {who}"));
        }
        lines.push(match &report.known {
            Registration::Registered(state) => {
                format!("{} says of {}: {}", self.manager, self.target, state_words(state))
            }
            Registration::NotRegistered => format!("{} does not know {}", self.manager, self.target),
            Registration::Unknown(why) => {
                format!("{} cannot be asked about {}: {why}", self.manager, self.target)
            }
        });
        lines.extend(self.cause.iter().map(|cause| format!("cause: {cause}")));
        lines.extend(LogTail::all_lines(&self.logs()));
        lines.extend(self.life_log.iter().flat_map(life_lines));
        lines.extend(self.repair.iter().map(|repair| format!("manual recovery: {repair}")));
        lines
    }

    fn logs(&self) -> Vec<LogTail> {
        self.job.map_or_else(Vec::new, |job| LogTail::all_of(job, self.since, self.redactor))
    }
}

/// The end of what a life has said, or why there is none and the command that tells more.
fn life_lines(log: &LifeLog) -> Vec<String> {
    match &log.tail {
        Err(why) => vec![format!("journal: {why}; see {}", log.command)],
        Ok(tail) if tail.is_empty() => vec![format!("journal: nothing of this life; see {}", log.command)],
        Ok(tail) => {
            let mut lines =
                vec![format!("journal of this life (last {LOG_LINES} lines; all: {}):", log.command)];
            lines.extend(tail.iter().flat_map(|line| fold(line)));
            lines
        }
    }
}

fn state_json(state: &JobState) -> Value {
    json!({
        "state": state.word,
        "pid": state.pid.map(|pid| pid.number()),
        "runs": state.runs,
        "last_exit": state.last_exit,
        "throttle_ms": state.throttle.map(millis),
        "exit_timeout_ms": state.exit_timeout.map(millis),
        "details": state.details.iter().cloned().collect::<BTreeMap<_, _>>(),
    })
}

fn state_words(state: &JobState) -> String {
    let mut words = vec![state.word.clone()];
    words.push(state.pid.map_or("no process".to_owned(), |pid| format!("process {pid}")));
    words.extend(state.runs.map(|runs| format!("runs {runs}")));
    words.extend(state.last_exit.as_ref().map(|exit| format!("last exit: {exit}")));
    words.extend(state.details.iter().map(|(name, text)| format!("{name}: {text}")));
    words.extend(state.throttle.map(|throttle| format!("throttle {}", span::show(throttle))));
    words.join(", ")
}
