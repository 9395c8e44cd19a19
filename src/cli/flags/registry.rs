//! Flags that name registries: `--insecure-registry` and those of kaniko's that are like it.

use super::refuse;
use crate::error::Result;
use crate::oci::{Repository, docker_hub};

/// Reads `HOST[:PORT]` as the names of images have it.
pub fn hosts<T: FromIterator<String>>(
    flag: &str,
    texts: impl IntoIterator<Item = impl AsRef<str>>,
) -> Result<T> {
    texts.into_iter().map(|text| host(flag, text.as_ref())).collect()
}

fn host(flag: &str, text: &str) -> Result<String> {
    let probe = format!("{text}/x").parse::<Repository>();
    let is_one = probe.is_ok_and(|probe| probe.registry() == docker_hub::canonical(text));
    if is_one { Ok(text.to_owned()) } else { Err(refuse(flag, "expected HOST[:PORT]")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_a_host_and_nothing_more() {
        let read = |text: &str| hosts::<Vec<String>>("--insecure-registry", [text]);
        for good in
            ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000", "ghcr.io", "docker.io"]
        {
            assert_eq!(read(good).unwrap(), [good], "{good}");
        }
        for bad in
            ["", "true", "./app", "a/b", "h.io/x", "http://h.io", "u:pw@h.io", "h.io:x", "registry"]
        {
            let error = read(bad).unwrap_err().to_string();
            assert_eq!(error, "cannot use --insecure-registry: expected HOST[:PORT]", "{bad}");
        }
    }
}
