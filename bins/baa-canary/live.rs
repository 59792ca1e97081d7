//! What this machine knows of values that somebody is typing.

use baa::act::canary::arming;
use baa::act::canary::request;
use baa::program::complete::{LiveOffer, TypedLine, deadline};
use baa::service::{iapeer, names};

pub fn values(typed: &TypedLine) -> LiveOffer {
    match typed.argument.0.as_str() {
        "unit" => LiveOffer::of(names::units(&typed.word, deadline())),
        "label" => {
            let mut labels = names::kept(deadline());
            if cfg!(target_os = "macos") {
                labels.extend(names::launchd(&typed.word));
            }
            LiveOffer::of(labels)
        }
        "identity" if typed.verbs.iter().any(|verb| verb == "dismiss" || verb == "status") => armed(typed),
        "identity" => sockets(typed),
        _ => LiveOffer::default(),
    }
}

/// Those that are armed.
fn armed(typed: &TypedLine) -> LiveOffer {
    let records = request::records(typed.value("log_dir"), typed.path("root").as_deref());
    let records = records.ok().flatten().filter(|records| records.check().is_ok());
    let found = records.map(|records| arming::all(&records)).unwrap_or_default();
    let mut names: Vec<String> = found.into_iter().map(|armed| armed.identity).collect();
    names.dedup();
    LiveOffer::of(names)
}

/// Those that have a socket.
fn sockets(typed: &TypedLine) -> LiveOffer {
    let directory = iapeer::socket_dir(iapeer::named_root(typed.path("root").as_deref()).as_deref());
    let names = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = names.filter_map(|one| one.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter_map(|name| iapeer::identity_of_socket(&name).map(str::to_owned)).collect();
    names.sort();
    LiveOffer::of(names)
}
