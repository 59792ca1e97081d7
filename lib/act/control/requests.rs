//! What is asked, and what it is answered: each path of the API.

use crate::act::control::api::{self, GLOBAL};
use crate::act::control::authorization::{Admission, Refusal};
use crate::act::control::listener::{Caller, Origin};
use crate::act::control::page::{self, Shown};
use crate::act::control::places::Place;
use crate::act::control::quota::Quota;
use crate::act::control::server::{ApiReply, Shared, known};
use crate::store::guard::{Claimant, GrantSecret};
use crate::store::{BootMoment, ClaimAnswer, ControlStore, Record, StoreReply, StoreRequest, check_name};
use crate::words::error::Error;
use crate::words::exit::Status;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request};
use serde_json::{Value, json};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The largest body of a request.
const BODY: usize = 64 * 1024;
/// How long a client may take for a body.
const BODY_TIME: Duration = Duration::from_secs(10);
/// How often a waiting claim looks at a store that others write to as well.
const LOOK: Duration = Duration::from_millis(50);
/// How many changes of hands the page shows.
const CHANGES: usize = 50;

fn data(id: &str, data: &Value) -> ApiReply {
    let body = format!("{}\n", json!({ "ok": true, "request_id": id, "data": data }));
    ApiReply { status: 200, kind: "application/json", body, fields: Vec::new() }
}

fn failed(id: &str, status: u16, error: &str, message: &str) -> ApiReply {
    let body = format!("{}\n", json!({ "ok": false, "request_id": id, "error": error, "message": message }));
    ApiReply { status, kind: "application/json", body, fields: Vec::new() }
}

fn plain(status: u16, text: impl Into<String>) -> ApiReply {
    ApiReply { status, kind: "text/plain; charset=utf-8", body: text.into(), fields: Vec::new() }
}

/// What a store could not do.
fn trouble(id: &str, error: &Error) -> ApiReply {
    match error.status {
        Status::Lost => failed(id, 409, "lost", &error.to_string()),
        Status::Usage => failed(id, 400, "invalid_request", &error.to_string()),
        _ => failed(id, 503, "store_unavailable", &error.to_string()),
    }
}

/// The answer to a request; `who` is told who asks.
pub(super) async fn reply(
    shared: &Shared,
    (caller, place): (Caller, &Place),
    request: Request<Incoming>,
    id: &str,
    who: &mut String,
) -> ApiReply {
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
    let from = match shared.authorization.admit(caller, &parts.headers, changes) {
        Ok(admission) => admission,
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
    };
    if from.known {
        place.keep();
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
                "/v1/leader/acquire" => acquire(shared, (&from, place), id, &bytes, who).await,
                "/v1/leader/release" => release(shared, (&from, place), id, &bytes, who).await,
                _ => heartbeat(shared, (&from, place), id, &bytes, who).await,
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
    (from, place): (&Admission, &Place),
    id: &str,
    bytes: &[u8],
    who: &mut String,
) -> std::result::Result<ApiReply, String> {
    let mut asked = api::asked(bytes)?;
    who.clone_from(&asked.claim.holder);
    if asked.claim.ttl > shared.longest {
        return Err(format!("ttl_sec may be {} at most", shared.longest.as_secs()));
    }
    let name = asked.claim.lease.clone();
    if asked.term.is_none()
        && let Err(refused) = room_for_lease(shared, from, id, &name).await
    {
        return Ok(refused);
    }
    asked.claim.proof.claimant = from.claimant.clone();
    asked.claim.proof.breaks = false;
    let mut made = None;
    if asked.wants_secret {
        match GrantSecret::new() {
            Ok(secret) => made = Some(secret),
            Err(error) => return Ok(trouble(id, &error)),
        }
        asked.claim.proof.secret.clone_from(&made);
    }
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
        let busy = place.busy();
        let answer = match shared.store.change(ask).await {
            Ok(StoreReply::Answer(answer)) => answer,
            // A lease that was never held is nobody's, also to who believed in it.
            Err(error) if error.status == Status::Lost => ClaimAnswer::Held(Record::default()),
            Ok(_) => return Ok(trouble(id, &Error::bug("the store answered another question"))),
            Err(error) => return Ok(trouble(id, &error)),
        };
        // Who waits holds a place that another may need.
        drop(busy);
        let left = until.saturating_duration_since(Instant::now());
        match &answer {
            ClaimAnswer::Held(record) if asked.term.is_none() && !left.is_zero() => {
                let ends = record.left(&now()).saturating_add(Duration::from_millis(1));
                let _ = tokio::time::timeout(left.min(ends).min(LOOK), freed).await;
            }
            answer => {
                if let (ClaimAnswer::Ours { renewed: false, .. }, Some(quotas)) =
                    (answer, shared.quotas.get())
                {
                    quotas.leases.note(&name, payer(from).as_deref());
                }
                let mut said = api::claimed(&name, answer, &now());
                // Told here and nowhere else.
                if let (ClaimAnswer::Ours { .. }, Some(secret)) = (answer, &made) {
                    said["secret"] = json!(secret.reveal());
                }
                return Ok(data(id, &said));
            }
        }
    }
}

