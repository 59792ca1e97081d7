//! Names of hosts: from the system's resolver, which is given no more time than there is.

use crate::sys::nss;
use crate::words::failure::{Class, Failure};
use nix::sys::socket::{SockaddrLike, SockaddrStorage};
use std::collections::HashMap;
use std::ffi::CString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Whether no module of the name service can be loaded into this program.
const STATIC: bool = cfg!(target_env = "musl");

/// How long the name service may take for one name. Whoever asked may have gone by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether `host` is this machine by its very name, so that asking it often disturbs nobody.
pub fn is_local(host: &str) -> bool {
    is_localhost(host) || literal(host).is_some_and(|address| address.is_loopback())
}

/// `localhost` and every name below it, which no resolver is to be asked for (RFC 6761, 6.3).
fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// The address of `ADDRESS%ZONE` at a port; a zone is the name of an interface, or its number.
///
/// # Errors
/// `missing` for an interface that does not exist.
pub(super) fn with_zone(host: &str, port: u16) -> Result<SocketAddr, Failure> {
    let (address, zone) = host.split_once('%').unwrap_or((host, ""));
    let missing = |why: String| Failure::new(Class::Missing, format!("cannot connect to {host}: {why}"));
    let address = address.parse().map_err(|_| missing("it is not an IPv6 address".to_owned()))?;
    let named = nix::net::if_::if_nametoindex(zone).ok();
    let index = named.or_else(|| zone.parse().ok().filter(|index| *index > 0));
    let index = index.ok_or_else(|| missing(format!("there is no interface '{zone}'")))?;
    Ok(SocketAddr::V6(SocketAddrV6::new(address, port, 0, index)))
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The addresses of `host`: a literal as it is, `localhost` and what is below it as ::1 and 127.0.0.1 without
/// asking anybody, a name from the system's resolver.
///
/// # Errors
/// `missing` for a name that does not exist, `dns` for a resolver that cannot say, `timeout` at the deadline.
pub fn resolve(host: &str, deadline: Instant) -> Result<Vec<IpAddr>, Failure> {
    if let Some(address) = literal(host) {
        return Ok(vec![address]);
    }
    if is_localhost(host) {
        return Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    }
    let name =
        CString::new(host).map_err(|_| Failure::new(Class::Missing, format!("'{host}' is not a name")))?;
    pending(name, deadline).unwrap_or_else(|| Err(Failure::timeout(&format!("resolving {host}"))))
}

type Found = Result<Vec<IpAddr>, Failure>;
type Slot = Arc<(Mutex<Option<Found>>, Condvar)>;

/// A static program asks the libc only for /etc/hosts and DNS, and getent first where nsswitch.conf names
/// more. That getent knows no such name proves nothing, for it says so of a dead server too: then we ask
/// ourselves.
fn ask(name: &CString) -> Found {
    if STATIC && nss::goes_beyond("hosts", &["files", "dns"]).unwrap_or(false) {
        let key = name.to_string_lossy();
        let strange = |letter: char| letter.is_whitespace() || letter.is_control();
        let sane = !key.starts_with('-') && !key.contains(strange);
        let answer = if sane { nss::getent("ahosts", &key, Instant::now() + PATIENCE) } else { Ok(None) };
        let found = listed(&answer.ok().flatten().unwrap_or_default());
        if !found.is_empty() {
            return Ok(found);
        }
    }
    getaddrinfo(name)
}

/// The addresses of `getent ahosts`, each once, in its order.
pub(crate) fn listed(text: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for address in text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()) {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// getaddrinfo(3) cannot be told when to stop, so it runs in a thread that is left behind at the deadline;
/// the next attempt waits for the same thread, so that a dead resolver costs one thread and not one per
/// attempt.
fn pending(name: CString, deadline: Instant) -> Option<Found> {
    static RUNNING: Mutex<Option<HashMap<CString, Slot>>> = Mutex::new(None);
    let lock = || RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let slot = {
        let mut guard = lock();
        let running = guard.get_or_insert_with(HashMap::new);
        match running.get(&name) {
            Some(slot) => slot.clone(),
            None => {
                let slot: Slot = Slot::default();
                let (asked, filled) = (name.clone(), slot.clone());
                let ask = move || {
                    let found = ask(&asked);
                    *filled.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
                    filled.1.notify_all();
                };
                if let Err(cause) = std::thread::Builder::new().spawn(ask) {
                    return Some(Err(Failure::io("cannot start a thread to resolve a name", &cause)));
                }
                running.insert(name.clone(), slot.clone());
                slot
            }
        }
    };
    let mut state = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
    while state.is_none() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        state = slot.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    let found = state.clone();
    drop(state);
    if let Some(running) = lock().as_mut() {
        running.remove(&name);
    }
    found
}

fn getaddrinfo(name: &CString) -> Found {
    // SAFETY: an addrinfo of zeroes is what getaddrinfo(3) asks for in hints.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_socktype = libc::SOCK_STREAM;
    let mut list: *mut libc::addrinfo = std::ptr::null_mut();
    // SAFETY: the name is NUL-terminated, hints and list outlive the call.
    let code = unsafe { libc::getaddrinfo(name.as_ptr(), std::ptr::null(), &raw const hints, &raw mut list) };
    let shown = name.to_string_lossy();
    if code != 0 {
        let class = if code == libc::EAI_NONAME { Class::Missing } else { Class::Dns };
        // SAFETY: gai_strerror(3) returns a static string.
        let text = unsafe { std::ffi::CStr::from_ptr(libc::gai_strerror(code)) }.to_string_lossy();
        return Err(Failure::new(
            class,
            format!("cannot resolve {shown}: {}", crate::words::error::lower_first(&text)),
        ));
    }
    let mut found = Vec::new();
    let mut at = list;
    // SAFETY: the list is valid until freeaddrinfo(3); each ai_addr has ai_addrlen bytes, which from_raw
    // checks against its family.
    unsafe {
        while let Some(one) = at.as_ref() {
            if let Some(address) = SockaddrStorage::from_raw(one.ai_addr, Some(one.ai_addrlen)) {
                let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
                found.extend(v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()))));
            }
            at = one.ai_next;
        }
        libc::freeaddrinfo(list);
    }
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below_localhost_are_this_machine() {
        let soon = Instant::now() + PATIENCE;
        for name in ["localhost", "LocalHost.", "a.localhost", "a.b.LOCALHOST."] {
            assert!(is_local(name), "{name}");
            assert!(resolve(name, soon).unwrap().iter().all(IpAddr::is_loopback), "{name}");
        }
        assert!(!is_local("notlocalhost") && !is_local("localhost.example"));
    }

    #[test]
    fn a_zone_is_an_interface() {
        let lo = if cfg!(target_os = "macos") { "lo0" } else { "lo" };
        let address = with_zone(&format!("fe80::1%{lo}"), 80).unwrap();
        let SocketAddr::V6(address) = address else { panic!("{address}") };
        assert_eq!(with_zone(&format!("fe80::1%{}", address.scope_id()), 80).unwrap(), address.into());
        let failure = with_zone("fe80::1%none", 80).unwrap_err();
        assert_eq!((failure.class, failure.text.contains("no interface 'none'")), (Class::Missing, true));
    }

    #[test]
    fn what_getent_lists_is_read() {
        let text =
            "127.0.0.1       STREAM localhost\n127.0.0.1       DGRAM  \n::1  STREAM x\n\nfe80::1%eth0 RAW\n";
        assert_eq!(listed(text), ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert!(listed("nonsense\n").is_empty());
    }
}
