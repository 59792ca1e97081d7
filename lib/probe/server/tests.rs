//! Conversations without a socket: each protocol hears what a good server says, byte for byte, cut at each
//! byte, and rubbish.

use super::{Class, Failure, HEARD_LIMIT, HandshakeStep, Server, ServerUrl, Trust};
use crate::probe::demand::Demand;

/// What a talk came to: an end, or the bytes that were heard without one.
type Outcome = Result<Result<(), Failure>, usize>;

fn server(url: &str) -> Server {
    let url = ServerUrl::parse(url).unwrap();
    Server { url, trust: Trust::default(), headers: Vec::new(), demand: Demand::default() }
}

/// Says `heard` to it in parts of `part` bytes, whatever it says itself.
fn talk(server: &Server, heard: &[u8], part: usize) -> Outcome {
    let mut handshake = server.handshake();
    handshake.begin();
    let mut open = Vec::new();
    for part in heard.chunks(part) {
        open.extend_from_slice(part);
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps <= HEARD_LIMIT, "it takes nothing, and wants no more");
            match handshake.hear(&open) {
                HandshakeStep::More | HandshakeStep::Encrypt(_) => break,
                HandshakeStep::Say { taken, .. } => {
                    assert!(taken > 0 && taken <= open.len(), "{taken} of {}", open.len());
                    open.drain(..taken);
                }
                HandshakeStep::End(outcome, _) => return Ok(outcome),
            }
        }
    }
    Err(open.len())
}

/// Lets every protocol hear it, whole and byte by byte.
pub(crate) fn hear(heard: &[u8]) {
    thread_local! {
        static SERVERS: Vec<Server> = good().iter().map(|(url, _)| server(url)).collect();
    }
    SERVERS.with(|servers| {
        for server in servers {
            let whole = talk(server, heard, heard.len().max(1));
            // Where it is cut changes nothing, but for what must come alone.
            assert_eq!(talk(server, heard, 1).is_ok(), whole.is_ok(), "{}", server.url);
        }
    });
}

/// A message of PostgreSQL.
fn postgres(kind: u8, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind], &size[..], body].concat()
}

/// A packet of MySQL.
fn mysql(number: u8, body: &[u8]) -> Vec<u8> {
    [&[u8::try_from(body.len()).unwrap(), 0, 0, number], body].concat()
}

/// An answer of MongoDB to our question, of these elements of BSON.
fn mongodb(elements: &[&[u8]]) -> Vec<u8> {
    let elements = elements.concat();
    let number = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let document = [&number(elements.len() + 5)[..], &elements, &[0]].concat();
    let head = [7, 0x6261_6100, 2013, 0].map(|word: u32| word.to_le_bytes()).concat();
    [&number(4 + head.len() + 1 + document.len())[..], &head, &[0], &document].concat()
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, body: &[u8]) -> Vec<u8> {
    [&[0, 0, u8::try_from(body.len()).unwrap(), kind, flags, 0, 0, 0, stream], body].concat()
}

/// A whole answer of gRPC: its settings, a head, a health, and trailers.
fn grpc(health: &[u8], status: &[u8]) -> Vec<u8> {
    let message = [&[0, 0, 0, 0, u8::try_from(health.len()).unwrap()], health].concat();
    let trailer = [&[0x40, 11][..], b"grpc-status", &[u8::try_from(status.len()).unwrap()], status].concat();
    [
        frame(4, 0, 0, &[]),
        frame(4, 1, 0, &[]),
        frame(6, 0, 0, b"12345678"),
        frame(8, 0, 0, &[0, 0, 1, 0]),
        frame(1, 4, 1, &[0x20, 0x88]),
        frame(0, 8, 1, &[&[2], &message[..], &[0, 0]].concat()),
        // Trailers in two parts.
        frame(1, 1, 1, &trailer[..5]),
        frame(9, 4, 1, &trailer[5..]),
    ]
    .concat()
}

const YES: &[u8] = b"\x08isWritablePrimary\0\x01";
const NO: &[u8] = b"\x08isWritablePrimary\0\0";
const OK: &[u8] = b"\x01ok\0\0\0\0\0\0\0\xf0\x3f";
const NOT_OK: &[u8] = b"\x01ok\0\0\0\0\0\0\0\0\0";

