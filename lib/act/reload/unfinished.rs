//! What is left to be done of a reload that is cut off: the plan that its guardian and its journal have, and
//! how it is finished by whoever finds it.

use super::definition::put_back;
use super::polls::Backoff;
use super::{
    Halt, JobVersion, LastGood, Reload, ReloadContext, ReloadOutcome, ReloadPhase, ReloadReport,
    RollbackRule, ServiceReload, look,
};
use crate::service::manager::{ManagerKind, ServiceLocation};
use crate::service::{JobState, Phase, Registration, Service};
use crate::sys::clock::Clock;
use crate::sys::file;
use crate::sys::process::{Identity, Pid, Start};
use crate::sys::say::{Level, Voice};
use crate::words::error::{Error, Result, brief};
use crate::words::exit::Status;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a job whose reload was cut off in the moment of taking it down is watched, until it is believed
/// that nobody was told. A launchctl that outlives its caller says its word within milliseconds.
const WORD_ON_ITS_WAY: Duration = Duration::from_secs(2);
/// How long a manager that says nothing is asked again.
const PATIENCE_WITH_MANAGER: Duration = Duration::from_secs(120);

/// How often it is begun again when what was seen to be registered is not at last.
const TRIES: u32 = 3;

/// What has to be done to finish a reload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnfinishedReload {
    /// How messages name the service.
    pub name: String,
    /// Its label.
    pub label: String,
    /// The manager's name.
    pub manager: String,
    /// Whether it is a daemon of the system.
    pub daemon: Option<bool>,
    /// launchd's domain.
    pub domain: Option<String>,
    /// The file of its group.
    #[serde(with = "any_paths")]
    pub group: Option<PathBuf>,
    /// The file to bring it up from.
    #[serde(with = "any_path")]
    pub source: PathBuf,
    /// Where the copy of the last one that worked is, if there is one.
    #[serde(with = "any_paths")]
    pub last_good: Option<PathBuf>,
    /// Whether it starts by itself.
    pub starts_itself: bool,
    /// Whether it was registered.
    pub was_registered: bool,
    /// The old process: its pid, and what tells when it started.
    pub old: Option<(i32, u64)>,
    /// How long the old process may take to exit, beside what the manager grants it.
    pub drain_ms: u64,
    /// Whether it must not be kicked.
    pub skip_kickstart: bool,
}

impl UnfinishedReload {
    /// The service that it is about.
    ///
    /// # Errors
    /// As `ServiceLocation::open`.
    pub fn service(&self) -> Result<Box<dyn Service>> {
        let unknown = || Error::new(Status::Malformed, format!("'{}' is no manager", brief(&self.manager)));
        let kind = ManagerKind::named(&self.manager).ok_or_else(unknown)?;
        let location = ServiceLocation {
            kind,
            daemon: self.daemon,
            domain: self.domain.clone(),
            install_dir: PathBuf::new(),
            group: self.group.clone(),
        };
        location.open(&self.label, &self.source)
    }

    fn old(&self) -> Option<Identity> {
        let (pid, start) = self.old?;
        Some(Identity { pid: Pid::new(pid)?, start: Start(start) })
    }

    /// Sees to it that the job is registered, from the new file or else from the last one that worked, which
    /// then takes the place of the new one if it `puts_back`. `phase` is how far the reload is known to have
    /// come. Whether it serves is not asked: nobody waits for the answer.
    pub fn finish(
        &self,
        phase: ReloadPhase,
        puts_back: bool,
        service: &dyn Service,
        clock: &dyn Clock,
    ) -> ReloadReport {
        let mut report = self.finish_once(phase, puts_back, service, clock);
        for _ in 0..TRIES {
            // What was heard after all, and undid what had been seen.
            let undone = matches!(report.known, Registration::NotRegistered)
                && report.outcome == ReloadOutcome::Finished;
            if !undone {
                break;
            }
            report = self.finish_once(ReloadPhase::BringingBack, puts_back, service, clock);
        }
        report
    }

