//! `--ssh`: agents that steps may ask for signatures.

use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;

use super::refuse;
use crate::cli::environment::Environment;
use crate::error::{Cannot as _, Error, ErrorKind, Result};

/// Reads `NAME[=SOCKET]`; without a socket it is that of `SSH_AUTH_SOCK`.
pub fn parse(environment: &Environment, text: &str) -> Result<(String, PathBuf)> {
    let (name, socket) = match text.split_once('=') {
        Some((name, socket)) => (name, Some(socket)),
        None => (text, None),
    };
    let wrong = |why: &str| refuse(&format!("--ssh {text}"), why);
    if name.is_empty() {
        return Err(wrong("expected NAME or NAME=SOCKET, such as default"));
    }
    let of_environment = || environment.get("SSH_AUTH_SOCK");
    let socket = socket.filter(|socket| !socket.is_empty()).or_else(of_environment);
    let path = environment
        .resolve(socket.ok_or_else(|| wrong("SSH_AUTH_SOCK is not set: no agent runs"))?);
    let action = || format!("use --ssh {name}={}", path.display());
    let found = fs_err::metadata(&path).cannot(action)?;
    if !found.file_type().is_socket() {
        return Err(Error::new(ErrorKind::Io, action())
            .because("it is no socket")
            .hint("add the key to an agent with ssh-add"));
    }
    Ok((name.to_owned(), path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn an_agent_is_a_socket_or_that_of_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        let _listeners = [&one, &other].map(|path| UnixListener::bind(path).unwrap());
        let environment = Environment::with(&[("SSH_AUTH_SOCK", one.to_str().unwrap())]);
        let named = format!("git={}", other.display());
        for (text, name, socket) in
            [("default", "default", &one), ("git=", "git", &one), (&named, "git", &other)]
        {
            let found = parse(&environment, text).unwrap();
            assert_eq!(found, (name.to_owned(), socket.clone()), "{text}");
        }
        let nothing = Environment::with(&[]);
        for (environment, text, why) in [
            (&nothing, "default", "no agent runs"),
            (&environment, "git=/dev/null", "cannot use --ssh git=/dev/null: it is no socket"),
            (&environment, "git=/no/x", "cannot use --ssh git=/no/x: No such file or directory"),
            (&environment, "", "expected NAME"),
            (&environment, "=/x", "expected NAME"),
        ] {
            let error = parse(environment, text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
