//! `gondola build`.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueHint};

use crate::cli::dockerfile::{self, DockerfileArgs};
use crate::cli::sandbox::SandboxArgs;
use crate::cli::session::{Session, check_streams, print_lines};
use crate::cli::settings;
use crate::disk::ResultFile;
use crate::error::{Cannot as _, Result};
use crate::golang::ModuleMode;
use crate::oci::PlatformSet;
use crate::pipeline::{self, Outputs};
use crate::sandbox::Rung;
use crate::transport::Location;

/// Arguments of `gondola build`.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct BuildArgs {
    /// Go packages: import paths, folders, patterns such as ./cmd/...; with a Dockerfile its context
    #[arg(value_name = "PACKAGE|CONTEXT", value_hint = ValueHint::DirPath)]
    pub packages: Vec<String>,
    /// A package whose binary goes into one image with the other --bin; repeatable
    #[arg(long, value_name = "PACKAGE", conflicts_with = "packages")]
    pub bin: Vec<String>,
    /// Put all packages' binaries into one image; the first is the entrypoint
    #[arg(long)]
    pub one_image: bool,
    /// Use a binary that was built elsewhere instead of compiling; repeatable, one per platform
    #[arg(long, value_name = "[PLATFORM=]FILE", conflicts_with_all = ["packages", "bin"])]
    pub prebuilt: Vec<String>,
    /// Read settings from this file instead of gondola.yaml
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Compile and compress anew, whatever earlier builds left behind
    #[arg(long)]
    pub no_cache: bool,
    /// Whose caches are used, instead of those of the CI's ref or of the context's folder: builds of one name trust each other
    #[arg(long, value_name = "NAME", conflicts_with = "no_shared_caches")]
    pub cache_scope: Option<String>,
    /// For strangers' code: use and keep no cache that is not found by its content, such as Go's, or what steps mount by an id
    #[arg(long)]
    pub no_shared_caches: bool,
    /// Ask registries again what the tags of bases, and those in gondola.lock, stand for
    #[arg(long)]
    pub pull: bool,
    #[command(flatten)]
    pub result: ResultArgs,
    #[command(flatten)]
    pub go: GoArgs,
    #[command(flatten)]
    pub sandbox: SandboxArgs,
    #[command(flatten)]
    pub image: ImageArgs,
    #[command(flatten)]
    pub dockerfile: DockerfileArgs,
}

/// Where images go.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Result")]
pub struct ResultArgs {
    /// Name the image; {name} stands for its short name; repeatable
    #[arg(short, long, value_name = "NAME")]
    pub tag: Vec<String>,
    /// Push to each name's registry
    #[arg(long)]
    pub push: bool,
    /// Write oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:TAG], or load into docker: or podman:; repeatable
    #[arg(short, long, value_name = "KIND:PATH")]
    pub output: Vec<Location>,
    /// Platforms such as linux/amd64,linux/arm64, or "all" that the base offers
    #[arg(long, value_name = "LIST")]
    pub platform: Option<PlatformSet>,
    /// Write the images' digests to a file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub iidfile: Option<PathBuf>,
    /// Write a JSON description of the images to a file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub metadata_file: Option<PathBuf>,
    /// Write the pinned references to a file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub image_refs: Option<PathBuf>,
    /// Write a page that shows what ran when
    #[arg(long, value_name = "FILE.html", value_hint = ValueHint::FilePath)]
    pub timings: Option<PathBuf>,
    /// Say of each step, package and base where it came from, and why it was made again
    #[arg(long)]
    pub explain: bool,
}

/// How packages are compiled.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Go")]
pub struct GoArgs {
    /// The Go to compile with: "host", "auto", a golang image, oci:DIR, or a go program such as ./go/bin/go
    #[arg(long = "go", value_name = "HOW", value_hint = ValueHint::ExecutablePath)]
    pub toolchain: Option<String>,
    /// Build tags, between commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub build_tags: Vec<String>,
    /// Flags for the linker
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub ldflags: Option<String>,
    /// Flags for the compiler
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub gcflags: Option<String>,
    /// Flags for the assembler
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub asmflags: Option<String>,
    /// Module mode: mod, readonly or vendor
    #[arg(long = "mod", value_name = "MODE", value_parser = module_mode())]
    pub mod_mode: Option<ModuleMode>,
    /// Any other flag of go build, as it is; repeatable
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    pub go_flag: Vec<String>,
    /// A variable for go build; repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    pub go_env: Vec<String>,
    /// Build with cgo, which needs a C compiler for each platform
    #[arg(long)]
    pub cgo: bool,
    /// Stamp the binary with the version-control state, so that each commit changes it
    #[arg(long)]
    pub vcs_stamp: bool,
}

