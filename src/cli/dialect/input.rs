//! What dialects read in the same way: standard input, the time, and which flags cannot be together.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use crate::cli::environment::{Environment, parse_epoch};
use crate::cli::session::Session;
use crate::dockerfile::convert::{ContextSource, FileSource};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::store::CacheScope;

/// What may be in front of an archive's or a Dockerfile's bytes on standard input at most.
const LONGEST_INPUT: u64 = 16 << 30;

/// A Dockerfile that is named is one of the context where that is no folder.
pub fn in_context(file: Option<&Path>) -> Result<FileSource> {
    let Some(path) = file else { return Ok(FileSource::InContext(String::new())) };
    if path == Path::new("-") {
        return Ok(FileSource::Text(read_stdin()?));
    }
    Ok(FileSource::InContext(path.display().to_string()))
}

/// An archive is the context; anything else is the Dockerfile, without a context.
pub fn context_of_stdin(
    session: &Session,
    file: Option<&Path>,
) -> Result<(ContextSource, FileSource)> {
    let bytes = read_stdin()?;
    let packed = crate::layer::detect(&bytes) != crate::oci::Compression::None
        || bytes.starts_with(b"BZh")
        || bytes.starts_with(b"\xfd7zXZ");
    let is_archive = packed || bytes.get(257..262) == Some(b"ustar");
    if !is_archive {
        return Ok((ContextSource::Empty, FileSource::Text(bytes)));
    }
    let store = session.store()?;
    let digest = store.put(&bytes)?;
    let (file_there, name) = (store.blob_path(&digest), "standard input".to_owned());
    let context = ContextSource::Archive { file: file_there, name, folder: None };
    Ok((context, in_context(file)?))
}

/// Whose caches a build uses: those of the scope that was typed as `--cache-scope`, or of none where
/// nothing is shared.
pub fn cache_scope(
    environment: &Environment,
    typed: Option<&str>,
    are_shared: bool,
) -> Result<Option<CacheScope>> {
    match typed {
        _ if are_shared => environment.cache_scope(typed),
        None => Ok(None),
        Some(_) => Err(Error::new(ErrorKind::Usage, "use --cache-scope with --no-shared-caches")
            .because("no caches are shared then")
            .hint("leave one of them out")),
    }
}

/// Refuses what is nothing without a network, of flags and whether each asks for one; `instead` is the
/// next move.
pub fn refuse_offline(session: &Session, asked: &[(&str, bool)], instead: &str) -> Result<()> {
    let flag = asked.iter().find(|(_, is_asked)| session.global.offline && *is_asked);
    let Some((flag, _)) = flag else { return Ok(()) };
    Err(Error::new(ErrorKind::Usage, format!("use {flag} with --offline"))
        .because("registries are not asked")
        .hint(instead))
}

/// Reads all of standard input.
pub fn read_stdin() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let stdin = std::io::stdin().lock();
    stdin.take(LONGEST_INPUT).read_to_end(&mut bytes).cannot(|| "read standard input")?;
    Ok(bytes)
}

/// Adds the time of the environment.
pub fn with_epoch(
    session: &Session,
    mut arguments: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    if let Some(value) = session.environment.get(NAME) {
        arguments.insert(NAME.to_owned(), value.to_owned());
    }
    arguments
}

/// The time that everything gets: the argument `SOURCE_DATE_EPOCH`, which is the environment's where
/// none was typed. An empty one asks for none.
pub fn epoch(arguments: &BTreeMap<String, String>) -> Result<Option<i64>> {
    let text = arguments.get("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty());
    text.map(|text| parse_epoch(text)).transpose()
}

/// The present, in seconds since 1970.
pub fn now(environment: &Environment) -> i64 {
    let now = environment.now.duration_since(std::time::UNIX_EPOCH);
    now.ok().and_then(|time| i64::try_from(time.as_secs()).ok()).unwrap_or_default()
}
