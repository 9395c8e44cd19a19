//! Variables while a file is executed, step by step: global `ARG`s, then one [`Scope`] per stage.
//!
//! ```text
//! Globals      ARG before FROM, over the predefined platform ARGs, under --build-arg
//!    │         visible in FROM lines; a bare ARG in a stage takes its value from here
//!    ▼
//! Scope        the base's ENV, then each ENV and ARG as it is reached: the later one wins
//!    ├─► expand            what words of the next instruction see
//!    ├─► run_environment   what RUN sees, and what its cache key holds
//!    └─► image_environment what the image keeps: ENV alone
//! ```
//!
//! Proxy variables of `--build-arg` reach RUN without being declared and stay out of its key.
//!
//! Values that came from the command line are not shown by messages, nor is what was made of them:
//! variables remember whether theirs did.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::expand::{Expanded, Expander, Unexpandable, Variables};
use super::instruction::{ArgDefinition, Dockerfile, GlobalArg, Heredoc, Pair};
use super::mount::{Mount, MountFlag};
use super::ports;
use super::source::{Span, Word};
use crate::oci::Platform;
use crate::secret;

/// What the command line gives to a build of one platform.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// `--build-arg`
    pub arguments: BTreeMap<String, String>,
    /// Where the build runs.
    pub build: Platform,
    /// What the image is for.
    pub target: Platform,
    /// `--target`, or else the name of the last stage.
    pub stage: Option<String>,
}

impl Inputs {
    /// No arguments, for one platform.
    pub fn native(platform: Platform) -> Self {
        Self { arguments: BTreeMap::new(), build: platform.clone(), target: platform, stage: None }
    }

    fn predefined(&self) -> [(&'static str, String); 11] {
        let (build, target) = (self.build.normalized(), self.target.normalized());
        let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
        let version = |platform: &Platform| platform.os_version.clone().unwrap_or_default();
        let stage = self.stage.clone().filter(|stage| !stage.is_empty());
        [
            ("BUILDPLATFORM", build.to_string()),
            ("BUILDOS", build.os.clone()),
            ("BUILDOSVERSION", version(&build)),
            ("BUILDARCH", build.architecture.clone()),
            ("BUILDVARIANT", variant(&build)),
            ("TARGETPLATFORM", target.to_string()),
            ("TARGETOS", target.os.clone()),
            ("TARGETOSVERSION", version(&target)),
            ("TARGETARCH", target.architecture.clone()),
            ("TARGETVARIANT", variant(&target)),
            ("TARGETSTAGE", stage.unwrap_or_else(|| "default".to_owned())),
        ]
    }
}

/// The `ARG`s that `FROM` lines see.
#[derive(Clone, Debug, Default)]
pub struct Globals {
    values: BTreeMap<String, String>,
    declared: Vec<String>,
    /// Those whose values came from the command line, or were made of such.
    given: BTreeSet<String>,
}

impl Variables for Globals {
    fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

impl Globals {
    /// Evaluates the `ARG`s before the first `FROM`, in order.
    pub fn evaluate(file: &Dockerfile, inputs: &Inputs) -> Result<Self, Diagnostics> {
        let stage =
            || file.stages.last()?.from.alias.as_ref().map(|alias| alias.name.text.to_lowercase());
        let inputs = Inputs { stage: inputs.stage.clone().or_else(stage), ..inputs.clone() };
        let mut globals = Self::default();
        for (name, value) in inputs.predefined() {
            let given = inputs.arguments.get(name).cloned();
            globals.given.extend(given.as_ref().map(|_| name.to_owned()));
            globals.values.insert(name.to_owned(), given.unwrap_or(value));
        }
        let expander = Expander::new(file.directives.escape);
        for GlobalArg { definitions, .. } in &file.globals {
            for definition in definitions {
                globals.define(definition, expander, &inputs.arguments).map_err(|error| {
                    let span = error.span;
                    let error = error.masked(&globals.given_in(file.source.slice(span)));
                    Diagnostics { source: file.source.clone(), list: vec![error] }
                })?;
            }
        }
        Ok(globals)
    }

    fn define(
        &mut self,
        definition: &ArgDefinition,
        expander: Expander,
        arguments: &BTreeMap<String, String>,
    ) -> Result<(), Diagnostic> {
        let name = &definition.name.text;
        let (value, is_given) = match (arguments.get(name), &definition.default) {
            (Some(given), _) => (Some(given.clone()), true),
            (None, Some(word)) => {
                let default = expand(expander, word, self)?;
                (Some(default.text), !default.used.is_disjoint(&self.given))
            }
            (None, None) => (None, false),
        };
        if let Some(value) = value {
            mark(&mut self.given, name, is_given);
            self.values.insert(name.clone(), value);
        }
        self.declared.push(name.clone());
        Ok(())
    }

