//! How baa-run and baa-daemons stop what they keep: by the signal that each service needs, real ones among
//! them, and by what comes when that does not help.

use crate::daemons::{Group, ask};
use crate::run_loop::{ctl, lives, read, spawn};
use crate::support::servers::{self, Postgres};
use crate::support::{Room, alive, collect, needs, port, signal, until};
use nix::sys::signal::Signal;
use std::path::Path;
use std::process::Command;

/// A command line, with what it says on its standard error in `log`.
fn logged(command: &Command) -> Vec<String> {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let shell = ["/bin/sh", "-c", "exec \"$@\" 2>>\"$0\"", "LOG"].map(str::to_owned);
    shell.into_iter().chain(words.map(|word| word.to_string_lossy().into_owned())).collect()
}

fn with_log(command: &Command, log: &Path) -> Vec<String> {
    let mut words = logged(command);
    words[3] = log.to_string_lossy().into_owned();
    words
}

/// As an array of TOML.
fn array(words: &[String]) -> String {
    format!("[{}]", words.iter().map(|word| format!("'''{word}'''")).collect::<Vec<_>>().join(", "))
}

/// PostgreSQL with a client in it waits for that client when it is told by TERM; by INT it shuts down, and
/// has nothing to recover when it is started again. Also where a killed keeper has left it.
#[apply(test)]
fn postgres_shuts_down_cleanly_by_its_own_signal() {
    let room = Room::new();
    let cluster = Postgres::new(&room);
    let url = format!("postgres://127.0.0.1:{}", cluster.port);
    let words = with_log(&cluster.command(), &room.path("log"));
    let options = ["--label", "pg", "--stop-signal", "INT", "--stop-timeout", "0", "--ready", &url, "--"];
    let words: Vec<&str> = options.into_iter().chain(words.iter().map(String::as_str)).collect();
    let serves = || {
        until("it serves", || {
            let status = ctl(&room, &["status", "pg", "--json"]);
            status.status == 0 && status.json()["state"] == "running"
        });
    };
    let keeper = spawn(&room, &words);
    serves();
    let mut client = cluster.session("select pg_sleep(1000)");
    ctl(&room, &["restart", "pg"]).expect(0, "", "");
    client.wait().unwrap();
    let mut client = cluster.session("select pg_sleep(1000)");
    ctl(&room, &["stop", "pg"]).expect(0, "", "");
    client.wait().unwrap();
    assert_eq!(collect(keeper).status, 0);
    let mut keeper = spawn(&room, &words);
    serves();
    let mut client = cluster.session("select pg_sleep(1000)");
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    let keeper = spawn(&room, &words);
    serves();
    client.wait().unwrap();
    ctl(&room, &["stop", "pg"]).expect(0, "", "");
    assert_eq!(collect(keeper).status, 0);
    let log = read(&room, "log");
    assert_eq!(log.matches("received fast shutdown request").count(), 4, "{log}");
    assert_eq!(log.matches("database system is shut down").count(), 4, "{log}");
    assert!(!log.contains("not properly shut down"), "{log}");
}

/// The same of an entry of a group.
#[apply(test)]
fn postgres_of_a_group_shuts_down_cleanly() {
    let room = Room::new();
    let cluster = Postgres::new(&room);
    let words = array(&with_log(&cluster.command(), &room.path("log")));
    let group = Group::run(
        &room,
        &format!(
            "[[daemon]]\nid = \"pg\"\ncommand = {words}\nstop-signal = \"INT\"\nstop-timeout = 0\n\
             ready.probe = \"postgres://127.0.0.1:{}\"\n",
            cluster.port
        ),
    );
    group.ready();
    let mut client = cluster.session("select pg_sleep(1000)");
    assert_eq!(group.stop().status, 0);
    client.wait().unwrap();
    let log = read(&room, "log");
    assert_eq!(log.matches("database system is shut down").count(), 1, "{log}");
}

