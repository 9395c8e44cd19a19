//! From a tree to a layer in the store: the only place where that is done.

use std::fs::File;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::image::{Blob, BlobLocation, Layer};
use crate::layer::{self, Aids, EarlierLayer, Encoding, LayerInfo, Pieces, Tree, WriteOptions};
use crate::oci::{Descriptor, Digest, MediaType};
use crate::progress::TaskKind;
use crate::store::{Ingest, Store};
use crate::transport::Context;

/// The kind of the store's records that hold layers by the keys of their contents.
const LAYERS: &str = "layer";
/// The kind of the store's records that hold the pieces of the last layer of something.
const PIECES: &str = "layer-pieces";

/// What is remembered of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// How it is compressed, as OCI says it.
    pub media_type: MediaType,
    /// The digest of the blob.
    pub digest: Digest,
    /// How many bytes the blob has.
    pub size: u64,
    /// The digest of the archive in it.
    pub diff_id: Digest,
}

/// What is remembered of a layer that is found by its content, and what it holds, for people.
#[derive(Serialize)]
struct FoundByContent<'a> {
    #[serde(flatten)]
    layer: &'a LayerRecord,
    of: &'a str,
}

/// What is remembered of the last layer of something that is made again and again.
#[derive(Serialize, Deserialize)]
struct LastLayer {
    digest: Digest,
    pieces: Pieces,
}

impl LayerRecord {
    fn of(info: LayerInfo) -> Self {
        Self {
            media_type: MediaType::layer_for(&MediaType::OCI_MANIFEST, info.compression),
            digest: info.digest,
            size: info.size,
            diff_id: info.diff_id,
        }
    }

    /// Whether the layer is in the store.
    pub fn is_in(&self, store: &Store) -> Result<bool> {
        Ok(store.has(&self.digest)? == Some(self.size))
    }

    /// The layer, which is in the store.
    pub fn layer(&self, store: &Store) -> Layer {
        let source = BlobLocation::File(store.blob_path(&self.digest));
        Layer {
            blob: Blob { descriptor: self.descriptor(), source },
            diff_id: self.diff_id.clone(),
        }
    }

    /// What names the blob.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest.clone(), self.size)
    }
}

/// Is told of a layer while it is written. Where it is dropped before, there is no layer.
pub trait Follower: Send + Sync {
    /// So many bytes are there.
    fn written(&self, bytes: u64);

    /// The archive in it was read to its end, and has this digest.
    fn archived(&self, diff_id: &Digest);

    /// The layer is whole, and in the store.
    fn made(&self, digest: &Digest);
}

/// Begins to follow the layer that is written to a file.
pub type Follow<'a> = &'a dyn Fn(File) -> Box<dyn Follower>;

/// How a layer is made where no equal one is there.
#[derive(Clone, Copy, Default)]
pub struct Making<'a> {
    /// Who is told of it meanwhile.
    pub follow: Option<Follow<'a>>,
    /// What it is the layer of, where that is made again and again and differs little from one time to the
    /// next: then what stayed the same is not compressed again.
    pub series: Option<&'a str>,
}

/// Writes to the store, and tells who follows.
struct Followed<'a> {
    ingest: &'a mut Ingest,
    follower: Option<&'a dyn Follower>,
    bytes: u64,
}

impl Write for Followed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.ingest.write(bytes)?;
        self.bytes += count as u64;
        if let Some(follower) = self.follower {
            follower.written(self.bytes);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.ingest.flush()
    }
}

/// Makes layers of trees, and puts them into the store.
#[derive(Clone)]
pub struct Packer {
    /// The store, and the reader of progress.
    pub transport: Context,
    /// How layers are compressed.
    pub encoding: Encoding,
    /// How many threads compress.
    pub threads: usize,
}

impl Packer {
    /// Makes a layer of a tree; `name` is what progress calls it.
    pub fn pack(&self, name: &str, tree: &Tree) -> Result<LayerRecord> {
        Ok(self.pack_beside(name, tree, None, None)?.0)
    }

