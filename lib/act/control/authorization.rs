//! Who may come in: a token, compared in constant time; without one only this machine, and no web page that
//! pretends to be of it.

use crate::act::control::listener::{Caller, Origin};
use crate::store::guard::Claimant;
use crate::sys::http::serve::names_an_address;
use crate::sys::secret::SecretText;
use crate::sys::{digest, user};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use base64::Engine;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, ORIGIN};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use subtle::ConstantTimeEq;

/// The largest file of tokens.
const LIMIT: u64 = 64 * 1024;

/// The tokens that are good, and the rules for who may ask.
pub struct Authorization {
    file: Option<PathBuf>,
    /// Whose tokens let in as well, and may break what others hold.
    operators: Option<PathBuf>,
    tokens: RwLock<[Vec<SecretText>; 2]>,
}

/// Who was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Who it is to the store.
    pub claimant: Claimant,
    /// Whether it may give up what others hold.
    pub operator: bool,
    /// Whether it has shown a token, or needs none.
    pub known: bool,
    /// As whom it is counted that is not known.
    pub origin: Origin,
}

/// Why somebody is kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no token, or a wrong one: 401.
    Token,
    /// The request was meant for another host: 403.
    Host,
    /// A page of another site sends it: 403.
    Origin,
    /// The body is not called JSON, so that a web page elsewhere could have sent it unasked: 415.
    Type,
}

impl Authorization {
    /// The tokens in `file`, one in each line; all of them are good. Without a file no token is
    /// asked for. Those in `operators` are good too, and may break what others hold.
    ///
    /// # Errors
    /// A file that cannot be read (66, 74, 77), or has no token in it (78).
    pub fn new(file: Option<&Path>, operators: Option<&Path>) -> Result<Authorization> {
        let authorization = Authorization {
            file: file.map(Path::to_owned),
            operators: operators.map(Path::to_owned),
            tokens: RwLock::default(),
        };
        authorization.reload()?;
        Ok(authorization)
    }

    /// Reads the files again; what was good stays so where one cannot be read.
    ///
    /// # Errors
    /// As `new`.
    pub fn reload(&self) -> Result<()> {
        let read = |path: &Option<PathBuf>| path.as_deref().map_or_else(|| Ok(Vec::new()), Self::read);
        let tokens = [read(&self.file)?, read(&self.operators)?];
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
        Ok(())
    }

    fn read(path: &Path) -> Result<Vec<SecretText>> {
        let doing = format!("cannot read the tokens from {}", path.display());
        let text = SecretText::read(&doing, path, LIMIT)?;
        let lines = text.reveal().lines().map(|line| SecretText::new(line.to_owned()));
        let tokens: Vec<SecretText> = lines.filter_map(|line| line.trimmed()).collect();
        if tokens.is_empty() {
            return Err(Error::new(Status::BadConfig, format!("there is no token in {}", path.display())));
        }
        Ok(tokens)
    }

    /// Whether a token is asked for.
    pub fn guarded(&self) -> bool {
        self.file.is_some()
    }

    /// Whether `caller` is whom we need not ask for anything: root, or the user that we run as.
    pub fn trusts(caller: Caller) -> bool {
        matches!(caller, Caller::User(uid) if uid == 0 || uid == user::own_uid())
    }

