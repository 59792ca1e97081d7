//! launchd, through launchctl(1): every call bounded in time, every code classified, `print` read with care.
//!
//! Never run on a Mac by its makers: built from public reports of what launchctl does, and tested against a
//! model of it. What is believed stands in tests/launchctl/claims; `make mac-report` tries it on a Mac.

mod cause;
pub mod code;
pub(crate) mod print;

use crate::service::job::Job;
use crate::service::{
    AnswerBy, CALL_LIMIT, JobCause, JobEnd, JobState, Kick, Phase, Registration, Service, Trouble,
    TroubleClass, quote, run_tool,
};
use crate::sys::child::{Exit, Spec};
use crate::sys::process::Pid;
use crate::words::error::{Error, Result, brief};
use crate::words::exit::Status;
use crate::words::span;
use code::LaunchctlVerb;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long launchd is given to see that a job has gone on purpose before it starts the next (facts 1.1).
pub const SEES_AN_END: Duration = Duration::from_millis(1500);

/// How long a question may take whose answer is worth having and not worth waiting for.
const ASIDE_LIMIT: Duration = Duration::from_secs(2);
/// After what time a kickstart that was not permitted is tried a second time.
const SECOND_TRY: Duration = Duration::from_millis(500);

/// One job in one domain.
#[derive(Clone, Debug)]
pub struct Launchd {
    domain: String,
    label: String,
    /// Whether this launchctl can wait for a bootout to be over.
    waits: OnceLock<bool>,
    /// When it should have answered.
    by: AnswerBy,
}

impl Launchd {
    /// The job `label` in `domain`: `gui/501`, `user/501`, `system`.
    pub fn new(domain: impl Into<String>, label: impl Into<String>) -> Launchd {
        Launchd {
            domain: domain.into(),
            label: label.into(),
            waits: OnceLock::new(),
            by: AnswerBy::default(),
        }
    }

    /// The domain of agents of this user, or of daemons.
    pub fn domain_of(daemon: bool) -> String {
        if daemon { "system".to_owned() } else { Launchd::domain_of_user(crate::sys::user::own_uid()) }
    }

    /// The domain of agents of the user `uid`.
    pub fn domain_of_user(uid: u32) -> String {
        format!("gui/{uid}")
    }

    /// From the target of a probe: `LABEL` in the own domain, or `gui/501/LABEL`.
    ///
    /// # Errors
    /// 2 for what is neither.
    pub fn of_target(text: &str) -> Result<Launchd> {
        let usage = |why: String| Error::new(Status::Usage, why);
        let (domain, label) = match text.rsplit_once('/') {
            Some((domain, label)) => (domain.to_owned(), label),
            None => (Launchd::domain_of(crate::sys::user::own_uid() == 0), text),
        };
        check_domain(&domain).map_err(usage)?;
        crate::service::check_label(label).map_err(usage)?;
        Ok(Launchd::new(domain, label))
    }

    /// The job that this very process is.
    pub fn ours() -> Option<Launchd> {
        Launchd::of(std::env::var("XPC_SERVICE_NAME").ok(), Pid::parent())
    }

    /// The job that the environment names, whoever has set it.
    pub fn claimed() -> Option<Launchd> {
        Launchd::of_target(&std::env::var("XPC_SERVICE_NAME").ok()?).ok()
    }

    /// launchd is process 1 and the parent of its jobs; a child of one inherits the variable, but not the
    /// parent, and outside of jobs it reads 0.
    fn of(label: Option<String>, parent: Option<Pid>) -> Option<Launchd> {
        let label =
            label.filter(|label| label != "0" && parent.is_some_and(|parent| parent.number() == 1))?;
        Launchd::of_target(&label).ok()
    }

    /// Whose files launchd takes in the domain, beside root's.
    fn owner(&self) -> u32 {
        let number = self.domain.split_once('/').filter(|(kind, _)| ["gui", "user"].contains(kind));
        number.and_then(|(_, uid)| uid.parse().ok()).unwrap_or_else(crate::sys::user::own_uid)
    }

    fn call(&self, verb: LaunchctlVerb, arguments: &[&str]) -> std::result::Result<String, Trouble> {
        self.call_until(verb, arguments, Instant::now() + CALL_LIMIT)
    }

    fn call_until(
        &self,
        verb: LaunchctlVerb,
        arguments: &[&str],
        deadline: Instant,
    ) -> std::result::Result<String, Trouble> {
        let spec = Spec::new("launchctl", arguments);
        let finished = run_tool("launchctl", spec, self.by.limit(deadline))?;
        match finished.exit {
            Some(Exit::Code(0)) => Ok(finished.stdout),
            Some(Exit::Code(code)) => {
                Err(code::classify(verb, code, &format!("{}\n{}", finished.stderr, finished.stdout)))
            }
            Some(exit) => Err(Trouble {
                class: TroubleClass::Retry,
                code: None,
                text: format!("launchctl {} was {exit}", verb.name()),
            }),
            None => Err(Trouble {
                class: TroubleClass::Retry,
                code: None,
                text: format!("launchctl {} did not return in time", verb.name()),
            }),
        }
    }

