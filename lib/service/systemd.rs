//! systemd, through systemctl(1): the user's manager or the system's. A restart is one job of systemd's own,
//! so nothing is lost between stop and start.

use crate::life::Finished;
use crate::service::job::Job;
use crate::service::{
    CALL_LIMIT, JobEnd, JobState, Kick, Phase, Registration, Service, Trouble, TroubleClass, quote, run_tool,
};
use crate::sys::child::{Exit, Spec};
use crate::sys::process::Pid;
use crate::words::error::{Error, Result, brief};
use crate::words::exit::Status;
use crate::words::span;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PROPERTIES: &str = "LoadState,LoadError,ActiveState,SubState,MainPID,ControlGroup,NRestarts,Result,\
     ExecMainCode,ExecMainStatus,InvocationID,ExecMainPID,ExecMainExitTimestampMonotonic,\
     ActiveExitTimestampMonotonic,TimeoutStopUSec,RestartUSec,FragmentPath,NeedDaemonReload,ExecStart,Job";

/// One unit of one manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Systemd {
    unit: String,
    system: bool,
}

impl Systemd {
    /// The unit `name` (`.service` is added where there is no suffix) of the system's manager or of the
    /// user's.
    pub fn new(name: &str, system: bool) -> Systemd {
        const SUFFIXES: [&str; 5] = [".service", ".socket", ".timer", ".target", ".path"];
        let unit = if SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
            name.to_owned()
        } else {
            format!("{name}.service")
        };
        Systemd { unit, system }
    }

    /// From the target of a probe: `UNIT` in the own manager (root: the system's), or `user/UNIT`,
    /// `system/UNIT`.
    ///
    /// # Errors
    /// 2 for what is neither.
    pub fn of_target(text: &str) -> Result<Systemd> {
        let (system, unit) = match text.split_once('/') {
            Some(("user", unit)) => (false, unit),
            Some(("system", unit)) => (true, unit),
            _ => (Systemd::default_is_system(), text),
        };
        crate::service::check_label(unit).map_err(|why| Error::new(Status::Usage, why))?;
        Ok(Systemd::new(unit, system))
    }

    /// Root means the system's manager, anybody else his own.
    pub fn default_is_system() -> bool {
        crate::sys::user::own_uid() == 0
    }

    /// The unit that has started this very process. Variables are inherited by whatever a service starts, so
    /// one must name us (systemd.exec(5)).
    pub fn ours() -> Option<Systemd> {
        let variable = |name: &str| std::env::var(name).ok();
        Systemd::of(Pid::own(), &variable, std::fs::read_to_string("/proc/self/cgroup").ok()?.as_str())
    }

    /// The same for a process of which its pid, its variables and /proc/PID/cgroup are known.
    fn of(own: Pid, variable: &dyn Fn(&str) -> Option<String>, cgroup: &str) -> Option<Systemd> {
        let named = variable("SYSTEMD_EXEC_PID").is_some_and(|pid| pid == own.to_string());
        let unit =
            cgroup.lines().rev().find_map(|line| line.rsplit('/').find(|part| part.ends_with(".service")))?;
        // A manager of a user tells its pid, the system's does not.
        named.then(|| Systemd::new(unit, variable("MANAGERPID").is_none()))
    }

    /// Whether the unit's control group is given away (Delegate=), as far as the manager tells. A user's
    /// manager leaves no mark on the group.
    pub fn delegates(&self) -> bool {
        self.call(&["show", "--property=Delegate", "--value", "--", &self.unit])
            .is_ok_and(|said| said.trim() == "yes")
    }

    /// Whether this machine was booted by systemd (sd_booted(3)).
    pub fn booted() -> bool {
        Path::new("/run/systemd/system").is_dir()
    }

    fn arguments<'a>(&self, arguments: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec![if self.system { "--system" } else { "--user" }, "--no-ask-password"];
        all.extend(arguments);
        all
    }

    fn call(&self, arguments: &[&str]) -> std::result::Result<String, Trouble> {
        self.call_until(arguments, Instant::now() + CALL_LIMIT)
    }

    fn call_until(&self, arguments: &[&str], deadline: Instant) -> std::result::Result<String, Trouble> {
        let verb = arguments.first().copied().unwrap_or_default();
        let finished = run_tool("systemctl", Spec::new("systemctl", self.arguments(arguments)), deadline)?;
        match finished.exit {
            Some(Exit::Code(0)) => Ok(finished.stdout),
            Some(exit) => Err(classify(verb, exit, &finished)),
            None => Err(Trouble {
                class: TroubleClass::Retry,
                code: None,
                text: format!("systemctl {verb} did not return in time"),
            }),
        }
    }

    fn show(&self, deadline: Instant) -> std::result::Result<HashMap<String, String>, Trouble> {
        let shown =
            self.call_until(&["show", &format!("--property={PROPERTIES}"), "--", &self.unit], deadline)?;
        Ok(properties(&shown))
    }

    fn command(&self, verb: &str) -> String {
        let user = if self.system { "" } else { " --user" };
        format!("systemctl{user} {verb} {}", quote(&self.unit))
    }
}

