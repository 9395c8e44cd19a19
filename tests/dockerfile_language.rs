//! The Dockerfile language under made-up input: random bytes, damaged files, files made from a
//! grammar. Nothing panics, nothing takes long, and every place that is named lies in the file.

#![cfg(test)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use gondola::dockerfile::lint::LintContext;
use gondola::dockerfile::parse::statement::{Arguments, Statement};
use gondola::dockerfile::{Dockerfile, Inputs, Kind, Source, Span, Word, check, parse};
use proptest::prelude::*;

/// A file with a little of everything.
const EVERYTHING: &str = r#"# syntax=docker/dockerfile:1
# check=skip=JSONArgsRecommended
ARG GO=1.26 BASE=scratch
# build compiles
FROM --platform=$BUILDPLATFORM golang:${GO:-1.26}-alpine AS build
ARG TARGETOS TARGETARCH="amd64"
ENV CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false" \
    # why
    X=${TARGETARCH/amd/x}${TARGETARCH%64}
WORKDIR /src
COPY --link go.mod go.su[m] ./
RUN --mount=type=cache,id=mod-$TARGETARCH,target=/go/pkg/mod,sharing=locked \
    --mount=type=secret,id=netrc,target=/root/.netrc,mode=0400 --network=default \
    go mod download
COPY --chown=65532:65532 --exclude=*.md . .
RUN <<-EOT sh -e
	echo "it's ${TARGETOS:-$X}"
	go build -o /out/app ./cmd/app
	EOT
ADD --checksum=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 https://example.org/a.tar.gz /tmp/
FROM ${BASE} AS final
COPY --from=build /out/app /usr/local/bin/app
COPY <<"one.conf" <<two.conf /etc/app/
listen = "$PORT"
one.conf
user = ${USER:+x}
two.conf
LABEL org.example.title="an app" legacy=1
EXPOSE 8080 53/udp 1000-1002
VOLUME ["/data", "/with space"]
USER nonroot:nonroot
SHELL ["/bin/sh", "-c"]
HEALTHCHECK --interval=1m30s --retries=3 CMD ["/usr/local/bin/app", "health"]
STOPSIGNAL SIGTERM
ONBUILD RUN echo $HOME
ENTRYPOINT ["app"]
CMD ["--help"]
"#;

/// A file in the old way, with the other escape character.
const OLD: &str = "# escape=`\r\nFROM debian:12\r\nMAINTAINER Some One <one@example.org>\r\n\
    ENV PATH /opt/bin:$PATH\r\nRUN apt-get update && `\r\n\r\n    apt-get install -y git `\r\n  # tools\r\n  make\r\n\
    ADD a.tar.gz \"b c\" C:\\`$x /opt/\r\nEXPOSE 22 $PORT\r\nCMD make 'a `' && echo \"$x `\"\" \r\n";

/// No case may take longer, however busy the machine is.
const LONGEST: Duration = Duration::from_secs(2);

/// What the linter needs to know; base images have nothing set.
fn checked(source: &Source) {
    let inputs = Inputs::native("linux/amd64".parse().unwrap());
    let lint_context = LintContext {
        inputs: &inputs,
        contexts: &BTreeSet::new(),
        stages: None,
        environment: &|_| Some(Vec::new()),
        ignored: &|path| path.len() % 2 == 0,
    };
    for found in check(source, &lint_context) {
        inside(source, found.span);
        assert!(found.render(source).starts_with(source.name()));
    }
}

/// A span that starts and ends at characters of the file.
fn inside(source: &Source, span: Span) {
    let text = source.text();
    assert!(span.start <= span.end && span.end <= text.len(), "{span:?} of {}", text.len());
    assert!(text.is_char_boundary(span.start) && text.is_char_boundary(span.end), "{span:?}");
}

fn words_of(arguments: &Arguments) -> Vec<&Word> {
    match arguments {
        Arguments::None => Vec::new(),
        Arguments::Text(word) => vec![word],
        Arguments::Words(words) | Arguments::Json(words) => words.iter().collect(),
        Arguments::Pairs(pairs) => pairs.iter().flat_map(|pair| [&pair.key, &pair.value]).collect(),
        Arguments::Health(kind, command) => [kind].into_iter().chain(words_of(command)).collect(),
        Arguments::Nested(statement) => words_of_statement(statement),
    }
}

fn words_of_statement(statement: &Statement) -> Vec<&Word> {
    let own = [&statement.keyword].into_iter().chain(&statement.flags).chain(&statement.comments);
    own.chain(words_of(&statement.arguments)).collect()
}

/// Everything that looks at a file looks at this one.
fn examined(bytes: &[u8]) {
    let start = Instant::now();
    let source = match gondola::dockerfile::text::read("Dockerfile", bytes) {
        Ok(source) => source,
        Err(errors) => {
            errors.list.iter().for_each(|error| inside(&errors.source, error.span));
            Source::new("Dockerfile", errors.source.text())
        }
    };
    match parse::statements(&source) {
        Ok((_, statements)) => {
            for statement in &statements {
                inside(&source, statement.span);
                for word in words_of_statement(statement) {
                    inside(&source, word.span);
                }
                for heredoc in &statement.heredocs {
                    assert_eq!(source.slice(heredoc.span), heredoc.body);
                }
            }
        }
        Err(errors) => errors.list.iter().for_each(|error| inside(&source, error.span)),
    }
    checked(&source);
    assert!(start.elapsed() < LONGEST, "{:?}", start.elapsed());
}

