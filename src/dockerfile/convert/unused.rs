//! Arguments of the command line that no `ARG` takes: most likely misspelt.

use std::collections::BTreeSet;

use super::job::Job;
use crate::dockerfile::instruction::{Dockerfile, Instruction, Kind};
use crate::dockerfile::scope;
use crate::error::nearest;

/// Says what is wrong with each argument of a build that no stage of the file declares, whether the
/// target needs that one or not.
pub(super) fn arguments(job: &Job, file: &Dockerfile, triggers: &[&Instruction]) -> Vec<String> {
    let declared = declared(file, triggers);
    let unused = job
        .recipe
        .arguments
        .keys()
        .filter(|name| !declared.contains(name.as_str()) && !scope::is_predefined(name));
    let say = |name: &String| {
        let what = format!("--build-arg {name} has no effect: the file has no ARG {name}");
        match nearest(name, declared.iter().copied()) {
            Some(near) => format!("{what}; did you mean {near}?"),
            None => what,
        }
    };
    unused.map(say).collect()
}

fn declared<'a>(file: &'a Dockerfile, triggers: &[&'a Instruction]) -> BTreeSet<&'a str> {
    let stages = file.stages.iter().flat_map(|stage| &stage.instructions);
    let inside =
        stages.chain(triggers.iter().copied()).filter_map(|instruction| match &instruction.kind {
            Kind::Arg(definitions) => Some(definitions),
            _ => None,
        });
    let all = file.globals.iter().map(|global| &global.definitions).chain(inside);
    all.flatten().map(|definition| definition.name.text.as_str()).collect()
}
