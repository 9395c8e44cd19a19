//! What an image says and what was asked for, put together.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ports::{Publish, Published};
use super::signal::StopSignal;
use super::volumes::Volume;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::ContainerConfig;
use crate::sandbox::{Access, Limit};

/// Docker's patience with a program that was asked to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Which network a container has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkChoice {
    /// The host's: every port that the program opens is the host's.
    Host,
    /// A loopback device alone.
    None,
    /// A loopback device, to which published ports lead. Nothing leads out.
    Published,
    /// The same, and a way out that passes by this machine.
    Private,
}

impl FromStr for NetworkChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "host" => Ok(Self::Host),
            "none" => Ok(Self::None),
            "private" => Ok(Self::Private),
            _ => Err(Error::new(
                ErrorKind::Usage,
                format!("use network \"{}\"", text.escape_debug()),
            )
            .because("expected host, none or private")),
        }
    }
}

/// The options of a container. What is empty or `None` is taken from the image.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Options {
    /// Arguments, instead of the image's.
    pub arguments: Vec<String>,
    /// The program, instead of the image's entrypoint; an empty one takes that away.
    pub entrypoint: Option<String>,
    /// Variables on top of the image's; `None` takes one away.
    pub env: BTreeMap<String, Option<String>>,
    /// The working folder.
    pub workdir: Option<String>,
    /// The user.
    pub user: Option<String>,
    /// The host name; else the short id.
    pub hostname: Option<String>,
    /// Further lines of `/etc/hosts`.
    pub hosts: Vec<(String, IpAddr)>,
    /// The network.
    pub network: Option<NetworkChoice>,
    /// Ports to publish.
    pub ports: Vec<Publish>,
    /// Publish every port that the image exposes, on free ports.
    pub publish_all: bool,
    /// What to mount.
    pub volumes: Vec<Volume>,
    /// Whether the root file system may be written to.
    pub read_only: bool,
    /// How the program is asked to end.
    pub stop_signal: Option<StopSignal>,
    /// How long it may take to; `Some(None)` for ever.
    pub stop_timeout: Option<Option<Duration>>,
    /// When everything is killed.
    pub timeout: Option<Duration>,
    /// How many processes there may be.
    pub processes: Option<u64>,
    /// What else each process may have at most.
    pub limits: Vec<Limit>,
    /// The size of `/dev/shm`.
    pub shared_memory_bytes: Option<u64>,
    /// Name servers, instead of the host's.
    pub name_servers: Vec<IpAddr>,
    /// Labels of the container.
    pub labels: BTreeMap<String, String>,
    /// Keep standard input open.
    pub input: bool,
    /// Give it a terminal.
    pub terminal: bool,
    /// Remove the container once it has ended.
    pub remove: bool,
}

/// How an image is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its variables.
    pub env: BTreeMap<String, String>,
    /// Its working folder.
    pub cwd: String,
    /// Its user.
    pub user: String,
    /// Its network.
    pub network: NetworkChoice,
    /// Its published ports.
    pub ports: Vec<Published>,
    /// Ports that the image says its program listens on.
    pub exposed: Vec<String>,
    /// What is mounted, each target once.
    pub volumes: Vec<Volume>,
    /// Whether the root file system may be written to.
    pub access: Access,
    /// How the program is asked to end.
    pub stop_signal: StopSignal,
    /// How long it may take to.
    pub stop_timeout: Option<Duration>,
    /// What is not as it was asked for, and why.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Puts together what an image's configuration says and what was asked for.
    pub fn make(image: &ContainerConfig, options: &Options) -> Result<Self> {
        let (network, ports, warnings) = connect(image, options)?;
        let stop_signal = match (options.stop_signal, image.stop_signal.as_str()) {
            (Some(signal), _) => signal,
            (None, "") => StopSignal::default(),
            (None, text) => text.parse()?,
        };
        Ok(Self {
            argv: command(image, options)?,
            env: variables(image, options),
            cwd: working_folder(image, options)?,
            user: options.user.clone().unwrap_or_else(|| image.user.clone()),
            network,
            ports,
            exposed: image.exposed_ports.keys().cloned().collect(),
            volumes: volumes(image, options)?,
            access: if options.read_only { Access::ReadOnly } else { Access::ReadWrite },
            stop_signal,
            stop_timeout: options.stop_timeout.unwrap_or(Some(STOP_TIMEOUT)),
            warnings,
        })
    }
}

