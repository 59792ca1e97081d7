//! One HTTP/1.1 exchange without a socket: bytes in, bytes out, and what they say. The protocol is that of
//! ureq-proto; the bounds are ours.

use super::session::Plaintext;
use super::{BODY_LIMIT, Request, Url};
use crate::sys::secret;
use crate::words::failure::{Class, Failure};
use bytes::Bytes;
use std::time::Duration;
use ureq_proto::client::state::{Await100, Prepare, RecvBody, RecvResponse, SendBody, SendRequest};
use ureq_proto::client::{Await100Result, Call, RecvResponseResult, SendRequestResult, header_raw};
use ureq_proto::http::{self, HeaderValue, Method};
use ureq_proto::{BodyMode, Error};

/// All heads together, those of 1xx included, may be this large.
const HEAD_LIMIT: usize = 64 * 1024;
/// A head that is smaller is looked at whenever more of it comes; a larger one when a line of it ends.
const SMALL_HEAD: usize = 4 * 1024;
/// How many 1xx may precede an answer.
pub(super) const INTERIM_LIMIT: usize = 20;
/// What may lie between the chunks of a body without making sense.
const CHUNK_LINE_LIMIT: usize = 4 * 1024;
/// The type of a body that has no end.
const EVENTS: &[u8] = b"text/event-stream";
/// What is sent at once.
const PIECE: usize = 16 * 1024;
/// How long a server may take to say that it wants the body (`Expect: 100-continue`); as long as with curl.
const CONSENT: Duration = Duration::from_secs(1);

/// What a server has said before its body.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
}

/// One request and one answer.
pub(super) struct Exchange<'a> {
    sender: Sender,
    receiver: Receiver,
    /// What of the request's body has not been encoded.
    body: &'a [u8],
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    /// Bytes of heads that were understood, and how many 1xx there were.
    heads: usize,
    interim: usize,
    head: Option<Head>,
    is_event_stream: bool,
    /// What is wrong with the body. It is told when more is waited for: the head, and what of the body came
    /// before, may decide without it.
    fault: Option<&'static str>,
    keeps_body: bool,
    /// What has come of the answer's body, and how much of that is kept.
    content: Vec<u8>,
    kept: usize,
}

enum Sender {
    /// The head says that the body comes when the server wants it.
    Consent(Call<Await100>),
    Body(Call<SendBody>),
    Done,
}

enum Receiver {
    Head(Call<RecvResponse>),
    Body {
        call: Call<RecvBody>,
        /// Whether the end of the stream ends it.
        until_close: bool,
    },
    Done,
}

/// The value of a header field that is wiped with the last copy of it.
struct Wiped(Vec<u8>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        secret::wipe(std::mem::take(&mut self.0));
    }
}

