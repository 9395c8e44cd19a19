//! Kaniko's contexts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{KanikoArgs, input, usage};
use crate::cli::session::Session;
use crate::context::{FetchedHistory, GitSource};
use crate::dockerfile::convert::ContextSource;
use crate::error::{Error, ErrorKind, Result};
use crate::literal;
use crate::secret::{self, Secret};

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
    /// A git repository.
    Git(GitContext),
    /// An archive on a server.
    Address(String),
}

/// A git repository, and how it is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GitContext {
    /// As docker writes it: `remote?query#reference:folder`.
    pub(super) address: String,
    /// User and password.
    pub(super) login: Option<(String, Secret)>,
    /// How many commits are fetched; all where nothing is said.
    pub(super) depth: Option<u32>,
    /// Whether no certificate is looked at.
    pub(super) unverified: bool,
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
            Self::Git(git) => git.open(),
            Self::Address(text) => Ok(ContextSource::Address(text)),
        }
    }
}

impl GitContext {
    fn open(self) -> Result<ContextSource> {
        let Self { address, login, depth, unverified } = self;
        let mut source = GitSource::parse(&address).ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("use {}", secret::address(&address)))
                .because("it is no git repository")
        })?;
        source.history = depth.map_or(FetchedHistory::All, FetchedHistory::Commits);
        (source.login, source.unverified) = (login, unverified);
        Ok(ContextSource::Git(source))
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
    // Wrong ones are told whatever the context is.
    let git_options = GitOptions::read(&args.git)?;
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (sub_path, bucket, given) =
        (set(&args.context_sub_path), set(&args.bucket), set(&args.context));
    if bucket.is_some() && given.is_some() {
        return Err(usage("use --bucket with --context", "each of them says where the context is")
            .hint("leave one of the two out"));
    }
    let bucket =
        bucket.map(|bucket| if bucket.contains("://") { bucket } else { format!("gs://{bucket}") });
    let text = given.or(bucket).unwrap_or_else(|| DEFAULT_CONTEXT.to_owned());
    let folder = |path: &str| {
        let path = PathBuf::from(path);
        ContextChoice::Folder(match &sub_path {
            Some(below) => path.join(below.trim_start_matches('/')),
            None => path,
        })
    };
    let Some((scheme, rest)) = text.split_once("://") else { return Ok(folder(&text)) };
    match scheme {
        "dir" => Ok(folder(rest)),
        "tar" if rest == "stdin" => Ok(ContextChoice::Stdin(sub_path)),
        "tar" => Ok(ContextChoice::Archive(PathBuf::from(rest), sub_path)),
        "git" => Ok(ContextChoice::Git(git(git_options, variables, rest, sub_path))),
        "https" if !needs_azure_key(rest) => match sub_path {
            None => Ok(ContextChoice::Address(text)),
            Some(_) => Err(remote_context(scheme, &text)),
        },
        _ => Err(remote_context(scheme, &text)),
    }
}

/// Whether an address is one of Azure's storage without a signature in it.
fn needs_azure_key(rest: &str) -> bool {
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    host.contains(".blob.core.") && !rest.contains("sig=")
}

/// Options of a git context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct GitOptions {
    branch: Option<String>,
    depth: Option<u32>,
    submodules: bool,
    unverified: bool,
}

/// What `--git` can say.
const GIT_KEYS: [&str; 5] =
    ["branch", "single-branch", "depth", "recurse-submodules", "insecure-skip-tls"];

impl GitOptions {
    /// Reads each `--git`, which may have several options between commas.
    fn read(texts: &[String]) -> Result<Self> {
        let mut options = Self::default();
        for text in texts {
            for option in options_of(text) {
                options.set(&option)?;
            }
        }
        Ok(options)
    }

    fn set(&mut self, option: &str) -> Result<()> {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let wrong = |why: String| usage(format!("use --git {}", option.escape_debug()), why);
        let switch = || literal::boolean(value).map_err(|why| wrong(why.to_string()));
        match key {
            "branch" => self.branch = Some(value.to_owned()).filter(|name| !name.is_empty()),
            "depth" => {
                let depth: u32 =
                    value.parse().map_err(|_| wrong("expected a whole number".to_owned()))?;
                self.depth = Some(depth).filter(|depth| *depth > 0);
            }
            "recurse-submodules" => self.submodules = switch()?,
            "insecure-skip-tls" => self.unverified = switch()?,
            // One reference is fetched in any case.
            "single-branch" => drop(switch()?),
            _ => {
                // Whatever its value is, it may be a secret.
                let action = format!("use --git {}=…", key.escape_debug());
                return Err(usage(action, "git contexts have no such option")
                    .hint(format!("expected {}=", GIT_KEYS.join("=, "))));
            }
        }
        Ok(())
    }
}

