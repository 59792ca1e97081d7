//! The server: connections counted and bounded, each request with a number, an answer and a line in the log;
//! stopped without cutting anybody off.

use crate::act::control::api::{self, GLOBAL};
use crate::act::control::authorization::{Authorization, Refusal};
use crate::act::control::metrics::Metrics;
use crate::act::control::page::{self, Shown};
use crate::act::control::store_queue::{StoreOpener, StoreQueue};
use crate::store::{BootMoment, ClaimAnswer, ControlStore, Record, StoreReply, StoreRequest, check_name};
use crate::sys::poll;
use crate::sys::say::Voice;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use crate::words::{logfmt, stamp};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore};

/// The largest body of a request.
const BODY: usize = 64 * 1024;
/// How long a client may take for the head of a request, the pause before it included.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// How long a client may take for a body.
const BODY_TIME: Duration = Duration::from_secs(10);
/// How long what has begun may take when we are told to stop.
const STOP_TIME: Duration = Duration::from_secs(10);
/// How often a waiting claim looks at a store that others write to as well.
const LOOK: Duration = Duration::from_millis(50);
/// How many changes of hands the page shows.
const CHANGES: usize = 50;

/// What to serve, and where.
pub struct ServeOptions {
    /// The address.
    pub listen: SocketAddr,
    /// How the store is opened.
    pub open: Box<StoreOpener>,
    /// Who may come in.
    pub authorization: Authorization,
    /// How many connections at once.
    pub connections: usize,
    /// Whether each request has a line on stderr.
    pub log: bool,
}

struct Shared {
    store: StoreQueue,
    authorization: Authorization,
    metrics: Metrics,
    connections: AtomicUsize,
    /// Rings when a lease is given up.
    freed: Notify,
    /// Names requests.
    random: RandomState,
    serial: AtomicU64,
    log: bool,
    voice: Voice,
}

