//! What later steps, and the image, read of what a step leaves: no cache may hide that.

use super::stage::Stage;
use crate::dockerfile::instruction::{CommandLine, Kind};
use crate::dockerfile::source::Span;
use crate::dockerfile::{Diagnostic, Origin};

/// Programs whose start needs what was downloaded or compiled during the build.
const RUNS_GO: [&str; 8] = ["go", "air", "dlv", "gow", "reflex", "realize", "fresh", "modd"];

/// The paths that later steps read from a stage, so that no cache may hide them.
pub(super) fn reads(stage: &Stage<'_>) -> Vec<String> {
    let build = stage.build;
    let mut reads = Vec::new();
    for (index, other) in build.common.file.stages.iter().enumerate() {
        for instruction in &other.instructions {
            for (from, paths) in sources(&instruction.kind) {
                let origin: Result<Origin, Diagnostic> =
                    build.graph.from(index, &from, Span::default());
                let takes = matches!(origin, Ok(Origin::Stage(source)) if is_on(stage, source));
                if takes {
                    reads.extend(paths);
                }
            }
        }
    }
    if is_on(stage, build.target) && starts_go(stage) {
        reads.push("/".to_owned());
    }
    reads.sort();
    reads.dedup();
    reads
}

/// Whether a stage has the files of this one: it is the same, or built on it.
pub(super) fn is_on(stage: &Stage<'_>, other: usize) -> bool {
    let mut at = other;
    loop {
        if at == stage.index {
            return true;
        }
        match stage.build.graph.nodes()[at].base {
            Origin::Stage(below) => at = below,
            _ => return false,
        }
    }
}

/// What an instruction copies or mounts from elsewhere.
fn sources(kind: &Kind) -> Vec<(String, Vec<String>)> {
    match kind {
        Kind::Copy(copy) => {
            let paths = copy.transfer.paths.iter().map(|path| path.text.clone()).collect();
            copy.from.iter().map(|from| (from.text.clone(), Vec::clone(&paths))).collect()
        }
        Kind::Run(run) => {
            let named = run.mounts.iter().filter_map(|flag| flag.from.clone());
            named.map(|from| (from, vec!["/".to_owned()])).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether the last command that the target's stages set runs Go.
fn starts_go(stage: &Stage<'_>) -> bool {
    let mut at = stage.build.target;
    loop {
        let own = &stage.build.common.file.stages[at].instructions;
        let commands = own.iter().filter_map(|instruction| match &instruction.kind {
            Kind::Cmd(command) | Kind::Entrypoint(command) => Some(command),
            _ => None,
        });
        if commands.into_iter().any(names_go) {
            return true;
        }
        match stage.build.graph.nodes()[at].base {
            Origin::Stage(below) => at = below,
            _ => return false,
        }
    }
}

fn names_go(command: &CommandLine) -> bool {
    let words: Vec<&str> = match command {
        CommandLine::Shell(text) => text.text.split(|c: char| !is_word(c)).collect(),
        CommandLine::Exec(words) => {
            words.iter().flat_map(|word| word.text.split(|c: char| !is_word(c))).collect()
        }
    };
    words.iter().any(|word| RUNS_GO.contains(&word.rsplit('/').next().unwrap_or(word)))
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "/._-".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_run_go_are_told() {
        let exec = |words: &[&str]| {
            let word = |text: &&str| crate::dockerfile::Word::new(*text, Span::default());
            CommandLine::Exec(words.iter().map(word).collect())
        };
        let shell =
            |text: &str| CommandLine::Shell(crate::dockerfile::Word::new(text, Span::default()));
        for (command, expected) in [
            (exec(&["go", "run", "."]), true),
            (exec(&["/usr/local/go/bin/go", "test"]), true),
            (exec(&["./main"]), false),
            (exec(&["/go/bin/app"]), false),
            (shell("cd x && go run ."), true),
            (shell("air -c .air.toml"), true),
            (shell("/app/golang-app"), false),
        ] {
            assert_eq!(names_go(&command), expected, "{command:?}");
        }
    }
}
