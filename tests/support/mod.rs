//! A room for each test: a fresh directory, an environment of its own, real programs; everything in it ends
//! with it.

use serde_json::Value;
use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub mod control;
pub mod etcd;
pub mod harness;
pub mod history;
pub mod launchd;
pub mod root;
pub mod schema;
pub mod servers;
pub mod shell;
pub mod systemd;
pub mod tmux;

pub use harness::{needs, needs_root, omit, skip};

/// Generous: a test that reaches it has failed, whatever the machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A file that is larger is no status, and no journal of a test.
const FILE_LIMIT: u64 = 1024 * 1024;

pub struct Room {
    pub dir: tempfile::TempDir,
}

/// What a program left.
#[derive(Debug)]
pub struct Done {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    #[track_caller]
    pub fn expect(&self, status: i32, stdout: &str, stderr: &str) {
        assert_eq!((self.status, self.stdout.as_str(), self.stderr.as_str()), (status, stdout, stderr));
    }

    #[track_caller]
    pub fn failed_with(&self, status: i32, words: &str) {
        assert_eq!((self.status, self.stdout.as_str()), (status, ""), "{self:?}");
        assert!(self.stderr.contains(words), "{words:?} is not in {:?}", self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "{:?}", self.stderr);
    }
}

impl Room {
    pub fn new() -> Room {
        // Short, for sockets live in it.
        Room { dir: tempfile::Builder::new().prefix("baa").tempdir_in("/tmp").unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// What is kept of the reloads of `label`, of this kind: journal, log, lock, plist, units.
    pub fn kept(&self, label: &str, kind: &str) -> Option<PathBuf> {
        let found = std::fs::read_dir(self.path("state/baa/reload")).into_iter().flatten().flatten();
        let (start, end) = (format!("{label}."), format!(".{kind}"));
        found.map(|one| one.path()).find(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with(&start) && name.ends_with(&end)
        })
    }

    /// A program of the toolkit, in an environment of this room alone.
    pub fn command(&self, program: &str) -> Command {
        self.command_at(&binary(program))
    }

    /// The same for a copy of one.
    pub fn command_at(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs([
            ("HOME", self.text("home")),
            ("XDG_STATE_HOME", self.text("state")),
            ("BAA_RUNTIME_DIR", self.text("run")),
        ]);
        command
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env("LAUNCHD_MODEL", self.path("launchd"))
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub fn run<I: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = I>) -> Done {
        finish(self.command(program).args(arguments))
    }

    /// The test service, once it is ready; it listens on `listen`.
    pub fn service(&self, listen: &str, arguments: &[&str]) -> Service {
        static COUNT: AtomicU16 = AtomicU16::new(0);
        let ready = self.text(&format!("ready{}", COUNT.fetch_add(1, Ordering::SeqCst)));
        let child = Command::new(example("service"))
            .args(["--listen", listen, "--ready", &ready])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the service is ready", || Path::new(&ready).exists());
        Service { child }
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        schema::OURS.lock().unwrap().push(self.path(name));
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// The same for what only its owner may read.
    pub fn secret(&self, name: &str, text: &str) -> PathBuf {
        let path = self.write(name, text);
        let only_ours = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, only_ours).unwrap();
        path
    }

    /// A property list `agents/LABEL.plist` that runs `arguments`.
    pub fn plist(&self, label: &str, arguments: &[&str], more: &str) -> PathBuf {
        let words: String = arguments
            .iter()
            .map(|word| format!("<string>{}</string>", word.replace('&', "&amp;").replace('<', "&lt;")))
            .collect();
        self.write(
            &format!("agents/{label}.plist"),
            &format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
                 <plist version=\"1.0\"><dict><key>Label</key><string>{label}</string>\
                 <key>ProgramArguments</key><array>{words}</array>{more}</dict></plist>\n"
            ),
        )
    }
}

/// The label of the service that the script reloads.
pub const CONDUCTOR: &str = "so.makefile.baa-conductor";

impl Room {
    /// The conductor's property list: the test service on `port`, with `arguments`, `more` keys, and a
    /// secret.
    pub fn conductor(&self, port: u16, arguments: &[&str], more: &str) {
        let listen = format!("127.0.0.1:{port}");
        let service = example("service").to_string_lossy().into_owned();
        let mut words = vec![service.as_str(), "--listen", &listen];
        words.extend(arguments);
        let environment = format!(
            "<key>EnvironmentVariables</key><dict><key>BAA_CONDUCTOR_LOCAL_API</key>\
                 <string>http://127.0.0.1:{port}//</string><key>TOKEN</key><string>hunter2</string></dict>"
        );
        let log = self.text("log");
        let logs = if more.contains("StandardOutPath") {
            String::new()
        } else {
            format!(
                "<key>StandardOutPath</key><string>{log}</string><key>StandardErrorPath</key>\
                     <string>{log}</string>"
            )
        };
        self.plist(
            CONDUCTOR,
            &words,
            &format!("<key>RunAtLoad</key><true/><key>KeepAlive</key><true/>{environment}{logs}{more}"),
        );
    }
}

