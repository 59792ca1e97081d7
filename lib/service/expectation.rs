//! What a question over HTTP asks and what its answer must be, as flags say it: the same for every program
//! that asks.

use super::quote;
use super::target::HttpOptions;
use crate::probe::http::{AnswerRules, HeaderText, Statuses};
use crate::probe::json::JsonTest;
use crate::probe::pattern::Pattern;
use crate::sys::http::{self, Trust};
use crate::sys::redact;
use crate::sys::secret::SecretText;
use crate::sys::trust;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::path::PathBuf;

/// The largest body that is sent.
const DATA_LIMIT: u64 = 1024 * 1024;

/// What flags say of it; what is not said is left to the default.
#[derive(Clone, Default)]
pub struct HttpExpectation {
    /// The method.
    pub method: Option<String>,
    /// Header fields, `Name: value`.
    pub headers: Vec<String>,
    /// The body of the request.
    pub data: Option<String>,
    /// The file with the body of the request.
    pub data_file: Option<PathBuf>,
    /// Good statuses.
    pub statuses: Vec<Statuses>,
    /// Header fields that the answer must have, with these texts in them.
    pub header_contains: Vec<HeaderText>,
    /// Texts that the body must hold.
    pub contains: Vec<String>,
    /// Patterns that the body must match.
    pub patterns: Vec<Pattern>,
    /// What the JSON body must hold.
    pub json: Vec<JsonTest>,
    /// A file with the certificates that are trusted, and no others.
    pub cacert: Option<PathBuf>,
    /// Whether any certificate is trusted.
    pub insecure: bool,
    /// A file with our own certificate, for a server that wants one.
    pub cert: Option<PathBuf>,
    /// The file with its key, unless that is in the same.
    pub key: Option<PathBuf>,
    /// Whether redirects are followed.
    pub redirects: bool,
    /// The variable with a bearer token.
    pub token_env: Option<String>,
    /// The file with a bearer token.
    pub token_file: Option<PathBuf>,
}

impl std::fmt::Debug for HttpExpectation {
    /// Header fields hold secrets.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("HttpExpectation")
    }
}

