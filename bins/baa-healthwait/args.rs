//! The command line of baa-healthwait.

use baa::probe::exec::ExitStatuses;
use baa::probe::http::{HeaderText, Statuses};
use baa::probe::json::JsonTest;
use baa::probe::pattern::Pattern;
use baa::program::Common;
use baa::service::target::Newer;
use baa::sys::http::Proxy;
use baa::sys::net::FixedAddress;
use baa::sys::process::Pid;
use baa::words::span;
use clap::{ArgAction, Parser};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Wait until something answers, and know what answered
///
/// Asks every TARGET until each of them answers, then exits with 0, or becomes COMMAND.
#[derive(Debug, Parser)]
#[command(
    name = "baa-healthwait", version, max_term_width = 100,
    group = clap::ArgGroup::new("who").args(["served_by", "newer_than"]).multiple(true)
)]
pub struct HealthwaitArgs {
    /// What to wait for: http://, https://, http+unix:///sock:/path, tcp://host:port or host:port,
    /// unix:///path, postgres://, mysql://, redis://, mongodb://, amqp://, kafka://host,
    /// grpc://host:port/service, exec:COMMAND, file:/path, pid:N, dns:name, dns:name?type=MX,
    /// launchd:LABEL, systemd:UNIT
    #[arg(required = true, value_name = "TARGET")]
    pub targets: Vec<OsString>,

    /// The command to become once all is ready: same process, same streams, its own status
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,

    /// All targets must answer (the default)
    #[arg(long, conflicts_with = "any", help_heading = "What counts")]
    pub all: bool,

    /// One target is enough
    #[arg(long, help_heading = "What counts")]
    pub any: bool,

    /// Wait until targets are down: refused or missing. A timeout is not "down"
    #[arg(long, help_heading = "What counts", conflicts_with_all = ["served_by", "newer_than"])]
    pub invert: bool,

