//! What this machine knows of values that somebody is typing.

use baa::program::complete::{LiveOffer, TypedLine};

pub fn values(typed: &TypedLine) -> LiveOffer {
    match typed.argument.0.as_str() {
        "listen" => LiveOffer::schemes(&typed.word, &["unix:", "127.0.0.1:"], &["unix:"]),
        // Only a file is copied.
        "store" if !typed.verbs.is_empty() => LiveOffer::schemes(&typed.word, &["sqlite:"], &["sqlite:"]),
        "store" => LiveOffer::schemes(&typed.word, &["sqlite:", "etcd://", "etcds://"], &["sqlite:"]),
        _ => LiveOffer::default(),
    }
}
