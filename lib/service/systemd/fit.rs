//! What keeps a unit from being reloaded, as far as it can be known before anything is touched.

use crate::words::error::{Error, Result, brief};
use crate::words::exit::Status;
use std::collections::HashMap;
use std::path::Path;

/// The types of unit that systemd.unit(5) names, and what is said of each but the service: what it has in
/// place of a process that could be replaced and proven.
pub(super) const TYPES: [(&str, &str); 11] = [
    (".service", ""),
    (".socket", "it has no process; reload the service that it starts"),
    (".timer", "it has no process; reload the service that it starts"),
    (".path", "it has no process; reload the service that it starts"),
    (".target", "it has no process; reload the services that it wants"),
    (".mount", "it has no process"),
    (".automount", "it has no process"),
    (".swap", "it has no process"),
    (".device", "it has no process"),
    (".slice", "it only holds other units"),
    (".scope", "systemd has not started its processes, and cannot start them again"),
];

/// What the name alone tells.
pub(super) fn by_name(unit: &str) -> std::result::Result<(), String> {
    let (stem, suffix) = unit.rsplit_once('.').unwrap_or((unit, ""));
    let other = TYPES.iter().skip(1).find(|(kind, _)| *kind == format!(".{suffix}"));
    match other {
        Some((kind, why)) => Err(format!("a {} is not a service: {why}", &kind[1..])),
        None if stem.ends_with('@') => {
            Err(format!("it is a template; name one instance, as {stem}NAME.{suffix}"))
        }
        None => Ok(()),
    }
}

/// What the loaded unit tells; the manager has read its files.
pub(super) fn by_unit(seen: &HashMap<String, String>) -> Result<()> {
    let text = |key: &str| seen.get(key).map_or("", String::as_str);
    let unfit = |status: Status, why: String| Err(Error::new(status, why));
    match text("LoadState") {
        "loaded" => {}
        "not-found" => return unfit(Status::NoInput, "there is no such unit".to_owned()),
        "masked" => return unfit(Status::BadConfig, "the unit is masked".to_owned()),
        other => {
            let error = text("LoadError");
            let detail = brief(error.split_once(' ').map_or(error, |(_, text)| text.trim_matches('"')));
            let between = if detail.is_empty() { "" } else { ": " };
            let why = format!("systemd cannot use the unit file ({other}{between}{detail})");
            return unfit(Status::BadConfig, why);
        }
    }
    for key in ["RefuseManualStart", "RefuseManualStop"] {
        if text(key) == "yes" {
            return unfit(Status::BadConfig, format!("the unit forbids it ({key}=yes)"));
        }
    }
    // Its programs are where we cannot look.
    if ["RootDirectory", "RootImage", "BindPaths", "BindReadOnlyPaths"]
        .iter()
        .any(|key| !text(key).is_empty())
    {
        return Ok(());
    }
    // systemd starts a missing program only to fail with 203 once the old process is gone.
    let program = text("ExecStart").split_once("path=").and_then(|(_, rest)| rest.split(" ;").next());
    match program {
        Some(program) if !Path::new(program).exists() => {
            unfit(Status::NoInput, format!("program '{}' does not exist", brief(program)))
        }
        Some(program) if !crate::sys::file::executable(Path::new(program)) => {
            unfit(Status::NotPermitted, format!("program '{}' is not executable", brief(program)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_service_can_be_reloaded() {
        for unit in ["web.service", "web@a.service", "so.makefile.baa-x.service"] {
            assert_eq!(by_name(unit), Ok(()), "{unit}");
        }
        for unit in
            ["a.socket", "a.timer", "a.path", "a.target", "a.slice", "a.scope", "a.mount", "web@.service"]
        {
            assert!(by_name(unit).is_err(), "{unit}");
        }
    }

    #[test]
    fn a_unit_that_forbids_it_or_lives_in_another_root_is_known_before() {
        let seen = |more: &[(&str, &str)]| -> HashMap<String, String> {
            let common = [("LoadState", "loaded"), ("ExecStart", "{ path=/none/such ; argv[]=x ; }")];
            let all = common.iter().chain(more);
            all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let status = |more: &[(&str, &str)]| by_unit(&seen(more)).map_err(|error| error.status);
        assert_eq!(status(&[]), Err(Status::NoInput));
        assert_eq!(status(&[("RootDirectory", "/srv/root")]), Ok(()));
        assert_eq!(status(&[("RefuseManualStop", "yes")]), Err(Status::BadConfig));
        assert_eq!(status(&[("LoadState", "masked")]), Err(Status::BadConfig));
    }
}
