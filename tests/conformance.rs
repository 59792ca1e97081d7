//! One suite for all stores: a file, etcd, and the control API in front of each.

use crate::support::control::Control;
use crate::support::etcd::Etcd;
use crate::support::{PATIENCE, Room, until};
use baa::store::guard::Claimant;
use baa::store::{self, Access, Beat, BootMoment, Claim, ClaimAnswer, Controller, Store};
use baa::words::exit::Status;
use std::time::{Duration, Instant};

fn claim(lease: &str, holder: &str) -> Claim {
    Claim {
        lease: lease.to_owned(),
        holder: holder.to_owned(),
        host: format!("host-of-{holder}"),
        ttl: Duration::from_secs(60),
        ..Claim::default()
    }
}

/// The term, and whether it was the claimant's before.
#[track_caller]
fn ours(answer: ClaimAnswer) -> (u64, bool) {
    match answer {
        ClaimAnswer::Ours { record, renewed } => (record.term, renewed),
        ClaimAnswer::Held(record) => panic!("held: {record:?}"),
    }
}

/// Who has it, and under which term.
#[track_caller]
fn held(answer: ClaimAnswer) -> (Option<String>, u64) {
    match answer {
        ClaimAnswer::Held(record) => (record.holder, record.term),
        ClaimAnswer::Ours { record, .. } => panic!("ours: {record:?}"),
    }
}

fn suite(open: &(dyn Fn() -> Box<dyn Store> + Sync)) {
    let store = open();
    let (a, b) = (claim("hands", "a"), claim("hands", "b"));
    let by = |holder: &str| Some(holder.to_owned());

    // From nobody to one, who goes on; nobody else gets in.
    assert!(store.read("hands").unwrap().is_none_or(|record| record.term == 0));
    assert_eq!(ours(store.acquire(&a).unwrap()), (1, false));
    assert_eq!(ours(store.acquire(&a).unwrap()), (1, true));
    assert_eq!(held(store.acquire(&b).unwrap()), (by("a"), 1));
    assert_eq!(ours(store.renew(&a, 1).unwrap()), (1, true));
    assert_eq!(held(store.renew(&b, 1).unwrap()), (by("a"), 1));
    assert_eq!(held(store.renew(&a, 2).unwrap()), (by("a"), 1));
    let record = store.read("hands").unwrap().unwrap();
    let left = record.left(&BootMoment::now().unwrap());
    assert_eq!(
        (record.leader(&BootMoment::now().unwrap()), record.host.as_str(), record.term),
        (Some("a"), "host-of-a", 1)
    );
    assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(60), "{left:?}");

    // Given up by the one who has it, once; the term stays, and the next one is higher.
    assert!(!store.release(&b, 1).unwrap() && !store.release(&a, 2).unwrap());
    assert!(store.release(&a, 1).unwrap() && !store.release(&a, 1).unwrap());
    let record = store.read("hands").unwrap().unwrap();
    assert_eq!((record.leader(&BootMoment::now().unwrap()), record.term), (None, 1));
    let (nobody, term) = held(store.renew(&a, 1).unwrap());
    assert!(term == 1 && nobody.is_none(), "{nobody:?}");
    assert_eq!(ours(store.acquire(&b).unwrap()), (2, false));
    assert_eq!(held(store.renew(&a, 1).unwrap()), (by("b"), 2));
    assert!(!store.release(&a, 1).unwrap());
    // A renewal of what was never held takes nothing.
    assert!(!matches!(store.renew(&claim("never", "a"), 1), Ok(ClaimAnswer::Ours { .. })));
    assert_eq!(ours(store.acquire(&claim("never", "b")).unwrap()), (1, false));

    // It runs out by itself, for the one who had it too.
    let short = |holder: &str| Claim { ttl: Duration::from_secs(1), ..claim("short", holder) };
    assert_eq!(ours(store.acquire(&short("a")).unwrap()), (1, false));
    until("it has run out", || {
        let answer = store.acquire(&short("b")).unwrap();
        matches!(answer, ClaimAnswer::Ours { record, renewed: false } if record.term == 2)
    });
    assert!(!store.release(&short("a"), 1).unwrap());
    until("it has run out again", || {
        store.read("short").unwrap().unwrap().leader(&BootMoment::now().unwrap()).is_none()
    });
    assert!(!matches!(store.renew(&short("b"), 2), Ok(ClaimAnswer::Ours { .. })));
    assert_eq!(ours(store.acquire(&short("b")).unwrap()), (3, false));

    // Two processes of one holder are two, unless one does not say which it is.
    let process = |instance: &str| Claim { instance: instance.to_owned(), ..claim("process", "a") };
    assert_eq!(ours(store.acquire(&process("1")).unwrap()), (1, false));
    assert_eq!(held(store.acquire(&process("2")).unwrap()), (by("a"), 1));
    assert_eq!(held(store.renew(&process("2"), 1).unwrap()), (by("a"), 1));
    assert!(!store.release(&process("2"), 1).unwrap());
    assert_eq!(ours(store.renew(&process(""), 1).unwrap()).0, 1);

    // What is said of it is kept.
    let said = Claim { preferred: true, metadata: Some("{\"x\":1}".to_owned()), ..claim("said", "a") };
    ours(store.acquire(&said).unwrap());
    let record = store.read("said").unwrap().unwrap();
    assert_eq!((record.preferred.as_deref(), record.metadata.as_deref()), (Some("a"), Some("{\"x\":1}")));
    // Another time to live is taken at the next renewal.
    ours(store.renew(&Claim { ttl: Duration::from_secs(600), ..said }, 1).unwrap());
    assert!(
        store.read("said").unwrap().unwrap().left(&BootMoment::now().unwrap()) > Duration::from_secs(100)
    );

    let beat = Controller {
        id: "a".to_owned(),
        host: "h".to_owned(),
        role: "primary".to_owned(),
        status: "leader".to_owned(),
        ..Controller::default()
    };
    store.heartbeat(&beat).unwrap();
    // Behind a control API it is the server that knows who sends it.
    if !store.is_shared() {
        let from = |claimant| store.beat(&Beat { controller: beat.clone(), claimant, quota: None });
        let refused = from(Claimant::Peer("uid:7".to_owned())).unwrap_err();
        assert_eq!(refused.status, Status::Lost, "{refused}");
        from(Claimant::Operator("uid:0".to_owned())).unwrap();
    }
    contended(open);
}

