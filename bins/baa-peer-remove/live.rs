//! What this machine knows of values that somebody is typing.

use baa::act::peers::registry::Registry;
use baa::act::peers::root::Root;
use baa::program::complete::{LiveOffer, TypedLine};
use baa::service::iapeer;

/// The largest registry whose names are told.
const LIMIT: u64 = 4 * 1024 * 1024;

pub fn values(typed: &TypedLine) -> LiveOffer {
    if typed.argument.0 != "peers" {
        return LiveOffer::default();
    }
    let registry = Root::find(typed.path("root").as_deref()).ok().map(|root| root.registry());
    let bytes = registry.and_then(|path| baa::sys::file::read(&path, LIMIT).ok()).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let known = Registry::parse(&text);
    let names = known.iter().flat_map(Registry::names).filter(|name| iapeer::is_personality(name));
    LiveOffer::of(names.filter(|name| typed.values("peers").all(|given| given != *name)))
}
