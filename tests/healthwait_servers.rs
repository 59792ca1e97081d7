//! baa-healthwait: real servers of databases, queues, gRPC and DNS, in the states that they can be brought
//! into.

use crate::support::servers::{Postgres, RealServer, mariadb, python, rabbitmq, redis};
use crate::support::{Done, Room, needs, port, signal, until};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Waits until it is ready.
fn ready(room: &Room, target: &str) {
    room.run("baa-healthwait", ["--timeout", "60s", target]).expect(0, "", "");
}

/// Waits until one probe fails for this reason and in this class.
#[track_caller]
fn fails(room: &Room, target: &str, words: &str, class: &str) -> Done {
    let done = room.run("baa-healthwait", ["--attempts", "1", "--json", target]);
    let last = &done.json()["targets"][0]["last_error"];
    assert_eq!((done.status, last["class"].as_str()), (124, Some(class)), "{target}: {done:?}");
    assert!(last["text"].as_str().unwrap().contains(words), "{target}: {done:?}");
    done
}

/// Waits until a probe fails for this reason and in this class.
#[track_caller]
fn comes_to(room: &Room, target: &str, words: &str, class: &str) {
    until(words, || {
        let json = room.run("baa-healthwait", ["--attempts", "1", "--json", target]).json();
        let last = &json["targets"][0]["last_error"];
        last["class"] == class && last["text"].as_str().unwrap().contains(words)
    });
}

#[apply(test)]
fn redis_is_ready_when_it_says_pong() {
    let (room, port) = (Room::new(), port());
    let url = format!("redis://127.0.0.1:{port}");
    let server = redis(&room, port, &["--maxclients", "2"]);
    ready(&room, &url);
    ready(&room, &format!("{url}?writable=1"));
    room.run("baa-healthwait", ["--served-by", &server.pid().to_string(), &url]).expect(0, "", "");
    fails(&room, &format!("{url}?key=job%3A1"), "there is no key 'job:1'", "down");
    let absent = format!("{url}?key=job%3A1");
    room.run("baa-healthwait", ["--invert", &absent]).expect(0, "", "");
    fails(&room, &format!("redis://:hunter2@127.0.0.1:{port}"), "without any password", "not-permitted");
    // Only who has been answered is in.
    let enter = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        until("it is in", || {
            let mut word = [0; 7];
            let said = stream.write_all(b"PING\r\n").and_then(|()| stream.read_exact(&mut word));
            let is_in = said.is_ok() && word == *b"+PONG\r\n";
            if !is_in {
                stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            }
            is_in
        });
        stream
    };
    let fillers = [enter(), enter()];
    comes_to(&room, &url, "the server says: ERR max number of clients reached", "busy");
    drop(fillers);
    ready(&room, &url);
}

#[apply(test)]
fn redis_with_a_password_is_ready_and_its_key_takes_the_password() {
    let (room, port) = (Room::new(), port());
    let _server = redis(&room, port, &["--requirepass", "hunter2"]);
    ready(&room, &format!("redis://127.0.0.1:{port}"));
    ready(&room, &format!("redis://:hunter2@127.0.0.1:{port}"));
    let key = format!("redis://127.0.0.1:{port}/3?key=k");
    fails(&room, &key, "NOAUTH Authentication required", "not-permitted");
    let wrong = format!("redis://:hunter3@127.0.0.1:{port}");
    let done = fails(&room, &wrong, "WRONGPASS", "not-permitted");
    assert!(!format!("{done:?}").contains("hunter3"), "{done:?}");
    let named = format!("{key}&password-env=PW");
    let mut command = room.command("baa-healthwait");
    let done = command.args(["--attempts", "1", &named]).env("PW", "hunter2").output().unwrap();
    let words = String::from_utf8(done.stderr).unwrap();
    assert!(words.contains("there is no key 'k'") && !words.contains("hunter2"), "{words}");
}

#[apply(test)]
fn redis_that_loads_or_follows_says_so() {
    let (room, port, follower) = (Room::new(), port(), port());
    let url = format!("redis://127.0.0.1:{port}");
    let talk = |words: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(format!("{words}\r\n").as_bytes()).unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
    };
    let debug = ["--enable-debug-command", "yes"];
    let server = redis(&room, port, &debug);
    ready(&room, &url);
    let _replica =
        redis(&room, follower, &["--replicaof", "127.0.0.1", &port.to_string(), "--dbfilename", "r"]);
    let replica = format!("redis://127.0.0.1:{follower}");
    ready(&room, &replica);
    fails(&room, &format!("{replica}?writable=1"), "the server is a replica", "read-only");
    talk("DEBUG POPULATE 1000 k 1000");
    talk("SAVE");
    drop(server);
    // Ten milliseconds for each key.
    let slow = ["--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024"];
    let _server = redis(&room, port, &slow);
    comes_to(&room, &url, "the server says: LOADING Redis is loading the dataset in memory", "not-ready");
}

