//! Whom a TLS connection trusts: the machine's authorities, and those that `certs.d` names for one
//! registry.
//!
//! ```text
//! certs.d/registry.example.com:5000/ca.crt        an authority (or the registry's own certificate)
//!                                   client.cert   our certificate
//!                                   client.key    its key
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::client_certificate::ClientCertificate;
use super::folder::{files_in, has_extension};
use super::pem::{certificates, without_certificate};
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::oci::docker_hub;

/// Where systems keep the authorities that they trust, in one file.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whom a connection trusts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trust {
    /// No certificate is looked at: there is no TLS.
    Nobody,
    /// Every certificate: the user allowed it for this host.
    Anybody,
    /// Whom the machine trusts.
    Public,
    /// Whom the machine trusts, and what these folders name.
    Private(Vec<PathBuf>),
}

/// The TLS settings for `trust`. `SSL_CERT_FILE` and `SSL_CERT_DIR` of the environment replace the
/// machine's authorities.
pub(super) fn config(
    trust: &Trust,
    environment: &BTreeMap<String, String>,
) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Network, "set up TLS").caused_by(error))?;
    let folders = match trust {
        Trust::Nobody => {
            let nobody = RootCertStore::empty();
            return Ok(builder.with_root_certificates(nobody).with_no_client_auth());
        }
        Trust::Anybody => None,
        Trust::Public => Some(&[][..]),
        Trust::Private(folders) => Some(folders.as_slice()),
    };
    let mut certificate = None;
    let verifier: Arc<dyn ServerCertVerifier> = match folders {
        None => Arc::new(NoVerifier(provider)),
        Some(folders) => {
            let mut listed = Vec::new();
            for folder in folders {
                listed.extend(authorities(folder)?);
                certificate = certificate.or(client_certificate(folder, &provider)?);
            }
            Arc::new(Verifier::new(provider, listed, environment.clone())?)
        }
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(certificate) => builder.with_client_cert_resolver(certificate.resolver()),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The folders of `directories` that are about a host.
pub(super) fn folders_for(directories: &[PathBuf], host: &str) -> Vec<PathBuf> {
    // Docker Hub is served under another name than the one that people know.
    let names = if host == docker_hub::HOST { vec![host, docker_hub::NAME] } else { vec![host] };
    let all = directories.iter().flat_map(|at| names.iter().map(move |name| at.join(name)));
    all.filter(|folder| folder.is_dir()).collect()
}

/// Accepts a certificate that a listed authority signed, or that is listed itself, or that one of
/// the machine's authorities signed.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    listed: Vec<CertificateDer<'static>>,
    private: Option<Arc<WebPkiServerVerifier>>,
    environment: BTreeMap<String, String>,
    /// Read when the first certificate needs it: it takes milliseconds.
    public: OnceLock<Result<Arc<WebPkiServerVerifier>, rustls::Error>>,
}

impl Verifier {
    fn new(
        provider: Arc<CryptoProvider>,
        listed: Vec<CertificateDer<'static>>,
        environment: BTreeMap<String, String>,
    ) -> Result<Self> {
        let private = if listed.is_empty() {
            None
        } else {
            let verifier = webpki(&provider, listed.clone());
            Some(verifier.cannot(|| "use the authorities in certs.d")?)
        };
        Ok(Self { provider, listed, private, environment, public: OnceLock::new() })
    }

    fn public(&self) -> Result<&Arc<WebPkiServerVerifier>, rustls::Error> {
        let read = || {
            let roots = machine_authorities(&self.environment)
                .map_err(|error| rustls::Error::General(error.to_string()))?;
            webpki(&self.provider, roots)
        };
        self.public.get_or_init(read).as_ref().map_err(Clone::clone)
    }

