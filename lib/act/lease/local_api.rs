//! What a conductor tells of itself on this machine: `/healthz`, `/readyz`, `/rolez`, `/v1/runtime`.

use crate::act::lease::conductor::{Conductor, ConductorState};
use crate::sys::http::serve::{self, Reply};
use crate::sys::http::{Scheme, Url};
use crate::sys::net::{self, Endpoint};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the name of our own host may take to be resolved.
const RESOLVING: Duration = Duration::from_secs(5);

/// Binds the address of `url`, which must be of this machine's loopback unless `anywhere`.
///
/// # Errors
/// 2 for no such URL, 78 for an address beyond loopback, those of bind(2).
pub fn bind(url: &str, anywhere: bool) -> Result<TcpListener> {
    let usage = |why: String| Error::new(Status::Usage, format!("the local API {why}"));
    let parsed = Url::parse(url)
        .map_err(|why| usage(format!("cannot be at '{}': {why}", crate::words::error::brief(url))))?;
    let (Scheme::Http, Endpoint::Tcp(host, port)) = (parsed.scheme(), parsed.endpoint()) else {
        return Err(usage("is served over plain http".to_owned()));
    };
    if !anywhere && !net::is_local(&host) {
        return Err(Error::new(
            Status::BadConfig,
            format!(
                "the local API does not listen on {host}, which is not loopback, without --local-api-anywhere"
            ),
        ));
    }
    let addresses = net::resolve_now(&host, Instant::now() + RESOLVING)
        .map_err(|failure| Error::new(Status::Unavailable, failure.text))?;
    let address = addresses.first().ok_or_else(|| usage(format!("has no address: {host}")))?;
    serve::bind(SocketAddr::new(*address, port))
        .map_err(|cause| Error::io(format!("cannot serve the local API on {host}:{port}"), &cause))
}

/// Serves it from now on.
///
/// # Errors
/// Where no thread can be started.
pub fn serve(listener: TcpListener, conductor: Arc<Mutex<Conductor>>) -> Result<()> {
    let answer = move |path: &str| answer(path, &conductor.lock().unwrap_or_else(PoisonError::into_inner));
    serve::serve(listener, answer).map_err(|cause| Error::io("cannot serve the local API", &cause))
}

fn answer(path: &str, conductor: &Conductor) -> Reply {
    let text = |status: u16, body: &str| (status, "text/plain; charset=utf-8", format!("{body}\n"));
    match path {
        "/healthz" => text(200, "ok"),
        "/readyz" if conductor.is_started() && conductor.state() != ConductorState::Degraded => {
            text(200, "ready")
        }
        "/readyz" => text(503, "not ready"),
        "/rolez" => text(200, conductor.state().name()),
        "/v1/runtime" => (200, "application/json", format!("{:#}\n", conductor.snapshot())),
        _ => text(404, "not found"),
    }
}
