//! Names: of images, places, platforms and digests. What is understood is written in one way, and
//! that way is understood as the same.

#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use gondola::oci::{Digest, MediaType, Platform, PlatformSet, Reference, Repository};
use gondola::transport::Location;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(reference) = stable::<Reference>(text) {
        assert_eq!(reference.familiar().parse::<Reference>().ok(), Some(reference.clone()));
        assert!(!reference.selector().is_empty());
        assert!(!reference.to_string().contains(|c: char| c.is_whitespace() || c.is_control()));
        assert!(
            !reference.repository().path().split('/').any(|part| matches!(part, "" | "." | ".."))
        );
        let pinned = reference.with_digest(Digest::of(b""));
        assert_eq!(pinned.to_string().parse::<Reference>().ok(), Some(pinned));
    }
    stable::<Repository>(text);
    stable::<Location>(text);
    stable::<Platform>(text);
    if let Some(digest) = stable::<Digest>(text) {
        assert!(!digest.hex().contains(['/', '.']), "a digest is a file's name");
    }
    if let Ok(PlatformSet::Listed(listed)) = text.parse() {
        assert!(!listed.is_empty());
    }
    let media_type = MediaType::new(text);
    let _ = (media_type.layer_compression(), media_type.is_foreign_layer(), media_type.is_docker());
});

fn stable<T: FromStr<Err: Display> + Display + Debug + PartialEq>(text: &str) -> Option<T> {
    match text.parse::<T>() {
        Ok(read) => {
            let written = read.to_string();
            let again = written.parse::<T>();
            let again = again.unwrap_or_else(|error| panic!("{text:?} as {written:?}: {error}"));
            assert_eq!(read, again, "{text:?} as {written:?}");
            Some(read)
        }
        Err(error) => {
            assert!(!error.to_string().contains('\x1b'), "an escape sequence reaches the terminal");
            None
        }
    }
}
