//! Image configurations: how an image runs, and how its layers came to be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Digest, Platform};

/// An image configuration. Unknown fields are kept in `extra` and written back as they were.
///
/// See the [configuration specification][spec].
///
/// [spec]: https://github.com/opencontainers/image-spec/blob/main/config.md
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Where the image runs.
    #[serde(flatten)]
    pub platform: Platform,
    /// When the image was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// How a container of the image runs.
    #[serde(default, deserialize_with = "super::document::null_as_default")]
    pub config: ContainerConfig,
    /// The layers' uncompressed digests.
    pub rootfs: RootFs,
    /// Who made each layer, the oldest first.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "super::document::null_as_default"
    )]
    pub history: Vec<History>,
    /// Everything else, untouched.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// How a container of an image runs. `Healthcheck`, `OnBuild`, `Shell` and the like are in `extra`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// `user[:group]`, names or numbers; empty means root.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "super::document::null_as_default"
    )]
    pub user: String,
    /// Ports that the program listens on, `8080/tcp`, each with an empty object.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "super::document::null_as_default"
    )]
    pub exposed_ports: BTreeMap<String, Value>,
    /// `NAME=value`, later entries win.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "super::document::null_as_default"
    )]
    pub env: Vec<String>,
    /// The program and its fixed arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The default arguments, or the program where there is no entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Folders that hold data of their own.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "super::document::null_as_default"
    )]
    pub volumes: BTreeMap<String, Value>,
    /// The working folder.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "super::document::null_as_default"
    )]
    pub working_dir: String,
    /// Free-form notes.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "super::document::null_as_default"
    )]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the program to end.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "super::document::null_as_default"
    )]
    pub stop_signal: String,
    /// Everything else, untouched.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// The digests of the uncompressed layers, the base's first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One diff ID per layer of the manifest.
    #[serde(default, deserialize_with = "super::document::null_as_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// How one layer, or one change of the config, came to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command or tool that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether it made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// Everything else, untouched.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl ImageConfig {
    /// Makes the configuration of an image without layers.
    pub fn empty(platform: Platform) -> Self {
        Self {
            platform,
            created: None,
            author: None,
            config: ContainerConfig::default(),
            rootfs: RootFs::default(),
            history: Vec::new(),
            extra: BTreeMap::new(),
        }
    }
}

impl ContainerConfig {
    /// Sets `name` to `value` in the environment, in place where it is set already.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        let is_it =
            |old: &&mut String| old.split_once('=').map_or(old.as_str(), |(n, _)| n) == name;
        match self.env.iter_mut().find(is_it) {
            Some(old) => *old = entry,
            None => self.env.push(entry),
        }
    }

    /// The value of `name` in the environment.
    pub fn env_value(&self, name: &str) -> Option<&str> {
        let pairs = self.env.iter().rev().filter_map(|entry| entry.split_once('='));
        pairs.into_iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::canonical_json;

    #[test]
    fn an_edit_keeps_every_field_that_we_do_not_know() {
        let source = r#"{"architecture":"amd64","os":"linux","os.version":"10.0","os.features":["win32k"],
            "variant":"v3","container":"abc","docker_version":"20.10","moby.buildkit.cache.v0":{"x":[1,2]},
            "config":{"Healthcheck":{"Test":["CMD","x"],"Interval":30000000000},"OnBuild":["RUN x"],"Shell":["/bin/bash"],
              "StopTimeout":5,"ArgsEscaped":true,"Labels":null,"Entrypoint":null,"Env":["A=1"]},
            "rootfs":{"type":"layers","diff_ids":null},"history":[{"created_by":"x","future":1}]}"#;
        let mut config: ImageConfig = serde_json::from_str(source).unwrap();
        config.config.set_env("A", "2");
        config.config.set_env("B", "3");
        let text = String::from_utf8(canonical_json(&config)).unwrap();
        let expect = concat!(
            r#"{"architecture":"amd64","config":{"ArgsEscaped":true,"Env":["A=2","B=3"],"#,
            r#""Healthcheck":{"Interval":30000000000,"Test":["CMD","x"]},"OnBuild":["RUN x"],"Shell":["/bin/bash"],"StopTimeout":5},"#,
            r#""container":"abc","docker_version":"20.10","history":[{"created_by":"x","future":1}],"#,
            r#""moby.buildkit.cache.v0":{"x":[1,2]},"os":"linux","os.features":["win32k"],"os.version":"10.0","#,
            r#""rootfs":{"diff_ids":[],"type":"layers"},"variant":"v3"}"#
        );
        assert_eq!(text, expect);
    }

    #[test]
    fn the_specification_crate_reads_what_we_write() {
        let mut config = ImageConfig::empty("linux/arm/v7".parse().unwrap());
        config.config.entrypoint = Some(vec!["/app".to_owned()]);
        let bytes = canonical_json(&config);
        let read: oci_spec::image::ImageConfiguration = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read.architecture().to_string(), "arm");
        assert_eq!(read.variant().as_deref(), Some("v7"));
    }
}
