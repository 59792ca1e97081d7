//! A conversation over a connection: the exchange, the TLS around it where there is any, and the only loop
//! that reads and writes. All but `step` and `part` is bytes in and bytes out.

use super::exchange::{Exchange, Head};
use super::proxy::Tunnel;
use super::session::Session;
use crate::sys::net::Conn;
use crate::sys::poll::For;
use crate::sys::task;
use crate::words::failure::{Class, Failure};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// What is read at once.
const PIECE: usize = 16 * 1024;
/// What is still read of an answer whose rest does not matter, so that its server can finish: this much, and
/// as long as it goes on coming without a pause. A body that says where it ends is seldom a stream without
/// end.
const REST_LIMIT: usize = 512 * 1024;
const REST_PAUSE: Duration = Duration::from_millis(20);
const STREAM_PAUSE: Duration = Duration::from_millis(2);
const REST_TIME: Duration = Duration::from_millis(100);

/// One request and its answer, encrypted or not.
pub(super) struct Talk<'a> {
    exchange: Exchange<'a>,
    tls: Option<Session>,
    /// What has to be dug before.
    tunnel: Option<Tunnel>,
    /// Until when the server may take to say that it wants the body.
    consent: Option<Instant>,
    /// Why nothing more could be sent; told only if no answer comes.
    deaf: Option<Failure>,
}

impl<'a> Talk<'a> {
    pub(super) fn new(exchange: Exchange<'a>, tls: Option<Session>, tunnel: Option<Tunnel>) -> Talk<'a> {
        Talk { exchange, tls, tunnel, consent: None, deaf: None }
    }

    /// What is to be written to the connection now.
    fn outgoing(&mut self) -> Result<&[u8], Failure> {
        if let Some(tunnel) = &self.tunnel {
            return Ok(tunnel.outgoing());
        }
        match &mut self.tls {
            Some(tls) => tls.outgoing(&mut self.exchange),
            None => self.exchange.outgoing(),
        }
    }

    fn sent(&mut self, count: usize) {
        if let Some(tunnel) = &mut self.tunnel {
            return tunnel.sent(count);
        }
        match &mut self.tls {
            Some(tls) => tls.sent(count),
            None => self.exchange.sent(count),
        }
    }

    fn received(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if let Some(tunnel) = &mut self.tunnel {
            let Some(rest) = tunnel.received(bytes)? else { return Ok(()) };
            self.tunnel = None;
            return if rest.is_empty() { Ok(()) } else { self.received(&rest) };
        }
        match &mut self.tls {
            Some(tls) => tls.received(bytes, &mut self.exchange),
            None => self.exchange.received(bytes),
        }
    }

    fn ended(&mut self) -> Result<(), Failure> {
        if self.tunnel.is_some() {
            return Err(Failure::new(Class::Reset, "the proxy closed the connection without an answer"));
        }
        match &mut self.tls {
            Some(tls) => tls.ended(&mut self.exchange),
            None => self.exchange.ended(),
        }
        .map_err(|failure| self.deaf.take().unwrap_or(failure))
    }

    fn hush(&mut self, cause: Errno) {
        self.deaf = Some(Failure::io("sending the request", &cause.into()));
        self.exchange.hush();
        if let Some(tls) = &mut self.tls {
            tls.hush();
        }
    }

    /// When to go on although nothing has happened.
    fn until(&mut self, now: Instant) -> Option<Instant> {
        let patience = self.exchange.patience()?;
        Some(*self.consent.get_or_insert(now + patience))
    }

    fn doing(&self) -> &'static str {
        match &self.tls {
            _ if self.tunnel.is_some() => "waiting for the proxy",
            Some(tls) if tls.greets() => "greeting by tls",
            _ => self.exchange.doing(),
        }
    }

    /// The head of the answer, once.
    pub(super) fn take_head(&mut self) -> Option<Head> {
        self.exchange.take_head()
    }

