//! baa-healthwait: what is not what it seems, at the port of a server or of a name server. Each wait ends in
//! time, with a plain sentence, and takes little memory.

use crate::support::{Done, Room, collect, port};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// All that are asked: the scheme, and what it is called.
const SERVERS: [(&str, &str); 7] = [
    ("postgres", "PostgreSQL"),
    ("mysql", "MySQL"),
    ("redis", "Redis"),
    ("mongodb", "MongoDB"),
    ("amqp", "AMQP"),
    ("kafka", "Kafka"),
    ("grpc", "gRPC"),
];

/// Serves each connection by `serve`, for as long as the test runs.
fn liar(serve: impl Fn(TcpStream) + Send + Sync + Copy + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

/// Runs it until it ends, and says how much memory it had at most, in KiB.
fn measured(room: &Room, arguments: &[&str]) -> (Done, u64) {
    let mut command = room.command("baa-healthwait");
    command.args(arguments).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let path = format!("/proc/{}/status", child.id());
    let watch = std::thread::spawn(move || {
        let mut most = 0;
        // A zombie has no memory any more.
        while let Some(now) = std::fs::read_to_string(&path).ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        }) {
            most = most.max(now);
            std::thread::sleep(Duration::from_millis(2));
        }
        most
    });
    let done = collect(child);
    (done, watch.join().unwrap())
}

