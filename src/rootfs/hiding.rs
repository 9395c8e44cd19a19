//! Names in a layer that hide something of lower layers, or mean nothing.

use crate::error::{Error, ErrorKind, Result};
use crate::layer::{TreePath, Whiteout};

/// What whiteouts' names begin with.
const WHITEOUT: &[u8] = b".wh.";
/// The names of what aufs kept for itself; only the mark for opaque folders means something.
const AUFS: &[u8] = b".wh..wh.";

/// What a name means that is not a file's.
pub(super) enum Name {
    /// It hides something of lower layers.
    Hides(Whiteout),
    /// It is what aufs kept for itself.
    Aufs,
}

impl Name {
    /// Whether it hides all that lower layers have in the folder at a path.
    pub(super) fn covers(&self, path: &TreePath) -> bool {
        match self {
            Self::Aufs => false,
            Self::Hides(Whiteout::Removed(gone)) => path == gone || path.is_below(gone),
            Self::Hides(Whiteout::Opaque(folder)) => {
                folder.as_ref().is_none_or(|folder| path == folder || path.is_below(folder))
            }
        }
    }
}

/// What a path means, if it is not a file's.
pub(super) fn whiteout(path: &TreePath) -> Result<Option<Name>> {
    let whiteout = path.as_whiteout();
    if let Some(opaque @ Whiteout::Opaque(_)) = whiteout {
        return Ok(Some(Name::Hides(opaque)));
    }
    if path.as_bytes().split(|b| *b == b'/').any(|part| part.starts_with(AUFS)) {
        return Ok(Some(Name::Aufs));
    }
    let refused = |why| Err(Error::new(ErrorKind::Invalid, "read the whiteout").because(why));
    match (path.name().starts_with(WHITEOUT), whiteout) {
        (true, None) => refused("it hides no name that a file can have"),
        (true, Some(whiteout)) => Ok(Some(Name::Hides(whiteout))),
        (false, _) => {
            let mut parents = path.as_bytes().split(|b| *b == b'/');
            if parents.any(|part| part.starts_with(WHITEOUT)) {
                return refused("a whiteout has nothing in it");
            }
            Ok(None)
        }
    }
}
