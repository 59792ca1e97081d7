//! All tests in one program: pure logic is tested beside the code, everything else here, on real processes,
//! sockets and files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod artefacts;
mod canary;
mod canary_causes;
mod conductor;
mod conformance;
mod control;
mod control_page;
mod daemons;
mod daemons_alive;
mod healthwait;
mod house;
mod lease;
mod lease_api;
mod lease_chaos;
mod peer_remove;
mod peer_remove_races;
mod reload;
mod reload_baa;
mod reload_launchd;
mod reload_systemd;
mod run;
mod run_loop;
mod run_restart;
mod run_watch;
mod support;
