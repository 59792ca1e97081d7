//! Reaction to a server on another host, which has a name and an address of a private network; and what a
//! thousand targets cost.

use super::{Bench, Running, free_port, usage};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const NAME: &str = "neighbour";
const ADDRESS: &str = "10.213.77.2";
const PORT: u16 = 8080;

/// Listens once it is told to, says so, and answers until it is killed.
pub(super) fn serve(address: &str) {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let listener = TcpListener::bind(address).unwrap();
    println!("up");
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
}

/// Another host: a network namespace at the other end of a cable.
struct Host(Running);

impl Host {
    fn new() -> Option<Host> {
        let asleep = Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().ok()?;
        let pid = asleep.id();
        let host = Host(Running(asleep));
        let own = std::fs::read_link("/proc/self/ns/net").ok()?;
        let end = Instant::now() + Duration::from_secs(5);
        while std::fs::read_link(format!("/proc/{pid}/ns/net")).ok().is_none_or(|other| other == own) {
            if Instant::now() > end || unshared_in_vain(pid) {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let cable = format!(
            "set -e; ip link add baabench type veth peer name there netns {pid}
            ip addr add 10.213.77.1/24 dev baabench; ip link set baabench up
            nsenter --net=/proc/{pid}/ns/net ip addr add {ADDRESS}/24 dev there
            nsenter --net=/proc/{pid}/ns/net ip link set there up"
        );
        let laid = Command::new("sh").args(["-c", &cable]).stderr(Stdio::null()).status().ok()?;
        laid.success().then_some(host)
    }

    fn server(&self) -> Child {
        let mut server = Command::new("nsenter");
        server.arg(format!("--net=/proc/{}/ns/net", self.0.0.id())).arg(std::env::current_exe().unwrap());
        server.args(["--serve", &format!("{ADDRESS}:{PORT}")]);
        server.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    }
}

fn unshared_in_vain(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

impl Bench {
    /// As within a composition of containers.
    pub(super) fn neighbour(&self) {
        println!("## Reaction on another host by its name: listen() to exit   (to reach: 60 ms median)\n");
        let Some(host) = Host::new() else {
            return println!("  (needs root, unshare, nsenter and ip)\n");
        };
        let room = tempfile::tempdir().unwrap();
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        std::fs::write(room.path().join("hosts"), format!("{hosts}\n{ADDRESS} {NAME}\n")).unwrap();
        let mut base = None;
        for tool in self.tools_at(NAME, PORT) {
            let mut times: Vec<f64> = (0..9u64)
                .map(|run| {
                    let mut server = host.server();
                    let mut waiting = Command::new("unshare");
                    waiting.args([
                        "--mount",
                        "sh",
                        "-c",
                        "mount --bind hosts /etc/hosts && exec \"$@\"",
                        "-",
                    ]);
                    waiting.arg(&tool.program).args(&tool.arguments).current_dir(room.path());
                    let waiting = waiting.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
                    std::thread::sleep(Duration::from_millis(2400 + run * 137));
                    server.stdin.take().unwrap().write_all(b"\n").unwrap();
                    let mut up = String::new();
                    BufReader::new(server.stdout.take().unwrap()).read_line(&mut up).unwrap();
                    let began = Instant::now();
                    let _server = Running(server);
                    let mut waiting = Running(waiting);
                    let end = began + Duration::from_secs(10);
                    while waiting.0.try_wait().unwrap().is_none() && Instant::now() < end {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                    began.elapsed().as_secs_f64() * 1000.0
                })
                .collect();
            times.sort_by(f64::total_cmp);
            let median = times[times.len() / 2];
            println!(
                "  {:42} {median:8.2} ms median {:8.2} max   ×{:.1}",
                tool.name,
                times[times.len() - 1],
                median / *base.get_or_insert(median)
            );
        }
        println!();
    }

    /// Many dead ports of loopback.
    pub(super) fn many(&self) {
        println!(
            "## Share of a core and memory for many dead ports on loopback   (to reach: 3 % for 1,000)\n"
        );
        let port = free_port();
        for count in [1, 10, 100, 1000] {
            let target = |number: u32| format!("127.9.{}.{}:{port}", number / 250, number % 250 + 1);
            let mut wait = Command::new(self.ours());
            wait.args(["--timeout", "8s"]).args((0..count).map(target)).stderr(Stdio::null());
            let usage = usage(wait.spawn().unwrap(), &mut 0);
            let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
            let share = (seconds(usage.ru_utime) + seconds(usage.ru_stime)) / 8.0 * 100.0;
            println!("  {count:4} targets {share:26.2} % {:14} KiB", usage.ru_maxrss);
        }
        println!();
    }
}
