//! A job, from a launchd property list (launchd.plist(5)): read once, within bounds, into a type.

use crate::sys::{child, file, trust, user};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use plist::stream::{Event, Reader};
use plist::{Dictionary, Value};
use std::ffi::OsStr;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Far above any real job, far below what would hurt to read.
const SIZE_LIMIT: u64 = 1024 * 1024;
const DEPTH_LIMIT: usize = 32;
const EVENT_LIMIT: usize = 50_000;

/// launchd's default, `ThrottleInterval` of launchd.plist(5).
const THROTTLE: Duration = Duration::from_secs(10);
/// LAUNCHD_DEFAULT_EXIT_TIMEOUT of the 2014 source; recent captures of `print` show 5.
const EXIT_TIMEOUT: Duration = Duration::from_secs(20);
/// What launchd gives a job that sets no PATH: _PATH_STDPATH.
pub const DEFAULT_PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

/// When a job that exited is started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// Always, or never.
    Always(bool),
    /// While one of the conditions holds; launchd takes them as alternatives.
    When {
        /// After an exit with 0 (true), or after any other end (false).
        successful_exit: Option<bool>,
        /// After a death by a signal of a crash (true), or after any other end (false).
        crashed: Option<bool>,
        /// While each path exists (true) or does not (false).
        paths: Vec<(PathBuf, bool)>,
    },
}

/// A job, ready to be checked and run.
#[derive(Clone, Debug)]
pub struct Job {
    /// `Label`.
    pub label: String,
    /// The file it was read from.
    pub path: PathBuf,
    /// `Program`, or the first of `ProgramArguments`.
    pub program: String,
    /// `argv`, the name first.
    pub arguments: Vec<String>,
    /// `EnvironmentVariables`. Never printed.
    pub environment: Vec<(String, String)>,
    /// `WorkingDirectory`.
    pub directory: Option<PathBuf>,
    /// `StandardInPath`.
    pub stdin: Option<PathBuf>,
    /// `StandardOutPath`.
    pub stdout: Option<PathBuf>,
    /// `StandardErrorPath`.
    pub stderr: Option<PathBuf>,
    /// `KeepAlive`.
    pub keep_alive: KeepAlive,
    /// `RunAtLoad`.
    pub run_at_load: bool,
    /// `ThrottleInterval`.
    pub throttle: Duration,
    /// `ExitTimeOut`; zero is without end.
    pub exit_timeout: Duration,
    /// `Umask`.
    pub umask: Option<u32>,
    /// `UserName`.
    pub user: Option<String>,
    /// `GroupName`.
    pub group: Option<String>,
    /// Keys that the embedded keeper does not act on.
    pub unsupported: Vec<String>,
    /// The file, byte for byte.
    pub bytes: Vec<u8>,
}

fn doing(path: &Path) -> String {
    format!("cannot use job '{}'", path.display())
}

fn dictionary(path: &Path, uid: u32) -> Result<(Dictionary, Vec<u8>)> {
    let malformed = |why: String| Error::new(Status::Malformed, format!("{}: {why}", doing(path)));
    let bytes = trust::read_job(path, SIZE_LIMIT, uid).map_err(|cause| match cause.kind() {
        _ if trust::is_distrust(&cause) => {
            let why = "launchd refuses its ownership or permissions (122)";
            Error::io(format!("{}: {why}", doing(path)), &cause)
        }
        std::io::ErrorKind::FileTooLarge
        | std::io::ErrorKind::InvalidInput
        | std::io::ErrorKind::IsADirectory => malformed(cause.to_string()),
        _ => Error::io(doing(path), &cause),
    })?;
    match parse(&bytes).map_err(malformed)? {
        Value::Dictionary(keys) => Ok((keys, bytes)),
        _ => Err(malformed("it is a property list, but not a dictionary".to_owned())),
    }
}

/// Whether the property list at `path` has `key` at its top: for marks that others put into their jobs.
///
/// # Errors
/// As `Job::read`, but for what makes it no job.
pub fn has_key(path: &Path, key: &str) -> Result<bool> {
    Ok(dictionary(path, user::own_uid())?.0.contains_key(key))
}

