//! gRPC: grpc.health.v1.Health/Check over HTTP/2 without its upgrade: one request, one answer, in frames of
//! our own.

use super::bytes::ByteReader;
use super::hpack;
use super::url::ServerUrl;
use super::{Handshake, HandshakeStep, not_of};
use crate::words::error::brief;
use crate::words::failure::{Class, Failure};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The largest frame that may be sent to who has allowed no more.
const FRAME_LIMIT: usize = 16 * 1024;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
/// Of DATA and HEADERS; of SETTINGS and PING it is the acknowledgement.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;
/// SETTINGS_HEADER_TABLE_SIZE and SETTINGS_ENABLE_PUSH are nothing.
const NO_TABLE_NO_PUSH: [u8; 12] = [0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0];

/// A server, or a service of it, that says SERVING.
pub(super) struct Grpc<'a> {
    url: &'a ServerUrl,
    headers: &'a [(String, String)],
    settled: bool,
    block: Option<(Vec<u8>, u8)>,
    http_status: Option<u16>,
    grpc_status: Option<u32>,
    words: String,
    message: Vec<u8>,
}

impl Grpc<'_> {
    pub(super) fn new<'a>(url: &'a ServerUrl, headers: &'a [(String, String)]) -> Grpc<'a> {
        Grpc {
            url,
            headers,
            settled: false,
            block: None,
            http_status: None,
            grpc_status: None,
            words: String::new(),
            message: Vec::new(),
        }
    }

    /// What a frame means; `None` where it breaks the rules.
    fn frame(&mut self, kind: u8, flags: u8, stream: u32, body: &[u8]) -> Option<HandshakeStep> {
        let on = |words: Vec<u8>| Some(HandshakeStep::Say { taken: 0, words });
        // A server begins with its settings, and a head that is begun is ended before anything else.
        if (!self.settled && kind != SETTINGS) || (self.block.is_some() != (kind == CONTINUATION)) {
            return None;
        }
        let of_ours = stream == 1;
        match kind {
            SETTINGS if flags & END_STREAM == 0 => {
                self.settled = true;
                return on(framed(SETTINGS, END_STREAM, 0, &[]));
            }
            PING if flags & END_STREAM == 0 => {
                return on(framed(PING, END_STREAM, 0, body.get(..8)?));
            }
            HEADERS | CONTINUATION if of_ours => {
                let body = if kind == HEADERS { unpadded(flags, body)? } else { body };
                let (mut block, begun) = self.block.take().unwrap_or((Vec::new(), flags));
                block.extend(body);
                if flags & END_HEADERS == 0 {
                    self.block = Some((block, begun));
                    return on(Vec::new());
                }
                self.head(&block)?;
                if begun & END_STREAM != 0 {
                    return Some(self.ended());
                }
                if self.http_status.is_some_and(|status| status != 200) {
                    return Some(self.ended());
                }
            }
            // A head comes first (RFC 9113, 8.1).
            DATA if of_ours && self.http_status.is_some() => {
                self.message.extend(unpadded(flags & PADDED, body)?);
                if flags & END_STREAM != 0 {
                    return Some(self.ended());
                }
            }
            RST_STREAM if of_ours => {
                let code = u32::from_be_bytes(ByteReader(body).array()?);
                let text = format!("the server broke the request off (HTTP/2 error {code})");
                return Some(HandshakeStep::not(Class::Reset, text));
            }
            GOAWAY => {
                let mut body = ByteReader(body);
                let last = u32::from_be_bytes(body.array()?);
                let code = u32::from_be_bytes(body.array()?);
                // A request that it has taken may still be answered.
                if last == 0 || code != 0 {
                    let why = brief(&String::from_utf8_lossy(body.0));
                    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
                    let text = format!("the server says goodbye (HTTP/2 error {code}{why})");
                    return Some(HandshakeStep::not(Class::NotReady, text));
                }
            }
            PUSH_PROMISE | HEADERS | CONTINUATION | DATA => return None,
            _ => {}
        }
        on(Vec::new())
    }

    fn head(&mut self, block: &[u8]) -> Option<()> {
        for field in hpack::fields(block)? {
            let value = String::from_utf8_lossy(&field.value);
            match field.name.as_slice() {
                b":status" => self.http_status = Some(value.parse().ok()?),
                b"grpc-status" => self.grpc_status = Some(value.parse().ok()?),
                b"grpc-message" => self.words = brief(&crate::sys::redact::unescape(&value)),
                _ => {}
            }
        }
        Some(())
    }

    /// What the whole answer says.
    fn ended(&self) -> HandshakeStep {
        if let Some(status) = self.http_status.filter(|status| *status != 200) {
            let failure = Failure::new(Class::Status, format!("answered {status}, which is not gRPC"));
            let failure = Failure { http_status: Some(status), ..failure };
            return HandshakeStep::End(Err(failure), Vec::new());
        }
        let service = match self.url.path.as_deref() {
            Some(name) => format!("the service '{}'", brief(name)),
            None => "the server".to_owned(),
        };
        let unknown = match self.url.path.as_deref() {
            Some(name) => format!("the server knows no service '{}'", brief(name)),
            None => "the server does not know its own health".to_owned(),
        };
        let words = if self.words.is_empty() { String::new() } else { format!(": {}", self.words) };
        let (class, text) = match self.grpc_status {
            None => return wrong(),
            Some(0) => match serving(&self.message) {
                None => return wrong(),
                Some(1) => return HandshakeStep::ready(),
                Some(2) => (Class::NotReady, format!("{service} is not serving (NOT_SERVING)")),
                Some(3) => (Class::NotReady, format!("{unknown} (SERVICE_UNKNOWN)")),
                Some(0) => (Class::Other, format!("{service} does not know how it is (UNKNOWN)")),
                Some(other) => (Class::Other, format!("{service} answers with health {other}")),
            },
            Some(4) => (Class::Timeout, format!("the server took too long (DEADLINE_EXCEEDED{words})")),
            Some(5) => (Class::NotReady, format!("{unknown} (NOT_FOUND)")),
            Some(7) => {
                (Class::NotPermitted, format!("the server does not let us ask (PERMISSION_DENIED{words})"))
            }
            Some(8) => (Class::Busy, format!("the server has too much to do (RESOURCE_EXHAUSTED{words})")),
            Some(12) => {
                (Class::Other, "the server has no health service (UNIMPLEMENTED grpc.health.v1)".to_owned())
            }
            Some(14) => (Class::NotReady, format!("the server cannot answer now (UNAVAILABLE{words})")),
            Some(16) => {
                (Class::NotPermitted, format!("the server does not let us ask (UNAUTHENTICATED{words})"))
            }
            Some(code) => (Class::Other, format!("answered with status {code} of gRPC{words}")),
        };
        HandshakeStep::not(class, text)
    }
}

