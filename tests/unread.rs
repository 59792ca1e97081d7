//! Nobody reads: a pipe that is full, a terminal that is paused by ^S, outputs that are closed. Whoever
//! watches over something goes on all the same, and says later how much was lost.

use crate::run_loop::{lives, read, script};
use crate::support::{PATIENCE, Room, port, signal, skip, until};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How stdout and stderr are lost.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Unread {
    /// A pipe that holds no byte more, and that nobody reads.
    Full,
    /// A pipe whose reader is gone.
    Gone,
    /// No descriptor at all.
    Closed,
    /// A terminal on which ^S was typed.
    Paused,
}

const ALL: [Unread; 4] = [Unread::Full, Unread::Gone, Unread::Closed, Unread::Paused];

/// A program, and the other end of its outputs.
struct Mute {
    child: Child,
    end: Option<OwnedFd>,
    how: Unread,
}

impl Mute {
    fn spawn(room: &Room, how: Unread, words: &[&str]) -> Mute {
        let (program, arguments) = words.split_first().unwrap();
        let mut command =
            if program.starts_with('/') { Command::new(program) } else { room.command(program) };
        if how == Unread::Closed {
            let path = command.get_program().to_owned();
            command = room.command("baa-run");
            let mut shell = Command::new("/bin/sh");
            shell.env_clear().envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
            shell.current_dir(room.dir.path()).stdin(Stdio::null());
            shell.args(["-c", "exec \"$0\" \"$@\" >&- 2>&-"]).arg(path);
            command = shell;
        }
        command.args(arguments).env("TERM", "xterm");
        if how != Unread::Closed {
            // Each line begins with the program's name, so that few of them are too many.
            command.arg0("k".repeat(2000));
        }
        let (end, theirs) = match how {
            Unread::Closed => (None, None),
            Unread::Paused => {
                let pty = nix::pty::openpty(None, None).unwrap();
                let mut master = File::from(pty.master);
                master.write_all(b"\x13").unwrap();
                until("the terminal is paused", || !writable(&pty.slave));
                (Some(master.into()), Some(pty.slave))
            }
            Unread::Full | Unread::Gone => {
                let (reader, writer) = nix::unistd::pipe().unwrap();
                fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
                fcntl(&reader, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)).unwrap();
                fill(&writer);
                ((how == Unread::Full).then_some(reader), Some(writer))
            }
        };
        if let Some(theirs) = theirs {
            command.stdout(theirs.try_clone().unwrap()).stderr(theirs);
        }
        Mute { child: command.spawn().unwrap(), end, how }
    }

    /// Reads what has come, in longer and longer intervals, until `words` are among it.
    #[track_caller]
    fn hears(&mut self, words: &str) {
        let mut file = File::from(self.end.take().unwrap());
        if self.how == Unread::Paused {
            file.write_all(b"\x11").unwrap();
        }
        let mut heard = String::new();
        for pause in [50, 200, 1000, 4000, 16_000, 32_000] {
            std::thread::sleep(Duration::from_millis(pause));
            let (mut bytes, before) = ([0; 65536], heard.len());
            while heard.len() < before + 1024 * 1024 && readable(&file) {
                let count = file.read(&mut bytes).unwrap();
                heard.push_str(&String::from_utf8_lossy(&bytes[..count]));
                if heard.contains(words) {
                    self.end = Some(file.into());
                    return;
                }
            }
        }
        panic!("{words:?} is not said, but {:?}", heard.lines().rev().take(3).collect::<Vec<_>>());
    }

    /// Its exit code after TERM.
    #[track_caller]
    fn stop(&mut self) -> Option<i32> {
        signal(self.child.id(), Signal::SIGTERM);
        self.code()
    }

    #[track_caller]
    fn code(&mut self) -> Option<i32> {
        let mut status = None;
        until("it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether something comes soon.
fn readable(file: &File) -> bool {
    let mut set = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    poll(&mut set, PollTimeout::from(300u16)).unwrap() > 0
}

fn writable(fd: &OwnedFd) -> bool {
    let mut set = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
    poll(&mut set, PollTimeout::ZERO).unwrap() > 0
}

/// Through an open file of our own: O_NONBLOCK must not be set on the one that the program gets.
fn fill(writer: &OwnedFd) {
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let mut file = OpenOptions::new().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).unwrap();
    while file.write(&[b'.'; 512]).is_ok() {}
    assert!(!writable(writer));
}

use std::os::unix::fs::OpenOptionsExt;

#[apply(test)]
fn a_keeper_that_nobody_reads_restarts_and_obeys() {
    for how in ALL {
        let room = Room::new();
        let script = script("");
        let words = ["baa-run", "-v", "--throttle", "0", "--", "/bin/sh", "-c", &script];
        let mut keeper = Mute::spawn(&room, how, &words);
        for life in 0..3 {
            until("it runs", || lives(&room).len() > life);
            signal(u32::try_from(lives(&room)[life]).unwrap(), Signal::SIGKILL);
        }
        until("it runs", || lives(&room).len() == 4);
        assert_eq!(keeper.stop(), Some(0), "{how:?}");
    }
}

#[apply(test)]
fn what_a_keeper_could_not_say_is_counted() {
    for how in [Unread::Full, Unread::Paused] {
        let room = Room::new();
        let script = "echo x >> lives; exit 1";
        let words = ["baa-run", "-v", "--throttle", "0", "--", "/bin/sh", "-c", script];
        let mut keeper = Mute::spawn(&room, how, &words);
        until("many lives are over", || read(&room, "lives").len() > 200);
        keeper.hears("lines were lost here: nobody read them");
        assert_eq!(keeper.stop(), Some(0), "{how:?}");
    }
}

const GROUP: &str = r#"
[[daemon]]
id = "steady"
command = ["/bin/sh", "-c", "echo $$ >> lives; trap 'exit 0' TERM; while :; do sleep 0.01; done"]
restart = { policy = "always", initial = "0s", step = "0s" }
[[daemon]]
id = "loud"
command = ["/bin/sh", "-c", "yes 'a line that nobody reads' | head -n 100000; touch said; exec sleep 600"]
"#;

#[apply(test)]
fn a_group_that_nobody_reads_restarts_and_obeys() {
    for how in ALL {
        for option in ["-v", "--"] {
            let room = Room::new();
            room.write("g.toml", GROUP);
            let mut group = Mute::spawn(&room, how, &["baa-daemons", "run", option, "g.toml"]);
            for life in 0..3 {
                until("it runs", || lives(&room).len() > life);
                signal(u32::try_from(lives(&room)[life]).unwrap(), Signal::SIGKILL);
            }
            until("it runs", || lives(&room).len() == 4);
            until("the loud one is heard", || room.path("said").exists());
            assert_eq!(room.run("baa-daemons", ["restart", "g.toml", "steady"]).status, 0);
            until("it runs", || lives(&room).len() == 5);
            if how == Unread::Paused {
                group.hears("lines of stdout were lost: nobody read them");
            }
            assert_eq!(group.stop(), Some(0), "{how:?}");
            // The file has it all, whatever the terminal does.
            let logs = room.run("baa-daemons", ["logs", "--lines", "1", "g.toml", "loud"]);
            assert!(logs.stdout.starts_with("a line that nobody reads"), "{logs:?}");
        }
    }
}

/// A disk that stands still: what an entry says goes to a file that takes no byte more.
#[apply(test)]
fn a_group_whose_log_stands_still_restarts_and_obeys() {
    let room = Room::new();
    room.write("g.toml", GROUP);
    let run = |how| Mute::spawn(&room, how, &["baa-daemons", "run", "-v", "g.toml"]);
    let mut group = run(Unread::Gone);
    until("it runs", || lives(&room).len() == 1);
    assert_eq!(group.stop(), Some(0));
    let logs = std::fs::read_dir(room.path("state/baa/groups")).unwrap().next().unwrap().unwrap().path();
    let log = logs.join("loud.log");
    let _ = std::fs::remove_file(&log);
    nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&log).unwrap();
    let mut group = run(Unread::Gone);
    for life in 1..4 {
        until("it runs", || lives(&room).len() > life);
        signal(u32::try_from(lives(&room)[life]).unwrap(), Signal::SIGKILL);
    }
    until("it runs", || lives(&room).len() == 5);
    // Entries are not held up by it either.
    until("the loud one is heard", || room.path("said").exists());
    std::fs::remove_file(room.path("said")).unwrap();
    assert_eq!(room.run("baa-daemons", ["restart", "g.toml", "loud"]).status, 0);
    until("the loud one is heard", || room.path("said").exists());
    assert_eq!(group.stop(), Some(0));
    drop(reader);
}