/// Pieces that mean something in a Dockerfile, and some that do not.
fn pieces() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "FROM a\n",
        "FROM ",
        " AS x\n",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "ARG ",
        "LABEL ",
        "ONBUILD ",
        "HEALTHCHECK ",
        "CMD ",
        "EXPOSE ",
        "VOLUME ",
        "SHELL ",
        "<<EOF",
        "<<-'EOF'",
        "\nEOF\n",
        "\n\tEOF\n",
        "\\\n",
        " \\ \n",
        "`\n",
        "# ",
        "# escape=`\n",
        "# check=skip=all;error=true\n",
        "--from=x ",
        "--mount=",
        "type=cache,target=/x",
        "type=secret",
        ",id=\"a,b\"",
        "[\"a\", ",
        "\"b\"]",
        "[",
        "]",
        "\"",
        "'",
        "$",
        "${",
        "}",
        "${a:-",
        "${a//x/",
        "${a##*",
        ":?",
        "=",
        "a=b ",
        " ",
        "\t",
        "\n",
        "\r\n",
        "\u{feff}",
        "ä",
        "漢",
        "\u{85}",
        "\u{a0}",
        "--",
        "-- ",
        "1-2/udp ",
        "\0",
    ]);
    prop_oneof![4 => fixed.prop_map(str::to_owned), 1 => "[ -~]{0,6}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        examined(&bytes);
    }

    #[test]
    fn random_pieces_of_dockerfiles_are_survived(pieces in prop::collection::vec(pieces(), 0..40)) {
        examined(pieces.concat().as_bytes());
    }

    #[test]
    fn damaged_files_are_survived(
        old in any::<bool>(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, pieces()), 1..8),
    ) {
        let mut bytes = if old { OLD } else { EVERYTHING }.as_bytes().to_vec();
        for (place, length, put) in cuts {
            let start = place.index(bytes.len());
            let end = (start + length).min(bytes.len());
            bytes.splice(start..end, put.into_bytes());
            if bytes.is_empty() {
                break;
            }
        }
        examined(&bytes);
    }

    #[test]
    fn files_made_from_the_grammar_parse_to_what_they_were_made_from(file in made_file()) {
        let source = Source::new("Dockerfile", &file.text());
        let parsed = parse(&source).unwrap_or_else(|errors| panic!("{}\n{}", source.text(), errors.render()));
        prop_assert_eq!(parsed.stages.len(), file.stages.len());
        for (parsed, made) in parsed.stages.iter().zip(&file.stages) {
            prop_assert_eq!(parsed.instructions.len(), made.len());
            for (parsed, made) in parsed.instructions.iter().zip(made) {
                prop_assert_eq!(parsed.keyword.text.to_uppercase(), made.keyword);
                prop_assert_eq!(words_in(&parsed.kind), made.words.clone(), "{}", source.text());
            }
        }
        examined(source.text().as_bytes());
    }
}

/// An instruction, and the words that it has to come out with.
#[derive(Clone, Debug)]
struct MadeInstruction {
    keyword: &'static str,
    text: String,
    words: Vec<String>,
}

#[derive(Clone, Debug)]
struct MadeFile {
    stages: Vec<Vec<MadeInstruction>>,
}

impl MadeFile {
    fn text(&self) -> String {
        let stages = self.stages.iter().enumerate().map(|(number, stage)| {
            let lines: String = stage.iter().map(|one| one.text.as_str()).collect();
            format!("FROM base{number} AS stage{number}\n{lines}")
        });
        stages.collect()
    }
}

fn words_in(kind: &Kind) -> Vec<String> {
    let texts = |words: &[Word]| words.iter().map(|word| word.text.clone()).collect();
    match kind {
        Kind::Copy(copy) => {
            let inline = copy.transfer.inline.iter().map(|heredoc| heredoc.body.clone());
            let paths = copy.transfer.paths.iter().map(|word| word.text.clone());
            paths.chain(inline).chain([copy.transfer.destination.text.clone()]).collect()
        }
        Kind::Env(pairs) => {
            pairs.iter().flat_map(|pair| [pair.key.text.clone(), pair.value.text.clone()]).collect()
        }
        Kind::Expose(words) | Kind::Volume(words) => texts(words),
        Kind::Run(run) => run.heredocs.iter().map(|heredoc| heredoc.body.clone()).collect(),
        Kind::Workdir(word) | Kind::User(word) => vec![word.text.clone()],
        other => panic!("{other:?}"),
    }
}

/// What stands between words: white space, continuations, comments within them.
fn blank() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just(" ".to_owned()),
        1 => "[ \t]{1,3}",
        1 => Just(" \\\n  ".to_owned()),
        1 => Just(" \\\n# a comment ' \" \\\n\t".to_owned()),
        1 => Just(" \\ \r\n \\\n\t".to_owned()),
    ]
}