/// What is ready: who is asked, and what it says.
fn good() -> Vec<(&'static str, Vec<u8>)> {
    let login = postgres(b'R', &[0, 0, 0, 5, 1, 2, 3, 4]);
    let entered = [
        postgres(b'N', b"SNOTICE\0\0"),
        postgres(b'R', &[0; 4]),
        postgres(b'S', b"in_hot_standby\0off\0"),
        postgres(b'K', &[0; 8]),
        postgres(b'Z', b"I"),
    ];
    let greeting = b"\x0a5.5.5-10.11\0\x01\0\0\0abcdefgh\0\0\0mysql_native_password\0";
    vec![
        ("postgres://h", login),
        ("postgres://h/?writable=1", entered.concat()),
        ("postgres://h", postgres(b'E', b"SFATAL\0C28P01\0Mno\0\0")),
        ("postgres://h", postgres(b'E', b"SFATAL\0C3D000\0Mno\0\0")),
        ("mysql://h", mysql(0, greeting)),
        ("mysql://u@h/db", [mysql(0, greeting), mysql(2, &[0xfe]), mysql(4, &[0, 0, 0])].concat()),
        ("mysql://u@h", [mysql(0, greeting), mysql(2, b"\xff\x15\x04#28000no")].concat()),
        ("redis://h", b"+PONG\r\n".to_vec()),
        ("redis://h", b"-NOAUTH Authentication required.\r\n".to_vec()),
        ("redis://:p@h/1?key=k&writable=1", b"+OK\r\n+PONG\r\n+OK\r\n:1\r\n*3\r\n$6\r\nmaster\r\n".to_vec()),
        ("mongodb://h/?writable=1", mongodb(&[b"\x03topologyVersion\0\x05\0\0\0\0", YES, OK])),
        ("mongodb://h", mongodb(&[NO, b"\x08secondary\0\x01", OK])),
        ("mongodb://h/?writable=1", mongodb(&[NO, b"\x02msg\0\x09\0\0\0isdbgrid\0", OK])),
        ("amqp://h", b"\x01\0\0\0\0\x01\0\0\x0a\0\x0a".to_vec()),
        ("amqp://h", b"AMQP\x03\x01\0\0".to_vec()),
        ("kafka://h", b"\0\0\0\x0abaa\0\0\0".to_vec()),
        ("kafka://h", b"\0\0\0\x0abaa\0\0\x23".to_vec()),
        ("grpc://h:1/s", grpc(&[8, 1], b"0")),
        ("grpc://h:1/s", grpc(&[8, 2, 0x12, 1, 9, 8, 0x81, 0], b"0")),
    ]
}

#[test]
fn what_is_ready_is_told_by_its_last_byte_and_not_before() {
    for (url, heard) in good() {
        let server = server(url);
        for part in [1, 3, heard.len()] {
            assert_eq!(talk(&server, &heard, part), Ok(Ok(())), "{url} in parts of {part}: {heard:?}");
        }
        for cut in 0..heard.len() {
            let outcome = talk(&server, &heard[..cut], cut.max(1));
            assert!(outcome.is_err(), "{url} at {cut}: {outcome:?}");
        }
    }
}

