//! Where a lease lives: a record with a term and a time to live, that only one holder has at a time.

pub mod control_api;
pub mod controller;
pub mod etcd;
pub mod guard;
pub mod listing;
pub mod quota;
pub mod sqlite;

use crate::store::guard::{ClaimProof, Guard, guarded};
use crate::store::quota::{MadeName, NameQuota};
use crate::sys::http::Trust;
use crate::sys::secret::{self, SecretText};
use crate::sys::{file, kernel};
use crate::words::error::{Error, Result, brief};
use crate::words::exit::Status;
pub use controller::{Beat, Controller, HeardController};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The largest file with a secret in it.
const SECRET: u64 = 64 * 1024;

/// A moment on one machine: the boot, and the time since it, suspend included. All processes of a machine
/// read the same clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootMoment {
    /// The boot's name.
    pub boot: String,
    /// Since the boot.
    pub since: Duration,
}

impl BootMoment {
    /// Now.
    ///
    /// # Errors
    /// Where the kernel does not tell: 74.
    pub fn now() -> Result<BootMoment> {
        let moment = kernel::boot().zip(kernel::uptime()).map(|(boot, since)| BootMoment { boot, since });
        moment.ok_or_else(|| Error::new(Status::Io, "cannot read the clock since boot"))
    }

    /// Now, to say when a record ends that a store elsewhere has: as seen by this process alone, so it
    /// needs no name of the boot, which a root without /proc does not tell.
    ///
    /// # Errors
    /// Where the kernel does not tell the time: 74.
    pub fn here() -> Result<BootMoment> {
        let since = kernel::uptime();
        let since = since.ok_or_else(|| Error::new(Status::Io, "cannot read the clock since boot"))?;
        Ok(BootMoment { boot: kernel::boot().unwrap_or_default(), since })
    }

    /// The moment `span` later.
    pub fn after(&self, span: Duration) -> BootMoment {
        BootMoment { boot: self.boot.clone(), since: self.since.saturating_add(span) }
    }
}

/// Who wants a lease, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The lease.
    pub lease: String,
    /// The holder's name.
    pub holder: String,
    /// Its host, for people.
    pub host: String,
    /// Which of several processes of one holder this is. Empty: any of them may go on with what another has.
    ///
    /// One that has asked to give up must not claim again: a release that comes late would free what was
    /// taken anew under the same term (found by act/lease/simulation).
    pub instance: String,
    /// For how long.
    pub ttl: Duration,
    /// Whether the holder is the one who should lead, for people.
    pub preferred: bool,
    /// What the holder wants to be kept with the lease.
    pub metadata: Option<String>,
    /// How long the store may wait for a lease that another has before it answers. The lease counts from
    /// before that.
    pub wait: Duration,
    /// Whether the holder may be on another machine, and so outlive a boot of ours.
    pub far: bool,
    /// What it shows to be who it says.
    pub proof: ClaimProof,
    /// How many leases there may be, where it would make another.
    pub quota: Option<NameQuota>,
}

/// What a store knows of a lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; `None` once it is released.
    pub holder: Option<String>,
    /// On which host.
    pub host: String,
    /// Which of several processes of the holder.
    pub instance: String,
    /// Grows with each change of hands, and never goes back.
    pub term: u64,
    /// For how long it was given.
    pub ttl: Duration,
    /// When it ends, on this machine's clock; of a store elsewhere, as seen from here.
    pub expires: BootMoment,
    /// Who should hold it, as far as anybody has said.
    pub preferred: Option<String>,
    /// What the holder keeps with it.
    pub metadata: Option<String>,
    /// Whether the holder may be on another machine.
    pub far: bool,
    /// Who else may go on with it, or give it up: nobody.
    pub guard: Guard,
}

/// What came of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimAnswer {
    /// It is ours, newly or still, under its term: the fencing token.
    Ours {
        /// As it is now.
        record: Record,
        /// Whether it was ours before.
        renewed: bool,
    },
    /// Another has it, or has had it since.
    Held(Record),
}

/// A lease has changed hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseChange {
    /// The lease.
    pub lease: String,
    /// Under which term.
    pub term: u64,
    /// Who has taken it; `None` where it was given up.
    pub holder: Option<String>,
    /// On which host.
    pub host: String,
    /// When, in seconds since 1970, by the clock of whoever wrote it: for people.
    pub at: u64,
}

