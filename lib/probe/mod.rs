//! One question each, asked once, with a deadline: does it answer, and who answers?

pub mod demand;
pub mod dns;
pub mod exec;
pub mod file;
pub mod http;
pub mod inquiry;
pub mod json;
pub mod lineage;
pub mod liveness;
pub mod pace;
pub mod pattern;
mod pointed;
pub mod process;
pub mod record;
pub mod server;
pub mod tcp;
pub mod unix;

use crate::sys::net::{Endpoint, NetReach};
use crate::sys::process::Pid;
use crate::sys::task;
use crate::words::failure::Failure;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

/// What a successful probe saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// The process that answered, where it was asked for.
    pub pid: Option<Pid>,
    /// The HTTP status.
    pub http_status: Option<u16>,
    /// Who else may have answered, in words, where that is put up with.
    pub doubt: Option<String>,
}

/// How often a target may be asked while it is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// A system call or two on this machine: every few milliseconds.
    Local,
    /// Packets to a machine or a container on a private network: many times a second for a while.
    Near,
    /// Packets to another machine: politely.
    Remote,
    /// A process to start: now and then.
    Process,
}

impl Cost {
    /// What it costs to connect to `endpoint`, as far as is known without asking anybody.
    pub fn of(endpoint: &Endpoint) -> Cost {
        match endpoint.reach() {
            NetReach::Own => Cost::Local,
            NetReach::Near => Cost::Near,
            NetReach::Far => Cost::Remote,
        }
    }
}

/// A question that has been asked: a task for `sys::task`.
pub type Asked<'a> = Pin<Box<dyn Future<Output = Result<ProbeAnswer, Failure>> + 'a>>;

/// A question that can be asked again and again.
pub trait Probe: Send + Sync {
    /// Asks once; is over at `deadline` or a few milliseconds later whatever the other side does. Dropped
    /// before, it leaves nothing running.
    ///
    /// # Errors
    /// Why it is not up, as far as can be told.
    fn ask(&self, deadline: Instant) -> Asked<'_>;

    /// The same for a thread that does nothing else meanwhile.
    ///
    /// # Errors
    /// As `ask`.
    fn ask_now(&self, deadline: Instant) -> Result<ProbeAnswer, Failure> {
        task::block_on(self.ask(deadline))
    }

    /// What asking costs, as far as is known: a name that was resolved may be nearer than it looked.
    fn cost(&self) -> Cost;

    /// The process that is asked, whoever it is and whatever it answers; `None` where nobody is, or it cannot
    /// be told.
    fn holder(&self, _deadline: Instant) -> Option<Pid> {
        None
    }

    /// Where a connection is made, if one is: a listener on this machine can be seen in the kernel's tables.
    fn endpoint(&self) -> Option<Endpoint> {
        None
    }

    /// Waits after a question that found it down, until asking again may be of use: for `pause`, or longer
    /// where a cheaper sign of life is watched.
    fn doze(&self, pause: Duration) {
        pace::doze(self.endpoint().as_ref(), pause);
    }

    /// Makes an `ask_now` that runs in another thread return within milliseconds, if what it has running
    /// would outlive this process.
    fn cancel(&self) {}
}
