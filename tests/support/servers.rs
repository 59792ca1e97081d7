//! Real servers of other makers, on loopback and with their data in a room: those of the machine, or those
//! that `.ci/servers` has unpacked. Where there is none the test is skipped.

use super::{Room, omit, port, signal, until};
use nix::sys::signal::Signal;
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A server, which ends with this.
pub struct RealServer {
    child: Child,
    beside: Option<Child>,
    pub port: u16,
}

impl RealServer {
    fn start(command: &mut Command, port: u16) -> RealServer {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        RealServer { child, beside: None, port }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it in its own way: INT, and as long as it takes.
    pub fn stop(mut self) {
        signal(self.pid(), Signal::SIGINT);
        self.child.wait().unwrap();
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        for child in [Some(&mut self.child), self.beside.as_mut()].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn unpacked(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers").join(path)
}

/// A program of the machine, or one that is unpacked.
pub fn program(name: &str, places: &[&str]) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> =
        std::env::split_paths(&path).chain(["/usr/sbin".into()]).map(|at| at.join(name)).collect();
    found.extend(places.iter().map(|place| Path::new("/").join(place).join(name)));
    found.extend(places.iter().map(|place| unpacked("root").join(place).join(name)));
    let found = found.into_iter().find(|path| path.is_file());
    found.unwrap_or_else(|| omit(format!("{name} is missing; .ci/servers fetches it")))
}

pub fn redis(room: &Room, port: u16, more: &[&str]) -> RealServer {
    let program = program("redis-server", &["usr/bin"]);
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir"]);
    RealServer::start(command.arg(room.dir.path()).args(more), port)
}

/// A cluster of PostgreSQL, and how it is started.
pub struct Postgres {
    programs: PathBuf,
    pub data: PathBuf,
    pub port: u16,
}

impl Postgres {
    pub fn new(room: &Room) -> Postgres {
        let programs = program("postgres", &["usr/lib/postgresql/15/bin"]).canonicalize().unwrap();
        let programs = programs.parent().unwrap().to_owned();
        let cluster = Postgres { programs, data: room.path("pg"), port: port() };
        std::fs::create_dir(&cluster.data).unwrap();
        let any = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(room.dir.path(), any).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&cluster.data, Some(65534), Some(65534)).unwrap();
        }
        let mut command = cluster.run("initdb");
        command.args(["--no-sync", "-A", "trust", "-U", "postgres", "--locale", "C"]);
        assert!(command.arg("-D").arg(&cluster.data).stdout(Stdio::null()).status().unwrap().success());
        let (at, data) = (cluster.port, cluster.data.display());
        cluster.configure(&format!(
            "listen_addresses = '127.0.0.1'\nport = {at}\nunix_socket_directories = '{data}'\nfsync = off\n\
             dynamic_shared_memory_type = mmap\nmax_connections = 5\nsuperuser_reserved_connections = 1\n"
        ));
        cluster
    }

    fn run(&self, name: &str) -> Command {
        self.as_nobody(name, true)
    }

    /// It refuses to be root. It dies with whoever has started it, or not.
    fn as_nobody(&self, name: &str, dies: bool) -> Command {
        let program = self.programs.join(name);
        if !nix::unistd::geteuid().is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.args(dies.then_some(["--pdeathsig", "KILL"]).into_iter().flatten());
        command.arg(program).current_dir("/");
        command
    }

    pub fn configure(&self, more: &str) {
        let path = self.data.join("postgresql.conf");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str(more);
        std::fs::write(path, text).unwrap();
    }

    /// What starts it, and it outlives whoever does.
    pub fn command(&self) -> Command {
        let mut command = self.as_nobody("postgres", false);
        command.arg("-D").arg(&self.data);
        command
    }

    pub fn start(&self) -> RealServer {
        RealServer::start(&mut self.command(), self.port)
    }

