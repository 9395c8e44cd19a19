//! Image names in which `{name}` stands for the image's short name, as `--tag` and `tags` take them.

use super::reference::{self, Reference};
use crate::error::{Error, Result};

/// What stands for the short name.
const PLACEHOLDER: &str = "{name}";

/// Whether a template has a place for the short name.
pub fn has_placeholder(template: &str) -> bool {
    template.contains(PLACEHOLDER)
}

/// Refuses what makes no image name, whatever the short name is.
pub fn check(template: &str) -> Result<()> {
    if template.replace(PLACEHOLDER, "").contains(['{', '}']) {
        return Err(reference::invalid(template, "{name} is all that can stand in braces"));
    }
    // The template is quoted, and not what a short name makes of it.
    let probe = template.replace(PLACEHOLDER, "name").parse::<Reference>();
    probe.map(drop).map_err(|error| match reason(&error) {
        Some(why) if has_placeholder(template) => reference::invalid(template, &why),
        _ => error,
    })
}

/// What an error says of a name, without the name.
fn reason(error: &Error) -> Option<String> {
    error.message().split_once("\": ").map(|(_, why)| why.to_owned())
}

/// The name that a template makes of a short name.
pub fn fill(template: &str, name: &str) -> Result<Reference> {
    check(template)?;
    template.replace(PLACEHOLDER, name).parse()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_template_is_a_name_with_places_for_the_short_one() {
        for (template, expected) in [
            ("{name}", "docker.io/library/app:latest"),
            ("r.test/{name}/{name}:v1", "r.test/app/app:v1"),
            ("r.test/x:{name}", "r.test/x:app"),
            ("r.test/x", "r.test/x:latest"),
        ] {
            check(template).unwrap();
            assert_eq!(fill(template, "app").unwrap().to_string(), expected);
        }
    }

    #[test]
    fn what_makes_no_name_is_quoted_as_it_was_written() {
        for (template, why) in [
            ("{nme}", "{name} is all that can stand in braces"),
            ("{name", "{name} is all that can stand in braces"),
            ("{{name}}", "{name} is all that can stand in braces"),
            ("A/{name}", "\"A\" has upper-case letters, a repository must not"),
            ("", "the name is empty"),
        ] {
            let error = check(template).unwrap_err();
            let expected = format!(
                "cannot read image name \"{template}\": {why}; hint: write \
                 [registry/]repository[:tag][@sha256:…]"
            );
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert_eq!(fill(template, "app").unwrap_err().to_string(), expected);
        }
    }
}
