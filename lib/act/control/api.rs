//! The words of the control API: bodies read as the seed's client writes them, answers written as it reads
//! them (seed 002).

use crate::store::guard::{ClaimProof, GrantSecret};
use crate::store::{
    BootMoment, Claim, ClaimAnswer, Controller, HeardController, Record, check_name, unix_now,
};
use crate::words::span;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The longest time to live, whatever is set.
pub const LONGEST: u64 = 86_400;
/// The longest that a claim may wait for the end of another's lease.
const WAIT: Duration = Duration::from_secs(10);
/// The largest metadata kept with a lease.
const METADATA: usize = 4096;
/// The one lease of the conductor.
pub const GLOBAL: &str = "global";

/// A claim, and the term that it is to be renewed or given up under.
#[derive(Debug, PartialEq, Eq)]
pub struct ClaimRequest {
    /// The claim.
    pub claim: Claim,
    /// The term.
    pub term: Option<u64>,
    /// Whether it asks for a secret, which we are to make.
    pub wants_secret: bool,
}

struct Body(Map<String, Value>);

impl Body {
    fn parse(bytes: &[u8]) -> Result<Body, String> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(Body(fields)),
            Ok(_) => Err("the body must be a JSON object".to_owned()),
            Err(cause) => {
                Err(format!("the body is not JSON: {}", crate::words::error::brief(&cause.to_string())))
            }
        }
    }

    /// The first of the names, in snake case and camel case, that is there and not null.
    fn get(&self, snake: &str) -> Option<&Value> {
        let mut camel = String::new();
        for part in snake.split('_') {
            let (first, rest) = part.split_at(part.len().min(1));
            camel.push_str(&if camel.is_empty() { first.to_owned() } else { first.to_ascii_uppercase() });
            camel.push_str(rest);
        }
        [snake, &camel].into_iter().filter_map(|name| self.0.get(name)).find(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<String>, String> {
        let text = |value: &Value| {
            value
                .as_str()
                .map(|text| text.trim().to_owned())
                .ok_or_else(|| format!("{name} must be a string"))
        };
        self.get(name).map(text).transpose().map(|text| text.filter(|text| !text.is_empty()))
    }

    fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        // A client without integers may write 30.0.
        let whole = value.as_u64().or_else(|| {
            value
                .as_f64()
                .filter(|number| number.fract() == 0.0 && *number >= 0.0 && *number < 9e15)
                .map(|number| number as u64)
        });
        whole
            .filter(|number| (least..=most).contains(number))
            .map(Some)
            .ok_or_else(|| format!("{name} must be an integer from {least} to {most}"))
    }

    fn flag(&self, name: &str) -> Result<bool, String> {
        self.get(name)
            .map_or(Ok(false), |value| value.as_bool().ok_or_else(|| format!("{name} must be true or false")))
    }

    /// The secret that is shown, or whether one is asked for.
    fn secret(&self) -> Result<(Option<GrantSecret>, bool), String> {
        let none = || "secret must be true, or 32 to 128 letters, digits, '-' and '_'".to_owned();
        match self.get("secret") {
            None | Some(Value::Bool(false)) => Ok((None, false)),
            Some(Value::Bool(true)) => Ok((None, true)),
            Some(value) => {
                let secret = value.as_str().and_then(|text| GrantSecret::parse(text.trim()));
                Ok((Some(secret.ok_or_else(none)?), false))
            }
        }
    }

    fn name(&self, name: &str, default: Option<&str>) -> Result<String, String> {
        let given = self
            .text(name)?
            .or_else(|| default.map(str::to_owned))
            .ok_or_else(|| format!("{name} is missing"))?;
        check_name(name, &given).map_err(|error| error.to_string())?;
        Ok(given)
    }
}

/// A claim, a renewal or a release. A client's `now` is not looked at: time is ours.
///
/// # Errors
/// What is wrong with the body.
pub fn asked(bytes: &[u8]) -> Result<ClaimRequest, String> {
    let body = Body::parse(bytes)?;
    let metadata = body.text("metadata_json")?;
    if metadata.as_ref().is_some_and(|metadata| metadata.len() > METADATA) {
        return Err(format!("metadata_json may have {METADATA} bytes"));
    }
    let instance = body.text("instance")?.unwrap_or_default();
    if !instance.is_empty() {
        check_name("an instance", &instance).map_err(|error| error.to_string())?;
    }
    let (secret, wants_secret) = body.secret()?;
    let claim = Claim {
        lease: body.name("lease_name", Some(GLOBAL))?,
        holder: body.name("controller_id", None)?,
        host: body.name("host", Some("unknown"))?,
        instance,
        ttl: Duration::from_secs(body.number("ttl_sec", 1, LONGEST)?.unwrap_or(30)),
        preferred: body.flag("preferred")?,
        metadata,
        wait: Duration::from_millis(body.number("wait_ms", 0, u64::MAX)?.unwrap_or(0)).min(WAIT),
        // Whoever comes over the network outlives a boot of ours.
        far: true,
        proof: ClaimProof { secret, breaks: body.flag("break")?, ..ClaimProof::default() },
        quota: None,
    };
    Ok(ClaimRequest { claim, term: body.number("term", 0, u64::MAX)?, wants_secret })
}

