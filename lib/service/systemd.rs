//! systemd, through systemctl(1): the user's manager or the system's. A restart is one job of systemd's own,
//! so nothing is lost between stop and start.

mod call;
mod fit;
mod journal;
mod show;

#[cfg(test)]
pub(crate) use show::words;
pub(crate) use show::{ended, properties, state};

use crate::service::job::Job;
use crate::service::{
    AnswerBy, CALL_LIMIT, JobEnd, JobState, Kick, LifeLog, Phase, Registration, Service, Trouble,
    TroubleClass, quote,
};
use crate::sys::process::{Identity, Pid, Watch};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use call::Verb;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How old an answer may be that is used for a second question, as long as nothing was ordered since and the
/// main process that it names lives.
const REUSED: Duration = Duration::from_millis(50);
/// How often it is asked whether an order was taken that neither ends nor shows.
const ORDER_CHECK: Duration = Duration::from_millis(250);
/// How long a question waits for the end of an order first, which makes its answer the last one.
const ORDER_WAIT: Duration = Duration::from_millis(100);

type Shown = HashMap<String, String>;

/// One unit of one manager.
#[derive(Clone)]
pub struct Systemd {
    unit: String,
    system: bool,
    memory: Arc<Mutex<Memory>>,
    /// When the manager should have answered.
    by: AnswerBy,
}

/// What is known from before.
#[derive(Default)]
struct Memory {
    /// The last answer, and when it was asked for.
    shown: Option<(Instant, Shown)>,
    /// Whether it still answers the next question.
    reusable: bool,
    /// The last order.
    order: Option<Order>,
    /// The environment of the manager, once it was asked for.
    environment: Option<Verb>,
}

/// What was ordered, and what is known of it.
#[derive(Clone)]
struct Order {
    verb: Verb,
    at: SystemTime,
    /// The life before.
    before: String,
    /// Whether another life was seen since.
    ran: bool,
    /// Whether its end was told.
    told: bool,
}

/// The environment of a service is among what is remembered, and must not be printed.
impl std::fmt::Debug for Systemd {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Systemd({})", self.target())
    }
}

/// The services that a manager has loaded, the system's or the user's; none where it cannot be asked.
pub fn units(system: bool, deadline: Instant) -> Vec<String> {
    let which = if system { "--system" } else { "--user" };
    let how = ["list-units", "--all", "--type=service", "--plain", "--no-legend", "--no-pager", which];
    let listed = call::run(how.map(str::to_owned).to_vec(), deadline);
    let listed = listed.and_then(|finished| call::judge("list-units", finished)).unwrap_or_default();
    let known = listed.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next().filter(|_| words.next() == Some("loaded"))
    });
    known.filter(|unit| crate::service::check_label(unit).is_ok()).map(str::to_owned).collect()
}

impl Systemd {
    /// The unit `name` (`.service` is added where there is no suffix) of the system's manager or of the
    /// user's.
    pub fn new(name: &str, system: bool) -> Systemd {
        let unit = if fit::TYPES.iter().any(|(suffix, _)| name.ends_with(suffix)) {
            name.to_owned()
        } else {
            format!("{name}.service")
        };
        Systemd { unit, system, memory: Arc::default(), by: AnswerBy::default() }
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
        crate::service::check_unit_name(unit).map_err(|why| Error::new(Status::Usage, why))?;
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
        let asked = ["show", "--property=Delegate", "--value", "--", &self.unit];
        self.call(&asked, Instant::now() + CALL_LIMIT).is_ok_and(|said| said.trim() == "yes")
    }

    /// Whether this machine was booted by systemd (sd_booted(3)).
    pub fn booted() -> bool {
        Path::new("/run/systemd/system").is_dir()
    }

