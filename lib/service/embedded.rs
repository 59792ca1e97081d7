//! The embedded manager: one `baa-run` keeps one job, as runit does. Its state is a directory; it is spoken
//! to over a socket in it.

use crate::service::job::Job;
use crate::service::{
    AnswerBy, CALL_LIMIT, JobState, Kick, Phase, Registration, Service, Trouble, TroubleClass, quote,
    run_tool,
};
use crate::sys::child::{Exit, Spec};
use crate::sys::file::{self, Lock};
use crate::sys::lines::{self, LINE_LIMIT};
use crate::sys::process::{self, Pid};
use crate::sys::trust;
use crate::words::error::{Error, Result, brief};
use crate::words::exit::Status;
use crate::words::span;
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long `baa-run --detach` may take: it gives its keeper a minute, which may have to stop what a killed
/// one left behind.
const UP_LIMIT: Duration = Duration::from_secs(70);
/// Who is stopped gets so long to go on.
const STOPPED: Duration = Duration::from_secs(1);
/// Between two tries to be heard.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest path of a socket on every system that we run on (sockaddr_un of macOS, with its NUL).
const SOCKET_PATH_LIMIT: usize = 103;

/// Where the keeper of one job keeps its state.
#[derive(Clone, Debug)]
pub struct KeeperPaths {
    directory: PathBuf,
}

impl KeeperPaths {
    /// The place of the job `label`.
    pub fn of(label: &str) -> KeeperPaths {
        KeeperPaths { directory: KeeperPaths::all().join(label) }
    }

    /// Where the places of all jobs are.
    pub fn all() -> PathBuf {
        file::runtime_dir().join("jobs")
    }

    /// Makes the directory, for us alone.
    ///
    /// # Errors
    /// 74 or 77; 78 when its path is too long for a socket.
    pub fn make(&self) -> Result<()> {
        file::check_runtime_dir()?;
        let doing = format!("cannot keep state in '{}'", self.directory.display());
        if self.control().as_os_str().len() > SOCKET_PATH_LIMIT {
            return Err(Error::new(
                Status::BadConfig,
                format!("{doing}: the path is too long for a socket; set BAA_RUNTIME_DIR to a shorter one"),
            ));
        }
        // BAA_RUNTIME_DIR may be in /tmp, where another user could put his own directory in the place of
        // ours.
        let base = file::runtime_dir();
        file::own_dir(&base)
            .and_then(|_| file::private_dir(&self.directory))
            .map_err(|cause| Error::io(doing, &cause))
    }