impl Job {
    /// Reads the job in the file at `path`: XML, binary or old-style.
    ///
    /// # Errors
    /// 66 a missing file, 74 and 77 one that cannot be read or that launchd would refuse, 65 one that is no
    /// property list, 78 one that is no job.
    pub fn read(path: &Path) -> Result<Job> {
        Job::read_of(path, user::own_uid())
    }

    /// The same for a launchd that runs jobs of the user `uid`.
    ///
    /// # Errors
    /// As `read`.
    pub fn read_of(path: &Path, uid: u32) -> Result<Job> {
        let (keys, bytes) = dictionary(path, uid)?;
        from_keys(&Keys(&keys), path, bytes)
            .map_err(|why| Error::new(Status::BadConfig, format!("{}: {why}", doing(path))))
    }

    /// Checks what a manager would fail on only after the old process is gone: the label, the program, the
    /// directories.
    ///
    /// # Errors
    /// 78, 66 or 77, with the reason.
    pub fn check(&self, label: &str) -> Result<()> {
        let bad = |status: Status, why: String| {
            Error::new(status, format!("cannot use job '{}': {why}", self.path.display()))
        };
        if self.label != label {
            return Err(bad(
                Status::BadConfig,
                format!("its Label is '{}', not '{label}'", crate::words::error::brief(&self.label)),
            ));
        }
        if let Some(name) = &self.user {
            user::wanted(name)
                .map_err(|error| error.context(format!("cannot use job '{}'", self.path.display())))?;
        }
        if let Some(directory) = &self.directory
            && !directory.is_dir()
        {
            return Err(bad(
                Status::NoInput,
                format!("WorkingDirectory '{}' is not a directory", directory.display()),
            ));
        }
        let program = self.find_program().ok_or_else(|| {
            let path = Path::new(&self.program);
            match std::fs::metadata(path) {
                Ok(found) if self.program.contains('/') && found.is_dir() => {
                    bad(Status::BadConfig, format!("program '{}' is a directory", self.program))
                }
                Ok(_) if self.program.contains('/') => {
                    bad(Status::NotPermitted, format!("program '{}' is not executable", self.program))
                }
                _ => bad(Status::NoInput, format!("program '{}' does not exist", self.program)),
            }
        })?;
        if !file::executable(&program) {
            return Err(bad(
                Status::NotPermitted,
                format!("program '{}' is not executable", program.display()),
            ));
        }
        for (key, log) in [("StandardOutPath", &self.stdout), ("StandardErrorPath", &self.stderr)] {
            if let Some(log) = log {
                check_log(log)
                    .map_err(|(status, why)| bad(status, format!("{key} '{}': {why}", log.display())))?;
            }
        }
        Ok(())
    }

    /// Where the program is, as the manager would find it.
    pub fn find_program(&self) -> Option<PathBuf> {
        let path = self.variable("PATH").unwrap_or(DEFAULT_PATH);
        let directory = self.directory.as_deref().unwrap_or(Path::new("/"));
        child::find(OsStr::new(&self.program), OsStr::new(path), directory)
    }

