//! What a group can be asked over its socket: one JSON line in, one out.

use crate::sys::signal::SignalNumber;
use serde_json::Value;

/// What a group is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupVerb {
    /// How it fares.
    Status,
    /// What has become of these entries, or of all, since so many changes.
    Changes {
        /// The entries; none for all of them.
        ids: Vec<String>,
        /// What is known already.
        after: u64,
    },
    /// To read its file again.
    Reload,
    /// Whether its file is as it should be, and has this entry.
    Check(String),
    /// To read its file again, and to stop and start this entry unless it is new or changed.
    Renew(String),
    /// To stop.
    StopAll,
    /// To let these entries run, and to start at once what has failed.
    Start(Vec<String>),
    /// The same, and not to start them again when they end.
    Once(Vec<String>),
    /// To stop these entries, and what needs them, until told otherwise.
    Stop(Vec<String>),
    /// To stop and start them.
    Restart(Vec<String>),
    /// To send their processes a signal.
    Signal(Vec<String>, SignalNumber),
}

impl GroupVerb {
    pub(crate) fn parse(line: &[u8]) -> std::result::Result<GroupVerb, String> {
        let question: Value =
            serde_json::from_slice(line).map_err(|_| "the question is no JSON".to_owned())?;
        let verb = question["verb"].as_str().unwrap_or_default();
        let ids = ids(&question)?;
        Ok(match (verb, ids.first()) {
            ("status", _) => GroupVerb::Status,
            ("changes", _) => {
                let after = question["after"].as_u64().unwrap_or(0);
                GroupVerb::Changes { ids, after }
            }
            ("reload", _) => GroupVerb::Reload,
            ("stop", None) => GroupVerb::StopAll,
            ("stop", Some(_)) => GroupVerb::Stop(ids),
            ("start", Some(_)) => GroupVerb::Start(ids),
            ("once", Some(_)) => GroupVerb::Once(ids),
            ("restart", Some(_)) => GroupVerb::Restart(ids),
            ("check", Some(id)) => GroupVerb::Check(id.clone()),
            ("renew", Some(id)) => GroupVerb::Renew(id.clone()),
            ("signal", Some(_)) => {
                let name = question["signal"].as_str().unwrap_or_default();
                GroupVerb::Signal(ids, SignalNumber::parse(name)?)
            }
            _ => return Err("unknown verb".to_owned()),
        })
    }
}

impl GroupVerb {
    /// What is asked for, where it changes anything, and of whom.
    pub(crate) fn words(&self) -> (&'static str, &[String]) {
        match self {
            GroupVerb::Status | GroupVerb::Changes { .. } | GroupVerb::Check(_) => ("", &[]),
            GroupVerb::Reload => ("reload", &[]),
            GroupVerb::Renew(id) => ("renew", std::slice::from_ref(id)),
            GroupVerb::StopAll => ("stop", &[]),
            GroupVerb::Start(ids) => ("start", ids),
            GroupVerb::Once(ids) => ("once", ids),
            GroupVerb::Stop(ids) => ("stop", ids),
            GroupVerb::Restart(ids) => ("restart", ids),
            GroupVerb::Signal(ids, _) => ("signal", ids),
        }
    }
}

/// One `id`, or several `ids`.
fn ids(question: &Value) -> std::result::Result<Vec<String>, String> {
    let text = |id: &Value| id.as_str().map(str::to_owned).ok_or_else(|| "an id is no text".to_owned());
    match (&question["ids"], &question["id"]) {
        (Value::Array(ids), _) => ids.iter().map(text).collect(),
        (_, Value::Null) => Ok(Vec::new()),
        (_, id) => Ok(vec![text(id)?]),
    }
}
