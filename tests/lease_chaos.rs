//! Leases while servers die, stop and are cut off: what clients were told is checked as a history.

use crate::support::control::Control;
use crate::support::etcd::Etcd;
use crate::support::history::{Event, Told, fault};
use crate::support::{Done, PATIENCE, Room, alive, binary, collect, finish, needs, skip, until};
use baa::store::{self, Access, Claim, ClaimAnswer};
use nix::sys::signal::Signal;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Clients who take a lease, renew it and give it up, as long as this lives.
struct Clients {
    history: Arc<Mutex<Vec<Event>>>,
    stop: Arc<AtomicBool>,
    grants: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
    ttl: Duration,
}

impl Clients {
    fn new(count: usize, ttl: Duration, url: impl Fn(usize) -> String) -> Clients {
        let (history, stop, grants) =
            (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..count).map(|client| {
            let (history, stop, grants, url) =
                (Arc::clone(&history), Arc::clone(&stop), Arc::clone(&grants), url(client));
            std::thread::spawn(move || {
                let note = |asked: Instant, told: Told| {
                    history.lock().unwrap().push(Event { client, asked, answered: Instant::now(), told })
                };
                let mut life = 0;
                while !stop.load(Ordering::SeqCst) {
                    // A claimant that has asked to give up never claims again: the next one is another.
                    life += 1;
                    let claim = Claim {
                        lease: "global".to_owned(),
                        holder: format!("c{client}"),
                        host: "h".to_owned(),
                        instance: format!("i{life}"),
                        ttl,
                        ..Claim::default()
                    };
                    one_life(
                        &*store::open(Some(&url), &Access::default()).unwrap(),
                        &claim,
                        &stop,
                        &grants,
                        &note,
                    );
                }
            })
        });
        Clients { threads: threads.collect(), history, stop, grants, ttl }
    }

    /// Waits until leases are taken again.
    fn go_on(&self) {
        let now = self.grants.load(Ordering::SeqCst);
        until("leases are taken", || self.grants.load(Ordering::SeqCst) >= now + 3);
    }

    fn check(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        let history = self.history.lock().unwrap();
        assert_eq!(fault(&history, self.ttl), None);
        let terms: std::collections::BTreeSet<u64> = history
            .iter()
            .filter_map(|event| if let Told::Has { term } = event.told { Some(term) } else { None })
            .collect();
        assert!(terms.len() >= 3, "nothing has happened: {terms:?}");
    }
}

