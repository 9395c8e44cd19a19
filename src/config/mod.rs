//! Configuration files.
//!
//! Reading is strict: what is not understood is an error that names file, line and column, never
//! something silently left out.

mod explain;
mod gondola_yaml;
mod user;
mod values;

use std::path::Path;

pub use self::gondola_yaml::{Build, Go, GondolaYaml, Image, Settings};
pub use self::user::{StoreConfig, UserConfig};
pub use self::values::{read_folder, read_port};
use serde::de::DeserializeOwned;

use crate::disk;
use crate::error::{Cannot, Error, ErrorKind, Result};

/// No real file comes near.
const LARGEST: u64 = 1024 * 1024;
const DEEPEST: usize = 16;

/// Reads a `gondola.yaml`.
pub fn read(path: &Path) -> Result<GondolaYaml> {
    read_strictly(path)
}

/// Reads the user's configuration.
pub fn read_user(path: &Path) -> Result<UserConfig> {
    read_strictly(path)
}

fn read_strictly<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let action = || format!("read {}", path.display());
    let bytes = disk::read_named(path, LARGEST).cannot(action)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
        let line = before.matches('\n').count();
        Error::new(ErrorKind::Usage, format!("read {}:{}", path.display(), line + 1))
            .because("the text is not UTF-8")
    })?;
    parse_strictly(&text, &path.display().to_string())
}

/// Reads the text of a `gondola.yaml`; errors call it `file`.
pub fn parse(text: &str, file: &str) -> Result<GondolaYaml> {
    parse_strictly(text, file)
}

fn parse_strictly<T: DeserializeOwned>(text: &str, file: &str) -> Result<T> {
    if text.len() as u64 > LARGEST {
        return Err(Error::new(ErrorKind::Usage, format!("read {file}"))
            .because(format!("it has more than {LARGEST} bytes")));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 100_000,
            max_nodes: 100_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_depth: DEEPEST,
            flow_nesting_limit: DEEPEST,
            max_documents: 2,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: DEEPEST,
        },
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| explain::explain(&error, file))
}

