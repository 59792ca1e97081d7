//! A keeper in the background: started in a session of its own, and waited for until it is up.

use crate::service::embedded::KeeperPaths;
use crate::sys::child::Stdio;
use crate::sys::child::{self, Exit, Spec};
use crate::sys::process::Watch;
use crate::sys::{file, trust};
use crate::words::error::{Error, Result, brief};
use crate::words::exit::Status;
use serde_json::json;
use std::ffi::OsString;
use std::time::{Duration, Instant};

/// How long a keeper may take to come up; clearing up after a predecessor that was killed may take most of
/// it.
const UP_LIMIT: Duration = Duration::from_secs(60);
/// A log beyond this is begun anew by the next keeper.
const LOG_LIMIT: u64 = 1024 * 1024;

/// Starts this very command again without `--detach`, as the keeper of `label`; returns when that answers.
///
/// # Errors
/// The status and the words that the keeper ended with, when it did.
pub fn detach(label: &str) -> Result<()> {
    let cannot = |cause: std::io::Error| Error::io(format!("cannot start a keeper for {label}"), &cause);
    let paths = KeeperPaths::of(label);
    paths.make()?;
    if std::fs::metadata(paths.log()).is_ok_and(|log| log.len() > LOG_LIMIT) {
        std::fs::remove_file(paths.log()).map_err(cannot)?;
    }
    let log = file::open_log(&paths.log()).map_err(cannot)?;
    let said_before = std::fs::metadata(paths.log()).map_or(0, |log| log.len());
    let arguments = std::env::args_os().skip(1);
    let mut ours = true;
    // After `--` the arguments are the command's, and may be spelled the same.
    let arguments: Vec<OsString> = arguments
        .filter(|argument| {
            ours &= argument != "--";
            !(ours && argument == "--detach")
        })
        .collect();
    let mut spec = Spec::new(std::env::current_exe().map_err(cannot)?, arguments);
    spec.arg0 = Some("baa-run".into());
    spec.stdio = [Some(Stdio::null()), Some(Stdio::null()), Some(log.map_or_else(Stdio::null, Stdio::from))];
    let keeper = spec.start()?.identity;
    let watch = Watch::over(keeper).map_err(cannot)?;
    let until = Instant::now() + UP_LIMIT;
    loop {
        // Another keeper's answer is not ours.
        let own = |answer: serde_json::Value| {
            answer.get("keeper").and_then(serde_json::Value::as_i64) == Some(i64::from(keeper.pid.number()))
        };
        if paths.ask(&json!({ "verb": "status" })).is_ok_and(own) {
            return Ok(());
        }
        let pause = Instant::now() + Duration::from_millis(5);
        if watch.as_ref().is_none_or(|watch| watch.wait(pause)) {
            return Err(epitaph(label, &paths, said_before));
        }
        if Instant::now() >= until {
            return Err(Error::new(
                Status::TooLate,
                format!("the keeper of {label} did not come up; see '{}'", paths.log().display()),
            ));
        }
    }
}

fn epitaph(label: &str, paths: &KeeperPaths, said_before: u64) -> Error {
    let exit = child::reap().first().map(|(_, exit)| *exit);
    let log = trust::read(&paths.log(), 16 * LOG_LIMIT).unwrap_or_default();
    let said =
        String::from_utf8_lossy(log.get(usize::try_from(said_before).unwrap_or(0)..).unwrap_or_default())
            .into_owned();
    let status = match exit {
        Some(Exit::Code(code)) => u8::try_from(code).map_or(Status::Internal, Status::Command),
        _ => Status::Internal,
    };
    let last = said.lines().last().map_or_else(
        || format!("the keeper of {label} ended without a word"),
        |line| brief(line.trim_start_matches("baa-run: ")),
    );
    Error::new(status, last)
}
