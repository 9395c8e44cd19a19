//! The patterns of `${name#pattern}` and its kin: `*` and `?` are the only wildcards.

/// A character of a pattern; `None` is `?`.
type Token = Option<char>;

/// A parsed pattern: runs of characters with a `*` between each two.
pub(super) struct Pattern {
    runs: Vec<Vec<Token>>,
}

impl Pattern {
    /// Parses a pattern. A backslash makes `*`, `?` and itself ordinary; before `}` and `/` it
    /// is dropped; before anything else it is an error.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut runs = vec![Vec::new()];
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let token = match c {
                '*' => {
                    runs.push(Vec::new());
                    continue;
                }
                '?' => None,
                '\\' => match chars.next() {
                    Some(next @ ('*' | '?' | '\\' | '}' | '/')) => Some(next),
                    Some(next) => {
                        return Err(format!("the pattern escapes '{next}', which needs no escape"));
                    }
                    None => return Err("the pattern ends in an escape".to_owned()),
                },
                _ => Some(c),
            };
            runs.last_mut().expect("there is always one").push(token);
        }
        Ok(Self { runs })
    }

    /// The value without the prefix that matches, if one does.
    pub(super) fn without_prefix(&self, value: &str, longest: bool) -> String {
        let value: Vec<char> = value.chars().collect();
        let end = self.end(&value, 0, longest).unwrap_or(0);
        value[end..].iter().collect()
    }

    /// The value without the suffix that matches, if one does.
    pub(super) fn without_suffix(&self, value: &str, longest: bool) -> String {
        let backwards = |run: &Vec<Token>| run.iter().rev().copied().collect();
        let mirrored = Self { runs: self.runs.iter().rev().map(backwards).collect() };
        let value: Vec<char> = value.chars().rev().collect();
        let end = mirrored.end(&value, 0, longest).unwrap_or(0);
        value[end..].iter().rev().collect()
    }

    /// The value with the first match, or every match, replaced.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool) -> String {
        let value: Vec<char> = value.chars().collect();
        let mut result = String::new();
        let mut at = 0;
        let mut last_end = None;
        while let Some((start, end)) = self.find(&value, at) {
            result.extend(&value[at..start]);
            if start != end || last_end != Some(start) {
                result.push_str(replacement);
            }
            at = end;
            last_end = Some(end);
            if start == end {
                result.extend(value.get(at));
                at += 1;
            }
            if !all || at > value.len() {
                break;
            }
        }
        result.extend(value.get(at..).unwrap_or_default());
        result
    }

    /// The first match from a place on, the longest there.
    fn find(&self, value: &[char], from: usize) -> Option<(usize, usize)> {
        for start in from..=value.len() {
            if run_matches(&self.runs[0], value, start) {
                match self.end(value, start, true) {
                    Some(end) => return Some((start, end)),
                    // What is missing after this start is missing after every later one.
                    None if self.runs.len() > 1 => return None,
                    None => {}
                }
            }
        }
        None
    }

    /// Where a match that begins at a place ends.
    fn end(&self, value: &[char], start: usize, longest: bool) -> Option<usize> {
        let (first, rest) = self.runs.split_first().expect("there is always one");
        if !run_matches(first, value, start) {
            return None;
        }
        let mut at = start + first.len();
        let Some((last, middle)) = rest.split_last() else { return Some(at) };
        for run in middle {
            at = (at..=value.len()).find(|at| run_matches(run, value, *at))? + run.len();
        }
        let mut places = at..=value.len();
        let found = |at: &usize| run_matches(last, value, *at);
        let begin = if longest { places.rfind(found) } else { places.find(found) };
        begin.map(|begin| begin + last.len())
    }
}

fn run_matches(run: &[Token], value: &[char], at: usize) -> bool {
    let Some(part) = value.get(at..at + run.len()) else { return false };
    run.iter().zip(part).all(|(token, c)| token.is_none_or(|token| token == *c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_matches_are_replaced_once_each() {
        let cases = [
            ("", "abc", "-", "-a-b-c-"),
            ("*", "abc", "-", "-"),
            ("b*", "abc", "-", "a-"),
            ("x", "", "-", ""),
            ("", "", "-", "-"),
        ];
        for (pattern, value, replacement, expected) in cases {
            let replaced = Pattern::parse(pattern).unwrap().replace(value, replacement, true);
            assert_eq!(replaced, expected, "{value} // {pattern}");
        }
    }

    #[test]
    fn the_shortest_and_the_longest_match_differ_by_what_stars_take() {
        let cases = [
            ("*b", "abab", "ab", ""),
            ("a*", "abab", "bab", ""),
            ("a?b*c", "axbccd", "cd", "d"),
            ("*", "ab", "ab", ""),
        ];
        for (pattern, value, shortest, longest) in cases {
            let pattern = Pattern::parse(pattern).unwrap();
            assert_eq!(pattern.without_prefix(value, false), shortest);
            assert_eq!(pattern.without_prefix(value, true), longest);
        }
        let pattern = Pattern::parse("b*").unwrap();
        assert_eq!(pattern.without_suffix("abab", false), "aba");
        assert_eq!(pattern.without_suffix("abab", true), "a");
    }
}
