//! Keeps one command or one job running.

mod args;

use args::{Args, Ctl, Verb, When};
use baa::act::keeper::attend::{self, Order};
use baa::act::keeper::{Policy, Restart, ask, detach};
use baa::service::job::{Job, KeepAlive};
use baa::service::recipe::Recipe;
use baa::service::{check_label, quote};
use baa::sys::say;
use baa::words::error::{Error, Result};
use baa::words::exit::Status;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    baa::program::run(run)
}

fn run(args: Args) -> Result<Status> {
    match &args.ctl {
        Some(Ctl::Ctl { verb, label, json }) => ctl(*verb, label, *json),
        None => keep(&args),
    }
}

fn keep(args: &Args) -> Result<Status> {
    let voice = args.common.voice();
    let order = order(args)?;
    if let Recipe::Job(job) = &order.recipe {
        for key in &job.unsupported {
            voice.warn(format!("{}: {key} is not acted on", job.label));
        }
    }
    if args.common.dry_run {
        voice.note(format!("would keep {}", words(&order.recipe)));
        if args.common.json {
            say::answer(&attend::plan(&order).to_string())?;
        }
        return Ok(Status::Done);
    }
    if args.detach {
        let label = order.label.as_deref().ok_or_else(|| Error::new(Status::Usage, "--detach needs a --label"))?;
        detach::detach(label)?;
        return Ok(Status::Done);
    }
    let ended = attend::attend(&order, &voice)?;
    if args.common.json {
        say::answer(&ended.json.to_string())?;
    }
    Ok(ended.status)
}

fn order(args: &Args) -> Result<Order> {
    let label = args.label.clone();
    if let Some(label) = &label {
        check_label(label).map_err(|why| Error::new(Status::Usage, why))?;
    }
    let restart = |default: Restart| match args.restart {
        None => default,
        Some(When::Never) => Restart::Never,
        Some(When::OnFailure) => Restart::OnFailure,
        Some(When::Always) => Restart::Always,
    };
    let Some(path) = &args.job else {
        let policy = Policy {
            restart: restart(Restart::Always),
            start_at_once: true,
            throttle: args.throttle.unwrap_or(Duration::from_secs(1)),
            exit_timeout: args.stop_timeout.unwrap_or(Duration::from_secs(20)),
        };
        return Ok(Order { label, recipe: Recipe::Command(args.command.clone()), policy });
    };
    let path = std::path::absolute(path).map_err(|cause| Error::io("cannot tell the working directory", &cause))?;
    let job = Job::read(&path)?;
    job.check(&job.label)?;
    let start_at_once =
        job.run_at_load || job.keep_alive == KeepAlive::Always(true) || matches!(job.keep_alive, KeepAlive::When { successful_exit: Some(_), .. });
    let policy = Policy {
        restart: restart(Restart::Job(job.keep_alive.clone())),
        start_at_once,
        throttle: args.throttle.unwrap_or(job.throttle),
        exit_timeout: args.stop_timeout.unwrap_or(job.exit_timeout),
    };
    Ok(Order { label: label.or(Some(job.label.clone())), recipe: Recipe::Job(Box::new(job)), policy })
}

fn words(recipe: &Recipe) -> String {
    match recipe {
        Recipe::Command(words) => words.iter().map(quote).collect::<Vec<_>>().join(" "),
        Recipe::Job(job) => format!("{}: {}", job.label, job.arguments.iter().map(quote).collect::<Vec<_>>().join(" ")),
    }
}

fn ctl(verb: Verb, label: &str, json: bool) -> Result<Status> {
    check_label(label).map_err(|why| Error::new(Status::Usage, why))?;
    let answer = match verb {
        Verb::Status => ask::status(label),
        Verb::Start => ask::tell(label, "start"),
        Verb::Restart => ask::tell(label, "restart"),
        Verb::Stop => ask::stop(label),
    }?;
    if json {
        say::answer(&answer.to_string())?;
    } else if verb == Verb::Status {
        say::answer(&ask::words(&answer))?;
    }
    Ok(if verb == Verb::Status && answer.get("pid").is_none_or(serde_json::Value::is_null) { Status::No } else { Status::Done })
}
