//! A certificate authority and a server certificate, made anew by openssl.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::need::{Need, program, run};

/// Files in one folder: an authority that no machine knows, and a certificate that it signed for
/// `127.0.0.1`, `::1` and `localhost`.
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes keys and certificates in a folder.
    pub fn make(folder: &Path) -> Need<Self> {
        let openssl = program("openssl")?;
        fs::create_dir_all(folder).unwrap();
        let made = Self { folder: folder.to_owned() };
        let path = |name: &str| made.path(name).to_str().expect("a UTF-8 path").to_owned();
        let names = "subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost\nbasicConstraints=CA:FALSE\n";
        fs::write(path("names"), names).unwrap();
        let (authority, authority_key) = (path("ca.crt"), path("ca.key"));
        let (request, key) = (path("server.csr"), path("server.key"));
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let own = ["req", "-x509", "-days", "3650", "-subj", "/CN=gondola test authority"];
        let files = ["-keyout", &authority_key, "-out", &authority];
        run(&openssl, &[own.as_slice(), &curve, &files].concat());
        let asked = ["req", "-subj", "/CN=gondola test server", "-keyout", &key, "-out", &request];
        run(&openssl, &[asked.as_slice(), &curve].concat());
        let sign = ["x509", "-req", "-days", "3650", "-in", &request, "-CA", &authority];
        let (names, certificate) = (path("names"), path("server.crt"));
        let rest = ["-CAkey", &authority_key, "-extfile", &names, "-out", &certificate];
        run(&openssl, &[sign.as_slice(), &["-CAcreateserial"], &rest].concat());
        Ok(made)
    }

    /// The authority's certificate, which a client must be told of.
    pub fn authority(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// The server's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.path("server.crt")
    }

    /// The server's private key.
    pub fn key(&self) -> PathBuf {
        self.path("server.key")
    }

    /// A TLS server's settings with this certificate.
    pub fn server_config(&self) -> Arc<rustls::ServerConfig> {
        let chain = CertificateDer::pem_file_iter(self.certificate()).unwrap();
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(self.key()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Arc::new(config)
    }

    /// Has the authority sign a certificate of somebody who asks, and writes `NAME.cert` and `NAME.key` to a
    /// folder. `version_1` has it without any extension; of negative `days` it has expired.
    pub fn sign(&self, folder: &Path, name: &str, (version_1, days): (bool, i32)) -> Need<()> {
        let openssl = program("openssl")?;
        fs::create_dir_all(folder).unwrap();
        let at = |name: &str| folder.join(name).to_str().expect("a UTF-8 path").to_owned();
        let (request, key) = (at("request"), at(&format!("{name}.key")));
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let asked = ["req", "-subj", "/CN=somebody", "-keyout", &key, "-out", &request];
        run(&openssl, &[asked.as_slice(), &curve].concat());
        fs::write(at("extensions"), "basicConstraints=CA:FALSE\n").unwrap();
        let (authority, authority_key) = (self.authority(), self.path("ca.key"));
        let authority = authority.to_str().expect("a UTF-8 path");
        let authority_key = authority_key.to_str().expect("a UTF-8 path");
        let (days, signed) = (days.to_string(), at(&format!("{name}.cert")));
        let sign = ["x509", "-req", "-days", &days, "-in", &request, "-CA", authority];
        let sign = [&sign[..], &["-CAkey", authority_key, "-set_serial", "7"], &["-out", &signed]];
        let extensions = at("extensions");
        let extensions = ["-extfile", &extensions];
        let more = if version_1 { &[][..] } else { &extensions[..] };
        run(&openssl, &[&sign.concat()[..], more].concat());
        for scratch in ["request", "extensions"] {
            fs::remove_file(folder.join(scratch)).unwrap();
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
