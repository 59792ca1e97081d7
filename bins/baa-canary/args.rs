//! The command line of baa-canary.

use baa::program::Common;
use baa::sys::process::Pid;
use baa::words::span;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Record a death with its cause
///
/// Watches a tmux server, a process or a job from outside. When it dies, one line with the cause is on the
/// disk within milliseconds, and beside it a file with everything that was found. An end that was announced
/// is not recorded.
#[derive(Debug, Parser)]
#[command(
    name = "baa-canary",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub struct CanaryArgs {
    #[command(subcommand)]
    pub verb: CanaryVerb,
}

#[derive(Debug, Subcommand)]
pub enum CanaryVerb {
    /// Watch in the foreground: ends with 10 when a death was recorded, 0 when all were dismissed, 69 when a
    /// target is absent
    Watch(WatchArgs),
    /// Watch in the background: prints spawned, already, skipped or failed
    Arm(WatchArgs),
    /// Say that the end to come is meant: nothing is recorded
    Dismiss(Dismiss),
    /// Tell whether a canary watches: ends with 0 when one does, 3 when none does; tells gaps
    Status(Chosen),
    /// List what is armed
    List(RecordArgs),
    /// Print what would be kept at a death, now
    Snapshot(Snapshot),
    /// Tell why a session is gone: ends with 0 when its tmux server lives, 1 when it is dead
    Classify(Classify),
}

/// What is watched.
#[derive(Debug, clap::Args)]
pub struct Targets {
    /// The tmux server that listens on this socket; may be repeated, as all targets
    #[arg(long, value_name = "PATH")]
    pub sock: Vec<PathBuf>,

    /// This process
    #[arg(long, value_name = "PID")]
    pub pid: Vec<Pid>,

    /// The process whose pid stands in this file
    #[arg(long, value_name = "PATH")]
    pub pidfile: Vec<PathBuf>,

    /// The main process of this unit of systemd: UNIT, user/UNIT or system/UNIT
    #[arg(long, value_name = "UNIT")]
    pub unit: Vec<String>,

    /// The process of this job: launchd's (gui/501/LABEL; on macOS a bare label too), or that of a baa-run
    #[arg(long, value_name = "LABEL")]
    pub label: Vec<String>,

    /// What it is called in records [default: from the socket's, file's or unit's name]; alone, iapeer's
    /// socket of that name is meant
    #[arg(long, value_name = "ID")]
    pub identity: Option<String>,
}

/// Where records are.
#[derive(Debug, clap::Args)]
pub struct RecordArgs {
    /// Keep records here; empty is nowhere [default: logs/iapeer of the root, or canary in the state
    /// directory]
    #[arg(long, value_name = "DIR", value_parser = clap::value_parser!(OsString))]
    pub log_dir: Option<OsString>,

    /// The root of an iapeer installation [default: $IAPEER_ROOT]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    #[command(flatten)]
    pub targets: Targets,

    /// Watch the targets of this file too, one a line: sock=PATH, pid=N, pidfile=PATH, unit=U or label=L,
    /// then perhaps identity=ID; - is stdin
    #[arg(long, value_name = "FILE")]
    pub targets_from: Option<PathBuf>,

    /// How soon after a signal on the channel iap-canary-ID a death counts as meant
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "2s")]
    pub grace: Duration,

    /// Wait on the channels of several tmux servers too: a client of tmux for each [default: with one target
    /// only]
    #[arg(long, overrides_with = "no_channel")]
    pub channel: bool,

    /// Do not wait on the channel
    #[arg(long)]
    pub no_channel: bool,

    /// Take no samples
    #[arg(long)]
    pub no_ring: bool,

    /// Keep the arguments of processes, not only their names: they may hold secrets
    #[arg(long)]
    pub full_args: bool,

    /// Run this shell command once after each record, with BAA_CANARY_* in its environment and the record as
    /// JSON on its stdin
    #[arg(long, value_name = "COMMAND")]
    pub exec: Option<String>,

    /// How long that may take
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "30s")]
    pub exec_timeout: Duration,

    /// Say one word on stdout once armed, then nothing
    #[arg(long, hide = true)]
    pub announce: bool,

    #[command(flatten)]
    pub records: RecordArgs,
}

/// Which of those that are armed.
#[derive(Debug, clap::Args)]
pub struct Chosen {
    /// Of this tmux socket
    #[arg(long, value_name = "PATH")]
    pub sock: Option<PathBuf>,

    /// Of this process
    #[arg(long, value_name = "PID")]
    pub pid: Option<Pid>,

    /// Called this
    #[arg(long, value_name = "ID")]
    pub identity: Option<String>,

    #[command(flatten)]
    pub records: RecordArgs,
}

#[derive(Debug, clap::Args)]
pub struct Dismiss {
    #[command(flatten)]
    pub chosen: Chosen,

    /// Dismiss everything that is armed here
    #[arg(long)]
    pub all: bool,

    /// End with 1 when nothing is armed
    #[arg(long)]
    pub must_exist: bool,
}

#[derive(Debug, clap::Args)]
pub struct Snapshot {
    #[command(flatten)]
    pub targets: Targets,

    /// List the arguments of processes, not only their names: they may hold secrets
    #[arg(long)]
    pub full_args: bool,

    #[command(flatten)]
    pub records: RecordArgs,
}

#[derive(Debug, clap::Args)]
pub struct Classify {
    /// The tmux socket of the session that is gone
    #[arg(long, value_name = "PATH")]
    pub sock: PathBuf,

    /// Print one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}
