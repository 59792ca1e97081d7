//! The command line of baa-daemons.

use baa::program::Common;
use baa::words::span;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// A group in the order of its needs
///
/// Starts daemons, oneshots and checks when what they need is ready, stops them in the reverse order, and
/// starts again what fails.
#[derive(Debug, Parser)]
#[command(
    name = "baa-daemons",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub struct DaemonsArgs {
    #[command(subcommand)]
    pub verb: DaemonsVerb,
}

#[derive(Debug, Subcommand)]
pub enum DaemonsVerb {
    /// Run the group until TERM, INT or stop: ends with 0, or 1 when something had to be killed
    Run(GroupRunArgs),
    /// Run the group until all of it is ready or done, then stop it: ends with 124 after --timeout, each
    /// laggard named
    UntilSuccess(UntilSuccess),
    /// Check the file: ends with 65 or 78 when it is wrong
    Check(GroupFileArgs),
    /// Print the waves in which it starts and stops
    Graph(Graph),
    /// Tell how it fares: ends with 0 when all of it, or all that is named, is ready or done, 1 when not, 69
    /// when it does not run
    Status(StatusArgs),
    /// List the groups of this user that run: ends with 1 when there is none
    List(ListArgs),
    /// Let entries run that were stopped, and start at once those that have failed or wait for their next
    /// start; returns when they are ready or done
    Start(Several),
    /// Stop entries and what needs them until they are started, also over a reload and another run in this
    /// boot; without one, the group; returns when nothing of them lives
    Stop(Stop),
    /// Stop entries and what needs them, and start them again; returns when all of those are ready or done
    Restart(Several),
    /// Start entries, and not again when they end; a oneshot that is done does its work again
    Once(Several),
    /// Stop entries for good: no reload, run or boot starts them
    Disable(Several),
    /// Take that back, and start them
    Enable(Several),
    /// Send the processes of entries a signal
    Signal(SignalArgs),
    /// Have the file read again: what is new or changed is started, and what needs it; what is gone is
    /// stopped; returns when that is done
    Reload(GroupReloadArgs),
    /// Print the end of what entries have said
    Logs(Logs),
}

#[derive(Debug, clap::Args)]
pub struct GroupFileArgs {
    /// The file of the group (TOML)
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, clap::Args)]
pub struct GroupRunArgs {
    /// Keep what entries say in their files only, also on a terminal
    #[arg(long)]
    pub no_echo: bool,

    #[command(flatten)]
    pub file: GroupFileArgs,
}

#[derive(Debug, clap::Args)]
pub struct UntilSuccess {
    /// How long it may take; 0 is without end
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "0")]
    pub timeout: Duration,

    #[command(flatten)]
    pub run: GroupRunArgs,
}

#[derive(Debug, clap::Args)]
pub struct Graph {
    /// For Graphviz
    #[arg(long)]
    pub dot: bool,

    #[command(flatten)]
    pub file: GroupFileArgs,
}

#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Show it again whenever a second is over, until interrupted
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,

    #[command(flatten)]
    pub file: GroupFileArgs,

    /// The entries; else all of them
    #[arg(value_name = "ID")]
    pub id: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub struct WaitArgs {
    /// Return once it is asked for, whatever comes of it
    #[arg(long, conflicts_with = "timeout")]
    pub no_wait: bool,

    /// How long to wait for what comes of it: then ends with 124 [default: without end]
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub timeout: Option<Duration>,
}

#[derive(Debug, clap::Args)]
pub struct Several {
    #[command(flatten)]
    pub wait: WaitArgs,

    #[command(flatten)]
    pub file: GroupFileArgs,

    /// The entries
    #[arg(value_name = "ID", required = true)]
    pub id: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub struct Stop {
    #[command(flatten)]
    pub wait: WaitArgs,

    #[command(flatten)]
    pub file: GroupFileArgs,

    /// The entries
    #[arg(value_name = "ID")]
    pub id: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub struct SignalArgs {
    #[command(flatten)]
    pub file: GroupFileArgs,

    /// The signal, as HUP
    #[arg(value_name = "SIGNAL")]
    pub signal: String,

    /// The entries
    #[arg(value_name = "ID", required = true)]
    pub id: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub struct GroupReloadArgs {
    #[command(flatten)]
    pub wait: WaitArgs,

    #[command(flatten)]
    pub file: GroupFileArgs,
}

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, clap::Args)]
pub struct Logs {
    /// How many lines of each
    #[arg(long, short = 'l', value_name = "COUNT", default_value = "100")]
    pub lines: usize,

    /// What happened to the group instead, in JSON
    #[arg(long, conflicts_with = "id")]
    pub events: bool,

    #[command(flatten)]
    pub file: GroupFileArgs,

    /// The entry; else all of them
    #[arg(value_name = "ID")]
    pub id: Option<String>,
}
