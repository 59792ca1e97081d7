//! `dns:name?type=…`: has the name such a record? Asked of a server of DNS itself, over UDP, and over TCP
//! where the answer is too long.

pub(crate) mod message;

use crate::probe::{Asked, Cost, Probe, ProbeAnswer};
use crate::sys::http::host_and_port;
use crate::sys::net::{self, Endpoint, NetReach, reach};
use crate::sys::poll::For;
use crate::sys::random;
use crate::sys::redact::unescape;
use crate::sys::task;
use crate::words::error::brief;
use crate::words::failure::{Class, Failure};
use message::DnsReply;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

pub use message::RecordKind;

const PORT: u16 = 53;
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// As many servers as the libc asks.
const SERVERS: usize = 3;
/// How long the first answer of a server is waited for; then twice as long, as datagrams may be lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// So many datagrams that answer something else are heard.
const STRAYS: usize = 100;

/// What is asked of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordQuestion {
    /// The name.
    pub name: String,
    /// What kind of a record.
    pub kind: RecordKind,
    /// Who is asked, if not the servers of the system.
    pub server: Option<(String, u16)>,
    /// What one of the records must be.
    pub equals: Option<String>,
}

impl RecordQuestion {
    /// Reads `name?type=A&server=127.0.0.1:53&equals=192.0.2.1`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<RecordQuestion, String> {
        let (name, query) = text.split_once('?').unwrap_or((text, ""));
        let (name, None) = host_and_port(name)? else { return Err("a name has no port".to_owned()) };
        let mut question = RecordQuestion { name, kind: RecordKind::A, server: None, equals: None };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = unescape(value);
            match key {
                "type" => {
                    question.kind = RecordKind::parse(&value)
                        .ok_or("type is A, AAAA, CNAME, MX, NS, TXT or SRV".to_owned())?;
                }
                "server" => {
                    question.server = Some(match value.parse::<IpAddr>() {
                        Ok(address) => (address.to_string(), PORT),
                        Err(_) => {
                            let (host, port) = host_and_port(&value)?;
                            (host, port.unwrap_or(PORT))
                        }
                    });
                }
                "equals" => question.equals = Some(value),
                _ => return Err(format!("'{}' is unknown here", brief(key))),
            }
        }
        // Such an address no record can be.
        let address = question.equals.as_deref().map(str::parse::<IpAddr>);
        match (question.kind, address) {
            (RecordKind::A, Some(address)) if !address.as_ref().is_ok_and(IpAddr::is_ipv4) => {
                return Err("equals of an A record is an address of IPv4".to_owned());
            }
            (RecordKind::Aaaa, Some(address)) if !address.as_ref().is_ok_and(IpAddr::is_ipv6) => {
                return Err("equals of an AAAA record is an address of IPv6".to_owned());
            }
            _ => {}
        }
        if message::question(0, &question.name, question.kind).is_none() {
            return Err("a name has labels of 1 to 63 letters, and no others than those of ASCII".to_owned());
        }
        Ok(question)
    }

    /// Whether `record` is what was asked for: addresses by their value, names without regard to case and to
    /// the last dot, texts exactly.
    fn is_met_by(&self, record: &str) -> bool {
        let Some(wanted) = &self.equals else { return true };
        let words = |text: &str| {
            let word = |word: &str| match word.trim_end_matches('.') {
                "" => ".".to_owned(),
                word => word.to_ascii_lowercase(),
            };
            text.split_whitespace().map(word).collect::<Vec<_>>()
        };
        match self.kind {
            RecordKind::Txt => record == wanted,
            RecordKind::A | RecordKind::Aaaa => {
                wanted.parse::<IpAddr>().is_ok_and(|wanted| record.parse() == Ok(wanted))
            }
            _ => {
                let (wanted, record) = (words(wanted), words(record));
                // Without the numbers before it, the name alone.
                wanted == record || (wanted.len() == 1 && record.last() == wanted.first())
            }
        }
    }

    /// What an answer means: a verdict, or why another server may know better.
    fn judge(&self, reply: &DnsReply) -> Result<Result<(), Failure>, Failure> {
        let (name, kind) = (&self.name, self.kind.name());
        let cannot = |why: &str| Err(Failure::new(Class::Dns, format!("cannot resolve {name}: {why}")));
        match (reply.code, &reply.records) {
            (0, None) => {
                Err(Failure::new(Class::Protocol, "the answer of the name server breaks the rules of DNS"))
            }
            (0, Some(records)) if records.is_empty() && !reply.is_whole => {
                cannot("the name server refers to others, and does not ask them")
            }
            (0, Some(records)) if records.is_empty() => {
                let text = format!("the name {name} exists, and has no {kind} record (NODATA)");
                Ok(Err(Failure::new(Class::Missing, text)))
            }
            (0, Some(records)) if records.iter().any(|record| self.is_met_by(record)) => Ok(Ok(())),
            (0, Some(records)) => {
                let some: Vec<String> = records.iter().take(3).map(|record| brief(record)).collect();
                let more = if records.len() > 3 { " and more" } else { "" };
                let wanted = brief(self.equals.as_deref().unwrap_or_default());
                let text = format!("the {kind} of {name} is {}{more}, not {wanted}", some.join(", "));
                Ok(Err(Failure::new(Class::Body, text)))
            }
            (3, _) => Ok(Err(Failure::new(Class::Missing, format!("no such name: {name} (NXDOMAIN)")))),
            (2, _) => cannot("the name server cannot tell (SERVFAIL)"),
            (5, _) => cannot("the name server refuses (REFUSED)"),
            (code, _) => cannot(&format!("the name server answers with error {code}")),
        }
    }
}

