//! What must not be shown: logins and the values of queries in URLs, wherever a URL stands in a text; and the
//! secrets that somebody has named, wherever they occur.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// What stands in place of a secret.
pub const MASK: &str = "***";
/// Shorter values are not taken for secrets: they would be found everywhere.
const SHORTEST: usize = 6;
/// So much of a secret that was cut off may be shown.
const TRACE: usize = 3;
/// Longer numbers may be secrets.
const LONGEST_NUMBER: usize = 9;

/// Variables that hold no secret, whatever their values are.
const PUBLIC: [&str; 22] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TERM",
    "TMPDIR",
    "PWD",
    "OLDPWD",
    "HOSTNAME",
    "DISPLAY",
    "EDITOR",
    "PAGER",
    "NODE_ENV",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "INVOCATION_ID",
    "XPC_FLAGS",
    "XPC_SERVICE_NAME",
];
/// Values that are no secrets, unless the name says so.
const PLAIN: [&str; 14] = [
    "enabled",
    "disabled",
    "default",
    "always",
    "production",
    "development",
    "staging",
    "testing",
    "release",
    "localhost",
    "verbose",
    "warning",
    "notice",
    "normal",
];
/// Words of a name that say that its value is a secret.
const TELLING: [&str; 18] = [
    "TOKEN",
    "TOKENS",
    "SECRET",
    "SECRETS",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "PASS",
    "KEY",
    "KEYS",
    "APIKEY",
    "CREDENTIAL",
    "CREDENTIALS",
    "AUTH",
    "AUTHORIZATION",
    "COOKIE",
    "PRIVATE",
    "SALT",
];

/// Takes secrets out of texts. Made once, for all that is told of one thing.
#[derive(Clone, Default)]
pub struct Redactor {
    /// The longest first: one may be a part of another.
    secrets: Vec<String>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Redactor({})", self.secrets.len())
    }
}

impl Redactor {
    /// Of the values of `environment` that may be secrets (see `of_variable`) and of those of `secrets` that
    /// are long enough. What stands in `shown`, which is told anyway, is not taken out.
    pub fn new(environment: &[(String, String)], secrets: &[String], shown: &[String]) -> Redactor {
        let mut all: Vec<String> =
            environment.iter().flat_map(|(name, value)| of_variable(name, value)).collect();
        all.extend(secrets.iter().cloned());
        let mut every: Vec<String> = all.iter().flat_map(|secret| forms(secret)).collect();
        every.retain(|secret| !shown.iter().any(|shown| shown.contains(secret.as_str())));
        every.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        every.dedup();
        Redactor { secrets: every }
    }

    /// `text` without them, and without what URLs in it hide.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut fit = Cow::Borrowed(text);
        for secret in &self.secrets {
            if fit.contains(secret.as_str()) {
                fit = Cow::Owned(fit.replace(secret.as_str(), MASK));
            }
        }
        if fit.contains('…') {
            fit = Cow::Owned(self.without_ends(&fit));
        }
        match urls(&fit) {
            Cow::Owned(masked) => Cow::Owned(masked),
            Cow::Borrowed(_) => fit,
        }
    }

    /// The same for a text that is kept.
    pub fn owned(&self, text: &mut String) {
        if let Cow::Owned(fit) = self.text(text) {
            *text = fit;
        }
    }

    /// An ellipsis may stand in the middle of a secret, and leave its beginning or its end.
    fn without_ends(&self, text: &str) -> String {
        let parts: Vec<&str> = text.split('…').collect();
        let last = parts.len() - 1;
        let mut fit = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let mut part = (*part).to_owned();
            if index < last
                && let Some(length) =
                    self.longest(|secret, cut| part.ends_with(secret.get(..cut)?).then_some(cut))
            {
                part.truncate(part.len() - length);
                part.push_str(MASK);
            }
            if index > 0
                && let Some(length) = self
                    .longest(|secret, cut| part.starts_with(secret.get(cut..)?).then(|| secret.len() - cut))
            {
                part.replace_range(..length, MASK);
            }
            fit.push(part);
        }
        fit.join("…")
    }

    /// The longest of the ends of a secret that `fits`, which is given where the secret is cut.
    fn longest(&self, fits: impl Fn(&str, usize) -> Option<usize>) -> Option<usize> {
        let cuts = |secret: &String| {
            let found = (1..secret.len()).filter_map(|cut| fits(secret, cut)).max();
            found.filter(|length| *length > TRACE)
        };
        self.secrets.iter().filter_map(cuts).max()
    }
}

