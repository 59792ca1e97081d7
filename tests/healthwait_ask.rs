//! What baa-healthwait asks, what it expects, and how it gets there: data, header fields, patterns, JSON,
//! fixed addresses, zones, sockets without a path, statuses of commands; and what people mistype.

use crate::support::{Done, Room, port};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

fn wait<I: AsRef<OsStr>>(room: &Room, arguments: impl IntoIterator<Item = I>) -> Done {
    room.run("baa-healthwait", arguments)
}

/// A request, head and body, as it came.
fn request(stream: &mut impl Read) -> String {
    let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&seen).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        match stream.read(&mut piece) {
            Ok(count @ 1..) => seen.extend_from_slice(&piece[..count]),
            _ => return text,
        }
    }
}

/// Answers whoever connects with `answer`; tells the requests.
fn server(answer: &'static str) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (sender, requests) = channel();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            let seen = request(&mut stream);
            let _ = stream.write_all(answer.as_bytes());
            if sender.send(seen).is_err() {
                return;
            }
            // Who answers may not end.
            open.push(stream);
        }
    });
    (port, requests)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[apply(test)]
fn data_is_posted_as_it_is() {
    let room = Room::new();
    let (port, requests) = server(OK);
    let url = format!("http://127.0.0.1:{port}/x");
    room.write("body", "@no file\n\u{e9}");
    let file = room.text("body");
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    for (arguments, method, body, typed) in [
        (vec!["--data", "a=1&b=@2"], "POST", "a=1&b=@2", Some(form)),
        (vec!["--data", ""], "POST", "", Some(form)),
        (vec!["--data-file", &file], "POST", "@no file\n\u{e9}", Some(form)),
        (vec!["--data", "{}", "--method", "PUT"], "PUT", "{}", Some(form)),
        (vec!["--data", "x", "--method", "GET"], "GET", "x", Some(form)),
        (
            vec!["--data", "{}", "-H", "content-type: application/json"],
            "POST",
            "{}",
            Some("content-type: application/json\r\n"),
        ),
        (vec![], "GET", "", None),
    ] {
        let done = wait(&room, arguments.iter().copied().chain(["--attempts", "1", url.as_str()]));
        done.expect(0, "", "");
        let seen = requests.recv().unwrap();
        let (head, sent) = seen.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("{method} /x HTTP/1.1\r\n")), "{seen}");
        assert_eq!(sent, body);
        let head = format!("{}\r\n", head.to_lowercase());
        assert_eq!(head.matches("content-type").count(), usize::from(typed.is_some()), "{seen}");
        assert!(typed.is_none_or(|typed| head.contains(typed)), "{seen}");
        let length = format!("content-length: {}\r\n", body.len());
        assert!(body.is_empty() || head.contains(&length), "{seen}");
    }
    wait(&room, ["--data", "x", "--data-file", &file, &url]).failed_with(2, "cannot be used with");
    wait(&room, ["--data-file", &room.text("none"), &url]).failed_with(66, "cannot read what is to be sent");
    room.write("large", &"x".repeat(1024 * 1024 + 1));
    assert_eq!(wait(&room, ["--data-file", &room.text("large"), &url]).status, 74);
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    wait(&room, ["--data-file", &file, &url]).failed_with(78, "others may write to");
}

