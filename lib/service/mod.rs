//! Service managers, all with the same verbs: launchd, systemd, and the embedded keeper (baa-run) where there
//! is neither.

pub mod embedded;
pub mod expectation;
pub mod group;
pub mod iapeer;
pub mod intent;
pub mod job;
pub mod launchd;
pub mod manager;
pub mod names;
pub mod recipe;
pub mod systemd;
pub mod target;
pub mod tmux;
pub mod unit;

use crate::life::{self, Finished};
use crate::service::job::Job;
use crate::sys::child::{Exit, Spec};
use crate::sys::process::{Identity, Pid, Watch};
use crate::words::exit::Status;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a job is doing, as its manager sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A start of it is under way, and nothing of it serves yet.
    Starting,
    /// A process of it runs.
    Running,
    /// It is being stopped.
    Stopping,
    /// The manager will start it later: a throttle, a back-off.
    Waiting,
    /// It is known and nothing runs.
    Stopped,
    /// It is known, nothing runs, and the manager has given up on it.
    Failed,
}

/// What a manager tells about a job that it knows.
#[derive(Clone, Debug)]
pub struct JobState {
    /// What it does.
    pub phase: Phase,
    /// The manager's own word for that.
    pub word: String,
    /// Its main process.
    pub pid: Option<Pid>,
    /// Further processes of it that are no descendants of the main one.
    pub others: Vec<Pid>,
    /// How often it was started.
    pub runs: Option<u64>,
    /// How the last run ended, in words.
    pub last_exit: Option<String>,
    /// How long the manager lets it take to exit before it kills it; zero is without end.
    pub exit_timeout: Option<Duration>,
    /// The shortest time between two starts.
    pub throttle: Option<Duration>,
    /// The file that it was loaded from.
    pub source: Option<PathBuf>,
    /// Whether the last run came to a good end and nothing runs: a job that does its work and exits.
    pub completed: bool,
    /// What else tells one life of the job from another: systemd's InvocationID.
    pub life: Option<String>,
    /// What else the manager tells of it, each with the manager's own name for it.
    pub details: Vec<(&'static str, String)>,
    /// Why it does not run, where the manager tells.
    pub cause: Option<JobCause>,
}

impl JobState {
    /// All processes that are known, the main one first.
    pub fn processes(&self) -> Vec<Pid> {
        let others = self.others.iter().copied().filter(|pid| Some(*pid) != self.pid);
        self.pid.into_iter().chain(others).collect()
    }

    /// Whether the manager loaded it from the file `source`: a bootstrap from another file than the loaded
    /// one can end with 0 and keep the old definition. True where the manager does not tell.
    pub fn is_from(&self, source: &Path) -> bool {
        let file = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        self.source.as_deref().is_none_or(|loaded| loaded == source || file(loaded) == file(source))
    }
}

/// Why a job does not run, and what a person can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobCause {
    /// The stable name, as JSON prints it: `code-signing`, `memory`, `disabled`, `login-items`.
    pub name: &'static str,
    /// What it is, with the manager's own word for it.
    pub words: String,
    /// What to do.
    pub remedy: String,
}

impl std::fmt::Display for JobCause {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}; {}", self.words, self.remedy)
    }
}

/// What is known of a job's registration. "Cannot tell" is never told as "is not".
#[derive(Clone, Debug)]
pub enum Registration {
    /// The manager knows it, and says this.
    Registered(Box<JobState>),
    /// The manager says that it does not know it.
    NotRegistered,
    /// It cannot be told, for this reason.
    Unknown(String),
}

impl Registration {
    /// What an answer of `Service::inspect` means.
    pub fn of(answer: Result<Option<JobState>, Trouble>) -> Registration {
        match answer {
            Ok(Some(state)) => Registration::Registered(Box::new(state)),
            Ok(None) => Registration::NotRegistered,
            Err(trouble) => Registration::Unknown(trouble.text),
        }
    }

    /// What the manager says of the job, where it knows it.
    pub fn state(&self) -> Option<&JobState> {
        if let Registration::Registered(state) = self { Some(state) } else { None }
    }
}

/// What a manager tells about the end of one process of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEnd {
    /// How it ended.
    pub exit: Option<Exit>,
    /// Whether the manager ended it, on request or for a rule of its own.
    pub stopped: bool,
    /// The manager's own words.
    pub words: String,
}

/// What one life of a job has said, where its manager keeps that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifeLog {
    /// The command that shows it.
    pub command: String,
    /// Its last lines, made fit to be shown; or why there are none.
    pub tail: Result<Vec<String>, String>,
}

/// What to do after a verb failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleClass {
    /// As good as done: look at the state.
    Benign,
    /// It may work in a moment.
    Retry,
    /// The manager does not know the job.
    Unregistered,
    /// It will not work however often it is tried; the status says why.
    Final(Status),
}

/// Why a verb failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What to do about it.
    pub class: TroubleClass,
    /// The number that the manager gave.
    pub code: Option<i32>,
    /// What it means, in one line.
    pub text: String,
}

