//! The command line of baa-run.

use baa::act::keeper::failure_log;
use baa::program::Common;
use baa::sys::signal::SignalNumber;
use baa::words::span;
use clap::{Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Keep one command or one job running
///
/// Runs COMMAND, or the job of a launchd property list, in a session of its own; starts it again when it
/// ends; stops it with TERM and, when that does not help, kills its whole tree.
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
pub struct RunArgs {
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
    #[arg(long, value_name = "WHEN", help_heading = "Failures")]
    pub restart: Option<RestartWord>,

    /// Shortest time between two starts [default: 1s, or the job's ThrottleInterval]
    #[arg(long, value_name = "SPAN", value_parser = span::parse, help_heading = "Failures")]
    pub throttle: Option<Duration>,

    /// How long it may take to stop before it is killed; 0 is without end [default: 20s, or the job's
    /// ExitTimeOut]
    #[arg(long, value_name = "SPAN", value_parser = span::parse, help_heading = "Restarts and stops")]
    pub stop_timeout: Option<Duration>,

    /// What it is told to stop by: a name or a number, also RTMIN+3 [default: TERM; as process 1, what came]
    #[arg(
        long, value_name = "SIGNAL", value_parser = SignalNumber::to_end,
        help_heading = "Restarts and stops"
    )]
    pub stop_signal: Option<SignalNumber>,

    /// When it has not stopped in time, all that is left of it gets this signal, and is killed as long again
    /// later
    #[arg(
        long, value_name = "SIGNAL", value_parser = SignalNumber::to_end,
        help_heading = "Restarts and stops"
    )]
    pub kill_signal: Option<SignalNumber>,

    /// Lock this file first, and hold it until the keeper ends or is parked; it tells who holds it
    #[arg(long, value_name = "PATH", help_heading = "Lock")]
    pub lock: Option<PathBuf>,

    /// How long to wait for the lock; 0 is not at all
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, default_value = "5s", requires = "lock",
        help_heading = "Lock"
    )]
    pub lock_wait: Duration,

    /// After each failure in a row, pause twice as long as before, up to this; 0 is never
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, default_value = "0", help_heading = "Failures"
    )]
    pub backoff: Duration,

    /// A run that lasts so long begins anew with the shortest pause
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, default_value = "60s",
        help_heading = "Failures"
    )]
    pub healthy_after: Duration,

    /// Give up, with 78, after so many bad ends within this time; of a label, keepers before this one are
    /// counted too
    #[arg(long, value_name = "ENDS/SPAN", value_parser = failure_log::parse, help_heading = "Failures")]
    pub give_up: Option<(usize, Duration)>,

    /// The status to give up with: 78 is to stay down, 75 asks for another start
    #[arg(
        long, value_name = "STATUS", default_value = "78",
        value_parser = clap::value_parser!(u8).range(1..=127), requires = "give_up", help_heading = "Failures"
    )]
    pub give_up_status: u8,

    /// Listen on HOST:PORT or unix:PATH, and pass the socket on as systemd does (LISTEN_FDS), again at each
    /// start
    #[arg(long, value_name = "[NAME=]ADDRESS")]
    pub listen: Vec<String>,

    /// It is started when this target answers, from a process of its own: http://, tcp://, unix:, file:,
    /// exec:; with notify, when it says so as sd_notify does; with fd:N, when it writes a line to that
    /// descriptor
    #[arg(long, value_name = "TARGET", help_heading = "Health")]
    pub ready: Option<OsString>,

    /// Without --ready: it is started when it has run for so long; one that ends sooner did not come to serve
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, conflicts_with = "ready",
        help_heading = "Health"
    )]
    pub min_run: Option<Duration>,

    /// How long that may take: the first time the keeper ends with 69, later it is parked, idle until it is
    /// asked
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, default_value = "60s", help_heading = "Health"
    )]
    pub ready_timeout: Duration,

    /// It must answer well so often in a row
    #[arg(
        long, value_name = "COUNT", default_value = "1",
        value_parser = clap::value_parser!(u32).range(1..=1000), requires = "ready", help_heading = "Health"
    )]
    pub ready_successes: u32,

    /// How long the next life may take to serve in an update, while the old one goes on
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, default_value = "10s",
        help_heading = "Restarts and stops"
    )]
    pub update_timeout: Duration,

    /// Once it serves, ask this target again and again, without one that of --ready; when it does not answer
    /// any more, restart
    #[arg(
        long, value_name = "TARGET", num_args = 0..=1, default_missing_value = "ready",
        help_heading = "Health"
    )]
    pub live: Option<OsString>,

    /// From one such question to the next
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, default_value = "10s", requires = "live",
        help_heading = "Health"
    )]
    pub live_interval: Duration,

    /// How long such an answer may take [default: half of --live-interval, from 500ms to 10s]
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, requires = "live", help_heading = "Health"
    )]
    pub live_timeout: Option<Duration>,

    /// After so many bad answers in a row it does not serve any more
    #[arg(
        long, value_name = "COUNT", default_value = "3",
        value_parser = clap::value_parser!(u32).range(1..=1000), requires = "live", help_heading = "Health"
    )]
    pub live_failures: u32,

    /// After so many good answers in a row the bad ones before them are forgotten
    #[arg(
        long, value_name = "COUNT", default_value = "1",
        value_parser = clap::value_parser!(u32).range(1..=1000), requires = "live", help_heading = "Health"
    )]
    pub live_successes: u32,

    /// It says WATCHDOG=1 over NOTIFY_SOCKET at least so often; when it does not, restart
    #[arg(long, value_name = "SPAN", value_parser = span::parse, help_heading = "Health")]
    pub watchdog: Option<Duration>,

    /// Whose word counts over NOTIFY_SOCKET
    #[arg(long, value_name = "WHO", default_value = "all", help_heading = "Health")]
    pub notify_access: NotifyAccessWord,

    /// Before a restart, send this signal, after which the command ends by itself
    #[arg(
        long, value_name = "SIGNAL", value_parser = SignalNumber::parse, group = "drain",
        help_heading = "Drain"
    )]
    pub drain_signal: Option<SignalNumber>,

    /// Before a restart, run this shell command, which returns when nothing is left to be done
    #[arg(long, value_name = "COMMAND", group = "drain", help_heading = "Drain")]
    pub drain_cmd: Option<String>,

    /// Before a restart, POST here, then GET how much is left, a number or JSON with pending, until it is 0
    #[arg(long, value_name = "URL", group = "drain", help_heading = "Drain")]
    pub drain_url: Option<String>,

    /// How long a drain may take; 0 is without end
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, default_value = "300s", help_heading = "Drain"
    )]
    pub drain_timeout: Duration,

    /// How often to tell that it still drains; 0 is never
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, default_value = "30s", help_heading = "Drain"
    )]
    pub drain_notice: Duration,

    /// When a drain is cut short, run this shell command, which aborts what is left
    #[arg(long, value_name = "COMMAND", requires = "drain", help_heading = "Drain")]
    pub drain_abort: Option<String>,

    /// Shortest time between two restarts that are asked for; those that come together are one
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, default_value = "30s",
        help_heading = "Restarts and stops"
    )]
    pub cooldown: Duration,

    /// When a restart or an update is over, run this shell command; BAA_CHANGE, BAA_OUTCOME and BAA_WHY tell
    /// what came of it
    #[arg(long, value_name = "COMMAND", help_heading = "Restarts and stops")]
    pub on_restart: Option<String>,

    /// What USR1 means when no restart is meant by it [default: ignore; pass, as process 1]
    #[arg(long, value_name = "WHAT", help_heading = "Restarts and stops")]
    pub usr1: Option<User1Word>,

    /// Who starts the keeper anew when it ends: then a restart that is meant by TERM is drained, and left to
    /// it
    #[arg(
        long, value_name = "WHO", default_value = "auto",
        value_parser = ["auto", "none", "launchd", "systemd", "external"], help_heading = "Restarts and stops"
    )]
    pub supervisor: String,

    /// When a stop is not over by then, write a stability bundle and end with 1; never before --stop-timeout
    /// and 5s more
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, default_value = "25s",
        help_heading = "Restarts and stops"
    )]
    pub shutdown_timeout: Duration,

    /// Neither it nor what it starts gains privileges by a setuid program or the like (Linux)
    #[arg(long)]
    pub no_new_privs: bool,

    /// Keep it in the background: return when it serves, or has failed; what it says goes to the keeper's log
    #[arg(long)]
    pub detach: bool,

    #[command(flatten)]
    pub common: Common,
}

