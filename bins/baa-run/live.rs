//! What this machine knows of values that somebody is typing.

use baa::program::complete::{LiveOffer, TypedLine, deadline};
use baa::service::names;

const TARGETS: [&str; 9] =
    ["http://", "https://", "http+unix:///", "tcp://", "unix:", "file:", "exec:", "dns:", "pid:"];
const PATHS: [&str; 4] = ["unix://", "unix:", "file://", "file:"];

pub fn values(typed: &TypedLine) -> LiveOffer {
    match typed.argument.0.as_str() {
        // Without the verb it is the name of a keeper that is to be.
        "label" if !typed.verbs.is_empty() => LiveOffer::of(names::kept(deadline())),
        "ready" => {
            let mut offer = LiveOffer::schemes(&typed.word, &TARGETS, &PATHS);
            offer.words.extend(["notify", "fd:"].map(str::to_owned));
            offer
        }
        "live" => LiveOffer::schemes(&typed.word, &TARGETS, &PATHS),
        "listen" => LiveOffer::schemes(&typed.word, &["127.0.0.1:", "unix:"], &["unix:"]),
        "drain_url" => LiveOffer::of(["http://", "https://", "http+unix:///"]),
        _ => LiveOffer::default(),
    }
}
