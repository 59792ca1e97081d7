//! A store behind the control API of the conductor: `POST /v1/leader/acquire`, envelope or bare object, in
//! its own words (seed 002).
//!
//! Beyond the seed's words, `lease_name`, `instance`, `term`, `wait_ms` and `secret` are sent where they say
//! something, for a server that knows them (baa-control does). To another a holder is its name, whoever bears
//! it, there is one lease, and what takes and what renews is one request: a grant under another term than
//! ours means that ours has run out in between.

use crate::store::controller::{Beat, Controller};
use crate::store::guard::{GrantSecret, Guard};
use crate::store::{BootMoment, Claim, ClaimAnswer, Record, Store, answer_limit, unix_now};
use crate::sys::http::{self, Request, Route, Trust, Url};
use crate::sys::secret::SecretText;
use crate::sys::user;
use crate::words::error::{Error, Result, brief};
use crate::words::exit::Status;
use crate::words::failure::{Class, Failure};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const ACQUIRE: &str = "/v1/leader/acquire";
const RELEASE: &str = "/v1/leader/release";
const LEADER: &str = "/v1/leader";
const HEARTBEAT: &str = "/v1/controllers/heartbeat";
/// How long a question that is no claim may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The one lease of the conductor.
const GLOBAL: &str = "global";

/// A control API.
pub struct ControlApi {
    base: String,
    token: Option<SecretText>,
    /// Set up at the first request, for all that follow.
    trust: Trust,
    /// The highest term that the server has told of each lease: it never goes back.
    highest: RefCell<BTreeMap<String, u64>>,
    /// Whether it waits when it is asked to, once that is known.
    waits: Cell<Option<bool>>,
    /// The last secret that it was shown: not to be repeated where it sends it back.
    shown: RefCell<Option<GrantSecret>>,
    /// Who answers at a socket.
    server: SocketServer,
}

/// Who answers at a socket.
enum SocketServer {
    /// Root, or our own user.
    Usual,
    /// A user of this name besides; by number once that is known. A service's own user may be there only
    /// while the service runs, so its name is looked up when it is asked.
    Named(String, Cell<Option<u32>>),
}

impl SocketServer {
    /// `[USER@]PATH`, where the path of a user's socket begins with '/'.
    fn of(place: &str) -> (SocketServer, &str) {
        let named = place.split_once("@/").filter(|(name, _)| !name.is_empty() && !name.contains('/'));
        named.map_or((SocketServer::Usual, place), |(name, _)| {
            let uid = name.parse().ok();
            (SocketServer::Named(name.to_owned(), Cell::new(uid)), &place[name.len() + 1..])
        })
    }

    fn uid(&self) -> Result<u32> {
        let SocketServer::Named(name, known) = self else { return Ok(user::own_uid()) };
        if let Some(uid) = known.get() {
            return Ok(uid);
        }
        let found = user::wanted(name).map_err(|error| Error::new(Status::Unavailable, error.to_string()))?;
        known.set(Some(found.uid));
        Ok(found.uid)
    }
}

impl ControlApi {
    /// The one at `base`, http, https, or `unix:[USER@]PATH`; `token` is sent as a bearer.
    ///
    /// # Errors
    /// 2 for what is no such URL, or no token that can be sent.
    pub fn new(base: &str, token: Option<SecretText>, trust: Trust) -> Result<ControlApi> {
        let usage = |why: String| Error::new(Status::Usage, why);
        let mut base = base.trim().trim_end_matches('/').to_owned();
        let mut server = SocketServer::Usual;
        if let Some(place) = base.strip_prefix("unix:") {
            let (named, path) = SocketServer::of(place);
            server = named;
            let path = std::path::absolute(path.strip_prefix("//").unwrap_or(path));
            let path = path.map_err(|cause| usage(format!("'{}' is no store: {cause}", brief(&base))))?;
            base = format!("http+unix://{}:", path.display());
        }
        Url::parse(&base).map_err(usage)?;
        let token = token.and_then(|token| token.trimmed());
        if let Some(token) = &token {
            let field = SecretText::new(format!("Authorization: Bearer {}", token.reveal()));
            http::header(field.reveal())
                .map_err(|_| usage("the shared token holds a control character".to_owned()))?;
        }
        Ok(ControlApi {
            base,
            token,
            trust,
            highest: RefCell::default(),
            waits: Cell::new(None),
            shown: RefCell::default(),
            server,
        })
    }

