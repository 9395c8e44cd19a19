//! Which of the machine's environment variables `go` may see.
//!
//! The list allows, it does not forbid: a variable that nobody thought of does not reach the
//! compiler. What is allowed says where things are, how to reach them and with which rights;
//! nothing of it changes the program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Cannot, Result};

/// Where the go command finds its files, its user and the network.
const ALLOWED: [&str; 56] = [
    "ALL_PROXY",
    "DBUS_SESSION_BUS_ADDRESS",
    "GIT_ASKPASS",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_SYSTEM",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSL_CAINFO",
    "GIT_TERMINAL_PROMPT",
    "GOAUTH",
    "GOCACHE",
    "GOCACHEPROG",
    "GOGC",
    "GOINSECURE",
    "GOMAXPROCS",
    "GOMEMLIMIT",
    "GOMODCACHE",
    "GONOPROXY",
    "GONOSUMDB",
    "GOPATH",
    "GOPRIVATE",
    "GOPROXY",
    "GOROOT",
    "GOSUMDB",
    "GOTMPDIR",
    "GOTOOLCHAIN",
    "GOVCS",
    "GOWORK",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LOGNAME",
    "NETRC",
    "NO_PROXY",
    "PATH",
    "SSH_AGENT_PID",
    "SSH_ASKPASS",
    "SSH_AUTH_SOCK",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "SYSTEMROOT",
    "TEMP",
    "TMP",
    "TMPDIR",
    "USER",
    "USERPROFILE",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// What has the go command open no connection: no proxy, for no module the way past it, and no version
/// control.
pub const OFFLINE: [(&str, &str); 3] =
    [("GOPROXY", "off"), ("GONOPROXY", "none"), ("GOVCS", "*:off")];

/// Whether variables say all of [`OFFLINE`].
pub(super) fn is_offline(environment: &BTreeMap<String, String>) -> bool {
    OFFLINE.iter().all(|(name, value)| environment.get(*name).is_some_and(|set| set == value))
}

/// Numbered variables by which continuous integration hands git its configuration.
const ALLOWED_PREFIXES: [&str; 2] = ["GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"];

/// The C toolchain, for builds that ask for it. All of it can change the program.
const FOR_C: [&str; 19] = [
    "AR",
    "CC",
    "CGO_CFLAGS",
    "CGO_CFLAGS_ALLOW",
    "CGO_CPPFLAGS",
    "CGO_CXXFLAGS",
    "CGO_FFLAGS",
    "CGO_LDFLAGS",
    "CGO_LDFLAGS_ALLOW",
    "CPATH",
    "CPLUS_INCLUDE_PATH",
    "CXX",
    "C_INCLUDE_PATH",
    "FC",
    "LIBRARY_PATH",
    "PKG_CONFIG",
    "PKG_CONFIG_LIBDIR",
    "PKG_CONFIG_PATH",
    "PKG_CONFIG_SYSROOT_DIR",
];

/// Settings that `go env -w` keeps in a file and that a build still honours.
const FROM_FILE: [&str; 16] = [
    "GOAUTH",
    "GOCACHE",
    "GOCACHEPROG",
    "GOINSECURE",
    "GOMODCACHE",
    "GONOPROXY",
    "GONOSUMDB",
    "GOPATH",
    "GOPRIVATE",
    "GOPROXY",
    "GOROOT",
    "GOSUMDB",
    "GOTMPDIR",
    "GOTOOLCHAIN",
    "GOVCS",
    "GOWORK",
];

/// A file of settings longer than this is not one that `go env -w` wrote.
const FILE_LIMIT: u64 = 1 << 20;

/// The part of `host` that every build may see, with the settings of `go env -w` underneath.
pub(super) fn allowed(host: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let mut environment = match settings_file(host) {
        Some(path) => read_settings(&path)?,
        None => BTreeMap::new(),
    };
    let passes = |key: &str| {
        ALLOWED.binary_search(&key).is_ok()
            || ALLOWED_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
    };
    environment.extend(select(host, passes));
    Ok(environment)
}

/// The part of `host` that a build with C code sees beside that.
pub(super) fn for_c(host: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    select(host, |key| FOR_C.binary_search(&key).is_ok()).collect()
}

/// Gets a folder ready for [`write_below`]: `go` counts nothing there.
pub(super) fn prepare_below(folder: &Path) -> Result<()> {
    count_nothing(&folder.join(CONFIGURATION))
}

/// Gets a home folder ready that goes away: `go` counts nothing there.
pub(super) fn prepare_home(folder: &Path) -> Result<()> {
    count_nothing(&folder.join(".config"))
}

/// Has `go` count nothing where this is the user's configuration. Else it would start a process that goes
/// on counting when the folder is gone, or in the making.
fn count_nothing(configuration: &Path) -> Result<()> {
    let settings = configuration.join("go/telemetry");
    let written = fs_err::create_dir_all(&settings);
    let written = written.and_then(|()| fs_err::write(settings.join("mode"), "off"));
    written.cannot(|| format!("write to {}", settings.display()))
}

/// Has `go` write below a folder alone: its cache, what it counts, and modules. Modules that are here are
/// taken from where they are.
pub(super) fn write_below(folder: &Path, environment: &mut BTreeMap<String, String>) {
    let modules = modules_folder(environment);
    let path = |name: &str| folder.join(name).display().to_string();
    if let Some(modules) = modules {
        let proxy = environment.get("GOPROXY").map_or(DEFAULT_PROXY, String::as_str);
        let own = format!("file://{}/cache/download", modules.display());
        let proxy = format!("{own},{proxy}");
        environment.insert("GOPROXY".to_owned(), proxy);
    }
    // Else nobody could remove them.
    environment.entry("GOFLAGS".to_owned()).or_default().push_str(" -modcacherw");
    let mut set = |name: &str| environment.insert(name.to_owned(), path(name));
    set("GOCACHE");
    set("GOMODCACHE");
    // What Go counts is in the user's configuration.
    set(CONFIGURATION);
    environment.remove("GOCACHEPROG");
}

/// The folder of the user's configuration, and the variable that says where that is.
const CONFIGURATION: &str = "XDG_CONFIG_HOME";
/// Where modules come from where nobody says it.
const DEFAULT_PROXY: &str = "https://proxy.golang.org,direct";

/// Where `go` keeps modules.
pub(super) fn modules_folder(environment: &BTreeMap<String, String>) -> Option<PathBuf> {
    let get = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let of_path = || get("GOPATH")?.split(':').next().map(|path| Path::new(path).join("pkg/mod"));
    let of_home = || Some(Path::new(get("HOME")?).join("go/pkg/mod"));
    get("GOMODCACHE").map(PathBuf::from).or_else(of_path).or_else(of_home)
}

fn select(
    host: &BTreeMap<String, String>,
    passes: impl Fn(&str) -> bool,
) -> impl Iterator<Item = (String, String)> {
    host.iter()
        .filter(move |(key, value)| !value.is_empty() && passes(key))
        .map(|(key, value)| (key.clone(), value.clone()))
}

/// Where `go env -w` writes for this user.
fn settings_file(host: &BTreeMap<String, String>) -> Option<PathBuf> {
    let get = |key: &str| host.get(key).filter(|value| !value.is_empty());
    match get("GOENV").map(String::as_str) {
        Some("off") => return None,
        Some(path) => return Some(path.into()),
        None => {}
    }
    let folder = if cfg!(target_os = "macos") {
        Path::new(get("HOME")?).join("Library/Application Support")
    } else {
        match get("XDG_CONFIG_HOME") {
            Some(folder) => folder.into(),
            None => Path::new(get("HOME")?).join(".config"),
        }
    };
    Some(folder.join("go/env"))
}

/// Reads the lines `KEY=value`; a file that is not there has none.
fn read_settings(path: &Path) -> Result<BTreeMap<String, String>> {
    let action = || format!("read the Go settings in {}", path.display());
    let text = match fs_err::metadata(path) {
        Ok(found) if found.is_file() && found.len() <= FILE_LIMIT => {
            crate::disk::read(path, FILE_LIMIT).cannot(action)?
        }
        _ => return Ok(BTreeMap::new()),
    };
    Ok(parse_settings(&String::from_utf8_lossy(&text)))
}

fn parse_settings(text: &str) -> BTreeMap<String, String> {
    let settings = text.lines().filter_map(|line| line.trim().split_once('='));
    settings
        .filter(|(key, value)| FROM_FILE.binary_search(key).is_ok() && !value.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_lists_are_sorted_for_the_search() {
        assert!(ALLOWED.is_sorted() && FOR_C.is_sorted() && FROM_FILE.is_sorted());
    }

    #[test]
    fn what_is_written_goes_below_a_folder_and_modules_come_from_where_they_are() {
        for (pairs, modules, proxy) in [
            (&[("HOME", "/h")][..], "/h/go/pkg/mod", DEFAULT_PROXY),
            (&[("HOME", "/h"), ("GOPATH", "/p:/q")], "/p/pkg/mod", DEFAULT_PROXY),
            (&[("GOMODCACHE", "/m"), ("GOPROXY", "off")], "/m", "off"),
        ] {
            let mut environment = map(pairs);
            write_below(Path::new("/t"), &mut environment);
            let proxy = format!("file://{modules}/cache/download,{proxy}");
            assert_eq!(environment["GOPROXY"], proxy);
            for name in ["GOCACHE", "GOMODCACHE", "XDG_CONFIG_HOME"] {
                assert!(environment[name].starts_with("/t/"), "{name}");
            }
        }
    }

    #[test]
    fn what_changes_the_program_does_not_pass() {
        let host = map(&[
            ("GOENV", "off"),
            ("PATH", "/bin"),
            ("GOPROXY", "https://proxy"),
            ("GIT_CONFIG_KEY_0", "url.x.insteadOf"),
            ("HTTPS_PROXY", ""),
            ("GOFLAGS", "-mod=mod"),
            ("CGO_ENABLED", "1"),
            ("GOAMD64", "v3"),
            ("GOOS", "plan9"),
            ("GOEXPERIMENT", "x"),
            ("CC", "clang"),
            ("LC_ALL", "de_DE.UTF-8"),
            ("TZ", "UTC"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
        ]);
        let passed = allowed(&host).unwrap();
        let keys: Vec<&str> = passed.keys().map(String::as_str).collect();
        assert_eq!(keys, ["GIT_CONFIG_KEY_0", "GOPROXY", "PATH"]);
        assert_eq!(for_c(&host), map(&[("CC", "clang")]));
    }

    #[test]
    fn the_settings_of_go_env_w_are_kept_where_they_only_say_where_modules_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("go/env");
        fs_err::create_dir(folder.path().join("go")).unwrap();
        let text = "GOPROXY=direct\nGOPRIVATE=example.com\nGOFLAGS=-mod=mod\nCGO_ENABLED=1\n#x\n";
        fs_err::write(&file, text).unwrap();
        let config = folder.path().to_str().unwrap();
        let host = map(&[("XDG_CONFIG_HOME", config), ("GOPRIVATE", "example.org")]);
        let passed = allowed(&host).unwrap();
        assert_eq!(passed["GOPROXY"], "direct");
        assert_eq!(passed["GOPRIVATE"], "example.org");
        assert!(!passed.contains_key("GOFLAGS") && !passed.contains_key("CGO_ENABLED"));

        let named = map(&[("GOENV", file.to_str().unwrap())]);
        assert_eq!(allowed(&named).unwrap()["GOPROXY"], "direct");
        let off = map(&[("XDG_CONFIG_HOME", config), ("GOENV", "off")]);
        assert!(!allowed(&off).unwrap().contains_key("GOPROXY"));
    }
}
