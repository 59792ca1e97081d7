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

/// A range of statuses of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatuses {
    first: i32,
    last: i32,
}

impl ExitStatuses {
    /// What a command succeeds with.
    pub const SUCCESS: ExitStatuses = ExitStatuses { first: 0, last: 0 };

    /// Reads `2` or `2-5`.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<ExitStatuses, String> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let number = |text: &str| text.parse::<u8>().ok().filter(|_| digits(text)).map(i32::from);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Ok(ExitStatuses { first, last }),
            _ => Err(format!("'{text}' is not a status of a command; write 2 or 2-5, up to 255")),
        }
    }
}

/// Up when the command, run by sh(1), exits with 0, or with one of the statuses that were given. At the
/// deadline it is killed with all its children.
pub struct Exec {
    command: OsString,
    good: Vec<ExitStatuses>,
    cancelled: Cancel,
}

impl Exec {
    /// A question that `command`, a line for sh(1), answers by its status: yes is one of `good`.
    pub fn new(command: OsString, good: Vec<ExitStatuses>) -> Exec {
        Exec { command, good, cancelled: Cancel::default() }
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
            Some(Exit::Code(code))
                if self.good.iter().any(|good| (good.first..=good.last).contains(&code)) =>
            {
                Ok(ProbeAnswer::default())
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_statuses_of_commands() {
        assert_eq!(ExitStatuses::parse("0"), Ok(ExitStatuses::SUCCESS));
        assert_eq!(ExitStatuses::parse("2-255"), Ok(ExitStatuses { first: 2, last: 255 }));
        for text in ["", "256", "-1", "+1", "3-2", "1-", "x"] {
            assert!(ExitStatuses::parse(text).is_err(), "{text}");
        }
    }
}
