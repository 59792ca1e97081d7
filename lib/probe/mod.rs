//! One question each, asked once, with a deadline: does it answer, and who answers?

pub mod demand;
pub mod dns;
pub mod exec;
pub mod file;
pub mod http;
pub mod pace;
pub mod process;
pub mod tcp;
pub mod unix;

use crate::sys::process::Pid;
use crate::words::failure::Failure;
use std::time::{Duration, Instant};

/// What a successful probe saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// The process that answered, where it was asked for.
    pub pid: Option<Pid>,
    /// The HTTP status.
    pub http_status: Option<u16>,
}

/// How often a target may be asked while it is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// A system call or two on this machine: every few milliseconds.
    Local,
    /// Packets to another machine: politely.
    Remote,
    /// A process to start: now and then.
    Process,
}

/// A question that can be asked again and again.
pub trait Probe: Send + Sync {
    /// Asks once; returns at `deadline` or a few milliseconds later whatever the other side does.
    ///
    /// # Errors
    /// Why it is not up, as far as can be told.
    fn ask(&self, deadline: Instant) -> Result<ProbeAnswer, Failure>;

    /// What asking costs.
    fn cost(&self) -> Cost;

    /// Whether it answers at once whatever is, so that nobody need stand by for a signal meanwhile.
    fn is_instant(&self) -> bool {
        false
    }

    /// The process that is asked, whoever it is and whatever it answers; `None` where nobody is, or it cannot
    /// be told.
    fn holder(&self, _deadline: Instant) -> Option<Pid> {
        None
    }

    /// Waits after an `ask` that found it down, until asking again may be of use: for `pause`, or longer
    /// where a cheaper sign of life is watched.
    fn doze(&self, pause: Duration) {
        std::thread::sleep(pause);
    }

    /// Makes an `ask` that runs in another thread return within milliseconds, if what it has running would
    /// outlive this process.
    fn cancel(&self) {}
}