impl Handshake for Grpc<'_> {
    fn begin(&mut self) -> Vec<u8> {
        let path = "/grpc.health.v1.Health/Check";
        let head = hpack::request(&self.url.authority, path, self.url.encrypted, self.headers);
        // The message is one text, its field 1; before it whether it is compressed, and its length.
        let service = self.url.path.as_deref().unwrap_or_default().as_bytes();
        let mut message = Vec::new();
        if !service.is_empty() {
            message.push(0x0a);
            let mut rest = service.len();
            while rest >= 128 {
                message.push(u8::try_from(rest % 128).unwrap_or(0) | 128);
                rest /= 128;
            }
            message.push(u8::try_from(rest).unwrap_or(0));
            message.extend(service);
        }
        let mut body = vec![0];
        body.extend(u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
        body.extend(message);
        let mut words = PREFACE.to_vec();
        words.extend(framed(SETTINGS, 0, 0, &NO_TABLE_NO_PUSH));
        words.extend(framed(HEADERS, END_HEADERS, 1, &head));
        words.extend(framed(DATA, END_STREAM, 1, &body));
        words
    }

    fn hear(&mut self, heard: &[u8]) -> HandshakeStep {
        let mut reader = ByteReader(heard);
        let (Some([high, middle, low]), Some([kind, flags]), Some(stream)) =
            (reader.array(), reader.array(), reader.array().map(u32::from_be_bytes))
        else {
            // What begins otherwise is not waited for.
            return if heard.len() > 3 && !self.settled && heard[3] != SETTINGS {
                wrong()
            } else {
                HandshakeStep::More
            };
        };
        let size = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if size > FRAME_LIMIT || (!self.settled && kind != SETTINGS) {
            return wrong();
        }
        let Some(body) = reader.take(size) else { return HandshakeStep::More };
        match self.frame(kind, flags, stream & 0x7fff_ffff, body) {
            None => wrong(),
            Some(HandshakeStep::Say { words, .. }) => HandshakeStep::Say { taken: 9 + size, words },
            Some(step) => step,
        }
    }
}

/// A body without what fills it up, and without the priority that nobody needs.
fn unpadded(flags: u8, body: &[u8]) -> Option<&[u8]> {
    let mut reader = ByteReader(body);
    let fill = if flags & PADDED != 0 { usize::from(reader.byte()?) } else { 0 };
    if flags & PRIORITY != 0 {
        reader.take(5)?;
    }
    reader.0.get(..reader.0.len().checked_sub(fill)?)
}

/// The field 1 of a health answer, which is a number, and 0 where it is left out.
fn serving(message: &[u8]) -> Option<u32> {
    let mut reader = ByteReader(message);
    // Nothing that we have asked for is compressed.
    if reader.byte()? != 0 {
        return None;
    }
    let size = usize::try_from(u32::from_be_bytes(reader.array()?)).ok()?;
    let mut fields = ByteReader(reader.take(size)?);
    let mut status = 0;
    while !fields.0.is_empty() {
        let key = varint(&mut fields)?;
        match (key >> 3, key & 7) {
            (0, _) => return None,
            // The last one counts where there are several. It is 32 bits long, whatever is sent.
            (1, 0) => status = u32::try_from(varint(&mut fields)? & 0xffff_ffff).ok()?,
            (1, _) => return None,
            (_, 0) => drop(varint(&mut fields)?),
            (_, 1) => drop(fields.take(8)?),
            (_, 2) => {
                let length = usize::try_from(varint(&mut fields)?).ok()?;
                fields.take(length)?;
            }
            (_, 5) => drop(fields.take(4)?),
            _ => return None,
        }
    }
    Some(status)
}

/// A number of protobuf: seven bits in each byte, the lowest first.
fn varint(reader: &mut ByteReader<'_>) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let byte = reader.byte()?;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn framed(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
    let mut words = vec![high, middle, low, kind, flags];
    words.extend(stream.to_be_bytes());
    words.extend(body);
    words
}

fn wrong() -> HandshakeStep {
    HandshakeStep::End(Err(not_of("gRPC")), Vec::new())
}
