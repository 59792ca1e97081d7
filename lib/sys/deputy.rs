//! A process of our own that has become another user for good, and asks us for the little that only root can
//! do. What it is led to by that user's files is that user's anyway.

use crate::sys::child;
use crate::sys::process::Pid;
use crate::sys::user::Credentials;
use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixStream;

/// What a process has become.
#[derive(Debug)]
pub enum Deputy {
    /// The other user, who may ask on this line.
    Itself(UnixStream),
    /// Root still, whose deputy this is.
    Of {
        /// Its pid, to be waited for.
        pid: Pid,
        /// On which it asks. It ends with it.
        asks: UnixStream,
    },
}

/// Splits this process, which must have one thread only, in root and in one that is `who` from now on, in an
/// environment of `who`: of ours it keeps the variables that `keeps` names.
///
/// # Errors
/// Those of fork(2) and socketpair(2).
pub fn split(who: &Credentials, keeps: &dyn Fn(&str) -> bool) -> io::Result<Deputy> {
    let (own, other) = UnixStream::pair()?;
    // SAFETY: there is no other thread that could hold a lock.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => {
            let pid = Pid::new(child.as_raw()).ok_or(io::ErrorKind::InvalidData)?;
            Ok(Deputy::Of { pid, asks: own })
        }
        nix::unistd::ForkResult::Child => {
            drop(own);
            if alone().and_then(|()| become_user(who)).is_err() {
                // SAFETY: it does not return; nothing of this process is to be written twice.
                unsafe { libc::_exit(i32::from(crate::words::exit::Status::No.code())) };
            }
            live_as(who, keeps);
            Ok(Deputy::Itself(other))
        }
    }
}

/// What that user's programs could take from root when this process runs them: its terminal (TIOCSTI), its
/// keyring and what it has open. Only the three standard streams stay.
fn alone() -> io::Result<()> {
    nix::unistd::setsid()?;
    child::own_keyring(true).map_err(io::Error::from_raw_os_error)?;
    child::close_on_exec_from(3);
    Ok(())
}

/// All three ids, so that there is no way back, and nobody but root may look into this process (ptrace(2): it
/// has had another user).
fn become_user(who: &Credentials) -> io::Result<()> {
    // SAFETY: there are as many groups as is said.
    #[allow(clippy::useless_conversion, reason = "the type of the number differs between systems")]
    let groups = unsafe { libc::setgroups(who.groups.len().try_into().unwrap_or(0), who.groups.as_ptr()) };
    if groups != 0 {
        return Err(io::Error::last_os_error());
    }
    nix::unistd::setgid(who.gid.into())?;
    nix::unistd::setuid(who.uid.into())?;
    Ok(())
}

fn live_as(who: &Credentials, keeps: &dyn Fn(&str) -> bool) {
    let names: Vec<OsString> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in names.into_iter().filter(|name| !name.to_str().is_some_and(keeps)) {
        // SAFETY: this is the only thread, as it was before the fork.
        unsafe { std::env::remove_var(name) };
    }
    for (name, value) in who.environment() {
        // SAFETY: as above.
        unsafe { std::env::set_var(name, value) };
    }
}
