//! The lines that are understood where no shell is executed: commands joined by `&&`, each some words,
//! with quotes. Whatever a shell would do more is refused, and never taken for something else.

use std::iter::Peekable;
use std::str::Chars;

use crate::error::Error;

/// Why something is not executed without a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Completes "because …".
    pub why: String,
    /// What to do about it.
    pub fix: String,
}

impl Refused {
    pub(super) fn new(why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { why: why.into(), fix: fix.into() }
    }
}

/// Why a step was not executed without a sandbox.
#[derive(Debug)]
pub(super) enum NotHere {
    /// It is none that can be.
    Refused(Refused),
    /// Something failed.
    Failed(Error),
}

impl From<Refused> for NotHere {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Error> for NotHere {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A word as a shell reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    /// The word, without its quotes.
    pub text: String,
    /// How many of its first bytes were not quoted.
    plain: usize,
}

impl Word {
    /// A word that no shell reads.
    pub(super) fn quoted(text: impl Into<String>) -> Self {
        Self { text: text.into(), plain: 0 }
    }

    /// A name and a value, where that is what the word is in front of a command.
    pub(super) fn assignment(&self) -> Option<(&str, &str)> {
        let (name, value) = self.text.split_once('=')?;
        (is_name(name) && name.len() < self.plain).then_some((name, value))
    }
}

/// Reads a line.
pub(super) fn commands(line: &str) -> Result<Vec<Vec<Word>>, Refused> {
    let mut reader = Reader {
        rest: line.trim_end_matches('\n').chars().peekable(),
        commands: Vec::new(),
        command: Vec::new(),
        word: None,
        is_plain: true,
    };
    reader.read()?;
    Ok(reader.commands)
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    commands: Vec<Vec<Word>>,
    command: Vec<Word>,
    word: Option<Word>,
    /// Whether the word was plain so far.
    is_plain: bool,
}

impl Reader<'_> {
    fn read(&mut self) -> Result<(), Refused> {
        while let Some(c) = self.rest.next() {
            match c {
                ' ' | '\t' => self.end_word(),
                '\'' => self.single_quoted()?,
                '"' => self.double_quoted()?,
                '\\' => match self.rest.next() {
                    Some('\n') => {}
                    Some(next) => self.push_quoted(&[next]),
                    None => return Err(beyond("a line that ends with \\")),
                },
                '&' if self.rest.next_if_eq(&'&').is_some() => {
                    self.end_word();
                    self.end_command()?;
                }
                '$' | '`' => return Err(self.variable(c)),
                '#' if self.word.is_none() => return Err(beyond("a comment")),
                '~' if self.word.as_ref().is_none_or(|word| word.text.ends_with(['=', ':'])) => {
                    return Err(beyond("~"));
                }
                '\n' => return Err(beyond("a second line")),
                ';' | '|' | '&' | '<' | '>' | '(' | ')' | '*' | '?' | '[' | ']' | '{' | '}'
                | '!' => {
                    return Err(beyond(&format!("{c:?}")));
                }
                c => self.push_plain(c),
            }
        }
        self.end_word();
        self.end_command()
    }

    fn single_quoted(&mut self) -> Result<(), Refused> {
        let mut text = Vec::new();
        loop {
            match self.rest.next() {
                Some('\'') => break,
                Some(c) => text.push(c),
                None => return Err(beyond("a quote that does not end")),
            }
        }
        self.push_quoted(&text);
        Ok(())
    }

    fn double_quoted(&mut self) -> Result<(), Refused> {
        let mut text = Vec::new();
        loop {
            match self.rest.next() {
                Some('"') => break,
                Some(c @ ('$' | '`')) => return Err(self.variable(c)),
                Some('\\') => match self.rest.next() {
                    Some('\n') => {}
                    Some(c @ ('"' | '\\' | '$' | '`')) => text.push(c),
                    Some(c) => text.extend(['\\', c]),
                    None => return Err(beyond("a quote that does not end")),
                },
                Some(c) => text.push(c),
                None => return Err(beyond("a quote that does not end")),
            }
        }
        self.push_quoted(&text);
        Ok(())
    }