impl<'a> Exchange<'a> {
    /// The exchange that `request` asks for, at `url`. Header fields and the login go along only to the `own`
    /// origin; `method` and `body` are those of this hop.
    pub(super) fn new(
        request: &Request,
        url: &Url,
        own: bool,
        (method, body): (&str, &'a [u8]),
    ) -> Result<Exchange<'a>, Failure> {
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| Failure::new(Class::Protocol, format!("'{method}' is not a method")))?;
        let fields = fields(request, url, own, &method, body);
        let mut call = prepared(&method, &url.target(), fields)?.proceed();
        // Encoded at once: a head has no more than its fields.
        let mut outgoing = vec![0; PIECE];
        let mut length = 0;
        while !call.can_proceed() {
            match call.write(&mut outgoing[length..]) {
                Ok(count) => length += count,
                Err(Error::OutputOverflow) if outgoing.len() < 1 << 20 => {
                    let larger = [&outgoing[..length], &vec![0; outgoing.len() * 2 - length]].concat();
                    secret::wipe(std::mem::replace(&mut outgoing, larger));
                }
                Err(cause) => return Err(unsaid(&cause)),
            }
        }
        outgoing.truncate(length);
        if let Some((start, login)) = request.route.proxy.as_ref().and_then(|proxy| proxy.prefix(url)) {
            outgoing = for_proxy(outgoing, &start, login);
        }
        let (sender, receiver) = match call.proceed().map_err(|cause| unsaid(&cause))? {
            Some(SendRequestResult::Await100(call)) => (Sender::Consent(call), listening(&method)?),
            Some(SendRequestResult::SendBody(call)) => (Sender::Body(call), listening(&method)?),
            Some(SendRequestResult::RecvResponse(call)) => (Sender::Done, call),
            None => return Err(bug()),
        };
        Ok(Exchange {
            sender,
            receiver: Receiver::Head(receiver),
            body,
            outgoing,
            incoming: Vec::new(),
            heads: 0,
            interim: 0,
            head: None,
            is_event_stream: false,
            fault: None,
            keeps_body: request.want_body,
            content: Vec::new(),
            kept: 0,
        })
    }

    /// What is to be sent next; nothing while the server is to speak.
    pub(super) fn outgoing(&mut self) -> Result<&[u8], Failure> {
        if let Some(fault) = self.fault {
            return Err(Failure::new(Class::Protocol, fault));
        }
        if self.outgoing.is_empty()
            && let Sender::Body(call) = &mut self.sender
        {
            let piece = &self.body[..self.body.len().min(PIECE / 2)];
            self.outgoing.resize(PIECE, 0);
            let (used, made) = call.write(piece, &mut self.outgoing).map_err(|cause| unsaid(&cause))?;
            self.outgoing.truncate(made);
            self.body = &self.body[used..];
            if call.can_proceed() || (used, made) == (0, 0) {
                self.sender = Sender::Done;
            }
        }
        Ok(&self.outgoing)
    }

    /// The first `count` bytes of `outgoing` are on their way.
    pub(super) fn sent(&mut self, count: usize) {
        self.outgoing.drain(..count.min(self.outgoing.len()));
    }

    /// How long to wait at most for a word of the server before `consented`.
    pub(super) fn patience(&self) -> Option<Duration> {
        (matches!(self.sender, Sender::Consent(_)) && self.outgoing.is_empty()).then_some(CONSENT)
    }

    /// The server wants the body, or has not said that it does not.
    pub(super) fn consented(&mut self) -> Result<(), Failure> {
        self.sender = match std::mem::replace(&mut self.sender, Sender::Done) {
            Sender::Consent(call) => match call.proceed().map_err(|cause| unsaid(&cause))? {
                Await100Result::SendBody(call) => Sender::Body(call),
                Await100Result::RecvResponse(_) => Sender::Done,
            },
            other => other,
        };
        Ok(())
    }

    /// Nothing more is sent: the server does not listen.
    pub(super) fn hush(&mut self) {
        self.sender = Sender::Done;
        self.outgoing.clear();
    }

    /// Takes what the server has sent.
    pub(super) fn received(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.incoming.extend_from_slice(bytes);
        let in_head = matches!(self.receiver, Receiver::Head(_));
        if in_head && self.incoming.len() > SMALL_HEAD && !bytes.contains(&b'\n') {
            return self.head_fits();
        }
        while let Receiver::Head(call) = &mut self.receiver {
            match call.try_response(&self.incoming, false) {
                Ok((0, None)) => return self.head_fits(),
                Ok((used, None)) => self.interim(used)?,
                Ok((used, Some(response))) => self.begin_body(used, &response)?,
                // A 100 with header fields is allowed, and the library refuses it (RFC 9110, 15.2).
                Err(Error::HeadersWith100) => match end_of_head(&self.incoming) {
                    Some(used) => self.interim(used)?,
                    None => return self.head_fits(),
                },
                Err(cause) => return Err(self.not_http(&cause)),
            }
        }
        if self.fault.is_none() {
            self.fault = self.read_body().err();
        }
        Ok(())
    }

    /// The server has ended its stream.
    pub(super) fn ended(&mut self) -> Result<(), Failure> {
        let what = match &self.receiver {
            Receiver::Done => return Ok(()),
            Receiver::Body { until_close: true, .. } => {
                self.receiver = Receiver::Done;
                return Ok(());
            }
            Receiver::Body { .. } => "closed the connection in the body of its answer",
            Receiver::Head(_) if self.incoming.is_empty() => "closed the connection without an answer",
            Receiver::Head(_) => "closed the connection in the head of its answer",
        };
        Err(Failure::new(Class::Reset, what))
    }

    /// The head of the answer, once.
    pub(super) fn take_head(&mut self) -> Option<Head> {
        self.head.take()
    }

    /// What has come of the body since the last time.
    pub(super) fn take_content(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.content)
    }

    /// Whether the whole answer is there.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.receiver, Receiver::Done)
    }

    /// Whether nothing but the end of the connection ends the body, or it says that it goes on and on.
    pub(super) fn is_stream(&self) -> bool {
        self.is_event_stream || matches!(self.receiver, Receiver::Body { until_close: true, .. })
    }

    /// Whether as much of the answer is there as is looked at.
    pub(super) fn is_enough(&self) -> bool {
        self.is_whole() || self.kept >= BODY_LIMIT
    }

    /// What is being waited for.
    pub(super) fn doing(&self) -> &'static str {
        match &self.receiver {
            Receiver::Head(_) if !self.outgoing.is_empty() || matches!(self.sender, Sender::Body(_)) => {
                "sending the request"
            }
            Receiver::Head(_) => "waiting for the answer",
            Receiver::Body { .. } | Receiver::Done => "waiting for the rest of the answer",
        }
    }

    fn head_fits(&self) -> Result<(), Failure> {
        if self.heads + self.incoming.len() > HEAD_LIMIT {
            let why = format!("the head of the answer is larger than {HEAD_LIMIT} bytes");
            return Err(Failure::new(Class::Protocol, why));
        }
        Ok(())
    }

    fn interim(&mut self, used: usize) -> Result<(), Failure> {
        self.incoming.drain(..used);
        (self.heads, self.interim) = (self.heads + used, self.interim + 1);
        if self.interim > INTERIM_LIMIT {
            let why = format!("more than {INTERIM_LIMIT} answers that are none came before the answer");
            return Err(Failure::new(Class::Protocol, why));
        }
        self.head_fits()?;
        self.consented()
    }

    fn begin_body(&mut self, used: usize, response: &http::Response<()>) -> Result<(), Failure> {
        self.incoming.drain(..used);
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).trim().to_owned();
        let headers = response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value)));
        self.head = Some(Head { status: response.status().as_u16(), headers: headers.collect() });
        self.is_event_stream =
            response.headers().get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(EVENTS));
        // Whoever answers before the end of the request does not want the rest of it.
        self.hush();
        let Receiver::Head(call) = std::mem::replace(&mut self.receiver, Receiver::Done) else {
            return Err(bug());
        };
        if let Some(RecvResponseResult::RecvBody(mut call)) = call.proceed() {
            // What comes before a chunk that is wrong is not lost with it.
            call.stop_on_chunk_boundary(true);
            let until_close = call.body_mode() == BodyMode::CloseDelimited;
            self.receiver = Receiver::Body { call, until_close };
        }
        Ok(())
    }

    fn read_body(&mut self) -> Result<(), &'static str> {
        let Receiver::Body { call, until_close } = &mut self.receiver else {
            // What follows an answer is nothing to us.
            self.incoming.clear();
            return Ok(());
        };
        let (mut at, mut room) = (0, [0; 4096]);
        let done = loop {
            let (used, made) = call
                .read(&self.incoming[at..], &mut room)
                .map_err(|_| "a chunk of the answer has no size or no end")?;
            at += used;
            if self.keeps_body {
                let fits = made.min(BODY_LIMIT - self.kept);
                self.content.extend_from_slice(&room[..fits]);
                self.kept += fits;
            }
            // Trailers say nothing of what is asked, and may have no end.
            if call.is_ended_chunked() || (!*until_close && call.can_proceed()) {
                break true;
            }
            if used == 0 {
                break false;
            }
        };
        self.incoming.drain(..at);
        if done {
            self.receiver = Receiver::Done;
            self.incoming.clear();
        } else if self.incoming.len() > CHUNK_LINE_LIMIT {
            return Err("a chunk of the answer is cut");
        }
        Ok(())
    }

    fn not_http(&self, cause: &Error) -> Failure {
        let said = match cause {
            _ if super::session::is_tls(&self.incoming) => {
                "the server speaks TLS here; ask by https://".to_owned()
            }
            Error::HttpParseFail(why) => format!("the answer is not HTTP: {why}"),
            Error::HttpParseTooManyHeaders => "the head of the answer has too many fields".to_owned(),
            Error::BadContentLengthHeader => "the length of the answer is not a number".to_owned(),
            Error::TooManyContentLengthHeaders => "the answer has two lengths".to_owned(),
            other => format!("the answer is not HTTP: {other}"),
        };
        Failure::new(Class::Protocol, said)
    }
}

