//! TLS by rustls with ring; trust in a given bundle, the system's bundle, or Mozilla's roots; and our own
//! certificate, for servers that want one.

use super::certificate;
use crate::sys::secret::SecretText;
use crate::sys::trust;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use crate::words::failure::{Class, Failure};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::sign;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, InconsistentKeys, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Where Linux systems and macOS keep the bundle that curl trusts.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const BUNDLE_LIMIT: u64 = 16 * 1024 * 1024;
const KEY_LIMIT: u64 = 64 * 1024;

/// Whom a client trusts, and what it shows of itself; set up at the first use, then shared.
#[derive(Clone, Default)]
pub struct Trust {
    kind: Kind,
    identity: Option<Arc<ClientIdentity>>,
    /// With the client's certificate, and without.
    configs: Arc<[OnceLock<Config>; 2]>,
}

type Config = std::result::Result<Arc<ClientConfig>, String>;

#[derive(Clone, Default)]
enum Kind {
    #[default]
    System,
    Only(Arc<Named>),
    Anybody,
}

/// The certificates of a file.
struct Named {
    roots: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
}

/// A client's own certificate, with those that lead to its authority, and its key.
struct ClientIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Trust")
    }
}

impl Trust {
    /// Trusts the certificates of this PEM file and no others, as curl's `--cacert`: those that they have
    /// signed, and each of them itself.
    ///
    /// # Errors
    /// A file that cannot be read (66, 74, 77), holds no certificate (65), or that others can change (78).
    pub fn only(path: &Path) -> Result<Trust> {
        let doing = format!("cannot read certificates from '{}'", path.display());
        let (certificates, roots) = certificates(&doing, &pem(&doing, path)?)?;
        let kind = Kind::Only(Arc::new(Named { roots, certificates }));
        Ok(Trust { kind, ..Trust::default() })
    }

    /// Trusts anybody, as curl's `--insecure`.
    pub fn anybody() -> Trust {
        Trust { kind: Kind::Anybody, ..Trust::default() }
    }

    /// Shows the certificates of a PEM file to a server that asks for one, with the key in another, or in the
    /// same.
    ///
    /// # Errors
    /// As `only` for the certificates and as `SecretText::read` for the key; 65 for a key that is none or
    /// that belongs to another certificate.
    pub fn with_identity(self, certificate: &Path, key: Option<&Path>) -> Result<Trust> {
        let doing = format!("cannot read a certificate from '{}'", certificate.display());
        let pem = pem(&doing, certificate)?;
        let (chain, _) = certificates(&doing, &pem)?;
        let path = key.unwrap_or(certificate);
        let doing = format!("cannot read a key from '{}'", path.display());
        if key.is_none() && !pem.windows(KEY_MARK.len()).any(|mark| mark == KEY_MARK) {
            let why = "no PEM private key in it; --key names a file of one";
            return Err(Error::new(Status::Malformed, format!("{doing}: {why}")));
        }
        let text = SecretText::read(&doing, path, KEY_LIMIT)?;
        let wrong = |why: &str| Error::new(Status::Malformed, format!("{doing}: {why}"));
        let key = PrivateKeyDer::from_pem_slice(text.reveal().as_bytes())
            .map_err(|_| wrong("no PEM private key in it that is not encrypted"))?;
        let key = sign::any_supported_type(&key).map_err(|_| wrong("its kind is not known"))?;
        let pair = CertifiedKey::new(chain.clone(), Arc::clone(&key));
        if pair.keys_match() == Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) {
            return Err(wrong("it is not that of the certificate"));
        }
        let identity = Some(Arc::new(ClientIdentity { chain, key }));
        Ok(Trust { identity, configs: Arc::default(), ..self })
    }

    /// How to speak with a server; with our own certificate only if it may see that.
    pub(super) fn config(&self, own: bool) -> std::result::Result<Arc<ClientConfig>, Failure> {
        let make = || self.build(own).map(Arc::new).map_err(|cause| cause.to_string());
        let made = self.configs[usize::from(own)].get_or_init(make).clone();
        made.map_err(|why| Failure::new(Class::Tls, format!("tls: {why}")))
    }

    fn build(&self, own: bool) -> std::result::Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match &self.kind {
            Kind::Only(named) => {
                let judge =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(named.roots.clone()), provider);
                let judge = judge.build().map_err(|cause| rustls::Error::General(cause.to_string()))?;
                let verifier = NamedVerifier { judge, certificates: named.certificates.clone() };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            Kind::System => builder.with_root_certificates(system_roots()?),
            Kind::Anybody => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            }
        };
        Ok(match self.identity.as_ref().filter(|_| own) {
            Some(identity) => {
                let pair = CertifiedKey::new(identity.chain.clone(), Arc::clone(&identity.key));
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
            }
            None => builder.with_no_client_auth(),
        })
    }
}

fn pem(doing: &str, path: &Path) -> Result<Vec<u8>> {
    trust::read_setting(path, BUNDLE_LIMIT).map_err(|cause| trust::told(doing.to_owned(), &cause))
}

/// What the first line of every private key ends with.
const KEY_MARK: &[u8] = b"PRIVATE KEY-----";

/// The certificates of a PEM file, and those of them that can be roots.
fn certificates(doing: &str, pem: &[u8]) -> Result<(Vec<CertificateDer<'static>>, RootCertStore)> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem).flatten().collect();
    let roots = roots(pem);
    if roots.is_empty() {
        return Err(Error::new(Status::Malformed, format!("{doing}: no PEM certificate in it")));
    }
    Ok((certificates, roots))
}

fn roots(pem: &[u8]) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten());
    store
}

fn system_roots() -> std::result::Result<RootCertStore, rustls::Error> {
    let read = |path: &Path| trust::read_setting(path, BUNDLE_LIMIT);
    let named = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
    if let Some(path) = &named {
        match read(path) {
            Ok(pem) => match roots(&pem) {
                store if store.is_empty() => {}
                store => return Ok(store),
            },
            // Whoever has named it is told, not given others in its place.
            Err(cause) if trust::is_distrust(&cause) => {
                return Err(rustls::Error::General(format!("SSL_CERT_FILE is not used: {cause}")));
            }
            Err(_) => {}
        }
    }
    let bundles = SYSTEM_BUNDLES.iter().filter_map(|path| read(Path::new(path)).ok());
    let found = bundles.map(|pem| roots(&pem)).find(|store| !store.is_empty());
    Ok(found.unwrap_or_else(|| RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }))
}

/// Takes what the named certificates have signed, and each of them itself.
#[derive(Debug)]
struct NamedVerifier {
    judge: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for NamedVerifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        match self.judge.verify_server_cert(shown, between, host, ocsp, now) {
            Err(_) if self.certificates.contains(shown) => {
                certificate::check(shown, host, now).map(|()| ServerCertVerified::assertion())
            }
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

/// Takes every certificate, whatever it is and whether or not it can be read. Signatures are not checked: who
/// stands in between has a certificate of his own, so that it would prove nothing.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
