//! The one error type: what was being done, to what, why it failed, and the next move.

mod nearest;
mod system;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

pub use self::nearest::nearest;
use crate::secret;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure an [`Error`] is. Callers branch on it; people read the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The command line, a configuration file or a name is wrong. Exit code 2.
    Usage,
    /// A named thing does not exist: an image, a tag, a package, a file.
    NotFound,
    /// Credentials are missing, wrong or not sufficient.
    Denied,
    /// Bytes from outside do not have the form that their format demands.
    Invalid,
    /// Bytes do not have the digest or size that names them.
    Corrupt,
    /// A file is not what it was when the work with it began.
    Changed,
    /// The operating system refused: a file, a pipe, a child process.
    Io,
    /// A host could not be reached, or it stopped answering.
    Network,
    /// A child process such as `go` ended with a failure of its own.
    Program,
    /// A program of a build's step ended with this exit code.
    Exited(u8),
    /// What was asked for exists in the format but not in gondola or on this machine.
    Unsupported,
    /// Ctrl-C or SIGTERM. Exit code 130.
    Interrupted,
}

/// A failure, in the form `cannot <action>: <cause>; hint: <hint>`.
///
/// Messages are lower case, have no final period and never hold a credential. They are plain text:
/// see [`printable`].
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    action: String,
    cause: Option<Cause>,
    hint: Option<String>,
}

enum Cause {
    Reason(String),
    Source(Box<dyn StdError + Send + Sync>),
}

impl Error {
    /// Makes an error whose action completes the sentence "cannot …".
    pub fn new(kind: ErrorKind, action: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, action: action.into(), cause: None, hint: None }))
    }

    /// Says why in words: what was found, and what was expected.
    #[must_use]
    pub fn because(mut self, reason: impl fmt::Display) -> Self {
        self.0.cause = Some(Cause::Reason(reason.to_string()));
        self
    }

    /// Keeps the error underneath as the reason and as [`StdError::source`].
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(Cause::Source(source.into()));
        self
    }

    /// Names the next move, as a command where there is one.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The sort of failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The system's number for what went wrong, where the system refused something. The message leaves
    /// it out, for it says nothing to people.
    pub fn os_error(&self) -> Option<i32> {
        match &self.0.cause {
            None => None,
            Some(Cause::Reason(reason)) => system::number(reason),
            Some(Cause::Source(source)) => {
                let mut next: Option<&(dyn StdError + 'static)> = Some(source.as_ref());
                while let Some(error) = next {
                    let found = match error.downcast_ref::<Error>() {
                        Some(inner) => return inner.os_error(),
                        None => system::number(&error.to_string()),
                    };
                    if found.is_some() {
                        return found;
                    }
                    next = error.source();
                }
                None
            }
        }
    }

    /// What failed and why, without the next move.
    pub fn message(&self) -> String {
        struct Message<'a>(&'a Error);
        impl fmt::Display for Message<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.write_without_hint(f)
            }
        }
        printable(&secret::users(&Message(self).to_string())).into_owned()
    }

    /// The next move: the innermost hint, which is the most specific one.
    pub fn next_move(&self) -> Option<&str> {
        if let Some(Cause::Source(source)) = &self.0.cause
            && let Some(inner) = source.downcast_ref::<Error>()
            && let Some(hint) = inner.next_move()
        {
            return Some(hint);
        }
        self.0.hint.as_deref()
    }

    fn write_without_hint(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.0.action)?;
        match &self.0.cause {
            None => Ok(()),
            Some(Cause::Reason(reason)) if reason.starts_with('\n') => write!(f, ":{reason}"),
            Some(Cause::Reason(reason)) => write!(f, ": {}", system::words(reason, &self.0.action)),
            Some(Cause::Source(source)) => match source.downcast_ref::<Error>() {
                Some(inner) => {
                    f.write_str(": ")?;
                    inner.write_without_hint(f)
                }
                None => write_chain(f, source.as_ref(), &self.0.action),
            },
        }
    }
}

/// Writes a foreign error and its sources, leaving out a source that its parent already quotes.
fn write_chain(
    f: &mut fmt::Formatter<'_>,
    error: &(dyn StdError + 'static),
    action: &str,
) -> fmt::Result {
    let mut said = error.to_string();
    write!(f, ": {}", system::words(&said, action))?;
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        if !said.contains(&text) {
            write!(f, ": {}", system::words(&text, action))?;
        }
        said = text;
        next = source.source();
    }
    Ok(())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.message();
        f.write_str(&message)?;
        match self.next_move() {
            // What a program wrote, or a piece of a file, ends where it ends.
            Some(hint) if message.contains('\n') => {
                write!(f, "\nhint: {}", printable(&secret::users(hint)))
            }
            Some(hint) => write!(f, "; hint: {}", printable(&secret::users(hint))),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.cause {
            Some(Cause::Source(source)) => Some(source.as_ref()),
            _ => None,
        }
    }
}

