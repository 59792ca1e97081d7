//! URLs of servers: the parts that a question of ours needs. What else stands in such a URL is for drivers,
//! and is neither used nor shown.

use crate::sys::http::host_and_port;
use crate::sys::net::Endpoint;
use crate::sys::redact::{self, unescape};
use crate::sys::secret::SecretText;
use std::path::PathBuf;

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerProtocol {
    /// The frontend/backend protocol 3 of PostgreSQL.
    Postgres,
    /// The client/server protocol of MySQL and MariaDB.
    Mysql,
    /// The protocol of Redis, RESP.
    Redis,
    /// The wire protocol of MongoDB.
    Mongodb,
    /// AMQP 0-9-1, or 1.0.
    Amqp,
    /// The protocol of Kafka.
    Kafka,
    /// gRPC's health service, version 1.
    Grpc,
}

/// A scheme: what is spoken there, at which port, and whether all of it is encrypted.
struct ServerScheme {
    name: &'static str,
    protocol: ServerProtocol,
    port: u16,
    encrypted: bool,
}

const fn clear(name: &'static str, protocol: ServerProtocol, port: u16) -> ServerScheme {
    ServerScheme { name, protocol, port, encrypted: false }
}

const fn encrypted(name: &'static str, protocol: ServerProtocol, port: u16) -> ServerScheme {
    ServerScheme { name, protocol, port, encrypted: true }
}

/// Without a usual port it is 0.
const SCHEMES: [ServerScheme; 12] = [
    clear("postgres", ServerProtocol::Postgres, 5432),
    clear("postgresql", ServerProtocol::Postgres, 5432),
    clear("mysql", ServerProtocol::Mysql, 3306),
    clear("mariadb", ServerProtocol::Mysql, 3306),
    clear("redis", ServerProtocol::Redis, 6379),
    encrypted("rediss", ServerProtocol::Redis, 6379),
    clear("mongodb", ServerProtocol::Mongodb, 27017),
    clear("amqp", ServerProtocol::Amqp, 5672),
    encrypted("amqps", ServerProtocol::Amqp, 5671),
    clear("kafka", ServerProtocol::Kafka, 9092),
    clear("grpc", ServerProtocol::Grpc, 0),
    encrypted("grpcs", ServerProtocol::Grpc, 0),
];

/// Keys of a query whose values may be shown.
const SHOWN: [&str; 8] = ["host", "key", "password-env", "port", "socket", "sslmode", "tls", "writable"];

impl ServerProtocol {
    /// How people call it.
    pub fn name(self) -> &'static str {
        match self {
            ServerProtocol::Postgres => "PostgreSQL",
            ServerProtocol::Mysql => "MySQL",
            ServerProtocol::Redis => "Redis",
            ServerProtocol::Mongodb => "MongoDB",
            ServerProtocol::Amqp => "AMQP",
            ServerProtocol::Kafka => "Kafka",
            ServerProtocol::Grpc => "gRPC",
        }
    }

    /// Its name in TLS, where it must be given.
    pub(super) fn alpn(self) -> Option<&'static str> {
        (self == ServerProtocol::Grpc).then_some("h2")
    }

    /// Whether TLS is agreed on in the clear, and not there from the start.
    pub(super) fn encrypts_later(self) -> bool {
        self == ServerProtocol::Postgres
    }

    /// The keys that have a meaning for us; `None` where the others are for drivers.
    fn refuses_others(self) -> bool {
        matches!(self, ServerProtocol::Redis | ServerProtocol::Kafka | ServerProtocol::Grpc)
    }

    fn knows(self, key: &str) -> bool {
        use ServerProtocol as Protocol;
        match key {
            "socket" => matches!(self, Protocol::Mysql | Protocol::Redis),
            "host" | "port" | "user" | "dbname" | "sslmode" => self == Protocol::Postgres,
            "tls" | "ssl" => matches!(self, Protocol::Mongodb | Protocol::Kafka),
            "writable" => matches!(self, Protocol::Postgres | Protocol::Redis | Protocol::Mongodb),
            "key" | "password-env" => self == Protocol::Redis,
            _ => false,
        }
    }
}

