//! What guards a lease. Its holder and its term are no secrets: whoever may ask sees them. So a lease is gone
//! on with, and given up, only by who shows the secret of the grant, or, where none was asked for, comes from
//! where the claim came from.

use crate::sys::{digest, random};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::fmt;
use subtle::ConstantTimeEq;

/// The fewest and the most letters of a secret; one of ours has 32 hexadecimal digits, which are 128 bits.
const LETTERS: std::ops::RangeInclusive<usize> = 32..=128;

/// The peer of who needs no server.
const DIRECT: &str = "direct";

/// The secret of a grant: told once, kept by its holder alone, and shown by nothing of ours.
#[derive(Clone, PartialEq, Eq)]
pub struct GrantSecret(String);

impl GrantSecret {
    /// A new one, that nobody can guess.
    ///
    /// # Errors
    /// 74 where the kernel has no random numbers.
    pub fn new() -> Result<GrantSecret> {
        let bits = random::secret().map_err(|cause| Error::io("cannot make a secret", &cause))?;
        Ok(GrantSecret(bits))
    }

    /// One that was made elsewhere; `None` for what is none.
    pub fn parse(text: &str) -> Option<GrantSecret> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (LETTERS.contains(&text.len()) && text.bytes().all(good)).then(|| GrantSecret(text.to_owned()))
    }

    /// The secret itself, for its holder and for who must be shown it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What a store keeps of it.
    pub fn digest(&self) -> String {
        digest::sha256(self.0.as_bytes())
    }
}

impl fmt::Debug for GrantSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// Where a request comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Claimant {
    /// From who can open the store itself, and could write anything into it.
    #[default]
    Direct,
    /// From elsewhere: `uid:NUMBER`, `token:DIGEST` or `ip:ADDRESS`.
    Peer(String),
    /// From root or the server's own user, likewise.
    Operator(String),
}

/// What a claimant shows besides its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimProof {
    /// Where it comes from.
    pub claimant: Claimant,
    /// The secret of the grant; of a claim, the one that the grant is to have.
    pub secret: Option<GrantSecret>,
    /// Whether an operator gives up what another holds.
    pub breaks: bool,
}

/// What a lease is guarded by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Where its claim came from; `None` of one that an older version has granted.
    pub peer: Option<String>,
    /// The digest of its secret; empty where only a server knows it.
    pub secret: Option<String>,
}

impl Guard {
    /// Whether a claimant with this proof may go on with the lease, or give it up.
    pub fn admits(&self, proof: &ClaimProof) -> bool {
        let shown = || proof.secret.as_ref().map(GrantSecret::digest);
        let secret = self.secret.as_ref().is_none_or(|kept| {
            shown().is_some_and(|shown| bool::from(kept.as_bytes().ct_eq(shown.as_bytes())))
        });
        let peer = match (&proof.claimant, &self.peer) {
            (Claimant::Direct | Claimant::Operator(_), _) | (_, None) => true,
            (Claimant::Peer(now), Some(then)) => {
                // An address may change under who shows the secret; a user does not.
                now == then || (self.secret.is_some() && !then.starts_with("uid:"))
            }
        };
        secret && peer
    }

    /// Whether a claimant with this proof may give the lease up: one that an older version has granted only
    /// who can open the store, and operators, for from whom it came nobody knows; the next renewal tells.
    pub fn is_lifted_by(&self, proof: &ClaimProof) -> bool {
        let known = self.peer.is_some() || self.secret.is_some();
        self.admits(proof) && (known || !matches!(proof.claimant, Claimant::Peer(_)))
    }

    /// The guard of a lease that is granted to this proof; `before` is that of the same grant.
    pub(super) fn of(proof: &ClaimProof, before: Option<&Guard>) -> Guard {
        let kept = before.cloned().unwrap_or_default();
        let peer = match &proof.claimant {
            // Who goes on for another does not take the lease from him.
            Claimant::Operator(_) | Claimant::Direct if kept.peer.is_some() => kept.peer,
            Claimant::Peer(peer) | Claimant::Operator(peer) => Some(peer.clone()),
            Claimant::Direct => Some(DIRECT.to_owned()),
        };
        Guard { peer, secret: proof.secret.as_ref().map(GrantSecret::digest).or(kept.secret) }
    }

