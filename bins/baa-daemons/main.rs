//! Runs groups.

mod args;
mod asked;
mod live;

use args::{DaemonsArgs, DaemonsVerb, Graph, GroupFileArgs, GroupRunArgs, Logs};
use baa::act::group::SCHEMA;
use baa::act::group::attend::{self, GroupRequest};
use baa::act::group::plan::GroupPlan;
use baa::act::group::table;
use baa::program::Edge;
use baa::service::group::GroupPaths;
use baa::store;
use baa::sys::{file, say, user};
use baa::words::error::{Error, Result};
use baa::words::exit::Status;
use serde_json::json;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    store::take_secrets();
    let edge = Edge { live: live::values, ..Edge::default() };
    baa::program::run(edge, |args: DaemonsArgs| match &args.verb {
        DaemonsVerb::Run(args) => run(args, None),
        DaemonsVerb::UntilSuccess(args) => {
            run(&args.run, Some((!args.timeout.is_zero()).then_some(args.timeout)))
        }
        DaemonsVerb::Check(args) => check(args),
        DaemonsVerb::Graph(args) => graph(args),
        DaemonsVerb::Status(args) => asked::status(args),
        DaemonsVerb::List(args) => asked::list(args),
        DaemonsVerb::Start(args) => asked::tell(&args.file, &args.wait, "start", &args.id),
        DaemonsVerb::Stop(args) => asked::tell(&args.file, &args.wait, "stop", &args.id),
        DaemonsVerb::Restart(args) => asked::tell(&args.file, &args.wait, "restart", &args.id),
        DaemonsVerb::Once(args) => asked::tell(&args.file, &args.wait, "once", &args.id),
        DaemonsVerb::Disable(args) => asked::enable(args, false),
        DaemonsVerb::Enable(args) => asked::enable(args, true),
        DaemonsVerb::Signal(args) => asked::signal(args),
        DaemonsVerb::Reload(args) => asked::reload(args),
        DaemonsVerb::Logs(args) => logs(args),
    })
}

fn run(args: &GroupRunArgs, until_success: Option<Option<Duration>>) -> Result<Status> {
    let (common, voice) = (&args.file.common, args.file.common.voice());
    if common.dry_run {
        return check(&args.file);
    }
    say::never_wait();
    let terminal = std::io::stdout().is_terminal();
    let live = !common.quiet && !common.verbose;
    let request =
        GroupRequest { file: args.file.file.clone(), until_success, echo: terminal && !args.no_echo, live };
    attend::attend(&request, &voice)
}

fn check(args: &GroupFileArgs) -> Result<Status> {
    let plan = GroupPlan::read(&args.file)?;
    let entries = plan.entries.len();
    if args.common.json {
        let waves = plan.waves().len();
        let json = json!({ "schema": SCHEMA, "file": args.file, "entries": entries, "waves": waves });
        say::answer(&json.to_string())?;
    } else {
        args.common.voice().note(format!(
            "{}: {entries} entries in {} waves",
            args.file.display(),
            plan.waves().len()
        ));
    }
    Ok(Status::Done)
}

fn graph(args: &Graph) -> Result<Status> {
    let plan = GroupPlan::read(&args.file.file)?;
    let ids = |waves: Vec<Vec<usize>>| -> Vec<Vec<String>> {
        waves
            .iter()
            .map(|wave| wave.iter().map(|entry| plan.entries[*entry].rules.id.clone()).collect())
            .collect()
    };
    let text = match (args.file.common.json, args.dot) {
        (true, _) => json!({ "schema": SCHEMA, "start": ids(plan.waves()), "stop": ids(plan.stop_waves()) })
            .to_string(),
        (false, true) => table::dot(&plan),
        (false, false) => table::waves(&plan),
    };
    say::answer(&text)?;
    Ok(Status::Done)
}

fn logs(args: &Logs) -> Result<Status> {
    let paths = GroupPaths::found(&args.file.file)?;
    let missing = |cause: std::io::Error| Error::io("cannot read what was said", &cause);
    if args.events {
        file::tail(&paths.journal(), args.lines, user::own_uid())
            .map_err(missing)?
            .iter()
            .try_for_each(|line| say::answer(line))?;
        return Ok(Status::Done);
    }
    let plan = GroupPlan::read(&args.file.file)?;
    let known = |id: &str| plan.entries.iter().any(|entry| entry.rules.id == id);
    if let Some(id) = args.id.as_deref().filter(|id| !known(id)) {
        return Err(Error::new(
            Status::Absent,
            format!("there is no entry '{}'", baa::words::error::brief(id)),
        ));
    }
    for id in plan
        .entries
        .iter()
        .map(|entry| entry.rules.id.as_str())
        .filter(|id| args.id.as_deref().is_none_or(|wanted| wanted == *id))
    {
        for line in file::tail(&paths.log(id), args.lines, user::own_uid()).unwrap_or_default() {
            say::answer(&if args.id.is_some() { line } else { format!("{id} | {line}") })?;
        }
    }
    Ok(Status::Done)
}
