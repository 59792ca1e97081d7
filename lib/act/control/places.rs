//! The places for connections: so many in all, and so many for each user or address, of which nobody keeps
//! one from others by holding it. Who comes when all are taken gets the place of one that has not said what
//! it wants, the oldest first, and then of one that wants nothing just now. Who has shown a token keeps its
//! place, and is not counted to its address: behind a proxy all have the same one.

use crate::act::control::listener::Origin;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// All places.
pub struct Places {
    most: usize,
    /// Of one user or address.
    most_each: usize,
    taken: Mutex<Taken>,
    /// Rings when a place is left.
    pub left: Notify,
    /// How many connections were closed or refused for others.
    turned_away: AtomicU64,
}

#[derive(Default)]
struct Taken {
    serial: u64,
    /// By age, the oldest first.
    all: BTreeMap<u64, Arc<Held>>,
    each: HashMap<Origin, usize>,
}

/// Whose place it is, and what is known of it.
struct Held {
    origin: Origin,
    /// Nobody takes it away: who has it is trusted.
    kept: AtomicBool,
    /// Whether it has ever asked anything that was answered.
    heard: AtomicBool,
    /// How many of its requests are being answered.
    busy: AtomicUsize,
    /// Rings when the place is taken away.
    over: Notify,
}

/// A place, until it is dropped.
pub struct Place {
    places: Arc<Places>,
    number: u64,
    held: Arc<Held>,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// Its user or address has all that it may have, and all of them are being answered.
    OfOne,
    /// All are taken by those who keep them.
    OfAll,
}

