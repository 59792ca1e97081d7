//! Who supervises the keeper itself, and how long that one lets a stop take before it kills: a drain must fit
//! in there (facts 1.9, 39).

use crate::service::launchd::Launchd;
use crate::service::systemd::Systemd;
use crate::service::{JobState, Phase, Service};
use crate::sys::process::Pid;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a supervisor that cannot be asked allows (the seed's assumption, facts 1.1).
const ASSUMED: Duration = Duration::from_secs(30);
/// How much of that is left alone, but a quarter of it at most.
const MARGIN: Duration = Duration::from_secs(5);
/// What the stop after a drain gets of it, as long as the drain keeps `LEAST`.
const RESERVE: Duration = Duration::from_secs(10);
const LEAST: Duration = Duration::from_secs(5);
/// How long launchd is given to see that a job has gone on purpose before it starts the next (facts 1.1).
const LAUNCHD_DELAY: Duration = Duration::from_millis(1500);

/// How long it may take to answer, when nobody waits for that; and when a stop does.
const PATIENCE: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(2);

/// Who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supervisor {
    /// Nobody: a restart is ours alone.
    None,
    /// launchd, which knows us by this label.
    Launchd(String),
    /// systemd, which knows us as this unit.
    Systemd(Systemd),
    /// Another one, which starts us again when we end.
    External,
}

impl Supervisor {
    /// Who has started this very process. Variables are inherited by whatever a service starts, so they must
    /// name us (facts 2.6).
    pub fn detect() -> Supervisor {
        let label = std::env::var("XPC_SERVICE_NAME").ok();
        Systemd::ours().map_or_else(|| by_label(label, Pid::parent()), Supervisor::Systemd)
    }

    /// By its name: auto, none, launchd, systemd, external.
    pub fn named(name: &str) -> Option<Supervisor> {
        let found = Supervisor::detect();
        let label = || std::env::var("XPC_SERVICE_NAME").unwrap_or_default();
        Some(match (name, found) {
            ("auto", found) => found,
            ("none", _) => Supervisor::None,
            ("external", _) => Supervisor::External,
            ("launchd", found @ Supervisor::Launchd(_)) | ("systemd", found @ Supervisor::Systemd(..)) => {
                found
            }
            ("launchd", _) => Supervisor::Launchd(label()),
            ("systemd", _) => Supervisor::External,
            _ => return None,
        })
    }

    /// What it waits before it ends for a restart.
    pub(super) fn delay(&self) -> Duration {
        if matches!(self, Supervisor::Launchd(_)) { LAUNCHD_DELAY } else { Duration::ZERO }
    }

    /// Whether it is the one who stops us now, as far as it tells; somebody else can send a TERM too.
    pub(super) fn stops_us(&self) -> bool {
        match self {
            Supervisor::None => false,
            Supervisor::Systemd(..) => self.look(SOON).is_none_or(|state| state.phase == Phase::Stopping),
            Supervisor::Launchd(_) | Supervisor::External => true,
        }
    }

    fn look(&self, patience: Duration) -> Option<JobState> {
        let until = Instant::now() + patience;
        match self {
            Supervisor::None | Supervisor::External => None,
            Supervisor::Launchd(label) => Launchd::of_target(label).ok()?.inspect_until(until).ok()?,
            Supervisor::Systemd(unit) => unit.inspect_until(until).ok()?,
        }
    }
}

/// launchd is process 1 and the parent of its jobs; a child of one inherits the variable, but not the parent,
/// and outside of jobs it reads 0.
fn by_label(label: Option<String>, parent: Option<Pid>) -> Supervisor {
    let label = label.filter(|label| {
        !label.trim().is_empty() && label != "0" && parent.is_some_and(|parent| parent.number() == 1)
    });
    label.map_or(Supervisor::None, Supervisor::Launchd)
}

/// What the supervisor allows, as far as is known.
#[derive(Debug)]
pub(super) struct Allowance {
    known: Option<Arc<AtomicU64>>,
}

