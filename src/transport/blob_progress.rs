//! The progress of one blob, whose bytes the registry client counts.

use std::sync::{Arc, Mutex, PoisonError};

use crate::oci::Descriptor;
use crate::progress::{Reporter, Task, TaskKind};
use crate::registry::OnBytes;

/// The transfer of one blob. Dropped before its end, it is reported as failed.
pub(crate) struct BlobProgress(Arc<Mutex<Option<Task>>>);

impl BlobProgress {
    /// Starts the task for a blob.
    pub(crate) fn start(reporter: &Reporter, kind: TaskKind, blob: &Descriptor) -> Self {
        let name = format!("sha256:{}", blob.digest.short());
        let task = reporter.start(kind, name, Some(blob.size));
        Self(Arc::new(Mutex::new(Some(task))))
    }

    /// The function that counts bytes. Bytes that it counts after the end are dropped.
    pub(crate) fn on_bytes(&self) -> OnBytes {
        let shared = self.0.clone();
        Arc::new(move |bytes| {
            if let Some(task) = &*shared.lock().unwrap_or_else(PoisonError::into_inner) {
                task.advance(bytes);
            }
        })
    }

    /// Ends the task: the blob was moved.
    pub(crate) fn done(self) {
        self.take(Task::done);
    }

    /// Ends the task: there was no need to move the blob.
    pub(crate) fn skipped(self, why: &'static str) {
        self.take(|task| task.skipped(why));
    }

    fn take(self, end: impl FnOnce(Task)) {
        if let Some(task) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            end(task);
        }
    }
}
