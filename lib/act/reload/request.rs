//! A request to reload services: which, where, how.

use super::RollbackRule;
use crate::service::expectation::HttpExpectation;
use crate::service::manager::ServiceLocation;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Which services.
#[derive(Clone, Debug)]
pub enum ReloadTarget {
    /// One job.
    Label(String),
    /// Named services: `PREFIX-NAME`.
    Services {
        /// What precedes the name.
        prefix: String,
        /// The names, in order.
        names: Vec<String>,
    },
    /// Every service of a prefix that is installed.
    All {
        /// What precedes the name.
        prefix: String,
    },
}

/// How their health is asked for.
#[derive(Clone, Debug)]
pub struct HealthOptions {
    /// The URL, or another target that can be asked, if it was given.
    pub url: Option<OsString>,
    /// The variable that holds its base, if it was given.
    pub variable: Option<String>,
    /// What is appended to the base, if it was given.
    pub path: Option<String>,
    /// The unix socket that is asked, if it was given.
    pub unix: Option<PathBuf>,
    /// What is asked there, and what must be answered.
    pub expectation: HttpExpectation,
    /// Whether a good answer counts whoever gives it: a proxy before the job.
    pub any_process: bool,
    /// Whether any of these two was said.
    pub expects: bool,
    /// Whether not to ask.
    pub none: bool,
}

/// How they are reloaded; see `ServiceReload`.
#[derive(Clone, Debug)]
pub struct ReloadSettings {
    /// Attempts of a round.
    pub attempts: u32,
    /// The pause after an attempt.
    pub delay: Duration,
    /// The end of one check.
    pub probe_timeout: Duration,
    /// How long it must stay up.
    pub settle: Duration,
    /// The end of waiting for health.
    pub timeout: Option<Duration>,
    /// How long the old process may take.
    pub drain: Duration,
    /// Whether it must not be kicked.
    pub skip_kickstart: bool,
    /// When a version that does not serve gives way to the last one that worked.
    pub rollback: RollbackRule,
    /// How long to wait while another reload of the label runs.
    pub wait_lock: Duration,
    /// Whether to go on after a failure.
    pub keep_going: bool,
    /// Whether diagnostics are left out of stderr but for their first and last line.
    pub quiet: bool,
}

/// Commands of the user's that are run beside a reload.
#[derive(Clone, Debug)]
pub struct ReloadHooks {
    /// Before anything is touched; where it fails, nothing is.
    pub before: Option<String>,
    /// When the service has recovered.
    pub after: Option<String>,
    /// When it has not.
    pub on_failure: Option<String>,
    /// How long each of them may take.
    pub limit: Duration,
}

/// The request.
#[derive(Clone, Debug)]
pub struct ReloadRequest {
    /// Which services.
    pub aim: ReloadTarget,
    /// The file of the only one, if it was given.
    pub plist: Option<PathBuf>,
    /// Where they are.
    pub location: ServiceLocation,
    /// How their health is asked for.
    pub health: HealthOptions,
    /// How they are reloaded.
    pub settings: ReloadSettings,
    /// What is run beside.
    pub hooks: ReloadHooks,
}