impl Trouble {
    /// The status that it ends a program with.
    pub fn status(&self) -> Status {
        match self.class {
            TroubleClass::Final(status) => status,
            TroubleClass::Benign | TroubleClass::Retry | TroubleClass::Unregistered => Status::Unavailable,
        }
    }

    /// As an error of the program.
    pub fn error(&self) -> crate::words::error::Error {
        crate::words::error::Error::new(self.status(), self.text.clone())
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.text)
    }
}

/// How to make a job run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kick {
    /// Start it if nothing runs; leave a running one alone.
    Start,
    /// Kill what runs and start anew.
    Replace,
}

/// One job of one manager.
pub trait Service: std::fmt::Debug {
    /// The manager's name: `launchd`, `systemd`, `baa`.
    fn manager(&self) -> &'static str;

    /// How the manager calls the job.
    fn target(&self) -> String;

    /// What tells the job from all others of its manager that this user has, also those of another domain or
    /// runtime directory.
    fn place(&self) -> String {
        self.target()
    }

    /// Whether taking it down brings it back by itself, so that nothing can be lost between the two.
    fn restarts_in_place(&self) -> bool {
        false
    }

    /// The property list that the job is defined by, read from `source` and checked as the manager would;
    /// `None` for a manager whose jobs are defined otherwise.
    ///
    /// # Errors
    /// 65 to 78 for a file that the manager would refuse.
    fn definition(&self, _source: &Path) -> Result<Option<Job>, crate::words::error::Error> {
        Ok(None)
    }

    /// The files that define the job where it has no property list, as they are loaded; none where others
    /// are defined by them too.
    fn definition_files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Has the manager read them again.
    ///
    /// # Errors
    /// When it does not.
    fn reread(&self) -> Result<(), Trouble> {
        Ok(())
    }

    /// The environment that the manager gives the job, which is defined by `definition` where it has one.
    /// Where a variable is set twice, the last one counts. Never printed.
    fn environment(&self, definition: Option<&Job>) -> Vec<(String, String)> {
        definition.map_or_else(Vec::new, |job| job.environment.clone())
    }

    /// Checks all that can be checked without touching what runs. `is_read` says that the manager is known to
    /// have read the files of its definition as they are; else it is told to read them.
    ///
    /// # Errors
    /// Why a reload must not begin.
    fn prepare(&self, is_read: bool) -> Result<(), crate::words::error::Error>;

    /// What the manager knows of the job; `None` when it does not know it.
    ///
    /// # Errors
    /// When it cannot be told, which is not the same as "not there".
    fn inspect(&self) -> Result<Option<JobState>, Trouble> {
        self.inspect_until(Instant::now() + CALL_LIMIT)
    }

    /// The same, for at most until `deadline`.
    ///
    /// # Errors
    /// As `inspect`.
    fn inspect_until(&self, deadline: Instant) -> Result<Option<JobState>, Trouble>;

    /// Begins to take the job down; it may live on for as long as its exit timeout.
    ///
    /// # Errors
    /// `Benign` when it is on its way down or gone already.
    fn take_down(&self) -> Result<(), Trouble>;

    /// Registers the job from the file `source`.
    ///
    /// # Errors
    /// `Retry` while the label is not free yet.
    fn bring_up(&self, source: &Path) -> Result<(), Trouble>;

    /// Makes a registered job run.
    ///
    /// # Errors
    /// `Unregistered` when it must be brought up first.
    fn kick(&self, how: Kick) -> Result<(), Trouble>;

    /// From now on no question and no order is waited for beyond `until`, but each for a moment at least.
    fn answer_by(&self, _until: Option<Instant>) {}

    /// The name that the manager itself has for the job, where it may have been called by another.
    fn own_name(&self) -> Option<String> {
        None
    }

    /// How the process `pid`, which is dead and was the job's main one, ended; `None` where the manager does
    /// not know or tell.
    fn ending(&self, _pid: Pid) -> Option<JobEnd> {
        None
    }

    /// Why the job does not run or is not there, where the manager knows: `known` is what it said last,
    /// `accepted` whether it had taken the job before. Asked once, after a failure.
    fn cause(&self, known: &Registration, _accepted: bool) -> Option<JobCause> {
        known.state()?.cause.clone()
    }

    /// The last `count` lines of what the job has said in the life `life`, or why there are none, where the
    /// manager keeps what jobs say. No life: none has begun that is not the old one.
    fn life_log(&self, _life: Option<&str>, _count: usize) -> Option<LifeLog> {
        None
    }

    /// Waits until the manager is done with what it was last ordered to do, at most until `until`; says
    /// whether it is. False at once where that cannot be waited for, or was told before.
    fn await_news(&self, _until: Instant) -> bool {
        false
    }

    /// Whether what runs is a run that ends by itself, and that a kick would cut off, however long it takes.
    fn runs_to_its_end(&self) -> bool {
        false
    }

    /// Waits until the process is dead, at most until `until`; says whether it is.
    fn await_exit(&self, who: Identity, until: Instant) -> bool {
        match Watch::over(who) {
            Ok(Some(watch)) => watch.wait(until),
            Ok(None) => true,
            Err(_) => !who.alive(),
        }
    }

