//! URLs of http, https and http+unix, read strictly; shown without the login and the values of the query
//! that they may hold.

use crate::sys::net::Endpoint;
use crate::sys::redact::{self, unescape};
use base64::Engine;
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

/// The protocol of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// http, over TCP.
    Http,
    /// https: TLS over TCP.
    Https,
    /// http+unix: `http+unix:///run/app.sock:/path`.
    HttpUnix,
}

/// What is said of a login that must be written otherwise.
const TORN: &str = "write / as %2F, ? as %3F and # as %23 in a login";

/// Where an HTTP request goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    scheme: Scheme,
    endpoint: Endpoint,
    login: Option<String>,
    path: String,
}

impl Url {
    /// Reads a URL.
    ///
    /// # Errors
    /// Says what is wrong, without repeating a login.
    pub fn parse(text: &str) -> Result<Url, String> {
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err("a URL holds no space and no control character".to_owned());
        }
        let (scheme, rest) =
            text.split_once("://").ok_or("a URL begins with http://, https:// or http+unix://")?;
        let whole = rest;
        let rest = rest.split('#').next().unwrap_or("");
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" if is_torn(whole) => Err(TORN.to_owned()),
            "http" => Url::over_tcp(Scheme::Http, rest, 80),
            "https" => Url::over_tcp(Scheme::Https, rest, 443),
            "http+unix" => Url::over_unix(rest),
            other => Err(format!("unknown scheme '{}'", crate::words::error::brief(other))),
        }
    }

    fn over_tcp(scheme: Scheme, rest: &str, default_port: u16) -> Result<Url, String> {
        let cut = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(cut);
        let (login, address) = match authority.rsplit_once('@') {
            Some((login, address)) => (Some(login.to_owned()), address),
            None => (None, authority),
        };
        // In a URL the sign before a zone is an escaped one (RFC 6874, 2), which not everybody knows.
        let (host, port) = host_and_port(&address.replacen("%25", "%", 1))
            // What was taken for a port may be the beginning of a password.
            .map_err(|why| if path.contains('@') { TORN.to_owned() } else { why })?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Url { scheme, endpoint: Endpoint::Tcp(host, port.unwrap_or(default_port)), login, path })
    }

    /// `/run/app.sock:/path`, or as others write it, `%2Frun%2Fapp.sock/path`.
    fn over_unix(rest: &str) -> Result<Url, String> {
        let (socket, path) = if rest.starts_with(['/', '@']) {
            // The first colon before a slash: another one may be in the query.
            match rest.split_once(":/") {
                Some((socket, path)) => (socket.to_owned(), format!("/{path}")),
                None => (rest.to_owned(), "/".to_owned()),
            }
        } else {
            let (socket, path) = rest.split_once('/').unwrap_or((rest, ""));
            (unescape(socket), format!("/{path}"))
        };
        if socket.starts_with('@') {
            check_abstract(&socket)?;
        } else if !socket.starts_with('/') {
            return Err("http+unix:// names a socket by its absolute path: http+unix:///run/app.sock:/path"
                .to_owned());
        }
        if socket.contains(char::is_control) {
            return Err("the path of a socket holds a control character".to_owned());
        }
        Ok(Url {
            scheme: Scheme::HttpUnix,
            endpoint: Endpoint::Unix(PathBuf::from(socket)),
            login: None,
            path,
        })
    }

    /// Where `location` leads, seen from here (RFC 3986, 5.2).
    pub(crate) fn join(&self, location: &str) -> Result<Url, String> {
        if location.contains("://") {
            let there = Url::parse(location)?;
            // A server must not send a probe to the sockets of the machine that probes it.
            return if there.scheme == Scheme::HttpUnix {
                Err("a unix socket".to_owned())
            } else {
                Ok(there)
            };
        }
        if let Some(rest) = location.strip_prefix("//") {
            let scheme = if self.scheme == Scheme::Https { "https" } else { "http" };
            return Url::parse(&format!("{scheme}://{rest}"));
        }
        let base = self.path.split('?').next().unwrap_or("/");
        let path = match location.chars().next() {
            Some('/') => location.to_owned(),
            Some('?') => format!("{base}{location}"),
            _ => format!("{}/{location}", base.rsplit_once('/').map_or("", |(directory, _)| directory)),
        };
        if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err("a path with a space or a control character".to_owned());
        }
        Ok(Url { path: without_dots(path.split('#').next().unwrap_or("/")), ..self.clone() })
    }

    pub(super) fn same_origin(&self, other: &Url) -> bool {
        self.scheme == other.scheme && self.endpoint == other.endpoint
    }

    pub(super) fn authorization(&self) -> Option<String> {
        let login = unescape(self.login.as_deref()?);
        let login = if login.contains(':') { login } else { format!("{login}:") };
        Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login)))
    }

    /// What of it must not be shown, wherever it occurs: the login, as it is and as it is sent, and the
    /// values of the query.
    pub fn secrets(&self) -> Vec<String> {
        let login = self.login.as_ref().map_or(String::new(), |login| format!("{login}@"));
        let mut secrets = redact::of_urls(&format!("http://{login}h{}", self.path));
        let sent = self.authorization();
        secrets.extend(sent.iter().filter_map(|sent| sent.strip_prefix("Basic ")).map(str::to_owned));
        secrets
    }

    /// The protocol.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Where its server is.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    /// The path with the query, as it is asked for: what people write in a URL and must not stand in one is
    /// escaped.
    pub(super) fn target(&self) -> String {
        let mut target = String::with_capacity(self.path.len());
        for letter in self.path.chars() {
            match letter {
                '"' | '<' | '>' | '`' => target.push_str(&format!("%{:02X}", u32::from(letter))),
                letter => target.push(letter),
            }
        }
        target
    }

    /// The host, without a zone: that tells nothing to anybody else (RFC 6874, 4).
    pub(super) fn host(&self) -> &str {
        match &self.endpoint {
            Endpoint::Tcp(host, _) => host.split('%').next().unwrap_or(host),
            Endpoint::Unix(_) => "localhost",
        }
    }

    pub(super) fn host_header(&self) -> String {
        self.authority(self.host())
    }

    fn authority(&self, host: &str) -> String {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match (&self.endpoint, self.scheme) {
            (Endpoint::Tcp(_, 80), Scheme::Http)
            | (Endpoint::Tcp(_, 443), Scheme::Https)
            | (Endpoint::Unix(_), _) => host,
            (Endpoint::Tcp(_, port), _) => format!("{host}:{port}"),
        }
    }
}

