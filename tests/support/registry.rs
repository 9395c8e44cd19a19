//! Debian's docker-registry, in the modes that real registries have.

use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fs_err as fs;
use gondola::oci::Digest;
use tempfile::TempDir;

use super::need::{Need, program, succeed};
use super::service::Service;
use super::tls::Certificates;
use super::tokens::{PASSWORD, TokenServer, USER, basic};

/// How a path begins that is asked for to know that everything before it is in the log.
const MARK: &str = "/marks-the-log/";
const MARKED: Duration = Duration::from_secs(10);

/// How a registry is set up; the default is plain HTTP for anybody.
#[derive(Clone, Copy, Debug, Default)]
pub struct RegistryOptions {
    /// Who may use it.
    pub auth: RegistryAuth,
    /// Whether it speaks TLS, with a certificate of an unknown authority.
    pub tls: bool,
    /// Whether, with TLS, it wants a certificate of whoever asks, which its own authority signed.
    pub asks_for_certificate: bool,
    /// Whether its `Location` headers are relative.
    pub relative_urls: bool,
}

/// Who may use a registry. The user is [`USER`] with [`PASSWORD`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistryAuth {
    /// Anybody.
    #[default]
    Open,
    /// The user alone, with basic authentication.
    Htpasswd,
    /// Anybody pulls and the user pushes, with tokens.
    Token,
}

/// A running registry on a free loopback port, with storage of its own.
pub struct Registry {
    // Dropped in this order: the program ends before its folder goes.
    service: Service,
    tokens: Option<TokenServer>,
    certificates: Option<Certificates>,
    folder: TempDir,
    host: String,
}

/// A line of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    pub method: String,
    /// The path with its query.
    pub path: String,
    pub status: u16,
}

impl Registry {
    /// Starts a registry that speaks plain HTTP with anybody.
    pub fn plain() -> Need<Self> {
        Self::start(RegistryOptions::default())
    }

    /// Starts a registry.
    pub fn start(options: RegistryOptions) -> Need<Self> {
        let docker_registry = program("docker-registry")?;
        let folder = TempDir::with_prefix("gondola-registry-").unwrap();
        let certificates =
            options.tls.then(|| Certificates::make(&folder.path().join("tls"))).transpose()?;
        let tokens = (options.auth == RegistryAuth::Token)
            .then(|| TokenServer::start(folder.path()))
            .transpose()?;
        let auth = auth_section(options.auth, folder.path(), tokens.as_ref())?;
        let http = http_section(options, certificates.as_ref());
        let storage = folder.path().join("storage");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  \
             delete: {{enabled: true}}\n{http}{auth}",
            storage.display()
        );
        let file = folder.path().join("config.yml");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(docker_registry);
        command.arg("serve").arg(file).env_remove("OTEL_TRACES_EXPORTER");
        let (service, host) = Service::start(command, listening)?;
        Ok(Self { service, tokens, certificates, folder, host })
    }

    /// The host and port, `127.0.0.1:37489`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The name of an image here.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// The folder that holds what was pushed.
    pub fn storage(&self) -> PathBuf {
        self.folder.path().join("storage/docker/registry/v2")
    }

    /// The file that holds a blob or manifest, whether it is there or not.
    pub fn blob_file(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.storage().join("blobs").join(digest.algorithm()).join(&hex[..2]).join(hex).join("data")
    }

    /// The authority that signed this registry's certificate.
    pub fn authority(&self) -> PathBuf {
        self.certificates.as_ref().expect("a registry with TLS").authority()
    }

    /// The certificates of a registry with TLS.
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("a registry with TLS")
    }

    /// The token server of a registry with tokens.
    pub fn tokens(&self) -> &TokenServer {
        self.tokens.as_ref().expect("a registry with tokens")
    }

    /// The access log until now.
    pub fn log(&self) -> Vec<Logged> {
        let mark = self.leave_a_mark();
        let marked = self
            .service
            .wait(MARKED, |printed| printed.split_once(&mark).map(|(before, _)| before.to_owned()));
        let before = marked.unwrap_or_else(|| panic!("no {mark:?} in {}", self.service.printed()));
        before.lines().filter_map(logged).filter(|line| !line.path.starts_with(MARK)).collect()
    }

    /// Sends a request that comes after all others, and gives what the log will have of it.
    fn leave_a_mark(&self) -> String {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        let port = stream.local_addr().unwrap().port();
        if self.certificates.is_some() {
            // A registry with TLS logs whoever does not speak it.
            stream.write_all(b"what is this?").unwrap();
            return format!("handshake error from 127.0.0.1:{port}:");
        }
        let request = format!("GET {MARK}{port} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        format!("\"GET {MARK}{port} ")
    }

    /// How many requests of a method were answered with one of the statuses.
    pub fn count(&self, method: &str, path: &str, statuses: &[u16]) -> usize {
        let wanted = |line: &&Logged| {
            line.method == method && line.path.contains(path) && statuses.contains(&line.status)
        };
        self.log().iter().filter(wanted).count()
    }

    /// How many blobs were uploaded; mounts do not count.
    pub fn uploads(&self) -> usize {
        self.count("PUT", "/blobs/uploads/", &[201])
    }

    /// Tags of a repository, as stored.
    pub fn tags(&self, repository: &str) -> Vec<String> {
        let folder = self.storage().join("repositories").join(repository).join("_manifests/tags");
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        let mut tags: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        tags.sort();
        tags
    }
}

