//! Tokens and passwords in memory: they are shown to nobody, wiped when they are no longer needed, and while
//! there is one no core of this process is written. What it starts gets none of them.

use crate::sys::child::{Limit, Resource};
use crate::sys::{trust, user};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::ffi::{CString, OsString};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A secret. Its memory is wiped with it; `Debug` does not show it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// From now on no core of this process is written (`protect`).
    pub fn new(text: String) -> SecretText {
        protect();
        SecretText(text)
    }

    /// What a file holds that is ours, root's or given to us by root, and that others may not read; or a
    /// descriptor that whoever has started us has opened (/dev/stdin, /dev/fd/N). `doing` is for people.
    ///
    /// # Errors
    /// A file that cannot be read: 66, 74, 77; 65 for one that is no text; 78 for one that others may read,
    /// or put there.
    pub fn read(doing: &str, path: &Path, limit: u64) -> Result<SecretText> {
        let bytes = trust::read_secret(path, limit).map_err(|cause| trust::told(doing.to_owned(), &cause))?;
        String::from_utf8(bytes).map(SecretText::new).map_err(|cause| {
            wipe(cause.into_bytes());
            Error::new(Status::Malformed, format!("{doing}: it is not UTF-8"))
        })
    }

    /// The secret itself, for whoever sends or compares it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Without the space around it; `None` where nothing is left.
    pub fn trimmed(&self) -> Option<SecretText> {
        Some(self.0.trim()).filter(|text| !text.is_empty()).map(|text| SecretText::new(text.to_owned()))
    }
}

impl Drop for SecretText {
    fn drop(&mut self) {
        wipe(std::mem::take(&mut self.0).into_bytes());
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("***")
    }
}

/// Writes zeroes over all that was ever in this memory, and gives it back.
pub fn wipe(mut bytes: Vec<u8>) {
    bytes.clear();
    for byte in bytes.spare_capacity_mut() {
        // SAFETY: the place is the vector's own. Volatile, so that it is done though nobody reads it again.
        unsafe { byte.as_mut_ptr().write_volatile(0) };
    }
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
}

/// What is known of the secrets of this process.
struct Secrets {
    /// Variables that were taken out of our environment.
    taken: Vec<(&'static str, SecretText)>,
    /// Variables that stay there, and are not passed on.
    withheld: Vec<&'static str>,
    /// Whether cores are prevented, and whether we are still shown to other programs of our user.
    protected: bool,
    visible: bool,
    /// The limit of cores before we changed it.
    cores: Option<Limit>,
}

static SECRETS: Mutex<Secrets> = Mutex::new(Secrets {
    taken: Vec::new(),
    withheld: Vec::new(),
    protected: false,
    visible: false,
    cores: None,
});

fn secrets() -> MutexGuard<'static, Secrets> {
    SECRETS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes these variables out of our environment, the memory included that /proc/PID/environ shows, so that no
/// child inherits them; `taken` tells them. To be called first of all, before there is another thread.
pub fn take(names: &[&'static str]) {
    for name in names {
        let Some(value) = std::env::var_os(name) else { continue };
        if let Ok(value) = value.into_string() {
            let value = SecretText::new(value);
            secrets().taken.push((name, value));
        }
        let Ok(key) = CString::new(*name) else { continue };
        // SAFETY: the name ends with NUL, and no other thread changes the environment.
        let place = unsafe { libc::getenv(key.as_ptr()) };
        if !place.is_null() {
            // SAFETY: getenv(3) points to a text with NUL at its end.
            let length = unsafe { libc::strlen(place) };
            for at in 0..length {
                // SAFETY: within that text, which is ours to change (environ(7)).
                unsafe { place.add(at).write_volatile(0) };
            }
        }
        // SAFETY: no other thread looks at the environment.
        unsafe { std::env::remove_var(name) };
    }
}

/// A variable that `take` has taken.
pub fn taken(name: &str) -> Option<SecretText> {
    secrets().taken.iter().find(|(taken, _)| *taken == name).map(|(_, value)| value.clone())
}

/// Keeps a variable, which holds a secret among other things, from what we start.
pub fn withhold(name: &'static str) {
    protect();
    secrets().withheld.push(name);
}

/// What is not passed on.
pub(super) fn withheld() -> Vec<OsString> {
    secrets().withheld.iter().map(OsString::from).collect()
}

/// The limit of cores that a child gets, where ours is another.
pub(super) fn cores() -> Option<Limit> {
    secrets().cores
}

/// No core of this process is written from now on, and nobody but root looks into it (PR_SET_DUMPABLE; on
/// macOS by the limit of cores alone).
pub fn protect() {
    let mut secrets = secrets();
    if std::mem::replace(&mut secrets.protected, true) {
        return;
    }
    if secrets.visible || !dumpable(false) {
        secrets.cores = no_cores();
    }
}

/// A server must stay visible to the programs of its own user that ask who listens on its port: without
/// /proc/PID/fd nobody can tell. No core is written all the same, by the limit. What root runs is looked
/// into by root anyway, and is hidden from all others.
pub fn stay_visible() {
    let mut secrets = secrets();
    if user::own_uid() == 0 || std::mem::replace(&mut secrets.visible, true) {
        return;
    }
    if secrets.protected && secrets.cores.is_none() {
        secrets.cores = no_cores();
        dumpable(true);
    }
}

/// Whether cores may be written, and same users may look; whether that could be set.
#[cfg(target_os = "linux")]
fn dumpable(wanted: bool) -> bool {
    // SAFETY: prctl(2) with integers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, libc::c_ulong::from(wanted), 0, 0, 0) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn dumpable(_: bool) -> bool {
    false
}

/// Sets the soft limit of cores, and says what it was. One byte: to Linux that means none, also where a
/// program is to get them (core(5)), which a limit of 0 does not.
fn no_cores() -> Option<Limit> {
    let (soft, hard) = nix::sys::resource::getrlimit(Resource::RLIMIT_CORE).ok()?;
    let none = if cfg!(target_os = "linux") { hard.min(1) } else { 0 };
    nix::sys::resource::setrlimit(Resource::RLIMIT_CORE, none, hard).ok()?;
    Some(Limit { resource: Resource::RLIMIT_CORE, soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = SecretText(" word\n".to_owned());
        assert_eq!(format!("{:?}", Some(&secret)), "Some(***)");
        assert_eq!(secret.0.trim(), "word");
        wipe(b"gone".to_vec());
    }
}
