//! Why a probe did not succeed: a class for programs and a sentence for people.

use std::fmt;
use std::io;

/// What kind of failure a probe met. The names are the values of `class` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Nobody listens: the peer said so.
    Refused,
    /// The path, name, process or unit does not exist.
    Missing,
    /// It exists and says that it is not up (a unit that is inactive, a command that exits non-zero).
    Down,
    /// It answers, and says that it is not ready: starting up, shutting down, in recovery, not serving.
    NotReady,
    /// It answers, and takes nobody in just now: too many connections.
    Busy,
    /// It answers, and cannot be written to, which was asked for.
    ReadOnly,
    /// No answer in time.
    Timeout,
    /// The name could not be resolved just now.
    Dns,
    /// No route, network down.
    Unreachable,
    /// The peer closed or reset the connection.
    Reset,
    /// The TLS handshake or a certificate failed.
    Tls,
    /// The answer is not of the protocol that was spoken, or breaks its rules.
    Protocol,
    /// The HTTP status is not one of those accepted.
    Status,
    /// A header field of the answer is not as asked.
    Header,
    /// The body, or the record of a name, is not as asked.
    Body,
    /// Another process answered than the one asked for.
    WrongProcess,
    /// It could not be told which process answered.
    UnknownProcess,
    /// The system, or who answered, did not permit the question.
    NotPermitted,
    /// Anything else.
    Other,
}

impl Class {
    /// The stable name, as JSON prints it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Refused => "refused",
            Class::Missing => "missing",
            Class::Down => "down",
            Class::NotReady => "not-ready",
            Class::Busy => "busy",
            Class::ReadOnly => "read-only",
            Class::Timeout => "timeout",
            Class::Dns => "dns",
            Class::Unreachable => "unreachable",
            Class::Reset => "reset",
            Class::Tls => "tls",
            Class::Protocol => "protocol",
            Class::Status => "status",
            Class::Header => "header",
            Class::Body => "body",
            Class::WrongProcess => "wrong-process",
            Class::UnknownProcess => "unknown-process",
            Class::NotPermitted => "not-permitted",
            Class::Other => "other",
        }
    }

    /// Whether this is an explicit "not up", the only thing that `--invert` takes for down.
    pub fn is_down(self) -> bool {
        matches!(self, Class::Refused | Class::Missing | Class::Down)
    }
}

/// One probe's failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its class.
    pub class: Class,
    /// What happened, in one line.
    pub text: String,
    /// The HTTP status, where there was one.
    pub http_status: Option<u16>,
}

impl Failure {
    /// A failure of `class`.
    pub fn new(class: Class, text: impl Into<String>) -> Failure {
        Failure { class, text: text.into(), http_status: None }
    }

    /// No answer in time; `doing` says what was waited for.
    pub fn timeout(doing: &str) -> Failure {
        Failure::new(Class::Timeout, format!("no answer in time ({doing})"))
    }

    /// A failed system call on a connection or a path.
    pub fn io(doing: &str, cause: &io::Error) -> Failure {
        use io::ErrorKind as Kind;
        let class = match cause.kind() {
            Kind::ConnectionRefused => Class::Refused,
            Kind::NotFound | Kind::NotADirectory => Class::Missing,
            // A full backlog of a unix socket gives EAGAIN: somebody listens and is busy (unix(7)).
            Kind::TimedOut | Kind::WouldBlock => Class::Timeout,
            Kind::NetworkUnreachable | Kind::HostUnreachable | Kind::NetworkDown | Kind::AddrNotAvailable => {
                Class::Unreachable
            }
            Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted | Kind::UnexpectedEof => {
                Class::Reset
            }
            Kind::PermissionDenied => Class::NotPermitted,
            _ => Class::Other,
        };
        Failure::new(class, format!("{doing}: {}", crate::words::error::reason(cause)))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}
