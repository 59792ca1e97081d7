//! The messages of DNS (RFC 1035) that one question needs: written, and read from whoever answers, who may
//! lie. A pointer in a name must point backwards, so that none leads in a circle.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The kinds of records that may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// An address of IPv4.
    A,
    /// An address of IPv6.
    Aaaa,
    /// The name that it is another name for.
    Cname,
    /// Who takes its mail.
    Mx,
    /// Who serves its zone.
    Ns,
    /// A text.
    Txt,
    /// Where a service is.
    Srv,
}

const KINDS: [(&str, RecordKind, u16); 7] = [
    ("A", RecordKind::A, 1),
    ("AAAA", RecordKind::Aaaa, 28),
    ("CNAME", RecordKind::Cname, 5),
    ("MX", RecordKind::Mx, 15),
    ("NS", RecordKind::Ns, 2),
    ("TXT", RecordKind::Txt, 16),
    ("SRV", RecordKind::Srv, 33),
];
const HEAD: usize = 12;
const INTERNET: u16 = 1;
const SOA: u16 = 6;
/// So many other names a name has one after the other, at most.
const ALIASES: usize = 16;
/// The bits of a head: an answer, by whom the zone is served, cut off, recursion desired, recursion
/// available.
const ANSWER: u16 = 0x8000;
const AUTHORITY: u16 = 0x0400;
const RECURSIVE: u16 = 0x0080;
const CUT: u16 = 0x0200;
const RECURSION: u16 = 0x0100;
/// A name in its longest form, with its dots.
const NAME_LIMIT: usize = 255;

impl RecordKind {
    /// Reads its name.
    pub fn parse(text: &str) -> Option<RecordKind> {
        KINDS.iter().find(|(name, ..)| name.eq_ignore_ascii_case(text)).map(|(_, kind, _)| *kind)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind, _)| *kind == self).map_or("", |(name, ..)| name)
    }

    fn number(self) -> u16 {
        KINDS.iter().find(|(_, kind, _)| *kind == self).map_or(0, |(.., number)| *number)
    }
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DnsReply {
    /// 0, or why there is no answer.
    pub(crate) code: u8,
    /// Whether it was too long for a datagram.
    pub(crate) cut: bool,
    /// The records of the kind that the name has, in their usual text; `None` where the answer breaks the
    /// rules.
    pub(crate) records: Option<Vec<String>>,
    /// Whether that there are none is known, and not left to other servers (RFC 2308, 2.2).
    pub(crate) is_whole: bool,
}

/// A question, or `None` for a name that none can be asked of.
pub(crate) fn question(id: u16, name: &str, kind: RecordKind) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(HEAD + NAME_LIMIT + 4);
    for number in [id, RECURSION, 1, 0, 0, 0] {
        bytes.extend(number.to_be_bytes());
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        bytes.push(length);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.number().to_be_bytes());
    bytes.extend(INTERNET.to_be_bytes());
    (bytes.len() <= HEAD + NAME_LIMIT + 4 && name.is_ascii()).then_some(bytes)
}

/// Reads the answer to `asked`; `None` for what answers something else.
pub(crate) fn reply(asked: &[u8], heard: &[u8], kind: RecordKind) -> Option<DnsReply> {
    let number = |at: usize| heard.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
    let flags = number(2)?;
    let same_id = heard.get(..2)? == asked.get(..2)?;
    let question = asked.get(HEAD..)?;
    let code = u8::try_from(flags & 0xf).unwrap_or(0);
    let cut = flags & CUT != 0;
    // A server that cannot read the question repeats none, and some cut it off with all else.
    let same_question = match heard.get(HEAD..HEAD + question.len()) {
        Some(repeated) => repeated.eq_ignore_ascii_case(question) && number(4)? == 1,
        None => false,
    };
    if !same_id || flags & ANSWER == 0 || !(same_question || ((cut || code != 0) && number(4)? == 0)) {
        return None;
    }
    if cut || !same_question {
        return Some(DnsReply { code, cut, records: Some(Vec::new()), is_whole: false });
    }
    let (own, recursive) = (flags & AUTHORITY != 0, flags & RECURSIVE != 0);
    let Some(section) = Section::read(heard, HEAD + question.len(), number(6)?, kind) else {
        return Some(DnsReply { code, cut, records: None, is_whole: false });
    };
    let (serves, starts) = authority(heard, section.end, number(8)?);
    let is_whole = match section.chain {
        AliasChain::None => own || starts || (recursive && !serves),
        AliasChain::Ends => starts || (recursive && !serves),
        AliasChain::Turns => false,
    };
    Some(DnsReply { code, cut, records: Some(section.records), is_whole })
}

/// Where the other names of a name lead.
enum AliasChain {
    /// It has none.
    None,
    /// To a name that has none.
    Ends,
    /// In a circle, or too far.
    Turns,
}

/// What an answer says of the name that was asked for.
struct Section {
    records: Vec<String>,
    chain: AliasChain,
    end: usize,
}

