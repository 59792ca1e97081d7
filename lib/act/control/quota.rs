//! The names in a store that does not count them itself, as this server knows them: those that it has found
//! there at first, and those that it has made since.

use crate::store::quota::{MadeName, NameQuota};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Names, and how many each maker has made.
pub struct NameTally(Mutex<Names>);

#[derive(Default)]
struct Names {
    /// Whose each is: of nobody, where that is not known.
    all: HashMap<String, Option<String>>,
    each: HashMap<String, usize>,
}

impl NameTally {
    /// `known` are there already.
    pub fn new(known: Vec<MadeName>) -> NameTally {
        let mut names = Names::default();
        known.into_iter().for_each(|(name, maker)| names.count(name, maker));
        NameTally(Mutex::new(names))
    }

    /// Whether `name` is there, or there is room for it: then it is counted.
    ///
    /// # Errors
    /// Why there is none.
    pub fn admit(&self, name: &str, quota: &NameQuota) -> Result<(), String> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.all.contains_key(name) {
            return Ok(());
        }
        let own = quota.maker.as_ref().and_then(|maker| names.each.get(maker)).copied().unwrap_or(0);
        quota.admit(names.all.len(), own)?;
        names.count(name.to_owned(), quota.maker.clone());
        Ok(())
    }

    /// Notes that `name` is there, made elsewhere.
    pub fn note(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count(name.to_owned(), None);
    }
}

impl Names {
    fn count(&mut self, name: String, maker: Option<String>) {
        if self.all.contains_key(&name) {
            return;
        }
        if let Some(maker) = &maker {
            *self.each.entry(maker.clone()).or_default() += 1;
        }
        self.all.insert(name, maker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_for_its_maker_and_what_is_there_goes_on() {
        let by = |maker: &str| {
            let maker = Some(maker.to_owned());
            NameQuota { what: "leases", most: 4, most_each: 2, maker }
        };
        let tally = NameTally::new(vec![("old".to_owned(), Some("a".to_owned()))]);
        assert_eq!(tally.admit("old", &by("a")), Ok(()));
        assert_eq!(tally.admit("a1", &by("a")), Ok(()));
        assert!(tally.admit("a2", &by("a")).unwrap_err().contains("a has made 2 leases"));
        assert_eq!(tally.admit("b1", &by("b")), Ok(()));
        // Whoever goes on with it, it is its maker's.
        tally.note("old");
        assert_eq!(tally.admit("old", &by("b")), Ok(()));
        assert!(tally.admit("a2", &by("a")).is_err());
        tally.note("theirs");
        assert!(tally.admit("c1", &by("c")).unwrap_err().contains("there are 4 leases"));
    }
}
