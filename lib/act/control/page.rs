//! The status page for people: all of it in one answer, whole without a script; with one it follows by
//! itself.

use crate::store::guard::Guard;
use crate::store::{BootMoment, HeardController, LeaseChange, Record};
use crate::words::clean;
use crate::words::{span, stamp};
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

/// A controller that was not heard for so long is marked: three of its default intervals, as far as we know
/// them.
const SILENT: Duration = Duration::from_secs(15);
/// How many controllers the page lists; the API tells all.
const LISTED: usize = 500;

/// What the page shows.
pub struct Shown {
    /// The leases.
    pub leases: Vec<(String, Record)>,
    /// The controllers.
    pub controllers: Vec<HeardController>,
    /// The last changes of hands.
    pub changes: Vec<LeaseChange>,
}

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --good: #1a7f37; --bad: #b35900 }
@media (prefers-color-scheme: dark) { :root { --good: #4ac26b; --bad: #e8a33d } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem }
h1 { font-size: 1.3rem } h2 { font-size: 1rem; margin: 2rem 0 .5rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line) }
th { font-weight: 600 } td.n { font-variant-numeric: tabular-nums }
.wide { overflow-x: auto } .good { color: var(--good); font-weight: 600 }
.bad { color: var(--bad); font-weight: 600 }
footer, .note { opacity: .7 } #off { background: var(--soft); padding: .5rem 1rem } [hidden] { display: none }
";

const SCRIPT: &str = "
const off = document.getElementById('off'), live = document.getElementById('live');
async function follow() {
  try {
    const answer = await fetch(location.href, { cache: 'no-store', credentials: 'same-origin' });
    if (!answer.ok) throw new Error(answer.status);
    const text = await answer.text(), begin = text.indexOf('<main'), end = text.indexOf('</main>');
    const next = new DOMParser().parseFromString(text.slice(begin, end), 'text/html').getElementById('live');
    if (next.innerHTML !== live.innerHTML) live.replaceChildren(...next.childNodes);
    off.hidden = true;
  } catch (error) {
    off.hidden = false;
  }
  setTimeout(follow, 1000);
}
setTimeout(follow, 1000);
";

fn escape(text: &str) -> String {
    let mut safe = String::new();
    for letter in clean::line(text).chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter => safe.push(letter),
        }
    }
    safe
}

/// A time in words: whole seconds, for the page is looked at once in a second.
fn words(span: Duration) -> String {
    span::show(Duration::from_secs(span.as_secs()))
}

fn time(unix: u64) -> String {
    let text = stamp::seconds(UNIX_EPOCH + Duration::from_secs(unix.min(1 << 40)));
    format!("<time datetime=\"{text}\">{}</time>", text.replace('T', " ").replace('Z', " UTC"))
}

fn table(page: &mut String, title: &str, heads: &[&str], rows: &[String], none: &str) {
    let _ = write!(page, "<h2>{title}</h2>");
    if rows.is_empty() {
        let _ = write!(page, "<p class=note>{none}</p>");
        return;
    }
    let heads: String = heads.iter().map(|head| format!("<th scope=col>{head}")).collect();
    let _ = write!(page, "<div class=wide><table><thead><tr>{heads}<tbody>{}</table></div>", rows.concat());
}

/// What keeps others out, marked where nothing does.
fn guard(guard: &Guard) -> String {
    match guard.told() {
        (words, true) => escape(&words),
        (words, false) => format!("<span class=bad>{}</span>", escape(&words)),
    }
}