/// Finds `listening on ADDRESS` in the log; with TLS, `, tls` follows.
fn listening(printed: &str) -> Option<String> {
    let (_, rest) = printed.split_once("listening on ")?;
    let end = rest.find(['"', ',', '\n'])?;
    Some(rest[..end].to_owned())
}

fn http_section(options: RegistryOptions, certificates: Option<&Certificates>) -> String {
    let tls = certificates.map_or_else(String::new, |files| {
        let (certificate, key) = (files.certificate(), files.key());
        let of_clients = if options.asks_for_certificate {
            format!(", clientcas: [{}]", files.authority().display())
        } else {
            String::new()
        };
        let (certificate, key) = (certificate.display(), key.display());
        format!("  tls: {{certificate: {certificate}, key: {key}{of_clients}}}\n")
    });
    format!("http:\n  addr: 127.0.0.1:0\n  relativeurls: {}\n{tls}", options.relative_urls)
}

fn auth_section(auth: RegistryAuth, folder: &Path, tokens: Option<&TokenServer>) -> Need<String> {
    let section = match (auth, tokens) {
        (RegistryAuth::Htpasswd, _) => {
            let htpasswd = program("htpasswd")?;
            let file = folder.join("htpasswd");
            let line = succeed(Command::new(htpasswd).args(["-Bbn", "-C", "4", USER, PASSWORD]));
            fs::write(&file, line).unwrap();
            format!("auth: {{htpasswd: {{realm: gondola test, path: {}}}}}\n", file.display())
        }
        (RegistryAuth::Token, Some(tokens)) => format!(
            "auth: {{token: {{realm: \"{}\", service: gondola-test-registry, \
             issuer: gondola-test, rootcertbundle: {}}}}}\n",
            tokens.realm(),
            tokens.certificate().display()
        ),
        _ => String::new(),
    };
    Ok(section)
}

/// Reads `127.0.0.1 - - [date] "GET /v2/ HTTP/1.1" 200 2 "" "agent"`.
fn logged(line: &str) -> Option<Logged> {
    let (_, rest) = line.split_once("] \"")?;
    let (request, rest) = rest.split_once("\" ")?;
    let mut words = request.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let status = rest.split(' ').next()?.parse().ok()?;
    Some(Logged { method, path, status })
}

/// The `Authorization` header of the user that every protected server knows.
pub fn authorization() -> String {
    basic(USER, PASSWORD)
}
