//! Whether a peer lives: a session of its name on its tmux socket, or its supervisor (facts B4.17).

use crate::act::peers::root::Root;
use crate::life;
use crate::service::{iapeer, tmux};
use crate::sys::child::Spec;
use crate::sys::process::{Identity, Pid};
use crate::sys::trust;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How long ps(1) may take.
const PS_LIMIT: Duration = Duration::from_secs(2);

/// The runtimes on which `personality` lives. Those of its record are looked at, and all of which there is a
/// trace: a record may name fewer than run.
pub fn runtimes(root: &Root, personality: &str, recorded: &[String]) -> Vec<String> {
    let mut all: BTreeSet<String> = recorded.iter().cloned().collect();
    let names = |directory: &PathBuf| trust::enter(directory).and_then(|entered| entered.names());
    let sockets = root.sockets().iter().flat_map(|directory| names(directory).unwrap_or_default());
    let supervisors = root.names("state/supervisor");
    for name in sockets.chain(supervisors).filter_map(|name| name.into_string().ok()) {
        let identity = iapeer::identity_of_socket(&name).or_else(|| name.strip_suffix(".pid"));
        all.extend(
            identity.and_then(|identity| iapeer::runtime_of(identity, personality)).map(str::to_owned),
        );
    }
    all.into_iter().filter(|runtime| lives(root, &format!("{runtime}-{personality}"))).collect()
}

fn lives(root: &Root, identity: &str) -> bool {
    let in_tmux = |directory: &Path| {
        let socket = directory.join(iapeer::socket_name(identity));
        socket.exists()
            && tmux::sessions(&socket).is_some_and(|names| names.iter().any(|name| name == identity))
    };
    root.sockets().iter().any(|directory| in_tmux(directory)) || supervised(root, identity)
}

/// `PID`, or `PID TOKEN` where the token is what `ps -o lstart=` said of it: the guard against a pid that
/// another process has by now.
fn supervised(root: &Root, identity: &str) -> bool {
    let Ok(bytes) = root.read(&format!("state/supervisor/{identity}.pid"), 4096) else { return false };
    let text = String::from_utf8_lossy(&bytes);
    let (pid, token) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
    let Some(pid) = pid.parse::<Pid>().ok().filter(|pid| Identity::of(*pid).is_some()) else { return false };
    // What cannot be told apart is taken for alive: a removal is refused rather than a session orphaned.
    token.trim().is_empty()
        || started(pid).is_none_or(|said| said.iter().any(|said| words(said) == words(token)))
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// What ps(1) says of the start of `pid`, in our locale and in the plain one; `None` where it says nothing.
fn started(pid: Pid) -> Option<Vec<String>> {
    let ask = |plain: bool| {
        let mut spec = Spec::new("ps", ["-o", "lstart=", "-p", &pid.to_string()]);
        if plain {
            spec.env.push(("LC_ALL".into(), "C".into()));
        }
        let finished = life::run(spec, Instant::now() + PS_LIMIT, 4096, &AtomicBool::new(false)).ok()?;
        Some(finished.stdout.trim().to_owned()).filter(|said| !said.is_empty())
    };
    let said: Vec<String> = [ask(false), ask(true)].into_iter().flatten().collect();
    (!said.is_empty()).then_some(said)
}

/// Runtimes whose wake lock is held: somebody is just waking the peer (facts B2.9: a lock is stale after 60
/// s).
pub fn waking(root: &Root, personality: &str) -> Vec<String> {
    const STALE: Duration = Duration::from_secs(60);
    let held = |name: &str| {
        let found =
            std::fs::symlink_metadata(root.lifecycle().join(OsStr::new(name))).ok()?.modified().ok()?;
        Some(std::time::SystemTime::now().duration_since(found).unwrap_or(Duration::ZERO) <= STALE)
    };
    let names = root.names("state/lifecycle").into_iter().filter_map(|name| name.into_string().ok());
    names
        .filter_map(|name| {
            let runtime = iapeer::runtime_of(name.strip_suffix(".wake.lock.lock")?, personality)?.to_owned();
            held(&name).unwrap_or(false).then_some(runtime)
        })
        .collect()
}
