//! The command line of baa-control.

use baa::act::control::api::LONGEST;
use baa::words::span;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// The control API that leases live in
///
/// Serves leases and heartbeats to baa-lease and to conductors, from a store on this machine or from etcd,
/// and a page that shows them.
#[derive(Debug, Parser)]
#[command(
    name = "baa-control",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true,
    after_help = "On one machine:\n    baa-control --listen unix:/run/baa/control.sock\n    \
        baa-lease hold --store unix:/run/baa/control.sock -- ./singleton",
    override_usage = "baa-control [OPTIONS]\n       baa-control backup [OPTIONS] <FILE>"
)]
pub struct ControlArgs {
    #[command(subcommand)]
    pub verb: Option<ControlVerb>,

    #[command(flatten)]
    pub serve: Serve,
}

#[derive(Debug, Subcommand)]
pub enum ControlVerb {
    /// Copy a store to a new file, as it is at one moment; it may be in use
    Backup(Backup),
}

#[derive(Debug, clap::Args)]
pub struct Serve {
    /// Where to listen: unix:PATH, a socket of this machine, or HOST:PORT, beyond loopback only with
    /// --token-file; may be given more than once
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4320")]
    pub listen: Vec<String>,

    /// Who may connect to a socket, as chmod has it
    #[arg(long, value_name = "MODE", default_value = "666", value_parser = mode)]
    pub socket_mode: u32,

    /// The store: sqlite:PATH, a file on this machine, or etcd://[USER@]HOST,HOST/PREFIX, or etcds:// with
    /// TLS [default: lease.db in the state directory]
    #[arg(long, value_name = "URL", env = "BAA_CONTROL_STORE", hide_env_values = true)]
    pub store: Option<String>,

    /// Ask for one of the tokens in this file, one in each line; HUP reads it again
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// The same of operators, who may break what others hold
    #[arg(long, value_name = "FILE")]
    pub operator_token_file: Option<PathBuf>,

    /// Read the password of etcd's user from this file; else it is BAA_ETCD_PASSWORD
    #[arg(long, value_name = "FILE")]
    pub etcd_password_file: Option<PathBuf>,

    /// Trust the certificates in this PEM file, and no others, for etcds
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// How many connections at once
    #[arg(
        long, value_name = "COUNT", default_value = "12000",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub max_connections: u32,

    /// How many leases, ever: their names are not forgotten
    #[arg(
        long, value_name = "COUNT", default_value = "10000",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_leases: u32,

    /// How many controllers, ever
    #[arg(
        long, value_name = "COUNT", default_value = "20000",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_controllers: u32,

    /// How much of these one user or address may have that has shown no token, in percent
    #[arg(
        long, value_name = "PERCENT", default_value = "25",
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    pub max_share: u32,

    /// The longest time to live that a lease may have; what asks for more is refused
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = longest)]
    pub max_ttl: Duration,

    /// Say nothing but errors, and log no requests
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, clap::Args)]
pub struct Backup {
    /// The store: sqlite:PATH [default: lease.db in the state directory]
    #[arg(long, value_name = "URL", env = "BAA_CONTROL_STORE", hide_env_values = true)]
    pub store: Option<String>,

    /// The new file
    #[arg(value_name = "FILE")]
    pub to: PathBuf,
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "three octal digits, as 660".to_owned())
}

fn longest(text: &str) -> Result<Duration, String> {
    let longest = Duration::from_secs(LONGEST);
    let given = span::parse(text).map_err(|error| error.to_string())?;
    let good = (Duration::from_secs(1)..=longest).contains(&given);
    if good { Ok(given) } else { Err(format!("1s to {}", span::show(longest))) }
}
