//! How long to pause before the next probe. No kernel event says "a listener appeared", so the reaction time
//! is half the pause; a refused connection on loopback costs ~20 µs, so a pause of a few milliseconds costs
//! less than 1 % of a core.

use crate::probe::Cost;
use crate::sys::listening::Listening;
use crate::sys::net::{self, Endpoint};
use crate::words::failure::{Class, Failure};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// The part of a core that polling may take.
const SHARE: u32 = 100;

/// What is known when the pause is chosen.
#[derive(Clone, Copy, Debug)]
pub struct PollProgress {
    /// What asking costs.
    pub cost: Cost,
    /// How long it has been polled for.
    pub age: Duration,
    /// The processor time that one probe takes, counted over all that are polled.
    pub spent: Duration,
    /// How many probes there have been.
    pub tries: u32,
}

/// The pause after a probe that failed with `last`, or that succeeded and is not enough yet.
pub fn pause(moment: PollProgress, last: Option<&Failure>) -> Duration {
    let answers = last.is_none_or(|failure| !failure.class.is_down() && failure.class != Class::Timeout);
    match moment.cost {
        // Somebody answers, only not as wanted: asking it costs a server its time too.
        Cost::Local if answers => {
            if moment.age < Duration::from_secs(5) {
                Duration::from_millis(20)
            } else {
                Duration::from_millis(100)
            }
        }
        Cost::Local => {
            let slowest = match moment.age.as_secs() {
                0..5 => 9,
                5..60 => 25,
                _ => 50,
            };
            (moment.spent * SHARE).clamp(Duration::from_millis(2), Duration::from_millis(slowest))
        }
        Cost::Remote => jitter(grow(200, 2000, moment.tries)),
        Cost::Process => grow(50, 1000, moment.tries),
    }
}

/// Without a connection, the kernel's tables are asked three times in the pause that a connection would have;
/// a connection is tried this often.
const CONNECT: Duration = Duration::from_millis(100);

/// Waits until somebody may listen at `endpoint`, if that is on this machine and the kernel can be asked;
/// else for `pause`.
pub fn doze(endpoint: &Endpoint, pause: Duration) {
    thread_local! {
        static WAY: Option<Listening> = Listening::open();
    }
    let addresses = match endpoint {
        // A literal or localhost: nobody is asked for the name.
        Endpoint::Tcp(host, _) if net::is_local(host) => {
            endpoint.addresses(Instant::now()).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    WAY.with(|way| match way {
        Some(way) if !addresses.is_empty() => {
            way.doze(&addresses, (pause / 3).max(Duration::from_millis(3)), CONNECT)
        }
        _ => std::thread::sleep(pause),
    });
}

/// `from` milliseconds, half as much again with each try, at most `to`.
fn grow(from: u64, to: u64, tries: u32) -> Duration {
    let mut millis = from;
    for _ in 1..tries.min(32) {
        millis = (millis + millis / 2).min(to);
    }
    Duration::from_millis(millis)
}

/// Up to a quarter more or less, so that a fleet that starts together does not ask together.
fn jitter(pause: Duration) -> Duration {
    let roll = RandomState::new().hash_one(0u8) % 1001;
    pause.mul_f64(0.75 + roll as f64 / 2000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(cost: Cost, age: u64, spent: u64, tries: u32) -> PollProgress {
        PollProgress { cost, age: Duration::from_secs(age), spent: Duration::from_micros(spent), tries }
    }

    #[test]
    fn polling_a_local_target_that_is_down_takes_at_most_a_hundredth_of_a_core() {
        let refused = Failure::new(Class::Refused, "");
        for (age, spent, millis) in [(0, 10, 2), (0, 40, 4), (0, 500, 9), (30, 500, 25), (100, 500, 50)] {
            assert_eq!(
                pause(moment(Cost::Local, age, spent, 9), Some(&refused)),
                Duration::from_millis(millis)
            );
        }
    }

    #[test]
    fn a_remote_target_is_polled_ever_more_slowly_and_not_in_step() {
        for tries in 1..40 {
            let pause = pause(moment(Cost::Remote, 0, 0, tries), None);
            assert!((Duration::from_millis(150)..=Duration::from_millis(2500)).contains(&pause), "{pause:?}");
        }
    }
}
