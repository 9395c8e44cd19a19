//! Our own certificate, which a registry may ask for, and its key.
//!
//! Certificates of the first version of X.509 are shown as they are: `openssl x509 -req` makes them, and
//! registries take them. So nothing is read of a certificate here but its key and how long it counts.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};

use super::pem::{LARGEST_FILE, certificates, is_binary, without_certificate};
use crate::disk;
use crate::error::{Cannot as _, Error, ErrorKind, Result};

/// The tags of DER that certificates have.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// A certificate with its key.
#[derive(Debug)]
pub(super) struct ClientCertificate {
    certified: CertifiedKey,
    /// How long it counts.
    until: Option<i64>,
}

impl ClientCertificate {
    /// Reads a certificate, with those of its issuers, and its key.
    pub(super) fn read(file: &Path, key_file: &Path, provider: &CryptoProvider) -> Result<Self> {
        let chain = certificates(file)?;
        let Some(own) = chain.first() else { return Err(without_certificate(file)) };
        let action = || format!("use the certificate {}", file.display());
        let facts = Facts::of(own).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, action()).because("it is no X.509 certificate")
        })?;
        let until = facts.until;
        let key = read_key(file, key_file, provider)?;
        if key.public_key().is_some_and(|public| public.as_ref() != facts.public_key) {
            return Err(Error::new(ErrorKind::Invalid, action())
                .because(format!("{} is the key of another certificate", key_file.display()))
                .hint("put the key there that the certificate was asked for with"));
        }
        Ok(Self { certified: CertifiedKey::new(chain, key), until })
    }

    /// What shows it to whoever asks.
    pub(super) fn resolver(self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(self.certified))
    }

    /// Errs where it does not count any more.
    pub(super) fn check_time(&self, file: &Path) -> Result<()> {
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        let Some(until) = self.until.filter(|until| *until < now) else { return Ok(()) };
        let until = jiff::Timestamp::from_second(until).unwrap_or_default();
        Err(Error::new(ErrorKind::Invalid, format!("use the certificate {}", file.display()))
            .because(format!("it expired at {until}"))
            .hint("have it renewed by whoever signed it"))
    }
}

/// Makes sure that a certificate can be shown with a key.
pub fn check_client_certificate(certificate: &Path, key: &Path) -> Result<()> {
    let provider = rustls::crypto::ring::default_provider();
    ClientCertificate::read(certificate, key, &provider)?.check_time(certificate)
}

fn read_key(file: &Path, path: &Path, provider: &CryptoProvider) -> Result<Arc<dyn SigningKey>> {
    let failed = || Error::new(ErrorKind::Invalid, format!("read {}", path.display()));
    let bytes = match disk::read(path, LARGEST_FILE) {
        Err(error) if disk::is_absence(&error) => {
            return Err(Error::new(ErrorKind::NotFound, format!("read {}", path.display()))
                .because(format!("there is no such file, expected the key of {}", file.display()))
                .hint("put the key there, as PEM and without a passphrase"));
        }
        bytes => bytes.cannot(|| format!("read {}", path.display()))?,
    };
    let text = String::from_utf8_lossy(&bytes);
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(failed()
            .because("the key is encrypted, and nobody is asked for its passphrase")
            .hint(format!(
                "openssl pkey -in {0} -out {0}.plain, and use that file",
                path.display()
            )));
    }
    if is_binary(&bytes) {
        return Err(failed().because("it is binary, expected PEM").hint(format!(
            "openssl pkey -inform DER -in {0} -out {0}.pem, and use that file",
            path.display()
        )));
    }
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        failed()
            .because("there is no private key in it")
            .hint(format!("put the key of {} there, as PEM", file.display()))
    })?;
    provider.key_provider.load_private_key(key).map_err(|error| {
        failed()
            .because(format!("the key cannot be used: {error}"))
            .hint("take an RSA key of 2048 bits or more, a P-256, P-384 or an Ed25519 key")
    })
}

/// What is read of a certificate.
struct Facts<'a> {
    /// The whole field that its key is in.
    public_key: &'a [u8],
    /// The last second in which it counts, since 1970.
    until: Option<i64>,
}

impl<'a> Facts<'a> {
    /// Reads a certificate: a sequence whose first member has a version, a number, the signature's kind, the
    /// issuer, the times, the subject, the key. The first of these is left out in the first version.
    fn of(certificate: &'a CertificateDer<'_>) -> Option<Self> {
        let mut whole = Der(certificate.as_ref()).next(SEQUENCE)?;
        let mut signed = whole.next(SEQUENCE)?;
        if signed.0.first() == Some(&VERSION) {
            signed.any()?;
        }
        signed.any()?;
        signed.any()?;
        signed.any()?;
        let mut times = signed.next(SEQUENCE)?;
        signed.any()?;
        times.any()?;
        let (kind, until) = times.any()?;
        let before = signed.0;
        signed.next(SEQUENCE)?;
        let public_key = &before[..before.len() - signed.0.len()];
        Some(Self { public_key, until: seconds(kind, until.0) })
    }
}

/// Values in DER, one behind the other.
struct Der<'a>(&'a [u8]);

impl Der<'_> {
    /// The next value, which has this tag.
    fn next(&mut self, tag: u8) -> Option<Self> {
        self.any().filter(|(found, _)| *found == tag).map(|(_, value)| value)
    }

    /// The next value and its tag.
    fn any(&mut self) -> Option<(u8, Self)> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first & 0x7f);
        if first & 0x80 != 0 {
            // Files are no longer than four bytes say.
            let (bytes, after) = (length <= 4).then(|| rest.split_at_checked(length))??;
            length = bytes.iter().fold(0, |all, byte| (all << 8) | usize::from(*byte));
            rest = after;
        }
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, Self(value)))
    }
}

/// A time of a certificate, in seconds since 1970.
fn seconds(kind: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match kind {
        // As RFC 5280 has it: the century is the nearer one.
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    jiff::tz::Offset::UTC.to_timestamp(time).ok().map(jiff::Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_their_century() {
        for (kind, text, expected) in [
            (UTC_TIME, "700101000001Z", Some(1)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (UTC_TIME, "7001010000Z", None),
            (SEQUENCE, "700101000001Z", None),
        ] {
            assert_eq!(seconds(kind, text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_none() {
        for bytes in [&b""[..], b"0", b"0\x03", b"0\x840000", b"\x30\x02\x30\x00", b"\x31\x00"] {
            assert!(Facts::of(&CertificateDer::from(bytes.to_vec())).is_none(), "{bytes:?}");
        }
    }
}