#[apply(test)]
fn an_answer_is_held_against_all_that_is_expected() {
    let room = Room::new();
    let port = port();
    let body = r#"{"ready":true,"lag":7,"state":"warming up","id":null}"#;
    let fields =
        ["--header", "X-Instance: blue-2", "--header", "Set-Cookie: a=1", "--header", "Set-Cookie: b=2"];
    let more = [&["--body", body][..], &fields].concat();
    let _service = room.service(&format!("127.0.0.1:{port}"), &more);
    let url = format!("http://127.0.0.1:{port}/");
    for (arguments, why) in [
        (vec!["--header-contains", "x-instance=blue", "--header-contains", "Set-Cookie=b="], ""),
        (vec!["--header-contains", "X-Instance=green"], "the header X-Instance does not contain 'green'"),
        (vec!["--header-contains", "X-None="], "the answer has no header X-None"),
        (vec!["--body-regex", r#""state":\s*"(warming|ok)"#, "--body-regex", "^\\{"], ""),
        (vec!["--body-regex", "cold"], "the body does not match 'cold'"),
        (vec!["--json-path", "/lag < 10", "--json-path", "/lag>=7", "--json-path", "/id exists"], ""),
        (vec!["--json-path", "/state != broken", "--json-path", "/state ~ ^warm"], ""),
        (vec!["--json-path", "/lag > 7"], "not /lag > 7"),
        (vec!["--json-path", "/state < 3"], "/state is not a number"),
        (vec!["--json-path", "/state != warming up"], "/state is warming up"),
        (vec!["--json-path", "/state ~ up.$"], "/state does not match 'up.$'"),
        (vec!["--json-path", "/none exists"], "the body has no /none"),
    ] {
        let done = wait(&room, arguments.iter().copied().chain(["--attempts", "1", url.as_str()]));
        let status = if why.is_empty() { 0 } else { 124 };
        assert!(done.status == status && done.stderr.contains(why), "{arguments:?} {done:?}");
    }
    let json = wait(&room, ["--attempts", "1", "--json", "--header-contains", "A=", &url]).json();
    assert_eq!(json["targets"][0]["last_error"]["class"], "header");
}

/// Several statuses, and one name of a header twice.
#[apply(test)]
fn what_cannot_be_expected_is_2() {
    let room = Room::new();
    let large = "(a{1,99}){1,99}";
    for (arguments, why) in [
        (["--header-contains", "x"], "write NAME=TEXT"),
        (["--header-contains", "a b=x"], "must be a token"),
        (["--body-regex", "("], "'(' is not a regular expression"),
        (["--body-regex", large], "is not a regular expression"),
        (["--json-path", "/a < b"], "'b' is not a number"),
        (["--json-path", "a exists"], "is not a JSON pointer"),
        (["--exec-status", "256"], "is not a status of a command"),
        (["--resolve", "h:80"], "has no address"),
        (["--resolve", "h:80:h"], "has no IP address"),
        (["--interval", "0"], "a pause is longer than 0"),
        (["--delay", "0s"], "a pause is longer than 0"),
    ] {
        wait(&room, arguments.iter().chain(&["http://h/"])).failed_with(2, why);
    }
}

/// A stream that does not end has said what was to be said; what may still change has not.
#[apply(test)]
fn a_pattern_is_met_before_the_end_where_more_cannot_change_that() {
    let room = Room::new();
    let (port, _requests) = server("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ndata: ready");
    let url = format!("http://127.0.0.1:{port}/");
    wait(&room, ["--attempts", "1", "--body-regex", "data:\\s*ready", &url]).expect(0, "", "");
    let done = wait(&room, ["--attempts", "1", "--probe-timeout", "200ms", "--body-regex", "ready$", &url]);
    assert_eq!(done.status, 124, "{done:?}");
}

#[apply(test)]
fn a_host_may_be_given_an_address() {
    let room = Room::new();
    let port = port();
    let _service = room.service(&format!("127.0.0.1:{port}"), &["--count", &room.text("seen")]);
    let fixed = format!("Db.invalid:{port}:127.0.0.1");
    for target in [
        format!("http://db.invalid:{port}/"),
        format!("tcp://db.invalid:{port}"),
        format!("db.invalid:{port}"),
    ] {
        wait(&room, ["--attempts", "1", "--resolve", &fixed, &target]).expect(0, "", "");
        let any = format!("*:{port}:::1,127.0.0.1");
        wait(&room, ["--attempts", "1", "--resolve", &any, &target]).expect(0, "", "");
    }
    let seen = std::fs::read_to_string(room.path("seen")).unwrap();
    assert!(seen.to_lowercase().contains(&format!("host: db.invalid:{port}|")), "{seen}");
    // Another port is another place; and where a redirect leads counts as much.
    let other = format!("http://db.invalid:{}/", port - 1);
    assert_eq!(wait(&room, ["--attempts", "1", "--resolve", &fixed, &other]).status, 124);
    let moved = crate::support::port();
    let to = format!("http://db.invalid:{port}/there");
    let _moved = room.service(&format!("127.0.0.1:{moved}"), &["--status", "302", "--redirect", &to]);
    wait(&room, ["--attempts", "1", "--resolve", &fixed, &format!("http://127.0.0.1:{moved}/")])
        .expect(0, "", "");
}

#[cfg(target_os = "linux")]
#[apply(test)]
fn an_address_may_have_a_zone() {
    let room = Room::new();
    let port = port();
    if TcpListener::bind("[::1]:0").is_err() {
        crate::support::skip("there is no IPv6 here");
    }
    let _service = room.service(&format!("[::1]:{port}"), &["--count", &room.text("seen")]);
    for target in [
        format!("[::1%lo]:{port}"),
        format!("tcp://[::1%lo]:{port}"),
        format!("tcp://[::1%25lo]:{port}"),
        format!("http://[::1%25lo]:{port}/"),
        format!("http://[::1%lo]:{port}/"),
    ] {
        wait(&room, ["--attempts", "1", &target]).expect(0, "", "");
    }
    let seen = std::fs::read_to_string(room.path("seen")).unwrap().to_lowercase();
    assert_eq!(seen.matches(&format!("host: [::1]:{port}|")).count(), 2, "{seen}");
    wait(&room, ["--attempts", "1", &format!("[fe80::1%none0]:{port}")])
        .failed_with(124, "there is no interface 'none0'");
    wait(&room, [&format!("[fe80::1%a/b]:{port}")]).failed_with(2, "a zone that no interface can be");
}

#[cfg(target_os = "linux")]
#[apply(test)]
fn a_socket_needs_no_path() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let room = Room::new();
    let name = format!("baa-test-{}", std::process::id());
    let targets = [format!("unix:@{name}"), format!("unix://@{name}"), format!("http+unix://@{name}:/up")];
    for target in &targets {
        wait(&room, ["--attempts", "1", target]).failed_with(124, "connection refused");
    }
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(OK.as_bytes());
        }
    });
    for target in &targets {
        wait(&room, ["--attempts", "1", target]).expect(0, "", "");
        let own = std::process::id().to_string();
        wait(&room, ["--attempts", "1", "--served-by", &own, target]).expect(0, "", "");
    }
    wait(&room, ["unix:@"]).failed_with(2, "it names no socket");
    wait(&room, ["http+unix://@:/"]).failed_with(2, "it names no socket");
}

