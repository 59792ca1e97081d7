//! Which managers there are. The one place that decides: a further one (openrc, say) is a file with its
//! `Service`, and a row in each of the three lists here.

use crate::service::embedded::Embedded;
use crate::service::group::Grouped;
use crate::service::launchd::{self, Launchd};
use crate::service::systemd::Systemd;
use crate::service::{Service, check_label};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::path::{Path, PathBuf};

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
        check_label(label).map_err(usage)?;
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
