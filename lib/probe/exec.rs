//! `exec:COMMAND`: does the command succeed?

use crate::life;
use crate::probe::{Asked, Cost, Probe, ProbeAnswer};
use crate::sys::child::{Exit, Spec};
use crate::sys::task::Cancel;
use crate::words::error::brief;
use crate::words::failure::{Class, Failure};
use std::ffi::OsString;
use std::time::Instant;

const OUTPUT_LIMIT: usize = 4096;

/// Up when the command, run by sh(1), exits with 0. At the deadline it is killed with all its children.
pub struct Exec {
    command: OsString,
    cancelled: Cancel,
}

impl Exec {
    /// A question that `command`, a line for sh(1), answers by its status.
    pub fn new(command: OsString) -> Exec {
        Exec { command, cancelled: Cancel::default() }
    }
}

impl Exec {
    async fn run(&self, deadline: Instant) -> Result<ProbeAnswer, Failure> {
        let spec = Spec::new("/bin/sh", [OsString::from("-c"), self.command.clone()]);
        let finished = life::run_whole(spec, deadline, OUTPUT_LIMIT, &self.cancelled)
            .await
            .map_err(|error| Failure::new(Class::Other, error.to_string()))?;
        let said = brief(if finished.stderr.trim().is_empty() { &finished.stdout } else { &finished.stderr });
        let with = |text: String| if said.is_empty() { text } else { format!("{text}: {said}") };
        match finished.exit {
            Some(Exit::Code(0)) => Ok(ProbeAnswer::default()),
            // A command that cannot be run says nothing about the target, least of all that it is down.
            Some(Exit::Code(code @ (126 | 127))) => {
                Err(Failure::new(Class::Other, with(format!("the command cannot be run ({code})"))))
            }
            Some(exit @ Exit::Code(_)) => Err(Failure::new(Class::Down, with(format!("the command {exit}")))),
            Some(exit) => Err(Failure::new(Class::Other, with(format!("the command was {exit}")))),
            None => Err(Failure::timeout("running the command")),
        }
    }
}

impl Probe for Exec {
    fn ask(&self, deadline: Instant) -> Asked<'_> {
        Box::pin(self.run(deadline))
    }

    fn cost(&self) -> Cost {
        Cost::Process
    }

    fn cancel(&self) {
        self.cancelled.set();
    }
}