struct Reply {
    status: u16,
    kind: &'static str,
    body: String,
    fields: Vec<(&'static str, String)>,
}

/// Serves until TERM or INT; HUP reads the tokens again.
///
/// # Errors
/// 78 beyond loopback without a token; those of the store and of bind(2).
pub fn serve(options: ServeOptions, voice: &Voice) -> Result<Status> {
    if !options.authorization.guarded() && !options.listen.ip().is_loopback() {
        let why = format!("cannot listen on {}, which is not loopback, without --token-file", options.listen);
        return Err(Error::new(Status::BadConfig, why));
    }
    poll::raise_descriptor_limit();
    let shared = Arc::new(Shared {
        store: StoreQueue::open(&options.open)?,
        authorization: options.authorization,
        metrics: Metrics::default(),
        connections: AtomicUsize::new(0),
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
    let outcome = runtime.block_on(listen(options.listen, options.connections, shared, voice));
    // What waits for a store that hangs must not keep us.
    runtime.shutdown_background();
    outcome
}

async fn listen(address: SocketAddr, most: usize, shared: Arc<Shared>, voice: &Voice) -> Result<Status> {
    let cannot = |cause: std::io::Error| Error::io(format!("cannot listen on {address}"), &cause);
    let listener = TcpListener::bind(address).await.map_err(cannot)?;
    let caught = |kind| signal(kind).map_err(|cause| Error::io("cannot catch signals", &cause));
    let (mut term, mut int, mut hup) =
        (caught(SignalKind::terminate())?, caught(SignalKind::interrupt())?, caught(SignalKind::hangup())?);
    voice.note(format!("listening on http://{}", listener.local_addr().map_err(cannot)?));
    let (graceful, permits) = (GracefulShutdown::new(), Arc::new(Semaphore::new(most)));
    loop {
        let accept = async {
            // Who comes when all places are taken waits in the kernel's queue.
            let permit = Arc::clone(&permits).acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (stream, peer, permit) = tokio::select! {
            (accepted, permit) = accept => match accepted {
                Ok((stream, peer)) => (stream, peer, permit),
                Err(_) => {
                    // No descriptor is free, or the client is gone already.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
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
        let _ = stream.set_nodelay(true);
        let each = Arc::clone(&shared);
        let service = service_fn(move |request| answer(Arc::clone(&each), peer, request));
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(32 * 1024);
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        let shared = Arc::clone(&shared);
        shared.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            // A client that breaks off concerns nobody else.
            let _ = connection.await;
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
        });
    }
    drop(listener);
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

/// The path as it is counted: one that we know, or none.
fn known(path: &str) -> &'static str {
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
    peer: SocketAddr,
    request: Request<Incoming>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let begun = Instant::now();
    let id = request_id(&shared, &request);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut who = String::new();
    let reply = reply(&shared, request, &id, &mut who).await;
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
        say("peer", &peer.to_string());
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

fn data(id: &str, data: &Value) -> Reply {
    let body = format!("{}\n", json!({ "ok": true, "request_id": id, "data": data }));
    Reply { status: 200, kind: "application/json", body, fields: Vec::new() }
}

fn failed(id: &str, status: u16, error: &str, message: &str) -> Reply {
    let body = format!("{}\n", json!({ "ok": false, "request_id": id, "error": error, "message": message }));
    Reply { status, kind: "application/json", body, fields: Vec::new() }
}

fn plain(status: u16, text: impl Into<String>) -> Reply {
    Reply { status, kind: "text/plain; charset=utf-8", body: text.into(), fields: Vec::new() }
}

/// What a store could not do.
fn trouble(id: &str, error: &Error) -> Reply {
    match error.status {
        Status::Lost => failed(id, 409, "lost", &error.to_string()),
        Status::Usage => failed(id, 400, "invalid_request", &error.to_string()),
        _ => failed(id, 503, "store_unavailable", &error.to_string()),
    }
}

async fn reply(shared: &Shared, request: Request<Incoming>, id: &str, who: &mut String) -> Reply {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let changes = parts.method == Method::POST;
    match path {
        "/healthz" => return plain(200, "ok\n"),
        "/readyz" => {
            return match shared.store.look(|store| store.read(GLOBAL).map(drop)).await {
                Ok(()) => plain(200, "ready\n"),
                Err(error) => plain(503, format!("not ready: {error}\n")),
            };
        }
        _ => {}
    }
    match shared.authorization.admit(&parts.headers, changes) {
        Ok(()) => {}
        Err(Refusal::Token) => {
            let mut reply = failed(id, 401, "unauthorized", "a valid token is needed");
            let scheme =
                if path == "/" { "Basic realm=\"baa-control\", charset=\"UTF-8\"" } else { "Bearer" };
            reply.fields.push(("www-authenticate", scheme.to_owned()));
            return reply;
        }
        Err(Refusal::Host) => {
            return failed(id, 403, "wrong_host", "without a token only an address or localhost is served");
        }
        Err(Refusal::Type) => {
            return failed(id, 415, "unsupported_media_type", "the body must be application/json");
        }
    }
    let get = parts.method == Method::GET || parts.method == Method::HEAD;
    match path {
        "/" if get => status_page(shared, id).await,
        "/metrics" if get => metrics(shared, id).await,
        "/v1/leader" if get => leader(shared, id, parts.uri.query().unwrap_or_default()).await,
        "/v1/controllers" if get => match shared.store.look(|store| store.controllers()).await {
            Ok(all) => {
                let all: Vec<_> = all.iter().map(|(one, ago)| api::controller(one, *ago)).collect();
                data(id, &json!({ "controllers": all }))
            }
            Err(error) => trouble(id, &error),
        },
        "/v1/leader/acquire" | "/v1/leader/release" | "/v1/controllers/heartbeat" if changes => {
            let bytes = match tokio::time::timeout(BODY_TIME, Limited::new(body, BODY).collect()).await {
                Ok(Ok(body)) => body.to_bytes(),
                Ok(Err(cause)) if cause.is::<LengthLimitError>() => {
                    return failed(id, 413, "too_large", &format!("a body may have {BODY} bytes"));
                }
                Ok(Err(_)) => return failed(id, 400, "invalid_request", "the body broke off"),
                Err(_) => return failed(id, 408, "too_slow", "the body did not come in time"),
            };
            let reply = match path {
                "/v1/leader/acquire" => acquire(shared, id, &bytes, who).await,
                "/v1/leader/release" => release(shared, id, &bytes, who).await,
                _ => heartbeat(shared, id, &bytes, who).await,
            };
            reply.unwrap_or_else(|why| failed(id, 400, "invalid_request", &why))
        }
        path if known(path) == "other" => failed(id, 404, "not_found", "there is nothing of this name"),
        _ => failed(id, 405, "method_not_allowed", "this is not how it is asked"),
    }
}

fn now() -> BootMoment {
    BootMoment::now().unwrap_or_default()
}

async fn acquire(
    shared: &Shared,
    id: &str,
    bytes: &[u8],
    who: &mut String,
) -> std::result::Result<Reply, String> {
    let asked = api::asked(bytes)?;
    who.clone_from(&asked.claim.holder);
    let name = asked.claim.lease.clone();
    let until = Instant::now() + asked.claim.wait;
    loop {
        let freed = shared.freed.notified();
        tokio::pin!(freed);
        // Before the store is asked, so that no release between its answer and our wait is missed.
        freed.as_mut().enable();
        let ask = match asked.term {
            Some(term) => StoreRequest::Renew(asked.claim.clone(), term),
            None => StoreRequest::Acquire(asked.claim.clone()),
        };
        let answer = match shared.store.change(ask).await {
            Ok(StoreReply::Answer(answer)) => answer,
            // A lease that was never held is nobody's, also to who believed in it.
            Err(error) if error.status == Status::Lost => ClaimAnswer::Held(Record::default()),
            Ok(_) => return Ok(trouble(id, &Error::bug("the store answered another question"))),
            Err(error) => return Ok(trouble(id, &error)),
        };
        let left = until.saturating_duration_since(Instant::now());
        match &answer {
            ClaimAnswer::Held(record) if asked.term.is_none() && !left.is_zero() => {
                let ends = record.left(&now()).saturating_add(Duration::from_millis(1));
                let _ = tokio::time::timeout(left.min(ends).min(LOOK), freed).await;
            }
            answer => return Ok(data(id, &api::claimed(&name, answer, &now()))),
        }
    }
}

async fn release(
    shared: &Shared,
    id: &str,
    bytes: &[u8],
    who: &mut String,
) -> std::result::Result<Reply, String> {
    let asked = api::asked(bytes)?;
    who.clone_from(&asked.claim.holder);
    let term = asked.term.ok_or("term is missing")?;
    let released = match shared.store.change(StoreRequest::Release(asked.claim, term)).await {
        Ok(told) => matches!(told, StoreReply::Released(true)),
        Err(error) => return Ok(trouble(id, &error)),
    };
    shared.freed.notify_waiters();
    Ok(data(id, &json!({ "released": released, "term": term })))
}

async fn heartbeat(
    shared: &Shared,
    id: &str,
    bytes: &[u8],
    who: &mut String,
) -> std::result::Result<Reply, String> {
    let beat = api::beat(bytes)?;
    who.clone_from(&beat.id);
    let said = api::controller(&beat, Duration::ZERO);
    Ok(match shared.store.change(StoreRequest::Heartbeat(beat)).await {
        Ok(_) => data(id, &said),
        Err(error) => trouble(id, &error),
    })
}

async fn leader(shared: &Shared, id: &str, query: &str) -> Reply {
    let asked = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| ["lease_name", "leaseName"].contains(key));
    let name = asked.map_or(GLOBAL, |(_, name)| name).to_owned();
    if let Err(error) = check_name("lease_name", &name) {
        return trouble(id, &error);
    }
    let wanted = name.clone();
    match shared.store.look(move |store| store.read(&wanted)).await {
        Ok(record) => data(id, &api::lease(&name, &record.unwrap_or_default(), &now())),
        Err(error) => trouble(id, &error),
    }
}

async fn status_page(shared: &Shared, id: &str) -> Reply {
    let look = |store: &dyn ControlStore| {
        Ok(Shown {
            leases: store.leases()?,
            controllers: store.controllers()?,
            changes: store.changes(CHANGES)?,
        })
    };
    match shared.store.look(look).await {
        Ok(shown) => {
            let number = shared.serial.fetch_add(1, Ordering::Relaxed);
            let nonce = format!(
                "{:016x}{:016x}",
                shared.random.hash_one(("nonce", number)),
                RandomState::new().hash_one(number)
            );
            let policy = format!(
                "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
                     connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
            );
            let fields =
                vec![("content-security-policy", policy), ("referrer-policy", "no-referrer".to_owned())];
            Reply {
                status: 200,
                kind: "text/html; charset=utf-8",
                body: page::render(&shown, &now(), &nonce),
                fields,
            }
        }
        Err(error) => trouble(id, &error),
    }
}

async fn metrics(shared: &Shared, id: &str) -> Reply {
    match shared.store.look(|store| Ok((store.leases()?, store.controllers()?.len()))).await {
        Ok((leases, controllers)) => {
            let connections = shared.connections.load(Ordering::Relaxed);
            let body = shared.metrics.text(&leases, &now(), controllers, shared.store.counts(), connections);
            Reply { status: 200, kind: "text/plain; version=0.0.4; charset=utf-8", body, fields: Vec::new() }
        }
        Err(error) => trouble(id, &error),
    }
}