    /// This many probes of a target must succeed in a row
    #[arg(
        long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "What counts"
    )]
    pub successes: u32,

    /// A target must stay up for this long
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse, default_value = "0", hide_default_value = true,
        help_heading = "What counts"
    )]
    pub stable_for: Duration,

    /// Give up after this long; 0 is never [default: 30s, or none with --attempts]
    #[arg(short, long, value_name = "SPAN", value_parser = span::parse, help_heading = "Time")]
    pub timeout: Option<Duration>,

    /// Pause between probes [default: as short as is free: milliseconds for local targets, politely longer
    /// for others]
    #[arg(
        long, value_name = "SPAN", value_parser = span::parse_pause, conflicts_with = "delay",
        help_heading = "Time"
    )]
    pub interval: Option<Duration>,

    /// End of one probe; 0 is never
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "5s", help_heading = "Time")]
    pub probe_timeout: Duration,

    /// Give up after this many probes of a target
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Time")]
    pub attempts: Option<u32>,

    /// Pause between attempts [default with --attempts: 1s]
    #[arg(long, value_name = "SPAN", value_parser = span::parse_pause, help_heading = "Time")]
    pub delay: Option<Duration>,

    /// End at once with 69 when this process dies (repeatable)
    #[arg(long, value_name = "PID", help_heading = "Who answers")]
    pub watch_pid: Vec<Pid>,

    /// An answer counts only from this process or a descendant of it
    #[arg(long, value_name = "PID", help_heading = "Who answers")]
    pub served_by: Option<Pid>,

    /// An answer counts only from a process started after process PID, or after TIME (@SECONDS or
    /// 2026-01-31T12:00:00Z)
    #[arg(long, value_name = "PID|TIME", value_parser = Newer::parse, help_heading = "Who answers")]
    pub newer_than: Option<Newer>,

    /// With --served-by and --newer-than: an answer counts though others may have given it, who hold the
    /// socket too, and though others have led to whoever gave it
    #[arg(long, requires = "who", help_heading = "Who answers")]
    pub any_process: bool,

    /// Method of the request [default: GET, or POST with data]
    #[arg(long, value_name = "METHOD", help_heading = "HTTP")]
    pub method: Option<String>,

    /// Header of the request, 'Name: value' (repeatable)
    #[arg(short = 'H', long, value_name = "HEADER", action = ArgAction::Append, help_heading = "HTTP")]
    pub header: Vec<String>,

    /// Send TEXT as the body of the request, as it is
    #[arg(long, value_name = "TEXT", conflicts_with = "data_file", help_heading = "HTTP")]
    pub data: Option<String>,

    /// Send what is in this file as the body of the request, as it is (up to 1 MiB)
    #[arg(long, value_name = "FILE", help_heading = "HTTP")]
    pub data_file: Option<PathBuf>,

    /// Good statuses: 200, 2xx, 200-399 (several with commas) [default: 200-399]
    #[arg(
        long, value_name = "LIST", value_delimiter = ',', value_parser = Statuses::parse,
        help_heading = "HTTP"
    )]
    pub status: Vec<Statuses>,

    /// The answer must have a header NAME that contains TEXT (repeatable)
    #[arg(long, value_name = "NAME=TEXT", value_parser = HeaderText::parse, help_heading = "HTTP")]
    pub header_contains: Vec<HeaderText>,

    /// The body must contain TEXT (repeatable; the first MiB is looked at)
    #[arg(long, value_name = "TEXT", help_heading = "HTTP")]
    pub body_contains: Vec<String>,

    /// The body must match this regular expression (repeatable; the first 256 KiB are looked at, less for a
    /// large one)
    #[arg(long, value_name = "RE", value_parser = Pattern::parse, help_heading = "HTTP")]
    pub body_regex: Vec<Pattern>,

    /// The JSON body must hold what is said of the pointer PTR of RFC 6901: /ready=true, '/lag < 10' (OP is
    /// one of = != < <= > >=, or ~ for a regular expression), '/id exists' (repeatable)
    #[arg(long, value_name = "PTR OP VALUE", value_parser = JsonTest::parse, help_heading = "HTTP")]
    pub json_path: Vec<JsonTest>,

    /// Trust the certificates in this PEM file, and whom they have signed, and no others
    #[arg(long, value_name = "FILE", conflicts_with = "insecure", help_heading = "HTTP")]
    pub cacert: Option<PathBuf>,

    /// Trust any certificate
    #[arg(long, help_heading = "HTTP")]
    pub insecure: bool,

    /// Show the certificate in this PEM file to a server that asks for one
    #[arg(long, value_name = "FILE", help_heading = "HTTP")]
    pub cert: Option<PathBuf>,

    /// The key of that certificate, in PEM [default: in the file of --cert]
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = "HTTP")]
    pub key: Option<PathBuf>,

    /// Do not follow redirects
    #[arg(long, help_heading = "HTTP")]
    pub no_redirect: bool,

    /// Send the bearer token in this environment variable
    #[arg(long, value_name = "NAME", conflicts_with = "token_file", help_heading = "HTTP")]
    pub token_env: Option<String>,

    /// Send the bearer token in this file
    #[arg(long, value_name = "FILE", help_heading = "HTTP")]
    pub token_file: Option<PathBuf>,

    /// HOST at PORT is at these addresses: nobody is asked (repeatable; for http and tcp; * is any host)
    #[arg(
        long, value_name = "HOST:PORT:ADDRESS", value_parser = FixedAddress::parse, help_heading = "Network"
    )]
    pub resolve: Vec<FixedAddress>,

    /// Ask http:// and https:// through this proxy, http://HOST:PORT; those of the environment are never
    /// taken
    #[arg(
        long, value_name = "URL", value_parser = Proxy::parse,
        conflicts_with_all = ["served_by", "newer_than"], help_heading = "Network"
    )]
    pub proxy: Option<Proxy>,

    /// Good statuses of commands: 0, 2-5 (several with commas) [default: 0]
    #[arg(
        long, value_name = "LIST", value_delimiter = ',', value_parser = ExitStatuses::parse,
        help_heading = "Commands"
    )]
    pub exec_status: Vec<ExitStatuses>,

    #[command(flatten)]
    pub common: Common,
}