    /// The identity of a process of the job, if it lives.
    fn identify(&self, pid: Pid) -> Option<Identity> {
        Identity::of(pid)
    }

    /// Whether a process was started after this program was. One that was started in the same moment, as far
    /// as the kernel tells moments apart, was not.
    fn is_younger_than_us(&self, who: Identity) -> bool {
        who.start > Identity::own().start
    }

    /// Whether we run inside the job, and would be killed with it.
    fn holds_us(&self, state: &JobState) -> bool {
        let Some(main) = state.pid else { return false };
        let table = crate::sys::process::Table::read();
        let own = Pid::own();
        let session =
            table.entries().iter().find(|entry| entry.identity.pid == own).map_or(0, |entry| entry.session);
        std::iter::once(main)
            .chain(state.others.iter().copied())
            .any(|pid| table.descends(own, pid) || session == pid.number())
    }

    /// Words before a command that move it out of the job that we run in; none where a session of its own is
    /// enough.
    fn escape(&self) -> Vec<String> {
        Vec::new()
    }

    /// Lets `helper` outlive the job that we run in.
    ///
    /// # Errors
    /// When the manager does not let it.
    fn spare(&self, _helper: Pid) -> Result<(), Trouble> {
        Ok(())
    }

    /// The verbs of a reload from `source`, as commands that a person could type.
    fn plan(&self, source: &Path) -> Vec<String>;

    /// The command that brings the job back by hand in the state that is known of it. Where none is known, it
    /// works in each.
    fn repair(&self, source: &Path, known: &Registration) -> String;
}

/// How long a call of a manager's tool may take. `kickstart -k` may take as long as the exit timeout, and
/// blocks for minutes while a spawn is scheduled (KiroCrew#1698).
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// What a call gets that comes after the time until which it should be answered: enough for a manager that
/// works.
const LAST_CALL: Duration = Duration::from_secs(1);
/// How much of a tool's output is read.
const OUTPUT_LIMIT: usize = 256 * 1024;

/// Runs a manager's tool, at most until `deadline`.
///
/// # Errors
/// `Final` when it cannot be started at all.
fn run_tool(name: &str, spec: Spec, deadline: Instant) -> Result<Finished, Trouble> {
    life::run(spec, deadline, OUTPUT_LIMIT, &AtomicBool::new(false)).map_err(|error| {
        let status =
            if error.cause.kind() == std::io::ErrorKind::NotFound { Status::Unavailable } else { Status::Io };
        Trouble {
            class: TroubleClass::Final(status),
            code: None,
            text: format!("cannot run {name}: {}", crate::words::error::reason(&error.cause)),
        }
    })
}

/// `text` as one word of a shell command.
pub fn quote(text: impl AsRef<std::ffi::OsStr>) -> String {
    let text = text.as_ref().to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:=@%+,".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The time by which a manager should have answered, for all who ask for one job.
#[derive(Clone, Debug, Default)]
struct AnswerBy(Arc<Mutex<Option<Instant>>>);

impl AnswerBy {
    fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// `deadline`, or that time where it is before; but a moment from now at least.
    fn limit(&self, deadline: Instant) -> Instant {
        let by = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        by.map_or(deadline, |by| deadline.min(by.max(Instant::now() + LAST_CALL)))
    }
}

/// The longest label.
const LONGEST_LABEL: usize = 200;

/// Whether `label` can name a job: launchd's own rule, and no way out of a directory.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_label(label: &str) -> Result<(), String> {
    check_name(label, b"._-@", "letters, digits, '.', '_', '-' and '@'")
}

/// Whether `name` can name a unit of systemd, which may be escaped (systemd.unit(5)), or another job.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_unit_name(name: &str) -> Result<(), String> {
    check_name(name, b"._-@:\\", "letters, digits, '.', '_', '-', '@', ':' and '\\'")
}

fn check_name(name: &str, signs: &[u8], which: &str) -> Result<(), String> {
    let why = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > LONGEST_LABEL {
        format!("it is longer than {LONGEST_LABEL} letters")
    } else if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || signs.contains(&byte)) {
        which.to_owned()
    } else if name.contains("..") || name.starts_with(['.', '-']) {
        "it begins with '.' or '-', or has two dots in a row".to_owned()
    } else {
        return Ok(());
    };
    Err(format!("'{}' is not a label: {why}", crate::words::error::brief(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_leads_nowhere() {
        for label in ["so.makefile.baa-conductor", "a", "getty@tty1"] {
            assert!(check_label(label).is_ok(), "{label}");
        }
        for label in ["", "..", "a/b", "../a", "a..b", "-k", ".hidden", "a b", "a\n", "ä"] {
            assert!(check_label(label).is_err() && check_unit_name(label).is_err(), "{label}");
        }
        for name in [r"dev-disk@a-b\x2dc", "x@a:b"] {
            assert!(check_unit_name(name).is_ok() && check_label(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        assert_eq!(quote("/a/b.plist"), "/a/b.plist");
        assert_eq!(quote("/a b/it's"), r"'/a b/it'\''s'");
        assert_eq!(quote(""), "''");
    }
}
