//! `postgres://`, `mysql://`, `redis://`, `mongodb://`, `amqp://`, `kafka://`, `grpc://`: is the server
//! ready, by its own word? Each protocol is a file of its own that hears bytes and says bytes, and knows no
//! socket; here they meet one, with a deadline and a bound on what is heard.

mod amqp;
mod bytes;
mod grpc;
mod hpack;
mod kafka;
mod mongodb;
mod mysql;
mod postgres;
mod redis;
#[cfg(test)]
pub(crate) mod tests;
pub mod url;

use crate::probe::demand::Demand;
use crate::probe::{Asked, Cost, Probe, ProbeAnswer};
use crate::sys::http::{Transport, Trust};
use crate::sys::net::{Endpoint, Link};
use crate::sys::owner;
use crate::sys::process::Pid;
use crate::sys::secret;
use crate::words::failure::{Class, Failure};
use std::net::SocketAddr;
use std::time::Instant;
use url::{ServerProtocol, ServerUrl};

/// So much is heard of a server, and no more: what is asked is answered in a few hundred bytes.
const HEARD_LIMIT: usize = 64 * 1024;

/// A short conversation, apart from any socket.
trait Handshake {
    /// What is said first; nothing where the server begins.
    fn begin(&mut self) -> Vec<u8>;

    /// Hears all that was heard and is not taken yet, and says what now.
    fn hear(&mut self, heard: &[u8]) -> HandshakeStep;
}

/// What comes next in a conversation.
enum HandshakeStep {
    /// More must be heard.
    More,
    /// So many bytes are done with, and this is said, if anything.
    Say { taken: usize, words: Vec<u8> },
    /// All of it is done with; TLS begins, and this is said in it.
    Encrypt(Vec<u8>),
    /// It is known whether the server is ready; this is said for farewell.
    End(Result<(), Failure>, Vec<u8>),
}

impl HandshakeStep {
    fn ready() -> HandshakeStep {
        HandshakeStep::End(Ok(()), Vec::new())
    }

    fn not(class: Class, text: impl Into<String>) -> HandshakeStep {
        HandshakeStep::End(Err(Failure::new(class, text)), Vec::new())
    }
}

/// Up when the server says that it is ready, and the process meets the demand.
pub struct Server {
    /// Which one, and what it is asked.
    pub url: ServerUrl,
    /// What is trusted, where it is encrypted.
    pub trust: Trust,
    /// Fields that are sent along, where the protocol has such.
    pub headers: Vec<(String, String)>,
    /// Who must have answered.
    pub demand: Demand,
}

impl Drop for Server {
    /// A token may be in it.
    fn drop(&mut self) {
        self.headers.drain(..).for_each(|(_, value)| secret::wipe(value.into_bytes()));
    }
}

