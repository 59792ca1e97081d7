//! baa-run: signals, as they arrive at the command; and what a command is given.

use crate::run_loop::{ctl, lives, read, script, spawn};
use crate::support::{Room, alive, collect, finish, needs, needs_root, signal, skip, until};
use nix::sys::signal::Signal;
use std::process::{Command, Stdio};

/// One that is stopped is told to go on, so that it can obey.
#[apply(test)]
fn a_stop_reaches_one_that_is_stopped() {
    let room = Room::new();
    let life = "trap 'echo heard > heard; exit 0' TERM; echo $$ > lives; while :; do sleep 0.01; done";
    let keeper = spawn(&room, &["-q", "--stop-timeout", "50s", "--", "/bin/sh", "-c", life]);
    until("it runs", || lives(&room).len() == 1);
    signal(u32::try_from(lives(&room)[0]).unwrap(), Signal::SIGSTOP);
    signal(keeper.id(), Signal::SIGTERM);
    assert_eq!(collect(keeper).status, 0);
    assert_eq!(read(&room, "heard"), "heard\n");
}

/// As the first process of a container everything that can be caught arrives as itself; INT and TERM are
/// what it stops with.
#[apply(test)]
fn a_first_process_passes_each_signal_on_as_itself() {
    needs("perl");
    needs("unshare");
    for (last, number) in [("INT", 2), ("TERM", 15)] {
        let room = Room::new();
        let life = "use Config; my @n = split ' ', $Config{sig_name}; my @m = split ' ', $Config{sig_num}; \
            foreach my $i (1..$#n) { next if $n[$i] =~ /^(KILL|STOP|CHLD|CLD|NUM3[23])$/; \
            $SIG{$n[$i]} = sub { open(my $f, '>>', 'heard'); print $f \"$m[$i]\\n\"; close $f; \
            exit 5 if -e 'last' } } \
            open(my $f, '>', 'up'); close $f; select undef, undef, undef, 0.01 while 1";
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        command.arg(room.command("baa-run").get_program());
        command.args(["-q", "--restart", "never", "--", "perl", "-e", life]).current_dir(room.dir.path());
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        until("it runs", || room.path("up").exists() || child.try_wait().unwrap().is_some());
        if !room.path("up").exists() {
            skip("no process namespaces can be made here");
        }
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let Ok(children) = std::fs::read_to_string(children) else {
            skip("the kernel has no list of children");
        };
        let first: i32 = children.split_whitespace().next().unwrap().parse().unwrap();
        let send = |number: i32| {
            let sent = Command::new("kill").args([format!("-{number}"), first.to_string()]).status();
            assert!(sent.unwrap().success());
        };
        let heard =
            || -> Vec<i32> { read(&room, "heard").lines().filter_map(|line| line.parse().ok()).collect() };
        let own = [2, 9, 15, 17, 19, 32, 33];
        let all: Vec<i32> = (1..=64).filter(|number| !own.contains(number)).collect();
        for number in &all {
            send(*number);
            until(&format!("signal {number}"), || heard().contains(number));
        }
        assert_eq!(all.len() + 2, 59);
        room.write("last", "");
        send(number);
        assert_eq!((collect(child).status, heard().last()), (5, Some(&number)), "{last}");
    }
}

/// A death by a real-time signal is one like others.
#[apply(test)]
fn a_death_by_a_real_time_signal_is_seen() {
    let room = Room::new();
    let done = room.run("baa-run", ["-q", "--restart", "never", "--", "/bin/sh", "-c", "kill -34 $$"]);
    assert_eq!(done.status, 128 + 34, "{done:?}");
}

/// What the caller ignored stays ignored, for us and for the command; what he blocked, or did with SIGCHLD,
/// is none of our matter.
#[apply(test)]
fn what_the_caller_did_with_signals() {
    needs("perl");
    let room = Room::new();
    let program = room.command("baa-run").get_program().to_owned();
    let calling = |perl: &str, arguments: &[&str]| {
        let mut command = room.command("baa-run");
        let envs: Vec<_> =
            command.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
        command = Command::new("perl");
        command.env_clear().envs(envs).current_dir(room.dir.path()).stdin(Stdio::null());
        command.args(["-MPOSIX", "-e", &format!("{perl}; exec @ARGV or die")]).arg(&program).args(arguments);
        command
    };
    let life = script("");
    let nohup = calling("$SIG{HUP} = 'IGNORE'", &["-q", "--label", "h", "--", "/bin/sh", "-c", &life])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("it runs", || lives(&room).len() == 1 && ctl(&room, &["status", "h"]).status == 0);
    signal(nohup.id(), Signal::SIGHUP);
    signal(u32::try_from(lives(&room)[0]).unwrap(), Signal::SIGHUP);
    assert!(
        ctl(&room, &["status", "h", "--json"]).json()["pid"] == lives(&room)[0] && alive(lives(&room)[0])
    );
    signal(nohup.id(), Signal::SIGTERM);
    assert_eq!((collect(nohup).status, lives(&room).len()), (0, 1));
    let exits = ["-q", "--restart", "never", "--", "/bin/sh", "-c", "exit 7"];
    assert_eq!(finish(&mut calling("$SIG{CHLD} = 'IGNORE'", &exits)).status, 7);
    let block = "sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGTERM, SIGCHLD, SIGINT))";
    assert_eq!(finish(&mut calling(block, &exits)).status, 7);
    let blocked = calling(block, &["-q", "--", "/bin/sh", "-c", &life])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("it runs", || lives(&room).len() == 2);
    signal(blocked.id(), Signal::SIGTERM);
    assert_eq!(collect(blocked).status, 0);
}