    /// The files that define the unit, as the manager has loaded it: its own first, then those that add to it
    /// (FragmentPath, DropInPaths).
    ///
    /// # Errors
    /// When the manager cannot be asked.
    pub fn files(&self) -> std::result::Result<Vec<PathBuf>, Trouble> {
        Ok(show::files(&self.shown(Instant::now() + CALL_LIMIT)?))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arguments(&self, arguments: &[&str]) -> Vec<String> {
        let manager = if self.system { "--system" } else { "--user" };
        [manager, "--no-ask-password"].iter().chain(arguments).map(|one| (*one).to_owned()).collect()
    }

    fn call(&self, arguments: &[&str], deadline: Instant) -> std::result::Result<String, Trouble> {
        let verb = arguments.first().copied().unwrap_or_default();
        call::judge(verb, call::run(self.arguments(arguments), self.by.limit(deadline))?)
    }

    /// Asks for all properties.
    fn show(&self, deadline: Instant) -> std::result::Result<Shown, Trouble> {
        let asked = Instant::now();
        let property = format!("--property={}", show::PROPERTIES);
        let shown = properties(&self.call(&["show", &property, "--", &self.unit], deadline)?);
        if !show::legible(&shown) {
            return Err(Trouble {
                class: TroubleClass::Retry,
                code: None,
                text: "systemctl show gave what cannot be read".to_owned(),
            });
        }
        let mut memory = self.memory();
        memory.shown = Some((asked, shown.clone()));
        memory.reusable = false;
        Ok(shown)
    }

    /// The same, out of an answer that was given just now, or else for the next question too.
    fn shown(&self, deadline: Instant) -> std::result::Result<Shown, Trouble> {
        if let Some(shown) = self.just_shown() {
            return Ok(shown);
        }
        let shown = self.show(deadline)?;
        self.memory().reusable = true;
        Ok(shown)
    }

    fn just_shown(&self) -> Option<Shown> {
        let memory = self.memory();
        let (asked, shown) = memory.shown.as_ref().filter(|_| memory.reusable)?;
        let main: Option<Pid> = value(shown, "MainPID").parse().ok();
        (asked.elapsed() <= REUSED && main.is_none_or(|main| Identity::of(main).is_some()))
            .then(|| shown.clone())
    }

    /// Whether the last order is not done with; its end is waited for at most until `until`.
    fn is_under_way(&self, until: Instant) -> bool {
        let order = self.memory().order.clone();
        order.is_some_and(|order| !order.verb.wait(until))
    }

    /// Orders `verb`, and returns once the manager has taken the order: when it is done, or has begun. `old`
    /// is the process that it ends.
    fn order(&self, verb: &'static str, old: Option<Identity>) -> std::result::Result<(), Trouble> {
        self.reset_limit();
        let order = Verb::begin(verb, self.arguments(&[verb, "--job-mode=replace", "--", &self.unit]))?;
        {
            let mut memory = self.memory();
            memory.reusable = false;
            let before = memory.shown.as_ref().map_or("", |(_, shown)| value(shown, "InvocationID"));
            memory.order = Some(Order {
                verb: order.clone(),
                at: SystemTime::now(),
                before: before.to_owned(),
                ran: false,
                told: false,
            });
        }
        let began = Instant::now();
        let watch = old.and_then(|old| Watch::over(old).ok().flatten());
        let mut check = began + ORDER_CHECK;
        loop {
            // The death of the old process is heard of at once; the end of an order that never began, soon.
            let gone = match &watch {
                Some(watch) => watch.wait(check.min(Instant::now() + Duration::from_millis(20))),
                None => {
                    order.wait(check);
                    false
                }
            };
            if order.wait(Instant::now()) {
                return order.taken();
            }
            if gone {
                return Ok(());
            }
            let now = Instant::now();
            if now >= check {
                let shown = self.show(now + CALL_LIMIT)?;
                if has_job(&shown) || matches!(value(&shown, "ActiveState"), "activating" | "deactivating") {
                    return Ok(());
                }
                if now >= began + CALL_LIMIT {
                    return Err(call::late(verb));
                }
                check = now + (now - began);
            }
        }
    }

    /// A unit that hit its start limit refuses to start until this; it does nothing to one that did not fail.
    fn reset_limit(&self) {
        let memory = self.memory();
        let may = memory
            .shown
            .as_ref()
            .is_none_or(|(_, shown)| show::may_hit_limit(shown, crate::sys::clock::monotonic()));
        drop(memory);
        if may {
            let _ = self.call(&["reset-failed", "--", &self.unit], Instant::now() + CALL_LIMIT);
        }
    }

    fn restart(&self) -> std::result::Result<(), Trouble> {
        let main = self.memory().shown.as_ref().and_then(|(_, shown)| value(shown, "MainPID").parse().ok());
        self.order("restart", main.and_then(Identity::of))
    }

    /// What `shown` means, after what was ordered last; `under_way` says whether that is not done with.
    fn meaning(&self, shown: &Shown, under_way: bool) -> Option<JobState> {
        let mut state = state(shown)?;
        let order = {
            let mut memory = self.memory();
            if let Some(order) = &mut memory.order {
                order.ran |= state.life.as_ref().is_some_and(|life| *life != order.before);
            }
            memory.order.clone()
        };
        // Our order has not begun to be carried out: what is there is what was there.
        if under_way && has_job(shown) {
            state.phase = match state.phase {
                Phase::Running => Phase::Stopping,
                Phase::Failed | Phase::Stopped => Phase::Waiting,
                other => other,
            };
            return Some(state);
        }
        let Some(order) = order.filter(|_| state.phase == Phase::Stopped) else { return Some(state) };
        let failure = order.verb.failure();
        // A unit that is held by nothing is unloaded when it is over, and all is forgotten.
        if state.completed && state.life.is_none() {
            let ran = order.ran || self.has_run(shown, &order);
            state.completed = ran && order.verb.has_succeeded();
            self.memory().order.iter_mut().for_each(|order| order.ran |= ran);
        }
        if let Some(words) = failure {
            state.word.push_str(&format!(", {words}"));
        } else if !state.completed && state.life.is_none() && show::has_conditions(shown) {
            state.word.push_str(", a condition of the unit may not be met");
        }
        Some(state)
    }

    /// Whether the unit has run by the `order`, which has ended well, as far as that is known: an unmet
    /// condition ends it just as well.
    fn has_run(&self, shown: &Shown, order: &Order) -> bool {
        !show::has_conditions(shown)
            || journal::tells_of_a_run(&self.unit, self.system, order.at, self.by.limit(journal::deadline()))
    }

    fn command(&self, verb: &str) -> String {
        let user = if self.system { "" } else { " --user" };
        format!("systemctl{user} {verb} {}", quote(&self.unit))
    }
}

fn value<'a>(shown: &'a Shown, key: &str) -> &'a str {
    shown.get(key).map_or("", String::as_str)
}

