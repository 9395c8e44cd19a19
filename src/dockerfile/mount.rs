//! `RUN --mount`: its keys, what each type of mount allows, and its defaults.

use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::expand::Unexpandable;
use crate::dockerfile::source::{Span, Word};
use crate::error::nearest;
use crate::literal::{boolean, size};

/// A `--mount` flag as written. Every value but `from` is expanded when the step is executed.
#[derive(Clone, Debug)]
pub struct MountFlag {
    /// The flag's value.
    pub value: Word,
    /// The stage, named context or image that `from` names.
    pub from: Option<String>,
    fields: Vec<Field>,
}

#[derive(Clone, Debug)]
struct Field {
    key: String,
    value: Option<String>,
    text: String,
}

/// A mount of a `RUN` step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is seen. A relative path is relative to the working folder, which also is what a
    /// bind, cache or tmpfs mount without a target covers.
    pub target: Option<String>,
    /// Cannot be written to. What is written to a writable bind mount is discarded.
    pub read_only: bool,
    /// What is mounted.
    pub kind: MountKind,
    /// The flag's value in the file.
    pub span: Span,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, or of another stage or image.
    Bind {
        /// A stage, named context or image; `None` is the build context.
        from: Option<String>,
        /// A path in there; `None` is all of it.
        source: Option<String>,
    },
    /// A folder that outlives the build.
    Cache(CacheMount),
    /// Memory.
    Tmpfs {
        /// The largest size in bytes; `None` is no limit.
        size: Option<u64>,
    },
    /// A secret as a file, a variable, or both.
    Secret(SecretMount),
    /// The SSH agent's socket.
    Ssh {
        /// Which agent.
        id: String,
        /// Without it, the step fails.
        required: bool,
        /// Owner and mode of the socket; the mode's default is 0600.
        access: Access,
    },
}

/// A cache folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheMount {
    /// Its name: `id`, or else the cleaned target.
    pub id: String,
    /// Who else may use it meanwhile.
    pub sharing: Sharing,
    /// What a new cache starts with: a stage, named context or image.
    pub from: Option<String>,
    /// A path in there.
    pub source: Option<String>,
    /// Owner and mode of a new cache's folder; the mode's default is 0755.
    pub access: Access,
}

/// A secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMount {
    /// Its name on the command line.
    pub id: String,
    /// Where it is a file; `None` if it is a variable only.
    pub file: Option<String>,
    /// The variable that holds it.
    pub variable: Option<String>,
    /// Without it, the step fails.
    pub required: bool,
    /// Owner and mode of the file; the mode's default is 0400.
    pub access: Access,
}

/// Owner and mode of what is mounted. What is `None` has the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Permission bits.
    pub mode: Option<u32>,
    /// User ID.
    pub uid: Option<u32>,
    /// Group ID.
    pub gid: Option<u32>,
}

/// How steps that run at the same time share a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// All of them write to it.
    #[default]
    Shared,
    /// Each has its own.
    Private,
    /// One waits for the other.
    Locked,
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "env",
];
const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

/// Expands a value.
pub type Expand<'a> = &'a mut dyn FnMut(&str) -> Result<String, Unexpandable>;

impl MountFlag {
    /// Reads a flag's value. What has no variables is checked at once.
    pub(super) fn parse(value: &Word) -> Result<Self, Diagnostic> {
        let fields = fields(value)?;
        let mut from = None;
        let mut variables = false;
        for field in &fields {
            let text = field.value.as_deref().unwrap_or_default();
            if field.key != "from" {
                variables |= text.contains('$');
            } else if text.trim_end_matches('$').contains('$') {
                return Err(Diagnostic::error(value.span, "from takes no variables")
                    .label("this mount's from has one")
                    .help(
                        "name the image in a stage of its own, FROM … AS name, and use the name",
                    ));
            } else {
                from = Some(text.to_owned()).filter(|text| !text.is_empty());
            }
        }
        let flag = Self { value: value.clone(), from, fields };
        if !variables {
            flag.resolve(&mut |text| Ok(text.to_owned()))?;
        }
        Ok(flag)
    }

