//! Which leases a store has, for whoever types the name of one: a store of this machine is asked, and nothing
//! is made or changed in it. One elsewhere is left alone, for nothing that somebody has only begun to type
//! sends a word, or a password, to a host.

use crate::store::control_api::ControlApi;
use crate::store::{self, sqlite};
use crate::sys::http::Trust;
use std::time::Duration;

/// The names of the leases in the store that `url` names, as `store::open` has it; none where it cannot be
/// asked within `limit`.
pub fn lease_names(url: Option<&str>, limit: Duration) -> Vec<String> {
    let names = match url {
        Some(url) if url.starts_with("unix:") => {
            ControlApi::new(url, None, Trust::default()).and_then(|api| api.lease_names(limit))
        }
        Some(url) => store::file_of(url).and_then(|path| sqlite::lease_names(&path, limit)),
        None => sqlite::lease_names(&store::default_file(), limit),
    };
    let mut names = names.unwrap_or_default();
    names.retain(|name| store::check_name("the name of a lease", name).is_ok());
    names
}
