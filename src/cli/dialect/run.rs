//! The command line of `gondola run`: what may be typed, what each flag does for what is run, and the
//! request that it comes to.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};

use crate::cli::flags::rows::FLAGS;
use crate::cli::flags::table::{self, FrontEnd};
use crate::cli::flags::typed::Noted;
use crate::cli::flags::{self, pair};
use crate::cli::process::ProcessArgs;
use crate::cli::proxies;
use crate::cli::sandbox::SandboxArgs;
use crate::cli::session::Session;
use crate::container::{Options, Publish, StopSignal, Volume};
use crate::error::Result;
use crate::literal;
use crate::oci::Platform;
use crate::sandbox::{IsolationRequest, Limit};

/// Arguments of `gondola run`.
#[derive(Clone, Debug, Args)]
#[command(disable_help_flag = true)]
pub struct RunArgs {
    /// Image or Go package to run, and its arguments. An image is a name, oci:DIR or
    /// docker-archive:FILE; a package is a path that begins with "." or "/", such as ./cmd/app
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE|PACKAGE", "ARG"])]
    words: Vec<String>,
    /// Run in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    /// Name of the container
    #[arg(long)]
    name: Option<String>,
    /// Remove the container once it has ended
    #[arg(long)]
    rm: bool,
    /// Add a label to the container; repeatable
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// When to pull the image
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pull: Pull,
    /// Platform of an image that has several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Run in an unpacked root file system, a folder, instead of an image
    #[arg(long)]
    rootfs: bool,
    #[command(flatten)]
    program: ProgramArgs,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// Print help
    // Without a letter: as docker's, -h is the host name.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// What is run.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Program")]
struct ProgramArgs {
    /// Program to run instead of the image's entrypoint; "" clears it
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    #[command(flatten)]
    process: ProcessArgs,
    /// Signal that stops the program
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<StopSignal>,
    /// Has no effect: every container has an init process
    #[arg(long)]
    init: bool,
    /// Seconds to wait after the stop signal before killing the container; -1 for ever
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
}

/// What it sees of files.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Files")]
struct FileArgs {
    /// Mount a file or folder of the host, or a new folder; repeatable
    #[arg(short, long, value_name = "[HOST:]CONTAINER[:ro]")]
    volume: Vec<Volume>,
    /// Mount type=bind,source=…,target=…[,readonly], type=tmpfs,target=… or type=volume,target=…; repeatable
    #[arg(long, value_name = "type=KIND,…", value_parser = Volume::mount)]
    mount: Vec<Volume>,
    /// Mount an empty tmpfs; repeatable
    #[arg(long, value_name = "PATH[:size=…,mode=…]", value_parser = Volume::tmpfs)]
    tmpfs: Vec<Volume>,
    /// Size of /dev/shm, such as 128m
    #[arg(long, value_name = "SIZE", value_parser = literal::size)]
    shm_size: Option<u64>,
    /// Mount the root file system read-only
    #[arg(long)]
    read_only: bool,
}

/// What it sees of the network.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Network")]
struct NetworkArgs {
    /// Network: host, none, or private, which reaches the internet but not this machine (needs pasta
    /// or slirp4netns) [default: host; with published ports: a network of which they are the only way in and out]
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Option<String>,
    /// Publish a TCP port of the container to the host; repeatable
    #[arg(short, long, value_name = "[[IP:]HOST:]CONTAINER")]
    publish: Vec<Publish>,
    /// Publish all ports that the image exposes to free ports of the host
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Host name of the container [default: its short id]
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// Add a line to /etc/hosts; repeatable
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
    /// Use this name server instead of the host's; repeatable
    #[arg(long, value_name = "IP")]
    dns: Vec<IpAddr>,
}

/// How far it is let.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Isolation")]
struct LimitArgs {
    #[command(flatten)]
    sandbox: SandboxArgs,
    /// Kill the container after this many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Largest number of processes and threads; -1 for no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Limit each process, such as nofile=1024:4096; repeatable
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<Limit>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Pull {
    /// When the local store has none of that name.
    Missing,
    /// Every time.
    Always,
    /// Not at all.
    Never,
}

/// A container to be made and started.
#[derive(Debug)]
pub struct RunRequest {
    /// What runs in it.
    pub what: Runnable,
    /// What it is called; a free name where that is not said.
    pub name: Option<String>,
    /// Whether it goes on in the background.
    pub detach: bool,
    /// How it runs.
    pub options: Options,
}

/// What can be run.
#[derive(Debug)]
pub enum Runnable {
    /// An image, by its name or place.
    Image {
        /// The word that was typed.
        word: String,
        /// The platform of it, where it is not this machine's.
        platform: Option<Platform>,
        /// When it is pulled.
        pull: Pull,
    },
    /// A Go package that is built first.
    Package {
        /// The word that was typed.
        word: String,
        /// The platform to build for, where it is not this machine's.
        platform: Option<Platform>,
    },
    /// A folder that somebody unpacked.
    Folder(PathBuf),
}

impl RunArgs {
    /// What is run.
    fn front_end(&self) -> FrontEnd {
        match self.words.first() {
            _ if self.rootfs => FrontEnd::RunFolder,
            Some(word) if is_package(word) => FrontEnd::RunPackage,
            _ => FrontEnd::RunImage,
        }
    }

