//! What a program says: answers on stdout, words for people on stderr, colour only on a terminal (anstream;
//! NO_COLOR).
//!
//! A short-lived tool writes, and waits for whoever reads, as every program of a pipeline does. One that
//! watches over something calls `never_wait` first: from then on nothing that it says keeps it, whether the
//! terminal is paused, the pipe full or the disk slow (see `outlet`).

use crate::sys::outlet::{self, Outlet, Put, Sink, Target};
use crate::sys::redact::Redactor;
use crate::words::clean;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How much may wait for a reader, of words and of answers.
const BACKLOG: usize = 256 * 1024;
/// How long the end of a program waits for its last words to be read.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How much a program says to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing: nobody hears it.
    Silent,
    /// Errors only.
    Quiet,
    /// What happened.
    Normal,
    /// Every step.
    Verbose,
}

/// Says words to people, on stderr, each line with the program's name before it.
#[derive(Clone, Debug)]
pub struct Voice {
    program: String,
    level: Level,
    redactor: Option<Arc<Redactor>>,
}

impl Voice {
    /// The voice of the program that runs.
    pub fn new(level: Level) -> Voice {
        Voice { program: program(), level, redactor: None }
    }

    /// The same voice, which keeps the secrets of `redactor` from now on.
    #[must_use]
    pub fn discreet(&self, redactor: Arc<Redactor>) -> Voice {
        Voice { redactor: Some(redactor), ..self.clone() }
    }

    fn say(&self, style: &str, text: &str) {
        let text = self.redactor.as_ref().map_or(text.into(), |redactor| redactor.text(text));
        line(&self.program, style, &text);
    }

    /// A fact that people want to know; silent with `--quiet`.
    pub fn note(&self, text: impl std::fmt::Display) {
        if self.level >= Level::Normal {
            self.say("", &text.to_string());
        }
    }

    /// Says `text` as a fact where `wanted`; whether it was.
    pub fn note_if(&self, wanted: bool, text: impl std::fmt::Display) -> bool {
        if wanted {
            self.note(text);
        }
        wanted
    }

    /// A step; said with `--verbose` only.
    pub fn step(&self, text: impl std::fmt::Display) {
        if self.level >= Level::Verbose {
            self.say("\x1b[2m", &text.to_string());
        }
    }

    /// A line for a log, as it is, on stderr.
    pub fn log(&self, text: &str) {
        say(format!("{}\n", clean::line(text)).as_bytes());
    }

    /// Something is wrong; always said to whoever may hear it.
    pub fn warn(&self, text: impl std::fmt::Display) {
        if self.level == Level::Silent {
            return;
        }
        self.say("\x1b[33m", &text.to_string());
    }
}

/// Says why the program ends, always.
pub fn error(text: &str) {
    line(&program(), "\x1b[31m", text);
}

/// stderr may be closed or full; there is no one left to tell then, so the outcome of the write is not looked
/// at.
fn line(program: &str, style: &str, text: &str) {
    let reset = if style.is_empty() { "" } else { "\x1b[0m" };
    // One line, whatever a name or a file holds, and no control of the terminal.
    let text = clean::line(text);
    match UNWAITING.get() {
        Some(speech) if !speech.coloured => say(format!("{program}: {text}\n").as_bytes()),
        Some(_) => say(format!("{program}: {style}{text}{reset}\n").as_bytes()),
        None => {
            let _ = anstream::stderr().write_all(format!("{program}: {style}{text}{reset}\n").as_bytes());
        }
    }
}

/// Writes to stderr as it is.
fn say(bytes: &[u8]) {
    match UNWAITING.get() {
        Some(speech) => drop(speech.words.put(bytes)),
        None => drop(std::io::stderr().lock().write_all(bytes)),
    }
}

/// Both outputs of a program that waits for no reader.
struct Speech {
    words: Channel,
    answers: Option<Channel>,
    coloured: bool,
}

/// A way out.
struct Channel {
    outlet: Outlet,
    sink: Sink,
}

impl Channel {
    fn put(&self, bytes: &[u8]) -> Put {
        self.outlet.put(&self.sink, bytes)
    }
}

static UNWAITING: OnceLock<Speech> = OnceLock::new();

/// From now on nothing that this program says waits for whoever reads it: what they do not read is kept up
/// to a bound, and beyond it dropped, counted and told when there is room again.
pub fn never_wait() {
    wait_no_more(true);
}

/// The same for words alone: for a program that only answers when all is done, and may wait then.
pub fn never_wait_with_words() {
    wait_no_more(false);
}

