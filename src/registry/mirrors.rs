//! Mirrors: where else, and where rather, an image may be pulled from.
//!
//! The rules are those of [`registries.conf`][spec], as podman, skopeo and cri-o read it:
//!
//! ```toml
//! [[registry]]
//! prefix = "docker.io"
//! [[registry.mirror]]
//! location = "mirror.example.com/hub"
//! ```
//!
//! [spec]: https://github.com/containers/image/blob/main/docs/containers-registries.conf.5.md

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Deserialize;

use super::folder::{files_in, has_extension};
use crate::disk;
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::oci::Repository;

const LARGEST_FILE: u64 = 1024 * 1024;

/// Rules for where to pull from. They play no part in a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrors {
    rules: Vec<Rule>,
}

/// Mirrors of whatever is under a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorRule {
    /// A registry, or a part of what it has.
    pub prefix: String,
    /// What is asked in its place, after all mirrors.
    pub location: String,
    /// What is asked before, in order.
    pub mirrors: Vec<String>,
}

/// What applies to the repositories under one prefix.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Rule {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default, rename = "mirror")]
    mirrors: Vec<Mirror>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default, rename = "pull-from-mirror")]
    serves: PullFrom,
}

/// For which references a mirror is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PullFrom {
    #[default]
    All,
    DigestOnly,
    TagOnly,
}

/// How a manifest or blob is named when it is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    ByTag,
    ByDigest,
}

#[derive(Deserialize)]
struct File {
    #[serde(default, rename = "registry")]
    rules: Vec<Rule>,
}

impl Mirrors {
    /// Reads the rules in a file's text; whatever else is in it is passed over.
    pub fn parse(text: &str) -> Result<Self> {
        let fail =
            |why: String| Error::new(ErrorKind::Invalid, "read registries.conf").because(why);
        let file: File = toml::from_str(text).map_err(|error| fail(error.message().to_owned()))?;
        let mut rules = file.rules;
        for rule in &mut rules {
            if rule.prefix.is_empty() {
                rule.prefix.clone_from(&rule.location);
            }
            rule.check().map_err(fail)?;
        }
        Ok(Self { rules })
    }

    /// Rules by which whatever is under each prefix is pulled from another place alone.
    pub fn replacing(places: &BTreeMap<String, String>) -> Result<Self> {
        let rules = places.iter().map(|(from, to)| {
            let rule = Rule {
                prefix: from.trim_end_matches('/').to_owned(),
                location: to.trim_end_matches('/').to_owned(),
                insecure: false,
                blocked: false,
                mirror_by_digest_only: false,
                mirrors: Vec::new(),
            };
            let action = || format!("use the mirror {from}={to}");
            rule.check().map_err(|why| Error::new(ErrorKind::Usage, action()).because(why))?;
            Ok(rule)
        });
        Ok(Self { rules: rules.collect::<Result<_>>()? })
    }

    /// Rules by which mirrors are asked, in order, before the place that takes a prefix's.
    pub fn listed(rules: impl IntoIterator<Item = MirrorRule>) -> Result<Self> {
        let rules = rules.into_iter().map(|listed| {
            let mirror = |location: String| Mirror {
                location: location.trim_end_matches('/').to_owned(),
                insecure: false,
                serves: PullFrom::All,
            };
            let rule = Rule {
                prefix: listed.prefix,
                location: listed.location,
                insecure: false,
                blocked: false,
                mirror_by_digest_only: false,
                mirrors: listed.mirrors.into_iter().map(mirror).collect(),
            };
            let action = || format!("use the mirrors of {}", rule.prefix);
            rule.check().map_err(|why| Error::new(ErrorKind::Usage, action()).because(why))?;
            Ok(rule)
        });
        Ok(Self { rules: rules.collect::<Result<_>>()? })
    }

    /// These rules, and for prefixes that they say nothing of, those `below`.
    #[must_use]
    pub fn over(mut self, below: Self) -> Self {
        let own: Vec<_> = self.rules.iter().map(|rule| rule.prefix.clone()).collect();
        self.rules.extend(below.rules.into_iter().filter(|rule| !own.contains(&rule.prefix)));
        self
    }

