//! The command line of baa-lease.

use baa::program::Common;
use baa::words::span;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// One leader at a time
///
/// Takes a lease, runs a command under it, and has ended the command before the lease can be another's, whatever becomes of itself.
#[derive(Debug, Parser)]
#[command(name = "baa-lease", version, max_term_width = 100, disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a command while leader: ends with its status, 75 when another leads, 76 when the lease was lost, 124 after --wait
    Hold(Hold),
    /// Take the lease, or go on with it, and print the term: ends with 75 when another leads
    Acquire(Claim),
    /// Go on with the lease held under a term: ends with 76 when it is lost
    Renew(Termed),
    /// Give up the lease held under a term: ends with 76 when it is lost
    Release(Termed),
    /// Tell who leads: ends with 0 when somebody does, 1 when nobody does
    Status(Place),
    /// Tell whether a term is still the leader's: ends with 0 when it is, 1 when it is not
    Check(Check),
    /// Watch over a command for hold
    #[command(hide = true)]
    Guard(Guard),
}

/// Which lease, and where.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// The store: sqlite:PATH, a file on this machine, or http(s)://HOST, a control API [default: lease.db in the state directory]
    #[arg(long, visible_alias = "control-api-base", value_name = "URL", env = "BAA_CONTROL_API_BASE", hide_env_values = true)]
    pub store: Option<String>,

    /// The token of the control API; better in the environment or in a file, for arguments are seen by all
    #[arg(long, value_name = "TOKEN", env = "BAA_SHARED_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    pub shared_token: Option<String>,

    /// Read the token from this file
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// The lease
    #[arg(long, value_name = "NAME", default_value = "global")]
    pub lease: String,

    #[command(flatten)]
    pub common: Common,
}

/// Who claims it, and for how long.
#[derive(Debug, clap::Args)]
pub struct Claim {
    /// The holder's name [default: HOST-main]
    #[arg(long, value_name = "ID", env = "BAA_NODE_ID", hide_env_values = true)]
    pub node_id: Option<String>,

    /// The holder's host
    #[arg(long, value_name = "HOST", env = "BAA_CONDUCTOR_HOST", hide_env_values = true, default_value = "localhost")]
    pub host: String,

    /// How long the lease lasts without a renewal, in seconds
    #[arg(long, value_name = "SECONDS", env = "BAA_CONDUCTOR_LEASE_TTL_SEC", hide_env_values = true, default_value = "30", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub lease_ttl_sec: u32,

    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, clap::Args)]
pub struct Termed {
    /// The term it is held under
    #[arg(long)]
    pub term: u64,

    #[command(flatten)]
    pub claim: Claim,
}

#[derive(Debug, clap::Args)]
pub struct Check {
    /// The term
    #[arg(long)]
    pub term: u64,

    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, clap::Args)]
pub struct Hold {
    /// How long to wait while another leads; 0 is not at all [default: without end]
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub wait: Option<Duration>,

    /// How often to renew, in milliseconds; never less often than thrice in the lease's time
    #[arg(long, value_name = "MILLISECONDS", env = "BAA_CONDUCTOR_LEASE_RENEW_INTERVAL_MS", hide_env_values = true, default_value = "5000", value_parser = clap::value_parser!(u32).range(1..))]
    pub lease_renew_interval_ms: u32,

    #[command(flatten)]
    pub claim: Claim,

    /// The command, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
pub struct Guard {
    /// The command, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}
