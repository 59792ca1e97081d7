//! What is never forgotten in a store in a file, and so must have room: names of leases and of controllers,
//! counted in the transaction that makes them, however many processes write to the file. And the heartbeats.

use crate::store::controller::{Beat, Controller, HeardController, another_sends};
use crate::store::guard::Guard;
use crate::store::quota::NameQuota;
use crate::store::sqlite::{Sqlite, whole};
use crate::store::{StoreReply, unix_now};
use crate::words::error::Result;
use rusqlite::{OptionalExtension, Transaction, params};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

/// How long a refusal is believed: names are not forgotten, and to count them again each time would be work
/// for who asks for nothing else.
const REFUSED: Duration = Duration::from_secs(1);
/// How many counts and how many refusals are remembered.
const REMEMBERED: usize = 1024;

/// Of names of one kind, those of one maker; of all makers where none is named.
type Counting = (&'static str, Option<String>);

/// How many names there are, as long as no other connection writes; and why there was no room lately.
#[derive(Default)]
pub(super) struct Counted {
    /// What SQLite says of the others' writing.
    version: i64,
    counts: HashMap<Counting, usize>,
    refused: HashMap<Counting, (Instant, String)>,
}

impl Counted {
    fn count(&mut self, transaction: &Transaction<'_>, counting: Counting) -> rusqlite::Result<&mut usize> {
        if self.counts.len() >= REMEMBERED {
            self.counts.clear();
        }
        let (what, maker) = &counting;
        Ok(match self.counts.entry(counting.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let count: i64 = match maker {
                    Some(maker) => transaction
                        .prepare_cached("SELECT count(*) FROM makers WHERE what = ?1 AND maker = ?2")?
                        .query_row([*what, maker], |row| row.get(0))?,
                    None => transaction
                        .prepare_cached(&format!("SELECT count(*) FROM {what}"))?
                        .query_row([], |row| row.get(0))?,
                };
                unknown.insert(usize::try_from(count).unwrap_or(0))
            }
        })
    }
}

impl Sqlite {
    /// Makes room for a new name, and counts it to its maker; why there is none.
    pub(super) fn make(
        &self,
        transaction: &Transaction<'_>,
        quota: &NameQuota,
        name: &str,
    ) -> rusqlite::Result<std::result::Result<(), String>> {
        let mut counted = self.counted.borrow_mut();
        let version = transaction.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if counted.version != version {
            (counted.version, counted.counts) = (version, HashMap::new());
        }
        let key = (quota.what, quota.maker.clone());
        if let Some((_, why)) = counted.refused.get(&key).filter(|(at, _)| at.elapsed() < REFUSED) {
            return Ok(Err(why.clone()));
        }
        let own = if key.1.is_some() { *counted.count(transaction, key.clone())? } else { 0 };
        if let Err(why) = quota.admit(*counted.count(transaction, (quota.what, None))?, own) {
            if counted.refused.len() >= REMEMBERED {
                counted.refused.clear();
            }
            counted.refused.insert(key, (Instant::now(), why.clone()));
            return Ok(Err(why));
        }
        *counted.count(transaction, (quota.what, None))? += 1;
        if key.1.is_some() {
            *counted.count(transaction, key)? += 1;
        }
        if let Some(maker) = &quota.maker {
            let made = "INSERT OR REPLACE INTO makers VALUES (?1, ?2, ?3)";
            transaction.prepare_cached(made)?.execute([quota.what, name, maker])?;
        }
        Ok(Ok(()))
    }

    /// Notes a heartbeat, where it may be noted.
    pub(super) fn note(
        &self,
        transaction: &Transaction<'_>,
        beat: &Beat,
    ) -> rusqlite::Result<Result<StoreReply>> {
        let Controller { id, host, role, priority, status, version, heartbeat_at, started_at } =
            &beat.controller;
        let now = unix_now();
        let last = "SELECT peer, heard_at FROM controllers LEFT JOIN senders USING (id) WHERE id = ?1";
        let last: Option<(Option<String>, i64)> = transaction
            .prepare_cached(last)?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match (&last, &beat.quota) {
            (Some((peer, heard_at)), _) => {
                let ago = Duration::from_secs(now.saturating_sub(heard_at.unsigned_abs()));
                if !beat.follows(peer.as_deref(), ago) {
                    return Ok(Err(another_sends(id)));
                }
            }
            (None, Some(quota)) => {
                if let Err(why) = self.make(transaction, quota, id)? {
                    return Ok(Ok(StoreReply::NoRoom(why)));
                }
            }
            (None, None) => {}
        }
        let row = params![
            id,
            host,
            role,
            whole(*priority),
            status,
            version,
            whole(*heartbeat_at),
            whole(*started_at),
            whole(now)
        ];
        let write = "INSERT OR REPLACE INTO controllers VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        transaction.prepare_cached(write)?.execute(row)?;
        let peer = beat.guard().peer;
        if last.and_then(|(peer, _)| peer) != peer {
            let write = "INSERT OR REPLACE INTO senders VALUES (?1, ?2)";
            transaction.prepare_cached(write)?.execute(params![id, peer])?;
        }
        Ok(Ok(StoreReply::Noted))
    }

    /// All controllers, by name.
    pub(super) fn heard(&self) -> Result<Vec<HeardController>> {
        let now = unix_now();
        const QUERY: &str = "SELECT id, host, role, priority, status, version, heartbeat_at, started_at, \
                             heard_at, peer FROM controllers LEFT JOIN senders USING (id) ORDER BY id";
        self.rows(QUERY, |row| {
            let number = |index| row.get::<_, i64>(index).map(i64::unsigned_abs);
            let controller = Controller {
                id: row.get(0)?,
                host: row.get(1)?,
                role: row.get(2)?,
                priority: number(3)?,
                status: row.get(4)?,
                version: row.get(5)?,
                heartbeat_at: number(6)?,
                started_at: number(7)?,
            };
            let ago = Duration::from_secs(now.saturating_sub(number(8)?));
            Ok(HeardController { controller, ago, guard: Guard { peer: row.get(9)?, secret: None } })
        })
    }
}