/// Up when the name has such a record.
pub struct RecordProbe {
    /// What is asked.
    pub question: RecordQuestion,
}

impl RecordProbe {
    async fn servers(&self, deadline: Instant) -> Result<Vec<SocketAddr>, Failure> {
        if let Some((host, port)) = &self.question.server {
            return Endpoint::Tcp(host.clone(), *port).addresses(deadline).await;
        }
        let mut text = Vec::new();
        let opened = std::fs::File::open(RESOLV_CONF);
        match opened.and_then(|file| file.take(64 * 1024).read_to_end(&mut text)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::io(&format!("cannot read {RESOLV_CONF}"), &cause));
            }
            _ => {}
        }
        Ok(named(&String::from_utf8_lossy(&text)))
    }

    /// Asks one server; `None` when it does not answer in time.
    async fn ask_one(
        &self,
        server: SocketAddr,
        asked: &[u8],
        until: Instant,
    ) -> io::Result<Option<DnsReply>> {
        let Some(reply) = self.over_udp(server, asked, until).await? else { return Ok(None) };
        if !reply.cut {
            return Ok(Some(reply));
        }
        self.over_tcp(server, asked, until).await
    }

    async fn over_udp(
        &self,
        server: SocketAddr,
        asked: &[u8],
        until: Instant,
    ) -> io::Result<Option<DnsReply>> {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => [0; 4].into(),
            SocketAddr::V6(_) => [0; 16].into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        // Connected, so that nobody else is heard, and a refusal is.
        socket.connect(server)?;
        socket.send(asked)?;
        let mut room = [0; 4096];
        for _ in 0..STRAYS {
            if Instant::now() >= until || !task::ready(&[(socket.as_fd(), For::Reading)], until).await?[0] {
                return Ok(None);
            }
            match socket.recv(&mut room) {
                Ok(count) => {
                    let reply = message::reply(asked, &room[..count], self.question.kind);
                    if reply.is_some() {
                        return Ok(reply);
                    }
                }
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {}
                Err(cause) => return Err(cause),
            }
        }
        Err(io::Error::other("the name server answers what was not asked"))
    }

    async fn over_tcp(
        &self,
        server: SocketAddr,
        asked: &[u8],
        until: Instant,
    ) -> io::Result<Option<DnsReply>> {
        let mut conn =
            net::connect(&[server], until).await.map_err(|failure| io::Error::other(failure.text))?;
        let length = u16::try_from(asked.len()).map_err(io::Error::other)?.to_be_bytes();
        conn.send(&[&length, asked].concat()).await?;
        let mut length = [0; 2];
        conn.receive_exactly(&mut length).await?;
        let mut heard = vec![0; usize::from(u16::from_be_bytes(length))];
        conn.receive_exactly(&mut heard).await?;
        match message::reply(asked, &heard, self.question.kind) {
            Some(reply) if !reply.cut => Ok(Some(reply)),
            _ => Err(io::Error::other("the name server answers what was not asked")),
        }
    }
}

