//! `executor push PATH`: an image that was built before goes to its destinations.

use super::credentials::{self, CredentialPlaces};
use super::{FLAGS, KanikoArgs, Registries, destinations, registries, usage};
use crate::cli::dialect::input;
use crate::cli::flags::table::{self, FrontEnd};
use crate::cli::flags::typed::Noted;
use crate::cli::session::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::Reference;
use crate::pipeline::ImmutableTags;
use crate::transport::Location;

/// A push as kaniko's flags describe it.
#[derive(Debug)]
pub struct KanikoPush {
    /// What is pushed.
    pub image: Location,
    /// Where to.
    pub destinations: Vec<Reference>,
    /// What a tag means that its registry does not let move.
    pub immutable_tags: ImmutableTags,
    /// How registries are spoken to.
    pub registries: Registries,
    /// Where credentials are looked for.
    pub credentials: CredentialPlaces,
}

/// The flags that kaniko has for a push.
const FLAGS_OF_PUSH: [&str; 22] = [
    "words",
    "destination",
    "skip-push-permission-check",
    "insecure",
    "skip-tls-verify",
    "insecure-pull",
    "skip-tls-verify-pull",
    "push-retry",
    "push-ignore-immutable-tag-errors",
    "image-download-retry",
    "insecure-registry",
    "skip-tls-verify-registry",
    "registry-certificate",
    "registry-client-cert",
    "registry-map",
    "registry-mirror",
    "skip-default-registry-fallback",
    "credential-helpers",
    "verbosity",
    "log-format",
    "log-timestamp",
    "kaniko-dir",
];

/// Says what is to be pushed.
pub fn read(session: &Session, typed: &Noted<KanikoArgs>) -> Result<KanikoPush> {
    let (args, environment) = (&typed.args, &session.environment);
    let path = match args.words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["push", path] => path,
        ["push", ..] => {
            let error = usage("push", "expected the path of one image");
            return Err(error.hint("gondola kaniko push PATH --destination NAME"));
        }
        _ => return Err(unknown(&args.words)),
    };
    let foreign = FLAGS.iter().filter(|flag| !FLAGS_OF_PUSH.contains(&flag.name));
    if let Some(flag) = foreign.into_iter().find(|flag| typed.typed.has(flag.name)) {
        let action = format!("use {} with push", flag.display_name());
        return Err(usage(action, "it is about building").hint("leave it out"));
    }
    table::check(&FLAGS, &typed.typed, FrontEnd::Dockerfile)?;
    let destinations = destinations(args)?;
    if destinations.is_empty() {
        return Err(usage("push the image", "no --destination says where to")
            .hint("add --destination NAME"));
    }
    let asked = [("--destination", true)];
    input::refuse_offline(session, &asked, "leave --offline out: a push needs a registry")?;
    let hosts: Vec<&str> = destinations.iter().map(Reference::registry).collect();
    Ok(KanikoPush {
        immutable_tags: super::immutable_tags(args),
        image: image(environment.resolve(path), path)?,
        registries: registries::translate(args, &environment.variables, &hosts)?,
        credentials: credentials::translate(args, environment)?,
        destinations,
    })
}

/// A folder is a layout, a file an archive of `docker save`.
fn image(place: std::path::PathBuf, shown: &str) -> Result<Location> {
    if place.is_dir() {
        return Ok(Location::Layout { folder: place, tag: None });
    }
    if place.is_file() {
        return Ok(Location::DockerArchive { file: place, name: None });
    }
    Err(Error::new(ErrorKind::NotFound, format!("push {}", shown.escape_debug()))
        .because("there is no such file or folder")
        .hint("name what --tar-path or --oci-layout-path wrote"))
}

/// A word that is no command of kaniko: others write the context there.
fn unknown(words: &[String]) -> Error {
    let word = words.first().map_or("", String::as_str).escape_debug();
    usage(format!("use {word}"), "kaniko has no command of that name, and its context has a flag")
        .hint(format!("write --context {word}, or one of push and login"))
}
