//! A keeper in the background: started in a session of its own, and waited for until it is up.

use crate::act::keeper::stability::WROTE;
use crate::service::embedded::KeeperPaths;
use crate::sys::child::Stdio;
use crate::sys::child::{self, Exit, Spec};
use crate::sys::process::Watch;
use crate::sys::{file, trust};
use crate::words::error::{Error, Result, brief};
use crate::words::exit::Status;
use serde_json::json;
use std::ffi::OsString;
use std::fs::File;
use std::time::{Duration, Instant};

/// How long a keeper may take to come up; clearing up after a predecessor that was killed may take most of
/// it.
const UP_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks whether it is.
const LOOK: Duration = Duration::from_millis(5);
/// A log beyond this is put aside by the next keeper.
const LOG_LIMIT: u64 = 1024 * 1024;

/// Starts this very command again without `--detach`, as the keeper of `label`; returns when what it keeps
/// serves. What that and the keeper say goes to the keeper's log.
///
/// # Errors
/// The status and the words that the keeper ended with, when it did; 69 when the first life has failed, and
/// the keeper goes on to try.
pub fn detach(label: &str) -> Result<()> {
    let cannot = |cause: std::io::Error| Error::io(format!("cannot start a keeper for {label}"), &cause);
    let paths = KeeperPaths::of(label);
    paths.make()?;
    if std::fs::metadata(paths.log()).is_ok_and(|log| log.len() > LOG_LIMIT) {
        std::fs::rename(paths.log(), paths.log().with_extension("log.1")).map_err(cannot)?;
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
    let copy = log.as_ref().map(File::try_clone).transpose().map_err(cannot)?;
    let [stdout, stderr] = [copy, log].map(|log| Some(log.map_or_else(Stdio::null, Stdio::from)));
    spec.stdio = [Some(Stdio::null()), stdout, stderr];
    let keeper = spec.start()?.identity;
    let watch = Watch::over(keeper).map_err(cannot)?;
    let mut until = Some(Instant::now() + UP_LIMIT);
    loop {
        // Another keeper's answer is not ours.
        let own = |answer: &serde_json::Value| {
            answer.get("keeper").and_then(serde_json::Value::as_i64) == Some(i64::from(keeper.pid.number()))
        };
        let told = paths.ask(&json!({ "verb": "status" })).ok().filter(own);
        match told.as_ref().map(|told| told["state"].as_str().unwrap_or_default()) {
            // It ends by itself where that takes too long.
            Some("starting" | "stopping" | "finished") => until = None,
            Some("waiting") if told.as_ref().is_some_and(|told| told["job"].is_null()) => {
                let last = told.as_ref().and_then(|told| told["last_exit"].as_str()).unwrap_or("not started");
                let text = format!("{label} does not serve: {last}; its keeper goes on to try");
                return Err(Error::new(Status::Unavailable, text));
            }
            Some(_) => return Ok(()),
            None => {}
        }
        let pause = Instant::now() + if until.is_some() { LOOK } else { LOOK * 10 };
        if watch.as_ref().is_none_or(|watch| watch.wait(pause)) {
            return Err(epitaph(label, &paths, said_before));
        }
        if until.is_some_and(|until| Instant::now() >= until) {
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
    // The command's own words are there too, and where a bundle is.
    let mut words = said.lines().rev().filter_map(|line| line.strip_prefix("baa-run: "));
    let last = words.find(|line| !line.starts_with(WROTE));
    let last = last.map_or_else(|| format!("the keeper of {label} ended without a word"), brief);
    Error::new(status, last)
}
