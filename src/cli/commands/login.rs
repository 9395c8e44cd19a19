//! `gondola login`.

use super::Runs;
use crate::sandbox::Isolation;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::process::ExitCode;

use clap::Args;
use clap::builder::{StringValueParser, TypedValueParser};

use crate::cli::session::Session;
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::oci::docker_hub;
use crate::registry::login::{self, StoredIn};
use crate::registry::{Login, Secret};

/// The longest password or token that is read.
const LONGEST_PASSWORD: u64 = 64 << 10;

/// Arguments of `gondola login`.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// Registry to log in to
    #[arg(default_value = docker_hub::NAME)]
    registry: String,
    /// User name
    #[arg(short, long)]
    username: Option<String>,
    /// Password or token; other users may see it in the list of processes, so prefer --password-stdin
    #[arg(short, long, conflicts_with = "password_stdin", value_parser = secret())]
    password: Option<Secret>,
    /// Read the password or token from stdin
    #[arg(long)]
    password_stdin: bool,
}

impl Runs for LoginArgs {
    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        session.wait(run(session, *self))
    }
}

async fn run(session: &Session, args: LoginArgs) -> Result<()> {
    let username = match args.username {
        Some(name) => name,
        None if args.password_stdin => {
            return Err(cannot_ask("--username", "stdin holds the password alone"));
        }
        None => ask("Username: ", "--username", Echo::On)?,
    };
    if let Some(odd) = username.chars().find(|letter| *letter == ':' || letter.is_control()) {
        return Err(Error::new(ErrorKind::Usage, format!("log in as {}", username.escape_debug()))
            .because(format!("no registry takes a user name with {odd:?}")));
    }
    let password = match args.password {
        Some(password) => password,
        None if args.password_stdin => read_password()?,
        None => Secret::new(ask("Password: ", "--password-stdin", Echo::Off)?),
    };
    let registry = login::registry_name(&args.registry)?;
    let login = Login::new(username, password);
    login::verify(&session.registry_options()?, &registry, &login).await?;
    let kept = login::store(&session.environment.variables, &registry, &login).await?;
    session.reporter.note(match kept {
        StoredIn::File(path) => {
            format!(
                "logged in to {registry}; the credentials are in {}, not encrypted",
                path.display()
            )
        }
        StoredIn::Helper(name) => format!("logged in to {registry}; {name} keeps the credentials"),
    });
    Ok(())
}

fn secret() -> impl TypedValueParser<Value = Secret> {
    StringValueParser::new().map(Secret::new)
}

/// Reads everything on stdin, without the last line's end.
fn read_password() -> Result<Secret> {
    let mut text = String::new();
    let mut stdin = std::io::stdin().lock().take(LONGEST_PASSWORD);
    stdin.read_to_string(&mut text).cannot(|| "read the password from stdin")?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "log in").because("stdin held no password"));
    }
    Ok(Secret::new(text))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    On,
    Off,
}

/// What is said where a flag is missing, and nobody can be asked for what it says.
fn cannot_ask(flag: &str, why: &str) -> Error {
    Error::new(ErrorKind::Usage, "log in")
        .because(format!("{flag} is missing, and {why}"))
        .hint("gondola login --username NAME --password-stdin REGISTRY < FILE")
}

/// Asks on the terminal for what a flag would have said.
fn ask(prompt: &str, flag: &str, echo: Echo) -> Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(cannot_ask(flag, "stdin is no terminal to ask on"));
    }
    let mut stderr = std::io::stderr().lock();
    stderr
        .write_all(prompt.as_bytes())
        .and_then(|()| stderr.flush())
        .cannot(|| "ask on the terminal")?;
    let silence = (echo == Echo::Off).then(|| Silence::begin(&stdin)).transpose()?;
    let mut line = String::new();
    stdin.lock().take(LONGEST_PASSWORD).read_line(&mut line).cannot(|| "read the answer")?;
    if silence.is_some() {
        // The line end that was typed was not shown.
        let _ = stderr.write_all(b"\n");
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silence<'a> {
    terminal: &'a std::io::Stdin,
    before: rustix::termios::Termios,
}

impl<'a> Silence<'a> {
    fn begin(terminal: &'a std::io::Stdin) -> Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(terminal).cannot(|| "silence the terminal")?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Now, &silent).cannot(|| "silence the terminal")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        let now = rustix::termios::OptionalActions::Now;
        // Nothing can be done about a terminal that went away.
        let _ = rustix::termios::tcsetattr(self.terminal, now, &self.before);
    }
}
