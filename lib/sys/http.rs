//! One HTTP/1.1 request with a hard deadline and a bounded answer, over TCP, TLS or a unix socket.
//!
//! A general client hides the connection; here it is evidence (who answered?), so the exchange is ours,
//! parsed by httparse, encrypted by rustls.

pub mod serve;
mod tls;
mod url;

use crate::sys::net::{Conn, Endpoint, Link};
use crate::sys::secret;
use crate::words::failure::{Class, Failure};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Instant;

pub use tls::Trust;
pub use url::{Scheme, Url, host_and_port};

/// The largest head of an answer that is read.
const HEAD_LIMIT: usize = 64 * 1024;
/// The largest body that is read; what comes after is not looked at.
pub const BODY_LIMIT: usize = 1024 * 1024;
/// Room for the head of a request: one that grows leaves copies behind.
const HEAD_ROOM: usize = 4096;
const REDIRECT_LIMIT: usize = 10;
/// How many 1xx may precede an answer.
const INTERIM_LIMIT: usize = 20;

/// What to ask.
#[derive(Debug)]
pub struct Request {
    /// Where.
    pub url: Url,
    /// How: `GET` and the like.
    pub method: String,
    /// Header fields, checked by `header`.
    pub headers: Vec<(String, String)>,
    /// The body, for a method that has one.
    pub body: Vec<u8>,
    /// Whether redirects are followed.
    pub redirects: bool,
    /// Whether the body is read at all.
    pub want_body: bool,
    /// What is trusted, for https.
    pub trust: Trust,
    /// Who besides root and ourselves may answer at a unix socket, before anything is said to it; `None` is
    /// anybody.
    pub known_peer: Option<u32>,
}

