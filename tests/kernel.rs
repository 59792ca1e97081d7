//! What not every kernel, or not every user, has: the library's own way to it, skipped where it is not.

use crate::support::{PATIENCE, skip};
use baa::sys::child::Exit;
use baa::sys::listening::Listening;
use baa::sys::process::Pid;
use baa::sys::process::exits::Exits;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

#[apply(test)]
fn a_listener_is_told_from_none_in_both_families() {
    let Some(way) = Listening::open() else { skip("the kernel does not tell of listeners (sock_diag)") };
    for (bind, ask) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.1"),
        ("[::]:0", "127.0.0.1"),
        ("[::1]:0", "[::1]"),
        ("[::]:0", "[::1]"),
    ] {
        let Ok(listener) = TcpListener::bind(bind) else { continue };
        let address = format!("{ask}:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        assert_eq!(way.listens(address), Some(true), "{bind} {ask}");
        drop(listener);
        assert_eq!(way.listens(address), Some(false), "{bind} {ask}");
    }
}

#[apply(test)]
fn the_exits_of_the_watched_are_told_and_no_others() {
    let start =
        |script: &str| Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
    let mut children = ["read x; exit 7", "read x; kill -9 $$", "read x; exit 1"].map(start);
    let pid = |child: &Child| Pid::new(i32::try_from(child.id()).unwrap()).unwrap();
    let [exits, dies, other] = [&children[0], &children[1], &children[2]].map(pid);
    let told = Exits::of(&[exits, dies]);
    for child in &mut children {
        drop(child.stdin.take());
        child.wait().unwrap();
    }
    let Ok(mut told) = told else { skip("the exits of others are not told here (proc connector)") };
    let end = Instant::now() + PATIENCE;
    while told.ending(exits).is_none() || told.ending(dies).is_none() {
        assert!(Instant::now() < end);
    }
    assert_eq!(told.ending(exits).unwrap().exit, Exit::Code(7));
    assert_eq!(told.ending(dies).unwrap().exit, Exit::Signal(9));
    assert!(told.ending(other).is_none());
}
