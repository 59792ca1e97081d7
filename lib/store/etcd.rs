//! A store in etcd, through its v3 JSON gateway: for more than one machine. Time is etcd's: a key lives as
//! long as the lease it is tied to.
//!
//! Under `PREFIX/leases/NAME/` stand `holder`, tied to an etcd lease, and `term`, which stays. Both change in
//! one transaction, and only where they are as they were read. An etcd lease lasts at least as long as it was
//! asked for, longer after an election (facts, job 4), so that a holder who counts from before its request
//! ends before the key does. Several hosts are asked in turn, beginning with the last one that answered.

mod pairs;

use crate::store::controller::{Beat, HeardController, another_sends};
use crate::store::quota::MadeName;
use crate::store::{
    BootMoment, Claim, ClaimAnswer, ControlStore, LeaseChange, Record, Store, answer_limit, granted, guarded,
    next_term, unix_now, used_up,
};
use crate::sys::http::{self, Request, Trust, Url};
use crate::sys::secret::SecretText;
use crate::words::error::{Error, Result, brief};
use crate::words::exit::Status;
use crate::words::span;
use pairs::{HeldKey, controller_of, decode, decoded, encode, held, text, value_of, value_of_beat};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Keys of a listing that are asked for at once: an answer of `http::BODY_LIMIT` holds them.
const PAGE: usize = 500;
/// How many changes of hands of a lease are kept.
const CHANGES: u64 = 100;
/// How often a claim looks again when others change what it has seen.
const TRIES: usize = 8;
/// How long a question that is no claim may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// gRPC's code for a token that is no longer good (google.rpc.Code).
const UNAUTHENTICATED: u64 = 16;

/// An etcd.
pub struct Etcd {
    hosts: Vec<String>,
    prefix: String,
    login: Option<(String, SecretText)>,
    trust: Trust,
    /// The host that has answered last.
    good: AtomicUsize,
    token: Mutex<Option<SecretText>>,
}

/// What is there of a lease.
struct Seen {
    holder: Option<HeldKey>,
    term: u64,
    host: String,
    /// As whom who has made it is counted.
    maker: Option<String>,
    term_revision: String,
}

impl Etcd {
    /// The one at `etcd://[USER@]HOST[:PORT][,HOST…]/PREFIX`, or `etcds://` for TLS; `password` is the
    /// user's.
    ///
    /// # Errors
    /// 2 for what is no such URL.
    pub fn new(url: &str, password: Option<SecretText>, trust: Trust) -> Result<Etcd> {
        let usage = |why: String| Error::new(Status::Usage, why);
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
        if user.is_some_and(|user| user.contains(':')) {
            return Err(usage(
                "a password does not belong in a URL; use BAA_ETCD_PASSWORD or --etcd-password-file"
                    .to_owned(),
            ));
        }
        let scheme = if scheme == "etcds" { "https" } else { "http" };
        let hosts: Vec<String> = hosts
            .split(',')
            .map(|host| {
                let (name, port) = http::host_and_port(host)?;
                let name = if name.contains(':') { format!("[{name}]") } else { name };
                let base = format!("{scheme}://{name}:{}", port.unwrap_or(2379));
                Url::parse(&base).map(|_| base)
            })
            .collect::<std::result::Result<_, _>>()
            .map_err(|why| usage(format!("'{}' is no store: {why}", brief(url))))?;
        let login = match (user, password) {
            (Some(user), Some(password)) => Some((user.to_owned(), password.trimmed().unwrap_or_default())),
            (Some(_), None) => {
                return Err(usage(
                    "a user of etcd needs a password: BAA_ETCD_PASSWORD or --etcd-password-file".to_owned(),
                ));
            }
            (None, _) => None,
        };
        let prefix = if prefix.trim_matches('/').is_empty() {
            "baa".to_owned()
        } else {
            prefix.trim_matches('/').to_owned()
        };
        Ok(Etcd { hosts, prefix, login, trust, good: AtomicUsize::new(0), token: Mutex::new(None) })
    }

