//! Keys and values as etcd's JSON gateway has them, and the records of leases and controllers in them.

use crate::store::controller::{Beat, Controller, HeardController};
use crate::store::guard::Guard;
use crate::store::{BootMoment, Record, unix_now};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use crate::words::span;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use std::time::Duration;

/// The key of a holder.
pub(super) struct HeldKey {
    pub(super) record: Record,
    pub(super) lease: String,
    pub(super) revision: String,
}

pub(super) fn encode(key: &str) -> String {
    BASE64.encode(key)
}

pub(super) fn decoded(value: &Value) -> Vec<u8> {
    BASE64.decode(value.as_str().unwrap_or_default()).unwrap_or_default()
}

pub(super) fn decode(value: &Value) -> Value {
    serde_json::from_slice(&decoded(value)).unwrap_or(Value::Null)
}

/// A number of 64 bits is a string in JSON (protobuf's mapping); what is not there is 0.
pub(super) fn text(value: &Value) -> String {
    value
        .as_str()
        .map(str::to_owned)
        .or_else(|| value.as_i64().map(|number| number.to_string()))
        .unwrap_or_else(|| "0".to_owned())
}

pub(super) fn value_of(record: &Record) -> Value {
    let Record { holder, host, instance, term, ttl, preferred, metadata, guard, .. } = record;
    let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    json!({
        "holder": holder, "host": host, "instance": instance, "term": term, "ttl_ms": ttl,
        "preferred": preferred, "metadata": metadata, "peer": guard.peer, "secret": guard.secret
    })
}

pub(super) fn held(pair: &Value) -> Result<HeldKey> {
    let value = decode(&pair["value"]);
    let word = |name: &str| value[name].as_str().map(str::to_owned);
    let (Some(holder), Some(term)) = (word("holder"), value["term"].as_u64()) else {
        return Err(Error::new(Status::Malformed, "etcd holds something else where a lease is kept"));
    };
    let record = Record {
        holder: Some(holder),
        host: word("host").unwrap_or_default(),
        instance: word("instance").unwrap_or_default(),
        term,
        ttl: span::bounded(Duration::from_millis(value["ttl_ms"].as_u64().unwrap_or(0))),
        expires: BootMoment::default(),
        preferred: word("preferred"),
        metadata: word("metadata"),
        far: true,
        guard: Guard { peer: word("peer"), secret: word("secret") },
    };
    Ok(HeldKey { record, lease: text(&pair["lease"]), revision: text(&pair["mod_revision"]) })
}

pub(super) fn value_of_beat(beat: &Beat, maker: Option<&str>) -> Value {
    let Controller { id, host, role, priority, status, version, heartbeat_at, started_at } = &beat.controller;
    json!({
        "id": id, "host": host, "role": role, "priority": priority, "status": status, "version": version,
        "heartbeat_at": heartbeat_at, "started_at": started_at, "heard_at": unix_now(),
        "peer": beat.guard().peer, "maker": maker,
    })
}

/// A controller, and as whom who has made it is counted.
pub(super) fn controller_of(pair: &Value, now: u64) -> (HeardController, Option<String>) {
    let value = decode(&pair["value"]);
    let word = |name: &str| value[name].as_str().map(str::to_owned);
    let number = |name: &str| value[name].as_u64().unwrap_or(0);
    let controller = Controller {
        id: word("id").unwrap_or_default(),
        host: word("host").unwrap_or_default(),
        role: word("role").unwrap_or_default(),
        priority: number("priority"),
        status: word("status").unwrap_or_default(),
        version: word("version"),
        heartbeat_at: number("heartbeat_at"),
        started_at: number("started_at"),
    };
    let ago = Duration::from_secs(now.saturating_sub(number("heard_at")));
    (HeardController { controller, ago, guard: Guard { peer: word("peer"), secret: None } }, word("maker"))
}
