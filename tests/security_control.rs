//! The control API against other users of the machine: nobody takes all names, or speaks for another; pages
//! of other sites ask nothing; and it is not ready while it cannot write.

use crate::security_grants::{HONEST, Socket, THIEF, done, lease, perl, room};
use crate::support::control::Control;
use crate::support::etcd::Etcd;
use crate::support::{Room, needs, needs_root, until};
use baa::store::{Store, sqlite::Sqlite};
use serde_json::Value;
use std::process::Stdio;

/// Makes leases over the first place until it is refused, gives each up, takes it over the second one and
/// gives it up again; and all that again until nothing more can be made, and then over the second one.
const MOVES: &str = r#"
    my ($first, $second) = map { enter($_) } @ARGV[0, 1];
    my $made = 0;
    my $claim = sub { my ($s, $n) = @_; return ask($s, "POST", "/v1/leader/acquire",
        qq({"controller_id":"q","lease_name":"$ARGV[2]$n"})); };
    my $release = sub { my ($s, $n, $term) = @_; ask($s, "POST", "/v1/leader/release",
        qq({"controller_id":"q","lease_name":"$ARGV[2]$n","term":$term})); };
    for my $turn (1 .. 6) {
        my $s = $turn < 6 ? $first : $second; my $from = $made;
        $made++ while (($claim->($s, $made))[0] == 200);
        for my $n ($from .. $made - 1) {
            $release->($s, $n, 1); $claim->($second, $n); $release->($second, $n, 2); }
    }
    print $made;"#;

fn makes(uid: u32, at: [&str; 2], prefix: &str) -> u32 {
    let told = done(perl(uid, MOVES, &[at[0], at[1], prefix]));
    told.stdout.parse().unwrap_or_else(|_| panic!("{told:?}"))
}

/// Names go on counting for who has made them, whoever has the lease later; and the last tenth is for who is
/// known.
fn nobody_takes_all(room: &Room, store: &str) {
    let socket = format!("unix:{}", room.text("control/sock"));
    let options = ["--max-leases", "40", "--listen", &socket, "--store", store];
    let control = Control::start(room, "127.0.0.1:0", &options);
    // A quarter as a user, and a quarter as somebody of this machine.
    assert_eq!(makes(THIEF, [&socket, &control.address], "t"), 20);
    drop(control);
    // It is not forgotten.
    let control = Control::start(room, "127.0.0.1:0", &options);
    assert_eq!(makes(THIEF, [&socket, &control.address], "u"), 0);
    // The other half is others', but for four of forty.
    assert_eq!(makes(HONEST, [&socket, &socket], "h"), 10);
    assert_eq!(makes(HONEST - 1, [&socket, &socket], "i"), 6);
    let acquire = |name: &str| ["acquire", "-q", "--store", &socket, "--lease", name].map(str::to_owned);
    for name in ["r1", "r2", "r3", "r4"] {
        room.run("baa-lease", acquire(name)).expect(0, "1\n", "");
    }
    room.run("baa-lease", acquire("r5")).failed_with(78, "there are 40 leases");
    // What is there goes on, for anybody.
    room.run("baa-lease", acquire("t0")).expect(0, "3\n", "");
}

#[apply(test)]
fn nobody_takes_all_names_by_passing_them_on() {
    nobody_takes_all(&room(), "sqlite:lease.db");
}

#[apply(test)]
fn nobody_takes_all_names_of_etcd() {
    let room = room();
    let etcd = Etcd::new(&room, 1, None);
    nobody_takes_all(&room, &etcd.url());
}

