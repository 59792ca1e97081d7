//! The services that a request means, each opened at its manager.

use super::request::{ReloadRequest, ReloadTarget};
use crate::service::Service;
use crate::service::manager::ManagerKind;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The service that the script checked; the others only had to be loaded.
const CONDUCTOR: &str = "conductor";

/// One service of a request, ready to be checked.
pub(super) struct NamedService {
    pub(super) name: String,
    pub(super) label: String,
    pub(super) source: PathBuf,
    pub(super) service: Box<dyn Service>,
    pub(super) is_conductor: bool,
}

/// All of them, in the order in which they are reloaded. Their managers are to answer `by` then, if ever.
///
/// # Errors
/// 2 for a name that cannot be one; 66 where a prefix has none; those of `ServiceLocation::open`.
pub(super) fn services(request: &ReloadRequest, by: Option<Instant>) -> Result<Vec<NamedService>> {
    let named: Vec<(String, String)> = match &request.aim {
        ReloadTarget::Label(label) => vec![(label.clone(), label.clone())],
        ReloadTarget::Services { prefix, names } => {
            names.iter().map(|name| (name.clone(), format!("{prefix}-{name}"))).collect()
        }
        ReloadTarget::All { prefix } => installed(&request.location.install_dir, prefix)?,
    };
    let mut ones: Vec<NamedService> = Vec::new();
    for (name, label) in named {
        // systemd takes both for one unit, and what is kept of it is one.
        let label = match label.strip_suffix(".service") {
            Some(short) if request.location.kind == ManagerKind::Systemd => short.to_owned(),
            _ => label,
        };
        let source = request
            .location
            .group
            .as_ref()
            .or(request.plist.as_ref())
            .cloned()
            .unwrap_or_else(|| request.location.install_dir.join(format!("{label}.plist")));
        let source = std::path::absolute(source)
            .map_err(|cause| Error::io("cannot tell the working directory", &cause))?;
        let open = |label: &str| -> Result<Box<dyn Service>> {
            let service = request.location.open(label, &source)?;
            service.answer_by(by);
            Ok(service)
        };
        let mut service = open(&label)?;
        // By whatever name it is called, it is one job, with one lock.
        let mut label = label;
        if let Some(own) = service.own_name().filter(|own| *own != label) {
            service = open(&own)?;
            label = own;
        }
        // One that is named twice is reloaded once.
        if ones.iter().any(|one| one.label == label) {
            continue;
        }
        let is_conductor = name == CONDUCTOR || label.ends_with("-conductor");
        ones.push(NamedService { name, label, source, service, is_conductor });
    }
    Ok(ones)
}

/// The services of `prefix` in `directory`, conductor first: the others lean on it.
fn installed(directory: &Path, prefix: &str) -> Result<Vec<(String, String)>> {
    let list = std::fs::read_dir(directory)
        .map_err(|cause| Error::io(format!("cannot list '{}'", directory.display()), &cause))?;
    let start = format!("{prefix}-");
    let mut found: Vec<(String, String)> = list
        .flatten()
        .filter_map(|one| one.file_name().into_string().ok())
        .filter_map(|file| {
            let label = file.strip_suffix(".plist")?;
            Some((label.strip_prefix(&start)?.to_owned(), label.to_owned()))
        })
        .collect();
    found.sort_by_key(|(name, _)| (name != CONDUCTOR, name.clone()));
    if found.is_empty() {
        return Err(Error::new(Status::NoInput, format!("no {start}*.plist in '{}'", directory.display())));
    }
    Ok(found)
}
