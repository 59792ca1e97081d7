//! Who supervises the keeper itself, and how long that one lets a stop take before it kills: a drain must fit
//! in there (facts 1.9, 39).

use crate::service::manager::{ManagerKind, OwnService};
use crate::service::{JobState, Phase};
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

/// How long it may take to answer, when nobody waits for that; and when a stop does.
const PATIENCE: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(2);

/// Who it is.
#[derive(Clone, Debug)]
pub enum Supervisor {
    /// Nobody: a restart is ours alone.
    None,
    /// A manager, which knows us as this service.
    Manager(OwnService),
    /// Another one, which starts us again when we end.
    External,
}

impl Supervisor {
    /// By its name: auto, none, external, or that of a manager.
    pub fn named(name: &str) -> Option<Supervisor> {
        Some(match name {
            "auto" => OwnService::find().map_or(Supervisor::None, Supervisor::Manager),
            "none" => Supervisor::None,
            "external" => Supervisor::External,
            _ => {
                let own = OwnService::claimed(ManagerKind::named(name)?);
                own.map_or(Supervisor::External, Supervisor::Manager)
            }
        })
    }

    /// What it waits before it ends for a restart.
    pub(super) fn delay(&self) -> Duration {
        if let Supervisor::Manager(own) = self { own.end_delay() } else { Duration::ZERO }
    }

    /// Whether it is the one who stops us now, as far as it tells; somebody else can send a TERM too.
    pub(super) fn stops_us(&self) -> bool {
        match self {
            Supervisor::None => false,
            Supervisor::Manager(own) if own.tells_of_stops() => {
                self.look(SOON).is_none_or(|state| state.phase == Phase::Stopping)
            }
            Supervisor::Manager(_) | Supervisor::External => true,
        }
    }

    fn look(&self, patience: Duration) -> Option<JobState> {
        let Supervisor::Manager(own) = self else { return None };
        own.service()?.inspect_until(Instant::now() + patience).ok()?
    }
}

/// What the supervisor allows, as far as is known.
#[derive(Debug)]
pub(super) struct Allowance {
    known: Option<Arc<AtomicU64>>,
}

impl Allowance {
    /// Asks it aside; until it has answered the assumption holds.
    pub(super) fn ask(supervisor: &Supervisor) -> Allowance {
        if matches!(supervisor, Supervisor::None) {
            return Allowance { known: None };
        }
        let assumed = crate::words::span::millis(ASSUMED);
        let known = Arc::new(AtomicU64::new(assumed));
        if matches!(supervisor, Supervisor::Manager(_)) {
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
}
