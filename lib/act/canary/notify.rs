//! What is run after a record: a shell command, with the record in its environment and as JSON on its
//! standard input.

use crate::act::canary::record::{Death, RecordDirectory};
use crate::life::{self, Finished};
use crate::sys::child::Spec;
use crate::sys::child::Stdio;
use crate::words::error::{Error, Result, brief, reason};
use crate::words::exit::Status;
use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Runs `command`, which may take `limit`.
///
/// # Errors
/// When it failed or took too long.
pub fn run(command: &str, limit: Duration, death: &Death, records: &RecordDirectory) -> Result<()> {
    let failed = |why: String| Error::new(Status::Io, format!("the command after the record failed: {why}"));
    let finished = start(command, limit, death, records).map_err(|cause| failed(reason(&cause)))?;
    match finished.exit {
        Some(exit) if exit.success() => Ok(()),
        Some(exit) => Err(failed(format!(
            "it {exit}{}",
            if finished.stderr.is_empty() { String::new() } else { format!(": {}", brief(&finished.stderr)) }
        ))),
        None => Err(failed("it did not end in time".to_owned())),
    }
}

fn start(
    command: &str,
    limit: Duration,
    death: &Death,
    records: &RecordDirectory,
) -> std::io::Result<Finished> {
    let json = death.json();
    let mut spec = Spec::new("/bin/sh", ["-c", command]);
    let text = |key: &str| {
        json.get(key)
            .map_or(String::new(), |value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    for key in
        ["identity", "server_pid", "cause", "signal", "exit", "core", "sender", "socket", "forensics", "ts"]
    {
        let value = Some(text(key)).filter(|value| value != "null").unwrap_or_default();
        spec.env.push((format!("BAA_CANARY_{}", key.to_uppercase()).into(), value.into()));
    }
    spec.env.push(("BAA_CANARY_LOG".into(), records.log().into()));
    let (output, mut input) = std::io::pipe()?;
    // A record is far smaller than what a pipe holds (64 KiB), so this cannot block.
    let _ = input.write_all(format!("{json}\n").as_bytes());
    drop(input);
    spec.stdio = [Some(output.into()), Some(Stdio::null()), None];
    Ok(life::run(spec, Instant::now() + limit, 4096, &AtomicBool::new(false))?)
}
