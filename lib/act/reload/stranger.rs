//! Answers of processes that have no part in the job: a proxy before it, or whoever has taken its port.

use super::{Halt, HealthQuestion, PortHolder, Reload, ReloadOutcome};
use crate::probe::demand::Demand;
use crate::probe::{Probe, ProbeAnswer};
use crate::service::{JobState, Service};
use crate::sys::process::{Age, Pid, Start, Table};
use crate::words::exit::Status;
use crate::words::failure::Failure;
use std::time::{Duration, Instant};

/// How long it may take to find out who listens.
const LOOK: Duration = Duration::from_secs(1);

/// What is to be done where the answers are those of a proxy.
pub(super) const PROXY_HINT: &str = "; if that is a proxy before it, give --any-process";

/// What was seen of the answers that a process gave in a round that has no part in the job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Strangers {
    /// Who answered well when it was last looked, and in which attempt. A proxy may answer from another of
    /// its processes each time, and badly for as long as the job starts: the last answers count.
    pub(super) last: Option<(Pid, u32)>,
}

/// Anybody, who has to be named.
fn whoever() -> Demand {
    Demand { newer_than: Some(Age::Tick(Start(0))), ..Demand::default() }
}

impl Reload<'_> {
    /// Looks, once in each attempt, whether the process that answered in the job's place answers well.
    pub(super) fn regard(
        &mut self,
        seen: Strangers,
        attempt: u32,
        health: HealthQuestion<'_>,
        until: Instant,
    ) -> Result<Strangers, Halt> {
        if seen.last.is_some_and(|(_, last)| last == attempt) {
            return Ok(seen);
        }
        self.report.probes += 1;
        let answer: Result<ProbeAnswer, Failure> = self.ask(&health(whoever()), until)?;
        let other = answer.ok().and_then(|answer| answer.pid).filter(|pid| !self.is_old(*pid));
        // Whoever answers well in the place of the job, nothing shows that its version is bad.
        self.outdone |= other.is_some();
        Ok(Strangers { last: other.map(|pid| (pid, attempt)) })
    }

    fn is_old(&self, pid: Pid) -> bool {
        self.old.is_some_and(|old| old.pid == pid)
    }

    /// How a round ends in which a stranger gave all the answers: a kick would change nothing.
    pub(super) fn answered_elsewhere(&mut self, pid: Pid, job: Option<Pid>) -> Halt {
        let job = job.map_or(String::new(), |pid| format!(" (process {pid})"));
        Halt {
            outcome: ReloadOutcome::Unhealthy,
            status: Status::Unavailable,
            reason: format!(
                "it did not recover: answered by {}, not by the job{job}{PROXY_HINT}",
                PortHolder::of(pid)
            ),
        }
    }

    /// Who listens where the health of the job is asked for, if that has no part in the job.
    pub(super) fn stranger(&self) -> Option<PortHolder> {
        stranger(self.service, &*self.version.health?(Demand::default()))
    }
}

/// Who listens where `health` asks, if that has no part in the job of `service`.
pub(super) fn stranger(service: &dyn Service, health: &dyn Probe) -> Option<PortHolder> {
    let pid = health.holder(Instant::now() + LOOK)?;
    let holder = PortHolder::of(pid);
    // The job is looked at after: it may have been started meanwhile.
    let state: Option<JobState> = service.inspect_until(Instant::now() + LOOK).ok()?;
    let own = state.as_ref().map_or_else(Vec::new, JobState::processes);
    let is_own = Table::read().trees(&own).iter().any(|one| one.pid == pid);
    (!is_own && crate::sys::process::exists(pid)).then_some(holder)
}
