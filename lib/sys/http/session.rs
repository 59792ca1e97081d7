//! A TLS session without a socket: records in, records out, around what is said within; and what went wrong
//! in sentences.

use crate::words::error::brief;
use crate::words::failure::{Class, Failure};
use crate::words::span;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection, Error};
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

/// What waits to be written at most before more is encrypted.
const WAITING: usize = 64 * 1024;
/// By so many bytes one tells what a server speaks that does not speak TLS.
const FIRST: usize = 8;

/// What is said within a session.
pub(super) trait Plaintext {
    /// What is to be said now.
    fn outgoing(&mut self) -> Result<&[u8], Failure>;

    /// So much of it is on its way.
    fn sent(&mut self, count: usize);

    /// Takes what was heard.
    fn received(&mut self, bytes: &[u8]) -> Result<(), Failure>;

    /// Nothing more will be heard.
    fn ended(&mut self) -> Result<(), Failure>;
}

/// One session with a server.
pub(super) struct Session {
    tls: ClientConnection,
    host: String,
    wire: Vec<u8>,
    /// What the server has said first.
    first: Vec<u8>,
    /// Whether a certificate of ours is shown to whoever asks for one.
    shows: bool,
}

impl Session {
    pub(super) fn new(config: Arc<ClientConfig>, host: &str) -> Result<Session, Failure> {
        let shows = config.client_auth_cert_resolver.has_certs();
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| failed(format!("'{}' is not a name that a certificate can have", brief(host))))?;
        let tls = ClientConnection::new(config, name).map_err(|cause| failed(cause.to_string()))?;
        Ok(Session { tls, host: host.to_owned(), wire: Vec::new(), first: Vec::new(), shows })
    }

    /// Whether nothing can be said yet.
    pub(super) fn greets(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// What is to be written to the connection now.
    pub(super) fn outgoing(&mut self, inner: &mut impl Plaintext) -> Result<&[u8], Failure> {
        // Before the end of the handshake it would be kept within the library, where nobody wipes it.
        while !self.tls.is_handshaking() && self.wire.len() < WAITING {
            let plain = inner.outgoing()?;
            if plain.is_empty() {
                break;
            }
            let count = self.tls.writer().write(plain).map_err(|cause| failed(cause.to_string()))?;
            inner.sent(count);
            self.encode()?;
            if count == 0 {
                break;
            }
        }
        self.encode()?;
        Ok(&self.wire)
    }

    fn encode(&mut self) -> Result<(), Failure> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.wire).map_err(|cause| failed(cause.to_string()))?;
        }
        Ok(())
    }

    pub(super) fn sent(&mut self, count: usize) {
        self.wire.drain(..count.min(self.wire.len()));
    }

    /// Nothing more is sent.
    pub(super) fn hush(&mut self) {
        self.wire.clear();
    }

    /// Says that nothing more will be asked.
    pub(super) fn part(&mut self) {
        self.tls.send_close_notify();
    }

    pub(super) fn received(&mut self, bytes: &[u8], inner: &mut impl Plaintext) -> Result<(), Failure> {
        if self.first.len() < FIRST {
            self.first.extend_from_slice(&bytes[..bytes.len().min(FIRST - self.first.len())]);
        }
        let (mut rest, mut room) = (bytes, [0; 4096]);
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest).map_err(|cause| failed(cause.to_string()))?;
            let state = self.tls.process_new_packets();
            loop {
                match self.tls.reader().read(&mut room) {
                    Ok(0) => return inner.ended(),
                    Ok(count) => inner.received(&room[..count])?,
                    Err(cause) if cause.kind() == ErrorKind::WouldBlock => break,
                    Err(cause) => return Err(failed(cause.to_string())),
                }
            }
            if let Err(cause) = state {
                return Err(self.told(&cause));
            }
        }
        Ok(())
    }

    /// The connection has ended, politely or not: whether the answer is whole says its length, and where it
    /// has none many servers do not end TLS either.
    pub(super) fn ended(&mut self, inner: &mut impl Plaintext) -> Result<(), Failure> {
        if self.greets() {
            let what = if self.first.is_empty() {
                "closed the connection without a word of tls"
            } else {
                "closed the connection in the handshake of tls"
            };
            return Err(Failure::new(Class::Reset, what));
        }
        inner.ended()
    }

    fn told(&self, cause: &Error) -> Failure {
        let said = match cause {
            Error::InvalidMessage(_) if self.greets() => self.other_protocol(),
            Error::InvalidCertificate(cause) => certificate(cause, &self.host),
            Error::PeerIncompatible(_) => {
                "no version of tls (1.2 or 1.3) or no cipher that both sides speak".to_owned()
            }
            Error::AlertReceived(alert) => self.alert(*alert),
            Error::NoCertificatesPresented => "the server shows no certificate".to_owned(),
            Error::PeerMisbehaved(_) | Error::InappropriateMessage { .. } => {
                "the server breaks the rules of tls".to_owned()
            }
            Error::InappropriateHandshakeMessage { .. } | Error::InvalidMessage(_) | Error::DecryptError => {
                "the server breaks the rules of tls".to_owned()
            }
            Error::PeerSentOversizedRecord => "the server sends more at once than tls allows".to_owned(),
            other => brief(&crate::words::error::lower_first(&other.to_string())),
        };
        failed(said)
    }

    fn other_protocol(&self) -> String {
        match self.first.as_slice() {
            // Some answer a request that they cannot read with nothing but a page.
            first if first.starts_with(b"HTTP/") || first.starts_with(b"<") => {
                "the server speaks plain HTTP here; ask by http://".to_owned()
            }
            _ => "the server does not speak tls here".to_owned(),
        }
    }

    fn alert(&self, alert: AlertDescription) -> String {
        use AlertDescription as Alert;
        match alert {
            Alert::ProtocolVersion => {
                "the server speaks no version of tls that we speak (1.2, 1.3)".to_owned()
            }
            Alert::HandshakeFailure | Alert::InsufficientSecurity => {
                "the server refuses the handshake: no cipher that both sides speak, or it wants a certificate"
                    .to_owned()
            }
            Alert::CertificateRequired => "the server wants a certificate of ours (--cert)".to_owned(),
            Alert::BadCertificate
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::CertificateUnknown
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::UnsupportedCertificate
                if self.shows =>
            {
                "the server refuses our certificate".to_owned()
            }
            Alert::BadCertificate => "the server wants a certificate of ours (--cert)".to_owned(),
            Alert::UnrecognisedName => {
                format!("the server has no certificate for '{}'", brief(&self.host))
            }
            other => format!("the server refuses the handshake ({})", u8::from(other)),
        }
    }
}

