//! Names of hosts: from the system's resolver, which is given no more time than there is.

use super::reach;
use crate::sys::nss;
use crate::sys::task;
use crate::sys::task::pool::{Pool, ThreadJob};
use crate::words::failure::{Class, Failure};
use nix::sys::socket::{SockaddrLike, SockaddrStorage};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Whether no module of the name service can be loaded into this program.
const STATIC: bool = cfg!(target_env = "musl");

/// How long the name service may take for one name. Whoever asked may have gone by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the addresses of a name are used again without asking anew.
const FRESH: Duration = Duration::from_secs(1);

/// How many names may be asked for at once: a name service that hangs costs no more threads.
static NAMES: Pool = Pool::new(16);

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

/// The addresses of `host` if it says them itself: a literal as it is, `localhost` and what is
/// below it as ::1 and 127.0.0.1.
pub(super) fn plain(host: &str) -> Option<Vec<IpAddr>> {
    let localhost =
        || is_localhost(host).then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    literal(host).map(|address| vec![address]).or_else(localhost)
}

/// The addresses of `host`: those that it says itself without asking anybody, else from the system's
/// resolver.
///
/// # Errors
/// `missing` for a name that does not exist, `dns` for a resolver that cannot say, `timeout` at the deadline.
pub async fn resolve(host: &str, deadline: Instant) -> Result<Vec<IpAddr>, Failure> {
    match plain(host) {
        Some(addresses) => Ok(addresses),
        None => pending(host, deadline, false).await,
    }
}

/// The same for a thread that does nothing else meanwhile.
///
/// # Errors
/// As `resolve`.
pub fn resolve_now(host: &str, deadline: Instant) -> Result<Vec<IpAddr>, Failure> {
    task::block_on(resolve(host, deadline))
}

/// The same for one who asks many times a second: what a name had a second ago is good enough.
///
/// # Errors
/// As `resolve`.
pub(super) async fn resolve_often(host: &str, deadline: Instant) -> Result<Vec<IpAddr>, Failure> {
    match plain(host) {
        Some(addresses) => Ok(addresses),
        None => pending(host, deadline, true).await,
    }
}

type Found = Result<Vec<IpAddr>, Failure>;

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
/// the next attempt waits for the same thread, so that a dead resolver costs one thread a name and not one
/// per attempt, and never more than `NAMES` has.
async fn pending(host: &str, deadline: Instant, often: bool) -> Found {
    static RUNNING: Mutex<BTreeMap<CString, Arc<ThreadJob<Found>>>> = Mutex::new(BTreeMap::new());
    let lock = || RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let name =
        CString::new(host).map_err(|_| Failure::new(Class::Missing, format!("'{host}' is not a name")))?;
    let fresh = |(at, found): (Instant, Found)| often && found.is_ok() && at.elapsed() < FRESH;
    let job = {
        let mut running = lock();
        match running.get(&name).filter(|job| job.done().is_none_or(fresh)) {
            Some(job) => Arc::clone(job),
            None => {
                running.retain(|_, job| job.done().is_none_or(|(at, _)| at.elapsed() < FRESH));
                let asked = name.clone();
                let job = NAMES
                    .run(move || ask(&asked))
                    .map_err(|cause| Failure::io("cannot start a thread to resolve a name", &cause))?;
                running.insert(name, Arc::clone(&job));
                job
            }
        }
    };
    match job.result(deadline).await {
        Some(found) => found.inspect(|addresses| reach::note(host, addresses)),
        None if job.begun() => Err(Failure::timeout(&format!("resolving {host}"))),
        None => {
            let busy = NAMES.limit();
            Err(Failure::timeout(&format!("waiting to resolve {host}, behind {busy} names that hang")))
        }
    }
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
            assert!(resolve_now(name, soon).unwrap().iter().all(IpAddr::is_loopback), "{name}");
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