    /// Lets a request in. A token comes as a bearer, or as the password of a browser's login. Over a socket
    /// of this machine no web page comes, and root and our own user need no token.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(
        &self,
        caller: Caller,
        headers: &HeaderMap,
        changes: bool,
    ) -> std::result::Result<Admission, Refusal> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let trusted = Self::trusts(caller);
        let mut shown = None;
        if self.guarded() || self.operators.is_some() {
            let login = text(AUTHORIZATION);
            let (scheme, rest) = login.split_once(' ').unwrap_or((login, ""));
            let given = SecretText::new(match scheme.to_ascii_lowercase().as_str() {
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
            });
            let given = given.reveal();
            let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
            // All of them, always: the time tells nothing but lengths.
            let [good, operates] = [0, 1].map(|kind: usize| {
                let same =
                    |good, token: &SecretText| good | token.reveal().as_bytes().ct_eq(given.as_bytes());
                bool::from(tokens[kind].iter().fold(subtle::Choice::from(0), same))
            });
            if good || operates {
                shown = Some((format!("token:{}", &digest::sha256(given.as_bytes())[..16]), operates));
            } else if self.guarded() && !trusted {
                return Err(Refusal::Token);
            }
        }
        let over_tcp = !matches!(caller, Caller::User(_));
        if shown.is_none() && over_tcp && !names_an_address(text(HOST)) {
            return Err(Refusal::Host);
        }
        // A browser says which page has sent it; where it says nothing it is our own, or no browser.
        let ours = |origin: &str| {
            origin.split_once("://").is_some_and(|(_, host)| host.eq_ignore_ascii_case(text(HOST)))
        };
        if headers.contains_key(ORIGIN) && !ours(text(ORIGIN)) {
            return Err(Refusal::Origin);
        }
        let kind = text(CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if changes && kind != "application/json" {
            return Err(Refusal::Type);
        }
        let (known, operator) = (trusted || shown.is_some(), shown.as_ref().is_some_and(|shown| shown.1));
        let claimant = match (caller, shown) {
            (Caller::User(_), _) if trusted => Claimant::Operator(caller.peer()),
            (Caller::At(_) | Caller::Near(_), Some((token, _))) => Claimant::Peer(token),
            _ => Claimant::Peer(caller.peer()),
        };
        Ok(Admission { claimant, operator: operator || trusted, known, origin: caller.origin() })
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
        authorization.admit(Caller::At("127.0.0.1:9".parse().unwrap()), &headers, changes).map(drop)
    }

    #[test]
    fn a_token_opens_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tokens");
        std::fs::write(&file, "\n old \nnew\n").unwrap();
        let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&file, mode(0o604)).unwrap();
        let refused = Authorization::new(Some(&file), None).map(|_| ()).unwrap_err();
        assert!(refused.status == Status::BadConfig && refused.to_string().contains(": others may read"));
        std::fs::set_permissions(&file, mode(0o600)).unwrap();
        let authorization = Authorization::new(Some(&file), None).unwrap();
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
        let authorization = Authorization::new(None, None).unwrap();
        assert_eq!(admit(&authorization, &[("host", "127.0.0.1:4320")], false), Ok(()));
        assert_eq!(admit(&authorization, &[("host", "evil.example")], false), Err(Refusal::Host));
        assert_eq!(admit(&authorization, &[], false), Err(Refusal::Host));
        for (origin, outcome) in [
            ("http://127.0.0.1:4320", Ok(())),
            ("https://127.0.0.1:4320", Ok(())),
            ("http://127.0.0.1:80", Err(Refusal::Origin)),
            ("http://evil.example", Err(Refusal::Origin)),
            ("null", Err(Refusal::Origin)),
            ("", Err(Refusal::Origin)),
        ] {
            let fields = [("host", "127.0.0.1:4320"), ("origin", origin)];
            assert_eq!(admit(&authorization, &fields, false), outcome, "{origin}");
        }
    }

    #[test]
    fn a_user_of_this_machine_is_who_the_kernel_says() {
        let dir = tempfile::tempdir().unwrap();
        let (file, operators) = (dir.path().join("tokens"), dir.path().join("operators"));
        std::fs::write(&file, "good").unwrap();
        std::fs::write(&operators, "breaker").unwrap();
        for path in [&file, &operators] {
            let only_ours = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(path, only_ours).unwrap();
        }
        let guarded = Authorization::new(Some(&file), Some(&operators)).unwrap();
        let by = |authorization: &Authorization, uid: u32, token: &str| {
            let login = format!("Bearer {token}").parse().unwrap();
            let headers = [(hyper::header::AUTHORIZATION, login)].into_iter().collect();
            authorization.admit(Caller::User(uid), &headers, false)
        };
        let stranger = user::own_uid() + 4321;
        assert_eq!(by(&guarded, stranger, ""), Err(Refusal::Token));
        let admitted = by(&guarded, stranger, "good").unwrap();
        assert_eq!(admitted.claimant, Claimant::Peer(format!("uid:{stranger}")));
        assert!(admitted.known && !admitted.operator);
        assert!(by(&guarded, stranger, "breaker").unwrap().operator);
        let root = by(&guarded, 0, "").unwrap();
        assert_eq!(root.claimant, Claimant::Operator("uid:0".to_owned()));
        assert!(root.known && root.operator);
        let open = by(&Authorization::new(None, None).unwrap(), stranger, "").unwrap();
        assert!(!open.known && !open.operator);
    }
}