/// Two servers on one store count together.
#[apply(test)]
fn a_quota_is_the_stores() {
    let room = room();
    let socket = format!("unix:{}", room.text("control/sock"));
    let other = format!("unix:{}", room.text("control/other"));
    let limits = ["--max-leases", "40", "--max-controllers", "40"];
    let _first = Control::start(&room, "127.0.0.1:0", &[&limits[..], &["--listen", &socket]].concat());
    let _second = Control::start(&room, "127.0.0.1:0", &[&limits[..], &["--listen", &other]].concat());
    assert_eq!(makes(THIEF, [&socket, &other], "t"), 10);
    let beats = r#"my $made = 0;
        for my $k (0, 1) { for my $n (1 .. 20) {
            my ($status) = ask(enter($ARGV[$k]), "POST", "/v1/controllers/heartbeat",
                qq({"controller_id":"c$k-$n"}));
            $made++ if $status == 200; } }
        print $made;"#;
    done(perl(THIEF, beats, &[&socket, &other])).expect(0, "10", "");
}

/// Whoever comes to a loopback address is of this machine, from whichever of its addresses.
#[apply(test)]
fn every_address_of_this_machine_is_this_machine() {
    let room = room();
    let own = baa::sys::net::own_addresses();
    let own = own.iter().find(|address| address.is_ipv4() && !address.is_loopback());
    let Some(own) = own.map(ToString::to_string) else {
        crate::support::skip("this machine has no address but loopback");
    };
    let control = Control::start(&room, "127.0.0.1:0", &["--max-leases", "40"]);
    let makes = r#"
        my $made = 0;
        for my $from (@ARGV[1 .. $#ARGV]) { for my $n (1 .. 20) {
            my $s = enter($ARGV[0], LocalAddr => $from) or die;
            my $body = qq({"controller_id":"q","lease_name":"l$from-$n"});
            $made++ if (ask($s, "POST", "/v1/leader/acquire", $body))[0] == 200; } }
        print $made;"#;
    done(perl(THIEF, makes, &[&control.address, "127.0.0.1", &own, "127.0.0.9"])).expect(0, "10", "");
}

/// A controller's heartbeats are those of who has sent the first; where nobody knows who that was, the page
/// and the list say so.
#[apply(test)]
fn nobody_speaks_for_another_controller() {
    let room = room();
    let socket = format!("unix:{}", room.text("control/sock"));
    let control = Control::start(&room, "127.0.0.1:0", &["--listen", &socket]);
    let beat = |uid: u32, at: &str, id: &str| {
        let script = r#"my ($status, $said) = ask(enter($ARGV[0]), "POST", "/v1/controllers/heartbeat",
            qq({"controller_id":"$ARGV[1]","host":"host-of-$<","status":"leader"}));
            my ($error) = $said =~ /"error":"(\w+)"/; print $status, $error // """#;
        done(perl(uid, script, &[at, id])).stdout
    };
    assert_eq!(beat(HONEST, &socket, "mini"), "200");
    assert_eq!(beat(THIEF, &socket, "mini"), "409guarded");
    assert_eq!(beat(THIEF, &control.address, "mini"), "409guarded");
    assert_eq!(beat(HONEST, &socket, "mini"), "200");
    let tool = ["heartbeat", "--store", &socket, "--node-id", "tool"];
    done(lease(&room, HONEST, &tool)).expect(0, "", "");
    done(lease(&room, THIEF, &tool)).failed_with(76, "is guarded: its heartbeats come from another");
    assert_eq!(beat(HONEST, &control.address, "far"), "200");
    assert_eq!(beat(THIEF, &control.address, "far"), "200");
    let listed: Value = serde_json::from_str(&control.get("/v1/controllers", "").2).unwrap();
    let all = listed["data"]["controllers"].as_array().unwrap();
    let shown: Vec<_> =
        all.iter().map(|one| (one["controller_id"].as_str(), one["guarded"] == true)).collect();
    assert_eq!(shown[..2], [(Some("far"), false), (Some("mini"), true)], "{listed}");
    assert_eq!(all[1]["host"], format!("host-of-{HONEST}"));
    let page = control.get("/", "").2;
    assert!(page.contains(&format!("<td>user {HONEST}<td")), "{page}");
    assert!(page.contains("<td><span class=bad>unguarded: address 127.0.0.1</span><td"), "{page}");
    // Root may.
    assert_eq!(beat(0, &socket, "mini"), "200");
}