#[test]
fn what_is_not_ready_says_why() {
    let error = |state: &str, text: &str| postgres(b'E', format!("SF\0C{state}\0M{text}\0\0").as_bytes());
    let refusal =
        |code: u16, text: &str| mysql(0, &[&[0xff], &code.to_le_bytes()[..], text.as_bytes()].concat());
    let code = |code: u8| [b"\x10code\0", &[code, 0, 0, 0][..]].concat();
    let standby = [postgres(b'R', &[0; 4]), postgres(b'S', b"in_hot_standby\0on\0"), postgres(b'Z', b"I")];
    let late_head = frame(1, 5, 1, b"\x88\x40\x0bgrpc-status\x010");
    for (url, heard, class, words) in [
        ("postgres://h", error("57P03", "starting up"), Class::NotReady, "starting up (57P03)"),
        ("postgres://h", error("53300", "too many"), Class::Busy, "too many (53300)"),
        ("postgres://h/db", error("3D000", "no db"), Class::NotReady, "no db"),
        ("postgres://h/?writable=1", standby.concat(), Class::ReadOnly, "hot standby"),
        ("postgres://h/?writable=1", postgres(b'R', &[0, 0, 0, 10]), Class::NotPermitted, "login"),
        ("postgres://h", b"Ecould not fork\n\0".to_vec(), Class::Busy, "could not fork"),
        ("postgres://h/?sslmode=require", b"N".to_vec(), Class::Tls, "no TLS"),
        // More than the one byte, before all is encrypted: a stranger has said it.
        ("postgres://h/?sslmode=require", b"SX".to_vec(), Class::Protocol, "not PostgreSQL"),
        ("mysql://h", refusal(1040, "Too many"), Class::Busy, "Too many (1040)"),
        ("mysql://h", refusal(1129, "blocked"), Class::NotPermitted, "blocked (1129)"),
        ("mysql://h", refusal(1053, "going"), Class::NotReady, "going (1053)"),
        ("redis://h", b"-LOADING it\r\n".to_vec(), Class::NotReady, "LOADING it"),
        ("redis://h?key=k", b"-NOAUTH x\r\n".to_vec(), Class::NotPermitted, "NOAUTH"),
        ("redis://h?key=k", b"+PONG\r\n:0\r\n".to_vec(), Class::Down, "no key 'k'"),
        ("redis://h?writable", b"+PONG\r\n*5\r\n$5\r\nslave\r\n".to_vec(), Class::ReadOnly, "replica"),
        ("redis://h", b"-DENIED x\r\n".to_vec(), Class::NotPermitted, "DENIED"),
        ("mongodb://h", mongodb(&[NO, OK]), Class::NotReady, "neither primary nor secondary"),
        ("mongodb://h", mongodb(&[&code(91), NOT_OK]), Class::NotReady, "(91)"),
        ("mongodb://h/?writable=1", mongodb(&[NO, b"\x08secondary\0\x01", OK]), Class::ReadOnly, "secondary"),
        ("amqp://h", b"AMQP\0\0\x09\x01".to_vec(), Class::Protocol, "not AMQP"),
        ("amqp://h", b"\x01\0\0\0\0\x01\0\0\x0a\0\x32".to_vec(), Class::Busy, "connection.close"),
        ("kafka://h", b"\0\0\0\x0abaa\0\0\x01".to_vec(), Class::NotReady, "error 1"),
        // What it was asked, and not what it was asked for.
        ("kafka://h", b"\0\0\0\x18\0\x12\0\0baa\0".to_vec(), Class::Protocol, "not Kafka"),
        ("grpc://h:1", grpc(&[8, 2], b"0"), Class::NotReady, "NOT_SERVING"),
        ("grpc://h:1", grpc(&[], b"0"), Class::Other, "(UNKNOWN)"),
        // Of a field that comes twice the last one counts.
        ("grpc://h:1", grpc(&[8, 1, 8, 2], b"0"), Class::NotReady, "NOT_SERVING"),
        ("grpc://h:1", grpc(&[8, 1, 0x12, 2, 8], b"0"), Class::Protocol, "not gRPC"),
        (
            "grpc://h:1",
            [frame(4, 0, 0, &[]), frame(0, 0, 1, &[0, 0, 0, 0, 2, 8, 1]), late_head].concat(),
            Class::Protocol,
            "not gRPC",
        ),
        ("grpc://h:1", grpc(&[], b"12"), Class::Other, "UNIMPLEMENTED"),
        ("grpc://h:1", grpc(&[], b"16"), Class::NotPermitted, "UNAUTHENTICATED"),
        (
            "grpc://h:1",
            [frame(4, 0, 0, &[]), frame(1, 5, 1, &[0x8d])].concat(),
            Class::Status,
            "answered 404, which is not gRPC",
        ),
        ("grpc://h:1", [frame(4, 0, 0, &[]), frame(1, 5, 1, &[0xbe])].concat(), Class::Protocol, "not gRPC"),
        ("grpc://h:1", [frame(4, 0, 0, &[]), frame(7, 0, 0, &[0; 8])].concat(), Class::NotReady, "goodbye"),
    ] {
        match talk(&server(url), &heard, 2) {
            Ok(Err(failure)) => {
                assert_eq!(failure.class, class, "{url}: {failure}");
                assert!(failure.text.contains(words), "{url}: {failure}");
            }
            other => panic!("{url}: {other:?}"),
        }
    }
}

/// Numbers that look like chance, and are the same each time.
fn chance(seed: &mut u64) -> u8 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    seed.to_be_bytes()[0]
}

/// No rubbish breaks it, and what is good but for one byte neither.
#[test]
fn rubbish_is_borne() {
    let mut seed = 14;
    for (url, heard) in good() {
        let server = server(url);
        for at in 0..heard.len() {
            for _ in 0..20 {
                let mut heard = heard.clone();
                heard[at] = chance(&mut seed);
                let _ = talk(&server, &heard, 7);
            }
        }
        for size in 0..200 {
            let heard: Vec<u8> = (0..size).map(|_| chance(&mut seed)).collect();
            let _ = talk(&server, &heard, 50);
        }
        for byte in [0, 1, 0x0a, 0x7f, 0x80, 0xff] {
            let _ = talk(&server, &[byte; 2000], 2000);
        }
    }
}

#[test]
fn other_protocols_are_told_at_once() {
    for url in
        ["postgres://h", "redis://h", "amqp://h", "kafka://h", "mongodb://h", "grpc://h:1", "mysql://h"]
    {
        for heard in
            [&b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n"]
        {
            match talk(&server(url), heard, heard.len()) {
                Ok(Err(failure)) => assert_eq!(failure.class, Class::Protocol, "{url}"),
                other => panic!("{url}: {other:?}"),
            }
        }
    }
}
