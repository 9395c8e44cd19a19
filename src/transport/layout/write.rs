//! Writing into a layout, new or old.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use fs_err::File;
use rustix::fs::FlockOperation;

use super::layout_file;
use crate::disk::{Unfinished, is_unfinished};
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::image::Blob;
use crate::oci::{Descriptor, Index, canonical_json};
use crate::registry::BlobSource;
use crate::transport::Progress;
use crate::transport::entries::{IMAGE_NAME, REF_NAME, blob_name};
use crate::transport::export::Export;
use crate::transport::files::Folder;
use crate::transport::layout::Layout;

/// How much is read and written at once.
const PIECE: usize = 256 << 10;

/// Adds images to the layout in `folder`, and makes it where there is none.
///
/// Everything is written under other names first and moved into place at the end, `index.json` the
/// last: a failure leaves the layout as it was, and no folder where there was none.
pub(in crate::transport) fn write(
    export: &Export,
    folder: &Path,
    progress: Progress<'_>,
) -> Result<()> {
    let mut made = Created::default();
    let written = write_into(export, folder, &mut made, progress);
    if written.is_err() {
        made.remove();
    }
    written.cannot(|| format!("write the image layout {}", folder.display()))
}

fn write_into(
    export: &Export,
    folder: &Path,
    made: &mut Created,
    progress: Progress<'_>,
) -> Result<()> {
    check_folder(folder)?;
    made.folder(folder)?;
    let blobs = blobs(export, folder, progress)?;
    // Two writers at once would lose each other's names. The lock goes with the file.
    let locked = File::open(folder).cannot(|| "open it")?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(locked.file(), FlockOperation::LockExclusive))
        .cannot(|| "lock it")?;
    let mut index = present_index(folder)?;
    for entry in &export.entries {
        put_entry(&mut index, entry, export.named_by_place);
    }
    let index = unfinished(folder, &canonical_json(&index))?;
    progress(0)?;
    let layout = unfinished(folder, &layout_file())?;
    for (blob, name) in blobs {
        let target = folder.join(&name);
        made.folder(target.parent().expect("a blob is in its algorithm's folder"))?;
        move_to(blob, &target)?;
        made.files.push(target);
    }
    if !folder.join("oci-layout").exists() {
        made.files.push(folder.join("oci-layout"));
        move_to(layout, &folder.join("oci-layout"))?;
    }
    move_to(index, &folder.join("index.json"))
}

/// What was made on the way, and goes again after a failure.
#[derive(Default)]
struct Created {
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Created {
    fn folder(&mut self, folder: &Path) -> Result<()> {
        let missing = folder.ancestors().take_while(|f| !f.as_os_str().is_empty() && !f.exists());
        let missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        self.folders.extend(missing.into_iter().rev());
        fs_err::create_dir_all(folder).cannot(|| "make its folders")
    }

    fn remove(&self) {
        // The caller reports the first failure; a file that stays does no harm.
        for file in &self.files {
            let _ = fs_err::remove_file(file);
        }
        for folder in self.folders.iter().rev() {
            let _ = fs_err::remove_dir(folder);
        }
    }
}

/// Finds out whether an image layout can be written there, as far as that can be told before.
///
/// A folder with other things in it is somebody's by mistake. Blobs alone are what a writer left that was
/// killed before it said that this is a layout.
pub(in crate::transport) fn check_folder(folder: &Path) -> Result<()> {
    let entries = match fs_err::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).cannot(|| "list it"),
    };
    let is_of_a_layout = |name: &OsStr| name == "blobs" || is_unfinished(name);
    let mut names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    if folder.join("oci-layout").exists() || names.all(|name| is_of_a_layout(&name)) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Usage, format!("use {}", folder.display()))
        .because("it has other files, but no oci-layout")
        .hint("name a folder that is new, empty or an image layout"))
}

/// Writes the blobs that are not there yet under passing names.
fn blobs(
    export: &Export,
    folder: &Path,
    progress: Progress<'_>,
) -> Result<Vec<(Unfinished, String)>> {
    let mut written = Vec::new();
    for blob in export.blobs.values() {
        let name = blob_name(&blob.descriptor);
        let size = blob.descriptor.size;
        let there = fs_err::metadata(folder.join(&name));
        if there.is_ok_and(|there| there.is_file() && there.len() == size) {
            progress(size)?;
            continue;
        }
        let path = copy(blob, folder, progress)
            .cannot(|| format!("write blob {}", blob.descriptor.digest))?;
        written.push((path, name));
    }
    Ok(written)
}

fn copy(blob: &Blob, folder: &Path, progress: Progress<'_>) -> Result<Unfinished> {
    let mut file = passing_file(folder)?;
    let mut content = blob.open()?;
    let mut buffer = vec![0; PIECE];
    loop {
        // The last read checks the digest.
        let count = content.read(&mut buffer).cannot(|| "read its content")?;
        if count == 0 {
            return Ok(file);
        }
        file.write_all(&buffer[..count]).cannot(|| "write its content")?;
        progress(count as u64)?;
    }
}

fn unfinished(folder: &Path, bytes: &[u8]) -> Result<Unfinished> {
    let mut file = passing_file(folder)?;
    file.write_all(bytes).cannot(|| "write a file")?;
    Ok(file)
}

fn passing_file(folder: &Path) -> Result<Unfinished> {
    Unfinished::new_in(folder, 0o666).cannot(|| "make a file")
}

fn move_to(file: Unfinished, target: &Path) -> Result<()> {
    file.persist(target).cannot(|| format!("make {}", target.display()))
}

/// The index of the layout as it is; an empty one where there is none.
fn present_index(folder: &Path) -> Result<Index> {
    let files = Folder(folder.to_owned());
    Ok(Layout::open(&files)?.map_or_else(|| Index::new(Vec::new()), Layout::into_index))
}

/// Puts an entry in the place of the one that has its name, or its tag where that was chosen.
fn put_entry(index: &mut Index, entry: &Descriptor, tag_was_chosen: bool) {
    let tag = |entry: &Descriptor| entry.annotations.get(REF_NAME).cloned();
    let same_tag = |old: &Descriptor| tag_was_chosen && tag(old) == tag(entry);
    index.manifests.retain(|old| !same_tag(old) && !is_replaced(old, entry));
    index.manifests.push(entry.clone());
}

/// Entries of one tag are the same name, unless both say in full that they are not.
fn is_replaced(old: &Descriptor, new: &Descriptor) -> bool {
    let [old_tag, new_tag] = [old, new].map(|entry| entry.annotations.get(REF_NAME));
    let [old_name, new_name] = [old, new].map(|entry| entry.annotations.get(IMAGE_NAME));
    match (new_tag, new_name) {
        (None, None) => old.digest == new.digest && old_tag.is_none() && old_name.is_none(),
        _ => {
            old_tag == new_tag
                && (old_name == new_name || old_name.is_none() || new_name.is_none())
                && (old_tag.is_some() || old_name.is_some())
        }
    }
}
