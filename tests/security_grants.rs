//! Leases and the control API against other users of the machine, with two real ones: what GET tells is not
//! enough to take a lease, and nobody keeps its holder out.

use crate::support::control::Control;
use crate::support::{Done, Room, collect, copy_program, finish, needs, needs_root, signal, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Debian's nobody, and one beside it; numbers are enough.
pub(crate) const THIEF: u32 = 65534;
pub(crate) const HONEST: u32 = 65533;

/// A connection to `unix:PATH` or `HOST:PORT`, and a request over it.
const ASK: &str = r#"
    use IO::Socket::UNIX; use IO::Socket::INET;
    $SIG{PIPE} = "IGNORE"; $| = 1;
    sub enter { my ($at, %more) = @_;
        return $at =~ s/^unix:// ? IO::Socket::UNIX->new(Peer => $at)
            : IO::Socket::INET->new(PeerAddr => $at, %more); }
    sub wanted { my ($verb, $path, $body) = @_;
        return "$verb $path HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            . "Content-Length: " . length($body) . "\r\n\r\n$body"; }
    sub told { my ($s) = @_; my ($status, $length, $body) = (0, 0, "");
        while (my $line = <$s>) { last if $line eq "\r\n";
            $status = $1 if $line =~ m{^HTTP/1.1 (\d+)}; $length = $1 if $line =~ /^content-length: (\d+)/i; }
        read($s, $body, $length); return ($status, $body); }
    sub ask { my ($s) = (shift); print $s wanted(@_); return told($s); }
"#;

/// `program` as another user.
fn by(uid: u32, program: &Path) -> Command {
    needs_root();
    let mut command = Command::new(needs("setpriv"));
    let ids = [format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".to_owned()];
    command.args(ids).arg("--").arg(program).stdin(Stdio::null());
    command
}

pub(crate) fn perl(uid: u32, script: &str, arguments: &[&str]) -> Command {
    let mut command = by(uid, &needs("perl"));
    command.arg("-e").arg(format!("{ASK}{script}")).args(arguments);
    command
}

/// A room that others may pass through, with programs that they may run and a directory for each of them.
pub(crate) fn room() -> Room {
    needs_root();
    let room = Room::new();
    std::fs::set_permissions(room.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    copy_program(Path::new(room.command("baa-lease").get_program()), &room.path("baa-lease"));
    for uid in [THIEF, HONEST] {
        let own = room.path(&uid.to_string());
        std::fs::create_dir(&own).unwrap();
        chown(&own, Some(uid), Some(uid)).unwrap();
    }
    room
}

/// baa-lease as another user.
pub(crate) fn lease(room: &Room, uid: u32, arguments: &[&str]) -> Command {
    let own = room.path(&uid.to_string());
    let mut command = by(uid, &room.path("baa-lease"));
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &own);
    command.env("XDG_STATE_HOME", own.join("state")).env("BAA_RUNTIME_DIR", own.join("run"));
    command.current_dir(own).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) struct Socket {
    server: Child,
    pub(crate) store: String,
    log: std::path::PathBuf,
}

impl Socket {
    pub(crate) fn open(room: &Room, options: &[&str]) -> Socket {
        let (store, log) = (format!("unix:{}", room.text("control/sock")), room.path("control.log"));
        let mut command = room.command("baa-control");
        command.args(["--listen", &store]).args(options);
        let server = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        let socket = Socket { server, store, log };
        until("it listens", || socket.said().contains("listening on unix:"));
        socket
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A program that runs until the test is over, however it ends.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn done(mut command: Command) -> Done {
    finish(&mut command)
}

/// How many renewals were acknowledged.
fn renewals(log: &str) -> usize {
    let is = |line: &&str| line.contains("path=/v1/leader/acquire") && line.contains("status=200");
    log.lines().filter(is).count()
}

fn holds(room: &Room, store: &str, ttl: &str) -> Child {
    holds_with(room, store, ttl, "")
}

fn holds_with(room: &Room, store: &str, ttl: &str, token: &str) -> Child {
    let script = "touch led; until [ -e go ]; do sleep 0.02; done";
    let mut command = room.command("baa-lease");
    if !token.is_empty() {
        command.env("BAA_SHARED_TOKEN", token);
    }
    command.args(["hold", "-v", "--node-id", "mini", "--lease-ttl-sec", ttl, "--store", store]);
    let child = command.args(["--", "/bin/sh", "-c", script]).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = child.spawn().unwrap();
    until("it leads", || room.path("led").exists());
    child
}

/// With what GET shows, another user POSTs: nothing of it is obeyed, and the leader goes on.
#[apply(test)]
fn a_lease_is_not_stolen_with_what_is_shown() {
    let room = room();
    let control = Control::new(&room);
    let leader = holds(&room, &control.base(), "3");
    let steal = r#"
        my $s = enter($ARGV[0]);
        my ($status, $shown) = ask($s, "GET", "/v1/leader", "");
        my ($id) = $shown =~ /"holder_id":"([^"]+)"/; my ($term) = $shown =~ /"term":(\d+)/;
        my $who = qq("controller_id":"$id","host":"x","ttl_sec":60);
        for (["release", qq({$who,"term":$term})], ["acquire", qq({$who})],
             ["acquire", qq({$who,"term":$term})], ["acquire", qq({$who,"secret":true})],
             ["acquire", qq({$who,"secret":"00000000000000000000000000000000"})],
             ["release", qq({$who,"term":$term,"secret":"00000000000000000000000000000000"})],
             ["release", qq({$who,"term":$term,"break":true})],
             ["acquire", qq({$who,"term":$term,"break":true})]) {
            my ($status, $said) = ask($s, "POST", "/v1/leader/$_->[0]", $_->[1]);
            my ($leads) = $said =~ /"is_leader":(\w+)/; my ($error) = $said =~ /"error":"(\w+)"/;
            my $secret = $said =~ /"secret"/ ? "told" : "";
            print "$_->[0] $status ", $leads // $error, " $secret\n"; }"#;
    let thief = done(perl(THIEF, steal, &[&control.address]));
    let refused = "release 409 guarded \n".to_owned() + &"acquire 200 false \n".repeat(4);
    thief.expect(
        0,
        &format!("{refused}release 409 guarded \nrelease 403 forbidden \nacquire 200 false \n"),
        "",
    );
    let before = renewals(&control.log());
    until("it renews", || renewals(&control.log()) >= before + 3);
    let shown: Value = serde_json::from_str(&control.get("/v1/leader", "").2).unwrap();
    assert_eq!((&shown["data"]["term"], &shown["data"]["guarded"]), (&json!(1), &json!(true)));
    assert!(control.get("/", "").2.contains("<td>secret, address 127.0.0.1"));
    room.write("go", "");
    let done = collect(leader);
    assert!(done.status == 0 && done.stderr.contains("released global"), "{done:?}");
}

/// Over a socket the kernel says who asks: what a user has claimed is his and root's, without any secret.
#[apply(test)]
fn another_user_gives_up_nothing_of_mine() {
    let room = room();
    let socket = Socket::open(&room, &[]);
    let step = |uid: u32, verb: &str, more: &[&str]| {
        let place = [verb, "-q", "--store", &socket.store, "--node-id", "mini"];
        done(lease(&room, uid, &[&place[..], more].concat()))
    };
    step(HONEST, "acquire", &[]).expect(0, "1\n", "");
    step(THIEF, "acquire", &[]).failed_with(75, "mini has global under term 1");
    step(THIEF, "renew", &["--term", "1"]).failed_with(76, "mini has global under term 1");
    step(THIEF, "release", &["--term", "1"]).failed_with(76, "guarded: global is guarded");
    step(THIEF, "release", &["--term", "1", "--break"]).failed_with(77, "forbidden: only root");
    step(HONEST, "renew", &["--term", "1"]).expect(0, "1\n", "");
    let page = done(perl(THIEF, r#"print +(ask(enter($ARGV[0]), "GET", "/", ""))[1]"#, &[&socket.store]));
    assert!(page.stdout.contains(&format!("<td>user {HONEST}<td>")), "{page:?}");
    // Root may, and the lease stays the user's meanwhile.
    let root = |arguments: &[&str]| {
        let place = ["-q", "--store", &socket.store, "--node-id", "mini", "--term", "1"];
        room.run("baa-lease", arguments.iter().chain(&place))
    };
    root(&["renew"]).expect(0, "1\n", "");
    step(HONEST, "renew", &["--term", "1"]).expect(0, "1\n", "");
    root(&["release"]).expect(0, "", "");
    step(THIEF, "acquire", &[]).expect(0, "2\n", "");
    // With a secret he must say that he breaks it.
    step(HONEST, "acquire", &["--lease", "l", "--secret-file", "s"]).expect(0, "1\n", "");
    // Who has lost it is told why, not that somebody of his own name is in the way.
    let lost = "mini has l under term 1, guarded by a secret that was not shown";
    step(HONEST, "renew", &["--lease", "l", "--term", "1"]).failed_with(76, lost);
    step(HONEST, "acquire", &["--lease", "l"]).failed_with(75, lost);
    step(HONEST, "acquire", &["--lease", "l", "--secret-file", "another"]).failed_with(75, lost);
    step(HONEST, "renew", &["--lease", "l", "--term", "1", "--secret-file", "s"]).expect(0, "1\n", "");
    root(&["release", "--lease", "l"]).failed_with(76, "l is guarded");
    root(&["release", "--lease", "l", "--break"]).expect(0, "", "");
    step(HONEST, "renew", &["--lease", "l", "--term", "1", "--secret-file", "s"])
        .failed_with(76, "nobody has l any more");
    step(HONEST, "release", &["--lease", "l", "--term", "1", "--secret-file", "s"])
        .failed_with(76, "is not held");
    step(HONEST, "acquire", &["--lease", "l", "--secret-file", "s"]).expect(0, "2\n", "");
    step(HONEST, "release", &["--lease", "l", "--term", "2", "--secret-file", "s"]).expect(0, "", "");
    assert!(!room.path(&format!("{HONEST}/s")).exists());
}

/// Without a secret, whoever comes from elsewhere is another; and a token that is an operator's breaks all.
#[apply(test)]
fn another_address_is_another_and_an_operator_breaks() {
    let room = room();
    room.secret("operators", "open-sesame\n");
    let control = Control::start(&room, "127.0.0.1:0", &["--operator-token-file", "operators"]);
    let body = r#"{"controller_id":"mini","host":"mini","ttl_sec":30,"preferred":true,"now":100}"#;
    for operation in ["acquire", "renew"] {
        assert_eq!(control.post("/v1/leader/acquire", body).1["data"]["operation"], operation);
    }
    let elsewhere = r#"
        my $s = enter($ARGV[0], LocalAddr => "127.0.0.2");
        my @made = map { join(" ", ask($s, "POST", "/v1/leader/$_", $ARGV[1])) } "acquire", "release";
        print /"is_leader":false|"error":"guarded"/ ? "refused\n" : $_ for @made;"#;
    let release = r#"{"controller_id":"mini","term":1}"#;
    done(perl(THIEF, elsewhere, &[&control.address, release])).expect(0, "refused\nrefused\n", "");
    assert!(control.get("/", "").2.contains("<td><span class=bad>unguarded: address 127.0.0.1</span>"));
    let shown: Value = serde_json::from_str(&control.get("/v1/leader", "").2).unwrap();
    assert_eq!((&shown["data"]["holder_id"], &shown["data"]["guarded"]), (&json!("mini"), &json!(false)));
    // A secret that is asked for is told once, and wanted from then on.
    let with = body.replace("\"now\"", "\"secret\":true,\"now\"");
    let (_, said) = control.post("/v1/leader/acquire", &with);
    let secret = said["data"]["secret"].as_str().unwrap().to_owned();
    assert!(secret.len() >= 32, "{said}");
    for body in [body, &with] {
        let (_, said) = control.post("/v1/leader/acquire", body);
        assert!(said["data"]["is_leader"] == false && said["data"]["secret"].is_null(), "{said}");
    }
    let shows = body.replace("\"now\"", &format!("\"secret\":\"{secret}\",\"now\""));
    assert_eq!(control.post("/v1/leader/acquire", &shows).1["data"]["operation"], "renew");
    assert_eq!(control.post("/v1/leader/release", release).0, 409);
    let breaks = ["release", "-q", "--break", "--store", &control.base(), "--node-id", "mini", "--term", "1"];
    let with_token = |token: &str| {
        let mut command = room.command("baa-lease");
        finish(command.args(breaks).env("BAA_SHARED_TOKEN", token))
    };
    with_token("wrong").failed_with(77, "forbidden: only root");
    with_token("open-sesame").expect(0, "", "");
    // A lease for a day is not given.
    let (status, said) = control.post("/v1/leader/acquire", &body.replace("30", "86400"));
    assert!(status == 400 && said["message"] == "ttl_sec may be 3600 at most", "{said}");
}

/// A socket where another user listens is told nothing.
#[apply(test)]
fn a_stranger_in_the_place_of_the_server_hears_nothing() {
    let room = room();
    let lie = r#"
        my $s = IO::Socket::UNIX->new(Local => "sock", Listen => 5) or die;
        chmod 0777, "sock"; open(my $f, ">", "listens"); close $f;
        while (my $c = $s->accept) { my $heard = <$c>; open(my $f, ">>", "heard"); print $f $heard; }"#;
    let own = room.path(&THIEF.to_string());
    let liar = Background(perl(THIEF, lie, &[]).current_dir(&own).spawn().unwrap());
    until("it listens", || own.join("listens").exists());
    let store = format!("unix:{}/sock", own.display());
    for verb in ["acquire", "hold", "status", "start"] {
        let mut command = room.command("baa-lease");
        command.args([verb, "-q", "--store", &store]).env("BAA_SHARED_TOKEN", "secret-token");
        let more: &[&str] = match verb {
            "hold" => &["--", "true"],
            "start" => &["--run-once"],
            _ => &[],
        };
        let told = finish(command.args(more));
        let words = format!("answered by uid {THIEF}, not by root");
        assert!(told.stdout.contains(&words) || told.stderr.contains(&words), "{verb}: {told:?}");
        assert!(verb == "start" || told.status == 77, "{verb}: {told:?}");
    }
    drop(liar);
    let heard = std::fs::read_to_string(own.join("heard")).unwrap_or_default();
    assert_eq!(heard.trim(), "");
}

/// A server with a user of its own is believed by who names that user, and by nobody else.
#[apply(test)]
fn a_server_has_a_user_of_its_own() {
    let room = room();
    copy_program(Path::new(room.command("baa-control").get_program()), &room.path("baa-control"));
    let own = room.path(&THIEF.to_string());
    let mut server = by(THIEF, &room.path("baa-control"));
    server.args(["--listen", "unix:sock", "--store", "sqlite:lease.db"]).current_dir(&own);
    let log = room.path("control.log");
    let _server = Background(server.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap());
    until("it listens", || std::fs::read_to_string(&log).unwrap().contains("listening on unix:"));
    let acquire = |user: &str| {
        let store = format!("unix:{user}{}/sock", own.display());
        done(lease(&room, HONEST, &["acquire", "-q", "--node-id", "mini", "--store", &store]))
    };
    let refused = format!("answered by uid {THIEF}, not by ");
    acquire("").failed_with(77, &format!("{refused}us"));
    acquire("1234567@").failed_with(77, &format!("{refused}uid 1234567"));
    acquire("no-such-user@").failed_with(69, "no user 'no-such-user'");
    acquire(&format!("{THIEF}@")).expect(0, "1\n", "");
    acquire("nobody@").expect(0, "1\n", "");
}

/// As many requests that never end as there are places, and more, again and again, while a leader comes, and
/// renews.
fn flooded(unfinished: &str, options: &[&str], token: &str) {
    let room = room();
    room.secret("tokens", "open-sesame\n");
    let places = ["--max-connections", "300"];
    let control = Control::start(&room, "127.0.0.1:0", &[&places[..], options].concat());
    let flood = r#"
        my @open; my $count = 0;
        while (1) {
            for my $n (0 .. 329) {
                next if $open[$n] && !eof_now($open[$n]);
                # All of 127.0.0.0/8 is this machine.
                $open[$n] = enter($ARGV[0], LocalAddr => "127.0.0." . (1 + $n % 100)) or next;
                my $s = $open[$n]; $count++;
                print $s "POST /v1/leader/acquire HTTP/1.1\r\nHost: localhost$ARGV[1]"; $s->flush;
            }
            if ($count >= 330) { open(my $f, ">", "full"); close $f; }
            select(undef, undef, undef, 0.05);
        }
        sub eof_now { my ($s) = @_; my $bits = ""; vec($bits, fileno($s), 1) = 1;
            return select($bits, undef, undef, 0) > 0; }"#;
    let own = room.path(&THIEF.to_string());
    let thief =
        Background(perl(THIEF, flood, &[&control.address, unfinished]).current_dir(&own).spawn().unwrap());
    until("all is full", || own.join("full").exists());
    // It comes while all is full, and renews all the time.
    let leader = holds_with(&room, &control.base(), "2", token);
    until("it has renewed", || renewals(&control.log()) >= 10);
    let metrics = control.get("/metrics", &format!("Authorization: Bearer {token}\r\n")).2;
    drop(thief);
    room.write("go", "");
    let done = collect(leader);
    // On a busy machine its turn may come so late that the place which it had not spoken at yet is taken.
    let missed = done.stderr.matches("cannot renew").count();
    assert!(done.status == 0 && missed <= 1, "{done:?}");
    // Both are one machine, of which one may have a quarter; who has shown a token is not counted to it.
    let held = metric(&metrics, "baa_control_connections ");
    assert!(held <= 77 && metric(&metrics, "baa_control_turned_away_total ") > 0, "{metrics}");
}

fn metric(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().parse().unwrap()
}

#[apply(test)]
fn unfinished_heads_keep_nobody_out() {
    flooded("", &[], "");
}

#[apply(test)]
fn unfinished_bodies_keep_nobody_out() {
    flooded("\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", &[], "");
}

#[apply(test)]
fn unfinished_heads_keep_no_token_out() {
    flooded("", &["--token-file", "tokens"], "open-sesame");
}

/// One address has its share of connections and of controllers, whichever of this machine's it comes from.
#[apply(test)]
fn one_machine_has_its_share() {
    let room = room();
    let store = format!("unix:{}", room.text("control/sock"));
    let few = ["--max-connections", "20", "--max-controllers", "8", "--listen", &store];
    let control = Control::start(&room, "127.0.0.1:0", &few);
    let many = r#"
        my (@open, %count);
        for my $n (1 .. 10) {
            my $s = enter($ARGV[0], LocalAddr => "127.0.0.$n");
            my ($status) = ask($s, "POST", "/v1/controllers/heartbeat", qq({"controller_id":"c$n"}));
            $count{$status}++; push @open, $s;
        }
        my ($status, $metrics) = ask($open[9], "GET", "/metrics", "");
        ($count{connections}) = $metrics =~ /^baa_control_connections (\d+)/m;
        print map { "$_: $count{$_}\n" } sort keys %count;"#;
    done(perl(THIEF, many, &[&control.address])).expect(0, "200: 2\n429: 8\nconnections: 5\n", "");
    let beat = r#"print +(ask(enter($ARGV[0]), "POST", "/v1/controllers/heartbeat",
        qq({"controller_id":"$ARGV[1]"})))[0]"#;
    done(perl(HONEST, beat, &[&store, "another"])).expect(0, "200", "");
    // What is there goes on.
    done(perl(THIEF, beat, &[&control.address, "c1"])).expect(0, "200", "");
}

/// 5,700 leases in a row, and some of them again by another name.
const MANY_LEASES: &str = r#"
        my ($s, %count) = enter($ARGV[0]);
        for my $turn (0 .. 113) {
            print $s map { my $n = $turn * 50 + $_;
                my $body = qq({"controller_id":"x","lease_name":"l$n","secret":true});
                wanted("POST", "/v1/leader/acquire", $body) } 0 .. 49;
            for (0 .. 49) { my ($status) = told($s); $count{$status}++; } }
        for my $n (0 .. 5) { my ($status) = ask($s, "POST", "/v1/leader/acquire",
            qq({"controller_id":"y","lease_name":"l$n"})); $count{"again $status"}++; }
        print map { "$_: $count{$_}\n" } sort keys %count;"#;

/// Without a token all of this machine are one over TCP; what is there goes on.
#[apply(test)]
fn nobody_makes_leases_without_end_over_tcp() {
    let room = room();
    let control = Control::new(&room);
    let leader = holds(&room, &control.base(), "2");
    // The leader's is one of them.
    let told = "200: 2499\n429: 3201\nagain 200: 6\n";
    done(perl(THIEF, MANY_LEASES, &[&control.address])).expect(0, told, "");
    room.write("go", "");
    let done = collect(leader);
    assert!(done.status == 0 && !done.stderr.contains("cannot renew"), "{done:?}");
}

/// Whoever makes leases without end is stopped at his share; others make theirs, and go on.
#[apply(test)]
fn nobody_makes_leases_without_end() {
    let room = room();
    let socket = Socket::open(&room, &[]);
    let leader = holds(&room, &socket.store, "2");
    done(perl(THIEF, MANY_LEASES, &[&socket.store])).expect(0, "200: 2500\n429: 3200\nagain 200: 6\n", "");
    let own = ["acquire", "--store", &socket.store, "--lease", "another"];
    done(lease(&room, HONEST, &own)).expect(0, "1\n", "");
    let thief = ["acquire", "--store", &socket.store, "--lease", "third"];
    done(lease(&room, THIEF, &thief)).failed_with(78, "too_many: uid:65534 has made 2500 leases");
    room.write("go", "");
    let done = collect(leader);
    assert!(done.status == 0 && !done.stderr.contains("cannot renew"), "{done:?}");
}

/// A conductor's secret is in its lock's file and nowhere else, and the next one goes on with it.
#[apply(test)]
fn a_secret_is_shown_nowhere() {
    let room = room();
    let control = Control::new(&room);
    let start = || {
        let mut command = room.command("baa-lease");
        command.args(["start", "-v", "--node-id", "mini", "--store", &control.base()]);
        command.args(["--lease-renew-interval-ms", "100", "--scheduler", "env > env; exec sleep 1000"]);
        command.args(["--on-leader", "env > hook"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut first = start();
    until("it leads", || room.path("env").exists() && room.path("hook").exists());
    let kept = room.path("state/baa/conductors/global+mini.lock");
    let words = std::fs::read_to_string(&kept).unwrap();
    let secret = words.lines().nth(1).unwrap();
    assert!(secret.len() >= 32, "{words}");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    until("it renews", || renewals(&control.log()) >= 3);
    // Another goes on where one was killed.
    first.kill().unwrap();
    let dead = collect(first);
    std::fs::remove_file(room.path("env")).unwrap();
    let second = {
        let mut child = start();
        until("it leads, or is too early", || {
            room.path("env").exists() || child.try_wait().unwrap().is_some()
        });
        if child.try_wait().unwrap().is_some() { start() } else { child }
    };
    until("it leads again", || room.path("env").exists());
    let shown: Value = serde_json::from_str(&control.get("/v1/leader", "").2).unwrap();
    assert_eq!(shown["data"]["term"], 1, "{shown}");
    let mut told = vec![control.log()];
    told.extend(["/", "/v1/leader", "/v1/controllers", "/metrics"].map(|path| control.get(path, "").2));
    told.extend(["env", "hook"].map(|name| std::fs::read_to_string(room.path(name)).unwrap()));
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        for name in ["cmdline", "environ"] {
            let bytes = std::fs::read(entry.path().join(name)).unwrap_or_default();
            told.push(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    for name in ["state/baa/lease.db", "state/baa/lease.db-wal"] {
        told.push(String::from_utf8_lossy(&std::fs::read(room.path(name)).unwrap_or_default()).into_owned());
    }
    signal(second.id(), Signal::SIGTERM);
    let ended = collect(second);
    assert_eq!(ended.status, 0, "{ended:?}");
    told.extend([dead.stdout, dead.stderr, ended.stdout, ended.stderr, control.log()]);
    assert!(!told.iter().any(|text| text.contains(secret)));
    assert!(told[0].contains("controller=mini"), "{}", told[0]);
}

/// What it listens on is not another's to replace, and one that was killed leaves nothing in the way.
#[apply(test)]
fn a_socket_is_its_own() {
    let room = room();
    let socket = Socket::open(&room, &[]);
    let again = |path: &str| room.run("baa-control", ["--listen", &format!("unix:{}", room.text(path))]);
    again("control/sock").failed_with(75, "another baa-control does");
    let theirs = format!("{THIEF}/sock");
    again(&theirs).failed_with(77, &format!("belongs to user {THIEF}"));
    room.write("file", "mine");
    again("file").failed_with(74, "cannot listen");
    assert_eq!(std::fs::read_to_string(room.path("file")).unwrap(), "mine");
    drop(socket);
    let mut socket = Socket::open(&room, &["--socket-mode", "600"]);
    let refused = ["status", "--store", &socket.store];
    done(lease(&room, HONEST, &refused)).failed_with(77, "permission denied");
    signal(socket.server.id(), Signal::SIGTERM);
    socket.server.wait().unwrap();
    assert!(!room.path("control/sock").exists());
}
