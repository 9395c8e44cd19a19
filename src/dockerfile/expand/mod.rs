//! Variables, quotes and escapes in words, as BuildKit expands them.
//!
//! `$name` and `${name}`, with the modifiers `-` `:-` `+` `:+` `?` `:?` for variables that are unset
//! (with `:` also for empty ones), `#` `##` `%` `%%` that take a prefix or suffix away, and `/` `//`
//! that replace. The words of modifiers are expanded themselves, whether they are used or not.
//! Single quotes keep everything as it is.

mod pattern;

use std::collections::{BTreeMap, BTreeSet};

use self::pattern::Pattern;

/// Levels that `${a:-${b:-…}}` may have: more is an error, so that no file exhausts the stack.
const DEEPEST: usize = 64;

/// Bytes that one expansion gives at most: replacing can make a value a square of its size.
const LONGEST: usize = 16 << 20;

/// Where the values of variables come from.
pub trait Variables {
    /// The value of a variable; `None` if it is not set.
    fn value(&self, name: &str) -> Option<&str>;
}

impl Variables for BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// No variables at all.
#[derive(Clone, Copy, Debug)]
pub struct NoVariables;

impl Variables for NoVariables {
    fn value(&self, _: &str) -> Option<&str> {
        None
    }
}

/// A word after expansion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The word without its quotes and escapes.
    pub text: String,
    /// Variables that were used and set.
    pub used: BTreeSet<String>,
    /// Variables that were used and not set.
    pub missing: BTreeSet<String>,
}

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unexpandable {
    /// What is wrong.
    pub message: String,
    /// The byte of the word where the trouble begins.
    pub offset: usize,
}

/// How a word is read.
#[derive(Clone, Copy, Debug)]
pub struct Expander {
    escape: char,
    quotes: Quotes,
    keep_escapes: bool,
    keep_unset: bool,
}

/// What becomes of quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quotes {
    /// They quote, and are taken away.
    Removed,
    /// They quote, and stay.
    Kept,
    /// They are ordinary characters.
    Ordinary,
}

impl Expander {
    /// Reads words of instructions, with the file's escape character.
    pub fn new(escape: char) -> Self {
        Self { escape, quotes: Quotes::Removed, keep_escapes: false, keep_unset: false }
    }

    /// Reads the bodies of heredocs: quotes are ordinary characters.
    pub fn body() -> Self {
        Self { quotes: Quotes::Ordinary, ..Self::new('\\') }
    }

    /// Leaves variables that are not set as they are written.
    #[must_use]
    pub fn keeping_unset(self) -> Self {
        Self { keep_unset: true, ..self }
    }

    /// Leaves quotes as they are written.
    #[must_use]
    pub(super) fn keeping_quotes(self) -> Self {
        Self { quotes: Quotes::Kept, ..self }
    }

    /// Leaves escapes as they are written.
    #[must_use]
    pub(super) fn keeping_escapes(self) -> Self {
        Self { keep_escapes: true, ..self }
    }

    /// Expands a text to one word.
    pub fn expand(self, text: &str, variables: &dyn Variables) -> Result<Expanded, Unexpandable> {
        let mut lexer = Lexer::new(text, self, variables);
        let (result, _) = lexer.until(None)?;
        Ok(Expanded { text: result, used: lexer.used, missing: lexer.missing })
    }

    /// Expands a text and splits what comes out at white space that is not quoted.
    pub fn words(self, text: &str, variables: &dyn Variables) -> Result<Vec<String>, Unexpandable> {
        let mut lexer = Lexer::new(text, self, variables);
        Ok(lexer.until(None)?.1)
    }
}

/// Words in the making.
#[derive(Default)]
struct Words {
    word: String,
    done: Vec<String>,
}