    fn request(&self, host: &str, path: &str, body: &Value, token: Option<&SecretText>) -> Result<Request> {
        let url = Url::parse(&format!("{host}/v3/{path}")).map_err(|why| Error::new(Status::Usage, why))?;
        let mut headers = vec![
            ("Accept".to_owned(), "application/json".to_owned()),
            ("Content-Type".to_owned(), "application/json".to_owned()),
        ];
        headers.extend(token.map(|token| ("Authorization".to_owned(), token.reveal().to_owned())));
        let body = body.to_string().into_bytes();
        Ok(Request {
            url,
            method: "POST".to_owned(),
            headers,
            body,
            redirects: false,
            known_peer: None,
            want_body: true,
            trust: self.trust.clone(),
        })
    }

    /// Asks one host after the other, each for its share of the time that is left. A host that is cut off
    /// takes no more than that.
    fn ask(&self, path: &str, body: &Value, token: Option<&SecretText>, deadline: Instant) -> Result<Value> {
        let first = self.good.load(Ordering::Relaxed);
        let mut last = Error::new(Status::Unavailable, "etcd: no time left");
        for turn in 0..self.hosts.len() {
            let number = (first + turn) % self.hosts.len();
            let host = &self.hosts[number];
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(self.hosts.len() - turn).unwrap_or(1);
            let request = self.request(host, path, body, token)?;
            match http::ask_now(&request, Instant::now() + share, &Ok) {
                Ok(answer) => {
                    let value: Option<Value> = serde_json::from_slice(&answer.body).ok();
                    match (answer.status, value) {
                        (200, Some(value)) => {
                            self.good.store(number, Ordering::Relaxed);
                            return Ok(value);
                        }
                        (200, None) => {
                            return Err(Error::new(
                                Status::Malformed,
                                format!("etcd {host} returned invalid JSON for /v3/{path}"),
                            ));
                        }
                        // No leader, or none that it can reach: another host may know one.
                        (status @ (408 | 500..), value) => {
                            last = refused(host, path, status, value.as_ref(), Status::Unavailable)
                        }
                        (status @ (401 | 403), value) => {
                            return Err(refused(host, path, status, value.as_ref(), Status::NotPermitted));
                        }
                        (status, value) => {
                            return Err(refused(host, path, status, value.as_ref(), Status::BadConfig));
                        }
                    }
                }
                Err(failure) => {
                    last = Error::new(Status::Unavailable, format!("etcd {host}: {}", brief(&failure.text)))
                }
            }
        }
        Err(last)
    }

    fn post(&self, path: &str, body: &Value, deadline: Instant) -> Result<Value> {
        let Some((user, password)) = &self.login else {
            let said = self.ask(path, body, None, deadline);
            return said.map_err(|error| {
                if error.to_string().contains("user name is empty") {
                    Error::new(Status::NotPermitted, error.to_string())
                } else {
                    error
                }
            });
        };
        let mut token = self.token.lock().map_err(|_| Error::bug("a thread has panicked"))?.clone();
        for _ in 0..2 {
            if token.is_none() {
                let said = self.ask(
                    "auth/authenticate",
                    &json!({ "name": user, "password": password.reveal() }),
                    None,
                    deadline,
                );
                // A wrong password is an invalid argument to etcd.
                let said = said.map_err(|error| {
                    if error.status == Status::BadConfig {
                        Error::new(Status::NotPermitted, error.to_string())
                    } else {
                        error
                    }
                })?;
                token = said["token"].as_str().map(|token| SecretText::new(token.to_owned()));
                self.token.lock().map_err(|_| Error::bug("a thread has panicked"))?.clone_from(&token);
            }
            match self.ask(path, body, token.as_ref(), deadline) {
                // A token lasts five minutes (etcd's --auth-token-ttl); after that another is asked for,
                // once.
                Err(error)
                    if error.status == Status::NotPermitted
                        && error.to_string().contains(&format!("code {UNAUTHENTICATED}")) =>
                {
                    token = None
                }
                answer => return answer,
            }
        }
        Err(Error::new(Status::NotPermitted, "etcd takes none of its own tokens"))
    }