impl Drop for Request {
    /// A token, a password or a login may be in it.
    fn drop(&mut self) {
        self.headers.drain(..).for_each(|(_, value)| secret::wipe(value.into_bytes()));
        secret::wipe(std::mem::take(&mut self.body));
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, at most `BODY_LIMIT` bytes; empty when it was not wanted.
    pub body: Vec<u8>,
    /// The connection that it came over, kept open so that its other end can still be found.
    pub conn: Conn,
}

impl Answer {
    /// Who was connected to whom.
    pub fn link(&self) -> &Link {
        self.conn.link()
    }
}

/// Checks a header field `name: value`, so that nothing can be smuggled into a request.
///
/// # Errors
/// Says what is wrong, without the value: it may be a secret.
pub fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is written 'Name: value'")?;
    let (name, value) = (name.trim(), value.trim());
    if !is_token(name) {
        return Err("the name of a header must be a token (RFC 9110, 5.6.2)".to_owned());
    }
    if value.bytes().any(|byte| byte != b'\t' && (byte < b' ' || byte == 0x7f)) {
        return Err(format!("the value of header '{name}' holds a control character"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Whether `text` can be a method or the name of a header.
pub fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Asks until `deadline`. Of the addresses of `localhost` each is asked until `accept` takes an answer; for
/// others the first that connects decides.
///
/// # Errors
/// The last failure, of the connection, of the protocol or of `accept`.
pub async fn ask<T>(
    request: &Request,
    deadline: Instant,
    accept: &dyn Fn(Answer) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let addresses = request.url.endpoint().addresses(deadline).await?;
    let first = match follow(request, &addresses, deadline).await {
        Ok(answer) => {
            let from = answer.conn.link().clone();
            match accept(answer) {
                Ok(value) => return Ok(value),
                Err(failure) => (failure, from),
            }
        }
        Err(failure) => return Err(failure),
    };
    // ::1 and 127.0.0.1 may be two servers: an old one on one of them must not hide the new one on the other.
    let (failure, Link::Tcp(_, asked)) = first else { return Err(first.0) };
    for address in addresses.iter().filter(|address| address.ip().is_loopback() && **address != asked) {
        if let Ok(answer) = follow(request, &[*address], deadline).await
            && let Ok(value) = accept(answer)
        {
            return Ok(value);
        }
    }
    Err(failure)
}

/// The same for a thread that does nothing else meanwhile.
///
/// # Errors
/// As `ask`.
pub fn ask_now<T>(
    request: &Request,
    deadline: Instant,
    accept: &dyn Fn(Answer) -> Result<T, Failure>,
) -> Result<T, Failure> {
    crate::sys::task::block_on(ask(request, deadline, accept))
}

async fn follow(request: &Request, addresses: &[SocketAddr], deadline: Instant) -> Result<Answer, Failure> {
    let mut url = request.url.clone();
    let mut addresses = addresses.to_vec();
    for _ in 0..=REDIRECT_LIMIT {
        let trusted = url.same_origin(&request.url);
        let (answer, location) = exchange(request, &url, &addresses, trusted, deadline).await?;
        match location {
            Some(location) if request.redirects && matches!(answer.status, 301 | 302 | 303 | 307 | 308) => {
                url = url.join(&location).map_err(|why| {
                    Failure::new(Class::Protocol, format!("redirected to a bad place: {why}"))
                })?;
                addresses = url.endpoint().addresses(deadline).await?;
            }
            _ => return Ok(answer),
        }
    }
    Err(Failure::new(Class::Protocol, format!("redirected more than {REDIRECT_LIMIT} times")))
}

/// One request and one answer. Header fields and the login go only to the origin that they were given for.
async fn exchange(
    request: &Request,
    url: &Url,
    addresses: &[SocketAddr],
    trusted: bool,
    deadline: Instant,
) -> Result<(Answer, Option<String>), Failure> {
    let endpoint = url.endpoint();
    let mut conn = endpoint.connect(addresses, deadline).await?;
    if let Some(known) = request.known_peer
        && url.scheme() == Scheme::HttpUnix
    {
        let stranger = |cause: std::io::Error| Failure::new(Class::NotPermitted, cause.to_string());
        crate::sys::net::check_peer_is(conn.as_fd(), known).map_err(stranger)?;
    }
    let mut text = String::with_capacity(HEAD_ROOM);
    text.push_str(&format!("{} {} HTTP/1.1\r\nHost: {}\r\n", request.method, url.path(), url.host_header()));
    let own: &[(String, String)] = if trusted { &request.headers } else { &[] };
    let given = |name: &str| own.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
    if !given("user-agent") {
        text.push_str(concat!("User-Agent: baa/", env!("CARGO_PKG_VERSION"), "\r\n"));
    }
    // Without it some servers answer 404 to a probe and 200 to a browser (vitejs/vite#9520).
    if !given("accept") {
        text.push_str("Accept: */*\r\n");
    }
    if let Some(login) = url.authorization().filter(|_| trusted && !given("authorization")) {
        text.push_str(&format!("Authorization: {login}\r\n"));
    }
    for (name, value) in own {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !matches!(request.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "DELETE") {
        text.push_str(&format!("Content-Length: {}\r\n", request.body.len()));
    }
    text.push_str("\r\n");
    let said = if url.scheme() == Scheme::Https {
        tls::session(&request.trust, url.host()).and_then(|mut session| {
            converse(&mut rustls::Stream::new(&mut session, &mut conn), &text, request)
        })
    } else {
        converse(&mut conn, &text, request)
    };
    secret::wipe(text.into_bytes());
    let (head, body) = said?;
    Ok((Answer { status: head.status, body, conn }, head.location))
}

fn converse<S: Read + Write>(
    stream: &mut S,
    text: &str,
    request: &Request,
) -> Result<(Head, Vec<u8>), Failure> {
    let sent = stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.write_all(&request.body))
        .and_then(|()| stream.flush());
    sent.map_err(|cause| failed("sending the request", &cause))?;
    let mut input = Input { stream, buffer: Vec::new(), at: 0 };
    let mut before = 0;
    let head = loop {
        let head = input.head()?;
        // 101 ends the HTTP conversation; other 1xx precede the answer (RFC 9110, 15.2).
        if head.status >= 200 || head.status == 101 {
            break head;
        }
        before += 1;
        if before > INTERIM_LIMIT {
            let why = format!("more than {INTERIM_LIMIT} answers that are none came before the answer");
            return Err(Failure::new(Class::Protocol, why));
        }
    };
    let empty = request.method == "HEAD" || head.status < 200 || matches!(head.status, 204 | 304);
    let body = if request.want_body && !empty { input.body(&head)? } else { Vec::new() };
    Ok((head, body))
}

fn failed(doing: &str, cause: &std::io::Error) -> Failure {
    if cause.kind() == std::io::ErrorKind::TimedOut {
        return Failure::timeout(doing);
    }
    if let Some(inner) = cause.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return Failure::new(
            Class::Tls,
            format!("tls: {}", crate::words::error::lower_first(&inner.to_string())),
        );
    }
    Failure::io(doing, cause)
}

struct Head {
    status: u16,
    length: Option<u64>,
    chunked: bool,
    location: Option<String>,
}

struct Input<'a, S> {
    stream: &'a mut S,
    buffer: Vec<u8>,
    at: usize,
}

impl<S: Read> Input<'_, S> {
    /// Reads more; false at the end of the stream.
    fn more(&mut self) -> Result<bool, Failure> {
        // What was read is not kept.
        self.buffer.drain(..self.at);
        self.at = 0;
        let mut chunk = [0u8; 4096];
        let count = self.stream.read(&mut chunk).map_err(|cause| failed("waiting for the answer", &cause))?;
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(count > 0)
    }

    fn head(&mut self) -> Result<Head, Failure> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; 128];
            let mut response = httparse::Response::new(&mut fields);
            let parsed = response
                .parse(&self.buffer[self.at..])
                .map_err(|cause| Failure::new(Class::Protocol, format!("the answer is not HTTP: {cause}")))?;
            if let httparse::Status::Complete(length) = parsed {
                self.at += length;
                return read_head(&response);
            }
            if self.buffer.len() - self.at > HEAD_LIMIT {
                return Err(Failure::new(
                    Class::Protocol,
                    format!("the head of the answer is larger than {HEAD_LIMIT} bytes"),
                ));
            }
            if !self.more()? {
                let what = if self.buffer.len() == self.at {
                    "closed the connection without an answer"
                } else {
                    "closed the connection in the head of its answer"
                };
                return Err(Failure::new(Class::Reset, what));
            }
        }
    }

    fn body(&mut self, head: &Head) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        if head.chunked {
            while let Some(size) = self.chunk_size()? {
                self.take(size, &mut body, true)?;
                if body.len() >= BODY_LIMIT {
                    break;
                }
                self.line()?;
            }
        } else {
            self.take(head.length.unwrap_or(u64::MAX), &mut body, head.length.is_some())?;
        }
        Ok(body)
    }

    /// Moves `size` bytes into `body`, up to `BODY_LIMIT`; an early end is a failure where the size was
    /// promised.
    fn take(&mut self, size: u64, body: &mut Vec<u8>, promised: bool) -> Result<(), Failure> {
        let mut left = usize::try_from(size).unwrap_or(usize::MAX).min(BODY_LIMIT - body.len());
        while left > 0 {
            if self.at == self.buffer.len() {
                (self.at, self.buffer) = (0, Vec::new());
                if !self.more()? {
                    return if promised {
                        Err(Failure::new(Class::Reset, "closed the connection in the body of its answer"))
                    } else {
                        Ok(())
                    };
                }
            }
            let count = left.min(self.buffer.len() - self.at);
            body.extend_from_slice(&self.buffer[self.at..self.at + count]);
            self.at += count;
            left -= count;
        }
        Ok(())
    }

    fn chunk_size(&mut self) -> Result<Option<u64>, Failure> {
        let line = self.line()?;
        let digits = line.split(';').next().unwrap_or("").trim();
        let digits = if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) { digits } else { "" };
        match u64::from_str_radix(digits, 16) {
            Ok(0) => Ok(None),
            Ok(size) => Ok(Some(size)),
            Err(_) => Err(Failure::new(Class::Protocol, "a chunk of the answer has no size")),
        }
    }

    fn line(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(end) = self.buffer[self.at..].iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&self.buffer[self.at..self.at + end]).trim().to_owned();
                self.at += end + 1;
                return Ok(line);
            }
            if self.buffer.len() - self.at > 4096 || !self.more()? {
                return Err(Failure::new(Class::Protocol, "a chunk of the answer is cut"));
            }
        }
    }
}

fn read_head(response: &httparse::Response<'_, '_>) -> Result<Head, Failure> {
    let field = |name: &str| {
        response
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name))
            .map(|field| String::from_utf8_lossy(field.value).trim().to_owned())
    };
    let length = match field("content-length") {
        Some(text) => Some(
            number(&text)
                .ok_or_else(|| Failure::new(Class::Protocol, "the length of the answer is not a number"))?,
        ),
        None => None,
    };
    Ok(Head {
        status: response.code.unwrap_or(0),
        length,
        chunked: field("transfer-encoding")
            .is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked")),
        location: field("location"),
    })
}

/// Digits alone: no sign.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Where an HTTP question goes, for messages and pacing.
pub fn is_local(url: &Url) -> bool {
    match url.endpoint() {
        Endpoint::Tcp(host, _) => crate::sys::net::is_local(&host),
        Endpoint::Unix(_) => true,
    }
}
