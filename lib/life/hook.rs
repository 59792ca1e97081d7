//! A command of the user's at a moment of ours: run by the shell, bounded in time, and told of when it fails.

use super::run;
use crate::sys::child::{Exit, Spec};
use crate::words::error::brief;
use crate::words::span;
use std::ffi::OsString;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How much of what it says is kept.
const OUTPUT_LIMIT: usize = 4096;

/// A line for /bin/sh with more variables.
pub fn hook(command: &str, env: Vec<(OsString, OsString)>) -> Spec {
    let mut spec = Spec::new("/bin/sh", ["-c", command]);
    spec.env = env;
    spec
}

/// Runs a `hook` for at most `limit`, or until soon after `cancelled` is set. It and all that came of it are
/// ended then.
///
/// # Errors
/// How it failed, in words that follow its name.
pub fn run_hook(spec: Spec, limit: Duration, cancelled: &AtomicBool) -> Result<(), String> {
    match run(spec, Instant::now() + limit, OUTPUT_LIMIT, cancelled) {
        Ok(done) if done.exit.is_some_and(Exit::success) => Ok(()),
        Ok(done) => {
            let how = match done.exit {
                Some(exit) => exit.to_string(),
                None => format!("was not done within {}", span::show(limit)),
            };
            let last = brief(done.stderr.lines().last().unwrap_or_default());
            Err(if last.is_empty() { how } else { format!("{how}: {last}") })
        }
        Err(error) => Err(format!("cannot be run: {error}")),
    }
}