fn wait_no_more(with_answers: bool) {
    UNWAITING.get_or_init(|| {
        let (words, answers) = (Stream::Words, Stream::Answers);
        let outlet = Outlet::new(BACKLOG);
        // What goes to the same terminal or pipe stays in its order; what does not is not held up together.
        let other = || if words.is_the_same_as(answers) { outlet.clone() } else { Outlet::new(BACKLOG) };
        Speech {
            answers: with_answers.then(|| Channel { outlet: other(), sink: Sink::new(answers) }),
            words: Channel { outlet, sink: Sink::new(words) },
            coloured: anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never,
        }
    });
}

/// The way of answers, where they do not wait.
fn answers() -> Option<&'static Channel> {
    UNWAITING.get()?.answers.as_ref()
}

/// Waits a moment for what was said to be read, at most until `ending`: for the end of a program. Without
/// `never_wait` all of it is written already.
pub fn finish() {
    if let Some(speech) = UNWAITING.get() {
        if let Some(answers) = &speech.answers {
            answers.outlet.flush(ending());
        }
        // What was lost of the answers is told by then.
        speech.words.outlet.flush(ending());
    }
}

/// Until when the end of this program may wait for whoever reads: a moment after this is asked first.
pub fn ending() -> Instant {
    static ENDING: OnceLock<Instant> = OnceLock::new();
    *ENDING.get_or_init(|| Instant::now() + LAST_WORDS)
}

/// Waits until there is room for more on stdout, at most until `until`.
pub fn wait_for_room(until: Instant) {
    if let Some(answers) = answers() {
        answers.outlet.wait_for_room(until);
    }
}

/// Whether what is put on stdout comes faster than it is read, by a reader who does read: then it is better
/// left where it comes from. Never without `never_wait`, where whoever writes waits.
pub fn is_congested() -> bool {
    answers().is_some_and(|answers| answers.outlet.is_congested())
}

/// One of our two outputs.
#[derive(Clone, Copy)]
enum Stream {
    Words,
    Answers,
}

impl Stream {
    fn with<T>(self, work: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        match self {
            Stream::Words => work(std::io::stderr().as_fd()),
            Stream::Answers => work(std::io::stdout().as_fd()),
        }
    }

    fn is_the_same_as(self, other: Stream) -> bool {
        let file = |stream: Stream| {
            stream.with(|fd| nix::sys::stat::fstat(fd).ok().map(|found| (found.st_dev, found.st_ino)))
        };
        file(self).is_some_and(|found| file(other) == Some(found))
    }
}

impl Target for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|fd| Ok(nix::unistd::write(fd, bytes)?))
    }

    fn write_at_once(&mut self, bytes: &[u8]) -> Option<io::Result<usize>> {
        // A terminal that is paused blocks even what it has said that it would take.
        self.with(|fd| if fd.is_terminal() { None } else { outlet::write_at_once(fd, bytes) })
    }

    fn loss(&self, lines: u64, why: &str) -> Option<String> {
        let (count, were) =
            if lines == 1 { ("1 line".to_owned(), "was") } else { (format!("{lines} lines"), "were") };
        match self {
            Stream::Words => Some(format!("{}: {count} {were} lost here: {why}\n", program())),
            // Answers are read by programs, so people are told beside them.
            Stream::Answers => {
                line(&program(), "\x1b[33m", &format!("{count} of stdout {were} lost: {why}"));
                None
            }
        }
    }
}

/// The name of the running program, without its directory.
pub fn program() -> String {
    let first = std::env::args_os().next().unwrap_or_default();
    Path::new(&first).file_name().unwrap_or(OsStr::new("baa")).to_string_lossy().into_owned()
}

/// Writes an answer to stdout, text or JSON, with a newline. Nothing in it is obeyed by a terminal.
///
/// # Errors
/// A lost answer is an error (74): a closed pipe, a full disk.
pub fn answer(text: &str) -> Result<()> {
    answer_after("", text)
}

/// The same in the place of what was there: on a terminal that is empty then.
///
/// # Errors
/// As `answer`.
pub fn answer_anew(text: &str) -> Result<()> {
    // Home, and clear what is below: what was there may have been longer.
    answer_after(if std::io::stdout().is_terminal() { "\x1b[H\x1b[J" } else { "" }, text)
}

fn answer_after(sequence: &str, text: &str) -> Result<()> {
    put_answer(&format!("{sequence}{}", clean::lines(text)))
}