    fn key(&self, rest: &str) -> String {
        format!("{}/{rest}", self.prefix)
    }

    fn look(&self, lease: &str, deadline: Instant) -> Result<Seen> {
        let range = |name: &str| {
            let key = encode(&self.key(&format!("leases/{lease}/{name}")));
            json!({ "requestRange": { "key": key } })
        };
        let said = self.post("kv/txn", &json!({ "success": [range("holder"), range("term")] }), deadline)?;
        let first = |number: usize| said["responses"][number]["response_range"]["kvs"][0].clone();
        let (holder, term) = (first(0), first(1));
        let kept = decode(&term["value"]);
        let held = if holder.is_null() { None } else { Some(held(&holder)?) };
        Ok(Seen {
            holder: held,
            term: kept["term"].as_u64().unwrap_or(0),
            host: kept["host"].as_str().unwrap_or_default().to_owned(),
            maker: kept["maker"].as_str().map(str::to_owned),
            term_revision: text(&term["mod_revision"]),
        })
    }

    fn keep_alive(&self, lease: &str, deadline: Instant) -> Result<bool> {
        let said = self.post("lease/keepalive", &json!({ "ID": lease }), deadline)?;
        Ok(text(&said["result"]["TTL"]).parse::<i64>().unwrap_or(0) > 0)
    }

