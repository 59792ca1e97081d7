//! Signals as bytes in a pipe: the handler writes one byte and does nothing else (signal-safety(7)).

use nix::fcntl::OFlag;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, sigaction};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

mod number;

pub use nix::sys::signal::Signal;
pub use number::SignalNumber;

static PIPE: AtomicI32 = AtomicI32::new(-1);

/// The signals that this process has asked for.
pub struct Signals {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Signals {
    /// Catches `wanted` from now on. There can be one `Signals` in a process. What the caller ignored stays
    /// ignored, for us and for what we start: HUP under nohup(1), INT in a background job of a shell.
    ///
    /// # Errors
    /// Those of pipe(2) and sigaction(2).
    pub fn catch(wanted: &[Signal]) -> io::Result<Signals> {
        let (reader, writer) = pipe()?;
        PIPE.store(writer.as_raw_fd(), Ordering::SeqCst);
        let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
        for signal in wanted.iter().filter(|signal| !is_ignored(**signal as i32)) {
            // SAFETY: `note` calls only write(2) and saves errno, both async-signal-safe.
            unsafe { sigaction(*signal, &action) }?;
        }
        Ok(Signals { reader, writer })
    }

    /// Catches, from now on, every signal that can be: as process 1 of a container we stand for the command,
    /// and what is sent to us is meant for it. A fault of our own still ends us.
    ///
    /// # Errors
    /// Those of sigaction(2).
    pub fn catch_all(&self) -> io::Result<()> {
        let own = [libc::SIGKILL, libc::SIGSTOP];
        // Rust's start ignores PIPE in every program; that is not what the caller has asked for.
        let ignored = |number: i32| match number {
            libc::SIGPIPE => pipe_was_ignored(),
            _ => is_ignored(number),
        };
        for number in all().filter(|number| !own.contains(number) && !ignored(*number)) {
            catch_sent(number)?;
        }
        #[cfg(target_os = "linux")]
        catch_reserved();
        Ok(())
    }

    /// Catches, from now on, every signal that would end us though nothing is wrong with us: all but faults
    /// of our own, and those that stop, continue or only inform.
    ///
    /// # Errors
    /// Those of sigaction(2).
    pub fn catch_ending(&self) -> io::Result<()> {
        let harmless = [
            libc::SIGKILL,
            libc::SIGSTOP,
            libc::SIGTSTP,
            libc::SIGTTIN,
            libc::SIGTTOU,
            libc::SIGCONT,
            libc::SIGCHLD,
            libc::SIGURG,
            libc::SIGWINCH,
            libc::SIGPIPE,
        ];
        // There they only inform.
        #[cfg(target_os = "macos")]
        let harmless = [&harmless[..], &[libc::SIGIO, libc::SIGINFO]].concat();
        for number in all().filter(|number| !harmless.contains(number)) {
            // One that has a handler by now keeps it; one that the caller ignored stays ignored.
            if disposition(number) == Some(libc::SIG_DFL) {
                catch_sent(number)?;
            }
        }
        #[cfg(target_os = "linux")]
        catch_reserved();
        Ok(())
    }

