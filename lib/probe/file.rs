//! `file:/path`: is it there?

use crate::probe::{Asked, Cost, Probe, ProbeAnswer};
use crate::words::failure::Failure;
use std::path::PathBuf;
use std::time::Instant;

/// Up when the path exists; a link that leads nowhere does not.
pub struct FileProbe {
    /// The path.
    pub path: PathBuf,
}

impl Probe for FileProbe {
    fn ask(&self, _: Instant) -> Asked<'_> {
        Box::pin(async {
            match std::fs::metadata(&self.path) {
                Ok(_) => Ok(ProbeAnswer::default()),
                Err(cause) => Err(Failure::io(&format!("cannot find {}", self.path.display()), &cause)),
            }
        })
    }

    fn cost(&self) -> Cost {
        Cost::Local
    }
}