async fn release(
    shared: &Shared,
    (from, place): (&Admission, &Place),
    id: &str,
    bytes: &[u8],
    who: &mut String,
) -> std::result::Result<ApiReply, String> {
    let mut asked = api::asked(bytes)?;
    who.clone_from(&asked.claim.holder);
    let term = asked.term.ok_or("term is missing")?;
    if asked.claim.proof.breaks && !from.operator {
        let who = "root, the user whom baa-control runs as, or an operator's token";
        return Ok(failed(id, 403, "forbidden", &format!("only {who} breaks what another holds")));
    }
    asked.claim.proof.claimant = from.claimant.clone();
    let _busy = place.busy();
    let released = match shared.store.change(StoreRequest::Release(asked.claim, term)).await {
        Ok(told) => matches!(told, StoreReply::Released(true)),
        Err(error) if error.status == Status::Lost => {
            return Ok(failed(id, 409, "guarded", &error.to_string()));
        }
        Err(error) => return Ok(trouble(id, &error)),
    };
    shared.freed.notify_waiters();
    Ok(data(id, &json!({ "released": released, "term": term })))
}

async fn heartbeat(
    shared: &Shared,
    (from, place): (&Admission, &Place),
    id: &str,
    bytes: &[u8],
    who: &mut String,
) -> std::result::Result<ApiReply, String> {
    let beat = api::beat(bytes)?;
    who.clone_from(&beat.id);
    let quotas = match quotas(shared).await {
        Ok(quotas) => quotas,
        Err(error) => return Ok(trouble(id, &error)),
    };
    if let Err(why) = quotas.controllers.admit(&beat.id, payer(from).as_deref()) {
        return Ok(failed(id, 429, "too_many", &why));
    }
    let said = api::controller(&beat, Duration::ZERO);
    let _busy = place.busy();
    Ok(match shared.store.change(StoreRequest::Heartbeat(beat)).await {
        Ok(_) => data(id, &said),
        Err(error) => trouble(id, &error),
    })
}

/// As whom names are counted; nobody's are counted whom we trust.
fn payer(from: &Admission) -> Option<String> {
    match &from.claimant {
        Claimant::Peer(peer) if !from.known => Some(Origin::counted(peer)),
        _ => None,
    }
}

/// How many names each may make.
pub(super) struct Quotas {
    leases: Quota,
    controllers: Quota,
}

/// The quotas, once it is known what is in the store.
async fn quotas(shared: &Shared) -> crate::words::error::Result<&Quotas> {
    let count = async || {
        let (leases, controllers) =
            shared.store.look(|store| Ok((store.lease_names()?, store.controllers()?))).await?;
        let leases = leases.into_iter().map(|(name, peer)| (name, peer.as_deref().map(Origin::counted)));
        let [most, many] = [shared.most.leases, shared.most.controllers];
        let controllers = controllers.into_iter().map(|(one, _)| (one.id, None));
        Ok(Quotas {
            leases: Quota::new("leases", most, shared.most.share(most), leases),
            controllers: Quota::new("controllers", many, shared.most.share(many), controllers),
        })
    };
    shared.quotas.get_or_try_init(count).await
}

/// Whether the lease is there, or may be made; the refusal where it may not.
async fn room_for_lease(
    shared: &Shared,
    from: &Admission,
    id: &str,
    name: &str,
) -> std::result::Result<(), ApiReply> {
    let quotas = quotas(shared).await.map_err(|error| trouble(id, &error))?;
    let Err(why) = quotas.leases.admit(name, payer(from).as_deref()) else { return Ok(()) };
    // Others may write to the store as well: what is there is no new name.
    let wanted = name.to_owned();
    match shared.store.look(move |store| store.read(&wanted)).await {
        Ok(Some(_)) => {
            quotas.leases.note(name, None);
            Ok(())
        }
        Ok(None) => Err(failed(id, 429, "too_many", &why)),
        Err(error) => Err(trouble(id, &error)),
    }
}

async fn leader(shared: &Shared, id: &str, query: &str) -> ApiReply {
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

async fn status_page(shared: &Shared, id: &str) -> ApiReply {
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
            ApiReply {
                status: 200,
                kind: "text/html; charset=utf-8",
                body: page::render(&shown, &now(), &nonce),
                fields,
            }
        }
        Err(error) => trouble(id, &error),
    }
}

async fn metrics(shared: &Shared, id: &str) -> ApiReply {
    match shared.store.look(|store| Ok((store.leases()?, store.controllers()?.len()))).await {
        Ok((leases, controllers)) => {
            let connections = (shared.places.count(), shared.places.turned_away());
            let body = shared.metrics.text(&leases, &now(), controllers, shared.store.counts(), connections);
            ApiReply {
                status: 200,
                kind: "text/plain; version=0.0.4; charset=utf-8",
                body,
                fields: Vec::new(),
            }
        }
        Err(error) => trouble(id, &error),
    }
}