fn command(image: &ContainerConfig, options: &Options) -> Result<Vec<String>> {
    let given = |words: &Option<Vec<String>>| words.clone().unwrap_or_default();
    let (mut argv, default) = match options.entrypoint.as_deref() {
        // Another program would not understand the image's arguments.
        Some("") => (Vec::new(), Vec::new()),
        Some(entrypoint) => (vec![entrypoint.to_owned()], Vec::new()),
        None => (given(&image.entrypoint), given(&image.cmd)),
    };
    let asked = !options.arguments.is_empty();
    argv.extend(if asked { options.arguments.clone() } else { default });
    if argv.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "run the image")
            .because("it names no program, and none was given")
            .hint("write the program and its arguments behind the image"));
    }
    Ok(argv)
}

fn variables(image: &ContainerConfig, options: &Options) -> BTreeMap<String, String> {
    let pairs = image.env.iter().filter_map(|entry| entry.split_once('='));
    let mut env: BTreeMap<String, String> =
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for (name, value) in &options.env {
        match value {
            Some(value) => env.insert(name.clone(), value.clone()),
            None => env.remove(name),
        };
    }
    env
}

fn working_folder(image: &ContainerConfig, options: &Options) -> Result<String> {
    let image_folder = Some(image.working_dir.as_str()).filter(|folder| !folder.is_empty());
    match options.workdir.as_deref() {
        Some(folder) if folder.starts_with('/') => Ok(folder.to_owned()),
        Some(folder) => Err(Error::new(ErrorKind::Usage, format!("work in \"{folder}\""))
            .because("the path does not begin with /")),
        None => Ok(image_folder.unwrap_or("/").to_owned()),
    }
}

fn connect(
    image: &ContainerConfig,
    options: &Options,
) -> Result<(NetworkChoice, Vec<Published>, Vec<String>)> {
    let mut ports: Vec<Published> =
        options.ports.iter().flat_map(|publish| publish.ports().iter().copied()).collect();
    let mut warnings = Vec::new();
    if options.publish_all {
        for port in image.exposed_ports.keys() {
            match Publish::exposed(port) {
                Some(exposed) => ports.extend(exposed),
                None => warnings.push(format!("port {port} is not published: it is not TCP")),
            }
        }
    }
    let implied = if ports.is_empty() { NetworkChoice::Host } else { NetworkChoice::Published };
    let network = options.network.unwrap_or(implied);
    if network == NetworkChoice::Host && !ports.is_empty() {
        warnings.push(
            "with --network host the program's own ports are the host's; -p does nothing".into(),
        );
        ports.clear();
    }
    if network == NetworkChoice::None && !ports.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "publish ports with --network none")
            .because("nothing leads there")
            .hint("leave --network out, or write --network private"));
    }
    Ok((network, ports, warnings))
}

