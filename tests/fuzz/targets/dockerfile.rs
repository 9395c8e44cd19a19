//! Dockerfiles: the parser, the linter, the graph of stages, and variables step by step.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use gondola::context::ignore::Patterns;
use gondola::dockerfile::expand::Expander;
use gondola::dockerfile::lint::LintContext;
use gondola::dockerfile::{
    Dockerfile, Globals, Graph, Inputs, Kind, Scope, Source, Span, check, parse,
};
use libfuzzer_sys::fuzz_target;

/// One expansion gives at most 16 MiB; a file may have many.
const LONGEST: usize = 16 << 20;

fuzz_target!(|data: &[u8]| {
    let source = match gondola::dockerfile::text::read("Dockerfile", data) {
        Ok(source) => source,
        Err(errors) => {
            shown(&errors.source, errors.list.iter().map(|error| (error.span, error)));
            return;
        }
    };
    let inputs = inputs();
    linted(&source, &inputs);
    words(source.text());
    let Ok(file) = parse(&source) else { return };
    let Ok(globals) = Globals::evaluate(&file, &inputs) else { return };
    let contexts = BTreeSet::from(["named".to_owned()]);
    let Ok(graph) = Graph::build(&file, &globals, &inputs, &contexts) else { return };
    assert_eq!(graph.nodes().len(), file.stages.len());
    for index in 0..file.stages.len() {
        if let Ok(needed) = graph.needed(index) {
            assert!(needed.contains(&index) && needed.iter().all(|each| *each <= index));
        }
    }
    execute(&file, &globals, &inputs);
});

fn inputs() -> Inputs {
    let mut inputs = Inputs::native("linux/amd64".parse().expect("a platform"));
    inputs.arguments = BTreeMap::from([
        ("GIVEN".to_owned(), "given by the user".to_owned()),
        ("EMPTY".to_owned(), String::new()),
    ]);
    inputs
}

fn linted(source: &Source, inputs: &Inputs) {
    let lint_context = LintContext {
        inputs,
        contexts: &BTreeSet::new(),
        stages: None,
        environment: &|_| Some(vec!["PATH=/bin".to_owned(), "BASE=x".to_owned()]),
        ignored: &|path| path.len() % 2 == 0,
    };
    let found = check(source, &lint_context);
    shown(source, found.iter().map(|finding| (finding.span, finding)));
}

/// Every place that is named lies in the file, and can be shown.
fn shown<'a>(
    source: &Source,
    found: impl Iterator<Item = (Span, &'a gondola::dockerfile::Diagnostic)>,
) {
    let text = source.text();
    for (span, finding) in found.take(64) {
        assert!(span.start <= span.end && span.end <= text.len(), "{span:?} lies outside");
        assert!(text.is_char_boundary(span.start) && text.is_char_boundary(span.end), "{span:?}");
        let shown = finding.render(source);
        assert!(shown.starts_with("Dockerfile"), "{shown}");
        assert!(!shown.contains('\x1b'), "an escape sequence reaches the terminal");
    }
}

/// The same text as one word, as the body of a heredoc, as rules and as a duration.
fn words(text: &str) {
    let variables = inputs().arguments;
    for expander in [Expander::new('\\'), Expander::new('`'), Expander::body()] {
        if let Ok(expanded) = expander.expand(text, &variables) {
            assert!(expanded.text.len() <= LONGEST, "an expansion has no bound");
            assert!(expanded.used.is_disjoint(&expanded.missing));
        }
        let _ = expander.keeping_unset().words(text, &variables);
    }
    if text.len() < 200 {
        let _ = gondola::literal::go_duration(text);
        if let Ok(patterns) = Patterns::of_file(".dockerignore", text) {
            for path in ["a", "a/b", "a/b/c.go", ".git/config"] {
                let _ = patterns.matches_path(path);
            }
        }
    }
}

/// Variables as the stages set them.
fn execute(file: &Dockerfile, globals: &Globals, inputs: &Inputs) {
    for stage in &file.stages {
        let mut scope = Scope::on_image(file.directives.escape, &["BASE=x y".to_owned()]);
        for instruction in &stage.instructions {
            let done = match &instruction.kind {
                Kind::Arg(definitions) => scope.arg(definitions, globals, inputs).map(drop),
                Kind::Env(pairs) => scope.env(pairs).map(drop),
                Kind::Label(pairs) => scope.pairs(pairs).map(drop),
                Kind::Expose(words) => scope.ports(words).map(drop),
                _ => Ok(()),
            };
            if done.is_err() {
                break;
            }
        }
        for line in scope.image_environment() {
            assert!(line.contains('='), "{line}");
        }
    }
}
