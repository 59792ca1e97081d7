//! The command line of baa-lease.

use baa::act::lease::conductor::Role;
use baa::act::lease::setting::{self, Flag, Number};
use baa::program::Common;
use baa::words::span;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// One leader at a time
///
/// Takes a lease, runs a command under it, and has ended the command before the lease can be another's,
/// whatever becomes of itself.
#[derive(Debug, Parser)]
#[command(
    name = "baa-lease",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    args_override_self = true
)]
pub struct LeaseArgs {
    #[command(subcommand)]
    pub verb: LeaseVerb,
}

#[derive(Debug, Subcommand)]
pub enum LeaseVerb {
    /// Run a command while leader: ends with its status, 75 when another leads, 76 when the lease was lost,
    /// 124 after --wait
    Hold(Box<Hold>),
    /// Run as a conductor: register, lead or stand by until told to stop; options without a verb mean this
    Start(Box<StartArgs>),
    /// Take the lease, or go on with it, and print the term: ends with 75 when another leads
    Acquire(AcquireArgs),
    /// Go on with the lease held under a term: ends with 76 when it is lost
    Renew(Termed),
    /// Give up the lease held under a term: ends with 76 when it is lost
    Release(ReleaseArgs),
    /// Tell who leads: ends with 0 when somebody does, 1 when nobody does
    Status(LeaseStoreArgs),
    /// Tell whether a term is still the leader's: ends with 0 when it is, 1 when it is not
    Check(Check),
    /// Send one heartbeat of a conductor
    Heartbeat(Box<Heartbeat>),
    /// Print what a conductor would be set to
    Config(Box<ConductorArgs>),
    /// Print what a conductor does when it starts
    Checklist(Checklist),
    /// Watch over a command for hold
    #[command(hide = true)]
    Guard(GuardArgs),
}

/// Which lease, and where.
#[derive(Debug, clap::Args)]
pub struct LeaseStoreArgs {
    /// The store: sqlite:PATH, a file on this machine; unix:[USER@]PATH or http(s)://HOST, a control
    /// API;
    /// etcd://[USER@]HOST,HOST/PREFIX, or etcds:// with TLS [default: lease.db in the state directory]
    #[arg(
        long,
        visible_alias = "control-api-base",
        value_name = "URL",
        env = "BAA_CONTROL_API_BASE",
        hide_env_values = true
    )]
    pub store: Option<String>,

    /// The token of the control API; better in a file, or in BAA_SHARED_TOKEN, for arguments are seen by all
    #[arg(long, value_name = "TOKEN")]
    pub shared_token: Option<String>,

    /// Read the token from this file; it goes before all others
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Read the password of etcd's user from this file; else it is BAA_ETCD_PASSWORD
    #[arg(long, value_name = "FILE")]
    pub etcd_password_file: Option<PathBuf>,

    /// Trust the certificates in this PEM file, and no others, for https and etcds
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// The lease
    #[arg(long, value_name = "NAME", default_value = "global")]
    pub lease: String,

    #[command(flatten)]
    pub common: Common,
}

/// Who claims it, and for how long.
#[derive(Debug, clap::Args)]
pub struct Who {
    /// The holder's name [default: HOST-main, or HOST-standby]
    #[arg(long, value_name = "ID", env = "BAA_NODE_ID", hide_env_values = true)]
    pub node_id: Option<String>,

    /// The holder's host [default: localhost]
    #[arg(long, value_name = "HOST", env = "BAA_CONDUCTOR_HOST", hide_env_values = true)]
    pub host: Option<String>,

    /// primary or standby
    #[arg(
        long, env = "BAA_CONDUCTOR_ROLE", hide_env_values = true, default_value = "primary",
        value_parser = setting::role
    )]
    pub role: Role,

    /// How long the lease lasts without a renewal, in seconds [default: 30]
    #[arg(
        long, value_name = "SECONDS", env = "BAA_CONDUCTOR_LEASE_TTL_SEC", hide_env_values = true,
        allow_negative_numbers = true, value_parser = setting::number("Conductor lease ttl", 1, 86_400)
    )]
    pub lease_ttl_sec: Option<Number>,

    /// Be the one who should lead [default: of conductors a primary is]
    #[arg(
        long, value_name = "BOOLEAN", env = "BAA_CONDUCTOR_PREFERRED", hide_env_values = true,
        num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = setting::flag
    )]
    pub preferred: Option<Flag>,

    /// Be not the one who should lead
    #[arg(long)]
    pub no_preferred: bool,
}

#[derive(Debug, clap::Args)]
pub struct ClaimArgs {
    #[command(flatten)]
    pub who: Who,
    #[command(flatten)]
    pub store_args: LeaseStoreArgs,
}

/// The secret of a grant, for steps of a script.
#[derive(Debug, clap::Args)]
pub struct Secret {
    /// Guard the lease by a secret, kept in this file from acquire to release
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct AcquireArgs {
    #[command(flatten)]
    pub secret: Secret,
    #[command(flatten)]
    pub claim: ClaimArgs,
}

#[derive(Debug, clap::Args)]
pub struct ReleaseArgs {
    /// Break the lease of another: for root, the user whom baa-control runs as, and who has an operator's
    /// token
    #[arg(long)]
    pub r#break: bool,

    #[command(flatten)]
    pub termed: Termed,
}

#[derive(Debug, clap::Args)]
pub struct Termed {
    /// The term it is held under
    #[arg(long)]
    pub term: u64,

