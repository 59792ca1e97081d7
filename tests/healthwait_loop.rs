//! One loop for all targets of baa-healthwait: what it costs, that nobody holds up anybody, and that what was
//! asked is counted.

use crate::support::{Room, binary, collect, finish, needs, port, skip, until};
use serde_json::Value;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Addresses of this machine on which nobody listens.
fn dead(count: usize) -> Vec<String> {
    let free = port();
    (0..count).map(|number| format!("127.1.{}.{}:{free}", number / 250, number % 250 + 1)).collect()
}

/// Starts to wait for `targets`.
fn begin(room: &Room, arguments: &[&str], targets: &[String]) -> Child {
    let mut wait = room.command("baa-healthwait");
    wait.args(arguments).args(targets).stdout(Stdio::piped()).stderr(Stdio::piped());
    wait.spawn().unwrap()
}

/// A number in a process's status (proc_pid_status(5)).
fn in_status(pid: u32, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

/// The processor time that a process has used, in seconds (proc_pid_stat(5)).
fn used(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().map(|at| fields[*at].parse::<f64>().unwrap()).sum();
    ticks / 100.0
}

fn signal_end(child: Child) {
    crate::support::signal(child.id(), nix::sys::signal::Signal::SIGTERM);
    assert_eq!(collect(child).status, 143);
}

/// A thousand threads took one core and a half; a build without optimisation is several times slower than
/// what ships.
#[apply(test)]
fn a_thousand_dead_targets_take_one_thread_and_little_time() {
    let room = Room::new();
    let wait = begin(&room, &["--timeout", "100s"], &dead(1000));
    // All of them have been asked once.
    until("it waits", || in_status(wait.id(), "voluntary_ctxt_switches:").is_some_and(|count| count > 40));
    assert_eq!(in_status(wait.id(), "Threads:"), Some(1));
    let (began, before) = (Instant::now(), used(wait.id()));
    std::thread::sleep(Duration::from_secs(3));
    let share = (used(wait.id()) - before) / began.elapsed().as_secs_f64();
    assert!(share < 0.3, "{share}");
    signal_end(wait);
}

#[apply(test)]
fn one_of_many_that_comes_up_is_noticed() {
    let room = Room::new();
    let mut targets = dead(300);
    let free = port();
    targets.insert(150, format!("localhost:{free}"));
    let wait = begin(&room, &["--any", "--timeout", "50s", "--json"], &targets);
    until("it waits", || in_status(wait.id(), "voluntary_ctxt_switches:").is_some_and(|count| count > 20));
    let listener = TcpListener::bind(("127.0.0.1", free)).unwrap();
    let done = collect(wait);
    drop(listener);
    let json = done.json();
    assert_eq!((done.status, json["targets"][150]["ready"].as_bool()), (0, Some(true)), "{}", done.stderr);
    assert_eq!(json["targets"][149]["last_error"]["class"].as_str(), Some("refused"));
}

/// A listener on the same port of another address looks as if it were meant, and is asked no more often for
/// that than now and then.
#[apply(test)]
fn a_sign_that_misleads_does_not_make_it_ask_for_ever() {
    let room = Room::new();
    let refused = port();
    let free = format!("127.0.0.1:{refused}");
    // One that listens on every address of IPv6, and on those alone.
    let six = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet6,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::empty(),
        None,
    );
    let Ok(six) = six else { skip("there is no IPv6 here") };
    nix::sys::socket::setsockopt(&six, nix::sys::socket::sockopt::Ipv6V6Only, &true).unwrap();
    let any = nix::sys::socket::SockaddrIn6::from(std::net::SocketAddrV6::new(
        std::net::Ipv6Addr::UNSPECIFIED,
        refused,
        0,
        0,
    ));
    nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&six), &any).unwrap();
    nix::sys::socket::listen(&six, nix::sys::socket::Backlog::new(8).unwrap()).unwrap();
    // Many targets, so that the list of listeners is looked at.
    let targets: Vec<String> = (0..12).map(|_| free.clone()).collect();
    let done = collect(begin(&room, &["--timeout", "2s", "--json"], &targets));
    let json = done.json();
    let attempts = json["targets"][0]["attempts"].as_u64().unwrap();
    assert!(done.status == 124 && (5..60).contains(&attempts), "{json}");
}

