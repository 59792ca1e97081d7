//! How the health of a service is asked for: what is asked, what must be answered, and by whom.

use super::request::{HealthOptions, ReloadRequest};
use super::services::NamedService;
use crate::probe::Probe;
use crate::probe::demand::Demand;
use crate::probe::http::Statuses;
use crate::service::expectation::header_secrets;
use crate::service::job::Job;
use crate::service::quote;
use crate::service::target::{TargetOptions, TargetQuestion};
use crate::sys::http::Url;
use crate::sys::redact;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// What conductor falls back to, as the script did (BAA_RUNTIME_DEFAULT_LOCAL_API).
const DEFAULT_API: &str = "http://127.0.0.1:4317";
const DEFAULT_VARIABLE: &str = "BAA_CONDUCTOR_LOCAL_API";
const DEFAULT_PATH: &str = "/healthz";

/// The question whether a service is healthy. It is shown without secrets.
#[derive(Clone)]
pub struct HealthCheck {
    question: TargetQuestion,
    options: TargetOptions,
    any_process: bool,
}

impl HealthCheck {
    /// The question; a good answer counts only from whom `demand` asks for, where that can be told and is of
    /// interest. The answer names its process where it was.
    pub fn ask(&self, demand: Demand) -> Arc<dyn Probe> {
        let told = !self.any_process && self.question.tells_process(&demand);
        self.question.probe(&self.options, &if told { demand } else { Demand::default() })
    }

    /// What of it must not be shown, wherever it occurs.
    pub fn secrets(&self) -> Vec<String> {
        let mut secrets = header_secrets(&self.options.http.headers);
        if let TargetQuestion::Http(url) = &self.question {
            secrets.extend(url.secrets());
        }
        if let TargetQuestion::Server(url) = &self.question {
            secrets.extend(url.password.iter().map(|password| password.reveal().to_owned()));
        }
        secrets
    }

    /// The host that is asked, if one is.
    pub fn place(&self) -> Option<String> {
        match &self.question {
            TargetQuestion::Http(url) => Some(url.endpoint().to_string()),
            TargetQuestion::Tcp(host, _) => Some(host.clone()),
            TargetQuestion::Server(url) => Some(url.endpoint.to_string()),
            _ => None,
        }
    }

    /// A command that asks the same once the service is up.
    pub fn command(&self, options: &HealthOptions) -> String {
        let mut words = vec!["baa-healthwait".to_owned()];
        if let TargetQuestion::Http(_) = &self.question {
            if options.expectation.statuses.is_empty() {
                words.extend(["--status".to_owned(), Statuses::OK.to_string()]);
            }
            words.extend(options.expectation.flags());
        }
        words.push(quote(self.to_string()));
        words.join(" ")
    }
}

impl fmt::Display for HealthCheck {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.question {
            TargetQuestion::Http(url) => write!(out, "{url}"),
            TargetQuestion::Tcp(host, port) if host.contains(':') => write!(out, "tcp://[{host}]:{port}"),
            TargetQuestion::Tcp(host, port) => write!(out, "tcp://{host}:{port}"),
            TargetQuestion::Unix(path) => write!(out, "unix:{}", path.display()),
            TargetQuestion::Exec(command) => {
                write!(out, "exec:{}", redact::urls(&command.to_string_lossy()))
            }
            TargetQuestion::File(path) => write!(out, "file:{}", path.display()),
            TargetQuestion::Server(url) => write!(out, "{url}"),
            // None of these is taken.
            TargetQuestion::Dns(_)
            | TargetQuestion::Record(_)
            | TargetQuestion::Process(_)
            | TargetQuestion::Unit(_) => Ok(()),
        }
    }
}

impl fmt::Debug for HealthCheck {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl HealthOptions {
    /// Whether they say where to ask.
    fn names_a_place(&self) -> bool {
        self.url.is_some() || self.variable.is_some() || self.path.is_some() || self.unix.is_some()
    }
}

/// Refuses what is said of an answer that nobody asks for.
///
/// # Errors
/// 2.
pub(super) fn check(request: &ReloadRequest, ones: &[NamedService]) -> Result<()> {
    let health = &request.health;
    let asks = !health.none && (health.names_a_place() || ones.iter().any(|one| one.is_conductor));
    if health.expects && !asks {
        let why = "cannot use what is said of the answer: nothing is asked; give --health-url, --health-env, \
                   --health-path or --health-unix";
        return Err(Error::new(Status::Usage, why));
    }
    Ok(())
}

/// How the health of the service is asked for, when it runs as `job` says.
///
/// # Errors
/// 2 for what cannot be asked, 78 for a variable of the job that says none; those of
/// `HttpExpectation::options`.
pub(super) fn health_of(
    request: &ReloadRequest,
    one: &NamedService,
    job: Option<&Job>,
) -> Result<Option<HealthCheck>> {
    let health = &request.health;
    if health.none || !(health.names_a_place() || one.is_conductor) {
        return Ok(None);
    }
    let doing = || format!("cannot check the health of {}", one.name);
    let question = question(health, &|| one.service.environment(job))
        .map_err(|(status, why)| Error::new(status, format!("{}: {why}", doing())))?;
    let options = health.expectation.options(Statuses::OK).map_err(|error| error.context(doing()))?;
    Ok(Some(HealthCheck { question, options: options.into(), any_process: health.any_process }))
}

fn question(
    health: &HealthOptions,
    environment: &dyn Fn() -> Vec<(String, String)>,
) -> std::result::Result<TargetQuestion, (Status, String)> {
    let path = health.path.as_deref().unwrap_or(DEFAULT_PATH);
    let at = |base: &str| format!("{}/{}", base.trim_end_matches('/'), path.trim_start_matches('/'));
    let usage = |why: String| (Status::Usage, why);
    if let Some(target) = &health.url {
        return taken(target).map_err(usage);
    }
    if let Some(socket) = &health.unix {
        return over_unix(socket, &at).map(TargetQuestion::Http).map_err(usage);
    }
    let name = health.variable.as_deref().unwrap_or(DEFAULT_VARIABLE);
    let value = environment().into_iter().rev().find(|(key, _)| key == name).map(|(_, value)| value);
    let base = match value {
        Some(base) => base,
        None if health.variable.is_none() => DEFAULT_API.to_owned(),
        None => return Err((Status::BadConfig, format!("the job does not set {name}"))),
    };
    // The value of a variable is not repeated: a URL may hold a login.
    Url::parse(&at(&base))
        .map(TargetQuestion::Http)
        .map_err(|_| (Status::BadConfig, format!("{name} of the job is not a URL")))
}

/// A question that says whether a service is healthy.
fn taken(target: &OsStr) -> std::result::Result<TargetQuestion, String> {
    let question = TargetQuestion::parse(target).map_err(|why| match target.to_str() {
        Some(_) => why,
        None => "the URL is not UTF-8".to_owned(),
    })?;
    match question {
        TargetQuestion::Dns(_)
        | TargetQuestion::Record(_)
        | TargetQuestion::Process(_)
        | TargetQuestion::Unit(_) => {
            Err("a name, a process or a unit does not say whether the job is healthy".to_owned())
        }
        other => Ok(other),
    }
}

fn over_unix(socket: &Path, at: &dyn Fn(&str) -> String) -> std::result::Result<Url, String> {
    let absolute = std::path::absolute(socket).map_err(|cause| crate::words::error::reason(&cause))?;
    let escaped: String = absolute.as_os_str().as_bytes().iter().map(|byte| format!("%{byte:02X}")).collect();
    Url::parse(&at(&format!("http+unix://{escaped}")))
}
