//! What is mounted into a container, as `--volume`, `--mount` and `--tmpfs` say it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};
use crate::literal;
use crate::sandbox::Access;

/// Something to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volume {
    /// A file or folder of the host.
    Host {
        /// The file or folder; relative to the working folder.
        source: PathBuf,
        /// Where it appears.
        target: String,
        /// Whether it may be written to.
        access: Access,
        /// Whether a folder is made where there is nothing.
        make: bool,
    },
    /// A folder of the container's own, with what the image has there.
    Own {
        /// Where it appears.
        target: String,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Where it appears.
        target: String,
        /// Its largest size.
        size_bytes: Option<u64>,
        /// Its permissions.
        mode: u32,
    },
}

/// The permissions of a folder that everybody may write to, as docker's `--tmpfs` has them.
const TMPFS_MODE: u32 = 0o1777;

impl Volume {
    /// Where it appears.
    pub fn target(&self) -> &str {
        match self {
            Self::Host { target, .. } | Self::Own { target } | Self::Tmpfs { target, .. } => target,
        }
    }

    /// Reads a folder that an image declares as one with data of its own.
    pub(super) fn declared(target: &str) -> Result<Self> {
        let wrong = |why: &str| refuse("keep data in", target, why);
        Ok(Self::Own { target: absolute(target).map_err(wrong)? })
    }

    /// Reads `PATH[:size=64m,mode=1777,ro]`, what `--tmpfs` takes.
    pub fn tmpfs(text: &str) -> Result<Self> {
        let wrong = |why: &str| refuse("mount tmpfs", text, why);
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        let target = absolute(target).map_err(wrong)?;
        let (mut size_bytes, mut mode) = (None, TMPFS_MODE);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("size", size)) => size_bytes = Some(literal::size(size).map_err(wrong)?),
                Some(("mode", text)) => mode = parse_mode(text).map_err(wrong)?,
                // What every one of ours is, or what makes no difference here.
                None if matches!(option, "rw" | "nosuid" | "nodev" | "relatime" | "noatime") => {}
                _ => return Err(wrong("an option is none of size=, mode=, rw, nosuid, nodev")),
            }
        }
        Ok(Self::Tmpfs { target, size_bytes, mode })
    }

    /// Reads `type=bind,source=PATH,target=PATH[,readonly]`, what `--mount` takes.
    pub fn mount(text: &str) -> Result<Self> {
        let wrong = |why: &str| refuse("mount", text, why);
        let mut kind = "volume";
        let (mut source, mut target, mut access) = (None, None, Access::ReadWrite);
        let (mut size_bytes, mut mode) = (None, TMPFS_MODE);
        let fields = literal::fields(text).ok_or_else(|| wrong("its quotes do not match"))?;
        for field in &fields {
            match field.split_once('=').unwrap_or((field.as_str(), "true")) {
                ("type", value) => kind = value,
                ("source" | "src", value) => source = Some(PathBuf::from(value)),
                ("target" | "destination" | "dst", value) => {
                    target = Some(absolute(value).map_err(wrong)?);
                }
                ("readonly" | "ro", "true" | "1") => access = Access::ReadOnly,
                ("readonly" | "ro", "false" | "0") => access = Access::ReadWrite,
                ("tmpfs-size", value) => size_bytes = Some(literal::size(value).map_err(wrong)?),
                ("tmpfs-mode", value) => mode = parse_mode(value).map_err(wrong)?,
                _ => return Err(wrong(&format!("\"{field}\" is not known"))),
            }
        }
        let target = target.ok_or_else(|| wrong("it has no target="))?;
        match (kind, source) {
            ("bind", Some(source)) => Ok(Self::Host { source, target, access, make: false }),
            ("bind", None) => Err(wrong("it has no source=")),
            ("tmpfs", None) => Ok(Self::Tmpfs { target, size_bytes, mode }),
            ("volume", None) => Ok(Self::Own { target }),
            ("volume", Some(_)) => Err(wrong(NO_NAMES)),
            ("tmpfs", Some(_)) => Err(wrong("a tmpfs has no source")),
            _ => Err(wrong("the type is none of bind, tmpfs, volume")),
        }
    }

    /// The same with its source taken as relative to `folder`.
    #[must_use]
    pub fn in_folder(self, folder: &Path) -> Self {
        match self {
            Self::Host { source, target, access, make } => {
                Self::Host { source: folder.join(source), target, access, make }
            }
            other => other,
        }
    }
}

