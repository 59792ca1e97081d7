//! Holds leases.

mod args;

use args::{Args, Check, Claim as ClaimArgs, Hold, Place, Termed, Verb};
use baa::act::lease::hold::{self, Order};
use baa::act::lease::{guard, name};
use baa::service::quote;
use baa::store::control_api::ControlApi;
use baa::store::sqlite::Sqlite;
use baa::store::{Answer, Claim, Record, Store};
use baa::sys::{file, say};
use baa::words::error::{Error, Result};
use baa::words::exit::Status;
use baa::words::span;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    baa::program::run(|args: Args| match &args.verb {
        Verb::Hold(args) => hold(args),
        Verb::Acquire(args) => acquire(args),
        Verb::Renew(args) => renew(args),
        Verb::Release(args) => release(args),
        Verb::Status(args) => status(args),
        Verb::Check(args) => check(args),
        Verb::Guard(args) => guard::guard(&args.command),
    })
}

fn open(place: &Place) -> Result<Box<dyn Store>> {
    name::check("the name of a lease", &place.lease)?;
    let url = place.store.as_deref().unwrap_or_default();
    if url.starts_with("http://") || url.starts_with("https://") {
        let api = ControlApi::new(url, token(place)?)?;
        api.warnings().inspect(|warning| place.common.voice().note(warning));
        return Ok(Box::new(api));
    }
    let path = match url.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None if place.store.is_none() => file::state_dir().join("lease.db"),
        None => return Err(Error::new(Status::Usage, format!("'{}' is no store; write sqlite:PATH or http://HOST", baa::words::error::brief(url)))),
    };
    Ok(Box::new(Sqlite::open(&path)?))
}

fn token(place: &Place) -> Result<Option<String>> {
    let Some(path) = &place.token_file else { return Ok(place.shared_token.clone()) };
    let bytes = file::read(path, 64 * 1024).map_err(|cause| Error::io(format!("cannot read the token from {}", path.display()), &cause))?;
    Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
}

fn claim(args: &ClaimArgs, instance: String) -> Result<Claim> {
    let holder = args.node_id.clone().unwrap_or_else(|| format!("{}-main", args.host));
    name::check("the name of a holder", &holder)?;
    name::check("a host", &args.host)?;
    let ttl = Duration::from_secs(u64::from(args.lease_ttl_sec));
    Ok(Claim { lease: args.place.lease.clone(), holder, host: args.host.clone(), instance, ttl })
}

fn hold(args: &Hold) -> Result<Status> {
    let voice = args.claim.place.common.voice();
    let claim = claim(&args.claim, name::instance())?;
    if args.claim.place.common.dry_run {
        let words: Vec<String> = args.command.iter().map(quote).collect();
        voice.note(format!("would hold {} as {} and run {}", claim.lease, claim.holder, words.join(" ")));
        return Ok(Status::Done);
    }
    let interval = Duration::from_millis(u64::from(args.lease_renew_interval_ms));
    hold::hold(open(&args.claim.place)?.as_ref(), &Order { claim, interval, wait: args.wait, command: &args.command }, &voice)
}

/// Prints what became of a claim; the lease is another's with `otherwise`.
fn told(args: &ClaimArgs, answer: &Answer, otherwise: Status) -> Result<Status> {
    match answer {
        Answer::Ours { term, renewed } => {
            let operation = if *renewed { "renew" } else { "acquire" };
            let text = json!({ "schema": "baa.lease/1", "lease": args.place.lease, "operation": operation, "term": term, "is_leader": true });
            say::answer(&if args.place.common.json { text.to_string() } else { term.to_string() })?;
            Ok(Status::Done)
        }
        Answer::Held(record) => Err(Error::new(otherwise, name::held(&args.place.lease, record))),
    }
}

fn acquire(args: &ClaimArgs) -> Result<Status> {
    told(args, &open(&args.place)?.acquire(&claim(args, String::new())?)?, Status::Busy)
}

fn renew(args: &Termed) -> Result<Status> {
    told(&args.claim, &open(&args.claim.place)?.renew(&claim(&args.claim, String::new())?, args.term)?, Status::Lost)
}

fn release(args: &Termed) -> Result<Status> {
    let released = open(&args.claim.place)?.release(&claim(&args.claim, String::new())?, args.term)?;
    let lost = || Error::new(Status::Lost, format!("{} is not held under term {}", args.claim.place.lease, args.term));
    if released { Ok(Status::Done) } else { Err(lost()) }
}

fn leader(place: &Place) -> Result<(Option<Record>, Duration)> {
    Ok(open(place)?.read(&place.lease)?.map_or((None, Duration::ZERO), |(record, left)| (Some(record), left)))
}

fn status(args: &Place) -> Result<Status> {
    let (record, left) = leader(args)?;
    let holder = record.as_ref().filter(|_| !left.is_zero()).and_then(|record| record.holder.clone());
    let term = record.as_ref().map_or(0, |record| record.term);
    say::answer(&if args.common.json {
        let host = record.as_ref().filter(|_| holder.is_some()).map(|record| record.host.clone());
        json!({ "schema": "baa.lease/1", "lease": args.lease, "holder_id": holder, "holder_host": host, "term": term, "left_ms": span::millis(left) })
            .to_string()
    } else {
        match &holder {
            Some(holder) => format!("{}: {holder} under term {term}, {} left", args.lease, span::show(left)),
            None => format!("{}: nobody, last term {term}", args.lease),
        }
    })?;
    Ok(if holder.is_some() { Status::Done } else { Status::No })
}

fn check(args: &Check) -> Result<Status> {
    let (record, left) = leader(&args.place)?;
    let current = record.is_some_and(|record| record.term == args.term && !left.is_zero());
    Ok(if current { Status::Done } else { Status::No })
}