    /// In words, for people; and whether it keeps out who shares an address or a token with the holder.
    pub fn told(&self) -> (String, bool) {
        let (peer, known) = match self.peer.as_deref().map(|peer| peer.split_once(':').unwrap_or((peer, "")))
        {
            Some(("uid", number)) => (format!("user {number}"), true),
            Some((DIRECT, _)) => ("the store's own users".to_owned(), true),
            Some(("ip", address)) => (format!("address {address}"), false),
            Some(_) => ("token".to_owned(), false),
            None => ("anybody".to_owned(), false),
        };
        match &self.secret {
            Some(_) => (format!("secret, {peer}"), true),
            None if known => (peer, true),
            None => (format!("unguarded: {peer}"), false),
        }
    }
}

/// What who may not give up a lease is told.
pub(super) fn guarded(lease: &str) -> Error {
    let why = format!("{lease} is guarded: neither its secret was shown, nor is this who has claimed it");
    Error::new(Status::Lost, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(peer: &str, secret: Option<&GrantSecret>) -> ClaimProof {
        let claimant = Claimant::Peer(peer.to_owned());
        ClaimProof { claimant, secret: secret.cloned(), breaks: false }
    }

    #[test]
    fn without_a_secret_only_the_same_peer_goes_on() {
        let guard = Guard::of(&proof("ip:10.0.0.1", None), None);
        assert!(guard.admits(&proof("ip:10.0.0.1", None)) && guard.admits(&ClaimProof::default()));
        assert!(!guard.admits(&proof("ip:10.0.0.2", None)) && !guard.admits(&proof("uid:0", None)));
        assert_eq!(guard.told(), ("unguarded: address 10.0.0.1".to_owned(), false));
        // What an older version has granted is gone on with by anybody, and then given up by nobody else.
        let of_old = Guard::default();
        let stranger = proof("ip:10.0.0.2", None);
        assert!(of_old.admits(&stranger) && !of_old.told().1 && !of_old.is_lifted_by(&stranger));
        assert!(of_old.is_lifted_by(&ClaimProof::default()));
        let adopted = Guard::of(&proof("uid:7", None), Some(&of_old));
        assert!(adopted.is_lifted_by(&proof("uid:7", None)) && !adopted.admits(&stranger));
    }

    #[test]
    fn a_secret_must_be_shown_and_a_user_stays_one() {
        let (secret, other) = (GrantSecret::new().unwrap(), GrantSecret::new().unwrap());
        let guard = Guard::of(&proof("ip:10.0.0.1", Some(&secret)), None);
        assert!(guard.admits(&proof("ip:10.0.0.1", Some(&secret))));
        assert!(guard.admits(&proof("ip:10.0.0.9", Some(&secret))));
        for wrong in [None, Some(&other)] {
            assert!(!guard.admits(&proof("ip:10.0.0.1", wrong)), "{wrong:?}");
        }
        let direct = ClaimProof { secret: Some(other.clone()), ..ClaimProof::default() };
        let operator =
            ClaimProof { claimant: Claimant::Operator("uid:0".to_owned()), ..ClaimProof::default() };
        assert!(!guard.admits(&direct) && !guard.admits(&operator));
        let user = Guard::of(&proof("uid:1000", Some(&secret)), None);
        assert!(user.admits(&proof("uid:1000", Some(&secret))));
        assert!(!user.admits(&proof("uid:1001", Some(&secret))));
        // Root may go on for a user, who keeps his lease.
        let open = Guard::of(&proof("uid:1000", None), None);
        assert!(open.admits(&operator));
        assert_eq!(Guard::of(&operator, Some(&open)), open);
        // What was granted without one is guarded once it is asked for, and stays so.
        let later = Guard::of(&proof("uid:1000", Some(&secret)), Some(&open));
        assert_eq!(Guard::of(&proof("uid:1000", None), Some(&later)), later);
        assert!(later.secret.is_some());
    }

    #[test]
    fn a_secret_is_long_and_shown_by_nothing() {
        let secret = GrantSecret::new().unwrap();
        assert_eq!(GrantSecret::parse(secret.reveal()), Some(secret.clone()));
        assert_eq!(format!("{:?}", proof("ip:1", Some(&secret))).matches(secret.reveal()).count(), 0);
        for bad in ["", "short", &"x".repeat(31), &"x".repeat(129), &format!("{}\n", "x".repeat(40))] {
            assert_eq!(GrantSecret::parse(bad), None);
        }
    }
}
