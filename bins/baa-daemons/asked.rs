//! What a group that runs is asked for.

use crate::args::{GroupFileArgs, GroupReloadArgs, ListArgs, Several, SignalArgs, StatusArgs, WaitArgs};
use baa::act::group::SCHEMA;
use baa::act::group::plan::GroupPlan;
use baa::act::group::table;
use baa::act::group::transaction::{self, VerbWait};
use baa::service::group::GroupPaths;
use baa::sys::say;
use baa::words::error::{Error, Result, brief};
use baa::words::exit::Status;
use serde_json::{Value, json};
use std::time::Duration;

fn is_good(entry: &Value) -> bool {
    entry["state"] == "ready" || entry["state"] == "done"
}

/// Leaves the entries that are named, if any are.
fn only(status: &mut Value, ids: &[String]) -> Result<()> {
    let all = status["entries"].as_array().cloned().unwrap_or_default();
    let of = |id: &String| {
        let found = all.iter().find(|entry| entry["id"].as_str() == Some(id)).cloned();
        found.ok_or_else(|| Error::new(Status::Absent, format!("there is no entry '{}'", brief(id))))
    };
    if !ids.is_empty() {
        status["entries"] = ids.iter().map(of).collect::<Result<Vec<Value>>>()?.into();
    }
    Ok(())
}

pub fn status(args: &StatusArgs) -> Result<Status> {
    let paths = GroupPaths::found(&args.file.file)?;
    loop {
        let mut status = paths.ask("status", None)?;
        only(&mut status, &args.id)?;
        let text = if args.file.common.json { status.to_string() } else { table::table(&status) };
        if args.watch { say::answer_anew(&text) } else { say::answer(&text) }?;
        if !args.watch {
            let good = status["entries"].as_array().is_some_and(|entries| entries.iter().all(is_good));
            return Ok(if good { Status::Done } else { Status::No });
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

pub fn list(args: &ListArgs) -> Result<Status> {
    let groups = GroupPaths::all_running();
    if args.common.json {
        say::answer(&json!({ "schema": SCHEMA, "groups": groups }).to_string())?;
    } else {
        groups.iter().try_for_each(|group| say::answer(&table::group(group)))?;
    }
    Ok(if groups.is_empty() { Status::No } else { Status::Done })
}

/// Does what a verb asks for, unless it is only to be said what that would be.
fn carry_out(file: &GroupFileArgs, wait: &WaitArgs, verb: &str, ids: &[String]) -> Result<Status> {
    let how = VerbWait { wait: !wait.no_wait, timeout: wait.timeout };
    let paths = GroupPaths::found(&file.file)?;
    let answer = transaction::carry_out(&paths, verb, ids, how, &file.common.voice())?;
    if file.common.json {
        say::answer(&answer.to_string())?;
    }
    Ok(Status::Done)
}

fn only_said(file: &GroupFileArgs, verb: &str, ids: &[String]) -> bool {
    let what = if ids.is_empty() { "the group".to_owned() } else { brief(&ids.join(", ")) };
    file.common.voice().note_if(file.common.dry_run, format!("would {verb} {what}"))
}

pub fn tell(file: &GroupFileArgs, wait: &WaitArgs, verb: &str, ids: &[String]) -> Result<Status> {
    if only_said(file, verb, ids) {
        return Ok(Status::Done);
    }
    carry_out(file, wait, verb, ids)
}

/// Writes it down first, so that it holds whatever becomes of the group that runs, if one does.
pub fn enable(args: &Several, may_run: bool) -> Result<Status> {
    let (verb, then) = if may_run { ("enable", "start") } else { ("disable", "stop") };
    if only_said(&args.file, verb, &args.id) {
        return Ok(Status::Done);
    }
    let plan = GroupPlan::read(&args.file.file)?;
    let known = |id: &&String| plan.entries.iter().any(|entry| entry.rules.id == **id);
    if let Some(id) = args.id.iter().find(|id| !known(id)) {
        return Err(Error::new(Status::Absent, format!("there is no entry '{}'", brief(id))));
    }
    let paths = GroupPaths::found(&args.file.file)?;
    paths.enable(&args.id, may_run)?;
    if !paths.runs() {
        return Ok(Status::Done);
    }
    carry_out(&args.file, &args.wait, then, &args.id)
}

pub fn signal(args: &SignalArgs) -> Result<Status> {
    if only_said(&args.file, &format!("send {} to", args.signal), &args.id) {
        return Ok(Status::Done);
    }
    let question = json!({ "verb": "signal", "ids": args.id, "signal": args.signal });
    let answer = GroupPaths::found(&args.file.file)?.put(&question)?;
    if args.file.common.json {
        say::answer(&answer.to_string())?;
    }
    Ok(Status::Done)
}

pub fn reload(args: &GroupReloadArgs) -> Result<Status> {
    if args.file.common.dry_run {
        return crate::check(&args.file);
    }
    carry_out(&args.file, &args.wait, "reload", &[])
}
