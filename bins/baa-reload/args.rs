//! The command line of baa-reload.

use baa::probe::http::{HeaderText, Statuses};
use baa::probe::json::JsonTest;
use baa::probe::pattern::Pattern;
use baa::program::{Common, one_of};
use baa::service::manager;
use baa::words::span;
use clap::{Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Reload a service, prove that it recovered, or say why not; never strand it
///
/// Takes the place of reload-launchd.sh, on launchd, on systemd, and where there is neither.
#[derive(Debug, Parser)]
#[command(
    name = "baa-reload",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true
)]
pub struct ReloadArgs {
    #[command(subcommand)]
    pub verb: Option<ReloadVerb>,

    #[command(flatten)]
    pub which: Which,

    #[command(flatten)]
    pub health: Health,

    #[command(flatten)]
    pub how: How,

    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Subcommand)]
pub enum ReloadVerb {
    /// Tell what is wrong with a service, and touch nothing: 0 healthy, 1 not, 69 it cannot be told
    Diagnose(Box<Diagnose>),
    /// Tell what was reloaded, when, by whom, and how it ended
    History(History),
    /// Stand by for a reload, and finish it if it dies
    #[command(hide = true)]
    Guard,
}

/// What is looked at.
#[derive(Debug, clap::Args)]
pub struct Diagnose {
    #[command(flatten)]
    pub which: Which,

    #[command(flatten)]
    pub health: Health,

    #[command(flatten)]
    pub common: Common,
}

/// What was reloaded.
#[derive(Debug, clap::Args)]
pub struct History {
    /// Only the reloads of the job (or systemd unit) LABEL (repeatable) [default: of all]
    #[arg(long, visible_alias = "unit", value_name = "LABEL")]
    pub label: Vec<String>,

    /// Only the last N of each label
    #[arg(short = 'N', long, value_name = "N")]
    pub last: Option<usize>,

    #[command(flatten)]
    pub common: Common,
}

/// Which services, and where they are.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// The service NAME, with the label PREFIX-NAME (repeatable) [default: conductor]
    #[arg(long, value_name = "NAME", help_heading = "What")]
    pub service: Vec<String>,

    /// Every service of the prefix whose plist is in the install directory
    #[arg(long, conflicts_with_all = ["service", "label"], help_heading = "What")]
    pub all_services: bool,

    /// What precedes -NAME in a label
    #[arg(long, value_name = "PREFIX", default_value = "so.makefile.baa", help_heading = "What")]
    pub label_prefix: String,

    /// The job (or systemd unit) LABEL instead of a named service
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
}

/// How their health is asked for.
#[derive(Debug, clap::Args)]
pub struct Health {
    /// Ask this URL for its health, or tcp://HOST:PORT, unix:PATH, exec:COMMAND, file:PATH [default for
    /// conductor: from --health-env and --health-path]
    #[arg(long, value_name = "URL", help_heading = "Health")]
    pub health_url: Option<OsString>,

    /// The variable of the job that holds the base of its URL [default: BAA_CONDUCTOR_LOCAL_API]
    #[arg(long, value_name = "NAME", help_heading = "Health")]
    pub health_env: Option<String>,

    /// What is appended to the base [default: /healthz]
    #[arg(long, value_name = "PATH", help_heading = "Health")]
    pub health_path: Option<String>,

    /// Ask over this unix socket, for --health-path
    #[arg(
        long, value_name = "SOCKET", conflicts_with_all = ["health_url", "health_env"],
        help_heading = "Health"
    )]
    pub health_unix: Option<PathBuf>,

    /// Be content with a new process; ask no URL
    #[arg(
        long, conflicts_with_all = ["health_url", "health_env", "health_path", "health_unix", "any_process"],
        help_heading = "Health"
    )]
    pub no_health: bool,

    /// A good answer counts whoever gives it, once the old process is dead: a proxy before the job
    #[arg(long, help_heading = "Health")]
    pub any_process: bool,

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

    #[command(flatten)]
    pub expected: Option<Expected>,
}

/// What a health URL is asked, and what it must answer: as baa-healthwait has it.
#[derive(Debug, clap::Args)]
#[group(id = "expected", multiple = true)]
pub struct Expected {
    /// Method of the request [default: GET, or POST with data]
    #[arg(long, value_name = "METHOD", help_heading = "Health over HTTP")]
    pub health_method: Option<String>,

    /// Header of the request, 'Name: value' (repeatable)
    #[arg(long, value_name = "HEADER", help_heading = "Health over HTTP")]
    pub health_header: Vec<String>,

