//! Kaniko's contexts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{KanikoArgs, input, usage};
use crate::cli::session::Session;
use crate::context::GitSource;
use crate::dockerfile::convert::ContextSource;
use crate::error::{Error, ErrorKind, Result};
use crate::literal;
use crate::secret;

/// Where kaniko looks for the context when nothing is said.
const DEFAULT_CONTEXT: &str = "/workspace/";

/// Where the context is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ContextChoice {
    /// A folder, `folder/sub path`.
    Folder(PathBuf),
    /// A tar archive, perhaps compressed, and a folder in it.
    Archive(PathBuf, Option<String>),
    /// The same from stdin.
    Stdin(Option<String>),
    /// A git repository as docker writes it: `remote#reference:folder`.
    Git(String),
}

impl ContextChoice {
    /// The context itself, which may come from standard input.
    pub(super) fn open(self, session: &Session) -> Result<ContextSource> {
        match self {
            Self::Folder(folder) => Ok(ContextSource::Folder(session.environment.resolve(folder))),
            Self::Archive(file, folder) => {
                let file = session.environment.resolve(file);
                let name = file.display().to_string();
                Ok(ContextSource::Archive { file, name, folder })
            }
            Self::Stdin(folder) => match input::context_of_stdin(session, None)? {
                (ContextSource::Archive { file, name, .. }, _) => {
                    Ok(ContextSource::Archive { file, name, folder })
                }
                _ => Err(Error::new(ErrorKind::Invalid, "read the context from standard input")
                    .because("it is no tar archive")),
            },
            Self::Git(text) => GitSource::parse(&text).map(ContextSource::Git).ok_or_else(|| {
                Error::new(ErrorKind::Usage, format!("use {}", secret::address(&text)))
                    .because("it is no git repository")
            }),
        }
    }
}

/// What an image is called that nothing names.
pub(super) fn name(context: &ContextSource) -> String {
    let name = match context {
        ContextSource::Folder(folder) => folder.file_name(),
        _ => None,
    };
    name.map_or_else(|| "app".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Where the context is.
pub(super) fn choose(
    args: &KanikoArgs,
    variables: &BTreeMap<String, String>,
) -> Result<ContextChoice> {
    let sub_path = args.context_sub_path.clone().filter(|path| !path.is_empty());
    let bucket = args.bucket.as_ref().filter(|bucket| !bucket.is_empty());
    let given = args.context.as_deref().filter(|text| !text.is_empty());
    let bucket =
        bucket.map(
            |bucket| if bucket.contains("://") { bucket.clone() } else { format!("gs://{bucket}") },
        );
    let text = given.or(bucket.as_deref()).unwrap_or(DEFAULT_CONTEXT);
    let folder = |path: &str| {
        let path = PathBuf::from(path);
        ContextChoice::Folder(match &sub_path {
            Some(below) => path.join(below.trim_start_matches('/')),
            None => path,
        })
    };
    let Some((scheme, rest)) = text.split_once("://") else { return Ok(folder(text)) };
    match scheme {
        "dir" => Ok(folder(rest)),
        "tar" if rest == "stdin" => Ok(ContextChoice::Stdin(sub_path)),
        "tar" => Ok(ContextChoice::Archive(PathBuf::from(rest), sub_path)),
        "git" => git(args, variables, rest, sub_path),
        _ => Err(remote_context(scheme, text)),
    }
}

/// `host/repository#reference#commit`, fetched over https unless `GIT_PULL_METHOD` says http.
fn git(
    args: &KanikoArgs,
    variables: &BTreeMap<String, String>,
    rest: &str,
    sub_path: Option<String>,
) -> Result<ContextChoice> {
    let mut branch = None;
    for option in &args.git {
        match option.split_once('=') {
            Some(("branch", value)) => branch = Some(value.to_owned()),
            Some(("single-branch" | "depth" | "recurse-submodules", _)) => {}
            Some(("insecure-skip-tls", value)) if literal::boolean(value) == Ok(false) => {}
            Some(("insecure-skip-tls", _)) => {
                return Err(usage(
                    "fetch the context without checking certificates",
                    "git decides that",
                )
                .hint("set GIT_SSL_NO_VERIFY=1"));
            }
            _ => {
                let option = option.split('=').next().unwrap_or_default();
                return Err(usage(format!("use --git {option}"), "git contexts have no such option")
                    .hint("expected branch=, single-branch=, depth=, recurse-submodules=, insecure-skip-tls="));
            }
        }
    }
    let method = match variables.get("GIT_PULL_METHOD").map(String::as_str) {
        Some("http") => "http",
        _ => "https",
    };
    let mut parts = rest.split('#');
    let place = parts.next().unwrap_or_default();
    // The commit, if there is one, says all.
    let reference = parts.rfind(|part| !part.is_empty()).map(str::to_owned).or(branch);
    let fragment = match (reference, sub_path) {
        (None, None) => String::new(),
        (reference, None) => format!("#{}", reference.unwrap_or_default()),
        (reference, Some(folder)) => format!("#{}:{folder}", reference.unwrap_or_default()),
    };
    // Without the ending, a web address could be an archive.
    let place = place.strip_suffix(".git").unwrap_or(place);
    Ok(ContextChoice::Git(format!("{method}://{place}.git{fragment}")))
}

fn remote_context(scheme: &str, text: &str) -> Error {
    let text = secret::address(text);
    let fetch = match scheme {
        "s3" => format!("aws s3 cp {text} -"),
        "gs" => format!("gsutil cat {text}"),
        "http" | "https" => format!("curl -fsSL {text}"),
        _ => {
            let error = usage(format!("use the context {text}"), format!("{scheme}:// is unknown"));
            return error.hint("expected a folder, dir://, tar://, git:// or tar://stdin");
        }
    };
    let reason = "gondola has no client for object storage";
    let reason = if scheme.starts_with("http") { "it is not fetched from the web" } else { reason };
    Error::new(ErrorKind::Unsupported, format!("use the context {text}"))
        .because(reason)
        .hint(format!("{fetch} | gondola kaniko --context tar://stdin …"))
}
