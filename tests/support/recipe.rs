//! Folders written down as text.
//!
//! `f MODE PATH CONTENT` is a file, `b MODE PATH BASE64` one that is no text, `d MODE PATH` a folder, and
//! lines that begin with `#` say what it is.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use base64::Engine as _;

/// Makes the folder `root` of a recipe, in whose files words stand for what a test knows; `ROOT` is the
/// folder.
pub fn make_recipe(recipe: &str, root: &Path, words: &[(&str, &str)]) {
    let known = |text: &str| {
        let text = text.replace("ROOT", root.to_str().unwrap());
        words.iter().fold(text, |text, (word, value)| text.replace(word, value))
    };
    std::fs::DirBuilder::new().mode(0o700).create(root).unwrap();
    for line in recipe.lines().filter(|line| !line.starts_with('#')) {
        let mut parts = line.splitn(4, ' ');
        let mut part = || parts.next().unwrap_or_default();
        let (kind, mode, path, content) = (part(), part(), part(), part());
        let (path, content) = (root.join(known(path)), known(content));
        match kind {
            "d" => std::fs::DirBuilder::new().create(&path).unwrap(),
            "f" => fs_err::write(&path, content).unwrap(),
            "b" => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(content).unwrap();
                fs_err::write(&path, bytes).unwrap();
            }
            other => panic!("{other} is no kind of entry"),
        }
        let mode = u32::from_str_radix(mode, 8).unwrap();
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}
