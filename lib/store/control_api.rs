//! A store behind the control API of the conductor: `POST /v1/leader/acquire`, envelope or bare object, in its own words (seed 002).
//!
//! A holder is its name to such a server, whoever bears it. So that two processes of one name do not both lead, one that must be told apart
//! calls itself `NAME+INSTANCE`. What takes and what renews is one request there: a grant under another term than ours means that ours has run out in between.

use crate::store::{Answer, Claim, Moment, Record, Store};
use crate::sys::http::{self, Request, Trust, Url};
use crate::words::error::{Error, Result, brief};
use crate::words::exit::Status;
use crate::words::failure::Failure;
use serde_json::{Value, json};
use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

const ACQUIRE: &str = "/v1/leader/acquire";
const RELEASE: &str = "/v1/leader/release";
/// The longest that one answer is waited for; less for a short lease.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A control API.
pub struct ControlApi {
    base: String,
    token: Option<String>,
    /// Set up at the first request, for all that follow.
    trust: Trust,
    /// The highest term that the server has told: it never goes back.
    highest: Cell<u64>,
}

impl ControlApi {
    /// The one at `base`, http or https; `token` is sent as a bearer.
    ///
    /// # Errors
    /// 2 for what is no such URL, or no token that can be sent.
    pub fn new(base: &str, token: Option<String>) -> Result<ControlApi> {
        let usage = |why: String| Error::new(Status::Usage, why);
        let base = base.trim().trim_end_matches('/').to_owned();
        Url::parse(&base).map_err(usage)?;
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        if let Some(token) = &token {
            http::header(&format!("Authorization: Bearer {token}")).map_err(|_| usage("the shared token holds a control character".to_owned()))?;
        }
        Ok(ControlApi { base, token, trust: Trust::default(), highest: Cell::new(0) })
    }

