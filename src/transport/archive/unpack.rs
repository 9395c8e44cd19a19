//! Archives that cannot be read in place: compressed ones, and those that come through a pipe.

use std::collections::BTreeMap;
use std::io::{BufReader, Cursor, Read, Write};

use bytes::Bytes;

use super::members::{Member, Members};
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::layer::{self, ArchiveReader, Limits};
use crate::oci::{Descriptor, LARGEST_DOCUMENT, MediaType};
use crate::store::Store;
use crate::transport::entries::claimed_digest;
use crate::transport::watch::Watch;

/// How much is read at once.
const PIECE: usize = 256 << 10;

/// How many bytes tell how an archive is compressed.
pub(super) const LOOK: u64 = 6;

/// Refuses an archive that is compressed in a way that is not read here.
pub(super) fn check_compression(start: &[u8]) -> Result<()> {
    let program = match start {
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => "bzip2",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::Unsupported, "unpack it")
        .because(format!("it is compressed with {program}; gzip, zstd and plain archives are read"))
        .hint(format!("unpack it before: {program} -d FILE")))
}

/// Puts large members into the store, where unused ones are pruned, and holds small ones.
pub(super) fn unpack<R: Read + Send>(
    mut stream: R,
    store: &Store,
    watch: &Watch,
) -> Result<BTreeMap<String, Member>> {
    let mut start = Vec::new();
    (&mut stream).take(LOOK).read_to_end(&mut start).cannot(|| "look at its first bytes")?;
    check_compression(&start)?;
    let compression = layer::detect(&start);
    let whole = BufReader::with_capacity(PIECE, Cursor::new(start).chain(stream));
    let mut archive = ArchiveReader::new(layer::decompress(compression, whole)?, Limits::default());
    let mut members = Members::default();
    while let Some(entry) = archive.next_entry()? {
        if let Some(name) = members.begin(&entry)? {
            let member = take(&name, entry.size, &mut archive, store, watch)
                .cannot(|| format!("read member {}", name.escape_debug()))?;
            members.put(name, member);
        }
    }
    members.finish()
}

fn take<R: Read>(
    name: &str,
    size: u64,
    content: &mut ArchiveReader<R>,
    store: &Store,
    watch: &Watch,
) -> Result<Member> {
    let mut buffer = vec![0; PIECE];
    if is_description(name) && size <= LARGEST_DOCUMENT {
        let mut bytes = Vec::new();
        loop {
            match content.read_content(&mut buffer)? {
                0 => return Ok(Member::InMemory(Bytes::from(bytes))),
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        }
    }
    let mut ingest = store.ingest()?;
    loop {
        watch.check()?;
        let count = content.read_content(&mut buffer)?;
        if count == 0 {
            break;
        }
        ingest.write_all(&buffer[..count]).cannot(|| "unpack it")?;
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
