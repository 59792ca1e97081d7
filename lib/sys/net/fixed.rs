//! Addresses that a person has given for hosts, so that nobody is asked for them.

use super::Endpoint;
use std::net::{IpAddr, SocketAddr};

/// `HOST:PORT:ADDRESS[,ADDRESS]...`, as curl's `--resolve` has it; `*` is every host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedAddress {
    /// None is any.
    host: Option<String>,
    port: u16,
    addresses: Vec<IpAddr>,
}

impl FixedAddress {
    /// Reads one.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<FixedAddress, String> {
        let wrong = |what: &str| format!("'{text}' {what}; write HOST:PORT:ADDRESS");
        let mut parts = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once("]:").ok_or_else(|| wrong("has no port"))?;
                vec![host].into_iter().chain(rest.splitn(2, ':')).collect::<Vec<_>>()
            }
            None => text.splitn(3, ':').collect(),
        }
        .into_iter();
        let host = parts.next().filter(|host| !host.is_empty()).ok_or_else(|| wrong("has no host"))?;
        let port = parts.next().ok_or_else(|| wrong("has no port"))?;
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| *port > 0 && digits);
        let port = port.ok_or_else(|| wrong("has no port of 1 to 65535"))?;
        let address = |text: &str| {
            let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
            bare.parse::<IpAddr>().map_err(|_| wrong("has no IP address at its end"))
        };
        let list = parts.next().ok_or_else(|| wrong("has no address"))?;
        let addresses = list.split(',').map(address).collect::<Result<Vec<_>, String>>()?;
        let host = Some(plain(host)).filter(|host| host != "*");
        Ok(FixedAddress { host, port, addresses })
    }
}

/// All that were given. An earlier one counts before a later, and a host before `*`.
#[derive(Clone, Debug, Default)]
pub struct FixedAddresses(Vec<FixedAddress>);

impl FixedAddresses {
    /// Of these.
    pub fn new(all: Vec<FixedAddress>) -> FixedAddresses {
        FixedAddresses(all)
    }

    /// Where an endpoint is, by the first address that was given for it.
    pub fn endpoint(&self, endpoint: Endpoint) -> Endpoint {
        match &endpoint {
            Endpoint::Tcp(host, port) => match self.of(host, *port).as_deref() {
                Some([first, ..]) => Endpoint::Tcp(first.ip().to_string(), *port),
                _ => endpoint,
            },
            Endpoint::Unix(_) => endpoint,
        }
    }

    /// The addresses of `host` at `port`, where they were given.
    pub fn of(&self, host: &str, port: u16) -> Option<Vec<SocketAddr>> {
        let host = plain(host);
        let at_port = || self.0.iter().filter(|one| one.port == port);
        let named = at_port().find(|one| one.host.as_ref() == Some(&host));
        let found = named.or_else(|| at_port().find(|one| one.host.is_none()))?;
        Some(found.addresses.iter().map(|address| SocketAddr::new(*address, port)).collect())
    }
}

/// The name of a host, whatever its case and with or without its last dot.
fn plain(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_curl_reads() {
        let read = |text: &str| FixedAddress::parse(text).unwrap();
        let all = FixedAddresses::new(vec![
            read("*:80:127.0.0.9"),
            read("Db.example:80:127.0.0.1,[::1]"),
            read("[fe80::1]:443:::1"),
        ]);
        let of = |host: &str, port| {
            let found = all.of(host, port).unwrap_or_default();
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of("db.EXAMPLE.", 80), "127.0.0.1:80 [::1]:80");
        assert_eq!(of("other", 80), "127.0.0.9:80");
        assert_eq!(of("fe80::1", 443), "[::1]:443");
        assert_eq!(of("db.example", 81), "");
    }

    #[test]
    fn refuses_what_is_none() {
        for text in ["", "h", "h:80", "h:0:::1", "h:+80:::1", "h:80:x", "h:80:", ":80:::1", "[::1]80:::1"] {
            assert!(FixedAddress::parse(text).is_err(), "{text}");
        }
    }
}
