//! Credential helpers: programs that keep credentials, `docker-credential-<name>`.
//!
//! A helper takes the name of a server on its standard input and answers with JSON,
//! `{"ServerURL": …, "Username": …, "Secret": …}`. See [docker's description][protocol].
//!
//! [protocol]: https://github.com/docker/docker-credential-helpers#development

use std::collections::BTreeMap;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::Secret;
use super::failure::shortened;
use super::identity::Login;
use crate::error::{Error, ErrorKind, Result};

/// A helper may ask the user to unlock a key ring.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_ANSWER: u64 = 64 * 1024;

/// A credential helper and the environment that it runs in.
pub(super) struct Helper<'a> {
    program: String,
    environment: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Given<'a> {
    #[serde(rename = "ServerURL")]
    server_url: &'a str,
    username: &'a str,
    secret: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    #[serde(default)]
    username: String,
    secret: String,
}

impl<'a> Helper<'a> {
    /// Names the helper `docker-credential-<name>`.
    pub(super) fn new(name: &str, environment: &'a BTreeMap<String, String>) -> Result<Self> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(is_plain) {
            return Err(Error::new(ErrorKind::Usage, "run the credential helper")
                .because(format!("\"{}\" is no name of one", name.escape_debug())));
        }
        Ok(Self { program: format!("docker-credential-{name}"), environment })
    }

    /// What the helper keeps for a server; `None` where it has nothing.
    pub(super) async fn get(&self, server: &str) -> Result<Option<Login>> {
        let (succeeded, answer) = self.run("get", server.as_bytes()).await?;
        if !succeeded {
            return self.complaint(&answer).map(|()| None);
        }
        let kept: HelperAnswer = serde_json::from_slice(&answer)
            .map_err(|_| self.fail("its answer is not the JSON expected"))?;
        if kept.secret.is_empty() {
            return Ok(None);
        }
        Ok(Some(Login::new(kept.username, Secret::new(kept.secret))))
    }

    /// Gives credentials into the helper's keeping.
    pub(super) async fn store(&self, server: &str, user: &str, secret: &Secret) -> Result<()> {
        let given = Given { server_url: server, username: user, secret: secret.reveal() };
        let text = serde_json::to_vec(&given).expect("it has text fields only");
        match self.run("store", &text).await? {
            (true, _) => Ok(()),
            (false, answer) => Err(self.fail(&said(&answer))),
        }
    }

    /// Has the helper forget what it keeps for a server.
    pub(super) async fn erase(&self, server: &str) -> Result<()> {
        match self.run("erase", server.as_bytes()).await? {
            (true, _) => Ok(()),
            (false, answer) => self.complaint(&answer),
        }
    }

    /// A helper that has nothing says so in one of these ways, and fails.
    fn complaint(&self, answer: &[u8]) -> Result<()> {
        let said = said(answer);
        let lower = said.to_ascii_lowercase();
        let nothing =
            ["credentials not found", "no credentials server url", "no credentials username"];
        if nothing.iter().any(|text| lower.contains(text)) {
            return Ok(());
        }
        Err(self.fail(&said))
    }

    fn fail(&self, why: &str) -> Error {
        Error::new(ErrorKind::Program, format!("use the credential helper {}", self.program))
            .because(why)
    }

    /// Runs the helper; gives whether it succeeded, and its answer. One that failed without an answer
    /// is taken at what it wrote to its standard error.
    async fn run(&self, verb: &str, input: &[u8]) -> Result<(bool, Vec<u8>)> {
        let child = Command::new(&self.program)
            .arg(verb)
            .env_clear()
            .envs(self.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| self.not_started(&error))?;
        match tokio::time::timeout(LONGEST_WAIT, talk(child, input)).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(self.fail(&error.to_string())),
            Err(_) => Err(self.fail("it did not answer within 30 seconds")),
        }
    }

    fn not_started(&self, error: &io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::NotFound => self.fail("there is no such program in PATH"),
            _ => self.fail(&error.to_string()),
        }
    }
}

async fn talk(mut child: Child, input: &[u8]) -> io::Result<(bool, Vec<u8>)> {
    let mut stdin = child.stdin.take().expect("it is piped");
    let stdout = child.stdout.take().expect("it is piped");
    let stderr = child.stderr.take().expect("it is piped");
    let (mut answer, mut complaint) = (Vec::new(), Vec::new());
    let write = async {
        // A helper that does not read its input may be done already.
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let (mut stdout, mut stderr) = (stdout.take(LONGEST_ANSWER), stderr.take(LONGEST_ANSWER));
    let reading = (stdout.read_to_end(&mut answer), stderr.read_to_end(&mut complaint));
    let ((), read, _) = tokio::join!(write, reading.0, reading.1);
    read?;
    drop((stdout, stderr));
    let status = child.wait().await?;
    if !status.success() && answer.trim_ascii().is_empty() {
        answer = complaint;
    }
    Ok((status.success(), answer))
}

/// What a helper that failed has to say.
fn said(answer: &[u8]) -> String {
    match String::from_utf8_lossy(answer).trim() {
        "" => "it failed and does not say why".to_owned(),
        text => shortened(text),
    }
}
