//! What a person asks a keeper (baa-run ctl).

use crate::probe::liveness::LIVED;
use crate::service::embedded::KeeperPaths;
use crate::service::{Trouble, TroubleClass, intent};
use crate::sys::clock;
use crate::sys::process::{Identity, Pid, Watch};
use crate::sys::say::Voice;
use crate::sys::signal::SignalNumber;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A keeper that is busy has this long to answer: ten thousand who ask at once take their turns.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at what comes of a change.
const LOOK: Duration = Duration::from_millis(20);

fn error(label: &str, trouble: Trouble) -> Error {
    let status = match trouble.class {
        TroubleClass::Final(status) => status,
        TroubleClass::Retry if KeeperPaths::of(label).stopped().is_some() => Status::TooLate,
        TroubleClass::Retry => Status::Busy,
        TroubleClass::Benign | TroubleClass::Unregistered => Status::Unavailable,
    };
    Error::new(status, format!("cannot ask about {label}: {}", trouble.text))
}

/// What the keeper of `label` says of it, in JSON.
///
/// # Errors
/// 69 when no keeper runs; 75 when it is busy; 124 when it is stopped by a signal.
pub fn status(label: &str) -> Result<Value> {
    ask(label, &json!({ "verb": "status" }))
}

/// The same; of a keeper that runs and does not answer, what it has written down last, and why in
/// `unreachable`.
///
/// # Errors
/// 69 when no keeper runs; 77.
pub fn last_status(label: &str) -> Result<Value> {
    let error = match status(label) {
        Err(error) if matches!(error.status, Status::TooLate | Status::Busy) => error,
        outcome => return outcome,
    };
    let Some(mut known) = KeeperPaths::of(label).last_known() else { return Err(error) };
    let number = |key: &str| known[key].as_i64().and_then(|number| i32::try_from(number).ok());
    let pid = number("pid").and_then(Pid::new);
    let is_same = |one: Identity| known["start"].as_u64() == Some(one.start.0);
    if !pid.and_then(Identity::of).is_some_and(|one| is_same(one) && one.alive()) {
        known["pid"] = Value::Null;
    }
    known["unreachable"] = json!(error.to_string());
    Ok(known)
}

/// What each keeper of this runtime directory says of its job.
pub fn all() -> Vec<Value> {
    let label = |label: String| match last_status(&label) {
        Ok(status) => Some(status),
        Err(error) if error.status == Status::Unavailable => None,
        Err(error) => Some(json!({ "label": label, "unreachable": error.to_string() })),
    };
    KeeperPaths::running().into_iter().filter_map(label).collect()
}

/// Tells of each change of a job while somebody waits for what comes of it.
struct Follower<'a> {
    label: &'a str,
    voice: &'a Voice,
    told: Option<String>,
}

impl Follower<'_> {
    fn look(&mut self, answer: &Value) {
        let state = answer["state"].as_str().unwrap_or("unknown");
        let pid = answer["pid"].as_i64().map(|pid| format!(", process {pid}")).unwrap_or_default();
        let words = format!("{}: {state}{pid}", self.label);
        if self.told.as_ref().is_some_and(|told| *told != words) {
            self.voice.note(&words);
        }
        self.told = Some(words);
    }
}

/// How a restart or an update is asked for.
#[derive(Clone, Copy, Debug)]
pub struct AskOptions<'a> {
    /// Why; it reaches the next life.
    pub reason: Option<&'a str>,
    /// Whether a restart is done at once, however short ago the last one was.
    pub now: bool,
    /// Whether to return once it is asked for, whatever comes of it.
    pub no_wait: bool,
    /// How long to wait for what comes of it; `None` is without end.
    pub timeout: Option<Duration>,
}

/// Has the job of `label` started unless it runs, and waits for what comes of it. What has failed, or waits
/// for its next start, is started at once.
///
/// # Errors
/// 69 when no keeper runs, or when it does not come to serve, or the keeper ends; 124 when that is not known
/// in time.
pub fn start(label: &str, how: AskOptions<'_>, voice: &Voice) -> Result<Value> {
    let mut follower = Follower { label, voice, told: None };
    let before = status(label)?;
    follower.look(&before);
    let mut now = ask(label, &json!({ "verb": "start" }))?;
    if how.no_wait || (before["state"] == "running" && before["pid"].is_number()) {
        return Ok(now);
    }
    let keeper = now["keeper"].clone();
    let until = how.timeout.map(|timeout| clock::after(Instant::now(), timeout));
    let mut since: Option<(Value, Instant)> = None;
    loop {
        follower.look(&now);
        let ended = || now["last_exit"].as_str().unwrap_or("it ended").to_owned();
        match now["state"].as_str() {
            Some("running" | "updating") if now["pid"].is_number() => {
                // One that is not asked whether it serves is believed when it has lived for a moment.
                let (life, at) = since.get_or_insert_with(|| (now["runs"].clone(), Instant::now()));
                if *life != now["runs"] {
                    return Err(not_started(label, &ended()));
                }
                if now["asks_ready"] == true || at.elapsed() >= LIVED {
                    return Ok(now);
                }
            }
            Some("idle" | "waiting" | "finished") if now["last_exit"] == "exited with 0" => return Ok(now),
            Some("idle" | "waiting" | "finished") => return Err(not_started(label, &ended())),
            _ => {}
        }
        late(label, until)?;
        now = again(label, &keeper, &|| not_started(label, "its keeper has ended"))?.unwrap_or(now);
    }
}