    fn grant(&self, ttl: Duration, deadline: Instant) -> Result<String> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let said = self.post("lease/grant", &json!({ "TTL": seconds }), deadline)?;
        let id = text(&said["ID"]);
        if id == "0" {
            Err(Error::new(Status::Malformed, "etcd gave a lease without a number"))
        } else {
            Ok(id)
        }
    }

    /// Gives up an etcd lease; what fails of it ends by itself.
    fn revoke(&self, lease: &str, deadline: Instant) {
        let _ = self.post("lease/revoke", &json!({ "ID": lease }), deadline);
    }

    /// How much longer an etcd lease lasts at most: it is told in whole seconds, rounded down, and -1 is an
    /// end.
    fn left(&self, lease: &str, deadline: Instant) -> Result<Duration> {
        let said = self.post("lease/timetolive", &json!({ "ID": lease }), deadline)?;
        Ok(text(&said["TTL"])
            .parse::<u64>()
            .map_or(Duration::ZERO, |seconds| span::bounded(Duration::from_secs(seconds.saturating_add(1)))))
    }

    /// What another has, with its end as seen from here.
    fn others(&self, held: HeldKey, deadline: Instant) -> Result<Record> {
        let left = self.left(&held.lease, deadline)?;
        Ok(Record { expires: BootMoment::here()?.after(left), ..held.record })
    }

    /// Writes `puts` where the holder's and the term's keys still have these revisions; whether they had.
    fn swap(&self, lease: &str, holder: &str, term: &str, puts: &[Value], deadline: Instant) -> Result<bool> {
        let compare = |name: &str, revision: &str| {
            json!({
                "key": encode(&self.key(&format!("leases/{lease}/{name}"))), "target": "MOD",
                "result": "EQUAL", "mod_revision": revision
            })
        };
        let said = self.post(
            "kv/txn",
            &json!({ "compare": [compare("holder", holder), compare("term", term)], "success": puts }),
            deadline,
        )?;
        Ok(said["succeeded"] == true)
    }

    fn put(&self, key: &str, value: &Value, lease: &str) -> Value {
        let (key, value) = (encode(&self.key(key)), encode(&value.to_string()));
        json!({ "requestPut": { "key": key, "value": value, "lease": lease } })
    }

    fn put_change(&self, claim: &Claim, term: u64, holder: Option<&str>) -> Vec<Value> {
        let key = |term: u64| format!("changes/{}/{term:020}", claim.lease);
        let value = json!({
            "lease": claim.lease, "term": term, "holder": holder, "host": claim.host, "at": unix_now()
        });
        let mut puts = vec![self.put(
            &format!("{}{}", key(term), if holder.is_some() { "a" } else { "r" }),
            &value,
            "0",
        )];
        if let Some(old) = term.checked_sub(CHANGES) {
            let (from, to) = (encode(&self.key(&key(0))), encode(&self.key(&key(old))));
            puts.push(json!({ "requestDeleteRange": { "key": from, "range_end": to } }));
        }
        puts
    }

    /// Goes on with what is the claimant's; `None` where it has ended meanwhile.
    fn go_on(&self, claim: &Claim, seen: &Seen, held: &HeldKey, deadline: Instant) -> Result<Option<Record>> {
        let record = Record {
            far: true,
            ..granted(Some(&held.record), claim, held.record.term, &BootMoment::here()?)
        };
        let as_it_was = Record { expires: held.record.expires.clone(), ..record.clone() };
        if as_it_was == held.record {
            return Ok(self.keep_alive(&held.lease, deadline)?.then_some(record));
        }
        // Another time to live, or other words: under an etcd lease of its own.
        let lease = self.grant(claim.ttl, deadline)?;
        let put = self.put(&format!("leases/{}/holder", claim.lease), &value_of(&record), &lease);
        let swapped = self.swap(&claim.lease, &held.revision, &seen.term_revision, &[put], deadline)?;
        self.revoke(if swapped { &held.lease } else { &lease }, deadline);
        Ok(swapped.then_some(record))
    }

    /// The pair of a controller, or null.
    fn controller(&self, id: &str, deadline: Instant) -> Result<Value> {
        let key = encode(&self.key(&format!("controllers/{id}")));
        Ok(self.post("kv/range", &json!({ "key": key }), deadline)?["kvs"][0].clone())
    }

    fn lease_names(&self) -> Result<Vec<MadeName>> {
        let mut names = Vec::new();
        let prefix = self.key("leases/");
        self.list("leases", &mut |pair| {
            let key = String::from_utf8_lossy(&decoded(&pair["key"])).into_owned();
            let name = key.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix("/term"));
            let maker = decode(&pair["value"])["maker"].as_str().map(str::to_owned);
            names.extend(name.map(|name| (name.to_owned(), maker)));
            Ok(())
        })?;
        Ok(names)
    }

    fn list(&self, directory: &str, each: &mut dyn FnMut(&Value) -> Result<()>) -> Result<()> {
        let (mut from, to) = (self.key(&format!("{directory}/")), self.key(&format!("{directory}0")));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.post(
                "kv/range",
                &json!({ "key": encode(&from), "range_end": encode(&to), "limit": PAGE }),
                deadline,
            )?;
            let found = said["kvs"].as_array().map(Vec::as_slice).unwrap_or_default();
            found.iter().try_for_each(&mut *each)?;
            match found.last().filter(|_| said["more"] == true) {
                Some(last) => {
                    let next = format!("{}\0", String::from_utf8_lossy(&decoded(&last["key"])));
                    // What leads nowhere would be asked for again and again.
                    if next <= from {
                        return Err(Error::new(Status::Malformed, "etcd lists the same keys again"));
                    }
                    from = next;
                }
                None => return Ok(()),
            }
        }
    }
}

fn refused(host: &str, path: &str, status: u16, value: Option<&Value>, word: Status) -> Error {
    let said = value
        .and_then(|value| value["message"].as_str().or(value["error"].as_str()))
        .unwrap_or("no reason given");
    let code = value.and_then(|value| value["code"].as_u64()).unwrap_or(0);
    Error::new(word, format!("etcd {host} /v3/{path}: {status}, code {code}: {}", brief(said)))
}

fn changes_too_fast() -> Error {
    Error::new(Status::Unavailable, "etcd changes faster than it can be read")
}

fn nobody(seen: &Seen) -> Record {
    Record { term: seen.term, host: seen.host.clone(), far: true, ..Record::default() }
}

impl Store for Etcd {
    fn pace(&self) -> Duration {
        Duration::from_millis(50)
    }