/// A store of leases.
pub trait Store: Send {
    /// Whether two processes of one holder are surely told apart. Where they are not, each must have a name
    /// of its own.
    fn tells_instances(&self) -> bool {
        true
    }

    /// Whether strangers may ask it too, so that a grant needs a secret.
    fn is_shared(&self) -> bool {
        false
    }

    /// The directory for locks beside a store of this machine, in which a command's lock outlives its record;
    /// `None` for a store that others reach from elsewhere.
    fn locks(&self) -> Option<PathBuf> {
        None
    }

    /// How often one may ask for a lease that another has.
    fn pace(&self) -> Duration;

    /// Takes a lease that is free or has run out; goes on with one that is the claimant's.
    ///
    /// # Errors
    /// When the store cannot be asked, or does not answer; then it is not known what became of the claim.
    fn acquire(&self, claim: &Claim) -> Result<ClaimAnswer>;

    /// Goes on with a lease held under `term`; never takes one.
    ///
    /// # Errors
    /// As `acquire`.
    fn renew(&self, claim: &Claim, term: u64) -> Result<ClaimAnswer>;

    /// Gives up a lease held under `term`; says whether it was held so.
    ///
    /// # Errors
    /// As `acquire`; 76 where the lease is held so, but is guarded against the claimant.
    fn release(&self, claim: &Claim, term: u64) -> Result<bool>;

    /// What is known of a lease; `None` when it was never held.
    ///
    /// # Errors
    /// As `acquire`.
    fn read(&self, lease: &str) -> Result<Option<Record>>;

    /// Notes that a controller lives.
    ///
    /// # Errors
    /// As `acquire`; 76 where another sends its heartbeats.
    fn beat(&self, beat: &Beat) -> Result<()>;

    /// Notes that a controller of ours lives.
    ///
    /// # Errors
    /// As `beat`.
    fn heartbeat(&self, controller: &Controller) -> Result<()> {
        self.beat(&Beat { controller: controller.clone(), ..Beat::default() })
    }
}

/// A request that changes a store.
#[derive(Clone, Debug)]
pub enum StoreRequest {
    /// As `Store::acquire`.
    Acquire(Claim),
    /// As `Store::renew`.
    Renew(Claim, u64),
    /// As `Store::release`.
    Release(Claim, u64),
    /// As `Store::beat`.
    Heartbeat(Beat),
    /// As `ControlStore::probe`.
    Probe,
}

/// What came of it.
#[derive(Clone, Debug)]
// One at a time, and nearly always the largest: a box would cost more than it saves.
#[allow(clippy::large_enum_variant)]
pub enum StoreReply {
    /// Of a claim.
    Answer(ClaimAnswer),
    /// Of a release: whether it was held so.
    Released(bool),
    /// Of a heartbeat, or of a probe.
    Noted,
    /// Of what would make a name for which there is no room: why.
    NoRoom(String),
}

/// A store that a control API can be made of: it knows all that it holds.
pub trait ControlStore: Store {
    /// All leases, by name.
    ///
    /// # Errors
    /// As `Store::acquire`.
    fn leases(&self) -> Result<Vec<(String, Record)>>;

    /// The names of all leases and controllers, each with its maker; `None` of a store that counts them
    /// itself, and refuses what is too many.
    ///
    /// # Errors
    /// As `Store::acquire`.
    fn names(&self) -> Result<Option<[Vec<MadeName>; 2]>> {
        Ok(None)
    }

    /// Whether a controller was ever heard: asked of a store that does not count.
    ///
    /// # Errors
    /// As `Store::acquire`.
    fn has_controller(&self, id: &str) -> Result<bool> {
        Ok(self.controllers()?.iter().any(|heard| heard.controller.id == id))
    }

    /// Writes something that says nothing: whether it can be written to.
    ///
    /// # Errors
    /// As `Store::acquire`.
    fn probe(&self) -> Result<()>;

    /// All controllers, by name.
    ///
    /// # Errors
    /// As `Store::acquire`.
    fn controllers(&self) -> Result<Vec<HeardController>>;

