//! What this machine knows of values that somebody is typing.

use baa::program::complete::{LiveOffer, TypedLine, deadline};
use baa::service::names;

const TARGETS: [&str; 21] = [
    "http://",
    "https://",
    "http+unix:///",
    "tcp://",
    "unix://",
    "exec:",
    "file:",
    "pid:",
    "dns:",
    "launchd:",
    "systemd:",
    "postgres://",
    "mysql://",
    "redis://",
    "rediss://",
    "mongodb://",
    "amqp://",
    "amqps://",
    "kafka://",
    "grpc://",
    "grpcs://",
];

pub fn values(typed: &TypedLine) -> LiveOffer {
    if typed.argument.0 != "targets" {
        return LiveOffer::default();
    }
    let after = |scheme: &str, names: Vec<String>| {
        LiveOffer::of(names.into_iter().map(|name| format!("{scheme}{name}")))
    };
    match typed.word.split_once(':') {
        Some(("launchd", begun)) => after("launchd:", names::launchd(begun)),
        Some(("systemd", begun)) => after("systemd:", names::units(begun, deadline())),
        _ => LiveOffer::schemes(&typed.word, &TARGETS, &["unix://", "unix:", "file://", "file:"]),
    }
}