    /// Reads the rules of the user, else of the machine, and those of the files beside them.
    pub fn from_environment(environment: &BTreeMap<String, String>) -> Result<Self> {
        let set = |name: &str| environment.get(name).filter(|text| !text.is_empty());
        if let Some(file) = set("CONTAINERS_REGISTRIES_CONF") {
            return Self::read(Path::new(file));
        }
        let system = Path::new("/etc/containers");
        let user = set("HOME").map(|home| Path::new(home).join(".config/containers"));
        let mut files = Vec::new();
        let of_user = user.as_ref().map(|folder| folder.join("registries.conf"));
        let main = of_user.filter(|file| file.is_file());
        files.push(main.unwrap_or_else(|| system.join("registries.conf")));
        for folder in [Some(system), user.as_deref()].into_iter().flatten() {
            let drop_ins = files_in(&folder.join("registries.conf.d"))?.into_iter();
            files.extend(drop_ins.filter(|file| has_extension(file, "conf")));
        }
        let mut all = Self::default();
        for file in files {
            // The later file has the last word on a prefix.
            let more = Self::read(&file)?;
            all.rules.retain(|old| more.rules.iter().all(|new| new.prefix != old.prefix));
            all.rules.extend(more.rules);
        }
        Ok(all)
    }

    fn read(path: &Path) -> Result<Self> {
        let action = || format!("read {}", path.display());
        let text = match disk::read_text(path, LARGEST_FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            text => text.cannot(action)?,
        };
        Self::parse(&text).cannot(action)
    }

    /// The hosts that the rules allow to be spoken to without verification.
    pub(super) fn insecure_hosts(&self) -> Vec<String> {
        let mut hosts = Vec::new();
        for rule in &self.rules {
            let own = if rule.location.is_empty() { &rule.prefix } else { &rule.location };
            let mirrors = rule.mirrors.iter().map(|mirror| (&mirror.location, mirror.insecure));
            for (location, insecure) in mirrors.chain([(own, rule.insecure)]) {
                if insecure && let Some(host) = location.split('/').next() {
                    hosts.push(host.to_owned());
                }
            }
        }
        hosts
    }

    /// Where to look for what is in a repository, in this order; the last one has the last word.
    pub(super) fn sources(&self, repository: &Repository, named: Named) -> Result<Vec<Repository>> {
        let full = repository.to_string();
        let fitting = self.rules.iter().filter(|rule| rule.rest(repository, &full).is_some());
        let Some(rule) = fitting.max_by_key(|rule| rule.prefix.len()) else {
            return Ok(vec![repository.clone()]);
        };
        if rule.blocked {
            return Err(Error::new(ErrorKind::Denied, format!("pull from {repository}"))
                .because(format!("registries.conf blocks {}", rule.prefix)));
        }
        let rest = rule.rest(repository, &full).unwrap_or_default();
        let mut sources = Vec::new();
        for mirror in &rule.mirrors {
            let wanted = match (mirror.serves, named) {
                (PullFrom::All, _) => !rule.mirror_by_digest_only || named == Named::ByDigest,
                (PullFrom::DigestOnly, named) => named == Named::ByDigest,
                (PullFrom::TagOnly, named) => named == Named::ByTag,
            };
            if wanted {
                sources.push(format!("{}{rest}", mirror.location).parse()?);
            }
        }
        sources.push(match rule.location.as_str() {
            "" => repository.clone(),
            location => format!("{location}{rest}").parse()?,
        });
        Ok(sources)
    }
}

impl Rule {
    /// Says what is wrong with it.
    fn check(&self) -> std::result::Result<(), String> {
        let mut locations = vec![&self.location];
        locations.extend(self.mirrors.iter().map(|mirror| &mirror.location));
        if !self.prefix.starts_with("*.") {
            locations.push(&self.prefix);
        }
        for location in locations.into_iter().filter(|location| !location.is_empty()) {
            let probe = format!("{location}/x").parse::<Repository>();
            if !probe.is_ok_and(|probe| location.starts_with(probe.registry())) {
                return Err(format!("\"{}\" is no registry", location.escape_debug()));
            }
        }
        if self.prefix.is_empty() {
            return Err("a registry has neither prefix nor location".to_owned());
        }
        Ok(())
    }

