//! How many names there may be, of leases or of controllers: none is ever forgotten, so whoever could make
//! them without end could fill the disk. A name counts for ever, for who has made it; and some are kept for
//! those who are known, so that strangers together cannot take all.

use crate::words::error::brief;

/// Which part of all names is kept for who is known.
const KEPT: usize = 10;

/// A name, and as whom who has made it is counted, where it is.
pub type MadeName = (String, Option<String>);

/// A quota, as it is for who would make one more name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameQuota {
    /// `leases` or `controllers`.
    pub what: &'static str,
    /// How many there may be in all.
    pub most: usize,
    /// How many of one maker.
    pub most_each: usize,
    /// As whom the new one counts; `None` is one who is known, and may make as many as there may be.
    pub maker: Option<String>,
}

impl NameQuota {
    /// Whether there is room for one more, where there are `all`, and `own` of this maker.
    ///
    /// # Errors
    /// Why there is none.
    pub fn admit(&self, all: usize, own: usize) -> Result<(), String> {
        let (what, most) = (self.what, self.most);
        if all >= most {
            return Err(format!("there are {most} {what}, and no more are taken"));
        }
        let Some(maker) = &self.maker else { return Ok(()) };
        if own >= self.most_each.max(1) {
            let whose = brief(maker);
            return Err(format!("{whose} has made {own} {what}, and may make no more"));
        }
        let kept = most / KEPT;
        if all >= most - kept {
            return Err(format!("there are {all} {what}; the last {kept} are kept for who is known"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_more_than_its_share_and_strangers_not_all() {
        let by = |maker: Option<&str>| NameQuota {
            what: "leases",
            most: 40,
            most_each: 20,
            maker: maker.map(str::to_owned),
        };
        assert_eq!(by(Some("a")).admit(19, 19), Ok(()));
        assert!(by(Some("a")).admit(20, 20).unwrap_err().contains("a has made 20 leases"));
        assert_eq!(by(Some("b")).admit(35, 15), Ok(()));
        assert!(by(Some("b")).admit(36, 16).unwrap_err().contains("the last 4 are kept"));
        assert_eq!(by(None).admit(36, 0), Ok(()));
        assert!(by(None).admit(40, 0).unwrap_err().contains("there are 40 leases"));
    }
}
