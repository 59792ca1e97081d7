//! The library under the tools. Layers, each using only those below it:
//!
//! ```text
//! bins/baa-NAME   parse, prepare, act, report
//! program         the edge: a parsed program run, usage errors and statuses out; complete: what a shell is
//!                 told of a line that is being typed
//! act             wait (baa-healthwait) · reload (baa-reload) · keeper (baa-run) · canary (baa-canary) ·
//!                 peers (baa-peer-remove) · lease (baa-lease) · control (baa-control) · group (baa-daemons):
//!                 one decision each, no printing of answers
//! store           a lease: a record with a term and a time to live, decided in one place; sqlite and etcd
//!                 keep it, control_api asks for it
//! service         launchd · systemd · embedded (a baa-run per job) behind one trait; manager: which of
//!                 them, decided in one place;
//!                 names: what services are called here;
//!                 job: a property list, read once; recipe, target: what is started, what is asked;
//!                 tmux, iapeer: who serves a socket, and what peers are called
//! probe           one question each: http · tcp · unix · exec · file · process · dns · record (of a name) ·
//!                 server (postgres, mysql, redis, mongodb, amqp, kafka, grpc: apart from sockets);
//!                 demand: whose answer counts; pace: how often to ask
//! life            one life of a command: its wall (who belongs to it, by a cgroup or by a mark, and how all
//!                 of it is ended), its record on disk, a bounded run. The only room that knows what comes of
//!                 a process
//! sys             the system, once: clock · poll · process (identity; trace, exits) · child (one start, by
//!                 clone3 or fork; signalled and awaited as a child, without /proc) · signal · revival ·
//!                 file · digest · directory · trust (whose word is believed) · secret (tokens in memory) ·
//!                 deputy (a process that has become another user) · rights (names of capabilities and
//!                 limits) · net · datagram (and who sent it) · listening · owner · http · say (and outlet) ·
//!                 user (nss: getent, never a module) · cgroup · kernel · lines · poller · task (many
//!                 questions in one thread; pool: a few threads for what only a thread can wait for) · memory
//! words           exit (the table of statuses) · error · failure · clean (foreign strings) · logfmt · span ·
//!                 stamp
//! ```
//!
//! Differences from a toolkit that only calls libraries, and why. HTTP is spoken over connections of our
//! own (framed by ureq-proto, encrypted by rustls, neither of which has a socket): a client that hides its
//! connection cannot say which process answered, and costs 1 MiB at start. Processes are started by
//! `sys::child` and ended by `life` alone, for managers, probes, jobs and leases alike: keeper, group and
//! lease hold decisions only. `service` may use `probe` (a manager's word is a probe's answer), never the
//! other way round.
#![deny(unreachable_pub)]

pub mod act;
pub mod life;
pub mod probe;
pub mod program;
pub mod service;
pub mod store;
pub mod sys;
pub mod words;

// Of the library, so that what nobody else needs can stay its own business.
#[cfg(test)]
#[path = "../tests/fuzz/mod.rs"]
#[allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, unsafe_code)]
mod fuzz;
