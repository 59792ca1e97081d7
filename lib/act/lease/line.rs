//! What a holder and its guardian say to each other: a line each way at a time, over a socket that ends with
//! either of them. Neither ever waits for the other: what cannot be said yet is kept, and it is bounded.

use crate::act::lease::deadline::Deadline;
use crate::sys::child::Exit;
use crate::words::error::brief;
use crate::words::exit::Status;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How many lines are kept for one who does not listen. Of the ends of a lease only the last one is.
const KEPT: usize = 64;
/// How many times 4 KiB are read before anything else is done.
const READS: usize = 16;

/// A line of either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The lease lasts until then.
    Until(Deadline),
    /// Pass this signal on to the command.
    Signal(i32),
    /// The command runs.
    Started,
    /// It could not be started: 126 or 127, and why.
    Failed(Status, String),
    /// It ended so, and nothing of it lives; whether it was ended because the lease was.
    Ended(Exit, bool),
}

impl Line {
    /// How it is written.
    pub(crate) fn text(&self) -> String {
        match self {
            Line::Until(deadline) => {
                format!("until {} {}\n", deadline.soft.as_nanos(), deadline.hard.as_nanos())
            }
            Line::Signal(number) => format!("signal {number}\n"),
            Line::Started => "started\n".to_owned(),
            Line::Failed(status, why) => format!("failed {} {}\n", status.code(), brief(why)),
            Line::Ended(Exit::Code(code), late) => format!("code {code} {}\n", u8::from(*late)),
            Line::Ended(Exit::Signal(number), late) => format!("killed {number} {}\n", u8::from(*late)),
        }
    }

    /// Reads it.
    pub(crate) fn parse(text: &str) -> Option<Line> {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut words = rest.split(' ');
        let mut number = || words.next()?.parse::<u64>().ok();
        let small = |number: u64| i32::try_from(number).ok();
        Some(match verb {
            "until" => Line::Until(Deadline {
                soft: Duration::from_nanos(number()?),
                hard: Duration::from_nanos(number()?),
            }),
            "signal" => Line::Signal(small(number()?)?),
            "started" => Line::Started,
            "failed" => {
                let (status, why) = rest.split_once(' ')?;
                let absent = status.parse() == Ok(Status::NotFound.code());
                let status = if absent { Status::NotFound } else { Status::NotExecutable };
                Line::Failed(status, why.to_owned())
            }
            "code" => Line::Ended(Exit::Code(small(number()?)?), number()? == 1),
            "killed" => Line::Ended(Exit::Signal(small(number()?)?), number()? == 1),
            _ => return None,
        })
    }
}

/// One end of the socket.
pub struct Wire {
    /// The socket.
    pub stream: UnixStream,
    heard: String,
    kept: VecDeque<Line>,
    /// What is left of a line that was said in part.
    begun: Vec<u8>,
}

impl Wire {
    /// Over `stream`, without blocking.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn new(stream: UnixStream) -> io::Result<Wire> {
        stream.set_nonblocking(true)?;
        Ok(Wire { stream, heard: String::new(), kept: VecDeque::new(), begun: Vec::new() })
    }

    /// Says a line, now or as soon as there is room for it; that is tried with each call. Whether it was
    /// heard is not known.
    pub fn say(&mut self, line: Line) {
        let is_end = matches!(line, Line::Until(_));
        if is_end {
            self.kept.retain(|kept| !matches!(kept, Line::Until(_)));
        }
        if is_end || self.kept.len() < KEPT {
            self.kept.push_back(line);
        }
        self.flush();
    }

    /// Says what was kept, as far as there is room.
    fn flush(&mut self) {
        loop {
            if self.begun.is_empty() {
                let Some(line) = self.kept.pop_front() else { return };
                self.begun = line.text().into_bytes();
            }
            match self.stream.write(&self.begun) {
                Ok(count) => drop(self.begun.drain(..count)),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// The lines that have come, and whether there will be more.
    pub fn hear(&mut self) -> (Vec<Line>, bool) {
        self.flush();
        let mut buffer = [0u8; 4096];
        let mut more = true;
        for _ in 0..READS {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    more = false;
                    break;
                }
                Ok(count) => self.heard.push_str(&String::from_utf8_lossy(&buffer[..count])),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => {
                    more = cause.kind() == io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        let whole = self.heard.rfind('\n').map_or(0, |end| end + 1);
        let lines = self.heard[..whole].lines().filter_map(Line::parse).collect();
        self.heard.drain(..whole);
        (lines, more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Wire, Wire) {
        let (one, other) = UnixStream::pair().unwrap();
        (Wire::new(one).unwrap(), Wire::new(other).unwrap())
    }

    #[test]
    fn a_line_comes_as_it_was_said() {
        let (mut one, mut other) = pair();
        let lines = [
            Line::Until(Deadline::NOW),
            Line::Signal(34),
            Line::Started,
            Line::Failed(Status::NotFound, "cannot start 'x': no such file".to_owned()),
            Line::Failed(Status::NotExecutable, "no".to_owned()),
            Line::Ended(Exit::Code(3), false),
            Line::Ended(Exit::Signal(64), true),
        ];
        lines.iter().for_each(|line| one.say(line.clone()));
        one.stream.write_all(b"nonsense\nsignal x\nuntil 1").unwrap();
        assert_eq!(other.hear(), (lines.to_vec(), true));
        drop(one);
        assert_eq!(other.hear(), (Vec::new(), false));
    }

    /// A stopped peer reads nothing: nobody waits for it, what is kept is bounded, no line is torn, and
    /// the last end of the lease comes through.
    #[test]
    fn nobody_waits_for_one_who_does_not_listen() {
        let (mut one, mut other) = pair();
        let end =
            |number: u64| Deadline { soft: Duration::from_nanos(number), hard: Duration::from_secs(1 << 30) };
        const LAST: u64 = 100_000;
        for number in 0..=LAST {
            one.say(Line::Until(end(number)));
            one.say(Line::Signal(1));
        }
        assert!(one.kept.len() <= KEPT + 1);
        let (mut ends, mut signals) = (Vec::new(), 0);
        loop {
            let (lines, more) = other.hear();
            assert!(more);
            if lines.is_empty() && one.kept.is_empty() && one.begun.is_empty() {
                break;
            }
            for line in lines {
                match line {
                    Line::Until(until) => ends.push(until.soft),
                    Line::Signal(1) => signals += 1,
                    torn => panic!("{torn:?}"),
                }
            }
            one.hear();
        }
        assert!(ends.is_sorted() && signals > 0);
        assert_eq!(ends.last(), Some(&end(LAST).soft));
    }
}
