//! The lives of a keeper or a group on disk: written before each start, in space that is allocated already,
//! so that a full disk changes nothing; and found by whoever comes after one that was killed.

use super::tree::{adopted, within};
use super::wall::{self, MARK, Wall};
use crate::sys::cgroup::Cgroup;
use crate::sys::child::{self, Signal};
use crate::sys::file;
use crate::sys::kernel;
use crate::sys::process::{self, Identity, Pid, Start, Table};
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The room of one life: a line that is filled up with spaces. A page of memory holds four, and no disk tears
/// one of them.
const ROOM: usize = 1024;

/// The file of the lives that are under way.
#[derive(Debug)]
pub struct Lives {
    file: File,
    path: PathBuf,
    key: String,
    /// Whether it was there before, so that what it does not tell of there is not.
    known: bool,
    left: Vec<Leftover>,
}

/// A life that a predecessor has left: it may still have members.
#[derive(Clone, Debug)]
pub struct Leftover {
    mark: String,
    cgroup: Option<PathBuf>,
    main: Option<Identity>,
    spared: Vec<Pid>,
    /// Whether it is a life of this process, to which orphans fall.
    adopts: bool,
}

impl Lives {
    /// Opens the file at `path`, made 0600 where it is missing, with room for `count` lives of the keeper or
    /// group called `key`. To be called under the lock that makes us the only one.
    ///
    /// # Errors
    /// Those of open(2) and posix_fallocate(3); StorageFull among them.
    pub fn open(path: &Path, key: &str, count: usize) -> io::Result<Lives> {
        let file = file::open_private(path)?;
        // One that is empty could not be given its space by whoever made it: that one has written nothing.
        let known = file.metadata()?.len() > 0;
        let mut lives = Lives { file, path: path.to_owned(), key: key.to_owned(), known, left: Vec::new() };
        if let Err(cause) = lives.reserve(count.max(1)) {
            if !known {
                let _ = lives.file.set_len(0);
            }
            return Err(cause);
        }
        lives.left = lives.read()?;
        Ok(lives)
    }

    /// Whether it is still there for whoever comes next: not when somebody has cleaned up.
    pub fn is_there(&self) -> bool {
        let same = |open: std::fs::Metadata, found: std::fs::Metadata| {
            (open.dev(), open.ino()) == (found.dev(), found.ino())
        };
        self.file
            .metadata()
            .is_ok_and(|open| std::fs::symlink_metadata(&self.path).is_ok_and(|found| same(open, found)))
    }

    /// Gives it up, for it cannot be written any more: whoever comes next goes by marks.
    pub fn abandon(self) {
        let _ = self.file.set_len(0);
    }

    /// Makes room for `count` lives.
    ///
    /// # Errors
    /// Those of posix_fallocate(3); StorageFull among them.
    pub fn reserve(&self, count: usize) -> io::Result<()> {
        file::allocate(&self.file, (count * ROOM) as u64)
    }

    /// What the predecessor has left, as far as it is written down; and, where nothing was, whoever bears a
    /// mark of ours. Of a life that has no members any more its cgroup is removed.
    pub fn leftovers(&self) -> Vec<Leftover> {
        let mut found = self.left.clone();
        if !self.known {
            found.extend(Leftover::of_key(&self.key));
        }
        found.retain(|one| {
            let lives = !one.members().is_empty();
            if !lives && let Some(cgroup) = one.cgroup() {
                cgroup.remove();
            }
            lives
        });
        found
    }

    /// Notes in room `number` that `wall` is about to be started, or has been.
    ///
    /// # Errors
    /// Those of pwrite(2). Nothing must be started then that the next run could not find.
    pub fn note(&self, number: usize, wall: &Wall) -> io::Result<()> {
        let main = wall.main();
        let line = json!({
            "mark": wall.mark(),
            "boot": kernel::boot(),
            "cgroup": wall.cgroup(),
            "pid": main.map(|main| main.pid.number()),
            "start": main.map(|main| main.start.0),
        });
        self.write(number, &line.to_string())
    }

    /// Notes that nothing of the life in room `number` is left.
    ///
    /// # Errors
    /// Those of pwrite(2).
    pub fn over(&self, number: usize) -> io::Result<()> {
        self.write(number, "")
    }

