//! From the command line to an order.

use super::args::{NotifyAccessWord, RestartWord, RunArgs, User1Word};
use baa::act::keeper::drain::{self, Drain, DrainMethod};
use baa::act::keeper::failure_log::FailureLimit;
use baa::act::keeper::lockfile::LockRequest;
use baa::act::keeper::notify::NotifyAccess;
use baa::act::keeper::readiness::{self, By, LiveCheck, ReadyCheck};
use baa::act::keeper::request::{self, KeeperRequest, ListenRequest};
use baa::act::keeper::supervisor::Supervisor;
use baa::act::keeper::{Policy, RestartPolicy};
use baa::probe::liveness::Liveness;
use baa::service::check_label;
use baa::service::job::{Job, KeepAlive};
use baa::service::recipe::Recipe;
use baa::sys::process::Pid;
use baa::sys::{file, rights};
use baa::words::error::{Error, Result, brief};
use baa::words::exit::Status;
use std::ffi::OsStr;
use std::time::Duration;

/// What `args` ask for.
///
/// # Errors
/// 2 for what cannot be meant; those of the job's file.
pub fn request(args: &RunArgs) -> Result<KeeperRequest> {
    let (listen, ready, drain) = (listen(args)?, ready(args)?, drain(args)?);
    if args.no_new_privs && !rights::are_bounded() {
        return Err(usage("--no-new-privs is known on Linux only".to_owned()));
    }
    if let Some(label) = &args.label {
        check_label(label).map_err(usage)?;
    }
    let job = match &args.job {
        Some(path) => {
            let path = std::path::absolute(path)
                .map_err(|cause| Error::io("cannot tell the working directory", &cause))?;
            let job = Job::read(&path)?;
            job.check(&job.label)?;
            Some(job)
        }
        None => None,
    };
    let mut policy = policy(args, job.as_ref(), drain.as_ref(), ready.as_ref());
    policy.kill_grace = args.kill_signal.map(|_| policy.exit_timeout);
    let label = args.label.clone().or(job.as_ref().map(|job| job.label.clone()));
    let live = live(args, ready.as_ref())?;
    let user1 = match args.usr1 {
        Some(User1Word::Restart) => request::User1::Restart,
        Some(User1Word::Pass) => request::User1::Pass,
        None if Pid::own().number() == 1 => request::User1::Pass,
        Some(User1Word::Ignore) | None => request::User1::Ignore,
    };
    Ok(KeeperRequest {
        recipe: job.map_or_else(|| Recipe::Command(args.command.clone()), |job| Recipe::Job(Box::new(job))),
        policy,
        stop_signal: args.stop_signal,
        kill_signal: args.kill_signal,
        lock: args.lock.clone().map(|path| LockRequest { path, wait: args.lock_wait }),
        drain,
        ready,
        live,
        watchdog: args.watchdog.filter(|limit| !limit.is_zero()),
        notify_access: match args.notify_access {
            NotifyAccessWord::Main => NotifyAccess::Main,
            NotifyAccessWord::Exec => NotifyAccess::Exec,
            NotifyAccessWord::All => NotifyAccess::All,
        },
        no_new_privileges: args.no_new_privs,
        give_up: give_up(args, label.as_deref()),
        gives_up_with: Status::Command(args.give_up_status),
        supervisor: Supervisor::named(&args.supervisor).unwrap_or(Supervisor::None),
        user1,
        cooldown: args.cooldown,
        shutdown: args.shutdown_timeout,
        on_restart: args.on_restart.clone(),
        listen,
        label,
    })
}

fn usage(why: String) -> Error {
    Error::new(Status::Usage, why)
}

/// How it is kept: as the job says, but for what the command line says.
fn policy(args: &RunArgs, job: Option<&Job>, drain: Option<&Drain>, ready: Option<&ReadyCheck>) -> Policy {
    let lasts = |job: &Job| {
        let asks = matches!(job.keep_alive, KeepAlive::When { successful_exit: Some(_), .. });
        job.run_at_load || job.keep_alive == KeepAlive::Always(true) || asks
    };
    Policy {
        restart: match args.restart {
            None => job.map_or(RestartPolicy::Always, |job| RestartPolicy::Job(job.keep_alive.clone())),
            Some(RestartWord::Never) => RestartPolicy::Never,
            Some(RestartWord::OnFailure) => RestartPolicy::OnFailure,
            Some(RestartWord::Always) => RestartPolicy::Always,
        },
        start_at_once: job.is_none_or(lasts),
        throttle: args.throttle.unwrap_or_else(|| job.map_or(Duration::from_secs(1), |job| job.throttle)),
        exit_timeout: args
            .stop_timeout
            .unwrap_or_else(|| job.map_or(Duration::from_secs(20), |job| job.exit_timeout)),
        kill_grace: None,
        backoff: args.backoff,
        healthy_after: args.healthy_after,
        drain: drain.map(|drain| drain.limit),
        ready: ready.map(|ready| ready.limit),
        update: args.update_timeout.saturating_add(args.min_run.unwrap_or_default()),
    }
}