/// The page; `nonce` allows its script and its style, and nothing else.
pub fn render(shown: &Shown, now: &BootMoment, nonce: &str) -> String {
    let mut live = String::new();
    let leases: Vec<String> = shown
        .leases
        .iter()
        .map(|(name, record)| {
            let left = record.left(now);
            let (holder, host, left) = match record.leader(now) {
                Some(holder) => {
                    (format!("<span class=good>{}</span>", escape(holder)), escape(&record.host), words(left))
                }
                None => ("<span class=bad>nobody</span>".to_owned(), "–".to_owned(), "–".to_owned()),
            };
            let guard = record.leader(now).map_or_else(|| "–".to_owned(), |_| guard(&record.guard));
            let preferred = record.preferred.as_deref().map_or_else(|| "–".to_owned(), escape);
            format!(
                "<tr><td>{}<td>{holder}<td>{host}<td class=n>{}<td class=n>{left}<td>{guard}<td>{preferred}",
                escape(name),
                record.term
            )
        })
        .collect();
    table(
        &mut live,
        "Leader",
        &["lease", "leader", "host", "term", "time left", "guard", "preferred"],
        &leases,
        "No lease was ever taken.",
    );
    let controllers: Vec<String> = shown
        .controllers
        .iter()
        .take(LISTED)
        .map(|HeardController { controller: one, ago, guard: whose }| {
            let mark = if *ago >= SILENT { "bad" } else { "n" };
            let guard = guard(whose);
            let version = one.version.as_deref().map_or_else(|| "–".to_owned(), escape);
            let (id, host, role, status) =
                (escape(&one.id), escape(&one.host), escape(&one.role), escape(&one.status));
            format!(
                "<tr><td>{id}<td>{host}<td>{role}<td class=n>{}<td>{status}<td>{version}<td>{guard}<td \
                 class={mark}>{} ago",
                one.priority,
                words(*ago)
            )
        })
        .collect();
    table(
        &mut live,
        "Controllers",
        &["controller", "host", "role", "priority", "status", "version", "guard", "last heartbeat"],
        &controllers,
        "No controller was heard.",
    );
    if shown.controllers.len() > LISTED {
        let _ = write!(live, "<p class=note>{LISTED} of {} are listed.</p>", shown.controllers.len());
    }
    let changes: Vec<String> = shown
        .changes
        .iter()
        .map(|change| {
            let what = change
                .holder
                .as_deref()
                .map_or_else(|| "given up".to_owned(), |holder| format!("taken by {}", escape(holder)));
            format!(
                "<tr><td class=n>{}<td>{}<td class=n>{}<td>{what}<td>{}",
                time(change.at),
                escape(&change.lease),
                change.term,
                escape(&change.host)
            )
        })
        .collect();
    table(
        &mut live,
        "Changes of hands",
        &["time", "lease", "term", "what", "host"],
        &changes,
        "No lease has changed hands.",
    );
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport \
         content=\"width=device-width\"><title>baa-control</title>\
         <link rel=icon href=\"data:,\"><noscript><meta http-equiv=refresh content=5></noscript>\
         <style nonce={nonce}>{STYLE}</style>\
         <h1>baa-control</h1><p id=off hidden role=status>No answer: what follows is old.</p>\
         <main id=live>{live}</main>\
         <footer><p>baa {}</footer><script nonce={nonce}>{SCRIPT}</script></html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_foreign_becomes_markup() {
        let bad = "<script>alert(\"1\")</script>'&";
        let record = Record {
            holder: Some(bad.to_owned()),
            host: bad.to_owned(),
            preferred: Some(bad.to_owned()),
            ttl: Duration::from_secs(9),
            far: true,
            ..Record::default()
        };
        let controller = crate::store::Controller {
            id: bad.to_owned(),
            host: bad.to_owned(),
            role: bad.to_owned(),
            status: bad.to_owned(),
            version: Some(bad.to_owned()),
            ..crate::store::Controller::default()
        };
        let controller = HeardController { controller, ..HeardController::default() };
        let change = LeaseChange {
            lease: bad.to_owned(),
            term: 1,
            holder: Some(bad.to_owned()),
            host: bad.to_owned(),
            at: u64::MAX,
        };
        let shown = Shown {
            leases: vec![(bad.to_owned(), record)],
            controllers: vec![controller],
            changes: vec![change],
        };
        let page = render(&shown, &BootMoment { boot: "b".to_owned(), since: Duration::ZERO }, "n");
        assert_eq!((page.matches("<script").count(), page.contains("alert(\"1\")")), (1, false));
        assert!(page.contains("&lt;script&gt;"));
    }
}