impl RecordProbe {
    async fn look_up(&self, deadline: Instant) -> Result<ProbeAnswer, Failure> {
        let servers = self.servers(deadline).await?;
        let name = &self.question.name;
        let id = u16::from_str_radix(random::hex().get(..4).unwrap_or("0"), 16).unwrap_or(0);
        let Some(asked) = message::question(id, name, self.question.kind) else {
            return Err(Failure::new(Class::Missing, format!("'{}' is not a name", brief(name))));
        };
        let mut patience = PATIENCE;
        loop {
            let (mut failure, mut silent) = (None, servers.is_empty());
            for server in &servers {
                let until = deadline.min(Instant::now() + patience);
                match self.ask_one(*server, &asked, until).await {
                    Ok(Some(reply)) => match self.question.judge(&reply) {
                        Ok(verdict) => return verdict.map(|()| ProbeAnswer::default()),
                        Err(why) => failure = Some(why),
                    },
                    Ok(None) => silent = true,
                    Err(cause) if cause.kind() == io::ErrorKind::TimedOut => silent = true,
                    // That nobody serves names there says nothing of the name.
                    Err(cause) => {
                        let why = crate::words::error::reason(&cause);
                        let text = format!("cannot resolve {name}: cannot ask {server}: {why}");
                        failure = Some(Failure::new(Class::Dns, text));
                    }
                }
            }
            match failure {
                Some(failure) if !silent || Instant::now() >= deadline => return Err(failure),
                _ if Instant::now() >= deadline => {
                    return Err(Failure::timeout(&format!("asking for {name}")));
                }
                _ => patience *= 2,
            }
        }
    }
}

impl Probe for RecordProbe {
    fn ask(&self, deadline: Instant) -> Asked<'_> {
        Box::pin(self.look_up(deadline))
    }

    fn cost(&self) -> Cost {
        match &self.question.server {
            // It may ask others, for all that we know.
            Some((host, _)) if reach::of(host) == NetReach::Own => Cost::Near,
            _ => Cost::Remote,
        }
    }
}

/// The servers that a resolv.conf names; without any it is this machine, as the libc has it.
fn named(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        address.split('%').next()?.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, PORT))
    };
    let found: Vec<SocketAddr> = text.lines().filter_map(address).take(SERVERS).collect();
    if found.is_empty() { vec![SocketAddr::from(([127, 0, 0, 1], PORT))] } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_questions() {
        let question = RecordQuestion::parse("x.y?type=mx&server=[::1]:5353&equals=10%20mail.").unwrap();
        let server = question.server.clone().unwrap();
        assert_eq!(
            (question.kind, server, question.name.as_str()),
            (RecordKind::Mx, ("::1".into(), 5353), "x.y")
        );
        assert_eq!(RecordQuestion::parse("x?server=::1").unwrap().server, Some(("::1".into(), 53)));
        for text in [
            "x?type=PTR",
            "x?tipe=A",
            "x:53?type=A",
            "?type=A",
            "x?server=a,b",
            "a..b?type=A",
            "x?equals=1.2.3.04",
            "x?type=AAAA&equals=1.2.3.4",
            "x?equals=::1&type=A",
        ] {
            assert!(RecordQuestion::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn who_refers_to_others_says_nothing_of_the_name() {
        let question = RecordQuestion::parse("x?type=A").unwrap();
        for (is_whole, class) in [(true, Class::Missing), (false, Class::Dns)] {
            let reply = DnsReply { code: 0, cut: false, records: Some(Vec::new()), is_whole };
            let failure = match question.judge(&reply) {
                Ok(verdict) => verdict.unwrap_err(),
                Err(failure) => failure,
            };
            assert_eq!(failure.class, class);
        }
    }

    #[test]
    fn records_are_compared_by_what_they_mean() {
        for (kind, wanted, record, met) in [
            ("A", "192.0.2.1", "192.0.2.1", true),
            ("A", "192.0.2.2", "192.0.2.1", false),
            ("AAAA", "2001:DB8::0:1", "2001:db8::1", true),
            ("CNAME", "Host.Example.", "host.example", true),
            ("MX", "mail.example", "10 mail.example", true),
            ("MX", "20 mail.example", "10 mail.example", false),
            ("SRV", "1 2 8080 h.", "1 2 8080 h", true),
            ("SRV", "8080 h", "1 2 8080 h", false),
            ("TXT", "v=1", "v=1", true),
            ("TXT", "V=1", "v=1", false),
        ] {
            let text = format!("x?type={kind}&equals={}", wanted.replace(' ', "%20"));
            assert_eq!(RecordQuestion::parse(&text).unwrap().is_met_by(record), met, "{kind} {wanted}");
        }
    }

    #[test]
    fn reads_whom_the_system_asks() {
        let local = SocketAddr::from(([127, 0, 0, 1], 53));
        assert_eq!(named(""), [local]);
        let text = "# nameserver 1.1.1.1\nsearch x\nnameserver 127.0.0.1\nnameserver fe80::1%eth0\n\
                    nameserver none\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n";
        let found = named(text);
        assert_eq!((found.len(), found[0], found[2].ip().to_string()), (3, local, "192.0.2.1".to_owned()));
    }
}
