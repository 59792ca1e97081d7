//! Records deaths with their causes.

mod args;
mod live;

use args::{CanaryArgs, CanaryVerb, Chosen, Classify, Dismiss, RecordArgs, Snapshot, Targets, WatchArgs};
use baa::act::canary::arm::{self, ArmOutcome};
use baa::act::canary::arming::{self, Armed, Condition};
use baa::act::canary::classify::Gone;
use baa::act::canary::forensics;
use baa::act::canary::gap;
use baa::act::canary::record::RecordDirectory;
use baa::act::canary::request::{self, ArmedFilter, RequestedTarget};
use baa::act::canary::target::{self, CanaryTargetName};
use baa::act::canary::watch::{Canary, CanaryOutcome, CanarySettings};
use baa::program::Edge;
use baa::sys::say;
use baa::words::error::{Error, Result};
use baa::words::exit::Status;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    baa::program::run(Edge { live: live::values, ..Edge::default() }, run)
}

fn run(args: CanaryArgs) -> Result<Status> {
    match &args.verb {
        CanaryVerb::Watch(args) => watch(args),
        CanaryVerb::Arm(args) => arm(args),
        CanaryVerb::Dismiss(args) => dismiss(args),
        CanaryVerb::Status(args) => status(args),
        CanaryVerb::List(args) => list(args),
        CanaryVerb::Snapshot(args) => snapshot(args),
        CanaryVerb::Classify(args) => classify(args),
    }
}

fn records(args: &RecordArgs) -> Result<RecordDirectory> {
    request::records(args.log_dir.as_deref(), args.root.as_deref())?
        .ok_or_else(|| Error::new(Status::Usage, "--log-dir is empty"))
}

fn wanted(targets: &Targets, records: &RecordArgs, file: Option<&Path>) -> Result<Vec<RequestedTarget>> {
    let mut all: Vec<CanaryTargetName> = targets.sock.iter().cloned().map(CanaryTargetName::Socket).collect();
    all.extend(targets.pid.iter().copied().map(CanaryTargetName::Pid));
    all.extend(targets.pidfile.iter().cloned().map(CanaryTargetName::PidFile));
    all.extend(targets.unit.iter().cloned().map(CanaryTargetName::Unit));
    all.extend(targets.label.iter().cloned().map(CanaryTargetName::Label));
    request::all(all, targets.identity.as_deref(), records.root.as_deref(), file)
}

fn watch(args: &WatchArgs) -> Result<Status> {
    if !args.announce {
        return keep_watch(args, &records(&args.records)?, |_| Ok(()));
    }
    let announce = |state: ArmOutcome| say::last_answer(&state.line());
    let records = records(&args.records)?;
    keep_watch(args, &records, announce)
        .or_else(|error| announce(ArmOutcome::Failed(error.to_string())).map(|()| error.status))
}

fn keep_watch(
    args: &WatchArgs,
    records: &RecordDirectory,
    armed: impl FnOnce(ArmOutcome) -> Result<()>,
) -> Result<Status> {
    let voice = args.records.common.voice();
    let all = wanted(&args.targets, &args.records, args.targets_from.as_deref())?;
    if args.records.common.dry_run {
        let plan = request::plan(&all, records)?;
        voice.note(&plan.0);
        return if args.records.common.json { say::answer(&plan.1.to_string()) } else { Ok(()) }
            .map(|()| Status::Done);
    }
    say::never_wait();
    for gap in gap::close(records)? {
        voice.warn(format!("gap: {gap}"));
    }
    let settings = CanarySettings {
        records: records.clone(),
        grace: args.grace,
        ring: !args.no_ring,
        full_args: args.full_args,
        channel: !args.no_channel && (args.channel || all.len() == 1),
        exec: args.exec.clone().map(|command| (command, args.exec_timeout)),
    };
    let (canary, refused) = Canary::begin(&all, settings)?;
    for error in &refused {
        voice.warn(error);
    }
    let worst = refused.iter().map(|error| error.status).reduce(Status::worse);
    armed(match (canary.count(), refused.first()) {
        (0, Some(error)) if error.status == Status::Busy => ArmOutcome::Already,
        (0, Some(error)) => ArmOutcome::Failed(error.to_string()),
        _ => ArmOutcome::Spawned,
    })?;
    if canary.count() > 0 && !args.announce {
        voice.note(canary.words());
    }
    let json = args.records.common.json && !args.announce;
    let outcome =
        canary.watch(&voice, |death| if json { say::answer(&death.json().to_string()) } else { Ok(()) })?;
    Ok(match outcome {
        CanaryOutcome { signal: Some(signal), .. } => Status::Signal(signal as u8),
        CanaryOutcome { deaths: 1.., .. } => Status::Died,
        _ => worst.unwrap_or(Status::Done),
    })
}

