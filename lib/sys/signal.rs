//! Signals as bytes in a pipe: the handler writes one byte and does nothing else (signal-safety(7)).

use nix::fcntl::OFlag;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, sigaction};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

pub use nix::sys::signal::Signal;

static PIPE: AtomicI32 = AtomicI32::new(-1);

/// The signals that this process has asked for.
pub struct Signals {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Signals {
    /// Catches `wanted` from now on. There can be one `Signals` in a process.
    ///
    /// # Errors
    /// Those of pipe(2) and sigaction(2).
    pub fn catch(wanted: &[Signal]) -> io::Result<Signals> {
        let (reader, writer) = pipe()?;
        PIPE.store(writer.as_raw_fd(), Ordering::SeqCst);
        let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
        for signal in wanted {
            // SAFETY: `note` calls only write(2) and saves errno, both async-signal-safe.
            unsafe { sigaction(*signal, &action) }?;
        }
        Ok(Signals { reader, writer })
    }

    /// Catches, from now on, every signal that is meant for a command that we stand for: those that no fault
    /// of our own raises, that can be caught, and that do not stop a program which writes to its terminal.
    ///
    /// # Errors
    /// Those of sigaction(2).
    pub fn catch_all(&self) -> io::Result<()> {
        const OURS: [Signal; 12] = [
            Signal::SIGKILL,
            Signal::SIGSTOP,
            Signal::SIGILL,
            Signal::SIGTRAP,
            Signal::SIGABRT,
            Signal::SIGBUS,
            Signal::SIGFPE,
            Signal::SIGSEGV,
            Signal::SIGSYS,
            Signal::SIGPIPE,
            Signal::SIGTTIN,
            Signal::SIGTTOU,
        ];
        #[cfg(target_os = "linux")]
        let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
        #[cfg(not(target_os = "linux"))]
        let real_time = 0..0;
        let plain = Signal::iterator().filter(|signal| !OURS.contains(signal)).map(|signal| signal as i32);
        for number in plain.chain(real_time) {
            // SAFETY: as `catch`; the action is whole, and an empty set is what zeroes are.
            let done = unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = note as *const () as usize;
                action.sa_flags = libc::SA_RESTART;
                libc::sigaction(number, &raw const action, std::ptr::null_mut())
            };
            nix::errno::Errno::result(done)?;
        }
        Ok(())
    }

    /// Readable when a signal came.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// The signals that came since the last call, in order.
    pub fn take(&self) -> Vec<Signal> {
        self.take_numbers().into_iter().filter_map(|number| Signal::try_from(number).ok()).collect()
    }

    /// The same as numbers: real-time signals have no name.
    pub fn take_numbers(&self) -> Vec<i32> {
        let mut bytes = [0u8; 64];
        let count = nix::unistd::read(&self.reader, &mut bytes).unwrap_or(0);
        bytes[..count].iter().map(|byte| i32::from(*byte)).collect()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = PIPE.compare_exchange(self.writer.as_raw_fd(), -1, Ordering::SeqCst, Ordering::SeqCst);
    }
}

extern "C" fn note(number: libc::c_int) {
    let errno = nix::errno::Errno::last_raw();
    let byte = [u8::try_from(number).unwrap_or(0)];
    let fd = PIPE.load(Ordering::SeqCst);
    if fd >= 0 {
        // SAFETY: a write of one byte from a live buffer; a full or closed pipe only loses the note.
        unsafe { libc::write(fd, byte.as_ptr().cast(), 1) };
    }
    nix::errno::Errno::set_raw(errno);
}

/// A bell that threads ring to wake a loop that waits in poll(2).
#[derive(Debug)]
pub struct Bell {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Bell {
    /// A bell that is silent.
    ///
    /// # Errors
    /// Those of pipe(2).
    pub fn new() -> io::Result<Bell> {
        let (reader, writer) = pipe()?;
        Ok(Bell { reader, writer })
    }

    /// Rings; a full pipe has rung already.
    pub fn ring(&self) {
        let _ = nix::unistd::write(&self.writer, b"!");
    }

    /// Readable when it rang.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// Silences it.
    pub fn silence(&self) {
        let mut bytes = [0u8; 64];
        while nix::unistd::read(&self.reader, &mut bytes).is_ok_and(|count| count == bytes.len()) {}
    }
}

/// A non-blocking pipe that no child inherits: its reading and its writing end.
///
/// # Errors
/// Those of pipe(2).
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = nix::unistd::pipe()?;
    for fd in [&reader, &writer] {
        nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
        nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    Ok((reader, writer))
}

/// The signal of a name, `TERM` or `SIGTERM`.
pub fn named(name: &str) -> Option<Signal> {
    let full = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
    full.parse().ok()
}

/// The short name of a signal number, `SIGTERM`, or its number where it has none.
pub fn name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

/// Gives SIGPIPE its default action back, for a command that is about to be exec'd: Rust ignores it in its
/// own programs.
pub fn restore_sigpipe() {
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no code of ours.
    let _ = unsafe { sigaction(Signal::SIGPIPE, &action) };
}
