//! A request to reload services: which, where, how; carried out one after the other.

use super::diagnosis::{Case, SCHEMA};
use super::files::ReloadFiles;
use super::{ReloadOutcome, ReloadReport, ServiceReload, handover, reload};
use crate::probe::Probe;
use crate::probe::demand::Demand;
use crate::probe::http::{Http, Statuses};
use crate::service::embedded::Embedded;
use crate::service::group::Grouped;
use crate::service::job::{Job, KeepAlive};
use crate::service::launchd::{self, Launchd};
use crate::service::systemd::Systemd;
use crate::service::{Service, check_label};
use crate::sys::clock::{self, Real};
use crate::sys::file::Lock;
use crate::sys::http::{self, Trust, Url};
use crate::sys::say::{self, Voice};
use crate::sys::signal::{Signal, Signals};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use crate::words::span;
use serde_json::{Value, json};
use std::cell::Cell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What conductor falls back to, as the script did (BAA_RUNTIME_DEFAULT_LOCAL_API).
const DEFAULT_API: &str = "http://127.0.0.1:4317";
const DEFAULT_VARIABLE: &str = "BAA_CONDUCTOR_LOCAL_API";
const DEFAULT_PATH: &str = "/healthz";
/// The service that the script checked; the others only had to be loaded.
const CONDUCTOR: &str = "conductor";

/// Which manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagerKind {
    /// launchd.
    Launchd,
    /// systemd.
    Systemd,
    /// One baa-run for each job.
    Embedded,
}

impl ManagerKind {
    /// The manager of this machine; the embedded one where there is none.
    pub fn of_this_machine() -> ManagerKind {
        if cfg!(target_os = "macos") {
            ManagerKind::Launchd
        } else if Systemd::booted() {
            ManagerKind::Systemd
        } else {
            ManagerKind::Embedded
        }
    }
}

/// Where the services are.
#[derive(Clone, Debug)]
pub struct ServiceLocation {
    /// Their manager.
    pub kind: ManagerKind,
    /// Whether they are daemons of the system; `None` takes the manager's default.
    pub daemon: Option<bool>,
    /// launchd's domain, if it was given.
    pub domain: Option<String>,
    /// The directory of their property lists.
    pub install_dir: PathBuf,
    /// The file of the group (baa-daemons) that they are entries of.
    pub group: Option<PathBuf>,
}

/// Which services.
#[derive(Clone, Debug)]
pub enum ReloadTarget {
    /// One job.
    Label(String),
    /// Named services: `PREFIX-NAME`.
    Services {
        /// What precedes the name.
        prefix: String,
        /// The names, in order.
        names: Vec<String>,
    },
    /// Every service of a prefix that is installed.
    All {
        /// What precedes the name.
        prefix: String,
    },
}

/// How their health is asked for.
#[derive(Clone, Debug)]
pub struct HealthOptions {
    /// The URL, if it was given.
    pub url: Option<OsString>,
    /// The variable that holds its base, if it was given.
    pub variable: Option<String>,
    /// What is appended to the base, if it was given.
    pub path: Option<String>,
    /// Whether not to ask.
    pub none: bool,
}

/// How they are reloaded; see `ServiceReload`.
#[derive(Clone, Debug)]
pub struct ReloadSettings {
    /// Attempts of a round.
    pub attempts: u32,
    /// The pause after an attempt.
    pub delay: Duration,
    /// The end of one check.
    pub probe_timeout: Duration,
    /// How long it must stay up.
    pub settle: Duration,
    /// The end of waiting for health.
    pub timeout: Option<Duration>,
    /// How long the old process may take.
    pub drain: Duration,
    /// Whether it must not be kicked.
    pub skip_kickstart: bool,
    /// Whether to go on after a failure.
    pub keep_going: bool,
    /// Whether diagnostics are left out of stderr but for their first and last line.
    pub quiet: bool,
}

/// The request.
#[derive(Clone, Debug)]
pub struct ReloadRequest {
    /// Which services.
    pub aim: ReloadTarget,
    /// The file of the only one, if it was given.
    pub plist: Option<PathBuf>,
    /// Where they are.
    pub location: ServiceLocation,
    /// How their health is asked for.
    pub health: HealthOptions,
    /// How they are reloaded.
    pub settings: ReloadSettings,
}

/// What came of it.
#[derive(Debug)]
pub struct Done {
    /// The worst status.
    pub status: Status,
    /// The JSON object.
    pub json: Value,
}

/// One service of a request, ready to be checked.
struct One {
    name: String,
    label: String,
    source: PathBuf,
    service: Box<dyn Service>,
    is_conductor: bool,
}

