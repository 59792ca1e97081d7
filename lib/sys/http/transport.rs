//! A connection of any protocol: in the clear, or encrypted from some moment on.

use super::Trust;
use super::session::{Plaintext, Session};
use crate::sys::net::{Conn, Link};
use crate::sys::secret;
use crate::words::failure::Failure;
use std::io;

/// What is read at once.
const PIECE: usize = 4096;

/// A connection, and its TLS where there is one.
pub struct Transport {
    conn: Conn,
    session: Option<Box<Session>>,
    plain: Buffers,
}

/// What is said and heard within a session.
#[derive(Default)]
struct Buffers {
    said: Vec<u8>,
    sent: usize,
    heard: Vec<u8>,
    ended: bool,
}

impl Buffers {
    fn forget(&mut self) {
        self.sent = 0;
        secret::wipe(std::mem::take(&mut self.said));
    }
}

impl Plaintext for Buffers {
    fn outgoing(&mut self) -> Result<&[u8], Failure> {
        Ok(&self.said[self.sent..])
    }

    fn sent(&mut self, count: usize) {
        self.sent = self.said.len().min(self.sent + count);
    }

    fn received(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.heard.extend_from_slice(bytes);
        Ok(())
    }

    fn ended(&mut self) -> Result<(), Failure> {
        self.ended = true;
        Ok(())
    }
}

impl Drop for Transport {
    /// A password may be in what was said.
    fn drop(&mut self) {
        self.plain.forget();
    }
}

impl Transport {
    /// In the clear.
    pub fn new(conn: Conn) -> Transport {
        Transport { conn, session: None, plain: Buffers::default() }
    }

    /// Encrypts what follows, with `host`, which must offer `alpn` if that is given.
    ///
    /// # Errors
    /// `tls` for a name or a trust that cannot be used; what the other side thinks of it is known later.
    pub fn encrypt(&mut self, trust: &Trust, host: &str, alpn: Option<&str>) -> Result<(), Failure> {
        let mut config = trust.config(true)?;
        if let Some(alpn) = alpn {
            std::sync::Arc::make_mut(&mut config).alpn_protocols = vec![alpn.as_bytes().to_vec()];
        }
        self.session = Some(Box::new(Session::new(config, host)?));
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
    pub async fn say(&mut self, words: &[u8]) -> Result<(), Failure> {
        if self.session.is_none() {
            return self.conn.send(words).await.map_err(|cause| failed("asking", &cause));
        }
        self.plain.said.extend_from_slice(words);
        loop {
            self.flush().await?;
            if self.plain.sent == self.plain.said.len() {
                self.plain.forget();
                return Ok(());
            }
            // The server is to speak first, until both know how to encrypt.
            self.fill().await?;
            if self.plain.ended {
                return Err(failed("asking", &io::ErrorKind::ConnectionReset.into()));
            }
        }
    }

    /// Hears some; nothing at the end of the stream.
    ///
    /// # Errors
    /// Those of the connection and of TLS.
    pub async fn hear(&mut self, room: &mut [u8]) -> Result<usize, Failure> {
        if self.session.is_none() {
            let heard = self.conn.receive(room).await;
            return heard.map_err(|cause| failed("waiting for the answer", &cause));
        }
        while self.plain.heard.is_empty() && !self.plain.ended {
            self.flush().await?;
            self.fill().await?;
        }
        let count = room.len().min(self.plain.heard.len());
        room[..count].copy_from_slice(&self.plain.heard[..count]);
        self.plain.heard.drain(..count);
        Ok(count)
    }

    /// Sends what the session has to send.
    async fn flush(&mut self) -> Result<(), Failure> {
        let Some(session) = &mut self.session else { return Ok(()) };
        loop {
            let bytes = session.outgoing(&mut self.plain)?;
            if bytes.is_empty() {
                return Ok(());
            }
            self.conn.send(bytes).await.map_err(|cause| failed("asking", &cause))?;
            let count = bytes.len();
            session.sent(count);
        }
    }

    /// Hands the session what has come.
    async fn fill(&mut self) -> Result<(), Failure> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let mut room = [0; PIECE];
        let doing = if session.greets() { "greeting by tls" } else { "waiting for the answer" };
        // A stream that ends without TLS's own end has ended all the same: nothing is judged by where.
        match self.conn.receive(&mut room).await.map_err(|cause| failed(doing, &cause))? {
            0 => session.ended(&mut self.plain),
            count => {
                let taken = session.received(&room[..count], &mut self.plain);
                if taken.is_err() {
                    // TLS says why it ends.
                    let _ = self.flush().await;
                }
                taken
            }
        }
    }
}

fn failed(doing: &str, cause: &io::Error) -> Failure {
    if cause.kind() == io::ErrorKind::TimedOut { Failure::timeout(doing) } else { Failure::io(doing, cause) }
}