#[apply(test)]
fn a_command_may_say_yes_with_another_status() {
    let room = Room::new();
    let list = ["--exec-status", "3,5-6"];
    for (command, status, why) in [
        ("exec:exit 3", 0, ""),
        ("exec:exit 6", 0, ""),
        ("exec:exit 0", 124, "the command exited with 0"),
        ("exec:exit 4", 124, "the command exited with 4"),
        ("exec:kill -KILL $$", 124, "the command was killed"),
        ("exec:no-such-command", 124, "the command cannot be run (127)"),
    ] {
        let done = wait(&room, list.iter().chain(&["--attempts", "1", command]));
        assert!(done.status == status && done.stderr.contains(why), "{command}: {done:?}");
    }
    wait(&room, ["--exec-status", "127", "--attempts", "1", "exec:no-such-command"]).expect(0, "", "");
}

#[apply(test)]
fn names_below_localhost_are_this_machine() {
    let room = Room::new();
    let port = port();
    let _service = room.service(&format!("127.0.0.1:{port}"), &["--count", &room.text("seen")]);
    wait(&room, ["--attempts", "1", "dns:x.localhost", &format!("a.b.localhost:{port}")]).expect(0, "", "");
    wait(&room, ["--attempts", "1", &format!("http://X.localhost:{port}/")]).expect(0, "", "");
    let seen = std::fs::read_to_string(room.path("seen")).unwrap().to_lowercase();
    assert!(seen.contains(&format!("host: x.localhost:{port}|")), "{seen}");
}

#[apply(test)]
fn a_file_may_be_of_localhost_and_of_no_other_host() {
    let room = Room::new();
    room.write("file", "");
    for start in ["file:", "file://", "file://localhost"] {
        wait(&room, ["--attempts", "1", &format!("{start}{}", room.text("file"))]).expect(0, "", "");
    }
    wait(&room, ["--attempts", "1", "file:file"]).expect(0, "", "");
    wait(&room, ["--attempts", "1", "file://file"]).failed_with(2, "write file:file for a path");
    wait(&room, ["file://localhostage/file"]).failed_with(2, "stands a host");
    wait(&room, ["file://localhost"]).failed_with(2, "it names no path");
}