/// Sockets are passed without a shell in between: every variable and the name of the program arrive.
#[apply(test)]
fn sockets_are_passed_with_names_and_variables_intact() {
    needs("perl");
    let room = Room::new();
    let life = "open(my $c, '<', '/proc/self/cmdline'); my ($zero) = split /\\0/, <$c>; \
        print join ' ', $ENV{LISTEN_PID} == $$, $ENV{LISTEN_FDS}, $ENV{LISTEN_FDNAMES}, \
        $ENV{'spring.profile'}, $zero, -S '/proc/self/fd/3' ? 'socket' : 'nothing'";
    let mut command = room.command("baa-run");
    command.env("spring.profile", "x").args(["-q", "--restart", "never", "--listen", "web=127.0.0.1:0"]);
    finish(command.args(["--", "perl", "-e", life])).expect(0, "1 1 web x perl socket", "");
}

/// A start that cannot be made says what was started, where, and what is missing.
#[apply(test)]
fn a_start_that_fails_names_the_program_and_the_directory() {
    let room = Room::new();
    let start = |program: &str| room.run("baa-run", ["-q", "--restart", "never", "--", program]);
    let here = std::fs::canonicalize(room.dir.path()).unwrap();
    start("./web").failed_with(
        127,
        &format!("cannot start './web': no such file or directory (in {})", here.display()),
    );
    room.write("script", "#!/no/such/interpreter -x\n");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(room.path("script"), open).unwrap();
    start("./script")
        .failed_with(127, "cannot start './script': its interpreter '/no/such/interpreter': no such file");
    start("no-such-program").failed_with(127, "cannot start 'no-such-program': no such file or directory");
}

/// While what is left is aborted, the keeper answers, and the command is told to stop only after that.
#[apply(test)]
fn an_abort_keeps_nobody_waiting() {
    let room = Room::new();
    let abort = "touch aborting; until [ -e go ]; do sleep 0.01; done; touch aborted";
    let life = script("").replace("exit 0", "[ -e aborted ] && touch after; exit 0");
    let drain = ["--label", "a", "--drain-cmd", "sleep 1000", "--drain-abort", abort];
    let keeper = spawn(&room, &[&drain[..], &["--", "/bin/sh", "-c", &life]].concat());
    until("it runs", || lives(&room).len() == 1 && ctl(&room, &["status", "a"]).status == 0);
    ctl(&room, &["restart", "a", "--no-wait"]).expect(0, "", "");
    until("it drains", || ctl(&room, &["status", "a"]).stdout.contains("draining"));
    signal(keeper.id(), Signal::SIGTERM);
    until("it is aborted", || room.path("aborting").exists());
    // Answered in the time that the abort has; a keeper that waits for it would have it killed first.
    assert!(ctl(&room, &["status", "a"]).stdout.contains("stopping"));
    room.write("go", "");
    let done = collect(keeper);
    assert!(done.status == 0 && !done.stderr.contains("--drain-abort"), "{done:?}");
    assert!(room.path("aborted").exists() && room.path("after").exists());
}

/// Nothing is left of a cgroup either, however its keeper ended.
#[apply(test)]
fn no_cgroup_is_left_behind() {
    needs_root();
    let Some(own) = baa::sys::cgroup::unified(baa::sys::process::Pid::own()) else {
        skip("no cgroups of version 2 here");
    };
    let room = Room::new();
    let found = || -> usize {
        let key = life_key(&room);
        let names = std::fs::read_dir(&own).into_iter().flatten().flatten();
        names.filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("baa-{key}-"))).count()
    };
    let mut keeper =
        spawn(&room, &["-q", "--label", "c", "--throttle", "0", "--", "/bin/sh", "-c", &script("")]);
    until("it runs", || lives(&room).len() == 1);
    if found() == 0 {
        skip("no cgroup can be made here");
    }
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    signal(u32::try_from(lives(&room)[0]).unwrap(), Signal::SIGKILL);
    until("it is dead", || !alive(lives(&room)[0]));
    let twice = ["-q", "--label", "c", "--restart", "on-failure", "--throttle", "0", "--", "/bin/sh", "-c"];
    let done = room.run("baa-run", [&twice[..], &["[ -e two ] && exit 0; touch two; exit 1"]].concat());
    assert_eq!((done.status, found()), (0, 0), "{done:?}");
}

fn life_key(room: &Room) -> String {
    let uid = nix::unistd::geteuid();
    baa::life::key(format!("run {uid} {} c", room.text("run")).as_bytes())
}
