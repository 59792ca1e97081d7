//! The file of a group as it is written: what keys there are, and of what kind.

use crate::words::span;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    #[serde(default)]
    pub(super) daemon: Vec<EntryText>,
    #[serde(default)]
    pub(super) oneshot: Vec<EntryText>,
    #[serde(default)]
    pub(super) check: Vec<EntryText>,
}

/// A table of the file. Which keys make sense for which kind is checked afterwards, with a better word than
/// serde has.
#[derive(Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct EntryText {
    pub(super) id: String,
    pub(super) command: Option<Vec<String>>,
    pub(super) job: Option<PathBuf>,
    #[serde(default)]
    pub(super) requires: Vec<String>,
    pub(super) ready: Option<ReadyText>,
    pub(super) live: Option<LiveText>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    pub(super) cwd: Option<PathBuf>,
    pub(super) user: Option<String>,
    #[serde(default, alias = "no_new_privs")]
    pub(super) no_new_privs: bool,
    /// Those that it can have at most.
    pub(super) capabilities: Option<Vec<String>>,
    #[serde(default)]
    pub(super) limits: BTreeMap<String, LimitText>,
    #[serde(alias = "stop_signal")]
    pub(super) stop_signal: Option<SignalText>,
    #[serde(alias = "kill_signal")]
    pub(super) kill_signal: Option<SignalText>,
    #[serde(alias = "stop_timeout")]
    pub(super) stop_timeout: Option<SpanValue>,
    pub(super) restart: Option<RestartText>,
    #[serde(alias = "on_dependency_failure")]
    pub(super) on_dependency_failure: Option<OnFailure>,
}

#[derive(Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ReadyText {
    pub(super) probe: String,
    /// Whether it counts whoever answers; otherwise only the entry's own processes, where the target tells.
    #[serde(default)]
    pub(super) anyone: bool,
    pub(super) timeout: Option<SpanValue>,
    pub(super) interval: Option<EveryText>,
    pub(super) grace: Option<SpanValue>,
    #[serde(alias = "success_threshold")]
    pub(super) success_threshold: Option<u32>,
    #[serde(alias = "failure_threshold")]
    pub(super) failure_threshold: Option<u32>,
}

/// Whether it goes on to serve.
#[derive(Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct LiveText {
    /// Where there is none, that of `ready`.
    probe: Option<String>,
    #[serde(default)]
    anyone: bool,
    pub(super) interval: Option<SpanValue>,
    pub(super) timeout: Option<SpanValue>,
    #[serde(alias = "failure_threshold", alias = "failures")]
    pub(super) failure_threshold: Option<u32>,
    #[serde(alias = "success_threshold", alias = "successes")]
    pub(super) success_threshold: Option<u32>,
}

impl LiveText {
    /// What is asked, and whether it counts whoever answers.
    pub(super) fn target<'a>(&'a self, ready: Option<&'a ReadyText>) -> Option<(&'a str, bool)> {
        let ready = ready.map(|ready| (ready.probe.as_str(), ready.anyone || self.anyone));
        self.probe.as_deref().map(|probe| (probe, self.anyone)).or(ready)
    }
}

/// Between probes: always the same, or by what the last one said.
#[derive(Clone, Deserialize, PartialEq)]
#[serde(untagged)]
pub(super) enum EveryText {
    SpanValue(SpanValue),
    Table(IntervalText),
}

#[derive(Clone, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct IntervalText {
    /// Where nothing else is said.
    pub(super) default: Option<SpanValue>,
    /// Nothing is asked of one that waits; the key is known because others have it (facts D3).
    #[serde(rename = "waiting")]
    pub(super) _waiting: Option<SpanValue>,
    pub(super) starting: Option<SpanValue>,
    pub(super) loading: Option<SpanValue>,
    pub(super) success: Option<SpanValue>,
    pub(super) failure: Option<SpanValue>,
}

#[derive(Clone, Deserialize, PartialEq)]
#[serde(untagged)]
pub(super) enum RestartText {
    Word(WhenText),
    Table(RestartTable),
}

#[derive(Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RestartTable {
    pub(super) policy: Option<WhenText>,
    pub(super) initial: Option<SpanValue>,
    pub(super) step: Option<SpanValue>,
    pub(super) cap: Option<SpanValue>,
    #[serde(alias = "reset_after")]
    pub(super) reset_after: Option<SpanValue>,
    /// So many in a row at most; -1 is without end.
    pub(super) max: Option<i64>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum WhenText {
    Always,
    OnFailure,
    Never,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OnFailure {
    Stop,
    Ignore,
}

/// A signal: its name, or its number.
#[derive(Clone, Deserialize, PartialEq)]
#[serde(untagged)]
pub(super) enum SignalText {
    Name(String),
    Number(u8),
}

/// A limit of a resource: one for both, or each by itself.
#[derive(Clone, Deserialize, PartialEq)]
#[serde(untagged)]
pub(super) enum LimitText {
    Both(BoundText),
    Each { soft: BoundText, hard: BoundText },
}

/// A number, or `"unlimited"`.
#[derive(Clone, Deserialize, PartialEq)]
#[serde(untagged)]
pub(super) enum BoundText {
    Number(u64),
    Word(String),
}

/// A span of time: `"1m30s"`, or a number of seconds.
#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(try_from = "SpanText")]
pub(super) struct SpanValue(pub(super) Duration);

#[derive(Deserialize)]
#[serde(untagged)]
enum SpanText {
    Text(String),
    Seconds(f64),
}

impl TryFrom<SpanText> for SpanValue {
    type Error = String;

    fn try_from(text: SpanText) -> std::result::Result<SpanValue, String> {
        let text = match text {
            SpanText::Text(text) => text,
            SpanText::Seconds(seconds) => seconds.to_string(),
        };
        span::parse(&text).map(SpanValue)
    }
}
