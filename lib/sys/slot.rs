//! A descriptor number that is kept for one use, so that each child finds its own thing under the same
//! number.

use super::net;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

/// The number; what is under it changes from child to child. Our own children inherit it only where they are
/// given `shared`.
#[derive(Clone, Debug)]
pub struct Slot {
    place: Arc<OwnedFd>,
    nothing: Arc<File>,
}

impl Slot {
    /// Takes the number, which must be free, from 3 to 255.
    ///
    /// # Errors
    /// `InvalidInput` for a number that cannot be taken; `AddrInUse` for one that is in use.
    pub fn take(number: i32) -> io::Result<Slot> {
        if !(3..=255).contains(&number) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a number from 3 to 255"));
        }
        // SAFETY: F_GETFD changes nothing.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0 {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let nothing = File::open("/dev/null")?;
        let place = net::numbered(nothing.try_clone()?.into(), number)?;
        Ok(Slot { place: Arc::new(place), nothing: Arc::new(nothing) })
    }

    /// What a child is given, for `child::Spec`.
    pub fn shared(&self) -> (i32, Arc<OwnedFd>) {
        (self.place.as_raw_fd(), Arc::clone(&self.place))
    }

    /// Puts `what` there.
    ///
    /// # Errors
    /// Those of dup2(2).
    pub fn fill(&self, what: &OwnedFd) -> io::Result<()> {
        net::duplicate(what.as_fd(), self.place.as_raw_fd())
    }

    /// Puts nothing there (/dev/null), so that what was there is held by the child alone.
    pub fn clear(&self) {
        let _ = net::duplicate(self.nothing.as_fd(), self.place.as_raw_fd());
    }
}
