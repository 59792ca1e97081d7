//! Where a lease lives: a record with a term and a time to live, that only one holder has at a time.

pub mod control_api;
pub mod sqlite;

use crate::words::error::Result;
use std::time::Duration;

/// A moment on one machine: the boot, and the time since it, suspend included. All processes of a machine read the same clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The boot's name.
    pub boot: String,
    /// Since the boot.
    pub since: Duration,
}

/// Who wants a lease, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The lease.
    pub lease: String,
    /// The holder's name.
    pub holder: String,
    /// Its host, for people.
    pub host: String,
    /// Which of several processes of one holder this is. Empty: any of them may go on with what another has.
    ///
    /// One that has asked to give up must not claim again: a release that comes late would free what was taken anew under the same term
    /// (found by act/lease/simulation).
    pub instance: String,
    /// For how long.
    pub ttl: Duration,
}

/// What a store knows of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; `None` once it is released.
    pub holder: Option<String>,
    /// On which host.
    pub host: String,
    /// Which of several processes of the holder.
    pub instance: String,
    /// Grows with each change of hands, and never goes back.
    pub term: u64,
    /// For how long it was given.
    pub ttl: Duration,
    /// When it ends.
    pub expires: Moment,
}

/// What came of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is ours, newly or still, under this term.
    Ours {
        /// The fencing token.
        term: u64,
        /// Whether it was ours before.
        renewed: bool,
    },
    /// Another has it, or has had it since.
    Held(Record),
}

/// A store of leases.
pub trait Store {
    /// How often one may ask for a lease that another has.
    fn pace(&self) -> Duration;

    /// Takes a lease that is free or has run out; goes on with one that is the claimant's.
    ///
    /// # Errors
    /// When the store cannot be asked, or does not answer; then it is not known what became of the claim.
    fn acquire(&self, claim: &Claim) -> Result<Answer>;

    /// Goes on with a lease held under `term`; never takes one.
    ///
    /// # Errors
    /// As `acquire`.
    fn renew(&self, claim: &Claim, term: u64) -> Result<Answer>;

    /// Gives up a lease held under `term`; says whether it was held so.
    ///
    /// # Errors
    /// As `acquire`.
    fn release(&self, claim: &Claim, term: u64) -> Result<bool>;

    /// What is known of a lease, and how long it lasts from now; `None` when it was never held.
    ///
    /// # Errors
    /// As `acquire`.
    fn read(&self, lease: &str) -> Result<Option<(Record, Duration)>>;
}

impl Record {
    /// How long it lasts from `now`: zero when it is released, has run out, or was given before this boot.
    pub fn left(&self, now: &Moment) -> Duration {
        if self.holder.is_none() || self.expires.boot != now.boot { Duration::ZERO } else { self.expires.since.saturating_sub(now.since) }
    }

    fn is_of(&self, claim: &Claim) -> bool {
        self.holder.as_ref() == Some(&claim.holder) && (self.instance == claim.instance || claim.instance.is_empty())
    }
}

/// What a claim makes of what is there: the record to write, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Write it; and whether it was the claimant's before.
    Write(Record, bool),
    /// Leave it.
    Refuse,
}

fn granted(claim: &Claim, term: u64, now: &Moment) -> Record {
    let expires = Moment { boot: now.boot.clone(), since: now.since + claim.ttl };
    Record { holder: Some(claim.holder.clone()), host: claim.host.clone(), instance: claim.instance.clone(), term, ttl: claim.ttl, expires }
}

/// Decides on a claim. A lease that has run out is a new term even for the one who had it: what was done under the old one may have been
/// refused already.
pub fn decide_acquire(found: Option<&Record>, claim: &Claim, now: &Moment) -> Decision {
    match found {
        Some(record) if !record.left(now).is_zero() => match record.is_of(claim) {
            true => Decision::Write(granted(claim, record.term, now), true),
            false => Decision::Refuse,
        },
        found => Decision::Write(granted(claim, found.map_or(0, |record| record.term) + 1, now), false),
    }
}

/// Decides on a renewal under `term`.
pub fn decide_renew(found: Option<&Record>, claim: &Claim, term: u64, now: &Moment) -> Decision {
    match found {
        Some(record) if record.term == term && record.is_of(claim) && !record.left(now).is_zero() => Decision::Write(granted(claim, term, now), true),
        _ => Decision::Refuse,
    }
}

/// Decides on a release: the term stays, so that the next one is higher.
pub fn decide_release(found: Option<&Record>, claim: &Claim, term: u64) -> Decision {
    match found {
        Some(record) if record.term == term && record.is_of(claim) => Decision::Write(Record { holder: None, instance: String::new(), ..record.clone() }, true),
        _ => Decision::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment { boot: "b".to_owned(), since: Duration::from_millis(millis) }
    }

    fn claim(holder: &str, instance: &str) -> Claim {
        Claim { lease: "l".to_owned(), holder: holder.to_owned(), host: "h".to_owned(), instance: instance.to_owned(), ttl: Duration::from_millis(1000) }
    }

    fn taken(found: Option<&Record>, claim: &Claim, now: &Moment) -> Option<(Record, bool)> {
        match decide_acquire(found, claim, now) {
            Decision::Write(record, renewed) => Some((record, renewed)),
            Decision::Refuse => None,
        }
    }

    #[test]
    fn a_term_never_goes_back_and_never_has_two_holders() {
        let (first, _) = taken(None, &claim("a", "1"), &at(0)).unwrap();
        assert_eq!(first.term, 1);
        // Until the very last moment it is the first one's; from then on anybody's, under a new term.
        assert_eq!(taken(Some(&first), &claim("b", "1"), &at(999)), None);
        let (second, renewed) = taken(Some(&first), &claim("b", "1"), &at(1000)).unwrap();
        assert_eq!((second.term, renewed), (2, false));
        let (again, renewed) = taken(Some(&first), &claim("a", "1"), &at(1000)).unwrap();
        assert_eq!((again.term, renewed), (2, false));
        assert_eq!(decide_renew(Some(&first), &claim("a", "1"), 1, &at(1000)), Decision::Refuse);
        assert_eq!(decide_renew(Some(&second), &claim("a", "1"), 1, &at(1001)), Decision::Refuse);
        let Decision::Write(released, _) = decide_release(Some(&second), &claim("b", "1"), 2) else { panic!() };
        assert_eq!((released.holder.as_ref(), released.term, released.left(&at(1001))), (None, 2, Duration::ZERO));
        assert_eq!(taken(Some(&released), &claim("a", "1"), &at(1001)).unwrap().0.term, 3);
        assert_eq!(decide_release(Some(&released), &claim("b", "1"), 2), Decision::Refuse);
    }

    #[test]
    fn two_processes_of_one_holder_do_not_share_unless_they_say_so() {
        let (held, _) = taken(None, &claim("a", "1"), &at(0)).unwrap();
        assert_eq!(taken(Some(&held), &claim("a", "2"), &at(1)), None);
        assert!(taken(Some(&held), &claim("a", ""), &at(1)).unwrap().1);
        assert_eq!(decide_renew(Some(&held), &claim("a", "2"), 1, &at(1)), Decision::Refuse);
    }

    #[test]
    fn nothing_outlives_its_boot() {
        let (held, _) = taken(None, &claim("a", "1"), &at(0)).unwrap();
        let later = Moment { boot: "c".to_owned(), since: Duration::ZERO };
        assert_eq!(taken(Some(&held), &claim("b", "1"), &later).unwrap().0.term, 2);
        assert_eq!(decide_renew(Some(&held), &claim("a", "1"), 1, &later), Decision::Refuse);
    }
}
