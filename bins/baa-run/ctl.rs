//! What a keeper is asked for.

use crate::args::{CtlArgs, CtlVerb};
use baa::act::keeper::ask::{self, AskOptions};
use baa::service::check_label;
use baa::sys::say::{self, Level, Voice};
use baa::words::error::{Error, Result};
use baa::words::exit::Status;
use serde_json::{Value, json};

pub fn ctl(asked: &CtlArgs) -> Result<Status> {
    if asked.verb == CtlVerb::List {
        // Who names one wants to know of that one.
        if !asked.label.is_empty() {
            return Err(Error::new(Status::Usage, "list takes no label; status tells of one"));
        }
        return list(asked);
    }
    if asked.label.is_empty() {
        return Err(Error::new(Status::Usage, "a label is missing"));
    }
    for label in &asked.label {
        check_label(label).map_err(|why| Error::new(Status::Usage, why))?;
    }
    if let [label] = &asked.label[..] {
        return told(asked, &one(asked, label)?);
    }
    // Side by side, so that the slowest is waited for and not all of them in turn.
    let answers: Vec<Result<Value>> = std::thread::scope(|scope| {
        let asks: Vec<_> = asked.label.iter().map(|label| scope.spawn(move || one(asked, label))).collect();
        let broken = || Err(Error::new(Status::Internal, "bug: a question has broken off"));
        asks.into_iter().map(|ask| ask.join().unwrap_or_else(|_| broken())).collect()
    });
    let mut worst = Status::Done;
    let mut errors = Vec::new();
    for answer in answers {
        match answer {
            Ok(answer) => worst = worst.worse(told(asked, &answer)?),
            Err(error) => {
                worst = worst.worse(error.status);
                errors.push(error.to_string());
            }
        }
    }
    if errors.is_empty() { Ok(worst) } else { Err(Error::new(worst, errors.join("; "))) }
}

fn one(asked: &CtlArgs, label: &str) -> Result<Value> {
    let reason = asked.reason.as_deref();
    let how = AskOptions { reason, now: asked.now, no_wait: asked.no_wait, timeout: asked.timeout };
    let voice = Voice::new(if asked.quiet { Level::Quiet } else { Level::Normal });
    match asked.verb {
        CtlVerb::Status | CtlVerb::List => ask::last_status(label),
        CtlVerb::Start => ask::start(label, how, &voice),
        CtlVerb::Restart => ask::restart(label, how, &voice),
        CtlVerb::Update => ask::update(label, how, &voice),
        CtlVerb::Stop => ask::stop(label, how),
        CtlVerb::Drain => ask::drain(label, how),
        CtlVerb::Intend => ask::intend(label, reason),
        CtlVerb::Signal => {
            let missing = || Error::new(Status::Usage, "signal needs --signal, as in --signal HUP");
            ask::signal(label, asked.signal.as_deref().ok_or_else(missing)?)
        }
    }
}

fn told(asked: &CtlArgs, answer: &Value) -> Result<Status> {
    let tells = asked.verb == CtlVerb::Status;
    if asked.json {
        say::answer(&answer.to_string())?;
    } else if tells {
        say::answer(&ask::words(answer))?;
    }
    let has_none = answer.get("pid").is_none_or(Value::is_null);
    Ok(if tells && has_none { Status::No } else { Status::Done })
}

fn list(asked: &CtlArgs) -> Result<Status> {
    let jobs = ask::all();
    if asked.json {
        say::answer(&json!({ "schema": "baa.run.list/1", "jobs": jobs }).to_string())?;
    } else {
        jobs.iter().try_for_each(|job| say::answer(&ask::words(job)))?;
    }
    Ok(if jobs.is_empty() { Status::No } else { Status::Done })
}