    /// What of a repository's name lies behind the prefix: nothing, or something with a slash.
    fn rest<'a>(&self, repository: &Repository, full: &'a str) -> Option<&'a str> {
        if let Some(domain) = self.prefix.strip_prefix('*') {
            let registry = repository.registry();
            return registry.ends_with(domain).then(|| &full[registry.len()..]);
        }
        let rest = full.strip_prefix(&self.prefix)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Give, Got, Server, options};
    use super::super::{Client, Options};
    use super::*;

    #[test]
    fn a_place_takes_the_place_of_another() {
        let places = |from: &str, to: &str| [(from.to_owned(), to.to_owned())].into();
        let mirrors = Mirrors::replacing(&places("docker.io/", "mirror.test/hub")).unwrap();
        let sources = |name: &str| {
            let found = mirrors.sources(&name.parse().unwrap(), Named::ByTag).unwrap();
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(sources("docker.io/library/golang"), ["mirror.test/hub/library/golang"]);
        assert_eq!(sources("quay.io/x"), ["quay.io/x"]);
        for (from, to) in [("hub", "mirror.test"), ("docker.io", "mir ror"), ("", "mirror.test")] {
            let error = Mirrors::replacing(&places(from, to)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{from}={to}");
        }
    }

    #[test]
    fn rules_that_lie_above_others_have_the_word_on_their_prefixes() {
        let rule = |prefix: &str, location: &str| {
            let text = format!("[[registry]]\nprefix = {prefix:?}\nlocation = {location:?}\n");
            Mirrors::parse(&text).unwrap()
        };
        let below = rule("one.test", "low.test").over(rule("two.test", "two-low.test"));
        let all = rule("one.test", "high.test").over(below);
        let source = |name: &str| {
            let sources = all.sources(&name.parse().unwrap(), Named::ByTag).unwrap();
            sources.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(source("one.test/a"), ["high.test/a"]);
        assert_eq!(source("two.test/a"), ["two-low.test/a"]);
    }

    use crate::oci::{Descriptor, MediaType};
    use bytes::Bytes;
    use std::sync::Arc;

    const RULES: &str = r#"
        unqualified-search-registries = ["docker.io"]
        short-name-mode = "permissive"

        [[registry]]
        prefix = "docker.io"
        mirror = [{ location = "one.test/hub" }, { location = "two.test", pull-from-mirror = "digest-only" }]

        [[registry]]
        location = "docker.io/library"   # moved
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "three.test:5000/library"
        insecure = true

        [[registry]]
        prefix = "old.test/team"
        location = "new.test/group/team"

        [[registry]]
        prefix = "*.blocked.test"
        blocked = true
    "#;

    #[test]
    fn the_longest_prefix_says_where_to_look() {
        let mirrors = Mirrors::parse(RULES).unwrap();
        let look = |name: &str, named| {
            let sources = mirrors.sources(&name.parse().unwrap(), named)?;
            Ok::<_, Error>(sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        for (name, by_tag, by_digest) in [
            (
                "docker.io/a/b",
                "one.test/hub/a/b docker.io/a/b",
                "one.test/hub/a/b two.test/a/b docker.io/a/b",
            ),
            (
                "docker.io/library/x",
                "docker.io/library/x",
                "three.test:5000/library/x docker.io/library/x",
            ),
            ("old.test/team/x", "new.test/group/team/x", "new.test/group/team/x"),
            ("old.test/teams/x", "old.test/teams/x", "old.test/teams/x"),
            ("docker.iox/a", "docker.iox/a", "docker.iox/a"),
        ] {
            assert_eq!(look(name, Named::ByTag).unwrap(), by_tag);
            assert_eq!(look(name, Named::ByDigest).unwrap(), by_digest);
        }
        assert_eq!(look("a.blocked.test/x", Named::ByTag).unwrap_err().kind(), ErrorKind::Denied);
        assert!(look("blocked.test/x", Named::ByTag).is_ok());
        assert_eq!(mirrors.insecure_hosts(), ["three.test:5000"]);
    }

    #[test]
    fn wrong_rules_are_named() {
        for (text, part) in [
            ("[[registry]]\nprefix = 5", "expected"),
            ("[[registry]]", "neither"),
            ("[[registry]]\nlocation = \"a b\"", "no registry"),
            ("[[registry]]\nprefix = \"a.io\"\n[[registry.mirror]]\nlocation = \"hub\"", "\"hub\""),
            ("[[registry", ""),
        ] {
            let error = Mirrors::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!(Mirrors::parse("").unwrap(), Mirrors::default());
    }

    #[test]
    fn the_users_file_goes_before_the_machines_and_drop_ins_go_last() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".config/containers");
        fs_err::create_dir_all(folder.join("registries.conf.d")).unwrap();
        let rule = |to: &str| format!("[[registry]]\nprefix = \"a.test\"\nlocation = \"{to}\"\n");
        fs_err::write(folder.join("registries.conf"), rule("main.test")).unwrap();
        let mut environment =
            BTreeMap::from([("HOME".to_owned(), home.path().display().to_string())]);
        let look = |environment: &BTreeMap<String, String>| {
            let mirrors = Mirrors::from_environment(environment).unwrap();
            let sources = mirrors.sources(&"a.test/x".parse().unwrap(), Named::ByTag).unwrap();
            sources[0].to_string()
        };
        assert_eq!(look(&environment), "main.test/x");
        fs_err::write(folder.join("registries.conf.d/1.conf"), rule("more.test")).unwrap();
        fs_err::write(folder.join("registries.conf.d/2.txt"), rule("other.test")).unwrap();
        assert_eq!(look(&environment), "more.test/x");
        let file = home.path().join("mine.conf");
        fs_err::write(&file, rule("mine.test")).unwrap();
        environment.insert("CONTAINERS_REGISTRIES_CONF".to_owned(), file.display().to_string());
        assert_eq!(look(&environment), "mine.test/x");
    }

    #[tokio::test]
    async fn what_a_mirror_does_not_have_is_told_as_the_mirrors() {
        let empty = registry(false).await;
        let places = [("r.test".to_owned(), empty.address.to_string())].into();
        let mirrors = Mirrors::replacing(&places).unwrap();
        let client = Client::new(Options { mirrors, ..options() }).unwrap();
        let reference = "r.test/app:v1".parse().unwrap();
        let says = format!("{}, the mirror of r.test, answered 404", empty.address);
        let manifest = client.manifest(&reference).await.unwrap_err();
        let resolved = client.resolve(&reference).await.unwrap_err();
        let quiet: super::super::OnBytes = Arc::new(|_| {});
        let descriptor = Descriptor::of(MediaType::OCI_LAYER, b"hello");
        let blob = client.pull_blob(reference.repository(), &descriptor, Vec::new(), quiet).await;
        for error in [manifest, resolved, blob.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().contains(&says), "{error}");
        }
    }

    /// A registry that has one blob and one manifest under every name; or nothing.
    async fn registry(has: bool) -> Server {
        Server::start(move |got: &Got, _: &str| -> Give {
            if !has {
                return (404, Vec::new(), Bytes::new());
            }
            if got.line.contains("/blobs/") {
                return (200, Vec::new(), Bytes::from_static(b"hello"));
            }
            let kind = vec![("content-type", MediaType::OCI_INDEX.to_string())];
            (200, kind, Bytes::from_static(br#"{"schemaVersion":2,"manifests":[]}"#))
        })
        .await
    }

    #[tokio::test]
    async fn pulls_go_to_the_mirror_and_fall_through() {
        let (empty, full) = (registry(false).await, registry(true).await);
        // Nobody listens on port 1.
        let text = format!(
            "[[registry]]\nprefix = \"{0}/lib\"\n[[registry.mirror]]\nlocation = \"127.0.0.1:1\"\n\
             [[registry.mirror]]\nlocation = \"{0}/mirror\"\n[[registry.mirror]]\nlocation = \"{1}\"\n",
            empty.address, full.address
        );
        let mirrors = Mirrors::parse(&text).unwrap();
        let client = Client::new(Options { mirrors, ..options() }).unwrap();
        let reference = empty.reference("lib/app:v1");
        client.manifest(&reference).await.unwrap();
        client.resolve(&reference).await.unwrap();
        let descriptor = Descriptor::of(MediaType::OCI_LAYER, b"hello");
        let quiet: super::super::OnBytes = Arc::new(|_| {});
        let pulled = client.pull_blob(reference.repository(), &descriptor, Vec::new(), quiet).await;
        assert_eq!(pulled.unwrap(), b"hello");
        assert_eq!(full.lines()[0], "GET /v2/app/manifests/v1");
        let lines = empty.lines();
        assert!(lines.iter().all(|line| line.contains(" /v2/mirror/app/")), "{lines:?}");
        // Whether to push is decided by the registry itself.
        assert!(client.tag_digest(&reference).await.unwrap().is_none());
        assert_eq!(empty.lines().last().unwrap(), "HEAD /v2/lib/app/manifests/v1");
        let error = client.manifest(&empty.reference("other:v1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
