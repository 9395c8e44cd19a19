//! Content addresses, and readers that refuse to end on the wrong content.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};

use crate::error::{Error, ErrorKind, Result};

/// A content address such as `sha256:6c3c62…`: always SHA-256 or SHA-512, lower-case hexadecimal.
///
/// See "Digests" in the [descriptor specification][spec].
///
/// [spec]: https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Box<str>);

impl Digest {
    /// Computes the SHA-256 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The whole digest, `sha256:<hex>`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the colon.
    pub fn algorithm(&self) -> &str {
        self.0.split_once(':').expect("checked at construction").0
    }

    /// The part after the colon.
    pub fn hex(&self) -> &str {
        self.0.split_once(':').expect("checked at construction").1
    }

    /// The first twelve hexadecimal digits, for people.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fail = |why: String| {
            Error::new(ErrorKind::Invalid, format!("read digest \"{}\"", text.escape_debug()))
                .because(why)
        };
        let parsed: oci_spec::image::Digest = text.parse().map_err(|_| {
            fail("expected \"sha256:\" and 64 lower-case hexadecimal digits".to_owned())
        })?;
        match parsed.algorithm().as_ref() {
            "sha256" | "sha512" => Ok(Self(text.into())),
            other => Err(fail(format!("found algorithm {other}, expected sha256 or sha512"))),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes a digest over bytes that arrive in pieces.
#[derive(Clone)]
pub struct Hasher(Algorithm);

#[derive(Clone)]
enum Algorithm {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hasher {
    /// Starts a SHA-256 digest.
    pub fn new() -> Self {
        Self(Algorithm::Sha256(Sha256::new()))
    }

    /// Starts a digest of the same algorithm as `expected`.
    pub fn like(expected: &Digest) -> Self {
        match expected.algorithm() {
            "sha512" => Self(Algorithm::Sha512(Box::default())),
            _ => Self::new(),
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Algorithm::Sha256(hasher) => hasher.update(bytes),
            Algorithm::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// Ends the digest.
    pub fn finish(self) -> Digest {
        match self.0 {
            Algorithm::Sha256(hasher) => Digest(encode("sha256:", &hasher.finalize())),
            Algorithm::Sha512(hasher) => Digest(encode("sha512:", &hasher.finalize())),
        }
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

fn encode(prefix: &str, bytes: &[u8]) -> Box<str> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(prefix.len() + 2 * bytes.len());
    text.push_str(prefix);
    for byte in bytes {
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text.into_boxed_str()
}

/// Reads exactly the content that a digest and a size name.
///
/// Where the bytes differ, the last read fails with [`io::ErrorKind::InvalidData`] instead of
/// reporting the end: whoever reads to the end has read the right bytes.
pub struct VerifyingReader<R> {
    inner: R,
    hasher: Option<Hasher>,
    digest: Digest,
    size: u64,
    seen: u64,
}

impl<R: Read> VerifyingReader<R> {
    /// Wraps `inner`, which must yield `size` bytes with the digest `digest`.
    pub fn new(inner: R, digest: Digest, size: u64) -> Self {
        let hasher = Some(Hasher::like(&digest));
        Self { inner, hasher, digest, size, seen: 0 }
    }

    fn check_end(&mut self) -> io::Result<()> {
        if self.seen != self.size {
            return Err(self.mismatch(&format!("{} bytes", self.seen), &self.size.to_string()));
        }
        // A reader that was already at its end stays there.
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let found = hasher.finish();
        if found == self.digest {
            return Ok(());
        }
        Err(self.mismatch(&format!("digest {found}"), self.digest.as_str()))
    }

    fn mismatch(&self, found: &str, expected: &str) -> io::Error {
        let message = format!("content of {} has {found}, expected {expected}", self.digest);
        io::Error::new(io::ErrorKind::InvalidData, message)
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        self.seen += count as u64;
        if self.seen > self.size {
            return Err(self.mismatch("more bytes", &self.size.to_string()));
        }
        if count == 0 {
            self.check_end()?;
        } else if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_checked_at_construction() {
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(good.parse::<Digest>().unwrap().as_str(), good);
        for bad in [
            "",
            "sha256",
            "sha256:",
            "sha256:zz",
            &format!("sha256:{}", "0A".repeat(32)),
            &format!("sha256:{}", "0a".repeat(31)),
            &format!("md5:{}", "0a".repeat(16)),
            &format!("sha384:{}", "0a".repeat(48)),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn known_digests() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), empty);
    }

    #[test]
    fn a_verifying_reader_ends_only_on_the_right_content() {
        let read = |bytes: &[u8], digest: Digest, size: u64| {
            let mut out = Vec::new();
            VerifyingReader::new(bytes, digest, size).read_to_end(&mut out).map(|_| out)
        };
        let digest = Digest::of(b"hello");
        assert_eq!(read(b"hello", digest.clone(), 5).unwrap(), b"hello");
        for (bytes, size) in [(&b"hello!"[..], 5), (b"hell", 5), (b"hellO", 5), (b"hello", 6)] {
            let error = read(bytes, digest.clone(), size).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains("expected"), "{error}");
        }
    }

    #[test]
    fn sha512_content_is_verified_with_sha512() {
        let mut hasher = Hasher(Algorithm::Sha512(Box::default()));
        hasher.update(b"hello");
        let digest = hasher.finish();
        let mut out = Vec::new();
        VerifyingReader::new(&b"hello"[..], digest, 5).read_to_end(&mut out).unwrap();
    }
}
