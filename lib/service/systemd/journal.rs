//! What a life of a unit has said, out of journald's journal.

use crate::service::{LifeLog, quote, run_tool};
use crate::sys::child::{Exit, Spec};
use crate::words::clean;
use crate::words::error::brief;
use std::time::{Duration, Instant};

/// How long journalctl may take: a report must not wait for a journal of gigabytes.
const PATIENCE: Duration = Duration::from_secs(3);

/// The last `count` lines of the life `life` of a unit, and of what systemd has said of it.
pub(super) fn of_life(life: &str, unit: &str, system: bool, count: usize) -> LifeLog {
    // All journals that we may read: what a user's units say is in the system's where the journal is not kept
    // on disk, or the user is one of the system's (journald.conf(5), SplitMode=). The processes' own lines,
    // or those of the manager about them (systemd.journal-fields(7)).
    let about = if system { "INVOCATION_ID" } else { "USER_INVOCATION_ID" };
    let which = [format!("_SYSTEMD_INVOCATION_ID={life}"), "+".to_owned(), format!("{about}={life}")];
    let mut arguments = ["--no-pager", "--output=cat", "--lines"].map(str::to_owned).to_vec();
    arguments.push(count.to_string());
    arguments.extend(which);
    let spec = Spec::new("journalctl", arguments);
    let tail = match run_tool("journalctl", spec, Instant::now() + PATIENCE) {
        Err(trouble) => Err(trouble.text),
        Ok(finished) => match finished.exit {
            Some(Exit::Code(0)) => {
                let told = brief(&finished.stderr);
                let lines: Vec<String> =
                    finished.stdout.lines().filter(|line| *line != "-- No entries --").map(fit).collect();
                let from = lines.len().saturating_sub(count);
                // "No journal files were found.", "You are currently not seeing messages from other users …".
                if lines.is_empty() && !told.is_empty() { Err(told) } else { Ok(lines[from..].to_vec()) }
            }
            Some(exit) if finished.stderr.trim().is_empty() => Err(format!("journalctl {exit}")),
            Some(_) => Err(brief(&finished.stderr)),
            None => Err("journalctl did not return in time".to_owned()),
        },
    };
    LifeLog { command: command(unit, system), tail }
}

/// What a person types to see all that the unit has said.
fn command(unit: &str, system: bool) -> String {
    format!("journalctl --{}unit={}", if system { "" } else { "user-" }, quote(unit))
}

/// There is no such life; what the unit has said before is shown by a command.
pub(super) fn of_none(unit: &str, system: bool) -> LifeLog {
    LifeLog { command: command(unit, system), tail: Err("no new life of it has begun".to_owned()) }
}

/// One line of a stranger, whole, made fit to be shown.
fn fit(line: &str) -> String {
    clean::lines(clean::uncoloured(line.trim_end()).as_str()).into_owned()
}
