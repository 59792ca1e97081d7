//! A group of baa-daemons: where it is found, what it can be asked, and one entry of it as a service.

use crate::service::{CALL_LIMIT, JobState, Kick, Phase, Service, Trouble, TroubleClass, quote};
use crate::sys::file;
use crate::sys::lines;
use crate::sys::process::Pid;
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
pub struct GroupPaths {
    name: String,
}

impl GroupPaths {
    /// Of the file at `path`, wherever it is asked from.
    ///
    /// # Errors
    /// 66, 77 where the path leads nowhere.
    pub fn of(path: &Path) -> Result<GroupPaths> {
        let whole = path
            .canonicalize()
            .map_err(|cause| Error::io(format!("cannot find {}", path.display()), &cause))?;
        let mut hash = DefaultHasher::new();
        whole.hash(&mut hash);
        let stem: String = whole
            .file_stem()
            .map(|stem| stem.to_string_lossy().chars().filter(char::is_ascii_alphanumeric).take(16).collect())
            .unwrap_or_default();
        Ok(GroupPaths { name: format!("{stem}-{:016x}", hash.finish()) })
    }

    /// Makes its directories, for us alone.
    ///
    /// # Errors
    /// 74, 77.
    pub fn make(&self) -> Result<()> {
        let cannot = |cause: std::io::Error| {
            Error::io(format!("cannot keep state in '{}'", self.directory().display()), &cause)
        };
        file::own_dir(&file::runtime_dir())
            .and_then(|()| file::private_dir(&self.directory()))
            .map_err(cannot)?;
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
        self.ask_within(verb, id, PATIENCE)
    }

    fn ask_within(&self, verb: &str, id: Option<&str>, patience: Duration) -> Result<Value> {
        let question = json!({ "verb": verb, "id": id }).to_string();
        let said = lines::ask(&self.control(), &question, ANSWER, patience);
        let said = said.map_err(|_| Error::new(Status::Unavailable, "the group does not run"))?;
        let answer: Value = serde_json::from_str(&said)
            .map_err(|_| Error::new(Status::Malformed, "the group's answer is no JSON"))?;
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

/// One entry of a group that runs.
#[derive(Clone, Debug)]
pub struct Grouped {
    file: PathBuf,
    id: String,
    paths: GroupPaths,
}

impl Grouped {
    /// The entry `id` of the group of `file`.
    ///
    /// # Errors
    /// 66, 77 where the path leads nowhere.
    pub fn new(file: &Path, id: &str) -> Result<Grouped> {
        Ok(Grouped { file: file.to_owned(), id: id.to_owned(), paths: GroupPaths::of(file)? })
    }

    fn tell(&self, verb: &str) -> std::result::Result<Value, Trouble> {
        self.paths.ask_within(verb, Some(&self.id), CALL_LIMIT).map_err(trouble)
    }
}

fn trouble(error: Error) -> Trouble {
    let class = if error.status == Status::Unavailable {
        TroubleClass::Unregistered
    } else {
        TroubleClass::Final(error.status)
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

    fn prepare(&self) -> Result<()> {
        let refuse = |error: Error| Error::new(error.status, format!("cannot reload {}: {error}", self.id));
        self.paths.ask("check", Some(&self.id)).map(drop).map_err(refuse)
    }

    fn inspect_until(&self, deadline: Instant) -> std::result::Result<Option<JobState>, Trouble> {
        let patience = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match self.paths.ask_within("status", None, patience) {
            Ok(answer) => Ok(answer["entries"]
                .as_array()
                .and_then(|entries| entries.iter().find(|entry| entry["id"] == self.id))
                .map(state)),
            Err(error) if error.status == Status::Unavailable => Ok(None),
            Err(error) => Err(trouble(error)),
        }
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
        vec![format!("baa-daemons reload {}", quote(&self.file)), self.repair(&self.file, true)]
    }

    fn repair(&self, _source: &Path, registered: bool) -> String {
        if registered {
            format!("baa-daemons restart {} {}", quote(&self.file), quote(&self.id))
        } else {
            format!("baa-daemons run {}", quote(&self.file))
        }
    }
}

/// An entry, as the group tells of it (act/group). One that is not ready is not there yet: its process is no
/// proof of anything.
fn state(entry: &Value) -> JobState {
    let word = entry["status"].as_str().unwrap_or("unknown");
    let ready = word == "success";
    let pid = entry["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::new);
    JobState {
        phase: match word {
            "success" if pid.is_some() => Phase::Running,
            "starting" | "loading" | "waiting" => Phase::Waiting,
            "failure" => Phase::Failed,
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
        exit_timeout: entry["stop_timeout_ms"].as_u64().map(Duration::from_millis),
        throttle: None,
        source: None,
        completed: ready && pid.is_none(),
        life: entry["life"].as_u64().map(|life| life.to_string()),
    }
}
