//! What options, variables and files set.

use crate::args::{ClaimArgs, ConductorArgs, LeaseStoreArgs, Pace};
use baa::act::lease::conductor::{Config, Paths, Role, Token};
use baa::act::lease::setting::{Number, text};
use baa::store::{self, Access, Claim, Store};
use baa::sys::secret::{self, SecretText};
use baa::words::error::Result;
use std::time::Duration;

/// Opens the store that `place` names, with the keys to it.
pub fn open(store_args: &LeaseStoreArgs, keys: &Access) -> Result<Box<dyn Store>> {
    store::check_name("the name of a lease", &store_args.lease)?;
    store::open(text(store_args.store.as_ref()).as_deref(), keys)
}

/// The same for the verbs that have no other warnings.
pub fn open_warned(store_args: &LeaseStoreArgs) -> Result<Box<dyn Store>> {
    let keys = access(store_args)?;
    let warning = token(store_args, keys.token.as_ref()).warning();
    warning.into_iter().for_each(|warning| store_args.common.voice().note(format!("warning: {warning}")));
    open(store_args, &keys)
}

/// The keys to the store.
pub fn access(store_args: &LeaseStoreArgs) -> Result<Access> {
    let token = match &store_args.token_file {
        Some(path) => Some(store::secret("token", path)?),
        None => text(store_args.shared_token.as_ref())
            .map(SecretText::new)
            .or_else(|| store::token_of_environment().and_then(|token| token.trimmed())),
    };
    Access::new(token, store_args.etcd_password_file.as_deref(), store_args.ca_file.as_deref())
}

/// The same for a conductor, which may be asked who listens on its port.
pub fn conductor_access(args: &ConductorArgs) -> Result<Access> {
    if args.local_api.is_some() {
        secret::stay_visible();
    }
    access(&args.claim.store_args)
}

fn token(store_args: &LeaseStoreArgs, token: Option<&SecretText>) -> Token {
    let url = text(store_args.store.as_ref()).unwrap_or_default();
    match token.map(SecretText::reveal) {
        // Over a socket the kernel says who we are.
        _ if !store::is_control_api(&url) || (token.is_none() && url.starts_with("unix:")) => {
            Token::NotNeeded
        }
        None => Token::Missing,
        Some("replace-me") => Token::Placeholder,
        Some(_) => Token::Given,
    }
}

fn number(given: Option<Number>, default: u64) -> u64 {
    given.and_then(|number| number.0).unwrap_or(default)
}

/// How often to renew, at most.
pub fn renew_interval(pace: &Pace) -> Duration {
    Duration::from_millis(number(pace.lease_renew_interval_ms, 5_000))
}

/// The claim of a process called `instance`.
pub fn claim(args: &ClaimArgs, instance: String) -> Result<Claim> {
    let who = &args.who;
    let host = text(who.host.as_ref()).unwrap_or_else(|| "localhost".to_owned());
    let suffix = if who.role == Role::Primary { "main" } else { "standby" };
    let holder = text(who.node_id.as_ref()).unwrap_or_else(|| format!("{host}-{suffix}"));
    store::check_name("the name of a holder", &holder)?;
    store::check_name("a host", &host)?;
    let ttl = Duration::from_secs(number(who.lease_ttl_sec, 30));
    let preferred = preferred(args).unwrap_or(false);
    Ok(Claim {
        lease: args.store_args.lease.clone(),
        holder,
        host,
        instance,
        ttl,
        preferred,
        ..Claim::default()
    })
}

/// Whether it is to be the one who should lead, where that is said.
fn preferred(args: &ClaimArgs) -> Option<bool> {
    if args.who.no_preferred { Some(false) } else { args.who.preferred.and_then(|flag| flag.0) }
}

/// All that a conductor is set to; the keys to its store are told of, not told.
pub fn config(args: &ConductorArgs, keys: &Access) -> Result<Config> {
    let Claim { holder, host, ttl, lease, .. } = claim(&args.claim, String::new())?;
    let (store_args, role) = (&args.claim.store_args, args.claim.who.role);
    let url = text(store_args.store.as_ref())
        .unwrap_or_else(|| format!("sqlite:{}", store::default_file().display()));
    let paths = Paths {
        logs: text(args.logs_dir.as_ref()),
        runs: text(args.runs_dir.as_ref()),
        state: text(args.state_dir.as_ref()),
        tmp: text(args.tmp_dir.as_ref()),
        worktrees: text(args.worktrees_dir.as_ref()),
    };
    Ok(Config {
        node_id: holder,
        host,
        role,
        store: without_login(&url),
        lease,
        local_api: text(args.local_api.as_ref()),
        token: token(store_args, keys.token.as_ref()),
        priority: number(args.priority, if role == Role::Primary { 100 } else { 50 }),
        version: text(args.version.as_ref()),
        preferred: preferred(&args.claim).unwrap_or(role == Role::Primary),
        heartbeat_interval: Duration::from_millis(number(args.heartbeat_interval_ms, 5_000)),
        renew_interval: renew_interval(&args.pace),
        ttl,
        threshold: u32::try_from(number(args.renew_failure_threshold, 2)).unwrap_or(u32::MAX),
        paths,
    })
}

/// A URL to be shown: without a login, and without the slash at its end.
fn without_login(url: &str) -> String {
    let url = url.trim_end_matches('/');
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{authority}{path}")
}
