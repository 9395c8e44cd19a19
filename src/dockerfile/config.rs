//! What instructions that make no layer do to an image's configuration, and what the history says.
//!
//! The texts are BuildKit's, down to the way Go prints lists, so that tools that read histories
//! understand ours.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::error::{Error, ErrorKind, Result};
use crate::glob;
use crate::literal;
use crate::oci::{ContainerConfig, History, ImageConfig};

/// The shell of the shell form, unless `SHELL` says otherwise.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// The comment of every history entry.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// A health check, its command resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// `NONE`, or `CMD` or `CMD-SHELL` and a command.
    pub test: Vec<String>,
    /// `--interval`
    pub interval: Option<Duration>,
    /// `--timeout`
    pub timeout: Option<Duration>,
    /// `--start-period`
    pub start_period: Option<Duration>,
    /// `--start-interval`
    pub start_interval: Option<Duration>,
    /// `--retries`
    pub retries: Option<u32>,
}

/// Adds an entry to the history.
pub fn note(config: &mut ImageConfig, created: &str, text: String, makes_layer: bool) {
    config.history.push(History {
        created: Some(created.to_owned()),
        created_by: Some(text),
        comment: Some(COMMENT.to_owned()),
        empty_layer: !makes_layer,
        ..History::default()
    });
}

/// The command that runs a text in the stage's shell.
pub fn in_shell(config: &ContainerConfig, text: &str) -> Vec<String> {
    let own = config.extra.get("Shell").and_then(Value::as_array);
    let own: Option<Vec<String>> = own
        .map(|words| words.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .filter(|words: &Vec<String>| !words.is_empty());
    let mut words = own.unwrap_or_else(|| DEFAULT_SHELL.map(str::to_owned).to_vec());
    words.push(text.to_owned());
    words
}

/// `ENV`. The scope keeps the variables; a configuration gets them at the end of its stage.
pub fn env(pairs: &[(String, String)]) -> String {
    format!("ENV {}", joined_pairs(pairs))
}

/// `LABEL`
pub fn label(config: &mut ImageConfig, pairs: &[(String, String)]) -> String {
    config.config.labels.extend(pairs.iter().cloned());
    format!("LABEL {}", joined_pairs(pairs))
}

/// `CMD`; an empty list is none at all.
pub fn cmd(config: &mut ImageConfig, command: Vec<String>) -> String {
    let text = format!("CMD {}", quoted(&command));
    config.config.cmd = Some(command).filter(|words| !words.is_empty());
    config.config.extra.insert("ArgsEscaped".to_owned(), Value::Bool(true));
    text
}

/// `ENTRYPOINT`; a `CMD` of the base goes with it, and an empty list is none at all.
pub fn entrypoint(config: &mut ImageConfig, command: Vec<String>, cmd_is_ours: bool) -> String {
    let text = format!("ENTRYPOINT {}", quoted(&command));
    config.config.entrypoint = Some(command).filter(|words| !words.is_empty());
    if !cmd_is_ours {
        config.config.cmd = None;
    }
    text
}

/// `EXPOSE`
pub fn expose(config: &mut ImageConfig, ports: &[String]) -> String {
    config.config.exposed_ports.extend(ports.iter().map(|port| (port.clone(), json!({}))));
    format!("EXPOSE [{}]", ports.join(" "))
}

/// `HEALTHCHECK`
pub fn healthcheck(config: &mut ImageConfig, health: &Health) -> String {
    let mut value = Map::new();
    value.insert("Test".to_owned(), json!(health.test));
    let times = [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ];
    let mut shown = format!("{{Test:[{}]", health.test.join(" "));
    for (name, time) in times {
        let time = time.unwrap_or_default();
        if !time.is_zero() {
            let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            value.insert(name.to_owned(), json!(nanoseconds));
        }
        shown = format!("{shown} {name}:{}", go_duration(time));
    }
    let retries = health.retries.unwrap_or_default();
    if retries > 0 {
        value.insert("Retries".to_owned(), json!(retries));
    }
    config.config.extra.insert("Healthcheck".to_owned(), Value::Object(value));
    format!("HEALTHCHECK {shown} Retries:{retries}}}")
}

/// `MAINTAINER`
pub fn maintainer(config: &mut ImageConfig, name: String) -> String {
    let text = format!("MAINTAINER {name}");
    config.author = Some(name);
    text
}

/// `ONBUILD`, which the history does not mention.
pub fn onbuild(config: &mut ImageConfig, trigger: &str) {
    let list = config.config.extra.entry("OnBuild".to_owned()).or_insert_with(|| json!([]));
    match list {
        Value::Array(list) => list.push(json!(trigger)),
        other => *other = json!([trigger]),
    }
}

/// Takes the triggers out of a base's configuration.
pub fn take_triggers(config: &mut ImageConfig) -> Vec<String> {
    match config.config.extra.remove("OnBuild") {
        Some(Value::Array(list)) => {
            list.into_iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    }
}

/// `SHELL`
pub fn shell(config: &mut ImageConfig, words: &[String]) -> String {
    config.config.extra.insert("Shell".to_owned(), json!(words));
    format!("SHELL [{}]", words.join(" "))
}

/// `STOPSIGNAL`
pub fn stop_signal(config: &mut ImageConfig, signal: String) -> Result<String> {
    if literal::signal(&signal).is_none() {
        return Err(Error::new(ErrorKind::Usage, format!("use the signal {signal}"))
            .because("there is none of that name")
            .hint("write SIGTERM, SIGINT, SIGQUIT, SIGUSR1, … or a number"));
    }
    let text = format!("STOPSIGNAL {signal}");
    config.config.stop_signal = signal;
    Ok(text)
}

/// `USER`
pub fn user(config: &mut ImageConfig, user: String) -> String {
    let text = format!("USER {user}");
    config.config.user = user;
    text
}

/// `VOLUME`
pub fn volume(config: &mut ImageConfig, folders: &[String]) -> Result<String> {
    if folders.iter().any(String::is_empty) {
        return Err(Error::new(ErrorKind::Usage, "declare a volume")
            .because("its path is empty after expansion"));
    }
    let entries = folders.iter().map(|folder| (folder.clone(), json!({})));
    config.config.volumes.extend(entries);
    Ok(format!("VOLUME [{}]", folders.join(" ")))
}

/// `WORKDIR`: relative to the one before.
pub fn workdir(config: &mut ImageConfig, path: &str) -> String {
    let folder = glob::in_folder(&config.config.working_dir, path);
    config.config.working_dir.clone_from(&folder);
    format!("WORKDIR {folder}")
}

/// The destination of a copy: as [`glob::in_folder`], but what names a folder ends with a slash.
pub fn destination(working_folder: &str, path: &str) -> String {
    let names_folder =
        path.ends_with('/') || matches!(path, "" | "." | "..") || path.ends_with("/.");
    let cleaned = glob::in_folder(working_folder, path);
    if names_folder && cleaned != "/" { format!("{cleaned}/") } else { cleaned }
}

fn joined_pairs(pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(" ")
}

/// A list as Go's `%q` prints it.
pub fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| go_quoted(word)).collect();
    format!("[{}]", words.join(" "))
}