#[apply(test)]
fn what_users_of_other_tools_type_is_told_how_to_be_written() {
    let room = Room::new();
    for (arguments, status, why) in [
        (vec!["db", "5432"], 2, "cannot use target 'db': it has no port; write host:port, here db:5432"),
        (vec!["db", "5432", "-t", "1", "--", "true"], 125, "here db:5432"),
        (vec!["-h", "db", "-p", "5432"], 2, "-h and --help stand alone"),
        (vec!["tcp:5432"], 2, "write localhost:5432"),
        (vec!["tcp:db:5432"], 2, "write db:5432"),
        (vec!["tcp", "db:5432"], 2, "; leave the word out, a target says what it is"),
        (vec!["/run/x"], 2, "it is a path; write file: or unix: before it"),
        (vec!["http://unix:/run/x:/up"], 2, "write http+unix:///run/x:/up"),
        (vec!["--status", "500", "127.0.0.1:1"], 2, "--status is of no use: no target is asked by HTTP"),
        (vec!["--status", "500", "httpd:80"], 2, "--status is of no use: no target is asked by HTTP"),
        (vec!["--exec-status", "1", "127.0.0.1:1"], 2, "--exec-status is of no use: no target is a command"),
        (vec!["--json-path", "/n == 1", "http://db/"], 2, "write 'POINTER=VALUE'"),
        (vec!["--json-path", "/a~2=1", "http://db/"], 2, "~ is written ~0 in it"),
        (vec!["socket:/run/x"], 2, "write unix:/run/x"),
        (vec!["http-get://db/x"], 2, "write http://db/x"),
        (vec!["command:a b"], 2, "write exec:'a b'"),
        (vec!["redis://db/x?key=y"], 2, "a database of Redis is a number"),
        (vec!["5432"], 2, "it has no host; write localhost:5432"),
        (vec![":5432"], 2, "it has no host; write localhost:5432"),
        (vec!["localhost:1", "db"], 2, "it has no port; write host:port\n"),
    ] {
        wait(&room, &arguments).failed_with(status, why);
    }
    let done = wait(&room, ["-x", "localhost:1"]);
    done.expect(2, "", "baa-healthwait: unexpected argument '-x' found; try 'baa-healthwait --help'\n");
    let done = wait(&room, ["--intervall", "1", "localhost:1"]);
    done.failed_with(2, "found; a similar argument exists: '--interval'; try");
    // It takes no command, and what follows -- is a value.
    room.run("baa-peer-remove", ["-x"]).failed_with(2, "found; to pass '-x' as a value, use '-- -x'; try");
}

#[apply(test)]
fn a_span_of_seconds_follows_t() {
    let room = Room::new();
    let target = format!("127.0.0.1:{}", port());
    for span in ["0.2", "200ms"] {
        let done = wait(&room, ["-t", span, &target]);
        assert!(done.status == 124 && done.stderr.contains("not up after "), "{done:?}");
    }
}

#[cfg(target_os = "linux")]
#[apply(test)]
fn a_manager_of_another_system_is_not_waited_for() {
    let room = Room::new();
    let done = wait(&room, ["launchd:so.makefile.none"]);
    done.failed_with(2, "launchd is the manager of macOS, and there is no launchctl here");
}

/// What whoever started us ignores stays ignored, for us and for what we become.
#[cfg(target_os = "linux")]
#[apply(test)]
fn nohup_holds_for_the_wait_and_for_the_command() {
    use crate::support::{needs, until};
    use std::process::Stdio;
    let room = Room::new();
    needs("nohup");
    let program = crate::support::binary("baa-healthwait");
    let mut command = room.command("baa-healthwait");
    let ready = room.text("ready");
    let script = "trap '' INT; exec nohup \"$0\" \"file:$1\" -- \
                  /bin/sh -c 'grep SigIgn /proc/$$/status > told; exec sleep 1000'";
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", script]).arg(program).arg(&ready).env_clear().current_dir(room.dir.path());
    shell.envs(command.stdin(Stdio::null()).get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let runs = |name: &str| {
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap_or_default();
        comm.trim() == name
    };
    let ignores = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t"));
        u64::from_str_radix(line.unwrap_or("0"), 16).unwrap() & 0b11 == 0b11
    };
    until("it waits", || runs("baa-healthwait") && ignores());
    crate::support::signal(child.id(), nix::sys::signal::Signal::SIGHUP);
    crate::support::signal(child.id(), nix::sys::signal::Signal::SIGINT);
    room.write("ready", "");
    until("it has become the command", || runs("sleep"));
    assert!(ignores());
    crate::support::signal(child.id(), nix::sys::signal::Signal::SIGHUP);
    assert!(runs("sleep") && ignores());
    let told = std::fs::read_to_string(room.path("told")).unwrap();
    let mask = u64::from_str_radix(told.trim().rsplit('\t').next().unwrap(), 16).unwrap();
    assert_eq!(mask & 0b11, 0b11, "{told}");
    child.kill().unwrap();
    child.wait().unwrap();
}