/// Whether an order for the unit waits or is carried out.
fn has_job(shown: &Shown) -> bool {
    !matches!(value(shown, "Job"), "" | "0")
}

impl Service for Systemd {
    fn definition(&self, _: &Path) -> Result<Option<Job>> {
        // Nothing but the name is needed for this, and nothing is asked yet.
        fit::by_name(&self.unit)
            .map(|()| None)
            .map_err(|why| Error::new(Status::Usage, format!("cannot reload {}: {why}", self.target())))
    }

    fn definition_files(&self) -> Vec<PathBuf> {
        let files = self.files().unwrap_or_default();
        // The file of a template defines its other instances too; what a generator or systemd-run wrote is
        // written anew, or gone, with the next reload of the manager.
        let foreign = |path: &Path| {
            let text = path.to_string_lossy();
            text.contains("@.") || text.contains("/systemd/generator") || text.contains("/systemd/transient/")
        };
        let Some(fragment) = files.first().filter(|_| !files.iter().any(|path| foreign(path))) else {
            return Vec::new();
        };
        // A drop-in of service.d, or of a prefix, is another service's too.
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let own = [Some(format!("{}.d", self.unit)), name(fragment).map(|name| format!("{name}.d"))];
        let is_own = |path: &PathBuf| path == fragment || own.contains(&path.parent().and_then(name));
        files.iter().filter(|path| is_own(path)).cloned().collect()
    }

    fn reread(&self) -> std::result::Result<(), Trouble> {
        self.memory().reusable = false;
        self.call(&["daemon-reload"], Instant::now() + CALL_LIMIT).map(drop)
    }

    fn environment(&self, _definition: Option<&Job>) -> Vec<(String, String)> {
        // Both are asked at once.
        let asked = self.memory().environment.take().map_or_else(
            || Verb::begin("show-environment", self.arguments(&["show-environment"])).ok(),
            Some,
        );
        self.memory().environment.clone_from(&asked);
        let shown = self.shown(Instant::now() + CALL_LIMIT).unwrap_or_default();
        let text = asked.and_then(|asked| asked.output(self.by.limit(Instant::now() + CALL_LIMIT)));
        let inherited = show::inherited(&text.unwrap_or_default(), &shown, self.system);
        inherited.into_iter().chain(show::environment(&shown)).collect()
    }

    fn own_name(&self) -> Option<String> {
        let shown = self.shown(Instant::now() + CALL_LIMIT).ok()?;
        let id = value(&shown, "Id");
        Some(id.strip_suffix(".service").unwrap_or(id).to_owned()).filter(|id| !id.is_empty())
    }