/// A path without `.` and `..` (RFC 3986, 5.2.4); the query stays as it is.
fn without_dots(path: &str) -> String {
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    if !path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return format!("{path}{query}");
    }
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (at, segment) in segments.iter().enumerate() {
        let dots = matches!(*segment, "." | "..");
        if *segment == ".." {
            kept.pop();
        }
        if !dots {
            kept.push(segment);
        } else if at + 1 == segments.len() {
            kept.push("");
        }
    }
    format!("/{}{query}", kept.join("/"))
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = self.login.as_ref().map_or(String::new(), |_| format!("{}@", redact::MASK));
        let place = match &self.endpoint {
            Endpoint::Tcp(host, _) => self.authority(&host.replacen('%', "%25", 1)),
            Endpoint::Unix(_) => String::new(),
        };
        let plain = match self.scheme {
            Scheme::Http => format!("http://{login}{place}{}", self.path),
            Scheme::Https => format!("https://{login}{place}{}", self.path),
            Scheme::HttpUnix => format!("http+unix://{}:{}", self.endpoint, self.path),
        };
        out.write_str(&redact::urls(&plain))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Whether what follows `://` has a fragment right behind the host, in which a login seems to go on.
fn is_torn(rest: &str) -> bool {
    let after = rest.find(['/', '?', '#']).map_or("", |end| &rest[end..]);
    after.starts_with('#') && after.contains('@')
}

/// Whether `@NAME` can be a socket of the abstract namespace.
///
/// # Errors
/// Says why not.
pub fn check_abstract(socket: &str) -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Err("only Linux has sockets without a path, as @NAME is one".to_owned());
    }
    if socket == "@" { Err("it names no socket".to_owned()) } else { Ok(()) }
}

