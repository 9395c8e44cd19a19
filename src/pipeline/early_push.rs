//! What is sent to registries of a program's image while its layer is made.
//!
//! That is done where the program was built before, here, and is another one now: what a machine builds
//! for the first time is mostly where it goes already. What names a layer is sent when everything is
//! built, as ever: until then nobody sees it.
//!
//! ```text
//!   layer:   ├─ compressed ───────────────┤ digest
//!   sent:    ├─ as it is written ──────────┤
//!   config:        archive read ─ diff ID ├─ sent ─┤
//!   base:    ├─ looked for ─┤
//! ```

use std::fs::File;
use std::sync::Arc;

use tokio::sync::watch;

use super::{BuildContext, Outputs};
use crate::engine::Follower;
use crate::image::Blob;
use crate::oci::{Digest, Reference, Repository};
use crate::registry::{Client, GrowingBlob, Growth};

/// Where the new layers of an image go while they are made.
#[derive(Clone)]
pub(super) struct EarlyPush {
    client: Client,
    repositories: Vec<Repository>,
}

/// The configuration of an image by the diff ID of its last layer.
pub(super) type ConfigOf = Box<dyn Fn(&Digest) -> Blob + Send + Sync>;

impl EarlyPush {
    /// One repository of each registry that the image is pushed to: the others have it mounted. None
    /// where it is pushed nowhere.
    pub(super) fn new(
        context: &BuildContext,
        outputs: &Outputs,
        names: &[Reference],
    ) -> Option<Self> {
        let mut repositories: Vec<Repository> = Vec::new();
        for name in names.iter().filter(|_| outputs.push) {
            if repositories.iter().all(|known| known.registry() != name.registry()) {
                repositories.push(name.repository().clone());
            }
        }
        let client = context.transport.client.clone();
        (!repositories.is_empty()).then_some(Self { client, repositories })
    }

    /// Sends what is written to a file, and the configuration as soon as it is known. `below` are the
    /// layers that the image has already.
    pub(super) fn follow(&self, file: File, below: &[Blob], config: ConfigOf) -> Box<dyn Follower> {
        let (growth, growing) = watch::channel(Growth::default());
        let blob = GrowingBlob { file: Arc::new(file), growth: growing };
        let below: Vec<Digest> = below.iter().map(|blob| blob.descriptor.digest.clone()).collect();
        for repository in &self.repositories {
            self.client.push_while_made(repository, blob.clone(), Arc::new(|_| {}));
            self.client.look_early(repository, below.clone());
        }
        Box::new(Layer { growth, to: self.clone(), config })
    }
}

/// A layer that is being made.
struct Layer {
    growth: watch::Sender<Growth>,
    to: EarlyPush,
    config: ConfigOf,
}

impl Follower for Layer {
    fn written(&self, bytes: u64) {
        self.growth.send_modify(|growth| growth.bytes = bytes);
    }

    fn archived(&self, diff_id: &Digest) {
        let config = (self.config)(diff_id);
        for repository in &self.to.repositories {
            let source = Arc::new(config.clone());
            self.to.client.push_early(repository, config.descriptor.clone(), source);
        }
    }

    fn made(&self, digest: &Digest) {
        self.growth.send_modify(|growth| growth.digest = Some(digest.clone()));
    }
}