    /// Foreign words without the token, which a server may send back.
    fn clean(&self, text: &str) -> String {
        let shown = self.shown.borrow();
        let token = self.token.as_ref().map(SecretText::reveal);
        let secrets = token.into_iter().chain(shown.as_ref().map(GrantSecret::reveal));
        brief(&secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "***")))
    }

    fn post(&self, path: &str, body: &Value, limit: Duration) -> Result<Value> {
        self.ask("POST", path, body.to_string().into_bytes(), limit)
    }

    /// The names of all leases, as its metrics tell them.
    ///
    /// # Errors
    /// Where it is not asked, or does not answer within `limit`.
    pub(super) fn lease_names(&self, limit: Duration) -> Result<Vec<String>> {
        let request = self.request("GET", "/metrics", Vec::new())?;
        let answer = http::ask_now(&request, Instant::now() + limit)
            .map_err(|failure| Error::new(Status::Unavailable, failure.text))?;
        let said = String::from_utf8_lossy(&answer.body);
        let name =
            |line: &str| Some(line.strip_prefix("baa_lease_term{lease=\"")?.split('"').next()?.to_owned());
        Ok(said.lines().filter_map(name).collect())
    }

    fn request(&self, method: &str, path: &str, body: Vec<u8>) -> Result<Request> {
        let url =
            Url::parse(&format!("{}{path}", self.base)).map_err(|why| Error::new(Status::Usage, why))?;
        let mut headers = vec![
            ("Accept".to_owned(), "application/json".to_owned()),
            ("Content-Type".to_owned(), "application/json".to_owned()),
        ];
        let field = |token: &SecretText| ("Authorization".to_owned(), format!("Bearer {}", token.reveal()));
        headers.extend(self.token.as_ref().map(field));
        Ok(Request {
            url,
            method: method.to_owned(),
            headers,
            body,
            redirects: false,
            want_body: true,
            trust: self.trust.clone(),
            known_peer: Some(self.server.uid()?),
            route: Route::default(),
        })
    }

    fn ask(&self, method: &str, path: &str, body: Vec<u8>, limit: Duration) -> Result<Value> {
        let request = self.request(method, path, body)?;
        let unreachable = |failure: Failure| {
            let refused = failure.class == Class::NotPermitted;
            let status = if refused { Status::NotPermitted } else { Status::Unavailable };
            Error::new(status, format!("Control API {path}: {}", self.clean(&failure.text)))
        };
        let deadline = Instant::now() + limit;
        let answer = match http::ask_now(&request, deadline) {
            // A server that is full may close a connection before it has heard what we want; and what it has
            // heard is asked again. Not so a release: the second one would find nothing to give up.
            Err(failure) if failure.class == Class::Reset && path != RELEASE => {
                http::ask_now(&request, deadline)
            }
            answer => answer,
        };
        let answer = answer.map_err(unreachable)?;
        let status = answer.status;
        let refused = |detail: String| {
            let status_word = match status {
                401 | 403 => Status::NotPermitted,
                409 => Status::Lost,
                400..=499 => Status::BadConfig,
                _ => Status::Unavailable,
            };
            Error::new(status_word, format!("Control API {status} {path}: {detail}"))
        };
        let raw = String::from_utf8_lossy(&answer.body);
        let Ok(value) =
            (if raw.trim().is_empty() { Ok(Value::Null) } else { serde_json::from_str::<Value>(&raw) })
        else {
            let said = format!("Control API returned invalid JSON for {path}");
            return Err(if (200..300).contains(&status) {
                Error::new(Status::Malformed, said)
            } else {
                refused(said)
            });
        };
        let failed = value.get("ok") == Some(&Value::Bool(false));
        let words = |key: &str| value.get(key).and_then(Value::as_str);
        let envelope = words("error")
            .zip(words("message"))
            .filter(|_| failed)
            .map(|(error, message)| self.clean(&format!("{error}: {message}")));
        match envelope {
            Some(said) if (200..300).contains(&status) => {
                Err(Error::new(Status::Unavailable, format!("Control API {path}: {said}")))
            }
            Some(said) => Err(refused(said)),
            None if !(200..300).contains(&status) => Err(refused(self.clean(&raw))),
            None => match value {
                Value::Object(mut all)
                    if all.get("ok") == Some(&Value::Bool(true)) && all.contains_key("data") =>
                {
                    Ok(all.remove("data").unwrap_or(Value::Null))
                }
                value => Ok(value),
            },
        }
    }

    /// The body of a request about a lease: the seed's words, then ours.
    fn body(&self, claim: &Claim, term: Option<u64>) -> Value {
        let mut body = json!({
            "controller_id": claim.holder, "host": claim.host, "ttl_sec": claim.ttl.as_secs().max(1),
            "preferred": claim.preferred, "now": unix_now(),
        });
        let mut say = |name: &str, value: Value| body[name] = value;
        claim.metadata.as_ref().into_iter().for_each(|metadata| say("metadata_json", json!(metadata)));
        if claim.lease != GLOBAL {
            say("lease_name", json!(claim.lease));
        }
        if !claim.instance.is_empty() {
            say("instance", json!(claim.instance));
        }
        if !claim.wait.is_zero() {
            say("wait_ms", json!(crate::words::span::millis(claim.wait)));
        }
        term.into_iter().for_each(|term| say("term", json!(term)));
        if claim.proof.breaks {
            say("break", json!(true));
        }
        if let Some(secret) = &claim.proof.secret {
            say("secret", json!(secret.reveal()));
            *self.shown.borrow_mut() = Some(secret.clone());
        }
        body
    }

    fn claim(&self, claim: &Claim, under: Option<u64>) -> Result<ClaimAnswer> {
        let asked = Instant::now();
        let said = self.post(ACQUIRE, &self.body(claim, under), answer_limit(claim.ttl) + claim.wait)?;
        let malformed = |why: String| Error::new(Status::Malformed, format!("Control API {ACQUIRE} {why}"));
        if !said.is_object() {
            return Err(malformed("returned a non-object payload".to_owned()));
        }
        let record = match self.record(&said, claim.ttl)? {
            Some(record) => record,
            // baa-control says so of a lease that is nobody's any more.
            None if said["is_leader"] == false && said.get("holder_id") == Some(&Value::Null) => {
                Record { term: said["term"].as_u64().unwrap_or(0), far: true, ..Record::default() }
            }
            None => return Err(malformed("response is missing lease identity fields".to_owned())),
        };
        let highest = self.highest.borrow().get(&claim.lease).copied().unwrap_or(0);
        if record.term < highest {
            return Err(malformed(format!("went back from term {highest} to {}: refused", record.term)));
        }
        self.highest.borrow_mut().insert(claim.lease.clone(), record.term);
        let lease = first(&said["lease"], ["leaseName", "lease_name"])
            .and_then(Value::as_str)
            .unwrap_or(&claim.lease);
        if lease != claim.lease {
            return Err(malformed(format!(
                "answers for the lease {} instead of {}",
                self.clean(lease),
                claim.lease
            )));
        }
        let holder = record.holder.clone().unwrap_or_default();
        let leads = first(&said, ["isLeader", "is_leader"])
            .and_then(Value::as_bool)
            .unwrap_or(holder == claim.holder);
        if leads && holder != claim.holder {
            return Err(malformed(format!("says that {} leads and that we do", self.clean(&holder))));
        }
        if !leads && !claim.wait.is_zero() {
            self.waits.set(Some(asked.elapsed() >= claim.wait / 2));
        }
        if leads {
            return Ok(ClaimAnswer::Ours {
                renewed: said.get("operation").and_then(Value::as_str) == Some("renew"),
                record,
            });
        }
        Ok(ClaimAnswer::Held(record))
    }

    /// The lease that an answer tells of. The server's clock tells us nothing: how long it lasts is known
    /// where it says `left_ms`.
    fn record(&self, said: &Value, ttl: Duration) -> Result<Option<Record>> {
        let holder = first(said, ["holderId", "holder_id"])
            .and_then(Value::as_str)
            .filter(|holder| !holder.trim().is_empty());
        let term = said.get("term").and_then(Value::as_u64);
        let ends = first(said, ["leaseExpiresAt", "lease_expires_at"]).and_then(Value::as_f64);
        let (Some(holder), Some(term), Some(_)) = (holder, term, ends) else { return Ok(None) };
        let host = first(said, ["holderHost", "holder_host"]).and_then(Value::as_str).unwrap_or("unknown");
        let lease = said.get("lease").filter(|lease| lease.is_object()).unwrap_or(said);
        let preferred = first(lease, ["preferredHolderId", "preferred_holder_id"]).and_then(Value::as_str);
        let metadata = first(lease, ["metadataJson", "metadata_json"]).and_then(Value::as_str);
        let left = said.get("left_ms").and_then(Value::as_u64).map_or(ttl, Duration::from_millis);
        let left = crate::words::span::bounded(left);
        Ok(Some(Record {
            holder: Some(self.clean(holder)),
            host: self.clean(host),
            instance: String::new(),
            term,
            ttl,
            expires: BootMoment::here()?.after(left),
            preferred: preferred.map(|preferred| self.clean(preferred)),
            metadata: metadata.map(|metadata| self.clean(metadata)),
            far: true,
            // Whose it is the server does not say.
            guard: Guard { peer: None, secret: (lease["guarded"] == true).then(String::new) },
        }))
    }
}