/// Whether a life serves, or will as soon as a change that is under way is over.
fn is_on_its_way(status: &Value) -> bool {
    match status["state"].as_str() {
        Some("running" | "updating" | "starting" | "draining") => true,
        // It is stopped to be started again, or for good.
        Some("stopping") => status["change"]["state"] == "open",
        _ => false,
    }
}

fn not_started(label: &str, why: &str) -> Error {
    Error::new(Status::Unavailable, format!("{label} is not started: {why}"))
}

fn late(label: &str, until: Option<Instant>) -> Result<()> {
    if until.is_none_or(|until| Instant::now() < until) {
        return Ok(());
    }
    Err(Error::new(Status::TooLate, format!("{label}: what comes of it is not known within the time")))
}

/// What the same keeper says a little later; nothing while it is busy.
fn again(label: &str, keeper: &Value, ended: &dyn Fn() -> Error) -> Result<Option<Value>> {
    std::thread::sleep(LOOK);
    match status(label) {
        // Another keeper knows nothing of it.
        Ok(answer) if answer["keeper"] != *keeper => Err(ended()),
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.status == Status::Busy => Ok(None),
        Err(error) if error.status == Status::TooLate => Err(error),
        Err(_) => Err(ended()),
    }
}

/// Has the job of `label` stopped and started, drained first where it can be, and waits for what comes of it.
/// One that is being restarted already is not restarted twice.
///
/// # Errors
/// 69 when no keeper runs, or when the next life does not come to serve, or the keeper ends; 124 when that is
/// not known in time.
pub fn restart(label: &str, how: AskOptions<'_>, voice: &Voice) -> Result<Value> {
    let begun = ask(label, &json!({ "verb": "restart", "reason": how.reason, "now": how.now }))?;
    if let Some(millis) = begun["restart_in_ms"].as_u64() {
        let pause = crate::words::span::show(Duration::from_millis(millis));
        voice.note(format!(
            "{label}: it was restarted a moment ago, and will be again in {pause}; with --now, at once"
        ));
    }
    outcome(begun, how, "is not restarted", &mut Follower { label, voice, told: None })
}

/// Has the next life of `label` started beside the one that serves, and waits for what comes of it. While a
/// change is under way it waits for its turn.
///
/// # Errors
/// 69 when no keeper runs, or when the next life did not come to serve: the old one goes on; 75 when none
/// serves, and none is on its way; 78 without --ready.
pub fn update(label: &str, how: AskOptions<'_>, voice: &Voice) -> Result<Value> {
    let mut follower = Follower { label, voice, told: None };
    let until = how.timeout.map(|timeout| clock::after(Instant::now(), timeout));
    let mut waits = false;
    let begun = loop {
        let now = status(label)?;
        follower.look(&now);
        if now["asks_ready"] != true {
            return Err(Error::new(
                Status::BadConfig,
                format!("cannot update {label}: without --ready nobody knows whether the next life serves"),
            ));
        }
        let error = match ask(label, &json!({ "verb": "update", "reason": how.reason })) {
            Err(error) if error.status == Status::Busy => error,
            outcome => break outcome?,
        };
        // One that served before we asked, or does since, has been told to do something else meanwhile.
        if !is_on_its_way(&now) && !is_on_its_way(&status(label)?) {
            return Err(error);
        }
        if !std::mem::replace(&mut waits, true) {
            voice.note(format!("{label}: a change is under way; the update comes after it"));
        }
        late(label, until)?;
        std::thread::sleep(LOOK);
    };
    outcome(begun, how, "is not updated, the old life goes on", &mut follower)
}

fn ask(label: &str, request: &Value) -> Result<Value> {
    let until = Instant::now() + PATIENCE;
    KeeperPaths::of(label).ask_until(request, until).map_err(|trouble| error(label, trouble))
}

/// Waits for what comes of the change that `begun` tells of.
fn outcome(begun: Value, how: AskOptions<'_>, not: &str, follower: &mut Follower<'_>) -> Result<Value> {
    let label = follower.label;
    if how.no_wait {
        return Ok(begun);
    }
    let (number, keeper) = (begun["change"]["number"].as_u64(), begun["keeper"].clone());
    let ended = || Error::new(Status::Unavailable, format!("{label} {not}: its keeper has ended"));
    let until = how.timeout.map(|timeout| clock::after(Instant::now(), timeout));
    let mut now = begun;
    loop {
        follower.look(&now);
        match of_number(&now, number) {
            Some(change) if change["state"] == "failed" => {
                let why = change["why"].as_str().unwrap_or_default();
                return Err(Error::new(Status::Unavailable, format!("{label} {not}: {why}")));
            }
            Some(change) if change["state"] == "done" => return Ok(now),
            Some(_) => {}
            // What came of a later one says nothing of it.
            None => {
                let why = "so much was asked for since that what came of it is not known";
                return Err(Error::new(Status::Unavailable, format!("{label}: {why}")));
            }
        }
        late(label, until)?;
        now = again(label, &keeper, &ended)?.unwrap_or(now);
    }
}

