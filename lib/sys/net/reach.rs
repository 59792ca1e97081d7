//! How far away a host is: this machine, the network that it shares with its neighbours and containers, or
//! another one. By its address, and before that is known by its name.

use super::names;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How far away a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetReach {
    /// This machine.
    Own,
    /// A private network: other containers, the machines beside us.
    Near,
    /// Anywhere else.
    Far,
}

/// How long the addresses of our interfaces are remembered.
const REMEMBERED: Duration = Duration::from_secs(5);
/// How many names are.
const NAMES: usize = 4096;
/// Names that only a private network has: of containers, clusters and local domains (RFC 6762, 8375, and what
/// ICANN has reserved for private use).
const PRIVATE: [&str; 7] = [".internal", ".local", ".lan", ".home.arpa", ".svc", ".docker", ".test"];

struct Known {
    names: BTreeMap<String, Vec<IpAddr>>,
    own: Option<(Instant, Vec<IpAddr>)>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { names: BTreeMap::new(), own: None });

fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers what a name was resolved to.
pub(super) fn note(host: &str, addresses: &[IpAddr]) {
    let mut known = known();
    if known.names.get(host).is_some_and(|old| old == addresses) {
        return;
    }
    if known.names.len() >= NAMES {
        known.names.clear();
    }
    known.names.insert(host.to_owned(), addresses.to_owned());
}

/// How far away `host` is, as far as is known without asking anybody.
pub fn of(host: &str) -> NetReach {
    match addresses(host) {
        Some(addresses) => {
            addresses.iter().map(|address| of_address(*address)).max().unwrap_or(NetReach::Far)
        }
        None => of_name(host),
    }
}

/// The addresses of `host` that a kernel's table of listeners can be searched for: those that it has if all
/// of them are this machine's.
pub fn own_sockets(host: &str, port: u16) -> Vec<SocketAddr> {
    let all = addresses(host).unwrap_or_default();
    if !all.iter().all(|address| of_address(*address) == NetReach::Own) {
        return Vec::new();
    }
    let meant = |address: IpAddr| match address {
        // A connection to "any" is one to ourselves.
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    all.into_iter().map(|address| SocketAddr::new(meant(address), port)).collect()
}

fn addresses(host: &str) -> Option<Vec<IpAddr>> {
    names::plain(host).or_else(|| known().names.get(host).cloned())
}

fn of_name(host: &str) -> NetReach {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if !host.contains('.') || PRIVATE.iter().any(|end| host.ends_with(end)) {
        NetReach::Near
    } else {
        NetReach::Far
    }
}

fn of_address(address: IpAddr) -> NetReach {
    let address = address.to_canonical();
    if address.is_loopback() || address.is_unspecified() || is_own(address) {
        return NetReach::Own;
    }
    let near = match address {
        IpAddr::V4(old) => {
            let [first, second, ..] = old.octets();
            // 100.64.0.0/10 is shared by the customers of a carrier, and by overlay networks.
            old.is_private() || old.is_link_local() || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(new) => new.is_unique_local() || new.is_unicast_link_local(),
    };
    if near { NetReach::Near } else { NetReach::Far }
}

fn is_own(address: IpAddr) -> bool {
    let mut known = known();
    if known.own.as_ref().is_none_or(|(at, _)| at.elapsed() >= REMEMBERED) {
        known.own = Some((Instant::now(), super::own_addresses()));
    }
    known.own.as_ref().is_some_and(|(_, own)| own.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_known_by_its_address_or_its_name() {
        for host in
            ["127.0.0.9", "::1", "[::1]", "localhost", "LOCALHOST.", "0.0.0.0", "[::]", "::ffff:127.0.0.1"]
        {
            assert_eq!(of(host), NetReach::Own, "{host}");
        }
        for own in super::super::own_addresses() {
            assert_eq!(of(&own.to_string()), NetReach::Own, "{own}");
        }
        for host in [
            "10.255.0.1",
            "172.31.255.254",
            "192.168.255.254",
            "169.254.169.254",
            "100.127.255.254",
            "[fd00:1::1]",
            "fe80::dead:beef",
            "db",
            "Postgres.",
            "host.docker.internal",
            "gateway.containers.internal",
            "api.prod.svc",
            "api.prod.svc.cluster.local",
            "printer.local",
        ] {
            assert_eq!(of(host), NetReach::Near, "{host}");
        }
        for host in
            ["192.0.2.1", "172.32.0.1", "100.128.0.1", "2001:db8::1", "example.org", "internal.example.org"]
        {
            assert_eq!(of(host), NetReach::Far, "{host}");
        }
    }

    #[test]
    fn a_name_is_as_far_as_the_farthest_of_its_addresses() {
        let (own, far) = ("127.0.0.1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        note("reach.example.org", &[own]);
        assert_eq!(of("reach.example.org"), NetReach::Own);
        assert_eq!(own_sockets("reach.example.org", 5), [SocketAddr::new(own, 5)]);
        note("reach.example.org", &[own, far]);
        assert_eq!(of("reach.example.org"), NetReach::Far);
        assert!(own_sockets("reach.example.org", 5).is_empty());
        assert_eq!(own_sockets("0.0.0.0", 5), [SocketAddr::from(([127, 0, 0, 1], 5))]);
    }
}