/// Reads `host`, `host:port`, `[v6]:port`, `[v6%zone]:port`.
///
/// # Errors
/// Says what is wrong with it.
pub fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    // Before it may stand a login.
    let address = text.rsplit('@').next().unwrap_or_default();
    let masked =
        if address == text { Cow::Borrowed(text) } else { format!("{}@{address}", redact::MASK).into() };
    let shown = || crate::words::error::brief(&masked);
    if address != text {
        return Err(format!("'{}' has a login, which is of no use here", shown()));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, tail) =
                rest.split_once(']').ok_or_else(|| format!("'{}' lacks a closing bracket", shown()))?;
            let (address, zone) =
                host.split_once('%').map_or((host, None), |(host, zone)| (host, Some(zone)));
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            // No interface has a longer name.
            if zone.is_some_and(|zone| !(1..16).contains(&zone.len()) || !zone.bytes().all(letter)) {
                return Err(format!("'{}' has a zone that no interface can be", shown()));
            }
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(format!("'{}' is not an IPv6 address", crate::words::error::brief(host)));
            }
            match tail.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if tail.is_empty() => (host, None),
                None => return Err(format!("'{}' is not a host and a port", shown())),
            }
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(format!("'{}': write an IPv6 address in brackets", shown()));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let zone = if text.starts_with('[') { b"%~".as_slice() } else { b"" };
    let good = |byte: u8| {
        byte.is_ascii_alphanumeric() || b"-._:".contains(&byte) || zone.contains(&byte) || byte >= 0x80
    };
    if host.is_empty() || host.len() > 253 || !host.bytes().all(good) {
        return Err(format!("'{}' has no valid host", shown()));
    }
    let port = match port {
        None => None,
        Some(port) => match port.parse::<u16>() {
            Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => Some(number),
            _ => return Err(format!("'{}' is not a port: 1 to 65535", crate::words::error::brief(port))),
        },
    };
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_a_url_and_hides_its_secrets() {
        for (text, shown) in [
            ("http://127.0.0.1:4317/healthz", "http://127.0.0.1:4317/healthz"),
            ("HTTP://host", "http://host/"),
            ("https://host?q=1#frag", "https://host/?q=***"),
            ("http://me:secret@host:81/x", "http://***@host:81/x"),
            ("http://[::1]:80/", "http://[::1]/"),
            ("http+unix:///run/a.sock:/healthz", "http+unix:///run/a.sock:/healthz"),
            ("http+unix://%2Frun%2Fa.sock/healthz", "http+unix:///run/a.sock:/healthz"),
            ("http+unix:///run/a.sock", "http+unix:///run/a.sock:/"),
            ("http+unix:///run/a.sock:/p?u=http://h/p", "http+unix:///run/a.sock:/p?u=***"),
            ("http://[fe80::1%25eth0]:81/", "http://[fe80::1%25eth0]:81/"),
            ("http://[fe80::1%eth0]/", "http://[fe80::1%25eth0]/"),
        ] {
            assert_eq!(Url::parse(text).map(|url| url.to_string()), Ok(shown.to_owned()), "{text}");
        }
        let zoned = Url::parse("http://[fe80::1%25eth0]:81/").unwrap();
        assert_eq!((zoned.host(), zoned.host_header().as_str()), ("fe80::1", "[fe80::1]:81"));
        #[cfg(target_os = "linux")]
        for text in ["http+unix://@app:/healthz", "http+unix://%40app/healthz"] {
            assert_eq!(Url::parse(text).unwrap().to_string(), "http+unix://@app:/healthz");
        }
        assert_eq!(
            Url::parse("http://me:sec%20ret@h/").unwrap().authorization().unwrap(),
            "Basic bWU6c2VjIHJldA=="
        );
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "",
            "host",
            "ftp://host/",
            "http://",
            "http://:80/",
            "http://h:0/",
            "http://h:70000/",
            "http://h:+80/",
            "http://h:/",
            "http://a b/",
            "http://h/\r\nX: y",
            "http://[::1/",
            "http://[x]/",
            "http://::1/",
            "http+unix://relative:/x",
            "http+unix://@:/x",
            "http://[fe80::1%]/",
            "http://[fe80::1%25]/",
            "http://[fe80::1%a b]/",
            "http://[fe80::1%sixteen-letters-]/",
            "http://host%25eth0/",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_redirect_leads_where_it_says() {
        let base = Url::parse("http://host:81/a/b?q").unwrap();
        for (location, there) in [
            ("/x", "http://host:81/x"),
            ("x", "http://host:81/a/x"),
            ("?y", "http://host:81/a/b?y"),
            ("//other/x", "http://other/x"),
            ("https://other", "https://other/"),
            ("../x?u=/../y", "http://host:81/x?u=***"),
            ("./", "http://host:81/a/"),
            ("../../..", "http://host:81/"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), there);
        }
        assert!(base.join("http+unix:///run/docker.sock:/").is_err());
        assert!(base.join("/x\r\nHost: evil").is_err());
    }
}
