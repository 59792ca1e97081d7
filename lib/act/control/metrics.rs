//! What Prometheus may know: counts and times, no names of holders.

use crate::store::{BootMoment, Record};
use crate::words::clean;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the times of requests, in milliseconds.
const BOUNDS: [u64; 9] = [1, 2, 5, 10, 25, 50, 100, 500, 1000];

#[derive(Default)]
struct Counts {
    requests: BTreeMap<(&'static str, u16), u64>,
    buckets: [u64; BOUNDS.len() + 1],
    nanos: u128,
}

/// Counts of what was served.
#[derive(Default)]
pub struct Metrics(Mutex<Counts>);

impl Metrics {
    /// Notes a request to `path`, answered with `status` within `took`.
    pub fn note(&self, path: &'static str, status: u16, took: Duration) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.requests.entry((path, status)).or_default() += 1;
        let millis = took.as_nanos().div_ceil(1_000_000);
        let bucket = BOUNDS.iter().position(|bound| millis <= u128::from(*bound)).unwrap_or(BOUNDS.len());
        counts.buckets[bucket] += 1;
        counts.nanos += took.as_nanos();
    }

    /// All of it, in Prometheus's text format (0.0.4).
    pub fn text(
        &self,
        leases: &[(String, Record)],
        now: &BootMoment,
        controllers: usize,
        (commits, changes): (u64, u64),
        (connections, turned_away): (usize, u64),
    ) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, values: &[(String, String)]| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let requests: Vec<_> = counts
            .requests
            .iter()
            .map(|((path, status), count)| {
                (format!("{{path=\"{path}\",status=\"{status}\"}}"), count.to_string())
            })
            .collect();
        family("baa_control_requests_total", "counter", "Requests answered.", &requests);
        let mut sum = 0;
        let mut times: Vec<(String, String)> = Vec::new();
        for (number, count) in counts.buckets.iter().enumerate() {
            sum += count;
            #[allow(clippy::cast_precision_loss)]
            let bound = BOUNDS
                .get(number)
                .map_or_else(|| "+Inf".to_owned(), |bound| (*bound as f64 / 1000.0).to_string());
            times.push((format!("_bucket{{le=\"{bound}\"}}"), sum.to_string()));
        }
        times.push((
            "_sum".to_owned(),
            Duration::from_nanos(u64::try_from(counts.nanos).unwrap_or(u64::MAX)).as_secs_f64().to_string(),
        ));
        times.push(("_count".to_owned(), sum.to_string()));
        family("baa_control_request_seconds", "histogram", "Time from a request to its answer.", &times);
        let plain = |value: u64| vec![(String::new(), value.to_string())];
        family(
            "baa_control_commits_total",
            "counter",
            "Writes to the store, each with one sync.",
            &plain(commits),
        );
        family("baa_control_changes_total", "counter", "Changes in these writes.", &plain(changes));
        family("baa_control_connections", "gauge", "Open connections.", &plain(connections as u64));
        let help = "Connections closed or refused, so that others have their places.";
        family("baa_control_turned_away_total", "counter", help, &plain(turned_away));
        family("baa_control_controllers", "gauge", "Controllers known.", &plain(controllers as u64));
        let each = |value: &dyn Fn(&Record) -> String| -> Vec<_> {
            let label = |name: &str| format!("{{lease=\"{}\"}}", escape(name));
            leases.iter().map(|(name, record)| (label(name), value(record))).collect()
        };
        family("baa_lease_term", "gauge", "The last term given.", &each(&|record| record.term.to_string()));
        family(
            "baa_lease_held",
            "gauge",
            "Whether somebody holds it.",
            &each(&|record| u8::from(record.leader(now).is_some()).to_string()),
        );
        family(
            "baa_lease_guarded",
            "gauge",
            "Whether it is held by who must show a secret.",
            &each(&|record| {
                u8::from(record.leader(now).is_some() && record.guard.secret.is_some()).to_string()
            }),
        );
        family(
            "baa_lease_left_seconds",
            "gauge",
            "How long it lasts without a renewal.",
            &each(&|record| record.left(now).as_secs_f64().to_string()),
        );
        text
    }
}

/// The value of a label. A store that others write to may hold any name.
fn escape(text: &str) -> String {
    clean::line(text).replace('\\', "\\\\").replace('"', "\\\"")
}
