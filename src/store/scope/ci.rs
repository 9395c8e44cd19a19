//! What CIs say of the repository and the ref that they build.
//!
//! | CI | repository | ref | protected | default branch | a proposal |
//! |---|---|---|---|---|---|
//! | GitHub, Forgejo | `GITHUB_REPOSITORY` | `GITHUB_REF` | `GITHUB_REF_PROTECTED` | `GITHUB_BASE_REF` of a proposal | `GITHUB_EVENT_NAME` |
//! | GitLab | `CI_PROJECT_PATH` | `CI_COMMIT_REF_NAME` | `CI_COMMIT_REF_PROTECTED` | `CI_DEFAULT_BRANCH` | `CI_PIPELINE_SOURCE` |
//! | Woodpecker | `CI_REPO` | `CI_COMMIT_REF` | – | `CI_REPO_DEFAULT_BRANCH` | `CI_PIPELINE_EVENT` |
//! | Drone | `DRONE_REPO` | `DRONE_COMMIT_REF` | – | `DRONE_REPO_BRANCH` | `DRONE_BUILD_EVENT` |
//! | Azure Pipelines | `BUILD_REPOSITORY_URI` | `BUILD_SOURCEBRANCH` | – | the target of a proposal | `SYSTEM_PULLREQUEST_PULLREQUESTID` |
//! | Bitbucket | `BITBUCKET_REPO_FULL_NAME` | `BITBUCKET_BRANCH` | – | the target of a proposal | `BITBUCKET_PR_ID` |
//! | Buildkite | `BUILDKITE_REPO` | `BUILDKITE_BRANCH` | – | `BUILDKITE_PIPELINE_DEFAULT_BRANCH` | `BUILDKITE_PULL_REQUEST` |
//! | CircleCI | `CIRCLE_PROJECT_USERNAME`/`…REPONAME` | `CIRCLE_BRANCH` | – | – | `CIRCLE_PULL_REQUEST`, `CIRCLE_PR_NUMBER` |
//! | Travis | `TRAVIS_REPO_SLUG` | `TRAVIS_BRANCH` | – | the target of a proposal | `TRAVIS_PULL_REQUEST` |
//! | Jenkins, multibranch | `JOB_NAME` without the branch | `BRANCH_NAME` | – | `BRANCH_IS_PRIMARY` | `CHANGE_ID` |
//!
//! Where a CI calls a proposal by the branch that it comes from, which may have the name of a protected
//! one, its number is the ref. Events that run with the rights of a branch on behalf of anybody, as
//! GitHub's `pull_request_target` and `issue_comment` do, have caches that end with the build. Tekton and
//! others name nothing: there `--cache-scope` does.

use std::collections::BTreeMap;

use super::{CacheScope, ScopeName};

/// Events of GitHub that concern what is in the repository.
const OWN_EVENTS: [&str; 8] = [
    "push",
    "schedule",
    "workflow_dispatch",
    "repository_dispatch",
    "release",
    "create",
    "deployment",
    "merge_group",
];

/// What is built, as a CI says it.
#[derive(Default)]
struct Ref<'a> {
    ci: &'static str,
    /// Where the repository is, if there can be several of this name.
    server: &'a str,
    repository: &'a str,
    /// A branch, a tag or the number of a proposal.
    reference: String,
    is_proposal: bool,
    /// Whether it is protected, where the CI says that.
    protected: Option<bool>,
    /// The branch that everybody works towards, in the form of `reference`.
    default: Option<String>,
}