    /// Asks once, before anything is touched. launchctl(1) does not name the option, and releases before it
    /// take it for a domain.
    fn waits(&self) -> bool {
        *self.waits.get_or_init(|| {
            let spec = Spec::new("launchctl", ["help", "bootout"]);
            run_tool("launchctl", spec, Instant::now() + ASIDE_LIMIT)
                .is_ok_and(|told| told.stdout.contains("--wait") || told.stderr.contains("--wait"))
        })
    }

    /// Whether the label is disabled, as far as launchd tells.
    fn is_disabled(&self) -> bool {
        let words = ["print-disabled", &self.domain];
        let told = self.call_until(LaunchctlVerb::PrintDisabled, &words, Instant::now() + ASIDE_LIMIT);
        told.is_ok_and(|told| print::disabled(&told, &self.label) == Some(true))
    }

    fn commands(&self, source: &Path) -> [String; 4] {
        let (target, domain) = (quote(self.target()), quote(&self.domain));
        [
            format!("launchctl bootout {target}"),
            format!("launchctl enable {target}"),
            format!("launchctl bootstrap {domain} {}", quote(source)),
            format!("launchctl kickstart {target}"),
        ]
    }
}

/// Whether `domain` is one that launchctl(1) knows.
///
/// # Errors
/// Says what it should be.
pub fn check_domain(domain: &str) -> std::result::Result<(), String> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match domain.split_once('/') {
        None if domain == "system" => Ok(()),
        Some(("gui" | "user" | "login" | "pid", id)) if number(id) => Ok(()),
        _ => Err(format!("'{}' is not a domain: system, gui/UID or user/UID", brief(domain))),
    }
}

impl Service for Launchd {
    fn definition(&self, source: &Path) -> Result<Option<Job>> {
        let job = Job::read_of(source, self.owner())?;
        job.check(&self.label)?;
        Ok(Some(job))
    }

