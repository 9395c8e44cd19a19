//! The names of Docker Hub, which has one for people and others for programs.

/// The name in references.
pub const NAME: &str = "docker.io";

/// The host that serves it.
pub const HOST: &str = "registry-1.docker.io";

/// The key in files of credentials, and towards credential helpers.
pub const CREDENTIALS_KEY: &str = "https://index.docker.io/v1/";

/// The name of a registry in references, whatever name of Docker Hub it has.
pub fn canonical(registry: &str) -> &str {
    match registry {
        "index.docker.io" | HOST => NAME,
        other => other,
    }
}

/// A name without the registry, where that is Docker Hub.
pub fn without(name: &str) -> &str {
    name.strip_prefix(NAME).and_then(|rest| rest.strip_prefix('/')).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_are_one() {
        for (registry, name) in [
            ("index.docker.io", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("docker.io", "docker.io"),
            ("docker.io.example.com", "docker.io.example.com"),
        ] {
            assert_eq!(canonical(registry), name);
        }
        for (name, short) in
            [("docker.io/library/a", "library/a"), ("docker.iox/a", "docker.iox/a")]
        {
            assert_eq!(without(name), short);
        }
    }
}
