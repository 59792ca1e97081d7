//! One HTTP/1.1 request with a hard deadline and a bounded answer, over TCP, TLS or a unix socket.
//!
//! A general client hides the connection; here it is evidence (who answered?), so the connection is ours, and
//! the protocol is that of ureq-proto (`exchange`) and rustls (`session`), which have none.

pub(crate) mod certificate;
mod exchange;
mod proxy;
pub mod serve;
mod session;
mod talk;
mod tls;
mod transport;
mod url;

use crate::sys::net::{Conn, Endpoint, FixedAddresses, Link};
use crate::sys::secret;
use crate::sys::task;
use crate::words::failure::{Class, Failure};
use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Instant;

use exchange::Exchange;
pub use proxy::Proxy;
use session::Session;
use talk::{Talk, part, step};
pub use tls::Trust;
pub use transport::Transport;
pub use url::{Scheme, Url, check_abstract, host_and_port};

/// The largest body that is read; what comes after is not looked at.
pub const BODY_LIMIT: usize = 1024 * 1024;
const REDIRECT_LIMIT: usize = 10;
/// How much of a body is looked through at once.
const PART: usize = 64 * 1024;

/// How to get to where something is asked.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// Addresses of hosts that no resolver is asked for.
    pub fixed: FixedAddresses,
    /// The proxy that is asked, over TCP.
    pub proxy: Option<Proxy>,
}

impl Route {
    /// The proxy on the way to `url`.
    fn proxy_to(&self, url: &Url) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|_| url.scheme() != Scheme::HttpUnix)
    }

    /// Whom to connect to, for `url`.
    fn first_stop(&self, url: &Url) -> Endpoint {
        self.proxy_to(url).map_or_else(|| url.endpoint(), Proxy::endpoint)
    }

    /// A failure to get there, told for what it is.
    fn told(&self, url: &Url, failure: Failure) -> Failure {
        if self.proxy_to(url).is_some() { Proxy::unreached(failure) } else { failure }
    }

    /// Where `url` itself is asked; nowhere if that is up to a proxy.
    pub fn place(&self, url: &Url) -> Option<Endpoint> {
        self.proxy_to(url).is_none().then(|| self.fixed.endpoint(url.endpoint()))
    }

    async fn addresses(&self, url: &Url, deadline: Instant) -> Result<Vec<SocketAddr>, Failure> {
        let found = self.first_stop(url).addresses_or(&self.fixed, deadline).await;
        found.map_err(|failure| self.told(url, failure))
    }
}

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
    /// How to get there.
    pub route: Route,
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
    /// The header fields, in their order; a name is in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, at most `BODY_LIMIT` bytes; empty when it was not wanted.
    pub body: Vec<u8>,
    /// The connection that it came over, kept open so that its other end can still be found.
    pub conn: Conn,
}

impl Answer {
    /// The value of a header field, of several of that name the first.
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// The values of all header fields of that name.
    pub fn header_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.headers.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// Whether the body holds this text, the end of it behind `from`; without a copy of what is no UTF-8.
    pub fn holds(&self, text: &str, from: usize) -> bool {
        let mut rest = &self.body[from.saturating_sub(text.len()).min(self.body.len())..];
        while rest.len() >= text.len() {
            let part = &rest[..rest.len().min(PART + text.len())];
            if String::from_utf8_lossy(part).contains(text) {
                return true;
            }
            rest = rest.get(PART..).unwrap_or_default();
        }
        false
    }

    /// What is to be said besides where a body is not as wanted: no coding is asked for, none is undone, and
    /// some servers send one all the same.
    pub fn coding_note(&self) -> String {
        let coding =
            self.header("content-encoding").filter(|coding| !coding.eq_ignore_ascii_case("identity"));
        coding.map_or(String::new(), |coding| {
            format!(" (it is sent as {}, and left so)", crate::words::error::brief(coding))
        })
    }

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

/// What is made of an answer while it arrives.
pub trait Hearing {
    /// What comes of it.
    type Verdict;