fn go_quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A duration as Go prints it: `1h0m0s`, `1m30s`, `1.5s`, `250ms`.
fn go_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    let fraction = |number: u128, unit: u128| {
        let text = format!("{}.{:09}", number / unit, (number % unit) * (1_000_000_000 / unit));
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match nanoseconds {
        0 => "0s".to_owned(),
        1..=999 => format!("{nanoseconds}ns"),
        1_000..=999_999 => format!("{}µs", fraction(nanoseconds, 1_000)),
        1_000_000..=999_999_999 => format!("{}ms", fraction(nanoseconds, 1_000_000)),
        _ => {
            let seconds = nanoseconds / 1_000_000_000;
            let rest = fraction(nanoseconds % 60_000_000_000, 1_000_000_000);
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            match (hours, minutes) {
                (0, 0) => format!("{rest}s"),
                (0, minutes) => format!("{minutes}m{rest}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ImageConfig {
        ImageConfig::empty("linux/amd64".parse().unwrap())
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn histories_read_as_buildkits() {
        let mut c = config();
        let pairs = [("A".to_owned(), "1 2".to_owned()), ("B".to_owned(), String::new())];
        assert_eq!(env(&pairs), "ENV A=1 2 B=");
        assert_eq!(label(&mut c, &pairs), "LABEL A=1 2 B=");
        assert_eq!(cmd(&mut c, words(&["./main", "a\"b"])), r#"CMD ["./main" "a\"b"]"#);
        assert_eq!(entrypoint(&mut c, words(&["/x"]), true), r#"ENTRYPOINT ["/x"]"#);
        assert_eq!(expose(&mut c, &words(&["80/tcp", "53/udp"])), "EXPOSE [80/tcp 53/udp]");
        assert_eq!(volume(&mut c, &words(&["/a", "/b"])).unwrap(), "VOLUME [/a /b]");
        assert_eq!(shell(&mut c, &words(&["/bin/bash", "-c"])), "SHELL [/bin/bash -c]");
        assert_eq!(workdir(&mut c, "app"), "WORKDIR /app");
        assert_eq!(workdir(&mut c, "../x/"), "WORKDIR /x");
        let health = Health {
            test: words(&["CMD-SHELL", "curl x"]),
            interval: Some(Duration::from_secs(90)),
            timeout: Some(Duration::from_millis(1500)),
            retries: Some(3),
            ..Health::default()
        };
        assert_eq!(
            healthcheck(&mut c, &health),
            "HEALTHCHECK {Test:[CMD-SHELL curl x] Interval:1m30s Timeout:1.5s StartPeriod:0s \
             StartInterval:0s Retries:3}"
        );
        let value = &c.config.extra["Healthcheck"];
        assert_eq!(value["Interval"], 90_000_000_000_u64);
        assert_eq!(value.get("StartPeriod"), None);
    }

    #[test]
    fn an_entrypoint_drops_a_command_of_the_base_alone() {
        let mut c = config();
        cmd(&mut c, words(&["a"]));
        entrypoint(&mut c, words(&["/x"]), true);
        assert_eq!(c.config.cmd, Some(words(&["a"])));
        entrypoint(&mut c, words(&["/x"]), false);
        assert_eq!(c.config.cmd, None);
    }

    #[test]
    fn an_empty_list_takes_a_command_away() {
        let mut c = config();
        cmd(&mut c, words(&["a"]));
        entrypoint(&mut c, words(&["/x"]), true);
        assert_eq!(cmd(&mut c, Vec::new()), "CMD []");
        assert_eq!(entrypoint(&mut c, Vec::new(), true), "ENTRYPOINT []");
        assert_eq!((c.config.cmd, c.config.entrypoint), (None, None));
    }

    #[test]
    fn durations_are_printed_as_go_does() {
        for (milliseconds, expected) in [
            (0, "0s"),
            (250, "250ms"),
            (1000, "1s"),
            (1500, "1.5s"),
            (60_000, "1m0s"),
            (3_600_000, "1h0m0s"),
            (5_400_500, "1h30m0.5s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(milliseconds)), expected);
        }
        assert_eq!(go_duration(Duration::from_micros(1500)), "1.5ms");
    }

    #[test]
    fn signals_are_names_or_numbers() {
        for good in ["SIGTERM", "KILL", "term", "9", "SIGRTMIN+3", "SIGRTMAX-14"] {
            assert!(stop_signal(&mut config(), good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", "0", "65", "a b", "$X", "SIGTREM", "SIG", "SIGRTMIN+31", "TERM "] {
            assert!(stop_signal(&mut config(), bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn destinations_keep_what_makes_them_folders() {
        for (path, expected) in [
            ("x", "/app/x"),
            ("x/", "/app/x/"),
            (".", "/app/"),
            ("./", "/app/"),
            ("/", "/"),
            ("/a/.", "/a/"),
            ("..", "/"),
        ] {
            assert_eq!(destination("/app", path), expected, "{path}");
        }
    }

    #[test]
    fn triggers_are_kept_and_taken_out() {
        let mut c = config();
        onbuild(&mut c, "RUN a");
        onbuild(&mut c, "COPY . .");
        assert_eq!(take_triggers(&mut c), words(&["RUN a", "COPY . ."]));
        assert!(take_triggers(&mut c).is_empty());
    }

    #[test]
    fn the_shell_form_runs_in_the_stages_shell() {
        let mut c = config();
        assert_eq!(in_shell(&c.config, "a b"), words(&["/bin/sh", "-c", "a b"]));
        shell(&mut c, &words(&["/bin/bash", "-eo", "pipefail", "-c"]));
        let expected = words(&["/bin/bash", "-eo", "pipefail", "-c", "a b"]);
        assert_eq!(in_shell(&c.config, "a b"), expected);
    }
}