/// What ends each of them well, by its own words.
fn ends_well(room: &Room, signal: &str, command: &Command, port: u16, words: &str) {
    let target = format!("tcp://127.0.0.1:{port}");
    let options = ["--stop-signal", signal, "--stop-timeout", "0", "--restart", "never", "--ready", &target];
    let command = with_log(command, &room.path("log"));
    let all =
        options.into_iter().chain(["-v", "--label", "it", "--"]).chain(command.iter().map(String::as_str));
    let keeper = spawn(room, &all.collect::<Vec<_>>());
    until("it serves", || {
        let status = ctl(room, &["status", "it", "--json"]);
        status.status == 0 && status.json()["state"] == "running"
    });
    ctl(room, &["stop", "it"]).expect(0, "", "");
    let done = collect(keeper);
    let log = read(room, "log") + &done.stdout;
    assert!(done.status == 0 && log.contains(words), "{done:?} {log}");
}

#[apply(test)]
fn redis_stops_well() {
    let (room, port) = (Room::new(), port());
    let mut redis = Command::new(servers::program("redis-server", &["usr/bin"]));
    redis.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir"]);
    ends_well(&room, "TERM", redis.arg(room.dir.path()), port, "Redis is now ready to exit, bye bye");
}

#[apply(test)]
fn nginx_stops_well() {
    let (room, port) = (Room::new(), port());
    let log = room.text("log");
    let settings = format!(
        "daemon off; pid {0}; error_log {log} notice; user root; events {{}}\n\
         http {{ access_log off; server {{ listen 127.0.0.1:{port}; }} }}\n",
        room.text("pid")
    );
    let settings = room.write("nginx.conf", &settings);
    let mut nginx = Command::new(servers::program("nginx", &["usr/sbin"]));
    nginx.arg("-e").arg(&log).arg("-p").arg(room.dir.path()).arg("-c").arg(settings);
    ends_well(&room, "QUIT", &nginx, port, "gracefully shutting down");
}

#[apply(test)]
fn gunicorn_stops_well() {
    let (room, port) = (Room::new(), port());
    room.write("app.py", "def app(environ, start):\n    start('200 OK', [])\n    return [b'ok']\n");
    let mut gunicorn = Command::new(servers::interpreter());
    gunicorn.args(["-m", "gunicorn", "--chdir"]).arg(room.dir.path());
    gunicorn.args(["--bind", &format!("127.0.0.1:{port}"), "app:app"]);
    if !gunicorn_is_there() {
        crate::support::omit("gunicorn is missing; .ci/servers installs it");
    }
    ends_well(&room, "TERM", &gunicorn, port, "Shutting down: Master");
}

fn gunicorn_is_there() -> bool {
    let mut command = Command::new(servers::interpreter());
    command.args(["-c", "import gunicorn"]).output().unwrap().status.success()
}

#[apply(test)]
fn node_stops_well() {
    let (room, port) = (Room::new(), port());
    let script = format!(
        "const server = require('http').createServer((_, answer) => answer.end('ok'));\n\
         server.listen({port}, '127.0.0.1');\n\
         process.on('SIGUSR2', () => server.close(() => {{ console.error('closed'); process.exit(0); }}));\n"
    );
    let script = room.write("server.js", &script);
    ends_well(&room, "USR2", Command::new(needs("node")).arg(script), port, "closed");
}

/// Real-time signals have names and numbers as glibc and systemd count them.
#[apply(test)]
fn a_stop_signal_has_a_name_or_a_number() {
    let perl = "use POSIX; my $h = sub { open(my $f, '>>', 'heard'); print $f \"$_[0]\\n\"; close $f; \
        exit 0 }; $SIG{$_} = $h for qw(NUM37 USR2 RTMIN HUP WINCH); open(my $f, '>>', 'lives'); \
        print $f \"$$\\n\"; close $f; select undef, undef, undef, 0.01 while 1";
    needs("perl");
    for (text, heard) in [
        ("SIGRTMIN+3", "NUM37\n"),
        ("37", "NUM37\n"),
        ("RTMIN", "RTMIN\n"),
        ("USR2", "USR2\n"),
        ("SIGHUP", "HUP\n"),
        ("28", "WINCH\n"),
    ] {
        let room = Room::new();
        let options = ["-q", "--stop-signal", text, "--stop-timeout", "0", "--", "perl", "-e", perl];
        let keeper = spawn(&room, &options);
        until("it runs", || lives(&room).len() == 1);
        signal(keeper.id(), Signal::SIGTERM);
        assert_eq!((collect(keeper).status, read(&room, "heard").as_str()), (0, heard), "{text}");
        // The same in a group's file, where a number needs no quotes.
        let room = Room::new();
        let text = text.parse::<u8>().map_or(format!("'{text}'"), |number| number.to_string());
        let group = Group::run(
            &room,
            &format!(
                "[[daemon]]\nid = \"p\"\ncommand = [\"perl\", \"-e\", '''{perl}''']\nstop-timeout = 0\n\
                 stop-signal = {text}\n"
            ),
        );
        until("it runs", || lives(&room).len() == 1);
        assert_eq!((group.stop().status, read(&room, "heard").as_str()), (0, heard), "{text}");
    }
    let room = Room::new();
    for (text, why) in [("TREM", "'TREM' is no signal"), ("CONT", "'CONT' ends nothing"), ("0", "no signal")]
    {
        let done = room.run("baa-run", ["--stop-signal", text, "--", "true"]);
        assert!(done.status == 125 && done.stderr.contains(why), "{done:?}");
        let entry = format!("[[daemon]]\nid = \"a\"\ncommand = [\"true\"]\nkill-signal = '{text}'\n");
        room.write("g.toml", &entry);
        ask(&room, &["check", "g.toml"]).failed_with(78, why);
    }
}

