//! What this machine knows of values that somebody is typing.

use baa::program::complete::{LiveOffer, TypedLine};
use baa::store::listing;
use std::time::Duration;

const STORES: [&str; 6] = ["sqlite:", "unix:", "http://", "https://", "etcd://", "etcds://"];
/// How long a store may take.
const PATIENCE: Duration = Duration::from_millis(150);

pub fn values(typed: &TypedLine) -> LiveOffer {
    match typed.argument.0.as_str() {
        "lease" => {
            let set = std::env::var("BAA_CONTROL_API_BASE").ok().filter(|url| !url.trim().is_empty());
            let url = typed.text("store").map(str::to_owned).or(set);
            LiveOffer::of(listing::lease_names(url.as_deref(), PATIENCE))
        }
        "store" => LiveOffer::schemes(&typed.word, &STORES, &["sqlite:", "unix:"]),
        "local_api" => LiveOffer::of(["http://127.0.0.1:", "http://localhost:"]),
        _ => LiveOffer::default(),
    }
}
