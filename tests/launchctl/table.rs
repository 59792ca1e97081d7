//! The table of claims, `claims`, which the model and the report of a Mac (`mac-report`) share: what is
//! modelled has a name there, and what was acted upon is noted.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{LazyLock, Mutex};

/// The names: the lines of the table that are not indented.
static NAMES: LazyLock<BTreeSet<&str>> = LazyLock::new(|| {
    let name = |line: &&str| line.starts_with(|first: char| first.is_ascii_lowercase());
    include_str!("claims").lines().filter(name).collect()
});
static ACTED_UPON: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());

/// The model does now what the claim `name` says that launchd does.
pub fn claim(name: &'static str) {
    assert!(NAMES.contains(name), "tests/launchctl/claims has no {name}");
    if !ACTED_UPON.lock().unwrap().insert(name) {
        return;
    }
    let root = std::env::var_os("LAUNCHD_MODEL").unwrap();
    let noted = std::path::Path::new(&root).join("claimed");
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(noted).unwrap();
    writeln!(file, "{name}").unwrap();
}
