//! The steps of a script: acquire, renew, release.

use crate::args::{AcquireArgs, ClaimArgs, ReleaseArgs, Termed};
use crate::settings::{claim, open_warned};
use baa::act::lease::{attempt, grant, name};
use baa::store::{Claim, ClaimAnswer};
use baa::sys::say;
use baa::words::error::{Error, Result};
use baa::words::exit::Status;
use serde_json::json;

/// Whether nothing is to be done, once that is said.
pub fn only_said(args: &ClaimArgs, what: &str) -> bool {
    args.store_args
        .common
        .voice()
        .note_if(args.store_args.common.dry_run, format!("would {what} {}", args.store_args.lease))
}

/// Prints what became of a claim, or of a renewal, which asks for no lock; `locked` is whether another has
/// the lock.
fn told(args: &ClaimArgs, claim: &Claim, answer: &ClaimAnswer, locked: Option<bool>) -> Result<Status> {
    match answer {
        ClaimAnswer::Ours { record, renewed } => {
            let operation = if *renewed { "renew" } else { "acquire" };
            let text = json!({
                "schema": "baa.lease/1", "lease": args.store_args.lease, "operation": operation,
                "term": record.term, "is_leader": true
            });
            say::answer(&if args.store_args.common.json {
                text.to_string()
            } else {
                record.term.to_string()
            })?;
            Ok(Status::Done)
        }
        ClaimAnswer::Held(record) => {
            let otherwise = locked.map_or(Status::Lost, |_| Status::Busy);
            Err(Error::new(otherwise, name::held(claim, record, locked.unwrap_or(false))))
        }
    }
}

/// Takes the lease, or goes on with it.
pub fn acquire(args: &AcquireArgs) -> Result<Status> {
    let mut claim = claim(&args.claim, String::new())?;
    if only_said(&args.claim, "acquire") {
        return Ok(Status::Done);
    }
    let store = open_warned(&args.claim.store_args)?;
    let made = args
        .secret
        .secret_file
        .as_deref()
        .map(|file| Ok::<_, Error>((file, grant::prepared(file)?)))
        .transpose()?;
    claim.proof.secret = made.as_ref().map(|(_, (secret, _))| secret.clone());
    let attempt = attempt::attempt(store.as_ref(), &claim, claim.ttl)?;
    let (answer, locked) = (attempt.answer, attempt.locked);
    if let (ClaimAnswer::Held(_), Some((file, (_, true)))) = (&answer, made) {
        grant::forget(file);
    }
    told(&args.claim, &claim, &answer, Some(locked))
}

/// The claim of a step that shows the secret of the grant.
fn shown(args: &Termed) -> Result<Claim> {
    let mut claim = claim(&args.claim, String::new())?;
    claim.proof.secret = args.secret.secret_file.as_deref().map(grant::kept).transpose()?;
    Ok(claim)
}

/// Goes on with the lease.
pub fn renew(args: &Termed) -> Result<Status> {
    let claim = shown(args)?;
    if only_said(&args.claim, "renew") {
        Ok(Status::Done)
    } else {
        let answer = open_warned(&args.claim.store_args)?.renew(&claim, args.term)?;
        told(&args.claim, &claim, &answer, None)
    }
}

/// Gives the lease up.
pub fn release(args: &ReleaseArgs) -> Result<Status> {
    let (breaks, args) = (args.r#break, &args.termed);
    let mut claim = shown(args)?;
    claim.proof.breaks = breaks;
    if only_said(&args.claim, "release") {
        return Ok(Status::Done);
    }
    if open_warned(&args.claim.store_args)?.release(&claim, args.term)? {
        args.secret.secret_file.as_deref().into_iter().for_each(grant::forget);
        return Ok(Status::Done);
    }
    Err(Error::new(Status::Lost, format!("{} is not held under term {}", claim.lease, args.term)))
}
