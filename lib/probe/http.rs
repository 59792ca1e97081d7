//! `http://`, `https://`, `http+unix://`: does it answer as it should?

use crate::probe::demand::Demand;
use crate::probe::{Asked, Cost, Probe, ProbeAnswer};
use crate::sys::http::{self, Request};
use crate::sys::net::Endpoint;
use crate::sys::owner;
use crate::sys::process::Pid;
use crate::words::error::brief;
use crate::words::failure::{Class, Failure};
use std::time::Instant;

/// A range of HTTP statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statuses {
    first: u16,
    last: u16,
}

impl Statuses {
    /// What Kubernetes takes for success, 200 to 399.
    pub const SUCCESS: Statuses = Statuses { first: 200, last: 399 };
    /// 200 and nothing else.
    pub const OK: Statuses = Statuses { first: 200, last: 200 };

    /// Reads `200`, `2xx` or `200-299`.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Statuses, String> {
        let wrong = || format!("'{text}' is not an HTTP status; write 200, 2xx or 200-399");
        let number = |text: &str| {
            text.parse::<u16>()
                .ok()
                .filter(|number| text.len() == 3 && (100..=599).contains(number))
                .ok_or_else(wrong)
        };
        if let Some(class) = text.strip_suffix("xx") {
            let class =
                class.parse::<u16>().ok().filter(|class| (1..=5).contains(class)).ok_or_else(wrong)?;
            return Ok(Statuses { first: class * 100, last: class * 100 + 99 });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first)?, number(last)?);
        if first > last { Err(wrong()) } else { Ok(Statuses { first, last }) }
    }

    /// Whether `status` is one of them.
    pub fn hold(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl std::fmt::Display for Statuses {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last {
            write!(out, "{}", self.first)
        } else {
            write!(out, "{}-{}", self.first, self.last)
        }
    }
}

/// A value that the JSON body must hold: `/ready=true`.
#[derive(Clone, Debug)]
pub struct JsonValue {
    pointer: String,
    value: String,
}

impl JsonValue {
    /// Reads `POINTER=VALUE`; the pointer as RFC 6901 has it.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<JsonValue, String> {
        // The cut is at the first '=': values hold one more often than keys do.
        let (pointer, value) = text.split_once('=').ok_or("write POINTER=VALUE, like /ready=true")?;
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(format!("'{pointer}' is not a JSON pointer; it begins with / (RFC 6901)"));
        }
        Ok(JsonValue { pointer: pointer.to_owned(), value: value.to_owned() })
    }

    /// Whether a body holds it.
    pub(crate) fn check(&self, body: &serde_json::Value) -> Result<(), String> {
        let found = body.pointer(&self.pointer).ok_or_else(|| format!("the body has no {}", self.pointer))?;
        let wanted: Option<serde_json::Value> = serde_json::from_str(&self.value).ok();
        if found.as_str() == Some(&self.value) || wanted.as_ref() == Some(found) {
            return Ok(());
        }
        // What was found is foreign and may be secret; its kind is enough.
        Err(format!("{} is not {}", self.pointer, brief(&self.value)))
    }
}

impl std::fmt::Display for JsonValue {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}={}", self.pointer, self.value)
    }
}

/// Up when the answer has one of the statuses, the body is as asked, and the process meets the demand.
pub struct Http {
    /// What is asked.
    pub request: Request,
    /// Which statuses are good.
    pub statuses: Vec<Statuses>,
    /// Texts that the body must hold.
    pub contains: Vec<String>,
    /// Values that the JSON body must hold.
    pub json: Vec<JsonValue>,
    /// Who must have answered.
    pub demand: Demand,
}

impl Http {
    fn judge(&self, answer: &http::Answer) -> Result<ProbeAnswer, Failure> {
        // Who answered comes first: what a wrong process says is of no interest.
        let who = self.demand.judge(answer.link())?;
        let refuse = |class: Class, text: String| Failure { class, text, http_status: Some(answer.status) };
        if !self.statuses.iter().any(|one| one.hold(answer.status)) {
            return Err(refuse(Class::Status, format!("answered {}", answer.status)));
        }
        let text = String::from_utf8_lossy(&answer.body);
        if let Some(missing) = self.contains.iter().find(|wanted| !text.contains(wanted.as_str())) {
            return Err(refuse(Class::Body, format!("the body does not contain '{}'", brief(missing))));
        }
        if !self.json.is_empty() {
            let body = serde_json::from_slice(&answer.body)
                .map_err(|_| refuse(Class::Body, "the body is not JSON".to_owned()))?;
            for wanted in &self.json {
                wanted.check(&body).map_err(|why| refuse(Class::Body, why))?;
            }
        }
        Ok(ProbeAnswer { http_status: Some(answer.status), ..who })
    }
}

impl Probe for Http {
    fn ask(&self, deadline: Instant) -> Asked<'_> {
        Box::pin(async move { http::ask(&self.request, deadline, &|answer| self.judge(&answer)).await })
    }

    fn endpoint(&self) -> Option<Endpoint> {
        Some(self.request.url.endpoint())
    }

    fn holder(&self, deadline: Instant) -> Option<Pid> {
        owner::holder(&self.request.url.endpoint(), deadline)
    }

    fn cost(&self) -> Cost {
        Cost::of(&self.request.url.endpoint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_statuses() {
        let two = Statuses::parse("2xx").unwrap();
        assert!(two.hold(204) && !two.hold(301));
        assert!(Statuses::parse("200-399").unwrap().hold(302));
        assert!(Statuses::parse("404").unwrap().hold(404));
        for text in ["", "2x", "xx", "6xx", "99", "600", "+20", "300-200", "200-", "abc"] {
            assert!(Statuses::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn compares_json_values_as_text_or_as_json() {
        let body =
            serde_json::json!({"ready": true, "name": "true", "n": 1, "a/b": [null, "x=y"], "": "empty key"});
        for (text, good) in [
            ("/ready=true", true),
            ("/name=true", true),
            ("/n=1", true),
            ("/n=1.5", false),
            ("/a~1b/1=x=y", true),
            ("/a~1b/0=null", true),
            ("/none=1", false),
            ("/=empty key", true),
        ] {
            assert_eq!(JsonValue::parse(text).unwrap().check(&body).is_ok(), good, "{text}");
        }
        assert!(JsonValue::parse("ready=true").is_err());
        assert!(JsonValue::parse("/ready").is_err());
    }
}
