//! `make bench`: figures beside those of peers, as ratios from one run. Peers that are not here are named;
//! `tests/bench/peers` fetches them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::zombie_processes
)]

mod canary;
mod keep;
mod lease;
mod neighbour;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--measure", runs, command @ ..] => measure(runs.parse().unwrap(), command),
        ["--serve", address] => neighbour::serve(address),
        [programs, other, "start"] => {
            let bench = Bench::of(programs, other);
            bench.start_up();
            bench.neighbour();
            bench.many();
        }
        [programs, other, "reload"] => Bench::of(programs, other).reload(),
        [programs, other, "canary"] => Bench::of(programs, other).canary(),
        [programs, other, "keep"] => Bench::of(programs, other).keep(),
        [programs, other, "lease"] => Bench::of(programs, other).lease(),
        [programs, other, "control"] => Bench::of(programs, other).control(),
        [programs, other] => Bench::of(programs, other).run(),
        _ => panic!("usage: bench PROGRAMS OTHER-BUILD-OF-THEM [start|reload|canary|keep|lease|control]"),
    }
}

/// Runs a command so many times and prints median and p95 in ms and the largest resident set in KiB. A
/// process of its own that has touched little, and forks: the resident set before exec is counted too
/// (getrusage(2)), which of vfork is that of the parent.
#[allow(unsafe_code)]
fn measure(runs: usize, command: &[&str]) {
    let mut times = Vec::new();
    let mut largest = 0;
    let mut status = 0;
    for _ in 0..runs {
        let mut plain = Command::new(command[0]);
        plain.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: nothing is done between fork and exec; that there is something makes it a fork.
        unsafe { std::os::unix::process::CommandExt::pre_exec(&mut plain, || Ok(())) };
        let began = Instant::now();
        let child = plain.spawn().unwrap();
        let usage = usage(child, &mut status);
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        largest = largest.max(usage.ru_maxrss);
    }
    times.sort_by(f64::total_cmp);
    println!("{} {} {largest} {}", times[runs / 2], times[runs * 95 / 100], libc::WEXITSTATUS(status));
}

/// Waits for a child; what it used, and its status word.
#[allow(unsafe_code)]
fn usage(child: Child, status: &mut i32) -> libc::rusage {
    // SAFETY: a zeroed rusage and an int are filled by the kernel for a child that nobody else waits for.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::wait4(i32::try_from(child.id()).unwrap(), status, 0, &raw mut usage);
        usage
    }
}

struct Bench {
    programs: PathBuf,
    /// Another build of them, whose start-up is measured beside theirs.
    other: PathBuf,
    peers: PathBuf,
}

/// An example of the bench's own build.
fn beside(example: &str) -> PathBuf {
    std::env::current_exe().unwrap().with_file_name(example)
}

struct Figure {
    median: f64,
    p95: f64,
    kib: u64,
}

/// A tool with the arguments that make it wait for a port.
struct Tool {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
}

impl Bench {
    fn of(programs: &str, other: &str) -> Bench {
        Bench {
            programs: PathBuf::from(programs).canonicalize().unwrap(),
            other: PathBuf::from(other).canonicalize().unwrap(),
            peers: std::env::current_dir().unwrap().join("target/peers"),
        }
    }

    fn run(&self) {
        println!("# One run on this machine; × is the peer's figure over ours.\n");
        self.start_up();
        self.reaction();
        self.neighbour();
        self.share();
        self.many();
        self.deadline();
        self.reload();
        self.canary();
        self.lease();
        self.keep();
    }

    fn ours(&self) -> PathBuf {
        self.programs.join("baa-healthwait")
    }

