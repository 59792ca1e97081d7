//! Deaths of real tmux servers: how soon they are on record, and what it costs to wait for them.

use crate::{Bench, until};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 60;

impl Bench {
    pub(crate) fn canary(&self) {
        if Command::new("tmux").arg("-V").stdout(Stdio::null()).status().is_err() {
            println!("## baa-canary: tmux is missing; on Debian: apt-get install tmux\n");
            return;
        }
        self.death();
        self.waiting();
        self.thousand();
    }

    fn death(&self) {
        println!(
            "## From SIGKILL of a tmux server to the record   (to reach: on the disk within 10 ms median, \
                 50 ms p99)\n"
        );
        let (mut seen, mut synced) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let room = Room::new();
            let server = room.server();
            assert!(
                self.canary_command(&room, "arm")
                    .args(["--sock".as_ref(), room.socket().as_os_str()])
                    .stdout(Stdio::null())
                    .status()
                    .unwrap()
                    .success()
            );
            // The machine's state is added only once the record is on the disk, so that its first words are
            // an upper bound.
            let times = room.kill(server, &[&room.log(), &room.0.path().join("server-deaths")], |text| {
                text.contains("--- ps-top-rss")
            });
            seen.push(times.0);
            synced.push(times.1.unwrap());
            until(|| {
                std::fs::read_dir(room.0.path().join("canary"))
                    .unwrap()
                    .all(|one| one.unwrap().path().extension().unwrap() != "json")
            });
        }
        let ours = show("baa-canary: line in the log", &mut seen, 1.0);
        show("baa-canary: synced, and memory, processes … kept", &mut synced, 1.0);
        let mut seen = Vec::new();
        for _ in 0..ROUNDS / 3 {
            let room = Room::new();
            let server = room.server();
            let mut script = Command::new("tests/bench/canary.sh")
                .arg(room.socket())
                .arg(room.log())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            until(|| waiter_of(&room).is_some());
            std::thread::sleep(Duration::from_millis(50));
            seen.push(room.kill(server, &[&room.log()], |_| true).0);
            script.wait().unwrap();
        }
        show("sh and a client of tmux (not synced)", &mut seen, ours);
        let Some(monit) = monit() else { return };
        let mut seen = Vec::new();
        for _ in 0..5 {
            let room = Room::new();
            let server = room.server();
            let _monit = room.monit(&monit, server);
            std::thread::sleep(Duration::from_millis(2500));
            seen.push(room.kill(server, &[&room.log()], |_| true).0);
        }
        show("monit, cycle 1 s (not synced)", &mut seen, ours);
        println!();
    }

    fn canary_command(&self, room: &Room, verb: &str) -> Command {
        let mut command = Command::new(self.programs.join("baa-canary"));
        command.arg(verb).arg("--log-dir").arg(room.0.path()).stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn waiting(&self) {
        println!("## While waiting for one tmux server, 20 s   (to reach: 1.5 MiB, 0.1 % of a core)\n");
        let room = Room::new();
        let server = room.server();
        let canary = Held(
            self.canary_command(&room, "watch")
                .args(["--sock".as_ref(), room.socket().as_os_str()])
                .spawn()
                .unwrap(),
        );
        until(|| waiter_of(&room).is_some());
        let waiter = waiter_of(&room).unwrap();
        let mut script = Held(
            Command::new("tests/bench/canary.sh")
                .arg(room.socket())
                .arg(room.0.path().join("other.log"))
                .spawn()
                .unwrap(),
        );
        let monit = monit();
        let monit = monit.as_ref().map(|monit| room.monit(monit, server));
        std::thread::sleep(Duration::from_secs(2));
        let before = spent(canary.0.id());
        std::thread::sleep(Duration::from_secs(20));
        let share = (spent(canary.0.id()) - before) / 20.0 * 100.0;
        let ours = resident(canary.0.id());
        println!(
            "  {:42} {:8} KiB, {share:.2} % of a core; the client on its channel {} KiB",
            "baa-canary",
            ours,
            resident(waiter)
        );
        let of_script = resident(script.0.id()) + resident(waiter);
        println!(
            "  {:42} {of_script:8} KiB, × {:.1}",
            "sh and a client of tmux",
            of_script as f64 / ours as f64
        );
        if let Some(monit) = monit {
            let size = resident(monit.0.id());
            println!("  {:42} {size:8} KiB, × {:.1}", "monit", size as f64 / ours as f64);
        }
        let _ = script.0.kill();
        println!();
    }

    fn thousand(&self) {
        println!("## One canary for many   (to reach: 4 KiB for each)\n");
        let mut sizes = Vec::new();
        for count in [1, 1000] {
            let room = Room::new();
            let sleepers: Vec<Held> =
                (0..count).map(|_| Held(Command::new("sleep").arg("1000").spawn().unwrap())).collect();
            let list: String = sleepers.iter().map(|one| format!("pid={}\n", one.0.id())).collect();
            std::fs::write(room.0.path().join("targets"), list).unwrap();
            let canary = Held(
                self.canary_command(&room, "watch")
                    .arg("--targets-from")
                    .arg(room.0.path().join("targets"))
                    .spawn()
                    .unwrap(),
            );
            std::thread::sleep(Duration::from_secs(5));
            let armed = spent(canary.0.id());
            // The ring of a target grows for a minute.
            std::thread::sleep(Duration::from_secs(70));
            let share = (spent(canary.0.id()) - armed) / 70.0 * 100.0;
            println!(
                "  {count:5} processes {:30} {:8} KiB, {share:.2} % of a core",
                "",
                resident(canary.0.id())
            );
            sizes.push(resident(canary.0.id()));
        }
        println!("  for each further one {:37.2} KiB\n", (sizes[1] - sizes[0]) as f64 / 999.0);
    }
}

struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Room {
        Room(tempfile::Builder::new().prefix("baa").tempdir_in("/tmp").unwrap())
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("tmux-iap-claude-bench.sock")
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("exits.log")
    }

    fn tmux(&self) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.socket()).args(["-f", "/dev/null"]).stdin(Stdio::null());
        command
    }

    /// Starts a server; its pid.
    fn server(&self) -> i32 {
        assert!(
            self.tmux()
                .args(["new-session", "-d", "-s", "claude-bench", "sleep", "1000"])
                .status()
                .unwrap()
                .success()
        );
        let output = self.tmux().args(["display-message", "-p", "#{pid}"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
    }

    /// Kills it; milliseconds until the first path has a text, and until a file in the second fits.
    fn kill(&self, server: i32, paths: &[&Path], fits: impl Fn(&str) -> bool) -> (f64, Option<f64>) {
        let began = Instant::now();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(server), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        let millis = || began.elapsed().as_secs_f64() * 1000.0;
        let wait = |holds: &dyn Fn() -> bool| {
            while !holds() {
                assert!(began.elapsed() < Duration::from_secs(20));
                std::thread::sleep(Duration::from_micros(50));
            }
            millis()
        };
        let first = wait(&|| std::fs::metadata(paths[0]).is_ok_and(|found| found.len() > 0));
        let in_directory = |path: &Path| {
            let files = std::fs::read_dir(path).into_iter().flatten().flatten();
            files.map(|file| std::fs::read_to_string(file.path()).unwrap_or_default()).any(|text| fits(&text))
        };
        (first, paths.get(1).map(|path| wait(&|| in_directory(path))))
    }

    fn monit(&self, program: &Path, server: i32) -> Held {
        let at = |name: &str| self.0.path().join(name).display().to_string();
        std::fs::write(at("pid"), server.to_string()).unwrap();
        let action = format!("#!/bin/sh\necho dead >> {}\n", at("exits.log"));
        std::fs::write(at("action"), action).unwrap();
        let text = format!(
            "set daemon 1\nset pidfile {}\nset idfile {}\nset statefile {}\n\
                 check process bench with pidfile {}\n  if does not exist then exec \"/bin/sh {}\"\n",
            at("monit.pid"),
            at("monit.id"),
            at("monit.state"),
            at("pid"),
            at("action")
        );
        std::fs::write(at("monitrc"), text).unwrap();
        std::fs::set_permissions(at("monitrc"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        Held(
            Command::new(program)
                .args(["-I", "-c", &at("monitrc")])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = self.tmux().arg("kill-server").stderr(Stdio::null()).status();
    }
}

/// A client that waits at the room's server.
fn waiter_of(room: &Room) -> Option<u32> {
    let mark = format!("{}\0", room.socket().display());
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| {
        let line =
            String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default())
                .into_owned();
        line.contains(&mark) && line.contains("wait-for")
    })
}

fn monit() -> Option<PathBuf> {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|directory| directory.join("monit"))
        .find(|path| path.is_file());
    if found.is_none() {
        println!(
            "  monit                                      (is missing; on Debian: apt-get install monit)"
        );
    }
    found
}

/// Prints median and p99, and the median beside ours; the median.
fn show(name: &str, times: &mut [f64], ours: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    let (median, last) = (times[times.len() / 2], times[(times.len() * 99 / 100).min(times.len() - 1)]);
    let ratio = if ours > 1.0 { format!(", × {:.0}", median / ours) } else { String::new() };
    println!("  {name:50} {median:8.2} ms median, {last:8.2} ms p99{ratio}");
    median
}

fn resident(pid: u32) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

/// Seconds of processor time.
fn spent(pid: u32) -> f64 {
    let nanos = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    nanos.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}