    /// Send TEXT as the body of the request, as it is
    #[arg(long, value_name = "TEXT", conflicts_with = "health_data_file", help_heading = "Health over HTTP")]
    pub health_data: Option<String>,

    /// Send what is in this file as the body of the request, as it is (up to 1 MiB)
    #[arg(long, value_name = "FILE", help_heading = "Health over HTTP")]
    pub health_data_file: Option<PathBuf>,

    /// Good statuses: 200, 2xx, 200-399 (several with commas) [default: 200]
    #[arg(
        long, value_name = "LIST", value_delimiter = ',', value_parser = Statuses::parse,
        help_heading = "Health over HTTP"
    )]
    pub health_status: Vec<Statuses>,

    /// The answer must have a header NAME that contains TEXT (repeatable)
    #[arg(
        long, value_name = "NAME=TEXT", value_parser = HeaderText::parse, help_heading = "Health over HTTP"
    )]
    pub health_header_contains: Vec<HeaderText>,

    /// The body must contain TEXT (repeatable; the first MiB is looked at)
    #[arg(long, value_name = "TEXT", help_heading = "Health over HTTP")]
    pub health_body_contains: Vec<String>,

    /// The body must match this regular expression (repeatable)
    #[arg(long, value_name = "RE", value_parser = Pattern::parse, help_heading = "Health over HTTP")]
    pub health_body_regex: Vec<Pattern>,

    /// The JSON body must hold what is said of the pointer PTR of RFC 6901: /ready=true, '/lag < 10',
    /// '/state ~ ^(ok|idle)$', '/id exists' (repeatable)
    #[arg(
        long, value_name = "PTR OP VALUE", value_parser = JsonTest::parse, help_heading = "Health over HTTP"
    )]
    pub health_json_path: Vec<JsonTest>,

    /// Trust the certificates in this PEM file and no others
    #[arg(long, value_name = "FILE", conflicts_with = "health_insecure", help_heading = "Health over HTTP")]
    pub health_cacert: Option<PathBuf>,

    /// Trust any certificate
    #[arg(long, help_heading = "Health over HTTP")]
    pub health_insecure: bool,

    /// Follow redirects
    #[arg(long, help_heading = "Health over HTTP")]
    pub health_redirect: bool,

    /// Send the bearer token in this environment variable
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "health_token_file",
        help_heading = "Health over HTTP"
    )]
    pub health_token_env: Option<String>,

    /// Send the bearer token in this file
    #[arg(long, value_name = "FILE", help_heading = "Health over HTTP")]
    pub health_token_file: Option<PathBuf>,
}

/// How they are reloaded.
#[derive(Debug, clap::Args)]
pub struct How {
    /// The old process may take this long to exit, where the manager grants it less
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, default_value = "0", hide_default_value = true,
        help_heading = "How"
    )]
    pub drain: Duration,

    /// Never kick it: not after the bootstrap, not when it does not answer
    #[arg(long, help_heading = "How")]
    pub skip_kickstart: bool,

    /// Go back to the last version that worked whenever the new one is not proven [default: where it never
    /// gave a good answer and its attempts are used up]
    #[arg(long, conflicts_with = "no_rollback", help_heading = "How")]
    pub rollback: bool,

    /// Never go back from a version that the manager has accepted
    #[arg(long, help_heading = "How")]
    pub no_rollback: bool,

    /// Wait so long while another reload of the service runs [default: end with 75 at once]
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, default_value = "0", hide_default_value = true,
        help_heading = "How"
    )]
    pub wait_lock: Duration,

    /// Go on with the next service when one failed
    #[arg(long, help_heading = "How")]
    pub keep_going: bool,

    /// Run this by the shell before anything is touched; where it fails, nothing is
    #[arg(long, value_name = "COMMAND", help_heading = "Hooks")]
    pub before: Option<String>,

    /// Run this when the service has recovered, with the report on its standard input
    #[arg(long, value_name = "COMMAND", help_heading = "Hooks")]
    pub after: Option<String>,

    /// Run this when it has not
    #[arg(long, value_name = "COMMAND", help_heading = "Hooks")]
    pub on_failure: Option<String>,

    /// How long each of these may take
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, default_value = "30s", help_heading = "Hooks"
    )]
    pub hook_timeout: Duration,

    /// Only finish the reloads that were cut off, of --label or else of all
    #[arg(long, conflicts_with_all = ["service", "all_services", "plist"], help_heading = "How")]
    pub resume: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// A LaunchAgent, or a unit of the user's manager
    Agent,
    /// A LaunchDaemon, or a unit of the system's manager
    Daemon,
}