/// One service that was found fit to be reloaded.
struct Ready {
    job: Option<Job>,
    health: Option<Url>,
}

/// What would be done.
#[derive(Debug)]
pub struct ReloadPlan(Vec<(String, Vec<String>, Option<String>)>);

impl ReloadPlan {
    /// As commands that a person could type.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        for (name, commands, health) in &self.0 {
            lines.push(format!("# {name}"));
            lines.extend(commands.iter().cloned());
            lines.extend(
                health
                    .iter()
                    .map(|url| format!("baa-healthwait --status 200 {}", crate::service::quote(url))),
            );
        }
        lines.join("\n")
    }

    /// As a JSON object.
    pub fn json(&self) -> Value {
        let plan: Vec<Value> = self
            .0
            .iter()
            .map(
                |(name, commands, health)| json!({ "service": name, "commands": commands, "health": health }),
            )
            .collect();
        json!({ "schema": SCHEMA, "dry_run": true, "services": plan })
    }
}

/// Checks the files and says what would be done; asks and touches no service.
///
/// # Errors
/// As `carry_out` before anything is touched.
pub fn plan(request: &ReloadRequest) -> Result<ReloadPlan> {
    let mut plan = Vec::new();
    for one in services(request)? {
        let ready = examine(request, &one)?;
        plan.push((one.name.clone(), one.service.plan(&one.source), ready.health.map(|url| url.to_string())));
    }
    Ok(ReloadPlan(plan))
}

/// Reloads the services in order.
///
/// # Errors
/// What is wrong with the order itself. What goes wrong with a service is told on stderr and in the status.
pub fn carry_out(request: &ReloadRequest, voice: &Voice) -> Result<Done> {
    let ones = services(request)?;
    if !request.settings.keep_going {
        // One bad file of several stops the order before anything is touched.
        let unfit: Vec<(&One, Error)> = ones
            .iter()
            .filter_map(|one| Some((one, examine(request, one).and_then(|_| one.service.prepare()).err()?)))
            .collect();
        if !unfit.is_empty() {
            let status = unfit.iter().fold(Status::Done, |status, (_, error)| status.worse(error.status));
            let told: Vec<Value> = unfit.iter().map(|(one, error)| tell_refusal(one, error)).collect();
            return Ok(done(status, told, &[]));
        }
    }
    let signals = Signals::catch(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])
        .map_err(|cause| Error::io("cannot catch signals", &cause))?;
    let caught = Cell::new(None);
    let interrupted = || {
        if caught.get().is_none() {
            caught.set(signals.take().first().copied());
        }
        caught.get()
    };
    let helper = handover::is_helper();
    let mut status = Status::Done;
    let mut told = Vec::new();
    for one in &ones {
        let (ended, value) = match reload_one(request, one, voice, helper, &interrupted) {
            Ok(end) => end,
            Err(error) => (error.status, tell_refusal(one, &error)),
        };
        told.push(value);
        status = status.worse(ended);
        if interrupted().is_some() || (ended != Status::Done && !request.settings.keep_going) {
            break;
        }
    }
    let skipped: Vec<&str> = ones.iter().skip(told.len()).map(|one| one.name.as_str()).collect();
    if !skipped.is_empty() {
        voice.warn(format!("not reloaded: {}", skipped.join(", ")));
    }
    Ok(done(status, told, &skipped))
}

fn done(status: Status, told: Vec<Value>, skipped: &[&str]) -> Done {
    Done {
        status,
        json: json!({
            "schema": SCHEMA, "ok": status == Status::Done, "exit": status.code(), "services": told,
            "skipped": skipped
        }),
    }
}

/// Tells why a service was not touched.
fn tell_refusal(one: &One, error: &Error) -> Value {
    say::error(&format!("{}: {error}; nothing was touched", one.name));
    json!({
        "service": one.name, "manager": one.service.manager(), "target": one.service.target(),
        "outcome": ReloadOutcome::Refused.name(), "exit": error.status.code(), "reason": error.to_string()
    })
}

