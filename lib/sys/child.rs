//! Children: how a process is started, signalled and awaited. What comes of it all together, wherever it
//! goes, is the matter of `life`.
//!
//! A child of ours is known by its pid from its start until it is reaped, so it is signalled and awaited as
//! such and never by way of /proc: all of it works in a root without one.

mod inside;
mod launch;
mod table;

pub(super) use inside::{close_on_exec_from, own_keyring};
pub use table::{
    await_exit, childless, claim, collect, helpers, known, orphans_reaped, reap, release, signal,
    signal_group, signal_number, wait,
};
pub(crate) use table::{identity, is_ours, is_zombie, lives, strangers, watch};

use crate::sys::process::Identity;
use crate::sys::user::Credentials;
use crate::words::error::{Error, reason};
use crate::words::exit::Status;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
#[cfg(target_os = "linux")]
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use nix::sys::resource::Resource;
pub use nix::sys::signal::Signal;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// It was killed by this signal.
    Signal(i32),
}

impl Exit {
    /// From the status word of wait(2).
    pub fn from_wait_status(word: i32) -> Exit {
        if libc::WIFSIGNALED(word) {
            Exit::Signal(libc::WTERMSIG(word))
        } else {
            Exit::Code(libc::WEXITSTATUS(word))
        }
    }

    /// Whether a signal ended it that launchd.plist(5) means by "typically associated with a crash".
    pub fn is_crash(self) -> bool {
        const CRASHES: [i32; 7] = [
            libc::SIGILL,
            libc::SIGTRAP,
            libc::SIGABRT,
            libc::SIGBUS,
            libc::SIGFPE,
            libc::SIGSEGV,
            libc::SIGSYS,
        ];
        matches!(self, Exit::Signal(number) if CRASHES.contains(&number))
    }

    /// Whether it exited with 0.
    pub fn success(self) -> bool {
        self == Exit::Code(0)
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(out, "exited with {code}"),
            Exit::Signal(number) => write!(out, "killed by {}", crate::sys::signal::name(*number)),
        }
    }
}

/// A standard stream of a child.
#[derive(Debug)]
pub enum Stdio {
    /// /dev/null.
    Null,
    /// A pipe; our end of it is in `Started`.
    Piped,
    /// This descriptor.
    Fd(OwnedFd),
    /// A file that the child opens itself, as the user that it has become, so that it is never given what
    /// that user could not open. For reading, or for appending and made where it is missing.
    Path {
        /// The file.
        path: PathBuf,
        /// Whether it is written to.
        append: bool,
    },
}

impl Stdio {
    /// /dev/null.
    pub fn null() -> Stdio {
        Stdio::Null
    }

    /// A pipe.
    pub fn piped() -> Stdio {
        Stdio::Piped
    }
}

impl<T: Into<OwnedFd>> From<T> for Stdio {
    fn from(fd: T) -> Stdio {
        Stdio::Fd(fd.into())
    }
}

/// A resource limit of a child (setrlimit(2)).
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// What is limited.
    pub resource: Resource,
    /// The soft limit.
    pub soft: u64,
    /// The hard limit.
    pub hard: u64,
}