    /// What is said of the variable, or the program, that comes next.
    fn variable(&self, sign: char) -> Refused {
        if sign == '`' {
            return beyond("`");
        }
        let mut rest = self.rest.clone();
        let is_braced = rest.next_if_eq(&'{').is_some();
        let mut name = String::new();
        while let Some(c) = rest.next_if(|c| *c == '_' || c.is_ascii_alphanumeric()) {
            name.push(c);
        }
        let is_whole = !is_braced || rest.next() == Some('}');
        if name.is_empty() || !is_whole {
            return beyond("$");
        }
        // A file expands it in ENV, and go reads that.
        let set = self.word.as_ref().and_then(|word| word.text.strip_suffix('='));
        let fix = match set {
            Some(set) if is_name(set) => {
                format!("put ENV {set}=${name} in front of the step, and leave {set} out here")
            }
            _ => "write the value itself, or give it to the step by ENV or ARG: go reads GOOS, GOARCH, GOFLAGS"
                .to_owned(),
        };
        Refused::new("$ takes a shell", fix)
    }

    fn push_plain(&mut self, c: char) {
        let word = self.word.get_or_insert_default();
        word.text.push(c);
        if self.is_plain {
            word.plain = word.text.len();
        }
    }

    fn push_quoted(&mut self, text: &[char]) {
        self.word.get_or_insert_default().text.extend(text);
        self.is_plain = false;
    }

    fn end_word(&mut self) {
        self.command.extend(self.word.take());
        self.is_plain = true;
    }

    fn end_command(&mut self) -> Result<(), Refused> {
        if self.command.is_empty() {
            return Err(beyond("&& without a command"));
        }
        self.commands.push(std::mem::take(&mut self.command));
        Ok(())
    }
}

fn beyond(what: &str) -> Refused {
    Refused::new(
        format!("{what} takes a shell"),
        "write words, quotes and && alone, and the rest into a RUN of its own",
    )
}

/// Whether a variable can have this name.
fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|c| c == '_' || c.is_ascii_alphabetic())
        && letters.all(|c| c == '_' || c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<Vec<String>>, Refused> {
        let texts = |command: Vec<Word>| command.into_iter().map(|word| word.text).collect();
        Ok(commands(line)?.into_iter().map(texts).collect())
    }

    #[test]
    fn words_are_those_of_a_shell() {
        for (line, expected) in [
            ("go build ./...", &[&["go", "build", "./..."][..]][..]),
            ("  go\tmod  download&&go build ", &[&["go", "mod", "download"], &["go", "build"]]),
            ("go build -ldflags='-s -w'", &[&["go", "build", "-ldflags=-s -w"]]),
            (
                r#"go build -ldflags "-X 'a.b=c d'""#,
                &[&["go", "build", "-ldflags", "-X 'a.b=c d'"]],
            ),
            (r#"go a"b"'c'\ d "" x#y"#, &[&["go", "abc d", "", "x#y"]]),
            (r#"go "a\"b\\c\d\$""#, &[&["go", r#"a"b\c\d$"#]]),
            ("go a\\\nb 'x$y;z|*'", &[&["go", "ab", "x$y;z|*"]]),
            ("go a~b\n", &[&["go", "a~b"]]),
        ] {
            let found = words(line).unwrap_or_else(|refused| panic!("{line}: {refused:?}"));
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn what_takes_a_shell_is_refused() {
        for line in [
            "",
            "   ",
            "&& go",
            "go &&",
            "go && && go",
            "go $X",
            "go \"$X\"",
            "go `x`",
            "go \"`x`\"",
            "go; go",
            "go | cat",
            "go & go",
            "go &",
            "go > x",
            "go < x",
            "(go)",
            "go *.go",
            "go a?",
            "go [a]",
            "go {a,b}",
            "! go",
            "go # x",
            "go ~/x",
            "X=~ go",
            "X=a:~ go",
            "go 'x",
            "go \"x",
            "go \\",
            "go\ngo",
            "go || go",
        ] {
            let refused = words(line).expect_err(line);
            assert!(!refused.why.is_empty() && !refused.fix.is_empty(), "{line}");
        }
    }

    #[test]
    fn assignments_have_a_plain_name() {
        for (word, expected) in [
            ("A=b", Some(("A", "b"))),
            ("A=", Some(("A", ""))),
            ("A_1='b c'", Some(("A_1", "b c"))),
            ("\"A\"=b", None),
            ("A\"=\"b", None),
            ("1A=b", None),
            ("-o=b", None),
            ("=b", None),
            ("A", None),
        ] {
            let found = commands(word).unwrap().remove(0).remove(0);
            assert_eq!(found.assignment(), expected, "{word}");
        }
        assert_eq!(Word::quoted("A=b").assignment(), None);
    }
}
