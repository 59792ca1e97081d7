//! What a keeper is told to keep, and how.

use crate::act::keeper::Policy;
use crate::act::keeper::drain::Drain;
use crate::act::keeper::ledger::Limit;
use crate::act::keeper::lockfile::Wanted;
use crate::act::keeper::readiness::Ready;
use crate::service::recipe::Recipe;
use serde_json::{Value, json};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The name and version of the JSON status.
pub const SCHEMA: &str = "baa.run/1";

/// What to keep, and how.
#[derive(Debug)]
pub struct Order {
    /// The name under which its state is kept; without one there is no lock, no status and no control.
    pub label: Option<String>,
    /// What is started.
    pub recipe: Recipe,
    /// How it is kept.
    pub policy: Policy,
    /// What is locked before anything else.
    pub lock: Option<Wanted>,
    /// How it finishes what it has begun before a restart.
    pub drain: Option<Drain>,
    /// When it counts as started.
    pub ready: Option<Ready>,
    /// When to give up.
    pub give_up: Option<Limit>,
    /// Sockets that it is given, from descriptor 3 on, each with its name; we hold them between its lives.
    pub listen: Vec<(String, Arc<OwnedFd>)>,
}

/// The JSON object of `--dry-run`. Arguments are told, the environment never.
pub fn plan(order: &Order) -> Value {
    let command: Vec<String> = match &order.recipe {
        Recipe::Command(words) => words.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        Recipe::Job(job) => job.arguments.clone(),
    };
    json!({ "schema": SCHEMA, "dry_run": true, "label": order.label, "command": command })
}
