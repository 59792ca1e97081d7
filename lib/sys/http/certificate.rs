//! What is in a certificate that is trusted because it was named: until when it is good, and for whom.
//!
//! The library judges certificates that somebody else has signed. One that has signed itself, as
//! `openssl req -x509` makes it, is for it that of an authority, which no server may show; curl takes it.

use crate::words::stamp;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error};
use std::time::{Duration, UNIX_EPOCH};

/// Tags of DER, and the object identifiers that are looked for.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const UTC_TIME: u8 = 0x17;
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const OTHER_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

/// Judges a certificate that is trusted by itself: its time and its names.
pub(super) fn check(
    certificate: &CertificateDer<'_>,
    host: &ServerName<'_>,
    time: UnixTime,
) -> Result<(), Error> {
    let bad = |cause: CertificateError| Err(Error::InvalidCertificate(cause));
    let Some(found) = Found::read(certificate) else { return bad(CertificateError::BadEncoding) };
    if time < found.not_before {
        return bad(CertificateError::NotValidYetContext { time, not_before: found.not_before });
    }
    if time > found.not_after {
        return bad(CertificateError::ExpiredContext { time, not_after: found.not_after });
    }
    if found.has_other_names {
        return verify_server_name(&ParsedCertificate::try_from(certificate)?, host);
    }
    // As curl does, where a certificate has no other names.
    match &found.common_name {
        Some(name) if is_name_of(name, &host.to_str()) => Ok(()),
        name => bad(CertificateError::NotValidForNameContext {
            expected: host.to_owned(),
            presented: name.iter().cloned().collect(),
        }),
    }
}

/// Judges bytes that may be anything, now and for a host that they may name.
#[cfg(test)]
pub(crate) fn fuzzed(der: &[u8]) -> Result<(), Error> {
    let Ok(host) = ServerName::try_from("x.a.b") else { return Ok(()) };
    check(&CertificateDer::from(der), &host, UnixTime::now())
}

/// Whether `name` is `host`, or `*.` with what follows its first label.
fn is_name_of(name: &str, host: &str) -> bool {
    let host = host.trim_end_matches('.');
    let rest = || host.split_once('.').map_or("", |(_, rest)| rest);
    match name.strip_prefix("*.") {
        Some(domain) => domain.contains('.') && domain.eq_ignore_ascii_case(rest()),
        None => name.eq_ignore_ascii_case(host),
    }
}

struct Found {
    not_before: UnixTime,
    not_after: UnixTime,
    common_name: Option<String>,
    has_other_names: bool,
}

impl Found {
    /// Reads RFC 5280, 4.1, as far as it is asked for.
    fn read(der: &[u8]) -> Option<Found> {
        let mut certificate = Der(Der(der).expect(SEQUENCE)?);
        let mut fields = Der(certificate.expect(SEQUENCE)?);
        if fields.0.first() == Some(&VERSION) {
            fields.next()?;
        }
        // The serial number, the signature's kind and the issuer.
        for _ in 0..3 {
            fields.next()?;
        }
        let mut validity = Der(fields.expect(SEQUENCE)?);
        let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
        let subject = fields.expect(SEQUENCE)?;
        fields.next()?;
        let mut has_other_names = false;
        while let Some((tag, content)) = fields.next() {
            if tag == EXTENSIONS {
                let mut all = Der(Der(content).expect(SEQUENCE)?);
                while let Some((_, extension)) = all.next() {
                    has_other_names |= Der(extension).next()?.1 == OTHER_NAMES;
                }
            }
        }
        Some(Found { not_before, not_after, common_name: common_name(subject), has_other_names })
    }
}

/// The last of a subject.
fn common_name(subject: &[u8]) -> Option<String> {
    let (mut sets, mut found) = (Der(subject), None);
    while let Some((_, set)) = sets.next() {
        let mut pairs = Der(set);
        while let Some((_, pair)) = pairs.next() {
            let mut pair = Der(pair);
            if pair.next()?.1 == COMMON_NAME {
                found = Some(String::from_utf8_lossy(pair.next()?.1).into_owned());
            }
        }
    }
    found
}

/// `YYMMDDHHMMSSZ` up to 2049, or with four digits of the year.
fn time((tag, text): (u8, &[u8])) -> Option<UnixTime> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
    let text = match tag {
        UTC_TIME if text < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        _ => text.to_owned(),
    };
    if text.len() != 15 || !text.ends_with('Z') {
        return None;
    }
    let (date, clock) =
        ((&text[..4], &text[4..6], &text[6..8]), (&text[8..10], &text[10..12], &text[12..14]));
    let written = format!("{}-{}-{}T{}:{}:{}Z", date.0, date.1, date.2, clock.0, clock.1, clock.2);
    let before = text.as_str() < "1970" && text.bytes().take(14).all(|byte| byte.is_ascii_digit());
    let moment = if before { UNIX_EPOCH } else { stamp::parse(&written)? };
    Some(UnixTime::since_unix_epoch(moment.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)))
}

/// Values of DER, one after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The tag and the content of the next value.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&length, rest) = rest.split_first()?;
        let (length, rest) = match usize::from(length) {
            short @ 0..0x80 => (short, rest),
            // Nothing in a certificate needs more than four bytes.
            long => {
                let (digits, rest) = rest.split_at_checked(long - 0x80).filter(|(all, _)| all.len() <= 4)?;
                (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
            }
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_whole_or_stands_for_one_label() {
        for (name, host, same) in [
            ("Localhost", "localhost.", true),
            ("*.a.b", "x.a.b", true),
            ("*.a.b", "x.y.a.b", false),
            ("*.a.b", "a.b", false),
            ("*.b", "a.b", false),
            ("a.b", "xa.b", false),
            ("127.0.0.1", "127.0.0.1", true),
        ] {
            assert_eq!(is_name_of(name, host), same, "{name} {host}");
        }
    }

    #[test]
    fn times_are_read_in_both_centuries() {
        let read = |tag, text: &str| time((tag, text.as_bytes())).map(|time| time.as_secs());
        assert_eq!(read(UTC_TIME, "700101000001Z"), Some(1));
        assert_eq!(read(UTC_TIME, "260101000000Z"), read(0x18, "20260101000000Z"));
        assert_eq!(read(UTC_TIME, "500101000000Z"), Some(0));
        for bad in ["", "7001010000Z", "700101000001+", "701301000000Z", "70010100000aZ"] {
            assert_eq!(read(UTC_TIME, bad), None, "{bad}");
        }
    }
}