impl Drop for Exchange<'_> {
    /// A token, a password or a login may be in it.
    fn drop(&mut self) {
        secret::wipe(std::mem::take(&mut self.outgoing));
    }
}

/// A head as a proxy wants it: the target is a whole URL (RFC 9112, 3.2.2), and its own login is there.
fn for_proxy(head: Vec<u8>, start: &str, login: Option<String>) -> Vec<u8> {
    let place = head.iter().position(|byte| *byte == b' ').map_or(0, |at| at + 1);
    let line = head.iter().position(|byte| *byte == b'\n').map_or(place, |at| at + 1);
    let login = login.map_or(String::new(), |login| format!("Proxy-Authorization: {login}\r\n"));
    let parts = [&head[..place], start.as_bytes(), &head[place..line], login.as_bytes(), &head[line..]];
    let whole = parts.concat();
    secret::wipe(head);
    secret::wipe(login.into_bytes());
    whole
}

/// The header fields of a request: those that were given, and those that it needs besides.
fn fields<'f>(
    request: &'f Request,
    url: &Url,
    own: bool,
    method: &Method,
    body: &[u8],
) -> Vec<(&'f str, Vec<u8>)> {
    let given = if own { request.headers.as_slice() } else { &[] };
    let has = |name: &str| given.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
    let mut fields = Vec::with_capacity(given.len() + 5);
    if !has("host") {
        fields.push(("Host", url.host_header().into_bytes()));
    }
    if !has("user-agent") {
        fields.push(("User-Agent", concat!("baa/", env!("CARGO_PKG_VERSION")).into()));
    }
    // Without it some servers answer 404 to a probe and 200 to a browser (vitejs/vite#9520).
    if !has("accept") {
        fields.push(("Accept", "*/*".into()));
    }
    if let Some(login) = url.authorization().filter(|_| own && !has("authorization")) {
        fields.push(("Authorization", login.into_bytes()));
    }
    // The body is ours, and so is its length. A server that is told none waits for chunks.
    let length = |name: &str| name.eq_ignore_ascii_case("content-length");
    let writes = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    if !has("transfer-encoding") && (writes || !body.is_empty() || has("content-length")) {
        fields.push(("Content-Length", body.len().to_string().into_bytes()));
    }
    let rest = given.iter().filter(|(name, _)| !length(name));
    fields.extend(rest.map(|(name, value)| (name.as_str(), value.clone().into_bytes())));
    fields
}

