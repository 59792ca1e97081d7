//! Redis and what speaks its protocol: PING, and where it is asked for AUTH, ROLE and EXISTS.

use super::url::ServerUrl;
use super::{Handshake, HandshakeStep, not_of};
use crate::words::error::brief;
use crate::words::failure::Class;

/// No line that is heard is longer.
const LINE_LIMIT: usize = 4096;

/// What was asked, and is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Auth,
    Ping,
    Role,
    Select,
    Exists,
}

/// One that answers, holds the key, and takes writes where that is asked for.
pub(super) struct Redis<'a> {
    url: &'a ServerUrl,
    /// What is still to be answered, the next one last.
    open: Vec<Command>,
}

impl Redis<'_> {
    pub(super) fn new(url: &ServerUrl) -> Redis<'_> {
        let mut open = Vec::new();
        if url.writable {
            open.push(Command::Role);
        }
        if url.key.is_some() {
            open.push(Command::Exists);
            if url.path.is_some() {
                open.push(Command::Select);
            }
        }
        open.push(Command::Ping);
        if url.password.is_some() {
            open.push(Command::Auth);
        }
        Redis { url, open }
    }

    fn words(&self) -> Vec<u8> {
        match self.open.last() {
            None => Vec::new(),
            Some(Command::Ping) => array(&["PING"]),
            Some(Command::Role) => array(&["ROLE"]),
            Some(Command::Select) => array(&["SELECT", self.url.path.as_deref().unwrap_or("0")]),
            Some(Command::Exists) => array(&["EXISTS", self.url.key.as_deref().unwrap_or_default()]),
            Some(Command::Auth) => {
                let password = self.url.password.as_ref().map_or("", |password| password.reveal());
                match &self.url.user {
                    Some(user) => array(&["AUTH", user, password]),
                    None => array(&["AUTH", password]),
                }
            }
        }
    }

    /// An error is a word in capitals and a sentence.
    fn refused(&self, command: Command, text: &str) -> HandshakeStep {
        let word = text.split(' ').next().unwrap_or_default();
        let more = self.open.len() > 1;
        let class = match word {
            "NOAUTH" if command == Command::Ping && !more => return HandshakeStep::ready(),
            // A user who may not ask is one who was let in.
            "NOPERM" if command == Command::Ping && !more => return HandshakeStep::ready(),
            "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "MISCONF" => Class::NotReady,
            "BUSY" | "TRYAGAIN" => Class::Busy,
            "NOAUTH" | "NOPERM" | "WRONGPASS" | "DENIED" => Class::NotPermitted,
            _ if text.starts_with("ERR max number of clients") => Class::Busy,
            _ if command == Command::Auth => Class::NotPermitted,
            _ => Class::Other,
        };
        HandshakeStep::not(class, format!("the server says: {}", brief(text)))
    }
}

impl Handshake for Redis<'_> {
    fn begin(&mut self) -> Vec<u8> {
        self.words()
    }

    fn hear(&mut self, heard: &[u8]) -> HandshakeStep {
        let Some(command) = self.open.last().copied() else { return wrong() };
        if heard.first().is_some_and(|first| !b"+-:*".contains(first)) {
            return wrong();
        }
        let Some(line) = line(heard) else {
            return if heard.len() > LINE_LIMIT { wrong() } else { HandshakeStep::More };
        };
        let Ok(text) = std::str::from_utf8(line) else { return wrong() };
        let taken = line.len() + 2;
        match (command, text) {
            (_, error) if error.starts_with('-') => return self.refused(command, &error[1..]),
            (Command::Auth | Command::Select, "+OK") | (Command::Ping, "+PONG") => {}
            (Command::Exists, ":1") => {}
            (Command::Exists, ":0") => {
                let key = self.url.key.as_deref().unwrap_or_default();
                return HandshakeStep::not(Class::Down, format!("there is no key '{}'", brief(key)));
            }
            // The role is the first of several; asked last, for the others are of no interest.
            (Command::Role, count) if count.starts_with('*') => return role(&heard[line.len() + 2..]),
            _ => return wrong(),
        }
        self.open.pop();
        if self.open.is_empty() {
            return HandshakeStep::ready();
        }
        HandshakeStep::Say { taken, words: self.words() }
    }
}

/// The string that `heard` begins with, which names a role.
fn role(heard: &[u8]) -> HandshakeStep {
    let role = line(heard).and_then(|size| line(&heard[size.len() + 2..]));
    match role {
        None if heard.len() > LINE_LIMIT => wrong(),
        None => HandshakeStep::More,
        Some(b"master") => HandshakeStep::ready(),
        Some(b"slave") => HandshakeStep::not(Class::ReadOnly, "the server is a replica: it takes no writes"),
        Some(b"sentinel") => {
            HandshakeStep::not(Class::ReadOnly, "the server is a sentinel: it takes no writes")
        }
        Some(_) => wrong(),
    }
}

/// The first line, without its end.
fn line(heard: &[u8]) -> Option<&[u8]> {
    let end = heard.windows(2).position(|pair| pair == b"\r\n")?;
    heard.get(..end)
}

/// A command as an array of strings, which may hold anything.
fn array(words: &[&str]) -> Vec<u8> {
    let room = words.iter().map(|word| word.len() + 16).sum::<usize>() + 16;
    // One that grows would leave copies of a password behind.
    let mut bytes = Vec::with_capacity(room);
    bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn wrong() -> HandshakeStep {
    HandshakeStep::End(Err(not_of("Redis")), Vec::new())
}
