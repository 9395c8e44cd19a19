use super::*;

/// What builds of one repository say, from what everybody trusts to what nobody should.
struct Case {
    name: &'static str,
    /// Set for every build.
    always: &'static str,
    main: &'static str,
    topic: &'static str,
    proposal: &'static str,
    /// What another proposal has.
    other: &'static str,
    /// Whether a branch can tell which is the default one.
    topic_reads_main: bool,
    proposal_reads_main: bool,
}

const CASES: [Case; 10] = [
    Case {
        name: "github",
        always: "GITHUB_ACTIONS=true GITHUB_SERVER_URL=https://github.com GITHUB_REPOSITORY=o/r",
        main: "GITHUB_EVENT_NAME=push GITHUB_REF=refs/heads/main GITHUB_REF_PROTECTED=true",
        topic: "GITHUB_EVENT_NAME=push GITHUB_REF=refs/heads/topic GITHUB_REF_PROTECTED=false",
        proposal: "GITHUB_EVENT_NAME=pull_request GITHUB_REF=refs/pull/1/merge GITHUB_BASE_REF=main GITHUB_REF_PROTECTED=false",
        other: "GITHUB_EVENT_NAME=pull_request GITHUB_REF=refs/pull/2/merge GITHUB_BASE_REF=main",
        topic_reads_main: false,
        proposal_reads_main: true,
    },
    Case {
        name: "gitlab",
        always: "GITLAB_CI=true CI_SERVER_URL=https://h CI_PROJECT_PATH=g/p CI_DEFAULT_BRANCH=main",
        main: "CI_PIPELINE_SOURCE=push CI_COMMIT_REF_NAME=main CI_COMMIT_REF_PROTECTED=true",
        topic: "CI_PIPELINE_SOURCE=push CI_COMMIT_REF_NAME=topic CI_COMMIT_REF_PROTECTED=false",
        // A fork may have called its branch what the project calls its own.
        proposal: "CI_PIPELINE_SOURCE=merge_request_event CI_COMMIT_REF_NAME=main CI_COMMIT_REF_PROTECTED=true CI_MERGE_REQUEST_IID=1 CI_MERGE_REQUEST_SOURCE_PROJECT_PATH=fork/p",
        other: "CI_PIPELINE_SOURCE=parent_pipeline CI_COMMIT_REF_NAME=main CI_COMMIT_REF_PROTECTED=true CI_MERGE_REQUEST_IID=2",
        topic_reads_main: true,
        proposal_reads_main: true,
    },
    Case {
        name: "woodpecker",
        always: "CI=woodpecker CI_REPO=o/r CI_REPO_DEFAULT_BRANCH=main",
        main: "CI_PIPELINE_EVENT=push CI_COMMIT_BRANCH=main",
        topic: "CI_PIPELINE_EVENT=push CI_COMMIT_BRANCH=topic",
        proposal: "CI_PIPELINE_EVENT=pull_request CI_COMMIT_BRANCH=main CI_COMMIT_PULL_REQUEST=1",
        other: "CI_PIPELINE_EVENT=pull_request CI_COMMIT_BRANCH=main CI_COMMIT_PULL_REQUEST=2",
        topic_reads_main: true,
        proposal_reads_main: true,
    },
    Case {
        name: "drone",
        always: "DRONE=true DRONE_REPO=o/r DRONE_REPO_BRANCH=main",
        main: "DRONE_BUILD_EVENT=push DRONE_BRANCH=main",
        topic: "DRONE_BUILD_EVENT=push DRONE_BRANCH=topic",
        proposal: "DRONE_BUILD_EVENT=pull_request DRONE_BRANCH=main DRONE_PULL_REQUEST=1",
        other: "DRONE_BUILD_EVENT=pull_request DRONE_BRANCH=main DRONE_PULL_REQUEST=2",
        topic_reads_main: true,
        proposal_reads_main: true,
    },
    Case {
        name: "azure",
        always: "TF_BUILD=True BUILD_REPOSITORY_URI=https://h/r BUILD_REPOSITORY_NAME=r",
        main: "BUILD_SOURCEBRANCH=refs/heads/main",
        topic: "BUILD_SOURCEBRANCH=refs/heads/topic",
        proposal: "BUILD_SOURCEBRANCH=refs/pull/1/merge SYSTEM_PULLREQUEST_PULLREQUESTID=1 SYSTEM_PULLREQUEST_TARGETBRANCH=refs/heads/main",
        other: "BUILD_SOURCEBRANCH=refs/pull/2/merge SYSTEM_PULLREQUEST_TARGETBRANCH=main",
        topic_reads_main: false,
        proposal_reads_main: true,
    },
    Case {
        name: "bitbucket",
        always: "BITBUCKET_BUILD_NUMBER=7 BITBUCKET_REPO_FULL_NAME=o/r",
        main: "BITBUCKET_BRANCH=main",
        topic: "BITBUCKET_BRANCH=topic",
        proposal: "BITBUCKET_BRANCH=main BITBUCKET_PR_ID=1 BITBUCKET_PR_DESTINATION_BRANCH=main",
        other: "BITBUCKET_BRANCH=main BITBUCKET_PR_ID=2 BITBUCKET_PR_DESTINATION_BRANCH=main",
        topic_reads_main: false,
        proposal_reads_main: true,
    },
    Case {
        name: "buildkite",
        always: "BUILDKITE=true BUILDKITE_REPO=git@h:o/r.git BUILDKITE_PIPELINE_DEFAULT_BRANCH=main",
        main: "BUILDKITE_BRANCH=main BUILDKITE_PULL_REQUEST=false",
        topic: "BUILDKITE_BRANCH=topic BUILDKITE_PULL_REQUEST=false",
        proposal: "BUILDKITE_BRANCH=main BUILDKITE_PULL_REQUEST=1",
        other: "BUILDKITE_BRANCH=main BUILDKITE_PULL_REQUEST=2",
        topic_reads_main: true,
        proposal_reads_main: true,
    },
    Case {
        name: "circleci",
        always: "CIRCLECI=true CIRCLE_PROJECT_USERNAME=o CIRCLE_PROJECT_REPONAME=r",
        main: "CIRCLE_BRANCH=main",
        topic: "CIRCLE_BRANCH=topic",
        proposal: "CIRCLE_BRANCH=pull/1 CIRCLE_PR_NUMBER=1",
        other: "CIRCLE_BRANCH=main CIRCLE_PULL_REQUEST=https://h/pull/2",
        topic_reads_main: false,
        proposal_reads_main: false,
    },
    Case {
        name: "travis",
        always: "TRAVIS=true TRAVIS_REPO_SLUG=o/r",
        main: "TRAVIS_BRANCH=main TRAVIS_PULL_REQUEST=false",
        topic: "TRAVIS_BRANCH=topic TRAVIS_PULL_REQUEST=false",
        proposal: "TRAVIS_BRANCH=main TRAVIS_PULL_REQUEST=1",
        other: "TRAVIS_BRANCH=main TRAVIS_PULL_REQUEST=2",
        topic_reads_main: false,
        proposal_reads_main: true,
    },
    Case {
        name: "jenkins",
        always: "JENKINS_URL=https://j/",
        main: "JOB_NAME=o/r/main BRANCH_NAME=main BRANCH_IS_PRIMARY=true",
        topic: "JOB_NAME=o/r/topic BRANCH_NAME=topic",
        proposal: "JOB_NAME=o/r/PR-1 BRANCH_NAME=PR-1 CHANGE_ID=1 CHANGE_TARGET=main CHANGE_FORK=x",
        other: "JOB_NAME=o/r/PR-2 BRANCH_NAME=PR-2 CHANGE_ID=2 CHANGE_TARGET=main",
        topic_reads_main: false,
        proposal_reads_main: true,
    },
];