    /// How it is isolated, and whether it has a network of its own.
    pub fn isolation(&self) -> Result<(IsolationRequest, bool)> {
        let has_network = self.network.network.as_deref() == Some("private");
        Ok((self.limits.sandbox.request()?, has_network))
    }

    /// Whether it goes on in the background.
    pub fn detaches(&self) -> bool {
        self.detach
    }
}

/// Whether a word means a Go package: a path, as Go's own tools tell them from other names.
fn is_package(word: &str) -> bool {
    matches!(word, "." | "..") || ["./", "../", "/"].iter().any(|start| word.starts_with(start))
}

/// What a command line asks for, and what is said about flags that change nothing.
pub fn read(session: &Session, run: &Noted<RunArgs>) -> Result<(RunRequest, Vec<String>)> {
    let args = &run.args;
    let front_end = args.front_end();
    let notes = table::check(&FLAGS, &run.typed, front_end)?;
    let (word, platform) = (args.words[0].clone(), args.platform.clone());
    let what = match front_end {
        FrontEnd::RunFolder => Runnable::Folder(session.environment.resolve(word)),
        FrontEnd::RunPackage => Runnable::Package { word, platform },
        _ => Runnable::Image { word, platform, pull: args.pull },
    };
    let (name, options) = (args.name.clone(), options(args, session)?);
    Ok((RunRequest { what, name, detach: args.detach, options }, notes))
}

fn options(args: &RunArgs, session: &Session) -> Result<Options> {
    let environment = &session.environment;
    let (program, files, network) = (&args.program, &args.files, &args.network);
    let process = &program.process;
    let mut env = process.variables(environment)?;
    env.extend(proxies::for_container(session, &env));
    let volumes = files.volume.iter().chain(&files.mount).chain(&files.tmpfs);
    let choice = network.network.as_deref().filter(|word| *word != "default");
    if let Some(name) = &network.hostname {
        flags::host::check_name(&format!("--hostname {}", name.escape_debug()), name)?;
    }
    let stop_timeout = program.stop_timeout.map(|seconds| u64::try_from(seconds).ok());
    Ok(Options {
        arguments: args.words[1..].to_vec(),
        entrypoint: program.entrypoint.clone(),
        env,
        workdir: process.workdir.clone(),
        user: process.user.clone(),
        hostname: network.hostname.clone(),
        hosts: network
            .add_host
            .iter()
            .map(|text| flags::host::parse(text))
            .collect::<Result<_>>()?,
        network: choice.map(str::parse).transpose()?,
        ports: network.publish.clone(),
        publish_all: network.publish_all,
        volumes: volumes.map(|volume| volume.clone().in_folder(&environment.folder)).collect(),
        read_only: files.read_only,
        stop_signal: program.stop_signal,
        stop_timeout: stop_timeout.map(|seconds| seconds.map(Duration::from_secs)),
        timeout: args.limits.timeout.map(Duration::from_secs),
        // As for docker, none and less than none are no limit.
        processes: args.limits.pids_limit.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0),
        limits: args.limits.ulimit.clone(),
        shared_memory_bytes: files.shm_size,
        name_servers: network.dns.clone(),
        labels: pair::labels("--label", &args.label)?,
        input: process.interactive,
        terminal: process.tty,
        remove: args.rm,
    })
}