/// A text with its control characters escaped, but for tabs and ends of lines.
///
/// Names, files and answers of others get into messages. None of them may steer the terminal, or make a
/// line look like another one.
pub fn printable(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && !matches!(c, '\t' | '\n');
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if steers(c) { plain.extend(c.escape_debug()) } else { plain.push(c) }
    }
    Cow::Owned(plain)
}

/// Adds the action to a foreign error: `file.read(..).cannot(|| format!("read {path}"))?`.
pub trait Cannot<T> {
    /// Wraps the error, if any, as the cause of "cannot `action`".
    ///
    /// An [`Error`] underneath keeps its kind, also inside of an [`std::io::Error`]; any other error
    /// becomes [`ErrorKind::Io`].
    fn cannot<S: Into<String>>(self, action: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E> Cannot<T> for std::result::Result<T, E>
where
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    fn cannot<S: Into<String>>(self, action: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| {
            let source = unwrapped(error.into());
            let kind = source.downcast_ref::<Error>().map_or(ErrorKind::Io, Error::kind);
            Error::new(kind, action()).caused_by(source)
        })
    }
}

/// Takes an [`Error`] out of the I/O error in which it travelled through a reader.
fn unwrapped(source: Box<dyn StdError + Send + Sync>) -> Box<dyn StdError + Send + Sync> {
    let is_ours = |error: &std::io::Error| {
        error.get_ref().is_some_and(<dyn StdError + Send + Sync>::is::<Error>)
    };
    match source.downcast::<std::io::Error>() {
        Ok(error) if is_ours(&error) => error.into_inner().expect("it was just looked at"),
        Ok(error) => error,
        Err(source) => source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn an_error_that_went_through_a_reader_keeps_its_kind() {
        let inner = Error::new(ErrorKind::Changed, "read a").because("it changed");
        let error = Err::<(), _>(io::Error::other(inner)).cannot(|| "pack").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Changed);
        assert_eq!(error.to_string(), "cannot pack: cannot read a: it changed");
    }

    #[test]
    fn a_message_names_the_action_the_reason_and_the_next_move() {
        let error = Error::new(ErrorKind::Denied, "push ghcr.io/a/b:v1")
            .because("the registry answered 403 DENIED")
            .hint("gondola login ghcr.io");
        assert_eq!(
            error.to_string(),
            "cannot push ghcr.io/a/b:v1: the registry answered 403 DENIED; hint: gondola login ghcr.io"
        );
    }

    #[test]
    fn nothing_in_a_message_steers_the_terminal() {
        let error = Error::new(ErrorKind::Invalid, "read a\x1b]0;title\x07\tb\nc")
            .caused_by(io::Error::other("answer \u{9b}2J\r"))
            .hint("see \x1b[1m");
        assert_eq!(
            error.to_string(),
            "cannot read a\\u{1b}]0;title\\u{7}\tb\nc: answer \\u{9b}2J\\r\nhint: see \\u{1b}[1m"
        );
        assert_eq!(printable("plain ä\t\n"), "plain ä\t\n");
    }

    #[test]
    fn the_kind_and_hint_of_the_innermost_error_win() {
        let inner = Error::new(ErrorKind::Corrupt, "read blob").because("short").hint("prune");
        let outer = Err::<(), _>(inner).cannot(|| "push app").unwrap_err().hint("try again");
        assert_eq!(outer.kind(), ErrorKind::Corrupt);
        assert_eq!(outer.to_string(), "cannot push app: cannot read blob: short; hint: prune");
    }

    #[test]
    fn an_error_of_the_system_is_said_in_its_words_and_keeps_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let shown = path.display();
        let absent = || fs_err::read(&path);
        let error = absent().cannot(|| "use the settings").unwrap_err();
        let expected = format!("cannot use the settings: {shown}: No such file or directory");
        assert_eq!((error.to_string(), error.os_error()), (expected, Some(2)));
        let error = absent().cannot(|| format!("read {shown}")).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot read {shown}: No such file or directory"));
        let outer = Err::<(), _>(error).cannot(|| "build").unwrap_err();
        assert_eq!(outer.os_error(), Some(2));
        let temporary = tempfile::Builder::new().tempfile_in(&path).map(drop);
        let error = temporary.cannot(|| "keep it").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot keep it: {shown}: No such file or directory")
        );
        let reason = Error::new(ErrorKind::Io, "read").because(absent().unwrap_err());
        assert_eq!(reason.to_string(), format!("cannot read: {shown}: No such file or directory"));
        assert_eq!(reason.os_error(), Some(2));
    }

    #[test]
    fn a_foreign_error_keeps_its_text() {
        let io = Err::<(), _>(io::Error::other("disk on fire"));
        let error = io.cannot(|| "write x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.to_string(), "cannot write x: disk on fire");
    }
}