/// A server, and what it is asked.
#[derive(Clone, Debug)]
pub struct ServerUrl {
    /// What it speaks.
    pub protocol: ServerProtocol,
    /// Where it is.
    pub endpoint: Endpoint,
    /// Whether what is said is encrypted.
    pub encrypted: bool,
    /// The name that its certificate must have.
    pub tls_name: String,
    /// The authority that a client would name.
    pub authority: String,
    /// Who logs in, if that is said.
    pub user: Option<String>,
    /// The password, for those that are told it.
    pub password: Option<SecretText>,
    /// The database or the service; `None` where none is named.
    pub path: Option<String>,
    /// A key that must exist.
    pub key: Option<String>,
    /// Whether it must take writes.
    pub writable: bool,
    /// How it is written, without what is secret.
    shown: String,
}

impl std::fmt::Display for ServerUrl {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.shown)
    }
}

/// Whether a target is the URL of a server.
pub fn is_server(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| known(scheme).is_some())
}

fn known(scheme: &str) -> Option<&'static ServerScheme> {
    SCHEMES.iter().find(|one| one.name.eq_ignore_ascii_case(scheme))
}

/// What is said of a login that must be written otherwise.
const TORN: &str = "write / as %2F, ? as %3F and # as %23 in a login, and @ as %40 everywhere but after it";

/// `text` without its login, and without the values of a query that are not ours.
pub fn shown(text: &str) -> String {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    // What is torn is masked as far as the login may reach, and else no `@` of a query ends one.
    let cut = if is_torn(rest) { None } else { text.split_once('?') };
    let masked = |text: &str| match text.split_once("://").map(|(scheme, rest)| (scheme, rest.rfind('@'))) {
        Some((scheme, Some(end))) if end > 0 => {
            let rest = &text[scheme.len() + 3..];
            format!("{scheme}://{}{}", redact::MASK, &rest[end..])
        }
        _ => text.to_owned(),
    };
    let (before, query) = match cut {
        Some((before, query)) => (masked(before), query.to_owned()),
        None => match masked(text).split_once('?') {
            Some((before, query)) => (before.to_owned(), query.to_owned()),
            None => return masked(text),
        },
    };
    let pair = |pair: &str| match pair.split_once('=') {
        Some((key, value)) if !SHOWN.contains(&key) && !value.is_empty() => {
            format!("{key}={}", redact::MASK)
        }
        _ => pair.to_owned(),
    };
    let pairs: Vec<String> = query.split('&').map(pair).collect();
    format!("{before}?{}", pairs.join("&"))
}

/// Whether an `@` stands where none ends a login: what is before it may be the rest of a password.
fn is_torn(rest: &str) -> bool {
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = before.split_at(before.find(['/', '#']).unwrap_or(before.len()));
    let address = authority.rsplit('@').next().unwrap_or_default();
    let port = if address.starts_with('[') { None } else { address.split_once(':') };
    let has_no_port = port.is_some_and(|(_, port)| !port.is_empty() && port.parse::<u16>().is_err());
    let key = |pair: &str| pair.split('=').next().is_some_and(|key| key.contains('@'));
    path.contains('@') || query.split('&').any(key) || (has_no_port && query.contains('@'))
}

