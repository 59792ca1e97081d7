//! baa-healthwait and TLS: whom it trusts, what it shows, and what it says where it does not come about.

use crate::support::{Done, Room, finish, needs, port, until};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

/// A certificate and its key, in PEM.
type Pair = (String, String);

/// A server with this certificate, that breaks off without ending TLS; it tells whether each client has shown
/// a certificate. `clients` is the authority of those, and whether others are served too.
fn server((certificate, key): &Pair, clients: Option<(&str, bool)>, answer: &str) -> (u16, Receiver<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut roots = RootCertStore::empty();
    let (own, others) = clients.unwrap_or((certificate, true));
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(own.as_bytes()).flatten());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = if others { verifier.allow_unauthenticated() } else { verifier };
    let builder = builder.with_client_cert_verifier(verifier.build().unwrap());
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes()).flatten().collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
    let (shown, seen) = channel();
    let answer = answer.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
            if matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
                let _ = shown.send(stream.conn.peer_certificates().is_some());
                let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.flush());
                let _ = stream.sock.shutdown(std::net::Shutdown::Write);
                let _ = stream.sock.read(&mut [0; 64]);
            }
        }
    });
    (port, seen)
}

const READY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready";

/// Certificates as an authority gives them out, and its own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    fn gives(&self, name: &str, change: impl Fn(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn once(room: &Room, arguments: &[&str]) -> Done {
    room.run("baa-healthwait", ["--attempts", "1"].iter().chain(arguments))
}

fn openssl(room: &Room, arguments: &str) -> Done {
    finish(Command::new("openssl").args(arguments.split_whitespace()).current_dir(room.dir.path()))
}

/// A certificate that has signed itself, as people make it.
fn self_signed(room: &Room, subject: &str, more: &str) -> Pair {
    needs("openssl");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out cert.pem";
    let done = openssl(room, &format!("req -x509 {key} -subj {subject} {more}"));
    assert_eq!(done.status, 0, "{done:?}");
    let read = |name: &str| std::fs::read_to_string(room.path(name)).unwrap();
    (read("cert.pem"), read("key.pem"))
}

#[apply(test)]
fn tls_is_verified() {
    let room = Room::new();
    let key =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let pair = (key.cert.pem(), key.signing_key.serialize_pem());
    room.write("cert.pem", &pair.0);
    room.write("key.pem", &pair.1);
    let (port, _) = server(&pair, None, READY);
    let url = format!("https://localhost:{port}/");
    once(&room, &["--cacert", &room.text("cert.pem"), "--body-contains", "ready", &url]).expect(0, "", "");
    once(&room, &["--insecure", &url]).expect(0, "", "");
    let untrusted = "tls: whoever has signed the certificate is not trusted (--cacert names whom to trust)";
    once(&room, &[&url]).failed_with(124, untrusted);
    once(&room, &["--cacert", &room.text("none"), &url]).failed_with(66, "cannot read certificates");
    once(&room, &["--cacert", &room.text("key.pem"), &url]).failed_with(65, "no PEM certificate");
}

/// For the library it is one of an authority, which no server may show.
#[apply(test)]
fn a_certificate_that_is_named_is_trusted_for_its_time_and_its_names() {
    let room = Room::new();
    let cacert = room.text("cert.pem");
    let none = "the certificate is not for '127.0.0.1' but for localhost";
    for (subject, more, here, there) in [
        // Nothing but a common name.
        ("/CN=localhost", "", "", none),
        ("/CN=other", "", "the certificate is not for 'localhost' but for other", "not for '127.0.0.1'"),
        ("/CN=localhost", "-addext subjectAltName=DNS:localhost", "", none),
        ("/CN=localhost", "-addext subjectAltName=IP:127.0.0.1", "not for 'localhost'", ""),
    ] {
        let pair = self_signed(&room, subject, more);
        let (port, _) = server(&pair, None, READY);
        for (host, wrong) in [("localhost", here), ("127.0.0.1", there)] {
            let done = once(&room, &["--cacert", &cacert, &format!("https://{host}:{port}/")]);
            if wrong.is_empty() {
                done.expect(0, "", "");
            } else {
                done.failed_with(124, wrong);
            }
        }
    }
    for (from, to, why) in [(2020, 2021, "tls: the certificate has expired"), (2090, 2091, "not valid yet")] {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let day = |year| rcgen::date_time_ymd(year, 1, 1);
        (params.not_before, params.not_after) = (day(from), day(to));
        let key = KeyPair::generate().unwrap();
        let pair = (params.self_signed(&key).unwrap().pem(), key.serialize_pem());
        room.write("cert.pem", &pair.0);
        let (port, _) = server(&pair, None, READY);
        once(&room, &["--cacert", &cacert, &format!("https://localhost:{port}/")]).failed_with(124, why);
    }
    // Another one of the same name is another one.
    let pair = self_signed(&room, "/CN=localhost", "");
    self_signed(&room, "/CN=localhost", "");
    let (port, _) = server(&pair, None, READY);
    once(&room, &["--cacert", &cacert, &format!("https://localhost:{port}/")])
        .failed_with(124, "certificate");
}

