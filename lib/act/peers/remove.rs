//! The removal: looked at again under the lock, its tombstone first, then job, record, state; every step can
//! be the last one of an attempt.

use crate::act::peers::agent::{self, Agent};
use crate::act::peers::live;
use crate::act::peers::lock::{Refused, RegistryLock};
use crate::act::peers::registry::{self, Peer, Registry};
use crate::act::peers::report::{Action, PeerReport, Reason};
use crate::act::peers::root::Root;
use crate::act::peers::tombstone::Tombstone;
use crate::service::iapeer;
use crate::sys::file::{self, Staged};
use crate::sys::signal::{self, Signal, Signals};
use crate::words::error::{Error, Result, reason};
use crate::words::exit::Status;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

/// Far above any fleet.
const REGISTRY_LIMIT: u64 = 64 * 1024 * 1024;

/// How to remove.
#[derive(Clone, Copy, Debug)]
pub struct RemoveSettings {
    /// Also what lives, is waked, has a foreign job, or stands in a newer registry.
    pub force: bool,
    /// Tell, and do nothing.
    pub dry_run: bool,
    /// Absent is a failure.
    pub must_exist: bool,
    /// Leave the markers.
    pub keep_state: bool,
    /// Remove only the markers of what is not registered.
    pub purge_only: bool,
    /// How long to wait for the lock.
    pub wait: Duration,
}

/// Removes `names`, one after the other, under one lock; a report on each, in their order.
///
/// # Errors
/// When nothing could be begun at all.
pub fn remove(root: &Root, names: &[String], settings: RemoveSettings) -> Result<Vec<PeerReport>> {
    let signals = Signals::catch(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])
        .map_err(|cause| Error::io("cannot catch signals", &cause))?;
    let for_all = |action, why: Reason, trouble: &str| {
        names
            .iter()
            .map(|name| PeerReport::new(name, settings.dry_run).refuse(action, why, trouble))
            .collect::<Vec<_>>()
    };
    root.check()?;
    // Nothing is made in an installation that is not there, nor by a look.
    let bare = settings.dry_run || !root.exists();
    let lock = if bare {
        None
    } else {
        file::private_dir(&root.tombstones())
            .map_err(|cause| Error::io(format!("cannot use {}", root.tombstones().display()), &cause))?;
        match RegistryLock::take(
            &root.lock_target(),
            &root.tombstones().join(".lock-holder"),
            Instant::now() + settings.wait,
            &signals,
        ) {
            Ok(lock) => Some(lock),
            Err(Refused::Held) => {
                return Ok(for_all(
                    Action::Refused,
                    Reason::Locked,
                    "cannot lock the registry: Lock file is already being held",
                ));
            }
            Err(Refused::Interrupted(signal)) => {
                return Ok(for_all(
                    Action::Refused,
                    Reason::Interrupted,
                    &format!("ended by {} before anything was changed", signal::name(signal as i32)),
                ));
            }
            Err(Refused::Failed(error)) => {
                return Ok(for_all(Action::Refused, Reason::Unwritable, &error.to_string()));
            }
        }
    };
    let mut reports = Vec::new();
    for name in names {
        let removal = Removal { root, lock: lock.as_ref(), settings };
        // What has begun is finished; what has not is not begun.
        reports.push(match signals.take().first() {
            Some(signal) => PeerReport::new(name, settings.dry_run).refuse(
                Action::Refused,
                Reason::Interrupted,
                format!(
                    "ended by {} before anything of \"{name}\" was changed",
                    signal::name(*signal as i32)
                ),
            ),
            None => removal.one(name),
        });
    }
    Ok(reports)
}

struct Removal<'a> {
    root: &'a Root,
    /// `None` when nothing is to be changed.
    lock: Option<&'a RegistryLock>,
    settings: RemoveSettings,
}

