//! Children: started in a session of their own, stopped with their whole tree, always reaped.

mod trees;

pub use trees::{adopted, end_trees, kill_trees, members};

use crate::sys::poll::{self, For};
use crate::sys::process::{Identity, Pid, Start, Watch};
use crate::sys::user::{self, Credentials};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
        matches!(
            self,
            Exit::Signal(
                libc::SIGILL
                    | libc::SIGTRAP
                    | libc::SIGABRT
                    | libc::SIGBUS
                    | libc::SIGFPE
                    | libc::SIGSEGV
                    | libc::SIGSYS
            )
        )
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

/// A command to start. Everything that is not set is inherited.
#[derive(Debug, Default)]
pub struct Spec {
    /// The program: a path, or a name that is looked up in PATH.
    pub program: OsString,
    /// `argv[0]`, where it is not the program.
    pub arg0: Option<OsString>,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables set in its environment.
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
    /// Its standard input, output and error; `None` inherits ours.
    pub stdio: [Option<Stdio>; 3],
    /// The signal that it gets when we are killed (PR_SET_PDEATHSIG; not on macOS).
    pub ends_with_us: Option<Signal>,
    /// The control group that it enters first; see `nest`.
    pub nest: Option<Arc<std::os::fd::OwnedFd>>,
    /// Descriptors that it inherits under the same numbers; see `inherited`.
    pub keep: Vec<Arc<std::os::fd::OwnedFd>>,
}

/// A descriptor that we have inherited under this number. Our own children do not inherit it.
///
/// # Errors
/// When there is none.
pub fn inherited(number: i32) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: F_SETFD changes one flag of a descriptor, or fails where there is none.
    if number <= 2 || unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, and whoever started us has left it to us alone.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(number) })
}

impl Spec {
    /// A command with arguments.
    pub fn new<I: AsRef<OsStr>>(program: impl Into<OsString>, args: impl IntoIterator<Item = I>) -> Spec {
        Spec {
            program: program.into(),
            args: args.into_iter().map(|arg| arg.as_ref().to_owned()).collect(),
            ..Spec::default()
        }
    }

    /// Starts it in a session of its own, so that it outlives our terminal and no signal to our group reaches
    /// it.
    ///
    /// # Errors
    /// Those of fork(2) and execve(2): NotFound and PermissionDenied for 127 and 126.
    pub fn start(mut self) -> io::Result<Started> {
        #[cfg(target_os = "linux")]
        let ends_with_us = self.ends_with_us;
        let (keep, nest) = (std::mem::take(&mut self.keep), self.nest.take());
        let mut command = self.command()?;
        for fd in &keep {
            let number = fd.as_raw_fd();
            // SAFETY: fcntl(2) with integers is async-signal-safe, and the descriptor outlives the spawn.
            unsafe {
                command.pre_exec(move || match libc::fcntl(number, libc::F_SETFD, 0) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                });
            }
        }
        if let Some(door) = &nest {
            let number = door.as_raw_fd();
            // SAFETY: write(2) of a live byte, "0" for the writer itself (cgroups(7)), is async-signal-safe;
            // the descriptor outlives the spawn.
            unsafe {
                command.pre_exec(move || {
                    // Outside of it is no worse than where there is none.
                    libc::write(number, b"0".as_ptr().cast(), 1);
                    Ok(())
                });
            }
        }
        // SAFETY: setsid(2) is async-signal-safe and allocates nothing. EPERM means that a session is ours
        // already.
        unsafe {
            command.pre_exec(|| match nix::unistd::setsid() {
                Ok(_) | Err(nix::errno::Errno::EPERM) => Ok(()),
                Err(errno) => Err(errno.into()),
            });
        }
        #[cfg(target_os = "linux")]
        if let Some(signal) = ends_with_us {
            let parent = nix::unistd::getpid();
            // SAFETY: prctl(2) and getppid(2) with integers are async-signal-safe.
            unsafe {
                command.pre_exec(move || {
                    nix::sys::prctl::set_pdeathsig(Some(signal))?;
                    // We may have been killed before it could be told so; then nobody would ever end it.
                    if nix::unistd::getppid() == parent {
                        Ok(())
                    } else {
                        Err(io::Error::from_raw_os_error(libc::ESRCH))
                    }
                });
            }
        }
        let mut child = command.spawn()?;
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::new)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        // A child that is dead already keeps its pid until we reap it, so start 0 can meet no other process.
        let identity = Identity::of(pid).unwrap_or(Identity { pid, start: Start(0) });
        Ok(Started { identity, stdout: child.stdout.take(), stderr: child.stderr.take() })
    }

    /// Becomes this command: same pid, stdin and signals. Returns only when that failed.
    pub fn exec(self) -> io::Error {
        crate::sys::signal::restore_sigpipe();
        match self.command() {
            Ok(mut command) => command.exec(),
            Err(cause) => cause,
        }
    }

    fn command(self) -> io::Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(self.args);
        if let Some(arg0) = self.arg0 {
            command.arg0(arg0);
        }
        if self.clear_env {
            command.env_clear();
        }
        for name in &self.unset {
            command.env_remove(name);
        }
        command.envs(self.env);
        let [stdin, stdout, stderr] = self.stdio;
        if let Some(stdin) = stdin {
            command.stdin(stdin);
        }
        if let Some(stdout) = stdout {
            command.stdout(stdout);
        }
        if let Some(stderr) = stderr {
            command.stderr(stderr);
        }
        let (umask, dir) = (self.umask, self.dir);
        let user = match self.user {
            Some(who) => Some((CString::new(who.name.clone())?, who)),
            None => None,
        };
        if umask.is_some() || dir.is_some() || user.is_some() {
            // SAFETY: between fork and exec only umask(2), chdir(2) and `become_user` run, see there. The
            // directory is entered as the new user, as launchd does, so that a user cannot be put where he
            // may not go.
            unsafe {
                command.pre_exec(move || {
                    if let Some(mask) = umask {
                        libc::umask(mask as libc::mode_t);
                    }
                    if let Some((login, who)) = &user {
                        user::become_user(who, login)?;
                    }
                    if let Some(dir) = &dir {
                        std::env::set_current_dir(dir)?;
                    }
                    Ok(())
                });
            }
        }
        Ok(command)
    }
}

