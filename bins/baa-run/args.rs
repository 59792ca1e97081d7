//! The command line of baa-run.

use baa::act::keeper::ledger;
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

    /// Lock this file first, and hold it as long as the keeper lives; it tells who holds it
    #[arg(long, value_name = "PATH")]
    pub lock: Option<PathBuf>,

    /// How long to wait for the lock; 0 is not at all
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "5s", requires = "lock")]
    pub lock_wait: Duration,

    /// After each failure in a row, pause twice as long as before, up to this; 0 is never
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "0")]
    pub backoff: Duration,

    /// A run that lasts so long begins anew with the shortest pause
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "60s")]
    pub healthy_after: Duration,

    /// Give up, with 78, after so many bad ends within this time; of a label, keepers before this one are counted too
    #[arg(long, value_name = "ENDS/SPAN", value_parser = ledger::parse)]
    pub give_up: Option<(usize, Duration)>,

    /// Listen on HOST:PORT or unix:PATH, and pass the socket on as systemd does (LISTEN_FDS), again at each start
    #[arg(long, value_name = "[NAME=]ADDRESS")]
    pub listen: Vec<String>,

    /// It is started when this target answers, from a process of its own: http://, tcp://, unix:, file:, exec:; or, with notify, when it says so as sd_notify does
    #[arg(long, value_name = "TARGET")]
    pub ready: Option<OsString>,

    /// How long that may take: the first time the keeper ends with 69, later it idles until it is asked
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "60s")]
    pub ready_timeout: Duration,

    /// Before a restart, send this signal, after which the command ends by itself
    #[arg(long, value_name = "SIGNAL", group = "drain")]
    pub drain_signal: Option<String>,

    /// Before a restart, run this shell command, which returns when nothing is left to be done
    #[arg(long, value_name = "COMMAND", group = "drain")]
    pub drain_cmd: Option<String>,

    /// Before a restart, POST here, then GET how much is left until it is 0
    #[arg(long, value_name = "URL", group = "drain")]
    pub drain_url: Option<String>,

    /// How long a drain may take; 0 is without end
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "300s")]
    pub drain_timeout: Duration,

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
        /// Why, for restart and update; the next life finds it in BAA_RESTART_REASON
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
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
    /// Start its next life beside it, and stop it when that serves; ends with 69 when it does not, and the old one goes on
    Update,
    /// Stop it, and the keeper; returns when both are gone
    Stop,
}