fn one_life(
    store: &dyn store::Store,
    claim: &Claim,
    stop: &AtomicBool,
    grants: &AtomicU64,
    note: &dyn Fn(Instant, Told),
) {
    let mut mine = None;
    while !stop.load(Ordering::SeqCst) && mine.is_none() {
        let asked = Instant::now();
        match store.acquire(claim) {
            Ok(ClaimAnswer::Ours { record, .. }) => {
                note(asked, Told::Has { term: record.term });
                grants.fetch_add(1, Ordering::SeqCst);
                mine = Some((record.term, asked));
            }
            Ok(ClaimAnswer::Held(record)) => {
                note(asked, Told::Refused { term: record.term });
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    let Some((term, mut dated)) = mine else { return };
    // Now and then one dies with it, and says nothing to anybody: it is the others' when its time is over,
    // and not before.
    if claim.holder == "c0" && claim.instance.ends_with('3') {
        return;
    }
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(10));
        let asked = Instant::now();
        match store.renew(claim, term) {
            Ok(ClaimAnswer::Ours { record, .. }) => {
                note(asked, Told::Has { term: record.term });
                dated = asked;
            }
            Ok(ClaimAnswer::Held(record)) => return note(asked, Told::Refused { term: record.term }),
            Err(_) if dated.elapsed() >= claim.ttl => return,
            Err(_) => {}
        }
    }
    let asked = Instant::now();
    // Whether or not it is answered: nobody believes in it any more.
    let _ = store.release(claim, term);
    note(asked, Told::GaveUp { term });
}

#[apply(test)]
fn a_server_that_is_killed_again_and_again_keeps_one_truth() {
    let room = Room::new();
    let mut control = Control::new(&room);
    let (address, base) = (control.address.clone(), control.base());
    let clients = Clients::new(5, Duration::from_secs(1), |_| base.clone());
    for _ in 0..12 {
        clients.go_on();
        control.kill();
        control = Control::start(&room, &address, &[]);
    }
    clients.go_on();
    crate::support::signal(control.child.id(), Signal::SIGSTOP);
    std::thread::sleep(Duration::from_millis(300));
    crate::support::signal(control.child.id(), Signal::SIGCONT);
    clients.go_on();
    clients.check();
}

/// Three nodes: any one may die or be cut off; without two of them nobody is told anything.
#[apply(test)]
fn a_cluster_outlives_any_one_of_its_nodes() {
    let room = Room::new();
    let mut etcd = Etcd::new(&room, 3, None);
    let control = Control::start(&room, "127.0.0.1:0", &["--store", &etcd.url()]);
    let (url, base) = (etcd.url(), control.base());
    // Some ask etcd, some the control API in front of it.
    let clients =
        Clients::new(
            4,
            Duration::from_secs(4),
            |client| if client % 2 == 0 { url.clone() } else { base.clone() },
        );
    clients.go_on();
    for node in 0..3 {
        etcd.kill(node);
        clients.go_on();
        etcd.start(node);
        clients.go_on();
        etcd.signal(node, Signal::SIGSTOP);
        clients.go_on();
        etcd.signal(node, Signal::SIGCONT);
        clients.go_on();
    }
    etcd.kill(0);
    etcd.signal(1, Signal::SIGSTOP);
    let alone =
        || room.run("baa-lease", ["acquire", "--lease", "x", "--lease-ttl-sec", "4", "--store", &url]);
    until("nobody is told anything", || alone().status == 69);
    assert_eq!(control.get("/readyz", "").0, 503);
    etcd.signal(1, Signal::SIGCONT);
    clients.go_on();
    assert_eq!(control.get("/healthz", "").0, 200);
    clients.check();
}

/// Two hosts on a wire of their own; dropped, they are gone.
struct Hosts {
    names: [String; 2],
    wire: String,
}

impl Hosts {
    /// The test is skipped where there can be none.
    fn new() -> Hosts {
        needs("ip");
        let id = std::process::id();
        let hosts = Hosts { names: [format!("baa{id}a"), format!("baa{id}b")], wire: format!("baa{id}") };
        let [a, b] = &hosts.names;
        let script = format!(
            "ip netns add {a} && ip netns add {b} && ip link add {0}a netns {a} type veth peer name {0}b \
                 netns {b} && ip -n {a} addr add 10.99.0.1/24 dev {0}a && \
                 ip -n {b} addr add 10.99.0.2/24 dev {0}b && for n in {a} {b}; do ip -n $n link set lo \
                 up; done && ip -n {a} link set {0}a up && ip -n {b} link set {0}b up",
            hosts.wire
        );
        let done = finish(Command::new("sh").args(["-c", &script]));
        if done.status != 0 {
            skip("no network namespaces can be made here");
        }
        hosts
    }

    /// A program of the toolkit on one of them.
    fn command(&self, room: &Room, host: usize, program: &str) -> Command {
        let bare = room.command(program);
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.names[host]])
            .arg(binary(program))
            .env_clear()
            .current_dir(room.dir.path());
        for (name, value) in bare.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.stdin(Stdio::null());
        command
    }

    fn wire(&self, state: &str) {
        assert_eq!(
            finish(Command::new("ip").args([
                "-n",
                &self.names[1],
                "link",
                "set",
                &format!("{}b", self.wire),
                state
            ]))
            .status,
            0
        );
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.names.iter().for_each(|name| drop(Command::new("ip").args(["netns", "del", name]).status()));
    }
}

/// The wire between a holder and the server is cut: the holder's command is dead before another's begins, and
/// nobody has told the holder.
#[apply(test)]
fn a_holder_that_is_cut_off_is_done_before_the_next_begins() {
    let room = Room::new();
    let hosts = Hosts::new();
    room.secret("tokens", "t\n");
    let mut server = hosts.command(&room, 1, "baa-control");
    server
        .args(["--listen", "10.99.0.2:4320", "--token-file", "tokens"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let control = Control::spawned(server.spawn().unwrap());
    let hold = |host: usize, name: &str, script: &str| {
        let mut command = hosts.command(&room, host, "baa-lease");
        command.args([
            "hold",
            "--store",
            &control.base(),
            "--token-file",
            "tokens",
            "--node-id",
            name,
            "--lease-ttl-sec",
            "3",
        ]);
        command
            .args(["--lease-renew-interval-ms", "200", "--", "/bin/sh", "-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let stubborn = "trap '' TERM; echo $$ > pid.tmp; mv pid.tmp pid; while :; do sleep 0.01; done";
    for round in 0..3 {
        let _ = std::fs::remove_file(room.path("pid"));
        let cut_off = hold(0, "far", stubborn);
        until("its command runs", || room.path("pid").exists());
        let pid: u64 = std::fs::read_to_string(room.path("pid")).unwrap().trim().parse().unwrap();
        hosts.wire("down");
        let next: Done = collect(hold(
            1,
            "near",
            // One that is dead and not reaped yet writes no more.
            &format!(
                "case $(cut -d' ' -f3 /proc/{pid}/stat 2> /dev/null) in ''|Z|X) ;; *) echo alive ;; esac; \
                 echo $BAA_LEASE_TERM"
            ),
        ));
        assert!(!alive(pid));
        // A busy machine may make it complain of a late answer.
        assert_eq!((next.status, next.stdout), (0, format!("{}\n", 2 * round + 2)));
        let done = collect(cut_off);
        assert!(done.status == 76 && done.stderr.contains("it could not be renewed in time"), "{done:?}");
        hosts.wire("up");
        let end = Instant::now() + PATIENCE;
        let asks = || {
            let mut command = hosts.command(&room, 0, "baa-lease");
            finish(command.args(["status", "--store", &control.base(), "--token-file", "tokens"])).status
        };
        while asks() != 1 {
            assert!(Instant::now() < end, "the wire is not back");
        }
    }
}
