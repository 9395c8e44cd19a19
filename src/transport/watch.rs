//! Work on threads that ends when its caller is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::blocking::joined;
use crate::error::{Error, ErrorKind, Result};

/// How long an interrupted run waits for a thread to tidy up.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells a thread whether its work is still wanted.
#[derive(Clone, Default)]
pub(super) struct Watch(Arc<AtomicBool>);

impl Watch {
    /// Errs with [`ErrorKind::Interrupted`] once the caller is gone.
    pub(super) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Interrupted, "go on").because("nobody waits for it"));
        }
        Ok(())
    }
}

/// Runs what waits for files on a thread of its own.
///
/// Dropping the future ends the work at its next [`Watch::check`], and waits for that: what is
/// removed when work fails is gone before the program ends.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce(&Watch) -> Result<T> + Send + 'static,
) -> Result<T> {
    let watch = Watch::default();
    let (ended, end) = channel::<()>();
    let mut waiting = Waiting { watch: watch.clone(), end: Some(end) };
    let thread = tokio::task::spawn_blocking(move || {
        let result = watch.check().and_then(|()| work(&watch));
        drop(ended);
        result
    });
    let ended = thread.await;
    waiting.end = None;
    joined(ended)
}

/// A caller that waits for a thread.
struct Waiting {
    watch: Watch,
    /// Closed when the thread has ended; taken when it was waited for.
    end: Option<Receiver<()>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(end) = &self.end {
            self.watch.0.store(true, Ordering::Relaxed);
            // Nothing is ever sent: this ends when the thread does, or patience.
            let _ = end.recv_timeout(PATIENCE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn work_that_nobody_waits_for_ends_and_tidies_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let (started, starting) = tokio::sync::oneshot::channel();
        let work = blocking(move |watch| {
            let file = tempfile::NamedTempFile::new_in(path).unwrap();
            started.send(()).unwrap();
            while watch.check().is_ok() {
                std::thread::yield_now();
            }
            drop(file);
            watch.check()
        });
        tokio::select! {
            _ = work => panic!("the work does not end by itself"),
            started = starting => started.unwrap(),
        }
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
    }
}