#[apply(test)]
fn postgres_is_ready_when_it_takes_connections() {
    let room = Room::new();
    let cluster = Postgres::new(&room);
    let url = format!("postgres://127.0.0.1:{}", cluster.port);
    let server = cluster.start();
    ready(&room, &url);
    ready(&room, &format!("postgresql://127.0.0.1:{}/postgres?writable=1&pool=3", cluster.port));
    ready(&room, &format!("postgres:///?host={}&port={}", cluster.data.display(), cluster.port));
    // No role of that name, and no database: the first is a question of logging in.
    ready(&room, &format!("postgres://nobody:hunter2@127.0.0.1:{}", cluster.port));
    let words = "the server says: database \"none\" does not exist (3D000)";
    fails(&room, &format!("{url}/none"), words, "not-ready");
    fails(&room, &format!("{url}?sslmode=require"), "the server speaks no TLS", "tls");
    room.run("baa-healthwait", ["--served-by", &server.pid().to_string(), &url]).expect(0, "", "");
    let mut fillers: Vec<_> = (0..5).map(|_| cluster.session("select pg_sleep(1000)")).collect();
    comes_to(&room, &url, "(53300)", "busy");
    // It waits for its sessions, and takes no new ones.
    signal(server.pid(), Signal::SIGTERM);
    until("it is told to go", || cluster.says("rejecting"));
    for filler in &mut fillers[1..] {
        filler.kill().unwrap();
    }
    let words = "the server says: the database system is shutting down (57P03)";
    comes_to(&room, &url, words, "not-ready");
    for mut filler in fillers {
        let _ = filler.kill();
        filler.wait().unwrap();
    }
}

#[apply(test)]
fn postgres_that_starts_or_stands_by_says_so() {
    let room = Room::new();
    let cluster = Postgres::new(&room);
    let url = format!("postgres://127.0.0.1:{}", cluster.port);
    let first = cluster.start();
    ready(&room, &url);
    first.stop();
    std::fs::write(cluster.data.join("standby.signal"), "").unwrap();
    let standby = cluster.start();
    ready(&room, &url);
    let why = "the server is a hot standby, in recovery: it takes no writes";
    fails(&room, &format!("{url}?writable=1"), why, "read-only");
    standby.stop();
    cluster.configure("hot_standby = off\n");
    let cold = cluster.start();
    until("it stands by", || cluster.says("rejecting"));
    fails(&room, &url, "the server says: the database system is ", "not-ready");
    cold.stop();
    // It waits for a part of an archive, and is not consistent before.
    std::fs::write(cluster.data.join("recovery.signal"), "").unwrap();
    std::fs::remove_file(cluster.data.join("standby.signal")).unwrap();
    cluster.configure("restore_command = 'sleep 1000'\nhot_standby = on\n");
    let _starts = cluster.start();
    until("it starts up", || cluster.says("rejecting"));
    fails(&room, &url, "the server says: the database system is ", "not-ready");
}

#[apply(test)]
fn postgres_that_asks_for_a_password_is_ready_and_may_be_encrypted() {
    let room = Room::new();
    let cluster = Postgres::new(&room);
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    room.write("cert.pem", &key.cert.pem());
    room.write("pg/cert.pem", &key.cert.pem());
    let private = room.secret("pg/key.pem", &key.signing_key.serialize_pem());
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&private, Some(65534), Some(65534)).unwrap();
    }
    cluster.configure("ssl = on\nssl_cert_file = 'cert.pem'\nssl_key_file = 'key.pem'\n");
    room.write("pg/pg_hba.conf", "hostssl all all all scram-sha-256\n");
    let _server = cluster.start();
    let url = format!("postgres://localhost:{}/postgres?sslmode=require", cluster.port);
    let asked = |arguments: &[&str]| {
        let done = room.run("baa-healthwait", ["--timeout", "60s"].iter().chain(arguments));
        done.expect(0, "", "");
    };
    asked(&["--insecure", &url]);
    asked(&["--cacert", &room.text("cert.pem"), &url]);
    fails(&room, &url, "tls: whoever has signed", "tls");
    // Not encrypted it takes nobody in; that is a matter of logging in.
    ready(&room, &format!("postgres://localhost:{}", cluster.port));
    let writable = ["--attempts", "1", "--insecure", &format!("{url}&writable=1")];
    room.run("baa-healthwait", writable).failed_with(124, "cannot be told whether it takes writes");
}

