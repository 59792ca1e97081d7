//! Where a group is found and what it can be asked. A group is what its file is: under another name, by a
//! hard link or from another runtime directory it is the same one.

use crate::life;
use crate::sys::file::{self, FileId, Lock};
use crate::sys::lines;
use crate::sys::process::{self, Pid};
use crate::sys::trust;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The largest answer: thousands of entries.
const ANSWER: u64 = 16 * 1024 * 1024;
/// Who is busy has this long: ten thousand who ask at once take their turns.
const PATIENCE: Duration = Duration::from_secs(60);
/// In a list one that is busy is not waited for any longer.
const LISTED: Duration = Duration::from_secs(5);
/// Who is stopped gets so long to go on.
const STOPPED: Duration = Duration::from_secs(1);
/// Between two tries to be heard.
const PAUSE: Duration = Duration::from_millis(20);
/// The largest note of a group on itself.
const NOTE: u64 = 64 * 1024;
/// What our programs that run groups are called, for whoever looks who holds a lock.
const PROGRAM: &str = "baa-daemons";

/// Where the group of a file keeps its state.
#[derive(Clone, Debug)]
pub struct GroupPaths {
    file: PathBuf,
    name: String,
    directory: PathBuf,
}

/// What is known of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// Nobody has it.
    No,
    /// Somebody has it.
    Yes,
    /// We may not look: it is another user's.
    Denied,
}

impl GroupPaths {
    /// Of the file at `path`, wherever it is asked from.
    ///
    /// # Errors
    /// 66, 77 where the path leads nowhere.
    pub fn of(path: &Path) -> Result<GroupPaths> {
        let whole = path
            .canonicalize()
            .map_err(|cause| Error::io(format!("cannot find {}", path.display()), &cause))?;
        let stem: String = whole
            .file_stem()
            .map(|stem| stem.to_string_lossy().chars().filter(char::is_ascii_alphanumeric).take(16).collect())
            .unwrap_or_default();
        // The same file may be a group of each of several users.
        let path = [whole.as_os_str().as_encoded_bytes(), &[0]].concat();
        let own = [&path[..], crate::sys::user::own_uid().to_string().as_bytes()].concat();
        let name = format!("{stem}-{}", life::key(&own));
        let directory = file::runtime_dir().join("groups").join(&name);
        Ok(GroupPaths { file: whole, name, directory })
    }

    /// The same, or, where the group of this very file runs under another name or in another place, that
    /// one's.
    ///
    /// # Errors
    /// As `of`; 77 when it is another user's.
    pub fn found(path: &Path) -> Result<GroupPaths> {
        let own = GroupPaths::of(path)?;
        Ok(own.running()?.unwrap_or(own))
    }

    /// Makes its directories, for us alone.
    ///
    /// # Errors
    /// 74, 77.
    pub fn make(&self) -> Result<()> {
        let cannot = |cause: std::io::Error| {
            Error::io(format!("cannot keep state in '{}'", self.directory().display()), &cause)
        };
        file::check_runtime_dir()?;
        file::own_dir(&file::runtime_dir())
            .and_then(|_| file::private_dir(&self.directory()))
            .map_err(cannot)?;
        file::own_dir(&file::state_dir()).and_then(|_| file::private_dir(&self.logs())).map_err(cannot)
    }

    /// The file, by a path that leads there from everywhere.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What its lives are known by: the same in every release and run, and another one in a container that
    /// has a file of this name too.
    pub fn key(&self) -> String {
        let (stem, own) = self.name.split_once('-').unwrap_or_default();
        let place = process::namespace().unwrap_or_default();
        format!("{stem}-{}", life::key([own, &place].concat().as_bytes()))
    }

    /// What is of this boot.
    pub fn directory(&self) -> PathBuf {
        self.directory.clone()
    }

