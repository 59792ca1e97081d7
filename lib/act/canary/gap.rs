//! What a canary left that was killed: the time in which nobody watched, told in the log by whoever arms
//! next.

use crate::act::canary::arming::{self, Armed, Condition};
use crate::act::canary::cause::{self, Cause, Evidence};
use crate::act::canary::record::{self, Death, RecordDirectory};
use crate::words::error::{Error, Result};
use crate::words::logfmt;
use std::time::SystemTime;

/// Closes every gap of `place`: a death by reboot or unseen becomes a record, a process that lived on
/// unwatched a line `ev=canary-gap`. Says what was found.
///
/// # Errors
/// When it cannot be recorded; the gaps stay open then.
pub fn close(records: &RecordDirectory) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for armed in arming::all(records) {
        let condition = armed.condition();
        if condition == Condition::Armed {
            continue;
        }
        let Some(left) = armed.inherit() else { continue };
        record::write(records, &line(&armed, condition), || ()).map_err(|cause| {
            Error::io(format!("cannot record a gap in {}", records.log().display()), &cause)
        })?;
        left.end();
        found.push(format!("{} (process {}): {}", armed.identity, armed.who.pid, condition.word()));
    }
    Ok(found)
}

fn line(armed: &Armed, condition: Condition) -> String {
    let now = SystemTime::now();
    if condition == Condition::Unwatched {
        let mut line = String::new();
        let fields = [
            ("ts", crate::words::stamp::seconds(now)),
            ("ev", "canary-gap".to_owned()),
            ("identity", armed.identity.clone()),
            ("server_pid", armed.who.pid.to_string()),
            ("canary_pid", armed.canary.pid.to_string()),
            ("armed", armed.since.clone()),
            ("host", "baa-canary".to_owned()),
        ];
        fields.iter().for_each(|(key, value)| logfmt::field(&mut line, key, value));
        return line;
    }
    let mut verdict = cause::judge(
        armed.who.pid,
        &Evidence { rebooted: condition == Condition::Rebooted, ..Evidence::default() },
    );
    if verdict.cause == Cause::Unknown {
        verdict.evidence = vec![format!("unseen: its canary was killed after {}", armed.since)];
    }
    let socket = armed.socket.as_ref().map(|path| path.to_string_lossy().into_owned());
    Death {
        identity: armed.identity.clone(),
        pid: armed.who.pid.number(),
        socket,
        at: now,
        ending: None,
        verdict,
        forensics: None,
    }
    .line()
}
