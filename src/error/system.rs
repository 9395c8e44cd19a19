//! What the operating system said, in the words of this program's errors.
//!
//! Libraries put words of their own around it: ``failed to open file `x`: No such file or directory (os
//! error 2)``, `No such file or directory (os error 2) at path "/tmp/.gondola-x"`. People get
//! `x: No such file or directory`, and no path a second time.

use std::borrow::Cow;
use std::path::Path;

/// How the number of an error begins that Rust adds to the system's text.
const NUMBER: &str = " (os error ";

/// The system's number in a text, if one is there.
pub(super) fn number(text: &str) -> Option<i32> {
    let (_, rest) = text.rsplit_once(NUMBER)?;
    rest.split_once(')')?.0.parse().ok()
}

/// The text of an error in plain words. A path that `action` names is not repeated.
pub(super) fn words<'a>(text: &'a str, action: &str) -> Cow<'a, str> {
    let Some((before, rest)) = text.rsplit_once(NUMBER) else { return Cow::Borrowed(text) };
    let Some((_, after)) = rest.split_once(')') else { return Cow::Borrowed(text) };
    if let Some(temporary) = after.strip_prefix(" at path \"").and_then(|it| it.strip_suffix('"')) {
        return Cow::Owned(of_temporary(before, temporary, action));
    }
    let plain = of_file(before, action).unwrap_or_else(|| before.to_owned());
    Cow::Owned(format!("{plain}{after}"))
}

/// A file in the making has a name that tells nobody anything; its folder is the place.
fn of_temporary(why: &str, path: &str, action: &str) -> String {
    let folder = Path::new(path).parent().map(|folder| folder.display().to_string());
    match folder.filter(|folder| !folder.is_empty() && !action.contains(folder.as_str())) {
        Some(folder) => format!("{folder}: {why}"),
        None => why.to_owned(),
    }
}

/// ``failed to VERB `PATH`: WHY``, or with `` `FROM` to `TO` ``.
fn of_file(text: &str, action: &str) -> Option<String> {
    let (what, why) = text.strip_prefix("failed to ")?.rsplit_once("`: ")?;
    let (verb, path) = what.split_once('`')?;
    if path.contains('`') {
        return Some(format!("{verb}{}: {why}", path.replace('`', "")));
    }
    Some(if action.contains(path) { why.to_owned() } else { format!("{path}: {why}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_libraries_around_those_of_the_system_are_left_out() {
        for (text, action, expected) in [
            ("failed to open file `/a/b`: Gone (os error 2)", "read it", "/a/b: Gone"),
            ("failed to open file `/a/b`: Gone (os error 2)", "read /a/b", "Gone"),
            ("failed to query resolved metadata `b`: No (os error 20)", "x", "b: No"),
            (
                "failed to rename file from `/a` to `/b`: Gone (os error 2)",
                "x",
                "rename file from /a to /b: Gone",
            ),
            ("Gone (os error 2) at path \"/a/.gondola-x1\"", "keep it", "/a: Gone"),
            ("Gone (os error 2) at path \"/a/.gondola-x1\"", "write /a/b", "Gone"),
            ("Gone (os error 2)", "x", "Gone"),
            ("failed to be said otherwise", "x", "failed to be said otherwise"),
            ("it is a folder, expected a file", "x", "it is a folder, expected a file"),
            ("Gone (os error 2", "x", "Gone (os error 2"),
        ] {
            assert_eq!(words(text, action), expected, "{text}");
        }
        assert_eq!(number("a: Gone (os error 2): b"), Some(2));
        assert_eq!(number("Gone"), None);
    }
}
