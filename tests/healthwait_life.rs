//! What is alive: of the commands that baa-healthwait asks by, after it, nothing, however busy the machine
//! is; and a process that cannot be looked at may be.

use crate::support::{Done, Room, Service, binary, collect, finish, needs, needs_root, signal, skip, until};
use nix::sys::signal::Signal;
use std::process::{Child, Command, Stdio};

/// Many who want the processor, until this is dropped.
struct Busy(Vec<Child>);

impl Busy {
    fn new() -> Busy {
        let spin = || Command::new("/bin/sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        Busy((0..25).map(|_| spin()).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The processes among whose arguments `word` is.
fn with(word: &str) -> usize {
    let lists = std::fs::read_dir("/proc").unwrap().flatten().map(|one| one.path().join("cmdline"));
    let bears = |text: Vec<u8>| text.split(|byte| *byte == 0).any(|one| one == word.as_bytes());
    lists.filter(|path| std::fs::read(path).is_ok_and(bears)).count()
}

/// A time that no other command of this machine sleeps.
fn time(number: usize) -> String {
    format!("9{}.{number}", std::process::id())
}

#[apply(test)]
fn no_command_outlives_a_wait_that_is_too_late() {
    let room = Room::new();
    let busy = Busy::new();
    for turn in 0..6 {
        let time = time(turn);
        let command =
            if turn % 2 == 0 { format!("exec:sleep {time}") } else { format!("exec:sleep {time} | cat") };
        let done = room.run("baa-healthwait", ["-q", "--timeout", "200ms", &command]);
        assert_eq!(done.status, 124, "{done:?}");
        assert_eq!(with(&time), 0, "{turn}");
    }
    drop(busy);
}

#[apply(test)]
fn no_command_outlives_a_wait_that_is_interrupted_or_killed() {
    let room = Room::new();
    let busy = Busy::new();
    let ends = [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGKILL, 1009)];
    for (number, (end, status)) in ends.into_iter().enumerate() {
        for piped in [false, true] {
            // Who is killed takes its own child along, and cannot end what that has started.
            if piped && end == Signal::SIGKILL {
                continue;
            }
            let time = time(10 + 2 * number + usize::from(piped));
            let pipe = if piped { " | cat" } else { "" };
            let mut wait = room.command("baa-healthwait");
            let own = if end == Signal::SIGKILL { "exec " } else { "" };
            wait.args(["-q", "--timeout", "1000s", &format!("exec:{own}sleep {time}{pipe}")]);
            let child = wait.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            until("it sleeps", || with(&time) > 0);
            signal(child.id(), end);
            let done = collect(child);
            assert_eq!(done.status, status, "{done:?}");
            if end == Signal::SIGKILL {
                until("its child is dead", || with(&time) == 0);
            }
            assert_eq!(with(&time), 0, "{end} {piped}");
        }
    }
    drop(busy);
}

/// A command that is started once all is ready gets nothing of what was asked by for a child.
#[apply(test)]
fn no_command_is_left_to_what_is_started() {
    let room = Room::new();
    let time = time(30);
    let mut wait = room.command("baa-healthwait");
    wait.args(["-q", "--any", &format!("exec:sleep {time}"), "exec:true", "--", "/bin/true"]);
    finish(&mut wait).expect(0, "", "");
    assert_eq!(with(&time), 0);
}

/// What a command has left when it is too late, even without its environment, and what it has left when it
/// has answered: asked again and again it would pile up.
#[apply(test)]
fn no_command_leaves_anything_behind() {
    let room = Room::new();
    let time = time(40);
    for command in [
        format!("exec:env -i setsid sleep {time} & exec sleep {time}"),
        format!("exec:setsid sleep {time} & exec sleep {time}"),
        format!("exec:sleep {time} & exit 1"),
        format!("exec:setsid sleep {time} & exit 1"),
    ] {
        let done = room.run("baa-healthwait", ["-q", "--timeout", "300ms", &command]);
        assert_eq!(done.status, 124, "{done:?}");
        assert_eq!(with(&time), 0, "{command}");
    }
    let command = format!("exec:sleep {time} & exit 0");
    room.run("baa-healthwait", ["-q", &command, "--", "/bin/true"]).expect(0, "", "");
    assert_eq!(with(&time), 0);
}

/// One that is stopped ends nothing, and nothing of it is lost: continued it ends what it was late for.
#[apply(test)]
fn a_stopped_wait_ends_its_command_when_it_goes_on() {
    let room = Room::new();
    let time = time(50);
    let mut wait = room.command("baa-healthwait");
    wait.args(["-q", "--timeout", "500ms", &format!("exec:exec sleep {time}")]);
    let child = wait.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("it sleeps", || with(&time) > 0);
    signal(child.id(), Signal::SIGSTOP);
    // Well behind its deadline.
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(with(&time), 1);
    signal(child.id(), Signal::SIGCONT);
    assert_eq!(collect(child).status, 124);
    assert_eq!(with(&time), 0);
}

/// Signals that nobody has asked for end it too, and it is by them that it is ended.
#[apply(test)]
fn no_command_outlives_a_wait_that_any_signal_ends() {
    let room = Room::new();
    let ends = [Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM, Signal::SIGXCPU];
    for (number, end) in ends.into_iter().enumerate() {
        let time = time(60 + number);
        let mut wait = room.command("baa-healthwait");
        wait.args(["--timeout", "1000s", &format!("exec:sleep {time} | cat")]);
        let child = wait.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("it sleeps", || with(&time) > 0);
        signal(child.id(), end);
        collect(child).expect(1000 + end as i32, "", "");
        assert_eq!(with(&time), 0, "{end}");
    }
}

#[apply(test)]
fn a_signal_that_the_caller_ignores_ends_no_wait() {
    let room = Room::new();
    let script = "trap '' QUIT USR1
        \"$0\" -t 50s \"file:$1\" & kill -QUIT $!; kill -USR1 $!; : > \"$1\"; wait $!";
    let mut shell = room.command_at(std::path::Path::new("/bin/sh"));
    shell.args(["-c", script]).arg(binary("baa-healthwait")).arg(room.path("file"));
    finish(&mut shell).expect(0, "", "");
}

/// baa-healthwait where there is no /proc.
fn blind(room: &Room, arguments: &[&str]) -> Done {
    let mut inside = room.command_at(&needs("unshare"));
    inside.args(["--mount", "sh", "-c", "mount -t tmpfs none /proc && exec \"$0\" \"$@\""]);
    let done = finish(inside.arg(binary("baa-healthwait")).args(arguments));
    if done.stderr.contains("unshare:") || done.stderr.contains("mount:") {
        skip("no mount namespaces can be made here");
    }
    done
}

#[apply(test)]
fn without_proc_no_command_of_its_group_outlives_a_wait_that_is_too_late() {
    needs_root();
    let room = Room::new();
    let time = time(70);
    let done = blind(&room, &["-q", "--timeout", "500ms", &format!("exec:sleep {time} | cat")]);
    assert_eq!((done.status, with(&time)), (124, 0), "{done:?}");
}

/// Not down, not dead: nobody can tell.
#[apply(test)]
fn a_process_that_cannot_be_looked_at_is_not_said_to_be_dead() {
    needs_root();
    let room = Room::new();
    let sleeper = || Service { child: Command::new("sleep").arg("1000").spawn().unwrap() };
    let mut other = sleeper();
    let pid = other.pid();
    let unseen = format!("process {pid} exists, but it cannot be looked at without /proc");
    let target = format!("pid:{pid}");
    let seen = blind(&room, &["--attempts", "1", "--invert", "--json", &target]);
    assert_eq!(seen.status, 124, "{seen:?}");
    let told = &seen.json()["targets"][0]["last_error"];
    assert_eq!((&told["class"], &told["text"]), (&"unknown-process".into(), &unseen.as_str().into()));
    for (flag, words) in [
        ("--newer-than", format!("than process {pid}: it exists, but it cannot be looked at without /proc")),
        ("--served-by", format!("whether process {pid} answers: it exists, but it cannot be looked at")),
    ] {
        blind(&room, &[flag, &pid, "http://127.0.0.1:1/"]).failed_with(69, &words);
    }
    // Its death is told by a descriptor of it.
    blind(&room, &["-t", "300ms", "--watch-pid", &pid, "127.0.0.1:1"]).failed_with(124, "refused");
    other.child.kill().unwrap();
    // Dead, and not reaped.
    blind(&room, &["-t", "300ms", "--watch-pid", &pid, "127.0.0.1:1"]).failed_with(69, "is not alive");
    blind(&room, &["--attempts", "1", "--invert", &target]).expect(0, "", "");
    other.child.wait().unwrap();
    blind(&room, &["--attempts", "1", "--invert", &target]).expect(0, "", "");
}