impl Words {
    fn push(&mut self, c: char) {
        if !c.is_whitespace() {
            self.word.push(c);
        } else if !self.word.is_empty() {
            self.done.push(std::mem::take(&mut self.word));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.done.push(self.word);
        }
        self.done
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    how: Expander,
    variables: &'a dyn Variables,
    depth: usize,
    used: BTreeSet<String>,
    missing: BTreeSet<String>,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str, how: Expander, variables: &'a dyn Variables) -> Self {
        let (used, missing) = (BTreeSet::new(), BTreeSet::new());
        Self { text, at: 0, how, variables, depth: 0, used, missing }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn wrong<T>(offset: usize, message: impl Into<String>) -> Result<T, Unexpandable> {
        Err(Unexpandable { message: message.into(), offset })
    }

    /// Reads up to the end, or to a character, which is taken too.
    fn until(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), Unexpandable> {
        let start = self.at;
        let mut result = String::new();
        let mut words = Words::default();
        while let Some(c) = self.peek() {
            if stop == Some(c) {
                self.next();
                return Ok((result, words.finish()));
            }
            match c {
                '$' => {
                    let value = self.variable()?;
                    value.chars().for_each(|c| words.push(c));
                    result.push_str(&value);
                    self.check_length(&result)?;
                }
                '<' => {
                    let text = self.heredoc_mark();
                    words.word.push_str(text);
                    result.push_str(text);
                }
                '\'' | '"' if self.how.quotes != Quotes::Ordinary => {
                    let text = if c == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    words.word.push_str(&text);
                    result.push_str(&text);
                }
                _ if c == self.how.escape => self.escaped(&mut result, &mut words),
                _ => {
                    self.next();
                    words.push(c);
                    result.push(c);
                }
            }
        }
        match stop {
            None => Ok((result, words.finish())),
            Some(stop) => Self::wrong(start, format!("'{stop}' is missing")),
        }
    }

    fn check_length(&self, result: &str) -> Result<(), Unexpandable> {
        if result.len() > LONGEST {
            return Self::wrong(self.at, format!("the value gets longer than {LONGEST} bytes"));
        }
        Ok(())
    }

    /// An escape outside of quotes; at the very end it means nothing.
    fn escaped(&mut self, result: &mut String, words: &mut Words) {
        let escape = self.how.escape;
        self.next();
        if self.how.keep_escapes {
            words.word.push(escape);
            result.push(escape);
        }
        if let Some(c) = self.next() {
            words.word.push(c);
            result.push(c);
        }
    }

    /// `<<` keeps the white space after it in its word.
    fn heredoc_mark(&mut self) -> &'a str {
        let start = self.at;
        self.next();
        if self.peek() == Some('<') {
            self.next();
            while matches!(self.peek(), Some('\t' | '\r' | ' ')) {
                self.next();
            }
        }
        &self.text[start..self.at]
    }

    fn single_quoted(&mut self) -> Result<String, Unexpandable> {
        let start = self.at;
        self.next();
        let Some(length) = self.text[self.at..].find('\'') else {
            return Self::wrong(start, "the single quote is never closed");
        };
        let inner = self.at..self.at + length;
        self.at = inner.end + 1;
        let range = if self.how.quotes == Quotes::Kept { start..self.at } else { inner };
        Ok(self.text[range].to_owned())
    }

    fn double_quoted(&mut self) -> Result<String, Unexpandable> {
        let start = self.at;
        let mut result = String::new();
        result.extend(self.next().filter(|_| self.how.quotes == Quotes::Kept));
        loop {
            match self.peek() {
                None => return Self::wrong(start, "the double quote is never closed"),
                Some('"') => {
                    result.extend(self.next().filter(|_| self.how.quotes == Quotes::Kept));
                    return Ok(result);
                }
                Some('$') => {
                    let value = self.variable()?;
                    result.push_str(&value);
                    self.check_length(&result)?;
                }
                Some(c) if c == self.how.escape => {
                    self.next();
                    if self.how.keep_escapes {
                        result.push(c);
                    }
                    match self.peek() {
                        None => {}
                        Some(next) if next == '"' || next == '$' || next == c => {
                            self.next();
                            result.push(next);
                        }
                        Some(_) => result.push(c),
                    }
                }
                Some(c) => {
                    self.next();
                    result.push(c);
                }
            }
        }
    }