    /// Judges each connection before anything is said over it.
    ///
    /// # Errors
    /// Why nothing is said.
    fn meet(&mut self, link: &Link) -> impl Future<Output = Result<(), Failure>>;

    /// Judges who answers: asked for each connection that an answer came over, first that to the place that
    /// was asked and then those that redirects led to, when the head is there and before more is read.
    ///
    /// # Errors
    /// Why the answer does not count.
    fn hop(&mut self) -> impl Future<Output = Result<(), Failure>>;

    /// Whether the verdict is clear without the rest of the answer: asked when the head is there, and as the
    /// body arrives with the number of bytes that were there the last time.
    fn enough(&self, answer: &Answer, before: usize) -> bool;

    /// The verdict, on what had come until it was enough.
    ///
    /// # Errors
    /// Why it is bad.
    fn verdict(&mut self, answer: &Answer) -> Result<Self::Verdict, Failure>;
}

/// Takes any answer.
struct Anything;

impl Hearing for Anything {
    type Verdict = ();

    async fn meet(&mut self, _: &Link) -> Result<(), Failure> {
        Ok(())
    }

    async fn hop(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn enough(&self, _: &Answer, _: usize) -> bool {
        false
    }

    fn verdict(&mut self, _: &Answer) -> Result<(), Failure> {
        Ok(())
    }
}

/// Asks until `deadline` and returns the whole answer, whoever it came from; for a thread that does nothing
/// else meanwhile.
///
/// # Errors
/// The failure of the connection or of the protocol.
pub fn ask_now(request: &Request, deadline: Instant) -> Result<Answer, Failure> {
    task::block_on(async {
        let addresses = request.route.addresses(&request.url, deadline).await?;
        let (answer, mut talk) = follow(request, &addresses, deadline, (&mut Anything, &mut None)).await?;
        part(&answer.conn, &mut talk, deadline).await;
        Ok(answer)
    })
}

/// Asks until `deadline`. Of the addresses of `localhost` each is asked until the verdict on one is good; for
/// others the first that connects decides.
///
/// # Errors
/// The last failure, of the connection, of the protocol or of the hearing.
pub async fn hear<H: Hearing>(
    request: &Request,
    deadline: Instant,
    hearing: &mut H,
) -> Result<H::Verdict, Failure> {
    let addresses = request.route.addresses(&request.url, deadline).await?;
    let mut first = None;
    let failure = match judged(request, &addresses, deadline, (hearing, &mut first)).await {
        Ok(value) => return Ok(value),
        Err(failure) => failure,
    };
    // ::1 and 127.0.0.1 may be two servers: an old one on one of them must not hide the new one on the other.
    let Some(Link::Tcp(_, asked)) = first else { return Err(failure) };
    for address in addresses.iter().filter(|address| address.ip().is_loopback() && **address != asked) {
        if let Ok(value) = judged(request, &[*address], deadline, (hearing, &mut None)).await {
            return Ok(value);
        }
    }
    Err(failure)
}

async fn judged<H: Hearing>(
    request: &Request,
    addresses: &[SocketAddr],
    deadline: Instant,
    (hearing, first): (&mut H, &mut Option<Link>),
) -> Result<H::Verdict, Failure> {
    let (answer, mut talk) = follow(request, addresses, deadline, (&mut *hearing, first)).await?;
    let verdict = hearing.verdict(&answer);
    part(&answer.conn, &mut talk, deadline).await;
    verdict
}

/// Follows redirects to the answer that counts. That of its body is there which was wanted. The first
/// connection is laid down.
async fn follow<'r, H: Hearing>(
    request: &'r Request,
    addresses: &[SocketAddr],
    deadline: Instant,
    (hearing, first): (&mut H, &mut Option<Link>),
) -> Result<(Answer, Talk<'r>), Failure> {
    let (mut url, mut addresses) = (request.url.clone(), addresses.to_vec());
    let (mut method, mut body) = (request.method.as_str(), request.body.as_slice());
    for _ in 0..=REDIRECT_LIMIT {
        let (conn, mut talk) = greet(request, &url, &addresses, (method, body), deadline).await?;
        first.get_or_insert_with(|| conn.link().clone());
        hearing.meet(conn.link()).await?;
        let mut answer = begin(conn, &mut talk, deadline).await?;
        hearing.hop().await?;
        let Some(next) = redirect(request, &answer, &url)? else {
            let mut before = 0;
            while request.want_body && !talk.is_enough() && !hearing.enough(&answer, before) {
                before = answer.body.len();
                step(&answer.conn, &mut talk, deadline).await?;
                answer.body.append(&mut talk.take_content());
            }
            return Ok((answer, talk));
        };
        part(&answer.conn, &mut talk, deadline).await;
        url = next;
        addresses = request.route.addresses(&url, deadline).await?;
        // As browsers and curl do (RFC 9110, 15.4): 303 asks for another thing, and so did 301 and 302 ever.
        let asks_anew = match answer.status {
            303 => method != "HEAD",
            301 | 302 => method == "POST",
            _ => false,
        };
        if asks_anew {
            (method, body) = ("GET", &[]);
        }
        if !body.is_empty() && !url.same_origin(&request.url) {
            let why = "redirected to another origin, which does not get what was to be sent";
            return Err(Failure::new(Class::Protocol, why));
        }
    }
    Err(Failure::new(Class::Protocol, format!("redirected more than {REDIRECT_LIMIT} times")))
}

/// Where an answer leads that was not meant for us.
fn redirect(request: &Request, answer: &Answer, url: &Url) -> Result<Option<Url>, Failure> {
    if !request.redirects || !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = answer.header("location") else { return Ok(None) };
    let wrong = |why| Failure::new(Class::Protocol, format!("redirected to a bad place: {why}"));
    url.join(location).map(Some).map_err(wrong)
}

/// A connection over which nothing was said yet, and what will be. Header fields, the login and the client's
/// certificate go only to the origin that they were given for.
async fn greet<'r>(
    request: &'r Request,
    url: &Url,
    addresses: &[SocketAddr],
    (method, body): (&str, &'r [u8]),
    deadline: Instant,
) -> Result<(Conn, Talk<'r>), Failure> {
    let own = url.same_origin(&request.url);
    let exchange = Exchange::new(request, url, own, (method, body))?;
    let tls = match url.scheme() {
        Scheme::Https => Some(Session::new(request.trust.config(own)?, url.host())?),
        Scheme::Http | Scheme::HttpUnix => None,
    };
    let conn = request.route.first_stop(url).connect(addresses, deadline).await;
    let conn = conn.map_err(|failure| request.route.told(url, failure))?;
    if let Some(known) = request.known_peer
        && url.scheme() == Scheme::HttpUnix
    {
        let stranger = |cause: std::io::Error| Failure::new(Class::NotPermitted, cause.to_string());
        crate::sys::net::check_peer_is(conn.as_fd(), known).map_err(stranger)?;
    }
    // Only what is encrypted needs a tunnel: anything else a proxy reads and passes on.
    let proxy = request.route.proxy_to(url).filter(|_| url.scheme() == Scheme::Https);
    Ok((conn, Talk::new(exchange, tls, proxy.map(|proxy| proxy.tunnel(url)))))
}

/// One request, and the head of its answer.
async fn begin(conn: Conn, talk: &mut Talk<'_>, deadline: Instant) -> Result<Answer, Failure> {
    loop {
        step(&conn, talk, deadline).await?;
        if let Some(head) = talk.take_head() {
            let body = talk.take_content();
            return Ok(Answer { status: head.status, headers: head.headers, body, conn });
        }
    }
}