/// What was asked for, and what the image declares at other places.
fn volumes(image: &ContainerConfig, options: &Options) -> Result<Vec<Volume>> {
    let mut all: Vec<Volume> = Vec::new();
    for volume in &options.volumes {
        if all.iter().any(|other| other.target() == volume.target()) {
            return Err(Error::new(ErrorKind::Usage, format!("mount at {}", volume.target()))
                .because("something else is to be mounted there, too"));
        }
        all.push(volume.clone());
    }
    for target in image.volumes.keys() {
        let declared = Volume::declared(target)?;
        if all.iter().all(|other| other.target() != declared.target()) {
            all.push(declared);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(entrypoint: &[&str], cmd: &[&str]) -> ContainerConfig {
        let words = |words: &[&str]| {
            (!words.is_empty()).then(|| words.iter().map(|&word| word.to_owned()).collect())
        };
        ContainerConfig {
            entrypoint: words(entrypoint),
            cmd: words(cmd),
            ..ContainerConfig::default()
        }
    }

    fn argv(image: &ContainerConfig, entrypoint: Option<&str>, arguments: &[&str]) -> String {
        let options = Options {
            entrypoint: entrypoint.map(str::to_owned),
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
            ..Options::default()
        };
        Plan::make(image, &options).map_or_else(|error| error.to_string(), |p| p.argv.join(" "))
    }

    #[test]
    fn the_command_is_put_together_as_docker_does() {
        let both = image(&["/app"], &["serve"]);
        assert_eq!(argv(&both, None, &[]), "/app serve");
        assert_eq!(argv(&both, None, &["x", "y"]), "/app x y");
        assert_eq!(argv(&both, Some("/sh"), &[]), "/sh");
        assert_eq!(argv(&both, Some("/sh"), &["-c"]), "/sh -c");
        assert_eq!(argv(&both, Some(""), &["/x"]), "/x");
        assert_eq!(argv(&image(&[], &["sh"]), None, &[]), "sh");
        assert_eq!(argv(&image(&[], &["sh"]), None, &["ls"]), "ls");
        for nothing in [argv(&both, Some(""), &[]), argv(&image(&[], &[]), None, &[])] {
            assert!(nothing.contains("names no program"), "{nothing}");
        }
    }

    #[test]
    fn variables_are_the_images_with_those_asked_for_on_top() {
        let mut image = image(&["/app"], &[]);
        image.env = ["A=1", "B=2", "C=3=3"].map(str::to_owned).into();
        let mut options = Options::default();
        options.env.insert("A".to_owned(), Some("9".to_owned()));
        options.env.insert("B".to_owned(), None);
        let env = Plan::make(&image, &options).unwrap().env;
        let shown: Vec<_> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown, ["A=9", "C=3=3"]);
    }

    #[test]
    fn published_ports_make_the_network_one_of_its_own() {
        let mut image = image(&["/app"], &[]);
        image.exposed_ports.insert("80/tcp".to_owned(), serde_json::json!({}));
        image.exposed_ports.insert("53/udp".to_owned(), serde_json::json!({}));
        let plan = |options: Options| Plan::make(&image, &options);
        let port = || vec!["8080:80".parse().unwrap()];
        assert_eq!(plan(Options::default()).unwrap().network, NetworkChoice::Host);
        let made = plan(Options { ports: port(), ..Options::default() }).unwrap();
        assert_eq!((made.network, made.ports.len()), (NetworkChoice::Published, 1));
        let private = Some(NetworkChoice::Private);
        let made = plan(Options { ports: port(), network: private, ..Options::default() }).unwrap();
        assert_eq!((made.network, made.ports.len()), (NetworkChoice::Private, 1));
        let made = plan(Options { publish_all: true, ..Options::default() }).unwrap();
        assert_eq!(made.ports[0].to_string(), "0.0.0.0:0->80/tcp");
        assert!(made.warnings[0].contains("53/udp"), "{:?}", made.warnings);
        let host = Some(NetworkChoice::Host);
        let made = plan(Options { ports: port(), network: host, ..Options::default() }).unwrap();
        assert!(made.ports.is_empty() && made.warnings.len() == 1);
        let none = Some(NetworkChoice::None);
        assert!(plan(Options { ports: port(), network: none, ..Options::default() }).is_err());
    }

    #[test]
    fn a_volume_asked_for_takes_the_place_of_the_images() {
        let mut image = image(&["/app"], &[]);
        for target in ["/data", "/more/"] {
            image.volumes.insert(target.to_owned(), serde_json::json!({}));
        }
        let mut options =
            Options { volumes: vec!["/a:/data".parse().unwrap()], ..Options::default() };
        let made = Plan::make(&image, &options).unwrap();
        let targets: Vec<_> = made.volumes.iter().map(Volume::target).collect();
        assert_eq!(targets, ["/data", "/more"]);
        assert!(matches!(made.volumes[0], Volume::Host { .. }));
        options.volumes.push("/b:/data".parse().unwrap());
        assert!(Plan::make(&image, &options).is_err());
    }

    #[test]
    fn signal_folder_and_user_are_the_images_unless_asked_for() {
        let mut image = image(&["/app"], &[]);
        image.stop_signal = "SIGQUIT".to_owned();
        image.working_dir = "/srv".to_owned();
        image.user = "app".to_owned();
        let made = Plan::make(&image, &Options::default()).unwrap();
        assert_eq!(
            (made.stop_signal.number(), made.cwd.as_str(), made.user.as_str()),
            (3, "/srv", "app")
        );
        let options = Options {
            workdir: Some("/tmp".to_owned()),
            user: Some("0:0".to_owned()),
            stop_signal: Some("INT".parse().unwrap()),
            ..Options::default()
        };
        let made = Plan::make(&image, &options).unwrap();
        assert_eq!(
            (made.stop_signal.number(), made.cwd.as_str(), made.user.as_str()),
            (2, "/tmp", "0:0")
        );
        let options = Options { workdir: Some("tmp".to_owned()), ..Options::default() };
        assert!(Plan::make(&image, &options).is_err());
    }
}
