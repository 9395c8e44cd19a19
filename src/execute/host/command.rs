//! The go commands that are executed without a sandbox, and what they may be told.
//!
//! `go build`, `go install`, `go mod download`, `go mod verify`, `go version` and `go env` execute no code
//! of what they work on, as long as no flag and no variable makes them: lists say which are known to be
//! harmless, and everything else is refused.

use std::collections::BTreeMap;

use super::line::{Refused, Word};

/// A go command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GoCommand {
    /// What stands in front of it.
    pub variables: Vec<(String, String)>,
    pub verb: Verb,
    /// What follows `go`.
    pub arguments: Vec<Argument>,
}

/// What a go command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// It compiles: `build` and `install`.
    Compile,
    /// `mod download`, `mod verify`.
    Modules,
    /// It says something: `version`, `env`.
    Say,
}

/// A part of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    /// It is passed on.
    Plain(String),
    /// A file or folder that is written, behind what stands in front of it in the same word.
    Output(&'static str, String),
    /// An absolute path of a folder or file with a package.
    Folder(String),
}

/// Flags without a value.
const SWITCHES: [&str; 6] = ["a", "json", "modcacherw", "trimpath", "v", "x"];
/// Flags with a value that is passed on.
const VALUES: [&str; 4] = ["buildvcs", "installsuffix", "p", "tags"];
/// Flags with one of a few values.
const CHOICES: [(&str, &[&str]); 4] = [
    ("buildmode", &["default", "exe", "pie"]),
    ("compiler", &["gc"]),
    ("mod", &["mod", "readonly", "vendor"]),
    ("pgo", &["auto", "off"]),
];
/// Flags for the linker that change what is linked, and execute and write nothing else.
const OF_LINKER: [&str; 9] =
    ["s", "w", "X", "B", "buildid", "checklinkname", "compressdwarf", "extldflags", "linkmode"];
/// Flags of the linker that have their value in the next word, unless an equals sign is there.
const OF_LINKER_WITH_VALUE: [&str; 5] = ["X", "B", "buildid", "extldflags", "linkmode"];
/// Flags for the compiler and the assembler.
const OF_COMPILER: [&str; 6] = ["B", "C", "N", "l", "m", "dwarf"];

/// Variables that `go` may get from an image or a line, beside those of the proxies. What names places is
/// not among them: those are here elsewhere.
const VARIABLES: [&str; 34] = [
    "CGO_ENABLED",
    "GO111MODULE",
    "GO386",
    "GOAMD64",
    "GOARCH",
    "GOARM",
    "GOARM64",
    "GODEBUG",
    "GOEXPERIMENT",
    "GOFIPS140",
    "GOFLAGS",
    "GOGC",
    "GOINSECURE",
    "GOMAXPROCS",
    "GOMEMLIMIT",
    "GOMIPS",
    "GOMIPS64",
    "GONOPROXY",
    "GONOSUMDB",
    "GOOS",
    "GOPPC64",
    "GOPRIVATE",
    "GOPROXY",
    "GORISCV64",
    "GOSUMDB",
    "GOVCS",
    "GOWASM",
    "GOWORK",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];
/// Variables that would have `go` execute something, or compile something else.
const REFUSED: [&str; 3] = ["GOAUTH", "GOCACHEPROG", "GOTOOLDIR"];

/// Whether `go` gets a variable of the step's.
pub(super) fn passes(name: &str) -> bool {
    VARIABLES.contains(&name)
}

