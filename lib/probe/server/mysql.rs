//! MySQL and MariaDB: the server speaks first, with its greeting or with an error. Where the URL names a user
//! the handshake is finished as that user without a password, so that the server does not count us among the
//! hosts that hang up on it.

use super::bytes::ByteReader;
use super::url::ServerUrl;
use super::{HEARD_LIMIT, Handshake, HandshakeStep, not_of};
use crate::words::error::brief;
use crate::words::failure::Class;

const LONG_PASSWORD: u32 = 1;
const CONNECT_WITH_DB: u32 = 1 << 3;
const PROTOCOL_41: u32 = 1 << 9;
const SECURE_CONNECTION: u32 = 1 << 15;
const PLUGIN_AUTH: u32 = 1 << 19;
/// utf8mb4_general_ci
const CHARSET: u8 = 45;
const QUIT: [u8; 5] = [1, 0, 0, 0, 1];

/// One that takes connections.
pub(super) struct Mysql<'a> {
    url: &'a ServerUrl,
    greeted: bool,
}

impl Mysql<'_> {
    pub(super) fn new(url: &ServerUrl) -> Mysql<'_> {
        Mysql { url, greeted: false }
    }

    fn greeting(&mut self, mut body: ByteReader<'_>, taken: usize) -> HandshakeStep {
        let Some(_version) = body.until_zero().filter(|version| version.is_ascii() && !version.is_empty())
        else {
            return wrong();
        };
        self.greeted = true;
        let Some(user) = &self.url.user else { return HandshakeStep::ready() };
        // The name of the plugin stands at the end, where there is one.
        let plugin = body.0.strip_suffix(&[0]).unwrap_or(body.0);
        let plugin = plugin.rsplit(|byte| *byte == 0).next().unwrap_or_default();
        let database = self.url.path.as_deref();
        let mut flags = LONG_PASSWORD | PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH;
        if database.is_some() {
            flags |= CONNECT_WITH_DB;
        }
        let mut words = flags.to_le_bytes().to_vec();
        words.extend(u32::try_from(HEARD_LIMIT).unwrap_or(u32::MAX).to_le_bytes());
        words.push(CHARSET);
        words.extend([0; 23]);
        words.extend(user.bytes().filter(|byte| *byte != 0));
        // The end of the name, and an answer of no bytes.
        words.extend([0, 0]);
        if let Some(database) = database {
            words.extend(database.bytes().filter(|byte| *byte != 0));
            words.push(0);
        }
        words.extend(plugin);
        words.push(0);
        HandshakeStep::Say { taken, words: packet(1, &words) }
    }

    /// A database that is named must be there; a login that is not taken is one that was judged.
    fn refused(&self, mut body: ByteReader<'_>) -> HandshakeStep {
        let Some(code) = body.array().map(u16::from_le_bytes) else { return wrong() };
        let text = match body.0 {
            [b'#', _, _, _, _, _, text @ ..] => text,
            text => text,
        };
        let class = match code {
            1045 | 1044 | 1227 | 1251 | 1275 | 1524 | 1698 | 1820 | 1862 | 3118 | 3159 | 4151
                if self.greeted =>
            {
                return HandshakeStep::End(Ok(()), Vec::new());
            }
            1049 | 1053 => Class::NotReady,
            // Too many connections of all, of a user; no thread, no memory for one more.
            1040 | 1203 | 1226 | 1135 | 1041 => Class::Busy,
            1129 | 1130 => Class::NotPermitted,
            _ => Class::Other,
        };
        HandshakeStep::not(
            class,
            format!("the server says: {} ({code})", brief(&String::from_utf8_lossy(text))),
        )
    }
}

impl Handshake for Mysql<'_> {
    fn begin(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn hear(&mut self, heard: &[u8]) -> HandshakeStep {
        let mut reader = ByteReader(heard);
        let Some([low, middle, high, number]) = reader.array() else { return HandshakeStep::More };
        let size = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
        if !(1..HEARD_LIMIT).contains(&size) || (!self.greeted && number != 0) {
            return wrong();
        }
        let Some(body) = reader.take(size) else { return HandshakeStep::More };
        let (mut body, taken) = (ByteReader(body), size + 4);
        match body.byte() {
            Some(0xff) => self.refused(body),
            Some(9 | 10) if !self.greeted => self.greeting(body, taken),
            Some(0) if self.greeted => HandshakeStep::End(Ok(()), QUIT.to_vec()),
            // It would rather be told the password in another way: there is none.
            Some(0xfe) if self.greeted => {
                HandshakeStep::Say { taken, words: packet(number.wrapping_add(1), &[]) }
            }
            // More of a login that is asked for is a login that is asked for.
            Some(1) if self.greeted => HandshakeStep::ready(),
            _ => wrong(),
        }
    }
}

fn packet(number: u8, body: &[u8]) -> Vec<u8> {
    let [low, middle, high, ..] = u32::try_from(body.len()).unwrap_or(0).to_le_bytes();
    [&[low, middle, high, number], body].concat()
}

fn wrong() -> HandshakeStep {
    HandshakeStep::End(Err(not_of("MySQL")), Vec::new())
}
