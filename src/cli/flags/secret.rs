//! `--secret`: what steps may mount and nothing keeps.

use super::{fields, refuse};
use crate::cli::environment::Environment;
use crate::dockerfile::convert::SecretSource;
use crate::error::{Error, Result};

/// Reads `id=NAME[,type=file|env][,src=FILE][,env=VARIABLE]`.
///
/// As in docker, a variable that is named wins over a file, `type=env` makes the source a variable, and
/// an id alone stands for the variable of that name where it is set, else for the file.
pub fn parse(environment: &Environment, text: &str) -> Result<(String, SecretSource)> {
    let (mut id, mut file, mut variable, mut is_variable) = (None, None, None, false);
    for field in fields(text).ok_or_else(|| wrong("its quotes do not match"))? {
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
    if file.is_none() && variable.is_none() && environment.variables.contains_key(&id) {
        variable = Some(id.clone());
    }
    let source = match variable {
        Some(name) => {
            let value = environment.variables.get(&name);
            let value = value.ok_or_else(|| wrong(&format!("the variable {name} is not set")))?;
            SecretSource::Value(value.clone())
        }
        None => SecretSource::File(environment.resolve(file.unwrap_or_else(|| id.clone()))),
    };
    Ok((id, source))
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
            assert_eq!(parse(&environment, text).unwrap(), (id.to_owned(), expected), "{text}");
        }
        for (text, why) in [
            ("src=/x", "it has no id"),
            ("id=", "it has no id"),
            ("id=a,type=url", "its type is neither file nor env"),
            ("id=a,x", "a part of it is no KEY=VALUE"),
            ("a", "a part of it is no KEY=VALUE"),
            ("id=a,x=y", "x is none of its keys"),
            ("id=a,\"src=x", "its quotes do not match"),
            ("id=a,env=NONE", "the variable NONE is not set"),
            ("id=a,type=env", "the variable a is not set"),
        ] {
            let error = parse(&environment, text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("cannot use --secret: {why}; hint: ")), "{error}");
        }
    }
}
