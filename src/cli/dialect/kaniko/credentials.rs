//! Where kaniko looks for credentials, beside docker's files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{KanikoArgs, usage};
use crate::cli::environment::Environment;
use crate::error::Result;
use crate::registry::Credentials;

/// What the names of kaniko's own variables begin with.
const PREFIX: &str = "KANIKO";
/// The folder of kaniko's image.
const KANIKO_DIR: &str = "/kaniko";
/// Variables of GitLab's jobs that hold credentials.
const OF_GITLAB: [&str; 2] = ["CI_REGISTRY", "CI_DEPENDENCY_PROXY_SERVER"];

/// A value of `--credential-helpers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Helper {
    /// Variables with the registry's name in theirs.
    Env,
    /// Google's, by a program.
    Google,
    /// Amazon's, by a program.
    Ecr,
    /// Azure's, by a program.
    Acr,
    /// The variables of GitLab's jobs.
    Gitlab,
}

impl Helper {
    const ALL: [(&str, Self); 5] = [
        ("env", Self::Env),
        ("google", Self::Google),
        ("ecr", Self::Ecr),
        ("acr", Self::Acr),
        ("gitlab", Self::Gitlab),
    ];

    /// The program `docker-credential-NAME` that kaniko has built in, and the domains that it is for.
    fn program(self) -> Option<(&'static str, &'static [&'static str])> {
        match self {
            Self::Google => Some(("gcr", &["gcr.io", "pkg.dev"])),
            Self::Ecr => {
                Some(("ecr-login", &["amazonaws.com", "amazonaws.com.cn", "public.ecr.aws"]))
            }
            Self::Acr => Some(("acr-env", &["azurecr.io"])),
            Self::Env | Self::Gitlab => None,
        }
    }
}

/// Where credentials are looked for, beside docker's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialPlaces {
    /// The helpers that are asked.
    pub helpers: BTreeSet<Helper>,
    /// Docker's folder in that of kaniko, where it takes the place of the usual one.
    pub docker_folder: Option<PathBuf>,
}

impl CredentialPlaces {
    /// The credentials that are found there.
    pub fn credentials(&self, variables: &BTreeMap<String, String>) -> Credentials {
        let mut variables = variables.clone();
        if let Some(folder) = &self.docker_folder {
            variables.insert("DOCKER_CONFIG".to_owned(), folder.display().to_string());
        }
        if !self.helpers.contains(&Helper::Gitlab) {
            variables.retain(|name, _| !OF_GITLAB.contains(&name.as_str()));
        }
        let mut credentials = Credentials::from_environment(&variables);
        if self.helpers.contains(&Helper::Env) {
            credentials = credentials.with_variables(PREFIX);
        }
        for (name, domains) in self.helpers.iter().filter_map(|helper| helper.program()) {
            credentials = credentials.with_helper(name, domains);
        }
        credentials
    }
}

/// Says where to look: kaniko asks all helpers unless some are named, and none where an empty name is.
pub(super) fn translate(args: &KanikoArgs, environment: &Environment) -> Result<CredentialPlaces> {
    let variables = &environment.variables;
    let mut helpers = BTreeSet::new();
    for name in args.credential_helpers.iter().filter(|name| !name.is_empty()) {
        let Some((_, helper)) = Helper::ALL.iter().find(|(known, _)| known == name) else {
            let action = format!("use --credential-helpers {}", name.escape_debug());
            return Err(usage(action, "there is no such helper")
                .hint("expected env, google, ecr, acr or gitlab"));
        };
        if let Some((program, domains)) = helper.program()
            && !is_there(program, variables)
        {
            let why = format!("there is no program docker-credential-{program} on PATH");
            let hint = format!(
                "install it, or gondola login REGISTRY (in {}), or leave it out",
                domains.join(", ")
            );
            return Err(usage(format!("use --credential-helpers {name}"), why).hint(hint));
        }
        helpers.insert(*helper);
    }
    if args.credential_helpers.is_empty() {
        let works = |helper: &Helper| {
            helper.program().is_none_or(|(program, _)| is_there(program, variables))
        };
        helpers = Helper::ALL.into_iter().map(|(_, helper)| helper).filter(works).collect();
    }
    Ok(CredentialPlaces { helpers, docker_folder: docker_folder(args, environment) })
}

/// As kaniko's image has it, `.docker` in its folder is docker's, unless `DOCKER_CONFIG` says otherwise.
fn docker_folder(args: &KanikoArgs, environment: &Environment) -> Option<PathBuf> {
    let set = |name: &str| environment.get(name);
    let typed = args.kaniko_dir.as_deref().filter(|folder| !folder.is_empty());
    if typed.is_none() && set("DOCKER_CONFIG").is_some() {
        return None;
    }
    let folder = typed.or_else(|| set("KANIKO_DIR")).unwrap_or(KANIKO_DIR);
    let folder = environment.resolve(folder).join(".docker");
    folder.join("config.json").is_file().then_some(folder)
}

fn is_there(program: &str, variables: &BTreeMap<String, String>) -> bool {
    let path = variables.get("PATH").map_or("", String::as_str);
    let name = format!("docker-credential-{program}");
    std::env::split_paths(path).any(|folder| folder.join(&name).is_file())
}