/// Reads a command.
pub(super) fn read(words: &[Word]) -> Result<GoCommand, Refused> {
    let before = words.iter().map_while(Word::assignment);
    let variables: Vec<(String, String)> =
        before.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let words: Vec<&str> = words[variables.len()..].iter().map(|word| word.text.as_str()).collect();
    let Some((program, rest)) = words.split_first() else {
        return Err(refused("a line of variables alone takes a shell"));
    };
    if !is_go(program) {
        return Err(refused(format!("{program} is not go")));
    }
    for (name, value) in &variables {
        check_variable(name, value)?;
        if !passes(name) {
            let why = format!("{name} in front of go is not known to be harmless");
            return Err(Refused::new(why, "set it by ENV, or leave it out"));
        }
    }
    let (verb, arguments) = match rest {
        ["build" | "install", flags @ ..] => (Verb::Compile, compile(rest[0], flags)?),
        ["mod", what @ ("download" | "verify"), flags @ ..] => {
            (Verb::Modules, modules(what, flags)?)
        }
        ["version"] => (Verb::Say, vec![Argument::Plain("version".to_owned())]),
        ["env", names @ ..] => (Verb::Say, env(names)?),
        [other, ..] => return Err(refused(format!("go {other} may execute code"))),
        [] => return Err(refused("go alone does nothing")),
    };
    Ok(GoCommand { variables, verb, arguments })
}

/// Whether a program is meant to be go's own.
pub(super) fn is_go(program: &str) -> bool {
    program == "go" || program == "/usr/local/go/bin/go"
}

/// Refuses variables of a step by which `go` would do something else.
pub(super) fn check_environment(environment: &BTreeMap<String, String>) -> Result<(), Refused> {
    let is_set = |name: &&&str| environment.get(**name).is_some_and(|value| !value.is_empty());
    if let Some(name) = REFUSED.iter().find(is_set) {
        let fix = format!("leave {name} out");
        return Err(Refused::new(format!("{name} has go do more than compile"), fix));
    }
    environment.iter().try_for_each(|(name, value)| check_variable(name, value))
}

fn check_variable(name: &str, value: &str) -> Result<(), Refused> {
    // Go takes a scheme in any case, with slashes behind it or without.
    let is_folder = |proxy: &str| proxy.trim().to_ascii_lowercase().starts_with("file:");
    if name == "GOPROXY" && value.split([',', '|']).any(is_folder) {
        return Err(Refused::new(
            "GOPROXY names a folder of the image",
            "name a server, or vendor",
        ));
    }
    if name == "GOWORK" && !matches!(value, "" | "off") {
        return Err(Refused::new(
            "GOWORK names a file",
            "leave it out: go finds go.work by itself",
        ));
    }
    Ok(())
}

/// The flags of `GOFLAGS`, as `go` reads them.
pub(super) fn check_go_flags(text: &str) -> Result<(), Refused> {
    let flags = split(text).ok_or_else(|| refused("GOFLAGS has a quote that does not end"))?;
    for flag in flags {
        let (name, value) = named(&flag);
        if name.is_empty() || (value.is_none() && !SWITCHES.contains(&name)) {
            return Err(unknown(&format!("{flag} in GOFLAGS")));
        }
        if name == "o" {
            return Err(unknown("-o in GOFLAGS"));
        }
        check_flag(name, value.unwrap_or("true"))?;
    }
    Ok(())
}

/// Whether paths of this machine stay out of what is compiled.
pub(super) fn is_trimmed(command: &GoCommand, go_flags: &str) -> bool {
    let by_variable = split(go_flags).unwrap_or_default();
    let flags = command.arguments.iter().filter_map(|argument| match argument {
        Argument::Plain(text) => Some(text.as_str()),
        _ => None,
    });
    let flags = by_variable.iter().map(String::as_str).chain(flags);
    let said = flags.filter_map(|flag| match named(flag) {
        ("trimpath", value) => Some(value.is_none_or(is_true)),
        _ => None,
    });
    said.fold(false, |_, last| last)
}

/// Whether a command leaves the revision of its sources out.
pub(super) fn is_without_revision(command: &GoCommand, go_flags: &str) -> bool {
    let is_off = |flag: &str| named(flag) == ("buildvcs", Some("false"));
    split(go_flags).unwrap_or_default().iter().any(|flag| is_off(flag))
        || command.arguments.iter().any(|argument| match argument {
            Argument::Plain(text) => is_off(text),
            _ => false,
        })
}

fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

fn compile(verb: &str, words: &[&str]) -> Result<Vec<Argument>, Refused> {
    let mut arguments = vec![Argument::Plain(verb.to_owned())];
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if !word.starts_with('-') || *word == "-" {
            arguments.push(package(word)?);
            break;
        }
        if *word == "--" {
            arguments.push(Argument::Plain("--".to_owned()));
            break;
        }
        let (name, value) = named(word);
        if SWITCHES.contains(&name) {
            check_flag(name, value.unwrap_or("true"))?;
            arguments.push(Argument::Plain((*word).to_owned()));
            continue;
        }
        // go takes this one for a switch, too.
        let value = match value {
            None if name == "buildvcs" => "true",
            Some(value) => value,
            None => {
                words.next().copied().ok_or_else(|| refused(format!("{word} needs a value")))?
            }
        };
        check_flag(name, value)?;
        arguments.push(match name {
            "o" => Argument::Output("-o=", value.to_owned()),
            _ => Argument::Plain(format!("-{name}={value}")),
        });
    }
    for word in words {
        arguments.push(package(word)?);
    }
    Ok(arguments)
}

/// A package as a command names it.
fn package(word: &str) -> Result<Argument, Refused> {
    if word.starts_with('-') {
        return Err(refused(format!("{word} stands behind a package")));
    }
    Ok(if word.starts_with('/') {
        Argument::Folder(word.to_owned())
    } else {
        Argument::Plain(word.to_owned())
    })
}

fn check_flag(name: &str, value: &str) -> Result<(), Refused> {
    let is_known = match name {
        "o" => !value.is_empty(),
        "ldflags" => return check_linker(value),
        "gcflags" | "asmflags" => return check_compiler(name, value),
        name if SWITCHES.contains(&name) || VALUES.contains(&name) => true,
        name => CHOICES.iter().any(|(known, values)| *known == name && values.contains(&value)),
    };
    if is_known { Ok(()) } else { Err(unknown(&format!("-{name}={value}"))) }
}

fn check_linker(value: &str) -> Result<(), Refused> {
    let flags = split(value).ok_or_else(|| refused("-ldflags has a quote that does not end"))?;
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        let (name, mut value) = named(flag);
        if !flag.starts_with('-') || !OF_LINKER.contains(&name) {
            return Err(unknown(&format!("{flag} in -ldflags")));
        }
        if value.is_none() && OF_LINKER_WITH_VALUE.contains(&name) {
            value = flags.next().map(String::as_str);
        }
        if name == "linkmode" && value != Some("internal") {
            return Err(Refused::new(
                "-linkmode asks for a C compiler's linker",
                "leave it out, with CGO_ENABLED=0",
            ));
        }
    }
    Ok(())
}

fn check_compiler(name: &str, value: &str) -> Result<(), Refused> {
    // A pattern says which packages are meant.
    let flags = match value.split_once('=') {
        Some((pattern, flags)) if !pattern.starts_with('-') => flags,
        _ => value,
    };
    for flag in split(flags).ok_or_else(|| refused(format!("-{name} has an open quote")))? {
        if !flag.starts_with('-') || !OF_COMPILER.contains(&named(&flag).0) {
            return Err(unknown(&format!("{flag} in -{name}")));
        }
    }
    Ok(())
}

fn modules(what: &str, flags: &[&str]) -> Result<Vec<Argument>, Refused> {
    let fits = |word: &str| match word.strip_prefix('-') {
        Some(flag) => what == "download" && matches!(flag, "x" | "json"),
        None => what == "download" && !word.starts_with(['/', '.']),
    };
    match flags.iter().find(|word| !fits(word)) {
        Some(word) => Err(unknown(&format!("{word} of go mod {what}"))),
        None => Ok(["mod", what].iter().chain(flags).map(|word| plain(word)).collect()),
    }
}