impl Server {
    fn handshake(&self) -> Box<dyn Handshake + '_> {
        match self.url.protocol {
            ServerProtocol::Postgres => Box::new(postgres::Postgres::new(&self.url)),
            ServerProtocol::Mysql => Box::new(mysql::Mysql::new(&self.url)),
            ServerProtocol::Redis => Box::new(redis::Redis::new(&self.url)),
            ServerProtocol::Mongodb => Box::new(mongodb::Mongodb::new(&self.url)),
            ServerProtocol::Amqp => Box::new(amqp::Amqp),
            ServerProtocol::Kafka => Box::new(kafka::Kafka),
            ServerProtocol::Grpc => Box::new(grpc::Grpc::new(&self.url, &self.headers)),
        }
    }

    /// Asks at the first of `addresses` that accepts, or at the socket; who was asked comes with the answer.
    async fn ask_at(
        &self,
        addresses: &[SocketAddr],
        deadline: Instant,
    ) -> Result<(Result<ProbeAnswer, Failure>, Link), Failure> {
        let conn = self.url.endpoint.connect(addresses, deadline).await?;
        let link = conn.link().clone();
        // What a wrong process says is of no interest, and who answers and hangs up must be known before.
        let mut inquiry = self.demand.inquire(&link);
        inquiry.connected(deadline).await?;
        let mut wire = Transport::new(conn);
        let said = self.converse(&mut wire).await;
        let who = inquiry.answered(deadline).await;
        Ok((who.and_then(|answer| said.map(|()| answer)), link))
    }

    /// The one loop that all conversations share.
    async fn converse(&self, wire: &mut Transport) -> Result<(), Failure> {
        let mut handshake = self.handshake();
        let (name, alpn) = (self.url.protocol.name(), self.url.protocol.alpn());
        if self.url.encrypted && !self.url.protocol.encrypts_later() {
            wire.encrypt(&self.trust, &self.url.tls_name, alpn)?;
        }
        // A server that turns us away may have said so before we spoke, and gone.
        let mut unsaid = say(wire, handshake.begin()).await.err();
        let (mut heard, mut total, mut room) = (Vec::new(), 0, [0; 4096]);
        loop {
            let count = match wire.hear(&mut room).await {
                Err(failure) => return Err(unsaid.unwrap_or(failure)),
                Ok(0) if unsaid.is_some() => return unsaid.map_or(Ok(()), Err),
                Ok(0) if total == 0 => {
                    return Err(Failure::new(Class::Reset, "closed the connection without an answer"));
                }
                Ok(0) => {
                    let text = strange(name, &heard)
                        .unwrap_or_else(|| "closed the connection in the middle of its answer".to_owned());
                    return Err(Failure::new(Class::Reset, text));
                }
                Ok(count) => count,
            };
            heard.extend_from_slice(&room[..count]);
            total += count;
            loop {
                match handshake.hear(&heard) {
                    HandshakeStep::More => break,
                    HandshakeStep::Say { taken, words } => {
                        heard.drain(..taken.min(heard.len()));
                        unsaid = unsaid.or(say(wire, words).await.err());
                    }
                    HandshakeStep::Encrypt(words) => {
                        heard.clear();
                        wire.encrypt(&self.trust, &self.url.tls_name, alpn)?;
                        say(wire, words).await?;
                        break;
                    }
                    HandshakeStep::End(outcome, words) => {
                        // Whether a farewell arrives changes nothing.
                        let _ = say(wire, words).await;
                        return outcome.map_err(|failure| match strange(name, &heard) {
                            Some(text) if failure.class == Class::Protocol => Failure { text, ..failure },
                            _ => failure,
                        });
                    }
                }
            }
            if total >= HEARD_LIMIT {
                let text = format!("said more than {HEARD_LIMIT} bytes, and not whether it is ready");
                return Err(Failure::new(Class::Protocol, text));
            }
        }
    }
}

/// Says `words`, which may hold a password, and forgets them.
async fn say(wire: &mut Transport, words: Vec<u8>) -> Result<(), Failure> {
    if words.is_empty() {
        return Ok(());
    }
    let said = wire.say(&words).await;
    secret::wipe(words);
    said
}

/// What is not `name`, for those who have taken the wrong port.
fn strange(name: &str, heard: &[u8]) -> Option<String> {
    let what = match heard {
        _ if heard.starts_with(b"HTTP/") => "but HTTP",
        _ if heard.starts_with(b"SSH-") => "but SSH",
        [0x15, 3, ..] => "but TLS, which refuses to be spoken to in the clear",
        _ => return None,
    };
    Some(format!("the answer is not {name}, {what}"))
}

/// The failure of an answer that is not of the protocol.
fn not_of(name: &str) -> Failure {
    Failure::new(Class::Protocol, format!("the answer is not {name}"))
}

impl Server {
    async fn connect(&self, deadline: Instant) -> Result<ProbeAnswer, Failure> {
        let addresses = self.url.endpoint.addresses(deadline).await?;
        let (first, link) = self.ask_at(&addresses, deadline).await?;
        let Link::Tcp(_, asked) = link else { return first };
        if first.is_ok() {
            return first;
        }
        // ::1 and 127.0.0.1 may be two servers: each of them is asked.
        for address in addresses.iter().filter(|address| address.ip().is_loopback() && **address != asked) {
            if let Ok((Ok(answer), _)) = self.ask_at(&[*address], deadline).await {
                return Ok(answer);
            }
        }
        first
    }
}

impl Probe for Server {
    fn ask(&self, deadline: Instant) -> Asked<'_> {
        Box::pin(self.connect(deadline))
    }

    fn endpoint(&self) -> Option<Endpoint> {
        Some(self.url.endpoint.clone())
    }

    fn holder(&self, deadline: Instant) -> Option<Pid> {
        owner::holder(&self.url.endpoint, deadline)
    }

    fn cost(&self) -> Cost {
        Cost::of(&self.url.endpoint)
    }
}
