//! Proxies: which one, and the tunnel through it (CONNECT), without a socket.

use super::exchange::INTERIM_LIMIT;
use super::{Scheme, Url};
use crate::sys::net::Endpoint;
use crate::sys::secret;
use crate::words::failure::{Class, Failure};
use std::fmt;

/// The largest head of a proxy's answer that is read.
const HEAD_LIMIT: usize = 16 * 1024;

/// A proxy that speaks HTTP. None is taken that was not asked for: the environment says nothing to us.
#[derive(Clone)]
pub struct Proxy(Url);

impl Proxy {
    /// Reads `http://[USER:PASSWORD@]HOST:PORT`; the scheme may be left out.
    ///
    /// # Errors
    /// Says what is wrong, without repeating a login.
    pub fn parse(text: &str) -> Result<Proxy, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if !scheme.eq_ignore_ascii_case("http") {
            return Err("a proxy is spoken to by http://, and by nothing else".to_owned());
        }
        let authority = rest.trim_end_matches('/');
        let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
        if super::host_and_port(address)?.1.is_none() {
            return Err("the port of the proxy is missing; write http://HOST:PORT".to_owned());
        }
        let url = Url::parse(&format!("http://{authority}"))?;
        if url.target() == "/" { Ok(Proxy(url)) } else { Err("a proxy has no path".to_owned()) }
    }

    /// Where it is.
    pub(super) fn endpoint(&self) -> Endpoint {
        self.0.endpoint()
    }

    /// What a request for `url` is sent through it with: the start of its target, and the login of the proxy.
    /// What is encrypted is sent through a tunnel, as if there were none.
    pub(super) fn prefix(&self, url: &Url) -> Option<(String, Option<String>)> {
        let start = || format!("http://{}", url.host_header());
        (url.scheme() == Scheme::Http).then(|| (start(), self.0.authorization()))
    }

    /// Why it was not reached: that says nothing of what is behind it, least of all that that is down.
    pub(super) fn unreached(failure: Failure) -> Failure {
        let class = if failure.class.is_down() { Class::Unreachable } else { failure.class };
        Failure { class, text: format!("the proxy: {}", failure.text), ..failure }
    }

    /// A tunnel to the place of `url`.
    pub(super) fn tunnel(&self, url: &Url) -> Tunnel {
        let Endpoint::Tcp(host, port) = url.endpoint() else { return Tunnel::default() };
        let host = host.split('%').next().unwrap_or_default();
        let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let agent = concat!("User-Agent: baa/", env!("CARGO_PKG_VERSION"), "\r\n");
        let mut outgoing = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{agent}");
        if let Some(mut login) = self.0.authorization() {
            outgoing.push_str(&format!("Proxy-Authorization: {login}\r\n"));
            secret::wipe(std::mem::take(&mut login).into_bytes());
        }
        outgoing.push_str("\r\n");
        Tunnel { outgoing: outgoing.into_bytes(), heard: Vec::new(), interim: 0 }
    }
}

impl fmt::Debug for Proxy {
    /// There may be a login.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

/// A tunnel that is being dug.
#[derive(Default)]
pub(super) struct Tunnel {
    outgoing: Vec<u8>,
    heard: Vec<u8>,
    /// How many interim answers there were.
    interim: usize,
}

impl Tunnel {
    pub(super) fn outgoing(&self) -> &[u8] {
        &self.outgoing
    }

    pub(super) fn sent(&mut self, count: usize) {
        secret::wipe(self.outgoing.drain(..count.min(self.outgoing.len())).collect());
    }

