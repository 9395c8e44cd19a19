//! A small reader of Rust: which paths a file names, what it imports, and what it defines.
//!
//! It knows tokens, `use` trees and the items at a file's top level: enough to say for each path
//! where the thing that it names is defined. Macros are read like other code.

/// What one file says, as far as names go.
#[derive(Debug, Default)]
pub struct Source {
    /// Every import: each leaf of each `use` tree.
    pub imports: Vec<Import>,
    /// The other paths of two words and more, without what follows a type's arguments.
    pub paths: Vec<Vec<String>>,
    /// The names of the items at the top level.
    pub items: Vec<String>,
    /// Modules in files of their own that exist for tests alone.
    pub test_modules: Vec<String>,
}

/// One leaf of a `use` tree.
#[derive(Debug, PartialEq, Eq)]
pub struct Import {
    /// The words of the path.
    pub path: Vec<String>,
    /// The name that the file gives to it: nothing if all names in the path are meant.
    pub name: Option<String>,
}

/// Words that come before the name of an item.
const ITEMS: [&str; 9] =
    ["fn", "struct", "enum", "union", "trait", "type", "const", "static", "macro_rules"];

/// Reads a file; what is `#[cfg(test)]` counts only `with_tests`.
pub fn read(text: &str, with_tests: bool) -> Source {
    let mut source = Source::default();
    let mut tokens = tokens(text);
    if !with_tests {
        tokens = without_tests(&tokens, &mut source.test_modules);
    }
    let mut depth = 0_usize;
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            "use" => {
                let end = at + tokens[at..].iter().position(|token| token == ";").unwrap_or(0);
                read_tree(&tokens[at + 1..end], &[], &mut source.imports);
                at = end;
            }
            word if depth == 0 && ITEMS.contains(&word) => {
                let name = tokens[at + 1..].iter().find(|token| is_word(token));
                source.items.extend(name.cloned());
            }
            word if is_word(word) && tokens.get(at + 1).is_some_and(|next| next == "::") => {
                let path = path_at(&tokens[at..]);
                let follows = at > 0 && ["::", "."].contains(&tokens[at - 1].as_str());
                at += 2 * (path.len() - 1);
                if !follows && path.len() > 1 {
                    source.paths.push(path);
                }
            }
            _ => {}
        }
        at += 1;
    }
    source
}

/// The words that `::` joins from the first token on.
fn path_at(tokens: &[String]) -> Vec<String> {
    let mut path = vec![tokens[0].clone()];
    let mut rest = &tokens[1..];
    while let [join, word, ..] = rest {
        if join != "::" || !is_word(word) {
            break;
        }
        path.push(word.clone());
        rest = &rest[2..];
    }
    path
}

/// Reads `a::{b, c as d}` into its leaves.
fn read_tree(tree: &[String], above: &[String], imports: &mut Vec<Import>) {
    if tree.is_empty() {
        // After a comma at the end.
        return;
    }
    let (mut path, mut rest) = (above.to_vec(), tree);
    while let [word, after @ ..] = rest {
        match word.as_str() {
            "{" => {
                let inside = &after[..after.len().saturating_sub(1)];
                return branches(inside)
                    .into_iter()
                    .for_each(|tree| read_tree(tree, &path, imports));
            }
            "*" => return imports.push(Import { path, name: None }),
            "as" => return imports.push(Import { path, name: after.first().cloned() }),
            "self" if !path.is_empty() => {}
            "::" => {}
            word => path.push(word.to_owned()),
        }
        rest = after;
    }
    if let Some(name) = path.last().cloned() {
        imports.push(Import { path, name: Some(name) });
    }
}

/// The parts between the commas that are in no inner braces.
fn branches(tokens: &[String]) -> Vec<&[String]> {
    let mut depth = 0_usize;
    tokens
        .split(|token| {
            match token.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            depth == 0 && token == ","
        })
        .collect()
}

/// Takes every item away that stands under `#[cfg(test)]`.
fn without_tests(tokens: &[String], test_modules: &mut Vec<String>) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].iter().zip(MARK).filter(|(token, mark)| token == mark).count().eq(&7) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let item = &tokens[at + MARK.len()..];
        if let [module, name, end, ..] = item
            && (module.as_str(), end.as_str()) == ("mod", ";")
        {
            test_modules.push(name.clone());
        }
        at += MARK.len() + length_of_item(item);
    }
    kept
}

/// How many tokens an item has: up to its semicolon, or to the end of its braces.
fn length_of_item(tokens: &[String]) -> usize {
    let is_import = tokens.first().is_some_and(|token| token == "use");
    let mut depth = 0_usize;
    for (offset, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && token == "}" && !is_import {
                    return offset + 1;
                }
            }
            ";" if depth == 0 => return offset + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words, `::` and single signs; comments are left out, and of literals only a quotation mark stays.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => length_of_comment(rest),
            _ if first.is_whitespace() => first.len_utf8(),
            _ => {
                let (token, length) = token_at(rest);
                tokens.push(token.to_owned());
                length
            }
        };
        rest = &rest[length..];
    }
    tokens
}

/// A token that is at the start of `text`, and how many bytes it takes.
fn token_at(text: &str) -> (&str, usize) {
    if let Some(length) = length_of_literal(text) {
        return ("\"", length);
    }
    if text.starts_with("::") {
        return ("::", 2);
    }
    let word = text.strip_prefix("r#").unwrap_or(text);
    let length = word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len());
    if length > 0 {
        return (&word[..length], text.len() - word.len() + length);
    }
    let sign = text.chars().next().map_or(0, char::len_utf8);
    (&text[..sign], sign)
}

/// A comment between `/*` and `*/`, with those in it.
fn length_of_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text.as_bytes()[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text.as_bytes()[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// A string, a raw string, or a character; a lifetime is none of them.
fn length_of_literal(text: &str) -> Option<usize> {
    let after = ["br", "cr", "r", "b", "c", ""].iter().find_map(|prefix| {
        let after = text.strip_prefix(prefix)?;
        let raw = prefix.ends_with('r');
        let opens = after.trim_start_matches(|c| raw && c == '#').starts_with('"');
        (opens || (["b", ""].contains(prefix) && after.starts_with('\''))).then_some((after, raw))
    });
    let (quoted, raw) = after?;
    let prefix = text.len() - quoted.len();
    if raw {
        let hashes = quoted.len() - quoted.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let start = hashes + 1;
        let length = quoted[start..].find(&end).unwrap_or(quoted.len() - start - end.len());
        return Some(prefix + start + length + end.len());
    }
    let quote = quoted.chars().next()?;
    if quote == '\'' {
        let mut inside = quoted[1..].chars();
        let (first, second) = (inside.next()?, inside.next()?);
        if first != '\\' && second != '\'' {
            return None;
        }
    }
    let mut escaped = false;
    let end = quoted[1..].char_indices().find(|(_, c)| {
        let ends = !escaped && *c == quote;
        escaped = !escaped && *c == '\\';
        ends
    });
    Some(prefix + 1 + end.map_or(quoted.len() - 1, |(offset, _)| offset + 1))
}
