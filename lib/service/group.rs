//! A group of baa-daemons: where it is found, what it can be asked, and one entry of it as a service.

mod marks;
mod place;

pub use marks::MarkedIds;
pub use place::GroupPaths;

use crate::service::{
    AnswerBy, CALL_LIMIT, JobState, Kick, Phase, Registration, Service, Trouble, TroubleClass, quote,
};
use crate::sys::process::Pid;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use crate::words::span;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One entry of a group that runs.
#[derive(Clone, Debug)]
pub struct Grouped {
    file: PathBuf,
    id: String,
    paths: GroupPaths,
    /// When it should have answered.
    by: AnswerBy,
}

impl Grouped {
    /// The entry `id` of the group of `file`.
    ///
    /// # Errors
    /// 66, 77 where the path leads nowhere.
    pub fn new(file: &Path, id: &str) -> Result<Grouped> {
        Ok(Grouped {
            file: file.to_owned(),
            id: id.to_owned(),
            paths: GroupPaths::of(file)?,
            by: AnswerBy::default(),
        })
    }

    fn restart(&self) -> String {
        format!("baa-daemons restart {} {}", quote(&self.file), quote(&self.id))
    }

    fn tell(&self, verb: &str) -> std::result::Result<Value, Trouble> {
        let deadline = self.by.limit(Instant::now() + CALL_LIMIT);
        self.paths.ask_within(verb, Some(&self.id), patience(deadline)).map_err(trouble)
    }
}

fn patience(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

fn trouble(error: Error) -> Trouble {
    let class = match error.status {
        Status::Unavailable => TroubleClass::Unregistered,
        // It runs, and may answer the next time.
        Status::TooLate => TroubleClass::Retry,
        other => TroubleClass::Final(other),
    };
    Trouble { class, code: None, text: error.to_string() }
}

impl Service for Grouped {
    fn manager(&self) -> &'static str {
        "baa"
    }

    fn target(&self) -> String {
        format!("{} {}", self.file.display(), self.id)
    }

    fn restarts_in_place(&self) -> bool {
        true
    }

    fn prepare(&self, _is_read: bool) -> Result<()> {
        let refuse = |error: Error| Error::new(error.status, format!("cannot reload {}: {error}", self.id));
        self.paths.ask("check", Some(&self.id)).map(drop).map_err(refuse)
    }

    fn inspect_until(&self, deadline: Instant) -> std::result::Result<Option<JobState>, Trouble> {
        match self.paths.ask_within("status", None, patience(self.by.limit(deadline))) {
            Ok(answer) => Ok(answer["entries"]
                .as_array()
                .and_then(|entries| entries.iter().find(|entry| entry["id"] == self.id))
                .map(state)),
            Err(error) if error.status == Status::Unavailable => Ok(None),
            Err(error) => Err(trouble(error)),
        }
    }

    fn answer_by(&self, until: Option<Instant>) {
        self.by.set(until);
    }

    fn take_down(&self) -> std::result::Result<(), Trouble> {
        self.tell("renew").map(drop)
    }

    fn bring_up(&self, _source: &Path) -> std::result::Result<(), Trouble> {
        Err(Trouble {
            class: TroubleClass::Final(Status::Unavailable),
            code: None,
            text: format!("{} is no entry of a group that runs", self.id),
        })
    }

    fn kick(&self, how: Kick) -> std::result::Result<(), Trouble> {
        self.tell(if how == Kick::Replace { "restart" } else { "start" }).map(drop)
    }

    fn plan(&self, _source: &Path) -> Vec<String> {
        vec![format!("baa-daemons reload {}", quote(&self.file)), self.restart()]
    }

    fn repair(&self, _source: &Path, known: &Registration) -> String {
        let run = format!("baa-daemons run {}", quote(&self.file));
        match known {
            Registration::Registered(_) => self.restart(),
            Registration::NotRegistered => run,
            Registration::Unknown(_) => format!("{} || {run}", self.restart()),
        }
    }
}

/// An entry, as the group tells of it (act/group). One that is not ready is not there yet: its process is no
/// proof of anything.
pub(crate) fn state(entry: &Value) -> JobState {
    let word = entry["state"].as_str().unwrap_or("unknown");
    let ready = word == "ready" || word == "done";
    let pid = entry["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::new);
    JobState {
        phase: match word {
            "ready" if pid.is_some() => Phase::Running,
            "starting" => Phase::Starting,
            "stopping" => Phase::Stopping,
            "waiting" => Phase::Waiting,
            "failed" | "backoff" => Phase::Failed,
            _ => Phase::Stopped,
        },
        word: match entry["message"].as_str() {
            Some(message) => format!("{word}: {}", crate::words::error::brief(message)),
            None => word.to_owned(),
        },
        pid: pid.filter(|_| ready),
        others: Vec::new(),
        runs: entry["life"].as_u64(),
        last_exit: entry["last"].as_str().map(str::to_owned),
        exit_timeout: entry["stop_timeout_ms"].as_u64().map(Duration::from_millis).map(span::bounded),
        throttle: None,
        source: None,
        completed: ready && pid.is_none(),
        life: entry["life"].as_u64().map(|life| life.to_string()),
        details: Vec::new(),
        cause: None,
    }
}