    fn manager(&self) -> &'static str {
        "launchd"
    }

    fn target(&self) -> String {
        format!("{}/{}", self.domain, self.label)
    }

    fn prepare(&self, _is_read: bool) -> Result<()> {
        // A LaunchDaemon of the same label owns its port and its files; an agent beside it would fight it.
        if self.domain != "system"
            && Launchd::new("system", &self.label).inspect().is_ok_and(|state| state.is_some())
        {
            return Err(Error::new(
                Status::BadConfig,
                format!(
                    "cannot reload {}: system/{} is loaded too; use --scope daemon",
                    self.target(),
                    self.label
                ),
            ));
        }
        Ok(())
    }

    fn inspect_until(&self, deadline: Instant) -> std::result::Result<Option<JobState>, Trouble> {
        match self.call_until(LaunchctlVerb::Print, &["print", &self.target()], deadline) {
            Ok(text) => {
                let seen = print::read(&text, &self.target()).ok_or_else(|| Trouble {
                    class: TroubleClass::Retry,
                    code: None,
                    text: "launchctl print gave what cannot be read".to_owned(),
                })?;
                Ok(Some(state(&seen, &self.target())))
            }
            Err(trouble) if trouble.class == TroubleClass::Unregistered => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    fn answer_by(&self, until: Option<Instant>) {
        self.by.set(until);
    }

    fn ending(&self, pid: Pid) -> Option<JobEnd> {
        let target = self.target();
        let printed = self.call(LaunchctlVerb::Print, &["print", &target]).ok()?;
        let seen = print::read(&printed, &target)?;
        // `Killed: 9`, `78: EX_CONFIG`, `0`; `(never exited)` is none.
        let last = |key: &str, part: fn(&str) -> &str| {
            seen.text(key).and_then(|text| part(text).trim().parse::<i32>().ok())
        };
        let code = last("last exit code", |text| text.split(':').next().unwrap_or(text)).map(Exit::Code);
        let signal =
            last("last terminating signal", |text| text.rsplit(':').next().unwrap_or(text)).map(Exit::Signal);
        // The signal stands in place of the code. Both may come from different runs, and then neither is
        // known to be this one's.
        let exit = if code.is_some() && signal.is_some() { None } else { signal.or(code) };
        // A job that runs again under the same pid has told nothing yet.
        let words = format!(
            "{}, last exit {}",
            seen.text("state").unwrap_or("unknown"),
            exit.map_or("unknown".to_owned(), |exit| exit.to_string())
        );
        (seen.number("pid") != Some(i64::from(pid.number()))).then_some(JobEnd {
            exit,
            stopped: false,
            words,
        })
    }

    fn cause(&self, known: &Registration, accepted: bool) -> Option<JobCause> {
        match known {
            Registration::Unknown(_) => None,
            Registration::Registered(state) if state.cause.is_some() => state.cause.clone(),
            Registration::Registered(state) if state.phase == Phase::Running => None,
            _ if self.is_disabled() => Some(cause::disabled(&quote(self.target()))),
            Registration::NotRegistered if accepted => Some(cause::removed(&self.label)),
            _ => None,
        }
    }

    fn take_down(&self) -> std::result::Result<(), Trouble> {
        let target = self.target();
        if !self.waits() {
            return self.call(LaunchctlVerb::Bootout, &["bootout", &target]).map(drop);
        }
        // At most as long as any call: a job that takes longer is waited for by its process and label.
        self.call(LaunchctlVerb::Bootout, &["bootout", "--wait", &target]).map(drop)
    }

    fn bring_up(&self, source: &Path) -> std::result::Result<(), Trouble> {
        // `disable` survives bootout and reboot, and a disabled label gives 5 or 119: enable it every time.
        // Its own failure shows in the next call.
        let _ = self.call(LaunchctlVerb::Enable, &["enable", &self.target()]);
        self.call(LaunchctlVerb::Bootstrap, &["bootstrap", &self.domain, &source.to_string_lossy()]).map(drop)
    }

    fn kick(&self, how: Kick) -> std::result::Result<(), Trouble> {
        let target = self.target();
        let words: &[&str] = match how {
            Kick::Start => &["kickstart", &target],
            Kick::Replace => &["kickstart", "-k", &target],
        };
        match self.call(LaunchctlVerb::Kickstart, words) {
            // Seen to be refused once and granted the second time (nix-installer#1099).
            Err(trouble) if trouble.code == Some(code::EPERM) => {
                std::thread::sleep(SECOND_TRY);
                self.call(LaunchctlVerb::Kickstart, words).map(drop)
            }
            outcome => outcome.map(drop),
        }
    }

    fn holds_us(&self, state: &JobState) -> bool {
        // launchd sweeps the process group of a job; a process that moved away still has the name in its
        // environment.
        let named = std::env::var_os("XPC_SERVICE_NAME").is_some_and(|name| name == self.label.as_str());
        named || descends_from(state)
    }

    fn plan(&self, source: &Path) -> Vec<String> {
        self.commands(source).to_vec()
    }

    fn repair(&self, source: &Path, known: &Registration) -> String {
        let [_, enable, bootstrap, kickstart] = self.commands(source);
        match known {
            Registration::Registered(_) => format!("launchctl kickstart -k {}", quote(self.target())),
            Registration::NotRegistered => format!("{enable}; {bootstrap} && {kickstart}"),
            // A job that is loaded makes the second fail; whether it is or not, the last one starts it.
            Registration::Unknown(_) => format!("{enable}; {bootstrap}; {kickstart}"),
        }
    }
}

fn descends_from(state: &JobState) -> bool {
    let table = crate::sys::process::Table::read();
    state.pid.is_some_and(|pid| table.descends(Pid::own(), pid))
}

/// What a job does, by launchd's word for its state and whether it has a process. A start goes through `spawn
/// scheduled`, `spawning`, `xpcproxy` (a process of launchd's own that becomes the program, or ends with 78)
/// and `running` (nix#5698); an end through `SIGTERMed`, and where the job does not heed that `SIGKILLed` and
/// `languishing`. A word that is not known here proves nothing.
fn phase(word: &str, has_process: bool) -> Phase {
    match word {
        "running" if has_process => Phase::Running,
        "spawning" | "xpcproxy" => Phase::Starting,
        // "not running" is not "gone" (codex-remote-feishu#914).
        "SIGTERMed" | "SIGKILLed" | "languishing" => Phase::Stopping,
        "spawn scheduled" => Phase::Waiting,
        "not running" | "waiting" | "exited" => Phase::Stopped,
        _ if has_process => Phase::Starting,
        _ => Phase::Stopped,
    }
}

/// What was printed of `target`, in the words of all managers.
pub(crate) fn state(seen: &print::Seen, target: &str) -> JobState {
    let pid = seen.number("pid").and_then(|number| i32::try_from(number).ok()).and_then(Pid::new);
    let word = brief(seen.text("state").unwrap_or("unknown"));
    let phase = phase(&word, pid.is_some());
    let seconds = |key: &str| {
        seen.number(key)
            .and_then(|number| u64::try_from(number).ok())
            .map(Duration::from_secs)
            .map(span::bounded)
    };
    let signal = seen.text("last terminating signal");
    JobState {
        phase,
        // What has exited may still be printed with its process.
        pid: pid.filter(|_| phase != Phase::Stopped),
        others: Vec::new(),
        runs: seen.number("runs").and_then(|number| u64::try_from(number).ok()),
        last_exit: signal.or(seen.text("last exit code")).map(brief),
        exit_timeout: seconds("exit timeout"),
        throttle: seconds("minimum runtime"),
        source: seen.text("path").filter(|path| path.starts_with('/')).map(PathBuf::from),
        completed: phase == Phase::Stopped
            && signal.is_none()
            && seen.number("runs").is_some_and(|runs| runs > 0)
            && seen.number("last exit code") == Some(0),
        life: None,
        details: cause::details(seen),
        cause: cause::of(seen, phase, &quote(target)),
        word,
    }
}

#[cfg(test)]
mod tests;