/// A shell that ignores TERM, with a child that does too, and says what else it hears.
fn deaf(id: &str, dies: bool) -> String {
    let end = if dies { "exit 0" } else { ":" };
    let hears = |who: &str| format!("trap '' TERM; trap 'echo {who} >> {id}.heard; {end}' USR2;");
    let (outer, inner) = (hears("main"), hears("child"));
    let loops = "while :; do sleep 0.01; done";
    format!("( {inner} touch {id}.child; {loops} ) & {outer} echo $$ >> lives; {loops}")
}

/// What does not stop in time gets the kill signal, all of it, and is killed only when that has not helped.
#[apply(test)]
fn what_does_not_stop_gets_the_kill_signal_first() {
    for dies in [true, false] {
        let room = Room::new();
        let script = deaf("a", dies);
        let options = ["--stop-timeout", "300ms", "--kill-signal", "USR2", "--", "/bin/sh", "-c", &script];
        let keeper = spawn(&room, &options);
        until("it runs", || lives(&room).len() == 1 && room.path("a.child").exists());
        let main = lives(&room)[0];
        signal(keeper.id(), Signal::SIGTERM);
        let done = collect(keeper);
        let mut heard: Vec<String> = read(&room, "a.heard").lines().map(str::to_owned).collect();
        heard.sort();
        assert_eq!((done.status, heard), (0, vec!["child".to_owned(), "main".to_owned()]), "{done:?}");
        assert!(done.stderr.contains("has not stopped within 300ms; sending SIGUSR2"), "{done:?}");
        assert!(!alive(main) && done.stderr.contains("killing it") != dies, "{done:?}");
        let room = Room::new();
        let entry = "stop-timeout = \"300ms\"\nkill-signal = \"USR2\"\n";
        let group = Group::run(
            &room,
            &format!("[[daemon]]\nid = \"a\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n{entry}"),
        );
        until("it runs", || lives(&room).len() == 1 && room.path("a.child").exists());
        let done = group.stop();
        let heard = read(&room, "a.heard");
        assert!(heard.contains("main") && heard.contains("child"), "{heard} {done:?}");
        assert!(done.status == i32::from(!dies) && done.stderr.contains("sending SIGUSR2"), "{done:?}");
    }
}

/// A server of the machine's Python, which writes its pid down.
fn web(port: u16) -> String {
    format!(
        "import http.server, os; open('lives', 'a').write(f'{{os.getpid()}}\\n'); \
         http.server.HTTPServer(('127.0.0.1', {port}), http.server.SimpleHTTPRequestHandler).serve_forever()"
    )
}