    fn lookup(&mut self, name: &str) -> Option<&'a str> {
        let value = self.variables.value(name);
        let seen = if value.is_some() { &mut self.used } else { &mut self.missing };
        if !seen.contains(name) {
            seen.insert(name.to_owned());
        }
        value
    }

    fn variable(&mut self) -> Result<String, Unexpandable> {
        let start = self.at;
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.lookup(name) {
                None if self.how.keep_unset => format!("${name}"),
                value => value.unwrap_or_default().to_owned(),
            });
        }
        self.next();
        if self.depth == DEEPEST {
            return Self::wrong(start, format!("variables are nested more than {DEEPEST} deep"));
        }
        self.depth += 1;
        let value = self.braced(start);
        self.depth -= 1;
        value
    }

    /// A name: letters, digits and `_`; or digits alone; or one special character.
    fn name(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let length = match rest.chars().next() {
            Some(c) if c.is_numeric() => rest.find(|c: char| !c.is_numeric()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => Some(1),
            _ => rest.find(|c: char| !c.is_alphanumeric() && c != '_'),
        };
        let length = length.unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// What follows `${`.
    fn braced(&mut self, start: usize) -> Result<String, Unexpandable> {
        match self.peek() {
            None => return Self::wrong(start, "the closing '}' is missing"),
            Some('{' | '}' | ':') => return Self::wrong(start, "a name is missing after \"${\""),
            _ => {}
        }
        let name = self.name();
        let modifier = self.at;
        match self.next() {
            None => Self::wrong(start, "the closing '}' is missing"),
            Some('}') => Ok(match self.lookup(name) {
                None if self.how.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default().to_owned(),
            }),
            Some(':') => match self.next() {
                Some(c @ ('-' | '+' | '?')) => self.conditional(name, c, true, start),
                _ => self.unsupported(modifier),
            },
            Some(c @ ('-' | '+' | '?')) => self.conditional(name, c, false, start),
            Some(c @ ('#' | '%')) => self.trimmed(name, c, start),
            Some('/') => self.replaced(name, start),
            Some(_) => self.unsupported(modifier),
        }
    }

    fn unsupported<T>(&self, modifier: usize) -> Result<T, Unexpandable> {
        let written = &self.text[modifier..self.at];
        Self::wrong(modifier, format!("\"{written}\" is no modifier of a variable"))
    }

    /// A part of a modifier, up to a character.
    fn part(
        &mut self,
        stop: char,
        keep_escapes: bool,
        start: usize,
    ) -> Result<String, Unexpandable> {
        let outer = std::mem::replace(&mut self.how.keep_escapes, keep_escapes);
        let part = self.until(Some(stop));
        self.how.keep_escapes = outer;
        part.map(|(text, _)| text).map_err(|error| match self.peek() {
            None => {
                Unexpandable { message: format!("the closing '{stop}' is missing"), offset: start }
            }
            Some(_) => error,
        })
    }

    fn conditional(
        &mut self,
        name: &str,
        modifier: char,
        empty_is_unset: bool,
        start: usize,
    ) -> Result<String, Unexpandable> {
        let word = self.part('}', false, start)?;
        let value = self.lookup(name);
        let colon = if empty_is_unset { ":" } else { "" };
        if value.is_none() && self.how.keep_unset {
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let present = value.filter(|value| !(empty_is_unset && value.is_empty()));
        match (modifier, present) {
            ('-', None) | ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(present)) => Ok(present.to_owned()),
            (_, None) => {
                let state = if value.is_some() { "empty" } else { "unset" };
                let message = format!("is not allowed to be {state}");
                let message = if word.is_empty() { message } else { word };
                Self::wrong(start, format!("{name}: {message}"))
            }
        }
    }

    fn trimmed(
        &mut self,
        name: &str,
        modifier: char,
        start: usize,
    ) -> Result<String, Unexpandable> {
        let word = self.part('}', true, start)?;
        let Some(value) = self.lookup(name).or((!self.how.keep_unset).then_some("")) else {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        };
        let (longest, word) = match word.strip_prefix(modifier) {
            Some(word) => (true, word),
            None => (false, word.as_str()),
        };
        let pattern = Self::pattern(word, start)?;
        let trimmed = if modifier == '#' {
            pattern.without_prefix(value, longest)
        } else {
            pattern.without_suffix(value, longest)
        };
        Ok(trimmed)
    }

    fn replaced(&mut self, name: &str, start: usize) -> Result<String, Unexpandable> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let pattern = self.part('/', true, start)?;
        let replacement = self.part('}', true, start)?;
        let Some(value) = self.lookup(name).or((!self.how.keep_unset).then_some("")) else {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        };
        let replaced = Self::pattern(&pattern, start)?.replace(value, &replacement, all);
        self.check_length(&replaced)?;
        Ok(replaced)
    }

    fn pattern(text: &str, start: usize) -> Result<Pattern, Unexpandable> {
        Pattern::parse(text).map_err(|message| Unexpandable { message, offset: start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> BTreeMap<String, String> {
        let pairs = [
            ("name", "gondola"),
            ("empty", ""),
            ("path", "/usr/lib/go/lib/x.tar.gz"),
            ("spaced", " two  words "),
            ("star", "a*b?c"),
            ("großes", "ß"),
            ("dollar", "$name"),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn words_come_out_without_quotes_escapes_and_variables() {
        let cases = [
            ("", ""),
            ("plain", "plain"),
            ("$name", "gondola"),
            ("${name}", "gondola"),
            ("a${name}b", "agondolab"),
            ("$name$name", "gondolagondola"),
            ("$names", ""),
            ("$name-s", "gondola-s"),
            ("$großes", "ß"),
            ("\\$name", "$name"),
            ("\\\\$name", "\\gondola"),
            ("'$name'", "$name"),
            ("\"$name\"", "gondola"),
            ("\"\\$name\"", "$name"),
            ("\"a\\nb\"", "a\\nb"),
            ("\"a\\\"b\"", "a\"b"),
            ("a\\ b", "a b"),
            ("'it'\\''s'", "it's"),
            ("\"'$name'\"", "'gondola'"),
            ("$", "$"),
            ("$ x", "$ x"),
            ("a$", "a$"),
            ("$1", ""),
            ("$12x", "x"),
            ("$@x", "x"),
            ("$dollar", "$name"),
            ("trailing\\", "trailing"),
            ("<<EOF", "<<EOF"),
            ("}", "}"),
            ("{$name}", "{gondola}"),
            ("$spaced", " two  words "),
        ];
        for (text, expected) in cases {
            let expanded = Expander::new('\\').expand(text, &variables()).unwrap();
            assert_eq!(expanded.text, expected, "{text}");
        }
    }

    #[test]
    fn modifiers_choose_trim_and_replace() {
        let cases = [
            ("${name-x}", "gondola"),
            ("${none-x}", "x"),
            ("${empty-x}", ""),
            ("${empty:-x}", "x"),
            ("${none:-$name}", "gondola"),
            ("${none:-${empty:-deep}}", "deep"),
            ("${none:-'a}b'}", "a}b"),
            ("${none:-a\\}b}", "a}b"),
            ("${none-}", ""),
            ("${name+x}", "x"),
            ("${none+x}", ""),
            ("${empty+x}", "x"),
            ("${empty:+x}", ""),
            ("${name:+$path}", "/usr/lib/go/lib/x.tar.gz"),
            ("${name?}", "gondola"),
            ("${empty?}", ""),
            ("${name:?why}", "gondola"),
            ("${path#*/}", "usr/lib/go/lib/x.tar.gz"),
            ("${path##*/}", "x.tar.gz"),
            ("${path%.*}", "/usr/lib/go/lib/x.tar"),
            ("${path%%.*}", "/usr/lib/go/lib/x"),
            ("${path#/usr}", "/lib/go/lib/x.tar.gz"),
            ("${path#nothing}", "/usr/lib/go/lib/x.tar.gz"),
            ("${path#/???/}", "lib/go/lib/x.tar.gz"),
            ("${star#a\\*}", "b?c"),
            ("${star%\\?c}", "a*b"),
            ("${path/lib/LIB}", "/usr/LIB/go/lib/x.tar.gz"),
            ("${path//lib/LIB}", "/usr/LIB/go/LIB/x.tar.gz"),
            ("${path//\\//:}", ":usr:lib:go:lib:x.tar.gz"),
            ("${path/l*b/-}", "/usr/-/x.tar.gz"),
            ("${path//?r\\//-}", "/u-lib/go/lib/x.tar.gz"),
            ("${name//o/}", "gndla"),
            ("${name//o/0}", "g0nd0la"),
            ("${none//o/0}", ""),
            ("${name/#/x}", "gondola"),
            ("${none#x}", ""),
        ];
        for (text, expected) in cases {
            let expanded = Expander::new('\\').expand(text, &variables()).unwrap();
            assert_eq!(expanded.text, expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_names_the_place() {
        let cases = [
            ("a'b", 1, "the single quote is never closed"),
            ("a\"b$name", 1, "the double quote is never closed"),
            ("ab${name", 2, "the closing '}' is missing"),
            ("${name:-x", 0, "the closing '}' is missing"),
            ("${}", 0, "a name is missing after \"${\""),
            ("${:x}", 0, "a name is missing after \"${\""),
            ("${name:x}", 6, "\":x\" is no modifier of a variable"),
            ("${name=x}", 6, "\"=\" is no modifier of a variable"),
            ("${name:#x}", 6, "\":#\" is no modifier of a variable"),
            ("-${none?}", 1, "none: is not allowed to be unset"),
            ("-${none:?say $name}", 1, "none: say gondola"),
            ("-${empty:?}", 1, "empty: is not allowed to be empty"),
            ("${name/x}", 0, "the closing '/' is missing"),
            ("${name/x/y", 0, "the closing '}' is missing"),
            ("${name#\\x}", 0, "the pattern escapes 'x', which needs no escape"),
            ("${none:-${none:?deep}}", 8, "none: deep"),
        ];
        for (text, offset, message) in cases {
            let error = Expander::new('\\').expand(text, &variables()).unwrap_err();
            assert_eq!((error.offset, error.message.as_str()), (offset, message), "{text}");
        }
    }

    #[test]
    fn used_and_missing_variables_are_told_apart() {
        let text = "$name ${none:-$other} '$quoted' ${empty:+$name}";
        let expanded = Expander::new('\\').expand(text, &variables()).unwrap();
        assert_eq!(Vec::from_iter(expanded.used), ["empty", "name"]);
        assert_eq!(Vec::from_iter(expanded.missing), ["none", "other"]);
    }

    #[test]
    fn a_backquote_can_be_the_escape() {
        let cases = [
            ("`$name", "$name"),
            ("a\\b", "a\\b"),
            ("C:\\$name", "C:\\gondola"),
            ("\"`\"\"", "\""),
        ];
        for (text, expected) in cases {
            let expanded = Expander::new('`').expand(text, &variables()).unwrap();
            assert_eq!(expanded.text, expected, "{text}");
        }
    }

    #[test]
    fn bodies_of_heredocs_keep_their_quotes() {
        let cases = [
            ("say \"$name\"", "say \"gondola\""),
            ("it's $name", "it's gondola"),
            ("\\$name \\\\", "$name \\"),
        ];
        for (text, expected) in cases {
            assert_eq!(
                Expander::body().expand(text, &variables()).unwrap().text,
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn words_split_where_a_variable_has_spaces_but_not_where_quotes_do() {
        let cases: [(&str, &[&str]); 7] = [
            ("a  b", &["a", "b"]),
            ("x${spaced}y", &["x", "two", "words", "y"]),
            ("x\"${spaced}\"y", &["x two  words y"]),
            ("a\\ b 'c d'", &["a b", "c d"]),
            ("${none}", &[]),
            ("<< EOF x", &["<< EOF", "x"]),
            ("'' x", &["x"]),
        ];
        for (text, expected) in cases {
            let words = Expander::new('\\').words(text, &variables()).unwrap();
            assert_eq!(words, expected, "{text}");
        }
    }

    #[test]
    fn unset_variables_can_stay_as_written() {
        let kept = Expander::new('\\').keeping_unset();
        for text in ["$none", "${none}", "${none:-x}", "${none#x}", "${none/x/y}"] {
            assert_eq!(kept.expand(text, &variables()).unwrap().text, text);
        }
    }

    #[test]
    fn nesting_and_growth_are_bounded() {
        let nested = |depth: usize| format!("{}x{}", "${none:-".repeat(depth), "}".repeat(depth));
        assert_eq!(Expander::new('\\').expand(&nested(DEEPEST), &NoVariables).unwrap().text, "x");
        let error = Expander::new('\\').expand(&nested(100_000), &NoVariables).unwrap_err();
        assert!(error.message.contains("nested more than"), "{}", error.message);
        let large: BTreeMap<_, _> = [("a".to_owned(), "x".repeat(1 << 20))].into();
        let error = Expander::new('\\').expand(&"$a".repeat(20), &large).unwrap_err();
        assert!(error.message.contains("longer than"), "{}", error.message);
    }

    #[test]
    fn matching_long_values_takes_no_more_than_a_moment() {
        let long: BTreeMap<_, _> = [("a".to_owned(), "a".repeat(20_000))].into();
        let start = std::time::Instant::now();
        for text in ["${a//a*a*a*b/x}", "${a%%*a*a*a*b}", "${a##a?*?*?*b}", "${a//a/bb}"] {
            Expander::new('\\').expand(text, &long).unwrap();
        }
        assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    }
}