    /// The values that came from the command line, or were made of such, of the variables that a text
    /// names.
    pub fn given_in<'a>(&'a self, text: &str) -> Vec<&'a str> {
        let names = names_in(text).into_iter().filter(|name| self.given.contains(*name));
        names.filter_map(|name| self.value(name)).collect()
    }

    /// Every name that a `FROM` line may use: declared ones, with or without a value, and
    /// predefined ones.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.declared.iter().chain(self.values.keys()).map(String::as_str)
    }
}

/// Expands a word and points at the place in it where that fails.
pub(super) fn expand(
    expander: Expander,
    word: &Word,
    variables: &dyn Variables,
) -> Result<Expanded, Diagnostic> {
    expander.expand(&word.text, variables).map_err(|error| unexpandable(word, error))
}

fn unexpandable(word: &Word, error: Unexpandable) -> Diagnostic {
    let exact = word.span.end - word.span.start == word.text.len();
    let start = word.span.start + if exact { error.offset } else { 0 };
    Diagnostic::error(Span::new(start.min(word.span.end), word.span.end), error.message)
}

/// The names behind each `$` and `${` of a text, used or not.
fn names_in(text: &str) -> BTreeSet<&str> {
    let behind = text.split('$').skip(1).map(|rest| rest.strip_prefix('{').unwrap_or(rest));
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    behind.map(|rest| rest.split(|c| !is_name(c)).next().unwrap_or_default()).collect()
}

fn mark(given: &mut BTreeSet<String>, name: &str, is_given: bool) {
    if is_given {
        given.insert(name.to_owned());
    } else {
        given.remove(name);
    }
}

/// Variables in the order in which they were set, each once. Finding one takes no longer where there
/// are thousands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Environment {
    list: Vec<(String, String)>,
    /// Where each stands in the list.
    places: HashMap<String, usize>,
    /// Those whose values came from the command line, or were made of such.
    given: BTreeSet<String>,
}

impl Environment {
    fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|place| self.list[*place].1.as_str())
    }

    fn set(&mut self, name: &str, value: &str, is_given: bool) {
        mark(&mut self.given, name, is_given);
        if let Some(place) = self.places.get(name) {
            value.clone_into(&mut self.list[*place].1);
            return;
        }
        self.places.insert(name.to_owned(), self.list.len());
        self.list.push((name.to_owned(), value.to_owned()));
    }
}

/// The search path that an image gets whose base has none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The names, in upper case, of arguments that reach `RUN` without being declared.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Whether an argument means something though no `ARG` declares it: to `RUN`, to `FROM`, to what a
/// build makes, or to BuildKit.
pub fn is_predefined(name: &str) -> bool {
    let platform = ["PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT", "STAGE"];
    PROXIES.contains(&name.to_ascii_uppercase().as_str())
        || name == "SOURCE_DATE_EPOCH"
        || name.starts_with("BUILDKIT_")
        || ["BUILD", "TARGET"]
            .iter()
            .filter_map(|start| name.strip_prefix(start))
            .any(|rest| platform.contains(&rest))
}

/// The value of an argument as an image's history shows it: a proxy's without user and password.
pub fn shown_value<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    if !PROXIES.contains(&name.to_ascii_uppercase().as_str()) {
        return Cow::Borrowed(value);
    }
    match value.rsplit_once('@') {
        Some((front, host)) => {
            let scheme = front.find("://").map_or("", |end| &front[..end + 3]);
            Cow::Owned(format!("{scheme}***@{host}"))
        }
        None => Cow::Borrowed(value),
    }
}

/// The variables of a stage, as far as it has been executed.
#[derive(Clone, Debug)]
pub struct Scope {
    escape: char,
    /// What words and `RUN` see.
    visible: Environment,
    /// What the image keeps.
    image: Environment,
    /// `ARG`s of this stage and of those below it, with what they had when they were declared.
    declared: Vec<(String, Option<String>)>,
    /// Values from the command line in `USER` and `WORKDIR`, which later steps begin with.
    settings: BTreeSet<String>,
}

impl Variables for Scope {
    fn value(&self, name: &str) -> Option<&str> {
        self.visible.get(name)
    }
}

