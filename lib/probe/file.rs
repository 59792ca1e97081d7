//! `file:/path`: is it there?

use crate::probe::{Answer, Cost, Probe};
use crate::words::failure::Failure;
use std::path::PathBuf;
use std::time::Instant;

/// Up when the path exists; a link that leads nowhere does not.
pub struct File {
    /// The path.
    pub path: PathBuf,
}

impl Probe for File {
    fn ask(&self, _: Instant) -> Result<Answer, Failure> {
        match std::fs::metadata(&self.path) {
            Ok(_) => Ok(Answer::default()),
            Err(cause) => Err(Failure::io(&format!("cannot find {}", self.path.display()), &cause)),
        }
    }

    fn cost(&self) -> Cost {
        Cost::Local
    }
}