/// What may be secret of the variable `name` of an environment:
///
/// - nothing of a value shorter than 6 bytes, of a variable that is known to hold no secret (PATH, HOME, …),
///   and of a value that is a path that is there, or whose directory is;
/// - of a URL its login and the values of its query;
/// - nothing of a number, an address of IP, or a plain word such as `production`;
/// - else the whole value, each of its lines, and what follows `Bearer`.
///
/// Where a part of the name says so (TOKEN, KEY, …), the whole value is secret unless it is a path.
fn of_variable(name: &str, value: &str) -> Vec<String> {
    let telling = says_secret(name);
    if PUBLIC.contains(&name) || name.starts_with("LC_") || is_path(value) {
        return Vec::new();
    }
    let mut secrets = Vec::new();
    let is_url = value.contains("://");
    if telling || !(is_url || is_plain(value)) {
        secrets.push(value.to_owned());
        secrets.extend(value.split(char::is_control).map(|line| line.trim().to_owned()));
        if let Some((kind, rest)) = value.split_once(' ')
            && ["bearer", "basic", "token"].contains(&kind.to_ascii_lowercase().as_str())
        {
            secrets.push(rest.trim().to_owned());
        }
    }
    if is_url {
        secrets.extend(of_urls(value));
    }
    // `Server=x;Password=y`, as connection strings have it.
    let pairs = value.split([';', '&', ',', ' ']).filter_map(|part| part.split_once('='));
    secrets.extend(
        pairs.filter(|(key, _)| says_secret(key.trim_start_matches('-'))).map(|(_, value)| value.to_owned()),
    );
    secrets
}

/// What may be secret of the URLs in `text`.
pub fn of_urls(text: &str) -> Vec<String> {
    let mut secrets = Vec::new();
    for part in hidden(text, false).into_iter().chain(torn(text)) {
        let plain = &text[part.from..part.to];
        let sure = part.name.is_none_or(says_secret);
        if sure || !is_plain(plain) {
            secrets.push(plain.to_owned());
            secrets.push(unescape(plain));
        }
        if part.name.is_none()
            && let Some((_, password)) = plain.split_once(':')
        {
            secrets.extend([password.to_owned(), unescape(password)]);
        }
    }
    secrets
}

/// Where the login of a URL ends at the latest, given what follows its `://`: at the last `@`, as `/`, `?`,
/// `#` and `@` may stand in a password though they should be escaped. What names a host alone, without a port
/// and a login, has none.
pub fn login_end(rest: &str) -> Option<usize> {
    let last = rest.rfind('@').filter(|at| *at > 0)?;
    let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let named = authority.contains(':') && !authority.starts_with('[');
    (authority.contains('@') || named || after.starts_with('#')).then_some(last)
}

/// `url`, which is one URL and nothing else, without what may be its login.
pub fn without_login(url: &str) -> String {
    let hidden = url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest, login_end(rest)?)));
    match hidden {
        Some((scheme, rest, end)) => format!("{scheme}://{MASK}{}", &rest[end..]),
        None => url.to_owned(),
    }
}

/// The same without the values in its query that its keys call secret.
pub fn without_secrets(url: &str) -> String {
    let mut fit = without_login(url);
    let secret = |part: &Hidden<'_>| part.name.is_some_and(says_secret);
    let parts: Vec<(usize, usize)> =
        hidden(&fit, true).iter().filter(|part| secret(part)).map(|part| (part.from, part.to)).collect();
    parts.into_iter().rev().for_each(|(from, to)| fit.replace_range(from..to, MASK));
    fit
}

/// `word`, or if it is `key=value` and the key says that the value is a secret, without that.
pub fn pair(word: &str) -> String {
    match word.split_once('=') {
        Some((key, value)) if !value.is_empty() && says_secret(key) => format!("{key}={MASK}"),
        _ => word.to_owned(),
    }
}

/// `text` with every login and every value of a query in its URLs masked; the keys stay.
pub fn urls(text: &str) -> Cow<'_, str> {
    let mut fit = String::new();
    let mut at = 0;
    for part in hidden(text, true) {
        fit.push_str(&text[at..part.from]);
        fit.push_str(MASK);
        at = part.to;
    }
    if at == 0 {
        return text.into();
    }
    fit.push_str(&text[at..]);
    fit.into()
}

