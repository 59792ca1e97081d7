//! Keeping one command, and a group: what it costs, and how soon a killed one is back, beside runit and s6.

use crate::{Bench, until};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 40;

impl Bench {
    pub(crate) fn keep(&self) {
        let room = tempfile::tempdir().unwrap();
        println!("## baa-run   (to reach: 1.3 MiB, PSS 300 KiB, 3 ms over exec, back 2 ms after a kill)\n");
        let run = self.programs.join("baa-run");
        let plain = self.figure(60, Path::new("/bin/true"), &[]).unwrap();
        let kept = self.figure(60, &run, &["-q", "--restart", "never", "--", "/bin/true"]).unwrap();
        println!(
            "{:<56} {:>8.2} ms   over exec, median of 60",
            "start and end of /bin/true",
            kept.median - plain.median
        );
        // The script says its pid and goes on under it; a throttle would be measured otherwise.
        let script = "echo $$ > pid; exec sleep 1000";
        std::fs::write(room.path().join("run"), format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(
            room.path().join("run"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let config = "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\n[program:x]\n\
             command=./run\nautorestart=true\nstartsecs=0\n";
        std::fs::write(room.path().join("supervisord.conf"), config).unwrap();
        let keepers: [(&str, &str, Vec<&str>); 5] = [
            ("baa-run", run.to_str().unwrap(), vec!["-q", "--throttle", "0", "--", "./run"]),
            ("runsv (waits a second between starts)", "runsv", vec!["."]),
            ("s6-supervise (waits a second between starts)", "s6-supervise", vec!["."]),
            ("supervise of daemontools (the same)", "supervise", vec!["."]),
            ("supervisord", "supervisord", vec!["-n", "-c", "supervisord.conf"]),
        ];
        let floor = self.floor(room.path());
        println!(
            "{:<56} {floor:>8.2} ms   the script alone, to its first word: what no keeper can be under",
            "start of /bin/sh"
        );
        let mut ours = 0.0;
        for (name, program, arguments) in keepers {
            let _ = std::fs::remove_file(room.path().join("pid"));
            let child = Command::new(program)
                .args(&arguments)
                .current_dir(room.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let Ok(child) = child else {
                println!(
                    "{name:<56} (is missing; on Debian: apt-get install runit s6 daemontools supervisor)"
                );
                continue;
            };
            let mut keeper = Keeper(child);
            let mut pid = self.pid(room.path(), 0);
            let mut times: Vec<f64> = (0..if name == "baa-run" { ROUNDS } else { 4 })
                .map(|_| {
                    let began = Instant::now();
                    nix::sys::signal::kill(
                        nix::unistd::Pid::from_raw(pid),
                        nix::sys::signal::Signal::SIGKILL,
                    )
                    .unwrap();
                    pid = self.pid(room.path(), pid);
                    let took = began.elapsed().as_secs_f64() * 1000.0;
                    // What has only just started is not what is measured next.
                    std::thread::sleep(Duration::from_millis(20));
                    took
                })
                .collect();
            times.sort_by(f64::total_cmp);
            // What a start has touched is given back in a moment.
            std::thread::sleep(Duration::from_millis(500));
            let (median, rss, pss) =
                (times[times.len() / 2], memory(keeper.0.id(), "Rss:"), memory(keeper.0.id(), "Pss:"));
            let ratio = if ours > 0.0 { format!("   × {:.0}", median / ours) } else { String::new() };
            println!("{name:<56} {median:>8.2} ms back after a kill   RSS {rss} KiB, PSS {pss} KiB{ratio}");
            if ours == 0.0 {
                ours = median;
            }
            keeper.stop();
        }
        println!();
        self.group(room.path());
    }

    /// How long the script takes to say its pid, in ms, the median: started by us, and killed.
    fn floor(&self, room: &Path) -> f64 {
        let mut pid = 0;
        let mut times: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let began = Instant::now();
                let mut script = Keeper(Command::new("./run").current_dir(room).spawn().unwrap());
                pid = self.pid(room, pid);
                let took = began.elapsed().as_secs_f64() * 1000.0;
                let _ = script.0.kill();
                took
            })
            .collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }

    /// The pid in the file, once it is another than `old`.
    fn pid(&self, room: &Path, old: i32) -> i32 {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let text = std::fs::read_to_string(room.join("pid")).unwrap_or_default();
            match text.strip_suffix('\n').unwrap_or_default().parse() {
                Ok(pid) if pid != old => return pid,
                _ => assert!(Instant::now() < end),
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    fn group(&self, room: &Path) {
        println!(
            "## baa-daemons   (to reach: a chain of 100 in 1.5 s, a fan of 100 in 0.3 s, 100 KiB for each \
                 of 1,000)\n"
        );
        let daemons = |arguments: &[&str]| {
            let mut command = Command::new(self.programs.join("baa-daemons"));
            command
                .args(arguments)
                .current_dir(room)
                .env("XDG_STATE_HOME", room)
                .env("BAA_RUNTIME_DIR", room.join("r"))
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command
        };
        let entry = |number: usize, needs: &str| {
            format!(
                "[[daemon]]\nid = \"e{number}\"\nrequires = [{needs}]\n\
                     command = [\"/bin/sh\", \"-c\", \"touch e{number}.up; exec sleep 1000\"]\n\
                     ready.probe = \"file:e{number}.up\"\n"
            )
        };
        let chain: String = (0..100)
            .map(|number: usize| {
                entry(
                    number,
                    &number.checked_sub(1).map(|before| format!("\"e{before}\"")).unwrap_or_default(),
                )
            })
            .collect();
        let fan: String =
            (0..=100).map(|number: usize| entry(number, if number > 0 { "\"e0\"" } else { "" })).collect();
        for (name, text) in [
            ("a chain of 100, ready one after the other, and stopped", chain),
            ("a fan of 100 behind one, ready, and stopped", fan),
        ] {
            let mut times: Vec<f64> = (0..5)
                .map(|_| {
                    (0..=100)
                        .for_each(|number| drop(std::fs::remove_file(room.join(format!("e{number}.up")))));
                    std::fs::write(room.join("g.toml"), &text).unwrap();
                    let began = Instant::now();
                    assert!(daemons(&["until-success", "g.toml"]).status().unwrap().success());
                    began.elapsed().as_secs_f64()
                })
                .collect();
            times.sort_by(f64::total_cmp);
            println!("{name:<56} {:>8.2} s", times[2]);
            if name.starts_with("a chain") {
                println!(
                    "{:<56} {:>8.2} ms   median of 99",
                    "from ready to the start of what needs it (to reach: 10)",
                    self.links(room)
                );
            }
        }
        let many: String = (0..1000)
            .map(|number| format!("[[daemon]]\nid = \"e{number}\"\ncommand = [\"/bin/sleep\", \"1000\"]\n"))
            .collect();
        std::fs::write(room.join("g.toml"), many).unwrap();
        let began = Instant::now();
        let mut group = Keeper(daemons(&["run", "g.toml"]).spawn().unwrap());
        until(|| daemons(&["status", "g.toml"]).status().unwrap().success());
        let up = began.elapsed().as_secs_f64();
        let each = memory(group.0.id(), "Rss:") as f64 / 1000.0;
        let began = Instant::now();
        group.stop();
        println!(
            "{:<56} {up:>8.2} s up, {:.2} s down, {each:.1} KiB for each",
            "1,000 entries",
            began.elapsed().as_secs_f64()
        );
        self.restarts(room, &daemons);
        self.long_chain(room, &daemons);
        self.groups(room);
        println!();
    }

    /// One entry that ends at once, restarted among a thousand others: from one start of it to the next. What
    /// it takes itself, to start and to end, is in it.
    fn restarts(&self, room: &Path, daemons: &dyn Fn(&[&str]) -> Command) {
        const MANY: u64 = 10_000;
        let mut text: String = (0..1000)
            .map(|number| format!("[[daemon]]\nid = \"e{number}\"\ncommand = [\"/bin/sleep\", \"1000\"]\n"))
            .collect();
        text += "[[daemon]]\nid = \"x\"\ncommand = [\"/bin/true\"]\nrestart = { initial = 0, step = 0 }\n";
        std::fs::write(room.join("g.toml"), text).unwrap();
        let mut group = Keeper(daemons(&["run", "-q", "g.toml"]).spawn().unwrap());
        let life = || {
            let mut status = daemons(&["status", "--json", "g.toml"]);
            let said = status.stdout(Stdio::piped()).output().unwrap().stdout;
            let status: serde_json::Value = serde_json::from_slice(&said).unwrap_or_default();
            let entries = status["entries"].as_array().cloned().unwrap_or_default();
            entries
                .iter()
                .find(|entry| entry["id"] == "x")
                .and_then(|entry| entry["life"].as_u64())
                .unwrap_or(0)
        };
        until(|| life() > 10);
        let (before, began) = (life(), Instant::now());
        while life() < before + MANY {
            std::thread::sleep(Duration::from_millis(500));
        }
        let (count, took) = (life() - before, began.elapsed().as_secs_f64() * 1000.0);
        group.stop();
        println!(
            "{:<56} {:>8.2} ms each of {count}   (to reach: 3)",
            "one entry among 1,000 others, restarted",
            took / count as f64
        );
    }

    /// Each requires the one before, so they start and stop one after the other.
    fn long_chain(&self, room: &Path, daemons: &dyn Fn(&[&str]) -> Command) {
        let needs = |number: usize| {
            let before = number.checked_sub(1).map(|before| format!("requires = [\"e{before}\"]\n"));
            before.unwrap_or_default()
        };
        let entry = |number: usize| {
            let needs = needs(number);
            format!("[[daemon]]\nid = \"e{number}\"\ncommand = [\"/bin/sleep\", \"1000\"]\n{needs}")
        };
        std::fs::write(room.join("g.toml"), (0..500).map(entry).collect::<String>()).unwrap();
        let began = Instant::now();
        let mut group = Keeper(daemons(&["run", "-q", "g.toml"]).spawn().unwrap());
        until(|| daemons(&["status", "g.toml"]).status().unwrap().success());
        let up = began.elapsed().as_secs_f64();
        let began = Instant::now();
        group.stop();
        println!(
            "{:<56} {up:>8.2} s up, {:.2} s down   (to reach: 1 s down)",
            "a chain of 500",
            began.elapsed().as_secs_f64()
        );
    }

    /// A hundred services without needs, kept by us and by others: until all have said a word, and the memory
    /// of all that keeps them.
    fn groups(&self, room: &Path) {
        const MANY: usize = 100;
        let scan = room.join("scan");
        let up = |number: usize| scan.join(format!("{number}/up"));
        let mut config = "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\n".to_owned();
        let mut plan = String::new();
        for number in 0..MANY {
            let directory = scan.join(number.to_string());
            std::fs::create_dir_all(&directory).unwrap();
            let run = directory.join("run");
            std::fs::write(&run, format!("#!/bin/sh\ntouch {}; exec sleep 1000\n", up(number).display()))
                .unwrap();
            std::fs::set_permissions(&run, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            config +=
                &format!("[program:{number}]\ncommand={}\nautorestart=true\nstartsecs=0\n", run.display());
            plan += &format!("[[daemon]]\nid = \"e{number}\"\ncommand = [\"{}\"]\n", run.display());
        }
        std::fs::write(room.join("many.conf"), config).unwrap();
        std::fs::write(room.join("many.toml"), plan).unwrap();
        let scanned = scan.to_str().unwrap();
        let keepers: [(&str, String, Vec<&str>); 5] = [
            (
                "100 entries: baa-daemons",
                self.programs.join("baa-daemons").to_string_lossy().into_owned(),
                vec!["run", "-q", "many.toml"],
            ),
            ("100 entries: runsvdir", "runsvdir".to_owned(), vec![scanned]),
            ("100 entries: s6-svscan", "s6-svscan".to_owned(), vec![scanned]),
            ("100 entries: svscan of daemontools", "svscan".to_owned(), vec![scanned]),
            ("100 entries: supervisord", "supervisord".to_owned(), vec!["-n", "-c", "many.conf"]),
        ];
        let mut ours = None;
        for (name, program, arguments) in keepers {
            (0..MANY).for_each(|number| drop(std::fs::remove_file(up(number))));
            let began = Instant::now();
            let mut command = Command::new(program);
            command
                .args(&arguments)
                .current_dir(room)
                .env("XDG_STATE_HOME", room)
                .env("BAA_RUNTIME_DIR", room.join("r"));
            let Ok(child) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
                println!("{name:<56} (is missing)");
                continue;
            };
            let mut keeper = Keeper(child);
            until(|| (0..MANY).all(|number| up(number).exists()));
            let took = began.elapsed().as_secs_f64();
            std::thread::sleep(Duration::from_millis(500));
            let own = i32::try_from(keeper.0.id()).ok().and_then(baa::sys::process::Pid::new).unwrap();
            let tree = baa::sys::process::Table::read().trees(&[own]);
            let keeps = |pid: &baa::sys::process::Pid| {
                std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() != "sleep")
            };
            let all: u64 = tree
                .iter()
                .map(|one| one.pid)
                .filter(keeps)
                .map(|pid| memory(u32::try_from(pid.number()).unwrap(), "Pss:"))
                .sum();
            let each = all as f64 / MANY as f64;
            let ratio = ours.map_or_else(String::new, |(first, least): (f64, f64)| {
                format!("   × {:.1}, × {:.1}", took / first, each / least)
            });
            println!("{name:<56} {took:>8.2} s up, {each:.1} KiB for each{ratio}");
            ours = ours.or(Some((took, each)));
            keeper.stop();
            // Not all of them take along what they keep.
            tree.into_iter().for_each(|one| baa::sys::child::signal(one, nix::sys::signal::Signal::SIGKILL));
        }
    }

    /// From a success to the start of what needs it, in the last run of a chain: the median, by its journal.
    fn links(&self, room: &Path) -> f64 {
        let groups = std::fs::read_dir(room.join("baa/groups")).unwrap().next().unwrap().unwrap().path();
        let text = std::fs::read_to_string(groups.join("events.jsonl")).unwrap();
        let (mut ready, mut times) = (None, Vec::new());
        for line in text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()) {
            let at = baa::words::stamp::parse(line["ts"].as_str().unwrap()).unwrap();
            match line["ev"].as_str().unwrap() {
                "begin" => times.clear(),
                "state" if line["state"] == "ready" => ready = Some(at),
                "start" => times.extend(
                    ready
                        .take()
                        .map(|ready| at.duration_since(ready).unwrap_or_default().as_secs_f64() * 1000.0),
                ),
                _ => {}
            }
        }
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }
}

struct Keeper(Child);

impl Keeper {
    fn stop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In KiB.
fn memory(pid: u32, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