    /// The file that the keeper holds locked.
    pub fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }

    /// What the keeper last knew, in JSON.
    pub fn status(&self) -> PathBuf {
        self.directory.join("status.json")
    }

    /// The socket that it listens on.
    pub fn control(&self) -> PathBuf {
        self.directory.join("control")
    }

    /// What is meant by the signal that comes next; see `intent`.
    pub fn intent(&self) -> PathBuf {
        self.directory.join("intent.json")
    }

    /// The lives of the job that are under way; see `life::Lives`.
    pub fn lives(&self) -> PathBuf {
        self.directory.join("lives")
    }

    /// What a detached keeper says.
    pub fn log(&self) -> PathBuf {
        self.directory.join("keeper.log")
    }

    /// Whether a keeper holds the lock now.
    pub fn held(&self) -> bool {
        self.lock().exists() && matches!(Lock::take(&self.lock()), Ok(None))
    }

    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// `Unregistered` when no keeper runs, `Retry` when one comes up, goes down or does not answer; else what
    /// it answered.
    pub fn ask(&self, request: &Value) -> std::result::Result<Value, Trouble> {
        self.ask_until(request, Instant::now() + CALL_LIMIT)
    }

    /// The same, as long as it is busy, until `deadline`.
    ///
    /// # Errors
    /// As `ask`.
    pub fn ask_until(&self, request: &Value, deadline: Instant) -> std::result::Result<Value, Trouble> {
        let retry = |text: String| Trouble { class: TroubleClass::Retry, code: None, text };
        let denied = |cause: &std::io::Error| Trouble {
            class: TroubleClass::Final(Status::NotPermitted),
            code: None,
            text: crate::words::error::reason(cause),
        };
        // In a stranger's directory no keeper of ours listens, and that none does means nothing either.
        if let Err(cause) = trust::way(&self.control())
            && trust::is_distrust(&cause)
        {
            return Err(denied(&cause));
        }
        let question = request.to_string();
        let mut stopped: Option<Instant> = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // What is stopped is not asked, so that it does not obey much later whom nobody waits for.
            if let Some(text) = self.stopped() {
                if stopped.get_or_insert_with(Instant::now).elapsed() >= STOPPED || left.is_zero() {
                    return Err(retry(text));
                }
                std::thread::sleep(PAUSE.min(left));
                continue;
            }
            let cause = match lines::ask(&self.control(), &question, LINE_LIMIT, left) {
                Ok(line) => {
                    let answer: Value = serde_json::from_str(&line)
                        .map_err(|_| retry("the keeper gave no answer".to_owned()))?;
                    return match answer.get("error").and_then(Value::as_str) {
                        Some(error) => Err(retry(brief(error))),
                        None => Ok(answer),
                    };
                }
                Err(cause) => cause,
            };
            match cause.kind() {
                ErrorKind::PermissionDenied => return Err(denied(&cause)),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused if !self.held() => {
                    return Err(Trouble {
                        class: TroubleClass::Unregistered,
                        code: None,
                        text: "no keeper runs".to_owned(),
                    });
                }
                // Nobody has heard us: it is coming up, or so many ask that it has no room for one more.
                ErrorKind::NotFound
                | ErrorKind::ConnectionRefused
                | ErrorKind::WouldBlock
                | ErrorKind::BrokenPipe
                | ErrorKind::ConnectionReset
                    if left > PAUSE =>
                {
                    std::thread::sleep(PAUSE);
                }
                // A keeper that ends closes its connections; the next question finds it gone.
                _ => {
                    let why = crate::words::error::reason(&cause);
                    return Err(retry(format!("the keeper does not answer: {why}")));
                }
            }
        }
    }

    /// What the keeper has written down of itself last.
    pub fn last_known(&self) -> Option<Value> {
        serde_json::from_slice(&trust::read(&self.status(), LINE_LIMIT).ok()?).ok()
    }

    /// That the keeper is stopped by a signal, if it is.
    pub fn stopped(&self) -> Option<String> {
        let known = self.last_known()?;
        let pid = Pid::new(i32::try_from(known["keeper"].as_i64()?).ok()?)?;
        (process::is_stopped(pid) && self.held())
            .then(|| format!("its keeper, process {pid}, is stopped (SIGCONT lets it go on)"))
    }

    /// The labels that keepers of this runtime directory have now.
    pub fn running() -> Vec<String> {
        let all = std::fs::read_dir(KeeperPaths::all()).into_iter().flatten().flatten();
        let labels = all.filter_map(|one| one.file_name().into_string().ok());
        let mut held: Vec<String> = labels.filter(|label| KeeperPaths::of(label).held()).collect();
        held.sort();
        held
    }
}

/// One job, kept by a `baa-run` of its own.
#[derive(Clone, Debug)]
pub struct Embedded {
    label: String,
    paths: KeeperPaths,
    /// When it should have answered.
    by: AnswerBy,
}

impl Embedded {
    /// The job `label`.
    pub fn new(label: &str) -> Embedded {
        Embedded { label: label.to_owned(), paths: KeeperPaths::of(label), by: AnswerBy::default() }
    }

    fn tell(&self, request: &Value) -> std::result::Result<(), Trouble> {
        self.paths.ask_until(request, self.by.limit(Instant::now() + CALL_LIMIT)).map(drop)
    }

    /// The command that brings it up from `source`.
    fn up(&self, source: &Path) -> String {
        format!("baa-run --detach --job {}", quote(source))
    }
}

/// `baa-run` beside the program that runs, or else from PATH.
fn keeper_program() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("baa-run")));
    beside.filter(|path| file::executable(path)).unwrap_or_else(|| PathBuf::from("baa-run"))
}

impl Service for Embedded {
    fn definition(&self, source: &Path) -> Result<Option<Job>> {
        let job = Job::read(source)?;
        job.check(&self.label)?;
        Ok(Some(job))
    }