impl Removal<'_> {
    fn one(&self, name: &str) -> PeerReport {
        let report = PeerReport::new(name, self.settings.dry_run);
        let text = match self.read() {
            Ok(text) => text,
            Err((why, trouble)) => return report.refuse(Action::Refused, why, trouble),
        };
        let registry = match Registry::parse(text.as_deref().unwrap_or("[]")) {
            Ok(registry) => registry,
            Err(trouble) => return report.refuse(Action::Refused, Reason::Corrupt, trouble),
        };
        if registry.is_newer() && !self.settings.force {
            let trouble = format!(
                "the registry has version {}, newer than what is known here; --force removes the record \
                     all the same",
                registry.version
            );
            return report.refuse(Action::Refused, Reason::NewerVersion, trouble);
        }
        match (registry.find(name), Tombstone::read(self.root, name)) {
            (Some(_), _) if self.settings.purge_only => report.refuse(
                Action::Refused,
                Reason::Registered,
                format!("\"{name}\" is registered; --purge-only is for what a removed peer has left"),
            ),
            (Some(peer), before) => self.registered(report, &registry, peer, before),
            (None, Some(begun)) if !begun.complete => {
                self.finish(PeerReport { resumed: true, ..report }, begun)
            }
            (None, _) => self.absent(PeerReport { near: registry.near(name), ..report }),
        }
    }

    /// `None` where there is no registry.
    fn read(&self) -> std::result::Result<Option<String>, (Reason, String)> {
        let path = self.root.registry();
        match self.root.read("peers-profiles.json", REGISTRY_LIMIT) {
            Ok(bytes) => String::from_utf8(bytes)
                .map(Some)
                .map_err(|_| (Reason::Corrupt, format!("{}: it is not UTF-8", registry::CORRUPTED))),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
            Err(cause) => {
                Err((Reason::Unwritable, format!("cannot read {}: {}", path.display(), reason(&cause))))
            }
        }
    }

    fn registered(
        &self,
        report: PeerReport,
        registry: &Registry<'_>,
        peer: &Peer,
        before: Option<Tombstone>,
    ) -> PeerReport {
        let name = &peer.personality;
        let report = PeerReport { runtimes: peer.runtimes.clone(), cwd: Some(peer.cwd.clone()), ..report };
        let found = agent::find(self.root, name);
        match self.lives(name, &peer.runtimes) {
            Some((live, Reason::Live)) => {
                let trouble = format!(
                    "remove: \"{name}\" is LIVE on {} — removing its registry record would orphan the \
                         running session from routing; stop it first or pass --force",
                    live.join(", ")
                );
                return report.refuse(Action::RefusedLive, Reason::Live, trouble);
            }
            Some((waking, why)) => {
                let trouble = format!(
                    "remove: \"{name}\" is just being waked on {} (its wake lock is held); \
                         try again, or pass --force",
                    waking.join(", ")
                );
                return report.refuse(Action::Refused, why, trouble);
            }
            None => {}
        }
        if let Agent::Foreign(path) = &found
            && !self.settings.force
        {
            let trouble = format!(
                "remove: {} is not iapeer's (no com.iapeer.managed); --force removes the record and \
                     leaves it",
                path.display()
            );
            return report.refuse(Action::RefusedForeign, Reason::ForeignLaunchd, trouble);
        }
        let generation = before.map_or(0, |before| before.generation);
        let tombstone = Tombstone {
            personality: name.clone(),
            generation: generation + 1,
            runtimes: peer.runtimes.clone(),
            cwd: peer.cwd.clone(),
            keep_state: self.settings.keep_state,
            complete: false,
        };
        let Some(lock) = self.lock else { return self.told(report, &found) };
        // From here on there is no way back, and every next attempt goes on from where this one ends.
        if let Err(error) = tombstone.write(self.root) {
            return report.refuse(Action::Refused, Reason::Unwritable, error.to_string());
        }
        let plist = match self.tear_down(name, &found) {
            Ok(plist) => plist,
            Err(error) => return report.refuse(Action::Refused, Reason::Unwritable, error.to_string()),
        };
        if let Err(error) = self.rewrite(registry, name, lock) {
            let why = if error.status == Status::Lost { Reason::Compromised } else { Reason::Unwritable };
            return report.refuse(Action::Refused, why, error.to_string());
        }
        self.purge_and_close(PeerReport { plist, ..report }, tombstone)
    }

    /// What an attempt before this one has begun: the record is gone.
    fn finish(&self, report: PeerReport, begun: Tombstone) -> PeerReport {
        let name = begun.personality.clone();
        let report = PeerReport { runtimes: begun.runtimes.clone(), cwd: Some(begun.cwd.clone()), ..report };
        if let Some((runtimes, why)) = self.lives(&name, &begun.runtimes) {
            let trouble = format!(
                "remove: \"{name}\" is half removed, and yet it lives or is waked on {}",
                runtimes.join(", ")
            );
            return report.refuse(Action::RefusedLive, why, trouble);
        }
        let found = agent::find(self.root, &name);
        if self.lock.is_none() {
            return self.told(report, &found);
        }
        match self.tear_down(&name, &found) {
            Ok(plist) => self.purge_and_close(PeerReport { plist, ..report }, begun),
            Err(error) => report.refuse(Action::Refused, Reason::Partial, error.to_string()),
        }
    }

    /// Where it lives or is just being waked, unless that does not matter.
    fn lives(&self, name: &str, recorded: &[String]) -> Option<(Vec<String>, Reason)> {
        if self.settings.force {
            return None;
        }
        let live = live::runtimes(self.root, name, recorded);
        if !live.is_empty() {
            return Some((live, Reason::Live));
        }
        Some((live::waking(self.root, name), Reason::Waking)).filter(|(waking, _)| !waking.is_empty())
    }

    fn absent(&self, report: PeerReport) -> PeerReport {
        let name = report.personality.clone();
        let left = self.state_of(&name);
        if !self.settings.purge_only || left.is_empty() {
            let report = PeerReport { leftovers: left, ..report };
            let must = self.settings.must_exist;
            return if must {
                report.refuse(Action::Absent, Reason::NotRegistered, format!("\"{name}\" is not registered"))
            } else {
                report
            };
        }
        if let Some((runtimes, why)) = self.lives(&name, &[]) {
            let trouble = format!(
                "remove: \"{name}\" is not registered, and yet it lives or is waked on {}",
                runtimes.join(", ")
            );
            return report.refuse(Action::RefusedLive, why, trouble);
        }
        if self.lock.is_none() {
            return PeerReport { action: Action::Purged, purged: left, ..report };
        }
        purged(PeerReport { action: Action::Purged, ..report }, self.purge(&name))
    }

    /// What would be done.
    fn told(&self, report: PeerReport, agent: &Agent) -> PeerReport {
        let plist = match agent {
            Agent::None => None,
            Agent::Owned(path) => Some(format!("{} would be removed", path.display())),
            Agent::Foreign(path) => Some(skipped(path)),
        };
        let purged = if self.settings.keep_state { Vec::new() } else { self.state_of(&report.personality) };
        PeerReport {
            action: Action::Removed,
            kept: self.root.kept(&report.personality),
            plist,
            purged,
            ..report
        }
    }

    fn tear_down(&self, name: &str, agent: &Agent) -> Result<Option<String>> {
        match agent {
            Agent::None => Ok(None),
            Agent::Owned(path) => agent::tear_down(self.root, name, path).map(Some),
            Agent::Foreign(path) => Ok(Some(skipped(path))),
        }
    }

    /// Takes the record out of the registry, durably, if the lock is still ours at the last moment.
    fn rewrite(&self, registry: &Registry<'_>, name: &str, lock: &RegistryLock) -> Result<()> {
        let path = self.root.registry();
        let cannot = |cause| Error::io(format!("cannot write {}", path.display()), &cause);
        let text =
            registry.without(name).ok_or_else(|| Error::bug("a record that was found is not there"))?;
        // Rename would replace a file that its owner has closed to writing.
        if !file::writable(&path)
            || std::fs::symlink_metadata(&path).is_ok_and(|found| found.permissions().readonly())
        {
            return Err(Error::new(
                Status::NotPermitted,
                format!("cannot write {}: it is read-only", path.display()),
            ));
        }
        file::sweep_staged(&path);
        let staged = Staged::write(&path, text.as_bytes(), 0o600).map_err(cannot)?;
        lock.check()?;
        staged.commit().map_err(cannot)?;
        // It must be gone by the reader's own eyes.
        let now = self.read().map_err(|(_, why)| Error::new(Status::Io, why))?;
        match Registry::parse(now.as_deref().unwrap_or("[]")) {
            Ok(now) if now.find(name).is_none() => Ok(()),
            _ => Err(Error::new(
                Status::Lost,
                "the registry was changed by another who does not hold its lock",
            )),
        }
    }

    fn purge_and_close(&self, report: PeerReport, tombstone: Tombstone) -> PeerReport {
        let name = report.personality.clone();
        let report = PeerReport { action: Action::Removed, kept: self.root.kept(&name), ..report };
        let keep = tombstone.keep_state || self.settings.keep_state;
        let report = if keep {
            PeerReport { leftovers: self.state_of(&name), ..report }
        } else {
            purged(report, self.purge(&name))
        };
        if report.reason.is_some() {
            return report;
        }
        match (Tombstone { complete: true, ..tombstone }).write(self.root) {
            Ok(()) => report,
            // All is done; the next attempt finds nothing to do and says so on the tombstone.
            Err(error) => report.refuse(Action::Removed, Reason::Partial, error.to_string()),
        }
    }

    /// The markers of a peer, whatever the runtime: `RUNTIME-PEER.` and more; the dot keeps `bob2` apart from
    /// `bob`.
    fn state_of(&self, name: &str) -> Vec<String> {
        of_peer(self.root.names("state/lifecycle"), name)
            .into_iter()
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }

    /// Removes them; what was removed, and what was not and why.
    fn purge(&self, name: &str) -> Purge {
        let lifecycle = self.root.lifecycle();
        let mut done = Purge::default();
        let directory = match self.root.enter("state/lifecycle") {
            Ok(directory) => directory,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return done,
            Err(cause) => return Purge { trouble: Some(failed(&lifecycle, &cause)), ..done },
        };
        for marker in of_peer(directory.names().unwrap_or_default(), name) {
            let text = marker.to_string_lossy().into_owned();
            match directory.remove(&marker) {
                Ok(()) => done.removed.push(text),
                Err(cause) => {
                    done.trouble = Some(failed(&lifecycle.join(&marker), &cause));
                    done.left.push(text);
                }
            }
        }
        if let Err(cause) = directory.sync() {
            done.trouble = Some(failed(&lifecycle, &cause));
        }
        done
    }
}

#[derive(Debug, Default)]
struct Purge {
    removed: Vec<String>,
    left: Vec<String>,
    trouble: Option<String>,
}

fn failed(path: &Path, cause: &std::io::Error) -> String {
    format!("cannot remove {}: {}", path.display(), reason(cause))
}

fn skipped(path: &Path) -> String {
    format!("skipped-foreign {}", path.display())
}

fn purged(report: PeerReport, purge: Purge) -> PeerReport {
    let report = PeerReport { purged: purge.removed, leftovers: purge.left, ..report };
    match purge.trouble {
        None => report,
        Some(trouble) => {
            let action = report.action;
            report.refuse(action, Reason::Partial, trouble)
        }
    }
}

fn of_peer(names: Vec<OsString>, personality: &str) -> Vec<OsString> {
    let is_marker = |name: &OsString| {
        let name = name.to_string_lossy();
        name.split_once('.').is_some_and(|(identity, _)| iapeer::runtime_of(identity, personality).is_some())
    };
    names.into_iter().filter(is_marker).collect()
}
