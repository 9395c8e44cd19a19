//! Reading a blob from wherever it is, without keeping it.

use std::io::{self, PipeWriter, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Context;
use super::transfer::Transfer;
use super::watch::{Watch, blocking};
use crate::error::{Cannot, Result};
use crate::image::Blob;
use crate::oci::{Descriptor, VerifyingReader};
use crate::progress::TaskKind;
use crate::registry::Reopen;

/// Bytes on their way.
pub type Bytes<'a> = dyn Read + Send + 'a;

/// Gives the bytes of `blob` to `read`, on a thread of its own.
///
/// Those of a registry are neither kept nor waited for: `read` has the first ones while the last
/// ones are on their way. What `read` leaves is read to the end, so when all went well, the bytes
/// were the right ones; until then nobody knows.
pub async fn stream<T, F>(blob: &Blob, context: &Context, read: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&mut Bytes<'_>) -> Result<T> + Send + 'static,
{
    let descriptor = blob.descriptor.clone();
    if let Some(repository) = blob.remote() {
        if context.store.holds(&descriptor)? {
            let mut kept = context.store.open_blob(&descriptor)?;
            return blocking(move |watch| whole(&mut kept, &descriptor, watch, read)).await;
        }
        let transfer = Transfer::start(&context.reporter, TaskKind::Download, &descriptor);
        let (near, far) = io::pipe().cannot(|| "make a pipe")?;
        let nobody_reads = Arc::new(AtomicBool::new(false));
        let sink = Sink { pipe: far, nobody_reads: nobody_reads.clone() };
        let pull = async {
            // The sink comes back, and closing it is the end for the reader.
            let pulled =
                context.client.pull_blob(repository, &descriptor, sink, transfer.on_bytes());
            pulled.await.map(drop)
        };
        let expected = descriptor.clone();
        let reading = blocking(move |watch| {
            let mut near = VerifyingReader::new(near, expected.digest.clone(), expected.size);
            whole(&mut near, &expected, watch, read)
        });
        return match tokio::join!(pull, reading) {
            (Ok(()), Ok(read)) => {
                transfer.done();
                Ok(read)
            }
            (Err(error), Err(_)) if !nobody_reads.load(Ordering::Relaxed) => Err(error),
            (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
        };
    }
    let mut local = blob.open()?;
    blocking(move |watch| whole(&mut *local, &descriptor, watch, read)).await
}

/// Reads with `read`, and what that leaves.
fn whole<T>(
    bytes: &mut Bytes<'_>,
    descriptor: &Descriptor,
    watch: &Watch,
    read: impl FnOnce(&mut Bytes<'_>) -> Result<T>,
) -> Result<T> {
    let mut watched = Watched { bytes, watch };
    let answer = read(&mut watched)?;
    let rest = io::copy(&mut watched, &mut io::sink());
    rest.cannot(|| format!("read blob {}", descriptor.digest))?;
    Ok(answer)
}

/// Fails once nobody waits for what is read.
struct Watched<'a> {
    bytes: &'a mut Bytes<'a>,
    watch: &'a Watch,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.watch.check().map_err(io::Error::other)?;
        self.bytes.read(buffer)
    }
}

/// The pipe's far end, which remembers that the near one was closed: then the reader knows why.
struct Sink {
    pipe: PipeWriter,
    nobody_reads: Arc<AtomicBool>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pipe.write(bytes).inspect_err(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe {
                self.nobody_reads.store(true, Ordering::Relaxed);
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