struct Openssl(Child);

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// openssl's own server, with what is in the room.
fn s_server(room: &Room, more: &str) -> (Openssl, String) {
    let port = port();
    let mut command = Command::new("openssl");
    command.args(["s_server", "-quiet", "-www", "-cert", "cert.pem", "-key", "key.pem", "-accept"]);
    command.arg(format!("127.0.0.1:{port}")).args(more.split_whitespace()).current_dir(room.dir.path());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let server = Openssl(child);
    until("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    (server, format!("https://localhost:{port}/"))
}

#[apply(test)]
fn insecure_takes_anything() {
    let room = Room::new();
    self_signed(&room, "/CN=localhost", "");
    openssl(&room, "req -new -key key.pem -subj /CN=localhost -out request.pem").expect(0, "", "");
    // Older ones make version 1 by themselves.
    if openssl(&room, "x509 -req -in request.pem -x509v1 -signkey key.pem -out cert.pem").status != 0 {
        assert_eq!(openssl(&room, "x509 -req -in request.pem -signkey key.pem -out cert.pem").status, 0);
    }
    let shown = openssl(&room, "x509 -in cert.pem -noout -text").stdout;
    assert!(shown.contains("Version: 1 "), "{shown}");
    for version in ["-tls1_2", "-tls1_3"] {
        let (_server, url) = s_server(&room, version);
        once(&room, &["--insecure", &url]).expect(0, "", "");
        once(&room, &["--insecure", "--body-contains", "s_server", &url]).expect(0, "", "");
        once(&room, &["--cacert", &room.text("cert.pem"), &url])
            .failed_with(124, "older than X.509 version 3");
    }
}

#[apply(test)]
fn our_certificate_is_shown_to_whom_it_is_for() {
    let (room, authority) = (Room::new(), Authority::new("an authority"));
    let (ours, theirs) = (authority.gives("client", |_| ()), authority.gives("localhost", |_| ()));
    room.write("ca.pem", &authority.pem);
    room.write("client.pem", &ours.0);
    room.secret("client.key", &ours.1);
    room.secret("both.pem", &(ours.0.clone() + &ours.1));
    room.secret("their.key", &theirs.1);
    let (ca, cert, key) = (room.text("ca.pem"), room.text("client.pem"), room.text("client.key"));
    let (port, seen) = server(&theirs, Some((&authority.pem, false)), READY);
    let url = format!("https://localhost:{port}/");
    once(&room, &["--cacert", &ca, &url])
        .failed_with(124, "tls: the server wants a certificate of ours (--cert)");
    once(&room, &["--cacert", &ca, "--cert", &cert, "--key", &key, &url]).expect(0, "", "");
    once(&room, &["--cacert", &ca, "--cert", &room.text("both.pem"), &url]).expect(0, "", "");
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [true, true]);
    // Whoever leads elsewhere is not the one whom it is shown to.
    let (other, elsewhere) = server(&theirs, Some((&authority.pem, true)), READY);
    let there =
        format!("HTTP/1.1 302 x\r\nLocation: https://localhost:{other}/\r\nContent-Length: 0\r\n\r\n");
    let (first, here) = server(&theirs, Some((&authority.pem, true)), &there);
    let url = format!("https://localhost:{first}/");
    once(&room, &["--cacert", &ca, "--cert", &cert, "--key", &key, &url]).expect(0, "", "");
    assert_eq!((here.try_iter().collect(), elsewhere.try_iter().collect()), (vec![true], vec![false]));
    let stranger = Authority::new("another").gives("client", |_| ());
    room.write("stranger.pem", &stranger.0);
    room.secret("stranger.key", &stranger.1);
    let stranger = ["--cert", &room.text("stranger.pem"), "--key", &room.text("stranger.key")];
    let url = format!("https://localhost:{port}/");
    once(&room, &[&["--cacert", &ca, &url][..], &stranger].concat())
        .failed_with(124, "tls: the server refuses our certificate");
    let unusable = |key: &str, status: i32, why: &str| {
        once(&room, &["--cert", &cert, "--key", &room.text(key), &url]).failed_with(status, why);
    };
    unusable("none", 66, "cannot read a key from");
    room.secret("no.key", &authority.pem);
    unusable("no.key", 65, "no PEM private key in it");
    unusable("their.key", 65, "it is not that of the certificate");
    room.write("open.key", &ours.1);
    unusable("open.key", 78, "others");
    once(&room, &["--cert", &room.text("no.key"), &url]).failed_with(65, "no PEM private key in it");
    once(&room, &["--cert", &room.text("none"), &url]).failed_with(66, "cannot read a certificate from");
    once(&room, &["--key", &key, &url]).failed_with(2, "--cert");
}

