//! The only table of exit statuses. `program::main` turns a `Status` into an `ExitCode`; nothing else makes a
//! number.
//!
//! The numbers follow sysexits(3) from 64 to 78 and timeout(1) from 124 on. Changing one is a breaking
//! change.

/// How a program ended, as its callers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The thing asked for was done, or the answer is yes.
    Done,
    /// The answer is no.
    No,
    /// The command line is wrong.
    Usage,
    /// Nothing of the kind is there.
    Absent,
    /// A death was recorded.
    Died,
    /// An input file or an answer is malformed.
    Malformed,
    /// An input file is missing.
    NoInput,
    /// A needed service is unavailable, or the watched process died.
    Unavailable,
    /// A bug of this program.
    Internal,
    /// Reading or writing failed.
    Io,
    /// Held by another, or busy: try again.
    Busy,
    /// Something that was held when the program started is lost.
    Lost,
    /// The system did not permit it.
    NotPermitted,
    /// A configuration is wrong.
    BadConfig,
    /// The deadline passed.
    TooLate,
    /// The wrapper itself failed before it could start the command.
    WrapperFailed,
    /// The wrapped command cannot be executed.
    NotExecutable,
    /// The wrapped command was not found.
    NotFound,
    /// The status of a wrapped command, passed through.
    Command(u8),
    /// Ended by this signal.
    Signal(u8),
}

/// The table: every status that a program of the toolkit chooses by itself, with its meaning. baa(7) and the
/// README print it.
pub const TABLE: [(Status, &str); 18] = [
    (Status::Done, "done, or the answer is yes"),
    (Status::No, "the answer is no"),
    (Status::Usage, "wrong usage"),
    (Status::Absent, "nothing of the kind is there: not armed"),
    (Status::Died, "a death was recorded"),
    (Status::Malformed, "malformed input file or answer"),
    (Status::NoInput, "input file missing"),
    (Status::Unavailable, "needed service unavailable, or the watched process died"),
    (Status::Internal, "internal error (a bug)"),
    (Status::Io, "input/output error"),
    (Status::Busy, "busy or held by another, try again"),
    (Status::Lost, "lost while running"),
    (Status::NotPermitted, "not permitted"),
    (Status::BadConfig, "bad configuration"),
    (Status::TooLate, "the deadline passed"),
    (Status::WrapperFailed, "a wrapper failed before it could start its command"),
    (Status::NotExecutable, "the wrapped command cannot be executed"),
    (Status::NotFound, "the wrapped command was not found"),
];

impl Status {
    /// The number that the parent process sees.
    pub fn code(self) -> u8 {
        match self {
            Status::Done => 0,
            Status::No => 1,
            Status::Usage => 2,
            Status::Absent => 3,
            Status::Died => 10,
            Status::Malformed => 65,
            Status::NoInput => 66,
            Status::Unavailable => 69,
            Status::Internal => 70,
            Status::Io => 74,
            Status::Busy => 75,
            Status::Lost => 76,
            Status::NotPermitted => 77,
            Status::BadConfig => 78,
            Status::TooLate => 124,
            Status::WrapperFailed => 125,
            Status::NotExecutable => 126,
            Status::NotFound => 127,
            Status::Command(code) => code,
            Status::Signal(number) => 128u8.saturating_add(number),
        }
    }

    /// The status for a command that could not be started: not found, or not executable.
    pub fn of_failed_start(cause: &std::io::Error) -> Status {
        if cause.kind() == std::io::ErrorKind::NotFound { Status::NotFound } else { Status::NotExecutable }
    }

    /// The worse of two statuses: a signal before all else, then a job that was lost, then the higher number.
    pub fn worse(self, other: Status) -> Status {
        if rank(other) > rank(self) { other } else { self }
    }
}

fn rank(status: Status) -> u32 {
    match status {
        Status::Signal(_) => 2000,
        Status::Lost => 1000,
        other => u32::from(other.code()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_every_number_once_and_in_order() {
        let codes: Vec<u8> = TABLE.iter().map(|(status, _)| status.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 10, 65, 66, 69, 70, 74, 75, 76, 77, 78, 124, 125, 126, 127]);
    }

    #[test]
    fn a_signal_is_128_and_its_number() {
        assert_eq!(Status::Signal(15).code(), 143);
        assert_eq!(Status::Signal(2).code(), 130);
    }

    #[test]
    fn a_lost_job_is_worse_than_a_late_one() {
        assert_eq!(Status::TooLate.worse(Status::Lost), Status::Lost);
        assert_eq!(Status::Lost.worse(Status::Done), Status::Lost);
        assert_eq!(Status::Lost.worse(Status::Signal(15)), Status::Signal(15));
        assert_eq!(Status::Unavailable.worse(Status::BadConfig), Status::BadConfig);
    }
}