    /// A session that is in and stays there, `statement` being asked for.
    pub fn session(&self, statement: &str) -> Child {
        let mut command = self.run("psql");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", "-At"]);
        command.args(["-c", "select 1", "-c", statement]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut session = None;
        // The place of one that has just gone may not be free yet.
        until("a session is in", || {
            let mut child = command.spawn().unwrap();
            if child.stdout.as_mut().unwrap().read_exact(&mut [0; 2]).is_ok() {
                session = Some(child);
            } else {
                child.wait().unwrap();
            }
            session.is_some()
        });
        session.unwrap()
    }

    /// What has been said of it in its own words.
    pub fn says(&self, words: &str) -> bool {
        let mut command = self.run("pg_isready");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        String::from_utf8_lossy(&command.output().unwrap().stdout).contains(words)
    }
}

/// MariaDB with a root that needs no password, on a port and a socket in the room.
pub fn mariadb(room: &Room, more: &[&str]) -> RealServer {
    let program = program("mariadbd", &["usr/sbin"]);
    let share = program.parent().unwrap().parent().unwrap().join("share/mysql");
    let data = room.path("my");
    std::fs::create_dir(&data).unwrap();
    let command = || {
        let mut command = Command::new(&program);
        command.args(["--no-defaults", "--skip-log-bin", "--innodb-flush-method=nosync"]);
        command.arg(format!("--datadir={}", data.display()));
        command.arg(format!("--lc-messages-dir={}", share.display()));
        command.arg(format!("--character-sets-dir={}", share.join("charsets").display()));
        if nix::unistd::geteuid().is_root() {
            command.arg("--user=root");
        }
        command
    };
    let mut text = "create database mysql;\nuse mysql;\n".to_owned();
    for name in ["mysql_system_tables.sql", "mysql_system_tables_data.sql"] {
        text += &std::fs::read_to_string(share.join(name)).unwrap();
    }
    writeln!(text, "create database there;").unwrap();
    let boot = std::fs::File::open(room.write("boot.sql", &text)).unwrap();
    let mut bootstrap = command();
    bootstrap.arg("--bootstrap").stdin(boot).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(bootstrap.status().unwrap().success());
    let port = port();
    let mut command = command();
    command.args([&format!("--port={port}"), "--bind-address=127.0.0.1"]).args(more);
    command
        .args([&format!("--socket={}", room.text("my.sock")), &format!("--pid-file={}", room.text("pid"))]);
    RealServer::start(&mut command, port)
}

/// RabbitMQ, beside a name server of Erlang of its own.
pub fn rabbitmq(room: &Room) -> RealServer {
    let root = unpacked("root/usr/lib");
    let erlang = root.join("erlang");
    let script = root.join("rabbitmq/lib/rabbitmq_server-3.10.8/sbin/rabbitmq-server");
    let names = std::fs::read_dir(&erlang).into_iter().flatten().flatten().map(|entry| entry.path());
    let names = names.map(|path| path.join("bin/epmd")).find(|path| path.is_file());
    let (Some(names), true) = (names, script.is_file()) else {
        omit("rabbitmq-server is missing; .ci/servers fetches it")
    };
    let (port, distribution, names_port) = (port(), port(), port());
    let mut command = Command::new(names);
    command.args(["-port", &names_port.to_string(), "-address", "127.0.0.1"]);
    let names = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("names are served", || std::net::TcpStream::connect(("127.0.0.1", names_port)).is_ok());
    let path = format!("{}:/usr/bin:/bin", erlang.join("bin").display());
    let node = format!("baa{port}@localhost");
    let mut command = Command::new(script);
    command.env_clear().env("PATH", path).env("RABBITMQ_NODENAME", node).env("HOME", room.dir.path());
    for (name, value) in
        [("RABBITMQ_NODE_PORT", port), ("RABBITMQ_DIST_PORT", distribution), ("ERL_EPMD_PORT", names_port)]
    {
        command.env(name, value.to_string());
    }
    for (name, file) in [
        ("RABBITMQ_MNESIA_BASE", "mnesia"),
        ("RABBITMQ_LOG_BASE", "log"),
        ("RABBITMQ_CONFIG_FILE", "none"),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", "plugins"),
        ("RABBITMQ_CONF_ENV_FILE", "conf"),
    ] {
        command.env(name, room.path(file));
    }
    command.env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1").env("RABBITMQ_LOGS", "-");
    // What it starts ends with the room: it is known by its environment.
    command.env("RABBITMQ_SERVER_START_ARGS", "-start_epmd false");
    let mut server = RealServer::start(&mut command, port);
    server.beside = Some(names);
    server
}

/// The Python that `.ci/servers` has made.
pub fn interpreter() -> PathBuf {
    let program = unpacked("venv/bin/python");
    if !program.is_file() {
        omit("the Python of the test servers is missing; .ci/servers makes it");
    }
    program
}

/// A program in Python, with what `.ci/servers` has installed for it.
pub fn python(room: &Room, text: &str, arguments: &[&str], port: u16) -> RealServer {
    let program = interpreter();
    let script = room.write(&format!("server{port}.py"), text);
    RealServer::start(Command::new(program).arg(script).arg(port.to_string()).args(arguments), port)
}
