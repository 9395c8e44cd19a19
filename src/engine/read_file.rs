//! What explanations know of a file that a step read.

use crate::layer::{ContentHash, Entry, EntryKind};

/// A file that a step read, as far as explanations know it.
#[derive(Clone, Debug)]
pub struct ReadFile {
    /// Its path.
    pub path: String,
    /// What stands for all that is copied of it but its content.
    pub state: Vec<u8>,
    /// Its content, where it has any.
    pub content: Option<ContentHash>,
}

impl ReadFile {
    /// What is known of an entry, without a look at its content.
    pub fn of(path: String, entry: &Entry) -> Self {
        let mut state = vec![];
        for number in [entry.mode, entry.uid, entry.gid] {
            state.extend(number.to_le_bytes());
        }
        let content = match &entry.kind {
            EntryKind::File(content) => content.known_hash(),
            EntryKind::Symlink(target) => {
                state.extend(target.iter());
                None
            }
            _ => None,
        };
        Self { path, state, content }
    }
}