/// The lines of `systemctl show`.
pub(crate) fn properties(shown: &str) -> HashMap<String, String> {
    let pairs = shown.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The state of a unit, out of its properties (org.freedesktop.systemd1(5)); `None` where there is none.
pub(crate) fn state(seen: &HashMap<String, String>) -> Option<JobState> {
    let text = |key: &str| seen.get(key).map_or("", String::as_str);
    if text("LoadState") == "not-found" && text("ActiveState") != "active" {
        return None;
    }
    let phase = match (text("ActiveState"), text("SubState")) {
        ("active" | "reloading" | "refreshing", _) => Phase::Running,
        ("activating", "auto-restart" | "auto-restart-queued") => Phase::Waiting,
        ("activating", _) => Phase::Running,
        ("deactivating", _) => Phase::Stopping,
        ("failed", _) => Phase::Failed,
        _ => Phase::Stopped,
    };
    Some(JobState {
        phase,
        word: format!("{} ({})", text("ActiveState"), text("SubState")),
        pid: text("MainPID").parse().ok(),
        others: cgroup(text("ControlGroup")),
        runs: text("NRestarts").parse().ok(),
        last_exit: (text("Result") != "success" || text("ExecMainCode") != "0")
            .then(|| format!("{}, status {}", text("Result"), text("ExecMainStatus"))),
        exit_timeout: timespan(text("TimeoutStopUSec")),
        throttle: timespan(text("RestartUSec")),
        source: Some(PathBuf::from(text("FragmentPath"))).filter(|path| path.is_absolute()),
        // An inactive unit may be unloaded, and then forgets how its last run ended; but one that failed
        // is kept, as failed.
        completed: text("MainPID") == "0"
            && text("Result") == "success"
            && text("Job").is_empty()
            && matches!(phase, Phase::Stopped | Phase::Running),
        life: Some(text("InvocationID").to_owned()).filter(|id| !id.is_empty()),
        details: Vec::new(),
        cause: None,
    })
}

/// How `pid` ended, out of the unit's properties (org.freedesktop.systemd1(5)), if that was its last main
/// process.
///
/// A unit that is stopped leaves "active" before its main process is seen to exit; one whose process ends by
/// itself leaves it after.
pub(crate) fn ended(seen: &HashMap<String, String>, pid: Pid) -> Option<JobEnd> {
    let text = |key: &str| seen.get(key).map_or("", String::as_str);
    let number = |key: &str| text(key).parse::<u64>().unwrap_or(0);
    if text("ExecMainPID") != pid.to_string() {
        return None;
    }
    let status = i32::try_from(number("ExecMainStatus")).ok()?;
    // CLD_EXITED, CLD_KILLED and CLD_DUMPED of <signal.h>.
    let exit = match number("ExecMainCode") {
        1 => Some(Exit::Code(status)),
        2 | 3 => Some(Exit::Signal(status)),
        _ => None,
    };
    let (left, exited) = (number("ActiveExitTimestampMonotonic"), number("ExecMainExitTimestampMonotonic"));
    let stopped =
        (left > 0 && exited > 0 && left < exited) || matches!(text("Result"), "watchdog" | "timeout");
    Some(JobEnd {
        exit,
        stopped,
        words: format!("{} ({}), result {}", text("ActiveState"), text("SubState"), text("Result")),
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

impl Service for Systemd {
    fn variable(&self, _definition: Option<&Job>, name: &str) -> Option<String> {
        let shown = self.call(&["show", "--property=Environment", "--", &self.unit]).ok()?;
        let line = shown.lines().find_map(|line| line.strip_prefix("Environment="))?;
        words(line)
            .into_iter()
            .rev()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    }

    fn manager(&self) -> &'static str {
        "systemd"
    }

    fn target(&self) -> String {
        format!("{}/{}", if self.system { "system" } else { "user" }, self.unit)
    }

    fn restarts_in_place(&self) -> bool {
        true
    }

    fn prepare(&self) -> Result<()> {
        let refuse = |status: Status, why: String| {
            Error::new(status, format!("cannot reload {}: {why}", self.target()))
        };
        let trouble = |trouble: Trouble| {
            refuse(
                if let TroubleClass::Final(status) = trouble.class { status } else { Status::Unavailable },
                trouble.text,
            )
        };
        let mut seen = self.show(Instant::now() + CALL_LIMIT).map_err(trouble)?;
        if seen.get("NeedDaemonReload").is_some_and(|need| need == "yes") {
            self.call(&["daemon-reload"]).map_err(trouble)?;
            seen = self.show(Instant::now() + CALL_LIMIT).map_err(trouble)?;
        }
        let detail = seen.get("LoadError").map_or(String::new(), |error| {
            brief(error.split_once(' ').map_or(error.as_str(), |(_, text)| text.trim_matches('"')))
        });
        match seen.get("LoadState").map_or("", String::as_str) {
            "loaded" => {}
            "not-found" => return Err(refuse(Status::NoInput, "there is no such unit".to_owned())),
            "masked" => return Err(refuse(Status::BadConfig, "the unit is masked".to_owned())),
            other => {
                return Err(refuse(
                    Status::BadConfig,
                    format!(
                        "systemd cannot use the unit file ({other}{}{detail})",
                        if detail.is_empty() { "" } else { ": " }
                    ),
                ));
            }
        }
        // systemd starts a missing program only to fail with 203 once the old process is gone.
        let program = seen
            .get("ExecStart")
            .and_then(|start| start.split_once("path="))
            .and_then(|(_, rest)| rest.split(" ;").next());
        match program {
            Some(program) if !Path::new(program).exists() => {
                Err(refuse(Status::NoInput, format!("program '{}' does not exist", brief(program))))
            }
            Some(program) if !crate::sys::file::executable(Path::new(program)) => {
                Err(refuse(Status::NotPermitted, format!("program '{}' is not executable", brief(program))))
            }
            _ => Ok(()),
        }
    }

    fn inspect_until(&self, deadline: Instant) -> std::result::Result<Option<JobState>, Trouble> {
        let seen = match self.show(deadline) {
            Ok(seen) => seen,
            Err(trouble) if trouble.class == TroubleClass::Unregistered => return Ok(None),
            Err(trouble) => return Err(trouble),
        };
        Ok(state(&seen))
    }

    fn ending(&self, pid: Pid) -> Option<JobEnd> {
        let seen = self.show(Instant::now() + CALL_LIMIT).ok()?;
        ended(&seen, pid)
    }

    fn take_down(&self) -> std::result::Result<(), Trouble> {
        // A unit that hit its start limit refuses to start until this; one that did not fail is not harmed.
        let _ = self.call(&["reset-failed", "--", &self.unit]);
        self.call(&["restart", "--no-block", "--job-mode=replace", "--", &self.unit]).map(drop)
    }

    fn bring_up(&self, _: &Path) -> std::result::Result<(), Trouble> {
        let _ = self.call(&["reset-failed", "--", &self.unit]);
        self.call(&["start", "--no-block", "--", &self.unit]).map(drop)
    }

    fn kick(&self, how: Kick) -> std::result::Result<(), Trouble> {
        match how {
            Kick::Start => self.bring_up(Path::new("")),
            Kick::Replace => self.take_down(),
        }
    }

    fn holds_us(&self, state: &JobState) -> bool {
        state.others.contains(&Pid::own())
    }

    fn escape(&self) -> Vec<String> {
        // A control group is left by no fork, and KillMode= kills all of it.
        let scope = if self.system { "--system" } else { "--user" };
        ["systemd-run", scope, "--scope", "--quiet", "--collect"].map(str::to_owned).to_vec()
    }

    fn plan(&self, _: &Path) -> Vec<String> {
        let user = if self.system { "" } else { " --user" };
        vec![
            format!("systemctl{user} daemon-reload"),
            self.command("reset-failed"),
            self.command("restart --no-block --job-mode=replace"),
        ]
    }

    fn repair(&self, _: &Path, _: &Registration) -> String {
        format!("{}; {}", self.command("reset-failed"), self.command("restart"))
    }
}

/// All processes of a control group and of those below it.
fn cgroup(path: &str) -> Vec<Pid> {
    if path.is_empty() || path == "/" || path.split('/').any(|part| part == "..") {
        return Vec::new();
    }
    // Pure v2, then the v2 tree of a hybrid machine.
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];
    let Some(top) = roots.iter().map(|root| PathBuf::from(format!("{root}{path}"))).find(|dir| dir.is_dir())
    else {
        return Vec::new();
    };
    let mut pids = Vec::new();
    let mut open = vec![top];
    while let Some(dir) = open.pop() {
        let listed = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        pids.extend(listed.lines().filter_map(|line| line.parse::<Pid>().ok()));
        let below = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        open.extend(
            below.filter(|one| one.file_type().is_ok_and(|kind| kind.is_dir())).map(|one| one.path()),
        );
    }
    pids
}

/// `1min 30s` as systemd prints it (systemd.time(7)); `infinity` is zero, as launchd's 0.
fn timespan(text: &str) -> Option<Duration> {
    if text == "infinity" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    for word in text.split_ascii_whitespace() {
        let cut = word.find(|letter: char| letter.is_ascii_alphabetic())?;
        let number: f64 = word[..cut].parse().ok()?;
        let unit = match &word[cut..] {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        total = total.saturating_add(Duration::try_from_secs_f64(number * unit).ok()?);
    }
    (!text.is_empty()).then_some(span::bounded(total))
}

/// The words of a property that systemd quotes as a shell would.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quoted, mut escaped, mut any) = (None, false, false);
    for letter in line.chars() {
        match (letter, quoted) {
            _ if escaped => {
                word.push(letter);
                escaped = false;
            }
            ('\\', Some('"') | None) => escaped = true,
            ('"' | '\'', None) => (quoted, any) = (Some(letter), true),
            (_, Some(mark)) if mark == letter => quoted = None,
            (' ', None) => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            _ => word.push(letter),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_names_us_says_which_unit_we_are() {
        let own = Pid::own();
        let cgroup = "1:name=systemd:/x\n0::/user.slice/user@0.service/app.slice/gw.service\n";
        let see = |pairs: &[(&str, &str)]| {
            let variable =
                |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            Systemd::of(own, &variable, cgroup)
        };
        let pid = own.to_string();
        assert_eq!(
            see(&[("SYSTEMD_EXEC_PID", &pid), ("MANAGERPID", "7")]),
            Some(Systemd::new("gw.service", false))
        );
        assert_eq!(see(&[("SYSTEMD_EXEC_PID", &pid)]), Some(Systemd::new("gw.service", true)));
        assert_eq!(see(&[("SYSTEMD_EXEC_PID", "1"), ("INVOCATION_ID", "1")]), None);
    }

    #[test]
    fn reads_systemds_time_and_quotes() {
        assert_eq!(timespan("1min 30s"), Some(Duration::from_secs(90)));
        assert_eq!(timespan("100ms"), Some(Duration::from_millis(100)));
        assert_eq!(timespan("infinity"), Some(Duration::ZERO));
        assert_eq!(timespan(""), None);
        assert_eq!(words(r#"A=b "C=d e" "F=\"g\"" H="#), ["A=b", "C=d e", "F=\"g\"", "H="]);
    }

    #[test]
    fn a_name_gets_its_suffix_once() {
        assert_eq!(Systemd::new("a", true).target(), "system/a.service");
        assert_eq!(Systemd::new("a.service", false).target(), "user/a.service");
        assert_eq!(Systemd::new("so.makefile.baa-x", false).target(), "user/so.makefile.baa-x.service");
    }
}