fn sink(mut stream: TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

fn drip(mut stream: TcpStream) {
    while stream.write_all(b"\0").is_ok() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn endless<const BYTE: u8>(mut stream: TcpStream) {
    while stream.write_all(&[BYTE; 65536]).is_ok() {}
}

fn echo(mut stream: TcpStream) {
    let mut room = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut room) {
        let _ = stream.write_all(&room[..count]);
    }
}

fn http(mut stream: TcpStream) {
    let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    sink(stream);
}

/// A beginning that is right, and a length or a number of parts that never ends.
fn huge(mut stream: TcpStream) {
    let mut heard = [0; 64];
    // Each is told from what it says first; one that says nothing is MySQL.
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let count = stream.read(&mut heard).unwrap_or(0);
    let (begin, more): (&[u8], &[u8]) = match &heard[..count] {
        [] => (b"\xff\xff\xff\0\x0a", b"x"),
        [b'*', ..] => (b"+PONG", b"G"),
        [b'A', ..] => (b"AMQ", b"Q"),
        [b'P', b'R', ..] => (b"\0\0\0\x04\0\0\0\0\0", b"\0\0\x01\x04\0\0\0\0\0x"),
        [_, 0, 0, 0, b'b', ..] => (b"\xff\xff\xff\x7f", b"y"),
        [0, 0, 0, _, 0, 18, ..] => (b"\x7f\xff\xff\xff", b"z"),
        _ => (b"N\0\0\0\x06SX", b"\0N\0\0\0\x05S"),
    };
    let _ = stream.write_all(begin);
    let more = more.repeat(1000);
    while stream.write_all(&more).is_ok() {}
}

#[apply(test)]
fn no_liar_is_ready_or_holds_it_up_or_fills_it() {
    let room = Room::new();
    let nobody = port();
    for (scheme, name) in SERVERS {
        let url = format!("{scheme}://127.0.0.1:{nobody}");
        let (_, idle) = measured(&room, &["--attempts", "3", "--delay", "40ms", &url]);
        let not = format!("the answer is not {name}");
        let closes = "closed the connection without an answer".to_owned();
        let too_much = "said more than 65536 bytes".to_owned();
        let silent = || ("300ms", vec!["no answer in time".to_owned()]);
        // What is plain is told at once, however long there is.
        let plain = |words: &[&String]| ("30s", words.iter().map(|words| (*words).clone()).collect());
        for (liar, (patience, words)) in [
            (liar(drop), plain(&[&closes, &"reset".to_owned()])),
            (liar(sink), silent()),
            (liar(drip), plain(&[&not])),
            (liar(endless::<0>), plain(&[&not])),
            (liar(endless::<255>), plain(&[&not])),
            (liar(endless::<b'*'>), plain(&[&not])),
            (liar(http), plain(&[&format!("{not}, but HTTP")])),
            // MySQL says nothing that could be said again.
            (liar(echo), if scheme == "mysql" { silent() } else { plain(&[&not]) }),
            (liar(huge), plain(&[&not, &too_much, &"reset".to_owned()])),
        ] {
            let url = format!("{scheme}://{liar}");
            let began = Instant::now();
            let (done, most) =
                measured(&room, &["--attempts", "3", "--delay", "40ms", "--probe-timeout", patience, &url]);
            // Generous, for what is late is the machine; three probes that take all their time are later.
            assert!(began.elapsed() < Duration::from_secs(60), "{url}: {done:?}");
            assert_eq!((done.status, done.stdout.as_str()), (124, ""), "{url}: {done:?}");
            assert!(words.iter().any(|words| done.stderr.contains(words.as_str())), "{words:?}: {done:?}");
            assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
            assert!(most <= idle + 1024, "{url}: {most} KiB, and {idle} KiB where nobody is");
        }
    }
}

/// A model of Kafka and of MongoDB: what the question is, byte by byte, and the answer.
#[apply(test)]
fn what_cannot_be_had_is_asked_as_its_protocol_says() {
    fn kafka(mut stream: TcpStream) {
        let mut heard = [0; 28];
        stream.read_exact(&mut heard).unwrap();
        if &heard == b"\0\0\0\x18\0\x12\0\0baa\0\0\x0ebaa-healthwait" {
            // One question that it knows: ApiVersions, 0 to 3.
            stream.write_all(b"\0\0\0\x10baa\0\0\0\0\0\0\x01\0\x12\0\0\0\x03").unwrap();
        }
        sink(stream);
    }
    fn mongodb(mut stream: TcpStream) {
        let mut heard = [0; 52];
        stream.read_exact(&mut heard).unwrap();
        let document: &[u8] = b"\x1f\0\0\0\x10hello\0\x01\0\0\0\x02$db\0\x06\0\0\0admin\0\0";
        if heard[..4] == 52u32.to_le_bytes()
            && heard[12..21] == *b"\xdd\x07\0\0\0\0\0\0\0"
            && heard[21..] == *document
        {
            let document = b"\x25\0\0\0\x08isWritablePrimary\0\x01\x01ok\0\0\0\0\0\0\0\xf0\x3f\0";
            let size = u32::try_from(21 + document.len()).unwrap().to_le_bytes();
            let head = [&size, &[9, 0, 0, 0][..], &heard[4..8], &heard[12..16], &[0; 5]].concat();
            stream.write_all(&[&head, &document[..]].concat()).unwrap();
        }
        sink(stream);
    }
    let room = Room::new();
    room.run("baa-healthwait", [format!("kafka://{}", liar(kafka))]).expect(0, "", "");
    let url = format!("mongodb://me:hunter2@{}/db?replicaSet=x&writable=1", liar(mongodb));
    room.run("baa-healthwait", [url]).expect(0, "", "");
}

#[apply(test)]
fn a_server_is_named_without_its_secrets() {
    let room = Room::new();
    for (url, shown) in [
        ("redis://me:hunter2@127.0.0.1:1/?key=x", "redis://***@127.0.0.1:1/?key=x"),
        (
            "postgres://127.0.0.1:1/db?password=hunter2&writable=1",
            "postgres://127.0.0.1:1/db?password=***&writable=1",
        ),
    ] {
        let done = room.run("baa-healthwait", ["--attempts", "1", "--json", url]);
        assert_eq!(done.json()["targets"][0]["target"].as_str(), Some(shown));
        assert!(!format!("{done:?}").contains("hunter2"), "{done:?}");
        room.run("baa-healthwait", ["-n", url]).expect(
            0,
            "",
            &format!("baa-healthwait: would wait for {shown}\n"),
        );
    }
    for (url, why) in [
        ("redis://:hunter2@h/?kee=hunter2", "'kee' is unknown here"),
        ("postgres://u:hunter2@h:0/", "'0' is not a port"),
        ("grpc://h", "it has no port"),
        ("mongodb+srv://u:hunter2@h/", "unknown scheme"),
        ("dns:host?tipe=A", "'tipe' is unknown here"),
        ("dns:host?type=PTR", "type is A, AAAA, CNAME, MX, NS, TXT or SRV"),
    ] {
        let done = room.run("baa-healthwait", [url]);
        done.failed_with(2, why);
        assert!(!done.stderr.contains("hunter2"), "{done:?}");
    }
    let done = room.run("baa-healthwait", ["--served-by", "1", "dns:host?type=A"]);
    done.failed_with(2, "cannot tell which process answers");
}

/// What is answered to a question.
type Lie = fn(&[u8]) -> Vec<Vec<u8>>;

/// A name server that lies: each answer is made of the question.
fn name_server(answer: Lie) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut room = [0; 512];
        while let Ok((count, from)) = socket.recv_from(&mut room) {
            for answer in answer(&room[..count]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    address
}

/// The question as an answer with these flags, one record, and this after it.
fn answered(asked: &[u8], flags: [u8; 2], more: &[u8]) -> Vec<u8> {
    let mut heard = asked.to_vec();
    heard[2..4].copy_from_slice(&flags);
    heard[7] = 1;
    heard.extend(more);
    heard
}

const RECORD: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01";

#[apply(test)]
fn no_name_server_that_lies_is_believed() {
    let room = Room::new();
    let silent = "no answer in time (asking for x.test)";
    let breaks = "the answer of the name server breaks the rules of DNS";
    let liars: [(Lie, &str); 8] = [
        (|_| Vec::new(), silent),
        (|asked| vec![asked.to_vec()], silent),
        // Another id; another question.
        (|asked| vec![answered(&[&[!asked[0]], &asked[1..]].concat(), [0x81, 0x80], RECORD)], silent),
        (|asked| vec![answered(&[&asked[..13], b"Q", &asked[14..]].concat(), [0x81, 0x80], RECORD)], silent),
        // A name that leads to itself; a record that is cut; many that are not there.
        (|asked| vec![answered(asked, [0x81, 0x80], &[0xc0, u8::try_from(asked.len()).unwrap()])], breaks),
        (|asked| vec![answered(asked, [0x81, 0x80], &RECORD[..14])], breaks),
        (|asked| vec![answered(asked, [0x81, 0x80], b"")], breaks),
        (|asked| vec![asked.to_vec(); 200], "answers what was not asked"),
    ];
    for (answer, words) in liars {
        let server = name_server(answer);
        let target = format!("dns:x.test?server={server}");
        let arguments = ["--attempts", "1", "--probe-timeout", "300ms", &target];
        room.run("baa-healthwait", arguments).failed_with(124, words);
    }
    // One that is lost is asked for again, and a lie before the truth is not heard.
    static LOST: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let server = name_server(|asked| {
        if !LOST.swap(true, std::sync::atomic::Ordering::SeqCst) {
            return Vec::new();
        }
        let lie = answered(&[&[!asked[0]], &asked[1..]].concat(), [0x81, 0x80], RECORD);
        vec![lie, answered(asked, [0x81, 0x80], RECORD)]
    });
    let target = format!("dns:x.test?server={server}&equals=192.0.2.1");
    let done = room.run("baa-healthwait", ["--json", "--timeout", "30s", "--probe-timeout", "30s", &target]);
    let json = done.json();
    assert_eq!((done.status, json["targets"][0]["attempts"].as_u64()), (0, Some(1)), "{done:?}");
}
