//! What each flag does, for each front end that there is: the one place that says it.
//!
//! A dialect has a table of its flags. What a front end ignores is noted, and what it cannot do is an
//! error with the next move; no code asks for single flags to find that out.

use super::typed::Typed;
use crate::error::{Error, ErrorKind, Result};

/// Who makes an image, or a container, of what was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontEnd {
    /// Go packages that are compiled.
    Packages,
    /// Programs that were built elsewhere.
    Prebuilt,
    /// A Dockerfile.
    Dockerfile,
    /// An image that is there, for `run`.
    Image,
    /// An unpacked folder, for `run`.
    Folder,
}

/// What a flag does for a front end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What its help says.
    Applies,
    /// Nothing, because what it asks for is so anyway.
    Fulfilled,
    /// Nothing, for this reason, which is said.
    Ignored(&'static str),
    /// What its help says if this switch is on, else nothing, for this reason.
    AppliesWith(&'static str, &'static str),
    /// What its help says, but an error beside this switch: why, and what to do instead.
    AppliesWithout(&'static str, &'static str, &'static str),
    /// It is an error: why, and what to do instead.
    Refused(&'static str, &'static str),
}

/// A row: a flag, and what it does.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its long name, or that of a positional argument.
    pub name: &'static str,
    effects: [Effect; 5],
    /// Whether it says by itself that a front end is meant which does not refuse it.
    pub decides: bool,
}

impl Flag {
    /// A flag that does the same for every front end.
    pub const fn new(name: &'static str, effect: Effect) -> Self {
        Self { name, effects: [effect; 5], decides: false }
    }

    /// With another effect for one front end.
    pub const fn on(mut self, front_end: FrontEnd, effect: Effect) -> Self {
        self.effects[front_end as usize] = effect;
        self
    }

    /// One that decides which front end is meant.
    pub const fn deciding(mut self) -> Self {
        self.decides = true;
        self
    }

    /// What it does for a front end.
    pub fn effect(&self, front_end: FrontEnd) -> Effect {
        self.effects[front_end as usize]
    }

    fn is_refused(&self, front_end: FrontEnd) -> bool {
        matches!(self.effect(front_end), Effect::Refused(..))
    }

    /// The flag as it is typed.
    pub fn display_name(&self) -> String {
        format!("--{}", self.name)
    }
}

/// The front ends that the flags which were typed leave, of those given. Errs where two flags exclude
/// each other.
pub fn meant(flags: &[Flag], typed: &Typed, front_ends: &[FrontEnd]) -> Result<Vec<FrontEnd>> {
    let mut left = front_ends.to_vec();
    let mut earlier: Option<&Flag> = None;
    for flag in flags.iter().filter(|flag| flag.decides && typed.asks_for(flag.name)) {
        let before = left.clone();
        left.retain(|front_end| !flag.is_refused(*front_end));
        match earlier {
            Some(earlier) if left.is_empty() => return Err(exclusive(earlier, flag, &before)),
            _ if left != before => earlier = Some(flag),
            _ => {}
        }
    }
    Ok(left)
}

/// Two flags that decide for different front ends.
fn exclusive(one: &Flag, other: &Flag, front_ends: &[FrontEnd]) -> Error {
    let action = format!("use {} with {}", other.display_name(), one.display_name());
    let error = Error::new(ErrorKind::Usage, action).hint("leave one of the two out");
    match front_ends.first().map(|front_end| other.effect(*front_end)) {
        Some(Effect::Refused(why, _)) => error.because(why),
        _ => error,
    }
}

