//! What came of a removal: iapeer's lines for people (facts B4.16), and one object for programs.

use crate::words::exit::Status;
use serde_json::{Value, json};
use std::path::PathBuf;

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is removed; also when an attempt before this one had begun it.
    Removed,
    /// There was nothing of it in the registry.
    Absent,
    /// Leftovers of a peer without record were removed.
    Purged,
    /// It lives.
    RefusedLive,
    /// Its job in launchd is somebody else's.
    RefusedForeign,
    /// Something else speaks against it; see the reason.
    Refused,
}

/// Why it was refused, or came to no end: for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A session of it lives.
    Live,
    /// It is just being waked.
    Waking,
    /// Its property list is not iapeer's.
    ForeignLaunchd,
    /// The registry's lock is held.
    Locked,
    /// The registry is none that iapeer reads.
    Corrupt,
    /// The registry is of a newer version.
    NewerVersion,
    /// The registry or something beside it cannot be read or written.
    Unwritable,
    /// The lock was lost on the way.
    Compromised,
    /// It is registered, and only leftovers were to be removed.
    Registered,
    /// It is not registered, and had to be.
    NotRegistered,
    /// The record is gone, and something of its state is not.
    Partial,
    /// A signal came.
    Interrupted,
}

impl Reason {
    fn word(self) -> &'static str {
        match self {
            Reason::Live => "live",
            Reason::Waking => "waking",
            Reason::ForeignLaunchd => "foreign-launchd",
            Reason::Locked => "locked",
            Reason::Corrupt => "corrupt",
            Reason::NewerVersion => "newer-version",
            Reason::Unwritable => "unwritable",
            Reason::Compromised => "compromised",
            Reason::Registered => "registered",
            Reason::NotRegistered => "not-registered",
            Reason::Partial => "partial",
            Reason::Interrupted => "interrupted",
        }
    }
}

/// The report on one peer.
#[derive(Clone, Debug)]
pub struct PeerReport {
    /// Its name.
    pub personality: String,
    /// How it went.
    pub action: Action,
    /// Whether nothing was done, only told.
    pub dry_run: bool,
    /// Whether an earlier attempt was brought to its end.
    pub resumed: bool,
    /// Why not, for programs.
    pub reason: Option<Reason>,
    /// Why not, for people.
    pub trouble: Option<String>,
    /// What it ran in.
    pub runtimes: Vec<String>,
    /// Its folder.
    pub cwd: Option<String>,
    /// What was removed of its state.
    pub purged: Vec<String>,
    /// What is left of its state.
    pub leftovers: Vec<String>,
    /// What is left alone.
    pub kept: Vec<PathBuf>,
    /// What became of its job in launchd.
    pub plist: Option<String>,
    /// Names that are like its.
    pub near: Vec<String>,
}

impl PeerReport {
    /// Of `personality`, as yet absent.
    pub fn new(personality: &str, dry_run: bool) -> PeerReport {
        PeerReport {
            personality: personality.to_owned(),
            action: Action::Absent,
            dry_run,
            resumed: false,
            reason: None,
            trouble: None,
            runtimes: Vec::new(),
            cwd: None,
            purged: Vec::new(),
            leftovers: Vec::new(),
            kept: Vec::new(),
            plist: None,
            near: Vec::new(),
        }
    }

    /// The same, refused.
    #[must_use]
    pub fn refuse(self, action: Action, reason: Reason, trouble: impl Into<String>) -> PeerReport {
        PeerReport { action, reason: Some(reason), trouble: Some(trouble.into()), ..self }
    }

    /// 0 or 1; iapeer has no finer ones, `reason` has.
    pub fn status(&self) -> Status {
        if self.reason.is_some() { Status::No } else { Status::Done }
    }

    /// The lines for stdout.
    pub fn lines(&self) -> Vec<String> {
        let name = &self.personality;
        let mut lines = Vec::new();
        let would =
            |done: &str, to_do: &str| if self.dry_run { format!("would {to_do}") } else { done.to_owned() };
        match self.action {
            Action::Removed => {
                lines.push(format!("{} \"{name}\" from the registry", would("removed", "remove")));
                lines.push(format!("launchd plist: {}", self.plist.as_deref().unwrap_or("none")));
                lines.push(
                    "memory unprovision: not run, nor codex trust entry, codex hooks trust: they are \
                     iapeer's own"
                        .to_owned(),
                );
            }
            Action::Absent if self.reason.is_none() => {
                lines.push(format!("\"{name}\" not registered — no-op"))
            }
            _ => {}
        }
        if !self.purged.is_empty() {
            lines.push(format!("lifecycle state {}: {}", would("purged", "purge"), self.purged.join(", ")));
        }
        if !self.leftovers.is_empty() {
            lines.push(format!("lifecycle state left: {}", self.leftovers.join(", ")));
        }
        if self.action == Action::Removed {
            lines.extend(self.kept.iter().map(|path| format!("kept: {}", path.display())));
            let folder = self.cwd.as_ref().filter(|cwd| std::path::Path::new(cwd).exists());
            lines.extend(folder.map(|cwd| {
                format!(
                    "folder kept: {cwd} (remove never deletes peer data — `rm -rf` it yourself if it was a \
                 throwaway)"
                )
            }));
        }
        lines
    }

    /// What is worth a word besides, for stderr.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.resumed {
            notes.push(format!(
                "an earlier removal of \"{}\" was cut off; it is finished now",
                self.personality
            ));
        }
        if self.action == Action::Absent && !self.near.is_empty() {
            notes.push(format!("did you mean {}?", self.near.join(", ")));
        }
        if self.action == Action::Absent && !self.leftovers.is_empty() {
            notes.push(format!("\"{}\" has left state behind; --purge-only removes it", self.personality));
        }
        let profile = self
            .cwd
            .as_ref()
            .map(|cwd| std::path::Path::new(cwd).join(".iapeer/peer-profile.json"))
            .filter(|path| path.exists());
        if self.action == Action::Removed
            && let Some(profile) = profile
        {
            notes.push(format!(
                "{} is still there: `iapeer verify --fix` would register the peer again",
                profile.display()
            ));
        }
        notes
    }

    /// Its JSON.
    pub fn json(&self) -> Value {
        let action = match self.action {
            Action::Removed => "removed",
            Action::Absent => "absent",
            Action::Purged => "purged",
            Action::RefusedLive => "refused-live",
            Action::RefusedForeign => "refused-foreign-launchd",
            Action::Refused => "refused",
        };
        let kept: Vec<_> = self.kept.iter().map(|path| path.to_string_lossy()).collect();
        json!({
            "schema": "baa.peer-remove/1",
            "action": action,
            "personality": self.personality,
            "dryRun": self.dry_run,
            "resumed": self.resumed,
            "runtimes": self.runtimes,
            "cwd": self.cwd,
            "purgedState": self.purged,
            "leftovers": self.leftovers,
            "kept": kept,
            "plistTeardown": self.plist,
            "near": self.near,
            "reason": self.reason.map(Reason::word),
            "message": self.trouble,
        })
    }
}
