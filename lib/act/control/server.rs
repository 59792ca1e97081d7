//! The server: connections counted and bounded, each request with a number, an answer and a line in the log;
//! stopped without cutting anybody off.

use crate::act::control::authorization::Authorization;
use crate::act::control::listener::{self, Caller, Duplex, ListenAddress, Listener};
use crate::act::control::metrics::Metrics;
use crate::act::control::places::{NoPlace, Place, Places};
use crate::act::control::requests::{self, Tallies};
use crate::act::control::store_queue::{StoreOpener, StoreQueue};
use crate::sys::poll;
use crate::sys::say::Voice;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use crate::words::{logfmt, stamp};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, OnceCell};

/// How long a client may take for the head of its first request.
const FIRST_HEAD_TIME: Duration = Duration::from_secs(10);
/// How long it may take for another, the pause before it included.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// How soon a place is looked for again, at most.
const MOMENT: Duration = Duration::from_millis(10);
/// How long what has begun may take when we are told to stop.
const STOP_TIME: Duration = Duration::from_secs(10);
/// What to serve, and where.
pub struct ServeOptions {
    /// The addresses.
    pub listen: Vec<ListenAddress>,
    /// Who may connect to a socket of this machine (chmod(2)).
    pub socket_mode: u32,
    /// How the store is opened.
    pub open: Box<StoreOpener>,
    /// Who may come in.
    pub authorization: Authorization,
    /// How much of it there may be.
    pub most: ServeLimits,
    /// The longest time to live of a lease.
    pub longest: Duration,
    /// Whether each request has a line on stderr.
    pub log: bool,
}

/// How much of it there may be, in all; and the share of it that one user or address may have who has shown
/// no token.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    /// Connections at once.
    pub connections: usize,
    /// Leases, ever.
    pub leases: usize,
    /// Controllers, ever.
    pub controllers: usize,
    /// In percent.
    pub percent: usize,
}

impl ServeLimits {
    /// One's share of so many.
    pub fn share(&self, of: usize) -> usize {
        of.saturating_mul(self.percent).div_ceil(100)
    }
}

/// What all requests share.
pub(super) struct Shared {
    pub(super) store: StoreQueue,
    pub(super) authorization: Authorization,
    pub(super) metrics: Metrics,
    pub(super) places: Arc<Places>,
    pub(super) tallies: OnceCell<Tallies>,
    pub(super) most: ServeLimits,
    pub(super) longest: Duration,
    /// Rings when a lease is given up.
    pub(super) freed: Notify,
    /// Names requests.
    pub(super) random: RandomState,
    pub(super) serial: AtomicU64,
    log: bool,
    voice: Voice,
}

/// An answer.
pub(super) struct ApiReply {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) body: String,
    pub(super) fields: Vec<(&'static str, String)>,
}

/// Serves until TERM or INT; HUP reads the tokens again.
///
/// # Errors
/// 78 beyond loopback without a token; those of the store and of bind(2).
pub fn serve(options: ServeOptions, voice: &Voice) -> Result<Status> {
    let beyond =
        |address: &&ListenAddress| matches!(address, ListenAddress::Tcp(at) if !at.ip().is_loopback());
    if let Some(open) = options.listen.iter().find(beyond).filter(|_| !options.authorization.guarded()) {
        let why = format!("cannot listen on {open}, which is not loopback, without --token-file");
        return Err(Error::new(Status::BadConfig, why));
    }
    poll::raise_descriptor_limit();
    let most = options.most;
    let shared = Arc::new(Shared {
        store: StoreQueue::open(&options.open)?,
        authorization: options.authorization,
        metrics: Metrics::default(),
        places: Arc::new(Places::new(most.connections, most.share(most.connections))),
        tallies: OnceCell::new(),
        most,
        longest: options.longest,
        freed: Notify::new(),
        random: RandomState::new(),
        serial: AtomicU64::new(0),
        log: options.log,
        voice: voice.clone(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Error::io("cannot start", &cause))?;
    let outcome = runtime.block_on(listen(&options.listen, options.socket_mode, shared, voice));
    // What waits for a store that hangs must not keep us.
    runtime.shutdown_background();
    outcome
}

async fn listen(
    addresses: &[ListenAddress],
    mode: u32,
    shared: Arc<Shared>,
    voice: &Voice,
) -> Result<Status> {
    let mut listeners = Vec::new();
    let mut told = Vec::new();
    for address in addresses {
        let (listener, at) = Listener::bind(address, mode)?;
        listeners.push(listener);
        told.push(at);
    }
    let caught = |kind| signal(kind).map_err(|cause| Error::io("cannot catch signals", &cause));
    let (mut term, mut int, mut hup) =
        (caught(SignalKind::terminate())?, caught(SignalKind::interrupt())?, caught(SignalKind::hangup())?);
    told.iter().for_each(|at| voice.note(format!("listening on {at}")));
    let graceful = GracefulShutdown::new();
    let (mut turn, mut waiting) = (0, None);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&shared.places, &listeners, turn, &mut waiting) => accepted,
            _ = term.recv() => break,
            _ = int.recv() => break,
            _ = hup.recv() => {
                match shared.authorization.reload() {
                    Ok(()) => voice.note("the tokens are read again"),
                    Err(error) => voice.warn(format!("the old tokens stay: {error}")),
                }
                continue;
            }
        };
        turn += 1;
        let (stream, caller, place) = match accepted {
            Ok(Some(accepted)) => accepted,
            Ok(None) => continue,
            Err(_) => {
                // No descriptor is free, or the client is gone already.
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let (each, place) = (Arc::clone(&shared), Arc::new(place));
        let own = Arc::clone(&place);
        let service = service_fn(move |request| answer(Arc::clone(&each), caller, Arc::clone(&own), request));
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(32 * 1024);
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            tokio::pin!(connection);
            let mut young = true;
            let first = tokio::time::sleep(FIRST_HEAD_TIME);
            tokio::pin!(first);
            loop {
                tokio::select! {
                    // A client that breaks off concerns nobody else.
                    _ = &mut connection => break,
                    () = place.over() => break,
                    () = &mut first, if young => {
                        if !place.heard() {
                            break;
                        }
                        young = false;
                    }
                }
            }
        });
        // It is heard before another is accepted, who might get its place: who has sent its request already
        // is not taken for one that says nothing.
        tokio::task::yield_now().await;
    }
    drop((listeners, waiting));
    voice.note("stopping");
    shared.freed.notify_waiters();
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(STOP_TIME) => voice.warn("some requests were cut off"),
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(Status::Done)
}

