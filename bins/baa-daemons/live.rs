//! What this machine knows of values that somebody is typing.

use baa::act::group::plan;
use baa::program::complete::{LiveOffer, TypedLine};

pub fn values(typed: &TypedLine) -> LiveOffer {
    match typed.path("file").filter(|_| typed.argument.0 == "id") {
        Some(file) => LiveOffer::of(plan::ids(&file)),
        None => LiveOffer::default(),
    }
}
