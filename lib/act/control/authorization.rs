//! Who may come in: a token, compared in constant time; without one only this machine, and no web page that
//! pretends to be of it.

use crate::sys::file;
use crate::sys::http::serve::names_an_address;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use base64::Engine;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use subtle::ConstantTimeEq;

/// The largest file of tokens.
const LIMIT: u64 = 64 * 1024;

/// The tokens that are good, and the rules for who may ask.
pub struct Authorization {
    file: Option<PathBuf>,
    tokens: RwLock<Vec<String>>,
}

/// Why somebody is kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no token, or a wrong one: 401.
    Token,
    /// The request was meant for another host: 403.
    Host,
    /// The body is not called JSON, so that a web page elsewhere could have sent it unasked: 415.
    Type,
}

impl Authorization {
    /// The tokens in `file`, one in each line; all of them are good. Without a file no token is
    /// asked for.
    ///
    /// # Errors
    /// A file that cannot be read (66, 74, 77), or has no token in it (78).
    pub fn new(file: Option<&Path>) -> Result<Authorization> {
        let authorization = Authorization { file: file.map(Path::to_owned), tokens: RwLock::new(Vec::new()) };
        authorization.reload()?;
        Ok(authorization)
    }

    /// Reads the file again; what was good stays so where it cannot be read.
    ///
    /// # Errors
    /// As `new`.
    pub fn reload(&self) -> Result<()> {
        let Some(path) = &self.file else { return Ok(()) };
        let bytes = file::read(path, LIMIT)
            .map_err(|cause| Error::io(format!("cannot read the tokens from {}", path.display()), &cause))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let tokens: Vec<String> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        if tokens.is_empty() {
            return Err(Error::new(Status::BadConfig, format!("there is no token in {}", path.display())));
        }
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
        Ok(())
    }

    /// Whether a token is asked for.
    pub fn guarded(&self) -> bool {
        self.file.is_some()
    }

    /// Lets a request in. A token comes as a bearer, or as the password of a browser's login.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, headers: &HeaderMap, changes: bool) -> std::result::Result<(), Refusal> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if self.guarded() {
            let login = text(AUTHORIZATION);
            let (scheme, rest) = login.split_once(' ').unwrap_or((login, ""));
            let given = match scheme.to_ascii_lowercase().as_str() {
                "bearer" => rest.trim().to_owned(),
                "basic" => {
                    let decoded =
                        base64::engine::general_purpose::STANDARD.decode(rest.trim()).unwrap_or_default();
                    String::from_utf8_lossy(&decoded)
                        .split_once(':')
                        .map(|(_, password)| password.to_owned())
                        .unwrap_or_default()
                }
                _ => String::new(),
            };
            let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
            // All of them, always: the time tells nothing but lengths.
            let good = tokens
                .iter()
                .fold(subtle::Choice::from(0), |good, token| good | token.as_bytes().ct_eq(given.as_bytes()));
            if !bool::from(good) {
                return Err(Refusal::Token);
            }
        } else if !names_an_address(text(HOST)) {
            return Err(Refusal::Host);
        }
        let kind = text(CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if changes && kind != "application/json" { Err(Refusal::Type) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(
        authorization: &Authorization,
        fields: &[(&'static str, &str)],
        changes: bool,
    ) -> std::result::Result<(), Refusal> {
        let headers = fields
            .iter()
            .map(|(name, value)| (hyper::header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        authorization.admit(&headers, changes)
    }

    #[test]
    fn a_token_opens_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tokens");
        std::fs::write(&file, "\n old \nnew\n").unwrap();
        let authorization = Authorization::new(Some(&file)).unwrap();
        for good in ["Bearer old", "bearer new", "Basic eDpuZXc="] {
            assert_eq!(admit(&authorization, &[("authorization", good)], false), Ok(()), "{good}");
        }
        for bad in ["", "Bearer", "Bearer ", "Bearer ne", "Bearer newer", "old", "Basic bmV3", "Basic %"] {
            assert_eq!(admit(&authorization, &[("authorization", bad)], false), Err(Refusal::Token), "{bad}");
        }
        assert_eq!(
            admit(&authorization, &[("authorization", "Bearer old"), ("content-type", "text/plain")], true),
            Err(Refusal::Type)
        );
        assert_eq!(
            admit(
                &authorization,
                &[("authorization", "Bearer old"), ("content-type", "application/json; charset=utf-8")],
                true
            ),
            Ok(())
        );
        std::fs::write(&file, "newest").unwrap();
        authorization.reload().unwrap();
        assert_eq!(admit(&authorization, &[("authorization", "Bearer old")], false), Err(Refusal::Token));
        std::fs::write(&file, " \n").unwrap();
        assert_eq!(authorization.reload().unwrap_err().status, Status::BadConfig);
        assert_eq!(admit(&authorization, &[("authorization", "Bearer newest")], false), Ok(()));
    }

    #[test]
    fn without_a_token_only_an_address_is_served() {
        let authorization = Authorization::new(None).unwrap();
        assert_eq!(admit(&authorization, &[("host", "127.0.0.1:4320")], false), Ok(()));
        assert_eq!(admit(&authorization, &[("host", "evil.example")], false), Err(Refusal::Host));
        assert_eq!(admit(&authorization, &[], false), Err(Refusal::Host));
    }
}