    /// What has come of the body since the last time.
    pub(super) fn take_content(&mut self) -> Vec<u8> {
        self.exchange.take_content()
    }

    /// Whether as much of the answer is there as is looked at.
    pub(super) fn is_enough(&self) -> bool {
        self.exchange.is_enough()
    }
}

/// Sends what is to be sent, waits until something comes, and takes it.
///
/// # Errors
/// The failure of the connection, of TLS or of HTTP; `timeout` at the deadline.
pub(super) async fn step(conn: &Conn, talk: &mut Talk<'_>, deadline: Instant) -> Result<(), Failure> {
    let sending = write(conn, talk)?;
    let now = Instant::now();
    let until = talk.until(now).map_or(deadline, |at| at.min(deadline));
    let both = [(conn.as_fd(), For::Reading), (conn.as_fd(), For::Writing)];
    // One that drips is always ready, so the deadline is looked at before the socket.
    let ready = if now < deadline {
        task::ready(&both[..1 + usize::from(sending)], until)
            .await
            .map_err(|cause| Failure::io(talk.doing(), &cause))?
    } else {
        vec![false]
    };
    if ready[0] {
        let mut room = [0; PIECE];
        let outcome = match nix::unistd::read(conn, &mut room) {
            Ok(0) => talk.ended(),
            Ok(count) => talk.received(&room[..count]),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(cause) => Err(talk.deaf.take().unwrap_or_else(|| Failure::io(talk.doing(), &cause.into()))),
        };
        if outcome.is_err() {
            // TLS says why it ends.
            let _ = write(conn, talk);
        }
        return outcome;
    }
    if ready.iter().all(|ready| !ready) {
        if until == deadline {
            return Err(Failure::timeout(talk.doing()));
        }
        return talk.exchange.consented();
    }
    Ok(())
}

/// Writes what fits; whether something is left.
fn write(conn: &Conn, talk: &mut Talk<'_>) -> Result<bool, Failure> {
    loop {
        let bytes = talk.outgoing()?;
        if bytes.is_empty() {
            return Ok(false);
        }
        match nix::unistd::write(conn, bytes) {
            Ok(count) => talk.sent(count),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(true),
            // It may have answered before it closed.
            Err(cause) => talk.hush(cause),
        }
    }
}

/// Parts politely: reads what still comes at once, says that nothing more will be asked, and closes, so that
/// the server does not take us for one that has broken off.
pub(super) async fn part(conn: &Conn, talk: &mut Talk<'_>, deadline: Instant) {
    let end = deadline.min(Instant::now() + REST_TIME);
    let pause = if talk.exchange.is_stream() { STREAM_PAUSE } else { REST_PAUSE };
    let (mut room, mut rest) = (vec![0; PIECE], REST_LIMIT);
    while rest > 0 && !talk.exchange.is_whole() && Instant::now() < end {
        let until = end.min(Instant::now() + pause);
        if !matches!(task::ready(&[(conn.as_fd(), For::Reading)], until).await.as_deref(), Ok([true])) {
            break;
        }
        let taken = match nix::unistd::read(conn, &mut room) {
            Ok(0) => break,
            Ok(count) => {
                rest = rest.saturating_sub(count);
                talk.received(&room[..count])
            }
            Err(cause) => Err(Failure::new(Class::Reset, cause.to_string())),
        };
        if taken.is_err() {
            break;
        }
        drop(talk.take_content());
    }
    if let Some(tls) = &mut talk.tls {
        tls.part();
        let _ = write(conn, talk);
    }
    let _ = nix::sys::socket::shutdown(conn.as_fd().as_raw_fd(), nix::sys::socket::Shutdown::Write);
    // What lies there unread would be answered with a reset.
    while matches!(nix::unistd::read(conn, &mut room), Ok(1..)) && rest > 0 {
        rest = rest.saturating_sub(PIECE);
    }
}
