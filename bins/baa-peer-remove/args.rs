//! The command line of baa-peer-remove.

use baa::program::Common;
use baa::words::span;
use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;

/// Remove a peer of iapeer, completely
///
/// Takes the peer's record out of the registry under its lock, and with it everything that is kept under its
/// name in state/lifecycle, so that a namesake inherits nothing. Never removes the peer's folder or logs.
/// What was cut off is finished by running it again.
#[derive(Debug, Parser)]
#[command(name = "baa-peer-remove", version, max_term_width = 100)]
pub struct PeerRemoveArgs {
    /// The peers
    #[arg(required = true, value_name = "PEER")]
    pub peers: Vec<String>,

    /// Also remove what lives, is being waked, has a foreign launchd job, or stands in a registry of a newer
    /// version
    #[arg(long)]
    pub force: bool,

    /// The root of the installation [default: $IAPEER_ROOT, or .iapeer in the home directory]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// How long to wait for the registry's lock
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "4.2s")]
    pub wait: Duration,

    /// End with 1 when the peer is not registered
    #[arg(long)]
    pub must_exist: bool,

    /// Leave what is kept under its name in state/lifecycle
    #[arg(long, conflicts_with = "purge_only")]
    pub keep_state: bool,

    /// Only remove what a peer that is not registered has left in state/lifecycle
    #[arg(long)]
    pub purge_only: bool,

    #[command(flatten)]
    pub common: Common,
}
