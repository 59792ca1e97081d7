//! What can be known to be wrong before a service is touched; and what would be done.

use super::diagnosis::SCHEMA;
use super::request::{HealthOptions, ReloadRequest};
use super::services::{NamedService, services};
use crate::service::job::Job;
use crate::sys::http::Url;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use serde_json::{Value, json};

/// What conductor falls back to, as the script did (BAA_RUNTIME_DEFAULT_LOCAL_API).
const DEFAULT_API: &str = "http://127.0.0.1:4317";
const DEFAULT_VARIABLE: &str = "BAA_CONDUCTOR_LOCAL_API";
const DEFAULT_PATH: &str = "/healthz";

/// One service that was found fit to be reloaded.
pub(super) struct Ready {
    pub(super) job: Option<Job>,
    pub(super) health: Option<Url>,
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

/// Everything that can be known to be wrong before the service is touched.
pub(super) fn examine(request: &ReloadRequest, one: &NamedService) -> Result<Ready> {
    let job = one.service.definition(&one.source)?;
    let health = health_of(request, one, job.as_ref())?;
    Ok(Ready { job, health })
}

/// Where the health of the service is asked for, when it runs as `job` says.
pub(super) fn health_of(
    request: &ReloadRequest,
    one: &NamedService,
    job: Option<&Job>,
) -> Result<Option<Url>> {
    let variable = |name: &str| one.service.variable(job, name);
    health_url(&request.health, one, &variable)
}

fn health_url(
    health: &HealthOptions,
    one: &NamedService,
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