    /// Catches nothing any more: from now on a signal does what it would have done without us, and so does
    /// one that has come and was not taken.
    pub fn release(self) {
        let ours = [note as *const () as usize, note_sent as *const () as usize];
        for number in all().filter(|number| disposition(*number).is_some_and(|now| ours.contains(&now))) {
            set_disposition(number, libc::SIG_DFL);
        }
        self.take_numbers().into_iter().for_each(die_of);
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

/// Catches the real-time signals that the C library keeps for itself: 32 and 33 of glibc, 34 too of musl, to
/// end threads and to tell them of a change of user, which we never do by its functions. Its own sigaction(2)
/// refuses them, so that what is sent as one of them would end us, or be lost, in one build and not in
/// another.
#[cfg(target_os = "linux")]
fn catch_reserved() {
    /// The kernel's SIGRTMIN.
    const FIRST: i32 = 32;
    /// `struct sigaction` as the kernel has it, on x86_64 and aarch64; the mask is of 8 bytes.
    #[repr(C)]
    #[derive(Default)]
    struct KernelAction {
        handler: usize,
        flags: usize,
        restorer: usize,
        mask: u64,
    }
    let mut action = KernelAction::default();
    let (model, size) = (libc::SIGRTMIN(), size_of::<u64>());
    // What the library has set for the next one, its way back from a handler included.
    // SAFETY: the place for the action outlives the call, and nothing is changed.
    let known = unsafe {
        libc::syscall(libc::SYS_rt_sigaction, model, std::ptr::null::<u8>(), &raw mut action, size)
    };
    if known != 0 || action.handler != note_sent as *const () as usize {
        return;
    }
    for number in FIRST..model {
        let nothing = std::ptr::null_mut::<u8>();
        // SAFETY: the action is whole, and its handler calls only write(2) and sigaction(2).
        unsafe { libc::syscall(libc::SYS_rt_sigaction, number, &raw const action, nothing, size) };
    }
}

fn catch_sent(number: i32) -> io::Result<()> {
    // SAFETY: `note_sent` calls only write(2) and sigaction(2), both async-signal-safe; the action is
    // whole, and an empty set is what zeroes are.
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = note_sent as *const () as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_SIGINFO;
        libc::sigaction(number, &raw const action, std::ptr::null_mut())
    };
    nix::errno::Errno::result(done)?;
    Ok(())
}

/// As `note`, for a signal that somebody has sent. One that the kernel raises for something of our own doing
/// (a fault; a write to a terminal from the background, to a pipe without a reader) is not the command's.
extern "C" fn note_sent(number: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a whole siginfo_t.
    let code = unsafe { (*info).si_code };
    // A write of ours to a pipe without a reader; the kernel says that we have sent it ourselves. The write
    // fails, and that is all.
    // SAFETY: as above; one that is sent has the pid of its sender.
    if number == libc::SIGPIPE && unsafe { (*info).si_pid() } == nix::unistd::getpid().as_raw() {
        return;
    }
    let faults = [
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGSEGV,
        libc::SIGSYS,
        libc::SIGPIPE,
        libc::SIGTTIN,
        libc::SIGTTOU,
    ];
    // Positive codes are the kernel's (sigaction(2)); SI_USER, SI_QUEUE, SI_TKILL are zero or negative.
    if code <= 0 || !faults.contains(&number) {
        return note(number);
    }
    let stops = [libc::SIGPIPE, libc::SIGTTIN, libc::SIGTTOU].contains(&number);
    // The fault happens again once we return, and ends us; a write goes on without the signal.
    set_disposition(number, if stops { libc::SIG_IGN } else { libc::SIG_DFL });
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

/// Ends this process by that signal, as if it had never been caught. Returns only where it ends nobody.
pub fn die_of(number: i32) {
    set_disposition(number, libc::SIG_DFL);
    // SAFETY: raise(3) with an integer; nothing of ours handles the signal any more.
    unsafe { libc::raise(number) };
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

/// The short name of a signal number, `SIGTERM`, or its number where it has none.
pub fn name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

/// All signals of this system that a program may use: without those that the C library keeps for itself.
fn all() -> impl Iterator<Item = i32> {
    #[cfg(target_os = "linux")]
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    #[cfg(not(target_os = "linux"))]
    let real_time = 1..=0;
    (1..=31).chain(real_time)
}

/// Whether a signal is ignored now.
fn is_ignored(number: i32) -> bool {
    disposition(number) == Some(libc::SIG_IGN)
}

fn disposition(number: i32) -> Option<libc::sighandler_t> {
    // SAFETY: a zeroed sigaction is a valid one, it outlives the call, and nothing is changed.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let outcome = libc::sigaction(number, std::ptr::null(), &raw mut action);
        (outcome == 0).then_some(action.sa_sigaction)
    }
}

fn set_disposition(number: i32, to: libc::sighandler_t) {
    // SAFETY: SIG_DFL and SIG_IGN run no code of ours; an empty set is what zeroes are.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = to;
        libc::sigaction(number, &raw const action, std::ptr::null_mut());
    }
}

/// What a program does first: SIGCHLD does its work, whatever the caller did with it (ignored, our children
/// would be reaped by the kernel and their ends never known), and no signal is blocked that the caller
/// happened to block. What the caller ignored stays ignored.
pub fn begin() {
    set_disposition(libc::SIGCHLD, libc::SIG_DFL);
    set_mask(&SigSet::empty());
}

fn set_mask(mask: &SigSet) -> SigSet {
    let mut old = SigSet::empty();
    let _ = nix::sys::signal::pthread_sigmask(
        nix::sys::signal::SigmaskHow::SIG_SETMASK,
        Some(mask),
        Some(&mut old),
    );
    old
}

/// All signals, blocked in this thread until it is dropped.
pub(crate) struct Blocked(SigSet);

impl Blocked {
    pub(crate) fn all() -> Blocked {
        Blocked(set_mask(&SigSet::all()))
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        set_mask(&self.0);
    }
}

/// For a process that is about to become another program: handlers of ours give way to the default (which
/// execve(2) would do too, but only after a signal may have run one), SIGPIPE is what our caller gave us, and
/// nothing is blocked. Makes only system calls.
pub(super) fn restore_for_program(ignore_pipe: bool, handlers_cleared: bool) {
    if !handlers_cleared {
        for number in all() {
            if disposition(number).is_some_and(|now| now != libc::SIG_IGN && now != libc::SIG_DFL) {
                set_disposition(number, libc::SIG_DFL);
            }
        }
    }
    // Rust's start ignores it in every program.
    set_disposition(libc::SIGPIPE, if ignore_pipe { libc::SIG_IGN } else { libc::SIG_DFL });
    set_mask(&SigSet::empty());
}

static PIPE_WAS_IGNORED: AtomicBool = AtomicBool::new(false);

/// Whether whoever started us had SIGPIPE ignored.
pub(crate) fn pipe_was_ignored() -> bool {
    PIPE_WAS_IGNORED.load(Ordering::Relaxed)
}

/// Run by the loader before Rust's own start, which ignores SIGPIPE: afterwards nobody could tell.
#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
static LOOK_AT_PIPE: extern "C" fn() = look_at_pipe;

extern "C" fn look_at_pipe() {
    PIPE_WAS_IGNORED.store(is_ignored(libc::SIGPIPE), Ordering::Relaxed);
}
