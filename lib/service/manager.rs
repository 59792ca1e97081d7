//! Which managers there are. The one place that decides: a further one (openrc, say) is a file with its
//! `Service`, and a row in each of the lists here.

use crate::service::embedded::Embedded;
use crate::service::group::Grouped;
use crate::service::launchd::{self, Launchd};
use crate::service::systemd::Systemd;
use crate::service::{Service, check_label, check_unit_name};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A manager of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagerKind {
    /// launchd.
    Launchd,
    /// systemd.
    Systemd,
    /// One baa-run for each job, or baa-daemons for a group.
    Embedded,
}

/// The names that `--manager` takes, each with a line for people.
pub const NAMES: [(&str, &str); 4] = [
    ("auto", "launchd on macOS; elsewhere systemd where it runs, or else baa"),
    ("launchd", "launchctl(1)"),
    ("systemd", "systemctl(1)"),
    ("baa", "One baa-run(1) for each job, or with --group baa-daemons(1)"),
];

impl ManagerKind {
    /// The manager called so; `None` for `auto`, and for what is no name.
    pub fn named(name: &str) -> Option<ManagerKind> {
        match name {
            "launchd" => Some(ManagerKind::Launchd),
            "systemd" => Some(ManagerKind::Systemd),
            "baa" => Some(ManagerKind::Embedded),
            _ => None,
        }
    }

    /// The manager of this machine; the embedded one where there is none.
    pub fn of_this_machine() -> ManagerKind {
        if cfg!(target_os = "macos") {
            ManagerKind::Launchd
        } else if Systemd::booted() {
            ManagerKind::Systemd
        } else {
            ManagerKind::Embedded
        }
    }

    /// Why this manager cannot be asked on this machine, whatever may still come up: it belongs to another
    /// system, and nothing here takes its place.
    pub fn foreign(self) -> Option<&'static str> {
        let there = |program: &str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            crate::sys::child::find(OsStr::new(program), &path, Path::new("/")).is_some()
        };
        match self {
            ManagerKind::Launchd if !cfg!(target_os = "macos") && !there("launchctl") => {
                Some("launchd is the manager of macOS, and there is no launchctl here")
            }
            ManagerKind::Systemd if !cfg!(target_os = "linux") && !there("systemctl") => {
                Some("systemd is a manager of Linux, and there is no systemctl here")
            }
            _ => None,
        }
    }

    /// The service that a person calls `name` where the manager is known already: a label, `DOMAIN/LABEL`, a
    /// unit, `user/UNIT`.
    ///
    /// # Errors
    /// 2 for what cannot be a name.
    pub fn service(self, name: &str) -> Result<Box<dyn Service + Send + Sync>> {
        Ok(match self {
            ManagerKind::Launchd => Box::new(Launchd::of_target(name)?),
            ManagerKind::Systemd => Box::new(Systemd::of_target(name)?),
            ManagerKind::Embedded => {
                check_label(name).map_err(|why| Error::new(Status::Usage, why))?;
                Box::new(Embedded::new(name))
            }
        })
    }
}

/// A service that we ourselves are.
#[derive(Clone, Debug)]
pub struct OwnService {
    kind: ManagerKind,
    /// `None` where its manager is known and its name is not.
    service: Option<Arc<dyn Service + Send + Sync>>,
}

impl OwnService {
    /// The one that this very process is, if any. Variables are inherited by whatever a service starts, so
    /// they must name us (facts 2.6).
    pub fn find() -> Option<OwnService> {
        let systemd = || Some(OwnService::new(ManagerKind::Systemd, Systemd::ours()?));
        let launchd = || Some(OwnService::new(ManagerKind::Launchd, Launchd::ours()?));
        systemd().or_else(launchd)
    }

    /// The same where somebody says that it is one of `kind`, though nothing names us.
    pub fn claimed(kind: ManagerKind) -> Option<OwnService> {
        if let Some(found) = OwnService::find().filter(|found| found.kind == kind) {
            return Some(found);
        }
        match kind {
            ManagerKind::Launchd => {
                let service = Launchd::claimed().map(|service| Arc::new(service) as Arc<_>);
                Some(OwnService { kind, service })
            }
            ManagerKind::Systemd | ManagerKind::Embedded => None,
        }
    }

    fn new(kind: ManagerKind, service: impl Service + Send + Sync + 'static) -> OwnService {
        OwnService { kind, service: Some(Arc::new(service)) }
    }

    /// What its manager is asked by.
    pub fn service(&self) -> Option<&(dyn Service + Send + Sync)> {
        self.service.as_deref()
    }

    /// How long we wait before we end for a restart, so that the manager sees that it was meant.
    pub fn end_delay(&self) -> Duration {
        match self.kind {
            ManagerKind::Launchd => launchd::SEES_AN_END,
            ManagerKind::Systemd | ManagerKind::Embedded => Duration::ZERO,
        }
    }

    /// Whether its state tells that the manager stops it.
    pub fn tells_of_stops(&self) -> bool {
        self.kind == ManagerKind::Systemd
    }
}

/// Whether our control group was given to us by the manager that made it, though it is not marked so.
pub fn gave_us_our_cgroup() -> bool {
    Systemd::ours().is_some_and(|unit| unit.delegates())
}

/// Where services are.
#[derive(Clone, Debug)]
pub struct ServiceLocation {
    /// Their manager.
    pub kind: ManagerKind,
    /// Whether they are daemons of the system; `None` takes the manager's default.
    pub daemon: Option<bool>,
    /// launchd's domain, if it was given.
    pub domain: Option<String>,
    /// The directory of their property lists.
    pub install_dir: PathBuf,
    /// The file of the group (baa-daemons) that they are entries of.
    pub group: Option<PathBuf>,
}

impl ServiceLocation {
    /// The service `label` there, whose file is `source`.
    ///
    /// # Errors
    /// 2 for a label or domain that cannot be one; those of the group's file.
    pub fn open(&self, label: &str, source: &Path) -> Result<Box<dyn Service>> {
        let usage = |why: String| Error::new(Status::Usage, why);
        if let Some(domain) = &self.domain {
            launchd::check_domain(domain).map_err(usage)?;
        }
        if self.kind == ManagerKind::Systemd && self.group.is_none() {
            check_unit_name(label).map_err(usage)?;
        } else {
            check_label(label).map_err(usage)?;
        }
        if self.group.is_some() {
            return Ok(Box::new(Grouped::new(source, label)?));
        }
        Ok(match self.kind {
            ManagerKind::Launchd => {
                let domain = self.domain.clone();
                let domain = domain.unwrap_or_else(|| Launchd::domain_of(self.daemon.unwrap_or(false)));
                Box::new(Launchd::new(domain, label))
            }
            ManagerKind::Systemd => {
                Box::new(Systemd::new(label, self.daemon.unwrap_or_else(Systemd::default_is_system)))
            }
            ManagerKind::Embedded => Box::new(Embedded::new(label)),
        })
    }
}
