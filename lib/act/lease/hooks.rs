//! Commands that are told of a change of state: one after the other, in their order, and never in the way of
//! a renewal.

use crate::act::lease::attempt;
use crate::act::lease::conductor::ConductorState;
use crate::life;
use crate::sys::file::Lock;
use crate::sys::say::Voice;
use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a hook may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A shell command for each state.
#[derive(Clone, Debug, Default)]
pub struct Commands {
    /// When it leads.
    pub leader: Option<String>,
    /// When another does.
    pub standby: Option<String>,
    /// When it cannot know.
    pub degraded: Option<String>,
}

impl Commands {
    fn of(&self, state: ConductorState) -> Option<&String> {
        match state {
            ConductorState::Leader => self.leader.as_ref(),
            ConductorState::Standby => self.standby.as_ref(),
            ConductorState::Degraded => self.degraded.as_ref(),
        }
    }
}

/// A command to run, for a state, with these variables.
struct Call {
    state: ConductorState,
    command: String,
    env: Vec<(OsString, OsString)>,
}

/// Runs hooks in a thread of its own.
pub struct Hooks {
    commands: Commands,
    queue: Option<Sender<Call>>,
    worker: Option<JoinHandle<()>>,
    cancelled: Arc<AtomicBool>,
}

impl Hooks {
    /// Of these commands. What fails of them is said by `voice`.
    ///
    /// That of a leader has a share of `lock`, where there is one, and all that it starts inherits it: the
    /// next leader comes when nothing of it lives.
    pub fn new(commands: Commands, lock: Option<PathBuf>, voice: Voice) -> Hooks {
        let (queue, jobs) = channel::<Call>();
        let cancelled = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&cancelled);
        let work = move || {
            for Call { state, command, env } in jobs {
                let mut hook = life::hook(&command, env);
                if state == ConductorState::Leader {
                    match attempt::share(lock.as_ref())
                        .map(|share| share.map(|lock| lock.map(Lock::into_shared)))
                    {
                        Ok(None) => {}
                        Ok(Some(Some(Ok(fd)))) => hook.pass.push((fd.as_raw_fd(), Arc::new(fd))),
                        Ok(Some(None)) => {
                            voice.warn("the hook for leader is not run: another leads already");
                            continue;
                        }
                        Ok(Some(Some(Err(cause)))) => voice.warn(format!("the hook for leader: {cause}")),
                        Err(error) => voice.warn(format!("the hook for leader: {error}")),
                    }
                }
                if let Err(how) = life::run_hook(hook, LIMIT, &stop) {
                    voice.warn(format!("the hook for {} failed: {how}", state.name()));
                }
            }
        };
        let wanted = [ConductorState::Leader, ConductorState::Standby, ConductorState::Degraded]
            .into_iter()
            .any(|state| commands.of(state).is_some());
        let worker = if wanted { std::thread::Builder::new().spawn(work).ok() } else { None };
        Hooks { commands, queue: Some(queue), worker, cancelled }
    }

    /// Tells of a change to `state`, with `env` besides it.
    pub fn tell(&self, state: ConductorState, mut env: Vec<(OsString, OsString)>) {
        if let (Some(command), Some(queue)) = (self.commands.of(state), &self.queue) {
            env.push(("BAA_LEASE_STATE".into(), state.name().into()));
            let _ = queue.send(Call { state, command: command.clone(), env });
        }
    }

    /// Nothing more is told; whether all of it is done.
    pub fn finished(&mut self) -> bool {
        self.queue = None;
        self.worker.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends what runs.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }
}
