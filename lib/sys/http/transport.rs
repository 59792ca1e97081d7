//! A connection of any protocol: in the clear, or encrypted from some moment on.

use super::{Trust, failed, tls};
use crate::sys::net::{Conn, Link};
use crate::words::failure::Failure;
use std::io::{Read, Write};

/// A connection, and its TLS where there is one.
#[derive(Debug)]
pub struct Transport {
    conn: Conn,
    session: Option<Box<rustls::ClientConnection>>,
}

impl Transport {
    /// In the clear.
    pub fn new(conn: Conn) -> Transport {
        Transport { conn, session: None }
    }

    /// Encrypts what follows, with `host`, which must offer `alpn` if that is given.
    ///
    /// # Errors
    /// `tls` for a name or a trust that cannot be used; what the other side thinks of it is known later.
    pub fn encrypt(&mut self, trust: &Trust, host: &str, alpn: Option<&str>) -> Result<(), Failure> {
        self.session = Some(Box::new(tls::session_of(trust, host, alpn)?));
        Ok(())
    }

    /// Who is connected to whom.
    pub fn link(&self) -> &Link {
        self.conn.link()
    }

    /// Says all of it.
    ///
    /// # Errors
    /// Those of the connection and of TLS.
    pub fn say(&mut self, words: &[u8]) -> Result<(), Failure> {
        let said = match &mut self.session {
            None => self.conn.write_all(words),
            Some(session) => {
                let mut stream = rustls::Stream::new(session.as_mut(), &mut self.conn);
                stream.write_all(words).and_then(|()| stream.flush())
            }
        };
        said.map_err(|cause| failed("asking", &cause))
    }

    /// Hears some; nothing at the end of the stream.
    ///
    /// # Errors
    /// Those of the connection and of TLS.
    pub fn hear(&mut self, room: &mut [u8]) -> Result<usize, Failure> {
        let heard = match &mut self.session {
            None => self.conn.read(room),
            Some(session) => rustls::Stream::new(session.as_mut(), &mut self.conn).read(room),
        };
        match heard {
            // A stream that ends without TLS's own end has ended all the same: nothing is judged by where.
            Err(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof => Ok(0),
            heard => heard.map_err(|cause| failed("waiting for the answer", &cause)),
        }
    }
}