/// Many servers break off where they should end TLS. What is whole is whole.
#[apply(test)]
fn an_answer_is_as_long_as_it_says() {
    let (room, authority) = (Room::new(), Authority::new("an authority"));
    room.write("ca.pem", &authority.pem);
    let theirs = authority.gives("localhost", |_| ());
    for (answer, status, why) in [
        (READY, 0, ""),
        ("HTTP/1.1 200 OK\r\n\r\nready", 0, ""),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nready\r\n0\r\n\r\n", 0, ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nrea", 124, "in the body of its answer"),
        ("HTTP/1.1 200 OK\r\nContent-", 124, "in the head of its answer"),
        ("", 124, "closed the connection without an answer"),
    ] {
        let (port, _) = server(&theirs, None, answer);
        let url = format!("https://localhost:{port}/");
        let done = once(&room, &["--cacert", &room.text("ca.pem"), "--body-contains", "ready", &url]);
        assert!(done.status == status && done.stderr.contains(why), "{answer:?} {done:?}");
    }
}

#[apply(test)]
fn what_is_wrong_with_tls_is_said_in_words() {
    let (room, authority) = (Room::new(), Authority::new("an authority"));
    room.write("ca.pem", &authority.pem);
    let ca = room.text("ca.pem");
    let day = rcgen::date_time_ymd;
    let expired = authority.gives("localhost", |params| params.not_after = day(2021, 1, 1));
    let early = authority.gives("localhost", |params| params.not_before = day(2090, 1, 1));
    let other = authority.gives("other.example", |_| ());
    let stranger = Authority::new("another").gives("localhost", |_| ());
    for (pair, why) in [
        (&expired, "tls: the certificate has expired, "),
        (&early, "tls: the certificate is not valid yet, for another "),
        (&other, "tls: the certificate is not for 'localhost' but for other.example"),
        (&stranger, "tls: whoever has signed the certificate is not trusted (--cacert names whom to trust)"),
    ] {
        let (port, _) = server(pair, None, READY);
        once(&room, &["--cacert", &ca, &format!("https://localhost:{port}/")]).failed_with(124, why);
    }
    self_signed(&room, "/CN=localhost", "");
    let cases = [
        (
            "-tls1_1 -cipher ALL@SECLEVEL=0",
            "tls: the server speaks no version of tls that we speak (1.2, 1.3)",
        ),
        (
            "-tls1_2 -cipher AES128-SHA",
            "tls: the server refuses the handshake: no cipher that both sides speak",
        ),
        ("-tls1_3 -Verify 1", "tls: the server wants a certificate of ours (--cert)"),
    ];
    for (more, why) in cases {
        let (_server, url) = s_server(&room, more);
        once(&room, &["--insecure", &url]).failed_with(124, why);
    }
}