impl Section {
    fn read(heard: &[u8], mut at: usize, count: u16, kind: RecordKind) -> Option<Section> {
        let (mut wanted, _) = name(heard, HEAD)?;
        let (mut found, mut aliases) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (owner, one) = entry(heard, at)?;
            at = one.end;
            if one.class != INTERNET {
                continue;
            }
            if one.kind == kind.number() {
                found.push((owner, record(heard, one.start, one.end, kind)?));
            } else if one.kind == RecordKind::Cname.number() {
                aliases.push((owner, record(heard, one.start, one.end, RecordKind::Cname)?));
            }
        }
        let mut chain = AliasChain::None;
        for step in 0..=ALIASES {
            let Some((_, next)) = aliases.iter().find(|(owner, _)| *owner == wanted) else { break };
            wanted.clone_from(next);
            chain = if step < ALIASES { AliasChain::Ends } else { AliasChain::Turns };
        }
        // What others have is not of this name.
        let own = found.into_iter().filter(|(owner, _)| *owner == wanted).map(|(_, text)| text);
        Some(Section { records: own.collect(), chain, end: at })
    }
}

/// A record: its kind, its class, and where its data is.
struct Entry {
    kind: u16,
    class: u16,
    start: usize,
    end: usize,
}

/// The record that stands at `at`, and whose it is.
fn entry(heard: &[u8], at: usize) -> Option<(String, Entry)> {
    let (owner, at) = name(heard, at)?;
    let head = heard.get(at..at + 10)?;
    let number = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let start = at + 10;
    let end = start + usize::from(number(8));
    heard.get(start..end)?;
    Some((owner, Entry { kind: number(0), class: number(2), start, end }))
}

/// Whether this section, which begins at `at`, names servers without the start of their zone, which refers to
/// them; and whether it has the start of a zone, which tells that there is nothing.
fn authority(heard: &[u8], mut at: usize, count: u16) -> (bool, bool) {
    let (mut serves, mut starts) = (false, false);
    for _ in 0..count {
        let Some((_, one)) = entry(heard, at) else { break };
        serves |= one.kind == RecordKind::Ns.number();
        starts |= one.kind == SOA;
        at = one.end;
    }
    (serves && !starts, starts)
}

/// The text of a record that stands from `start` to `end`.
fn record(heard: &[u8], start: usize, end: usize, kind: RecordKind) -> Option<String> {
    let data = heard.get(start..end)?;
    let number = |at: usize| data.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
    // A name ends where the record does.
    let target = |at: usize| name(heard, start + at).filter(|(_, after)| *after == end).map(|(name, _)| name);
    Some(match kind {
        RecordKind::A => Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).to_string(),
        RecordKind::Aaaa => Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).to_string(),
        RecordKind::Cname | RecordKind::Ns => target(0)?,
        RecordKind::Mx => format!("{} {}", number(0)?, target(2)?),
        RecordKind::Srv => format!("{} {} {} {}", number(0)?, number(2)?, number(4)?, target(6)?),
        RecordKind::Txt => {
            let (mut text, mut rest) = (Vec::new(), data);
            while let Some((length, more)) = rest.split_first() {
                let (part, more) = more.split_at_checked(usize::from(*length))?;
                text.extend(part);
                rest = more;
            }
            String::from_utf8_lossy(&text).into_owned()
        }
    })
}

