//! What `gondola build --dry-run` writes to standard output: the plan, for people or as JSON.

use std::fmt::{self, Write as _};

use crate::pipeline::documents::{
    BaseKind, BuildPlan, OutputKind, PlannedBase, PlannedImage, PlannedPlatform, PlannedProgram,
    PlannedStage, PlannedStep, PlannedToolchain, State,
};

/// The width of the word that says what would become of a step.
const STATE_WIDTH: usize = 7;

/// The plan as a JSON document, which [`crate::pipeline::documents`] describes.
pub fn json(plan: &BuildPlan) -> String {
    let text = serde_json::to_string_pretty(plan).expect("texts and numbers are JSON");
    text + "\n"
}

/// The plan as people read it.
pub fn text(plan: &BuildPlan) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, plan);
    text
}

fn write(out: &mut String, plan: &BuildPlan) -> fmt::Result {
    for image in &plan.images {
        for platform in &image.platforms {
            self::platform(out, image, platform)?;
        }
    }
    writeln!(out, "written:")?;
    for output in &plan.outputs {
        let kind = match output.kind {
            OutputKind::Store => "store",
            OutputKind::Push => "push",
            OutputKind::Place => "place",
            OutputKind::File => "file",
        };
        writeln!(out, "  {kind:<STATE_WIDTH$} {}", shown(&output.to))?;
    }
    Ok(())
}

fn platform(out: &mut String, image: &PlannedImage, platform: &PlannedPlatform) -> fmt::Result {
    let name = image.name.as_deref().unwrap_or("an image");
    write!(out, "{} for {}", shown(name), platform.platform)?;
    match &platform.base {
        Some(base) => writeln!(out, ", on {}:", self::base(base))?,
        None => writeln!(out, ":")?,
    }
    for stage in platform.stages.iter().flatten() {
        self::stage(out, stage)?;
    }
    for program in platform.programs.iter().flatten() {
        self::program(out, program)?;
    }
    Ok(())
}

fn stage(out: &mut String, stage: &PlannedStage) -> fmt::Result {
    let name = stage.name.clone().unwrap_or_else(|| format!("stage {}", stage.index));
    writeln!(out, "  {}, on {}:", shown(&name), base(&stage.base))?;
    stage.steps.iter().try_for_each(|step| self::step(out, step))
}

fn step(out: &mut String, step: &PlannedStep) -> fmt::Result {
    let PlannedStep { state, text, why, layer, .. } = step;
    let result = layer.as_ref().map(|layer| format!("it is {}", layer.digest));
    let why = result.into_iter().chain(why.iter().cloned());
    line(out, *state, &shown(text), why)
}

fn program(out: &mut String, program: &PlannedProgram) -> fmt::Result {
    let of = program.package.as_ref().or(program.file.as_ref()).map_or("", String::as_str);
    let what = match (&program.name, &program.toolchain) {
        (Some(name), Some(toolchain)) => {
            format!("{name}, of {of}, with {}", self::toolchain(toolchain))
        }
        (None, Some(toolchain)) => format!("{of}, with {}", self::toolchain(toolchain)),
        (Some(name), None) => format!("{name}, which is {of}"),
        (None, None) => of.to_owned(),
    };
    line(out, program.state, &shown(&what), program.why.iter().cloned())
}

fn toolchain(toolchain: &PlannedToolchain) -> String {
    let PlannedToolchain { version, program, image, digest } = toolchain;
    let parts = [version.as_ref(), program.as_ref(), image.as_ref()];
    // A name may have it.
    let is_named = |digest: &String| image.as_ref().is_some_and(|image| image.ends_with(digest));
    let digest = digest.as_ref().map(ToString::to_string).filter(|digest| !is_named(digest));
    let parts = parts.into_iter().flatten().cloned().chain(digest);
    parts.collect::<Vec<_>>().join(" ")
}

/// A step or program, and below it the reasons.
fn line(
    out: &mut String,
    state: State,
    what: &str,
    why: impl Iterator<Item = String>,
) -> fmt::Result {
    let state = match state {
        State::Known => "known",
        State::Runs => "runs",
        State::Unknown => "unknown",
    };
    writeln!(out, "    {state:<STATE_WIDTH$} {what}")?;
    for why in why {
        writeln!(out, "    {:STATE_WIDTH$}   {}", "", shown(&why))?;
    }
    Ok(())
}