impl Room {
    /// Whether the JSON that programs have left in files is as it is to be.
    fn check_files(&self) {
        let mut open = vec![self.dir.path().to_owned()];
        while let Some(entry) = open.pop() {
            let Ok(about) = entry.symlink_metadata() else { continue };
            if about.is_dir() {
                let inner = std::fs::read_dir(&entry).into_iter().flatten().flatten();
                open.extend(inner.map(|entry| entry.path()));
            } else if about.is_file()
                && about.len() < FILE_LIMIT
                && !schema::OURS.lock().unwrap().contains(&entry)
            {
                let text = std::fs::read(&entry).unwrap_or_default();
                schema::check(&entry.to_string_lossy(), &String::from_utf8_lossy(&text));
            }
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Keepers and what they keep are known by the room in their environment.
        let mark = format!("={}/", self.dir.path().display());
        for _ in 0..50 {
            let mut found = false;
            for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
                let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                    continue;
                };
                let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let text = format!(
                    "{}{}",
                    String::from_utf8_lossy(&environment),
                    String::from_utf8_lossy(&arguments).replace('/', "=/").replace("==/", "=/")
                );
                if pid != i32::try_from(std::process::id()).unwrap()
                    && (text.contains(&mark) || String::from_utf8_lossy(&arguments).contains(&mark[1..]))
                {
                    found = true;
                    let _ = nix::sys::signal::kill(
                        nix::unistd::Pid::from_raw(pid),
                        nix::sys::signal::Signal::SIGKILL,
                    );
                }
            }
            if !found {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if !std::thread::panicking() {
            self.check_files();
        }
    }
}

pub struct Service {
    pub child: Child,
}

impl Service {
    pub fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of the toolkit: of this build, or of the one in `BAA_BIN`.
pub fn binary(name: &str) -> PathBuf {
    if let Some(directory) = std::env::var_os("BAA_BIN") {
        let path = std::path::absolute(PathBuf::from(directory).join(name)).unwrap();
        assert!(path.exists(), "{} is missing", path.display());
        return path;
    }
    PathBuf::from(match name {
        "baa-control" => env!("CARGO_BIN_EXE_baa-control"),
        "baa-daemons" => env!("CARGO_BIN_EXE_baa-daemons"),
        "baa-healthwait" => env!("CARGO_BIN_EXE_baa-healthwait"),
        "baa-reload" => env!("CARGO_BIN_EXE_baa-reload"),
        "baa-run" => env!("CARGO_BIN_EXE_baa-run"),
        "baa-canary" => env!("CARGO_BIN_EXE_baa-canary"),
        "baa-lease" => env!("CARGO_BIN_EXE_baa-lease"),
        "baa-peer-remove" => env!("CARGO_BIN_EXE_baa-peer-remove"),
        other => panic!("no program {other}"),
    })
}

/// Of the build of the programs, in `examples` beside them; of this build, where `BAA_BIN` has none.
pub fn example(name: &str) -> PathBuf {
    let beside = |program: &Path| program.parent().unwrap().join("examples").join(name);
    let path = [binary("baa-run"), env!("CARGO_BIN_EXE_baa-run").into()].map(|program| beside(&program));
    let path = path.iter().find(|path| path.exists()).unwrap_or(&path[1]).clone();
    assert!(path.exists(), "{} is missing; build it with: cargo build --examples", path.display());
    path
}

/// Copies a program, by another process: a descriptor of ours that writes to it would be inherited by what
/// other threads start meanwhile, and who has such a file open keeps it from being run (ETXTBSY).
pub fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

pub fn finish(command: &mut Command) -> Done {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    collect(child)
}

/// Waits for a child whose outputs are pipes.
pub fn collect(child: Child) -> Done {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    let (sender, receiver) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let output = child.wait_with_output().unwrap();
        let _ = sender.send(());
        output
    });
    if receiver.recv_timeout(PATIENCE).is_err() {
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        panic!("{:?} did not end", waiter.join().unwrap());
    }
    let output = waiter.join().unwrap();
    schema::check("what was printed", &String::from_utf8_lossy(&output.stdout));
    let status = output.status.code().unwrap_or_else(|| 1000 + output.status.signal().unwrap_or(0));
    Done {
        status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Waits for a condition, never for a time.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A port below the ephemeral range, so that no outgoing connection of another test takes it.
pub fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + u16::try_from(std::process::id() % 100).unwrap() * 100;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::SeqCst);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub fn signal(pid: u32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// Waits until SIGSTOP has reached a process.
pub fn is_stopped(pid: u32) {
    let pid = baa::sys::process::Pid::new(i32::try_from(pid).unwrap()).unwrap();
    until("it is stopped", || baa::sys::process::is_stopped(pid));
}

/// Whether the process lives; a zombie does not.
pub fn alive(pid: u64) -> bool {
    let pid = baa::sys::process::Pid::new(i32::try_from(pid).unwrap()).unwrap();
    baa::sys::process::Identity::of(pid).is_some()
}

/// What the one at this control socket answers to so many that ask it at the same moment how it fares.
pub fn ask_at_once(socket: &Path, count: usize) -> Vec<serde_json::Value> {
    use std::io::{Read, Write};
    let ask = || {
        let mut client = std::os::unix::net::UnixStream::connect(socket).unwrap();
        client.write_all(b"{\"verb\":\"status\"}\n").unwrap();
        client
    };
    let clients: Vec<_> = (0..count).map(|_| ask()).collect();
    let answer = |mut client: std::os::unix::net::UnixStream| {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    };
    clients.into_iter().map(answer).collect()
}