    fn manager(&self) -> &'static str {
        "baa"
    }

    fn target(&self) -> String {
        self.label.clone()
    }

    fn place(&self) -> String {
        self.paths.directory.display().to_string()
    }

    fn prepare(&self, _is_read: bool) -> Result<()> {
        self.paths.make()
    }

    fn inspect_until(&self, deadline: Instant) -> std::result::Result<Option<JobState>, Trouble> {
        match self.paths.ask_until(&json!({ "verb": "status" }), self.by.limit(deadline)) {
            Ok(answer) => Ok(Some(state(&answer))),
            Err(trouble) if trouble.class == TroubleClass::Unregistered => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    fn take_down(&self) -> std::result::Result<(), Trouble> {
        // Where it can finish what it has begun, it does; a job that cannot is stopped at once.
        self.tell(&json!({ "verb": "drain" }))
    }

    fn bring_up(&self, source: &Path) -> std::result::Result<(), Trouble> {
        let mut spec = Spec::new(
            keeper_program(),
            [std::ffi::OsStr::new("--detach"), "--job".as_ref(), source.as_os_str()],
        );
        // The job must not stand in the directory that somebody happened to reload it from.
        spec.dir = Some(PathBuf::from("/"));
        let finished = run_tool("baa-run", spec, Instant::now() + UP_LIMIT)?;
        let Some(exit) = finished.exit else {
            return Err(Trouble {
                class: TroubleClass::Retry,
                code: None,
                text: "baa-run did not come up in time".to_owned(),
            });
        };
        let finals =
            [Status::Usage, Status::Malformed, Status::NoInput, Status::NotPermitted, Status::BadConfig];
        let class = match exit {
            Exit::Code(0) => return Ok(()),
            Exit::Code(code) => finals
                .iter()
                .find(|status| i32::from(status.code()) == code)
                .map_or(TroubleClass::Retry, |status| TroubleClass::Final(*status)),
            Exit::Signal(_) => TroubleClass::Retry,
        };
        let code = if let Exit::Code(code) = exit { Some(code) } else { None };
        let said = brief(finished.stderr.trim_start_matches("baa-run: "));
        Err(Trouble { class, code, text: if said.is_empty() { format!("baa-run {exit}") } else { said } })
    }

    fn kick(&self, how: Kick) -> std::result::Result<(), Trouble> {
        let verb = if how == Kick::Replace { "restart" } else { "start" };
        self.tell(&json!({ "verb": verb, "now": true }))
    }

    fn answer_by(&self, until: Option<Instant>) {
        self.by.set(until);
    }

    fn spare(&self, helper: Pid) -> std::result::Result<(), Trouble> {
        self.paths.ask(&json!({ "verb": "spare", "pid": helper.number() })).map(drop)
    }

    fn plan(&self, source: &Path) -> Vec<String> {
        vec![format!("baa-run ctl drain {}", quote(&self.label)), self.up(source)]
    }

    fn repair(&self, source: &Path, known: &Registration) -> String {
        let restart = format!("baa-run ctl restart {}", quote(&self.label));
        match known {
            Registration::Registered(_) => restart,
            Registration::NotRegistered => self.up(source),
            Registration::Unknown(_) => format!("{restart} || {}", self.up(source)),
        }
    }
}

/// The answer to `status`, as the keeper writes it (act/keeper).
pub(crate) fn state(answer: &Value) -> JobState {
    let text = |key: &str| answer.get(key).and_then(Value::as_str);
    let millis =
        |key: &str| answer.get(key).and_then(Value::as_u64).map(Duration::from_millis).map(span::bounded);
    let word = text("state").unwrap_or("unknown");
    JobState {
        phase: match word {
            "starting" => Phase::Starting,
            "running" | "updating" => Phase::Running,
            "stopping" | "draining" => Phase::Stopping,
            "waiting" => Phase::Waiting,
            _ => Phase::Stopped,
        },
        word: word.to_owned(),
        pid: answer
            .get("pid")
            .and_then(Value::as_i64)
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::new),
        others: Vec::new(),
        runs: answer.get("runs").and_then(Value::as_u64),
        last_exit: text("last_exit").map(str::to_owned),
        exit_timeout: match (millis("exit_timeout_ms"), millis("drain_ms")) {
            // Zero is without end.
            (Some(Duration::ZERO), _) | (_, Some(Duration::ZERO)) => Some(Duration::ZERO),
            (exit, drain) => exit.map(|exit| span::bounded(exit + drain.unwrap_or_default())),
        },
        throttle: millis("throttle_ms"),
        source: text("job").map(PathBuf::from),
        completed: word == "idle" && text("last_exit") == Some("exited with 0"),
        life: None,
        details: Vec::new(),
        cause: None,
    }
}