    /// The last changes of hands, the latest first.
    ///
    /// # Errors
    /// As `Store::acquire`.
    fn changes(&self, count: usize) -> Result<Vec<LeaseChange>>;

    /// How many requests are best written at once.
    fn batch(&self) -> usize {
        1
    }

    /// Does all of `asks` in their order; where the store can, they reach the disk together.
    fn together(&self, asks: &[StoreRequest]) -> Vec<Result<StoreReply>> {
        asks.iter().map(|ask| tell(self, ask)).collect()
    }
}

fn tell<S: ControlStore + ?Sized>(store: &S, ask: &StoreRequest) -> Result<StoreReply> {
    match ask {
        StoreRequest::Acquire(claim) => store.acquire(claim).map(StoreReply::Answer),
        StoreRequest::Renew(claim, term) => store.renew(claim, *term).map(StoreReply::Answer),
        StoreRequest::Release(claim, term) => store.release(claim, *term).map(StoreReply::Released),
        StoreRequest::Heartbeat(beat) => store.beat(beat).map(|()| StoreReply::Noted),
        StoreRequest::Probe => store.probe().map(|()| StoreReply::Noted),
    }
}

/// How long one answer of a store over the network is waited for; less for a short lease, so that there is
/// time for another.
fn answer_limit(ttl: Duration) -> Duration {
    Duration::from_secs(5).min(ttl / 4)
}

/// The variable of the token of a control API.
const TOKEN: &str = "BAA_SHARED_TOKEN";
/// That of the password of a user of etcd.
const PASSWORD: &str = "BAA_ETCD_PASSWORD";
/// Those of the URL of a store, in which there may be a login.
const URLS: [&str; 2] = ["BAA_CONTROL_API_BASE", "BAA_CONTROL_STORE"];

/// Takes the secrets out of our environment, so that nothing that we start inherits them. To be called first
/// of all, before there is another thread.
pub fn take_secrets() {
    secret::take(&[TOKEN, PASSWORD]);
    let login = |name: &&&str| std::env::var(name).is_ok_and(|url| url.contains('@'));
    URLS.iter().filter(login).for_each(|name| secret::withhold(name));
}

/// The token of a control API that was in our environment.
pub fn token_of_environment() -> Option<SecretText> {
    secret::taken(TOKEN)
}

/// What opens the doors of a store.
#[derive(Clone, Default)]
pub struct Access {
    /// The token of a control API.
    pub token: Option<SecretText>,
    /// The password of a user of etcd.
    pub password: Option<SecretText>,
    /// Whom https and etcds trust.
    pub trust: Trust,
}

impl Access {
    /// With a token, the password of `password_file` or else of BAA_ETCD_PASSWORD, and trust in the
    /// certificates of `ca_file` alone.
    ///
    /// # Errors
    /// Files that cannot be read: 66, 74, 77; 65 without a certificate.
    pub fn new(
        token: Option<SecretText>,
        password_file: Option<&Path>,
        ca_file: Option<&Path>,
    ) -> Result<Access> {
        let password = match password_file {
            Some(path) => Some(secret("password", path)?),
            None => secret::taken(PASSWORD),
        };
        Ok(Access { token, password, trust: ca_file.map(Trust::only).transpose()?.unwrap_or_default() })
    }
}

/// A secret from a file, without the space around it; `what` it is, for people.
///
/// # Errors
/// A file that cannot be read: 66, 74, 77; 65 for one that is no text; 78 for one that others may read,
/// or put there.
pub fn secret(what: &str, path: &Path) -> Result<SecretText> {
    let text = SecretText::read(&format!("cannot read the {what} from {}", path.display()), path, SECRET)?;
    Ok(text.trimmed().unwrap_or_default())
}

/// Opens the store that `url` names, by its scheme; `None` is a file in the state directory.
///
/// # Errors
/// 2 for what names none, and those of the store itself.
pub fn open(url: Option<&str>, access: &Access) -> Result<Box<dyn Store>> {
    match url {
        Some(url) if is_control_api(url) => {
            Ok(Box::new(control_api::ControlApi::new(url, access.token.clone(), access.trust.clone())?))
        }
        url => Ok(open_ledger(url, access)?),
    }
}