fn first<'a>(value: &'a Value, names: [&str; 2]) -> Option<&'a Value> {
    names.iter().find_map(|name| value.get(*name))
}

impl Store for ControlApi {
    fn tells_instances(&self) -> bool {
        false
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn pace(&self) -> Duration {
        // A server that waits for us, or may, is asked again at once.
        if self.waits.get() == Some(false) { Duration::from_secs(1) } else { Duration::ZERO }
    }

    fn acquire(&self, claim: &Claim) -> Result<ClaimAnswer> {
        self.claim(claim, None)
    }

    fn renew(&self, claim: &Claim, term: u64) -> Result<ClaimAnswer> {
        match self.claim(&Claim { wait: Duration::ZERO, ..claim.clone() }, Some(term))? {
            ClaimAnswer::Ours { record, .. } if record.term != term => Ok(ClaimAnswer::Held(record)),
            answer => Ok(answer),
        }
    }

    fn release(&self, claim: &Claim, term: u64) -> Result<bool> {
        // Not among the conductor's own endpoints; where a server has none the lease runs out by itself.
        let said = self.post(RELEASE, &self.body(claim, Some(term)), answer_limit(claim.ttl))?;
        Ok(said.get("released").and_then(Value::as_bool).unwrap_or(true))
    }

    fn read(&self, lease: &str) -> Result<Option<Record>> {
        let path = if lease == GLOBAL { LEADER.to_owned() } else { format!("{LEADER}?lease_name={lease}") };
        let said = self.ask("GET", &path, Vec::new(), PATIENCE)?;
        if let Some(record) = self.record(&said, Duration::ZERO)? {
            return Ok(Some(record));
        }
        let term = said.get("term").and_then(Value::as_u64);
        let term = term.ok_or_else(|| {
            Error::new(Status::Malformed, format!("Control API {LEADER} response is missing the term"))
        })?;
        Ok((term > 0).then(|| Record { term, far: true, ..Record::default() }))
    }

    fn beat(&self, beat: &Beat) -> Result<()> {
        let Controller { id, host, role, priority, status, version, heartbeat_at, started_at } =
            &beat.controller;
        let mut body = json!({
            "controller_id": id, "host": host, "role": role, "priority": priority, "status": status,
            "heartbeat_at": heartbeat_at, "started_at": started_at,
        });
        version.iter().for_each(|version| body["version"] = json!(version));
        self.post(HEARTBEAT, &body, PATIENCE).map(drop)
    }
}
