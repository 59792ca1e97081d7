//! What `struct socket_fdinfo` of macOS says of a TCP socket. The libc crate does not have it, so its fields
//! are read at the offsets of <sys/proc_info.h> (XNU; both architectures): the struct has 792 bytes, the
//! protocol's part begins at 264.

use super::listens_for;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The size of the struct.
pub(super) const SIZE: usize = 792;
/// `psi.soi_stat.vst_uid`, after a proc_fileinfo of 24 bytes: who made the socket.
const OWNER: usize = 40;
const KIND: usize = 256;
const SOCKINFO_TCP: i32 = 2;
const FOREIGN_PORT: usize = 264;
const LOCAL_PORT: usize = 268;
const VERSION_FLAGS: usize = 288;
const FOREIGN_ADDRESS: usize = 296;
const LOCAL_ADDRESS: usize = 312;
const TCP_STATE: usize = 344;
const TSI_S_LISTEN: i32 = 1;
const INI_IPV4: u8 = 1;
const INI_IPV6: u8 = 2;

/// How a process takes part in the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SocketPart {
    Listens,
    Accepted,
}

/// How the socket takes part in the other end of the connection from `local` to `peer`.
///
/// A socket of IPv6 that takes IPv4 as well has both flags (`tcp6_usr_bind`), so its addresses are read both
/// ways, and one that fits is enough.
pub(super) fn part(info: &[u8; SIZE], local: SocketAddr, peer: SocketAddr) -> Option<SocketPart> {
    if word(info, KIND)? != SOCKINFO_TCP {
        return None;
    }
    let flags = *info.get(VERSION_FLAGS)?;
    let mut ways = [(INI_IPV4, true), (INI_IPV6, false)].into_iter().filter(|(flag, _)| flags & flag != 0);
    let at = |address, port, old| end(info, address, port, old);
    if word(info, TCP_STATE)? == TSI_S_LISTEN {
        let takes = |(_, old)| at(LOCAL_ADDRESS, LOCAL_PORT, old).is_some_and(|here| listens_for(here, peer));
        return ways.any(takes).then_some(SocketPart::Listens);
    }
    let fits = |(_, old)| {
        at(LOCAL_ADDRESS, LOCAL_PORT, old) == Some(peer)
            && at(FOREIGN_ADDRESS, FOREIGN_PORT, old) == Some(local)
    };
    ways.any(fits).then_some(SocketPart::Accepted)
}

/// The uid of the user who made the socket.
pub(super) fn owner(info: &[u8; SIZE]) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&info[OWNER..OWNER + 4]);
    u32::from_ne_bytes(bytes)
}

fn word(info: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?))
}

/// Ports are in network order in the low half of an int; an IPv4 address is in the last word of the union,
/// and so is one that is mapped into IPv6.
fn end(info: &[u8], at: usize, port_at: usize, old: bool) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(info.get(port_at..port_at + 2)?.try_into().ok()?);
    let bytes: [u8; 16] = info.get(at..at + 16)?.try_into().ok()?;
    let ip = if old {
        IpAddr::V4(Ipv4Addr::new(bytes[12], bytes[13], bytes[14], bytes[15]))
    } else {
        IpAddr::V6(Ipv6Addr::from(bytes))
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket as the kernel of macOS would show it.
    fn socket(flags: u8, state: i32, here: &str, there: &str) -> [u8; SIZE] {
        let mut info = [0; SIZE];
        let mut put = |at: usize, bytes: &[u8]| info[at..at + bytes.len()].copy_from_slice(bytes);
        put(KIND, &SOCKINFO_TCP.to_ne_bytes());
        put(VERSION_FLAGS, &[flags]);
        put(TCP_STATE, &state.to_ne_bytes());
        for (text, address, port) in
            [(here, LOCAL_ADDRESS, LOCAL_PORT), (there, FOREIGN_ADDRESS, FOREIGN_PORT)]
        {
            let one: SocketAddr = text.parse().unwrap();
            put(port, &one.port().to_be_bytes());
            match one.ip() {
                IpAddr::V4(ip) => put(address + 12, &ip.octets()),
                IpAddr::V6(ip) => put(address, &ip.octets()),
            }
        }
        info
    }

    fn told(info: &[u8; SIZE], local: &str, peer: &str) -> Option<SocketPart> {
        part(info, local.parse().unwrap(), peer.parse().unwrap())
    }

    #[test]
    fn a_listener_of_both_families_takes_both() {
        let both = socket(INI_IPV4 | INI_IPV6, TSI_S_LISTEN, "[::]:80", "[::]:0");
        for (local, peer) in [
            ("[::1]:5000", "[::1]:80"),
            ("127.0.0.1:5000", "127.0.0.1:80"),
            ("[fe80::2]:5000", "[fe80::1]:80"),
        ] {
            assert_eq!(told(&both, local, peer), Some(SocketPart::Listens), "{peer}");
        }
        assert_eq!(told(&both, "[::1]:5000", "[::1]:81"), None);
        let one = socket(INI_IPV4, TSI_S_LISTEN, "0.0.0.0:80", "0.0.0.0:0");
        assert_eq!(told(&one, "127.0.0.1:5000", "127.0.0.1:80"), Some(SocketPart::Listens));
        assert_eq!(told(&one, "[::1]:5000", "[::1]:80"), None);
    }

    #[test]
    fn who_made_it_is_told() {
        let mut info = [0; SIZE];
        info[OWNER..OWNER + 4].copy_from_slice(&501u32.to_ne_bytes());
        assert_eq!(owner(&info), 501);
    }

    #[test]
    fn an_accepted_connection_is_known_by_both_of_its_ends() {
        for (flags, here, there) in [
            (INI_IPV4, "127.0.0.1:80", "127.0.0.1:5000"),
            (INI_IPV6, "[::1]:80", "[::1]:5000"),
            (INI_IPV4 | INI_IPV6, "[::1]:80", "[::1]:5000"),
            (INI_IPV4 | INI_IPV6, "127.0.0.1:80", "127.0.0.1:5000"),
        ] {
            let info = socket(flags, 4, here, there);
            assert_eq!(told(&info, there, here), Some(SocketPart::Accepted), "{here}");
            assert_eq!(told(&info, here, there), None, "{here}");
        }
    }
}