/// A call with these header fields, written as they are given, each value wiped with the call.
fn prepared(method: &Method, target: &str, fields: Vec<(&str, Vec<u8>)>) -> Result<Call<Prepare>, Failure> {
    let mut builder = http::Request::builder().method(method.clone()).uri(target);
    for (name, _) in &fields {
        builder = header_raw(builder, name, b"");
    }
    let mut request =
        builder.body(()).map_err(|cause| Failure::new(Class::Protocol, format!("cannot ask so: {cause}")))?;
    let mut fields: Vec<_> = fields.into_iter().map(Some).collect();
    for (name, place) in request.headers_mut().iter_mut() {
        let same = |field: &&mut Option<(&str, Vec<u8>)>| {
            field.as_ref().is_some_and(|(own, _)| own.eq_ignore_ascii_case(name.as_str()))
        };
        let (_, value) = fields.iter_mut().find(same).and_then(Option::take).ok_or_else(bug)?;
        *place = HeaderValue::from_maybe_shared(Bytes::from_owner(Wiped(value))).map_err(|_| {
            Failure::new(Class::Protocol, format!("the value of header '{name}' is not text"))
        })?;
        place.set_sensitive(true);
    }
    let mut call = Call::new(request).map_err(|cause| unsaid(&cause))?;
    call.allow_non_standard_methods(true);
    Ok(call)
}