    fn write(&self, number: usize, line: &str) -> io::Result<()> {
        let mut room = [b' '; ROOM];
        let bytes = line.as_bytes();
        let place = room.get_mut(..bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
        place.copy_from_slice(bytes);
        room[ROOM - 1] = b'\n';
        self.file.write_all_at(&room, (number * ROOM) as u64)
    }

    fn read(&self) -> io::Result<Vec<Leftover>> {
        let mut bytes = vec![0; usize::try_from(self.file.metadata()?.len()).unwrap_or(0).min(1 << 26)];
        let count = self.file.read_at(&mut bytes, 0)?;
        let boot = json!(kernel::boot());
        let lines = bytes[..count].chunks(ROOM).filter_map(|room| serde_json::from_slice(room).ok());
        // What ran before the machine was booted is gone.
        Ok(lines.filter(|line: &Value| line["boot"] == boot).filter_map(|line| Leftover::of(&line)).collect())
    }
}

impl Leftover {
    fn of(line: &Value) -> Option<Leftover> {
        let number = |key: &str| line[key].as_i64();
        let pid = number("pid").and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::new);
        let main = pid.zip(line["start"].as_u64()).map(|(pid, start)| Identity { pid, start: Start(start) });
        let mark = line["mark"].as_str()?.to_owned();
        let cgroup = line["cgroup"].as_str().map(PathBuf::from);
        Some(Leftover { mark, cgroup, main, spared: Vec::new(), adopts: false })
    }

    /// The life inside of `wall`, for whoever shall end it without the wall: the way that the next run would.
    pub fn of_wall(wall: &Wall) -> Leftover {
        let cgroup = wall.cgroup().map(Path::to_owned);
        let (mark, spared) = (wall.mark().to_owned(), wall.spared().to_vec());
        Leftover { mark, cgroup, main: wall.main(), spared, adopts: true }
    }

    fn cgroup(&self) -> Option<Cgroup> {
        self.cgroup.as_deref().and_then(Cgroup::found)
    }

    /// The lives of `key` that are known by nothing but the marks of their members.
    pub fn of_key(key: &str) -> Vec<Leftover> {
        let prefix = format!("{key}/");
        let of_key = |value: &str| -> Vec<String> {
            value.split(',').filter(|mark| mark.starts_with(&prefix)).map(str::to_owned).collect()
        };
        let mut marks: Vec<String> = process::marked(MARK, |value| !of_key(value).is_empty())
            .into_iter()
            .filter_map(|one| process::variable(one.pid, MARK))
            .flat_map(|value| of_key(&value))
            .collect();
        marks.sort();
        marks.dedup();
        marks
            .into_iter()
            .map(|mark| Leftover { mark, cgroup: None, main: None, spared: Vec::new(), adopts: false })
            .collect()
    }

    /// Its main process, where that is known.
    pub fn main(&self) -> Option<Identity> {
        self.main
    }

    /// Its live members: those of its cgroup; those who bear its mark; and the tree of its main process, if
    /// that is still the same: not one that has got its pid since.
    pub fn members(&self) -> Vec<Identity> {
        let mut roots = process::marked(MARK, |value| wall::bears(value, &self.mark));
        roots.extend(self.cgroup().iter().flat_map(Cgroup::members));
        roots.extend(self.main.filter(|main| self.is_ours(*main)));
        let mut spared = self.spared.clone();
        if self.adopts {
            roots.extend(adopted().into_iter().filter_map(Identity::of));
            spared.extend(child::helpers());
        }
        within(&Table::read(), &roots, &spared)
    }

    /// A pid and a start time may meet again in another pid namespace; a mark does not.
    fn is_ours(&self, main: Identity) -> bool {
        main.alive() && process::variable(main.pid, MARK).is_none_or(|value| wall::bears(&value, &self.mark))
    }

    /// Ends all of it: `signal`, and what is alive after `patience` is killed. Returns when nothing is left;
    /// whether that is so.
    pub fn end(&self, signal: Signal, patience: Duration) -> bool {
        let gone = wall::end(&|| self.members(), signal, patience);
        if let Some(cgroup) = self.cgroup() {
            if self.spared.is_empty() {
                cgroup.kill();
            }
            cgroup.remove();
        }
        gone
    }
}