/// A command to start. Everything that is not set is inherited.
#[derive(Debug, Default)]
pub struct Spec {
    /// The program: a path, or a name that is looked up in PATH.
    pub program: OsString,
    /// `argv[0]`, where it is not the program.
    pub arg0: Option<OsString>,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables set in its environment. One that is empty and called LISTEN_PID gets the child's own pid.
    pub env: Vec<(OsString, OsString)>,
    /// Variables that it does not inherit.
    pub unset: Vec<OsString>,
    /// Whether our own environment is kept out.
    pub clear_env: bool,
    /// Its working directory.
    pub dir: Option<PathBuf>,
    /// Its umask.
    pub umask: Option<u32>,
    /// The user it runs as.
    pub user: Option<Credentials>,
    /// Its resource limits, set before the user is changed.
    pub limits: Vec<Limit>,
    /// Its niceness (setpriority(2)).
    pub nice: Option<i32>,
    /// Whether it may never gain privileges again (PR_SET_NO_NEW_PRIVS; Linux).
    pub no_new_privileges: bool,
    /// The capabilities that it, and whatever it becomes, can have at most (the bounding set of
    /// capabilities(7), a bit for each; Linux).
    pub capabilities: Option<u64>,
    /// Whether it gets a session keyring of its own (keyctl(2); Linux).
    pub own_keyring: bool,
    /// Its standard input, output and error; `None` inherits ours.
    pub stdio: [Option<Stdio>; 3],
    /// The signal that it gets when the thread that starts it ends, by whatever (PR_SET_PDEATHSIG; not on
    /// macOS).
    pub ends_with_us: Option<Signal>,
    /// The cgroup that it is made in: its directory.
    pub cgroup: Option<Arc<OwnedFd>>,
    /// Descriptors that it gets, under these numbers.
    pub pass: Vec<(i32, Arc<OwnedFd>)>,
    /// Whether it gets no other descriptor than 0 to 2 and those passed: not what we have inherited
    /// ourselves.
    pub only_passed: bool,
    /// Whether nobody asks when it started: that is one look at the system's table less, for one that is told
    /// from others by more than its pid.
    pub start_untold: bool,
}

/// The steps of a start, in their order, for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// clone(2).
    Fork,
    /// setsid(2).
    Session,
    /// setrlimit(2) or setpriority(2).
    Limits,
    /// setgroups(2), setgid(2), setuid(2).
    User,
    /// chdir(2).
    Directory,
    /// A standard stream is opened, or a descriptor put in its place.
    Descriptors,
    /// PR_SET_PDEATHSIG and the like.
    Attributes,
    /// execve(2).
    Exec,
}

/// Why a command was not started.
#[derive(Debug)]
pub struct StartError {
    /// The step that failed.
    pub step: Step,
    /// The error of the system.
    pub cause: io::Error,
    program: OsString,
    dir: Option<PathBuf>,
    detail: Option<String>,
}

impl StartError {
    /// Whether another try may fare better: the system was short of something, or the program is just being
    /// written.
    pub fn may_pass(&self) -> bool {
        let short = [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE, libc::ETXTBSY, libc::ETIMEDOUT];
        self.cause.raw_os_error().is_some_and(|error| short.contains(&error))
    }

    /// The status for it: 127 for a program that is not there, 126 for all else.
    pub fn status(&self) -> Status {
        match self.step {
            Step::Exec => Status::of_failed_start(&self.cause),
            _ => Status::NotExecutable,
        }
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "cannot start '{}': ", self.program.to_string_lossy())?;
        let why = reason(&self.cause);
        let dir = self.dir.as_deref().map(|dir| dir.display().to_string()).unwrap_or_default();
        match (self.step, &self.detail) {
            (_, Some(detail)) => out.write_str(detail),
            (Step::Exec, None) if self.dir.is_some() => write!(out, "{why} (in {dir})"),
            (Step::Exec | Step::Fork, None) => out.write_str(&why),
            (Step::Directory, None) => write!(out, "cannot enter '{dir}': {why}"),
            (Step::Session, None) => write!(out, "cannot make a session: {why}"),
            (Step::Limits, None) => write!(out, "cannot set its limits: {why}"),
            (Step::User, None) => write!(out, "cannot become its user: {why}"),
            (Step::Descriptors, None) => write!(out, "cannot give it its descriptors: {why}"),
            (Step::Attributes, None) => write!(out, "cannot set its attributes: {why}"),
        }
    }
}

impl From<StartError> for Error {
    fn from(error: StartError) -> Error {
        Error::new(error.status(), error.to_string())
    }
}

impl From<StartError> for io::Error {
    fn from(error: StartError) -> io::Error {
        error.cause
    }
}