fn joined(keyword: &str, blanks: &[String], words: &[String]) -> String {
    let mut text = keyword.to_owned();
    for (word, blank) in words.iter().zip(blanks.iter().cycle()) {
        text.push_str(blank);
        text.push_str(word);
    }
    text + "\n"
}

fn made_instruction() -> impl Strategy<Value = MadeInstruction> {
    let path = "[a-zA-Z0-9./$*][a-zA-Z0-9._/${}äß-]{0,12}";
    let value = prop_oneof![
        "[a-z0-9$/]{0,8}",
        "\"[a-z $'#]{0,8}\"",
        "'[a-z $\"#]{0,8}'",
        "[a-z]{1,3}\\\\ [a-z]{1,3}"
    ];
    let body = prop::collection::vec("[ -~]{0,20}", 0..5).prop_map(|lines| {
        lines
            .iter()
            .filter(|line| *line != "EOT")
            .fold(String::new(), |all, line| all + line + "\n")
    });
    let case = prop::sample::select(vec![true, false]);
    let keyword = |keyword: &'static str, upper: bool| {
        if upper { keyword.to_owned() } else { keyword.to_lowercase() }
    };
    let blanks = || prop::collection::vec(blank(), 1..4);
    prop_oneof![
        (prop::collection::vec(path, 2..5), blanks(), case.clone()).prop_map(
            move |(words, blanks, upper)| {
                MadeInstruction {
                    keyword: "COPY",
                    text: joined(&keyword("COPY", upper), &blanks, &words),
                    words,
                }
            }
        ),
        (prop::collection::vec(("[A-Z_]{1,6}", value), 1..4), blanks()).prop_map(
            |(pairs, blanks)| {
                let written: Vec<_> =
                    pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
                let words = pairs.into_iter().flat_map(|(key, value)| [key, value]).collect();
                MadeInstruction { keyword: "ENV", text: joined("ENV", &blanks, &written), words }
            }
        ),
        (prop::collection::vec("[0-9]{1,4}(/udp)?", 1..4), blanks()).prop_map(|(words, blanks)| {
            MadeInstruction { keyword: "EXPOSE", text: joined("EXPOSE", &blanks, &words), words }
        }),
        (prop::collection::vec("/[a-zä \\\\\"]{0,6}", 1..4)).prop_map(|words| {
            let json = serde_json::to_string(&words).unwrap();
            let words = words.into_iter().map(|word| word.trim().to_owned()).collect();
            MadeInstruction { keyword: "VOLUME", text: format!("VOLUME {json}\n"), words }
        }),
        body.clone().prop_map(|body| MadeInstruction {
            keyword: "RUN",
            text: format!("RUN <<'EOT' cat\n{body}EOT\n"),
            words: vec![body],
        }),
        (body, "[a-z0-9./ß]{1,12}").prop_map(|(body, destination)| MadeInstruction {
            keyword: "COPY",
            text: format!("COPY <<EOT {destination}\n{body}EOT\n"),
            words: vec![body, destination],
        }),
        (path, case).prop_map(move |(word, upper)| MadeInstruction {
            keyword: "WORKDIR",
            text: format!("{} {word}\n", keyword("WORKDIR", upper)),
            words: vec![word],
        }),
    ]
}

fn made_file() -> impl Strategy<Value = MadeFile> {
    let stage = prop::collection::vec(made_instruction(), 0..8);
    prop::collection::vec(stage, 1..4).prop_map(|stages| MadeFile { stages })
}

#[test]
fn the_whole_language_parses_and_is_well_but_for_what_is_old() {
    let parsed: Dockerfile = parse(&Source::new("Dockerfile", EVERYTHING)).unwrap();
    assert_eq!(parsed.stages.iter().map(|stage| stage.instructions.len()).sum::<usize>(), 20);
    examined(EVERYTHING.as_bytes());
    let old = parse(&Source::new("Dockerfile", OLD)).unwrap();
    assert_eq!(
        old.stages[0].instructions[2].code,
        "RUN apt-get update &&     apt-get install -y git   make"
    );
    examined(OLD.as_bytes());
}

#[test]
fn deep_and_long_input_ends_in_an_error_or_in_time() {
    let cases = [
        format!("FROM {}x{}\n", "${a:-".repeat(50_000), "}".repeat(50_000)),
        format!("FROM a\n{}RUN x\n", "ONBUILD ".repeat(50_000)),
        format!("FROM a\nRUN {}\n", "[".repeat(100_000)),
        format!("FROM a\nCOPY {} /x\n", "<<A ".repeat(2_000)),
        format!("FROM a\nRUN x {}\n", "\\\n".repeat(100_000)),
        format!("FROM a\nENV {}\n", "a=\"".repeat(50_000)),
        format!("FROM a\nRUN --mount={}\n", "type=bind,".repeat(20_000)),
        "FROM a\n".repeat(3_000),
        "# comment\n".repeat(100_000),
    ];
    for text in cases {
        examined(text.as_bytes());
    }
}
