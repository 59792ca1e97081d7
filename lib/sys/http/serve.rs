//! A small server of small answers to GET, for people and probes on this machine: one thread for each
//! connection, one answer for each connection, and neither more of them nor longer than a probe needs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a client may take for its request and for our answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many clients are served at once; who comes then waits in the kernel's queue.
const CLIENTS: usize = 32;
/// The largest head of a request.
const HEAD_LIMIT: usize = 8 * 1024;

/// An answer: the status, the type of the body, and the body.
pub type Reply = (u16, &'static str, String);

/// Binds `address`; the port that was given is in the listener.
///
/// # Errors
/// Those of bind(2).
pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address)
}

/// Answers the requests for a path, without its query, by `answer`, in threads of its own, as long as the
/// process lives.
///
/// # Errors
/// Where no thread can be started.
pub fn serve(
    listener: TcpListener,
    answer: impl Fn(&str) -> Reply + Send + Sync + 'static,
) -> std::io::Result<()> {
    let (answer, clients) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    let start = move |stream: TcpStream| {
        let (answer, count) = (Arc::clone(&answer), Arc::clone(&clients));
        count.fetch_add(1, Ordering::SeqCst);
        let thread = std::thread::Builder::new().stack_size(128 * 1024).spawn(move || {
            let _ = converse(stream, &*answer);
            count.fetch_sub(1, Ordering::SeqCst);
        });
        if thread.is_err() {
            clients.fetch_sub(1, Ordering::SeqCst);
        }
        while clients.load(Ordering::SeqCst) >= CLIENTS {
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    std::thread::Builder::new().stack_size(64 * 1024).spawn(move || {
        loop {
            match listener.accept() {
                Ok((stream, _)) => start(stream),
                // No descriptor is free, or the client is gone already: in a moment it may be otherwise.
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    })?;
    Ok(())
}

fn converse(mut stream: TcpStream, answer: &dyn Fn(&str) -> Reply) -> std::io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") && head.len() < HEAD_LIMIT {
        let mut bytes = [0u8; 1024];
        // A client that drips gets no more time than one that is silent.
        let left = deadline.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut bytes)? {
            0 => break,
            count => head.extend_from_slice(&bytes[..count]),
        }
        if left.is_zero() {
            return Ok(());
        }
    }
    let (status, kind, body) = reply(&head, answer);
    let word = match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        _ => "Service Unavailable",
    };
    let length = body.len();
    let sent = if head.starts_with(b"HEAD ") { "" } else { &body };
    let text = format!(
        "HTTP/1.1 {status} {word}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{sent}"
    );
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(text.as_bytes())
}

/// The answer to a request with this head.
pub(crate) fn reply(head: &[u8], answer: &dyn Fn(&str) -> Reply) -> Reply {
    const PLAIN: &str = "text/plain; charset=utf-8";
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    if !request.parse(head).is_ok_and(|parsed| parsed.is_complete()) {
        return (400, PLAIN, "bad request\n".to_owned());
    }
    let host = request
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("host"))
        .map(|field| String::from_utf8_lossy(field.value).into_owned());
    // A web page whose name is made to point here must not read what is here (DNS rebinding).
    if host.is_some_and(|host| !names_an_address(&host)) {
        return (403, PLAIN, "this host is not served here\n".to_owned());
    }
    match (request.method, request.path) {
        (Some("GET" | "HEAD"), Some(path)) => answer(path.split('?').next().unwrap_or(path)),
        _ => (405, PLAIN, "only GET is served here\n".to_owned()),
    }
}

/// Whether a Host field names an address or `localhost`, and so cannot be a foreign name that points here.
pub fn names_an_address(host: &str) -> bool {
    super::host_and_port(host.trim()).is_ok_and(|(name, _)| {
        name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> (u16, String) {
        let (status, _, body) = reply(text.as_bytes(), &|path| (200, "text/plain", path.to_owned()));
        (status, body)
    }

    #[test]
    fn only_get_by_an_address_is_answered() {
        assert_eq!(asked("GET /x?y HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n"), (200, "/x".to_owned()));
        assert_eq!(asked("HEAD / HTTP/1.0\r\n\r\n").0, 200);
        assert_eq!(asked("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n").0, 200);
        assert_eq!(asked("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").0, 403);
        assert_eq!(asked("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n").0, 405);
        assert_eq!(asked("nonsense\r\n\r\n").0, 400);
        assert_eq!(asked("GET / HTTP/1.1\r\n").0, 400);
    }
}
