//! What `# check=…` asks for: `skip=RULE,…;error=true;experimental=RULE,…`, or `all` for the rules.

use super::Rule;

/// Which rules are checked, and what a finding means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    skip: Rules,
    experimental: Rules,
    /// A finding makes the build fail.
    pub error: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rules {
    all: bool,
    listed: Vec<String>,
}

impl Rules {
    fn parse(text: &str) -> Self {
        let text = text.trim();
        if text == "all" {
            return Self { all: true, listed: Vec::new() };
        }
        Self { all: false, listed: text.split(',').map(|rule| rule.trim().to_owned()).collect() }
    }

    fn contains(&self, rule: Rule) -> bool {
        self.all || self.listed.iter().any(|listed| listed == rule.name())
    }

    fn merge(&mut self, other: &Self) {
        self.all |= other.all;
        self.listed.extend(other.listed.iter().cloned());
    }
}

impl Options {
    /// Parses the value of a directive; on failure, says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for part in text.split(';').filter(|_| !text.trim().is_empty()) {
            let Some((key, value)) = part.split_once('=') else {
                return Err(format!("\"{}\" is no option of check", part.trim()));
            };
            match (key.trim(), value.trim()) {
                ("skip", value) => options.skip = Rules::parse(value),
                ("experimental", value) => options.experimental = Rules::parse(value),
                ("error", "1" | "t" | "T" | "true" | "TRUE" | "True") => options.error = true,
                ("error", "0" | "f" | "F" | "false" | "FALSE" | "False") => options.error = false,
                ("error", value) => return Err(format!("check's error cannot be \"{value}\"")),
                (key, _) => return Err(format!("check has no option {key}")),
            }
        }
        Ok(options)
    }

    /// The options for an instruction, whose comments may have a `check=` of their own.
    pub(super) fn for_comments<'a>(&self, comments: impl Iterator<Item = &'a str>) -> Self {
        let mut options = self.clone();
        let own = comments.filter_map(|comment| {
            let (name, value) = comment.split_once('=')?;
            name.trim_end().eq_ignore_ascii_case("check").then_some(value.trim())
        });
        let own = own.take(1).filter_map(|value| Self::parse(value.split(' ').next()?).ok());
        for own in own {
            options.skip.merge(&own.skip);
            options.experimental.merge(&own.experimental);
        }
        options
    }

    pub(super) fn checks(&self, rule: Rule) -> bool {
        if rule.is_experimental() {
            self.experimental.contains(rule)
        } else {
            !self.skip.contains(rule)
        }
    }
}