/// One that shakes no hands, one that says nothing, one whose commands hang: the one that comes up is
/// noticed.
#[apply(test)]
fn nobody_holds_up_the_others() {
    let (room, mute, free) = (Room::new(), port(), port());
    let _mute = room.service(&format!("127.0.0.1:{mute}"), &["--mute"]);
    let targets = [
        format!("https://127.0.0.1:{mute}/"),
        format!("http://127.0.0.1:{mute}/"),
        format!("redis://127.0.0.1:{mute}"),
        "exec:sleep 1000".to_owned(),
        format!("127.0.0.1:{free}"),
    ];
    let arguments = ["--any", "--timeout", "50s", "--probe-timeout", "0", "--json"];
    let wait = begin(&room, &arguments, &targets);
    until("all are asked", || {
        in_status(wait.id(), "voluntary_ctxt_switches:").is_some_and(|count| count > 20)
    });
    let _listener = TcpListener::bind(("127.0.0.1", free)).unwrap();
    let done = collect(wait);
    let json = done.json();
    assert_eq!((done.status, json["targets"][4]["ready"].as_bool()), (0, Some(true)), "{json}");
    assert_eq!(json["targets"][0]["attempts"].as_u64(), Some(1), "{json}");
}

/// What has not answered by the end was asked all the same, and each says what was waited for.
#[apply(test)]
fn a_question_without_an_answer_counts() {
    let (room, mute) = (Room::new(), port());
    let _mute = room.service(&format!("127.0.0.1:{mute}"), &["--mute"]);
    for (target, doing) in [
        (format!("https://127.0.0.1:{mute}/"), "greeting by tls"),
        (format!("http://127.0.0.1:{mute}/"), "waiting for the answer"),
        ("exec:sleep 1000".to_owned(), "running the command"),
    ] {
        for more in [vec!["--probe-timeout", "0"], vec!["--probe-timeout", "100s", "--successes", "2"]] {
            let mut arguments = vec!["--timeout", "300ms", "--json", target.as_str()];
            arguments.extend(&more);
            let done = room.run("baa-healthwait", &arguments);
            let json = done.json();
            assert_eq!((done.status, json["targets"][0]["attempts"].as_u64()), (124, Some(1)), "{json}");
            let why = format!("no answer in time ({doing}) (1 attempt)");
            assert!(done.stderr.contains(&why), "{done:?}");
        }
    }
}

/// How often a server was asked, as it saw it itself.
#[apply(test)]
fn attempts_are_the_questions_that_were_asked() {
    let (room, port) = (Room::new(), port());
    let counted = |name: &str| std::fs::read_to_string(room.path(name)).unwrap_or_default().lines().count();
    let _service =
        room.service(&format!("127.0.0.1:{port}"), &["--status", "503", "--count", &room.text("n")]);
    let url = format!("http://127.0.0.1:{port}/");
    let told = |json: &Value| {
        let stretches = json["targets"][0]["timeline"].as_array().unwrap();
        let ended: u64 = stretches.iter().map(|one| one["count"].as_u64().unwrap()).sum();
        (usize::try_from(json["targets"][0]["attempts"].as_u64().unwrap()).unwrap(), ended)
    };
    let done = room.run("baa-healthwait", ["--attempts", "7", "--delay", "5ms", "--json", &url]);
    assert_eq!((told(&done.json()), counted("n")), ((7, 7), 7), "{done:?}");
    std::fs::remove_file(room.path("n")).unwrap();
    let done = room.run("baa-healthwait", ["--timeout", "700ms", "--json", &url]);
    let (asked, ended) = told(&done.json());
    // The last one may have been cut off before it was heard.
    assert!(asked >= 3 && (asked - 1..=asked).contains(&counted("n")), "{asked} {}", counted("n"));
    assert_eq!(u64::try_from(asked).unwrap(), ended, "{done:?}");
}

/// Without HTTP: each connection is one question, and looks at the kernel's tables are none.
#[apply(test)]
fn attempts_are_the_connections_that_were_made() {
    let room = Room::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (count, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    listener.set_nonblocking(true).unwrap();
    let drain = |stream: std::io::Result<(TcpStream, _)>| {
        if let Ok((mut stream, _)) = stream {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 1]);
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                drain(listener.accept());
            }
        });
        let done =
            room.run("baa-healthwait", ["--stable-for", "300ms", "--json", &format!("tcp://{address}")]);
        over.store(true, Ordering::SeqCst);
        done
    });
    // Those that wait to be accepted.
    while listener.accept().is_ok() {
        count.fetch_add(1, Ordering::SeqCst);
    }
    let attempts = done.json()["targets"][0]["attempts"].as_u64();
    assert_eq!((done.status, attempts), (0, Some(count.load(Ordering::SeqCst) as u64)), "{done:?}");
}

