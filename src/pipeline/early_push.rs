//! Layers of programs that are sent to registries while they are made.
//!
//! That is done where the program was built before, here, and is another one now: what a machine builds
//! for the first time is mostly where it goes already. What names a layer is sent when everything is
//! built, as ever: until then nobody sees it.

use std::fs::File;
use std::sync::Arc;

use tokio::sync::watch;

use super::{BuildContext, Outputs};
use crate::engine::Follower;
use crate::oci::{Digest, Reference, Repository};
use crate::registry::{Client, GrowingBlob, Growth};

/// Where the new layers of an image go while they are made.
#[derive(Clone)]
pub(super) struct EarlyPush {
    client: Client,
    repositories: Vec<Repository>,
}

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

    /// Sends what is written to a file.
    pub(super) fn follow(&self, file: File) -> Box<dyn Follower> {
        let (growth, growing) = watch::channel(Growth::default());
        let blob = GrowingBlob { file: Arc::new(file), growth: growing };
        for repository in &self.repositories {
            self.client.push_while_made(repository, blob.clone(), Arc::new(|_| {}));
        }
        Box::new(Layer(growth))
    }
}

/// A layer that is being made.
struct Layer(watch::Sender<Growth>);

impl Follower for Layer {
    fn written(&mut self, bytes: u64) {
        self.0.send_modify(|growth| growth.bytes = bytes);
    }

    fn made(&mut self, digest: &Digest) {
        self.0.send_modify(|growth| growth.digest = Some(digest.clone()));
    }
}
