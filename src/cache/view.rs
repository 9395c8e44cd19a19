//! What is kept at one moment, divided among caches.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::{Cache, Entry, EntryPath, Facts, View, modified, owner, steps};
use crate::error::Result;
use crate::store::{Size, Standing, Store, StorePlace, Survey, walk};

/// Where the store itself keeps nothing: these folders are walked through.
pub(super) const WALKED: [StorePlace; 5] = [
    StorePlace::CacheMounts,
    StorePlace::Containers,
    StorePlace::GoCaches,
    StorePlace::Programs,
    StorePlace::Work,
];

impl View {
    /// Looks at all that is kept. Nothing is locked: it may change meanwhile.
    pub fn take(store: &Store) -> Result<Self> {
        let mut entries = walked(store);
        entries.extend(surveyed(store, &store.survey()?)?);
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self(entries))
    }
}

/// The entries that the store looks after itself.
pub(super) fn surveyed(store: &Store, survey: &Survey) -> Result<Vec<Entry>> {
    let facts = Facts {
        named: survey.named().clone(),
        unnamed: survey.unnamed_images(store)?,
        steps: survey.mentioned_by(steps::RESULTS),
    };
    let items = survey.items().into_iter();
    let of_caches = items.filter_map(|item| {
        let (cache, _) = owner(&item.path, &facts)?;
        Some(Entry::of(cache.name(), item))
    });
    Ok(of_caches.collect())
}

/// The entries of all other caches. Only [`Cache::standing`] says which of them
/// are in use.
pub(super) fn walked(store: &Store) -> Vec<Entry> {
    let mut found: BTreeMap<PathBuf, Entry> = BTreeMap::new();
    for place in WALKED.map(StorePlace::path).into_iter().chain(super::unused::FOLDERS) {
        let folder = store.root().join(place);
        // The visitor never ends the walk.
        let _ = walk(&folder, None, &|_| false, &mut |file, metadata| {
            if let Some((cache, of)) = owner(&Path::new(place).join(file), &Facts::default()) {
                let entry = found.entry(of.path.clone());
                entry.or_insert_with(|| new_entry(store, cache, of)).size.add(metadata);
            }
            ControlFlow::Continue(())
        });
    }
    found.into_values().collect()
}

fn new_entry(store: &Store, cache: &dyn Cache, EntryPath { path, used }: EntryPath) -> Entry {
    let used = used.and_then(|file| modified(&store.root().join(file)));
    let used = used.or_else(|| modified(&store.root().join(&path)));
    let used = used.unwrap_or(std::time::UNIX_EPOCH);
    let standing = if cache.saves_work_alone() { Standing::Useful } else { Standing::Named };
    Entry { cache: cache.name(), path, size: Size::default(), used, standing }
}