impl Allowance {
    /// Asks it aside; until it has answered the assumption holds.
    pub(super) fn ask(supervisor: &Supervisor) -> Allowance {
        if *supervisor == Supervisor::None {
            return Allowance { known: None };
        }
        let assumed = crate::words::span::millis(ASSUMED);
        let known = Arc::new(AtomicU64::new(assumed));
        if *supervisor != Supervisor::External {
            let (supervisor, told) = (supervisor.clone(), Arc::clone(&known));
            let ask = move || {
                if let Some(limit) = supervisor.look(PATIENCE).and_then(|state| state.exit_timeout) {
                    told.store(crate::words::span::millis(limit), Ordering::SeqCst);
                }
            };
            // Without a thread the assumption stays.
            drop(std::thread::Builder::new().stack_size(512 * 1024).spawn(ask));
        }
        Allowance { known: Some(known) }
    }

    /// How long a stop may take before we are killed; `None` when nobody does.
    pub(super) fn limit(&self) -> Option<Duration> {
        let limit = self.known.as_ref().map(|known| Duration::from_millis(known.load(Ordering::SeqCst)));
        // systemd's infinity.
        limit.filter(|limit| !limit.is_zero())
    }
}

/// How a limit is shared out: for the drain, for the stop after it; the rest is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    pub(super) drain: Duration,
    pub(super) stop: Duration,
}

/// Shares out what a supervisor allows.
pub(super) fn shares(limit: Duration) -> Shares {
    let rest = whole(limit);
    let stop = RESERVE.min(rest.saturating_sub(LEAST));
    // However short it all is, something is for the stop.
    let stop = if stop.is_zero() { rest / 10 } else { stop };
    Shares { drain: rest - stop, stop }
}

/// After how long a stop kills what is left, so that something is left for the end of that: 20 of 30 s.
pub(super) fn kill_after(limit: Duration) -> Duration {
    whole(limit) * 4 / 5
}

/// All that we may take of what a supervisor allows.
pub(super) fn whole(limit: Duration) -> Duration {
    limit - MARGIN.min(limit / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drain_and_the_stop_fit_into_what_is_allowed() {
        let seconds = Duration::from_secs;
        assert_eq!(shares(seconds(330)), Shares { drain: seconds(315), stop: seconds(10) });
        assert_eq!(shares(seconds(30)), Shares { drain: seconds(15), stop: seconds(10) });
        assert_eq!(shares(seconds(8)), Shares { drain: seconds(5), stop: seconds(1) });
        for limit in [0, 1, 2, 5, 7, 13, 20, 90, 1000] {
            let shares = shares(seconds(limit));
            assert!(shares.drain + shares.stop <= seconds(limit), "{limit}: {shares:?}");
            assert!(limit == 0 || !shares.stop.is_zero() && !shares.drain.is_zero(), "{limit}: {shares:?}");
        }
        // The seed's watchdog: 30 s less 5 s.
        assert_eq!(
            (whole(seconds(30)), kill_after(seconds(30)), kill_after(seconds(4))),
            (seconds(25), seconds(20), Duration::from_millis(2400))
        );
    }

    #[test]
    fn only_what_names_us_tells_who_supervises() {
        let (own, one) = (Pid::own(), Pid::new(1));
        let cgroup = "1:name=systemd:/x\n0::/user.slice/user@0.service/app.slice/gw.service\n";
        let see = |pairs: &[(&str, &str)]| {
            let variable =
                |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            Systemd::of(own, &variable, cgroup)
        };
        let pid = own.to_string();
        assert_eq!(
            see(&[("SYSTEMD_EXEC_PID", &pid), ("MANAGERPID", "7")]),
            Some(Systemd::new("gw.service", false))
        );
        assert_eq!(see(&[("SYSTEMD_EXEC_PID", &pid)]), Some(Systemd::new("gw.service", true)));
        assert_eq!(see(&[("SYSTEMD_EXEC_PID", "1"), ("INVOCATION_ID", "1")]), None);
        let label = |label: &str, parent| by_label(Some(label.to_owned()), parent);
        assert_eq!(label("so.baa", one), Supervisor::Launchd("so.baa".to_owned()));
        assert_eq!(
            [label("so.baa", Some(own)), label("0", one), label(" ", one), by_label(None, one)],
            [const { Supervisor::None }; 4]
        );
    }
}