/// A child that was started. It is reaped by `reap` or `wait`.
#[derive(Debug)]
pub struct Started {
    /// Who it is.
    pub identity: Identity,
    /// What it writes to its standard output, where that is piped.
    pub stdout: Option<File>,
    /// What it writes to its standard error, where that is piped.
    pub stderr: Option<File>,
    /// What it reads, where that is piped.
    pub stdin: Option<File>,
    /// Whether it was made in the cgroup that was asked for.
    pub in_cgroup: bool,
}

impl Spec {
    /// A command with arguments.
    pub fn new<I: AsRef<OsStr>>(program: impl Into<OsString>, args: impl IntoIterator<Item = I>) -> Spec {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        Spec { program: program.into(), args, ..Spec::default() }
    }

    /// Starts it in a session of its own, so that it outlives our terminal and no signal to our group reaches
    /// it. Returns once it runs its program.
    ///
    /// # Errors
    /// The step that failed and the system's error for it; ETIMEDOUT when a step hung for 10 s (a dead
    /// network file system, say): nothing is left of it then.
    pub fn start(self) -> Result<Started, StartError> {
        launch::start(self, false)
    }

    /// The same for one that the caller awaits by itself, with `wait` or `await_exit`: `reap` in another
    /// thread does not take it away. It is claimed until `wait` returns or `release` is called.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_claimed(self) -> Result<Started, StartError> {
        launch::start(self, true)
    }

    /// The error of a start that is not tried.
    pub fn refused(&self, cause: io::Error) -> StartError {
        let (program, dir) = (self.program.clone(), self.dir.clone());
        StartError { step: Step::Fork, cause, program, dir, detail: None }
    }

    /// Becomes this command: same pid, stdin and session. Returns only when that failed.
    pub fn exec(self) -> StartError {
        launch::exec(self)
    }
}

/// A descriptor that we have inherited under this number. Our own children do not inherit it.
///
/// # Errors
/// When there is none.
pub fn inherited(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD changes one flag of a descriptor, or fails where there is none.
    if number <= 2 || unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, and whoever started us has left it to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Ends this process now, whatever its other threads wait for: nothing is flushed, no destructor runs.
pub fn end_now(status: u8) -> ! {
    // SAFETY: _exit(2) never returns and touches nothing of ours.
    unsafe { libc::_exit(i32::from(status)) }
}

/// Makes this process the one that inherits its orphaned descendants (PR_SET_CHILD_SUBREAPER, Linux). Says
/// whether the system can.
pub fn adopt_orphans() -> bool {
    #[cfg(target_os = "linux")]
    return nix::sys::prctl::set_child_subreaper(true).is_ok();
    #[cfg(not(target_os = "linux"))]
    false
}

/// The file of this very program, to start it anew: also when it was replaced meanwhile, and in a root
/// without /proc.
///
/// # Errors
/// When nothing tells.
pub fn own_program() -> io::Result<PathBuf> {
    let told = std::env::current_exe();
    #[cfg(target_os = "linux")]
    {
        if told.as_ref().is_ok_and(|path| path.exists()) {
            return told;
        }
        let open = PathBuf::from("/proc/self/exe");
        if open.exists() {
            return Ok(open);
        }
        // SAFETY: getauxval(3) with an integer; the kernel puts the name there for the life of the process.
        let name = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const libc::c_char;
        if !name.is_null() {
            // SAFETY: it is not null, and ends with NUL.
            let name = unsafe { std::ffi::CStr::from_ptr(name) };
            return Ok(PathBuf::from(OsStr::from_bytes(name.to_bytes())));
        }
    }
    told
}

/// Where `program` is found, as execvp(3) would with this `PATH` from `dir`.
pub fn find(program: &OsStr, path: &OsStr, dir: &Path) -> Option<PathBuf> {
    which::which_in(program, Some(path), dir).ok()
}

#[cfg(test)]
mod tests;