impl Ref<'_> {
    fn named(&self, reference: &str, protected: Option<bool>) -> ScopeName {
        let protection = match protected {
            Some(true) => "protected",
            Some(false) => "not protected",
            None => "",
        };
        let parts = ["ci", self.ci, self.server, self.repository, reference, protection];
        ScopeName::of_texts(&parts)
    }

    fn scope(&self) -> CacheScope {
        if self.repository.is_empty() || self.reference.is_empty() {
            return CacheScope { is_proposal: true, ..CacheScope::of_this_build() };
        }
        let shown = format!("{} {}", self.repository, self.reference);
        let own = CacheScope::own(self.named(&self.reference, self.protected), shown);
        let is_default = self.default.as_ref() == Some(&self.reference);
        if !self.is_proposal && (is_default || self.protected == Some(true)) {
            return own;
        }
        let below = match (&self.default, self.protected) {
            (None, _) => Vec::new(),
            (Some(default), None) => vec![self.named(default, None)],
            // A branch that nobody protects is all that there is in many repositories.
            (Some(default), Some(_)) => {
                [true, false].map(|protected| self.named(default, Some(protected))).to_vec()
            }
        };
        CacheScope { below, is_proposal: self.is_proposal, ..own }
    }
}

/// Variables of a CI.
#[derive(Clone, Copy)]
struct Variables<'a>(&'a BTreeMap<String, String>);

impl<'a> Variables<'a> {
    /// The value of a variable; empty where it is not set.
    fn get(self, name: &str) -> &'a str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn has(self, name: &str) -> bool {
        !self.get(name).is_empty()
    }

    fn is(self, name: &str, value: &str) -> bool {
        self.get(name).eq_ignore_ascii_case(value)
    }

    /// A branch, unless the variable is not set.
    fn branch(self, name: &str) -> Option<String> {
        let name = self.get(name);
        let name = name.strip_prefix("refs/heads/").unwrap_or(name);
        (!name.is_empty()).then(|| branch(name))
    }
}

fn branch(name: &str) -> String {
    format!("refs/heads/{name}")
}

/// The ref of a tag where there is one, else of a branch.
fn tag_or_branch(variables: Variables<'_>, tag: &str, branch: &str) -> String {
    match variables.get(tag) {
        "" => variables.branch(branch).unwrap_or_default(),
        tag => format!("refs/tags/{tag}"),
    }
}

/// The ref of a proposal, which its number tells from all others.
fn proposal(number: &str) -> String {
    if number.is_empty() { String::new() } else { format!("proposal {number}") }
}