/// Reads the answer to a request whose body another call is still sending: servers may answer before its end.
fn listening(method: &Method) -> Result<Call<RecvResponse>, Failure> {
    let mut call: Call<SendRequest> = prepared(method, "/", vec![("Content-Length", b"0".into())])?.proceed();
    let mut room = [0; 256];
    while !call.can_proceed() {
        call.write(&mut room).map_err(|cause| unsaid(&cause))?;
    }
    match call.proceed() {
        Ok(Some(SendRequestResult::RecvResponse(call))) => Ok(call),
        _ => Err(bug()),
    }
}

/// Where the first empty line ends.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let ends =
        |end: &[u8]| bytes.windows(end.len()).position(|window| window == end).map(|at| at + end.len());
    ends(b"\n\r\n").into_iter().chain(ends(b"\n\n")).min()
}

fn unsaid(cause: &Error) -> Failure {
    Failure::new(Class::Protocol, format!("cannot ask so: {cause}"))
}

fn bug() -> Failure {
    Failure::new(Class::Other, "bug: a request that is neither sent nor answered")
}

impl Plaintext for Exchange<'_> {
    fn outgoing(&mut self) -> Result<&[u8], Failure> {
        Exchange::outgoing(self)
    }

    fn sent(&mut self, count: usize) {
        Exchange::sent(self, count);
    }

    fn received(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Exchange::received(self, bytes)
    }

    fn ended(&mut self) -> Result<(), Failure> {
        Exchange::ended(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::http::{Route, Trust};

    fn request(method: &str, headers: &[(&str, &str)], body: &str) -> Request {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Request {
            url: Url::parse("http://me:pw@h:81/x").unwrap(),
            method: method.to_owned(),
            headers: headers.collect(),
            body: body.as_bytes().to_vec(),
            redirects: true,
            want_body: true,
            trust: Trust::default(),
            known_peer: None,
            route: Route::default(),
        }
    }

    fn exchange(request: &Request) -> Exchange<'_> {
        Exchange::new(request, &request.url, true, (&request.method, &request.body)).unwrap()
    }

    /// All that is said without a word from the server.
    fn said(exchange: &mut Exchange<'_>) -> String {
        let mut said = Vec::new();
        loop {
            let piece = exchange.outgoing().unwrap().to_vec();
            if piece.is_empty() {
                return String::from_utf8(said).unwrap();
            }
            let some = piece.len().div_ceil(2);
            said.extend_from_slice(&piece[..some]);
            exchange.sent(some);
        }
    }

    fn tail(text: &str) -> &str {
        text.split_once("\r\n\r\n").unwrap().1
    }

    #[test]
    fn a_body_has_its_length_or_its_chunks() {
        let large = "y".repeat(100_000);
        let post = request("POST", &[], &large);
        let text = said(&mut exchange(&post));
        assert!(text.contains("\r\nContent-Length: 100000\r\n") && tail(&text) == large);
        let get = request("GET", &[("content-length", "9")], "ready");
        let text = said(&mut exchange(&get));
        assert!(text.contains("\r\nContent-Length: 5\r\n") && tail(&text) == "ready", "{text}");
        let chunked = request("PUT", &[("Transfer-Encoding", "chunked")], "ready");
        let text = said(&mut exchange(&chunked));
        assert!(!text.contains("Content-Length") && tail(&text) == "5\r\nready\r\n0\r\n\r\n", "{text}");
        let none = request("PURGE", &[("X-Long", &"z".repeat(70_000))], "");
        let text = said(&mut exchange(&none));
        assert!(text.starts_with("PURGE /x HTTP/1.1\r\nHost: h:81\r\n") && text.len() > 70_000);
        assert!(text.contains("\r\nAuthorization: Basic bWU6cHc=\r\n"));
        let other = Exchange::new(&none, &none.url, false, ("GET", &[]));
        assert!(!said(&mut other.unwrap()).contains("Authorization"));
    }

    #[test]
    fn a_body_waits_until_it_is_wanted() {
        let post = request("POST", &[("Expect", "100-continue")], "ready");
        for (word, body) in [
            ("HTTP/1.1 100 Continue\r\n\r\n", "ready"),
            ("HTTP/1.1 100 Continue\r\nX: y\r\n\r\n", "ready"),
            ("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n", ""),
        ] {
            let mut exchange = exchange(&post);
            assert_eq!(tail(&said(&mut exchange)), "");
            assert!(exchange.patience().is_some());
            exchange.received(word.as_bytes()).unwrap();
            assert_eq!((said(&mut exchange).as_str(), exchange.patience()), (body, None));
        }
        let mut silent = exchange(&post);
        said(&mut silent);
        silent.consented().unwrap();
        assert_eq!(said(&mut silent), "ready");
        silent.received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup").unwrap();
        assert_eq!((silent.take_head().unwrap().status, silent.take_content().as_slice()), (200, &b"up"[..]));
        assert!(silent.is_whole());
    }

    /// However the pieces come, the same is known before the fault.
    #[test]
    fn what_came_before_a_fault_may_decide() {
        let get = request("GET", &[], "");
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nup\r\nzz\r\n";
        for size in [1, 7, answer.len()] {
            let mut exchange = exchange(&get);
            said(&mut exchange);
            let mut content = Vec::new();
            for piece in answer.chunks(size) {
                exchange.received(piece).unwrap();
                content.append(&mut exchange.take_content());
            }
            assert_eq!((exchange.take_head().unwrap().status, content.as_slice()), (200, &b"up"[..]));
            assert!(!exchange.is_enough());
            assert_eq!(exchange.outgoing().unwrap_err().class, Class::Protocol);
        }
    }

    /// A server that knows already need not be told the rest; and what it says comes in any pieces.
    #[test]
    fn an_answer_may_come_before_the_end_of_the_request() {
        let large = request("POST", &[], &"y".repeat(100_000));
        let mut exchange = exchange(&large);
        let count = exchange.outgoing().unwrap().len();
        exchange.sent(count);
        for byte in b"HTTP/1.1 102 x\r\n\r\n" {
            exchange.received(&[*byte]).unwrap();
        }
        assert!(!exchange.outgoing().unwrap().is_empty());
        for byte in b"HTTP/1.1 413 x\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nno\r\n0\r\n" {
            exchange.received(&[*byte]).unwrap();
        }
        assert!(exchange.outgoing().unwrap().is_empty() && exchange.is_whole());
        assert_eq!(
            (exchange.take_head().unwrap().status, exchange.take_content().as_slice()),
            (413, &b"no"[..])
        );
    }
}
