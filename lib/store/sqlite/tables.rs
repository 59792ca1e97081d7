//! The tables of a store in a file, and how those of an older version become them.

/// The version of the tables; a file of a newer one is not touched.
pub(super) const VERSION: i64 = 4;

/// From each version to the next.
pub(super) const STEPS: [&str; 4] = [
    "
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT,
    host TEXT NOT NULL,
    instance TEXT NOT NULL,
    term INTEGER NOT NULL,
    ttl_ms INTEGER NOT NULL,
    boot TEXT NOT NULL,
    expires_ns INTEGER NOT NULL
) STRICT;
",
    "
ALTER TABLE leases ADD COLUMN preferred TEXT;
ALTER TABLE leases ADD COLUMN metadata TEXT;
ALTER TABLE leases ADD COLUMN far INTEGER NOT NULL DEFAULT 0;
CREATE TABLE controllers (
    id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    role TEXT NOT NULL,
    priority INTEGER NOT NULL,
    status TEXT NOT NULL,
    version TEXT,
    heartbeat_at INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    heard_at INTEGER NOT NULL
) STRICT;
CREATE TABLE changes (
    number INTEGER PRIMARY KEY,
    lease TEXT NOT NULL,
    term INTEGER NOT NULL,
    holder TEXT,
    host TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
",
    "
ALTER TABLE leases ADD COLUMN peer TEXT;
ALTER TABLE leases ADD COLUMN secret TEXT;
",
    // In tables of their own: programs of an older version that have the file open go on meanwhile.
    "
CREATE TABLE makers (
    what TEXT NOT NULL,
    name TEXT NOT NULL,
    maker TEXT NOT NULL,
    PRIMARY KEY (what, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX makers_names ON makers (what, maker);
INSERT INTO makers
    SELECT 'leases', name, peer FROM leases WHERE peer GLOB 'uid:*' OR peer GLOB 'ip:*';
CREATE TABLE senders (id TEXT PRIMARY KEY, peer TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE probe (number INTEGER PRIMARY KEY, count INTEGER NOT NULL) STRICT;
",
];
