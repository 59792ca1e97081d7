//! Calls of systemctl(1): questions, which are waited for, and verbs, which go on beside us until systemd is
//! done with them.

use crate::life::Finished;
use crate::service::{Trouble, TroubleClass, run_tool};
use crate::sys::child::{Exit, Spec};
use crate::words::error::brief;
use crate::words::exit::Status;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a verb is followed; afterwards the unit's state tells how it went.
const FOLLOWED: Duration = Duration::from_secs(3600);

/// Runs `systemctl ARGUMENTS`, at most until `deadline`.
pub(super) fn run(arguments: Vec<String>, deadline: Instant) -> Result<Finished, Trouble> {
    run_tool("systemctl", Spec::new("systemctl", arguments), deadline)
}

/// What the end of `systemctl VERB` means: its output, or what is wrong.
pub(super) fn judge(verb: &str, finished: Finished) -> Result<String, Trouble> {
    match finished.exit {
        Some(Exit::Code(0)) => Ok(finished.stdout),
        Some(exit) => Err(classify(verb, exit, &finished)),
        None => Err(late(verb)),
    }
}

/// It was not heard of in time.
pub(super) fn late(verb: &str) -> Trouble {
    Trouble {
        class: TroubleClass::Retry,
        code: None,
        text: format!("systemctl {verb} did not return in time"),
    }
}

/// How a call of systemctl ended, or why it could not begin.
type End = Result<Finished, Trouble>;

/// A verb that systemctl waits for: it ends when systemd is done with the job, so that its end tells that a
/// unit is ready, or failed, without a question.
#[derive(Clone, Debug)]
pub(super) struct Verb {
    name: &'static str,
    end: Arc<(Mutex<Option<End>>, Condvar)>,
}

impl Verb {
    /// Begins `systemctl ARGUMENTS`.
    pub(super) fn begin(name: &'static str, arguments: Vec<String>) -> Result<Verb, Trouble> {
        let verb = Verb { name, end: Arc::default() };
        let end = Arc::clone(&verb.end);
        let follow = move || {
            let outcome = run(arguments, Instant::now() + FOLLOWED);
            let (slot, told) = &*end;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
            told.notify_all();
        };
        match std::thread::Builder::new().stack_size(512 * 1024).spawn(follow) {
            Ok(_) => Ok(verb),
            Err(cause) => Err(Trouble {
                class: TroubleClass::Retry,
                code: None,
                text: format!("cannot start a thread: {}", crate::words::error::reason(&cause)),
            }),
        }
    }

    /// Waits for its end, at most until `until`; says whether it has ended.
    pub(super) fn wait(&self, until: Instant) -> bool {
        let (slot, told) = &*self.end;
        let held = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until.saturating_duration_since(Instant::now());
        let waited = told.wait_timeout_while(held, left, |end| end.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.is_some()
    }

    /// What it wrote, if it has ended well by `until`.
    pub(super) fn output(&self, until: Instant) -> Option<String> {
        self.wait(until);
        self.finished().filter(|end| end.exit == Some(Exit::Code(0))).map(|end| end.stdout)
    }

    /// Whether it has ended well.
    pub(super) fn has_succeeded(&self) -> bool {
        self.finished().is_some_and(|end| end.exit == Some(Exit::Code(0)))
    }

    /// What it said when it had ended otherwise: the first line, for the next ones tell where to read more.
    pub(super) fn failure(&self) -> Option<String> {
        let end = self.finished().filter(|end| end.exit.is_some_and(|exit| !exit.success()))?;
        let first = end.stderr.lines().find(|line| !line.trim().is_empty())?;
        let short = first.split(". ").next().unwrap_or(first);
        Some(format!("systemctl {}: {}", self.name, brief(short.trim_end_matches('.'))))
    }

    fn finished(&self) -> Option<Finished> {
        let end = self.end.0.lock().unwrap_or_else(PoisonError::into_inner);
        end.as_ref().and_then(|end| end.as_ref().ok().cloned())
    }

    /// Once it has ended: whether systemd has taken the order. How that came out is in the unit's state.
    pub(super) fn taken(&self) -> Result<(), Trouble> {
        let end = self.end.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match end {
            // "Failed to restart x.service: …" is an order that was not taken; "Job for x.service failed …",
            // "Job … canceled" and "A dependency job …" tell what came of one.
            Some(Ok(finished)) if was_refused(&finished) => judge(self.name, finished).map(drop),
            Some(Ok(finished)) if finished.exit.is_none() => Err(late(self.name)),
            Some(Err(trouble)) => Err(trouble),
            Some(Ok(_)) | None => Ok(()),
        }
    }
}

fn was_refused(finished: &Finished) -> bool {
    matches!(finished.exit, Some(exit) if !exit.success())
        && !finished.stderr.lines().any(|line| {
            ["Job for ", "A dependency job ", "Assertion failed on job "]
                .iter()
                .any(|start| line.starts_with(start))
        })
}

/// systemctl's statuses: 1 generic, 4 no such unit, 5 not installed (systemctl(1), EXIT STATUS); the text
/// tells the rest.
fn classify(verb: &str, exit: Exit, finished: &Finished) -> Trouble {
    const TEXTS: &[(&str, TroubleClass)] = &[
        ("not found", TroubleClass::Unregistered),
        ("not loaded", TroubleClass::Unregistered),
        ("is masked", TroubleClass::Final(Status::BadConfig)),
        ("bad unit file setting", TroubleClass::Final(Status::BadConfig)),
        ("has a bad unit file", TroubleClass::Final(Status::BadConfig)),
        ("operation refused", TroubleClass::Final(Status::BadConfig)),
        ("access denied", TroubleClass::Final(Status::NotPermitted)),
        ("interactive authentication required", TroubleClass::Final(Status::NotPermitted)),
        ("permission denied", TroubleClass::Final(Status::NotPermitted)),
        ("failed to connect to bus", TroubleClass::Final(Status::Unavailable)),
        ("has not been booted with systemd", TroubleClass::Final(Status::Unavailable)),
        ("transaction is destructive", TroubleClass::Retry),
    ];
    let lower = finished.stderr.to_ascii_lowercase();
    let class = TEXTS
        .iter()
        .find(|(phrase, _)| lower.contains(phrase))
        .map_or(TroubleClass::Retry, |(_, class)| *class);
    let code = if let Exit::Code(code) = exit { Some(code) } else { None };
    let said = brief(&finished.stderr);
    Trouble {
        class,
        code,
        text: if said.is_empty() {
            format!("systemctl {verb} {exit}")
        } else {
            format!("systemctl {verb}: {said}")
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_was_taken_and_failed_is_told_from_one_that_was_not() {
        let end = |code: i32, stderr: &str| Finished {
            exit: Some(Exit::Code(code)),
            stdout: String::new(),
            stderr: stderr.to_owned(),
        };
        assert!(!was_refused(&end(0, "")));
        assert!(!was_refused(&end(1, "Job for x.service failed because a timeout was exceeded.\nSee …")));
        assert!(!was_refused(&end(1, "Warning: …\nJob for x.service canceled.")));
        assert!(!was_refused(&end(1, "A dependency job for x.service failed. See …")));
        assert!(was_refused(&end(1, "Failed to restart x.service: Access denied")));
        assert!(was_refused(&end(1, "")));
        let refused = "Failed to restart y.service: Operation refused, unit y.service may be requested by \
                       dependency only (it is configured to refuse manual start/stop).";
        assert_eq!(
            judge("restart", end(4, refused)).unwrap_err().class,
            TroubleClass::Final(Status::BadConfig)
        );
    }
}
