//! Removes peers of iapeer.

mod args;
mod live;

use args::PeerRemoveArgs;
use baa::act::peers::owner::{self, Share};
use baa::act::peers::remove::{self, RemoveSettings};
use baa::act::peers::report::PeerReport;
use baa::act::peers::root::Root;
use baa::program::Edge;
use baa::service::iapeer;
use baa::sys::say;
use baa::words::error::{Error, Result, brief};
use baa::words::exit::Status;
use std::process::ExitCode;

fn main() -> ExitCode {
    // As iapeer: 0, 1 and 2, and the finer reason in the JSON.
    baa::program::run(Edge { live: live::values, ..Edge::default() }, |args: PeerRemoveArgs| {
        run(&args).map_err(|error| {
            if error.status == Status::Usage { error } else { Error::new(Status::No, error.to_string()) }
        })
    })
}

fn run(args: &PeerRemoveArgs) -> Result<Status> {
    if let Some(bad) = args.peers.iter().find(|name| !iapeer::is_personality(name)) {
        let why = "a name is a lower-case letter, then letters, digits and dashes, 32 at most";
        return Err(Error::new(Status::Usage, format!("'{}' is not the name of a peer: {why}", brief(bad))));
    }
    let mut names = args.peers.clone();
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let settings = RemoveSettings {
        force: args.force,
        dry_run: args.common.dry_run,
        must_exist: args.must_exist,
        keep_state: args.keep_state,
        purge_only: args.purge_only,
        wait: args.wait,
    };
    let root = match owner::share(Root::find(args.root.as_deref())?, &names)? {
        Share::Work(root) => root,
        Share::Done(status) => return Ok(status),
    };
    let reports = remove::remove(&root, &names, settings)?;
    let voice = args.common.voice();
    for report in &reports {
        if args.common.json {
            say::answer(&report.json().to_string())?;
        } else {
            report.lines().iter().try_for_each(|line| say::answer(line))?;
        }
        report.notes().iter().for_each(|note| voice.note(note));
        if let Some(trouble) = &report.trouble {
            say::error(trouble);
        }
    }
    Ok(reports.iter().map(PeerReport::status).fold(Status::Done, Status::worse))
}
