//! The command line of baa-control.

use clap::{Parser, Subcommand};
use std::path::PathBuf;

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
    /// The address to listen on; beyond loopback only with --token-file
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4320")]
    pub listen: String,

    /// The store: sqlite:PATH, a file on this machine, or etcd://[USER@]HOST,HOST/PREFIX, or etcds:// with
    /// TLS [default: lease.db in the state directory]
    #[arg(long, value_name = "URL", env = "BAA_CONTROL_STORE", hide_env_values = true)]
    pub store: Option<String>,

    /// Ask for one of the tokens in this file, one in each line; HUP reads it again
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

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
