//! The command line of baa-run.

use baa::program::Common;
use baa::words::span;
use clap::{Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Keep one command or one job running
///
/// Runs COMMAND, or the job of a launchd property list, in a session of its own; starts it again when it ends; stops it with TERM and,
/// when that does not help, kills its whole tree.
#[derive(Debug, Parser)]
#[command(
    name = "baa-run",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    subcommand_value_name = "ctl VERB LABEL"
)]
pub struct Args {
    /// Ask a keeper that runs
    #[command(subcommand)]
    pub ctl: Option<Ctl>,

    /// The command to keep, with its arguments
    #[arg(last = true, value_name = "COMMAND", required_unless_present = "job")]
    pub command: Vec<OsString>,

    /// Keep the job of this launchd property list
    #[arg(long, value_name = "PLIST", conflicts_with = "command")]
    pub job: Option<PathBuf>,

    /// Keep lock, status and control socket under this name [default: the job's Label]
    #[arg(long)]
    pub label: Option<String>,

    /// When to start it again [default: always, or what the job says]
    #[arg(long, value_name = "WHEN")]
    pub restart: Option<When>,

    /// Shortest time between two starts [default: 1s, or the job's ThrottleInterval]
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub throttle: Option<Duration>,

    /// How long it may take to stop before it is killed; 0 is without end [default: 20s, or the job's ExitTimeOut]
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub stop_timeout: Option<Duration>,

    /// Keep it in the background: return once the keeper is up
    #[arg(long)]
    pub detach: bool,

    #[command(flatten)]
    pub common: Common,
}

/// When a command that ended is started again
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// Never: end with its status
    Never,
    /// After any end but an exit with 0
    OnFailure,
    /// Always
    Always,
}

#[derive(Debug, Subcommand)]
pub enum Ctl {
    /// Ask the keeper of a label
    Ctl {
        /// What to ask
        verb: Verb,
        /// The label
        label: String,
        /// Print one JSON object on stdout
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Verb {
    /// Tell what it does: exits with 0 when a process runs, 1 when none does, 69 when no keeper runs
    Status,
    /// Start it unless it runs
    Start,
    /// Stop it and start it
    Restart,
    /// Stop it, and the keeper; returns when both are gone
    Stop,
}