/// Refuses what a front end cannot do; gives a note for each flag that it ignores.
pub fn check(flags: &[Flag], typed: &Typed, front_end: FrontEnd) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for flag in flags {
        let why = match flag.effect(front_end) {
            Effect::Refused(why, instead) if typed.asks_for(flag.name) => {
                let action = format!("use {}", flag.display_name());
                return Err(Error::new(ErrorKind::Usage, action).because(why).hint(instead));
            }
            Effect::AppliesWithout(switch, why, instead)
                if typed.asks_for(flag.name) && typed.asks_for(switch) =>
            {
                let action = format!("use {} with --{switch}", flag.display_name());
                return Err(Error::new(ErrorKind::Usage, action).because(why).hint(instead));
            }
            Effect::Ignored(why) => why,
            Effect::AppliesWith(switch, why) if !typed.asks_for(switch) => why,
            _ => continue,
        };
        if typed.has(flag.name) {
            notes.push(format!("{} is accepted and has no effect: {why}", flag.display_name()));
        }
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _, Parser};

    use super::*;
    use crate::cli::flags::typed::Noted;

    #[derive(Clone, Debug, Parser)]
    #[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
    struct Words {
        #[arg(long)]
        file: Option<String>,
        #[arg(long)]
        bin: Option<String>,
        #[arg(long)]
        check: bool,
        #[arg(long)]
        memory: bool,
        #[arg(long)]
        rm: bool,
        #[arg(long)]
        cache: bool,
        #[arg(long, default_value = "1")]
        age: String,
        #[arg(long)]
        out: Option<String>,
    }

    const NOT_HERE: Effect = Effect::Refused("it is another's", "leave it out");
    const FLAGS: [Flag; 8] = [
        Flag::new("file", Effect::Applies).on(FrontEnd::Packages, NOT_HERE).deciding(),
        Flag::new("bin", Effect::Applies).on(FrontEnd::Dockerfile, NOT_HERE).deciding(),
        Flag::new("check", Effect::Applies).on(FrontEnd::Packages, NOT_HERE),
        Flag::new("memory", Effect::Ignored("there is enough")),
        Flag::new("rm", Effect::Fulfilled),
        Flag::new("cache", Effect::Applies),
        Flag::new("age", Effect::AppliesWith("cache", "nothing ages")),
        Flag::new("out", Effect::AppliesWithout("rm", "nothing is left", "leave it out")),
    ];
    const BOTH: [FrontEnd; 2] = [FrontEnd::Packages, FrontEnd::Dockerfile];

    fn typed(words: &[&str]) -> Typed {
        let program = super::super::switch::with_values(Words::augment_args(
            clap::Command::new("program").no_binary_name(true),
        ));
        let matches = program.try_get_matches_from(words).unwrap();
        Noted::<Words>::from_arg_matches(&matches).unwrap().typed
    }

    #[test]
    fn flags_decide_who_is_meant() {
        let meant = |words: &[&str]| meant(&FLAGS, &typed(words), &BOTH);
        assert_eq!(meant(&[]).unwrap(), BOTH);
        assert_eq!(meant(&["--check"]).unwrap(), BOTH);
        assert_eq!(meant(&["--file=x"]).unwrap(), [FrontEnd::Dockerfile]);
        assert_eq!(meant(&["--bin=x", "--rm"]).unwrap(), [FrontEnd::Packages]);
        let error = meant(&["--bin=x", "--file=y"]).unwrap_err().to_string();
        let expected =
            "cannot use --bin with --file: it is another's; hint: leave one of the two out";
        assert_eq!(error, expected);
    }

    #[test]
    fn what_is_not_done_is_refused_or_noted() {
        let check = |words: &[&str]| check(&FLAGS, &typed(words), FrontEnd::Packages);
        assert_eq!(check(&["--rm", "--cache", "--age=2"]).unwrap(), [""; 0]);
        assert_eq!(check(&["--check=false"]).unwrap(), [""; 0]);
        let notes = check(&["--age=2", "--memory=false"]).unwrap();
        let expected = [
            "--memory is accepted and has no effect: there is enough",
            "--age is accepted and has no effect: nothing ages",
        ];
        assert_eq!(notes, expected);
        let error = check(&["--memory", "--check"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert_eq!(error.to_string(), "cannot use --check: it is another's; hint: leave it out");
    }

    #[test]
    fn a_flag_that_a_switch_excludes_is_refused_beside_it_alone() {
        let check = |words: &[&str]| check(&FLAGS, &typed(words), FrontEnd::Packages);
        for words in [&["--out=x"][..], &["--rm"], &["--out=x", "--rm=false"]] {
            assert_eq!(check(words).unwrap(), [""; 0], "{words:?}");
        }
        let error = check(&["--rm", "--out=x"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        let expected = "cannot use --out with --rm: nothing is left; hint: leave it out";
        assert_eq!(error.to_string(), expected);
    }
}