/// What the image holds, and how it runs.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Image")]
pub struct ImageArgs {
    /// The base: static (built in), scratch, an image name, oci:DIR, oci-archive:FILE, …
    #[arg(long, value_name = "IMAGE")]
    pub base: Option<String>,
    /// Put a file or folder into the image; repeatable
    #[arg(long, value_name = "SRC:DST[:MODE]")]
    pub add: Vec<String>,
    /// The entrypoint instead of the binary: a word, or a JSON array
    #[arg(long, value_name = "COMMAND")]
    pub entrypoint: Option<String>,
    /// Default arguments: a word, or a JSON array
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    pub cmd: Option<String>,
    /// Set a variable; repeatable
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// The user, USER[:GROUP]
    #[arg(short, long)]
    pub user: Option<String>,
    /// The working folder
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Declare a port, PORT[/udp]; repeatable
    #[arg(short, long, value_name = "PORT")]
    pub port: Vec<String>,
    /// Declare a folder that holds data of its own; repeatable
    #[arg(long, value_name = "DIR")]
    pub volume: Vec<String>,
    /// Add a label to the configuration; repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    pub label: Vec<String>,
    /// Add an annotation to manifests and index; repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    pub annotation: Vec<String>,
    /// The signal that asks the program to end
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// How new layers are compressed: gzip[:1-9], zstd[:1-19] or none
    #[arg(long, value_name = "HOW")]
    pub compression: Option<String>,
    /// Write gzip layers as one member, for old readers; slower
    #[arg(long)]
    pub gzip_single_member: bool,
}

fn module_mode() -> impl TypedValueParser<Value = ModuleMode> {
    PossibleValuesParser::new(["mod", "readonly", "vendor"]).map(|mode| match mode.as_str() {
        "mod" => ModuleMode::Mod,
        "readonly" => ModuleMode::Readonly,
        _ => ModuleMode::Vendor,
    })
}

pub(in crate::cli) async fn run(
    session: &Session,
    args: BuildArgs,
    rung: Option<Rung>,
) -> Result<()> {
    check_streams(&args.result.output)?;
    // Before anything is built: bad input changes nothing.
    let keep = session.environment.store_keep()?;
    let engine = session.build_context()?;
    let folder = &session.environment.folder;
    let in_folder = |path: &Option<PathBuf>| path.as_ref().map(|path| folder.join(path));
    let outputs = Outputs {
        push: args.result.push,
        places: args.result.output.iter().map(|place| place.clone().in_folder(folder)).collect(),
        iidfile: in_folder(&args.result.iidfile),
        metadata_file: in_folder(&args.result.metadata_file),
        image_refs: in_folder(&args.result.image_refs),
        ..Outputs::default()
    };
    if let Some(path) = &args.result.timings {
        let path = session.environment.resolve(path);
        ResultFile::check(&path).cannot(|| format!("write {}", path.display()))?;
    }
    let published = if dockerfile::is_meant(&args, folder) {
        let request = dockerfile::request(session, &args)?;
        let isolation = dockerfile::isolation(session, &args.sandbox, rung)?;
        if args.dockerfile.check {
            return pipeline::check_dockerfile(&engine, request).await;
        }
        pipeline::build_dockerfile(&engine, isolation, request, &outputs).await
    } else {
        let request = settings::request(&args, &session.environment)?;
        pipeline::build(&engine, &request, &outputs).await
    };
    if let Some(path) = &args.result.timings {
        // The page is of most use when a build took long to fail.
        session.write_timings(&session.environment.resolve(path))?;
    }
    let published = published?;
    session.keep_store_within(keep);
    if args.result.output.iter().any(Location::is_stream) {
        return Ok(());
    }
    session.view.close();
    print_lines(published.iter().map(|image| &image.pinned))
}
