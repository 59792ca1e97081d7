//! What is written before anything of a peer is removed, so that an attempt that was cut off is finished by
//! the next one.

use crate::act::peers::root::Root;
use crate::sys::{file, trust};
use crate::words::error::{Error, Result};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::SystemTime;

/// The tombstone of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// Its name.
    pub personality: String,
    /// How often a peer of this name was removed.
    pub generation: u64,
    /// What it ran in.
    pub runtimes: Vec<String>,
    /// Its folder.
    pub cwd: String,
    /// Whether its state was to be kept.
    pub keep_state: bool,
    /// Whether the removal has come to its end.
    pub complete: bool,
}

fn path(root: &Root, personality: &str) -> PathBuf {
    root.tombstones().join(format!("{personality}.json"))
}

impl Tombstone {
    /// The last one of `personality`. One that is not ours to read counts as none.
    pub fn read(root: &Root, personality: &str) -> Option<Tombstone> {
        let said: Value =
            serde_json::from_slice(&trust::read(&path(root, personality), 64 * 1024).ok()?).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(Tombstone {
            personality: text(said.get("personality")?).filter(|name| name == personality)?,
            generation: said.get("generation")?.as_u64()?,
            runtimes: said.get("runtimes")?.as_array()?.iter().filter_map(text).collect(),
            cwd: text(said.get("cwd")?)?,
            keep_state: said.get("keep_state")?.as_bool()?,
            complete: said.get("complete")?.as_bool()?,
        })
    }

    /// Puts it on the disk.
    ///
    /// # Errors
    /// When it cannot be written; nothing may be removed then.
    pub fn write(&self, root: &Root) -> Result<()> {
        let path = path(root, &self.personality);
        let text = json!({
            "schema": "baa.peer-remove.tombstone/1",
            "personality": self.personality,
            "generation": self.generation,
            "time": crate::words::stamp::seconds(SystemTime::now()),
            "runtimes": self.runtimes,
            "cwd": self.cwd,
            "keep_state": self.keep_state,
            "complete": self.complete,
        });
        let cannot = |cause| Error::io(format!("cannot write {}", path.display()), &cause);
        file::private_dir(&root.tombstones()).map_err(cannot)?;
        file::sweep_staged(&path);
        file::replace(&path, format!("{text}\n").as_bytes(), 0o600).map_err(cannot)
    }
}
