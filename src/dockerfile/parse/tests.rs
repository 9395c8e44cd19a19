//! What the parser takes, what it makes of it, and what it says about the rest.

mod mounts;

use std::time::Duration;

use super::*;
use crate::dockerfile::instruction::{
    CommandLine, Copy, HealthTiming, Healthcheck, Heredoc, Pair, Run, RunNetwork, Security,
};
use crate::dockerfile::source::Word;

/// Keys with their values.
type Texts = [(&'static str, &'static str)];

fn file(text: &str) -> Dockerfile {
    parse(&Source::new("Dockerfile", text)).unwrap_or_else(|errors| panic!("{}", errors.render()))
}

/// The instruction in a stage of its own.
fn kind(text: &str) -> Kind {
    let mut file = file(&format!("FROM scratch\n{text}\n"));
    file.stages[0].instructions.remove(0).kind
}

fn texts(words: &[Word]) -> Vec<&str> {
    words.iter().map(Word::as_str).collect()
}

/// Every error as `line:column: message; label`.
fn errors(text: &str) -> Vec<String> {
    let Err(errors) = parse(&Source::new("Dockerfile", text)) else { return Vec::new() };
    let shown = errors.list.iter().map(|error| {
        let at = errors.source.position(error.span.start);
        let label = error.label.as_deref().unwrap_or_default();
        format!("{}:{}: {}; {label}", at.line, at.column, error.message)
    });
    shown.collect()
}

