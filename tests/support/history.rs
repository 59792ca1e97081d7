//! A history of what clients asked of a lease and were told, and a checker for it: one holder for a term, and
//! terms that only go up.

use std::time::{Duration, Instant};

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It has the lease under this term: newly, or still.
    Has { term: u64 },
    /// It has given the lease up.
    GaveUp { term: u64 },
    /// Another has it, under this term.
    Refused { term: u64 },
}

/// One question, from when it was asked to when it was answered. One that was never answered is not in the
/// history, for it may have come to anything.
#[derive(Clone, Debug)]
pub struct Event {
    pub client: usize,
    pub asked: Instant,
    pub answered: Instant,
    pub told: Told,
}

fn term(told: &Told) -> u64 {
    match told {
        Told::Has { term } | Told::GaveUp { term } | Told::Refused { term } => *term,
    }
}

/// What cannot be: two holders of a term, a term that goes back, a lease held after it was given up, or two
/// who hold leases at once, each of which was granted for `ttl`. `None` for a good history.
pub fn fault(history: &[Event], ttl: Duration) -> Option<String> {
    for (number, one) in history.iter().enumerate() {
        for other in &history[number + 1..] {
            let (first, second) = if one.answered <= other.asked {
                (one, other)
            } else if other.answered <= one.asked {
                (other, one)
            } else if let (Told::Has { term: a }, Told::Has { term: b }) = (&one.told, &other.told)
                && a == b
                && one.client != other.client
            {
                return Some(format!("two have one term: {one:?} and {other:?}"));
            } else {
                continue;
            };
            if term(&second.told) < term(&first.told) && !matches!(second.told, Told::GaveUp { .. }) {
                return Some(format!("a term goes back: {first:?}, then {second:?}"));
            }
            match (&first.told, &second.told) {
                (Told::Has { term: a }, Told::Has { term: b }) if a == b && first.client != second.client => {
                    return Some(format!("two have one term: {first:?}, then {second:?}"));
                }
                (Told::GaveUp { term: a }, Told::Has { term: b }) if a == b => {
                    return Some(format!("held after it was given up: {first:?}, then {second:?}"));
                }
                (Told::Has { .. }, Told::Has { .. })
                    if first.client != second.client && second.answered < first.asked + ttl =>
                {
                    // Unless the first has given it up in between.
                    let gave = history.iter().any(|event| {
                        event.client == first.client
                            && event.asked >= first.asked
                            && event.asked <= second.answered
                            && matches!(event.told, Told::GaveUp { term: t } if t == term(&first.told))
                    });
                    if !gave {
                        return Some(format!("two hold it at once: {first:?}, then {second:?}"));
                    }
                }
                _ => {}
            }
        }
    }
    None
}

#[apply(test)]
fn the_checker_knows_good_histories_from_bad() {
    let start = Instant::now();
    let event = |client, from: u64, to: u64, told| Event {
        client,
        asked: start + Duration::from_millis(from),
        answered: start + Duration::from_millis(to),
        told,
    };
    let ttl = Duration::from_millis(100);
    let has = |term| Told::Has { term };
    let good: [&[Event]; 4] = [
        &[],
        &[event(0, 0, 5, has(1)), event(0, 50, 55, has(1)), event(1, 160, 165, has(2))],
        &[event(0, 0, 5, has(1)), event(0, 6, 9, Told::GaveUp { term: 1 }), event(1, 7, 12, has(2))],
        &[
            event(0, 0, 5, has(1)),
            event(1, 1, 9, Told::Refused { term: 1 }),
            event(1, 101, 105, has(2)),
            event(0, 106, 109, Told::Refused { term: 2 }),
        ],
    ];
    for history in good {
        assert_eq!(fault(history, ttl), None);
    }
    let bad: [&[Event]; 6] = [
        &[event(0, 0, 5, has(1)), event(1, 6, 9, has(1))],
        &[event(0, 0, 5, has(1)), event(1, 3, 9, has(1))],
        &[event(0, 0, 5, has(1)), event(1, 50, 60, has(2))],
        &[event(0, 0, 5, has(2)), event(1, 160, 165, has(1))],
        &[event(0, 0, 5, has(1)), event(0, 6, 9, Told::GaveUp { term: 1 }), event(0, 10, 12, has(1))],
        &[event(0, 0, 5, has(2)), event(1, 6, 9, Told::Refused { term: 1 })],
    ];
    for history in bad {
        assert!(fault(history, ttl).is_some(), "{history:?}");
    }
}