    fn finish_once(
        &self,
        phase: ReloadPhase,
        puts_back: bool,
        service: &dyn Service,
        clock: &dyn Clock,
    ) -> ReloadReport {
        // The file may have been changed since, or cut short.
        let read = |path: &Path| file::read(path, u64::MAX - 1).ok();
        let copy = self.last_good.as_deref().filter(|copy| {
            read(copy).is_some_and(|kept| read(&self.source).is_none_or(|installed| installed != kept))
        });
        let put_copy_back = || {
            let Some(copy) = copy.filter(|_| puts_back) else {
                return Err(Error::new(Status::BadConfig, "the new file is left as it is"));
            };
            let bytes = file::read(copy, u64::MAX - 1)
                .map_err(|cause| Error::io(format!("cannot read '{}'", copy.display()), &cause))?;
            let tested = file::read(&self.source, u64::MAX - 1)
                .map_err(|cause| Error::io(format!("cannot read '{}'", self.source.display()), &cause))?;
            put_back(&self.source, &tested, &bytes, file::mode(copy, 0o644))
        };
        let version = |source: &Path| JobVersion {
            source: source.to_owned(),
            starts_itself: self.starts_itself,
            health: None,
        };
        let request = ServiceReload {
            name: self.name.clone(),
            version: version(&self.source),
            last_good: copy.map(|copy| LastGood {
                version: version(copy),
                since: None,
                put_back: &put_copy_back,
            }),
            rollback: RollbackRule::Never,
            attempts: 1,
            delay: Duration::ZERO,
            probe_timeout: Duration::ZERO,
            skip_kickstart: self.skip_kickstart,
            settle: Duration::ZERO,
            drain: Duration::from_millis(self.drain_ms),
            deadline: None,
        };
        let voice = Voice::new(Level::Silent);
        let context =
            ReloadContext { service, clock, voice: &voice, interrupted: &|| None, progress: &|_| {} };
        let until = clock.now() + PATIENCE_WITH_MANAGER;
        let mut backoff = Backoff::new();
        let before = loop {
            match look(service, clock) {
                Ok(before) => break before,
                Err(trouble) if clock.now() >= until => return ReloadReport::cannot_tell(&trouble),
                Err(_) => clock.sleep_until(clock.now() + backoff.next()),
            }
        };
        let mut reload = Reload::new(&request, before.as_ref(), context);
        reload.was_registered = self.was_registered;
        if let Some(old) = self.old() {
            reload.old = Some(old);
            reload.report.old = Some(old.pid);
        }
        let end = reload.finish(before.as_ref(), phase);
        let mut report = reload.conclude(end);
        let reason = report.reason.take().unwrap_or_else(|| "it is registered".to_owned());
        report.reason = Some(format!("it was cut off; {reason}"));
        report
    }
}

impl Reload<'_> {
    fn finish(
        &mut self,
        before: Option<&JobState>,
        phase: ReloadPhase,
    ) -> std::result::Result<ReloadOutcome, Halt> {
        if let Some(last_good) = &self.request.last_good
            && matches!(phase, ReloadPhase::TakingDownForCopy | ReloadPhase::BringingCopyBack)
        {
            self.version = last_good.version.clone();
            self.went_back = true;
        }
        let now = match before {
            Some(state) if phase.takes_down() => self.await_word(state),
            other => other.cloned(),
        };
        match now {
            Some(state) if state.phase == Phase::Stopping => {
                let patience = self.patience(&state);
                self.await_gone(self.clock.now() + patience);
                self.bring_up_again(patience)
            }
            // One that is there and does not start is kicked, as the reload would have done.
            Some(state) if state.pid.is_none() && !phase.takes_down() => {
                self.start()?;
                Ok(ReloadOutcome::Finished)
            }
            Some(_) => Ok(ReloadOutcome::Finished),
            None => self.bring_up_again(Duration::ZERO),
        }
    }

    fn bring_up_again(&mut self, patience: Duration) -> std::result::Result<ReloadOutcome, Halt> {
        if self.service.restarts_in_place() && !self.was_registered {
            return Ok(ReloadOutcome::Finished);
        }
        self.seen_free = true;
        // A file that is known to be refused is not tried for as long as one that may be taken.
        if let Some(last_good) = &self.request.last_good
            && self.service.definition(&self.version.source).is_err()
        {
            let _ = self.go_back(last_good);
        }
        match self.bring_back(patience)? {
            Some(restored) => Err(restored),
            None => Ok(ReloadOutcome::Finished),
        }
    }

    /// What the manager says when a word that was on its way has had time to arrive. One that says nothing is
    /// asked until it does, or is given up.
    fn await_word(&mut self, before: &JobState) -> Option<JobState> {
        let (until, limit) = (self.clock.now() + WORD_ON_ITS_WAY, self.clock.now() + PATIENCE_WITH_MANAGER);
        let mut backoff = Backoff::new();
        let mut state = Some(before.clone());
        loop {
            let asked = self.clock.now();
            let answer = self.poll();
            let over = asked >= limit || (asked >= until && answer.is_ok());
            state = answer.unwrap_or(state);
            // It may run under another pid by now, and be told to go all the same.
            if over || state.as_ref().is_none_or(|state| state.phase == Phase::Stopping) {
                return state;
            }
            self.pause_of_polls(&mut backoff);
        }
    }
}

/// A path in JSON: text, or its bytes where it is none.
mod any_path {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::PathBuf;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    pub(super) enum AnyPath {
        Text(String),
        Bytes(Vec<u8>),
    }

    impl From<&PathBuf> for AnyPath {
        fn from(path: &PathBuf) -> AnyPath {
            match path.to_str() {
                Some(text) => AnyPath::Text(text.to_owned()),
                None => AnyPath::Bytes(path.as_os_str().as_bytes().to_vec()),
            }
        }
    }

    impl From<AnyPath> for PathBuf {
        fn from(any: AnyPath) -> PathBuf {
            match any {
                AnyPath::Text(text) => PathBuf::from(text),
                AnyPath::Bytes(bytes) => PathBuf::from(std::ffi::OsString::from_vec(bytes)),
            }
        }
    }

    pub(super) fn serialize<S: Serializer>(path: &PathBuf, to: S) -> Result<S::Ok, S::Error> {
        AnyPath::from(path).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        AnyPath::deserialize(from).map(PathBuf::from)
    }
}

/// The same for one that may be missing.
mod any_paths {
    use super::any_path::AnyPath;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::path::PathBuf;

    pub(super) fn serialize<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
        path.as_ref().map(AnyPath::from).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<AnyPath>::deserialize(from)?.map(PathBuf::from))
    }
}