fn give_up(args: &RunArgs, label: Option<&str>) -> Option<FailureLimit> {
    let (ends, within) = args.give_up?;
    let path = label.map(|label| file::state_dir().join("run").join(format!("{label}.ends")));
    Some(FailureLimit { ends, within, path })
}

fn ready(args: &RunArgs) -> Result<Option<ReadyCheck>> {
    if let Some(span) = args.min_run {
        // Nothing but its end can keep it from that.
        let limit = span.saturating_add(args.ready_timeout);
        return Ok(Some(ReadyCheck { by: By::Lasting(span), limit, successes: 1 }));
    }
    let Some(target) = &args.ready else { return Ok(None) };
    let by = match target.to_str().and_then(|text| text.strip_prefix("fd:")) {
        Some(number) => {
            let cannot = |why: String| usage(format!("cannot use '{}' for readiness: {why}", brief(number)));
            let number: i32 = number.parse().map_err(|_| cannot("no number of a descriptor".to_owned()))?;
            if number < 3 + i32::try_from(args.listen.len()).unwrap_or(0) {
                return Err(cannot(
                    "0 to 2 are the standard ones, and from 3 on there are the sockets of --listen"
                        .to_owned(),
                ));
            }
            if number > 255 {
                return Err(cannot("not a number from 3 to 255".to_owned()));
            }
            By::Line(number)
        }
        None if target == OsStr::new("notify") => By::Socket,
        None => {
            readiness::check(target)?;
            By::Target(target.clone())
        }
    };
    Ok(Some(ReadyCheck { by, limit: args.ready_timeout, successes: args.ready_successes }))
}

fn live(args: &RunArgs, ready: Option<&ReadyCheck>) -> Result<Option<LiveCheck>> {
    let Some(target) = args.live.clone() else { return Ok(None) };
    let target = match (target == OsStr::new("ready"), ready.map(|ready| &ready.by)) {
        (false, _) => target,
        (true, Some(By::Target(ready))) => ready.clone(),
        (true, _) => {
            let why = "--live needs a target of its own where --ready has none that can be asked again";
            return Err(usage(why.to_owned()));
        }
    };
    readiness::check(&target)?;
    let interval = args.live_interval;
    let timeout = args.live_timeout.unwrap_or_else(|| Liveness::usual_timeout(interval));
    if interval.is_zero() || timeout.is_zero() {
        return Err(usage("--live-interval and --live-timeout must be more than 0".to_owned()));
    }
    let (failures, successes) = (args.live_failures, args.live_successes);
    Ok(Some(LiveCheck { target, rules: Liveness { interval, timeout, failures, successes } }))
}

fn drain(args: &RunArgs) -> Result<Option<Drain>> {
    let how = match (&args.drain_signal, &args.drain_cmd, &args.drain_url) {
        (Some(signal), ..) => Some(DrainMethod::Signal(*signal)),
        (_, Some(command), _) => Some(DrainMethod::Command(command.clone())),
        (.., Some(url)) => Some(drain::url(url)?),
        _ => None,
    };
    Ok(how.map(|how| Drain {
        how,
        limit: args.drain_timeout,
        abort: args.drain_abort.clone(),
        notice: args.drain_notice,
    }))
}

fn listen(args: &RunArgs) -> Result<Vec<ListenRequest>> {
    let named = args.listen.iter().map(|text| {
        let (name, address) = text.split_once('=').unwrap_or(("listen", text));
        if name.is_empty()
            || name.len() > 255
            || !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
        {
            return Err(usage(format!("'{}' cannot name a socket", brief(name))));
        }
        Ok(ListenRequest { name: name.to_owned(), address: address.to_owned() })
    });
    named.collect()
}