impl ServerUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// Says what is wrong, without repeating a login.
    pub fn parse(text: &str) -> Result<ServerUrl, String> {
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err("a URL holds no space and no control character".to_owned());
        }
        let (scheme, rest) = text.split_once("://").unwrap_or((text, ""));
        let scheme = known(scheme).ok_or("unknown scheme")?;
        if is_torn(rest) {
            return Err(TORN.to_owned());
        }
        let (protocol, default_port) = (scheme.protocol, scheme.port);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, address) = match authority.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None => (None, authority),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (Some(unescape(user)), Some(unescape(password))),
            None => (None, None),
        };
        let full = |text: &String| !text.is_empty();
        let mut url = ServerUrl {
            protocol,
            endpoint: Endpoint::Tcp(String::new(), default_port),
            encrypted: scheme.encrypted,
            tls_name: String::new(),
            authority: address.to_owned(),
            user: user.filter(full),
            password: password.filter(full).map(SecretText::new),
            path: Some(unescape(path)).filter(full),
            key: None,
            writable: false,
            shown: shown(text),
        };
        // A directory of sockets as libpq writes it, or a socket.
        let (mut socket, mut port) = (None, None);
        let (mut host, inner) = if address.to_ascii_uppercase().starts_with("%2F") {
            let (socket, port) = address.split_once(':').unwrap_or((address, ""));
            (unescape(socket), port)
        } else {
            (address.to_owned(), "")
        };
        if !inner.is_empty() {
            port = Some(inner.to_owned());
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = unescape(value);
            if !protocol.knows(key) {
                if protocol.refuses_others() {
                    return Err(format!("'{}' is unknown here", crate::words::error::brief(key)));
                }
                continue;
            }
            match key {
                "host" => host = value,
                "port" => port = Some(value),
                "socket" => socket = Some(value),
                "user" => url.user = Some(value).filter(full),
                "dbname" => url.path = Some(value).filter(full),
                "key" => url.key = Some(value),
                "password-env" => {
                    let password = std::env::var(&value).map_err(|_| {
                        format!("variable '{}' is not set", crate::words::error::brief(&value))
                    })?;
                    url.password = Some(password).filter(full).map(SecretText::new);
                }
                "sslmode" => url.encrypted = needs_tls(&value)?,
                "tls" | "ssl" => url.encrypted = yes(key, &value)?,
                _ => url.writable = yes(key, &value)?,
            }
        }
        if protocol == ServerProtocol::Redis
            && url.path.as_ref().is_some_and(|path| path.parse::<u32>().is_err())
        {
            return Err("a database of Redis is a number".to_owned());
        }
        let numbered = |text: String| match host_and_port(&format!("h:{text}"))? {
            (_, Some(port)) => Ok::<u16, String>(port),
            _ => Ok(default_port),
        };
        let port = port.filter(full).map(numbered).transpose()?;
        if host.starts_with('/') {
            let directory = PathBuf::from(&host);
            socket = Some(match protocol {
                ServerProtocol::Postgres => {
                    let name = format!(".s.PGSQL.{}", port.unwrap_or(default_port));
                    directory.join(name).to_string_lossy().into_owned()
                }
                _ => host.clone(),
            });
        }
        if let Some(socket) = socket {
            if !socket.starts_with('/') || socket.contains('\0') {
                return Err("a socket is named by its absolute path".to_owned());
            }
            url.endpoint = Endpoint::Unix(PathBuf::from(socket));
            (url.tls_name, url.authority) = ("localhost".to_owned(), "localhost".to_owned());
            return Ok(url);
        }
        if host.contains(',') {
            return Err("write one target for each host".to_owned());
        }
        let (host, own) = host_and_port(&host)?;
        let port = port.or(own).unwrap_or(default_port);
        if port == 0 {
            return Err("it has no port".to_owned());
        }
        url.tls_name.clone_from(&host);
        url.endpoint = Endpoint::Tcp(host, port);
        Ok(url)
    }
}

/// The modes of libpq. What is encrypted is also verified, as everything here; `--insecure` does not.
fn needs_tls(mode: &str) -> Result<bool, String> {
    match mode {
        "disable" | "allow" | "prefer" => Ok(false),
        "require" | "verify-ca" | "verify-full" => Ok(true),
        _ => Err("sslmode is disable, allow, prefer, require, verify-ca or verify-full".to_owned()),
    }
}