impl Scope {
    /// Begins a stage on an image with these `NAME=value` variables; on `scratch` there are none.
    pub fn on_image(escape: char, environment: &[String]) -> Self {
        let mut image = Environment::default();
        for line in environment {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            image.set(name, value, false);
        }
        if image.get("PATH").is_none() {
            image.set("PATH", DEFAULT_PATH, false);
        }
        let (declared, settings) = (Vec::new(), BTreeSet::new());
        Self { escape, visible: image.clone(), image, declared, settings }
    }

    /// Begins a stage on another stage: it sees that one's `ARG`s too, but where `ENV` has set
    /// the same name, that one's value.
    #[must_use]
    pub fn on_stage(&self) -> Self {
        let mut scope = self.clone();
        for (name, value) in &self.image.list {
            scope.visible.set(name, value, self.image.given.contains(name));
        }
        scope
    }

    /// Executes `ARG`: gives the names with their values, as history shows them.
    pub fn arg(
        &mut self,
        definitions: &[ArgDefinition],
        globals: &Globals,
        inputs: &Inputs,
    ) -> Result<Vec<(String, Option<String>)>, Diagnostic> {
        let mut applied = Vec::new();
        for definition in definitions {
            let name = definition.name.text.clone();
            let (value, is_given) = match (inputs.arguments.get(&name), &definition.default) {
                (Some(given), _) => (Some(given.clone()), true),
                (None, Some(default)) => {
                    let expanded = self.expand_fully(default)?;
                    (Some(expanded.text), !expanded.used.is_disjoint(&self.visible.given))
                }
                (None, None) => {
                    let value = globals.value(&name).map(str::to_owned);
                    (value, globals.given.contains(&name))
                }
            };
            if let Some(value) = &value {
                self.visible.set(&name, value, is_given);
            }
            self.declared.push((name.clone(), value.clone()));
            applied.push((name, value));
        }
        Ok(applied)
    }

    /// Executes `ENV`: gives the names with their values. Within one instruction every value
    /// sees what was set before it.
    pub fn env(&mut self, pairs: &[Pair]) -> Result<Vec<(String, String)>, Diagnostic> {
        let applied = self.pairs(pairs)?;
        let given = |pair: &Pair| !self.given_in(&pair.value.text).is_empty();
        let given: Vec<bool> = pairs.iter().map(given).collect();
        for ((name, value), is_given) in applied.iter().zip(given) {
            self.visible.set(name, value, is_given);
            self.image.set(name, value, is_given);
        }
        Ok(applied)
    }

    /// Expands the pairs of `ENV` or `LABEL`.
    pub fn pairs(&self, pairs: &[Pair]) -> Result<Vec<(String, String)>, Diagnostic> {
        let expanded =
            pairs.iter().map(|pair| Ok((self.expand(&pair.key)?, self.expand(&pair.value)?)));
        expanded.collect()
    }

    /// Expands a word.
    pub fn expand(&self, word: &Word) -> Result<String, Diagnostic> {
        self.expand_fully(word).map(|expanded| expanded.text)
    }

    /// Expands words.
    pub fn expand_all(&self, words: &[Word]) -> Result<Vec<String>, Diagnostic> {
        words.iter().map(|word| self.expand(word)).collect()
    }

    /// Expands a word, and tells which variables it used.
    pub fn expand_fully(&self, word: &Word) -> Result<Expanded, Diagnostic> {
        expand(Expander::new(self.escape), word, self)
    }

    /// The text of a heredoc that `COPY` or `ADD` makes a file of.
    pub fn inline_file(&self, heredoc: &Heredoc) -> Result<String, Diagnostic> {
        self.inline_file_fully(heredoc).map(|expanded| expanded.text)
    }

    /// The text of such a heredoc, and which variables it used.
    pub fn inline_file_fully(&self, heredoc: &Heredoc) -> Result<Expanded, Diagnostic> {
        let text = heredoc.content();
        if !heredoc.expand {
            return Ok(Expanded { text, ..Expanded::default() });
        }
        expand(Expander::body(), &Word::new(text, heredoc.span), self)
    }

    /// A mount with its values expanded.
    pub fn mount(&self, flag: &MountFlag) -> Result<Mount, Diagnostic> {
        let expander = Expander::new(self.escape);
        flag.resolve(&mut |text| expander.expand(text, self).map(|expanded| expanded.text))
    }