const NO_NAMES: &str = "volumes have no names here; write a path, such as ./data:/data";

impl FromStr for Volume {
    type Err = Error;

    /// Reads `[HOST:]CONTAINER[:ro]`, what `--volume` takes.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| refuse("mount", text, why);
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match parts[..] {
            [target] => (None, target, ""),
            [source, target] => (Some(source), target, ""),
            [source, target, options] => (Some(source), target, options),
            _ => return Err(wrong("expected [HOST:]CONTAINER[:ro]")),
        };
        let target = absolute(target).map_err(wrong)?;
        let mut access = Access::ReadWrite;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" | "readonly" => access = Access::ReadOnly,
                // Labels for SELinux: the sandbox needs none.
                "rw" | "z" | "Z" => {}
                _ => return Err(wrong("an option is none of ro, rw, z, Z")),
            }
        }
        let Some(source) = source else { return Ok(Self::Own { target }) };
        let is_path = source.starts_with(['/', '.', '~']);
        if !is_path {
            return Err(wrong(NO_NAMES));
        }
        Ok(Self::Host { source: source.into(), target, access, make: true })
    }
}

fn refuse(verb: &str, text: &str, why: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("{verb} \"{}\"", text.escape_debug())).because(why)
}

/// A path in the container, without a slash at its end.
fn absolute(path: &str) -> Result<String, &'static str> {
    if !path.starts_with('/') {
        return Err("the path in the container does not begin with /");
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        return Err("nothing is mounted over /");
    }
    Ok(trimmed.to_owned())
}

fn parse_mode(text: &str) -> Result<u32, &'static str> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or("a mode is an octal number, such as 1777")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read_as_docker_reads_them() {
        let host = |source: &str, target: &str, access| Volume::Host {
            source: source.into(),
            target: target.to_owned(),
            access,
            make: true,
        };
        for (text, expect) in [
            ("/a:/b", host("/a", "/b", Access::ReadWrite)),
            ("./a:/b/", host("./a", "/b", Access::ReadWrite)),
            ("/a:/b:ro", host("/a", "/b", Access::ReadOnly)),
            ("/a:/b:ro,Z", host("/a", "/b", Access::ReadOnly)),
            ("/data", Volume::Own { target: "/data".to_owned() }),
        ] {
            assert_eq!(text.parse::<Volume>().unwrap(), expect, "{text}");
        }
        for bad in ["", "/", "a", "/a:b", "name:/b", "/a:/b:rx", "/a:/b:ro:x", "/a:/"] {
            assert!(bad.parse::<Volume>().is_err(), "{bad}");
        }
        let error = "cache:/b".parse::<Volume>().unwrap_err().to_string();
        assert!(error.contains("./data:/data"), "{error}");
    }

    #[test]
    fn mounts_and_tmpfs_are_read_as_docker_reads_them() {
        let bind = Volume::mount("type=bind,src=/a,dst=/b,readonly").unwrap();
        let Volume::Host { access: Access::ReadOnly, make: false, .. } = bind else {
            panic!("{bind:?}")
        };
        let comma = Volume::mount(r#"type=bind,"source=/a,b",target=/x"#).unwrap();
        assert!(matches!(comma, Volume::Host { source, .. } if source == Path::new("/a,b")));
        let tmpfs = |size_bytes, mode| Volume::Tmpfs { target: "/t".to_owned(), size_bytes, mode };
        assert_eq!(Volume::tmpfs("/t").unwrap(), tmpfs(None, 0o1777));
        assert_eq!(Volume::tmpfs("/t:size=64m,mode=700").unwrap(), tmpfs(Some(64 << 20), 0o700));
        let text = "type=tmpfs,target=/t,tmpfs-size=1k,tmpfs-mode=0755";
        assert_eq!(Volume::mount(text).unwrap(), tmpfs(Some(1024), 0o755));
        for bad in ["t", "/t:sise=1", "/t:size=x", "/t:mode=9"] {
            assert!(Volume::tmpfs(bad).is_err(), "{bad}");
        }
        let quote = Volume::mount(r#"type=bind,"source=/a"b,target=/x"#).unwrap_err().to_string();
        assert!(quote.contains("quotes do not match"), "{quote}");
        for bad in ["", "type=bind,target=/b", "type=nfs,target=/b", "source=x,target=/b", "x=y"] {
            assert!(Volume::mount(bad).is_err(), "{bad}");
        }
    }
}