    #[command(flatten)]
    pub secret: Secret,

    #[command(flatten)]
    pub claim: ClaimArgs,
}

#[derive(Debug, clap::Args)]
pub struct Check {
    /// The term
    #[arg(long)]
    pub term: u64,

    #[command(flatten)]
    pub store_args: LeaseStoreArgs,
}

/// How often to renew.
#[derive(Debug, clap::Args)]
pub struct Pace {
    /// How often to renew, in milliseconds; never less often than thrice in the lease's time [default: 5000]
    #[arg(
        long, value_name = "MILLISECONDS", env = "BAA_CONDUCTOR_LEASE_RENEW_INTERVAL_MS",
        hide_env_values = true, allow_negative_numbers = true,
        value_parser = setting::number("Conductor lease renew interval", 1, 86_400_000)
    )]
    pub lease_renew_interval_ms: Option<Number>,
}

#[derive(Debug, clap::Args)]
pub struct Hold {
    /// How long to wait while another leads; 0 is not at all [default: without end]
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub wait: Option<Duration>,

    #[command(flatten)]
    pub pace: Pace,

    #[command(flatten)]
    pub claim: ClaimArgs,

    /// The command, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// What a conductor is set to.
#[derive(Debug, clap::Args)]
pub struct ConductorArgs {
    /// The higher, the sooner it should lead [default: 100 for a primary, 50 for a standby]
    #[arg(
        long, value_name = "INTEGER", env = "BAA_CONDUCTOR_PRIORITY", hide_env_values = true,
        allow_negative_numbers = true, value_parser = setting::number("Conductor priority", 0, 1 << 53)
    )]
    pub priority: Option<Number>,

    /// The version that it tells of itself
    #[arg(long, value_name = "STRING", env = "BAA_CONDUCTOR_VERSION", hide_env_values = true)]
    pub version: Option<String>,

    /// How often to send a heartbeat, in milliseconds [default: 5000]
    #[arg(
        long, value_name = "MILLISECONDS", env = "BAA_CONDUCTOR_HEARTBEAT_INTERVAL_MS",
        hide_env_values = true, allow_negative_numbers = true,
        value_parser = setting::number("Conductor heartbeat interval", 1, 86_400_000)
    )]
    pub heartbeat_interval_ms: Option<Number>,

    #[command(flatten)]
    pub pace: Pace,

    /// After how many cycles that fail in a row it is degraded [default: 2]
    #[arg(
        long, value_name = "INTEGER", env = "BAA_CONDUCTOR_RENEW_FAILURE_THRESHOLD", hide_env_values = true,
        allow_negative_numbers = true,
        value_parser = setting::number("Conductor renew failure threshold", 1, 1_000_000)
    )]
    pub renew_failure_threshold: Option<Number>,

    /// Where it tells of itself: /healthz, /readyz, /rolez, /v1/runtime
    #[arg(long, value_name = "URL", env = "BAA_CONDUCTOR_LOCAL_API", hide_env_values = true)]
    pub local_api: Option<String>,

    /// Told on to the scheduler and in the snapshot, as are the following
    #[arg(long, value_name = "PATH", env = "BAA_RUNS_DIR", hide_env_values = true)]
    pub runs_dir: Option<String>,

    /// The worktrees
    #[arg(long, value_name = "PATH", env = "BAA_WORKTREES_DIR", hide_env_values = true)]
    pub worktrees_dir: Option<String>,

    /// The logs
    #[arg(long, value_name = "PATH", env = "BAA_LOGS_DIR", hide_env_values = true)]
    pub logs_dir: Option<String>,

    /// Temporary files
    #[arg(long, value_name = "PATH", env = "BAA_TMP_DIR", hide_env_values = true)]
    pub tmp_dir: Option<String>,

    /// The state
    #[arg(long, value_name = "PATH", env = "BAA_STATE_DIR", hide_env_values = true)]
    pub state_dir: Option<String>,

    #[command(flatten)]
    pub claim: ClaimArgs,
}

#[derive(Debug, clap::Args)]
pub struct StartArgs {
    /// One heartbeat and one lease cycle, the snapshot, and no more
    #[arg(long)]
    pub run_once: bool,

    /// Run this shell command while leader, and only then
    #[arg(long, value_name = "COMMAND")]
    pub scheduler: Option<String>,

    /// Run this shell command when it begins to lead
    #[arg(long, value_name = "COMMAND")]
    pub on_leader: Option<String>,

    /// Run this shell command when it leads no more, or another does
    #[arg(long, value_name = "COMMAND")]
    pub on_standby: Option<String>,

    /// Run this shell command when it cannot know who leads
    #[arg(long, value_name = "COMMAND")]
    pub on_degraded: Option<String>,

    /// Let the local API listen beyond loopback
    #[arg(long)]
    pub local_api_anywhere: bool,

    #[command(flatten)]
    pub conductor: ConductorArgs,
}

#[derive(Debug, clap::Args)]
pub struct Heartbeat {
    /// leader, standby or degraded
    #[arg(
        long, value_name = "WORD", default_value = "standby", value_parser = ["leader", "standby", "degraded"]
    )]
    pub status: String,

    #[command(flatten)]
    pub conductor: ConductorArgs,
}

#[derive(Debug, clap::Args)]
pub struct Checklist {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct GuardArgs {
    /// The command, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}
