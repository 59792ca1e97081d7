//! A reload from inside the job that is reloaded would be killed half-way; it is handed over to a helper
//! outside.

use crate::act::reload::files::ReloadFiles;
use crate::life;
use crate::service::Service;
use crate::sys::child::{Spec, Stdio};
use crate::sys::file;
use crate::sys::process::{Pid, Watch};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::ffi::OsString;
use std::time::{Duration, Instant};

/// Names the pid of the caller, in the environment of a helper.
pub const VARIABLE: &str = "BAA_RELOAD_HELPER_OF";

/// How long a helper may take to begin, and how long it waits for its caller to be gone.
const BEGIN: Duration = Duration::from_secs(5);
const FAREWELL: Duration = Duration::from_secs(2);

/// Whether this process is the helper; waits then until its caller has said good-bye.
pub fn is_helper() -> bool {
    let Some(caller) = std::env::var(VARIABLE).ok().and_then(|text| text.parse::<Pid>().ok()) else {
        return false;
    };
    if let Ok(Some(watch)) = Watch::new(caller) {
        watch.wait(Instant::now() + FAREWELL);
    }
    true
}

/// Starts the same command in a session of its own, outside the job, and waits until it has begun. Returns
/// its pid.
///
/// # Errors
/// 69 when it did not begin; then nothing was touched.
pub fn hand_over(service: &dyn Service, files: &ReloadFiles) -> Result<Pid> {
    let cannot = |cause: std::io::Error| Error::io("cannot hand the reload over to a helper", &cause);
    let mut words: Vec<OsString> = service.escape().into_iter().map(OsString::from).collect();
    words.push(std::env::current_exe().map_err(cannot)?.into_os_string());
    words.extend(std::env::args_os().skip(1));
    let log = file::open_log(&files.log()).map_err(cannot)?;
    let output = || log.as_ref().and_then(|log| log.try_clone().ok()).map_or_else(Stdio::null, Stdio::from);
    let mut spec = Spec::new(words.remove(0), words);
    spec.env.push((VARIABLE.into(), Pid::own().to_string().into()));
    // It is no part of the life that it was started in, and is not to be taken for a leftover of it.
    spec.unset.push(life::MARK.into());
    spec.stdio = [Some(Stdio::null()), Some(output()), Some(output())];
    let helper = spec.start()?.identity;
    service.spare(helper.pid).map_err(|trouble| {
        Error::new(Status::Unavailable, format!("cannot hand the reload over: {trouble}"))
    })?;
    let until = Instant::now() + BEGIN;
    while Instant::now() < until && helper.alive() {
        if files.locked() {
            return Ok(helper.pid);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(Error::new(Status::Unavailable, format!("the helper did not begin; see '{}'", files.log().display())))
}
