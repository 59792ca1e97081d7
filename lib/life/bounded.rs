//! A command that is run to its end or to a deadline, whichever is first: for probes, managers and hooks.

use super::record::kill_all;
use super::wall::{Wall, key};
use crate::sys::cgroup::CgroupParent;
use crate::sys::child::{self, Exit, Signal, Spec, StartError, Stdio};
use crate::sys::poll::{self, For};
use crate::sys::process::{self, Identity, Watch};
use crate::sys::task::{self, Cancel};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the end of a program waits for a start that is under way in another thread.
const SETTLE: Duration = Duration::from_secs(1);

/// Between two looks at a flag that may have been set.
const LOOK: Duration = Duration::from_millis(10);

/// What a bounded run of a command gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// How it ended; `None` when the deadline came first and it was killed with all that came of it.
    pub exit: Option<Exit>,
    /// The beginning of its standard output.
    pub stdout: String,
    /// The beginning of its standard error.
    pub stderr: String,
}

/// One run.
struct Run {
    main: Identity,
    /// The mark and the cgroup of its wall.
    mark: String,
    cgroup: Option<PathBuf>,
    deadline: Instant,
}

/// What runs now, in all threads.
struct Running {
    /// Starts that are under way.
    starting: u32,
    lives: Vec<Run>,
    /// What the marks of their walls begin with, and where they get cgroups.
    family: Option<(String, Option<CgroupParent>)>,
    /// Whether the program ends, and nothing may be started any more.
    closed: bool,
}

static RUNNING: Mutex<Running> =
    Mutex::new(Running { starting: 0, lives: Vec::new(), family: None, closed: false });
static SETTLED: Condvar = Condvar::new();

fn running() -> MutexGuard<'static, Running> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on what `run` starts is known by the same `key` as the lives of this keeper or group, and gets
/// cgroups in the same `parent`: so whoever comes after us when we were killed finds it with them.
pub fn helpers_belong_to(key: &str, parent: Option<&CgroupParent>) {
    running().family = Some((key.to_owned(), parent.cloned()));
}

/// Runs a command to its end or to `deadline`, keeping at most `limit` bytes of each output. At the deadline,
/// or soon after `cancelled` is set, all that came of it is killed. Its end is not put off by descendants
/// that hold its output open; they are left alone then. It dies with us (Linux), and with `end_helpers`.
///
/// # Errors
/// Those of starting it, and EINTR once the program ends.
pub fn run(
    spec: Spec,
    deadline: Instant,
    limit: usize,
    cancelled: &AtomicBool,
) -> Result<Finished, StartError> {
    task::block_on(run_to_its_end(spec, deadline, limit, Stop::Flag(cancelled), false))
}

/// The same for a question that is asked again and again, as a task: what it has left when it has ended is
/// ended too, or it would pile up. Dropped before its end it kills all that came of it there and then.
///
/// # Errors
/// As `run`.
pub async fn run_whole(
    spec: Spec,
    deadline: Instant,
    limit: usize,
    cancelled: &Cancel,
) -> Result<Finished, StartError> {
    run_to_its_end(spec, deadline, limit, Stop::Word(cancelled), true).await
}

