//! The lives of a keeper or a group on disk: written before each start, in space that is allocated already,
//! so that a full disk changes nothing; and found by whoever comes after one that was killed.

use super::tree::{adopted, kill_until_gone, within};
use super::wall::{MARK, Wall, bears};
use crate::sys::cgroup::{Cgroup, CgroupParent};
use crate::sys::child::{self, Signal};
use crate::sys::clock;
use crate::sys::file;
use crate::sys::kernel;
use crate::sys::process::{self, Identity, Pid, Start, Table};
use crate::sys::signal::SignalNumber;
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The room of one life: a line that is filled up with spaces. A page of memory holds four, and no disk tears
/// one of them.
const ROOM: usize = 1024;
/// Between two looks at those who shall end.
const LOOK: Duration = Duration::from_millis(5);

/// The file of the lives that are under way.
#[derive(Debug)]
pub struct Lives {
    file: File,
    path: PathBuf,
    key: String,
    boot: Value,
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
    /// What its main process is told to stop by, where that is not the signal that all get.
    stop: Option<SignalNumber>,
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
        let (path, key, boot) = (path.to_owned(), key.to_owned(), json!(kernel::boot()));
        let mut lives = Lives { file, path, key, boot, known, left: Vec::new() };
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
        let seen = Seen::all();
        found.retain(|one| {
            let lives = !seen.members(std::slice::from_ref(one)).is_empty();
            if !lives && let Some(cgroup) = one.cgroup() {
                cgroup.remove();
            }
            lives
        });
        found
    }

    /// Notes that there is no life at all.
    ///
    /// # Errors
    /// Those of pwrite(2).
    pub fn wipe(&self) -> io::Result<()> {
        let length = usize::try_from(self.file.metadata()?.len()).unwrap_or(0);
        self.file.write_all_at(&vec![b' '; length], 0)
    }

    /// Notes in room `number` that `wall` is about to be started, or has been.
    ///
    /// # Errors
    /// Those of pwrite(2). Nothing must be started then that the next run could not find.
    pub fn note(&self, number: usize, wall: &Wall) -> io::Result<()> {
        let main = wall.main();
        let line = json!({
            "mark": wall.mark(),
            "boot": self.boot,
            "cgroup": wall.cgroup(),
            "pid": main.map(|main| main.pid.number()),
            "start": main.map(|main| main.start.0),
            "stop": wall.stop_signal().map(|signal| signal.to_string()),
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
        let lines = bytes[..count].chunks(ROOM).filter_map(|room| serde_json::from_slice(room).ok());
        // What ran before the machine was booted is gone.
        Ok(lines
            .filter(|line: &Value| line["boot"] == self.boot)
            .filter_map(|line| Leftover::of(&line))
            .collect())
    }
}

impl Leftover {
    fn of(line: &Value) -> Option<Leftover> {
        let number = |key: &str| line[key].as_i64();
        let pid = number("pid").and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::new);
        let main = pid.zip(line["start"].as_u64()).map(|(pid, start)| Identity { pid, start: Start(start) });
        let mark = line["mark"].as_str()?.to_owned();
        let cgroup = line["cgroup"].as_str().map(PathBuf::from);
        let stop = line["stop"].as_str().and_then(SignalNumber::named);
        Some(Leftover { cgroup, stop, ..Leftover::marked(mark, main) })
    }

    /// The life inside of `wall`, for whoever shall end it without the wall: the way that the next run would.
    pub fn of_wall(wall: &Wall) -> Leftover {
        let cgroup = wall.cgroup().map(Path::to_owned);
        let (mark, spared) = (wall.mark().to_owned(), wall.spared().to_vec());
        Leftover { mark, cgroup, main: wall.main(), stop: wall.stop_signal(), spared, adopts: true }
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
        marks.into_iter().map(|mark| Leftover::marked(mark, None)).collect()
    }

    /// A life of which no more is known than its mark, and its main process perhaps.
    fn marked(mark: String, main: Option<Identity>) -> Leftover {
        Leftover { mark, cgroup: None, main, stop: None, spared: Vec::new(), adopts: false }
    }

    /// The lives of `key` whose cgroups are still in `parent`, whether anybody is in them or not.
    pub fn of_cgroups(parent: &CgroupParent, key: &str) -> Vec<Leftover> {
        let prefix = format!("baa-{key}-");
        let life = |path: PathBuf| {
            let id = path.file_name()?.to_str()?.strip_prefix(&prefix)?.to_owned();
            Some(Leftover { cgroup: Some(path), ..Leftover::marked(format!("{key}/{id}"), None) })
        };
        parent.below().into_iter().filter_map(life).collect()
    }

    /// Removes the cgroups of `key` in `parent` that nobody is in.
    pub fn remove_empty(parent: &CgroupParent, key: &str) {
        for cgroup in Leftover::of_cgroups(parent, key).iter().filter_map(Leftover::cgroup) {
            if cgroup.is_empty() == Some(true) {
                cgroup.remove();
            }
        }
    }

    /// Its main process, where that is known.
    pub fn main(&self) -> Option<Identity> {
        self.main
    }

    /// Its live members: those of its cgroup; those who bear its mark; and the tree of its main process, if
    /// that is still the same: not one that has got its pid since.
    pub fn members(&self) -> Vec<Identity> {
        Leftover::all_members(std::slice::from_ref(self))
    }

    /// The live members of several, by one look at the system.
    pub fn all_members(all: &[Leftover]) -> Vec<Identity> {
        if all.is_empty() { Vec::new() } else { Seen::all().members(all) }
    }

    /// Ends all of it: its main process by its own signal where one is known, all else by `signal`, and what
    /// is alive after `patience` is killed. Returns when nothing is left; whether that is so.
    pub fn end(&self, signal: Signal, patience: Duration) -> bool {
        Leftover::end_all(std::slice::from_ref(self), signal, patience)
    }

    /// The same of several at once.
    pub fn end_all(all: &[Leftover], signal: Signal, patience: Duration) -> bool {
        let until = clock::after(Instant::now(), patience);
        let mut alive = Leftover::all_members(all);
        for one in &alive {
            let own = all.iter().find(|left| left.main == Some(*one)).and_then(|left| left.stop);
            Wall::tell(&[*one], own.filter(|_| signal != Signal::SIGKILL).unwrap_or(signal.into()));
        }
        let gone = loop {
            alive.retain(Identity::alive);
            if alive.is_empty() {
                // Only when those are gone does a look at all tell of others, who have come since.
                alive = Leftover::all_members(all);
                if alive.is_empty() {
                    break true;
                }
            }
            if Instant::now() >= until {
                Leftover::kill_cgroups(all);
                break kill_until_gone(|| Leftover::all_members(all));
            }
            std::thread::sleep(LOOK);
            child::collect();
        };
        for cgroup in all.iter().filter_map(Leftover::cgroup) {
            cgroup.remove();
        }
        gone
    }

    fn kill_cgroups(all: &[Leftover]) {
        // Where somebody is spared, he may be in it too.
        for cgroup in all.iter().filter(|one| one.spared.is_empty()).filter_map(Leftover::cgroup) {
            cgroup.kill();
        }
    }
}

