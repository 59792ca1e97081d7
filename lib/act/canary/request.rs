//! What a command line means: which log directory, which targets, which of those that are armed.

use crate::act::canary::arming::{self, Armed};
use crate::act::canary::record::RecordDirectory;
use crate::act::canary::target::{self, CanaryTargetName};
use crate::service::iapeer;
use crate::sys::file;
use crate::sys::process::Pid;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A file of targets is not larger than this.
const TARGETS_LIMIT: u64 = 4 * 1024 * 1024;

/// A target and, perhaps, what it is to be called.
pub type RequestedTarget = (CanaryTargetName, Option<String>);

/// Where records go; `None` when the flag is there and empty, which is iapeer's word for "nowhere".
///
/// # Errors
/// When the working directory cannot be told.
pub fn records(log_dir: Option<&OsStr>, root_flag: Option<&Path>) -> Result<Option<RecordDirectory>> {
    let directory = match (log_dir, iapeer::named_root(root_flag)) {
        (Some(path), _) if path.is_empty() => return Ok(None),
        (Some(path), _) => PathBuf::from(path),
        (None, Some(root)) => root.join("logs/iapeer"),
        (None, None) => file::state_dir().join("canary"),
    };
    let directory = std::path::absolute(directory)
        .map_err(|cause| Error::io("cannot tell the working directory", &cause))?;
    Ok(Some(RecordDirectory::new(directory)))
}

/// The targets of a command line and of the file that it names. Its identity is that of its only target;
/// alone it means iapeer's socket of that name.
///
/// # Errors
/// 2 when the identity is wrong, or is to name several; those of `targets_from`.
pub fn all(
    mut aims: Vec<CanaryTargetName>,
    identity: Option<&str>,
    root_flag: Option<&Path>,
    file: Option<&Path>,
) -> Result<Vec<RequestedTarget>> {
    if let Some(identity) = identity {
        target::check_identity(identity)?;
        match aims.len() {
            0 if file.is_none() => aims.push(CanaryTargetName::Socket(
                iapeer::socket_dir(iapeer::named_root(root_flag).as_deref())
                    .join(iapeer::socket_name(identity)),
            )),
            1 => {}
            _ => {
                return Err(Error::new(
                    Status::Usage,
                    "--identity names one target; name several in a file, with --targets-from",
                ));
            }
        }
    }
    let mut all: Vec<RequestedTarget> =
        aims.into_iter().map(|aim| (aim, identity.map(str::to_owned))).collect();
    if let Some(path) = file {
        all.extend(targets_from(path)?);
    }
    Ok(all)
}

/// What a watch would do, for people and as JSON.
///
/// # Errors
/// When a target cannot be watched.
pub fn plan(wanted: &[RequestedTarget], records: &RecordDirectory) -> Result<(String, Value)> {
    let targets = wanted
        .iter()
        .map(|(aim, identity)| target::pin(aim, identity.as_deref()))
        .collect::<Result<Vec<_>>>()?;
    let words: Vec<String> =
        targets.iter().map(|target| format!("{} (process {})", target.identity, target.who.pid)).collect();
    let rows: Vec<Value> = targets
        .iter()
        .map(|target| json!({ "identity": target.identity, "server_pid": target.who.pid.number() }))
        .collect();
    let json = json!({
        "schema": "baa.canary/1", "dry_run": true, "targets": rows, "log": records.log().to_string_lossy()
    });
    Ok((format!("would watch {} and record in {}", words.join(", "), records.log().display()), json))
}

/// The targets of a file, or of stdin for `-`: 66 when it is missing, 65 with the number of a wrong line.
fn targets_from(path: &Path) -> Result<Vec<RequestedTarget>> {
    let cannot = |cause| Error::io(format!("cannot read targets from {}", path.display()), &cause);
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().take(TARGETS_LIMIT).read_to_end(&mut bytes).map_err(cannot)?;
    } else {
        bytes = file::read(path, TARGETS_LIMIT).map_err(cannot)?;
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let malformed =
            |why: String| Error::new(Status::Malformed, format!("{}:{}: {why}", path.display(), number + 1));
        found.extend(CanaryTargetName::parse(line).map_err(malformed)?);
    }
    Ok(found)
}

/// Which of those that are armed; everything that is given must fit.
#[derive(Clone, Debug, Default)]
pub struct ArmedFilter {
    /// The tmux socket.
    pub socket: Option<PathBuf>,
    /// The pid.
    pub pid: Option<Pid>,
    /// The identity.
    pub identity: Option<String>,
}

impl ArmedFilter {
    /// Whether nothing is given, and everything fits.
    pub fn is_open(&self) -> bool {
        self.socket.is_none() && self.pid.is_none() && self.identity.is_none()
    }

    /// What is armed at `place` and fits.
    ///
    /// # Errors
    /// 77 where another user could say what is armed.
    pub fn of(&self, records: &RecordDirectory) -> Result<Vec<Armed>> {
        records.check()?;
        // The socket may be gone with its server, so a link on its way is followed without it.
        let real = |path: &Path| -> Option<PathBuf> {
            let parent =
                path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            path.canonicalize().ok().or_else(|| Some(parent.canonicalize().ok()?.join(path.file_name()?)))
        };
        let socket = self.socket.as_deref().map(|path| real(path).unwrap_or_else(|| path.to_owned()));
        let mut found = arming::all(records);
        found.retain(|armed| socket.is_none() || armed.socket == socket);
        found.retain(|armed| self.pid.is_none_or(|pid| armed.who.pid == pid));
        found.retain(|armed| self.identity.as_ref().is_none_or(|identity| armed.identity == *identity));
        Ok(found)
    }
}
