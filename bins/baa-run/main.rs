//! Keeps one command or one job running.

mod args;

use args::{Args, Ctl, Verb, When};
use baa::act::keeper::attend;
use baa::act::keeper::drain::{self, Drain, How};
use baa::act::keeper::ledger::Limit;
use baa::act::keeper::lockfile::Wanted;
use baa::act::keeper::order::{self, Order};
use baa::act::keeper::readiness::Ready;
use baa::act::keeper::{Policy, Restart, ask, detach};
use baa::service::job::{Job, KeepAlive};
use baa::service::recipe::Recipe;
use baa::service::{check_label, quote};
use baa::sys::{file, net, say, signal};
use baa::words::error::{Error, Result};
use baa::words::exit::Status;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

fn main() -> ExitCode {
    baa::program::run(run)
}

fn run(args: Args) -> Result<Status> {
    match &args.ctl {
        Some(Ctl::Ctl { verb, label, reason, json }) => ctl(*verb, label, reason.as_deref(), *json),
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
            say::answer(&order::plan(&order).to_string())?;
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
    let listen = if args.common.dry_run || args.detach { Vec::new() } else { listen(args)? };
    let (drain, label) = (drain(args)?, args.label.clone());
    let ready = args.ready.clone().map(|target| Ready { target, limit: args.ready_timeout });
    ready.iter().try_for_each(Ready::check)?;
    let lock = args.lock.clone().map(|path| Wanted { path, wait: args.lock_wait });
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
            backoff: args.backoff,
            healthy_after: args.healthy_after,
            drain: drain.as_ref().map(|drain| drain.limit),
            ready: ready.as_ref().map(|ready| ready.limit),
        };
        let give_up = give_up(args, label.as_deref());
        return Ok(Order { give_up, label, recipe: Recipe::Command(args.command.clone()), policy, lock, drain, ready, listen });
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
        backoff: args.backoff,
        healthy_after: args.healthy_after,
        drain: drain.as_ref().map(|drain| drain.limit),
        ready: ready.as_ref().map(|ready| ready.limit),
    };
    let label = label.or(Some(job.label.clone()));
    Ok(Order { give_up: give_up(args, label.as_deref()), label, recipe: Recipe::Job(Box::new(job)), policy, lock, drain, ready, listen })
}

fn give_up(args: &Args, label: Option<&str>) -> Option<Limit> {
    let (ends, within) = args.give_up?;
    let path = label.map(|label| file::state_dir().join("run").join(format!("{label}.ends")));
    Some(Limit { ends, within, path })
}

fn drain(args: &Args) -> Result<Option<Drain>> {
    let how = match (&args.drain_signal, &args.drain_cmd, &args.drain_url) {
        (Some(name), ..) => Some(How::Signal(signal::named(name).ok_or_else(|| Error::new(Status::Usage, format!("'{name}' is no signal")))?)),
        (_, Some(command), _) => Some(How::Command(command.clone())),
        (.., Some(url)) => Some(drain::url(url)?),
        _ => None,
    };
    Ok(how.map(|how| Drain { how, limit: args.drain_timeout }))
}

/// Binds the sockets, from descriptor 3 on. Before anything else is opened: their numbers are what the command is told.
fn listen(args: &Args) -> Result<Vec<(String, Arc<OwnedFd>)>> {
    let bound = args.listen.iter().zip(3..).map(|(text, number)| {
        let (name, address) = text.split_once('=').unwrap_or(("listen", text));
        let socket = net::listen(address).and_then(|socket| net::numbered(socket, number));
        let socket = socket.map_err(|cause| Error::io(format!("cannot listen on {}", baa::words::error::brief(address)), &cause))?;
        if name.is_empty() || name.len() > 255 || !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
            return Err(Error::new(Status::Usage, format!("'{}' cannot name a socket", baa::words::error::brief(name))));
        }
        Ok((name.to_owned(), Arc::new(socket)))
    });
    bound.collect()
}

fn words(recipe: &Recipe) -> String {
    match recipe {
        Recipe::Command(words) => words.iter().map(quote).collect::<Vec<_>>().join(" "),
        Recipe::Job(job) => format!("{}: {}", job.label, job.arguments.iter().map(quote).collect::<Vec<_>>().join(" ")),
    }
}

fn ctl(verb: Verb, label: &str, reason: Option<&str>, json: bool) -> Result<Status> {
    check_label(label).map_err(|why| Error::new(Status::Usage, why))?;
    let answer = match verb {
        Verb::Status => ask::status(label),
        Verb::Start => ask::tell(label, "start"),
        Verb::Restart => ask::restart(label, reason),
        Verb::Update => ask::update(label, reason),
        Verb::Stop => ask::stop(label),
    }?;
    if json {
        say::answer(&answer.to_string())?;
    } else if verb == Verb::Status {
        say::answer(&ask::words(&answer))?;
    }
    Ok(if verb == Verb::Status && answer.get("pid").is_none_or(serde_json::Value::is_null) { Status::No } else { Status::Done })
}
