//! What can be known to be wrong before a service is touched; and what would be done.

use super::diagnosis::SCHEMA;
use super::health::{self, HealthCheck, health_of};
use super::request::ReloadRequest;
use super::secrets;
use super::services::{NamedService, services};
use crate::service::job::Job;
use crate::words::error::Result;
use serde_json::{Value, json};

/// One service that was found fit to be reloaded.
pub(super) struct Ready {
    pub(super) job: Option<Job>,
    pub(super) health: Option<HealthCheck>,
}

/// What would be done with one service.
#[derive(Debug)]
struct ServicePlan {
    name: String,
    commands: Vec<String>,
    /// What is asked, and a command that asks it.
    health: Option<(String, String)>,
}

/// What would be done.
#[derive(Debug)]
pub struct ReloadPlan(Vec<ServicePlan>);

impl ReloadPlan {
    /// As commands that a person could type.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        for one in &self.0 {
            lines.push(format!("# {}", one.name));
            lines.extend(one.commands.iter().cloned());
            lines.extend(one.health.iter().map(|(_, command)| command.clone()));
        }
        lines.join("\n")
    }

    /// As a JSON object.
    pub fn json(&self) -> Value {
        let plan: Vec<Value> = self
            .0
            .iter()
            .map(|one| {
                let health = one.health.as_ref();
                json!({
                    "service": one.name, "commands": one.commands,
                    "health": health.map(|(asked, _)| asked),
                    "health_command": health.map(|(_, command)| command)
                })
            })
            .collect();
        json!({ "schema": SCHEMA, "dry_run": true, "services": plan })
    }
}

/// Checks the files and says what would be done; asks and touches no service.
///
/// # Errors
/// As `carry_out` before anything is touched.
pub fn plan(request: &ReloadRequest) -> Result<ReloadPlan> {
    let ones = services(request, None)?;
    health::check(request, &ones)?;
    let mut plan = Vec::new();
    for one in ones {
        let ready = examine(request, &one)?;
        let redactor = secrets::redactor(&one, ready.job.as_ref(), ready.health.as_ref(), None);
        let clean = |text: String| redactor.text(&text).into_owned();
        plan.push(ServicePlan {
            name: one.name.clone(),
            commands: one.service.plan(&one.source).into_iter().map(clean).collect(),
            health: ready
                .health
                .map(|health| (clean(health.to_string()), clean(health.command(&request.health)))),
        });
    }
    Ok(ReloadPlan(plan))
}

/// Everything that can be known to be wrong before the service is touched.
pub(super) fn examine(request: &ReloadRequest, one: &NamedService) -> Result<Ready> {
    let job = one.service.definition(&one.source)?;
    let health = health_of(request, one, job.as_ref())?;
    Ok(Ready { job, health })
}