fn variables(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn of(always: &str, more: &str) -> CacheScope {
    scope(&variables(&format!("{always} {more}"))).expect("a CI that is known")
}

#[test]
fn every_ref_has_a_scope_of_its_own_and_a_proposal_is_read_by_nobody() {
    for case in &CASES {
        let name = case.name;
        let [main, topic, proposal, other] =
            [case.main, case.topic, case.proposal, case.other].map(|more| of(case.always, more));
        let all = [&main, &topic, &proposal, &other];
        for (index, one) in all.iter().enumerate() {
            assert!(one.name().is_some(), "{name} {index}");
            let same = all.iter().filter(|two| two.name() == one.name()).count();
            assert_eq!(same, 1, "{name} {index}");
        }
        let main_name = main.name().unwrap();
        assert!(main.below().is_empty(), "{name}");
        assert_eq!(topic.below().contains(main_name), case.topic_reads_main, "{name}");
        for one in [&proposal, &other] {
            assert_eq!(one.below().contains(main_name), case.proposal_reads_main, "{name}");
            assert!(!one.gives_results_away(), "{name}");
        }
        assert!(main.gives_results_away() && topic.gives_results_away(), "{name}");
        let untrusted = [&topic, &proposal, &other].map(|scope| scope.name().unwrap());
        for one in all {
            assert!(one.below().iter().all(|below| !untrusted.contains(&below)), "{name}");
        }
    }
}

#[test]
fn other_repositories_are_other_scopes() {
    for case in &CASES {
        let elsewhere = match case.name {
            "jenkins" => case.main.replace("o/r/", "x/r/"),
            _ => case.main.to_owned(),
        };
        let replaced = ["=o/r", "=g/p", "=https://h/r", ":o/r.git", "USERNAME=o"].iter();
        let always = replaced
            .fold(case.always.to_owned(), |text, part| text.replace(part, &format!("{part}2")));
        assert_ne!(
            of(&always, &elsewhere).name(),
            of(case.always, case.main).name(),
            "{}",
            case.name
        );
    }
}

#[test]
fn a_default_branch_that_nobody_protects_is_read_as_well() {
    let case = &CASES[0];
    let main = case.main.replace("PROTECTED=true", "PROTECTED=false");
    let main = of(case.always, &main);
    assert!(of(case.always, case.proposal).below().contains(main.name().unwrap()));
    let case = &CASES[1];
    let main = of(case.always, &case.main.replace("PROTECTED=true", "PROTECTED=false"));
    assert!(main.below().is_empty());
    // What was written while it was not protected is not what is trusted since.
    assert_ne!(main.name(), of(case.always, case.main).name());
}

#[test]
fn what_runs_with_a_branchs_rights_for_anybody_ends_with_the_build() {
    let case = &CASES[0];
    for event in ["pull_request_target", "issue_comment", "workflow_run", "pull_request_review", ""]
    {
        let main = case.main.replace("=push", &format!("={event}"));
        let scope = of(case.always, &main);
        assert!(scope.name().is_none() && scope.below().is_empty(), "{event}");
        assert!(scope.of_results().is_none() && !scope.gives_results_away(), "{event}");
    }
}

#[test]
fn a_ci_that_does_not_say_what_it_builds_has_caches_that_end_with_the_build() {
    for (always, more) in [
        ("GITLAB_CI=true CI_PROJECT_PATH=g/p", ""),
        ("GITLAB_CI=true", "CI_COMMIT_REF_NAME=main CI_COMMIT_REF_PROTECTED=true"),
        (
            "GITLAB_CI=true CI_PROJECT_PATH=g/p",
            "CI_PIPELINE_SOURCE=merge_request_event CI_COMMIT_REF_NAME=main",
        ),
        ("DRONE=true DRONE_REPO=o/r", "DRONE_BUILD_EVENT=pull_request DRONE_BRANCH=main"),
        ("DRONE=true DRONE_REPO=o/r", "DRONE_BUILD_EVENT=novelty DRONE_BRANCH=main"),
        ("CIRCLECI=true CIRCLE_PROJECT_REPONAME=r", "CIRCLE_BRANCH=main"),
        ("JENKINS_URL=https://j/ JOB_NAME=job", "GIT_BRANCH=origin/main"),
    ] {
        assert_eq!(of(always, more).name(), None, "{always} {more}");
    }
    for none in ["", "CI=true", "GITHUB_ACTIONS=false GITHUB_REPOSITORY=o/r", "GITLAB_CI="] {
        assert!(scope(&variables(none)).is_none(), "{none}");
    }
}

#[test]
fn tags_are_no_branches() {
    let case = &CASES[1];
    let tag = "CI_PIPELINE_SOURCE=push CI_COMMIT_REF_NAME=main CI_COMMIT_TAG=main CI_COMMIT_REF_PROTECTED=false";
    let tag = of(case.always, tag);
    assert_ne!(tag.name(), of(case.always, case.main).name());
    assert!(tag.below().contains(of(case.always, case.main).name().unwrap()));
}
