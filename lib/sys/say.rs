//! What a program says: answers on stdout, words for people on stderr, colour only on a terminal (anstream;
//! NO_COLOR).

use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// How much a program says to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
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
}

impl Voice {
    /// The voice of the program that runs.
    pub fn new(level: Level) -> Voice {
        Voice { program: program(), level }
    }

    /// A fact that people want to know; silent with `--quiet`.
    pub fn note(&self, text: impl std::fmt::Display) {
        if self.level >= Level::Normal {
            line(&self.program, "", &text.to_string());
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
            line(&self.program, "\x1b[2m", &text.to_string());
        }
    }

    /// A line for a log, as it is, on stderr.
    pub fn log(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Something is wrong; always said.
    pub fn warn(&self, text: impl std::fmt::Display) {
        line(&self.program, "\x1b[33m", &text.to_string());
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
    let text: String =
        text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
    let _ = anstream::stderr().write_all(format!("{program}: {style}{text}{reset}\n").as_bytes());
}

/// The name of the running program, without its directory.
pub fn program() -> String {
    let first = std::env::args_os().next().unwrap_or_default();
    Path::new(&first).file_name().unwrap_or(OsStr::new("baa")).to_string_lossy().into_owned()
}

/// Writes an answer to stdout, with a newline.
///
/// # Errors
/// A lost answer is an error (74): a closed pipe, a full disk.
pub fn answer(text: &str) -> Result<()> {
    if STDOUT_CLOSED.load(Ordering::Relaxed) {
        return Err(Error::new(Status::Io, "cannot write the answer: stdout is closed"));
    }
    let mut out = std::io::stdout().lock();
    let written =
        out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    written.map_err(|cause| {
        Error::new(Status::Io, format!("cannot write the answer: {}", crate::words::error::reason(&cause)))
    })
}

/// Writes the last answer of a program that lives on: stdout is closed after it, so that whoever reads it
/// sees its end.
///
/// # Errors
/// As `answer`.
pub fn last_answer(text: &str) -> Result<()> {
    answer(text)?;
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
        let lines: Vec<String> = text.lines().map(|line| line.chars().take(width).collect()).collect();
        // One write, so that nothing is seen in between.
        let _ = std::io::stderr().write_all(format!("{}{}", self.erase(), lines.join("\r\n")).as_bytes());
        self.shown = lines.len();
    }

    /// Takes them away.
    pub fn clear(&mut self) {
        if self.shown > 0 {
            let _ = std::io::stderr().write_all(self.erase().as_bytes());
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
