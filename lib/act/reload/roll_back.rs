//! The way back: a version that was accepted and does not come to serve gives way to the last one that
//! worked, which has to prove itself too.

use super::{Halt, LastGood, Reload, ReloadOutcome, RollbackRule};
use crate::words::error::Error;
use crate::words::exit::Status;

impl<'a> Reload<'a> {
    /// Whether what came of the new version leads back.
    pub(super) fn rolls_back(&self, halt: &Halt) -> bool {
        let wanted = match self.request.rollback {
            RollbackRule::Never => false,
            // A deadline says that nobody waits any longer; it does not say that the version is bad. Nor does
            // another process that answers in its place.
            RollbackRule::IfNeverServed => {
                !self.served && !self.outdone && halt.status == Status::Unavailable
            }
            RollbackRule::Always => true,
        };
        wanted
            && self.accepted
            && halt.outcome == ReloadOutcome::Unhealthy
            && self.request.last_good.is_some()
            && !self.went_back
            && !self.runs_on
    }

    /// Makes the last version that worked the one that is brought up and proven from now on. Where it cannot
    /// be put in its place, it is brought up from the copy.
    ///
    /// # Errors
    /// Where the manager takes no copy: then nothing has changed.
    pub(super) fn go_back(&mut self, last_good: &LastGood<'a>) -> Result<(), Error> {
        let installed = self.version.source.clone();
        match (last_good.put_back)() {
            Ok(rejected) => {
                self.version = last_good.version.clone();
                self.report.rejected = rejected;
                self.version.source = installed;
            }
            Err(error) if last_good.version.source == installed => return Err(error),
            Err(error) => {
                self.version = last_good.version.clone();
                self.voice.warn(format!("{}: {error}", self.request.name));
            }
        }
        (self.went_back, self.served, self.outdone, self.accepted) = (true, false, false, false);
        Ok(())
    }

    /// What has become of the new files.
    pub(super) fn told_of_the_new(&self) -> String {
        if self.report.rejected.is_empty() {
            return "the new file is still installed".to_owned();
        }
        let all: Vec<String> = self.report.rejected.iter().map(|path| path.display().to_string()).collect();
        format!("what did not work is kept as {}", all.join(", "))
    }

    /// Takes the new version down and brings the last good one back. Says how that ended.
    pub(super) fn roll_back(&mut self, halt: Halt) -> Halt {
        let Some(last_good) = &self.request.last_good else { return halt };
        let running = match self.look() {
            Ok(Some(state)) if self.must_run_on(&state) => {
                let reason = format!("{}; not rolled back, for its run must not be cut off", halt.reason);
                return Halt { reason, ..halt };
            }
            Ok(state) => state,
            Err(trouble) => {
                let reason = format!("{}; not rolled back, for {trouble}", halt.reason);
                return Halt { reason, ..halt };
            }
        };
        self.voice.note(format!(
            "{}: {}; rolling back to the last version that worked",
            self.request.name, halt.reason
        ));
        // The report is about what did not serve.
        self.report.life = self.new_life(running.as_ref());
        // The old one serves as it did: there is no reason for it to be given less time than the new one.
        if let Err(error) = self.go_back(last_good) {
            let reason = format!("{}; not rolled back: {error}", halt.reason);
            return Halt { reason, ..halt };
        }
        self.deadline = None;
        self.remember(running.as_ref());
        self.seen_free = false;
        let how = self.told_of_the_new();
        let end = self.renew(running.as_ref());
        match end {
            Ok(_) => Halt {
                outcome: ReloadOutcome::RolledBack,
                status: Status::BadConfig,
                reason: format!(
                    "{}; rolled back to the last version that worked{}; {how}",
                    halt.reason,
                    last_good.since.map_or(String::new(), |since| format!(
                        " (kept {})",
                        crate::words::stamp::seconds(since)
                    ))
                ),
            },
            Err(second) if second.outcome == ReloadOutcome::Unhealthy => Halt {
                outcome: ReloadOutcome::Unhealthy,
                status: Status::Unavailable,
                reason: format!(
                    "{}; the last version that worked was brought back and does not serve either: {}; {how}",
                    halt.reason, second.reason
                ),
            },
            Err(second) => second,
        }
    }
}
