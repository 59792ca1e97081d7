//! What is armed: one locked file for each watched process, in the directory of its log, so that two roots
//! never meet.
//!
//! The kernel's lock decides which of many canaries watches; it is keyed by boot, pid and start time, which
//! only one process ever has. What the file says is for `status`, `list`, `dismiss`, and for whoever comes
//! after a canary that was killed.

use crate::act::canary::record::RecordDirectory;
use crate::act::canary::target::CanaryTarget;
use crate::sys::child::Signal;
use crate::sys::file::Lock;
use crate::sys::process::{Identity, Pid, Start, Watch};
use crate::sys::{child, file, kernel, trust};
use crate::words::error::{Error, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The file is padded to this size: on a full disk its blocks become the room for the record.
const RESERVE: usize = 4096;
/// How long a canary may take to answer a dismissal.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// One armed process, ours as long as this lives.
pub struct Arming {
    path: PathBuf,
    /// Held until the file is removed.
    lock: Lock,
}

impl Arming {
    /// Takes `target` for this process; `None` when another canary has it.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn begin(records: &RecordDirectory, target: &CanaryTarget) -> Result<Option<Arming>> {
        let path = records.armings().join(format!("{}.json", key(target.who)));
        let cannot = |cause| Error::io(format!("cannot arm at {}", path.display()), &cause);
        let Some(lock) = Lock::take(&path).map_err(cannot)? else { return Ok(None) };
        // What an earlier canary of this very process was told is not meant for us.
        let _ = std::fs::remove_file(marker(&path));
        Ok(Some(Arming { path, lock }))
    }

    /// Says what is armed, once everything is in place that is needed to see its death.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn publish(&self, target: &CanaryTarget) -> Result<()> {
        let own = Identity::of(Pid::own()).ok_or_else(|| Error::bug("we are not alive"))?;
        let text = json!({
            "schema": "baa.canary.arming/1",
            "identity": target.identity,
            "pid": target.who.pid.number(),
            "start": target.who.start.0,
            "boot": kernel::boot(),
            "socket": target.socket.as_ref().map(|path| path.to_string_lossy()),
            "canary_pid": own.pid.number(),
            "canary_start": own.start.0,
            "armed_at": crate::words::stamp::seconds(SystemTime::now()),
        })
        .to_string();
        let written =
            self.lock.inform(&format!("{text}\n{}", " ".repeat(RESERVE.saturating_sub(text.len() + 1))));
        written.map_err(|cause| {
            self.end();
            Error::io(format!("cannot arm at {}", self.path.display()), &cause)
        })
    }

    /// Whether somebody has said that the coming end is meant.
    pub fn dismissed(&self) -> bool {
        marker(&self.path).exists()
    }

    /// Ends it: there is nothing to watch any more. The file's blocks are free afterwards, though we hold it
    /// open.
    pub fn end(&self) {
        let _ = self.lock.inform("");
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(marker(&self.path));
    }
}

fn marker(path: &Path) -> PathBuf {
    path.with_extension("dismissed")
}

/// Boot, pid and start time: only one process ever has these three.
fn key(who: Identity) -> String {
    let boot = kernel::boot().unwrap_or_default();
    format!("{}-{}-{}", boot.get(..8).unwrap_or("boot"), who.pid, who.start.0)
}

/// What a file of an arming says.
#[derive(Clone, Debug)]
pub struct Armed {
    path: PathBuf,
    /// What is watched is called.
    pub identity: String,
    /// Who is watched.
    pub who: Identity,
    /// Its tmux socket.
    pub socket: Option<PathBuf>,
    /// Who watches.
    pub canary: Identity,
    /// Since when.
    pub since: String,
    /// Whether that was before this boot.
    pub rebooted: bool,
}

/// What has become of an arming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// A canary watches.
    Armed,
    /// The canary was killed, and what it watched lives on unwatched.
    Unwatched,
    /// The canary was killed, and what it watched has died since, unseen.
    Unseen,
    /// Both ended with the machine.
    Rebooted,
}

impl Condition {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Condition::Armed => "armed",
            Condition::Unwatched => "gap: the canary was killed, the process lives",
            Condition::Unseen => "gap: the canary was killed, and the process died unseen",
            Condition::Rebooted => "gap: the machine was booted anew",
        }
    }
}