/// Whether `url` names a control API.
pub fn is_control_api(url: &str) -> bool {
    ["http://", "https://", "unix:"].iter().any(|scheme| url.starts_with(scheme))
}

/// Opens a store that a control API can be made of.
///
/// # Errors
/// As `open`; a control API is none.
pub fn open_ledger(url: Option<&str>, access: &Access) -> Result<Box<dyn ControlStore>> {
    let Some(url) = url else { return Ok(Box::new(sqlite::Sqlite::open(&default_file())?)) };
    if url.starts_with("etcd://") || url.starts_with("etcds://") {
        return Ok(Box::new(etcd::Etcd::new(url, access.password.clone(), access.trust.clone())?));
    }
    Ok(Box::new(sqlite::Sqlite::open(&file_of(url)?)?))
}

/// The file of `sqlite:PATH`.
///
/// # Errors
/// 2 for what is no such name.
pub fn file_of(url: &str) -> Result<PathBuf> {
    let path = url.strip_prefix("sqlite:").filter(|path| !path.is_empty()).map(PathBuf::from);
    path.ok_or_else(|| {
        Error::new(
            Status::Usage,
            format!(
                "'{}' is no store here; write sqlite:PATH, etcd://HOST/PREFIX, unix:PATH or http://HOST",
                brief(url)
            ),
        )
    })
}

/// The store where none is named.
pub fn default_file() -> PathBuf {
    file::state_dir().join("lease.db")
}

/// Whether `name` can be the name of a lease, a holder or a host: short, and one word of a log.
///
/// # Errors
/// 2, and says so.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._@:+-".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(good) {
        let rule = "letters, digits, '.', '_', '@', ':', '+' and '-', 128 at most";
        return Err(Error::new(Status::Usage, format!("'{}' is not {what}: {rule}", brief(name))));
    }
    Ok(())
}

/// Seconds since 1970; 0 before.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Record {
    /// How long it lasts from `now`: zero when it is released, has run out, or was given before this boot to
    /// somebody of this machine.
    pub fn left(&self, now: &BootMoment) -> Duration {
        match &self.holder {
            None => Duration::ZERO,
            Some(_) if self.expires.boot != now.boot => {
                if self.far {
                    self.ttl
                } else {
                    Duration::ZERO
                }
            }
            Some(_) => self.expires.since.saturating_sub(now.since),
        }
    }

    /// What it becomes when it is first seen after a boot: what was given to another machine lasts once more
    /// from `now`, for its holder may live, and nobody knows how long we were away.
    #[must_use]
    pub fn carried_over(self, now: &BootMoment) -> Record {
        let outlives = self.far && self.holder.is_some() && self.expires.boot != now.boot;
        if outlives { Record { expires: now.after(self.ttl), ..self } } else { self }
    }

    /// Who holds it at `now`.
    pub fn leader(&self, now: &BootMoment) -> Option<&str> {
        self.holder.as_deref().filter(|_| !self.left(now).is_zero())
    }

    fn is_of(&self, claim: &Claim) -> bool {
        self.is_named(claim) && self.guard.admits(&claim.proof)
    }

    fn is_named(&self, claim: &Claim) -> bool {
        self.holder.as_ref() == Some(&claim.holder)
            && (self.instance == claim.instance || claim.instance.is_empty())
    }

    /// Whether it is held as `claim` says, by another than the claimant.
    fn keeps_out(&self, claim: &Claim, term: u64) -> bool {
        self.term == term && self.is_named(claim) && !self.is_given_up_by(claim)
    }

    /// Whether it is the claimant's to give up; only a release breaks what another holds.
    fn is_given_up_by(&self, claim: &Claim) -> bool {
        self.is_named(claim) && (claim.proof.breaks || self.guard.is_lifted_by(&claim.proof))
    }
}

/// What a claim makes of what is there: the record to write, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
// As with `StoreReply`.
#[allow(clippy::large_enum_variant)]
pub enum Decision {
    /// Write it; and whether it was the claimant's before.
    Write(Record, bool),
    /// Leave it.
    Refuse,
}