    fn pack_beside(
        &self,
        name: &str,
        tree: &Tree,
        follow: Option<Follow<'_>>,
        earlier: Option<&EarlierLayer>,
    ) -> Result<(LayerRecord, Pieces)> {
        let Context { store, reporter, .. } = &self.transport;
        let task = reporter.start(TaskKind::Layer, name, Some(tree.content_size()));
        let options = WriteOptions { encoding: self.encoding, threads: self.threads };
        let mut ingest = store.ingest_unhashed()?;
        // Without a second handle nobody reads along, and nothing else changes.
        let follower = follow.and_then(|follow| Some(follow(ingest.shared_file().ok()?)));
        let follower = follower.as_deref();
        let out = Followed { ingest: &mut ingest, follower, bytes: 0 };
        let advance = |bytes| task.advance(bytes);
        let tell = follower.map(|follower| move |diff_id: &Digest| follower.archived(diff_id));
        let on_diff_id = tell.as_ref().map(|tell| tell as &dyn Fn(&Digest));
        let aids = Aids { earlier, on_diff_id };
        let (info, pieces) = layer::write_with(tree, &options, aids, &advance, out)?;
        ingest.commit_as(&info.digest, info.size)?;
        if let Some(follower) = follower {
            follower.made(&info.digest);
        }
        task.done();
        Ok((LayerRecord::of(info), pieces))
    }

    /// The last layer of a series; one without pieces where there is none.
    fn last_of(&self, key: &str) -> EarlierLayer {
        let store = &self.transport.store;
        let open = |last: LastLayer| {
            let file = fs_err::File::open(store.blob_path(&last.digest)).ok()?;
            Some(EarlierLayer::new(file.into_parts().0, last.pieces))
        };
        store.get_record(PIECES, key).and_then(open).unwrap_or_default()
    }

    /// Finds the layer that was made of an equal tree, or makes one. Files are read to tell.
    pub fn find_or_pack(&self, name: &str, tree: Tree, reuse: Reuse) -> Result<LayerRecord> {
        self.find_or_make(name, tree, reuse, Making::default())
    }

    /// The same; where one is made, in this way.
    pub fn find_or_make(
        &self,
        name: &str,
        mut tree: Tree,
        reuse: Reuse,
        Making { follow, series }: Making<'_>,
    ) -> Result<LayerRecord> {
        let Context { store, reporter, .. } = &self.transport;
        let key = layer::content_key(&mut tree, &self.encoding)?;
        if reuse == Reuse::Found
            && let Some(record) = store.get_record::<LayerRecord>(LAYERS, &key)
            && record.is_in(store)?
        {
            reporter.start(TaskKind::Layer, name, None).skipped("cached");
            return Ok(record);
        }
        // What an earlier layer has is of use only to one that is compressed alike.
        let series = series.map(|of| format!("{of} {} {}", self.encoding, layer::FORMAT));
        let earlier = series.as_ref().map(|series| match reuse {
            Reuse::Found => self.last_of(series),
            Reuse::Nothing => EarlierLayer::default(),
        });
        let (record, pieces) = self.pack_beside(name, &tree, follow, earlier.as_ref())?;
        store.put_record(LAYERS, &key, &FoundByContent { layer: &record, of: name })?;
        if let Some(series) = series {
            let last = LastLayer { digest: record.digest.clone(), pieces };
            // Without it the next one is compressed whole.
            let _ = store.put_record(PIECES, &series, &last);
        }
        Ok(record)
    }
}

/// Whether a layer that was made of an equal tree may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Where there is one.
    Found,
    /// Never: it is made again.
    Nothing,
}

impl Reuse {
    /// As results of earlier builds are used.
    pub fn of(use_cache: bool) -> Self {
        if use_cache { Self::Found } else { Self::Nothing }
    }
}
