//! Leases: taken, handed over, lost with their holder; beside etcdctl lock. And how many renewals one core of
//! baa-control makes durable.

use crate::{Bench, until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A command under a lock of this name.
type Make<'a> = &'a dyn Fn(&str, &str) -> Command;
/// What is tried of it; whether it holds.
type Trial = fn(&Path, Make<'_>) -> bool;

/// Clients of baa-control at once, each with a connection of its own.
const CLIENTS: usize = 64;
const LOAD: Duration = Duration::from_secs(10);

impl Bench {
    pub(crate) fn lease(&self) {
        let room = tempfile::tempdir_in(".").unwrap();
        let path = room.path().canonicalize().unwrap();
        println!(
            "## baa-lease   (to reach: a free lease within 10 ms, handed over within 100 ms, \
                 failover within TTL + 1 s, 3 MiB)\n"
        );
        self.times(&path);
        self.beside_etcdctl(&path);
        self.load(&path);
    }

    pub(crate) fn control(&self) {
        let room = tempfile::tempdir_in(".").unwrap();
        self.load(&room.path().canonicalize().unwrap());
    }

    fn baa(&self, room: &Path, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .args(arguments)
            .env("XDG_STATE_HOME", room)
            .current_dir(room)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn times(&self, room: &Path) {
        let mut free = Vec::new();
        for number in 0..60 {
            let began = Instant::now();
            assert!(
                self.baa(room, "baa-lease", &["acquire", "--lease", &format!("l{number}")])
                    .status()
                    .unwrap()
                    .success()
            );
            free.push(ms(began.elapsed()));
        }
        show("acquire of a free lease, a process each, synced", &mut free);
        let control = Control::start(self, room, "control");
        let stores = [("sqlite", String::new()), ("control API", format!("http://{}", control.address))];
        for (name, url) in &stores {
            let (mut graceful, mut crash, mut rss) = (Vec::new(), Vec::new(), Vec::new());
            for round in 0..8 {
                for kill in [false, true] {
                    let (lease, mark) = (format!("{name}{round}{kill}").replace(' ', "-"), room.join("mark"));
                    let hold = |node: &str, script: &str| {
                        let mut command = self.baa(
                            room,
                            "baa-lease",
                            &["hold", "--node-id", node, "--lease", &lease, "--lease-ttl-sec", "2"],
                        );
                        if !url.is_empty() {
                            command.args(["--store", url]);
                        }
                        command.args(["--", "/bin/sh", "-c", script]).spawn().unwrap()
                    };
                    let _ = std::fs::remove_file(&mark);
                    let mut first = hold("a", "touch mark; exec sleep 1000");
                    until(|| mark.exists());
                    rss.push(resident(first.id()));
                    let mut next = hold("b", "touch next");
                    std::thread::sleep(Duration::from_millis(700));
                    let _ = std::fs::remove_file(room.join("next"));
                    let began = Instant::now();
                    if kill {
                        first.kill().unwrap()
                    } else {
                        signal(&first, libc::SIGTERM)
                    }
                    until(|| room.join("next").exists());
                    if kill {
                        crash.push(ms(began.elapsed()))
                    } else {
                        graceful.push(ms(began.elapsed()))
                    }
                    first.wait().unwrap();
                    next.wait().unwrap();
                }
            }
            show(&format!("{name}: from TERM of the leader to the next one's command"), &mut graceful);
            show(&format!("{name}: from KILL of the leader (TTL 2 s) to the next one's command"), &mut crash);
            println!(
                "{:<64} {:>8.2} MiB",
                format!("{name}: resident set of the holder"),
                *rss.iter().max().unwrap() as f64 / 1024.0
            );
        }
        println!();
    }

    /// The same four trials of both: what a command under a lock may rely on.
    fn beside_etcdctl(&self, room: &Path) {
        if Command::new("etcdctl").arg("version").stdout(Stdio::null()).status().is_err()
            || Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_err()
        {
            println!("etcdctl lock: not here; on Debian: apt-get install etcd-server etcd-client\n");
            return;
        }
        let (client, peer) = (format!("http://127.0.0.1:{}", free()), format!("http://127.0.0.1:{}", free()));
        let mut etcd = Command::new("etcd");
        etcd.args([
            "--data-dir",
            "etcd",
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
            "--listen-peer-urls",
            &peer,
        ]);
        etcd.args(["--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("default={peer}")])
            .current_dir(room);
        let _etcd = Running(etcd.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let health = || {
            Command::new("etcdctl")
                .env("ETCDCTL_API", "3")
                .args(["--endpoints", &client, "endpoint", "health"])
                .stderr(Stdio::null())
                .stdout(Stdio::null())
                .status()
        };
        until(|| health().is_ok_and(|status| status.success()));
        let etcdctl = |lock: &str, script: &str| {
            let mut command = Command::new("etcdctl");
            command
                .env("ETCDCTL_API", "3")
                .args(["--endpoints", &client, "lock", "--ttl", "2", lock, "--", "/bin/sh", "-c", script])
                .current_dir(room);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let store = client.replace("http://", "etcd://");
        let ours = |lock: &str, script: &str| {
            self.baa(
                room,
                "baa-lease",
                &[
                    "hold",
                    "--lease",
                    lock,
                    "--lease-ttl-sec",
                    "2",
                    "--store",
                    &store,
                    "--",
                    "/bin/sh",
                    "-c",
                    script,
                ],
            )
        };
        let trials: [(&str, Trial); 4] = [
            ("the command's exit status is passed on", status),
            ("TERM reaches the command", term),
            ("killed, it leaves no command running", orphan),
            ("stopped, it does not overlap with the next", overlap),
        ];
        println!("{:<64} {:>14} {:>14}", "on one etcd, TTL 2 s", "baa-lease hold", "etcdctl lock");
        for (what, trial) in trials {
            let verdict = |passes: bool| if passes { "passes" } else { "FAILS" };
            println!("{what:<64} {:>14} {:>14}", verdict(trial(room, &ours)), verdict(trial(room, &etcdctl)));
        }
        let mut took = [Vec::new(), Vec::new()];
        for _ in 0..20 {
            for (times, make) in took.iter_mut().zip([&ours as Make<'_>, &etcdctl]) {
                let began = Instant::now();
                make("quick", "true").status().unwrap();
                times.push(ms(began.elapsed()));
            }
        }
        let [first, second] = took.map(|mut times| median(&mut times));
        println!(
            "{:<64} {:>11.1} ms {:>11.1} ms   × {:.1}\n",
            "taken, `true` run, given up",
            first,
            second,
            second / first
        );
    }

    fn load(&self, room: &Path) {
        println!(
            "## baa-control on one core   (to reach: 2,000 durable renewals a second, p99 within 25 ms; \
                 10,000 controllers)\n"
        );
        let control = Control::start(self, room, "loaded");
        let renew = |client: usize, _: usize| {
            format!(r#"{{"controller_id":"c{client}","host":"h","ttl_sec":30,"lease_name":"l{client}"}}"#)
        };
        let before = processor(control.child.id());
        let (mut times, took) = hammer(&control.address, "/v1/leader/acquire", LOAD, &renew);
        let spent = processor(control.child.id()) - before;
        show_load("renewals", &mut times, took);
        // The same on a machine that does other things too.
        println!("{:<64} {:>8.0} /s", "renewals for each second of processor", times.len() as f64 / spent);
        let beat = |client: usize, turn: usize| {
            format!(
                r#"{{"controller_id":"n{}","host":"h","role":"standby","priority":50,"status":"standby"}}"#,
                client + CLIENTS * (turn % (10_000 / CLIENTS + 1))
            )
        };
        let (mut times, took) = hammer(&control.address, "/v1/controllers/heartbeat", LOAD, &beat);
        show_load("heartbeats of 10,000 controllers", &mut times, took);
        let mut stream = TcpStream::connect(&control.address).unwrap();
        stream
            .write_all(
                format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", control.address)
                    .as_bytes(),
            )
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let value = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok()).unwrap_or(0.0)
        };
        println!("{:<64} {:>8.0}", "controllers known", value("baa_control_controllers "));
        println!(
            "{:<64} {:>8.1}",
            "changes for each sync",
            value("baa_control_changes_total ") / value("baa_control_commits_total ")
        );
        println!("{:<64} {:>8.1} MiB\n", "resident set", resident(control.child.id()) as f64 / 1024.0);
    }
}

/// All clients ask, one request after the other, for `span`; how long each took.
fn hammer(
    address: &str,
    path: &str,
    span: Duration,
    body: &(dyn Fn(usize, usize) -> String + Sync),
) -> (Vec<f64>, Duration) {
    let began = Instant::now();
    let times = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn(move || {
                    let (mut stream, mut times) = (TcpStream::connect(address).unwrap(), Vec::new());
                    stream.set_nodelay(true).unwrap();
                    while began.elapsed() < span {
                        let body = body(client, times.len());
                        let asked = Instant::now();
                        stream
                            .write_all(
                                format!(
                                    "POST {path} HTTP/1.1\r\nHost: {address}\r\n\
                                         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n\
                                         {body}",
                                    body.len()
                                )
                                .as_bytes(),
                            )
                            .unwrap();
                        let mut answer = Vec::new();
                        let mut bytes = [0u8; 4096];
                        while !answer.ends_with(b"}\n") {
                            let count = stream.read(&mut bytes).unwrap();
                            assert!(count > 0);
                            answer.extend_from_slice(&bytes[..count]);
                        }
                        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
                        times.push(ms(asked.elapsed()));
                    }
                    times
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    (times, began.elapsed())
}

fn show_load(what: &str, times: &mut [f64], took: Duration) {
    let rate = times.len() as f64 / took.as_secs_f64();
    let middle = median(times);
    println!(
        "{:<64} {rate:>8.0} /s   median {middle:.1} ms, p99 {:.1} ms",
        format!("{what}, {CLIENTS} clients"),
        times[times.len() * 99 / 100]
    );
}

/// A baa-control on one core, with a store of its own.
struct Control {
    child: Child,
    address: String,
}

impl Control {
    fn start(bench: &Bench, room: &Path, store: &str) -> Control {
        let address = format!("127.0.0.1:{}", free());
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(bench.programs.join("baa-control")).args([
            "--listen",
            &address,
            "--store",
            &format!("sqlite:{store}"),
            "--max-share",
            "100",
        ]);
        let child = command.current_dir(room).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until(|| TcpStream::connect(&address).is_ok());
        Control { child, address }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn status(_: &Path, make: &dyn Fn(&str, &str) -> Command) -> bool {
    make("status", "exit 7").status().unwrap().code() == Some(7)
}

fn started(room: &Path, mut command: Command) -> (Child, PathBuf) {
    let file = room.join("pid");
    let _ = std::fs::remove_file(&file);
    let child = command.spawn().unwrap();
    until(|| std::fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n')));
    (child, PathBuf::from(format!("/proc/{}", std::fs::read_to_string(&file).unwrap().trim())))
}

/// Within five seconds, a zombie being dead.
fn dies(process: &Path) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    let dead = || {
        std::fs::read_to_string(process.join("stat"))
            .map_or(true, |stat| stat.rsplit(") ").next().unwrap().starts_with('Z'))
    };
    while !dead() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    let dead = dead();
    if !dead {
        let pid = process.file_name().unwrap().to_str().unwrap();
        let _ = Command::new("kill").args(["-9", pid]).status();
    }
    dead
}

fn term(room: &Path, make: &dyn Fn(&str, &str) -> Command) -> bool {
    let (mut wrapper, command) = started(room, make("term", "echo $$ > pid; exec sleep 1000"));
    signal(&wrapper, libc::SIGTERM);
    let dead = dies(&command);
    wrapper.wait().unwrap();
    dead
}

fn orphan(room: &Path, make: &dyn Fn(&str, &str) -> Command) -> bool {
    let (mut wrapper, command) = started(room, make("orphan", "echo $$ > pid; exec sleep 1000"));
    wrapper.kill().unwrap();
    wrapper.wait().unwrap();
    dies(&command)
}

fn overlap(room: &Path, make: &dyn Fn(&str, &str) -> Command) -> bool {
    let (mut wrapper, command) = started(room, make("overlap", "echo $$ > pid; exec sleep 1000"));
    signal(&wrapper, libc::SIGSTOP);
    let look = format!("grep -q ') [RSD]' {0}/stat && exit 1; exit 0", command.display());
    let alone = make("overlap", &format!("{look} 2> /dev/null || : > overlapped; exit 0"))
        .status()
        .unwrap()
        .success();
    let overlapped = std::fs::remove_file(room.join("overlapped")).is_ok();
    signal(&wrapper, libc::SIGCONT);
    dies(&command);
    let _ = wrapper.kill();
    wrapper.wait().unwrap();
    alone && !overlapped
}

#[allow(unsafe_code)]
fn signal(child: &Child, number: i32) {
    // SAFETY: kill(2) with integers; the child is ours and not reaped.
    unsafe { libc::kill(i32::try_from(child.id()).unwrap(), number) };
}

fn free() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn show(what: &str, times: &mut [f64]) {
    let middle = median(times);
    println!("{what:<64} {middle:>8.1} ms   max {:.1}", times.last().unwrap());
}

/// In KiB.
/// The seconds of processor that a process has used.
fn processor(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = [fields[11], fields[12]].iter().map(|field| field.parse::<f64>().unwrap()).sum::<f64>();
    // USER_HZ is 100 on every Linux (proc_pid_stat(5), times(2)).
    ticks / 100.0
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
