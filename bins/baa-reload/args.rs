//! The command line of baa-reload.

use baa::program::{Common, one_of};
use baa::service::manager;
use baa::words::span;
use clap::{Parser, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Reload a service, prove that it recovered, or say why not; never strand it
///
/// Takes the place of reload-launchd.sh, on launchd, on systemd, and where there is neither.
#[derive(Debug, Parser)]
#[command(name = "baa-reload", version, max_term_width = 100)]
pub struct ReloadArgs {
    /// Reload the service NAME, with the label PREFIX-NAME (repeatable) [default: conductor]
    #[arg(long, value_name = "NAME", help_heading = "What")]
    pub service: Vec<String>,

    /// Reload every service of the prefix whose plist is in the install directory
    #[arg(long, conflicts_with_all = ["service", "label"], help_heading = "What")]
    pub all_services: bool,

    /// What precedes -NAME in a label
    #[arg(long, value_name = "PREFIX", default_value = "so.makefile.baa", help_heading = "What")]
    pub label_prefix: String,

    /// Reload the job (or systemd unit) LABEL instead of a named service
    #[arg(long, visible_alias = "unit", conflicts_with = "service", help_heading = "What")]
    pub label: Option<String>,

    /// Its launchd property list [default: LABEL.plist in the install directory]
    #[arg(long, help_heading = "What")]
    pub plist: Option<PathBuf>,

    /// It is the entry LABEL of this group, which baa-daemons runs; its file is read again
    #[arg(
        long, value_name = "FILE", requires = "label", conflicts_with_all = ["plist", "scope", "domain"],
        help_heading = "Where"
    )]
    pub group: Option<PathBuf>,

    /// Who manages it
    #[arg(long, default_value = "auto", help_heading = "Where", value_parser = one_of(&manager::NAMES))]
    pub manager: String,

    /// Agents of this user or daemons of the system [default: agent; daemon for root under systemd]
    #[arg(long, help_heading = "Where")]
    pub scope: Option<Scope>,

    /// launchd's domain: gui/UID, user/UID, system [default: from --scope]
    #[arg(long, help_heading = "Where")]
    pub domain: Option<String>,

    /// The home directory that the install directory is in [default: $HOME]
    #[arg(long, value_name = "DIR", help_heading = "Where")]
    pub home_dir: Option<PathBuf>,

    /// The directory of the property lists [default: ~/Library/LaunchAgents, or /Library/LaunchDaemons]
    #[arg(long, value_name = "DIR", help_heading = "Where")]
    pub install_dir: Option<PathBuf>,

    /// Ask this URL for its health [default for conductor: from --health-env and --health-path]
    #[arg(long, value_name = "URL", help_heading = "Health")]
    pub health_url: Option<OsString>,

    /// The variable of the job that holds the base of its URL [default: BAA_CONDUCTOR_LOCAL_API]
    #[arg(long, value_name = "NAME", help_heading = "Health")]
    pub health_env: Option<String>,

    /// What is appended to the base [default: /healthz]
    #[arg(long, value_name = "PATH", help_heading = "Health")]
    pub health_path: Option<String>,

    /// Be content with a new process; ask no URL
    #[arg(long, conflicts_with_all = ["health_url", "health_env", "health_path"], help_heading = "Health")]
    pub no_health: bool,

    /// Attempts before the kick, and again after it
    #[arg(
        long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "Health"
    )]
    pub attempts: u32,

    /// Pause after an attempt; within it the service is asked again as often as is free
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, default_value = "1s", help_heading = "Health"
    )]
    pub delay: Duration,

    /// End of one health check
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, default_value = "5s", help_heading = "Health"
    )]
    pub probe_timeout: Duration,

    /// It must stay up for this long, in the same process
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, default_value = "0", hide_default_value = true,
        help_heading = "Health"
    )]
    pub settle: Duration,

    /// Stop waiting for health after this long [default: when the attempts are used up]
    #[arg(long, value_name = "SPAN", value_parser = span::parse, help_heading = "Health")]
    pub timeout: Option<Duration>,

    /// The old process may take this long to exit, where the manager grants it less
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, default_value = "0", hide_default_value = true,
        help_heading = "How"
    )]
    pub drain: Duration,

    /// Never kick it: not after the bootstrap, not when it does not answer
    #[arg(long, help_heading = "How")]
    pub skip_kickstart: bool,

    /// Go on with the next service when one failed
    #[arg(long, help_heading = "How")]
    pub keep_going: bool,

    #[command(flatten)]
    pub common: Common,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// A LaunchAgent, or a unit of the user's manager
    Agent,
    /// A LaunchDaemon, or a unit of the system's manager
    Daemon,
}
