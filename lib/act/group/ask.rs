//! Where a group is found, and what it can be asked.

use crate::sys::file;
use crate::sys::lines;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The largest answer: thousands of entries.
const ANSWER: u64 = 16 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the group of a file keeps its state.
#[derive(Clone, Debug)]
pub struct Place {
    name: String,
}

impl Place {
    /// Of the file at `path`, wherever it is asked from.
    ///
    /// # Errors
    /// 66, 77 where the path leads nowhere.
    pub fn of(path: &Path) -> Result<Place> {
        let whole = path.canonicalize().map_err(|cause| Error::io(format!("cannot find {}", path.display()), &cause))?;
        let mut hash = DefaultHasher::new();
        whole.hash(&mut hash);
        let stem: String =
            whole.file_stem().map(|stem| stem.to_string_lossy().chars().filter(char::is_ascii_alphanumeric).take(16).collect()).unwrap_or_default();
        Ok(Place { name: format!("{stem}-{:016x}", hash.finish()) })
    }

    /// Makes its directories, for us alone.
    ///
    /// # Errors
    /// 74, 77.
    pub fn make(&self) -> Result<()> {
        let cannot = |cause: std::io::Error| Error::io(format!("cannot keep state in '{}'", self.directory().display()), &cause);
        file::own_dir(&file::runtime_dir()).and_then(|()| file::private_dir(&self.directory())).map_err(cannot)?;
        file::own_dir(&file::state_dir()).and_then(|()| file::private_dir(&self.logs())).map_err(cannot)
    }

    /// What is of this boot.
    pub fn directory(&self) -> PathBuf {
        file::runtime_dir().join("groups").join(&self.name)
    }

    /// Held locked as long as the group runs.
    pub fn lock(&self) -> PathBuf {
        self.directory().join("lock")
    }

    /// The socket.
    pub fn control(&self) -> PathBuf {
        self.directory().join("control")
    }

    /// What is kept of what entries say.
    pub fn logs(&self) -> PathBuf {
        file::state_dir().join("groups").join(&self.name)
    }

    /// The file of one entry.
    pub fn log(&self, id: &str) -> PathBuf {
        self.logs().join(format!("{id}.log"))
    }

    /// What happened, in JSON.
    pub fn journal(&self) -> PathBuf {
        self.logs().join("events.jsonl")
    }

    /// Asks the group; its answer.
    ///
    /// # Errors
    /// 69 when it does not run; what it refuses.
    pub fn ask(&self, verb: &str, id: Option<&str>) -> Result<Value> {
        let question = json!({ "verb": verb, "id": id }).to_string();
        let said = lines::ask(&self.control(), &question, ANSWER, PATIENCE);
        let said = said.map_err(|_| Error::new(Status::Unavailable, "the group does not run"))?;
        let answer: Value = serde_json::from_str(&said).map_err(|_| Error::new(Status::Malformed, "the group's answer is no JSON"))?;
        match answer.get("error").and_then(Value::as_str) {
            Some(why) => Err(Error::new(refusal(answer["status"].as_u64()), why)),
            None => Ok(answer),
        }
    }

    /// Waits until the group is gone; whether it was before `deadline`.
    pub fn gone(&self, deadline: Instant) -> bool {
        loop {
            match file::Lock::take_existing(&self.lock()) {
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
                outcome => return !matches!(outcome, Ok(None)),
            }
        }
    }
}

fn refusal(code: Option<u64>) -> Status {
    let known = crate::words::exit::TABLE.iter().find(|(status, _)| Some(u64::from(status.code())) == code);
    known.map_or(Status::Usage, |(status, _)| *status)
}

/// What a group is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// How it fares.
    Status,
    /// To read its file again.
    Reload,
    /// To stop.
    StopAll,
    /// To let this entry run.
    Start(String),
    /// To stop this entry, and what needs it, until told otherwise.
    Stop(String),
    /// To stop and start it.
    Restart(String),
}

impl Verb {
    pub(super) fn parse(line: &[u8]) -> std::result::Result<Verb, String> {
        let question: Value = serde_json::from_slice(line).map_err(|_| "the question is no JSON".to_owned())?;
        let id = || question["id"].as_str().map(str::to_owned);
        match (question["verb"].as_str(), id()) {
            (Some("status"), _) => Ok(Verb::Status),
            (Some("reload"), _) => Ok(Verb::Reload),
            (Some("stop"), None) => Ok(Verb::StopAll),
            (Some("stop"), Some(id)) => Ok(Verb::Stop(id)),
            (Some("start"), Some(id)) => Ok(Verb::Start(id)),
            (Some("restart"), Some(id)) => Ok(Verb::Restart(id)),
            _ => Err("unknown verb".to_owned()),
        }
    }
}