    /// Hears the proxy; what came behind its answer, once it has agreed.
    pub(super) fn received(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        self.heard.extend_from_slice(bytes);
        loop {
            let Some(end) = self.heard.windows(4).position(|four| four == b"\r\n\r\n") else {
                let http = b"HTTP/1.";
                if !self.heard.iter().zip(http).all(|(one, other)| one == other) {
                    return Err(strange("the answer is not HTTP"));
                }
                let large = self.heard.len() > HEAD_LIMIT;
                return if large { Err(strange("the head of the answer is too large")) } else { Ok(None) };
            };
            let line = String::from_utf8_lossy(&self.heard[..end]);
            let mut words = line.lines().next().unwrap_or_default().split(' ');
            let known = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
            let status = words.next().and_then(|word| word.parse::<u16>().ok()).filter(|_| known);
            match status.ok_or_else(|| strange("the answer is not HTTP"))? {
                // Interim answers come before (RFC 9110, 15.2).
                100..=199 if self.interim >= INTERIM_LIMIT => {
                    return Err(strange("it sends interim answers (1xx) without end"));
                }
                100..=199 => {
                    self.interim += 1;
                    self.heard.drain(..end + 4);
                }
                200..=299 => return Ok(Some(self.heard.split_off(end + 4))),
                status => {
                    return Err(Failure::new(
                        Class::Unreachable,
                        format!("the proxy answered {status} and makes no way there"),
                    ));
                }
            }
        }
    }
}

fn strange(why: &str) -> Failure {
    Failure::new(Class::Protocol, format!("the proxy: {why}"))
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        secret::wipe(std::mem::take(&mut self.outgoing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_a_proxy() {
        for text in ["http://proxy:3128", "proxy:3128", "http://me:s%20x@[::1]:1/", "HTTP://p:1"] {
            assert!(Proxy::parse(text).is_ok(), "{text}");
        }
        for text in ["", "proxy", "https://p:1", "socks5://p:1", "http://p:1/x", "http://p:0", "http://p"] {
            assert!(Proxy::parse(text).is_err(), "{text}");
        }
        let proxy = Proxy::parse("http://me:hunter2@proxy:3128").unwrap();
        assert!(!format!("{proxy:?}").contains("hunter2"));
    }

    #[test]
    fn interim_answers_have_an_end() {
        let proxy = Proxy::parse("http://proxy:3128").unwrap();
        let mut tunnel = proxy.tunnel(&Url::parse("https://host/x").unwrap());
        let some = "HTTP/1.1 102 x\r\n\r\n".repeat(INTERIM_LIMIT);
        assert_eq!(tunnel.received(some.as_bytes()).unwrap(), None);
        assert_eq!(tunnel.heard, b"");
        let failure = tunnel.received(b"HTTP/1.1 102 x\r\n\r\n").unwrap_err();
        assert!(failure.text.contains("without end"), "{failure}");
    }

    #[test]
    fn a_tunnel_is_asked_for_and_answered() {
        let proxy = Proxy::parse("http://me:pw@proxy:3128").unwrap();
        let mut tunnel = proxy.tunnel(&Url::parse("https://[fe80::1%25eth0]/x").unwrap());
        let asked = String::from_utf8(tunnel.outgoing().to_vec()).unwrap();
        assert!(asked.starts_with("CONNECT [fe80::1]:443 HTTP/1.1\r\nHost: [fe80::1]:443\r\n"), "{asked}");
        assert!(asked.ends_with("\r\nProxy-Authorization: Basic bWU6cHc=\r\n\r\n"), "{asked}");
        tunnel.sent(asked.len());
        assert!(tunnel.outgoing().is_empty());
        assert_eq!(tunnel.received(b"HTTP/1.1 100 Wait\r\n\r\nHTTP/1.0 200 Yes\r\nA: b\r\n").unwrap(), None);
        assert_eq!(tunnel.received(b"\r\nrest").unwrap(), Some(b"rest".to_vec()));
    }

    #[test]
    fn a_proxy_that_says_no_or_nonsense_is_told() {
        let hear = |said: &[u8]| {
            let mut tunnel = Tunnel::default();
            let failure = tunnel.received(said).unwrap_err();
            (failure.class, failure.text)
        };
        let no = "the proxy answered 407 and makes no way there".to_owned();
        assert_eq!(hear(b"HTTP/1.1 407 Login\r\n\r\n"), (Class::Unreachable, no));
        for said in
            [&b"SSH-2.0"[..], b"HTTP/1.1 x\r\n\r\n", &[b"HTTP/1.1 ".as_slice(), &[b'2'; 1 << 15]].concat()]
        {
            assert_eq!(hear(said).0, Class::Protocol);
        }
    }
}