    fn acquire(&self, claim: &Claim) -> Result<ClaimAnswer> {
        let deadline = Instant::now() + answer_limit(claim.ttl);
        for _ in 0..TRIES {
            let seen = self.look(&claim.lease, deadline)?;
            match &seen.holder {
                Some(held) if held.record.is_of(claim) => {
                    if let Some(record) = self.go_on(claim, &seen, held, deadline)? {
                        return Ok(ClaimAnswer::Ours { record, renewed: true });
                    }
                }
                Some(_) => {
                    let Seen { holder: Some(held), .. } = seen else { continue };
                    return Ok(ClaimAnswer::Held(self.others(held, deadline)?));
                }
                None => {
                    let term = next_term(seen.term).ok_or_else(|| used_up(&claim.lease))?;
                    let new = claim.quota.as_ref().filter(|_| seen.term == 0);
                    let maker = new.map_or(&seen.maker, |quota| &quota.maker);
                    let record = granted(None, claim, term, &BootMoment::here()?);
                    let lease = self.grant(claim.ttl, deadline)?;
                    let mut puts = vec![
                        self.put(&format!("leases/{}/holder", claim.lease), &value_of(&record), &lease),
                        self.put(
                            &format!("leases/{}/term", claim.lease),
                            &json!({ "term": term, "host": claim.host, "maker": maker }),
                            "0",
                        ),
                    ];
                    puts.extend(self.put_change(claim, term, Some(&claim.holder)));
                    if self.swap(&claim.lease, "0", &seen.term_revision, &puts, deadline)? {
                        return Ok(ClaimAnswer::Ours { record, renewed: false });
                    }
                    self.revoke(&lease, deadline);
                }
            }
        }
        Err(changes_too_fast())
    }

    fn renew(&self, claim: &Claim, term: u64) -> Result<ClaimAnswer> {
        let deadline = Instant::now() + answer_limit(claim.ttl);
        let mut seen = self.look(&claim.lease, deadline)?;
        if let Some(held) = seen.holder.take_if(|held| held.record.is_of(claim) && held.record.term == term)
            && let Some(record) = self.go_on(claim, &seen, &held, deadline)?
        {
            return Ok(ClaimAnswer::Ours { record, renewed: true });
        }
        match seen.holder.take() {
            Some(held) => Ok(ClaimAnswer::Held(self.others(held, deadline)?)),
            None if seen.term == 0 => {
                Err(Error::new(Status::Lost, "the store does not know the lease any more"))
            }
            None => Ok(ClaimAnswer::Held(nobody(&seen))),
        }
    }

    fn release(&self, claim: &Claim, term: u64) -> Result<bool> {
        let deadline = Instant::now() + answer_limit(claim.ttl);
        let seen = self.look(&claim.lease, deadline)?;
        let Some(held) =
            seen.holder.as_ref().filter(|held| held.record.is_given_up_by(claim) && held.record.term == term)
        else {
            let kept = seen.holder.as_ref().is_some_and(|held| held.record.keeps_out(claim, term));
            return if kept { Err(guarded(&claim.lease)) } else { Ok(false) };
        };
        let key = encode(&self.key(&format!("leases/{}/holder", claim.lease)));
        let mut puts = vec![json!({ "requestDeleteRange": { "key": key } })];
        puts.extend(self.put_change(claim, term, None));
        let swapped = self.swap(&claim.lease, &held.revision, &seen.term_revision, &puts, deadline)?;
        self.revoke(&held.lease, deadline);
        Ok(swapped)
    }

    fn read(&self, lease: &str) -> Result<Option<Record>> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.look(lease, deadline)?;
        match seen.holder.take() {
            Some(held) => Ok(Some(self.others(held, deadline)?)),
            None => Ok((seen.term > 0).then(|| nobody(&seen))),
        }
    }

    fn beat(&self, beat: &Beat) -> Result<()> {
        let id = &beat.controller.id;
        let key = self.key(&format!("controllers/{id}"));
        let deadline = Instant::now() + PATIENCE;
        for _ in 0..TRIES {
            let found = self.controller(id, deadline)?;
            let (last, maker) = controller_of(&found, unix_now());
            if !found.is_null() && !beat.follows(last.guard.peer.as_deref(), last.ago) {
                return Err(another_sends(id));
            }
            let new = beat.quota.as_ref().filter(|_| found.is_null());
            let maker = new.map_or(maker, |quota| quota.maker.clone());
            let value = value_of_beat(beat, maker.as_deref());
            let compare = json!({
                "key": encode(&key), "target": "MOD", "result": "EQUAL",
                "mod_revision": text(&found["mod_revision"])
            });
            let put = json!({
                "requestPut": { "key": encode(&key), "value": encode(&value.to_string()) }
            });
            let swap = json!({ "compare": [compare], "success": [put] });
            if self.post("kv/txn", &swap, deadline)?["succeeded"] == true {
                return Ok(());
            }
        }
        Err(changes_too_fast())
    }
}

