//! What each flag does, for each front end that there is: the one place that says it.
//!
//! A dialect has a table of its flags. What a front end ignores is noted, and what it cannot do is an
//! error with the next move; no code asks for single flags to find that out.

use super::typed::Typed;
use crate::error::{Error, ErrorKind, Result};

/// Who makes an image, or a container, of what was typed: the columns of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontEnd {
    /// Go packages that are compiled.
    Packages,
    /// Programs that were built elsewhere.
    Prebuilt,
    /// A Dockerfile, with gondola's own flags or those of another tool.
    Dockerfile,
    /// `run` of an image that is there.
    RunImage,
    /// `run` of a Go package.
    RunPackage,
    /// `run` in an unpacked folder.
    RunFolder,
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
    /// What its help says, but an error beside one of these switches: why, and what to do instead.
    AppliesWithout(&'static [&'static str], &'static str, &'static str),
    /// What its help says if this switch is on, else an error: why, and what to do instead.
    Needs(&'static str, &'static str, &'static str),
    /// It is an error: why, and what to do instead.
    Refused(&'static str, &'static str),
}

/// A row: a flag, and what it does.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its long name, or that of a positional argument.
    pub name: &'static str,
    /// By front ends; nothing for those whose command has no such flag.
    effects: [Option<Effect>; 6],
}

impl Flag {
    /// A flag that no command has yet.
    pub const fn named(name: &'static str) -> Self {
        Self { name, effects: [None; 6] }
    }

    /// A flag that does the same for every front end.
    pub const fn new(name: &'static str, effect: Effect) -> Self {
        Self { name, effects: [Some(effect); 6] }
    }

    /// With what it does for packages, prebuilt programs and Dockerfiles.
    pub const fn build(mut self, [packages, prebuilt, dockerfile]: [Effect; 3]) -> Self {
        self.effects[FrontEnd::Packages as usize] = Some(packages);
        self.effects[FrontEnd::Prebuilt as usize] = Some(prebuilt);
        self.effects[FrontEnd::Dockerfile as usize] = Some(dockerfile);
        self
    }

    /// With what it does for an image, a package and a folder that are run.
    pub const fn run(mut self, [image, package, folder]: [Effect; 3]) -> Self {
        self.effects[FrontEnd::RunImage as usize] = Some(image);
        self.effects[FrontEnd::RunPackage as usize] = Some(package);
        self.effects[FrontEnd::RunFolder as usize] = Some(folder);
        self
    }

    /// What it does for a front end, where that one's command has it.
    pub fn effect(&self, front_end: FrontEnd) -> Option<Effect> {
        self.effects[front_end as usize]
    }

    /// Whether a front end cannot do it at all: then it says by itself that another one is meant.
    pub fn is_refused(&self, front_end: FrontEnd) -> bool {
        matches!(self.effect(front_end), Some(Effect::Refused(..)))
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
    for flag in flags.iter().filter(|flag| typed.asks_for(flag.name)) {
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
        Some(Some(Effect::Refused(why, _))) => error.because(why),
        _ => error,
    }
}

/// Refuses what a front end cannot do; gives a note for each flag that it ignores.
pub fn check(flags: &[Flag], typed: &Typed, front_end: FrontEnd) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for flag in flags {
        let asked = typed.asks_for(flag.name);
        let refuse = |action: String, why, instead| {
            Err(Error::new(ErrorKind::Usage, action).because(why).hint(instead))
        };
        let name = flag.display_name();
        let Some(effect) = flag.effect(front_end) else { continue };
        let why = match effect {
            Effect::Refused(why, instead) if asked => {
                return refuse(format!("use {name}"), why, instead);
            }
            Effect::AppliesWithout(switches, why, instead)
                if asked && let Some(switch) = switches.iter().find(|it| typed.asks_for(it)) =>
            {
                return refuse(format!("use {name} with --{switch}"), why, instead);
            }
            Effect::Needs(switch, why, instead) if asked && !typed.asks_for(switch) => {
                return refuse(format!("use {name} without --{switch}"), why, instead);
            }
            Effect::Ignored(why) => why,
            Effect::AppliesWith(switch, why) if !typed.asks_for(switch) => why,
            _ => continue,
        };
        if typed.has(flag.name) {
            notes.push(format!("{name} is accepted and has no effect: {why}"));
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
        form: bool,
        #[arg(long)]
        cache: bool,
        #[arg(long, default_value = "1")]
        age: String,
        #[arg(long)]
        out: Option<String>,
    }

    const NOT_HERE: Effect = Effect::Refused("it is another's", "leave it out");
    const YES: Effect = Effect::Applies;
    const FLAGS: [Flag; 9] = [
        Flag::named("file").build([NOT_HERE, YES, YES]),
        Flag::named("bin").build([YES, YES, NOT_HERE]),
        Flag::named("memory").build([Effect::Ignored("there is enough"); 3]),
        Flag::named("rm").build([Effect::Fulfilled; 3]),
        Flag::named("cache").build([YES; 3]),
        Flag::named("age").build([Effect::AppliesWith("cache", "nothing ages"); 3]),
        Flag::named("out")
            .build([Effect::AppliesWithout(&["rm"], "nothing is left", "leave it out"); 3]),
        Flag::named("form").build([Effect::Needs("cache", "nothing is shown", "add it"); 3]),
        Flag::named("check").run([NOT_HERE; 3]),
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
        // Another command's.
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
        assert_eq!(check(&["--file=x"]).unwrap_err().kind(), ErrorKind::Usage);
        assert_eq!(check(&["--check", "--form=false"]).unwrap(), [""; 0]);
        assert_eq!(check(&["--form", "--cache"]).unwrap(), [""; 0]);
        for words in [&["--form"][..], &["--form", "--cache=false"]] {
            let said = check(words).unwrap_err().to_string();
            assert_eq!(said, "cannot use --form without --cache: nothing is shown; hint: add it");
        }
        let notes = check(&["--age=2", "--memory=false"]).unwrap();
        let expected = [
            "--memory is accepted and has no effect: there is enough",
            "--age is accepted and has no effect: nothing ages",
        ];
        assert_eq!(notes, expected);
        let error = check(&["--memory", "--file=x"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert_eq!(error.to_string(), "cannot use --file: it is another's; hint: leave it out");
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