fn yes(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "" | "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(format!("'{key}' is 1 or 0")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_drivers_read() {
        let tcp = |host: &str, port| Endpoint::Tcp(host.to_owned(), port);
        let unix = |path: &str| Endpoint::Unix(PathBuf::from(path));
        for (text, endpoint, encrypted, path) in [
            ("postgres://host", tcp("host", 5432), false, None),
            ("postgresql://u:p@host:6/db?sslmode=require&x=y", tcp("host", 6), true, Some("db")),
            ("postgres:///db?host=/run/postgresql", unix("/run/postgresql/.s.PGSQL.5432"), false, Some("db")),
            ("postgres://%2Frun%2Fpg:6/db", unix("/run/pg/.s.PGSQL.6"), false, Some("db")),
            ("postgres:///?host=/run&port=7", unix("/run/.s.PGSQL.7"), false, None),
            ("mysql://host/db?charset=utf8", tcp("host", 3306), false, Some("db")),
            ("mysql:///?socket=/run/m.sock", unix("/run/m.sock"), false, None),
            ("rediss://[::1]/2", tcp("::1", 6379), true, Some("2")),
            ("mongodb://h/?tls=true", tcp("h", 27017), true, None),
            ("amqps://h/vhost", tcp("h", 5671), true, Some("vhost")),
            ("KAFKA://h", tcp("h", 9092), false, None),
            ("grpc://h:1/a.B", tcp("h", 1), false, Some("a.B")),
        ] {
            let url = ServerUrl::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!((&url.endpoint, url.encrypted, url.path.as_deref()), (&endpoint, encrypted, path));
        }
        let url = ServerUrl::parse("redis://me:s%20x@h/?key=a%20b&writable").unwrap();
        assert_eq!((url.user.as_deref(), url.key.as_deref(), url.writable), (Some("me"), Some("a b"), true));
        assert_eq!(url.password.unwrap().reveal(), "s x");
    }

    #[test]
    fn refuses_what_it_cannot_ask() {
        for text in [
            "postgres://",
            "postgres://h:0",
            "postgres://a,b/db",
            "postgres://h/?sslmode=maybe",
            "postgres:///?host=relative/x",
            "redis://h/?kee=x",
            "redis://h/?socket=x",
            "redis://h/?password-env=NO_SUCH_VARIABLE",
            "mongodb://h/?writable=2",
            "grpc://h",
            "grpc://h:1?key=x",
            "kafka://h\n",
        ] {
            assert!(ServerUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shows_no_secret() {
        for (text, safe) in [
            ("redis://me:pw@h/?key=x", "redis://***@h/?key=x"),
            (
                "postgres://h/?password=pw&sslmode=require&x=@",
                "postgres://h/?password=***&sslmode=require&x=***",
            ),
        ] {
            assert_eq!(shown(text), safe);
        }
    }

    #[test]
    fn what_is_not_escaped_in_a_login_is_refused_and_not_shown() {
        for text in [
            "postgres://u:a#secretw@127.0.0.1:1/x",
            "redis://:a#secretw@h",
            "postgres://user:aB3/secretw@h/db",
            "mysql://user:99/secretw@h/db",
            "postgres://p:p@ss/secretw@h/db",
            "amqp://u:a?secretw@h",
            "amqp://u:99?secretw@h",
            "mongodb://u:a?k=secretw@h",
            "redis://u:a secretw@h",
            "kafka://u:a'secretw@h:x",
        ] {
            let why = ServerUrl::parse(text).unwrap_err();
            let said = format!("{} {why}", shown(text));
            assert!(!said.contains("secretw") && said.contains("***"), "{said}");
        }
        let url = ServerUrl::parse("postgres://u:a%23b%2Fc%3Fd@e@h/db?application_name=x@y").unwrap();
        assert_eq!(url.to_string(), "postgres://***@h/db?application_name=***");
        assert_eq!(url.password.unwrap().reveal(), "a#b/c?d@e");
    }
}