#[apply(test)]
fn mysql_is_ready_when_it_greets() {
    let room = Room::new();
    let server = mariadb(&room, &["--max-connections=10", "--extra-max-connections=0"]);
    let url = format!("mysql://127.0.0.1:{}", server.port);
    ready(&room, &url);
    ready(&room, &format!("mysql:///?socket={}", room.text("my.sock")));
    ready(&room, &format!("mysql://nobody:hunter2@127.0.0.1:{}/there", server.port));
    let socket = room.text("my.sock");
    ready(&room, &format!("mysql://root@localhost/there?socket={socket}"));
    let none = format!("mysql://root@localhost/none?socket={socket}");
    fails(&room, &none, "the server says: Unknown database 'none' (1049)", "not-ready");
    room.run("baa-healthwait", ["--served-by", &server.pid().to_string(), &url]).expect(0, "", "");
    // Who does not log in is there for ten seconds; so more come than there is room for.
    let mut fillers = Vec::new();
    let mut more = || {
        fillers.push(TcpStream::connect(("127.0.0.1", server.port)).unwrap());
        let done = room.run("baa-healthwait", ["--attempts", "1", &url]);
        done.stderr.contains("the server says: Too many connections (1040)")
    };
    until("its connections are too many", &mut more);
    until("they still are, in its class", || {
        more();
        let done = room.run("baa-healthwait", ["--attempts", "1", "--json", &url]);
        done.json()["targets"][0]["last_error"]["class"] == "busy"
    });
}

#[apply(test)]
fn rabbitmq_is_ready_when_it_begins_a_connection() {
    let room = Room::new();
    let server = rabbitmq(&room);
    ready(&room, &format!("amqp://guest:guest@127.0.0.1:{}/vhost", server.port));
    fails(&room, &format!("amqps://127.0.0.1:{}", server.port), "tls", "tls");
}

const GRPC: &str = "
import sys
from concurrent import futures
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
port, states, pem = sys.argv[1], sys.argv[2], sys.argv[3:]
if states:
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for one in states.split(','):
        name, status = one.split('=')
        servicer.set(name, getattr(health_pb2.HealthCheckResponse, status))
if pem:
    key, chain = open(pem[0], 'rb').read(), open(pem[1], 'rb').read()
    server.add_secure_port('localhost:' + port, grpc.ssl_server_credentials([(key, chain)]))
else:
    server.add_insecure_port('127.0.0.1:' + port)
server.start()
server.wait_for_termination()
";

#[apply(test)]
fn grpc_is_ready_when_it_says_serving() {
    let (room, at, bare, safe) = (Room::new(), port(), port(), port());
    let _server = python(&room, GRPC, &["=SERVING,a.B=SERVING,down=NOT_SERVING,odd=UNKNOWN"], at);
    let url = format!("grpc://127.0.0.1:{at}");
    ready(&room, &url);
    ready(&room, &format!("{url}/a.B"));
    fails(&room, &format!("{url}/down"), "the service 'down' is not serving (NOT_SERVING)", "not-ready");
    fails(&room, &format!("{url}/odd"), "(UNKNOWN)", "other");
    fails(&room, &format!("{url}/none"), "(NOT_FOUND)", "not-ready");
    let _bare = python(&room, GRPC, &[""], bare);
    until("the bare one listens", || TcpStream::connect(("127.0.0.1", bare)).is_ok());
    fails(&room, &format!("grpc://127.0.0.1:{bare}"), "has no health service (UNIMPLEMENTED", "other");
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    room.write("cert.pem", &key.cert.pem());
    room.write("key.pem", &key.signing_key.serialize_pem());
    let _safe = python(&room, GRPC, &["=SERVING", &room.text("key.pem"), &room.text("cert.pem")], safe);
    let safe = format!("grpcs://localhost:{safe}");
    let done = room.run("baa-healthwait", ["--cacert", &room.text("cert.pem"), "--timeout", "60s", &safe]);
    done.expect(0, "", "");
    fails(&room, &safe, "tls: whoever has signed", "tls");
}