    /// The mount, with its values expanded.
    pub fn resolve(&self, expand: Expand<'_>) -> Result<Mount, Diagnostic> {
        let span = self.value.span;
        let mut draft = Draft { kind: "bind".to_owned(), ..Draft::default() };
        for field in &self.fields {
            let value = match &field.value {
                Some(value) if field.key == "from" => Some(value.clone()),
                Some(value) => {
                    Some(expand(value).map_err(|error| Diagnostic::error(span, error.message))?)
                }
                None => None,
            };
            draft.set(field, value).map_err(|error| error.at(span))?;
        }
        draft.finish(span).map_err(|error| error.at(span))
    }
}

/// What is wrong with a mount, before the place is known.
struct Wrong {
    message: String,
    label: Option<String>,
}

impl Wrong {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), label: None }
    }

    fn at(self, span: Span) -> Diagnostic {
        let diagnostic = Diagnostic::error(span, self.message);
        match self.label {
            Some(label) => diagnostic.label(label),
            None => diagnostic,
        }
    }

    fn nearest(message: String, word: &str, candidates: &[&'static str]) -> Self {
        let label = match nearest(word, candidates.iter().copied()) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => format!("expected one of {}", candidates.join(", ")),
        };
        Self { message, label: Some(label) }
    }
}

/// A mount's keys as they are read.
#[derive(Default)]
struct Draft {
    kind: String,
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    id: Option<String>,
    read_only: Option<bool>,
    required: Option<bool>,
    size: Option<u64>,
    sharing: Option<Sharing>,
    env: Option<String>,
    access: Access,
}

impl Draft {
    fn set(&mut self, field: &Field, value: Option<String>) -> Result<(), Wrong> {
        let key = field.key.as_str();
        let switch = matches!(key, "readonly" | "ro" | "readwrite" | "rw" | "required");
        if !KEYS.contains(&key) {
            return Err(Wrong::nearest(format!("a mount has no key {key}"), key, &KEYS));
        }
        let text = match value {
            Some(value) => value,
            None if switch => "true".to_owned(),
            None => return Err(Wrong::new(format!("the mount's {} has no value", field.text))),
        };
        let invalid = || Wrong::new(format!("\"{text}\" is no value for the mount's {key}"));
        match key {
            "type" => self.kind = mount_type(&text)?,
            "from" => self.from = filled(text),
            "source" | "src" => self.source = filled(text),
            "target" | "dst" | "destination" => self.target = filled(text),
            "id" => self.id = filled(text),
            "env" => self.env = filled(text),
            "readonly" | "ro" => self.read_only = Some(boolean(&text).map_err(|_| invalid())?),
            "readwrite" | "rw" => self.read_only = Some(!boolean(&text).map_err(|_| invalid())?),
            "required" => self.required = Some(boolean(&text).map_err(|_| invalid())?),
            "size" => self.size = Some(size(&text).map_err(|_| invalid())?),
            "sharing" => self.sharing = Some(sharing(&text)?),
            "mode" => {
                self.access.mode = Some(u32::from_str_radix(&text, 8).map_err(|_| invalid())?);
            }
            "uid" => self.access.uid = Some(text.parse().map_err(|_| invalid())?),
            _ => self.access.gid = Some(text.parse().map_err(|_| invalid())?),
        }
        Ok(())
    }

    /// Which keys were set that only some types have.
    fn check_keys(&self) -> Result<(), Wrong> {
        let kind = self.kind.as_str();
        let secret_like = matches!(kind, "secret" | "ssh");
        let owned = secret_like || kind == "cache";
        let rules = [
            ("required", self.required.is_some(), secret_like),
            ("size", self.size.is_some(), kind == "tmpfs"),
            ("sharing", self.sharing.is_some(), kind == "cache"),
            ("mode", self.access.mode.is_some(), owned),
            ("uid", self.access.uid.is_some(), owned),
            ("gid", self.access.gid.is_some(), owned),
            ("from", self.from.is_some(), kind != "secret"),
            ("source", self.source.is_some(), kind != "ssh"),
        ];
        match rules.into_iter().find(|(_, set, allowed)| *set && !allowed) {
            Some((key, ..)) => Err(Wrong::new(format!("a mount of type {kind} has no key {key}"))),
            None => Ok(()),
        }
    }

