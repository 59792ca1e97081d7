//! What a group can be asked over its socket: one JSON line in, one out.

use serde_json::Value;

/// What a group is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupVerb {
    /// How it fares.
    Status,
    /// To read its file again.
    Reload,
    /// Whether its file is as it should be, and has this entry.
    Check(String),
    /// To read its file again, and to stop and start this entry unless it is new or changed.
    Renew(String),
    /// To stop.
    StopAll,
    /// To let this entry run.
    Start(String),
    /// To stop this entry, and what needs it, until told otherwise.
    Stop(String),
    /// To stop and start it.
    Restart(String),
}

impl GroupVerb {
    pub(crate) fn parse(line: &[u8]) -> std::result::Result<GroupVerb, String> {
        let question: Value =
            serde_json::from_slice(line).map_err(|_| "the question is no JSON".to_owned())?;
        let id = || question["id"].as_str().map(str::to_owned);
        match (question["verb"].as_str(), id()) {
            (Some("status"), _) => Ok(GroupVerb::Status),
            (Some("reload"), _) => Ok(GroupVerb::Reload),
            (Some("stop"), None) => Ok(GroupVerb::StopAll),
            (Some("stop"), Some(id)) => Ok(GroupVerb::Stop(id)),
            (Some("start"), Some(id)) => Ok(GroupVerb::Start(id)),
            (Some("restart"), Some(id)) => Ok(GroupVerb::Restart(id)),
            (Some("check"), Some(id)) => Ok(GroupVerb::Check(id)),
            (Some("renew"), Some(id)) => Ok(GroupVerb::Renew(id)),
            _ => Err("unknown verb".to_owned()),
        }
    }
}