#[cfg(test)]
mod tests {
    use super::explain::SECTIONS;
    use super::*;
    use crate::golang::ModuleMode;
    use crate::layer::Encoding;
    use crate::oci::PlatformSet;
    use proptest::prelude::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn map(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    const EVERYTHING: &str = r#"
base: gcr.io/distroless/static:nonroot
platforms: [linux/amd64, linux/arm/v7]
tags: ["ghcr.io/acme/{name}:v1", "{name}"]
compression: zstd:7
gzip-single-member: true
go:
  toolchain: golang:1.27
  image: acme/golang:{version}
  flags: [-a]
  ldflags: -s -w
  gcflags: ["all=-N -l"]
  asmflags: [-spectre=all]
  tags: netgo,osusergo static
  env: {GOAMD64: v2, X: 1.0}
  cgo: false
  vcs-stamp: true
  mod: readonly
image:
  entrypoint: [/app, --serve]
  cmd: []
  env: {TZ: UTC, EMPTY: ""}
  user: 65532:65532
  workdir: /data
  ports: [8080, 53/udp]
  labels: {a.b: c}
  annotations: {d: "true"}
  revision: true
  stop-signal: SIGINT
  volumes: /data
  add: ["a b:/b", "c:d:/e:0755"]
builds:
  - package: ./cmd/api
    platforms: all
    image: {cmd: serve}
  - name: tools
    bins: [./cmd/migrate, ./cmd/seed]
    base: scratch
"#;

    #[test]
    fn the_users_configuration_is_read_as_strictly() {
        let read = |text: &str| parse_strictly::<UserConfig>(text, "config.yaml");
        assert_eq!(read("store: {keep: 2GB}").unwrap().store.keep, Some(2 << 30));
        assert_eq!(read("store: {keep: 1000}").unwrap().store.keep, Some(1000));
        assert_eq!(read("{}").unwrap(), UserConfig::default());
        for (text, why) in [
            ("store: {keep: much}", "expected a number of bytes"),
            ("store: {kep: 1GB}", "did you mean \"keep\""),
            ("stores: {}", "did you mean \"store\""),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("config.yaml:1") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn every_key_is_read() {
        let read = parse(EVERYTHING, "gondola.yaml").unwrap();
        let top = &read.settings;
        assert_eq!(top.base.as_deref(), Some("gcr.io/distroless/static:nonroot"));
        assert_eq!(top.platforms, Some("linux/amd64,linux/arm/v7".parse().unwrap()));
        assert_eq!(top.tags, Some(texts(&["ghcr.io/acme/{name}:v1", "{name}"])));
        assert_eq!(top.compression, Some(Encoding::Zstd { level: 7 }));
        assert_eq!(top.gzip_single_member, Some(true));
        let go = Go {
            toolchain: Some("golang:1.27".to_owned()),
            image: Some("acme/golang:{version}".to_owned()),
            flags: Some(texts(&["-a"])),
            ldflags: Some(texts(&["-s -w"])),
            gcflags: Some(texts(&["all=-N -l"])),
            asmflags: Some(texts(&["-spectre=all"])),
            tags: Some(texts(&["netgo", "osusergo", "static"])),
            env: map(&[("GOAMD64", "v2"), ("X", "1.0")]),
            cgo: Some(false),
            vcs_stamp: Some(true),
            module_mode: Some(ModuleMode::Readonly),
        };
        assert_eq!(top.go, go);
        let image = Image {
            entrypoint: Some(texts(&["/app", "--serve"])),
            cmd: Some(texts(&[])),
            env: map(&[("TZ", "UTC"), ("EMPTY", "")]),
            user: Some("65532:65532".to_owned()),
            workdir: Some("/data".to_owned()),
            ports: Some(texts(&["8080/tcp", "53/udp"])),
            labels: map(&[("a.b", "c")]),
            annotations: map(&[("d", "true")]),
            revision: Some(true),
            stop_signal: Some("SIGINT".to_owned()),
            volumes: Some(texts(&["/data"])),
            add: Some(texts(&["a b:/b", "c:d:/e:0755"])),
        };
        assert_eq!(top.image, image);
        let [api, tools] = &read.builds[..] else { panic!("{:?}", read.builds) };
        assert_eq!((api.packages(), &api.name), (&["./cmd/api".to_owned()][..], &None));
        assert_eq!(api.settings.platforms, Some(PlatformSet::All));
        assert_eq!(api.settings.image.cmd, Some(texts(&["serve"])));
        assert_eq!(tools.packages(), ["./cmd/migrate", "./cmd/seed"]);
        assert_eq!(tools.name.as_deref(), Some("tools"));
        assert_eq!(tools.settings.base.as_deref(), Some("scratch"));
    }

    #[test]
    fn a_key_without_a_value_is_absent() {
        for text in ["", "# nothing\n", "base:\ntags:\ngo:\nimage: {env: , cmd: ~}\nbuilds:\n"] {
            assert_eq!(parse(text, "f").unwrap(), GondolaYaml::default(), "{text:?}");
        }
    }

    #[test]
    fn upper_settings_replace_lists_and_join_maps() {
        let read = parse(EVERYTHING, "gondola.yaml").unwrap();
        let upper = "base: scratch\ntags: []\ngo: {env: {X: 2}, cgo: true}\nimage: {env: {A: b, TZ: CET}, ports: 1}\n";
        let upper = parse(upper, "f").unwrap().settings;
        let below = read.settings.clone();
        let merged = upper.over(below.clone());
        assert_eq!(merged.base.as_deref(), Some("scratch"));
        assert_eq!(merged.tags, Some(texts(&[])));
        assert_eq!(merged.go.env, map(&[("GOAMD64", "v2"), ("X", "2")]));
        assert_eq!(merged.go.cgo, Some(true));
        assert_eq!(merged.image.env, map(&[("A", "b"), ("EMPTY", ""), ("TZ", "CET")]));
        assert_eq!(merged.image.ports, Some(texts(&["1/tcp"])));
        assert_eq!(Settings::default().over(below.clone()), below);
        assert_eq!(below.clone().over(Settings::default()), below);
    }

    #[test]
    fn anchors_and_merge_keys_work() {
        let text = "go: &go {cgo: true}\nimage: &image {env: {A: b}, user: '1'}\n\
                    builds:\n  - package: ./x\n    go: *go\n    image: {<<: *image, user: '2'}\n";
        let build = parse(text, "f").unwrap().builds.remove(0);
        assert_eq!(build.settings.go.cgo, Some(true));
        assert_eq!(build.settings.image.env, map(&[("A", "b")]));
        assert_eq!(build.settings.image.user.as_deref(), Some("2"));
    }

    /// What is wrong, and what the whole message is after `cannot read f:`.
    const WRONG: &[(&str, &str)] = &[
        // Unknown keys.
        ("platfroms: all\n", "1:1: unknown key \"platfroms\"; hint: did you mean \"platforms\"?"),
        ("go:\n  cg: true\n", "2:3: unknown key \"cg\"; hint: did you mean \"cgo\"?"),
        (
            "image: {stop_signal: x}\n",
            "1:9: unknown key \"stop_signal\"; hint: did you mean \"stop-signal\"?",
        ),
        ("ldflags: -s\n", "1:1: unknown key \"ldflags\"; hint: write \"ldflags\" below \"go\""),
        (
            "stopSignal: x\n",
            "1:1: unknown key \"stopSignal\"; hint: write \"stop-signal\" below \"image\"",
        ),
        (
            "go: {nothing: 1}\n",
            "1:6: unknown key \"nothing\"; hint: the keys here are toolchain, image, flags, ldflags, gcflags, asmflags, tags, env, cgo, vcs-stamp, mod",
        ),
        (
            "builds:\n  - package: x\n    nam: y\n",
            "3:5: unknown key \"nam\"; hint: did you mean \"name\"?",
        ),
        (
            "go: &go {cgox: true}\nbuilds: [{package: x, go: *go}]\n",
            "1:10: unknown key \"cgox\"; hint: did you mean \"cgo\"?",
        ),
        // Twice.
        ("base: a\nbase: b\n", "2:1: the key \"base\" is there twice"),
        ("go: {env: {A: 1, A: 2}}\n", "1:18: the key \"A\" is there twice"),
        // Wrong types.
        ("base:\n  - a\n", "2:3: expected a text"),
        ("go: 1\n", "1:5: expected keys and values"),
        ("- a\n", "1:1: expected keys and values"),
        ("builds: {package: x}\n", "1:9: expected a list"),
        ("go:\n  cgo: yes\n", "2:8: expected true or false"),
        ("gzip-single-member: 1\n", "1:21: expected true or false"),
        ("tags: {a: b}\n", "1:7: found map, expected a text or a list of texts"),
        (
            "image:\n  cmd: true\n",
            "2:3: found boolean `true`, expected a text or a list of texts; hint: put it in quotes",
        ),
        ("tags: [~]\n", "1:8: expected a text; write \"\" for an empty one"),
        ("image: {env: {A: }}\n", "1:16: expected a text; write \"\" for an empty one"),
        ("image: {env: [A=B]}\n", "1:14: expected keys and values"),
        // Wrong values.
        ("go: {mod: foo}\n", "1:11: found \"foo\", expected mod, readonly or vendor"),
        ("base: ''\n", "1:7: found \"\", expected a text that is not empty"),
        (
            "platforms: [linus]\n",
            "1:13: cannot read platform \"linus\": it is neither an operating system nor an architecture; hint: write os/architecture[/variant], such as linux/amd64 or linux/arm/v7",
        ),
        ("platforms: [all, linux/amd64]\n", "1:12: \"all\" cannot stand among other platforms"),
        ("platforms: []\n", "1:12: the list of platforms is empty"),
        (
            "compression: gzip:12\n",
            "1:14: cannot use compression \"gzip:12\": expected gzip, gzip:1 to gzip:9, zstd, zstd:1 to zstd:19, or none",
        ),
        (
            "tags: 'a/{nam}'\n",
            "1:7: cannot read image name \"a/{nam}\": {name} is all that can stand in braces; hint: write [registry/]repository[:tag][@sha256:…]",
        ),
        (
            "tags:\n  - ok\n  - A/b\n",
            "3:5: cannot read image name \"A/b\": \"A\" has upper-case letters, a repository must not; hint: write [registry/]repository[:tag][@sha256:…]",
        ),
        (
            "image:\n  ports: [80, 70000]\n",
            "2:15: found \"70000\", expected a port such as 8080, 8080/tcp or 53/udp",
        ),
        (
            "image: {ports: '+80'}\n",
            "1:16: found \"+80\", expected a port such as 8080, 8080/tcp or 53/udp",
        ),
        ("image: {workdir: x}\n", "1:18: found \"x\", expected an absolute path such as /data"),
        (
            "image: {stop-signal: 'a b'}\n",
            "1:22: found \"a b\", expected a signal such as SIGTERM or 15",
        ),
        (
            "image: {env: {'A=B': x}}\n",
            "1:15: found \"A=B\", expected a name, which is not empty and has no \"=\"",
        ),
        (
            "image: {add: ['a:b']}\n",
            "1:15: found \"a:b\", expected SRC:/DST or SRC:/DST:MODE, such as config/app.toml:/etc/app.toml:0644",
        ),
        (
            "image: {add: [':/b']}\n",
            "1:15: found \":/b\", expected SRC:/DST or SRC:/DST:MODE, such as config/app.toml:/etc/app.toml:0644",
        ),
        (
            "image: {add: ['a:/b:0999']}\n",
            "1:15: found \"a:/b:0999\", expected SRC:/DST or SRC:/DST:MODE, such as config/app.toml:/etc/app.toml:0644",
        ),
        // Builds.
        ("builds:\n  - name: x\n", "2:5: the build has no package and no bins"),
        (
            "builds:\n  - package: x\n    bins: [y]\n",
            "2:5: a build has a package or bins, not both",
        ),
        ("builds: [{bins: []}]\n", "1:10: the list of bins is empty"),
        ("builds: [{package: ''}]\n", "1:20: found \"\", expected a text that is not empty"),
        // No YAML, or more than is taken.
        ("base: 'x\n", "1:7: this is not YAML: unclosed quote"),
        (
            "base: x\n bad: y\n",
            "2:5: this is not YAML: mapping values are not allowed in this context",
        ),
        ("base: *x\n", "1:7: no anchor has this name"),
        ("base: !foo x\n", "1:12: unsupported tag `!foo`"),
        ("base: x\n---\nbase: y\n", "3:1: expected one document, found a second one"),
    ];

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, expect) in WRONG {
            let error = parse(text, "f").expect_err(text);
            assert_eq!(error.to_string(), format!("cannot read f:{expect}"), "{text:?}");
            assert_eq!(error.kind(), ErrorKind::Usage);
        }
    }

    #[test]
    fn the_sections_keys_are_known_to_the_hints() {
        for (section, keys) in SECTIONS {
            let error = parse(&format!("{section}: {{zzzzzzzzzz: 1}}"), "f").unwrap_err();
            let expect = format!("the keys here are {}", keys.join(", "));
            assert!(error.to_string().ends_with(&expect), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_too_large_or_multiplies_itself_is_refused() {
        let too_much = "it is larger or nested deeper than a configuration can be";
        let aliases = format!("tags: [&a x{}]\n", ", *a".repeat(2_000));
        let deep = format!("{}\n", "{a: ".repeat(DEEPEST + 1));
        let items = format!("tags: [{}]\n", "a, ".repeat(100_000));
        for text in [aliases, deep, items] {
            let error = parse(&text, "f").unwrap_err().to_string();
            assert!(error.ends_with(too_much), "{error}");
        }
        let long = format!("base: {}\n", "x".repeat(1024 * 1024));
        let error = parse(&long, "f").unwrap_err().to_string();
        assert_eq!(error, "cannot read f: it has more than 1048576 bytes");
    }

    #[test]
    fn reading_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gondola.yaml");
        assert!(read(&path).unwrap_err().to_string().contains("gondola.yaml"));
        fs_err::write(&path, "base: scratch\n").unwrap();
        assert_eq!(read(&path).unwrap().settings.base.as_deref(), Some("scratch"));
        fs_err::write(&path, b"base: x\n# \xff\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.ends_with("gondola.yaml:2: the text is not UTF-8"), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z:{}\\[\\]&*!|>'\"\\-\n #,~0-9]{0,80}") {
            if let Err(error) = parse(&text, "f") {
                prop_assert!(error.to_string().starts_with("cannot read f"));
            }
        }
    }
}