/// The next connection, with its place. One that is accepted and has none yet is `waiting`, and is not lost
/// when this is not waited for to its end. `None` is one that was refused.
async fn accept(
    places: &Arc<Places>,
    listeners: &[Listener],
    turn: usize,
    waiting: &mut Option<(Box<dyn Duplex>, Caller)>,
) -> std::io::Result<Option<(Box<dyn Duplex>, Caller, Place)>> {
    if waiting.is_none() {
        *waiting = Some(listener::accept(listeners, turn).await?);
    }
    let Some(caller) = waiting.as_ref().map(|(_, caller)| *caller) else { return Ok(None) };
    loop {
        let left = places.left.notified();
        tokio::pin!(left);
        // Before it is tried, so that no place that is left meanwhile is missed.
        left.as_mut().enable();
        match places.take(caller.origin(), Authorization::trusts(caller)) {
            Ok(place) => return Ok(waiting.take().map(|(stream, caller)| (stream, caller, place))),
            Err(NoPlace::OfOne) => {
                *waiting = None;
                return Ok(None);
            }
            // A request is done in a moment, and then its place can be had.
            Err(NoPlace::OfAll) => drop(tokio::time::timeout(MOMENT, left).await),
        }
    }
}

/// The path as it is counted: one that we know, or none.
pub(super) fn known(path: &str) -> &'static str {
    const PATHS: [&str; 9] = [
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/leader",
        "/v1/leader/acquire",
        "/v1/leader/release",
        "/v1/controllers",
        "/v1/controllers/heartbeat",
    ];
    PATHS.into_iter().find(|known| *known == path).unwrap_or("other")
}

async fn answer(
    shared: Arc<Shared>,
    caller: Caller,
    place: Arc<Place>,
    request: Request<Incoming>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let begun = Instant::now();
    let id = request_id(&shared, &request);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut who = String::new();
    place.hear();
    let reply = requests::reply(&shared, (caller, &place), request, &id, &mut who).await;
    let took = begun.elapsed();
    shared.metrics.note(known(&path), reply.status, took);
    if shared.log {
        let mut line = String::new();
        let mut say = |key: &str, value: &str| logfmt::field(&mut line, key, value);
        say("ts", &stamp::millis(SystemTime::now()));
        say("ev", "request");
        say("id", &id);
        say("method", method.as_str());
        say("path", &crate::words::error::brief(&path));
        say("status", &reply.status.to_string());
        say("us", &took.as_micros().to_string());
        say("peer", &caller.to_string());
        if !who.is_empty() {
            say("controller", &who);
        }
        shared.voice.log(&line);
    }
    let mut response = Response::new(Full::new(Bytes::from(if method == Method::HEAD {
        String::new()
    } else {
        reply.body
    })));
    *response.status_mut() = hyper::StatusCode::from_u16(reply.status).unwrap_or_default();
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    };
    set("content-type", reply.kind);
    set("x-request-id", &id);
    set("cache-control", "no-store");
    set("x-content-type-options", "nosniff");
    reply.fields.iter().for_each(|(name, value)| set(name, value));
    Ok(response)
}

/// The client's own name for its request, where it is one word; else one of ours.
fn request_id(shared: &Shared, request: &Request<Incoming>) -> String {
    let given = request.headers().get("x-request-id").and_then(|value| value.to_str().ok());
    let good = given.filter(|id| {
        !id.is_empty()
            && id.len() <= 64
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    });
    good.map_or_else(
        || format!("{:016x}", shared.random.hash_one(shared.serial.fetch_add(1, Ordering::Relaxed))),
        str::to_owned,
    )
}
