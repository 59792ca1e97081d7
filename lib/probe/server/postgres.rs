//! PostgreSQL: a start-up message is answered by the question for a login, which only a server sends that
//! takes connections, or by an error whose SQLSTATE says why not.

use super::bytes::ByteReader;
use super::url::ServerUrl;
use super::{HEARD_LIMIT, Handshake, HandshakeStep, not_of};
use crate::words::error::brief;
use crate::words::failure::Class;

const PROTOCOL: u32 = 3 << 16;
const SSL_REQUEST: u32 = 80_877_103;
/// Terminate, which spares the server's log a complaint.
const FAREWELL: [u8; 5] = [b'X', 0, 0, 0, 4];

/// One that takes connections, and writes where that is asked for.
pub(super) struct Postgres<'a> {
    url: &'a ServerUrl,
    asks_tls: bool,
    entered: bool,
    standby: bool,
    read_only: bool,
}

impl Postgres<'_> {
    pub(super) fn new(url: &ServerUrl) -> Postgres<'_> {
        Postgres { url, asks_tls: url.encrypted, entered: false, standby: false, read_only: false }
    }

    fn start(&self) -> Vec<u8> {
        let user = self.url.user.as_deref().unwrap_or("postgres");
        let database = self.url.path.as_deref().unwrap_or(user);
        let mut body = PROTOCOL.to_be_bytes().to_vec();
        for text in ["user", user, "database", database, "application_name", "baa-healthwait", ""] {
            // A zero in a name would begin another.
            body.extend(text.bytes().filter(|byte| *byte != 0));
            body.push(0);
        }
        framed(&body)
    }

    fn secured(&mut self, heard: &[u8]) -> HandshakeStep {
        match heard {
            [] => HandshakeStep::More,
            // What comes after it in the clear may be anybody's.
            [b'S'] => {
                self.asks_tls = false;
                HandshakeStep::Encrypt(self.start())
            }
            [b'N'] => HandshakeStep::not(Class::Tls, "the server speaks no TLS (sslmode asks for it)"),
            [b'E', ..] => self.message(heard),
            _ => wrong(),
        }
    }

    /// One message: its kind, its length, its body.
    fn message(&mut self, heard: &[u8]) -> HandshakeStep {
        let mut reader = ByteReader(heard);
        let (Some(kind), size) = (reader.byte(), reader.array().map(u32::from_be_bytes)) else {
            return HandshakeStep::More;
        };
        if !b"RESNKZv".contains(&kind) {
            return wrong();
        }
        let Some(size) = size.and_then(|size| usize::try_from(size).ok()) else { return HandshakeStep::More };
        if !(4..HEARD_LIMIT).contains(&size) {
            // What cannot start a process for us says so in an older form: a plain text.
            return match heard {
                [b'E', text @ ..] if text.is_ascii() && text.contains(&0) => {
                    HandshakeStep::not(Class::Busy, said(&String::from_utf8_lossy(text)))
                }
                [b'E', text @ ..] if text.is_ascii() && text.len() < 1024 => HandshakeStep::More,
                _ => wrong(),
            };
        }
        let Some(body) = reader.take(size - 4) else { return HandshakeStep::More };
        let taken = size + 1;
        let on = HandshakeStep::Say { taken, words: Vec::new() };
        match kind {
            b'E' => self.refused(body),
            b'R' => match ByteReader(body).array().map(u32::from_be_bytes) {
                None => wrong(),
                Some(0) => {
                    self.entered = true;
                    on
                }
                Some(_) if self.url.writable => HandshakeStep::not(
                    Class::NotPermitted,
                    "the server asks for a login, so that it cannot be told whether it takes writes",
                ),
                Some(_) => HandshakeStep::ready(),
            },
            b'S' => {
                let mut body = ByteReader(body);
                let is_on = |value: Option<&[u8]>| value == Some(b"on");
                match body.until_zero() {
                    Some(b"in_hot_standby") => self.standby = is_on(body.until_zero()),
                    Some(b"default_transaction_read_only") => self.read_only = is_on(body.until_zero()),
                    _ => {}
                }
                on
            }
            b'Z' if self.entered => HandshakeStep::End(self.verdict(), FAREWELL.to_vec()),
            b'Z' => wrong(),
            _ => on,
        }
    }

    fn verdict(&self) -> Result<(), crate::words::failure::Failure> {
        let why = match () {
            () if !self.url.writable => return Ok(()),
            () if self.standby => "the server is a hot standby, in recovery: it takes no writes",
            () if self.read_only => "the server is read-only (default_transaction_read_only)",
            () => return Ok(()),
        };
        Err(crate::words::failure::Failure::new(Class::ReadOnly, why))
    }

    fn refused(&self, body: &[u8]) -> HandshakeStep {
        let (mut reader, mut state, mut text) = (ByteReader(body), String::new(), String::new());
        while let Some(field) = reader.byte().filter(|field| *field != 0) {
            match (field, reader.text()) {
                (b'C', Some(value)) => state = value,
                (b'M', Some(value)) => text = value,
                (_, Some(_)) => {}
                (_, None) => return wrong(),
            }
        }
        let class = match state.as_str() {
            "" => return wrong(),
            // Starting up, shutting down, in recovery, and ended by an administrator or a crash.
            "57P01" | "57P02" | "57P03" => Class::NotReady,
            // Too many connections, no memory, no disk.
            "53300" | "53000" | "53100" | "53200" | "55000" => Class::Busy,
            // A login that is not taken is one that was judged.
            "28000" | "28P01" | "42501" if self.url.writable => Class::NotPermitted,
            "28000" | "28P01" | "42501" => return HandshakeStep::ready(),
            "3D000" if self.url.path.is_some() => Class::NotReady,
            "3D000" if !self.url.writable => return HandshakeStep::ready(),
            _ => Class::Other,
        };
        HandshakeStep::not(class, format!("{} ({})", said(&text), brief(&state)))
    }
}

impl Handshake for Postgres<'_> {
    fn begin(&mut self) -> Vec<u8> {
        if self.asks_tls { framed(&SSL_REQUEST.to_be_bytes()) } else { self.start() }
    }

    fn hear(&mut self, heard: &[u8]) -> HandshakeStep {
        if self.asks_tls { self.secured(heard) } else { self.message(heard) }
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&size.to_be_bytes(), body].concat()
}

fn said(text: &str) -> String {
    format!("the server says: {}", brief(text))
}

fn wrong() -> HandshakeStep {
    HandshakeStep::End(Err(not_of("PostgreSQL")), Vec::new())
}