/// The system at one moment: its table, and who bears marks of lives.
struct Seen {
    table: Table,
    marked: Vec<(Identity, String)>,
}

impl Seen {
    fn all() -> Seen {
        let table = Table::read();
        let alive = table.entries().iter().filter(|one| !one.zombie && one.identity.pid != Pid::own());
        let marked = alive.filter_map(|one| Some((one.identity, process::variable(one.identity.pid, MARK)?)));
        let marked = marked.collect();
        Seen { table, marked }
    }

    /// The live members of several lives.
    fn members(&self, all: &[Leftover]) -> Vec<Identity> {
        let (mut roots, mut spared): (Vec<Identity>, Vec<Pid>) = (Vec::new(), Vec::new());
        for one in all {
            let marked = self.marked.iter().filter(|(_, marks)| bears(marks, &one.mark));
            roots.extend(marked.map(|(who, _)| *who));
            roots.extend(one.cgroup().iter().flat_map(Cgroup::members));
            roots.extend(one.main.filter(|main| self.is_ours(*main, &one.mark)));
            if one.adopts {
                roots.extend(adopted().into_iter().filter_map(Identity::of));
                spared.extend(child::helpers());
            }
            spared.extend(&one.spared);
        }
        if roots.is_empty() { Vec::new() } else { within(&self.table, &roots, &spared) }
    }

    /// A pid and a start time may meet again in another pid namespace; a mark does not.
    fn is_ours(&self, main: Identity, mark: &str) -> bool {
        let marks = self.marked.iter().find(|(who, _)| *who == main).map(|(_, marks)| marks);
        main.alive() && marks.is_none_or(|marks| bears(marks, mark))
    }
}

/// Kills what is known of several lives by their main processes, their marks and their cgroups, wherever it
/// went.
pub(super) fn kill_all(lives: Vec<(Identity, String, Option<PathBuf>)>) -> bool {
    let life = |(main, mark, cgroup)| Leftover { cgroup, ..Leftover::marked(mark, Some(main)) };
    let all: Vec<Leftover> = lives.into_iter().map(life).collect();
    Leftover::kill_cgroups(&all);
    kill_until_gone(|| Leftover::all_members(&all))
}