/// A lease that an older version has granted says nothing of who has it: whoever goes on with it has it then,
/// and nobody else gives it up.
#[apply(test)]
fn a_lease_of_an_older_version_is_not_given_up_by_others() {
    let room = room();
    let socket = Socket::open(&room, &[]);
    let store = format!("sqlite:{}", room.text("state/baa/lease.db"));
    let old = ["acquire", "-q", "--store", &store, "--node-id", "mini", "--lease", "old"];
    room.run("baa-lease", old).expect(0, "1\n", "");
    let file = rusqlite::Connection::open(room.path("state/baa/lease.db")).unwrap();
    file.execute_batch("UPDATE leases SET peer = NULL").unwrap();
    drop(file);
    let step = |uid: u32, verb: &str| {
        let place = [verb, "-q", "--store", &socket.store, "--node-id", "mini", "--lease", "old"];
        done(lease(&room, uid, &[&place[..], &["--term", "1"]].concat()))
    };
    step(THIEF, "release").failed_with(76, "guarded: old is guarded");
    step(HONEST, "renew").expect(0, "1\n", "");
    step(THIEF, "renew").failed_with(76, "mini has old under term 1");
    step(THIEF, "release").failed_with(76, "guarded: old is guarded");
    step(HONEST, "release").expect(0, "", "");
    let read = Sqlite::open(&room.path("state/baa/lease.db")).unwrap().read("old").unwrap().unwrap();
    assert_eq!(read.holder, None);
}

/// Pages of other sites ask nothing, and a head has its limit.
#[apply(test)]
fn a_page_of_another_site_asks_nothing() {
    let room = Room::new();
    let control = Control::new(&room);
    let with = |fields: &str| control.get("/v1/leader", fields).0;
    assert_eq!(with(&format!("Origin: http://{}\r\n", control.address)), 200);
    for foreign in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        assert_eq!(with(&format!("Origin: {foreign}\r\n")), 403, "{foreign}");
    }
    let body = r#"{"controller_id":"a"}"#;
    let post = format!(
        "POST /v1/leader/acquire HTTP/1.1\r\nHost: {}\r\nOrigin: http://evil.example\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        control.address,
        body.len()
    );
    let (status, _, said) = control.raw(&post);
    assert!(status == 403 && said.contains("wrong_origin"), "{said}");
    let long = |length: usize| with(&format!("X-Long: {}\r\n", "x".repeat(length)));
    assert_eq!((long(32_000), long(33_000), long(40_000), long(70_000)), (200, 431, 431, 431));
}

/// A server whose disk is full reads, and is not ready.
#[apply(test)]
fn a_server_that_cannot_write_is_not_ready() {
    needs_root();
    let room = Room::new();
    std::fs::create_dir(room.path("disk")).unwrap();
    let script = "mount -t tmpfs -o size=1m,mode=700 none disk && exec \"$0\" --listen 127.0.0.1:0 \
                  --store sqlite:disk/lease.db";
    let mut command = std::process::Command::new(needs("unshare"));
    command.args(["--mount", "/bin/sh", "-c", script]);
    command.arg(room.command("baa-control").get_program()).current_dir(room.dir.path());
    let control = Control::spawned(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    assert_eq!(control.get("/readyz", "").0, 200);
    // Its disk is there for nobody but its mount namespace.
    let fill = format!("/proc/{}/root{}", control.child.id(), room.text("disk/fill"));
    let full = std::fs::write(&fill, vec![0; 2 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    until("it is not ready", || {
        let (status, _, said) = control.get("/readyz", "");
        assert!(status == 200 || (status == 503 && said.starts_with("not ready: ")), "{said}");
        status == 503
    });
    assert_eq!((control.get("/healthz", "").0, control.get("/v1/leader", "").0), (200, 200));
    assert_eq!(control.post("/v1/leader/acquire", r#"{"controller_id":"a"}"#).0, 503);
    std::fs::remove_file(&fill).unwrap();
    until("it is ready again", || control.get("/readyz", "").0 == 200);
    assert_eq!(control.post("/v1/leader/acquire", r#"{"controller_id":"a"}"#).0, 200);
}
