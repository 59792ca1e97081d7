//! How long to pause before the next probe. No kernel event says "a listener appeared", so the reaction time
//! is half the pause; a refused connection on loopback costs ~20 µs, so a pause of a few milliseconds costs
//! less than 1 % of a core.

use crate::probe::Cost;
use crate::sys::listening::Listening;
use crate::sys::net::Endpoint;
use crate::words::failure::{Class, Failure};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The part of a core that polling may take.
const SHARE: u32 = 100;
/// So many targets of this machine are polled as often as one.
const FEW: u32 = 16;

/// What is known when the pause is chosen.
#[derive(Clone, Copy, Debug)]
pub struct PollProgress {
    /// What asking costs.
    pub cost: Cost,
    /// How long it has been polled for.
    pub age: Duration,
    /// The processor time that one probe takes, counted over all that are polled.
    pub spent: Duration,
    /// How many that are.
    pub polled: u32,
    /// How many probes there have been.
    pub tries: u32,
    /// Whether the kernel's tables are looked at meanwhile.
    pub watched: bool,
}

/// The pause after a probe that failed with `last`, or that succeeded and is not enough yet.
pub fn pause(moment: PollProgress, last: Option<&Failure>) -> Duration {
    let answers = last.is_none_or(|failure| !failure.class.is_down() && failure.class != Class::Timeout);
    // Many take their turns, so that all of them together stay within the share.
    let crowd = moment.polled.div_ceil(FEW).max(1);
    match moment.cost {
        // Somebody answers, only not as wanted: asking it costs a server its time too.
        Cost::Local if answers => {
            if moment.age < Duration::from_secs(5) {
                Duration::from_millis(20) * crowd
            } else {
                Duration::from_millis(100) * crowd
            }
        }
        Cost::Local if moment.watched => (moment.spent * SHARE).clamp(CONNECT, CONNECT * crowd),
        Cost::Local => {
            let slowest = match moment.age.as_secs() {
                0..5 => 9,
                5..60 => 25,
                _ => 50,
            };
            (moment.spent * SHARE).clamp(Duration::from_millis(2), Duration::from_millis(slowest) * crowd)
        }
        // What starts in the container beside us does so within seconds; a name may cost it more than a
        // connection costs us.
        Cost::Near => {
            let pause = if moment.age < Duration::from_secs(30) { 50 } else { 250 };
            jitter(Duration::from_millis(pause).max(moment.spent * SHARE / 2))
        }
        Cost::Remote => jitter(grow(200, 2000, moment.tries)),
        Cost::Process => grow(50, 1000, moment.tries),
    }
}

/// The pause between two looks at the kernel's tables, of which one takes `spent`.
pub fn look(spent: Duration) -> Duration {
    (spent * SHARE).clamp(LOOK, CONNECT / 2)
}

/// While the kernel's tables are looked at, a connection is tried this often: not every listener is in them.
const CONNECT: Duration = Duration::from_millis(100);
/// Between two looks, at least.
const LOOK: Duration = Duration::from_millis(3);

/// Waits until somebody may listen at `endpoint`, if that is on this machine and the kernel can be asked;
/// else for `pause`.
pub fn doze(endpoint: Option<&Endpoint>, pause: Duration) {
    thread_local! {
        static WAY: Option<Listening> = Listening::open();
    }
    let addresses = endpoint.map(Endpoint::own_sockets).unwrap_or_default();
    if addresses.is_empty() {
        return std::thread::sleep(pause);
    }
    WAY.with(|way| match way {
        Some(way) => way.doze(&addresses, (pause / 3).max(LOOK), CONNECT),
        None => std::thread::sleep(pause),
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
        PollProgress {
            cost,
            age: Duration::from_secs(age),
            spent: Duration::from_micros(spent),
            polled: 1,
            tries,
            watched: false,
        }
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
    fn a_crowd_takes_no_more_than_a_few_hundredths_of_a_core() {
        let refused = Failure::new(Class::Refused, "");
        let each = Duration::from_micros(30);
        for watched in [false, true] {
            let crowd = PollProgress { polled: 1000, watched, ..moment(Cost::Local, 0, 30 * 1000, 9) };
            let share = each.as_secs_f64() * 1000.0 / pause(crowd, Some(&refused)).as_secs_f64();
            assert!(share < if watched { 0.011 } else { 0.055 }, "{watched} {share}");
        }
        assert_eq!(look(Duration::from_micros(5)), LOOK);
        assert_eq!(look(Duration::from_micros(200)), Duration::from_millis(20));
    }

    #[test]
    fn a_neighbour_is_polled_quickly_for_a_while_and_never_in_step() {
        for (age, least, most) in [(0, 37, 63), (29, 37, 63), (30, 187, 313)] {
            for tries in [1, 2, 500] {
                let pause = pause(moment(Cost::Near, age, 30, tries), None).as_millis();
                assert!((least..=most).contains(&pause), "{age} {pause}");
            }
        }
        let pauses: Vec<_> = (0..8).map(|_| pause(moment(Cost::Near, 0, 30, 1), None)).collect();
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }

    #[test]
    fn a_remote_target_is_polled_ever_more_slowly_and_not_in_step() {
        for tries in 1..40 {
            let pause = pause(moment(Cost::Remote, 0, 0, tries), None);
            assert!((Duration::from_millis(150)..=Duration::from_millis(2500)).contains(&pause), "{pause:?}");
        }
    }
}
