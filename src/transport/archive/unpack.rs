//! Archives that cannot be read in place: compressed ones, and those that come through a pipe.

use std::collections::BTreeMap;
use std::io::{BufReader, Cursor, Read};

use bytes::Bytes;

use super::members::{Member, Members, not_an_archive};
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::layer;
use crate::oci::{Descriptor, Digest, MediaType};
use crate::store::Store;
use crate::transport::assemble::LARGEST_DOCUMENT;

/// Puts large members into the store, where unused ones are pruned, and holds small ones.
pub(super) fn unpack<R: Read + Send>(
    mut stream: R,
    store: &Store,
) -> Result<BTreeMap<String, Member>> {
    let mut start = Vec::new();
    (&mut stream).take(4).read_to_end(&mut start).cannot(|| "look at its first bytes")?;
    let compression = layer::detect(&start);
    let whole = BufReader::with_capacity(256 << 10, Cursor::new(start).chain(stream));
    let mut archive = tar::Archive::new(layer::decompress(compression, whole)?);
    let mut members = Members::default();
    for entry in archive.entries().cannot(|| "list its members")? {
        let mut entry = entry.map_err(|error| not_an_archive(&error))?;
        if let Some(name) = members.begin(&entry)? {
            let size = entry.size();
            let member = take(&name, size, &mut entry, store)
                .cannot(|| format!("read member {}", name.escape_debug()))?;
            members.put(name, member);
        }
    }
    members.finish()
}

fn take(name: &str, size: u64, content: &mut dyn Read, store: &Store) -> Result<Member> {
    if is_description(name) && size <= LARGEST_DOCUMENT {
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        content.take(size).read_to_end(&mut bytes).cannot(|| "read its content")?;
        return Ok(Member::Held(Bytes::from(bytes)));
    }
    let mut ingest = store.ingest()?;
    let copied = std::io::copy(content, &mut ingest).cannot(|| "unpack it")?;
    if copied != size {
        return Err(Error::new(ErrorKind::Corrupt, "unpack it").because("the archive ends early"));
    }
    let claimed = claimed_digest(name);
    // The type of content does not matter for the store.
    let claimed = claimed.map(|digest| Descriptor::new(MediaType::OCI_LAYER, digest, size));
    let (digest, _) = ingest.commit(claimed.as_ref())?;
    Ok(Member::Stored(digest, size))
}

/// Whether a member describes others.
fn is_description(name: &str) -> bool {
    matches!(name.rsplit_once('.'), Some((_, "json")))
        || matches!(name, "oci-layout" | "repositories")
}

/// The digest that a member's name claims: `blobs/sha256/<hex>`.
pub(super) fn claimed_digest(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}