    /// The value of one of its environment variables.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// launchd opens the logs before the program starts; when it cannot, the job ends with 78, EX_CONFIG of
/// xpcproxy, and no word.
fn check_log(log: &Path) -> std::result::Result<(), (Status, String)> {
    let parent = log.parent().filter(|parent| !parent.as_os_str().is_empty());
    let Some(parent) = parent else { return Err((Status::BadConfig, "not an absolute path".to_owned())) };
    if !parent.is_dir() {
        return Err((Status::NoInput, "its directory does not exist".to_owned()));
    }
    match std::fs::metadata(log) {
        Ok(found) if found.is_dir() => Err((Status::BadConfig, "is a directory".to_owned())),
        Ok(_) if !file::writable(log) => Err((Status::NotPermitted, "is not writable".to_owned())),
        Err(_) if !file::writable(parent) => {
            Err((Status::NotPermitted, "its directory is not writable".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Builds the value only after its events were counted: a deep file would overflow the stack when it is
/// dropped, and a small binary one can name the same objects again and again until it fills the memory.
fn parse(bytes: &[u8]) -> std::result::Result<Value, String> {
    if bytes.is_empty() {
        return Err("the file is empty".to_owned());
    }
    let mut events: Vec<Event<'static>> = Vec::new();
    let mut depth = 0usize;
    for event in Reader::new(Cursor::new(bytes)) {
        let event = event.map_err(|cause| no_list(&cause))?;
        match event {
            Event::StartArray(_) | Event::StartDictionary(_) => depth += 1,
            Event::EndCollection => depth = depth.saturating_sub(1),
            _ => {}
        }
        events.push(event);
        if depth > DEPTH_LIMIT || events.len() > EVENT_LIMIT {
            return Err("nested too deeply or too large for a job".to_owned());
        }
    }
    // Lengths that a file only claims must not reserve memory.
    let sized = events.into_iter().map(|event| match event {
        Event::StartArray(_) => Event::StartArray(None),
        Event::StartDictionary(_) => Event::StartDictionary(None),
        other => other,
    });
    Value::from_events(sized.map(Ok)).map_err(|cause| no_list(&cause))
}

/// What is wrong with a file that is no property list. The parser has but names of its kinds of error.
fn no_list(cause: &plist::Error) -> String {
    let said = cause.to_string();
    let why = match cause.as_io() {
        Some(io) if io.kind() != std::io::ErrorKind::UnexpectedEof => crate::words::error::reason(io),
        Some(_) => "it ends too early".to_owned(),
        None if cause.is_eof() || said.starts_with("UnexpectedEndOf") => "it ends too early".to_owned(),
        None => {
            let name = said.split(|letter: char| !letter.is_ascii_alphanumeric()).next().unwrap_or_default();
            let mut words = String::new();
            for letter in name.chars() {
                if letter.is_ascii_uppercase() && !words.is_empty() {
                    words.push(' ');
                }
                words.push(letter.to_ascii_lowercase());
            }
            let place = said.rfind(" (offset ").map_or("", |at| &said[at..]);
            format!("{words}{place}")
        }
    };
    format!("not a property list: {why}")
}

/// The keys of a dictionary, taken with their types.
struct Keys<'a>(&'a Dictionary);

type Taken<T> = std::result::Result<Option<T>, String>;

impl Keys<'_> {
    fn take<'a, T>(&'a self, key: &str, kind: &str, read: impl Fn(&'a Value) -> Option<T>) -> Taken<T> {
        match self.0.get(key) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| format!("{key} is not {kind}")),
        }
    }

    fn text(&self, key: &str) -> Taken<String> {
        let text = self.take(key, "a string", |value| value.as_string().map(str::to_owned))?;
        match text {
            Some(text) if text.contains('\0') => Err(format!("{key} holds a NUL")),
            text => Ok(text),
        }
    }

    fn path(&self, key: &str) -> Taken<PathBuf> {
        Ok(self.text(key)?.filter(|text| !text.is_empty()).map(PathBuf::from))
    }

    fn flag(&self, key: &str) -> Taken<bool> {
        self.take(key, "a boolean", Value::as_boolean)
    }

    fn seconds(&self, key: &str) -> Taken<Duration> {
        let seconds = self.take(key, "a number of seconds", |value| {
            value.as_signed_integer().and_then(|number| u64::try_from(number).ok())
        })?;
        Ok(seconds.map(|seconds| Duration::from_secs(seconds).min(crate::words::span::LONGEST)))
    }
}

fn from_keys(keys: &Keys<'_>, path: &Path, bytes: Vec<u8>) -> std::result::Result<Job, String> {
    let label = keys.text("Label")?.ok_or("it has no Label")?;
    crate::service::check_label(&label)?;
    let strings = |value: &Value| {
        value
            .as_array()?
            .iter()
            .map(|one| one.as_string().filter(|text| !text.contains('\0')).map(str::to_owned))
            .collect::<Option<Vec<String>>>()
    };
    let mut arguments = keys.take("ProgramArguments", "an array of strings", strings)?.unwrap_or_default();
    let program = match (keys.text("Program")?, arguments.first()) {
        (Some(program), _) => program,
        (None, Some(first)) => first.clone(),
        (None, None) => return Err("it has neither Program nor ProgramArguments".to_owned()),
    };
    if program.is_empty() {
        return Err("its program has no name".to_owned());
    }
    if arguments.is_empty() {
        arguments.push(program.clone());
    }
    let pairs = |value: &Value| {
        value
            .as_dictionary()?
            .iter()
            .map(|(key, value)| Some((key.clone(), value.as_string()?.to_owned())))
            .collect::<Option<Vec<_>>>()
    };
    let environment =
        keys.take("EnvironmentVariables", "a dictionary of strings", pairs)?.unwrap_or_default();
    if environment
        .iter()
        .any(|(key, value)| key.is_empty() || key.contains(['=', '\0']) || value.contains('\0'))
    {
        return Err("EnvironmentVariables holds a name or a value that no environment can hold".to_owned());
    }
    let (keep_alive, mut unsupported) = keep_alive(keys)?;
    for key in [
        "Sockets",
        "MachServices",
        "StartInterval",
        "StartCalendarInterval",
        "WatchPaths",
        "QueueDirectories",
        "inetdCompatibility",
    ] {
        if keys.0.contains_key(key) {
            unsupported.push(key.to_owned());
        }
    }
    let umask = match keys.0.get("Umask") {
        None => None,
        // launchd.plist(5): an integer is decimal; a string is read in C's notation, so a leading 0 makes it
        // octal.
        Some(value) => Some(
            value
                .as_unsigned_integer()
                .or_else(|| octal(value.as_string()?))
                .and_then(|mask| u32::try_from(mask).ok())
                .filter(|mask| *mask <= 0o777)
                .ok_or("Umask is not a umask")?,
        ),
    };
    Ok(Job {
        label,
        path: path.to_owned(),
        program,
        arguments,
        environment,
        directory: keys.path("WorkingDirectory")?,
        stdin: keys.path("StandardInPath")?,
        stdout: keys.path("StandardOutPath")?,
        stderr: keys.path("StandardErrorPath")?,
        keep_alive,
        run_at_load: keys.flag("RunAtLoad")?.unwrap_or(false),
        throttle: keys.seconds("ThrottleInterval")?.unwrap_or(THROTTLE),
        exit_timeout: keys.seconds("ExitTimeOut")?.unwrap_or(EXIT_TIMEOUT),
        umask,
        user: keys.text("UserName")?,
        group: keys.text("GroupName")?,
        unsupported,
        bytes,
    })
}

fn octal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0o"), 8).ok()
}

fn keep_alive(keys: &Keys<'_>) -> std::result::Result<(KeepAlive, Vec<String>), String> {
    let mut unsupported = Vec::new();
    let when = match keys.0.get("KeepAlive") {
        None => return Ok((KeepAlive::Always(false), unsupported)),
        Some(Value::Boolean(always)) => return Ok((KeepAlive::Always(*always), unsupported)),
        Some(Value::Dictionary(when)) => when,
        Some(_) => return Err("KeepAlive is neither a boolean nor a dictionary".to_owned()),
    };
    let inner = Keys(when);
    let paths = inner.take("PathState", "a dictionary of booleans", |value| {
        value
            .as_dictionary()?
            .iter()
            .map(|(path, wanted)| Some((PathBuf::from(path), wanted.as_boolean()?)))
            .collect::<Option<Vec<_>>>()
    })?;
    for key in when.keys().filter(|key| {
        !matches!(key.as_str(), "SuccessfulExit" | "Crashed" | "PathState" | "AfterInitialDemand")
    }) {
        unsupported.push(format!("KeepAlive:{key}"));
    }
    let wrap = |why: String| format!("KeepAlive: {why}");
    Ok((
        KeepAlive::When {
            successful_exit: inner.flag("SuccessfulExit").map_err(wrap)?,
            crashed: inner.flag("Crashed").map_err(wrap)?,
            paths: paths.unwrap_or_default(),
        },
        unsupported,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(body: &str) -> Result<Job> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("job.plist");
        std::fs::write(
            &path,
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><plist version=\"1.0\"><dict>{body}</dict></plist>"
            ),
        )
        .unwrap();
        Job::read(&path)
    }

    const GOOD: &str = "<key>Label</key><string>a.b</string><key>ProgramArguments</key><array>\
         <string>/bin/sh</string><string>-c</string></array>";

    #[test]
    fn reads_what_launchd_reads() {
        let job = job(&format!(
            "{GOOD}<key>KeepAlive</key><dict><key>SuccessfulExit</key><false/><key>NetworkState</key>\
             <true/></dict><key>Umask</key><integer>63</integer>\
             <key>EnvironmentVariables</key><dict><key>A</key><string>b</string></dict>\
             <key>ExitTimeOut</key><integer>0</integer><key>StandardOutPath</key><string></string>"
        ))
        .unwrap();
        assert_eq!((job.label.as_str(), job.program.as_str(), job.arguments.len()), ("a.b", "/bin/sh", 2));
        assert_eq!(
            job.keep_alive,
            KeepAlive::When { successful_exit: Some(false), crashed: None, paths: vec![] }
        );
        assert_eq!((job.umask, job.exit_timeout, job.throttle), (Some(0o77), Duration::ZERO, THROTTLE));
        assert_eq!((job.variable("A"), &job.stdout), (Some("b"), &None));
        assert_eq!(job.unsupported, ["KeepAlive:NetworkState"]);
    }

    #[test]
    fn says_what_is_wrong_with_a_job() {
        for (body, why) in [
            ("<key>Label</key><string>a</string>", "it has neither Program nor ProgramArguments"),
            ("<key>Program</key><string>/bin/sh</string>", "it has no Label"),
            ("<key>Label</key><string>../a</string>", "'../a' is not a label"),
            (
                &format!("{GOOD}<key>ThrottleInterval</key><string>x</string>"),
                "ThrottleInterval is not a number of seconds",
            ),
            (
                &format!("{GOOD}<key>ExitTimeOut</key><integer>-1</integer>"),
                "ExitTimeOut is not a number of seconds",
            ),
            (&format!("{GOOD}<key>Umask</key><string>9</string>"), "Umask is not a umask"),
        ] {
            let error = job(body).unwrap_err();
            assert_eq!(error.status, Status::BadConfig);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn a_hostile_file_is_refused_and_costs_nothing() {
        let deep = format!("{GOOD}<key>X</key>{}{}", "<array>".repeat(20_000), "</array>".repeat(20_000));
        assert_eq!(job(&deep).unwrap_err().status, Status::Malformed);
        // Each array names the next one ten times: 10^30 objects in a few hundred bytes.
        let mut binary = b"bplist00".to_vec();
        let mut offsets = Vec::new();
        for level in 0..30u8 {
            offsets.push(u8::try_from(binary.len()).unwrap_or(0));
            binary.push(0xA7);
            binary.extend([level + 1; 7]);
        }
        offsets.push(u8::try_from(binary.len()).unwrap_or(0));
        binary.push(0x08);
        let table = binary.len() as u64;
        binary.extend(offsets.iter());
        binary.extend([0, 0, 0, 0, 0, 0, 1, 1]);
        binary.extend(31u64.to_be_bytes());
        binary.extend(0u64.to_be_bytes());
        binary.extend(table.to_be_bytes());
        assert!(parse(&binary).is_err());
        for bytes in [&b"bplist00"[..], b"<?xml version=\"1.0\"?><plist><dict>", b"\0\0\0", b"", b"<plist>"] {
            assert!(parse(bytes).is_err());
        }
    }
}