fn run(text: &str) -> Run {
    match kind(text) {
        Kind::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn copy(text: &str) -> Copy {
    match kind(text) {
        Kind::Copy(copy) => copy,
        other => panic!("{other:?}"),
    }
}

fn shell_of(run: &Run) -> &str {
    match &run.command {
        CommandLine::Shell(word) => word.as_str(),
        CommandLine::Exec(words) => panic!("{words:?}"),
    }
}

#[test]
fn stages_have_a_base_a_platform_and_a_name() {
    let file = file(
        "ARG V=1.26 W\nFROM --platform=$BUILDPLATFORM golang:$V AS Build\nRUN true\n\nfrom scratch\n",
    );
    assert_eq!(file.globals[0].definitions.len(), 2);
    let from = &file.stages[0].from;
    assert_eq!(from.base.text, "golang:$V");
    assert_eq!(from.platform.as_ref().unwrap().text, "$BUILDPLATFORM");
    assert_eq!(from.alias.as_ref().unwrap().name.text, "Build");
    assert_eq!(file.source.slice(from.base.span), "golang:$V");
    assert_eq!(file.source.slice(from.platform.as_ref().unwrap().span), "$BUILDPLATFORM");
    assert_eq!(file.stages[0].instructions.len(), 1);
    assert_eq!(file.stages[1].from.keyword.text, "from");
    assert!(file.stages[1].from.alias.is_none());
}

#[test]
fn directives_stand_at_the_very_top() {
    let cases = [
        ("# escape=`\nFROM a\nRUN x `\n  y\n", '`', None),
        ("#escape = `  \n# syntax=docker/dockerfile:1\nFROM a", '`', Some("docker/dockerfile:1")),
        ("\u{feff}# syntax=x\nFROM a", '\\', Some("x")),
        ("# SYNTAX=x\nFROM a", '\\', Some("x")),
        ("# a comment\n# escape=`\nFROM a", '\\', None),
        ("\n# escape=`\nFROM a", '\\', None),
        ("# unknown=1\n# escape=`\nFROM a", '\\', None),
        ("FROM a\n# escape=`\n", '\\', None),
        ("  # escape=`\nFROM a", '`', None),
    ];
    for (text, escape, syntax) in cases {
        let directives = file(text).directives;
        assert_eq!(directives.escape, escape, "{text}");
        assert_eq!(directives.syntax.as_ref().map(Word::as_str), syntax, "{text}");
    }
    assert_eq!(
        errors("# escape=x\nFROM a"),
        ["1:10: the escape character cannot be \"x\"; expected \\ or `"]
    );
    assert_eq!(
        errors("# syntax=a\n# Syntax=b\nFROM a"),
        ["2:1: the directive syntax is given twice; leave one of them out"]
    );
}

#[test]
fn continuations_join_lines_and_drop_comments() {
    let cases = [
        ("RUN a \\\n  b", "a   b"),
        ("RUN a\\\nb", "ab"),
        ("RUN a \\  \n\t b", "a \t b"),
        ("RUN a \\\r\n b", "a  b"),
        ("RUN a \\\n# comment\n b", "a  b"),
        ("RUN a \\\n   # comment\n b", "a  b"),
        ("RUN a \\\n\n\n b", "a  b"),
        ("RUN a \\\\\nRUN b", "a \\\\"),
        ("RUN a \\", "a"),
        ("RUN a # no comment", "a # no comment"),
        ("RUN \\\n\\\n a", "a"),
        ("RUN a \\ b", "a \\ b"),
    ];
    for (text, expected) in cases {
        assert_eq!(shell_of(&run(text)), expected, "{text}");
    }
    let empty = file("FROM a\nRUN x \\\n\n\n y\n").empty_continuations;
    assert_eq!(empty, [Span::new(15, 15)]);
    let backquote = file("# escape=`\nFROM a\nRUN a\\ `\n b").stages.remove(0);
    assert_eq!(backquote.instructions[0].code, "RUN a\\  b");
}

#[test]
fn spans_point_at_the_words_of_continued_lines() {
    let text = "FROM a\nCOPY one \\\n  # comment\n  two/ \\\n  /three\n";
    let file = file(text);
    let Kind::Copy(copy) = &file.stages[0].instructions[0].kind else { panic!() };
    for word in copy.transfer.paths.iter().chain([&copy.transfer.destination]) {
        assert_eq!(file.source.slice(word.span), word.text);
    }
    assert_eq!(texts(&copy.transfer.paths), ["one", "two/"]);
    assert_eq!(file.source.slice(file.stages[0].instructions[0].span), text[7..].trim_end());
}

#[test]
fn comments_belong_to_the_instruction_below() {
    let text = "FROM a\n# one\n  # two \nRUN x\nRUN y\n# lost\n#\n# kept\n\nRUN z\n";
    let comments: Vec<Vec<String>> = file(text).stages[0]
        .instructions
        .iter()
        .map(|one| one.comments.iter().map(|word| word.text.clone()).collect())
        .collect();
    assert_eq!(comments, [vec!["one", "two"], vec![], vec!["kept"]]);
}

#[test]
fn commands_have_a_shell_form_and_a_json_form() {
    let cases: [(&str, Result<&str, &[&str]>); 10] = [
        ("RUN go build ./...", Ok("go build ./...")),
        ("RUN [\"go\", \"build\"]", Err(&["go", "build"])),
        ("RUN  [ \"a\\tb\" ,\"\\u00e4\" ] ", Err(&["a\tb", "ä"])),
        ("RUN ['go']", Ok("['go']")),
        ("RUN [\"go\", ]", Ok("[\"go\", ]")),
        ("RUN [\"go\"] && x", Ok("[\"go\"] && x")),
        ("RUN [ -f x ]", Ok("[ -f x ]")),
        ("RUN []", Err(&[])),
        ("RUN", Ok("")),
        ("RUN \"a  b\"", Ok("\"a  b\"")),
    ];
    for (text, expected) in cases {
        let command = run(text).command;
        match (&command, expected) {
            (CommandLine::Shell(word), Ok(text)) => assert_eq!(word.text, text),
            (CommandLine::Exec(words), Err(expected)) => assert_eq!(texts(words), expected),
            _ => panic!("{text}: {command:?}"),
        }
    }
    assert!(
        matches!(kind("ENTRYPOINT"), Kind::Entrypoint(CommandLine::Shell(word)) if word.text.is_empty())
    );
    assert!(
        matches!(kind("CMD [\"/app\"]"), Kind::Cmd(CommandLine::Exec(words)) if words.len() == 1)
    );
    assert_eq!(
        errors("FROM a\nCMD [\"a\", 1]"),
        ["2:5: the JSON form takes strings only; every element has to stand in double quotes"]
    );
}

#[test]
fn run_has_mounts_a_network_and_a_security() {
    let run = run(
        "RUN --network=none --security=insecure --device=gpu --mount=target=/a --mount=type=tmpfs,dst=/b -- --x",
    );
    assert_eq!(run.network, RunNetwork::None);
    assert!(matches!(run.security, Security::Insecure(_)));
    assert_eq!(texts(&run.devices), ["gpu"]);
    assert_eq!(run.mounts.len(), 2);
    assert_eq!(shell_of(&run), "--x");
}

#[test]
fn copy_and_add_have_all_their_flags() {
    let copy = copy(
        "COPY --from=build --chown=a:b --chmod=u+x --link --parents --exclude=*.md --exclude=x a b /c/",
    );
    assert_eq!(copy.from.as_ref().unwrap().text, "build");
    assert!(copy.parents && copy.transfer.link);
    assert_eq!(copy.transfer.chown.as_ref().unwrap().text, "a:b");
    assert_eq!(copy.transfer.chmod.as_ref().unwrap().text, "u+x");
    assert_eq!(texts(&copy.transfer.excludes), ["*.md", "x"]);
    assert_eq!(texts(&copy.transfer.paths), ["a", "b"]);
    assert_eq!(copy.transfer.destination.text, "/c/");
    let Kind::Add(add) =
        kind("ADD --checksum=sha256:ab --keep-git-dir=true --unpack=False http://x/y /")
    else {
        panic!()
    };
    assert_eq!((add.keep_git_dir, add.unpack), (Some(true), Some(false)));
    assert_eq!(add.checksum.unwrap().text, "sha256:ab");
    assert!(!copy_flagless().transfer.link);
}

fn copy_flagless() -> Copy {
    copy("COPY --link=false [\"a b\", \"c\", \"/d e/\"]")
}

#[test]
fn the_json_form_of_copy_keeps_spaces() {
    let copy = copy_flagless();
    assert_eq!(texts(&copy.transfer.paths), ["a b", "c"]);
    assert_eq!(copy.transfer.destination.text, "/d e/");
    let Kind::Volume(volumes) = kind("VOLUME [\"/a b\", \"/c\"]") else { panic!() };
    assert_eq!(texts(&volumes), ["/a b", "/c"]);
    let Kind::Volume(volumes) = kind("VOLUME /a /b") else { panic!() };
    assert_eq!(texts(&volumes), ["/a", "/b"]);
}

#[test]
fn heredocs_are_read_wherever_they_open() {
    let cases: [(&str, &str, &Texts); 9] = [
        ("RUN <<EOF\na\nb\nEOF", "<<EOF", &[("EOF", "a\nb\n")]),
        ("RUN <<-EOF\n\ta\n\tEOF", "<<-EOF", &[("EOF", "\ta\n")]),
        ("RUN cat <<EOF > /x && echo\nfoo\nEOF", "cat <<EOF > /x && echo", &[("EOF", "foo\n")]),
        ("RUN 3<<X cat <&3\nX", "3<<X cat <&3", &[("X", "")]),
        ("RUN <<'A B' sh\necho\nA B", "<<'A B' sh", &[("A B", "echo\n")]),
        ("RUN echo \"<<EOF\"", "echo \"<<EOF\"", &[]),
        ("RUN [\"<<EOF\"]", "", &[]),
        ("RUN echo $((1<<2))", "echo $((1<<2))", &[]),
        ("RUN a <<ONE; b\n1\nONE;", "a <<ONE; b", &[("ONE;", "1\n")]),
    ];
    for (text, command, expected) in cases {
        let run = run(text);
        let found: Vec<_> =
            run.heredocs.iter().map(|one| (one.name.as_str(), one.body.as_str())).collect();
        assert_eq!(found, expected, "{text}");
        if !command.is_empty() {
            assert_eq!(shell_of(&run), command);
        }
    }
    let two = run("RUN a <<ONE && b <<TWO\n1\nONE\n2\nTWO");
    assert_eq!(two.heredocs.len(), 2);
    assert_eq!((two.heredocs[1].name.as_str(), two.heredocs[1].body.as_str()), ("TWO", "2\n"));
}

#[test]
fn quotes_of_the_delimiter_and_tabs_are_kept_in_mind() {
    let heredoc = |text: &str| run(text).heredocs.remove(0);
    let cases = [
        ("RUN <<EOF\n\tx\nEOF", true, false, "\tx\n"),
        ("RUN <<'EOF'\n\tx\nEOF", false, false, "\tx\n"),
        ("RUN <<E\"O\"F\n\tx\nEOF", false, false, "\tx\n"),
        ("RUN <<-EOF\n\t\tx\n\t y\n\tEOF", true, true, "x\n y\n"),
        ("RUN <<-\"EOF\"\nx\nEOF", false, true, "x\n"),
    ];
    for (text, expand, strip_tabs, content) in cases {
        let heredoc: Heredoc = heredoc(text);
        assert_eq!((heredoc.expand, heredoc.strip_tabs), (expand, strip_tabs), "{text}");
        assert_eq!(heredoc.content(), content, "{text}");
    }
}

#[test]
fn lines_of_heredocs_are_neither_comments_nor_continuations() {
    let file = file("FROM a\nRUN <<EOF\n# no comment\nFROM b\\\n\nEOF\nRUN next\n");
    let instructions = &file.stages[0].instructions;
    assert_eq!((file.stages.len(), instructions.len()), (1, 2));
    let Kind::Run(run) = &instructions[0].kind else { panic!() };
    assert_eq!(run.heredocs[0].body, "# no comment\nFROM b\\\n\n");
    assert_eq!(file.source.slice(run.heredocs[0].span), run.heredocs[0].body);
    assert!(file.source.slice(instructions[0].span).ends_with("EOF"));
}

#[test]
fn heredocs_are_sources_of_copy() {
    let copy = copy("COPY <<one.txt plain <<\"two\" /d/\n1 $x\none.txt\n2\ntwo");
    assert_eq!(texts(&copy.transfer.paths), ["plain"]);
    let files: Vec<_> = copy
        .transfer
        .inline
        .iter()
        .map(|one| (one.name.as_str(), one.expand, one.content()))
        .collect();
    assert_eq!(files, [("one.txt", true, "1 $x\n".to_owned()), ("two", false, "2\n".to_owned())]);
    assert_eq!(
        errors("FROM a\nCOPY x <<EOF\nEOF"),
        ["2:8: the destination of COPY cannot be a heredoc; expected a path"]
    );
}

#[test]
fn a_heredoc_without_an_end_is_an_error() {
    let text = "FROM a\nRUN <<EOF\nx\n EOF\n";
    assert_eq!(errors(text), ["2:1: the heredoc EOF is never ended; "]);
    assert_eq!(errors("FROM a\nCOPY <<A <<B /\nA\n"), ["2:1: the heredoc B is never ended; "]);
}

#[test]
fn env_and_label_have_a_legacy_form() {
    let pairs = |text: &str| match kind(text) {
        Kind::Env(pairs) | Kind::Label(pairs) => pairs,
        other => panic!("{other:?}"),
    };
    let cases: [(&str, &Texts, bool); 7] = [
        ("ENV a=1 b=\"x y\" c=d\\ e", &[("a", "1"), ("b", "\"x y\""), ("c", "d\\ e")], false),
        ("ENV a  x  y=z", &[("a", "x  y=z")], true),
        ("ENV a=", &[("a", "")], false),
        ("LABEL \"a b\"=c", &[("\"a b\"", "c")], false),
        ("LABEL a.b='c=d'", &[("a.b", "'c=d'")], false),
        ("LABEL a \"b\"", &[("a", "\"b\"")], true),
        ("ENV a=1 \\\n  b=2", &[("a", "1"), ("b", "2")], false),
    ];
    for (text, expected, legacy) in cases {
        let pairs: Vec<Pair> = pairs(text);
        let found: Vec<_> =
            pairs.iter().map(|pair| (pair.key.as_str(), pair.value.as_str())).collect();
        assert_eq!(found, expected, "{text}");
        assert!(pairs.iter().all(|pair| pair.legacy == legacy), "{text}");
    }
    assert_eq!(errors("FROM a\nENV a=1 b"), ["2:9: a word of ENV has no '='; expected name=value"]);
    assert_eq!(errors("FROM a\nENV a"), ["2:5: ENV needs a name and a value; expected name=value"]);
    assert_eq!(errors("FROM a\nENV =1"), ["2:5: a name of ENV is empty; expected name=value"]);
}

#[test]
fn arg_defines_several_names() {
    let Kind::Arg(found) = kind("ARG a b= c=\"x y\" d=1 # not a comment") else { panic!() };
    let found: Vec<_> = found
        .iter()
        .map(|one| (one.name.as_str(), one.default.as_ref().map(Word::as_str)))
        .collect();
    let expected = [
        ("a", None),
        ("b", Some("")),
        ("c", Some("\"x y\"")),
        ("d", Some("1")),
        ("#", None),
        ("not", None),
        ("a", None),
        ("comment", None),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_health_check_has_a_command_and_times() {
    let text = "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=0s --start-interval=1.5h --retries=3 \\\n CMD curl  -f x || exit 1";
    let Kind::Healthcheck(Healthcheck::Command { command, timing }) = kind(text) else { panic!() };
    assert!(matches!(command, CommandLine::Shell(word) if word.text == "curl  -f x || exit 1"));
    let expected = HealthTiming {
        interval: Some(Duration::from_secs(90)),
        timeout: Some(Duration::from_millis(500)),
        start_period: None,
        start_interval: Some(Duration::from_mins(90)),
        retries: Some(3),
    };
    assert_eq!(timing, expected);
    assert!(matches!(kind("HEALTHCHECK none"), Kind::Healthcheck(Healthcheck::None)));
    let cases = [
        ("CMD", "2:13: HEALTHCHECK CMD needs a command; "),
        ("NONE x", "2:13: HEALTHCHECK NONE takes no arguments; "),
        (
            "curl x",
            "2:13: HEALTHCHECK has no type curl; expected CMD or NONE; flags stand before it",
        ),
        (
            "--interval=3 CMD x",
            "2:24: \"3\" is no duration; expected a number with a unit: 30s, 1m30s, 500ms",
        ),
        (
            "--interval=1us CMD x",
            "2:24: the duration is too short; expected at least 1ms, or 0 for the default",
        ),
        (
            "--retries=-1 CMD x",
            "2:23: \"-1\" is no number of retries; expected a whole number from 0 on",
        ),
        ("--retires=1 CMD x", "2:13: HEALTHCHECK has no flag --retires; did you mean --retries?"),
    ];
    for (text, error) in cases {
        assert_eq!(errors(&format!("FROM a\nHEALTHCHECK {text}")), [error]);
    }
}

#[test]
fn onbuild_holds_another_instruction() {
    let Kind::Onbuild(onbuild) = kind("ONBUILD  COPY <<EOF /x\nbody\nEOF") else { panic!() };
    assert_eq!(onbuild.trigger, "COPY <<EOF /x\nbody\nEOF");
    let Kind::Copy(copy) = &onbuild.instruction.kind else { panic!() };
    assert_eq!(copy.transfer.inline[0].body, "body\n");
    let again = trigger("ONBUILD of base", &onbuild.trigger).unwrap();
    assert!(matches!(again.kind, Kind::Copy(copy) if copy.transfer.inline[0].body == "body\n"));
    assert_eq!(
        errors("FROM a\nONBUILD ONBUILD RUN x\nONBUILD FROM b\nONBUILD"),
        [
            "2:9: ONBUILD cannot follow ONBUILD; expected another instruction",
            "3:9: FROM cannot follow ONBUILD; expected another instruction",
            "4:1: ONBUILD needs an instruction; ",
        ]
    );
    for text in ["", "RUN a\nRUN b", "FROM x", "ONBUILD RUN x", "NOPE"] {
        assert!(trigger("ONBUILD of base", text).is_err(), "{text}");
    }
}

#[test]
fn the_other_instructions_are_words() {
    assert!(matches!(kind("WORKDIR /a b"), Kind::Workdir(word) if word.text == "/a b"));
    assert!(matches!(kind("USER a:b"), Kind::User(word) if word.text == "a:b"));
    assert!(matches!(kind("STOPSIGNAL SIGINT"), Kind::StopSignal(word) if word.text == "SIGINT"));
    assert!(matches!(kind("MAINTAINER A <a@b>"), Kind::Maintainer(word) if word.text == "A <a@b>"));
    assert!(matches!(kind("EXPOSE 80 53/udp $P"), Kind::Expose(words) if words.len() == 3));
    assert!(
        matches!(kind("SHELL [\"/bin/bash\", \"-c\"]"), Kind::Shell(words) if words.len() == 2)
    );
}

#[test]
fn errors_of_every_statement_are_found_in_one_pass() {
    let text = "FROM a AS 1x\nCOPPY a b\nRUN --mout=x y\nENV\nCOPY --form=x a b\nUSER\n";
    assert_eq!(
        errors(text),
        [
            "1:11: \"1x\" cannot name a stage; expected a letter, then letters, digits, '-', '_' and '.'",
            "2:1: there is no instruction COPPY; did you mean COPY?",
            "3:5: RUN has no flag --mout; did you mean --mount?",
            "4:1: ENV needs at least one name=value; ",
            "5:6: COPY has no flag --form; did you mean --from?",
            "6:1: USER needs an argument; ",
        ]
    );
}

#[test]
fn what_is_wrong_is_said_once_and_where() {
    let cases = [
        ("", "1:1: the file has no FROM; expected FROM and the name of an image"),
        ("# only\n", "2:1: the file has no FROM; expected FROM and the name of an image"),
        ("RUN x\nRUN y\nFROM a", "1:1: RUN stands before the first FROM; only ARG may stand here"),
        ("FROM a b", "1:8: FROM takes one argument or three; expected AS and a name, or nothing"),
        ("FROM a AS", "1:8: FROM takes one argument or three; expected AS and a name, or nothing"),
        ("FROM", "1:1: FROM needs at least one argument; "),
        ("FROM --platfrom=x a", "1:6: FROM has no flag --platfrom; did you mean --platform?"),
        ("FROM a\nCOPY --link --link a b", "2:13: --link is given twice; leave one of them out"),
        (
            "FROM a\nCOPY --link=maybe a b",
            "2:13: \"maybe\" is no value for this flag; expected true or false",
        ),
        ("FROM a\nCOPY --chown a b", "2:6: --chown has no value; expected =value right after it"),
        (
            "FROM a\nCOPY a",
            "2:6: COPY needs a source and a destination; the destination is missing",
        ),
        (
            "FROM a\nCOPY --from=$x a b",
            "2:13: --from takes no variables; this one would be expanded",
        ),
        (
            "FROM a\nRUN --network=hots x",
            "2:15: \"hots\" is no value for --network; did you mean host?",
        ),
        (
            "FROM a\nSHELL bash -c",
            "2:7: SHELL takes the JSON form only; expected [\"program\", \"argument\"]",
        ),
        ("FROM a\nVOLUME [\" \"]", "2:9: a volume's path cannot be empty; "),
        ("FROM a\nWORKDIR --x /a", "2:9: WORKDIR has no flag --x; WORKDIR has no flags"),
        ("FROM a\n=", "2:1: there is no instruction =; expected an instruction"),
    ];
    for (text, expected) in cases {
        assert_eq!(errors(text), [expected], "{text}");
    }
}

#[test]
fn keywords_are_written_in_any_case() {
    for keyword in statement::KEYWORDS {
        let lower = keyword.to_lowercase();
        let (upper, lower) =
            (errors(&format!("FROM a\n{keyword}")), errors(&format!("FROM a\n{lower}")));
        assert_eq!(upper, lower);
    }
}

#[test]
fn bytes_of_other_encodings_are_allowed_in_comments_only() {
    let source = crate::dockerfile::text::read("Dockerfile", b"# Andr\xe9\nFROM a # \xe9\n");
    let errors = source.unwrap_err();
    assert!(errors.render().starts_with("Dockerfile:2:10: error: the file is not UTF-8 text"));
    let source = crate::dockerfile::text::read("Dockerfile", b"# Andr\xe9\nFROM a\n").unwrap();
    assert_eq!(source.text(), "# Andr?\nFROM a\n");
}

#[test]
fn ten_thousand_lines_take_a_moment() {
    let four = "ENV A=\"value\" B=$A\nRUN go build -o /x \\\n  ./...\nCOPY a b /c/\n";
    let source = Source::new("Dockerfile", &format!("FROM a\n{}", four.repeat(2_500)));
    let best = (0..5).map(|_| {
        let start = std::time::Instant::now();
        assert_eq!(parse(&source).unwrap().stages[0].instructions.len(), 7_500);
        start.elapsed()
    });
    // Without optimisation, on a busy machine.
    assert!(best.clone().any(|time| time < Duration::from_millis(250)), "{:?}", best.min());
}