/// A heartbeat.
///
/// # Errors
/// What is wrong with the body.
pub fn beat(bytes: &[u8]) -> Result<Controller, String> {
    let body = Body::parse(bytes)?;
    let short = |name: &str| -> Result<Option<String>, String> {
        Ok(body.text(name)?.map(|text| text.chars().take(128).collect()))
    };
    Ok(Controller {
        id: body.name("controller_id", None)?,
        host: body.name("host", Some("unknown"))?,
        role: body.name("role", Some("primary"))?,
        priority: body.number("priority", 0, 1 << 53)?.unwrap_or(0),
        status: body.name("status", Some("standby"))?,
        version: short("version")?,
        heartbeat_at: body.number("heartbeat_at", 0, 1 << 53)?.unwrap_or(0),
        started_at: body.number("started_at", 0, 1 << 53)?.unwrap_or(0),
    })
}

/// What is known of a lease. The times are ours, in seconds since 1970, and for people; `left_ms` is what
/// counts.
pub fn lease(name: &str, record: &Record, now: &BootMoment) -> Value {
    let (left, leader, unix) = (record.left(now), record.leader(now), unix_now());
    let ends = leader.map(|_| unix.saturating_add(left.as_secs()));
    json!({
        "lease_name": name,
        "holder_id": leader,
        "holder_host": leader.map(|_| &record.host),
        "term": record.term,
        "lease_expires_at": ends,
        "renewed_at": leader.map(|_| unix.saturating_sub(record.ttl.saturating_sub(left).as_secs())),
        // Rounded up: whoever waits for its end must not come before it.
        "left_ms": span::millis(left + Duration::from_micros(999)),
        "preferred_holder_id": record.preferred,
        "metadata_json": record.metadata,
        "guarded": leader.map(|_| record.guard.secret.is_some()),
    })
}

/// What became of a claim.
pub fn claimed(name: &str, answer: &ClaimAnswer, now: &BootMoment) -> Value {
    let (record, leads, operation) = match answer {
        ClaimAnswer::Ours { record, renewed: true } => (record, true, "renew"),
        ClaimAnswer::Ours { record, renewed: false } => (record, true, "acquire"),
        ClaimAnswer::Held(record) => (record, false, "acquire"),
    };
    let lease = lease(name, record, now);
    let mut said = json!({});
    for key in ["holder_id", "holder_host", "term", "lease_expires_at", "renewed_at", "left_ms"] {
        said[key] = lease[key].clone();
    }
    said["is_leader"] = json!(leads);
    said["operation"] = json!(operation);
    said["lease"] = lease;
    said
}

/// What is known of a controller.
pub fn controller(heard: &HeardController) -> Value {
    let Controller { id, host, role, priority, status, version, heartbeat_at, started_at } =
        &heard.controller;
    json!({
        "controller_id": id, "host": host, "role": role, "priority": priority, "status": status,
        "version": version, "heartbeat_at": heartbeat_at, "started_at": started_at,
        "heard_ms_ago": span::millis(heard.ago), "guarded": heard.guard.told().1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_cases_are_read_and_wrong_types_refused() {
        let snake = asked(
            br#"{"controller_id":"a","host":"h","ttl_sec":30,"preferred":true,"now":1,"lease_name":"l",
                "instance":"i","wait_ms":99999,"term":3}"#,
        )
        .unwrap();
        let camel = asked(
            br#"{"controllerId":"a","host":"h","ttlSec":30.0,"preferred":true,"leaseName":"l",
                "instance":"i","waitMs":99999,"term":3}"#,
        )
        .unwrap();
        assert_eq!(snake, camel);
        assert_eq!((snake.claim.wait, snake.term, snake.claim.far), (WAIT, Some(3), true));
        assert_eq!(asked(br#"{"controller_id":"a"}"#).unwrap().claim.lease, GLOBAL);
        for (body, why) in [
            ("", "not JSON"),
            ("[1]", "must be a JSON object"),
            ("{\"controller_id\":\"a\"", "not JSON"),
            ("{}", "controller_id is missing"),
            (r#"{"controller_id":7}"#, "controller_id must be a string"),
            (r#"{"controller_id":"a b"}"#, "is not controller_id"),
            (r#"{"controller_id":"a","ttl_sec":0}"#, "ttl_sec must be an integer from 1"),
            (r#"{"controller_id":"a","ttl_sec":-5}"#, "ttl_sec must be"),
            (r#"{"controller_id":"a","ttl_sec":1e30}"#, "ttl_sec must be"),
            (r#"{"controller_id":"a","ttl_sec":"30"}"#, "ttl_sec must be"),
            (r#"{"controller_id":"a","preferred":"yes"}"#, "preferred must be"),
            (r#"{"controller_id":"a","lease_name":"../x"}"#, "is not lease_name"),
            (r#"{"controller_id":"a","secret":"short"}"#, "secret must be true, or 32"),
            (r#"{"controller_id":"a","secret":7}"#, "secret must be"),
        ] {
            let said = asked(body.as_bytes()).unwrap_err();
            assert!(said.contains(why), "{body}: {said}");
        }
        assert!(
            beat(br#"{"controllerId":"a","priority":100,"heartbeatAt":5,"version":null}"#)
                .is_ok_and(|beat| beat.priority == 100 && beat.heartbeat_at == 5)
        );
        assert!(beat(br#"{"controller_id":"a","priority":"high"}"#).unwrap_err().contains("priority"));
    }
}