    /// Whether a token is there, and is not the one of the examples.
    pub fn warnings(&self) -> Option<&'static str> {
        match self.token.as_deref() {
            None => Some("BAA_SHARED_TOKEN is not configured; authenticated Control API requests may fail."),
            Some("replace-me") => Some("BAA_SHARED_TOKEN is still set to replace-me; replace it before production rollout."),
            Some(_) => None,
        }
    }

    /// Foreign words without the token, which a server may send back.
    fn clean(&self, text: &str) -> String {
        let text = self.token.as_ref().map_or(text.to_owned(), |token| text.replace(token.as_str(), "***"));
        brief(&text)
    }

    fn post(&self, path: &str, body: &Value, ttl: Duration) -> Result<Value> {
        let url = Url::parse(&format!("{}{path}", self.base)).map_err(|why| Error::new(Status::Usage, why))?;
        let mut headers = vec![("Accept".to_owned(), "application/json".to_owned()), ("Content-Type".to_owned(), "application/json".to_owned())];
        headers.extend(self.token.as_ref().map(|token| ("Authorization".to_owned(), format!("Bearer {token}"))));
        let body = body.to_string().into_bytes();
        let request = Request { url, method: "POST".to_owned(), headers, body, redirects: false, want_body: true, trust: self.trust.clone() };
        let unreachable = |failure: Failure| Error::new(Status::Unavailable, format!("Control API {path}: {}", self.clean(&failure.text)));
        let answer = http::ask(&request, Instant::now() + ANSWER_LIMIT.min(ttl / 4), &Ok).map_err(unreachable)?;
        let status = answer.status;
        let refused = |detail: String| {
            let status_word = match status {
                401 | 403 => Status::NotPermitted,
                400..=499 => Status::BadConfig,
                _ => Status::Unavailable,
            };
            Error::new(status_word, format!("Control API {status} {path}: {detail}"))
        };
        let raw = String::from_utf8_lossy(&answer.body);
        let Ok(value) = (if raw.trim().is_empty() { Ok(Value::Null) } else { serde_json::from_str::<Value>(&raw) }) else {
            let said = format!("Control API returned invalid JSON for {path}");
            return Err(if (200..300).contains(&status) { Error::new(Status::Malformed, said) } else { refused(said) });
        };
        let failed = value.get("ok") == Some(&Value::Bool(false));
        let words = |key: &str| value.get(key).and_then(Value::as_str);
        let envelope = words("error").zip(words("message")).filter(|_| failed).map(|(error, message)| self.clean(&format!("{error}: {message}")));
        match envelope {
            Some(said) if (200..300).contains(&status) => Err(Error::new(Status::Unavailable, format!("Control API {path}: {said}"))),
            Some(said) => Err(refused(said)),
            None if !(200..300).contains(&status) => Err(refused(self.clean(&raw))),
            None => match value {
                Value::Object(mut all) if all.get("ok") == Some(&Value::Bool(true)) && all.contains_key("data") => {
                    Ok(all.remove("data").unwrap_or(Value::Null))
                }
                value => Ok(value),
            },
        }
    }

    fn claim(&self, claim: &Claim) -> Result<Answer> {
        let own = id(claim);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let body = json!({ "controller_id": own, "host": claim.host, "ttl_sec": claim.ttl.as_secs(), "preferred": false, "now": now });
        let said = self.post(ACQUIRE, &body, claim.ttl)?;
        let malformed = |why: String| Error::new(Status::Malformed, format!("Control API {ACQUIRE} {why}"));
        if !said.is_object() {
            return Err(malformed("returned a non-object payload".to_owned()));
        }
        let first = |names: [&str; 2]| names.iter().find_map(|name| said.get(*name));
        let holder = first(["holderId", "holder_id"]).and_then(Value::as_str).filter(|holder| !holder.trim().is_empty());
        let term = said.get("term").and_then(Value::as_u64);
        let ends = first(["leaseExpiresAt", "lease_expires_at"]).and_then(Value::as_f64);
        let (Some(holder), Some(term), Some(_)) = (holder, term, ends) else {
            return Err(malformed("response is missing lease identity fields".to_owned()));
        };
        if term < self.highest.get() {
            return Err(malformed(format!("went back from term {} to {term}: refused", self.highest.get())));
        }
        self.highest.set(term);
        let leads = first(["isLeader", "is_leader"]).and_then(Value::as_bool).unwrap_or(holder == own);
        if leads != (holder == own) {
            return Err(malformed(format!("says that {} leads and that {} does", self.clean(holder), if leads { "we do" } else { "nobody of us" })));
        }
        if leads {
            return Ok(Answer::Ours { term, renewed: said.get("operation").and_then(Value::as_str) == Some("renew") });
        }
        let host = first(["holderHost", "holder_host"]).and_then(Value::as_str).unwrap_or("unknown");
        // When it ends is the server's to know: a clock elsewhere tells us nothing.
        let expires = Moment { boot: String::new(), since: Duration::ZERO };
        Ok(Answer::Held(Record { holder: Some(self.clean(holder)), host: self.clean(host), instance: String::new(), term, ttl: claim.ttl, expires }))
    }
}

/// What the claimant calls itself.
fn id(claim: &Claim) -> String {
    if claim.instance.is_empty() { claim.holder.clone() } else { format!("{}+{}", claim.holder, claim.instance) }
}

impl Store for ControlApi {
    fn pace(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn acquire(&self, claim: &Claim) -> Result<Answer> {
        self.claim(claim)
    }

    fn renew(&self, claim: &Claim, term: u64) -> Result<Answer> {
        let answer = self.claim(claim)?;
        match answer {
            Answer::Ours { term: now, .. } if now != term => {
                let expires = Moment { boot: String::new(), since: Duration::ZERO };
                let (holder, host) = (Some(claim.holder.clone()), claim.host.clone());
                Ok(Answer::Held(Record { holder, host, instance: String::new(), term: now, ttl: claim.ttl, expires }))
            }
            answer => Ok(answer),
        }
    }

    fn release(&self, claim: &Claim, term: u64) -> Result<bool> {
        // Not among the conductor's own endpoints; where a server has none the lease runs out by itself.
        let body = json!({ "controller_id": id(claim), "host": claim.host, "term": term });
        let said = self.post(RELEASE, &body, claim.ttl)?;
        Ok(said.get("released").and_then(Value::as_bool).unwrap_or(true))
    }

    fn read(&self, _lease: &str) -> Result<Option<(Record, Duration)>> {
        Err(Error::new(Status::Unavailable, "the control API cannot be asked who leads; acquire tells"))
    }
}
