//! What a holder and its guardian say to each other: a line each way at a time, over a socket that ends with
//! either of them.

use crate::act::lease::deadline::Deadline;
use crate::sys::child::Exit;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A line of either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// The lease lasts until then.
    Until(Deadline),
    /// Pass this signal on to the command.
    Signal(i32),
    /// The command runs as this process, started then.
    Started(i32, u64),
    /// It could not be started: the number of the error.
    Failed(i32),
    /// It ended so, and nothing of it lives; whether it was ended because the lease was.
    Ended(Exit, bool),
}

impl Line {
    fn text(self) -> String {
        match self {
            Line::Until(deadline) => {
                format!("until {} {}\n", deadline.soft.as_nanos(), deadline.hard.as_nanos())
            }
            Line::Signal(number) => format!("signal {number}\n"),
            Line::Started(pid, start) => format!("started {pid} {start}\n"),
            Line::Failed(number) => format!("failed {number}\n"),
            Line::Ended(Exit::Code(code), late) => format!("code {code} {}\n", u8::from(late)),
            Line::Ended(Exit::Signal(number), late) => format!("killed {number} {}\n", u8::from(late)),
        }
    }

    fn parse(text: &str) -> Option<Line> {
        let mut words = text.split(' ');
        let verb = words.next()?;
        let mut number = || words.next()?.parse::<u64>().ok();
        let small = |number: u64| i32::try_from(number).ok();
        Some(match verb {
            "until" => Line::Until(Deadline {
                soft: Duration::from_nanos(number()?),
                hard: Duration::from_nanos(number()?),
            }),
            "signal" => Line::Signal(small(number()?)?),
            "started" => Line::Started(small(number()?)?, number()?),
            "failed" => Line::Failed(small(number()?)?),
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
    rest: String,
}

impl Wire {
    /// Over `stream`, without blocking.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn new(stream: UnixStream) -> io::Result<Wire> {
        stream.set_nonblocking(true)?;
        Ok(Wire { stream, rest: String::new() })
    }

    /// Says a line. Whether it was heard is not known; that the other is gone is.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn say(&mut self, line: Line) -> io::Result<()> {
        self.stream.write_all(line.text().as_bytes())
    }

    /// The lines that have come, and whether there will be more.
    pub fn hear(&mut self) -> (Vec<Line>, bool) {
        let mut buffer = [0u8; 4096];
        let more = loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break false,
                Ok(count) => self.rest.push_str(&String::from_utf8_lossy(&buffer[..count])),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => break cause.kind() == io::ErrorKind::WouldBlock,
            }
        };
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let lines = self.rest[..whole].lines().filter_map(Line::parse).collect();
        self.rest.drain(..whole);
        (lines, more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_as_it_was_said() {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut one, mut other) = (Wire::new(one).unwrap(), Wire::new(other).unwrap());
        let lines = [
            Line::Until(Deadline::NOW),
            Line::Signal(15),
            Line::Started(7, 9),
            Line::Failed(2),
            Line::Ended(Exit::Code(3), false),
            Line::Ended(Exit::Signal(9), true),
        ];
        lines.iter().for_each(|line| one.say(*line).unwrap());
        one.stream.write_all(b"nonsense\nsignal x\nuntil 1").unwrap();
        assert_eq!(other.hear(), (lines.to_vec(), true));
        drop(one);
        assert_eq!(other.hear(), (Vec::new(), false));
    }
}
