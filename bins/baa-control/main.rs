//! Serves leases.

mod args;
mod live;

use args::{Backup, ControlArgs, ControlVerb, Serve};
use baa::act::control::authorization::Authorization;
use baa::act::control::listener::ListenAddress;
use baa::act::control::server::{self, ServeLimits, ServeOptions};
use baa::program::Edge;
use baa::store::sqlite::Sqlite;
use baa::store::{self, Access};
use baa::sys::say::{self, Level, Voice};
use baa::sys::{net, secret};
use baa::words::error::{Error, Result};
use baa::words::exit::Status;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long the name of our own host may take to be resolved.
const RESOLVING: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    store::take_secrets();
    let edge = Edge { live: live::values, ..Edge::default() };
    baa::program::run(edge, |args: ControlArgs| match &args.verb {
        None => serve(&args.serve),
        Some(ControlVerb::Backup(args)) => backup(args),
    })
}

fn serve(args: &Serve) -> Result<Status> {
    say::never_wait();
    secret::stay_visible();
    secret::protect();
    let voice = Voice::new(if args.quiet { Level::Quiet } else { Level::Normal });
    let access = Access::new(None, args.etcd_password_file.as_deref(), args.ca_file.as_deref())?;
    let store = args.store.clone();
    let options = ServeOptions {
        listen: args.listen.iter().map(|text| address(text)).collect::<Result<_>>()?,
        socket_mode: args.socket_mode,
        open: Box::new(move || store::open_ledger(store.as_deref(), &access)),
        authorization: Authorization::new(args.token_file.as_deref(), args.operator_token_file.as_deref())?,
        most: ServeLimits {
            connections: args.max_connections as usize,
            leases: args.max_leases as usize,
            controllers: args.max_controllers as usize,
            percent: args.max_share as usize,
        },
        longest: args.max_ttl,
        log: !args.quiet,
    };
    server::serve(options, &voice)
}

fn address(text: &str) -> Result<ListenAddress> {
    let usage = |why: String| {
        Error::new(Status::Usage, format!("cannot listen on '{}': {why}", baa::words::error::brief(text)))
    };
    if let Some(path) = text.strip_prefix("unix:") {
        let path = std::path::absolute(path.strip_prefix("//").unwrap_or(path));
        return path.map(ListenAddress::Unix).map_err(|cause| usage(cause.to_string()));
    }
    // Port 0 is a free one, which we tell.
    let (text, any) = text.strip_suffix(":0").map_or((text, None), |host| (host, Some(0)));
    let (host, port) = baa::sys::http::host_and_port(text).map_err(usage)?;
    let port = port.or(any).ok_or_else(|| usage("the port is missing".to_owned()))?;
    let found = net::resolve_now(&host, Instant::now() + RESOLVING).map_err(|failure| usage(failure.text))?;
    found
        .first()
        .map(|address| ListenAddress::Tcp(SocketAddr::new(*address, port)))
        .ok_or_else(|| usage("it has no address".to_owned()))
}

fn backup(args: &Backup) -> Result<Status> {
    let path = args.store.as_deref().map_or_else(|| Ok(store::default_file()), store::file_of)?;
    if !path.exists() {
        return Err(Error::new(Status::NoInput, format!("there is no store {}", path.display())));
    }
    Sqlite::open(&path)?.back_up(&args.to)?;
    Ok(Status::Done)
}
