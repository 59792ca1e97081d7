//! MongoDB: `hello`, which is answered before any login and says what kind of a member it is and whether it
//! takes writes.

use super::bytes::ByteReader;
use super::url::ServerUrl;
use super::{HEARD_LIMIT, Handshake, HandshakeStep, not_of};
use crate::words::error::brief;
use crate::words::failure::Class;

const OP_MSG: i32 = 2013;
const REQUEST_ID: i32 = 0x6261_6100;
/// The head of a message: its length, its id, the id that it answers, its kind.
const HEAD: usize = 16;

/// A member that serves reads, and takes writes where that is asked for.
pub(super) struct Mongodb {
    writable: bool,
}

/// What `hello` is answered, as far as it is of interest.
#[derive(Default)]
struct Hello {
    ok: bool,
    code: i32,
    words: String,
    primary: bool,
    secondary: bool,
    arbiter: bool,
    router: bool,
    read_only: bool,
}

impl Mongodb {
    pub(super) fn new(url: &ServerUrl) -> Mongodb {
        Mongodb { writable: url.writable }
    }

    fn judge(&self, hello: &Hello) -> HandshakeStep {
        if !hello.ok {
            let class = match hello.code {
                // ShutdownInProgress, InterruptedAtShutdown, NotYetInitialized and their kin.
                91 | 94 | 11600 | 11602 | 13436 => Class::NotReady,
                // CommandNotFound, of a server that is older than the question; Unauthorized.
                59 | 13 if !self.writable => return HandshakeStep::ready(),
                _ => Class::Other,
            };
            let text = format!("the server says: {} ({})", brief(&hello.words), hello.code);
            return HandshakeStep::not(class, text);
        }
        let serves = hello.primary || hello.secondary || hello.arbiter || hello.router;
        match () {
            () if !serves => HandshakeStep::not(
                Class::NotReady,
                "the server is neither primary nor secondary: starting up, in recovery, or not in a set yet",
            ),
            () if self.writable && hello.read_only => {
                HandshakeStep::not(Class::ReadOnly, "the server is read-only")
            }
            () if self.writable && !(hello.primary || hello.router) => {
                HandshakeStep::not(Class::ReadOnly, "the server is a secondary: it takes no writes")
            }
            () => HandshakeStep::ready(),
        }
    }
}

impl Handshake for Mongodb {
    fn begin(&mut self) -> Vec<u8> {
        // No flags, and one section that is a document: {hello: 1, $db: "admin"}.
        let mut body = vec![0, 0, 0, 0, 0];
        let document = b"\x10hello\0\x01\0\0\0\x02$db\0\x06\0\0\0admin\0\0";
        body.extend(length(document.len() + 4));
        body.extend(document);
        let mut words = length(body.len() + HEAD).to_vec();
        for number in [REQUEST_ID, 0, OP_MSG] {
            words.extend(number.to_le_bytes());
        }
        words.extend(body);
        words
    }

    fn hear(&mut self, heard: &[u8]) -> HandshakeStep {
        let wrong = || HandshakeStep::End(Err(not_of("MongoDB")), Vec::new());
        let mut reader = ByteReader(heard);
        let Some(size) = reader.array().map(u32::from_le_bytes) else { return HandshakeStep::More };
        let Some(size) = usize::try_from(size).ok().filter(|size| (HEAD + 10..HEARD_LIMIT).contains(size))
        else {
            return wrong();
        };
        let Some(body) = reader.take(size - 4) else { return HandshakeStep::More };
        match answered(ByteReader(body)) {
            Some(hello) => self.judge(&hello),
            None => wrong(),
        }
    }
}

fn length(count: usize) -> [u8; 4] {
    u32::try_from(count).unwrap_or(0).to_le_bytes()
}

/// The document of an answer to our question.
fn answered(mut body: ByteReader<'_>) -> Option<Hello> {
    let mut number = || body.array().map(i32::from_le_bytes);
    let (_own, to, kind, _flags) = (number()?, number()?, number()?, number()?);
    if to != REQUEST_ID || kind != OP_MSG || body.byte()? != 0 {
        return None;
    }
    let size = usize::try_from(u32::from_le_bytes(body.array()?)).ok()?;
    let mut document = ByteReader(body.take(size.checked_sub(4)?)?);
    let (mut hello, mut told) = (Hello::default(), false);
    loop {
        let kind = document.byte()?;
        if kind == 0 {
            return told.then_some(hello);
        }
        let name = document.until_zero()?;
        let value = value(kind, &mut document)?;
        let yes = value.number.is_some_and(|number| number != 0.0);
        match name {
            b"ok" => (hello.ok, told) = (yes, true),
            b"isWritablePrimary" | b"ismaster" => hello.primary |= yes,
            b"secondary" => hello.secondary = yes,
            b"arbiterOnly" => hello.arbiter = yes,
            b"readOnly" => hello.read_only = yes,
            b"msg" => hello.router = value.text == Some(b"isdbgrid"),
            b"errmsg" => hello.words = String::from_utf8_lossy(value.text.unwrap_or_default()).into_owned(),
            // A code is a small whole number; what is none is cut to one.
            b"code" => hello.code = value.number.map_or(0, |number| number as i32),
            _ => {}
        }
    }
}

/// A value, as far as it is of interest.
#[derive(Default)]
struct BsonValue<'a> {
    number: Option<f64>,
    text: Option<&'a [u8]>,
}

/// Takes one value of BSON; `None` for what is cut off or of no known kind.
fn value<'a>(kind: u8, reader: &mut ByteReader<'a>) -> Option<BsonValue<'a>> {
    let sized = |reader: &mut ByteReader<'a>| usize::try_from(u32::from_le_bytes(reader.array()?)).ok();
    let mut value = BsonValue::default();
    match kind {
        0x01 => value.number = Some(f64::from_le_bytes(reader.array()?)),
        0x08 => value.number = Some(f64::from(reader.byte()?)),
        0x10 => value.number = Some(f64::from(i32::from_le_bytes(reader.array()?))),
        0x12 => value.number = Some(i64::from_le_bytes(reader.array()?) as f64),
        0x02 => {
            let size = sized(reader)?;
            value.text = reader.take(size)?.strip_suffix(&[0]);
        }
        // A document, an array: their own length is a part of it.
        0x03 | 0x04 => {
            let size = sized(reader)?;
            reader.take(size.checked_sub(4)?)?;
        }
        0x05 => {
            let size = sized(reader)?;
            reader.take(size.checked_add(1)?)?;
        }
        0x07 => drop(reader.take(12)?),
        0x09 | 0x11 => drop(reader.take(8)?),
        0x0a | 0x7f | 0xff => {}
        0x13 => drop(reader.take(16)?),
        _ => return None,
    }
    Some(value)
}