#[apply(test)]
fn many_that_are_late_are_told_of_in_one_short_line() {
    let (room, targets) = (Room::new(), dead(300));
    let done = collect(begin(&room, &["--attempts", "1", "--delay", "1s", "--json"], &targets));
    let targets = done.json()["targets"].as_array().unwrap().clone();
    assert!(targets.len() == 300 && targets.iter().all(|one| one["last_error"]["class"] == "refused"));
    let line = done.stderr.trim_end();
    assert!(done.status == 124 && line.len() < 800 && !line.contains('\n'), "{line}");
    assert!(line.ends_with("; and 296 more of 300"), "{line}");
    // Where it is a few, each is told of.
    let few = collect(begin(&room, &["--attempts", "1", "--delay", "1s"], &dead(5)));
    assert!(few.stderr.matches("connection refused").count() == 5 && !few.stderr.contains("more"), "{few:?}");
}

/// A private network is asked many times a second for a while, whether or not it answers.
#[apply(test)]
fn a_neighbour_is_asked_often() {
    needs("unshare");
    let able = finish(Command::new("unshare").args(["--net", "true"]));
    if able.status != 0 {
        skip("no network namespaces can be made here");
    }
    let room = Room::new();
    for (target, least, most) in [
        // There is no way to any of them, which is known at once.
        ("tcp://10.1.2.3:80", 12, 45),
        ("http://[fd00::1]/", 12, 45),
        ("tcp://192.0.2.1:80", 2, 11),
    ] {
        let mut wait = Command::new("unshare");
        wait.args(["--net", "--"]).arg(binary("baa-healthwait")).args(["--timeout", "2s", "--json", target]);
        let done = finish(wait.current_dir(room.dir.path()));
        let attempts = done.json()["targets"][0]["attempts"].as_u64().unwrap();
        assert!(done.status == 124 && (least..=most).contains(&attempts), "{target} {attempts}");
    }
}

/// A name service that hangs takes no more threads than there are places, and who waits for a place says so.
#[apply(test)]
fn a_dead_resolver_takes_few_threads() {
    let room = Room::new();
    needs("unshare");
    needs("ip");
    let able = finish(
        Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "ip", "link", "set", "lo", "up"]),
    );
    if able.status != 0 {
        skip("no network namespaces can be made here");
    }
    let script = "ip link set lo up; echo nameserver 127.0.0.1 > resolv; mount --bind resolv /etc/resolv.conf
        mount -t proc proc /proc
        $SERVICE --ready hole --mute-udp 127.0.0.1:53 > /dev/null & while [ ! -e hole ]; do sleep 0.01; done
        $HEALTHWAIT --timeout 2s --json $(seq -f 'dns:n%g.example' 60) > out & pid=$!
        sleep 1; grep Threads: /proc/$pid/status; wait $pid; echo $?";
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script])
        .current_dir(room.dir.path());
    let done = finish(
        unshare
            .env("SERVICE", crate::support::example("service"))
            .env("HEALTHWAIT", binary("baa-healthwait")),
    );
    let words: Vec<&str> = done.stdout.split_whitespace().collect();
    let [_, threads, status] = words[..] else { panic!("{done:?}") };
    assert!(status == "124" && (2..=18).contains(&threads.parse::<u32>().unwrap()), "{done:?}");
    let out = std::fs::read_to_string(room.path("out")).unwrap();
    assert_eq!(out.matches("behind 16 names that hang").count(), 44, "{out}");
    assert_eq!(out.matches("no answer in time (resolving n").count(), 16, "{out}");
}

/// As many connections as there are targets, and what is started then has the limit that we were given.
#[apply(test)]
fn many_connections_need_no_higher_limit() {
    let (room, mute) = (Room::new(), port());
    let _mute = room.service(&format!("127.0.0.1:{mute}"), &["--mute"]);
    let script = format!(
        "ulimit -Sn 40; $HEALTHWAIT --timeout 2s --json $(seq -f 'http://127.0.0.1:{mute}/%g' 60) > out
        echo $?; $HEALTHWAIT --any file:/ $(seq -f 'http://127.0.0.1:{mute}/%g' 60) -- sh -c 'ulimit -Sn'"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).env("HEALTHWAIT", binary("baa-healthwait")).current_dir(room.dir.path());
    let done = finish(&mut shell);
    assert_eq!(done.stdout, "124\n40\n", "{done:?}");
    let out = std::fs::read_to_string(room.path("out")).unwrap();
    assert_eq!(out.matches("no answer in time (waiting for the answer)").count(), 60, "{out}");
}