fn put_answer(text: &str) -> Result<()> {
    if STDOUT_CLOSED.load(Ordering::Relaxed) {
        return Err(Error::new(Status::Io, "cannot write the answer: stdout is closed"));
    }
    let written = write_answer(&[text.as_bytes(), b"\n"].concat());
    written.map_err(|cause| {
        Error::new(Status::Io, format!("cannot write the answer: {}", crate::words::error::reason(&cause)))
    })
}

fn write_answer(bytes: &[u8]) -> io::Result<()> {
    match answers().map(|answers| answers.put(bytes)) {
        // What is not read in time is told on stderr.
        Some(Put::Written | Put::Waits | Put::Lost) => Ok(()),
        Some(Put::Failed(cause)) => Err(cause),
        None => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
    }
}

/// Passes on to stdout what another program has said: as it is, but a terminal obeys nothing of it except
/// colours. Nobody is told when it is not read, but for the count of what was lost.
pub fn echo(bytes: &[u8]) {
    static TERMINAL: OnceLock<bool> = OnceLock::new();
    let shown = *TERMINAL.get_or_init(|| std::io::stdout().is_terminal());
    let _ = if shown { write_answer(clean::output(bytes).as_bytes()) } else { write_answer(bytes) };
}

/// Writes the last answer of a program that lives on: stdout is closed after it, so that whoever reads it
/// sees its end.
///
/// # Errors
/// As `answer`.
pub fn last_answer(text: &str) -> Result<()> {
    answer(text)?;
    if let Some(answers) = answers() {
        answers.outlet.flush(Instant::now() + LAST_WORDS);
    }
    let null = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/null")
        .map_err(|cause| Error::io("cannot open /dev/null", &cause))?;
    nix::unistd::dup2_stdout(&null).map_err(|errno| Error::io("cannot close stdout", &errno.into()))?;
    // Nor is the directory kept that we happened to be started in.
    std::env::set_current_dir("/").map_err(|cause| Error::io("cannot leave the directory", &cause))
}

static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Run by the loader before Rust's own start, which puts /dev/null in the place of a closed stdout:
/// afterwards nobody could tell.
#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
static LOOK_AT_STDOUT: extern "C" fn() = look_at_stdout;

extern "C" fn look_at_stdout() {
    // SAFETY: F_GETFD takes no argument and changes nothing; nothing of Rust's runtime is needed.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    STDOUT_CLOSED.store(flags < 0, Ordering::Relaxed);
}

/// Lines at the bottom of a terminal that are shown anew in their place.
#[derive(Debug)]
pub struct Live {
    /// How many lines are there now.
    shown: usize,
    wanted: bool,
}

impl Live {
    /// On stderr, if that is a terminal and `wanted`.
    pub fn new(wanted: bool) -> Live {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Live { shown: 0, wanted: wanted && !dumb && std::io::stderr().is_terminal() }
    }

    /// Whether anybody sees them.
    pub fn visible(&self) -> bool {
        self.wanted
    }

    /// Whether so many lines leave half of the terminal to what is said above them.
    pub fn fits(&self, lines: usize) -> bool {
        self.wanted && lines <= size().1 / 2
    }

    /// Shows `text` instead of what was there, each line cut to the width of the terminal.
    pub fn show(&mut self, text: &str) {
        if !self.wanted {
            return;
        }
        let width = size().0.saturating_sub(1);
        let cut = |line: &str| clean::line(line).chars().take(width).collect();
        let lines: Vec<String> = text.lines().map(cut).collect();
        // One write, so that nothing is seen in between.
        let text = format!("{}{}", self.erase(), lines.join("\r\n"));
        let shown = match UNWAITING.get() {
            // Where nobody reads, the next picture is better than an old one.
            Some(Speech { words, .. }) => words.outlet.put_if_idle(&words.sink, text.as_bytes()),
            None => std::io::stderr().write_all(text.as_bytes()).is_ok(),
        };
        if shown {
            self.shown = lines.len();
        }
    }

    /// Takes them away.
    pub fn clear(&mut self) {
        if self.shown > 0 {
            say(self.erase().as_bytes());
            self.shown = 0;
        }
    }

    /// To the first of the lines, and away with all below.
    fn erase(&self) -> String {
        let up = self.shown.saturating_sub(1);
        if up > 0 { format!("\r\x1b[{up}A\x1b[J") } else { "\r\x1b[J".to_owned() }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The columns and rows of the terminal.
fn size() -> (usize, usize) {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request fills a winsize, and that is what the pointer points to.
    let outcome = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    if outcome == 0 && size.ws_col > 0 && size.ws_row > 0 {
        (usize::from(size.ws_col), usize::from(size.ws_row))
    } else {
        (80, 24)
    }
}