/// See [`CacheScope::of_ci`].
pub(super) fn scope(variables: &BTreeMap<String, String>) -> Option<CacheScope> {
    let variables = Variables(variables);
    let known = [
        ("GITHUB_ACTIONS", "true", github as fn(Variables<'_>) -> Ref<'_>),
        ("GITLAB_CI", "true", gitlab),
        ("CI", "woodpecker", woodpecker),
        ("DRONE", "true", drone),
        ("TF_BUILD", "true", azure),
        ("BUILDKITE", "true", buildkite),
        ("CIRCLECI", "true", circle),
        ("TRAVIS", "true", travis),
    ];
    let found = known.into_iter().find(|(name, value, _)| variables.is(name, value));
    let found = found.map(|(_, _, read)| read).or_else(|| {
        let others = [
            ("BITBUCKET_BUILD_NUMBER", bitbucket as fn(Variables<'_>) -> Ref<'_>),
            ("JENKINS_URL", jenkins),
        ];
        others.into_iter().find(|(name, _)| variables.has(name)).map(|(_, read)| read)
    });
    found.map(|read| read(variables).scope())
}

fn github(variables: Variables<'_>) -> Ref<'_> {
    let event = variables.get("GITHUB_EVENT_NAME");
    let is_proposal = event == "pull_request";
    // On behalf of anybody, with the ref of a branch: nothing tells whose files they are.
    let is_known = is_proposal || OWN_EVENTS.contains(&event);
    Ref {
        ci: "github",
        server: variables.get("GITHUB_SERVER_URL"),
        repository: variables.get("GITHUB_REPOSITORY"),
        reference: variables.get("GITHUB_REF").to_owned(),
        is_proposal,
        protected: Some(!is_proposal && variables.is("GITHUB_REF_PROTECTED", "true")),
        default: variables.branch("GITHUB_BASE_REF"),
    }
    .only_if(is_known)
}

fn gitlab(variables: Variables<'_>) -> Ref<'_> {
    let source = variables.get("CI_PIPELINE_SOURCE");
    let (is_proposal, number, from) = match source {
        "merge_request_event" => {
            (true, "CI_MERGE_REQUEST_IID", "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH")
        }
        "external_pull_request_event" => {
            (true, "CI_EXTERNAL_PULL_REQUEST_IID", "CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY")
        }
        // A pipeline within one of a merge request has its variables, and another source.
        _ if variables.has("CI_MERGE_REQUEST_IID") => {
            (true, "CI_MERGE_REQUEST_IID", "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH")
        }
        _ => (false, "", ""),
    };
    let reference = if is_proposal {
        match variables.get(number) {
            "" => String::new(),
            number => format!("{} of {}", proposal(number), variables.get(from)),
        }
    } else {
        tag_or_branch(variables, "CI_COMMIT_TAG", "CI_COMMIT_REF_NAME")
    };
    Ref {
        ci: "gitlab",
        server: variables.get("CI_SERVER_URL"),
        repository: variables.get("CI_PROJECT_PATH"),
        reference,
        is_proposal,
        protected: Some(!is_proposal && variables.is("CI_COMMIT_REF_PROTECTED", "true")),
        default: variables.branch("CI_DEFAULT_BRANCH"),
    }
}

fn woodpecker(variables: Variables<'_>) -> Ref<'_> {
    Ref {
        ci: "woodpecker",
        server: variables.get("CI_FORGE_URL"),
        repository: variables.get("CI_REPO"),
        default: variables.branch("CI_REPO_DEFAULT_BRANCH"),
        ..by_event(
            variables,
            "CI_PIPELINE_EVENT",
            ["CI_COMMIT_PULL_REQUEST", "CI_COMMIT_TAG", "CI_COMMIT_BRANCH"],
        )
    }
}

fn drone(variables: Variables<'_>) -> Ref<'_> {
    Ref {
        ci: "drone",
        server: variables.get("DRONE_REPO_LINK"),
        repository: variables.get("DRONE_REPO"),
        default: variables.branch("DRONE_REPO_BRANCH"),
        ..by_event(
            variables,
            "DRONE_BUILD_EVENT",
            ["DRONE_PULL_REQUEST", "DRONE_TAG", "DRONE_BRANCH"],
        )
    }
}

/// For CIs that call the target of a proposal the branch.
fn by_event<'a>(
    variables: Variables<'a>,
    event: &str,
    [number, tag, branch]: [&str; 3],
) -> Ref<'a> {
    let event = variables.get(event);
    let is_proposal = event.starts_with("pull_request") || variables.has(number);
    let reference = match event {
        _ if is_proposal => proposal(variables.get(number)),
        "push" | "cron" | "manual" | "tag" | "release" | "deployment" | "promote" | "rollback"
        | "custom" => tag_or_branch(variables, tag, branch),
        _ => String::new(),
    };
    Ref { reference, is_proposal, ..Ref::default() }
}

fn azure(variables: Variables<'_>) -> Ref<'_> {
    let source = variables.get("BUILD_SOURCEBRANCH");
    let is_proposal =
        variables.has("SYSTEM_PULLREQUEST_PULLREQUESTID") || source.starts_with("refs/pull/");
    Ref {
        ci: "azure",
        server: variables.get("SYSTEM_COLLECTIONURI"),
        repository: match variables.get("BUILD_REPOSITORY_URI") {
            "" => variables.get("BUILD_REPOSITORY_NAME"),
            address => address,
        },
        reference: source.to_owned(),
        is_proposal,
        protected: None,
        default: variables.branch("SYSTEM_PULLREQUEST_TARGETBRANCH"),
    }
}

/// What a job works on where the number of a proposal says that it is one.
fn proposal_or_ref<'a>(
    variables: Variables<'a>,
    number: Option<&str>,
    [tag, branch]: [&str; 2],
) -> Ref<'a> {
    let reference = number.map_or_else(|| tag_or_branch(variables, tag, branch), proposal);
    Ref { reference, is_proposal: number.is_some(), ..Ref::default() }
}

fn bitbucket(variables: Variables<'_>) -> Ref<'_> {
    let number = Some(variables.get("BITBUCKET_PR_ID")).filter(|number| !number.is_empty());
    Ref {
        ci: "bitbucket",
        repository: variables.get("BITBUCKET_REPO_FULL_NAME"),
        default: variables.branch("BITBUCKET_PR_DESTINATION_BRANCH"),
        ..proposal_or_ref(variables, number, ["BITBUCKET_TAG", "BITBUCKET_BRANCH"])
    }
}

fn buildkite(variables: Variables<'_>) -> Ref<'_> {
    let number = variables.get("BUILDKITE_PULL_REQUEST");
    let number = Some(number).filter(|number| !matches!(*number, "" | "false"));
    Ref {
        ci: "buildkite",
        repository: variables.get("BUILDKITE_REPO"),
        default: variables.branch("BUILDKITE_PIPELINE_DEFAULT_BRANCH"),
        ..proposal_or_ref(variables, number, ["BUILDKITE_TAG", "BUILDKITE_BRANCH"])
    }
}

fn circle(variables: Variables<'_>) -> Ref<'_> {
    let branch = variables.get("CIRCLE_BRANCH");
    // A number alone comes from a fork, whose branch is called pull/NUMBER.
    let is_proposal = ["CIRCLE_PR_NUMBER", "CIRCLE_PULL_REQUEST"].iter().any(|n| variables.has(n))
        || branch.starts_with("pull/");
    let number = variables.get("CIRCLE_PR_NUMBER");
    let reference = match (is_proposal, number) {
        (true, "") => proposal(variables.get("CIRCLE_PULL_REQUEST")),
        (true, number) => proposal(number),
        (false, _) => tag_or_branch(variables, "CIRCLE_TAG", "CIRCLE_BRANCH"),
    };
    let is_named =
        ["CIRCLE_PROJECT_USERNAME", "CIRCLE_PROJECT_REPONAME"].iter().all(|n| variables.has(n));
    Ref {
        ci: "circleci",
        server: variables.get("CIRCLE_PROJECT_USERNAME"),
        repository: variables.get("CIRCLE_PROJECT_REPONAME"),
        reference,
        is_proposal,
        ..Ref::default()
    }
    .only_if(is_named)
}

fn travis(variables: Variables<'_>) -> Ref<'_> {
    let number = variables.get("TRAVIS_PULL_REQUEST");
    let is_proposal = !matches!(number, "" | "false");
    // That of a proposal is the one that it is for.
    let target = variables.branch("TRAVIS_BRANCH").filter(|_| is_proposal);
    let reference = if is_proposal {
        proposal(number)
    } else {
        tag_or_branch(variables, "TRAVIS_TAG", "TRAVIS_BRANCH")
    };
    Ref {
        ci: "travis",
        repository: variables.get("TRAVIS_REPO_SLUG"),
        reference,
        is_proposal,
        default: target,
        ..Ref::default()
    }
}

fn jenkins(variables: Variables<'_>) -> Ref<'_> {
    let name = variables.get("BRANCH_NAME");
    let is_proposal = variables.has("CHANGE_ID");
    let reference = match variables.get("CHANGE_ID") {
        _ if name.is_empty() => String::new(),
        "" => tag_or_branch(variables, "TAG_NAME", "BRANCH_NAME"),
        number => proposal(number),
    };
    // The last part of a job's name is the branch, encoded; without a branch anything may be built.
    let job = variables.get("JOB_NAME");
    let default = if variables.is("BRANCH_IS_PRIMARY", "true") {
        Some(reference.clone())
    } else {
        variables.branch("CHANGE_TARGET")
    };
    Ref {
        ci: "jenkins",
        server: variables.get("JENKINS_URL"),
        repository: job.rsplit_once('/').map_or("", |(repository, _)| repository),
        reference,
        is_proposal,
        protected: None,
        default,
    }
}

impl Ref<'_> {
    /// Says nothing where nothing can be relied on.
    fn only_if(self, is_known: bool) -> Self {
        if is_known { self } else { Ref { ci: self.ci, ..Ref::default() } }
    }
}

#[cfg(test)]
mod tests;