/// `a=x,b=y` as `a=x` and `b=y`. A comma in the name of a branch stays where it is.
fn options_of(text: &str) -> Vec<String> {
    let mut options: Vec<String> = Vec::new();
    for part in text.split(',') {
        let begins = GIT_KEYS.iter().any(|key| part.split('=').next() == Some(key));
        match options.last_mut().filter(|last| !begins && last.starts_with("branch=")) {
            Some(last) => *last = format!("{last},{part}"),
            None => options.push(part.to_owned()),
        }
    }
    options
}

/// `host/repository#reference#commit`, fetched over https unless `GIT_PULL_METHOD` says http. As kaniko
/// has it, submodules are left out, and the history is there.
fn git(
    options: GitOptions,
    variables: &BTreeMap<String, String>,
    rest: &str,
    sub_path: Option<String>,
) -> GitContext {
    let method = match variables.get("GIT_PULL_METHOD").map(String::as_str) {
        Some("http") => "http",
        _ => "https",
    };
    let mut parts = rest.split('#');
    let place = parts.next().unwrap_or_default();
    let mut part = || parts.next().filter(|part| !part.is_empty()).map(str::to_owned);
    let (named, commit) = (part(), part());
    // A commit says all; of two names the option's counts.
    let is_commit = |name: &String| name.len() >= 40 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let is_other = |name: &String| name.starts_with("refs/") && !name.starts_with("refs/heads/");
    let exact = named.clone().filter(|name| is_commit(name) || is_other(name));
    let reference = commit.or(exact).or(options.branch).or(named).unwrap_or_default();
    let fragment = match (reference, sub_path) {
        (reference, None) if reference.is_empty() => String::new(),
        (reference, None) => format!("#{reference}"),
        (reference, Some(folder)) => format!("#{reference}:{folder}"),
    };
    // Without the ending, a web address could be an archive.
    let place = place.strip_suffix(".git").unwrap_or(place);
    let query = format!("keep-git-dir=1&submodules={}", u8::from(options.submodules));
    GitContext {
        address: format!("{method}://{place}.git?{query}{fragment}"),
        login: git_login(variables),
        depth: options.depth,
        unverified: options.unverified,
    }
}

/// Who the user is to the server of a repository: `GIT_TOKEN`, else `GIT_USERNAME` and `GIT_PASSWORD`.
fn git_login(variables: &BTreeMap<String, String>) -> Option<(String, Secret)> {
    let value = |name: &str| variables.get(name).map_or("", String::as_str);
    let (user, password) = match value("GIT_TOKEN") {
        "" => (value("GIT_USERNAME"), value("GIT_PASSWORD")),
        token => (token, ""),
    };
    let is_set = !user.is_empty() || !password.is_empty();
    is_set.then(|| (user.to_owned(), Secret::new(password)))
}

fn remote_context(scheme: &str, text: &str) -> Error {
    let text = secret::address(text);
    let (fetch, reason) = match scheme {
        "s3" => (format!("aws s3 cp {text} -"), NO_STORAGE),
        "gs" => (format!("gsutil cat {text}"), NO_STORAGE),
        "https" if text.contains(".blob.core.") => {
            (format!("az storage blob download --blob-url {text} --file /dev/stdout"), NO_STORAGE)
        }
        "https" => (format!("curl -fsSL {text}"), "--context-sub-path needs the archive here"),
        "http" => (format!("curl -fsSL {text}"), "contexts are fetched over https alone"),
        _ => {
            let error = usage(format!("use the context {text}"), format!("{scheme}:// is unknown"));
            return error
                .hint("expected a folder, dir://, tar://, tar://stdin, git:// or https://");
        }
    };
    Error::new(ErrorKind::Unsupported, format!("use the context {text}"))
        .because(reason)
        .hint(format!("{fetch} | gondola kaniko --context tar://stdin …"))
}

const NO_STORAGE: &str = "gondola has no client for object storage";