const ZONE: &str = r#"
import sys, threading
from dnslib import RCODE, RR
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer
ZONE = '''
host.test. 60 IN A 192.0.2.1
host.test. 60 IN A 192.0.2.2
host.test. 60 IN AAAA 2001:db8::1
also.test. 60 IN CNAME Host.TEST.
test. 60 IN NS ns.test.
test. 60 IN MX 10 Mail.Test.
test. 60 IN TXT "v=x; Y"
_web._tcp.test. 60 IN SRV 1 2 8080 host.test.
'''
BIG = ['big.test. 60 IN A 10.0.0.%d' % number for number in range(200)]
records = RR.fromZone(ZONE) + RR.fromZone('\n'.join(BIG))
class Resolver(BaseResolver):
    def resolve(self, request, handler):
        reply, name = request.reply(), str(request.q.qname).lower()
        own = [one for one in records if str(one.rname).lower() == name]
        if name == 'broken.test.':
            reply.header.rcode = RCODE.SERVFAIL
        elif name == 'private.test.':
            reply.header.rcode = RCODE.REFUSED
        elif not own:
            reply.header.rcode = RCODE.NXDOMAIN
        for one in own:
            if one.rtype == request.q.qtype:
                reply.add_answer(one)
        return reply
DNSHandler.udplen = 512
Resolver.udplen = 512
quiet = DNSLogger('-request,-reply,-truncated,-error,-recv,-send,-data', logf=lambda text: None)
for tcp in [True, False]:
    at = {'address': '127.0.0.1', 'port': int(sys.argv[1]), 'tcp': tcp}
    DNSServer(Resolver(), logger=quiet, **at).start_thread()
threading.Event().wait()
"#;

#[apply(test)]
fn names_have_the_records_that_are_asked_for() {
    let (room, at) = (Room::new(), port());
    let _server: RealServer = python(&room, ZONE, &[], at);
    let of = |name: &str, query: &str| format!("dns:{name}?server=127.0.0.1:{at}&{query}");
    ready(&room, &of("host.test", "type=A"));
    for (name, query) in [
        ("host.test", "equals=192.0.2.2"),
        ("HOST.test.", "type=A&equals=192.0.2.1"),
        ("host.test", "type=aaaa&equals=2001:0DB8::1"),
        ("also.test", "type=CNAME&equals=host.test."),
        ("test", "type=NS&equals=NS.test"),
        ("test", "type=MX&equals=10%20mail.test"),
        ("test", "type=MX&equals=mail.test."),
        ("test", "type=TXT&equals=v=x;%20Y"),
        ("_web._tcp.test", "type=SRV&equals=1%202%208080%20host.test"),
        // Too long for a datagram.
        ("big.test", "type=A&equals=10.0.0.199"),
    ] {
        ready(&room, &of(name, query));
    }
    for (name, query, words, class) in [
        ("none.test", "type=A", "no such name: none.test (NXDOMAIN)", "missing"),
        ("host.test", "type=MX", "the name host.test exists, and has no MX record (NODATA)", "missing"),
        ("broken.test", "type=A", "the name server cannot tell (SERVFAIL)", "dns"),
        ("private.test", "type=A", "the name server refuses (REFUSED)", "dns"),
        ("host.test", "equals=192.0.2.9", "is 192.0.2.1, 192.0.2.2, not 192.0.2.9", "body"),
        ("test", "type=TXT&equals=V=x;%20Y", "the TXT of test is v=x; Y, not V=x; Y", "body"),
    ] {
        fails(&room, &of(name, query), words, class);
    }
    room.run("baa-healthwait", ["--invert", &of("none.test", "type=A")]).expect(0, "", "");
    let (room, nobody) = (Room::new(), port());
    fails(&room, &format!("dns:x.test?server=127.0.0.1:{nobody}"), "connection refused", "dns");
}

/// The file of the system says who is asked where nobody is named.
#[apply(test)]
fn the_name_servers_of_the_system_are_asked() {
    let room = Room::new();
    needs("unshare");
    needs("ip");
    crate::support::needs_root();
    let _asked: RealServer = python(&room, "import time\ntime.sleep(0)", &[], port());
    room.write("resolv.conf", "nameserver 127.0.0.77\n");
    room.write("zone.py", ZONE.replace("127.0.0.1", "127.0.0.77").as_str());
    let python = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers/venv/bin/python");
    let script = format!(
        "ip link set lo up; mount --bind {} /etc/resolv.conf; {} {} 53 & exec {} --timeout 60s \
         'dns:host.test?type=AAAA'",
        room.text("resolv.conf"),
        python.display(),
        room.text("zone.py"),
        crate::support::binary("baa-healthwait").display(),
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", &script]);
    crate::support::finish(&mut command).expect(0, "", "");
}
