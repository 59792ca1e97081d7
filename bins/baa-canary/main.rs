//! Records deaths with their causes.

mod args;

use args::{Args, Chosen, Classify, Dismiss, Place as PlaceArgs, Snapshot, Targets, Verb, Watch};
use baa::act::canary::arm::{self, State};
use baa::act::canary::arming::{self, Armed, Condition};
use baa::act::canary::classify::Gone;
use baa::act::canary::forensics;
use baa::act::canary::gap;
use baa::act::canary::order::{self, Choice, Wanted};
use baa::act::canary::record::Place;
use baa::act::canary::target::{self, Aim};
use baa::act::canary::watch::{Canary, Outcome, Settings};
use baa::sys::say;
use baa::words::error::{Error, Result};
use baa::words::exit::Status;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    baa::program::run(run)
}

fn run(args: Args) -> Result<Status> {
    match &args.verb {
        Verb::Watch(args) => watch(args),
        Verb::Arm(args) => arm(args),
        Verb::Dismiss(args) => dismiss(args),
        Verb::Status(args) => status(args),
        Verb::List(args) => list(args),
        Verb::Snapshot(args) => snapshot(args),
        Verb::Classify(args) => classify(args),
    }
}

fn place(args: &PlaceArgs) -> Result<Place> {
    order::place(args.log_dir.as_deref(), args.root.as_deref())?
        .ok_or_else(|| Error::new(Status::Usage, "--log-dir is empty"))
}

fn wanted(targets: &Targets, place: &PlaceArgs, file: Option<&Path>) -> Result<Vec<Wanted>> {
    let mut all: Vec<Aim> = targets.sock.iter().cloned().map(Aim::Socket).collect();
    all.extend(targets.pid.iter().copied().map(Aim::Pid));
    all.extend(targets.pidfile.iter().cloned().map(Aim::PidFile));
    all.extend(targets.unit.iter().cloned().map(Aim::Unit));
    all.extend(targets.label.iter().cloned().map(Aim::Label));
    order::all(all, targets.identity.as_deref(), place.root.as_deref(), file)
}

fn watch(args: &Watch) -> Result<Status> {
    if !args.announce {
        return keep_watch(args, &place(&args.place)?, |_| Ok(()));
    }
    let announce = |state: State| say::last_answer(&state.line());
    let place = place(&args.place)?;
    keep_watch(args, &place, announce)
        .or_else(|error| announce(State::Failed(error.to_string())).map(|()| error.status))
}

fn keep_watch(args: &Watch, place: &Place, armed: impl FnOnce(State) -> Result<()>) -> Result<Status> {
    let voice = args.place.common.voice();
    let all = wanted(&args.targets, &args.place, args.targets_from.as_deref())?;
    if args.place.common.dry_run {
        let plan = order::plan(&all, place)?;
        voice.note(&plan.0);
        return if args.place.common.json { say::answer(&plan.1.to_string()) } else { Ok(()) }
            .map(|()| Status::Done);
    }
    for gap in gap::close(place)? {
        voice.warn(format!("gap: {gap}"));
    }
    let settings = Settings {
        place: place.clone(),
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
        (0, Some(error)) if error.status == Status::Busy => State::Already,
        (0, Some(error)) => State::Failed(error.to_string()),
        _ => State::Spawned,
    })?;
    if canary.count() > 0 && !args.announce {
        voice.note(canary.words());
    }
    let json = args.place.common.json && !args.announce;
    let outcome =
        canary.watch(&voice, |death| if json { say::answer(&death.json().to_string()) } else { Ok(()) })?;
    Ok(match outcome {
        Outcome { signal: Some(signal), .. } => Status::Signal(signal as u8),
        Outcome { deaths: 1.., .. } => Status::Died,
        _ => worst.unwrap_or(Status::Done),
    })
}

fn arm(args: &Watch) -> Result<Status> {
    let state = match order::place(args.place.log_dir.as_deref(), args.place.root.as_deref())? {
        None => State::Skipped,
        Some(_) if args.place.common.dry_run => return watch(args),
        Some(place) => {
            wanted(&args.targets, &args.place, args.targets_from.as_deref())?;
            // The same arguments, but for the verb, which comes first.
            let verb = ["watch", "--announce"].map(std::ffi::OsString::from);
            arm::arm(&place, verb.into_iter().chain(std::env::args_os().skip(2)).collect())?
        }
    };
    say::answer(&if args.place.common.json { state.json().to_string() } else { state.word().to_owned() })?;
    state.reason().inspect(|why| say::error(why));
    Ok(if state.reason().is_some() { Status::No } else { Status::Done })
}

fn choice(args: &Chosen) -> Choice {
    Choice { socket: args.sock.clone(), pid: args.pid, identity: args.identity.clone() }
}

fn dismiss(args: &Dismiss) -> Result<Status> {
    let choice = choice(&args.chosen);
    if choice.is_open() != args.all {
        return Err(Error::new(Status::Usage, "give --sock, --pid or --identity, or else --all"));
    }
    let found = choice.of(&place(&args.chosen.place)?);
    let common = &args.chosen.place.common;
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
    let found = choice(args).of(&place(&args.place)?);
    let none = found.is_empty() && !args.place.common.json;
    if none { say::answer("none") } else { show(&found, args.place.common.json) }?;
    Ok(if found.iter().any(|armed| armed.condition() == Condition::Armed) {
        Status::Done
    } else {
        Status::Absent
    })
}

fn list(args: &PlaceArgs) -> Result<Status> {
    show(&Choice::default().of(&place(args)?), args.common.json)?;
    Ok(Status::Done)
}

fn snapshot(args: &Snapshot) -> Result<Status> {
    let aims = wanted(&args.targets, &args.place, None)?;
    let target = aims.first().map(|(aim, identity)| target::pin(aim, identity.as_deref())).transpose()?;
    let sections = forensics::snapshot(place(&args.place)?.directory(), target.as_ref(), args.full_args);
    say::answer(&if args.place.common.json {
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