fn env(names: &[&str]) -> Result<Vec<Argument>, Refused> {
    if let Some(flag) = names.iter().find(|name| name.starts_with('-') && **name != "-json") {
        return Err(Refused::new(
            format!("go env {flag} changes the settings of later steps"),
            "set variables by ENV",
        ));
    }
    Ok(["env"].iter().chain(names).map(|word| plain(word)).collect())
}

fn plain(word: &str) -> Argument {
    Argument::Plain(word.to_owned())
}

/// A flag's name, and its value where it is in the same word.
fn named(flag: &str) -> (&str, Option<&str>) {
    let name = flag.strip_prefix("--").or_else(|| flag.strip_prefix('-')).unwrap_or_default();
    match name.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (name, None),
    }
}

/// Flags in one text, as `go` splits them: a quote at the start of a word ends with the word.
fn split(text: &str) -> Option<Vec<String>> {
    let (mut all, mut rest) = (Vec::new(), text.trim_start());
    while let Some(first) = rest.chars().next() {
        let (word, behind) = if let '\'' | '"' = first {
            let (word, behind) = rest[1..].split_once(first)?;
            if behind.starts_with(|c: char| !c.is_whitespace()) {
                return None;
            }
            (word, behind)
        } else {
            rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()))
        };
        all.push(word.to_owned());
        rest = behind.trim_start();
    }
    Some(all)
}

fn refused(why: impl Into<String>) -> Refused {
    Refused::new(
        why,
        "only go build, install, mod download, mod verify, version and env need no sandbox",
    )
}

fn unknown(what: &str) -> Refused {
    Refused::new(
        format!("{what} is not known to be harmless"),
        "leave it out, or build where a sandbox works",
    )
}

#[cfg(test)]
mod tests {
    use super::super::line::commands;
    use super::*;

    fn parse(line: &str) -> Result<GoCommand, Refused> {
        read(&commands(line).unwrap()[0])
    }