/// The change of this number, as far as a status tells of it.
fn of_number(status: &Value, number: Option<u64>) -> Option<&Value> {
    let all = status["changes"].as_array().into_iter().flatten().chain([&status["change"]]);
    all.into_iter().find(|change| number.is_some() && change["number"].as_u64() == number)
}

/// Writes down that the TERM which the keeper of `label` gets within a minute means a restart.
///
/// # Errors
/// 69 when no keeper runs; 74, 77 when it cannot be written.
pub fn intend(label: &str, reason: Option<&str>) -> Result<Value> {
    let answer = status(label)?;
    let gone = || Error::new(Status::Unavailable, format!("cannot ask about {label}: no keeper runs"));
    let keeper = answer["keeper"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::new)
        .ok_or_else(gone)?;
    intent::write(&KeeperPaths::of(label), keeper, reason)?;
    Ok(answer)
}

/// Stops the job and its keeper; returns when the keeper is gone.
///
/// # Errors
/// 69 when no keeper runs; 124 when it is not gone in time, or a minute after the job's own limit.
pub fn stop(label: &str, how: AskOptions<'_>) -> Result<Value> {
    let answer = ask(label, &json!({ "verb": "stop" }))?;
    if how.no_wait { Ok(answer) } else { gone(label, &answer, how.timeout, Duration::ZERO) }
}

/// Sends the process of `label` a signal.
///
/// # Errors
/// 1 when it has none; 2 for what is no signal; 69 when no keeper runs.
pub fn signal(label: &str, name: &str) -> Result<Value> {
    SignalNumber::parse(name).map_err(|why| Error::new(Status::Usage, why))?;
    let answer = ask(label, &json!({ "verb": "signal", "signal": name }))?;
    if answer["pid"].is_null() {
        return Err(Error::new(Status::No, format!("{label} has no process")));
    }
    Ok(answer)
}

/// Has the job finish what it has begun, then stops it and its keeper; returns when the keeper is gone.
///
/// # Errors
/// 69 when no keeper runs; 124 when it is not gone in time, or a minute after the job's own limits.
pub fn drain(label: &str, how: AskOptions<'_>) -> Result<Value> {
    let answer = ask(label, &json!({ "verb": "drain", "reason": how.reason }))?;
    if how.no_wait {
        return Ok(answer);
    }
    let limit = answer["drain_ms"].as_u64().map(Duration::from_millis);
    match limit {
        Some(Duration::ZERO) => gone(label, &answer, how.timeout, crate::words::span::LONGEST),
        limit => gone(label, &answer, how.timeout, limit.unwrap_or_default()),
    }
}

fn gone(label: &str, answer: &Value, most: Option<Duration>, more: Duration) -> Result<Value> {
    let number = |key: &str| answer.get(key).and_then(Value::as_u64);
    let keeper = number("keeper").and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::new);
    let patience = match number("exit_timeout_ms") {
        Some(0) | None => crate::words::span::LONGEST,
        Some(millis) => Duration::from_millis(millis) + Duration::from_secs(60) + more,
    };
    let patience = most.unwrap_or(patience);
    let watch = keeper.and_then(|pid| Watch::new(pid).ok().flatten());
    match watch {
        Some(watch) if !watch.wait(clock::after(Instant::now(), patience)) => {
            Err(Error::new(Status::TooLate, format!("{label} did not stop in time")))
        }
        _ => Ok(answer.clone()),
    }
}

/// The status in one line for people.
pub fn words(answer: &Value) -> String {
    let text = |key: &str| answer.get(key).and_then(Value::as_str);
    let number = |key: &str| answer.get(key).and_then(Value::as_u64);
    let mut words = vec![format!("{}: {}", text("label").unwrap_or("?"), text("state").unwrap_or("?"))];
    words.extend((answer["parked"] == true).then(|| "parked".to_owned()));
    words.extend(number("pid").map(|pid| format!("process {pid}")));
    words.extend(number("runs").map(|runs| format!("runs {runs}")));
    words.extend(text("last_exit").map(|exit| format!("last {exit}")));
    words.extend(
        number("next_start_ms").map(|millis| {
            format!("next start in {}", crate::words::span::show(Duration::from_millis(millis)))
        }),
    );
    words.extend(
        number("restart_in_ms")
            .map(|millis| format!("restart in {}", crate::words::span::show(Duration::from_millis(millis)))),
    );
    words.extend(text("unreachable").map(|why| format!("as of {}: {why}", text("written").unwrap_or("?"))));
    words.extend(text("says").map(|says| format!("says {}", crate::words::error::brief(says))));
    words.join(", ")
}
