//! What must not be shown of a service, in whatever is told of it.

use super::health::HealthCheck;
use super::log_tail::LOG_LINES;
use super::services::NamedService;
use super::{ReloadReport, unfinished::UnfinishedReload};
use crate::service::job::Job;
use crate::service::{JobCause, JobState, LifeLog, Registration, Service};
use crate::sys::redact::Redactor;

/// Of the service `one`: the secrets of its environment as `job` and as `kept`, the last version that worked,
/// have it, and those of the question about its health.
pub(super) fn redactor(
    one: &NamedService,
    job: Option<&Job>,
    health: Option<&HealthCheck>,
    kept: Option<&Job>,
) -> Redactor {
    let mut environment = one.service.environment(job);
    environment.extend(kept.iter().flat_map(|kept| kept.environment.iter().cloned()));
    let secrets = health.map_or_else(Vec::new, HealthCheck::secrets);
    let mut shown = names(&*one.service, &one.name, &one.label, &one.source.to_string_lossy());
    shown.extend(health.and_then(HealthCheck::place));
    Redactor::new(&environment, &secrets, &shown)
}

/// Of a reload that was cut off.
pub(super) fn redactor_of(plan: &UnfinishedReload, service: &dyn Service) -> Redactor {
    let job = service.definition(&plan.source).ok().flatten();
    let shown = names(service, &plan.name, &plan.label, &plan.source.to_string_lossy());
    Redactor::new(&service.environment(job.as_ref()), &[], &shown)
}

/// Why a job does not run, without secrets.
pub(super) fn cause(mut cause: JobCause, redactor: &Redactor) -> JobCause {
    redactor.owned(&mut cause.words);
    redactor.owned(&mut cause.remedy);
    cause
}

/// What the life `life` of a job has said, where its manager keeps that.
pub(super) fn life_log(service: &dyn Service, life: Option<&str>, redactor: &Redactor) -> Option<LifeLog> {
    let mut log = service.life_log(life, LOG_LINES)?;
    log.tail.iter_mut().flatten().for_each(|line| redactor.owned(line));
    Some(log)
}

/// What is told of it in any case.
fn names(service: &dyn Service, name: &str, label: &str, source: &str) -> Vec<String> {
    [name, label, source, service.manager()]
        .map(str::to_owned)
        .into_iter()
        .chain([service.target()])
        .collect()
}

impl ReloadReport {
    /// Takes what must not be shown out of what others have said.
    pub(super) fn redact(&mut self, redactor: &Redactor) {
        self.reason.iter_mut().for_each(|reason| redactor.owned(reason));
        self.last_failure.iter_mut().for_each(|failure| redactor.owned(&mut failure.text));
        match &mut self.known {
            Registration::Registered(state) => state.redact(redactor),
            Registration::Unknown(why) => redactor.owned(why),
            Registration::NotRegistered => {}
        }
    }
}

impl JobState {
    fn redact(&mut self, redactor: &Redactor) {
        redactor.owned(&mut self.word);
        self.last_exit.iter_mut().for_each(|exit| redactor.owned(exit));
        self.details.iter_mut().for_each(|(_, text)| redactor.owned(text));
        self.cause = self.cause.take().map(|found| cause(found, redactor));
    }
}
