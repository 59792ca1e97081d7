//! Controllers: those who may lead, as they tell of themselves, and whose word that is.

use crate::store::guard::{ClaimProof, Claimant, Guard};
use crate::store::quota::NameQuota;
use crate::words::error::Error;
use crate::words::exit::Status;
use std::time::Duration;

/// One that may lead, as it tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Controller {
    /// Its name.
    pub id: String,
    /// Its host.
    pub host: String,
    /// `primary` or `standby`.
    pub role: String,
    /// The higher, the sooner it should lead.
    pub priority: u64,
    /// `leader`, `standby` or `degraded`.
    pub status: String,
    /// Of its program.
    pub version: Option<String>,
    /// When it has sent this, in seconds since 1970 by its own clock.
    pub heartbeat_at: u64,
    /// When it was started, likewise.
    pub started_at: u64,
}

/// How long a controller that is not heard keeps its name from others.
const SILENT: Duration = Duration::from_secs(60);

/// A heartbeat, and who has sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// What is told.
    pub controller: Controller,
    /// Where it comes from.
    pub claimant: Claimant,
    /// How many controllers there may be, where it would make another.
    pub quota: Option<NameQuota>,
}

impl Beat {
    /// Where it comes from, as it is kept with the controller.
    pub fn guard(&self) -> Guard {
        Guard::of(&ClaimProof { claimant: self.claimant.clone(), ..ClaimProof::default() }, None)
    }

    /// Whether it may take the place of a controller's last one, which came from `peer`, `ago`. A user or a
    /// token keeps others out as long as it is heard; an address says of nobody who it is.
    pub(super) fn follows(&self, peer: Option<&str>, ago: Duration) -> bool {
        let Some(peer) = peer.filter(|peer| !peer.starts_with("ip:")) else { return true };
        let proof = ClaimProof { claimant: self.claimant.clone(), ..ClaimProof::default() };
        ago >= SILENT || Guard { peer: Some(peer.to_owned()), secret: None }.admits(&proof)
    }
}

/// What who sends another's heartbeat is told.
pub(super) fn another_sends(id: &str) -> Error {
    let why = format!("{id} is guarded: its heartbeats come from another");
    Error::new(Status::Lost, why)
}

/// A controller, as a store knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeardController {
    /// What it has told.
    pub controller: Controller,
    /// How long ago.
    pub ago: Duration,
    /// From where.
    pub guard: Guard,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_or_a_token_is_heard_alone_until_it_is_silent() {
        let by = |peer: &str| Beat { claimant: Claimant::Peer(peer.to_owned()), ..Beat::default() };
        let (soon, late) = (Duration::from_secs(59), Duration::from_secs(60));
        for kept in ["uid:7", "token:a", "direct"] {
            assert!(!by("uid:8").follows(Some(kept), soon) && !by("ip:10.0.0.1").follows(Some(kept), soon));
            assert!(by("uid:8").follows(Some(kept), late));
            assert!(Beat::default().follows(Some(kept), soon) && by(kept).follows(Some(kept), soon));
            let operator = Beat { claimant: Claimant::Operator("uid:0".to_owned()), ..Beat::default() };
            assert!(operator.follows(Some(kept), soon));
        }
        for open in [None, Some("ip:10.0.0.1")] {
            assert!(by("uid:8").follows(open, soon));
        }
    }
}
