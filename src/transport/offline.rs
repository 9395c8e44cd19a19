//! What a command without a network lacks: all of it is told at once, with what fetches it.

use std::fmt::Write as _;

use super::{Context, Location, read};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Platform, PlatformSet, Reference};

/// Something that is not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What it is.
    pub what: String,
    /// The command that fetches it.
    pub fetch: String,
}

impl Missing {
    /// An image; `role` is what it is for.
    pub fn image(role: &str, name: &Reference, platforms: &PlatformSet, host: &Platform) -> Self {
        let flag = match platforms {
            PlatformSet::All => " --platform all".to_owned(),
            PlatformSet::Listed(listed) if listed.as_slice() == std::slice::from_ref(host) => {
                String::new()
            }
            PlatformSet::Listed(listed) => {
                let listed: Vec<String> = listed.iter().map(Platform::to_string).collect();
                format!(" --platform {}", listed.join(","))
            }
        };
        let name = name.familiar();
        Self { what: format!("{role} {name}"), fetch: format!("gondola pull{flag} {name}") }
    }
}

/// Fails where something is missing; the error names everything.
pub fn check_missing(action: &str, all: Vec<Missing>) -> Result<()> {
    let mut missing: Vec<Missing> = Vec::new();
    for one in all {
        if !missing.contains(&one) {
            missing.push(one);
        }
    }
    let many = match missing.len() {
        0 => return Ok(()),
        1 => "one thing is not here, which this command fetches".to_owned(),
        count => format!("{count} things are not here, which these commands fetch"),
    };
    let mut text = format!("--offline opens no connection, and {many}:");
    for Missing { what, fetch } in &missing {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n  {what}: {fetch}");
    }
    Err(Error::new(ErrorKind::NotFound, action).because(text))
}

/// Whether all of an image can be had without a network.
pub async fn is_here(place: &Location, platforms: &PlatformSet, context: &Context) -> bool {
    let Ok(artifact) = read(place, platforms, context).await else { return false };
    artifact.blobs().iter().all(|blob| {
        blob.remote().is_none() || context.store.holds(&blob.descriptor).unwrap_or(false)
    })
}

impl Context {
    /// Refuses to go on where that takes a network, and none is used.
    pub fn check_online(&self, what: &str) -> Result<()> {
        if !self.client.is_offline() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Network, format!("fetch {what}"))
            .because("--offline opens no connection")
            .hint("leave --offline out, or name a folder that has it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_told_at_once() {
        let host: Platform = "linux/amd64".parse().unwrap();
        let of = |list: &str| list.parse::<PlatformSet>().unwrap();
        let image = |name: &str, platforms: &str| {
            Missing::image("the base", &name.parse().unwrap(), &of(platforms), &host)
        };
        assert!(check_missing("build", Vec::new()).is_ok());
        let one = check_missing("build", vec![image("golang:1.27", "linux/amd64")]);
        assert_eq!(
            one.unwrap_err().to_string(),
            "cannot build: --offline opens no connection, and one thing is not here, which this \
             command fetches:\n  the base golang:1.27: gondola pull golang:1.27"
        );
        let two = [image("r.test/a", "linux/arm64"), image("r.test/b", "linux/amd64,linux/arm64")];
        let two = [&two[..], &two[..1]].concat();
        let error = check_missing("build", two).unwrap_err().to_string();
        assert!(error.contains("2 things are not here"), "{error}");
        assert!(error.contains("gondola pull --platform linux/arm64 r.test/a"), "{error}");
        assert!(error.contains("--platform linux/amd64,linux/arm64 r.test/b"), "{error}");
    }
}