/// The name that stands at `at`, in small letters and without its last dot, and what comes after it.
fn name(heard: &[u8], mut at: usize) -> Option<(String, usize)> {
    let (mut text, mut after, mut before) = (String::new(), None, at);
    loop {
        let length = usize::from(*heard.get(at)?);
        match length {
            0 => return Some((if text.is_empty() { ".".to_owned() } else { text }, after.unwrap_or(at + 1))),
            1..=63 => {
                if !text.is_empty() {
                    text.push('.');
                }
                for byte in heard.get(at + 1..at + 1 + length)? {
                    // What is no plain letter is written as zone files do.
                    match byte.to_ascii_lowercase() {
                        letter @ (b'!'..=b'-' | b'/'..=b'[' | b']'..=b'~') => text.push(char::from(letter)),
                        other => text.push_str(&format!("\\{other:03}")),
                    }
                }
                at += 1 + length;
            }
            192.. => {
                let to = usize::from(u16::from_be_bytes([(length & 63) as u8, *heard.get(at + 1)?]));
                after = after.or(Some(at + 2));
                if to >= before {
                    return None;
                }
                (at, before) = (to, to);
            }
            _ => return None,
        }
        // Each byte may take four letters.
        if text.len() > 4 * NAME_LIMIT {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer to a question for x.y of one record, whose data is `data`.
    fn answer(kind: RecordKind, data: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let asked = question(0x1234, "x.y.", kind).unwrap();
        let mut heard = asked.clone();
        (heard[2], heard[3], heard[7]) = (0x81, 0x80, 1);
        // The name of the question, by a pointer.
        heard.extend([0xc0, 12]);
        heard.extend(kind.number().to_be_bytes());
        heard.extend([0, 1, 0, 0, 0, 9, 0, u8::try_from(data.len()).unwrap()]);
        heard.extend(data);
        (asked, heard)
    }

    #[test]
    fn records_are_read_as_they_are_written() {
        for (kind, data, text) in [
            (RecordKind::A, &[127, 0, 0, 1][..], "127.0.0.1"),
            (RecordKind::Mx, b"\0\x0a\x04MAIL\xc0\x0c", "10 mail.x.y"),
            (RecordKind::Srv, b"\0\x01\0\x02\x1f\x90\xc0\x0e", "1 2 8080 y"),
            (RecordKind::Ns, b"\0", "."),
            (RecordKind::Cname, b"\x03a.b\0", "a\\046b"),
            (RecordKind::Txt, b"\x02Ab\x01c", "Abc"),
        ] {
            let (asked, heard) = answer(kind, data);
            assert_eq!(reply(&asked, &heard, kind).unwrap().records.unwrap(), [text]);
            for cut in 0..heard.len() {
                let cut = reply(&asked, &heard[..cut], kind);
                assert!(cut.is_none_or(|reply| reply.records.is_none()));
            }
        }
    }

    /// An answer for x.y with these flags, of these records; as many of them as `authority` are of that
    /// section.
    fn section(flags: [u8; 2], authority: u8, records: &[(&[u8], u8, &[u8])]) -> DnsReply {
        let asked = question(1, "x.y", RecordKind::A).unwrap();
        let mut heard = asked.clone();
        (heard[2], heard[3], heard[9]) = (flags[0], flags[1], authority);
        heard[7] = u8::try_from(records.len()).unwrap() - authority;
        for (owner, kind, data) in records {
            heard.extend(*owner);
            heard.extend([0, *kind, 0, 1, 0, 0, 0, 9, 0, u8::try_from(data.len()).unwrap()]);
            heard.extend(*data);
        }
        reply(&asked, &heard, RecordKind::A).unwrap()
    }

    #[test]
    fn only_records_of_the_name_and_of_its_other_names_count() {
        let (own, other, address) = (&[0xc0, 12][..], &b"\x04EVIL\0"[..], &[1, 2, 3, 4][..]);
        let both = [0x85, 0x80];
        assert_eq!(section(both, 0, &[(other, 1, address)]).records.unwrap(), Vec::<String>::new());
        let chain = [(&b"\x01b\0"[..], 1, address), (b"\x01a\0", 5, b"\x01B\0"), (own, 5, b"\x01a\0")];
        assert_eq!(section(both, 0, &chain).records.unwrap(), ["1.2.3.4"]);
        let beside = [(own, 5, &b"\x01a\0"[..]), (own, 1, address)];
        assert_eq!(section(both, 0, &beside).records.unwrap(), Vec::<String>::new());
    }

    #[test]
    fn that_there_is_none_is_told_by_who_knows() {
        let (own, zone) = (&[0xc0, 12][..], &[0xc0, 14][..]);
        let (serves, starts) = ((zone, 2, &[0][..]), (zone, 6, &[0][..]));
        let (leads, turns) = ((own, 5, &b"\x01a\0"[..]), (own, 5, own));
        let (authoritative, recursive, neither) = ([0x85, 0], [0x81, 0x80], [0x81, 0]);
        for (flags, authority, records, whole) in [
            (authoritative, 0, &[][..], true),
            (recursive, 0, &[], true),
            (neither, 0, &[], false),
            (neither, 1, &[serves], false),
            (recursive, 1, &[serves], false),
            (recursive, 2, &[serves, starts], true),
            (neither, 1, &[starts], true),
            (authoritative, 0, &[leads], false),
            (recursive, 0, &[leads], true),
            (authoritative, 1, &[leads, starts], true),
            (recursive, 0, &[turns], false),
        ] {
            let reply = section(flags, authority, records);
            assert_eq!((reply.records.unwrap().len(), reply.is_whole), (0, whole), "{flags:?} {records:?}");
        }
    }

    #[test]
    fn lies_are_none() {
        for (kind, data) in [
            (RecordKind::A, &[127, 0, 0][..]),
            // To itself, forwards, past the end, and to something that goes on past the record.
            (RecordKind::Ns, &[0xc0, 33]),
            (RecordKind::Ns, &[1, b'a', 0xc0, 33]),
            (RecordKind::Ns, &[0xc0, 200]),
            (RecordKind::Ns, &[1, b'a', 0, 0]),
            (RecordKind::Ns, &[0x80, 0]),
            (RecordKind::Txt, &[5, b'a']),
            (RecordKind::Mx, &[0]),
        ] {
            let (asked, heard) = answer(kind, data);
            assert_eq!(reply(&asked, &heard, kind).unwrap().records, None, "{data:?}");
        }
        let (asked, heard) = answer(RecordKind::A, &[1, 2, 3, 4]);
        for (at, byte) in [(0, 0), (2, 0), (13, b'z'), (5, 2)] {
            let mut other = heard.clone();
            other[at] = byte;
            assert_eq!(reply(&asked, &other, RecordKind::A), None, "{at}");
        }
        for name in ["", "a..b", &"x".repeat(64), &"abcdefg.".repeat(32), "grün"] {
            assert_eq!(question(1, name, RecordKind::A), None, "{name}");
        }
    }
}
