//! Files of certificates and keys, as PEM.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::disk;
use crate::error::{Cannot as _, Error, ErrorKind, Result};

/// The longest file of certificates: bundles of all authorities have some hundred kilobytes.
pub(super) const LARGEST_FILE: u64 = 16 << 20;

/// How DER begins that has certificates and keys in it.
const SEQUENCE: u8 = 0x30;

/// Whether a file has DER in it, where PEM is expected.
pub(super) fn is_binary(bytes: &[u8]) -> bool {
    bytes.first() == Some(&SEQUENCE)
}

/// Says that a file has no certificate.
pub(super) fn without_certificate(file: &Path) -> Error {
    Error::new(ErrorKind::Invalid, format!("read {}", file.display()))
        .because("there is no certificate in it")
}

/// The certificates in a file.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let action = || format!("read certificates from {}", file.display());
    let text = disk::read(file, LARGEST_FILE).cannot(action)?;
    if is_binary(&text) {
        return Err(Error::new(ErrorKind::Invalid, action())
            .because("it is binary, expected PEM")
            .hint(format!(
                "openssl x509 -inform DER -in {0} -out {0}.pem, and use that file",
                file.display()
            )));
    }
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    all.map_err(|error| Error::new(ErrorKind::Invalid, action()).because(error))
}
