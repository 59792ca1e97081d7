//! A canary in the background: this program again, in a session of its own, that says one word once it has
//! armed.

use crate::act::canary::record::RecordDirectory;
use crate::sys::child::Spec;
use crate::sys::child::Stdio;
use crate::sys::file;
use crate::sys::poll::{self, For};
use crate::words::error::{Error, Result, brief};
use crate::words::exit::Status;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::Read;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long arming may take; a manager that is asked for a pid may take most of it.
const LIMIT: Duration = Duration::from_secs(20);

/// What came of arming, in iapeer's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArmOutcome {
    /// A canary watches now.
    Spawned,
    /// One watched already.
    Already,
    /// There is no log directory: nothing is to be recorded.
    Skipped,
    /// It could not be armed, and why.
    Failed(String),
}

impl ArmOutcome {
    /// The word for it.
    pub fn word(&self) -> &'static str {
        match self {
            ArmOutcome::Spawned => "spawned",
            ArmOutcome::Already => "already",
            ArmOutcome::Skipped => "skipped",
            ArmOutcome::Failed(_) => "failed",
        }
    }

    /// The line in which a canary tells it to whoever has started it.
    pub fn line(&self) -> String {
        match self {
            ArmOutcome::Failed(why) => format!("failed {}", brief(why)),
            other => other.word().to_owned(),
        }
    }

    /// Why it could not be armed.
    pub fn reason(&self) -> Option<&str> {
        if let ArmOutcome::Failed(why) = self { Some(why) } else { None }
    }

    /// Its JSON.
    pub fn json(&self) -> Value {
        json!({ "schema": "baa.canary.arm/1", "state": self.word(), "reason": self.reason() })
    }

    fn read(line: &str) -> ArmOutcome {
        match line.trim_end().split_once(' ').unwrap_or((line.trim_end(), "")) {
            ("spawned", _) => ArmOutcome::Spawned,
            ("already", _) => ArmOutcome::Already,
            ("failed", why) => ArmOutcome::Failed(why.to_owned()),
            _ => ArmOutcome::Failed("the canary ended without a word".to_owned()),
        }
    }
}

/// Starts a canary with `arguments`, those of `watch`, and waits for its word. What it says later goes to a
/// log of its own.
///
/// # Errors
/// When it cannot be started.
pub fn arm(records: &RecordDirectory, arguments: Vec<OsString>) -> Result<ArmOutcome> {
    let cannot = |cause: std::io::Error| Error::io("cannot start a canary", &cause);
    if let Err(error) = records.make() {
        return Ok(ArmOutcome::Failed(error.to_string()));
    }
    let log = file::open_log(&records.armings().join("canary.log")).ok().flatten();
    let (mut output, input) = std::io::pipe().map_err(cannot)?;
    let mut spec = Spec::new(std::env::current_exe().map_err(cannot)?, arguments);
    spec.arg0 = Some("baa-canary".into());
    spec.stdio = [Some(Stdio::null()), Some(input.into()), Some(log.map_or_else(Stdio::null, Stdio::from))];
    spec.start()?;
    let until = Instant::now() + LIMIT;
    let mut said = String::new();
    let mut buffer = [0u8; 512];
    while !said.contains('\n') && said.len() < 4096 {
        if !poll::wait(&[(output.as_fd(), For::Reading)], Some(until)).map_err(cannot)?[0] {
            return Err(Error::new(
                Status::TooLate,
                format!("the canary has said nothing for {}", crate::words::span::show(LIMIT)),
            ));
        }
        match output.read(&mut buffer).map_err(cannot)? {
            0 => break,
            count => said.push_str(&String::from_utf8_lossy(&buffer[..count])),
        }
    }
    Ok(ArmOutcome::read(&said))
}
