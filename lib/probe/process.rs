//! `pid:N`: does that process live?

use crate::probe::demand::Demand;
use crate::probe::{Asked, Cost, Probe, ProbeAnswer};
use crate::sys::process::{Identity, Pid, ProcessSight};
use crate::words::failure::{Class, Failure};
use std::sync::OnceLock;
use std::time::Instant;

/// Up while the process lives that first was seen under the pid; a zombie is dead, and so is one whose pid
/// another has now.
pub struct Process {
    pid: Pid,
    demand: Demand,
    seen: OnceLock<Identity>,
}

impl Process {
    /// A question about `pid`; only one that meets `demand` counts.
    pub fn new(pid: Pid, demand: Demand) -> Process {
        Process { pid, demand, seen: OnceLock::new() }
    }
}

impl Process {
    fn look(&self) -> Result<ProbeAnswer, Failure> {
        match Identity::sight(self.pid) {
            ProcessSight::Lives(who) if *self.seen.get_or_init(|| who) == who => {
                self.demand.judge_age(self.pid)?;
                Ok(ProbeAnswer { pid: Some(self.pid), ..ProbeAnswer::default() })
            }
            ProcessSight::Lives(_) => Err(Failure::new(
                Class::Missing,
                format!("process {} is gone; another has its pid", self.pid),
            )),
            ProcessSight::Gone => Err(Failure::new(Class::Missing, format!("no process {}", self.pid))),
            // Whether it lives nobody can tell, so it is neither up nor down.
            ProcessSight::Unseen(why) => {
                Err(Failure::new(Class::UnknownProcess, format!("process {} exists, but {why}", self.pid)))
            }
        }
    }
}

impl Probe for Process {
    fn ask(&self, _: Instant) -> Asked<'_> {
        Box::pin(async { self.look() })
    }

    fn cost(&self) -> Cost {
        Cost::Local
    }
}