/// A daemon that is frozen goes on to have its connections taken by the kernel. It is replaced, and the
/// reason is told; the target is that of readiness, where live names none.
#[apply(test)]
fn a_frozen_daemon_is_replaced() {
    needs("python3");
    let (room, at) = (Room::new(), port());
    let target = format!("http://127.0.0.1:{at}/");
    let options = ["--live-interval", "200ms", "--live-timeout", "100ms", "--live-failures", "2", "--live"];
    let script = web(at);
    let common = ["--label", "w", "--ready", &target, "--throttle", "0", "--stop-timeout", "30s"];
    let words = common.into_iter().chain(options).chain(["--", "python3", "-c", &script]);
    let keeper = spawn(&room, &words.collect::<Vec<_>>());
    let serves = |count: usize| {
        until("it serves", || {
            let status = ctl(&room, &["status", "w", "--json"]);
            lives(&room).len() == count && status.status == 0 && status.json()["state"] == "running"
        });
    };
    serves(1);
    signal(u32::try_from(lives(&room)[0]).unwrap(), Signal::SIGSTOP);
    serves(2);
    assert!(!alive(lives(&room)[0]));
    ctl(&room, &["stop", "w"]).expect(0, "", "");
    let done = collect(keeper);
    let why = format!("w: does not serve any more: process {} is stopped", lives(&room)[0]);
    assert!(done.status == 0 && done.stderr.contains(&why), "{done:?}");

    let (room, at) = (Room::new(), port());
    let group = Group::run(
        &room,
        &format!(
            "[[daemon]]\nid = \"w\"\ncommand = [\"python3\", \"-c\", '''{}''']\n\
             ready.probe = \"tcp://127.0.0.1:{at}\"\n\
             live = {{ interval = \"200ms\", timeout = \"100ms\", failures = 2 }}\n\
             [[daemon]]\nid = \"d\"\ncommand = [\"/bin/sleep\", \"1000\"]\nrequires = [\"w\"]\n",
            web(at)
        ),
    );
    group.ready();
    let (first, needs_it) = (group.process("w"), group.process("d"));
    signal(u32::try_from(first).unwrap(), Signal::SIGSTOP);
    until("it is started again", || lives(&room).len() == 2);
    group.ready();
    assert!(!alive(first) && !alive(needs_it) && group.process("w") == lives(&room)[1]);
    let log = ask(&room, &["logs", "--events", "g.toml"]).stdout;
    assert!(log.contains(&format!("does not serve any more: process {first} is stopped")), "{log}");
    assert_eq!(group.stop().status, 0);
}

/// One that hangs otherwise is found out by the time for an answer.
#[apply(test)]
fn one_that_does_not_answer_in_time_is_replaced() {
    let room = Room::new();
    let live = "live = { probe = \"exec:echo x >> asked; [ ! -e hangs ] || exec sleep 1000\", \
                interval = \"50ms\", timeout = \"300ms\", failures = 2 }";
    let script = "echo $$ >> lives; trap 'exit 0' TERM; while :; do sleep 0.01; done";
    let entry = format!("[[daemon]]\nid = \"a\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n{live}\n");
    let group = Group::run(&room, &entry);
    until("it is asked", || read(&room, "asked").lines().count() > 3);
    assert_eq!(lives(&room).len(), 1);
    room.write("hangs", "");
    until("it is started again", || lives(&room).len() >= 2);
    std::fs::remove_file(room.path("hangs")).unwrap();
    assert_eq!(group.stop().status, 0);
    let wrong = |entry: &str, why: &str| {
        room.write("g.toml", entry);
        ask(&room, &["check", "g.toml"]).failed_with(78, why);
    };
    let entry =
        |kind: &str, live: &str| format!("[[{kind}]]\nid = \"a\"\ncommand = [\"true\"]\nlive = {live}\n");
    wrong(&entry("daemon", "{}"), "live needs a probe, its own or that of ready");
    wrong(&entry("oneshot", "{ probe = \"file:x\" }"), "only a daemon can be asked whether it lives");
    wrong(&entry("daemon", "{ probe = \"file:x\", interval = 0 }"), "must be more than 0");
    let again = "[[oneshot]]\nid = \"a\"\ncommand = [\"true\"]\nrestart = \"always\"\n";
    wrong(again, "a oneshot that has done its work is done; restart takes on-failure or never");
    let run = |arguments: &[&str]| room.run("baa-run", arguments.iter().chain(&["--", "true"]));
    run(&["--live"]).failed_with(125, "--live needs a target of its own");
    run(&["--ready", "notify", "--live"]).failed_with(125, "--live needs a target of its own");
    run(&["--live", "file:x", "--live-interval", "0"]).failed_with(125, "must be more than 0");
}