    /// Held locked as long as the group runs.
    pub fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }

    /// The same where logs are, which may be another place for those who share the runtime directory, and the
    /// same for those who do not.
    pub fn logs_lock(&self) -> PathBuf {
        self.logs().join("lock")
    }

    /// The socket.
    pub fn control(&self) -> PathBuf {
        self.directory.join("control")
    }

    /// The lives of its entries.
    pub fn lives(&self) -> PathBuf {
        self.directory.join("lives")
    }

    fn note(&self) -> PathBuf {
        self.directory.join("group.json")
    }

    /// What is kept of what entries say.
    pub fn logs(&self) -> PathBuf {
        file::state_dir().join("groups").join(&self.name)
    }

    /// The file of one entry.
    pub fn log(&self, id: &str) -> PathBuf {
        self.logs().join(format!("{id}.log"))
    }

    /// What happened, in JSON.
    pub fn journal(&self) -> PathBuf {
        self.logs().join("events.jsonl")
    }

    /// Notes which file the group that runs here is of, for those who know it by another name.
    ///
    /// # Errors
    /// Those of writing it.
    pub fn describe(&self, id: Option<FileId>) -> std::io::Result<()> {
        let id = id.map(|id| json!([id.device, id.inode]));
        let note = json!({ "file": self.file, "id": id, "pid": std::process::id() });
        file::replace(&self.note(), format!("{note}\n").as_bytes(), 0o600)
    }

    /// Whether the group that runs here is of the file `id`.
    fn is_of(&self, id: FileId) -> bool {
        self.read_note()["id"] == json!([id.device, id.inode])
    }

    fn read_note(&self) -> Value {
        let bytes = trust::read(&self.note(), NOTE).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or(Value::Null)
    }

    /// The process of the group that runs here, if it says who it is.
    fn pid(&self) -> Option<Pid> {
        let pid = self.read_note()["pid"].as_i64()?;
        i32::try_from(pid).ok().and_then(Pid::new)
    }

    /// Whether the group that runs here is stopped by a signal.
    fn is_stopped(&self) -> bool {
        self.pid().is_some_and(|pid| process::is_stopped(pid) && !is_stranger(pid))
    }

    /// Why the group that runs here does not answer.
    fn silence(&self) -> String {
        match self.pid().filter(|_| self.is_stopped()) {
            Some(pid) => format!("the group runs, but its process {pid} is stopped (SIGCONT lets it go on)"),
            None => "the group runs, but does not answer: it is busy".to_owned(),
        }
    }

    /// Where groups of this very file have run under other names that it had, or has, and do not any more:
    /// one that was killed may have left something under that name.
    pub fn former(&self) -> Vec<GroupPaths> {
        let Some(id) = FileId::of(&self.file) else { return Vec::new() };
        let mut places = self.beside();
        places.retain(|place| place.name != self.name && place.is_of(id) && held(&place.lock()) == Held::No);
        places
    }

    /// All places of groups in our runtime directory.
    fn beside(&self) -> Vec<GroupPaths> {
        let all = std::fs::read_dir(file::runtime_dir().join("groups")).into_iter().flatten().flatten();
        all.map(|one| self.at(one.path())).collect()
    }

    /// The group of our file, if it were in `directory`.
    fn at(&self, directory: PathBuf) -> GroupPaths {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        GroupPaths { file: self.file.clone(), name, directory }
    }

    /// Whether another group of this user has locked the file at `path`. A lock that is another user's, or of
    /// a program that runs no groups, binds nobody: whoever may read a file may lock it.
    pub fn rival(path: &Path) -> bool {
        if !matches!(Lock::on_file(path), Ok(None)) {
            return false;
        }
        let holders = file::lock_holders(path);
        holders.is_empty() || holders.into_iter().any(|pid| !is_stranger(pid))
    }

    /// Where the group of this file runs, if it does: here; or in another place of the same runtime
    /// directory; or wherever the process that has locked the file has its own.
    fn running(&self) -> Result<Option<GroupPaths>> {
        match held(&self.lock()) {
            Held::Yes => return Ok(Some(self.clone())),
            Held::Denied => {
                let text =
                    format!("cannot ask the group of {}: its place is another user's", self.file.display());
                return Err(Error::new(Status::NotPermitted, text));
            }
            Held::No => {}
        }
        let Some(id) = FileId::of(&self.file) else { return Ok(None) };
        let holders = file::lock_holders(&self.file).into_iter().filter(|pid| !is_stranger(*pid));
        let locked = holders.flat_map(process::open_files);
        let elsewhere = locked.filter(|path| path.ends_with("lock")).filter_map(|path| {
            let directory = path.parent()?;
            directory.join("group.json").exists().then(|| directory.to_owned())
        });
        let found = self.beside().into_iter().chain(elsewhere.map(|directory| self.at(directory)));
        let mut found = found.filter(|place| place.is_of(id) && held(&place.lock()) == Held::Yes);
        Ok(found.next())
    }

    /// Asks the group; its answer.
    ///
    /// # Errors
    /// 69 when it does not run; 77 when it is another user's; 124 when it runs and does not answer; what it
    /// refuses.
    pub fn ask(&self, verb: &str, id: Option<&str>) -> Result<Value> {
        self.ask_within(verb, id, PATIENCE)
    }

    /// Puts a question of any kind to the group; its answer.
    ///
    /// # Errors
    /// As `ask`; 2 where it names so many entries that no group reads it.
    pub fn put(&self, question: &Value) -> Result<Value> {
        self.put_within(question, PATIENCE)
    }

    pub(super) fn ask_within(&self, verb: &str, id: Option<&str>, patience: Duration) -> Result<Value> {
        self.put_within(&json!({ "verb": verb, "id": id }), patience)
    }

    fn put_within(&self, question: &Value, patience: Duration) -> Result<Value> {
        let mut question = question.clone();
        question["file"] = json!(self.file);
        let question = question.to_string();
        if question.len() as u64 >= lines::LINE_LIMIT {
            return Err(Error::new(Status::Usage, "so many entries cannot be named at once"));
        }
        let until = Instant::now() + patience;
        let mut stopped: Option<Instant> = None;
        loop {
            let place = self.running()?;
            let left = until.saturating_duration_since(Instant::now());
            // What is stopped is not asked, so that it does not obey much later whom nobody waits for.
            if let Some(place) = place.as_ref().filter(|place| place.is_stopped()) {
                if stopped.get_or_insert_with(Instant::now).elapsed() >= STOPPED || left.is_zero() {
                    return Err(Error::new(Status::TooLate, place.silence()));
                }
                std::thread::sleep(PAUSE);
                continue;
            }
            let said = match &place {
                Some(place) => lines::ask(&place.control(), &question, ANSWER, left),
                // Its directory was removed, and it has not made it again yet.
                None if GroupPaths::rival(&self.file) => Err(ErrorKind::NotFound.into()),
                None => return Err(Error::new(Status::Unavailable, "the group does not run")),
            };
            match said {
                Ok(said) => return understood(&said),
                Err(cause) if cause.kind() == ErrorKind::PermissionDenied => {
                    let text = "cannot ask the group: it is another user's";
                    return Err(Error::new(Status::NotPermitted, text));
                }
                // Nobody has heard us yet, or it had no room for one more: it may soon.
                Err(cause) if unheard(cause.kind()) && Instant::now() + PAUSE < until => {
                    std::thread::sleep(PAUSE);
                }
                Err(_) => {
                    let place = place.unwrap_or_else(|| self.clone());
                    return Err(Error::new(Status::TooLate, place.silence()));
                }
            }
        }
    }

    /// Whether the group runs now, as far as anybody can tell.
    pub fn runs(&self) -> bool {
        held(&self.lock()) == Held::Yes || GroupPaths::rival(&self.file)
    }

    /// What each group of this runtime directory that runs says of itself; of one that does not answer, why.
    pub fn all_running() -> Vec<Value> {
        let directory = file::runtime_dir().join("groups");
        let all = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut found: Vec<Value> = all.filter_map(|one| GroupPaths::told_in(&one.path())).collect();
        found.sort_by_key(|group| group["file"].to_string());
        found
    }

    fn told_in(directory: &Path) -> Option<Value> {
        let name = directory.file_name()?.to_string_lossy().into_owned();
        let place = GroupPaths { file: PathBuf::new(), name, directory: directory.to_owned() };
        if held(&place.lock()) != Held::Yes {
            return None;
        }
        let note = place.read_note();
        let question = json!({ "verb": "status" }).to_string();
        let patience = if place.is_stopped() { Duration::ZERO } else { LISTED };
        let said = lines::ask(&place.control(), &question, ANSWER, patience);
        let mut answer = said
            .ok()
            .and_then(|said| understood(&said).ok())
            .unwrap_or_else(|| json!({ "pid": note["pid"], "error": place.silence() }));
        answer["file"] = note["file"].clone();
        Some(answer)
    }

    /// Waits until the group is gone; whether it was before `deadline`.
    pub fn gone(&self, deadline: Instant) -> bool {
        loop {
            let runs = held(&self.lock()) == Held::Yes || GroupPaths::rival(&self.file);
            if !runs || Instant::now() >= deadline {
                return !runs;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn held(lock: &Path) -> Held {
    // Where another user can put a lock, none tells us anything.
    if trust::way(lock).is_err_and(|cause| trust::is_distrust(&cause)) {
        return Held::Denied;
    }
    match Lock::take_existing(lock) {
        Ok(None) => Held::Yes,
        Err(cause) if cause.kind() == ErrorKind::PermissionDenied => Held::Denied,
        _ => Held::No,
    }
}

/// Whether a process is surely none that runs a group of ours.
fn is_stranger(pid: Pid) -> bool {
    let other = process::user(pid).is_some_and(|uid| uid != crate::sys::user::own_uid());
    let name = process::name(pid);
    let own = process::name(Pid::own());
    other || name.is_some_and(|name| name != PROGRAM && own.as_ref() != Some(&name))
}

fn unheard(kind: ErrorKind) -> bool {
    let kinds = [
        ErrorKind::WouldBlock,
        ErrorKind::NotFound,
        ErrorKind::ConnectionRefused,
        ErrorKind::ConnectionReset,
        ErrorKind::BrokenPipe,
        ErrorKind::UnexpectedEof,
    ];
    kinds.contains(&kind)
}

fn understood(said: &str) -> Result<Value> {
    let answer: Value = serde_json::from_str(said)
        .map_err(|_| Error::new(Status::Malformed, "the group's answer is no JSON"))?;
    match answer.get("error").and_then(Value::as_str) {
        Some(why) => Err(Error::new(refusal(answer["status"].as_u64()), why)),
        None => Ok(answer),
    }
}

fn refusal(code: Option<u64>) -> Status {
    let known = crate::words::exit::TABLE.iter().find(|(status, _)| Some(u64::from(status.code())) == code);
    known.map_or(Status::Usage, |(status, _)| *status)
}