fn base(base: &PlannedBase) -> String {
    let name = base.name.as_deref().unwrap_or_default();
    let text = match base.kind {
        BaseKind::Scratch => "scratch".to_owned(),
        BaseKind::Static => "static".to_owned(),
        BaseKind::Stage => format!("the stage {name}"),
        BaseKind::Context => format!("the context {name}"),
        BaseKind::Image if name.is_empty() => "an image".to_owned(),
        BaseKind::Image => name.to_owned(),
    };
    let text = shown(&text);
    match &base.digest {
        Some(digest) => format!("{text}, which is {digest}"),
        None => text,
    }
}

/// A text on one line, whatever is in it.
fn shown(text: &str) -> String {
    let escaped = |letter: char| {
        if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() }
    };
    text.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::documents::{
        KnownBy, PLAN_VERSION, PlannedLayer, PlannedOutput, PlannedSource, StepKind,
    };

    fn digest(digit: &str) -> crate::oci::Digest {
        format!("sha256:{}", digit.repeat(64)).parse().unwrap()
    }

    fn image(platform: PlannedPlatform) -> PlannedImage {
        let (name, references) = (Some("app".to_owned()), vec!["docker.io/library/app".to_owned()]);
        PlannedImage { name, references, platforms: vec![platform] }
    }

    #[test]
    fn a_plan_is_read_from_top_to_bottom() {
        let step = |state, text: &str, why: &[&str]| PlannedStep {
            kind: StepKind::Run,
            number: 2,
            text: text.to_owned(),
            state,
            origin: (state == State::Known).then_some(KnownBy::Store),
            layer: (state == State::Known).then(|| PlannedLayer {
                digest: digest("a"),
                size: 1,
                diff_id: digest("b"),
            }),
            why: why.iter().map(|&why| why.to_owned()).collect(),
        };
        let name = Some("golang:1.26".to_owned());
        let stages = vec![PlannedStage {
            index: 0,
            name: Some("build".to_owned()),
            base: PlannedBase { kind: BaseKind::Image, name, digest: Some(digest("c")) },
            steps: vec![
                step(State::Known, "WORKDIR /src", &[]),
                step(State::Runs, "COPY . . # buildkit", &["main.go changed"]),
                step(State::Unknown, "RUN a\nb", &["x"]),
            ],
        }];
        let platform = PlannedPlatform {
            platform: "linux/amd64".to_owned(),
            stages: Some(stages),
            base: None,
            programs: None,
        };
        let (kind, to) = (OutputKind::Store, "docker.io/library/app:latest".to_owned());
        let plan = BuildPlan {
            version: PLAN_VERSION,
            source: PlannedSource::Dockerfile,
            images: vec![image(platform)],
            bases: Vec::new(),
            outputs: vec![PlannedOutput { kind, to }],
        };
        let expected = format!(
            "app for linux/amd64:\n  build, on golang:1.26, which is {}:\n    \
             known   WORKDIR /src\n              it is {}\n    \
             runs    COPY . . # buildkit\n              main.go changed\n    \
             unknown RUN a\\nb\n              x\n\
             written:\n  store   docker.io/library/app:latest\n",
            digest("c"),
            digest("a"),
        );
        assert_eq!(text(&plan), expected);
    }

    #[test]
    fn a_program_is_named_with_what_it_is_compiled_with() {
        let program = PlannedProgram {
            name: Some("app".to_owned()),
            package: Some("example.com/app".to_owned()),
            file: None,
            toolchain: Some(PlannedToolchain {
                version: Some("go1.26.0".to_owned()),
                program: Some("/go/bin/go".to_owned()),
                image: None,
                digest: None,
            }),
            state: State::Runs,
            why: vec!["main.go changed".to_owned()],
        };
        let name = |with: &str| PlannedToolchain {
            version: None,
            program: None,
            image: Some(format!("golang:1.26{with}")),
            digest: Some(digest("a")),
        };
        let pinned = format!("golang:1.26@{}", digest("a"));
        assert_eq!(toolchain(&name(&format!("@{}", digest("a")))), pinned);
        assert_eq!(toolchain(&name("")), format!("golang:1.26 {}", digest("a")));
        let mut out = String::new();
        self::program(&mut out, &program).unwrap();
        let expected = "    runs    app, of example.com/app, with go1.26.0 /go/bin/go\n              \
                        main.go changed\n";
        assert_eq!(out, expected);
    }
}