    fn service(&self, port: u16, more: &[&str]) -> Running {
        let child = Command::new(beside("service"))
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(more)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        until(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Running(child)
    }

    fn figure(&self, runs: usize, program: &Path, arguments: &[&str]) -> Option<Figure> {
        let out = Command::new(std::env::current_exe().unwrap())
            .args(["--measure", &runs.to_string()])
            .arg(program)
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        (words.len() == 4 && words[3] == "0").then(|| Figure {
            median: words[0].parse().unwrap(),
            p95: words[1].parse().unwrap(),
            kib: words[2].parse().unwrap(),
        })
    }

    fn tools(&self, port: u16) -> Vec<Tool> {
        self.tools_at("127.0.0.1", port)
    }

    fn tools_at(&self, host: &str, port: u16) -> Vec<Tool> {
        let peer = |name: &str| {
            let beside = [self.peers.join("bin").join(name), self.peers.join("node_modules/.bin").join(name)]
                .into_iter()
                .find(|path| path.exists());
            beside.or_else(|| {
                std::env::split_paths(&std::env::var_os("PATH").unwrap())
                    .map(|dir| dir.join(name))
                    .find(|path| path.is_file())
            })
        };
        let url = format!("http://{host}:{port}/");
        let tcp = format!("{host}:{port}");
        let mut tools = vec![
            Tool { name: "baa-healthwait tcp", program: self.ours(), arguments: vec![tcp.clone()] },
            Tool { name: "baa-healthwait http", program: self.ours(), arguments: vec![url.clone()] },
        ];
        let peers: [(&'static str, &str, Vec<String>); 7] = [
            (
                "curl --retry",
                "curl",
                [
                    "-sf",
                    "-o",
                    "/dev/null",
                    "--retry",
                    "60",
                    "--retry-delay",
                    "1",
                    "--retry-connrefused",
                    &url,
                ]
                .map(str::to_owned)
                .to_vec(),
            ),
            ("wait-for-it", "wait-for-it", ["-q", "-t", "60", &tcp].map(str::to_owned).to_vec()),
            (
                "wait-service (Rust)",
                "wait-service",
                ["--tcp", &tcp, "--", "true"].map(str::to_owned).to_vec(),
            ),
            ("wait-for-them (Rust)", "wait-for-them", ["--silent", &tcp].map(str::to_owned).to_vec()),
            ("go-wait-for-it (Go)", "go-wait-for-it", ["-q", "-w", &tcp].map(str::to_owned).to_vec()),
            ("wait-on (Node)", "wait-on", vec![format!("tcp:{tcp}")]),
            ("wait-port (Node)", "wait-port", vec![tcp]),
        ];
        for (name, program, arguments) in peers {
            match peer(program) {
                Some(program) => tools.push(Tool { name, program, arguments }),
                None => println!("  ({program} is not here; tests/bench/peers fetches it)"),
            }
        }
        tools
    }

    fn start_up(&self) {
        println!(
            "## Immediate success: start to exit, and memory   (to reach: tcp 1.0 ms, http 1.5 ms, 1638 KiB; \
                 the dynamic build 2 ms, 3379 KiB; with TLS 4096 KiB)\n"
        );
        let port = free_port();
        let _service = self.service(port, &[]);
        let mut base: Option<Figure> = None;
        let mut tools = self.tools(port);
        for (at, name) in ["the other build, tcp", "the other build, http"].into_iter().enumerate() {
            let arguments = tools[at].arguments.clone();
            tools.insert(2 + at, Tool { name, program: self.other.join("baa-healthwait"), arguments });
        }
        println!("  ours: {}\n  the other build: {}\n", self.programs.display(), self.other.display());
        for tool in tools {
            let arguments: Vec<&str> = tool.arguments.iter().map(String::as_str).collect();
            let slow = tool.name.contains("Node");
            let Some(figure) = self.figure(if slow { 5 } else { 200 }, &tool.program, &arguments) else {
                println!("  {:42} failed", tool.name);
                continue;
            };
            let (time, memory) = base.as_ref().map_or((1.0, 1.0), |base| {
                (figure.median / base.median, figure.kib as f64 / base.kib as f64)
            });
            println!(
                "  {:42} {:8.2} ms median {:8.2} p95 {:7} KiB   time ×{time:<6.1} memory ×{memory:.1}",
                tool.name, figure.median, figure.p95, figure.kib
            );
            base.get_or_insert(figure);
        }
        self.tls();
        println!();
    }

    fn tls(&self) {
        let room = tempfile::tempdir().unwrap();
        let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(room.path().join("cert"), key.cert.pem()).unwrap();
        std::fs::write(room.path().join("key"), key.signing_key.serialize_pem()).unwrap();
        let port = free_port();
        let cert = room.path().join("cert").to_string_lossy().into_owned();
        let spawned = Command::new("openssl")
            .args(["s_server", "-quiet", "-www", "-accept", &port.to_string(), "-cert", &cert, "-key"])
            .arg(room.path().join("key"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = spawned else { return println!("  (openssl is not here: no figure for TLS)") };
        let _server = Running(child);
        until(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        let url = format!("https://localhost:{port}/");
        for (name, program, arguments) in [
            ("baa-healthwait https, own CA", self.ours(), vec!["--cacert", &cert, &url]),
            ("baa-healthwait https, any certificate", self.ours(), vec!["--insecure", &url]),
            (
                "curl https, own CA",
                PathBuf::from("curl"),
                vec!["-sf", "-o", "/dev/null", "--cacert", &cert, &url],
            ),
        ] {
            if let Some(figure) = self.figure(40, &program, &arguments) {
                println!(
                    "  {name:42} {:8.2} ms median {:8.2} p95 {:7} KiB",
                    figure.median, figure.p95, figure.kib
                );
            }
        }
    }

    fn reaction(&self) {
        println!("## Reaction on loopback: listen() to exit   (to reach: 5 ms median)\n");
        let port = free_port();
        let mut base: Option<f64> = None;
        for tool in self.tools(port) {
            let mut times: Vec<f64> = (0..9u64)
                .map(|run| {
                    let child = Command::new(&tool.program)
                        .args(&tool.arguments)
                        .stdout(Stdio::null())
                        .stderr(Stdio::null())
                        .spawn()
                        .unwrap();
                    std::thread::sleep(Duration::from_millis(900 + run * 137));
                    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
                    let began = Instant::now();
                    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
                    let server = std::thread::spawn({
                        let (listener, over) = (listener.try_clone().unwrap(), over.clone());
                        move || {
                            listener.set_nonblocking(true).unwrap();
                            while !over.load(std::sync::atomic::Ordering::SeqCst) {
                                if let Ok((mut stream, _)) = listener.accept() {
                                    stream.set_nonblocking(false).unwrap();
                                    let _ = std::io::Read::read(&mut stream, &mut [0; 1024]);
                                    let _ = std::io::Write::write_all(
                                        &mut stream,
                                        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                                    );
                                }
                                std::thread::sleep(Duration::from_micros(200));
                            }
                        }
                    });
                    let mut running = Running(child);
                    let end = Instant::now() + Duration::from_secs(10);
                    while running.0.try_wait().unwrap().is_none() && Instant::now() < end {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                    let took = began.elapsed().as_secs_f64() * 1000.0;
                    drop(listener);
                    over.store(true, std::sync::atomic::Ordering::SeqCst);
                    server.join().unwrap();
                    took
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

    fn share(&self) {
        println!("## Share of a core while waiting for a port on loopback   (to reach: 1 %)\n");
        let port = free_port();
        for seconds in [4, 20] {
            let began = Instant::now();
            let timeout = seconds.to_string();
            let child = Command::new(self.ours())
                .args(["--timeout", &timeout, &format!("127.0.0.1:{port}")])
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let usage = usage(child, &mut 0);
            let spent: f64 = [usage.ru_utime, usage.ru_stime]
                .iter()
                .map(|time| time.tv_sec as f64 + time.tv_usec as f64 / 1e6)
                .sum();
            println!(
                "  over the first {seconds:2} s                        {:.2} %",
                spent / began.elapsed().as_secs_f64() * 100.0
            );
        }
        println!();
    }

    fn deadline(&self) {
        println!("## Exit after a deadline of 1 s   (to reach: +50 ms)\n");
        let (mute, drip) = (free_port(), free_port());
        let _mute = self.service(mute, &["--mute"]);
        let _drip = self.service(drip, &["--drip", "5", "--body", &"x".repeat(10_000)]);
        let full = TcpListener::bind("127.0.0.1:0").unwrap();
        let hole = full.local_addr().unwrap();
        nix::sys::socket::listen(&full, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let _fillers: Vec<_> =
            (0..4).map(|_| std::net::TcpStream::connect_timeout(&hole, Duration::from_millis(50))).collect();
        for (name, arguments) in [
            ("mute server", vec![format!("http://127.0.0.1:{mute}/")]),
            (
                "dripping body",
                vec![format!("http://127.0.0.1:{drip}/"), "--body-contains".to_owned(), "y".to_owned()],
            ),
            ("black-holed SYN", vec![format!("tcp://{hole}")]),
            ("command that ignores TERM", vec!["exec:trap '' TERM; sleep 1000".to_owned()]),
        ] {
            let began = Instant::now();
            let status = Command::new(self.ours())
                .args(["--timeout", "1s", "--probe-timeout", "0"])
                .args(&arguments)
                .stderr(Stdio::null())
                .status()
                .unwrap();
            println!(
                "  {name:42} {:+.1} ms (status {})",
                (began.elapsed().as_secs_f64() - 1.0) * 1000.0,
                status.code().unwrap_or(-1)
            );
        }
        println!();
    }

    /// On the model of launchd: a service that drains for 200 ms and takes 100 ms to start.
    fn reload(&self) {
        println!(
            "## Reload, drain 200 ms + start 100 ms, on the model of launchd   (to reach: 30 ms added)\n"
        );
        const ROUNDS: u32 = 15;
        for (name, script) in [("baa-reload", false), ("the script's steps in sh, with curl", true)] {
            let model = Model::start();
            let mut times = Vec::new();
            let mut stranded = 0;
            for _ in 0..ROUNDS {
                if !model.loaded() {
                    model.bootstrap();
                }
                until(|| std::net::TcpStream::connect(("127.0.0.1", model.port)).is_ok());
                let began = Instant::now();
                let status =
                    model.reload(self, script).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
                times.push(began.elapsed().as_secs_f64() * 1000.0);
                if !status.success() {
                    std::thread::sleep(Duration::from_millis(400));
                    stranded += u32::from(!model.loaded());
                }
            }
            times.sort_by(f64::total_cmp);
            let median = times[times.len() / 2];
            println!(
                "  {name:42} {median:8.1} ms median, {:+.1} ms over drain and start; \
                     left unloaded {stranded} of {ROUNDS}",
                median - 300.0
            );
        }
        println!();
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Model {
    room: tempfile::TempDir,
    port: u16,
    launchctl: PathBuf,
    _serve: Running,
}

const LABEL: &str = "so.makefile.baa-conductor";

impl Model {
    fn start() -> Model {
        let room = tempfile::tempdir().unwrap();
        let launchctl = beside("launchctl");
        let serve =
            Running(Command::new(&launchctl).arg("serve").env("LAUNCHD_MODEL", room.path()).spawn().unwrap());
        until(|| std::os::unix::net::UnixStream::connect(room.path().join("socket")).is_ok());
        std::fs::create_dir(room.path().join("bin")).unwrap();
        std::os::unix::fs::symlink(&launchctl, room.path().join("bin/launchctl")).unwrap();
        let port = free_port();
        let words: String = [
            beside("service").to_str().unwrap(),
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--drain",
            "200",
            "--start-delay",
            "100",
        ]
        .iter()
        .map(|word| format!("<string>{word}</string>"))
        .collect();
        let plist = format!(
            "<plist version=\"1.0\"><dict><key>Label</key><string>{LABEL}</string>\
                 <key>ProgramArguments</key><array>{words}</array><key>RunAtLoad</key><true/>\
                 <key>KeepAlive</key><true/><key>EnvironmentVariables</key><dict>\
                 <key>BAA_CONDUCTOR_LOCAL_API</key><string>http://127.0.0.1:{port}</string></dict></dict>\
                 </plist>"
        );
        std::fs::write(room.path().join(format!("{LABEL}.plist")), plist).unwrap();
        Model { room, port, launchctl, _serve: serve }
    }

    fn call(&self, words: &[&str]) -> bool {
        Command::new(&self.launchctl)
            .args(words)
            .env("LAUNCHD_MODEL", self.room.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    }

    fn loaded(&self) -> bool {
        self.call(&["print", &format!("gui/501/{LABEL}")])
    }

    fn bootstrap(&self) {
        assert!(self.call(&[
            "bootstrap",
            "gui/501",
            self.room.path().join(format!("{LABEL}.plist")).to_str().unwrap()
        ]));
    }

    fn reload(&self, bench: &Bench, script: bool) -> Command {
        let mut command = if script {
            Command::new("tests/bench/reload.sh")
        } else {
            Command::new(bench.programs.join("baa-reload"))
        };
        if script {
            command
                .args(["gui/501", LABEL, &format!("http://127.0.0.1:{}/healthz", self.port)])
                .arg(self.room.path());
        } else {
            command
                .args(["--manager", "launchd", "--domain", "gui/501", "--install-dir"])
                .arg(self.room.path());
        }
        command.env("LAUNCHD_MODEL", self.room.path()).env("XDG_STATE_HOME", self.room.path().join("state"));
        command.env("PATH", format!("{}:/usr/bin:/bin", self.room.path().join("bin").display()));
        command
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn until(mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "not within 20 s");
        std::thread::sleep(Duration::from_millis(2));
    }
}
