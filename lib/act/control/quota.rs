//! How many names there may be, of leases or of controllers, in all and of one peer: none is ever forgotten,
//! so whoever could make them without end could fill the disk.

use crate::words::error::brief;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// A quota, and the names that are counted to it.
pub struct Quota {
    what: &'static str,
    most: usize,
    /// Of one peer.
    most_each: usize,
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    /// Whose each is: of nobody, where that is not known.
    all: HashMap<String, Option<String>>,
    each: HashMap<String, usize>,
}

impl Quota {
    /// `most` of `what` in all, `most_each` of one peer; `known` are there already.
    pub fn new(
        what: &'static str,
        most: usize,
        most_each: usize,
        known: impl IntoIterator<Item = (String, Option<String>)>,
    ) -> Quota {
        let mut names = Names::default();
        known.into_iter().for_each(|(name, peer)| names.count(&name, peer.as_deref()));
        Quota { what, most, most_each: most_each.max(1), names: Mutex::new(names) }
    }

    /// Whether `name` is there, or there is room for it: then it is counted to `peer`; `None` is one who may
    /// have as many as there are.
    ///
    /// # Errors
    /// Why there is none.
    pub fn admit(&self, name: &str, peer: Option<&str>) -> Result<(), String> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.all.contains_key(name) {
            return Ok(());
        }
        let of_peer = peer.and_then(|peer| names.each.get(peer)).copied().unwrap_or(0);
        if names.all.len() >= self.most {
            return Err(format!("there are {} {}, and no more are taken", self.most, self.what));
        }
        if of_peer >= self.most_each {
            let whose = brief(peer.unwrap_or_default());
            return Err(format!("{whose} has made {of_peer} {}, and may make no more", self.what));
        }
        names.count(name, peer);
        Ok(())
    }

    /// Counts `name` to `peer`, whosever it was: it is there, or has changed hands.
    pub fn note(&self, name: &str, peer: Option<&str>) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).count(name, peer);
    }
}

impl Names {
    fn count(&mut self, name: &str, peer: Option<&str>) {
        let before = self.all.insert(name.to_owned(), peer.map(str::to_owned));
        if let Some(count) = before.flatten().and_then(|before| self.each.get_mut(&before)) {
            *count = count.saturating_sub(1);
        }
        if let Some(peer) = peer {
            *self.each.entry(peer.to_owned()).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_more_than_its_share_and_what_is_there_goes_on() {
        let quota = Quota::new("leases", 4, 2, [("old".to_owned(), Some("a".to_owned()))]);
        assert_eq!(quota.admit("old", Some("a")), Ok(()));
        assert_eq!(quota.admit("a1", Some("a")), Ok(()));
        assert!(quota.admit("a2", Some("a")).unwrap_err().contains("a has made 2 leases"));
        assert_eq!(quota.admit("b1", Some("b")), Ok(()));
        // What has changed hands is the next one's.
        quota.note("old", Some("b"));
        assert!(quota.admit("b2", Some("b")).is_err());
        assert_eq!(quota.admit("a2", Some("a")), Ok(()));
        assert!(quota.admit("c1", None).unwrap_err().contains("there are 4 leases"));
        assert_eq!(quota.admit("old", Some("c")), Ok(()));
    }
}
