//! The commands of the README of wait4x 3, one by one. Each has a counterpart that passes against a real
//! program, and does not where what it asks for is not so; or it is refused, for a reason that stands here.

use crate::support::{Room, needs, port};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

/// What stands here for a command of theirs. In its words are places: HTTP, HTTPS, UP, DOWN, DIR.
enum Ours {
    /// It is up by these words, and by those it is not.
    Waits(&'static [&'static str], &'static [&'static str]),
    /// The same over TLS.
    Encrypted(&'static [&'static str], &'static [&'static str]),
    /// This target, whose protocol has tests of its own, against the real server. Here nobody is there.
    Speaks(&'static str),
    /// Not to be had, and why.
    Refused(&'static str),
}
use Ours::{Encrypted, Refused, Speaks, Waits};

const LOGIN: &str =
    "nobody is logged in: what the server says before counts; its client knows more, by exec:";
const VALUE: &str = "whether a key is there is asked; what it holds is asked by redis-cli, with exec:";
const TEMPORAL: &str = "workers are known to Temporal's own API alone; its client asks it, by exec:";
const XPATH: &str = "a parser of HTML for one question: --body-contains, --body-regex";
const BACKOFF: &str = "pauses grow by themselves, by what asking costs; --interval gives them another length";

const HEALTH: &str = r#"{"status": "healthy", "services": {"database": {"status": "up"}}}"#;

/// Their commands, each as the README has it but for its places, and ours.
const COMMANDS: &[(&str, Ours)] = &[
    ("tcp localhost:3306", Waits(&["localhost:UP"], &["localhost:DOWN"])),
    (
        "tcp 127.0.0.1:5432 127.0.0.1:6379 127.0.0.1:27017",
        Waits(&["127.0.0.1:UP", "HTTP", "tcp://127.0.0.1:UP"], &["127.0.0.1:UP", "127.0.0.1:DOWN"]),
    ),
    ("http URL --expect-status-code 200", Waits(&["--status", "200", "HTTP"], &["--status", "204", "HTTP"])),
    (
        r#"http URL --expect-body-regex '"status":\s*"healthy"'"#,
        Waits(
            &["--body-regex", r#""status":\s*"healthy""#, "HTTP"],
            &["--body-regex", r#""status":\s*"ill""#, "HTTP"],
        ),
    ),
    (
        "http URL --expect-body-json services.database.status",
        Waits(
            &["--json-path", "/services/database/status exists", "HTTP"],
            &["--json-path", "/services/queue exists", "HTTP"],
        ),
    ),
    ("http URL --expect-body-xpath \"//div[@id='status']\"", Refused(XPATH)),
    (
        "http URL --request-header 'Authorization: Bearer token123' --request-header 'Content-Type: ...'",
        Waits(
            &["-H", "Authorization: Bearer token123", "-H", "Content-Type: application/json", "HTTP"],
            &["-H", "Authorization: Bearer token123", "--status", "401", "HTTP"],
        ),
    ),
    (
        "http URL --expect-header Content-Type=application/json",
        Waits(
            &["--header-contains", "Content-Type=application/json", "HTTP"],
            &["--header-contains", "Content-Type=text/html", "HTTP"],
        ),
    ),
    (
        "http URL --cert-file /path/to/certfile --key-file /path/to/keyfile",
        Encrypted(
            &["--cacert", "DIR/cert.pem", "--cert", "DIR/cert.pem", "--key", "DIR/key.pem", "HTTPS"],
            &["--cacert", "DIR/cert.pem", "HTTPS"],
        ),
    ),
    (
        "http URL --ca-file /path/to/cafile",
        Encrypted(
            &["--cacert", "DIR/cert.pem", "--cert", "DIR/both.pem", "HTTPS"],
            &["--cert", "DIR/both.pem", "HTTPS"],
        ),
    ),
    ("dns A example.com", Speaks("dns:x.invalid?type=A&server=127.0.0.1:DOWN")),
    (
        "dns A example.com --expected-ip 93.184.216.34",
        Speaks("dns:x.invalid?type=A&equals=93.184.216.34&server=127.0.0.1:DOWN"),
    ),
    (
        "dns A example.com --expected-ip 93.184.216.34 -n 8.8.8.8",
        Speaks("dns:x.invalid?type=A&equals=93.184.216.34&server=127.0.0.1:DOWN"),
    ),
    (
        "dns AAAA example.com --expected-ip 2606:2800:220:1:248:1893:25c8:1946",
        Speaks("dns:x.invalid?type=AAAA&equals=2606:2800:220:1:248:1893:25c8:1946&server=127.0.0.1:DOWN"),
    ),
    (
        "dns CNAME www.example.com --expected-domain example.com",
        Speaks("dns:www.x.invalid?type=CNAME&equals=x.invalid&server=127.0.0.1:DOWN"),
    ),
    (
        "dns MX example.com --expected-domain mail.example.com",
        Speaks("dns:x.invalid?type=MX&equals=mail.x.invalid&server=127.0.0.1:DOWN"),
    ),
    (
        "dns NS example.com --expected-nameserver ns1.example.com",
        Speaks("dns:x.invalid?type=NS&equals=ns1.x.invalid&server=127.0.0.1:DOWN"),
    ),
    (
        "dns TXT example.com --expected-value 'v=spf1 include:_spf.example.com ~all'",
        Speaks("dns:x.invalid?type=TXT&equals=v=spf1%20~all&server=127.0.0.1:DOWN"),
    ),
    ("mysql 'user:password@tcp(localhost:3306)/mydb'", Speaks("mysql://user@127.0.0.1:DOWN/mydb")),
    ("mysql 'user:password@unix(/var/run/mysqld/mysqld.sock)/mydb'", Speaks("mysql:///mydb?socket=DIR/none")),
    ("mysql ... --expect-table my_table", Refused(LOGIN)),
    (
        "postgresql 'postgres://user:password@localhost:5432/mydb?sslmode=disable'",
        Speaks("postgres://user:password@127.0.0.1:DOWN/mydb?sslmode=disable"),
    ),
    (
        "postgresql 'postgres://user:password@/mydb?host=/var/run/postgresql'",
        Speaks("postgres://user:password@/mydb?host=DIR"),
    ),
    ("postgresql ... --expect-table my_table", Refused(LOGIN)),
    (
        "mongodb 'mongodb://user:password@localhost:27017/mydb?maxPoolSize=20'",
        Speaks("mongodb://user:password@127.0.0.1:DOWN/mydb?maxPoolSize=20"),
    ),
    ("redis redis://localhost:6379", Speaks("redis://127.0.0.1:DOWN")),
    ("redis redis://user:password@localhost:6379/0", Speaks("redis://user:password@127.0.0.1:DOWN/0")),
    (
        "redis redis://localhost:6379 --expect-key session:active",
        Speaks("redis://127.0.0.1:DOWN/?key=session:active"),
    ),
    ("redis redis://localhost:6379 --expect-key status=^ready$", Refused(VALUE)),
    ("influxdb http://localhost:8086", Waits(&["HTTPping"], &["HTTPping", "--status", "204"])),
    (
        "rabbitmq 'amqp://guest:guest@localhost:5672/myvhost'",
        Speaks("amqp://guest:guest@127.0.0.1:DOWN/myvhost"),
    ),
    (
        "temporal server localhost:7233",
        Speaks("grpc://127.0.0.1:DOWN/temporal.api.workflowservice.v1.WorkflowService"),
    ),
    ("temporal worker localhost:7233 --namespace my-namespace --task-queue my-queue", Refused(TEMPORAL)),
    ("temporal worker ... --expect-worker-identity-regex 'worker-.*'", Refused(TEMPORAL)),
    ("kafka kafka://localhost:9092", Speaks("kafka://127.0.0.1:DOWN")),
    ("kafka kafka://user:pass@localhost:9092?authMechanism=scram-sha-256", Refused(LOGIN)),
    ("kafka kafka://broker1:9092 kafka://broker2:9092 ...", Speaks("kafka://127.0.0.1:DOWN")),
    ("exec 'ping wait4x.dev -c 2'", Waits(&["exec:test -e DIR"], &["exec:test -e DIR/none"])),
    (
        "exec 'ls target/debug/main' --exit-code 2",
        Waits(&["--exec-status", "2", "exec:ls DIR/none"], &["--exec-status", "2", "exec:ls DIR"]),
    ),
    ("tcp localhost:8080 --timeout 30s", Waits(&["localhost:UP", "-t", "30s"], &["localhost:DOWN"])),
    (
        "tcp localhost:8080 --interval 2s",
        Waits(&["localhost:UP", "--interval", "2s"], &["localhost:DOWN", "--interval", "1ms"]),
    ),
    ("http URL --backoff-policy exponential ...", Refused(BACKOFF)),
    (
        "tcp localhost:8080 --invert-check",
        Waits(&["--invert", "localhost:DOWN"], &["--invert", "localhost:UP"]),
    ),
    (
        "http URL --expect-status-code 200 --invert-check",
        Waits(&["--invert", "http://127.0.0.1:DOWN/"], &["--invert", "HTTP"]),
    ),
    (
        "tcp localhost:3306 -- ./deploy.sh",
        Waits(&["localhost:UP", "--", "test", "-e", "DIR"], &["localhost:DOWN", "--", "true"]),
    ),
];

/// A room with a server that is up, a port where none is, and a socket.
struct World {
    room: Room,
    up: u16,
    down: u16,
    encrypted: u16,
}

impl World {
    fn new() -> World {
        World { room: Room::new(), up: port(), down: port(), encrypted: port() }
    }

    fn words(&self, words: &[&str]) -> Vec<String> {
        let place = |word: &&str| {
            word.replace("HTTPS", &format!("https://localhost:{}/", self.encrypted))
                .replace("HTTP", &format!("http://127.0.0.1:{}/", self.up))
                .replace("UP", &self.up.to_string())
                .replace("DOWN", &self.down.to_string())
                .replace("DIR", &self.room.dir.path().to_string_lossy())
        };
        ["--attempts", "1"].iter().chain(words).map(place).collect()
    }

    #[track_caller]
    fn holds(&self, theirs: &str, up: &[&str], down: &[&str]) {
        let done = self.room.run("baa-healthwait", self.words(up));
        assert_eq!((done.status, done.stderr.as_str()), (0, ""), "{theirs}: {done:?}");
        let done = self.room.run("baa-healthwait", self.words(down));
        assert_eq!(done.status, 124, "{theirs}: {done:?}");
    }
}

#[apply(test)]
fn each_command_has_a_counterpart_that_holds() {
    let world = World::new();
    let json = "Content-Type: application/json; charset=utf-8";
    let listen = format!("127.0.0.1:{}", world.up);
    let _service = world.room.service(&listen, &["--body", HEALTH, "--header", json]);
    let _socket = UnixListener::bind(world.room.path("socket")).unwrap();
    for (theirs, ours) in COMMANDS {
        if let Waits(up, down) = ours {
            world.holds(theirs, up, down);
        }
    }
}

#[apply(test)]
fn each_encrypted_one_holds_too() {
    let world = World::new();
    needs("openssl");
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, secret) = (key.cert.pem(), key.signing_key.serialize_pem());
    world.room.write("cert.pem", &cert);
    world.room.secret("key.pem", &secret);
    world.room.secret("both.pem", &format!("{cert}{secret}"));
    let file = |name: &str| world.room.text(name);
    let mut server = Command::new("openssl")
        .args([
            "s_server",
            "-quiet",
            "-www",
            "-Verify",
            "1",
            "-verify_return_error",
            "-CAfile",
            &file("cert.pem"),
        ])
        .args(["-accept", &format!("127.0.0.1:{}", world.encrypted)])
        .args(["-cert", &file("cert.pem"), "-key", &file("key.pem")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    world.room.run("baa-healthwait", [format!("127.0.0.1:{}", world.encrypted)]).expect(0, "", "");
    for (theirs, ours) in COMMANDS {
        if let Encrypted(up, down) = ours {
            world.holds(theirs, up, down);
        }
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

/// A dry run reads a target and asks nobody; and where nobody is, nobody answers.
#[apply(test)]
fn each_protocol_is_known() {
    let world = World::new();
    for (theirs, ours) in COMMANDS {
        let Speaks(target) = ours else { continue };
        let known =
            world.room.run("baa-healthwait", [&["-n".to_owned()], &world.words(&[target])[..]].concat());
        assert_eq!(known.status, 0, "{theirs}: {known:?}");
        let asked = world.room.run("baa-healthwait", world.words(&["--probe-timeout", "200ms", target]));
        assert_eq!(asked.status, 124, "{theirs}: {asked:?}");
    }
}

/// What is left out is a choice of which there are few.
#[apply(test)]
fn most_of_them_are_there() {
    let refused: Vec<&str> = COMMANDS
        .iter()
        .filter(|(_, ours)| matches!(ours, Refused(why) if !why.is_empty()))
        .map(|one| one.0)
        .collect();
    assert!(
        refused.len() <= 8 && COMMANDS.len() == 45,
        "{} of {}: {refused:#?}",
        refused.len(),
        COMMANDS.len()
    );
}