fn arm(args: &WatchArgs) -> Result<Status> {
    let state = match request::records(args.records.log_dir.as_deref(), args.records.root.as_deref())? {
        None => ArmOutcome::Skipped,
        Some(_) if args.records.common.dry_run => return watch(args),
        Some(records) => {
            wanted(&args.targets, &args.records, args.targets_from.as_deref())?;
            // The same arguments, but for the verb, which comes first.
            let verb = ["watch", "--announce"].map(std::ffi::OsString::from);
            arm::arm(&records, verb.into_iter().chain(std::env::args_os().skip(2)).collect())?
        }
    };
    say::answer(&if args.records.common.json { state.json().to_string() } else { state.word().to_owned() })?;
    state.reason().inspect(|why| say::error(why));
    Ok(if state.reason().is_some() { Status::No } else { Status::Done })
}

fn choice(args: &Chosen) -> ArmedFilter {
    ArmedFilter { socket: args.sock.clone(), pid: args.pid, identity: args.identity.clone() }
}

fn dismiss(args: &Dismiss) -> Result<Status> {
    let choice = choice(&args.chosen);
    if choice.is_open() != args.all {
        return Err(Error::new(Status::Usage, "give --sock, --pid or --identity, or else --all"));
    }
    let found = choice.of(&records(&args.chosen.records)?)?;
    let common = &args.chosen.records.common;
    for armed in &found {
        if !common.dry_run {
            armed.dismiss()?;
        }
        common.voice().note(format!(
            "{} {}",
            if common.dry_run { "would dismiss" } else { "dismissed" },
            armed.identity
        ));
    }
    if common.json {
        say::answer(&arming::json(&found).to_string())?;
    }
    Ok(if found.is_empty() && args.must_exist { Status::No } else { Status::Done })
}

fn show(found: &[Armed], json: bool) -> Result<()> {
    let line = |armed: &Armed| say::answer(&armed.text());
    if json { say::answer(&arming::json(found).to_string()) } else { found.iter().try_for_each(line) }
}

fn status(args: &Chosen) -> Result<Status> {
    let found = choice(args).of(&records(&args.records)?)?;
    let none = found.is_empty() && !args.records.common.json;
    if none { say::answer("none") } else { show(&found, args.records.common.json) }?;
    Ok(if found.iter().any(|armed| armed.condition() == Condition::Armed) {
        Status::Done
    } else {
        Status::Absent
    })
}

fn list(args: &RecordArgs) -> Result<Status> {
    show(&ArmedFilter::default().of(&records(args)?)?, args.common.json)?;
    Ok(Status::Done)
}

fn snapshot(args: &Snapshot) -> Result<Status> {
    let aims = wanted(&args.targets, &args.records, None)?;
    let target = aims.first().map(|(aim, identity)| target::pin(aim, identity.as_deref())).transpose()?;
    let sections = forensics::snapshot(records(&args.records)?.directory(), target.as_ref(), args.full_args);
    say::answer(&if args.records.common.json {
        forensics::json(&sections).to_string()
    } else {
        forensics::render(&sections).trim_end().to_owned()
    })?;
    Ok(Status::Done)
}

fn classify(args: &Classify) -> Result<Status> {
    let gone = Gone::at(&args.sock);
    let (death, reason) = gone.words();
    say::answer(&if args.json { gone.json().to_string() } else { format!("{death}: {reason}") })?;
    Ok(gone.status())
}
