//! Names of leases, holders and their processes.

use crate::store::guard::GrantSecret;
use crate::store::{Claim, Record};
use crate::sys::kernel;
use crate::sys::process::{Identity, Pid};
use crate::sys::random;

/// A name for this very process, which no other has or will have.
pub fn instance() -> String {
    match (Identity::of(Pid::own()), kernel::boot()) {
        (Some(own), Some(boot)) => {
            format!("{}.{}.{}", boot.get(..8).unwrap_or("boot"), own.pid, own.start.0)
        }
        // A pid alone comes again.
        _ => random::hex(),
    }
}

/// Why the lease of `claim` is not the claimant's, in words; `locked` is whether its lock was refused, for
/// what its last leader has started has it.
pub fn held(claim: &Claim, record: &Record, locked: bool) -> String {
    let lease = &claim.lease;
    let Some(holder) = &record.holder else {
        return if locked {
            format!("what the last leader of {lease} has started still runs")
        } else {
            format!("nobody has {lease} any more")
        };
    };
    let has = format!("{holder} has {lease} under term {}", record.term);
    let shown = claim.proof.secret.as_ref().map(GrantSecret::digest);
    match &record.guard.secret {
        Some(secret) if *holder == claim.holder && Some(secret) != shown.as_ref() => format!(
            "{has}, guarded by a secret that was not shown; it runs out, or an operator breaks it (release \
             --break)"
        ),
        _ => has,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::guard::Guard;

    #[test]
    fn who_has_lost_his_secret_is_told_so() {
        let claim = Claim { lease: "l".to_owned(), holder: "a".to_owned(), ..Claim::default() };
        let guard = Guard { peer: None, secret: Some(String::new()) };
        let record = Record { holder: Some("a".to_owned()), term: 7, guard, ..Record::default() };
        let told = held(&claim, &record, false);
        assert!(told.starts_with("a has l under term 7, guarded by a secret that was not shown;"), "{told}");
        let other = Record { holder: Some("b".to_owned()), ..record.clone() };
        assert_eq!(held(&claim, &other, false), "b has l under term 7");
        let nobody = Record { holder: None, ..record };
        assert_eq!(held(&claim, &nobody, false), "nobody has l any more");
        assert_eq!(held(&claim, &nobody, true), "what the last leader of l has started still runs");
    }
}
