//! What came of a restart or an update: written down for the next life, and told to whoever wants to know.

use super::{KeeperLoop, name};
use crate::act::keeper::change::{ChangeKind, ChangeOutcome, KeeperChange, OVERTAKEN, STOPPED};
use crate::act::keeper::hooks::Hook;
use crate::act::keeper::stability::{self, WROTE};
use crate::sys::file;
use crate::sys::say::Voice;
use crate::words::span::millis;
use crate::words::stamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// How long a hook may take.
const HOOK_LIMIT: Duration = Duration::from_secs(10);
/// How long a bundle may take.
const BUNDLE_LIMIT: Duration = Duration::from_secs(5);

/// What is known of the changes that were asked for.
pub(super) struct ChangeReport {
    /// Why it was restarted last, for the next life.
    pub(super) reason: Option<String>,
    /// The last change that is known.
    last: u32,
    /// Those whose outcome was not told, and since when they are made.
    open: Vec<(u32, Instant)>,
    /// Why those failed that were told of and are remembered.
    whys: BTreeMap<u32, String>,
    was_parked: bool,
}

impl ChangeReport {
    /// Nothing was asked for.
    pub(super) fn new() -> ChangeReport {
        let (open, whys) = (Vec::new(), BTreeMap::new());
        ChangeReport { reason: None, last: 0, open, whys, was_parked: false }
    }
}

impl KeeperLoop<'_> {
    /// What follows from the changes that were decided: each is written down for the next life, and told to
    /// whoever wants to know.
    pub(super) fn settled(&mut self) {
        let (now, known) = (Instant::now(), self.changes.last);
        let changes = self.keeper.changes().to_vec();
        let new = changes.iter().filter(|change| change.number > known).map(|change| (change.number, now));
        self.changes.open.extend(new);
        self.changes.last = changes.last().map_or(known, |change| change.number);
        let first = changes.first().map_or(0, |change| change.number);
        self.changes.whys.retain(|number, _| *number >= first);
        for change in changes.into_iter().filter(KeeperChange::over) {
            if let Some(at) = self.changes.open.iter().position(|(number, _)| *number == change.number) {
                let (_, since) = self.changes.open.remove(at);
                self.decided(change, since);
            }
        }
    }

    fn decided(&mut self, change: KeeperChange, since: Instant) {
        self.story.note(if change.outcome == ChangeOutcome::Done { "changed" } else { "not-changed" });
        let why = self.why(change);
        self.changes.whys.insert(change.number, why.clone());
        if let Some(label) = &self.place.label {
            let text = format!("{}\n", sentinel(change, &why, since.elapsed()));
            let written = file::own_dir(&file::state_dir().join("run"))
                .and_then(|_| file::replace_soon(&label.sentinel, text.as_bytes(), 0o600));
            if let Err(cause) = written {
                self.voice.warn(format!(
                    "cannot write '{}': {}",
                    label.sentinel.display(),
                    crate::words::error::reason(&cause)
                ));
            }
        }
        let Some(command) = self.request.on_restart.clone() else { return };
        let text = |text: &str| OsString::from(text);
        let mut env = vec![
            ("BAA_LABEL".into(), text(name(self.request))),
            ("BAA_CHANGE".into(), text(change.kind.word())),
            ("BAA_OUTCOME".into(), text(change.outcome.word())),
            ("BAA_WHY".into(), text(&why)),
            ("BAA_PID".into(), self.lives.main().map(|main| main.pid.to_string()).unwrap_or_default().into()),
        ];
        env.extend(self.health.variable());
        let hook = Hook { name: "--on-restart", command, env, limit: HOOK_LIMIT };
        self.hooks.begin(hook, self.voice);
    }

    /// Why a change failed, as far as is known.
    pub(super) fn why(&self, change: KeeperChange) -> String {
        if let Some(why) = self.changes.whys.get(&change.number) {
            return why.clone();
        }
        match change.outcome {
            ChangeOutcome::Failed(why)
                if self.health.not_serving.is_empty() || [STOPPED, OVERTAKEN].contains(&why) =>
            {
                why.to_owned()
            }
            ChangeOutcome::Failed(_) => self.health.not_serving.clone(),
            ChangeOutcome::Done | ChangeOutcome::Open => String::new(),
        }
    }

    /// A start that did not come to serve: what went before is written down; the lock is given back, so that
    /// somebody else may serve.
    pub(super) fn parked(&mut self) {
        if !self.keeper.parked() || self.changes.was_parked {
            self.changes.was_parked = self.keeper.parked();
            return;
        }
        self.changes.was_parked = true;
        self.place.give_lock_back();
        self.voice.warn(format!(
            "{}: startup failed: {}; the keeper stays; mend it and restart",
            name(self.request),
            self.health.not_serving
        ));
        let (story, voice) = (self.story.clone(), self.voice.clone());
        let not_serving = self.health.not_serving.clone();
        // Aside: the keeper goes on, whatever the disk does.
        let work = move || tell(&voice, story.bundle("run.restart_startup_failed", &not_serving));
        if let Err(cause) = std::thread::Builder::new().stack_size(512 * 1024).spawn(work) {
            tell(self.voice, Err(cause));
        }
    }

    /// Writes a bundle of what went before, and says where; at the end, which it may put off for a moment.
    pub(super) fn bundle(&self, reason: &'static str) {
        match stability::bundle_within(&self.story, reason, self.health.not_serving.clone(), BUNDLE_LIMIT) {
            Some(outcome) => tell(self.voice, outcome),
            None => self.voice.warn("cannot write a stability bundle in time"),
        }
    }
}

fn tell(voice: &Voice, bundle: std::io::Result<PathBuf>) {
    match bundle {
        Ok(path) => voice.note(format!("{WROTE} '{}'", path.display())),
        Err(cause) => {
            voice.warn(format!("cannot write a stability bundle: {}", crate::words::error::reason(&cause)))
        }
    }
}

/// What the next life finds of the last change (facts 2.7).
fn sentinel(change: KeeperChange, why: &str, took: Duration) -> Value {
    let reason = match (change.kind, change.outcome) {
        (ChangeKind::Update, ChangeOutcome::Failed(why)) if ![STOPPED, OVERTAKEN].contains(&why) => {
            json!("restart-unhealthy")
        }
        (_, ChangeOutcome::Failed(why)) => json!(why),
        _ => Value::Null,
    };
    let message = if why.is_empty() { Value::Null } else { json!(why) };
    json!({
        "version": 1,
        "payload": {
            "kind": change.kind.word(),
            "status": if change.outcome == ChangeOutcome::Done { "ok" } else { "error" },
            "ts": stamp::millis(SystemTime::now()),
            "message": message,
            "stats": { "reason": reason, "durationMs": millis(took) },
        },
    })
}