/// A part of a URL that is not shown: a login, or the value of `name` in a query.
struct Hidden<'a> {
    from: usize,
    to: usize,
    name: Option<&'a str>,
}

/// The logins that hold what should be escaped, where no host and port can be read before it.
fn torn(text: &str) -> Vec<Hidden<'_>> {
    let sure = |part: &Hidden<'_>| {
        let login = &text[part.from..part.to];
        let authority = login.split(['/', '?', '#']).next().unwrap_or_default();
        let port = authority.split_once(':').map_or("", |(_, port)| port);
        part.name.is_none() && authority != login && port.parse::<u16>().is_err()
    };
    hidden(text, true).into_iter().filter(sure).collect()
}

/// With `wide` a login reaches as far as it may.
fn hidden(text: &str, wide: bool) -> Vec<Hidden<'_>> {
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find("://") {
        let begin = at + found + 3;
        let ends = |letter: char| letter.is_whitespace() || letter.is_control() || "\"'<>`".contains(letter);
        let end = text[begin..].find(ends).map_or(text.len(), |length| begin + length);
        let authority = text[begin..end].find(['/', '?', '#']).map_or(end, |length| begin + length);
        let narrow = text[begin..authority].rfind('@').filter(|length| *length > 0);
        let login = if wide { login_end(&text[begin..end]) } else { narrow };
        let login_end = login.map_or(begin, |length| begin + length);
        if login.is_some() {
            parts.push(Hidden { from: begin, to: login_end, name: None });
        }
        let mut from = text[login_end..end].find(['?', '#']).map_or(end, |length| login_end + length + 1);
        while from < end {
            let to = text[from..end].find(['&', '#', '?', ';']).map_or(end, |length| from + length);
            if let Some((key, value)) = text[from..to].split_once('=')
                && !value.is_empty()
            {
                parts.push(Hidden { from: from + key.len() + 1, to, name: Some(key) });
            }
            from = to + 1;
        }
        at = end;
    }
    parts
}

/// A secret as it is, and as JSON, a URL and Rust's way of quoting write it.
fn forms(secret: &str) -> Vec<String> {
    if secret.len() < SHORTEST || secret.bytes().all(|byte| byte == b'*') {
        return Vec::new();
    }
    let mut forms = vec![secret.to_owned()];
    if secret.contains(['"', '\\']) {
        forms.push(secret.replace('\\', "\\\\").replace('"', "\\\""));
    }
    let stays = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if !secret.bytes().all(stays) {
        let escaped =
            |byte: u8| if stays(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        forms.push(secret.bytes().map(escaped).collect());
    }
    forms
}

/// Whether a name says that its value is a secret.
pub fn says_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    name.split(|letter: char| !letter.is_ascii_alphanumeric()).any(|word| {
        TELLING.contains(&word)
            || ["TOKEN", "SECRET", "PASSWORD", "APIKEY"].iter().any(|end| word.ends_with(end))
    })
}

/// Whether a value is one or several paths that are there, or whose directories are.
fn is_path(value: &str) -> bool {
    let is_there = |path: &Path| {
        let parent = path.parent().filter(|parent| parent.parent().is_some());
        path.exists() || parent.is_some_and(Path::is_dir)
    };
    value.split(':').all(|part| part.starts_with('/') && is_there(Path::new(part)))
}

/// Whether a value is a number with or without a unit, an address, or a plain word.
fn is_plain(value: &str) -> bool {
    let number = value.trim_start_matches(['+', '-']).trim_end_matches(|letter: char| letter.is_alphabetic());
    let unit = value.len() - value.trim_end_matches(|letter: char| letter.is_alphabetic()).len();
    let counts = |letter: char| letter.is_ascii_digit() || matches!(letter, '.' | ',' | '_');
    (unit <= 3 && !number.is_empty() && number.len() <= LONGEST_NUMBER && number.chars().all(counts))
        || value.parse::<IpAddr>().is_ok()
        || value.parse::<SocketAddr>().is_ok()
        || value.strip_prefix("localhost:").is_some_and(|port| port.parse::<u16>().is_ok())
        || PLAIN.contains(&value.to_ascii_lowercase().as_str())
}