fn services(request: &ReloadRequest) -> Result<Vec<One>> {
    let usage = |why: String| Error::new(Status::Usage, why);
    if let Some(domain) = &request.location.domain {
        launchd::check_domain(domain).map_err(usage)?;
    }
    let named: Vec<(String, String)> = match &request.aim {
        ReloadTarget::Label(label) => vec![(label.clone(), label.clone())],
        ReloadTarget::Services { prefix, names } => {
            names.iter().map(|name| (name.clone(), format!("{prefix}-{name}"))).collect()
        }
        ReloadTarget::All { prefix } => installed(&request.location.install_dir, prefix)?,
    };
    let mut ones = Vec::new();
    for (name, label) in named {
        check_label(&label).map_err(usage)?;
        let source = request
            .location
            .group
            .as_ref()
            .or(request.plist.as_ref())
            .cloned()
            .unwrap_or_else(|| request.location.install_dir.join(format!("{label}.plist")));
        let source = std::path::absolute(source)
            .map_err(|cause| Error::io("cannot tell the working directory", &cause))?;
        let daemon = request.location.daemon;
        let service: Box<dyn Service> = match request.location.kind {
            _ if request.location.group.is_some() => Box::new(Grouped::new(&source, &label)?),
            ManagerKind::Launchd => Box::new(Launchd::new(
                request
                    .location
                    .domain
                    .clone()
                    .unwrap_or_else(|| Launchd::domain_of(daemon.unwrap_or(false))),
                &label,
            )),
            ManagerKind::Systemd => {
                Box::new(Systemd::new(&label, daemon.unwrap_or_else(Systemd::default_is_system)))
            }
            ManagerKind::Embedded => Box::new(Embedded::new(&label)),
        };
        let is_conductor = name == CONDUCTOR || label.ends_with("-conductor");
        ones.push(One { name, label, source, service, is_conductor });
    }
    Ok(ones)
}

/// The services of `prefix` in `directory`, conductor first: the others lean on it.
fn installed(directory: &Path, prefix: &str) -> Result<Vec<(String, String)>> {
    let list = std::fs::read_dir(directory)
        .map_err(|cause| Error::io(format!("cannot list '{}'", directory.display()), &cause))?;
    let start = format!("{prefix}-");
    let mut found: Vec<(String, String)> = list
        .flatten()
        .filter_map(|one| one.file_name().into_string().ok())
        .filter_map(|file| {
            let label = file.strip_suffix(".plist")?;
            Some((label.strip_prefix(&start)?.to_owned(), label.to_owned()))
        })
        .collect();
    found.sort_by_key(|(name, _)| (name != CONDUCTOR, name.clone()));
    if found.is_empty() {
        return Err(Error::new(Status::NoInput, format!("no {start}*.plist in '{}'", directory.display())));
    }
    Ok(found)
}

/// Everything that can be known to be wrong before the service is touched.
fn examine(request: &ReloadRequest, one: &One) -> Result<Ready> {
    let job = if request.location.kind == ManagerKind::Systemd || request.location.group.is_some() {
        None
    } else {
        let job = Job::read(&one.source)?;
        job.check(&one.label)?;
        if request.location.kind == ManagerKind::Launchd {
            launchd::check_file(&one.source)?;
        }
        Some(job)
    };
    let variable = |name: &str| match (&job, request.location.kind) {
        (Some(job), _) => job.variable(name).map(str::to_owned),
        (None, ManagerKind::Systemd) => {
            Systemd::new(&one.label, request.location.daemon.unwrap_or_else(Systemd::default_is_system))
                .variable(name)
        }
        (None, _) => None,
    };
    let health = health_url(&request.health, one, &variable)?;
    Ok(Ready { job, health })
}

