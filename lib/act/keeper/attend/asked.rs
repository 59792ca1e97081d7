//! What a keeper is asked for, by signals and over its socket.

use super::{KeeperLoop, name};
use crate::act::keeper::control::ClientRequest;
use crate::act::keeper::request::{SCHEMA, User1};
use crate::act::keeper::supervisor::{kill_after, shares};
use crate::act::keeper::{KeeperEvent, KeeperState, Next};
use crate::service::intent::{self, Intent};
use crate::sys::child;
use crate::sys::process::Pid;
use crate::sys::signal::Signal;
use crate::words::span;
use serde_json::{Value, json};
use std::time::Instant;

impl KeeperLoop<'_> {
    /// INT stops; TERM stops, unless a restart was meant; USR1 restarts where it may; the others are the
    /// command's.
    pub(super) fn signal(&mut self, number: i32) {
        match Signal::try_from(number) {
            Ok(Signal::SIGCHLD) => {}
            Ok(Signal::SIGINT) => {
                // To the first process of a container it is sent for the command, and that is told so.
                if Pid::own().number() == 1 {
                    self.stop.told_by(Signal::SIGINT);
                }
                self.stop_now();
            }
            Ok(Signal::SIGTERM) => match self.intent() {
                Some(intent) => self.restart_meant(intent),
                None => {
                    self.stop.told_by(Signal::SIGTERM);
                    self.stop_now();
                }
            },
            Ok(Signal::SIGUSR1) => self.user1(),
            _ => {
                if let Some(main) = self.lives.main() {
                    child::signal_number(main, number);
                }
            }
        }
    }

    pub(super) fn stop_now(&mut self) {
        self.story.note("stop");
        self.schedule.cancel();
        if let Some(limit) = self.stop.allowance.limit() {
            self.keeper.stop_within(kill_after(limit));
        }
        self.happen(KeeperEvent::Stop);
    }

    /// What was meant by a signal. While the keeper ends nothing is read: an intent that is there is not for
    /// us (facts 1.9, 38).
    fn intent(&self) -> Option<Intent> {
        let ending = matches!(
            self.keeper.state(),
            KeeperState::Stopping { next: Next::Finish, .. }
                | KeeperState::Sweeping(_, Next::Finish)
                | KeeperState::Draining { next: Next::Finish, .. }
        );
        let label = self.place.label.as_ref().filter(|_| !ending)?;
        intent::take(&label.paths, Pid::own())
    }

    /// A restart through whoever supervises us: that one waits for our end and starts us anew, so the work in
    /// flight is finished, and then we go. Where nobody does, or the TERM is not his, we restart the command
    /// ourselves.
    fn restart_meant(&mut self, intent: Intent) {
        self.changes.reason = intent.reason;
        if !self.request.supervisor.stops_us() {
            self.voice.note(format!("{}: restarting, as was meant", name(self.request)));
            return self.restart_now();
        }
        self.voice.note(format!("{}: ending for a restart, as was meant", name(self.request)));
        self.story.note("leave");
        self.schedule.cancel();
        self.stop.left_for_restart = true;
        let shares = self.stop.allowance.limit().map(shares);
        if let Some(shares) = shares {
            self.keeper.stop_within(shares.stop);
        }
        self.happen(KeeperEvent::Leave(shares.map(|shares| shares.drain)));
    }

    fn user1(&mut self) {
        let may = self.request.user1;
        match self.intent() {
            Some(intent) => {
                self.changes.reason = intent.reason;
                self.restart_now();
            }
            None if may == User1::Restart => {
                self.changes.reason = Some("USR1".to_owned());
                self.restart_soon();
            }
            None if may == User1::Pass => {
                if let Some(main) = self.lives.main() {
                    child::signal(main, Signal::SIGUSR1);
                }
            }
            None => self.voice.warn(format!(
                "{}: USR1 is ignored: nobody has said what it means (baa-run ctl intend, or --usr1)",
                name(self.request)
            )),
        }
    }

    fn restart_now(&mut self) {
        self.story.note("restart");
        self.schedule.done(Instant::now());
        self.happen(KeeperEvent::Restart);
    }

    /// A restart in its time: now, or when the last one is long enough ago. One that is being done already is
    /// enough.
    fn restart_soon(&mut self) {
        if self.keeper.restarting() {
            self.voice.step(format!("{}: it is being restarted already", name(self.request)));
            return;
        }
        let due = self.schedule.ask(Instant::now());
        self.keeper.plan_restart();
        let pause = due.saturating_duration_since(Instant::now());
        if !pause.is_zero() {
            self.voice.note(format!(
                "{}: restarting in {}, for it was restarted a moment ago",
                name(self.request),
                span::show(pause)
            ));
        }
        self.on_time();
    }

    /// When the restart that was put off is to be done. While an update goes on it waits: what comes of that
    /// is known soon, and until then the old life stays.
    pub(super) fn restart_due(&self) -> Option<Instant> {
        self.schedule.due().filter(|_| self.keeper.open_update().is_none())
    }

    /// Does what was put off and is due.
    pub(super) fn on_time(&mut self) {
        if self.keeper.open_restart().is_none() {
            // It was one with an update.
            self.schedule.cancel();
        }
        if self.restart_due().is_some() && self.schedule.take(Instant::now()) {
            self.story.note("restart");
            self.happen(KeeperEvent::Restart);
        }
    }

    pub(super) fn request(&mut self, request: ClientRequest) -> Value {
        match request {
            ClientRequest::Status => return self.status_json(self.keeper.state()),
            ClientRequest::Spare(pid) => {
                if let Some(pid) = Pid::new(pid) {
                    self.lives.spare(pid);
                }
                return json!({ "schema": SCHEMA });
            }
            ClientRequest::Signal(signal) => {
                if let Some(main) = self.lives.main() {
                    child::signal(main, signal);
                }
                return self.status_json(self.keeper.state());
            }
            // A second stop over the socket is impatience, not an order to kill; signals are.
            ClientRequest::Stop => {
                if !matches!(
                    self.keeper.state(),
                    KeeperState::Stopping { next: Next::Finish, .. } | KeeperState::Sweeping(_, Next::Finish)
                ) {
                    self.stop_now();
                }
            }
            ClientRequest::Drain(reason) => {
                self.changes.reason = reason;
                self.schedule.cancel();
                self.story.note("leave");
                self.happen(KeeperEvent::Leave(None));
            }
            ClientRequest::Start => {
                self.failures.forgive();
                self.happen(KeeperEvent::Start);
            }
            ClientRequest::Update(reason) => {
                if self.request.ready.is_none() || !matches!(self.keeper.state(), KeeperState::Running(_)) {
                    return json!({ "error": "no life of it serves now, or nobody knows whether one does" });
                }
                self.changes.reason = reason;
                self.schedule.count(Instant::now());
                self.story.note("update");
                self.happen(KeeperEvent::Update);
                self.publish();
                return self.answer_of(self.keeper.changes().last().map(|change| change.number));
            }
            ClientRequest::Restart { reason, now } => {
                self.failures.forgive();
                let before = self.keeper.open_restart().map(|change| change.number);
                self.changes.reason = reason.or(self.changes.reason.take());
                if now {
                    self.restart_now()
                } else {
                    self.restart_soon()
                }
                self.publish();
                // One that was done at once and came to nothing is over already.
                let last = || self.keeper.changes().last().map(|change| change.number);
                let number = self.keeper.open_restart().map(|change| change.number).or_else(last);
                let mut status = self.answer_of(number);
                status["coalesced"] = json!(before.is_some() && before == number);
                return status;
            }
        }
        self.publish();
        self.status_json(self.keeper.state())
    }

    /// The status, with the change of this number as the one that it is about.
    fn answer_of(&self, number: Option<u32>) -> Value {
        let mut status = self.status_json(self.keeper.state());
        let change = self.keeper.changes().iter().find(|change| Some(change.number) == number);
        status["change"] = change.map_or(Value::Null, |change| self.change_json(*change));
        status
    }
}
