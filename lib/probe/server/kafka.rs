//! Kafka: a broker says which questions it knows (ApiVersions), before any login.

use super::bytes::ByteReader;
use super::{HEARD_LIMIT, Handshake, HandshakeStep, not_of};
use crate::words::failure::Class;

/// ApiVersions, in its oldest version, which every broker since 0.10 knows.
const API_VERSIONS: [u8; 4] = [0, 18, 0, 0];
/// What the answer repeats.
const CORRELATION: [u8; 4] = *b"baa\0";
const CLIENT: &[u8] = b"baa-healthwait";
/// It knows only other versions of the question; that is an answer.
const UNSUPPORTED_VERSION: i16 = 35;

/// A broker.
pub(super) struct Kafka;

impl Handshake for Kafka {
    fn begin(&mut self) -> Vec<u8> {
        let length = |count: usize| u16::try_from(count).unwrap_or(0).to_be_bytes();
        let mut words = vec![0, 0];
        words.extend(length(API_VERSIONS.len() + CORRELATION.len() + 2 + CLIENT.len()));
        words.extend(API_VERSIONS);
        words.extend(CORRELATION);
        words.extend(length(CLIENT.len()));
        words.extend(CLIENT);
        words
    }

    fn hear(&mut self, heard: &[u8]) -> HandshakeStep {
        let wrong = || HandshakeStep::End(Err(not_of("Kafka")), Vec::new());
        let mut reader = ByteReader(heard);
        let Some(size) = reader.array().map(u32::from_be_bytes) else { return HandshakeStep::More };
        if usize::try_from(size).is_ok_and(|size| !(10..HEARD_LIMIT - 4).contains(&size)) {
            return wrong();
        }
        let Some(repeated) = reader.array::<4>() else { return HandshakeStep::More };
        if repeated != CORRELATION {
            return wrong();
        }
        match reader.array().map(i16::from_be_bytes) {
            None => HandshakeStep::More,
            Some(0 | UNSUPPORTED_VERSION) => HandshakeStep::ready(),
            Some(code) => {
                HandshakeStep::not(Class::NotReady, format!("the broker answers with error {code} of Kafka"))
            }
        }
    }
}
