//! What a keeper tells of itself: its status, for whoever asks, and for the keeper after it.

use super::KeeperLoop;
use crate::act::keeper::change::KeeperChange;
use crate::act::keeper::request::SCHEMA;
use crate::act::keeper::{KeeperState, RestartPolicy};
use crate::service::recipe::Recipe;
use crate::sys::child::Exit;
use crate::sys::{file, kernel};
use crate::words::exit::Status;
use crate::words::span::millis;
use serde_json::{Value, json};
use std::time::{Instant, SystemTime};

impl KeeperLoop<'_> {
    pub(super) fn publish(&self) {
        let Some(label) = &self.place.label else { return };
        let path = label.paths.status();
        let text = format!("{}\n", self.status_json(self.keeper.state()));
        // It means nothing after the next boot, and a disk that is slow must not keep us.
        if let Err(cause) = file::replace_soon(&path, text.as_bytes(), 0o600) {
            let why = crate::words::error::reason(&cause);
            self.voice.warn(format!("cannot write '{}': {why}", path.display()));
        }
    }

    /// Read by `service::embedded`.
    pub(super) fn status_json(&self, state: KeeperState) -> Value {
        let policy = &self.request.policy;
        let word = match state {
            KeeperState::Idle => "idle",
            KeeperState::Waiting(_) => "waiting",
            KeeperState::Starting | KeeperState::Running(_) => "running",
            KeeperState::Readying(..) => "starting",
            KeeperState::Updating { .. } => "updating",
            KeeperState::Replacing { .. } => "running",
            KeeperState::Draining { .. } => "draining",
            KeeperState::Stopping { .. } | KeeperState::Sweeping(..) => "stopping",
            KeeperState::Finished => "finished",
        };
        let next_start = if let KeeperState::Waiting(until) = state {
            Some(millis(until.saturating_duration_since(Instant::now())))
        } else {
            None
        };
        // In an update there are two lives: this is the one that is not the main process.
        let beside = match state {
            KeeperState::Updating { next, .. } => next,
            KeeperState::Replacing { old, .. } => Some(old),
            _ => None,
        };
        let job = if let Recipe::Job(job) = &self.request.recipe {
            Some(job.path.to_string_lossy().into_owned())
        } else {
            None
        };
        let restart_in = self.schedule.due().map(|due| millis(due.saturating_duration_since(Instant::now())));
        json!({
            "schema": SCHEMA,
            "label": self.request.label,
            "state": word,
            "pid": self.lives.main().map(|main| main.pid.number()),
            "start": self.lives.main().map(|main| main.start.0),
            "boot": kernel::boot(),
            "beside": beside.map(|beside| json!({
                "pid": beside.pid.number(), "start": beside.start.0, "boot": kernel::boot()
            })),
            "change": self.keeper.changes().last().map(|change| self.change_json(*change)),
            "changes": self.keeper.changes().iter().map(|one| self.change_json(*one)).collect::<Vec<_>>(),
            "restart_in_ms": restart_in,
            "parked": self.keeper.parked(),
            "says": self.health.status,
            "asks_ready": self.request.ready.is_some(),
            "keeper": std::process::id(),
            "runs": self.keeper.runs(),
            "last_exit": self.keeper.last_exit().map(|exit| exit.to_string()),
            "next_start_ms": next_start,
            "exit_timeout_ms": millis(policy.exit_timeout + policy.kill_grace.unwrap_or_default()),
            "drain_ms": policy.drain.map(millis),
            "throttle_ms": millis(policy.throttle),
            "job": job,
            "written": crate::words::stamp::millis(SystemTime::now()),
        })
    }

    /// What was asked for, and what came of it.
    pub(super) fn change_json(&self, change: KeeperChange) -> Value {
        let why = Some(self.why(change)).filter(|why| !why.is_empty());
        json!({
            "number": change.number, "kind": change.kind.word(), "state": change.outcome.word(), "why": why
        })
    }

    /// With `--restart never` the status is the command's own; otherwise a stop that was asked for is
    /// success.
    pub(super) fn status(&self) -> Status {
        if self.failures.gave_up {
            return self.request.gives_up_with;
        }
        if let Some(error) = self.failures.not_started.as_ref().filter(|_| self.failures.never_started) {
            return error.status;
        }
        if self.keeper.never_came_up() {
            return Status::Unavailable;
        }
        if let (Some(error), RestartPolicy::Never | RestartPolicy::OnFailure) =
            (&self.failures.not_started, &self.request.policy.restart)
        {
            return error.status;
        }
        match (&self.request.policy.restart, self.keeper.last_exit()) {
            (RestartPolicy::Never, Some(Exit::Code(code))) => {
                Status::Command(u8::try_from(code).unwrap_or(1))
            }
            (RestartPolicy::Never, Some(Exit::Signal(number))) => {
                Status::Signal(u8::try_from(number).unwrap_or(0))
            }
            _ => Status::Done,
        }
    }
}
