//! What is asked, and what it is answered: each path of the API.

use crate::act::control::api::{self, GLOBAL};
use crate::act::control::authorization::{Admission, Refusal};
use crate::act::control::listener::Caller;
use crate::act::control::page::{self, Shown};
use crate::act::control::places::Place;
use crate::act::control::quota::NameTally;
use crate::act::control::server::{ApiReply, Shared, known};
use crate::store::guard::{Claimant, GrantSecret};
use crate::store::quota::NameQuota;
use crate::store::{
    Beat, BootMoment, ClaimAnswer, ControlStore, HeardController, Record, StoreReply, StoreRequest,
    check_name,
};
use crate::words::error::Error;
use crate::words::exit::Status;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request};
use serde_json::{Value, json};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The largest head of a request: its first line and its fields, as they are written.
const HEAD: usize = 32 * 1024;
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
    if head_of(&parts) > HEAD {
        return failed(id, 431, "too_large", &format!("a head may have {HEAD} bytes"));
    }
    match path {
        "/healthz" => return plain(200, "ok\n"),
        "/readyz" => {
            return match shared.store.probe().await {
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
        Err(Refusal::Origin) => {
            return failed(id, 403, "wrong_origin", "a page of another site asks nothing here");
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
                let all: Vec<_> = all.iter().map(api::controller).collect();
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
            let change = ChangeRequest { shared, from: &from, place, id, bytes: &bytes };
            let reply = match path {
                "/v1/leader/acquire" => change.acquire(who).await,
                "/v1/leader/release" => change.release(who).await,
                _ => change.heartbeat(who).await,
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

/// How long the head of a request is, as HTTP/1.1 writes it.
fn head_of(parts: &hyper::http::request::Parts) -> usize {
    let fields = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let target = parts.uri.path_and_query().map_or(1, |target| target.as_str().len());
    parts.method.as_str().len() + target + " HTTP/1.1\r\n\r\n".len() + 1 + fields.sum::<usize>()
}

/// The names of leases and of controllers, in a store that does not count them.
pub(super) type Tallies = Option<[NameTally; 2]>;

/// A request that changes something.
struct ChangeRequest<'a> {
    shared: &'a Shared,
    from: &'a Admission,
    place: &'a Place,
    id: &'a str,
    bytes: &'a [u8],
}

/// What it is answered; or why it is none.
type Answered = std::result::Result<ApiReply, String>;

impl ChangeRequest<'_> {
    async fn acquire(&self, who: &mut String) -> Answered {
        let (shared, id) = (self.shared, self.id);
        let mut asked = api::asked(self.bytes)?;
        who.clone_from(&asked.claim.holder);
        if asked.claim.ttl > shared.longest {
            return Err(format!("ttl_sec may be {} at most", shared.longest.as_secs()));
        }
        let name = asked.claim.lease.clone();
        if asked.term.is_none() {
            let quota = self.quota("leases", shared.most.leases);
            if let Err(refused) = self.has_room(&name, &quota).await {
                return Ok(refused);
            }
            asked.claim.quota = Some(quota);
        }
        asked.claim.proof.claimant = self.from.claimant.clone();
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
        let mut again = true;
        loop {
            let freed = shared.freed.notified();
            tokio::pin!(freed);
            // Before the store is asked, so that no release between its answer and our wait is missed.
            freed.as_mut().enable();
            let ask = match asked.term {
                Some(term) => StoreRequest::Renew(asked.claim.clone(), term),
                None => StoreRequest::Acquire(asked.claim.clone()),
            };
            let busy = self.place.busy();
            let answer = match shared.store.change(ask).await {
                Ok(StoreReply::Answer(answer)) => answer,
                Ok(StoreReply::NoRoom(why)) => return Ok(failed(id, 429, "too_many", &why)),
                // A lease that was never held is nobody's, also to who believed in it.
                Err(error) if error.status == Status::Lost => ClaimAnswer::Held(Record::default()),
                Ok(_) => return Ok(trouble(id, &Error::bug("the store answered another question"))),
                Err(error) => return Ok(trouble(id, &error)),
            };
            // Who waits holds a place that another may need.
            drop(busy);
            let left = until.saturating_duration_since(Instant::now());
            match &answer {
                // It has run out since the store has answered: who claims it is not told that nobody has it.
                ClaimAnswer::Held(record)
                    if asked.term.is_none() && record.leader(&now()).is_none() && again =>
                {
                    again = false;
                }
                ClaimAnswer::Held(record) if asked.term.is_none() && !left.is_zero() => {
                    let ends = record.left(&now()).saturating_add(Duration::from_millis(1));
                    let _ = tokio::time::timeout(left.min(ends).min(LOOK), freed).await;
                }
                answer => {
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

    async fn release(&self, who: &mut String) -> Answered {
        let (shared, id) = (self.shared, self.id);
        let mut asked = api::asked(self.bytes)?;
        who.clone_from(&asked.claim.holder);
        let term = asked.term.ok_or("term is missing")?;
        if asked.claim.proof.breaks && !self.from.operator {
            let who = "root, the user whom baa-control runs as, or an operator's token";
            return Ok(failed(id, 403, "forbidden", &format!("only {who} breaks what another holds")));
        }
        asked.claim.proof.claimant = self.from.claimant.clone();
        let _busy = self.place.busy();
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

    async fn heartbeat(&self, who: &mut String) -> Answered {
        let (shared, id) = (self.shared, self.id);
        let controller = api::beat(self.bytes)?;
        who.clone_from(&controller.id);
        let quota = self.quota("controllers", shared.most.controllers);
        if let Err(refused) = self.has_room(&controller.id, &quota).await {
            return Ok(refused);
        }
        let beat = Beat { controller, claimant: self.from.claimant.clone(), quota: Some(quota) };
        let (controller, guard) = (beat.controller.clone(), beat.guard());
        let said = HeardController { controller, ago: Duration::ZERO, guard };
        let _busy = self.place.busy();
        Ok(match shared.store.change(StoreRequest::Heartbeat(beat)).await {
            Ok(StoreReply::NoRoom(why)) => failed(id, 429, "too_many", &why),
            Ok(_) => data(id, &api::controller(&said)),
            Err(error) if error.status == Status::Lost => failed(id, 409, "guarded", &error.to_string()),
            Err(error) => trouble(id, &error),
        })
    }

    /// How many names there may be; nobody's are counted whom we know.
    fn quota(&self, what: &'static str, most: usize) -> NameQuota {
        let known = self.from.known || !matches!(self.from.claimant, Claimant::Peer(_));
        let maker = (!known).then(|| self.from.origin.to_string());
        NameQuota { what, most, most_each: self.shared.most.share(most), maker }
    }

    /// Whether the name is there, or may be made, as far as that is ours to know; the refusal where it may
    /// not.
    async fn has_room(&self, name: &str, quota: &NameQuota) -> std::result::Result<(), ApiReply> {
        let trouble = |error| trouble(self.id, &error);
        let Some([leases, controllers]) = self.tallies().await.map_err(trouble)? else { return Ok(()) };
        let of_leases = quota.what == "leases";
        let tally = if of_leases { leases } else { controllers };
        let Err(why) = tally.admit(name, quota) else { return Ok(()) };
        // Others may write to the store as well: what is there is no new name.
        let wanted = name.to_owned();
        let look = self.shared.store.look(move |store| {
            Ok(if of_leases { store.read(&wanted)?.is_some() } else { store.has_controller(&wanted)? })
        });
        if look.await.map_err(trouble)? {
            tally.note(name);
            return Ok(());
        }
        Err(failed(self.id, 429, "too_many", &why))
    }

    /// The names, once it is known what is in the store.
    async fn tallies(&self) -> crate::words::error::Result<&Tallies> {
        let store = &self.shared.store;
        let count =
            async || store.look(|store| Ok(store.names()?.map(|names| names.map(NameTally::new)))).await;
        self.shared.tallies.get_or_try_init(count).await
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