/// When a command that ended is started again
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RestartWord {
    /// Never: end with its status
    Never,
    /// After any end but an exit with 0
    OnFailure,
    /// Always
    Always,
}

/// Whose word counts over NOTIFY_SOCKET
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NotifyAccessWord {
    /// The main process
    Main,
    /// The main process, and the commands that the keeper runs for it
    Exec,
    /// All processes that came of it, and those commands
    All,
}

/// What USR1 means
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum User1Word {
    /// Nothing
    Ignore,
    /// A restart
    Restart,
    /// It is the command's
    Pass,
}

#[derive(Debug, Subcommand)]
pub enum Ctl {
    /// Ask the keeper of a label
    Ctl(CtlArgs),
}

#[derive(Debug, clap::Args)]
pub struct CtlArgs {
    /// What to ask
    pub verb: CtlVerb,
    /// The labels; none for list
    pub label: Vec<String>,
    /// For signal: which, as HUP
    #[arg(long, value_name = "SIGNAL")]
    pub signal: Option<String>,
    /// Why, for restart, update, drain and intend; the next life finds it in BAA_RESTART_REASON
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Restart at once, however short ago the last one was
    #[arg(long)]
    pub now: bool,
    /// Return once it is asked for, whatever comes of it
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait for what comes of it [default: without end]
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub timeout: Option<Duration>,
    /// Say nothing of the changes on the way
    #[arg(short, long)]
    pub quiet: bool,
    /// Print one JSON object on stdout, of several labels one in each line
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CtlVerb {
    /// Tell what it does: exits with 0 when a process runs, 1 when none does, 69 when no keeper runs
    Status,
    /// Tell the same of all jobs that keepers have: exits with 1 when there is none
    List,
    /// Start it unless it runs, at once also where it waits for its next start: exits with 0 when it serves,
    /// 69 when it does not
    Start,
    /// Finish what it has begun, stop it and start it: exits with 0 when the next life serves, 69 when it
    /// does not
    Restart,
    /// Start its next life beside it, and stop it when that serves; ends with 69 when it does not, and the
    /// old one goes on; during another change it waits for its turn
    Update,
    /// Stop it, and the keeper; returns when both are gone
    Stop,
    /// Finish what it has begun, then as stop
    Drain,
    /// Send its process the signal of --signal
    Signal,
    /// Write down that the TERM which comes within a minute, from a supervisor, means a restart: it is
    /// drained first
    Intend,
}
