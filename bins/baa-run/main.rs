//! Keeps one command or one job running.

mod args;
mod ctl;
mod live;
mod settings;

use args::{Ctl, RunArgs};
use baa::act::keeper::{attend, detach, request};
use baa::program::Edge;
use baa::service::quote;
use baa::service::recipe::Recipe;
use baa::sys::say;
use baa::words::error::{Error, Result};
use baa::words::exit::Status;
use std::process::ExitCode;

fn main() -> ExitCode {
    baa::program::run(Edge { live: live::values, ..Edge::default() }, run)
}

fn run(args: RunArgs) -> Result<Status> {
    match &args.ctl {
        Some(Ctl::Ctl(asked)) => ctl::ctl(asked),
        None => keep(&args),
    }
}

fn keep(args: &RunArgs) -> Result<Status> {
    say::never_wait();
    let voice = args.common.voice();
    let request = settings::request(args)?;
    if let Recipe::Job(job) = &request.recipe {
        for key in &job.unsupported {
            voice.warn(format!("{}: {key} is not acted on", job.label));
        }
    }
    if args.common.dry_run {
        request::check_program(&request.recipe)?;
        voice.note(format!("would keep {}", words(&request.recipe)));
        if args.common.json {
            say::answer(&request::plan(&request).to_string())?;
        }
        return Ok(Status::Done);
    }
    if args.detach {
        let label =
            request.label.as_deref().ok_or_else(|| Error::new(Status::Usage, "--detach needs a --label"))?;
        detach::detach(label)?;
        return Ok(Status::Done);
    }
    let ended = attend::attend(&request, &voice)?;
    if args.common.json {
        say::answer(&ended.json.to_string())?;
    }
    Ok(ended.status)
}

fn words(recipe: &Recipe) -> String {
    match recipe {
        Recipe::Command(words) => words.iter().map(quote).collect::<Vec<_>>().join(" "),
        Recipe::Job(job) => {
            format!("{}: {}", job.label, job.arguments.iter().map(quote).collect::<Vec<_>>().join(" "))
        }
    }
}