/// The record of a lease that is `claim`'s from `now` on, where `found` was.
fn granted(found: Option<&Record>, claim: &Claim, term: u64, now: &BootMoment) -> Record {
    let before =
        || found.and_then(|record| record.preferred.clone()).filter(|preferred| *preferred != claim.holder);
    let same = found.filter(|record| record.term == term && record.holder.is_some());
    Record {
        holder: Some(claim.holder.clone()),
        host: claim.host.clone(),
        instance: claim.instance.clone(),
        term,
        ttl: claim.ttl,
        expires: now.after(claim.ttl),
        preferred: if claim.preferred { Some(claim.holder.clone()) } else { before() },
        metadata: claim.metadata.clone(),
        far: claim.far,
        guard: Guard::of(&claim.proof, same.map(|record| &record.guard)),
    }
}

/// The last term: what SQLite can count to, and what most readers of JSON can hold.
const LAST_TERM: u64 = i64::MAX.cast_unsigned();

/// The term after `term`; `None` where there is none, for a term that was used never comes again.
fn next_term(term: u64) -> Option<u64> {
    term.checked_add(1).filter(|next| *next <= LAST_TERM)
}

/// What is told of a lease that cannot change hands any more.
fn used_up(lease: &str) -> Error {
    let why = format!("no term is left for {}: the store holds the last one", brief(lease));
    Error::new(Status::Malformed, why)
}

/// Decides on a claim. A lease that has run out is a new term even for the one who had it: what was done
/// under the old one may have been refused already. Where no term is left it is refused for good.
pub fn decide_acquire(found: Option<&Record>, claim: &Claim, now: &BootMoment) -> Decision {
    match found {
        Some(record) if !record.left(now).is_zero() => match record.is_of(claim) {
            true => Decision::Write(granted(Some(record), claim, record.term, now), true),
            false => Decision::Refuse,
        },
        found => match next_term(found.map_or(0, |record| record.term)) {
            Some(term) => Decision::Write(granted(found, claim, term, now), false),
            None => Decision::Refuse,
        },
    }
}

/// Decides on a renewal under `term`.
pub fn decide_renew(found: Option<&Record>, claim: &Claim, term: u64, now: &BootMoment) -> Decision {
    match found {
        Some(record) if record.term == term && record.is_of(claim) && !record.left(now).is_zero() => {
            Decision::Write(granted(found, claim, term, now), true)
        }
        _ => Decision::Refuse,
    }
}