impl Places {
    /// `most` places, `most_each` of them for one user or address.
    pub fn new(most: usize, most_each: usize) -> Places {
        Places {
            most,
            most_each: most_each.max(1),
            taken: Mutex::default(),
            left: Notify::new(),
            turned_away: AtomicU64::new(0),
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are taken.
    pub fn count(&self) -> usize {
        self.taken().all.len()
    }

    /// How many connections were closed or refused, so that others have their places.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// A place for a connection from `origin`; `kept` is for one whom we trust already.
    ///
    /// # Errors
    /// Why there is none.
    pub fn take(self: &Arc<Self>, origin: Origin, kept: bool) -> Result<Place, NoPlace> {
        let mut taken = self.taken();
        if !kept && taken.each.get(&origin).is_some_and(|count| *count >= self.most_each) {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            taken.free_one(Some(origin)).ok_or(NoPlace::OfOne)?;
        }
        if taken.all.len() >= self.most {
            taken.free_one(None).ok_or(NoPlace::OfAll)?;
            self.turned_away.fetch_add(1, Ordering::Relaxed);
        }
        let held = Arc::new(Held {
            origin,
            kept: AtomicBool::new(kept),
            heard: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            over: Notify::new(),
        });
        taken.serial += 1;
        let number = taken.serial;
        taken.all.insert(number, Arc::clone(&held));
        if !kept {
            *taken.each.entry(origin).or_default() += 1;
        }
        Ok(Place { places: Arc::clone(self), number, held })
    }
}

impl Taken {
    /// Takes one away: of `origin`, or of any, and then of the one who has most.
    fn free_one(&mut self, origin: Option<Origin>) -> Option<()> {
        let free = |held: &&Arc<Held>| {
            !held.kept.load(Ordering::Relaxed)
                && held.busy.load(Ordering::Relaxed) == 0
                && origin.is_none_or(|origin| held.origin == origin)
        };
        let all = self.all.iter().filter(|(_, held)| free(held));
        let rank = |held: &Held| {
            let count = self.each.get(&held.origin).copied().unwrap_or(0);
            (held.heard.load(Ordering::Relaxed), Reverse(count))
        };
        // The first of equals is the oldest.
        let number = all.min_by_key(|(_, held)| rank(held)).map(|(number, _)| *number)?;
        let held = self.remove(number)?;
        held.over.notify_one();
        Some(())
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Held>> {
        let held = self.all.remove(&number)?;
        if !held.kept.load(Ordering::Relaxed) {
            self.uncount(held.origin);
        }
        Some(held)
    }

    fn uncount(&mut self, origin: Origin) {
        if let Some(count) = self.each.get_mut(&origin) {
            *count -= 1;
            if *count == 0 {
                self.each.remove(&origin);
            }
        }
    }
}

impl Place {
    /// A token was shown: the place is kept.
    pub fn keep(&self) {
        // Under the lock, so that it is counted once, and not kept once it is taken away.
        let mut taken = self.places.taken();
        if taken.all.contains_key(&self.number) && !self.held.kept.swap(true, Ordering::Relaxed) {
            taken.uncount(self.held.origin);
        }
    }

    /// A request was heard.
    pub fn hear(&self) {
        self.held.heard.store(true, Ordering::Relaxed);
    }

    /// Until this is dropped the place is not taken away: what was asked for is being done.
    pub fn busy(&self) -> Busy<'_> {
        self.held.busy.fetch_add(1, Ordering::Relaxed);
        Busy(&self.held)
    }

    /// Whether it has ever asked anything.
    pub fn heard(&self) -> bool {
        self.held.heard.load(Ordering::Relaxed)
    }

    /// Until the place is taken away.
    pub async fn over(&self) {
        self.held.over.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.places.taken().remove(self.number));
        self.places.left.notify_waiters();
    }
}

/// While it lives, a request is being answered.
pub struct Busy<'a>(&'a Held);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(most: usize, each: usize) -> Arc<Places> {
        Arc::new(Places::new(most, each))
    }

    fn lives(place: &Place) -> bool {
        place.places.taken().all.contains_key(&place.number)
    }

    #[test]
    fn the_oldest_that_has_said_nothing_goes_first() {
        let places = places(3, 3);
        let [a, b, c] = [1, 1, 2].map(|uid| places.take(Origin::User(uid), false).unwrap());
        a.hear();
        let d = places.take(Origin::User(3), false).unwrap();
        assert_eq!([&a, &b, &c, &d].map(lives), [true, false, true, true]);
        let e = places.take(Origin::User(4), false).unwrap();
        let f = places.take(Origin::User(4), false).unwrap();
        assert_eq!([&a, &c, &d, &e, &f].map(lives), [true, false, false, true, true]);
        // Then whoever wants nothing just now; never who is being answered.
        [&e, &f].into_iter().for_each(Place::hear);
        let working = [a.busy(), e.busy()];
        let g = places.take(Origin::User(5), false).unwrap();
        assert_eq!([&a, &e, &f, &g].map(lives), [true, true, false, true]);
        let more = g.busy();
        assert_eq!(places.take(Origin::User(6), false).err(), Some(NoPlace::OfAll));
        drop((working, more));
        assert!(places.take(Origin::User(6), false).is_ok());
    }

    #[test]
    fn one_address_has_its_share_and_a_token_is_not_counted_to_it() {
        let places = places(10, 2);
        let [a, b] = [(); 2].map(|()| places.take(Origin::User(1), false).unwrap());
        let c = places.take(Origin::User(1), false).unwrap();
        assert_eq!([&a, &b, &c].map(lives), [false, true, true]);
        let busy = [b.busy(), c.busy()];
        assert_eq!(places.take(Origin::User(1), false).err(), Some(NoPlace::OfOne));
        b.keep();
        b.keep();
        let d = places.take(Origin::User(1), false).unwrap();
        drop(busy);
        let e = places.take(Origin::User(1), false).unwrap();
        assert_eq!([&b, &c, &d, &e].map(lives), [true, false, true, true]);
        a.keep();
        drop((a, b, c, d, e));
        assert_eq!((places.count(), places.taken().each.len()), (0, 0));
    }
}