/// Whether these are the first bytes of an alert or of a handshake of TLS.
pub(super) fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x15 | 0x16, 0x03, 0..=4, ..])
}

fn failed(why: String) -> Failure {
    Failure::new(Class::Tls, format!("tls: {why}"))
}

/// What is wrong with a certificate.
fn certificate(cause: &CertificateError, host: &str) -> String {
    use CertificateError as Cause;
    let since = |later: &UnixTime, earlier: &UnixTime| {
        let seconds = later.as_secs().saturating_sub(earlier.as_secs());
        span::show(Duration::from_secs(if seconds > 86_400 { seconds / 86_400 * 86_400 } else { seconds }))
    };
    match cause {
        Cause::Expired => "the certificate has expired".to_owned(),
        Cause::ExpiredContext { time, not_after } => {
            format!("the certificate has expired, {} ago", since(time, not_after))
        }
        Cause::NotValidYet => "the certificate is not valid yet".to_owned(),
        Cause::NotValidYetContext { time, not_before } => {
            format!("the certificate is not valid yet, for another {}", since(not_before, time))
        }
        Cause::NotValidForName => format!("the certificate is not for '{}'", brief(host)),
        Cause::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            let names: Vec<&str> = presented.iter().take(4).map(|name| plain(name)).collect();
            format!("the certificate is not for '{}' but for {}", brief(host), brief(&names.join(", ")))
        }
        Cause::NotValidForNameContext { .. } => {
            format!("the certificate is not for '{}': it has no such name", brief(host))
        }
        Cause::UnknownIssuer => {
            "whoever has signed the certificate is not trusted (--cacert names whom to trust)".to_owned()
        }
        Cause::Revoked => "the certificate was revoked".to_owned(),
        Cause::BadSignature => "the signature of the certificate is wrong".to_owned(),
        Cause::BadEncoding => "the certificate cannot be read".to_owned(),
        Cause::InvalidPurpose | Cause::InvalidPurposeContext { .. } => {
            "the certificate is not one for servers".to_owned()
        }
        Cause::UnsupportedSignatureAlgorithmContext { .. }
        | Cause::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the certificate is signed in a way that is not known or not safe".to_owned()
        }
        Cause::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "the certificate has signed itself, or is that of an authority, and is not trusted \
             (--cacert names whom to trust)"
                .to_owned()
        }
        Cause::Other(other) if other.to_string().contains("UnsupportedCertVersion") => {
            "the certificate is older than X.509 version 3".to_owned()
        }
        _ => "the certificate is not good".to_owned(),
    }
}

/// `DnsName("a.example")`, as the library shows it, as `a.example`.
fn plain(name: &str) -> &str {
    match name.split_once('"') {
        Some((_, rest)) => rest.trim_end_matches(['"', ')']),
        None => name.rsplit_once('(').map_or(name, |(_, rest)| rest.trim_end_matches(')')),
    }
}
