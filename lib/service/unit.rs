//! `launchd:LABEL` and `systemd:UNIT`: a manager's word for a job as the answer to a probe.

use crate::probe::{Asked, Cost, Probe, ProbeAnswer};
use crate::service::{Phase, Service, TroubleClass};
use crate::sys::task::pool::Pool;
use crate::words::failure::{self, Failure};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A manager is asked by a tool of its own, which only a thread can wait for; at most so many at once.
static MANAGERS: Pool = Pool::new(8);

/// How long behind the deadline the tool may take to end.
const SLACK: Duration = Duration::from_millis(20);

/// Up while the manager says that a process of the job runs.
pub struct Unit {
    service: Arc<dyn Service + Send + Sync>,
}

impl Unit {
    /// A question to the manager of `service`.
    pub fn new(service: Box<dyn Service + Send + Sync>) -> Unit {
        Unit { service: service.into() }
    }

    async fn inspect(&self, deadline: Instant) -> Result<ProbeAnswer, Failure> {
        let service = Arc::clone(&self.service);
        let job = MANAGERS
            .run(move || service.inspect_until(deadline))
            .map_err(|cause| Failure::io("cannot start a thread to ask the manager", &cause))?;
        // The tool is ended at the deadline, and tells of it.
        let Some(state) = job.result(deadline + SLACK).await else {
            let manager = self.service.manager();
            let doing = if job.begun() { "asking" } else { "waiting to ask" };
            return Err(Failure::timeout(&format!("{doing} {manager}")));
        };
        match state {
            Ok(Some(state)) if state.phase == Phase::Running => {
                Ok(ProbeAnswer { pid: state.pid, http_status: None })
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
}

impl Probe for Unit {
    fn ask(&self, deadline: Instant) -> Asked<'_> {
        Box::pin(self.inspect(deadline))
    }

    fn cost(&self) -> Cost {
        Cost::Process
    }
}
