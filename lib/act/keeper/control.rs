//! What a keeper can be asked over its socket: one JSON line in, one out.

use crate::service::intent;
use crate::sys::signal::SignalNumber;
use serde_json::{Value, json};

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientRequest {
    /// `status`.
    Status,
    /// `stop`.
    Stop,
    /// `start`.
    Start,
    /// `restart`, and why; at once, or when the last one is long enough ago.
    Restart { reason: Option<String>, now: bool },
    /// `drain`, and why: then stop.
    Drain(Option<String>),
    /// `update`, and why.
    Update(Option<String>),
    /// `signal`: send the process one.
    Signal(SignalNumber),
    /// `spare`: leave this process of ours alone.
    Spare(i32),
}

/// The answer to a line, by `reply`.
pub(super) fn answer(line: &[u8], reply: &mut dyn FnMut(ClientRequest) -> Value) -> String {
    parse(line).map_or_else(|why| json!({ "error": why }), reply).to_string()
}

fn reason(request: &Value) -> Option<String> {
    request.get("reason").and_then(Value::as_str).map(intent::reason)
}

pub(crate) fn parse(line: &[u8]) -> std::result::Result<ClientRequest, &'static str> {
    let request: Value = serde_json::from_slice(line).map_err(|_| "the request is not JSON")?;
    match request.get("verb").and_then(Value::as_str) {
        Some("status") => Ok(ClientRequest::Status),
        Some("stop") => Ok(ClientRequest::Stop),
        Some("start") => Ok(ClientRequest::Start),
        Some("restart") => {
            Ok(ClientRequest::Restart { reason: reason(&request), now: request["now"] == true })
        }
        Some("drain") => Ok(ClientRequest::Drain(reason(&request))),
        Some("update") => Ok(ClientRequest::Update(reason(&request))),
        Some("signal") => {
            let named = request.get("signal").and_then(Value::as_str).and_then(SignalNumber::named);
            named.map(ClientRequest::Signal).ok_or("no such signal")
        }
        Some("spare") => {
            let pid = request.get("pid").and_then(Value::as_i64).and_then(|pid| i32::try_from(pid).ok());
            pid.map(ClientRequest::Spare).ok_or("spare needs a pid")
        }
        _ => Err("unknown verb"),
    }
}
