//! The one place that reads the environment, the clock and the working folder.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::config::{self, UserConfig};
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::golang;
use crate::literal;
use crate::store::CacheScope;

/// What the process was given by whoever started it.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The environment variables; a name or value that is not UTF-8 is left out.
    pub variables: BTreeMap<String, String>,
    /// The arguments, without the program's own name.
    pub arguments: Vec<OsString>,
    /// The working folder.
    pub folder: PathBuf,
    /// The time at which the process started.
    pub now: SystemTime,
    /// How many things can usefully run at once.
    pub cores: usize,
}

impl Environment {
    /// Reads the environment of this process, which was started with these arguments.
    #[expect(clippy::disallowed_methods, reason = "this is their one home")]
    pub fn of_this_process(arguments: &[OsString]) -> Result<Self> {
        let utf8 = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Ok(Self {
            variables: std::env::vars_os().filter_map(utf8).collect(),
            arguments: arguments.iter().skip(1).cloned().collect(),
            folder: std::env::current_dir().cannot(|| "find the working folder")?,
            now: SystemTime::now(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        })
    }

    /// The same, in which the go command opens no connection.
    #[must_use]
    pub fn offline(mut self) -> Self {
        for (name, value) in golang::OFFLINE {
            self.variables.insert(name.to_owned(), value.to_owned());
        }
        self
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// `path`, relative to the working folder.
    pub fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder.join(path)
    }

    /// The store's folder: `GONDOLA_HOME`, else `gondola` in the XDG data folder.
    pub fn store_folder(&self) -> Result<PathBuf> {
        if let Some(folder) = self.get("GONDOLA_HOME") {
            return Ok(self.resolve(folder));
        }
        // The XDG specification has relative paths ignored.
        let data = self.get("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let data =
            data.or_else(|| self.get("HOME").map(|home| self.resolve(home).join(".local/share")));
        data.map(|folder| folder.join("gondola")).ok_or_else(|| {
            Error::new(ErrorKind::Usage, "find a folder for the store")
                .because("none of GONDOLA_HOME, XDG_DATA_HOME and HOME is set")
                .hint("set GONDOLA_HOME to a folder that gondola may fill")
        })
    }

    /// The user's configuration: `gondola/config.yaml` in the XDG configuration folder; an empty one
    /// where there is none.
    pub fn user_config(&self) -> Result<UserConfig> {
        let folder =
            self.get("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let folder =
            folder.or_else(|| self.get("HOME").map(|home| self.resolve(home).join(".config")));
        let Some(file) = folder.map(|folder| folder.join("gondola/config.yaml")) else {
            return Ok(UserConfig::default());
        };
        if !file.exists() {
            return Ok(UserConfig::default());
        }
        config::read_user(&file)
    }

    /// How many bytes the caches may have after a build: `GONDOLA_STORE_KEEP`, else what the user's
    /// configuration says.
    pub fn store_keep(&self) -> Result<Option<u64>> {
        let Some(text) = self.get("GONDOLA_STORE_KEEP") else {
            return Ok(self.user_config()?.store.keep);
        };
        literal::size(text).map(Some).map_err(|why| {
            Error::new(ErrorKind::Usage, "use GONDOLA_STORE_KEEP")
                .because(format!("found \"{}\", {why}", text.escape_debug()))
        })
    }

    /// Whose caches a build uses where the context does not say it: the name that was typed, else
    /// `GONDOLA_CACHE_SCOPE`, else what a CI says.
    pub fn cache_scope(&self, typed: Option<&str>) -> Result<Option<CacheScope>> {
        match typed.or_else(|| self.get("GONDOLA_CACHE_SCOPE")) {
            Some(name) => CacheScope::named(name).map(Some),
            None => Ok(CacheScope::of_ci(&self.variables)),
        }
    }

    /// The time that images carry: `SOURCE_DATE_EPOCH`, else the epoch. In seconds.
    pub fn source_date_epoch(&self) -> Result<i64> {
        self.get("SOURCE_DATE_EPOCH").map_or(Ok(0), parse_epoch)
    }
}

/// Reads the value of `SOURCE_DATE_EPOCH`.
pub fn parse_epoch(text: &str) -> Result<i64> {
    // The year 9999 is the last that RFC 3339 can write.
    let seconds = text.parse().ok().filter(|seconds| (0..=253_402_300_799).contains(seconds));
    seconds.ok_or_else(|| {
        Error::new(ErrorKind::Usage, "use SOURCE_DATE_EPOCH").because(format!(
            "found \"{}\", expected whole seconds since 1970",
            text.escape_debug()
        ))
    })
}

/// What time it is now, for what outlives the moment at which the process began.
#[expect(clippy::disallowed_methods, reason = "this is their one home")]
pub fn clock() -> jiff::Timestamp {
    // A clock beyond the year 9999 is none to go by.
    jiff::Timestamp::try_from(SystemTime::now()).unwrap_or(jiff::Timestamp::MAX)
}

/// The command line, with the program's own name.
pub fn arguments() -> Vec<OsString> {
    std::env::args_os().collect()
}

#[cfg(test)]
impl Environment {
    /// An environment with nothing but these variables.
    pub fn with(variables: &[(&str, &str)]) -> Self {
        Self {
            variables: variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            arguments: Vec::new(),
            folder: PathBuf::from("/work"),
            now: SystemTime::UNIX_EPOCH,
            cores: 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offline_modules_of_ones_own_are_not_fetched_either() {
        let private =
            Environment::with(&[("GOPRIVATE", "r.test"), ("GOPROXY", "direct")]).offline();
        assert_eq!(private.get("GOPROXY"), Some("off"));
        // What this leaves out is fetched without a proxy; it is GOPRIVATE where nothing is said.
        assert_eq!(private.get("GONOPROXY"), Some("none"));
        assert_eq!(private.get("GOVCS"), Some("*:off"));
    }

    #[test]
    fn the_store_is_where_the_first_of_three_variables_says() {
        for (pairs, expect) in [
            (&[("GONDOLA_HOME", "g"), ("HOME", "/h")][..], "/work/g"),
            (&[("XDG_DATA_HOME", "/x"), ("HOME", "/h")], "/x/gondola"),
            (&[("XDG_DATA_HOME", "x"), ("HOME", "/h")], "/h/.local/share/gondola"),
            (&[("GONDOLA_HOME", ""), ("HOME", "/h")], "/h/.local/share/gondola"),
        ] {
            assert_eq!(Environment::with(pairs).store_folder().unwrap(), Path::new(expect));
        }
        let error = Environment::with(&[]).store_folder().unwrap_err();
        assert!(error.to_string().contains("GONDOLA_HOME"), "{error}");
    }

    #[test]
    fn the_bound_of_the_store_is_set_or_the_users() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        assert_eq!(Environment::with(&[("HOME", home)]).store_keep().unwrap(), None);
        for (under, keep) in [("gondola", "1k"), ("home/.config/gondola", "2k")] {
            fs_err::create_dir_all(folder.path().join(under)).unwrap();
            let text = format!("store: {{keep: {keep}}}\n");
            fs_err::write(folder.path().join(under).join("config.yaml"), text).unwrap();
        }
        let own = folder.path().join("home");
        let home = ("HOME", own.to_str().unwrap());
        let xdg = ("XDG_CONFIG_HOME", folder.path().to_str().unwrap());
        for (pairs, expected) in [
            (&[home][..], 2048),
            (&[home, xdg], 1024),
            (&[home, ("XDG_CONFIG_HOME", "relative")], 2048),
            (&[home, xdg, ("GONDOLA_STORE_KEEP", "5")], 5),
        ] {
            assert_eq!(Environment::with(pairs).store_keep().unwrap(), Some(expected), "{pairs:?}");
        }
        let error = Environment::with(&[("GONDOLA_STORE_KEEP", "much")]).store_keep().unwrap_err();
        assert!(
            error.to_string().contains("cannot use GONDOLA_STORE_KEEP: found \"much\""),
            "{error}"
        );
    }

    #[test]
    fn a_cache_scope_is_typed_or_set_or_the_ci_s() {
        let ci = [("CI", "woodpecker"), ("CI_REPO", "o/r"), ("CI_COMMIT_BRANCH", "main")];
        let ci = [&ci[..], &[("CI_PIPELINE_EVENT", "push")]].concat();
        let set = [&ci[..], &[("GONDOLA_CACHE_SCOPE", "set")]].concat();
        let named = |name| Some(CacheScope::named(name).unwrap());
        assert_eq!(Environment::with(&set).cache_scope(Some("typed")).unwrap(), named("typed"));
        assert_eq!(Environment::with(&set).cache_scope(None).unwrap(), named("set"));
        let found = Environment::with(&ci).cache_scope(None).unwrap();
        assert!(found.is_some_and(|found| found.name().is_some()));
        assert_eq!(Environment::with(&[]).cache_scope(None).unwrap(), None);
        assert!(Environment::with(&ci).cache_scope(Some("")).is_err());
    }

    #[test]
    fn the_source_date_is_whole_seconds() {
        assert_eq!(Environment::with(&[]).source_date_epoch().unwrap(), 0);
        assert_eq!(
            Environment::with(&[("SOURCE_DATE_EPOCH", "17")]).source_date_epoch().unwrap(),
            17
        );
        for bad in ["-1", "1.5", "now", "999999999999999"] {
            assert!(
                Environment::with(&[("SOURCE_DATE_EPOCH", bad)]).source_date_epoch().is_err(),
                "{bad}"
            );
        }
    }
}
