//! AMQP: the header of the protocol is answered by connection.start, or by the version that the broker would
//! rather speak.

use super::{Handshake, HandshakeStep, not_of};

/// AMQP 0-9-1, section 2.2.4 and 4.2.2.
const HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";
/// The head of a frame: its kind, its channel, its size.
const FRAME_HEAD: usize = 7;
/// A method, on the channel of the connection.
const METHOD: [u8; 3] = [1, 0, 0];
/// connection.start
const START: [u8; 4] = [0, 10, 0, 10];
/// connection.close
const CLOSE: [u8; 4] = [0, 10, 0, 50];

/// One that takes connections.
pub(super) struct Amqp;

impl Handshake for Amqp {
    fn begin(&mut self) -> Vec<u8> {
        HEADER.to_vec()
    }

    fn hear(&mut self, heard: &[u8]) -> HandshakeStep {
        let begins = |with: &[u8]| with.iter().zip(heard).all(|(one, other)| one == other);
        if begins(b"AMQP") {
            return match heard.get(..HEADER.len()) {
                None => HandshakeStep::More,
                // It says what it hears.
                Some(header) if header == HEADER => wrong(),
                // A broker of AMQP 1.0 names its own version, and closes.
                Some(_) => HandshakeStep::ready(),
            };
        }
        if !begins(&METHOD) {
            return wrong();
        }
        match heard.get(FRAME_HEAD..FRAME_HEAD + START.len()) {
            None => HandshakeStep::More,
            Some(method) if method == START => HandshakeStep::ready(),
            Some(method) if method == CLOSE => HandshakeStep::not(
                crate::words::failure::Class::Busy,
                "the broker turns connections away (connection.close)",
            ),
            Some(_) => wrong(),
        }
    }
}

fn wrong() -> HandshakeStep {
    HandshakeStep::End(Err(not_of("AMQP")), Vec::new())
}
