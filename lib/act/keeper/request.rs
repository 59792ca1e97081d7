//! What a keeper is told to keep, and how.

use crate::act::keeper::Policy;
use crate::act::keeper::drain::Drain;
use crate::act::keeper::failure_log::FailureLimit;
use crate::act::keeper::lockfile::LockRequest;
use crate::act::keeper::notify::NotifyAccess;
use crate::act::keeper::readiness::{LiveCheck, ReadyCheck};
use crate::act::keeper::supervisor::Supervisor;
use crate::service::recipe::Recipe;
use crate::sys::signal::SignalNumber;
use crate::sys::{child, net};
use crate::words::error::{Error, Result, brief};
use crate::words::exit::Status;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The name and version of the JSON status.
pub const SCHEMA: &str = "baa.run/1";

/// What to keep, and how.
#[derive(Debug)]
pub struct KeeperRequest {
    /// The name under which its state is kept; without one there is no lock, no status and no control.
    pub label: Option<String>,
    /// What is started.
    pub recipe: Recipe,
    /// How it is kept.
    pub policy: Policy,
    /// What it is told to stop by, where that is not TERM.
    pub stop_signal: Option<SignalNumber>,
    /// What all of it gets when that has not helped in time, before it is killed.
    pub kill_signal: Option<SignalNumber>,
    /// What is locked before anything else.
    pub lock: Option<LockRequest>,
    /// How it finishes what it has begun before a restart.
    pub drain: Option<Drain>,
    /// When it counts as started.
    pub ready: Option<ReadyCheck>,
    /// What is asked of it from then on.
    pub live: Option<LiveCheck>,
    /// How often it must say that it lives, over NOTIFY_SOCKET.
    pub watchdog: Option<Duration>,
    /// Whose word counts there.
    pub notify_access: NotifyAccess,
    /// Whether what it starts may never gain privileges again.
    pub no_new_privileges: bool,
    /// When to give up.
    pub give_up: Option<FailureLimit>,
    /// The status of a keeper that has given up.
    pub gives_up_with: Status,
    /// Who supervises the keeper.
    pub supervisor: Supervisor,
    /// What USR1 means when nobody has said it before.
    pub user1: User1,
    /// The shortest time between two restarts that are asked for.
    pub cooldown: Duration,
    /// After how long a stop that is not over ends the keeper, at least.
    pub shutdown: Duration,
    /// A shell command that is told what came of a restart or an update.
    pub on_restart: Option<String>,
    /// Sockets that it is given, from descriptor 3 on, each with its name; we hold them between its lives.
    pub listen: Vec<ListenRequest>,
}

/// A socket to listen on.
#[derive(Clone, Debug)]
pub struct ListenRequest {
    /// What it is called in LISTEN_FDNAMES.
    pub name: String,
    /// Where.
    pub address: String,
}

impl ListenRequest {
    /// Listens there. Only for a keeper that has its place, and nothing left of one before: what that one has
    /// started listens there too.
    ///
    /// # Errors
    /// 74, 77 for an address that cannot be listened on.
    pub(super) fn bind(&self) -> Result<(String, Arc<OwnedFd>)> {
        let socket = net::listen(&self.address)
            .map_err(|cause| Error::io(format!("cannot listen on {}", brief(&self.address)), &cause))?;
        Ok((self.name.clone(), Arc::new(socket)))
    }
}

/// What USR1 means to a keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User1 {
    /// Nothing, unless a restart is meant.
    Ignore,
    /// A restart.
    Restart,
    /// It is the command's, unless a restart is meant.
    Pass,
}

/// Whether what is to be started is there, as far as can be told without a start.
///
/// # Errors
/// 127 and 126.
pub fn check_program(recipe: &Recipe) -> Result<()> {
    let (program, found) = match recipe {
        Recipe::Command(words) => {
            let Some(program) = words.first() else { return Ok(()) };
            let path = std::env::var_os("PATH").unwrap_or_default();
            (program.clone(), child::find(program, &path, Path::new(".")).is_some())
        }
        Recipe::Job(job) => (OsString::from(&job.program), job.find_program().is_some()),
    };
    if found {
        return Ok(());
    }
    let there = program.as_bytes().contains(&b'/') && Path::new(&program).exists();
    let (status, why) = match there {
        true => (Status::NotExecutable, "permission denied"),
        false => (Status::NotFound, "no such file or directory"),
    };
    Err(Error::new(status, format!("cannot start '{}': {why}", program.to_string_lossy())))
}

/// The JSON object of `--dry-run`. Arguments are told, the environment never.
pub fn plan(request: &KeeperRequest) -> Value {
    let command: Vec<String> = match &request.recipe {
        Recipe::Command(words) => words.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        Recipe::Job(job) => job.arguments.clone(),
    };
    json!({ "schema": SCHEMA, "dry_run": true, "label": request.label, "command": command })
}