impl HttpExpectation {
    /// What is asked and expected; of statuses, where none is named, those of `default`.
    ///
    /// # Errors
    /// 2 for what no request can hold; 65, 66, 74, 77 for a file that cannot be used.
    pub fn options(&self, default: Statuses) -> Result<HttpOptions> {
        let usage = |why: String| Error::new(Status::Usage, why);
        let body = self.body()?;
        let usual = if body.is_some() { "POST" } else { "GET" };
        let method = self.method.clone().unwrap_or_else(|| usual.to_owned());
        if !http::is_token(&method) {
            return Err(usage("a method is a token, like GET (RFC 9110, 9.1)".to_owned()));
        }
        if method.eq_ignore_ascii_case("CONNECT") {
            return Err(usage("CONNECT asks a proxy for a tunnel, and no target anything".to_owned()));
        }
        if body.is_some() && ["HEAD", "TRACE"].contains(&method.as_str()) {
            return Err(usage(format!("a request with {method} has no data (RFC 9110, 9.3)")));
        }
        let mut headers = self
            .headers
            .iter()
            .map(|text| http::header(text))
            .collect::<std::result::Result<Vec<_>, String>>()
            .map_err(usage)?;
        if let Some(token) = self.token()? {
            headers.push(http::header(&format!("Authorization: Bearer {}", token.reveal())).map_err(usage)?);
        }
        let typed = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if body.is_some() && !typed {
            // What curl says of it.
            headers.push(("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned()));
        }
        let trust = match (&self.cacert, self.insecure) {
            (Some(path), _) => Trust::only(path)?,
            (None, true) => Trust::anybody(),
            (None, false) => Trust::default(),
        };
        let trust = match (&self.cert, &self.key) {
            (Some(cert), key) => trust.with_identity(cert, key.as_deref())?,
            (None, Some(_)) => return Err(usage("a key is of no use without its certificate".to_owned())),
            (None, None) => trust,
        };
        Ok(HttpOptions {
            method,
            headers,
            body: body.unwrap_or_default(),
            rules: AnswerRules {
                statuses: if self.statuses.is_empty() { vec![default] } else { self.statuses.clone() },
                headers: self.header_contains.clone(),
                contains: self.contains.clone(),
                patterns: self.patterns.clone(),
                json: self.json.clone(),
            },
            redirects: self.redirects,
            trust,
        })
    }

    /// The body, byte for byte as it was given.
    fn body(&self) -> Result<Option<Vec<u8>>> {
        let Some(path) = &self.data_file else {
            return Ok(self.data.as_ref().map(|text| text.clone().into_bytes()));
        };
        let doing = || format!("cannot read what is to be sent from '{}'", path.display());
        trust::read_setting(path, DATA_LIMIT).map(Some).map_err(|cause| trust::told(doing(), &cause))
    }

    /// The token, from the environment or a file; it is never printed.
    fn token(&self) -> Result<Option<SecretText>> {
        let text = match (&self.token_env, &self.token_file) {
            (Some(name), _) => SecretText::new(std::env::var(name).map_err(|_| {
                Error::new(Status::NoInput, format!("cannot read a token: variable '{name}' is not set"))
            })?),
            (None, Some(path)) => {
                SecretText::read(&format!("cannot read a token from '{}'", path.display()), path, 64 * 1024)?
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(text.trimmed().unwrap_or_default()))
    }

    /// The flags of baa-healthwait that say it, without the values of header fields that may be secret.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        let mut add = |flag: &str, value: String| flags.extend([flag.to_owned(), quote(value)]);
        self.method.iter().for_each(|method| add("--method", method.clone()));
        for field in &self.headers {
            let name = field.split_once(':').map_or("", |(name, _)| name);
            let secret = redact::says_secret(name);
            add("--header", if secret { format!("{name}: {}", redact::MASK) } else { field.clone() });
        }
        // It may hold a password under any name.
        self.data.iter().for_each(|_| add("--data", redact::MASK.to_owned()));
        self.data_file.iter().for_each(|path| add("--data-file", path.to_string_lossy().into_owned()));
        let statuses: Vec<String> = self.statuses.iter().map(ToString::to_string).collect();
        if !statuses.is_empty() {
            add("--status", statuses.join(","));
        }
        self.header_contains.iter().for_each(|one| add("--header-contains", one.to_string()));
        self.contains.iter().for_each(|text| add("--body-contains", text.clone()));
        self.patterns.iter().for_each(|one| add("--body-regex", one.to_string()));
        self.json.iter().for_each(|value| add("--json-path", value.to_string()));
        self.cacert.iter().for_each(|path| add("--cacert", path.to_string_lossy().into_owned()));
        self.cert.iter().for_each(|path| add("--cert", path.to_string_lossy().into_owned()));
        self.key.iter().for_each(|path| add("--key", path.to_string_lossy().into_owned()));
        self.token_env.iter().for_each(|name| add("--token-env", name.clone()));
        self.token_file.iter().for_each(|path| add("--token-file", path.to_string_lossy().into_owned()));
        if self.insecure {
            flags.push("--insecure".to_owned());
        }
        if !self.redirects {
            flags.push("--no-redirect".to_owned());
        }
        flags
    }
}

/// What must not be shown of header fields: the values of those whose names say so.
pub fn header_secrets(headers: &[(String, String)]) -> Vec<String> {
    let telling = headers.iter().filter(|(name, _)| redact::says_secret(name));
    let whole =
        |value: &String| [Some(value.clone()), value.split_once(' ').map(|(_, rest)| rest.to_owned())];
    telling.flat_map(|(_, value)| whole(value)).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_says_what_is_expected_and_keeps_what_is_secret() {
        let expected = HttpExpectation {
            method: Some("PUT".to_owned()),
            headers: vec!["Accept: text/x".to_owned(), "X-Api-Key: k3y".to_owned()],
            statuses: vec![Statuses::OK, Statuses::parse("3xx").unwrap()],
            data: Some("password=hunter2".to_owned()),
            header_contains: vec![HeaderText::parse("ETag=x").unwrap()],
            patterns: vec![Pattern::parse("a|b").unwrap()],
            json: vec![JsonTest::parse("/a=b c").unwrap()],
            insecure: true,
            redirects: true,
            ..HttpExpectation::default()
        };
        let flags = "--method PUT --header 'Accept: text/x' --header 'X-Api-Key: ***' --data '***' \
                     --status 200,300-399 --header-contains ETag=x --body-regex 'a|b' --json-path '/a=b c' \
                     --insecure";
        assert_eq!(expected.flags().join(" "), flags);
        let options = expected.options(Statuses::SUCCESS).unwrap();
        assert_eq!(header_secrets(&options.headers), ["k3y"]);
        assert_eq!(options.body, b"password=hunter2");
        assert_eq!(options.headers[2].1, "application/x-www-form-urlencoded");
        let bad = HttpExpectation { method: Some("G T".to_owned()), ..HttpExpectation::default() };
        assert_eq!(bad.options(Statuses::OK).unwrap_err().status, Status::Usage);
    }

    #[test]
    fn what_no_request_can_be_is_refused_at_once() {
        for (method, data) in [("CONNECT", None), ("HEAD", Some("x")), ("TRACE", Some("x"))] {
            let asked = HttpExpectation {
                method: Some(method.to_owned()),
                data: data.map(str::to_owned),
                ..HttpExpectation::default()
            };
            let refused = asked.options(Statuses::OK).unwrap_err();
            assert_eq!(refused.status, Status::Usage, "{method}");
        }
    }
}