/// A part of a URL without its escapes of `%`.
pub(crate) fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = text.get(at + 1..at + 3).filter(|pair| pair.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let hex = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                plain.push(byte);
                at += 3;
            }
            (byte, _) => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Redactor {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment: Vec<(String, String)> = pairs.iter().map(own).collect();
        Redactor::new(&environment, &[], &["so.makefile.baa-conductor".to_owned()])
    }

    #[test]
    fn what_urls_hide_is_masked_wherever_they_stand() {
        for (text, shown) in [
            ("http://me:secret@host:81/x", "http://***@host:81/x"),
            ("see https://h/p?token=abc&n=1#f, or not", "see https://h/p?token=***&n=***#f, or not"),
            ("\"postgres://u:p@db/x\" ftp://a@b", "\"postgres://***@db/x\" ftp://***@b"),
            ("http://h/?key&empty=&x=1", "http://h/?key&empty=&x=***"),
            ("http://h/cb#access_token=a1b2", "http://h/cb#access_token=***"),
            ("http://h/?u=http://a:b@c/", "http://h/?u=***"),
            ("a://b://@?=", "a://***@?="),
            ("http://u:a#secret@h/?k=v see", "http://***@h/?k=*** see"),
            ("http://u:a/secret@h http://u:a?secret@h", "http://***@h http://***@h"),
            ("http://u:a@b/secret@h", "http://***@h"),
            ("http://h/@scope/x http://[::1]:1/@x", "http://h/@scope/x http://[::1]:1/@x"),
            ("no url: a@b?c=d", "no url: a@b?c=d"),
            ("http://grüße:x@h/ü?ä=ö ü", "http://***@h/ü?ä=*** ü"),
        ] {
            assert_eq!(urls(text), shown);
        }
    }

    #[test]
    fn of_one_url_only_what_is_called_secret_is_masked() {
        for (url, shown) in [
            ("http://u:p@h/x?n=1&token=abc&api_key=d%20e#f", "http://***@h/x?n=1&token=***&api_key=***#f"),
            ("http://h/?q=a/b@c", "http://h/?q=a/b@c"),
            ("http://h/?token=", "http://h/?token="),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }

    #[test]
    fn a_value_is_masked_in_every_form() {
        let redactor = of(&[
            ("TOKEN", "hunter2"),
            ("A", "hunter2-and-more"),
            ("QUOTED", "say \"hi\"/+"),
            ("PEM", "-----BEGIN\nMIIabcdef\n-----END"),
            ("H", "Bearer tok-en-1"),
            ("DATABASE_URL", "postgres://u:p%40ssword@db/x?sslcert=s3cr3ts"),
            ("CONNECTION", "Server=db;Password=s3same"),
            ("TORN_URL", "postgres://u:aB3/s3cretw@h/db"),
        ]);
        for (text, shown) in [
            ("a hunter2-and-more b hunter2 c", "a *** b *** c"),
            (r#"{"x":"say \"hi\"/+"}"#, r#"{"x":"***"}"#),
            ("q=say%20%22hi%22%2F%2B", "q=***"),
            ("line MIIabcdef", "line ***"),
            ("got tok-en-1", "got ***"),
            ("p@ssword p%40ssword s3cr3ts s3same", "*** *** *** ***"),
            ("aB3/s3cretw", "***"),
            ("cut hunte…", "cut ***…"),
            ("…and-more, hun…", "…***, hun…"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(redactor.text(text), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        let redactor = of(&[
            ("PATH", "/usr/bin:/bin"),
            ("HOME", "/nonexistent/home"),
            ("FLAG", "true"),
            ("SHORT", "abcde"),
            ("DATA", "/usr/share"),
            ("SOCKET", "/tmp/x.sock:/tmp"),
            ("LIMIT", "300000"),
            ("SIZE", "1.5GiB"),
            ("BIND", "127.0.0.1:4317"),
            ("MODE", "production"),
            ("NAME", "conductor"),
            ("LC_ALL", "en_US.UTF-8"),
            ("BAA_CONDUCTOR_LOCAL_API", "http://127.0.0.1:4317//"),
        ]);
        assert_eq!(redactor.secrets, Vec::<String>::new());
        // The name decides where the value alone would not.
        let told = of(&[("PIN_TOKEN", "300000"), ("apiKey", "production"), ("BASE64", "/Zm9/vYmFy")]);
        assert_eq!(told.secrets, ["%2FZm9%2FvYmFy", "/Zm9/vYmFy", "production", "300000"]);
        assert!(says_secret("STRIPE_KEY") && says_secret("githubToken") && !says_secret("MONKEY"));
    }
}