/// Many at once: every term is given once, and none is left out.
fn contended(open: &(dyn Fn() -> Box<dyn Store> + Sync)) {
    let mut terms: Vec<u64> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..6)
            .map(|who| {
                scope.spawn(move || {
                    let (store, claim, mut terms) =
                        (open(), claim("contended", &format!("c{who}")), Vec::new());
                    let end = Instant::now() + PATIENCE;
                    while terms.len() < 5 {
                        match store.acquire(&claim) {
                            Ok(ClaimAnswer::Ours { record, .. }) => {
                                terms.push(record.term);
                                assert!(store.release(&claim, record.term).unwrap());
                            }
                            Ok(ClaimAnswer::Held(_)) => std::thread::sleep(Duration::from_millis(1)),
                            Err(error) => assert_eq!(error.status, Status::Unavailable, "{error}"),
                        }
                        assert!(Instant::now() < end);
                    }
                    terms
                })
            })
            .collect();
        all.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    terms.sort_unstable();
    assert_eq!(terms, (1..=30).collect::<Vec<_>>());
}

fn opened(url: &str) -> Box<dyn Store> {
    store::open(Some(url), &Access::default()).unwrap()
}

#[apply(test)]
fn a_file() {
    let room = Room::new();
    let url = format!("sqlite:{}", room.text("store"));
    suite(&|| opened(&url));
}

#[apply(test)]
fn etcd() {
    let room = Room::new();
    let etcd = Etcd::new(&room, 1, None);
    suite(&|| opened(&etcd.url()));
}

#[apply(test)]
fn the_control_api_on_a_file() {
    let room = Room::new();
    let control = Control::new(&room);
    suite(&|| opened(&control.base()));
}

/// Each connection may come to another of two instances: they serve one truth.
#[apply(test)]
fn two_control_apis_on_etcd() {
    let room = Room::new();
    let etcd = Etcd::new(&room, 1, None);
    let controls = [(); 2].map(|()| Control::start(&room, "127.0.0.1:0", &["--store", &etcd.url()]));
    let turn = std::sync::atomic::AtomicUsize::new(0);
    suite(&|| opened(&controls[turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 2].base()));
}

/// TLS under a certificate that only we trust, and a user with a password, whose token expires while we use
/// it.
#[apply(test)]
fn etcd_with_tls_and_a_user() {
    let room = Room::new();
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let certificate = room.write("cert.pem", &made.cert.pem());
    let key = room.write("key.pem", &made.signing_key.serialize_pem());
    let etcd = Etcd::new(&room, 1, Some((certificate, key)));
    for words in ["user add root:secret", "user grant-role root root", "auth enable"] {
        assert!(etcd.ctl(&words.split(' ').collect::<Vec<_>>()) || words.contains("grant-role"), "{words}");
    }
    let url = etcd.url().replace("etcds://", "etcds://root@");
    let place = ["acquire", "--store", &url, "--ca-file", "cert.pem"];
    let with = |password: &str| {
        let mut command = room.command("baa-lease");
        crate::support::finish(command.args(place).env("BAA_ETCD_PASSWORD", password))
    };
    with("secret").expect(0, "1\n", "");
    with("wrong").failed_with(77, "authentication failed");
    room.run("baa-lease", place).failed_with(2, "a user of etcd needs a password");
    room.secret("password", "secret\n");
    room.run("baa-lease", place.into_iter().chain(["--etcd-password-file", "password"])).expect(0, "1\n", "");
    room.run("baa-lease", ["acquire", "--store", &etcd.url(), "--ca-file", "cert.pem"])
        .failed_with(77, "user name is empty");
    room.run("baa-lease", ["acquire", "--store", &url, "--etcd-password-file", "password"])
        .failed_with(69, "tls");
}
