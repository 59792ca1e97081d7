//! TLS by rustls with ring; trust in a given bundle, the system's bundle, or Mozilla's roots.

use crate::sys::trust;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use crate::words::failure::{Class, Failure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};
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

/// Whom a client trusts; set up at the first use, then shared.
#[derive(Clone, Default)]
pub struct Trust(Kind, Arc<OnceLock<std::result::Result<Arc<ClientConfig>, String>>>);

#[derive(Clone, Default)]
enum Kind {
    #[default]
    System,
    Only(Arc<RootCertStore>),
    Anybody,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Trust")
    }
}

impl Trust {
    /// Trusts the certificates of this PEM file and no others, as curl's `--cacert`.
    ///
    /// # Errors
    /// A file that cannot be read (66, 74, 77), holds no certificate (65), or that others can change (78).
    pub fn only(path: &Path) -> Result<Trust> {
        let doing = format!("cannot read certificates from '{}'", path.display());
        let pem =
            trust::read_setting(path, BUNDLE_LIMIT).map_err(|cause| trust::told(doing.clone(), &cause))?;
        let store = roots(&pem);
        if store.is_empty() {
            return Err(Error::new(Status::Malformed, format!("{doing}: no PEM certificate in it")));
        }
        Ok(Trust(Kind::Only(Arc::new(store)), Arc::default()))
    }

    /// Trusts anybody, as curl's `--insecure`.
    pub fn anybody() -> Trust {
        Trust(Kind::Anybody, Arc::default())
    }

    fn config(&self) -> std::result::Result<Arc<ClientConfig>, String> {
        self.1.get_or_init(|| self.build().map(Arc::new).map_err(|cause| cause.to_string())).clone()
    }

    fn build(&self) -> std::result::Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        Ok(match &self.0 {
            Kind::Only(store) => builder.with_root_certificates(store.clone()).with_no_client_auth(),
            Kind::System => builder.with_root_certificates(system_roots()?).with_no_client_auth(),
            Kind::Anybody => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
                .with_no_client_auth(),
        })
    }
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

/// A TLS session with `host`.
pub(super) fn session(trust: &Trust, host: &str) -> std::result::Result<ClientConnection, Failure> {
    session_of(trust, host, None)
}

/// The same for another protocol, which is told apart by its name (RFC 7301) if that is given.
pub(super) fn session_of(
    trust: &Trust,
    host: &str,
    alpn: Option<&str>,
) -> std::result::Result<ClientConnection, Failure> {
    let wrong = |why: String| Failure::new(Class::Tls, format!("tls: {why}"));
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| wrong(format!("'{host}' is not a name that a certificate can have")))?;
    let mut config = trust.config().map_err(wrong)?;
    if let Some(alpn) = alpn {
        Arc::make_mut(&mut config).alpn_protocols = vec![alpn.as_bytes().to_vec()];
    }
    ClientConnection::new(config, name).map_err(|cause| wrong(cause.to_string()))
}

/// Takes every certificate; signatures are still checked, so that the session is with whoever presented it.
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
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
