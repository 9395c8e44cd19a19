//! The hash that keys of steps are made with. What goes into the key of a step, and into its definition,
//! stands in `Op::key` and `Op::definition` (`engine/op.rs`): equal keys mean equal results.

use blake3::Hasher;

/// The version of keys. It goes up whenever a step with an equal key would come out differently.
const VERSION: u64 = 1;

/// A key in the making. Each field goes in with its length, so that no two lists look the same.
#[derive(Clone)]
pub struct Key(Hasher);

impl Key {
    /// Starts the key of one kind of step.
    pub fn new(kind: &str) -> Self {
        Self(Hasher::new()).number(VERSION).text(kind)
    }

    /// Adds a text.
    pub fn text(mut self, text: impl AsRef<[u8]>) -> Self {
        let bytes = text.as_ref();
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a number.
    pub fn number(mut self, number: u64) -> Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    /// Adds a text that may be missing.
    pub fn optional(self, text: Option<impl AsRef<[u8]>>) -> Self {
        match text {
            Some(text) => self.number(1).text(text),
            None => self.number(0),
        }
    }

    /// Adds a list.
    pub fn list<T: AsRef<[u8]>>(self, items: impl IntoIterator<Item = T>) -> Self {
        let items: Vec<T> = items.into_iter().collect();
        let count = items.len() as u64;
        items.into_iter().fold(self.number(count), Self::text)
    }

    /// The key, in hexadecimal.
    pub fn finish(self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_read_alike_have_different_keys() {
        let lists: [&[&str]; 5] = [&[], &[""], &["ab"], &["a", "b"], &["a", "", "b"]];
        let keys: std::collections::BTreeSet<String> =
            lists.iter().map(|list| Key::new("x").list(*list).finish()).collect();
        assert_eq!(keys.len(), lists.len());
        assert_ne!(
            Key::new("x").optional(None::<&str>).finish(),
            Key::new("x").optional(Some("")).finish()
        );
    }
}
