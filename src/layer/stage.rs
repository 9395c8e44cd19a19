//! What passes between the threads that make or read a layer: reused buffers, and the stage that
//! hashes them.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use crate::error::{Cannot as _, Result};
use crate::oci::{Digest, Hasher};

/// Starts a stage. Errs where a limit on threads is reached, as in small containers.
pub(super) fn spawn<'scope, 'env, T: Send + 'scope>(
    scope: &'scope Scope<'scope, 'env>,
    stage: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    let builder = Builder::new().name("layer".to_owned());
    builder.spawn_scoped(scope, stage).cannot(|| "start a thread that makes or reads a layer")
}

/// Bytes in a buffer that is kept at its full length, so that it is cleared only once.
pub(super) struct Block {
    bytes: Vec<u8>,
    used: usize,
}

impl Block {
    fn new(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity], used: 0 }
    }

    /// The bytes in use.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    /// The room behind the bytes in use.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.used..]
    }

    /// Takes the first `count` bytes of the room into use.
    pub(super) fn advance(&mut self, count: usize) {
        self.used += count;
        debug_assert!(self.used <= self.bytes.len(), "more bytes than there was room for");
    }

    /// Empties the block and makes room for at least `length` bytes.
    pub(super) fn reset(&mut self, length: usize) {
        self.used = 0;
        if self.bytes.len() < length {
            self.bytes.resize(length, 0);
        }
    }
}

/// Blocks of one size that wait for their next use.
pub(super) struct Pool {
    size: usize,
    idle: Mutex<Vec<Block>>,
}

impl Pool {
    pub(super) fn new(size: usize) -> Self {
        Self { size, idle: Mutex::default() }
    }

    /// An empty block.
    pub(super) fn take(&self) -> Block {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut block = idle.unwrap_or_else(|| Block::new(self.size));
        block.used = 0;
        block
    }

    /// Takes a block back.
    pub(super) fn give(&self, block: Block) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(block);
    }

    /// Takes a block back once its last holder lets go of it.
    pub(super) fn release(&self, block: Arc<Block>) {
        if let Some(block) = Arc::into_inner(block) {
            self.give(block);
        }
    }
}

/// Hashes all that arrives; returns its digest and length.
pub(super) fn hash(blocks: Receiver<Arc<Block>>, pool: &Pool) -> (Digest, u64) {
    let mut hasher = Hasher::new();
    let mut size = 0;
    for block in blocks {
        hasher.update(block.bytes());
        size += block.bytes().len() as u64;
        pool.release(block);
    }
    (hasher.finish(), size)
}
