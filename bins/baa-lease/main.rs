//! Holds leases.

mod args;
mod live;
mod settings;
mod steps;

use args::{Check, Heartbeat, Hold, LeaseArgs, LeaseStoreArgs, LeaseVerb, StartArgs};
use baa::act::lease::conductor::{self, Conductor};
use baa::act::lease::hold::{self, HoldRequest};
use baa::act::lease::hooks::Commands;
use baa::act::lease::{guard, name, start};
use baa::program::Edge;
use baa::service::quote;
use baa::store::{self, BootMoment, Record};
use baa::sys::say;
use baa::words::error::Result;
use baa::words::exit::Status;
use baa::words::span;
use serde_json::json;
use settings::{access, claim, conductor_access, config, open, open_warned, renew_interval};
use std::process::ExitCode;
use std::time::Duration;
use steps::{acquire, only_said, release, renew};

fn main() -> ExitCode {
    store::take_secrets();
    // As the seed does, options without a verb start a conductor.
    let implied: fn(&str) -> Option<&'static str> = |first| {
        (first.starts_with("--") && !["--", "--help", "--version"].contains(&first)).then_some("start")
    };
    baa::program::run(Edge { implied, live: live::values, ..Edge::default() }, |args: LeaseArgs| match &args
        .verb
    {
        LeaseVerb::Hold(args) => hold(args),
        LeaseVerb::Start(args) => start(args),
        LeaseVerb::Acquire(args) => acquire(args),
        LeaseVerb::Renew(args) => renew(args),
        LeaseVerb::Release(args) => release(args),
        LeaseVerb::Status(args) => status(args),
        LeaseVerb::Check(args) => check(args),
        LeaseVerb::Heartbeat(args) => heartbeat(args),
        LeaseVerb::Config(args) => {
            let config = config(args, &access(&args.claim.store_args)?)?;
            say::answer(&if args.claim.store_args.common.json {
                format!("{:#}", config.json())
            } else {
                config.text()
            })?;
            config
                .warnings()
                .iter()
                .for_each(|warning| args.claim.store_args.common.voice().note(format!("warning: {warning}")));
            Ok(Status::Done)
        }
        LeaseVerb::Checklist(args) => {
            say::answer(&if args.json {
                format!("{:#}", conductor::checklist_json())
            } else {
                conductor::checklist_text()
            })?;
            Ok(Status::Done)
        }
        LeaseVerb::Guard(args) => guard::guard(&args.command),
    })
}

fn hold(args: &Hold) -> Result<Status> {
    say::never_wait();
    let voice = args.claim.store_args.common.voice();
    let claim = claim(&args.claim, name::instance())?;
    if args.claim.store_args.common.dry_run {
        let words: Vec<String> = args.command.iter().map(quote).collect();
        voice.note(format!("would hold {} as {} and run {}", claim.lease, claim.holder, words.join(" ")));
        return Ok(Status::Done);
    }
    let request =
        HoldRequest { claim, interval: renew_interval(&args.pace), wait: args.wait, command: &args.command };
    hold::hold(open_warned(&args.claim.store_args)?.as_ref(), &request, &voice)
}

fn start(args: &StartArgs) -> Result<Status> {
    say::never_wait();
    let store_args = &args.conductor.claim.store_args;
    let (voice, keys) = (store_args.common.voice(), conductor_access(&args.conductor)?);
    let config = config(&args.conductor, &keys)?;
    if store_args.common.dry_run {
        voice.note(format!("would start {} for {}", config.identity(), config.lease));
        return Ok(Status::Done);
    }
    let hooks = Commands {
        leader: args.on_leader.clone(),
        standby: args.on_standby.clone(),
        degraded: args.on_degraded.clone(),
    };
    let (scheduler, warnings) = (args.scheduler.clone(), config.warnings());
    let request = start::ConductorRequest {
        config,
        anywhere: args.local_api_anywhere,
        scheduler,
        hooks,
        once: args.run_once,
    };
    let whole = store_args.common.json || args.run_once;
    let begun = |conductor: &Conductor| {
        say::answer(&if whole { format!("{:#}", conductor.snapshot()) } else { conductor.summary() })?;
        warnings.iter().for_each(|warning| voice.note(format!("warning: {warning}")));
        Ok(())
    };
    let signal = start::start(request, [open(store_args, &keys)?, open(store_args, &keys)?], &begun, &voice)?;
    if let Some(signal) = signal.filter(|_| !store_args.common.json) {
        say::answer(&format!("conductor stopped after {}", signal.as_str()))?;
    }
    Ok(Status::Done)
}

fn heartbeat(args: &Heartbeat) -> Result<Status> {
    let mut beat =
        Conductor::new(config(&args.conductor, &access(&args.conductor.claim.store_args)?)?).beat();
    beat.status.clone_from(&args.status);
    if !only_said(&args.conductor.claim, "send a heartbeat for") {
        open_warned(&args.conductor.claim.store_args)?.heartbeat(&beat)?;
    }
    Ok(Status::Done)
}

/// What is known of the lease, and how long it lasts.
fn leader(store_args: &LeaseStoreArgs) -> Result<(Option<Record>, Duration)> {
    let record = open_warned(store_args)?.read(&store_args.lease)?;
    let now = BootMoment::now()?;
    let left = record.as_ref().map_or(Duration::ZERO, |record| record.left(&now));
    Ok((record, left))
}

fn status(args: &LeaseStoreArgs) -> Result<Status> {
    let (record, left) = leader(args)?;
    let holder = record.as_ref().filter(|_| !left.is_zero()).and_then(|record| record.holder.clone());
    let term = record.as_ref().map_or(0, |record| record.term);
    say::answer(&if args.common.json {
        let host = record.as_ref().filter(|_| holder.is_some()).map(|record| record.host.clone());
        json!({
            "schema": "baa.lease/1", "lease": args.lease, "holder_id": holder, "holder_host": host,
            "term": term, "left_ms": span::millis(left)
        })
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
    let (record, left) = leader(&args.store_args)?;
    let current = record.is_some_and(|record| record.term == args.term && !left.is_zero());
    Ok(if current { Status::Done } else { Status::No })
}
