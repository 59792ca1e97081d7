//! All tests in one program: pure logic is tested beside the code, everything else here, on real processes,
//! sockets and files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
extern crate macro_rules_attribute;

/// `#[apply(test)]` makes a function a test of this harness. (A plain `#[test]` would compile to nothing
/// here; tests/house.rs refuses it.)
macro_rules! test {
    ($(#[$about:meta])* $visibility:vis fn $name:ident() $body:block) => {
        $(#[$about])* $visibility fn $name() $body
        inventory::submit! {
            $crate::support::harness::Test {
                name: concat!(module_path!(), "::", stringify!($name)),
                run: $name,
            }
        }
    };
}

mod artefacts;
mod canary;
mod canary_causes;
mod completions;
mod conductor;
mod conformance;
mod control;
mod control_page;
mod cookbook;
mod daemons;
mod daemons_alive;
mod daemons_life;
mod daemons_verbs;
mod docs;
mod foreign;
mod hardening;
mod healthwait;
mod healthwait_ask;
mod healthwait_hostile;
mod healthwait_http;
mod healthwait_identity;
mod healthwait_liars;
mod healthwait_life;
mod healthwait_loop;
mod healthwait_proxy;
mod healthwait_servers;
mod healthwait_tls;
mod house;
mod inherited;
mod kernel;
mod lease;
mod lease_api;
mod lease_chaos;
mod lease_life;
mod mac_report;
mod packages;
mod peer_remove;
mod peer_remove_races;
mod reload;
mod reload_baa;
mod reload_back;
mod reload_diagnose;
mod reload_health;
mod reload_hooks;
mod reload_killed;
mod reload_launchctl;
mod reload_launchd;
mod reload_secrets;
mod reload_systemd;
mod reload_tell;
mod reload_units;
mod roots;
mod run;
mod run_ctl;
mod run_first;
mod run_loop;
mod run_restart;
mod run_signals;
mod run_stop;
mod run_survival;
mod run_watch;
mod schemas;
mod security;
mod security_control;
mod security_grants;
mod security_jobs;
mod security_led;
mod security_trust;
mod security_trust_races;
mod support;
mod unread;
mod wait4x;

fn main() -> std::process::ExitCode {
    support::harness::main()
}
