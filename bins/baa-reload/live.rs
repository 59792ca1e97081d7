//! What this machine knows of values that somebody is typing.

use baa::act::group::plan;
use baa::act::reload::files::ReloadFiles;
use baa::program::complete::{LiveOffer, TypedLine, deadline};
use baa::service::manager::ManagerKind;
use baa::service::names;
use baa::sys::user;
use std::path::PathBuf;

const URLS: [&str; 7] = ["http://", "https://", "http+unix:///", "tcp://", "unix:", "exec:", "file:"];

pub fn values(typed: &TypedLine) -> LiveOffer {
    let given = || typed.values(&typed.argument.0).filter_map(|value| value.to_str());
    match typed.argument.0.as_str() {
        "label" if typed.verbs.iter().any(|verb| verb == "history") => {
            let files = ReloadFiles::with_journal(None);
            let mut labels: Vec<&str> = files.iter().map(ReloadFiles::label).collect();
            labels.dedup();
            LiveOffer::of(labels.into_iter().filter(|label| given().all(|one| one != *label)))
        }
        "label" => LiveOffer::of(labels(typed)),
        "service" => {
            let before = format!("{}-", typed.text("label_prefix").unwrap_or("so.makefile.baa"));
            let labels = labels(typed);
            let names = labels.iter().filter_map(|label| label.strip_prefix(&before));
            LiveOffer::of(names.filter(|name| given().all(|one| one != *name)))
        }
        "domain" => {
            let uid = user::own_uid();
            LiveOffer::of([format!("gui/{uid}"), format!("user/{uid}"), "system".to_owned()])
        }
        "health_url" => LiveOffer::schemes(&typed.word, &URLS, &["unix:", "file:"]),
        _ => LiveOffer::default(),
    }
}

/// What can be reloaded where the line says.
fn labels(typed: &TypedLine) -> Vec<String> {
    if let Some(group) = typed.path("group") {
        return plan::ids(&group);
    }
    let asked = typed.text("manager").and_then(ManagerKind::named);
    let daemon = typed.text("scope").map(|scope| scope == "daemon");
    let installed =
        || directory(typed, daemon).map(|directory| names::installed(&directory)).unwrap_or_default();
    match asked.unwrap_or_else(ManagerKind::of_this_machine) {
        ManagerKind::Launchd => installed(),
        ManagerKind::Systemd => {
            let word = daemon.map_or("", |daemon| if daemon { "system/" } else { "user/" });
            let units = names::units(word, deadline()).into_iter();
            let short = |unit: String| unit[word.len()..].trim_end_matches(".service").to_owned();
            units.map(short).collect()
        }
        ManagerKind::Embedded => {
            let mut labels = installed();
            labels.extend(names::kept(deadline()));
            labels.sort();
            labels.dedup();
            labels
        }
    }
}

fn directory(typed: &TypedLine, daemon: Option<bool>) -> Option<PathBuf> {
    let at_home = || match typed.path("home_dir") {
        Some(home) => Some(home.join("Library/LaunchAgents")),
        None => names::agents(),
    };
    typed.path("install_dir").or_else(|| {
        if daemon == Some(true) { Some(PathBuf::from("/Library/LaunchDaemons")) } else { at_home() }
    })
}