/// A child that was started. It is reaped by `reap` or `wait`.
#[derive(Debug)]
pub struct Started {
    /// Who it is.
    pub identity: Identity,
    stdout: Option<std::process::ChildStdout>,
    stderr: Option<std::process::ChildStderr>,
}

/// What a bounded run of a command gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// How it ended; `None` when the deadline came first and it was killed with its tree.
    pub exit: Option<Exit>,
    /// The beginning of its standard output.
    pub stdout: String,
    /// The beginning of its standard error.
    pub stderr: String,
}

/// Runs a command to its end or to `deadline`, keeping at most `limit` bytes of each output. At the deadline,
/// or soon after `cancelled` is set, its whole tree is killed. Its end is not put off by grandchildren that
/// hold its output open.
///
/// # Errors
/// Those of starting it: NotFound, PermissionDenied.
pub fn run(mut spec: Spec, deadline: Instant, limit: usize, cancelled: &AtomicBool) -> io::Result<Finished> {
    let [stdin, stdout, stderr] = &mut spec.stdio;
    stdin.get_or_insert_with(Stdio::null);
    stdout.get_or_insert_with(Stdio::piped);
    stderr.get_or_insert_with(Stdio::piped);
    let mut child = {
        let mut claimed = claimed();
        let child = spec.start()?;
        claimed.insert(child.identity.pid.number(), None);
        child
    };
    let watch = Watch::over(child.identity).ok().flatten();
    let mut out = Capture::new(child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Pipe>), limit);
    let mut err = Capture::new(child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Pipe>), limit);
    let exit = loop {
        let dead = watch.as_ref().is_none_or(Watch::dead);
        out.read();
        err.read();
        if dead {
            // What it wrote before it died is in the pipes by now.
            out.read();
            err.read();
            break claim(child.identity.pid);
        }
        let now = Instant::now();
        if now >= deadline || cancelled.load(Ordering::SeqCst) {
            kill_trees(&[child.identity], &[]);
            let _ = claim(child.identity.pid);
            break None;
        }
        let mut fds = Vec::new();
        fds.extend(watch.as_ref().and_then(Watch::fd).map(|fd| (fd, For::Reading)));
        // Without a descriptor for the death we must look ourselves; and `cancelled` wakes nobody.
        let pause = if fds.is_empty() { 2 } else { 10 };
        let until = deadline.min(now + Duration::from_millis(pause));
        fds.extend(
            [&out, &err]
                .into_iter()
                .filter_map(|one| one.pipe.as_ref().map(|pipe| (pipe.as_fd(), For::Reading))),
        );
        poll::wait(&fds, Some(until))?;
    };
    Ok(Finished { exit, stdout: out.text(), stderr: err.text() })
}

trait Pipe: Read + AsFd {}
impl<T: Read + AsFd> Pipe for T {}

/// One output of a command: read without blocking, kept up to a limit, drained beyond it so that the writer
/// never blocks.
struct Capture {
    pipe: Option<Box<dyn Pipe>>,
    kept: Vec<u8>,
    limit: usize,
}

