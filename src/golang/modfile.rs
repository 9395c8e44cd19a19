//! The lines of `go.mod` and `go.work` that lead to other folders.

/// The folders that a `go.work` uses, as written.
pub fn used_folders(text: &str) -> Vec<String> {
    directives(text).iter().filter_map(|words| used_folder(words)).collect()
}

fn used_folder(words: &[String]) -> Option<String> {
    match words {
        [verb, folder, ..] if verb == "use" => Some(folder.clone()),
        _ => None,
    }
}

/// The folders that replace modules, as written.
pub fn replacing_folders(text: &str) -> Vec<String> {
    directives(text).iter().filter_map(|words| replacing_folder(words)).collect()
}

fn replacing_folder(words: &[String]) -> Option<String> {
    let arrow = words.iter().position(|word| word == "=>")?;
    // A module has a version after its path; a folder has none.
    let [target] = &words[arrow + 1..] else { return None };
    (words[0] == "replace").then(|| target.clone())
}

/// A line that leads to another folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderLine {
    /// Its number, from one.
    pub number: usize,
    /// The folder, as written.
    pub folder: String,
}

/// The lines of a `go.mod` or `go.work` that lead to other folders.
pub fn folder_lines(text: &str) -> Vec<FolderLine> {
    let line = |(number, words): (usize, Vec<String>)| {
        let folder = used_folder(&words).or_else(|| replacing_folder(&words))?;
        Some(FolderLine { number, folder })
    };
    numbered(text).into_iter().filter_map(line).collect()
}

/// The versions that a `go.mod` names, by what has them: modules, what replaces them, and Go.
pub(super) fn versions(text: &str) -> Vec<(String, String)> {
    let named = |words: Vec<String>| match &words[..] {
        [verb, module, version, ..] if verb == "require" => {
            Some((format!("the module {module}"), version.clone()))
        }
        [verb, module, rest @ ..] if verb == "replace" => {
            let arrow = rest.iter().position(|word| word == "=>")?;
            Some((format!("the replacement of {module}"), rest[arrow + 1..].join(" ")))
        }
        [verb, version, ..] if verb == "go" || verb == "toolchain" => {
            Some((format!("the {verb} line of go.mod"), version.clone()))
        }
        _ => None,
    };
    directives(text).into_iter().filter_map(named).collect()
}

/// Each directive as words, with the verb of a block put before each of its lines.
pub(super) fn directives(text: &str) -> Vec<Vec<String>> {
    numbered(text).into_iter().map(|(_, words)| words).collect()
}

/// As [`directives`], each with the number of its line.
fn numbered(text: &str) -> Vec<(usize, Vec<String>)> {
    let mut directives = Vec::new();
    let mut block: Option<String> = None;
    for (line, number) in text.lines().zip(1..) {
        let mut words = words(line);
        match (words.first().map(String::as_str), &block) {
            (None, _) => {}
            (Some(")"), _) => block = None,
            (Some(_), Some(verb)) => {
                words.insert(0, verb.clone());
                directives.push((number, words));
            }
            (Some(_), None) if words.last().is_some_and(|word| word == "(") => {
                block = Some(words.swap_remove(0));
            }
            (Some(_), None) => directives.push((number, words)),
        }
    }
    directives
}

/// The words of a line up to its comment, without their quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with("//") {
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '`'));
        let end = match quote {
            Some(quote) => rest[1..].find(quote).map_or(rest.len(), |at| at + 2),
            None if rest.starts_with(['(', ')']) => 1,
            None => {
                let ends = |c: char| c.is_whitespace() || matches!(c, '(' | ')');
                rest.find(ends).unwrap_or(rest.len())
            }
        };
        words.push(rest[..end].trim_matches(['"', '`']).to_owned());
        rest = rest[end..].trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_found_in_lines_and_blocks() {
        let work = "go 1.22\nuse ./a // first\nuse (\n\t./b\n\n\t\"./with space\"\n)\nuse `../c`\n";
        assert_eq!(used_folders(work), ["./a", "./b", "./with space", "../c"]);
        let module = "module x\nreplace a => ../a\nreplace (\n\tb v1.0.0 => ./b // why\n\
                      \tc => example.com/c v1.2.3\n)\nrequire (\n\td => ./d\n)\n\
                      // replace e => ./e\n";
        assert_eq!(replacing_folders(module), ["../a", "./b"]);
        // As Go does, whether or not there is a blank in front.
        let close = "replace(\n\ta => ../a\n)\nuse(\n\t./b\n)\n";
        assert_eq!(replacing_folders(close), ["../a"]);
        assert_eq!(used_folders(close), ["./b"]);
        let line =
            |(number, folder): (usize, &str)| FolderLine { number, folder: folder.to_owned() };
        assert_eq!(folder_lines(module), [(2, "../a"), (4, "./b")].map(line));
        assert_eq!(folder_lines(work)[..2], [(2, "./a"), (4, "./b")].map(line));
        let module = "module x\ngo 1.24\nrequire a v1.0.0 // indirect\nrequire (\n\tb v2.0.0\n)\n\
                      replace a v1.0.0 => ../a\nreplace b => c v1.2.3\n";
        let named = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        let expected = [
            named("the go line of go.mod", "1.24"),
            named("the module a", "v1.0.0"),
            named("the module b", "v2.0.0"),
            named("the replacement of a", "../a"),
            named("the replacement of b", "c v1.2.3"),
        ];
        assert_eq!(versions(module), expected);
    }
}
