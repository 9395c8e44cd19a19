//! `--secret`: what steps may mount and nothing keeps.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::refuse;
use crate::cli::environment::Environment;
use crate::disk;
use crate::dockerfile::convert::SecretSource;
use crate::error::{Cannot as _, Error, Result};
use crate::literal;
use crate::progress::Reporter;

/// A secret as it is typed.
#[derive(Debug, PartialEq, Eq)]
struct Typed {
    id: String,
    source: SecretSource,
    /// The file that was named, even where a variable wins over it.
    file: Option<PathBuf>,
    /// The variable that was named and is not set.
    unset: Option<String>,
}

/// Reads all secrets of a command line, by their ids. As in docker, a file that cannot be read is an error
/// even where no step asks for it, and a variable that is not set is an empty secret, which is said.
pub fn all(
    environment: &Environment,
    reporter: &Reporter,
    texts: &[String],
) -> Result<BTreeMap<String, SecretSource>> {
    let mut all = BTreeMap::new();
    for text in texts {
        let Typed { id, source, file, unset } = parse(environment, text)?;
        if let Some(file) = &file {
            let action = || format!("use --secret id={id},src={}", file.display());
            disk::check_named(file, SecretSource::LONGEST).cannot(action)?;
        }
        if let Some(name) = unset {
            reporter.warn(format!("the secret {id} is empty: the variable {name} is not set"));
        }
        all.insert(id, source);
    }
    Ok(all)
}

/// Reads `id=NAME[,type=file|env][,src=FILE][,env=VARIABLE]`.
///
/// As in docker, a variable that is named wins over a file, `type=env` makes the source a variable, and
/// an id alone stands for the variable of that name where it is set, else for the file.
fn parse(environment: &Environment, text: &str) -> Result<Typed> {
    let (mut id, mut file, mut variable, mut is_variable) = (None, None, None, false);
    for field in literal::fields(text).ok_or_else(|| wrong("its quotes do not match"))? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(wrong("a part of it is no KEY=VALUE"));
        };
        match (key.to_ascii_lowercase().as_str(), value) {
            ("id", value) => id = Some(value.to_owned()),
            ("src" | "source", value) => file = Some(value.to_owned()),
            ("env", value) => variable = Some(value.to_owned()),
            ("type", "file") => is_variable = false,
            ("type", "env") => is_variable = true,
            ("type", _) => return Err(wrong("its type is neither file nor env")),
            (key, _) => return Err(wrong(&format!("{} is none of its keys", key.escape_debug()))),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| wrong("it has no id"))?;
    if is_variable && variable.is_none() {
        variable = Some(file.take().unwrap_or_else(|| id.clone()));
    }
    if file.is_none() && variable.is_none() {
        if environment.variables.contains_key(&id) {
            variable = Some(id.clone());
        } else {
            file = Some(id.clone());
        }
    }
    let file = file.map(|file| environment.resolve(file));
    let (source, unset) = match (variable, &file) {
        (Some(name), _) => match environment.variables.get(&name) {
            Some(value) => (SecretSource::Value(value.clone()), None),
            None => (SecretSource::Value(String::new()), Some(name)),
        },
        (None, Some(file)) => (SecretSource::File(file.clone()), None),
        (None, None) => return Err(wrong("it has no source")),
    };
    Ok(Typed { id, source, file, unset })
}

fn wrong(why: &str) -> Error {
    refuse("--secret", why).hint("write id=NAME,src=FILE or id=NAME,env=VARIABLE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_as_docker_reads_them() {
        let environment = Environment::with(&[("TOKEN", "t"), ("other", "o")]);
        let file = |path: &str| SecretSource::File(path.into());
        let value = |text: &str| SecretSource::Value(text.to_owned());
        for (text, id, expected) in [
            ("id=a", "a", file("/work/a")),
            ("id=TOKEN", "TOKEN", value("t")),
            ("id=a,src=x", "a", file("/work/x")),
            ("ID=a,Source=/x", "a", file("/x")),
            ("id=TOKEN,src=/x", "TOKEN", file("/x")),
            ("id=TOKEN,type=file,src=/x", "TOKEN", file("/x")),
            ("id=a,env=TOKEN", "a", value("t")),
            ("id=a,src=/x,env=TOKEN", "a", value("t")),
            ("type=env,id=a,src=TOKEN", "a", value("t")),
            ("id=other,type=env", "other", value("o")),
            ("id=a,\"src=/x,y\"", "a", file("/x,y")),
        ] {
            let found = parse(&environment, text).unwrap();
            assert_eq!((found.id.as_str(), found.source), (id, expected), "{text}");
            assert_eq!(found.unset, None, "{text}");
        }
        for (text, why) in [
            ("src=/x", "it has no id"),
            ("id=", "it has no id"),
            ("id=a,type=url", "its type is neither file nor env"),
            ("id=a,x", "a part of it is no KEY=VALUE"),
            ("a", "a part of it is no KEY=VALUE"),
            ("id=a,x=y", "x is none of its keys"),
            ("id=a,\"src=x", "its quotes do not match"),
        ] {
            let error = parse(&environment, text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("cannot use --secret: {why}; hint: ")), "{error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_at_once_and_a_variable_that_is_not_set_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs_err::write(path("secret"), "s").unwrap();
        fs_err::write(path("long"), vec![0; 500 * 1024 + 1]).unwrap();
        let environment = Environment::with(&[("TOKEN", "t")]);
        let read = |text: &str| all(&environment, &Reporter::silent(), &[text.to_owned()]);
        for (name, why) in [
            ("nowhere", "No such file or directory"),
            ("", "it is a folder, expected a file"),
            ("long", "it has 512001 bytes, at most 512000 are taken"),
        ] {
            for more in ["", ",env=TOKEN"] {
                let error = read(&format!("id=a,src={}{more}", path(name))).unwrap_err();
                let expected = format!("cannot use --secret id=a,src={}: {why}", path(name));
                assert_eq!(error.to_string(), expected);
                assert_ne!(error.kind(), crate::error::ErrorKind::Usage, "{error}");
            }
        }
        let file = SecretSource::File(path("secret").into());
        assert_eq!(read(&format!("id=a,src={}", path("secret"))).unwrap()["a"], file);
        let empty = SecretSource::Value(String::new());
        for text in ["id=a,env=NONE", "id=a,type=env"] {
            assert_eq!(read(text).unwrap()["a"], empty, "{text}");
            assert!(parse(&environment, text).unwrap().unset.is_some(), "{text}");
        }
    }
}