    fn shown(command: &GoCommand) -> String {
        let words = command.arguments.iter().map(|argument| match argument {
            Argument::Plain(text) => text.clone(),
            Argument::Output(prefix, path) => format!("{prefix}<{path}>"),
            Argument::Folder(path) => format!("<{path}>"),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn commands_that_execute_no_code_are_read() {
        for (line, expected) in [
            ("go build", "build"),
            ("go build -o /out/app ./cmd/app", "build -o=</out/app> ./cmd/app"),
            ("go build -o=app -trimpath .", "build -o=<app> -trimpath ."),
            ("go build --trimpath=true -v /app/cmd", "build --trimpath=true -v </app/cmd>"),
            ("go build -ldflags '-s -w -X a.B=c' x.go", "build -ldflags=-s -w -X a.B=c x.go"),
            (
                "go build -ldflags='-X \"a.B=c d\" -extldflags \"-static\"'",
                "build -ldflags=-X \"a.B=c d\" -extldflags \"-static\"",
            ),
            (
                "go build -tags netgo,osusergo -mod vendor -p 4",
                "build -tags=netgo,osusergo -mod=vendor -p=4",
            ),
            (
                "go build -gcflags 'all=-N -l' -buildvcs=false",
                "build -gcflags=all=-N -l -buildvcs=false",
            ),
            ("go build -buildvcs .", "build -buildvcs=true ."),
            ("go build -- x", "build -- x"),
            ("go install example.com/x@v1.0.0", "install example.com/x@v1.0.0"),
            ("/usr/local/go/bin/go mod download -x", "mod download -x"),
            ("go mod download example.com/x@v1", "mod download example.com/x@v1"),
            ("go mod verify", "mod verify"),
            ("go version", "version"),
            ("go env GOOS -json", "env GOOS -json"),
        ] {
            let found = parse(line).unwrap_or_else(|refused| panic!("{line}: {refused:?}"));
            assert_eq!(shown(&found), expected, "{line}");
        }
        assert!(parse("GOWORK=off go build").is_ok());
        let command = parse("CGO_ENABLED=0 GOOS='linux' go build").unwrap();
        let expected = [("CGO_ENABLED", "0"), ("GOOS", "linux")];
        assert_eq!(command.variables, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn what_may_execute_something_or_write_elsewhere_is_refused() {
        for line in [
            "apk add git",
            "A=b",
            "go",
            "/go/bin/go build",
            "PATH=/x go build",
            "GOFLAGSX=1 go build",
            "GOROOT=/x go build",
            "GOTOOLCHAIN=go1.99 go build",
            "GOWORK=/x/go.work go build",
            "GOPROXY=file:///x go build",
            "GOPROXY=https://a.test,FILE:/x go build",
            "GOCACHEPROG=x go build",
            "go generate ./...",
            "go test ./...",
            "go run .",
            "go vet",
            "go get x",
            "go mod tidy",
            "go mod vendor",
            "go mod verify -x",
            "go tool x",
            "go clean -modcache",
            "go version /app",
            "go env -w GOFLAGS=-x",
            "go env -u GOFLAGS",
            "go build -toolexec x",
            "go build -toolexec=x",
            "go build --toolexec=x",
            "go build -exec x",
            "go build -overlay x.json",
            "go build -modfile=x.mod",
            "go build -pkgdir x",
            "go build -C /x",
            "go build -race",
            "go build -msan",
            "go build -cover",
            "go build -work",
            "go build -n",
            "go build -buildmode=plugin",
            "go build -buildmode c-shared",
            "go build -compiler gccgo",
            "go build -pgo=x.pprof",
            "go build -mod=/x",
            "go build -o",
            "go build -o=",
            "go build . -o app",
            "go build -ldflags '-extld=x'",
            "go build -ldflags '-linkmode external'",
            "go build -ldflags=-linkmode=external",
            "go build -ldflags '-cpuprofile /x'",
            "go build -ldflags '-o /x'",
            "go build -ldflags \"-X 'a\"",
            "go build -ldflags '-s x'",
            "go build -gcflags=-cpuprofile=/x",
            "go build -gcflags=all=-trimpath=/x",
            "go build -asmflags=-o=/x",
        ] {
            let refused = parse(line).expect_err(line);
            assert!(!refused.why.is_empty() && !refused.fix.is_empty(), "{line}");
        }
    }

    #[test]
    fn variables_are_held_to_the_same() {
        for flags in ["-trimpath", "-mod=vendor -v", "'-ldflags=-s -w' -tags=x", ""] {
            check_go_flags(flags).unwrap_or_else(|refused| panic!("{flags}: {refused:?}"));
        }
        for flags in ["-toolexec=x", "-trimpath -overlay=x", "x", "-tags", "'-v", "-o=x", "-race"] {
            check_go_flags(flags).expect_err(flags);
        }
        let set = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into();
        assert!(check_environment(&set("GOCACHEPROG", "x")).is_err());
        assert!(check_environment(&set("GOCACHEPROG", "")).is_ok());
        assert!(check_environment(&set("GOFLAGS", "-x")).is_ok());
    }

    #[test]
    fn the_last_word_on_paths_counts() {
        for (line, go_flags, expected) in [
            ("go build", "", false),
            ("go build -trimpath", "", true),
            ("go build", "-v -trimpath", true),
            ("go build -trimpath=false", "-trimpath", false),
            ("go build -trimpath=0 -trimpath", "", true),
            ("go build -ldflags -s ./trimpath", "", false),
        ] {
            assert_eq!(is_trimmed(&parse(line).unwrap(), go_flags), expected, "{line} {go_flags}");
        }
        assert!(is_without_revision(&parse("go build -buildvcs=false").unwrap(), ""));
        assert!(is_without_revision(&parse("go build").unwrap(), "-buildvcs=false"));
        assert!(!is_without_revision(&parse("go build").unwrap(), ""));
    }
}