/// How a run is told to stop.
enum Stop<'a> {
    /// By a flag, which wakes nobody: it is looked at now and then.
    Flag(&'a AtomicBool),
    /// By a word that wakes the task.
    Word(&'a Cancel),
}

/// A command that was started: whoever lets go of it before its end kills it, and waits for that.
struct Begun {
    wall: Wall,
    who: Identity,
    over: bool,
}

impl Begun {
    fn kill(&mut self) {
        kill_group_unseen(self.who);
        self.wall.kill();
        self.bury();
    }

    /// Kills all runs that should have ended by `now`, at once: each alone would look at all processes.
    fn kill_the_late(&mut self, now: Instant) {
        let late: Vec<Run> = running().lives.extract_if(.., |one| one.deadline <= now).collect();
        kill_runs(late);
        if self.strike() {
            self.kill();
        } else {
            self.bury();
        }
    }

    /// Awaits what was killed, so that nobody gets it for a child; not what even a kill does not end.
    fn bury(&mut self) {
        self.over = true;
        if child::await_exit(self.who, Instant::now() + SETTLE).is_none() {
            child::release(self.who.pid);
        }
    }

    /// Takes it off the list of what runs; whether it was on it.
    fn strike(&self) -> bool {
        let mut running = running();
        let before = running.lives.len();
        running.lives.retain(|one| one.main != self.who);
        running.lives.len() < before
    }

    /// Whether it was killed together with others.
    fn was_killed(&self) -> bool {
        !running().lives.iter().any(|one| one.main == self.who)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let listed = self.strike();
        match self.over {
            true => {}
            false if listed => self.kill(),
            // `end_helpers` has killed it.
            false => self.bury(),
        }
    }
}

async fn run_to_its_end(
    mut spec: Spec,
    deadline: Instant,
    limit: usize,
    stop: Stop<'_>,
    whole: bool,
) -> Result<Finished, StartError> {
    let [stdin, stdout, stderr] = &mut spec.stdio;
    stdin.get_or_insert_with(Stdio::null);
    stdout.get_or_insert_with(Stdio::piped);
    stderr.get_or_insert_with(Stdio::piped);
    spec.ends_with_us.get_or_insert(Signal::SIGKILL);
    let (family, parent) = running().family.clone().unwrap_or_else(|| (key(b"helper"), None));
    let mut wall = Wall::new(&family, parent.as_ref(), false, false);
    let started = begin(&mut wall, spec, deadline)?;
    let who = started.identity;
    let mut begun = Begun { wall, who, over: false };
    let watch = Watch::over(who).ok().flatten();
    let mut out = Capture::new(started.stdout, limit);
    let mut err = Capture::new(started.stderr, limit);
    let exit = loop {
        let dead = watch.as_ref().is_none_or(Watch::dead);
        out.read();
        err.read();
        if dead {
            // What it wrote before it died is in the pipes by now.
            out.read();
            err.read();
            if begun.was_killed() {
                begun.bury();
                break None;
            }
            begun.over = true;
            if whole {
                kill_group_unseen(who);
            }
            break child::wait(who.pid);
        }
        let now = Instant::now();
        let stopped = match &stop {
            Stop::Flag(flag) => flag.load(Ordering::SeqCst),
            Stop::Word(word) => word.is_set().await,
        };
        if now >= deadline {
            begun.kill_the_late(now);
            break None;
        }
        if stopped {
            begun.kill();
            break None;
        }
        let mut fds = Vec::new();
        fds.extend(watch.as_ref().and_then(Watch::fd).map(|fd| (fd, For::Reading)));
        // Without a descriptor for the death we must look ourselves; and a flag wakes nobody.
        let until = match &stop {
            _ if fds.is_empty() => deadline.min(now + Duration::from_millis(2)),
            Stop::Flag(_) => deadline.min(now + LOOK),
            Stop::Word(_) => deadline,
        };
        let pipes = [&out, &err].into_iter().filter_map(|one| one.pipe.as_ref());
        fds.extend(pipes.map(|pipe| (pipe.as_fd(), For::Reading)));
        // A wait that fails is tried again until the deadline: what was started is never left alone.
        if task::ready(&fds, until).await.is_err() {
            task::sleep(now + LOOK).await;
        }
    };
    if whole && exit.is_some() && !begun.wall.is_empty() {
        begun.wall.kill();
    }
    Ok(Finished { exit, stdout: out.text(), stderr: err.text() })
}

fn begin(wall: &mut Wall, spec: Spec, deadline: Instant) -> Result<child::Started, StartError> {
    {
        let mut running = running();
        if running.closed {
            return Err(spec.refused(io::ErrorKind::Interrupted.into()));
        }
        running.starting += 1;
    }
    let outcome = wall.start_claimed(spec);
    let mut running = running();
    running.starting -= 1;
    if let Ok(started) = &outcome {
        let cgroup = wall.cgroup().map(std::path::Path::to_owned);
        let mark = wall.mark().to_owned();
        running.lives.push(Run { main: started.identity, mark, cgroup, deadline });
    }
    SETTLED.notify_all();
    outcome
}

/// Kills what bounded runs have started, in all threads, and lets no other begin: before a program ends, or
/// becomes another. Whoever waits for them may be kept from the processor by then; this call does it itself.
pub fn end_helpers() {
    let mut now = running();
    now.closed = true;
    if now.starting == 0 && now.lives.is_empty() {
        return;
    }
    let waited = SETTLED.wait_timeout_while(now, SETTLE, |running| running.starting > 0);
    // Those who wait for them in this thread have nothing to do any more.
    let lives = std::mem::take(&mut waited.unwrap_or_else(PoisonError::into_inner).0.lives);
    kill_runs(lives);
}

fn kill_runs(runs: Vec<Run>) {
    if !runs.is_empty() {
        runs.iter().for_each(|one| kill_group_unseen(one.main));
        kill_all(runs.into_iter().map(|one| (one.main, one.mark, one.cgroup)).collect());
    }
}

/// Where the system shows us no processes, nothing but its process group tells what a command has started.
fn kill_group_unseen(main: Identity) {
    if !process::is_shown() {
        child::signal_group(main, Signal::SIGKILL);
    }
}

/// One output of a command: read without blocking, kept up to a limit, drained beyond it so that the writer
/// never blocks.
struct Capture {
    pipe: Option<File>,
    kept: Vec<u8>,
    limit: usize,
}

impl Capture {
    fn new(pipe: Option<File>, limit: usize) -> Capture {
        if let Some(pipe) = &pipe {
            let _ = poll::unblock(pipe.as_fd());
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