    fn answer_by(&self, until: Option<Instant>) {
        self.by.set(until);
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

    fn prepare(&self, is_read: bool) -> Result<()> {
        let refuse = |status: Status, why: &dyn std::fmt::Display| {
            Error::new(status, format!("cannot reload {}: {why}", self.target()))
        };
        let trouble = |trouble: Trouble| {
            let status =
                if let TroubleClass::Final(status) = trouble.class { status } else { Status::Unavailable };
            refuse(status, &trouble)
        };
        let mut shown = self.shown(Instant::now() + CALL_LIMIT).map_err(trouble)?;
        // systemd compares the times that files say they were written at: it does not know of one that is no
        // newer than the one that it replaces, as rsync(1), tar(1) and package managers leave them.
        if !is_read
            || value(&shown, "NeedDaemonReload") == "yes"
            || show::has_new_drop_ins(&shown, self.system)
        {
            self.reread().map_err(trouble)?;
            shown = self.shown(Instant::now() + CALL_LIMIT).map_err(trouble)?;
        }
        fit::by_unit(&shown).map_err(|error| refuse(error.status, &error))
    }

    fn inspect(&self) -> std::result::Result<Option<JobState>, Trouble> {
        match self.just_shown() {
            Some(shown) => Ok(self.meaning(&shown, self.is_under_way(Instant::now()))),
            None => self.inspect_until(Instant::now() + CALL_LIMIT),
        }
    }

    fn inspect_until(&self, deadline: Instant) -> std::result::Result<Option<JobState>, Trouble> {
        let under_way = self.is_under_way(self.by.limit(deadline).min(Instant::now() + ORDER_WAIT));
        let shown = match self.show(deadline) {
            Ok(shown) => shown,
            Err(trouble) if trouble.class == TroubleClass::Unregistered => return Ok(None),
            Err(trouble) => return Err(trouble),
        };
        let state = self.meaning(&shown, under_way);
        if state.as_ref().is_some_and(|state| state.phase == Phase::Running) {
            self.memory().reusable = true;
        }
        Ok(state)
    }

    fn ending(&self, pid: Pid) -> Option<JobEnd> {
        let seen = self.show(Instant::now() + CALL_LIMIT).ok()?;
        ended(&seen, pid)
    }

    fn take_down(&self) -> std::result::Result<(), Trouble> {
        self.restart()
    }

    fn bring_up(&self, _: &Path) -> std::result::Result<(), Trouble> {
        self.order("start", None)
    }

    fn kick(&self, how: Kick) -> std::result::Result<(), Trouble> {
        match how {
            Kick::Start => self.order("start", None),
            Kick::Replace => self.restart(),
        }
    }

    fn life_log(&self, life: Option<&str>, count: usize) -> Option<LifeLog> {
        Some(match life {
            Some(life) => journal::of_life(life, &self.unit, self.system, count),
            None => {
                let since = self.memory().order.as_ref().map(|order| order.at);
                journal::of_none(&self.unit, self.system, since, count)
            }
        })
    }

    fn await_news(&self, until: Instant) -> bool {
        let Some(order) = self.memory().order.clone().filter(|order| !order.told) else { return false };
        let ended = order.verb.wait(until);
        if let Some(order) = self.memory().order.as_mut().filter(|_| ended) {
            order.told = true;
        }
        ended
    }

    fn runs_to_its_end(&self) -> bool {
        self.memory().shown.as_ref().is_some_and(|(_, shown)| value(shown, "Type") == "oneshot")
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
            self.command("restart --job-mode=replace"),
        ]
    }

    fn repair(&self, _: &Path, known: &Registration) -> String {
        // A run that is under way must not be cut off, nor one that is over meanwhile be begun again.
        if known.state().is_some_and(|state| state.phase == Phase::Starting) && self.runs_to_its_end() {
            return self.command("status");
        }
        format!("{}; {}", self.command("reset-failed"), self.command("restart"))
    }
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
            Systemd::of(own, &variable, cgroup).map(|found| found.target())
        };
        let pid = own.to_string();
        assert_eq!(
            see(&[("SYSTEMD_EXEC_PID", &pid), ("MANAGERPID", "7")]).as_deref(),
            Some("user/gw.service")
        );
        assert_eq!(see(&[("SYSTEMD_EXEC_PID", &pid)]).as_deref(), Some("system/gw.service"));
        assert_eq!(see(&[("SYSTEMD_EXEC_PID", "1"), ("INVOCATION_ID", "1")]), None);
    }

    #[test]
    fn a_name_gets_its_suffix_once() {
        assert_eq!(Systemd::new("a", true).target(), "system/a.service");
        assert_eq!(Systemd::new("a.service", false).target(), "user/a.service");
        assert_eq!(Systemd::new("so.makefile.baa-x", false).target(), "user/so.makefile.baa-x.service");
    }
}