    fn finish(self, span: Span) -> Result<Mount, Wrong> {
        self.check_keys()?;
        let writable = matches!(self.kind.as_str(), "cache" | "tmpfs");
        let read_only = self.read_only.unwrap_or(!writable);
        let seen = matches!(self.kind.as_str(), "bind" | "cache" | "tmpfs");
        let target = self.target.clone().or_else(|| seen.then(|| ".".to_owned()));
        let kind = match self.kind.as_str() {
            "cache" => MountKind::Cache(self.cache()),
            "tmpfs" => MountKind::Tmpfs { size: self.size.filter(|size| *size > 0) },
            "secret" => MountKind::Secret(self.secret()?),
            "ssh" => MountKind::Ssh {
                id: self.id.unwrap_or_else(|| "default".to_owned()),
                required: self.required.unwrap_or(false),
                access: self.access,
            },
            _ => MountKind::Bind { from: self.from, source: self.source },
        };
        Ok(Mount { target, read_only, kind, span })
    }

    fn cache(self) -> CacheMount {
        let target = self.target.unwrap_or_default();
        CacheMount {
            id: self.id.unwrap_or_else(|| clean_path(&target)),
            sharing: self.sharing.unwrap_or_default(),
            from: self.from,
            source: self.source,
            access: self.access,
        }
    }

    fn secret(self) -> Result<SecretMount, Wrong> {
        if self.source.is_some() && self.id.is_some() {
            return Err(Wrong::new("a secret has either an id or a source"));
        }
        let base = |path: &str| path.trim_end_matches('/').rsplit('/').next().map(str::to_owned);
        let id = self.id.or(self.source).or_else(|| self.target.as_deref().and_then(base));
        let Some(id) = id else {
            let label = Some("add id=name".to_owned());
            return Err(Wrong { message: "a secret needs an id or a target".to_owned(), label });
        };
        let default = || format!("/run/secrets/{}", base(&id).unwrap_or_default());
        let file = match (self.target, &self.env) {
            (Some(target), _) => Some(target),
            (None, None) => Some(default()),
            (None, Some(_)) => None,
        };
        let required = self.required.unwrap_or(false);
        Ok(SecretMount { file, id, variable: self.env, required, access: self.access })
    }
}

fn filled(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn mount_type(text: &str) -> Result<String, Wrong> {
    let kind = text.to_ascii_lowercase();
    if TYPES.contains(&kind.as_str()) {
        return Ok(kind);
    }
    Err(Wrong::nearest(format!("there is no mount of type {text}"), &kind, &TYPES))
}

fn sharing(text: &str) -> Result<Sharing, Wrong> {
    match text.to_ascii_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        _ => {
            let modes = ["shared", "private", "locked"];
            Err(Wrong::nearest(format!("a cache cannot be shared as \"{text}\""), text, &modes))
        }
    }
}

/// A path without `.`, `..` and double slashes, as Go's `path.Clean` gives it.
pub(crate) fn clean_path(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// Splits comma-separated fields, where double quotes protect commas.
fn fields(value: &Word) -> Result<Vec<Field>, Diagnostic> {
    let mut fields = Vec::new();
    let mut rest = value.text.as_str();
    loop {
        let (text, next) = field(rest).ok_or_else(|| {
            Diagnostic::error(value.span, "the quotes of the mount's fields do not match")
        })?;
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text.as_str(), None),
        };
        fields.push(Field { key: key.to_lowercase(), value, text: text.clone() });
        match next {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// One field, and what follows its comma.
fn field(text: &str) -> Option<(String, Option<&str>)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let (field, next) = match text.split_once(',') {
            Some((field, next)) => (field, Some(next)),
            None => (text, None),
        };
        return (!field.contains('"')).then(|| (field.to_owned(), next));
    };
    let mut field = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        field.push_str(part);
        if let Some(more) = after.strip_prefix('"') {
            field.push('"');
            rest = more;
        } else if after.is_empty() {
            return Some((field, None));
        } else {
            return after.strip_prefix(',').map(|next| (field, Some(next)));
        }
    }
}