impl ControlStore for Etcd {
    fn names(&self) -> Result<Option<[Vec<MadeName>; 2]>> {
        let mut controllers = Vec::new();
        self.list("controllers", &mut |pair| {
            let (heard, maker) = controller_of(pair, 0);
            controllers.push((heard.controller.id, maker));
            Ok(())
        })?;
        Ok(Some([self.lease_names()?, controllers]))
    }

    fn has_controller(&self, id: &str) -> Result<bool> {
        Ok(!self.controller(id, Instant::now() + PATIENCE)?.is_null())
    }

    fn probe(&self) -> Result<()> {
        let body = json!({ "key": encode(&self.key("probe")), "value": encode("") });
        self.post("kv/put", &body, Instant::now() + PATIENCE).map(drop)
    }

    fn leases(&self) -> Result<Vec<(String, Record)>> {
        self.lease_names()?
            .into_iter()
            .map(|(name, _)| Ok(self.read(&name)?.map(|record| (name, record))))
            .filter_map(Result::transpose)
            .collect()
    }

    fn controllers(&self) -> Result<Vec<HeardController>> {
        let (mut found, now) = (Vec::new(), unix_now());
        self.list("controllers", &mut |pair| {
            found.push(controller_of(pair, now).0);
            Ok(())
        })?;
        Ok(found)
    }

    fn changes(&self, count: usize) -> Result<Vec<LeaseChange>> {
        let (from, to) = (self.key("changes/"), self.key("changes0"));
        let body = json!({
            "key": encode(&from), "range_end": encode(&to), "limit": count, "sort_order": "DESCEND",
            "sort_target": "MOD"
        });
        let said = self.post("kv/range", &body, Instant::now() + PATIENCE)?;
        let all = said["kvs"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(all
            .iter()
            .map(|pair| {
                let value = decode(&pair["value"]);
                let word = |name: &str| value[name].as_str().map(str::to_owned);
                let number = |name: &str| value[name].as_u64().unwrap_or(0);
                let (lease, host) = (word("lease").unwrap_or_default(), word("host").unwrap_or_default());
                LeaseChange { lease, term: number("term"), holder: word("holder"), host, at: number("at") }
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_hosts_and_a_prefix() {
        let etcd = Etcd::new("etcd://a,b:99,[::1]:7/x/y/", None, Trust::default()).unwrap();
        assert_eq!(etcd.hosts, ["http://a:2379", "http://b:99", "http://[::1]:7"]);
        assert_eq!((etcd.prefix.as_str(), etcd.login.is_none()), ("x/y", true));
        let etcd =
            Etcd::new("etcds://root@a", Some(SecretText::new("secret\n".to_owned())), Trust::default())
                .unwrap();
        assert_eq!((etcd.hosts[0].as_str(), etcd.prefix.as_str()), ("https://a:2379", "baa"));
        assert_eq!(etcd.login, Some(("root".to_owned(), SecretText::new("secret".to_owned()))));
        for bad in
            ["etcd://", "etcd://a,,b/x", "etcd://u:p@a/x", "etcd://u@a/x", "etcd://a b/x", "etcd://a:99999/x"]
        {
            assert_eq!(
                Etcd::new(bad, None, Trust::default()).map(|_| ()).unwrap_err().status,
                Status::Usage,
                "{bad}"
            );
        }
    }
}
