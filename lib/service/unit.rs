//! `launchd:LABEL` and `systemd:UNIT`: a manager's word for a job as the answer to a probe.

use crate::probe::{Cost, Probe, ProbeAnswer};
use crate::service::{Phase, Service, TroubleClass};
use crate::words::failure::{self, Failure};
use std::time::Instant;

/// Up while the manager says that a process of the job runs.
pub struct Unit {
    service: Box<dyn Service + Send + Sync>,
}

impl Unit {
    /// A question to the manager of `service`.
    pub fn new(service: Box<dyn Service + Send + Sync>) -> Unit {
        Unit { service }
    }
}

impl Probe for Unit {
    fn ask(&self, deadline: Instant) -> Result<ProbeAnswer, Failure> {
        match self.service.inspect_until(deadline) {
            Ok(Some(state)) if state.phase == Phase::Running => {
                Ok(ProbeAnswer { pid: state.pid, ..ProbeAnswer::default() })
            }
            Ok(Some(state)) if state.phase == Phase::Stopping => Err(Failure::new(
                failure::Class::Other,
                format!("{} is {}", self.service.target(), state.word),
            )),
            Ok(Some(state)) => {
                let cause = state.cause.map_or(String::new(), |cause| format!(": {cause}"));
                Err(Failure::new(
                    failure::Class::Down,
                    format!("{} is {}{cause}", self.service.target(), state.word),
                ))
            }
            Ok(None) => Err(Failure::new(
                failure::Class::Missing,
                format!("{} is not known to {}", self.service.target(), self.service.manager()),
            )),
            Err(trouble) => {
                let class = if trouble.class == TroubleClass::Retry {
                    failure::Class::Timeout
                } else {
                    failure::Class::Other
                };
                Err(Failure::new(class, trouble.text))
            }
        }
    }

    fn cost(&self) -> Cost {
        Cost::Process
    }
}
