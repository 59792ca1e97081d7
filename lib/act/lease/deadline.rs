//! Until when a holder may act: counted from before the request that was acknowledged, on a clock that runs
//! during suspend.

use std::time::Duration;

/// How much slower than the store's our clock may run, in percent (facts, job 4: 5 % are tested, quartz is
/// 0.01 %).
const DRIFT: u32 = 1;
/// The longest time given to a command between TERM and KILL.
pub const KILL_BUDGET: Duration = Duration::from_secs(5);

/// The ends of a lease, since the machine's boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// From here on the command is told to end.
    pub soft: Duration,
    /// From here on it is killed.
    pub hard: Duration,
}

impl Deadline {
    /// Of a lease of `ttl` whose request was sent at `sent`.
    pub fn of(sent: Duration, ttl: Duration) -> Deadline {
        let budget = KILL_BUDGET.min(ttl / 4);
        let end = sent + ttl - ttl * DRIFT / 100;
        // Half of the budget is the command's, half is ours to see that it is dead.
        Deadline { soft: end.saturating_sub(budget), hard: end.saturating_sub(budget / 2) }
    }

    /// At once.
    pub const NOW: Deadline = Deadline { soft: Duration::ZERO, hard: Duration::ZERO };
}

/// How often to renew: thrice within the time to live, so that one answer may be lost.
pub fn interval(asked: Duration, ttl: Duration) -> Duration {
    asked.min(ttl / 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_dead_before_the_lease_ends() {
        for ttl in [1, 2, 30, 3600].map(Duration::from_secs) {
            let sent = Duration::from_secs(100);
            let deadline = Deadline::of(sent, ttl);
            assert!(deadline.soft < deadline.hard && deadline.hard < sent + ttl, "{ttl:?}");
            assert!(interval(Duration::from_secs(5), ttl) * 2 < deadline.soft - sent, "{ttl:?}");
        }
    }
}
