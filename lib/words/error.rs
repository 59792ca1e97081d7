//! One failure, made where the intent is known: `cannot lock /run/x: held by pid 42`, and the status it ends
//! the program with.

use crate::words::clean;
use crate::words::exit::Status;
use std::fmt;
use std::io;

/// A failure that ends an act: a sentence for people and a status for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The status that the program ends with.
    pub status: Status,
    message: String,
}

/// What a fallible act returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure with its status; the message is lower case, without full stop, and says `cannot X: cause`.
    pub fn new(status: Status, message: impl Into<String>) -> Error {
        Error { status, message: message.into() }
    }

    /// A failed system call; permission, absence and a full disk keep their own statuses.
    pub fn io(what: impl fmt::Display, cause: &io::Error) -> Error {
        let status = match cause.kind() {
            io::ErrorKind::PermissionDenied => Status::NotPermitted,
            io::ErrorKind::NotFound => Status::NoInput,
            _ => Status::Io,
        };
        Error::new(status, format!("{what}: {}", reason(cause)))
    }

    /// A state that must not be: says so instead of panicking.
    pub fn bug(what: impl fmt::Display) -> Error {
        Error::new(Status::Internal, format!("bug: {what}"))
    }

    /// The same failure, seen from one layer up.
    #[must_use]
    pub fn context(self, what: impl fmt::Display) -> Error {
        Error { message: format!("{what}: {}", self.message), ..self }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// The operating system's own words for `cause`, lower case and without the number that Rust adds.
pub fn reason(cause: &io::Error) -> String {
    let text = cause.to_string();
    lower_first(text.split(" (os error ").next().unwrap_or(&text))
}

/// `text` with a lower-case first letter, unless its first word is an acronym.
pub fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

/// Foreign text made fit for one line (`clean`): its first line, without colours, at most 200 letters and an
/// ellipsis.
pub fn brief(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("").trim();
    // What was behind a colour may be space.
    let mut fit = clean::line(clean::uncoloured(line).trim()).into_owned();
    if let Some((cut, _)) = fit.char_indices().nth(200) {
        fit.truncate(cut);
        fit.push('…');
    }
    fit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_one_short_line() {
        assert_eq!(brief("\n \u{1b}[31ma\u{1b}[2J\nb"), "a\\u001b[2J");
        assert_eq!(brief(&"x".repeat(500)).chars().count(), 201);
        assert_eq!(brief(&"x".repeat(200)).chars().count(), 200);
        assert_eq!(brief(""), "");
    }

    #[test]
    fn a_cause_is_told_in_the_systems_own_words() {
        let missing = io::Error::from_raw_os_error(2);
        assert_eq!(
            Error::io("cannot read 'x'", &missing).to_string(),
            "cannot read 'x': no such file or directory"
        );
        assert_eq!(Error::io("cannot read 'x'", &missing).status, Status::NoInput);
    }
}
