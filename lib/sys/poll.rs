//! Waiting for any of several descriptors, until a deadline.

use crate::sys::memory;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// What to wait for on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Data, a connection, an end of file or an error.
    Reading,
    /// Room to write, or an error.
    Writing,
}

/// Waits until one of `fds` is ready or `until` comes; `None` waits for ever. Says which are ready: none at
/// the deadline. A signal restarts the wait.
///
/// # Errors
/// Those of poll(2), but for EINTR.
pub fn wait(fds: &[(BorrowedFd<'_>, For)], until: Option<Instant>) -> io::Result<Vec<bool>> {
    wait_with(fds, until, None)
}

/// The same for a wait that will be long: memory that only what went before has needed is given back first
/// (`memory::shrink`), and what the wait itself needs is small.
///
/// # Errors
/// As `wait`.
pub fn wait_long(fds: &[(BorrowedFd<'_>, For)], until: Option<Instant>) -> io::Result<Vec<bool>> {
    wait_with(fds, until, Some(memory::spare()))
}

fn wait_with(
    fds: &[(BorrowedFd<'_>, For)],
    until: Option<Instant>,
    mut spare: Option<memory::Spare>,
) -> io::Result<Vec<bool>> {
    let mut set: Vec<PollFd<'_>> = fds
        .iter()
        .map(|(fd, what)| {
            PollFd::new(*fd, if *what == For::Reading { PollFlags::POLLIN } else { PollFlags::POLLOUT })
        })
        .collect();
    loop {
        let timeout = timeout(until);
        if let Some(spare) = spare.take() {
            spare.give_back();
        }
        match poll(&mut set, timeout) {
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
            Ok(0) if until.is_none_or(|until| Instant::now() < until) => {}
            Ok(_) => {
                return Ok(set
                    .iter()
                    .map(|one| one.revents().is_some_and(|events| !events.is_empty()))
                    .collect());
            }
        }
    }
}

/// poll(2), by syscall(2): see `Spare::give_back`.
#[cfg(target_os = "linux")]
#[inline(always)]
fn poll(set: &mut [PollFd<'_>], timeout: PollTimeout) -> io::Result<i32> {
    let span = u32::try_from(i32::from(timeout)).ok().map(|millis| libc::timespec {
        tv_sec: (millis / 1000).into(),
        tv_nsec: (millis % 1000 * 1_000_000).into(),
    });
    let span = span.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: a PollFd is a pollfd, of which as many are there as are named; the span is a timespec or null,
    // and the signal mask is left as it is.
    let ready = unsafe {
        libc::syscall(libc::SYS_ppoll, set.as_mut_ptr(), set.len(), span, std::ptr::null::<u8>(), 8)
    };
    if ready < 0 { Err(io::Error::last_os_error()) } else { Ok(i32::try_from(ready).unwrap_or(i32::MAX)) }
}

#[cfg(not(target_os = "linux"))]
fn poll(set: &mut [PollFd<'_>], timeout: PollTimeout) -> io::Result<i32> {
    Ok(nix::poll::poll(set, timeout)?)
}

/// Whole milliseconds, rounded up so that a wait never spins at its end.
fn timeout(until: Option<Instant>) -> PollTimeout {
    match until {
        None => PollTimeout::NONE,
        Some(until) => {
            let left = until.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            PollTimeout::try_from(left.as_millis().min(1 << 30)).unwrap_or(PollTimeout::MAX)
        }
    }
}

/// Makes reads and writes of `fd` return at once.
///
/// # Errors
/// Those of fcntl(2).
pub fn unblock(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = nix::fcntl::OFlag::from_bits_truncate(nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL)?);
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(flags | nix::fcntl::OFlag::O_NONBLOCK))?;
    Ok(())
}

/// More descriptors than usual, until it is dropped: what is started later has the limit that we were given.
#[derive(Debug)]
pub struct RaisedLimit {
    before: Option<(u64, u64)>,
    now: u64,
}

impl RaisedLimit {
    /// Room for `count` descriptors, as far as we may.
    pub fn new(count: usize) -> RaisedLimit {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
            return RaisedLimit { before: None, now: u64::MAX };
        };
        let wanted = u64::try_from(count).unwrap_or(u64::MAX).min(hard);
        let raised = wanted > soft && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok();
        RaisedLimit { before: raised.then_some((soft, hard)), now: if raised { wanted } else { soft } }
    }

    /// How many descriptors this process may have now.
    pub fn count(&self) -> usize {
        usize::try_from(self.now).unwrap_or(usize::MAX)
    }
}

impl Drop for RaisedLimit {
    fn drop(&mut self) {
        if let Some((soft, hard)) = self.before {
            let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, soft, hard);
        }
    }
}

/// Lets this process open as many descriptors as it may.
pub fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // macOS says infinity and takes OPEN_MAX at most (setrlimit(2), COMPATIBILITY).
        let most = if cfg!(target_os = "macos") { hard.min(10_240) } else { hard };
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, hard);
    }
}