impl Armed {
    /// What a canary has written down at `path`.
    pub(crate) fn read(path: &Path) -> Option<Armed> {
        let bytes = trust::read(path, 64 * 1024).ok()?;
        let said: Value = serde_json::from_slice(&bytes).ok()?;
        let text = |key: &str| said.get(key).and_then(Value::as_str);
        let who = |pid: &str, start: &str| {
            let pid = i32::try_from(said.get(pid)?.as_i64()?).ok().and_then(Pid::new)?;
            Some(Identity { pid, start: Start(said.get(start)?.as_u64()?) })
        };
        Some(Armed {
            path: path.to_owned(),
            identity: text("identity")?.to_owned(),
            who: who("pid", "start")?,
            socket: text("socket").map(PathBuf::from),
            canary: who("canary_pid", "canary_start")?,
            since: text("armed_at")?.to_owned(),
            rebooted: text("boot") != kernel::boot().as_deref(),
        })
    }

    /// What has become of it.
    pub fn condition(&self) -> Condition {
        match () {
            () if self.rebooted => Condition::Rebooted,
            () if self.canary.alive() => Condition::Armed,
            () if self.who.alive() => Condition::Unwatched,
            () => Condition::Unseen,
        }
    }

    /// Its line for people.
    pub fn text(&self) -> String {
        let socket = self.socket.as_ref().map_or(String::new(), |path| format!(" {}", path.display()));
        format!(
            "{}: process {}{socket}, {}, since {} by canary {}",
            self.identity,
            self.who.pid,
            self.condition().word(),
            self.since,
            self.canary.pid
        )
    }

    /// Its JSON, for `list` and `status`.
    pub fn json(&self) -> Value {
        json!({
            "identity": self.identity,
            "server_pid": self.who.pid.number(),
            "socket": self.socket.as_ref().map(|path| path.to_string_lossy()),
            "canary_pid": self.canary.pid.number(),
            "armed_at": self.since,
            "state": if self.condition() == Condition::Armed { "armed" } else { "gap" },
            "detail": self.condition().word(),
        })
    }

    /// Takes over what a canary left that was killed, so that only one does; `None` when somebody else has.
    pub fn inherit(&self) -> Option<Arming> {
        let lock = Lock::take_existing(&self.path).ok().flatten()?;
        // It may have been armed anew in between.
        let same = Armed::read(&self.path).is_some_and(|now| now.canary == self.canary);
        same.then(|| Arming { path: self.path.clone(), lock })
    }

    /// Says that the coming end is meant, and waits until the canary has heard it. Nothing is recorded
    /// afterwards, whatever comes first.
    ///
    /// # Errors
    /// When it cannot be said; 124 when the canary does not answer, which still finds the word when the death
    /// comes.
    pub fn dismiss(&self) -> Result<()> {
        let cannot = |cause| Error::io(format!("cannot dismiss {}", self.identity), &cause);
        if let Some(left) = self.inherit() {
            left.end();
            return Ok(());
        }
        file::open_private(&marker(&self.path)).map_err(cannot)?;
        child::signal(self.canary, Signal::SIGUSR1);
        let watch = Watch::over(self.canary).map_err(cannot)?;
        let until = Instant::now() + ANSWER_LIMIT;
        while self.path.exists()
            && watch.as_ref().is_some_and(|watch| !watch.wait(Instant::now() + Duration::from_millis(1)))
        {
            if Instant::now() >= until {
                return Err(Error::new(
                    crate::words::exit::Status::TooLate,
                    format!("cannot dismiss {}: its canary does not answer", self.identity),
                ));
            }
        }
        // A canary that died instead leaves its files to us.
        if let Some(left) = self.inherit() {
            left.end();
        }
        Ok(())
    }
}

/// Armings as JSON.
pub fn json(found: &[Armed]) -> Value {
    let all: Vec<Value> = found.iter().map(Armed::json).collect();
    json!({ "schema": "baa.canary.list/1", "canaries": all })
}

/// All armings of a place, by identity.
pub fn all(records: &RecordDirectory) -> Vec<Armed> {
    let directory = records.armings();
    let names = trust::enter(&directory).and_then(|entered| entered.names()).unwrap_or_default();
    let paths = names
        .into_iter()
        .map(|name| directory.join(name))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let mut found: Vec<Armed> = paths.filter_map(|path| Armed::read(&path)).collect();
    found.sort_by(|one, other| (&one.identity, one.who.pid).cmp(&(&other.identity, other.who.pid)));
    found
}