/// A disk that is full: what is lost is told when there is room again.
#[apply(test)]
fn what_a_full_disk_did_not_take_is_counted() {
    let room = Room::new();
    let state = room.path("state");
    std::fs::create_dir(&state).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(&state).output();
    if !mount.is_ok_and(|done| done.status.success()) {
        skip("no file system can be mounted here");
    }
    let script = "until [ -e full ]; do sleep 0.01; done; yes line | head -n 100; touch said; exec sleep 600";
    room.write("g.toml", &format!("[[daemon]]\nid = \"a\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n"));
    let mut group = Mute::spawn(&room, Unread::Gone, &["baa-daemons", "run", "g.toml"]);
    until("it runs", || room.run("baa-daemons", ["status", "g.toml"]).status == 0);
    assert!(std::fs::write(state.join("filler"), vec![0; 1 << 20]).is_err());
    room.write("full", "");
    until("all is said", || room.path("said").exists());
    std::thread::sleep(Duration::from_millis(50));
    std::fs::remove_file(state.join("filler")).unwrap();
    let logs = || room.run("baa-daemons", ["logs", "--lines", "200", "g.toml", "a"]).stdout;
    until("it is told", || logs().contains("lost here: no space left on device"));
    let text = logs();
    let lost: usize = text.split("baa-daemons: ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert_eq!(text.lines().filter(|line| *line == "line").count() + lost, 100, "{text}");
    assert_eq!(group.stop(), Some(0));
    let _ = Command::new("umount").arg("-l").arg(&state).status();
}

#[apply(test)]
fn a_holder_that_nobody_reads_runs_its_command_and_gives_the_lease_up() {
    for how in ALL {
        let room = Room::new();
        let run = ["--", "/bin/sh", "-c", "echo x >> lives; exit 7"];
        let words: Vec<&str> = ["baa-lease", "hold", "-v"].into_iter().chain(run).collect();
        assert_eq!(Mute::spawn(&room, how, &words).code(), Some(7), "{how:?}");
        assert_eq!(read(&room, "lives"), "x\n");
        let words: Vec<&str> = ["baa-lease", "hold", "-v", "--", "/bin/sh", "-c"].into();
        let script = script("");
        let words: Vec<&str> = words.into_iter().chain([script.as_str()]).collect();
        let mut holder = Mute::spawn(&room, how, &words);
        until("it runs", || lives(&room).len() == 1);
        assert_eq!(holder.stop(), Some(0), "{how:?}");
        assert_eq!(room.run("baa-lease", ["status"]).status, 1);
    }
}

#[apply(test)]
fn a_conductor_that_nobody_reads_leads_and_obeys() {
    for how in ALL {
        let room = Room::new();
        let script = script("");
        let words = ["baa-lease", "start", "--scheduler", &script, "--on-leader", "echo leader >> hooks"];
        let mut conductor = Mute::spawn(&room, how, &words);
        until("its scheduler runs", || lives(&room).len() == 1);
        signal(u32::try_from(lives(&room)[0]).unwrap(), Signal::SIGKILL);
        until("its scheduler runs again", || lives(&room).len() == 2);
        until("it has told of it", || read(&room, "hooks") == "leader\n");
        // What nobody hears is lost, but the end was an orderly one.
        let code = conductor.stop();
        assert!(code == Some(0) || how == Unread::Gone || how == Unread::Closed, "{how:?} {code:?}");
        assert_eq!(room.run("baa-lease", ["status"]).status, 1);
    }
}

#[apply(test)]
fn a_canary_that_nobody_reads_records_and_goes() {
    for how in ALL {
        let room = Room::new();
        let mut watched: Vec<Mute> =
            (0..2).map(|_| Mute::spawn(&room, Unread::Gone, &["/bin/sleep", "600"])).collect();
        let pids: Vec<String> = watched.iter().map(|one| one.child.id().to_string()).collect();
        let log = room.text("deaths");
        let words =
            ["baa-canary", "watch", "-v", "--json", "--log-dir", &log, "--pid", &pids[0], "--pid", &pids[1]];
        let mut canary = Mute::spawn(&room, how, &words);
        let records = || -> String {
            let files = std::fs::read_dir(&log).into_iter().flatten().flatten();
            files.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect()
        };
        until("it is armed", || records().matches("armed").count() + arms(&room, &log) > 1);
        for (number, one) in watched.iter_mut().enumerate() {
            one.child.kill().unwrap();
            one.child.wait().unwrap();
            until("the death is recorded", || records().contains(&pids[number]));
        }
        let code = canary.code();
        assert!(code == Some(10) || how == Unread::Gone || how == Unread::Closed, "{how:?} {code:?}");
    }
}

/// How many are armed there.
fn arms(room: &Room, log: &str) -> usize {
    room.run("baa-canary", ["list", "--log-dir", log]).stdout.lines().count()
}

#[apply(test)]
fn a_control_that_nobody_reads_serves_and_obeys() {
    for how in ALL {
        let room = Room::new();
        let port = port();
        let address = format!("127.0.0.1:{port}");
        let mut control = Mute::spawn(&room, how, &["baa-control", "--listen", &address]);
        let ready = format!("tcp://{address}");
        assert_eq!(room.run("baa-healthwait", [&ready]).status, 0, "{how:?}");
        // Each of them is a line of some hundred bytes in the log.
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        for _ in 0..1000 {
            let request = format!("GET /{} HTTP/1.1\r\nHost: {address}\r\n\r\n", "x".repeat(500));
            stream.write_all(request.as_bytes()).unwrap();
            let mut line = String::new();
            while !line.contains("HTTP/1.1 404") {
                line.clear();
                assert!(answers.read_line(&mut line).unwrap() > 0, "{how:?}");
            }
        }
        if matches!(how, Unread::Full | Unread::Paused) {
            control.hears("lines were lost here: nobody read them");
        }
        assert_eq!(control.stop(), Some(0), "{how:?}");
    }
}

#[apply(test)]
fn a_wait_ends_at_its_deadline_though_nobody_reads_its_words() {
    for how in [Unread::Paused, Unread::Full] {
        let room = Room::new();
        let begun = std::time::Instant::now();
        let words = ["baa-healthwait", "file:never", "--timeout", "500ms"];
        assert_eq!(Mute::spawn(&room, how, &words).code(), Some(124), "{how:?}");
        assert!(begun.elapsed() < PATIENCE / 2, "{how:?}");
        room.write("there", "");
        let words = ["baa-healthwait", "-v", "file:there", "--", "/bin/sh", "-c", "exit 9"];
        assert_eq!(Mute::spawn(&room, how, &words).code(), Some(9), "{how:?}");
    }
}

/// An answer waits for its reader, as in every pipeline; until then TERM ends the program.
#[apply(test)]
fn a_wait_whose_answer_nobody_reads_is_ended_by_a_signal() {
    let room = Room::new();
    let words = ["baa-healthwait", "exec:: > asked; exit 1", "--timeout", "1s", "--json"];
    let mut wait = Mute::spawn(&room, Unread::Full, &words);
    until("its signals are caught", || room.path("asked").exists());
    until("TERM ends it", || {
        signal(wait.child.id(), Signal::SIGTERM);
        wait.child.try_wait().unwrap().is_some()
    });
}
