//! Keeps one command or one job running.

mod args;
mod live;
mod settings;

use args::{Ctl, CtlArgs, CtlVerb, RunArgs};
use baa::act::keeper::{ask, attend, detach, request};
use baa::program::Edge;
use baa::service::recipe::Recipe;
use baa::service::{check_label, quote};
use baa::sys::say::{self, Level, Voice};
use baa::words::error::{Error, Result};
use baa::words::exit::Status;
use std::process::ExitCode;

fn main() -> ExitCode {
    baa::program::run(Edge { live: live::values, ..Edge::default() }, run)
}

fn run(args: RunArgs) -> Result<Status> {
    match &args.ctl {
        Some(Ctl::Ctl(asked)) => ctl(asked),
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

fn ctl(asked: &CtlArgs) -> Result<Status> {
    let label = asked.label.as_str();
    check_label(label).map_err(|why| Error::new(Status::Usage, why))?;
    let reason = asked.reason.as_deref();
    let how = ask::AskOptions { reason, now: asked.now, no_wait: asked.no_wait, timeout: asked.timeout };
    let answer = match asked.verb {
        CtlVerb::Status => ask::status(label),
        CtlVerb::Start => ask::tell(label, "start"),
        CtlVerb::Restart => ask::restart(label, how, &Voice::new(Level::Normal)),
        CtlVerb::Update => ask::update(label, how),
        CtlVerb::Stop => ask::stop(label),
        CtlVerb::Drain => ask::drain(label, reason),
        CtlVerb::Intend => ask::intend(label, reason),
    }?;
    let tells = asked.verb == CtlVerb::Status;
    if asked.json {
        say::answer(&answer.to_string())?;
    } else if tells {
        say::answer(&ask::words(&answer))?;
    }
    Ok(if tells && answer.get("pid").is_none_or(serde_json::Value::is_null) {
        Status::No
    } else {
        Status::Done
    })
}