fn health_url(
    health: &HealthOptions,
    one: &One,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Url>> {
    let wrong = |status: Status, why: String| {
        Error::new(status, format!("cannot check the health of {}: {why}", one.name))
    };
    let asked_for = health.url.is_some() || health.variable.is_some() || health.path.is_some();
    if health.none || !(asked_for || one.is_conductor) {
        return Ok(None);
    }
    if let Some(url) = &health.url {
        let url = url.to_str().ok_or_else(|| wrong(Status::Usage, "the URL is not UTF-8".to_owned()))?;
        return Url::parse(url).map(Some).map_err(|why| wrong(Status::Usage, why));
    }
    let name = health.variable.as_deref().unwrap_or(DEFAULT_VARIABLE);
    let base = match variable(name) {
        Some(base) => base,
        None if health.variable.is_none() => DEFAULT_API.to_owned(),
        None => return Err(wrong(Status::BadConfig, format!("the job does not set {name}"))),
    };
    let path = health.path.as_deref().unwrap_or(DEFAULT_PATH);
    let url = format!("{}/{}", base.trim_end_matches('/'), path.trim_start_matches('/'));
    // The value of a variable is not repeated: a URL may hold a login.
    Url::parse(&url)
        .map(Some)
        .map_err(|_| wrong(Status::BadConfig, format!("{name} of the job is not a URL")))
}

fn probe(url: &Url, demand: Demand) -> Box<dyn Probe> {
    Box::new(Http {
        request: http::Request {
            url: url.clone(),
            method: "GET".to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            redirects: false,
            want_body: false,
            trust: Trust::default(),
        },
        statuses: vec![Statuses::OK],
        contains: Vec::new(),
        json: Vec::new(),
        demand,
    })
}

fn reload_one(
    request: &ReloadRequest,
    one: &One,
    voice: &Voice,
    helper: bool,
    interrupted: &dyn Fn() -> Option<Signal>,
) -> Result<(Status, Value)> {
    let ready = examine(request, one)?;
    // Otherwise all were prepared before the first was touched.
    if request.settings.keep_going {
        one.service.prepare()?;
    }
    let files = ReloadFiles::of(&one.label)?;
    let lock = take_turn(&files, helper)?;
    let before = one.service.inspect().ok().flatten();
    if let Some(state) = before.as_ref().filter(|state| !helper && one.service.holds_us(state)) {
        drop(lock);
        let pid = handover::hand_over(&*one.service, &files)?;
        voice.note(format!(
            "{}: we run inside it; process {pid} reloads it and reports to {}",
            one.name,
            files.log().display()
        ));
        let told = json!({
            "service": one.name, "manager": one.service.manager(), "target": one.service.target(),
            "outcome": "handed-over", "exit": 0, "helper_pid": pid.number(),
            "log": files.log().to_string_lossy(), "old_pid": state.pid.map(|pid| pid.number())
        });
        return Ok((Status::Done, told));
    }
    if let (Some(job), Some(state)) = (&ready.job, &before) {
        files.remember_running(job, state);
    }
    let settings = &request.settings;
    let ask = ready.health.as_ref().map(|url| |demand: Demand| probe(url, demand));
    let service_reload = ServiceReload {
        name: one.name.clone(),
        source: one.source.clone(),
        last_good: ready.job.as_ref().and_then(|job| files.other_than(job)),
        starts_itself: ready
            .job
            .as_ref()
            .is_none_or(|job| job.run_at_load || job.keep_alive == KeepAlive::Always(true)),
        health: ask.as_ref().map(|ask| ask as &dyn Fn(Demand) -> Box<dyn Probe>),
        attempts: settings.attempts,
        delay: settings.delay,
        probe_timeout: settings.probe_timeout,
        skip_kickstart: settings.skip_kickstart,
        settle: settings.settle,
        drain: settings.drain,
        deadline: settings.timeout.map(|timeout| clock::after(Instant::now(), timeout)),
    };
    let report = reload(&service_reload, &*one.service, &Real, voice, interrupted);
    if let (Some(job), ReloadOutcome::Recovered | ReloadOutcome::RecoveredByKick) =
        (&ready.job, report.outcome)
        && let Err(error) = files.remember(job)
    {
        voice.warn(error);
    }
    Ok((report.status, tell(request, one, &ready, &report, voice)))
}

/// The turn of this reload. A helper waits for its caller to let go of the lock.
fn take_turn(files: &ReloadFiles, helper: bool) -> Result<Lock> {
    let until = Instant::now() + if helper { Duration::from_secs(5) } else { Duration::ZERO };
    loop {
        match files.lock() {
            Err(error) if error.status == Status::Busy && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10))
            }
            outcome => return outcome,
        }
    }
}

fn tell(request: &ReloadRequest, one: &One, ready: &Ready, report: &ReloadReport, voice: &Voice) -> Value {
    let registered = report.state.is_some();
    let case = Case {
        name: &one.name,
        manager: one.service.manager(),
        target: one.service.target(),
        health: ready.health.as_ref().map(Url::to_string),
        job: ready.job.as_ref(),
        report,
        repair: one.service.repair(&one.source, registered),
    };
    match report.outcome {
        ReloadOutcome::Recovered | ReloadOutcome::RecoveredByKick => {
            voice.note(format!("{}: {}", one.name, success(report, case.health.as_deref())))
        }
        _ => {
            let lines = case.lines();
            let last = lines.len() - 1;
            for (index, line) in lines.iter().enumerate() {
                if index == 0 || index == last || !request.settings.quiet {
                    say::error(line);
                }
            }
        }
    }
    case.json()
}

fn success(report: &ReloadReport, health: Option<&str>) -> String {
    let how =
        if report.outcome == ReloadOutcome::RecoveredByKick { "recovered after a kick" } else { "recovered" };
    let who = report.new.map_or(String::new(), |pid| format!(": process {pid}"));
    let what = match health {
        Some(url) => format!(" answers at {url}"),
        None if report.new.is_some() => " runs".to_owned(),
        None => " and nothing of it runs now".to_owned(),
    };
    let instead = report.old.map_or(String::new(), |pid| format!(" in place of {pid}"));
    format!("{how} in {}{who}{what}{instead}", span::show(report.elapsed))
}