    /// A registry's own certificate, made by hand, often claims to be an authority, which WebPKI
    /// does not accept of a server. Being listed is enough, for the names that it has.
    fn is_listed(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
    ) -> Result<bool, rustls::Error> {
        if !self.listed.iter().any(|listed| listed.as_ref() == certificate.as_ref()) {
            return Ok(false);
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        Ok(true)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.is_listed(certificate, name)? {
            return Ok(ServerCertVerified::assertion());
        }
        if let Some(private) = &self.private {
            match private.verify_server_cert(certificate, chain, name, ocsp, now) {
                Err(error) if is_unknown_issuer(&error) => {}
                decided => return decided,
            }
        }
        let public = self.public()?;
        public.verify_server_cert(certificate, chain, name, ocsp, now).map_err(|error| {
            if is_unknown_issuer(&error) {
                return rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
            }
            error
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Accepts every certificate; the handshake must still be signed with its key.
#[derive(Debug)]
struct NoVerifier(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether a certificate is signed by an unknown issuer. A certificate that signed itself and claims to
/// be an authority is one of these.
fn is_unknown_issuer(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            format!("{other:?}").contains("CaUsedAsEndEntity")
        }
        _ => false,
    }
}

fn webpki(
    provider: &Arc<CryptoProvider>,
    certificates: Vec<CertificateDer<'static>>,
) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    // Systems list certificates that WebPKI finds fault with; the others are good all the same.
    roots.add_parsable_certificates(certificates);
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))
}

/// The authorities that the machine trusts; where it has no list, the one that gondola carries.
fn machine_authorities(
    environment: &BTreeMap<String, String>,
) -> Result<Vec<CertificateDer<'static>>> {
    let set = |name: &str| environment.get(name).filter(|text| !text.is_empty());
    let (file, folders) = (set("SSL_CERT_FILE"), set("SSL_CERT_DIR"));
    let mut found = Vec::new();
    if let Some(file) = file {
        found.extend(certificates(Path::new(file))?);
    }
    for folder in folders.iter().flat_map(|list| list.split(':')).filter(|at| !at.is_empty()) {
        for file in files_in(Path::new(folder))? {
            // Links to nowhere, keys and read-me files are usual there.
            found.extend(certificates(&file).unwrap_or_default());
        }
    }
    if file.is_some() || folders.is_some() {
        return Ok(found);
    }
    match BUNDLES.iter().map(Path::new).find(|bundle| bundle.is_file()) {
        Some(bundle) => certificates(bundle),
        None => Ok(webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec()),
    }
}

/// The authorities in a folder of `certs.d`.
fn authorities(folder: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let mut found = Vec::new();
    for file in files_in(folder)?.iter().filter(|file| has_extension(file, "crt")) {
        let certificates = certificates(file)?;
        if certificates.is_empty() {
            return Err(without_certificate(file));
        }
        found.extend(certificates);
    }
    Ok(found)
}

/// Makes sure that a file has a certificate that can be trusted.
pub fn check_authority(file: &Path) -> Result<()> {
    if certificates(file)?.is_empty() {
        return Err(without_certificate(file));
    }
    Ok(())
}

/// Our own certificate and key in a folder of `certs.d`.
fn client_certificate(
    folder: &Path,
    provider: &CryptoProvider,
) -> Result<Option<ClientCertificate>> {
    let files = files_in(folder)?;
    let Some(file) = files.into_iter().find(|file| has_extension(file, "cert")) else {
        return Ok(None);
    };
    ClientCertificate::read(&file, &file.with_extension("key"), provider).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_found_by_host_and_port() {
        let folder = tempfile::tempdir().unwrap();
        let at = |rest: &str| folder.path().join(rest);
        for name in ["one/r.io:5000", "two/r.io:5000", "two/r.io", "one/docker.io"] {
            fs_err::create_dir_all(at(name)).unwrap();
        }
        let all = [at("one"), at("two"), at("three")];
        for (host, expect) in [
            ("r.io:5000", vec![at("one/r.io:5000"), at("two/r.io:5000")]),
            ("r.io", vec![at("two/r.io")]),
            ("registry-1.docker.io", vec![at("one/docker.io")]),
            ("other.io", vec![]),
        ] {
            assert_eq!(folders_for(&all, host), expect, "{host}");
        }
    }

    #[test]
    fn certificates_are_read_from_files_alone() {
        let provider = rustls::crypto::ring::default_provider();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.crt");
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
        let error = authorities(folder.path()).unwrap_err().to_string();
        assert!(error.contains("ca.crt: it is a device"), "{error}");
        fs_err::remove_file(&file).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RUSR).unwrap();
        let named = file.display().to_string();
        let named = BTreeMap::from([("SSL_CERT_FILE".to_owned(), named)]);
        let error = machine_authorities(&named).unwrap_err().to_string();
        assert!(error.contains("ca.crt: it is a named pipe"), "{error}");
        fs_err::rename(&file, folder.path().join("client.cert")).unwrap();
        let error = client_certificate(folder.path(), &provider).err().unwrap().to_string();
        assert!(error.contains("client.cert: it is a named pipe"), "{error}");
    }

    #[test]
    fn the_list_that_gondola_carries_is_usable() {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let carried = webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec();
        assert!(carried.len() > 50);
        assert!(webpki(&provider, carried).is_ok());
    }

    #[test]
    fn files_without_certificates_are_named() {
        let provider = rustls::crypto::ring::default_provider();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.crt");
        fs_err::write(&file, "hello").unwrap();
        let error = authorities(folder.path()).unwrap_err().to_string();
        assert!(error.contains("ca.crt: there is no certificate in it"), "{error}");
        fs_err::rename(&file, folder.path().join("client.cert")).unwrap();
        let error = client_certificate(folder.path(), &provider).err().unwrap().to_string();
        assert!(error.contains("client.cert: there is no certificate in it"), "{error}");
        let named = BTreeMap::from([("SSL_CERT_FILE".to_owned(), "/nowhere.pem".to_owned())]);
        let error = machine_authorities(&named).unwrap_err().to_string();
        assert!(error.contains("/nowhere.pem"), "{error}");
    }
}