/// Decides on a release: the term stays, so that the next one is higher.
pub fn decide_release(found: Option<&Record>, claim: &Claim, term: u64) -> Decision {
    match found {
        Some(record) if record.term == term && record.is_given_up_by(claim) => {
            // Whose it was is still known, so that names are counted to who has made them.
            let guard = Guard { secret: None, ..record.guard.clone() };
            Decision::Write(Record { holder: None, instance: String::new(), guard, ..record.clone() }, true)
        }
        _ => Decision::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> BootMoment {
        BootMoment { boot: "b".to_owned(), since: Duration::from_millis(millis) }
    }

    fn claim(holder: &str, instance: &str) -> Claim {
        Claim {
            lease: "l".to_owned(),
            holder: holder.to_owned(),
            host: "h".to_owned(),
            instance: instance.to_owned(),
            ttl: Duration::from_millis(1000),
            ..Claim::default()
        }
    }

    fn taken(found: Option<&Record>, claim: &Claim, now: &BootMoment) -> Option<(Record, bool)> {
        match decide_acquire(found, claim, now) {
            Decision::Write(record, renewed) => Some((record, renewed)),
            Decision::Refuse => None,
        }
    }

    #[test]
    fn a_term_never_goes_back_and_never_has_two_holders() {
        let (first, _) = taken(None, &claim("a", "1"), &at(0)).unwrap();
        assert_eq!(first.term, 1);
        // Until the very last moment it is the first one's; from then on anybody's, under a new term.
        assert_eq!(taken(Some(&first), &claim("b", "1"), &at(999)), None);
        let (second, renewed) = taken(Some(&first), &claim("b", "1"), &at(1000)).unwrap();
        assert_eq!((second.term, renewed), (2, false));
        let (again, renewed) = taken(Some(&first), &claim("a", "1"), &at(1000)).unwrap();
        assert_eq!((again.term, renewed), (2, false));
        assert_eq!(decide_renew(Some(&first), &claim("a", "1"), 1, &at(1000)), Decision::Refuse);
        assert_eq!(decide_renew(Some(&second), &claim("a", "1"), 1, &at(1001)), Decision::Refuse);
        let Decision::Write(released, _) = decide_release(Some(&second), &claim("b", "1"), 2) else {
            panic!()
        };
        assert_eq!(
            (released.holder.as_ref(), released.term, released.left(&at(1001))),
            (None, 2, Duration::ZERO)
        );
        assert_eq!(taken(Some(&released), &claim("a", "1"), &at(1001)).unwrap().0.term, 3);
        assert_eq!(decide_release(Some(&released), &claim("b", "1"), 2), Decision::Refuse);
    }

    #[test]
    fn two_processes_of_one_holder_do_not_share_unless_they_say_so() {
        let (held, _) = taken(None, &claim("a", "1"), &at(0)).unwrap();
        assert_eq!(taken(Some(&held), &claim("a", "2"), &at(1)), None);
        assert!(taken(Some(&held), &claim("a", ""), &at(1)).unwrap().1);
        assert_eq!(decide_renew(Some(&held), &claim("a", "2"), 1, &at(1)), Decision::Refuse);
    }

    #[test]
    fn only_a_release_breaks_what_another_holds() {
        let secret = guard::GrantSecret::new().unwrap();
        let mine =
            Claim { proof: ClaimProof { secret: Some(secret), ..ClaimProof::default() }, ..claim("a", "1") };
        let (held, _) = taken(None, &mine, &at(0)).unwrap();
        let breaker =
            Claim { proof: ClaimProof { breaks: true, ..ClaimProof::default() }, ..claim("a", "1") };
        assert_eq!(taken(Some(&held), &breaker, &at(1)), None);
        assert_eq!(decide_renew(Some(&held), &breaker, 1, &at(1)), Decision::Refuse);
        assert_eq!(decide_release(Some(&held), &claim("a", "1"), 1), Decision::Refuse);
        assert!(held.keeps_out(&claim("a", "1"), 1) && !held.keeps_out(&breaker, 1));
        assert_eq!(decide_release(Some(&held), &breaker, 2), Decision::Refuse);
        for gives_up in [mine, breaker] {
            let Decision::Write(free, _) = decide_release(Some(&held), &gives_up, 1) else { panic!() };
            assert_eq!((free.holder, free.guard.secret), (None, None));
        }
    }

    #[test]
    fn nothing_outlives_its_boot() {
        let (held, _) = taken(None, &claim("a", "1"), &at(0)).unwrap();
        let later = BootMoment { boot: "c".to_owned(), since: Duration::ZERO };
        assert_eq!(taken(Some(&held), &claim("b", "1"), &later).unwrap().0.term, 2);
        assert_eq!(decide_renew(Some(&held), &claim("a", "1"), 1, &later), Decision::Refuse);
    }

    /// A reboot of the control machine is no death of a holder elsewhere.
    #[test]
    fn a_holder_elsewhere_outlives_our_boot() {
        let far = Claim { far: true, ..claim("a", "1") };
        let (held, _) = taken(None, &far, &at(0)).unwrap();
        let later = BootMoment { boot: "c".to_owned(), since: Duration::from_millis(5) };
        let carried = held.carried_over(&later);
        assert_eq!(carried.expires, later.after(Duration::from_millis(1000)));
        assert_eq!(taken(Some(&carried), &claim("b", "1"), &later), None);
        assert!(matches!(decide_renew(Some(&carried), &far, 1, &later), Decision::Write(..)));
        assert_eq!(carried.clone().carried_over(&later), carried);
    }

    #[test]
    fn who_should_lead_is_kept_until_somebody_else_says_so() {
        let (held, _) = taken(None, &Claim { preferred: true, ..claim("a", "1") }, &at(0)).unwrap();
        let (next, _) = taken(Some(&held), &claim("b", "1"), &at(1000)).unwrap();
        assert_eq!(next.preferred.as_deref(), Some("a"));
        let (next, _) = taken(Some(&next), &claim("a", "1"), &at(2000)).unwrap();
        assert_eq!(next.preferred, None);
    }
}
