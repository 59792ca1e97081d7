//! Whether one that serves still does: how often it is asked, and when so many bad answers are enough.

use crate::sys::process::{self, Pid};
use std::time::Duration;

/// The time for an answer, where none is set: a busy server is not a dead one.
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(10);

/// One that is not asked whether it is ready is believed to be so when it has lived so long.
pub const LIVED: Duration = Duration::from_millis(250);

/// How often it is asked, and what counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// From one question to the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// So many bad answers in a row, and it does not serve any more.
    pub failures: u32,
    /// So many good answers in a row, and the bad ones before them are forgotten.
    pub successes: u32,
}

/// The answers of one life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveAnswers {
    good: u32,
    bad: u32,
}

/// What follows from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveVerdict {
    /// It is asked again after this.
    Again(Duration),
    /// It does not serve any more.
    Lost,
}

impl Liveness {
    /// How long an answer may take where that is not said: half of the interval, if that is neither too
    /// short nor too long. Then one that hangs is found out within as many intervals as failures are borne.
    pub fn usual_timeout(interval: Duration) -> Duration {
        (interval / 2).clamp(SHORTEST, LONGEST)
    }

    /// Takes an answer to a question, good or bad, which has taken so long.
    pub fn judge(&self, answers: &mut LiveAnswers, good: bool, took: Duration) -> LiveVerdict {
        if good {
            answers.good = answers.good.saturating_add(1);
            if answers.good >= self.successes {
                answers.bad = 0;
            }
            return LiveVerdict::Again(self.interval.saturating_sub(took));
        }
        (answers.good, answers.bad) = (0, answers.bad + 1);
        if answers.bad >= self.failures {
            return LiveVerdict::Lost;
        }
        // By as much sooner as it has kept us waiting.
        LiveVerdict::Again(self.interval.saturating_sub(took * 2))
    }
}

/// Why a life with this main process does not serve, whatever it would be asked: it is stopped. The kernel
/// goes on to take connections for it.
pub fn stopped(main: Pid) -> Option<String> {
    process::is_stopped(main).then(|| format!("process {main} is stopped"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rules(failures: u32, successes: u32) -> Liveness {
        Liveness { interval: SECOND * 10, timeout: Liveness::usual_timeout(SECOND * 10), failures, successes }
    }

    #[test]
    fn so_many_bad_answers_in_a_row_are_too_many() {
        let (rules, mut answers) = (rules(2, 1), LiveAnswers::default());
        let again = LiveVerdict::Again(SECOND * 10);
        for good in [true, false, true, false, true] {
            assert_eq!(rules.judge(&mut answers, good, Duration::ZERO), again);
        }
        assert_eq!(rules.judge(&mut answers, false, SECOND), LiveVerdict::Again(SECOND * 8));
        assert_eq!(rules.judge(&mut answers, false, SECOND), LiveVerdict::Lost);
    }

    /// Where more good answers are wanted, one among the bad does not help.
    #[test]
    fn bad_answers_are_forgotten_after_so_many_good_ones() {
        let rules = rules(3, 2);
        for (answers, lost) in [("bbgb", true), ("bbggbb", false), ("bbggbbb", true), ("bgbgb", true)] {
            let mut known = LiveAnswers::default();
            let verdicts = answers.chars().map(|one| rules.judge(&mut known, one == 'g', Duration::ZERO));
            assert_eq!(verdicts.last() == Some(LiveVerdict::Lost), lost, "{answers}");
        }
    }

    /// However late in an interval it freezes.
    #[test]
    fn one_that_hangs_is_found_out_within_its_intervals() {
        for failures in 2..10 {
            let (rules, mut answers) = (rules(failures, 1), LiveAnswers::default());
            let mut now = rules.interval;
            loop {
                now += rules.timeout;
                match rules.judge(&mut answers, false, rules.timeout) {
                    LiveVerdict::Again(pause) => now += pause,
                    LiveVerdict::Lost => break,
                }
            }
            assert!(now <= rules.interval * failures, "{failures}: {now:?}");
        }
    }
}
