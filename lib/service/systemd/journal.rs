//! What a life of a unit has said, out of journald's journal.

use crate::service::{LifeLog, quote, run_tool};
use crate::sys::child::{Exit, Spec};
use crate::words::clean;
use crate::words::error::brief;
use serde_json::Value;
use std::time::{Duration, Instant, SystemTime};

/// How long journalctl may take: a report must not wait for a journal of gigabytes.
const PATIENCE: Duration = Duration::from_secs(3);
/// The messages by which systemd says that a start is done with, and that it was skipped (sd-messages(3)).
const FINISHED: &str = "39f53479d3a045ac8e11786248231fbf";
const SKIPPED: &str = "0e4284a0caca4bfc81c0bb6786972673";

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

/// There is no such life: what systemd has said of the unit `since` then tells why; what the unit has said
/// before is shown by a command.
pub(super) fn of_none(unit: &str, system: bool, since: Option<SystemTime>, count: usize) -> LifeLog {
    let found = since.map_or(Vec::new(), |since| {
        let mut arguments = vec!["--output=cat".to_owned(), format!("--lines={count}")];
        arguments.push(about(unit, system));
        told(arguments, since, deadline()).map_or(Vec::new(), |text| text.lines().map(fit).collect())
    });
    let tail = if found.is_empty() { Err("no new life of it has begun".to_owned()) } else { Ok(found) };
    LifeLog { command: command(unit, system), tail }
}

/// How systemd's own messages name the unit (systemd.journal-fields(7)).
fn about(unit: &str, system: bool) -> String {
    format!("{}={unit}", if system { "UNIT" } else { "USER_UNIT" })
}

/// By when journalctl has answered.
pub(super) fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// Whether systemd has said, `since` then, that it has finished a start of the unit, and that is none which
/// an unmet condition has skipped.
pub(super) fn tells_of_a_run(unit: &str, system: bool, since: SystemTime, until: Instant) -> bool {
    let life = if system { "INVOCATION_ID" } else { "USER_INVOCATION_ID" };
    let mut arguments = vec!["--output=json".to_owned(), format!("--output-fields=MESSAGE_ID,{life}")];
    let ids = [FINISHED, SKIPPED].map(|id| format!("MESSAGE_ID={id}"));
    arguments.push(about(unit, system));
    arguments.extend(ids);
    let Some(text) = told(arguments, since, until) else { return false };
    // A start of which a condition is not met has no life; one that ExecCondition= has ended has one.
    let mut finished: Vec<String> = Vec::new();
    for entry in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let Some(one) = entry[life].as_str().map(str::to_owned) else { continue };
        if entry["MESSAGE_ID"] == FINISHED {
            finished.push(one);
        } else {
            return false;
        }
    }
    !finished.is_empty()
}

/// What journalctl tells of the time since then.
fn told(mut arguments: Vec<String>, since: SystemTime, until: Instant) -> Option<String> {
    let since = since.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    arguments.insert(0, "--no-pager".to_owned());
    arguments.insert(1, format!("--since=@{}.{:06}", since.as_secs(), since.subsec_micros()));
    let finished = run_tool("journalctl", Spec::new("journalctl", arguments), until).ok()?;
    (finished.exit == Some(Exit::Code(0))).then_some(finished.stdout)
}

/// One line of a stranger, whole, made fit to be shown.
fn fit(line: &str) -> String {
    clean::lines(clean::uncoloured(line.trim_end()).as_str()).into_owned()
}
