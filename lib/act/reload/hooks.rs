//! Commands of the user's beside a reload: before it, after it, when it has failed. Each has the report on
//! its standard input and the most of it in its environment.

use super::ended_by;
use super::files::ReloadFiles;
use super::request::ReloadHooks;
use super::services::NamedService;
use crate::life;
use crate::service::JobState;
use crate::sys::child::Stdio;
use crate::sys::file;
use crate::sys::say::Voice;
use crate::sys::signal::Signal;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often it is asked whether a signal came.
const TICK: Duration = Duration::from_millis(5);
/// What each variable is called, beside the key of the report that it holds.
const VARIABLES: [(&str, &str); 8] = [
    ("BAA_RELOAD_SERVICE", "service"),
    ("BAA_RELOAD_MANAGER", "manager"),
    ("BAA_RELOAD_TARGET", "target"),
    ("BAA_RELOAD_OUTCOME", "outcome"),
    ("BAA_RELOAD_STATUS", "exit"),
    ("BAA_RELOAD_REASON", "reason"),
    ("BAA_RELOAD_OLD_PID", "old_pid"),
    ("BAA_RELOAD_NEW_PID", "new_pid"),
];

/// The hooks of one reload.
pub(super) struct RunningReload<'a> {
    pub(super) hooks: &'a ReloadHooks,
    pub(super) one: &'a NamedService,
    pub(super) files: &'a ReloadFiles,
    pub(super) interrupted: &'a dyn Fn() -> Option<Signal>,
}

impl RunningReload<'_> {
    /// Before anything is touched.
    ///
    /// # Errors
    /// 69 when it fails: then nothing must be touched.
    pub(super) fn before(&self, before: Option<&JobState>) -> Result<()> {
        let Some(command) = &self.hooks.before else { return Ok(()) };
        let report = json!({
            "service": self.one.name, "manager": self.one.service.manager(),
            "target": self.one.service.target(),
            "old_pid": before.and_then(|state| state.pid).map(|pid| pid.number())
        });
        let outcome = self.run(command, &report);
        if let Some(signal) = (self.interrupted)() {
            return Err(Error::new(ended_by(signal), format!("ended by {}", signal.as_str())));
        }
        outcome.map_err(|how| Error::new(Status::Unavailable, format!("--before {how}")))
    }

    /// When it is over; what goes wrong with the hook is told, and changes nothing.
    pub(super) fn after(&self, recovered: bool, report: &Value, voice: &Voice) {
        let (name, command) = match recovered {
            true => ("--after", &self.hooks.after),
            false => ("--on-failure", &self.hooks.on_failure),
        };
        let Some(command) = command else { return };
        if let Err(how) = self.run(command, report) {
            voice.warn(format!("{}: {name} {how}", self.one.name));
        }
    }

    fn run(&self, command: &str, report: &Value) -> std::result::Result<(), String> {
        let mut env: Vec<(OsString, OsString)> =
            vec![("BAA_RELOAD_LABEL".into(), self.one.label.clone().into())];
        for (variable, key) in VARIABLES {
            let value = match &report[key] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            env.push((variable.into(), value.into()));
        }
        // A disk that is full does not keep a hook from being run: the most is in its environment.
        let text = format!("{report}\n");
        let mut hook = life::hook(command, env);
        hook.stdio[0] = file::nameless(self.files.directory(), text.as_bytes()).ok().map(Stdio::from);
        let (cancelled, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let begun_under = (self.interrupted)();
        std::thread::scope(|scope| {
            let hook = scope.spawn(|| {
                let outcome = life::run_hook(hook, self.hooks.limit, &cancelled);
                over.store(true, Ordering::SeqCst);
                outcome
            });
            while !over.load(Ordering::SeqCst) {
                // One that is run since a signal came is not ended by that signal.
                if begun_under.is_none() && (self.interrupted)().is_some() {
                    cancelled.store(true, Ordering::SeqCst);
                }
                std::thread::sleep(TICK);
            }
            hook.join().unwrap_or_else(|_| Err("came to no end".to_owned()))
        })
    }
}