impl Capture {
    fn new(pipe: Option<Box<dyn Pipe>>, limit: usize) -> Capture {
        if let Some(pipe) = &pipe {
            let _ =
                nix::fcntl::fcntl(pipe.as_fd(), nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK));
        }
        Capture { pipe, kept: Vec::new(), limit }
    }

    fn read(&mut self) {
        let mut buffer = [0u8; 4096];
        // Bounded, so that a child that writes without end cannot keep us from its deadline.
        for _ in 0..64 {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    let room = self.limit.saturating_sub(self.kept.len()).min(count);
                    self.kept.extend_from_slice(&buffer[..room]);
                }
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

/// Children that a thread waits for by itself, and what `reap` has found of them: whoever reaps all must not
/// take them away.
static CLAIMED: Mutex<BTreeMap<i32, Option<Exit>>> = Mutex::new(BTreeMap::new());

fn claimed() -> MutexGuard<'static, BTreeMap<i32, Option<Exit>>> {
    CLAIMED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The exit of a claimed child that is dead; the claim ends with it.
fn claim(pid: Pid) -> Option<Exit> {
    let waited = wait(pid);
    let found = claimed().remove(&pid.number()).flatten();
    waited.or(found)
}

/// The children of `run` in all threads: helpers, none of what a keeper keeps.
pub fn helpers() -> Vec<Pid> {
    claimed().keys().filter_map(|number| Pid::new(*number)).collect()
}

/// Ends this process now, whatever its other threads wait for: nothing is flushed, no destructor runs.
pub fn end_now(status: u8) -> ! {
    // SAFETY: _exit(2) never returns and touches nothing of ours.
    unsafe { libc::_exit(i32::from(status)) }
}

/// Waits for a child of ours that is dead or dying; `None` when somebody else has reaped it.
pub fn wait(pid: Pid) -> Option<Exit> {
    loop {
        match waitpid(pid.raw(), None) {
            Err(nix::errno::Errno::EINTR) => {}
            Ok(status) => match ended(status) {
                Some((_, exit)) => return Some(exit),
                None => continue,
            },
            Err(_) => return None,
        }
    }
}

/// Every child of ours that is dead by now, but for those of `run` in other threads: its pid and how it
/// ended.
pub fn reap() -> Vec<(Pid, Exit)> {
    let mut dead = Vec::new();
    // Held throughout: a child is claimed before it can be found here.
    let mut claimed = claimed();
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        match ended(status) {
            Some((pid, exit)) => match claimed.get_mut(&pid.number()) {
                Some(claim) => *claim = Some(exit),
                None => dead.push((pid, exit)),
            },
            None if status == WaitStatus::StillAlive => break,
            None => {}
        }
    }
    dead
}

/// Whether we surely have no child at all, dead or alive (Linux; never sure elsewhere). Of one that adopts
/// orphans nothing is left then, wherever it went; asked without a look at all processes of the machine.
pub fn childless() -> bool {
    #[cfg(target_os = "linux")]
    {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | WaitPidFlag::WEXITED;
        nix::sys::wait::waitid(nix::sys::wait::Id::All, flags) == Err(nix::errno::Errno::ECHILD)
    }
    #[cfg(not(target_os = "linux"))]
    false
}

fn ended(status: WaitStatus) -> Option<(Pid, Exit)> {
    match status {
        WaitStatus::Exited(pid, code) => Some((Pid::new(pid.as_raw())?, Exit::Code(code))),
        WaitStatus::Signaled(pid, signal, _) => Some((Pid::new(pid.as_raw())?, Exit::Signal(signal as i32))),
        _ => None,
    }
}

/// Makes this process the one that inherits its orphaned descendants (PR_SET_CHILD_SUBREAPER, Linux). Says
/// whether the system can.
pub fn adopt_orphans() -> bool {
    #[cfg(target_os = "linux")]
    return nix::sys::prctl::set_child_subreaper(true).is_ok();
    #[cfg(not(target_os = "linux"))]
    false
}

/// Sends `signal` to this very process; nothing happens when it is dead.
pub fn signal(who: Identity, signal: Signal) {
    signal_number(who, signal as i32);
}

/// The same for any number, real-time signals too.
pub fn signal_number(who: Identity, number: i32) {
    if who.alive() {
        // SAFETY: kill(2) with integers.
        unsafe { libc::kill(who.pid.number(), number) };
    }
}

/// Sends `signal` to the whole process group that `leader` leads; nothing happens when it is dead.
pub fn signal_group(leader: Identity, signal: Signal) {
    if leader.alive() {
        let _ = nix::sys::signal::killpg(leader.pid.raw(), signal);
    }
}

/// Where `program` is found, as execvp(3) would with this `PATH` from `dir`.
pub fn find(program: &OsStr, path: &OsStr, dir: &Path) -> Option<PathBuf> {
    which::which_in(program, Some(path), dir).ok()
}
