//! Starting a life: what it is given, and what is known of it on disk before anything else happens.

use super::KeeperLoop;
use crate::act::keeper::notify::Notify;
use crate::act::keeper::readiness::By;
use crate::act::keeper::{KeeperEvent, KeeperState, lockfile};
use crate::sys::child::Spec;
use crate::sys::process::Identity;
use crate::sys::signal::Signal;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Instant;

impl KeeperLoop<'_> {
    pub(super) fn start(&mut self) -> KeeperEvent {
        self.not_serving.clear();
        self.killing = false;
        self.touched = Some(Instant::now());
        if let Err(error) = self.lock_again() {
            self.not_serving = error.to_string();
            // Whoever has the lock serves in our place; that is no failure of the command.
            self.voice.warn(format!("{}: {error}", self.name()));
            return KeeperEvent::NotStarted;
        }
        match self.spawn() {
            Ok(identity) => {
                self.voice.step(format!("{}: started as process {}", self.name(), identity.pid));
                self.story.note("started");
                self.main = Some(identity);
                self.last_main = Some(identity);
                self.not_started = None;
                // Known on disk before anything else happens: should we be killed now, the next keeper finds
                // it.
                self.publish_with(KeeperState::Running(identity));
                KeeperEvent::Started(identity)
            }
            Err(error) => {
                self.voice.warn(format!("{}: {error}", self.name()));
                self.story.note("not-started");
                self.not_serving = error.to_string();
                self.not_started = Some(error);
                if self.failed() { KeeperEvent::GiveUp } else { KeeperEvent::NotStarted }
            }
        }
    }

    pub(super) fn start_next(&mut self) -> KeeperEvent {
        let KeeperState::Updating { old, until, .. } = self.keeper.state() else {
            return KeeperEvent::NextNotStarted;
        };
        self.not_serving.clear();
        match self.spawn() {
            Ok(identity) => {
                self.voice.step(format!("{}: the next life is process {}", self.name(), identity.pid));
                self.story.note("next-started");
                // Known on disk before anything else happens: should we be killed now, the next keeper finds
                // both.
                self.publish_with(KeeperState::Updating { old, next: Some(identity), until });
                KeeperEvent::NextStarted(identity)
            }
            Err(error) => {
                self.voice.warn(format!("{}: {error}", self.name()));
                self.not_serving = error.to_string();
                KeeperEvent::NextNotStarted
            }
        }
    }

    /// The lock was given back while nothing ran; nothing is started without it (facts 1.9, 34).
    fn lock_again(&mut self) -> Result<()> {
        if let (Some(wanted), None) = (&self.request.lock, &self.held) {
            self.held = Some(
                wanted
                    .take_now()?
                    .ok_or_else(|| Error::new(Status::Busy, lockfile::refusal(&wanted.path)))?,
            );
        }
        Ok(())
    }

    fn spawn(&mut self) -> Result<Identity> {
        let started = self.spec().and_then(|(spec, notify)| {
            let identity = spec.start()?.identity;
            self.notify = notify.map(|notify| (identity.pid, notify));
            Ok(identity)
        });
        if let Some(By::Line(slot)) = self.request.ready.as_ref().map(|ready| &ready.by) {
            slot.clear();
        }
        started
    }

    fn spec(&mut self) -> Result<(Spec, Option<Notify>)> {
        let mut spec = self.request.recipe.spec()?;
        if let Some(reason) = self.reason.take() {
            spec.env.push(("BAA_RESTART_REASON".into(), reason.into()));
        }
        if let Some(office) = &self.runtime {
            spec.env.push(("BAA_RESTART_SENTINEL".into(), office.sentinel.clone().into()));
        }
        let notify = match self.request.ready.as_ref().map(|ready| &ready.by) {
            Some(By::Socket) => Some(Notify::socket()?),
            Some(By::Line(slot)) => {
                spec.pass.push(slot.shared());
                Some(Notify::pipe(slot)?)
            }
            _ if self.request.watchdog.is_some() => Some(Notify::socket()?),
            _ => None,
        };
        spec.env.extend(notify.as_ref().and_then(Notify::variable));
        if let Some(limit) = self.request.watchdog {
            spec.env.push(("WATCHDOG_USEC".into(), limit.as_micros().to_string().into()));
        }
        if self.held.is_some() {
            // Whoever has the lock next must not find it beside us.
            spec.ends_with_us = Some(Signal::SIGKILL);
        }
        if !self.request.listen.is_empty() {
            let names: Vec<&str> = self.request.listen.iter().map(|(name, _)| name.as_str()).collect();
            spec.env.push(("LISTEN_FDS".into(), names.len().to_string().into()));
            spec.env.push(("LISTEN_FDNAMES".into(), names.join(":").into()));
            spec.pass.extend((3..).zip(self.request.listen.iter().map(|(_, socket)| Arc::clone(socket))));
            // The child writes its own pid there (sd_listen_fds(3)).
            spec.env.push(("LISTEN_PID".into(), OsString::new()));
        }
        Ok((spec, notify))
    }
}