    /// The ports of `EXPOSE`, each as `number/protocol`, in BuildKit's order.
    pub fn ports(&self, words: &[Word]) -> Result<Vec<String>, Diagnostic> {
        let mut words: Vec<&Word> = words.iter().collect();
        words.sort_by(|a, b| a.text.cmp(&b.text));
        let mut found = Vec::new();
        for word in words {
            let expander = Expander::new(self.escape);
            let texts =
                expander.words(&word.text, self).map_err(|error| unexpandable(word, error))?;
            for text in texts {
                found.extend(ports::parse(&text).map_err(|wrong| wrong.at(word.span))?.exposed());
            }
        }
        Ok(found)
    }

    /// The values that came from the command line, or were made of such, of the variables that a text
    /// names.
    pub fn given_in<'a>(&'a self, text: &str) -> Vec<&'a str> {
        let names = names_in(text).into_iter().filter(|name| self.visible.given.contains(*name));
        names.filter_map(|name| self.visible.get(name)).collect()
    }

    /// A message about a word, without what it quotes of values from the command line.
    pub fn masked(&self, word: &Word, message: &str) -> String {
        secret::mask(message, self.given_in(&word.text))
    }

    /// Takes note of a word that later steps begin with.
    pub fn note_setting(&mut self, word: &Word) {
        let given: Vec<String> = self.given_in(&word.text).into_iter().map(str::to_owned).collect();
        self.settings.extend(given);
    }

    /// What came from the command line of the words that later steps begin with.
    pub fn given_settings(&self) -> impl Iterator<Item = &str> {
        self.settings.iter().map(String::as_str)
    }

    /// What `RUN` sees, `ARG`s included: all of it belongs into the step's cache key.
    pub fn run_environment(&self) -> &[(String, String)] {
        &self.visible.list
    }

    /// What `RUN` sees besides, and what must not be part of its cache key: proxies of
    /// `--build-arg`, in both spellings.
    pub fn proxy_environment(&self, inputs: &Inputs) -> Vec<(String, String)> {
        let mut found = BTreeMap::new();
        // Of two spellings of one name, the later in this order counts: that in lower case.
        for (name, value) in &inputs.arguments {
            let upper = name.to_ascii_uppercase();
            if PROXIES.contains(&upper.as_str()) && !value.is_empty() {
                found.insert(upper.to_ascii_lowercase(), value.clone());
                found.insert(upper, value.clone());
            }
        }
        found.into_iter().filter(|(name, _)| self.visible.get(name).is_none()).collect()
    }

    /// What the image's config keeps, as `NAME=value`.
    pub fn image_environment(&self) -> Vec<String> {
        self.image.list.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// The `ARG`s that are in force, each once, with the values that `RUN` sees: history names
    /// them before the command.
    pub fn declared(&self) -> Vec<(String, String)> {
        let mut found = Environment::default();
        for (name, value) in &self.declared {
            let value = self.visible.get(name).or(value.as_deref()).unwrap_or_default();
            found.set(name, value, false);
        }
        found.list
    }

    /// The file's escape character.
    pub fn escape(&self) -> char {
        self.escape
    }

    /// Tells whether an `ARG` of this name is in force, with or without a value.
    pub fn declares(&self, name: &str) -> bool {
        self.declared.iter().any(|(known, _)| known == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::instruction::Kind;
    use crate::dockerfile::parse;
    use crate::dockerfile::source::Source;

    fn inputs(arguments: &[(&str, &str)]) -> Inputs {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Inputs {
            arguments: arguments.iter().map(owned).collect(),
            build: "linux/amd64".parse().unwrap(),
            target: "linux/arm64/v8".parse().unwrap(),
            stage: None,
        }
    }

    fn file(text: &str) -> Dockerfile {
        parse(&Source::new("Dockerfile", text))
            .unwrap_or_else(|errors| panic!("{}", errors.render()))
    }

    /// Executes every `ARG` and `ENV` of the file's stages, each on the one before.
    fn last_scope(text: &str, inputs: &Inputs, base: &[&str]) -> Scope {
        let file = file(text);
        let globals = Globals::evaluate(&file, inputs).unwrap();
        let base: Vec<_> = base.iter().map(|line| (*line).to_owned()).collect();
        let mut scope = Scope::on_image(file.directives.escape, &base);
        for (index, stage) in file.stages.iter().enumerate() {
            if index > 0 {
                scope = scope.on_stage();
            }
            for instruction in &stage.instructions {
                match &instruction.kind {
                    Kind::Arg(definitions) => {
                        scope.arg(definitions, &globals, inputs).unwrap();
                    }
                    Kind::Env(pairs) => {
                        scope.env(pairs).unwrap();
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        scope
    }

    fn seen(scope: &Scope, name: &str) -> Option<String> {
        scope.value(name).map(str::to_owned)
    }

    #[test]
    fn global_arguments_build_on_each_other_and_yield_to_the_command_line() {
        let text = "ARG A=1\nARG B=${A}2 C\nARG C=${C:-none} TARGETARCH=x\nFROM scratch AS Last";
        let globals = Globals::evaluate(&file(text), &inputs(&[("A", "9")])).unwrap();
        let cases = [
            ("A", Some("9")),
            ("B", Some("92")),
            ("C", Some("none")),
            ("TARGETARCH", Some("x")),
            ("TARGETPLATFORM", Some("linux/arm64")),
            ("TARGETVARIANT", Some("")),
            ("BUILDPLATFORM", Some("linux/amd64")),
            ("TARGETSTAGE", Some("last")),
            ("D", None),
        ];
        for (name, expected) in cases {
            assert_eq!(globals.value(name), expected, "{name}");
        }
        for (platform, written, variant) in
            [("linux/arm", "linux/arm/v7", "v7"), ("linux/amd64/v1", "linux/amd64", "")]
        {
            let inputs = Inputs::native(platform.parse().unwrap());
            let globals = Globals::evaluate(&file("FROM a"), &inputs).unwrap();
            assert_eq!(globals.value("TARGETPLATFORM"), Some(written));
            assert_eq!(globals.value("TARGETVARIANT"), Some(variant));
        }
        let arm = Inputs::native("linux/arm/v6".parse().unwrap());
        let globals = Globals::evaluate(&file("FROM a"), &arm).unwrap();
        assert_eq!(globals.value("TARGETVARIANT"), Some("v6"));
        assert_eq!(globals.value("TARGETSTAGE"), Some("default"));
        let error = Globals::evaluate(&file("ARG A=${B:?needed}\nFROM a"), &arm).unwrap_err();
        assert!(
            error.render().starts_with("Dockerfile:1:7: error: B: needed"),
            "{}",
            error.render()
        );
    }

    #[test]
    fn an_argument_of_a_stage_takes_its_value_from_the_nearest_place() {
        let text = "ARG G=global\nFROM a\nARG G\nARG H=default\nARG I\nARG TARGETARCH\nARG J=$G-$H";
        let scope = last_scope(text, &inputs(&[("H", "given"), ("UNASKED", "x")]), &[]);
        let cases = [
            ("G", Some("global")),
            ("H", Some("given")),
            ("I", None),
            ("TARGETARCH", Some("arm64")),
            ("TARGETOS", None),
            ("J", Some("global-given")),
            ("UNASKED", None),
        ];
        for (name, expected) in cases {
            assert_eq!(scope.value(name), expected, "{name}");
        }
        assert!(scope.declares("I"));
        let declared = scope.declared();
        let names: Vec<_> = declared.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["G", "H", "I", "TARGETARCH", "J"]);
    }

    #[test]
    fn the_later_of_arg_and_env_wins_and_only_env_stays_in_the_image() {
        let scope =
            last_scope("FROM a\nARG A=1\nENV A=2\nENV B=3\nARG B=4", &inputs(&[]), &["B=0"]);
        assert_eq!(seen(&scope, "A").as_deref(), Some("2"));
        assert_eq!(seen(&scope, "B").as_deref(), Some("4"));
        assert_eq!(scope.image_environment(), ["B=3", &format!("PATH={DEFAULT_PATH}"), "A=2"]);
    }

    #[test]
    fn thousands_of_variables_keep_their_order_and_their_last_values() {
        let mut scope = Scope::on_image('\\', &["PATH=/bin".to_owned()]);
        let pair = |name: String, value: String| Pair {
            key: Word::new(name, Span::default()),
            value: Word::new(value, Span::default()),
            legacy: false,
        };
        let count = 50_000;
        for number in 0..count {
            scope.env(&[pair(format!("N{number}"), "old".to_owned())]).unwrap();
        }
        for number in 0..count {
            scope.env(&[pair(format!("N{number}"), number.to_string())]).unwrap();
        }
        let kept = scope.image_environment();
        assert_eq!(kept.len(), count + 1);
        assert_eq!(kept[0], "PATH=/bin");
        assert!((0..count).all(|number| kept[number + 1] == format!("N{number}={number}")));
        assert_eq!(seen(&scope, "N7").as_deref(), Some("7"));
    }

    #[test]
    fn a_stage_on_a_stage_sees_its_arguments_but_env_comes_first() {
        let text = "FROM a AS x\nARG A=1\nENV B=env\nARG B=arg\nFROM x\nENV C=$A-$B";
        let scope = last_scope(text, &inputs(&[]), &["PATH=/bin"]);
        assert_eq!(seen(&scope, "C").as_deref(), Some("1-env"));
        assert_eq!(scope.image_environment(), ["PATH=/bin", "B=env", "C=1-env"]);
        assert_eq!(scope.declared()[0], ("A".to_owned(), "1".to_owned()));
    }

    #[test]
    fn env_sees_old_values_and_arg_sees_new_ones() {
        let text = "FROM a\nENV a=1\nENV a=2 b=$a c=\"$a $b\"\nARG d=1 e=$d";
        let scope = last_scope(text, &inputs(&[]), &[]);
        for (name, expected) in [("a", "2"), ("b", "1"), ("c", "1 "), ("d", "1"), ("e", "1")] {
            assert_eq!(scope.value(name), Some(expected), "{name}");
        }
    }

    #[test]
    fn history_shows_proxies_without_their_passwords() {
        for (name, value, expected) in [
            ("HTTPS_PROXY", "http://me:hunter2@proxy:3128", "http://***@proxy:3128"),
            ("https_proxy", "me:p@ss@proxy:3128/x", "***@proxy:3128/x"),
            ("ALL_PROXY", "http://proxy", "http://proxy"),
            ("OTHER", "http://me:hunter2@proxy", "http://me:hunter2@proxy"),
        ] {
            assert_eq!(shown_value(name, value), expected);
        }
    }

    #[test]
    fn proxies_reach_run_undeclared_and_outside_of_its_key() {
        let given = [
            ("http_proxy", "http://low"),
            ("HTTP_PROXY", "http://UP"),
            ("NO_PROXY", "x"),
            ("FTP_PROXY", ""),
        ];
        let inputs = inputs(&given);
        let scope = last_scope("FROM a\nARG NO_PROXY", &inputs, &["PATH=/bin"]);
        let expected =
            [("HTTP_PROXY", "http://low"), ("http_proxy", "http://low"), ("no_proxy", "x")];
        let expected: Vec<_> =
            expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(scope.proxy_environment(&inputs), expected);
        let keyed: Vec<_> = scope.run_environment().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(keyed, ["PATH", "NO_PROXY"]);
    }

    #[test]
    fn words_heredocs_mounts_and_ports_are_expanded_when_they_are_reached() {
        let text = "FROM a\nCOPY --chown=$u <<EOF <<'RAW' $d/\n\"$u\" \\$u\nEOF\n$u\nRAW\n\
                    RUN --mount=type=cache,target=/h/$u,uid=$n true\nEXPOSE $ports 80 1000-1001/UDP";
        let file = file(text);
        let scope = Scope::on_image(
            '\\',
            &["u=me".into(), "d=/dst".into(), "n=7".into(), "ports=9 8/tcp".into()],
        );
        let kinds: Vec<_> = file.stages[0].instructions.iter().map(|one| &one.kind).collect();
        let [Kind::Copy(copy), Kind::Run(run), Kind::Expose(ports)] = kinds[..] else { panic!() };
        assert_eq!(scope.expand(&copy.transfer.destination).unwrap(), "/dst/");
        assert_eq!(scope.inline_file(&copy.transfer.inline[0]).unwrap(), "\"me\" $u\n");
        assert_eq!(scope.inline_file(&copy.transfer.inline[1]).unwrap(), "$u\n");
        assert_eq!(scope.mount(&run.mounts[0]).unwrap().target.as_deref(), Some("/h/me"));
        assert_eq!(
            scope.ports(ports).unwrap(),
            ["9/tcp", "8/tcp", "1000/udp", "1001/udp", "80/tcp"]
        );
    }

    #[test]
    fn an_error_of_expansion_points_into_the_word() {
        let file = file("FROM a\nWORKDIR /a/${x:?set x}/b");
        let Kind::Workdir(word) = &file.stages[0].instructions[0].kind else { panic!() };
        let error = Scope::on_image('\\', &[]).expand(word).unwrap_err();
        let expected = "Dockerfile:2:12: error: x: set x\n  |\n2 | WORKDIR /a/${x:?set x}/b\n  |            ^^^^^^^^^^^^^";
        assert_eq!(error.render(&file.source), expected);
    }
}
