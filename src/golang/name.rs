//! The names that a Go program goes by.

/// The base name that `go build` chooses for the program of a main package: the last element of
/// its import path, or the one before it where the last is a major version such as `v2`.
pub fn program_name(import_path: &str) -> &str {
    let Some((parent, last)) = import_path.rsplit_once('/') else { return import_path };
    if is_major_version(last) { parent.rsplit('/').next().unwrap_or(parent) } else { last }
}

/// Whether a path element is `v2`, `v3`, …; `v0`, `v1` and `v02` are ordinary names.
fn is_major_version(element: &str) -> bool {
    match element.strip_prefix('v') {
        None | Some("" | "1") => false,
        Some(digits) => !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// The image name that stands for a program where nobody gave one: its name in the form that
/// repositories have (lower case, no separator at either end, no two separators in a row).
pub fn image_name(program: &str) -> String {
    let mut name = String::with_capacity(program.len());
    for character in program.chars() {
        let lower = character.to_ascii_lowercase();
        if lower.is_ascii_alphanumeric() {
            name.push(lower);
        } else if name.ends_with(|c: char| c.is_ascii_alphanumeric()) {
            name.push(if matches!(lower, '.' | '_') { lower } else { '-' });
        }
    }
    name.truncate(name.trim_end_matches(['.', '_', '-']).len());
    if name.is_empty() { "app".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_as_go_build_names_it() {
        for (path, expect) in [
            ("hello", "hello"),
            ("example.com/m", "m"),
            ("example.com/m/cmd/server", "server"),
            ("example.com/m/v2", "m"),
            ("example.com/m/v10", "m"),
            ("example.com/m/v1", "v1"),
            ("example.com/m/v0", "v0"),
            ("example.com/m/v02", "v02"),
            ("example.com/m/v2x", "v2x"),
            ("example.com/m/v", "v"),
            ("v2", "v2"),
            ("gopkg.in/yaml.v2", "yaml.v2"),
        ] {
            assert_eq!(program_name(path), expect, "{path}");
        }
    }

    #[test]
    fn an_image_name_has_the_form_of_a_repository() {
        for (program, expect) in [
            ("hello", "hello"),
            ("Hello", "hello"),
            ("yaml.v2", "yaml.v2"),
            ("my_app", "my_app"),
            ("a~~b", "a-b"),
            ("a__b", "a_b"),
            ("_x_", "x"),
            ("ä", "app"),
            ("a+", "a"),
        ] {
            assert_eq!(image_name(program), expect, "{program}");
        }
    }
}
